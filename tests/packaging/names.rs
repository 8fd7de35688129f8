//! A name server on an address of the loopback interface, for one test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// Answers names that end in `.test` and have no further dot: they are on this machine.
pub(crate) struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts it on port 53, for a resolv.conf can't name another; needs root.
    pub(crate) fn start() -> NameServer {
        // The first address that nobody has, so that several can run at a time.
        let socket = (1..255)
            .find_map(|last| UdpSocket::bind((Ipv4Addr::new(127, 77, 53, last), 53)).ok())
            .unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                // Nothing in it: it is over.
                if length == 0 {
                    return;
                }
                if let Some((name, answer)) = answer(&buffer[..length]) {
                    heard.lock().unwrap().push(name);
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        NameServer { address, asked, thread: Some(thread) }
    }

    /// A resolv.conf as the kubelet writes it into a pod.
    pub(crate) fn resolv_conf(&self) -> String {
        let search = "default.svc.cluster.local svc.cluster.local cluster.local";
        format!("search {search}\nnameserver {}\noptions ndots:5\n", self.address.ip())
    }

    /// The names that were asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.send_to(&[], self.address).unwrap();
        let _ = self.thread.take().unwrap().join();
    }
}

/// The name asked for, and the answer's bytes.
fn answer(question: &[u8]) -> Option<(String, Vec<u8>)> {
    let packet = Packet::parse(question).ok()?;
    let mut reply = packet.into_reply();
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    let asked = reply.questions.first()?;
    let name = asked.qname.to_string();
    let known = name.strip_suffix(".test").is_some_and(|host| !host.contains('.'));
    if !known {
        *reply.rcode_mut() = RCODE::NameError;
    } else if asked.qtype == QTYPE::TYPE(TYPE::A) {
        let here = RData::A(A { address: Ipv4Addr::LOCALHOST.into() });
        let record = ResourceRecord::new(asked.qname.clone(), CLASS::IN, 0, here);
        reply.answers.push(record);
    }
    Some((name, reply.build_bytes_vec().ok()?))
}
