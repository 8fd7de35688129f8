//! A small proxy that knows `CONNECT` and takes every name for this machine.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::server::{listen, read_head};

/// Runs until the test's process ends.
pub struct Proxy {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    carried: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// One that lets everybody through.
    pub fn open() -> Proxy {
        Proxy::start(|_| "200 Connection established")
    }

    /// One that answers each head with a status line; what isn't a 200 ends there.
    pub fn start(decide: impl Fn(&str) -> &'static str + Send + Sync + 'static) -> Proxy {
        let (heads, carried) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (seen, through) = (Arc::clone(&heads), Arc::clone(&carried));
        let address = listen(move |mut client| {
            let Some(head) = read_head(&mut client) else { return };
            seen.lock().unwrap().push(head.clone());
            let line = decide(&head);
            let _ = write!(client, "HTTP/1.1 {line}\r\n\r\n");
            if !line.starts_with("200") {
                return;
            }
            let target = head.split(' ').nth(1).unwrap();
            let port: u16 = target.rsplit(':').next().unwrap().parse().unwrap();
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let through = Arc::clone(&through);
            std::thread::spawn(move || {
                carry(from, to, |bytes| {
                    through.lock().unwrap().extend_from_slice(bytes);
                })
            });
            carry(server, client, |_| {});
        });
        Proxy { address, heads, carried }
    }

    /// The heads it was asked with.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// What clients sent through it, as it saw it.
    pub fn carried(&self) -> String {
        String::from_utf8_lossy(&self.carried.lock().unwrap()).into_owned()
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, see: impl Fn(&[u8])) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
