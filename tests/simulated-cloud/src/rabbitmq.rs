//! RabbitMQ, as far as a consumer of notifications sees it: logins, queues of their own, and bindings.
//!
//! It is no broker for other programs: rights, limits and failures are tested against the real one.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Exchanges of OpenStack's services.
const EXCHANGES: [&str; 2] = ["neutron", "nova"];
/// Between the broker's heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
const FRAME_LIMIT: u32 = 4096;
const METHOD: u8 = 1;

/// A broker. Its thread ends with the process.
pub struct RabbitMq {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    consumers: Mutex<Vec<Consumer>>,
    changed: Condvar,
}

/// A connection with its bindings, by exchange and routing key.
struct Consumer {
    stream: TcpStream,
    bindings: BTreeSet<(String, String)>,
}

impl Shared {
    fn consumers(&self) -> MutexGuard<'_, Vec<Consumer>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RabbitMq {
    /// Starts one on a free port of the loopback interface.
    pub fn start() -> io::Result<RabbitMq> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, shared) = (listener.local_addr()?, Arc::new(Shared::default()));
        let serving = Arc::clone(&shared);
        thread::Builder::new().name("RabbitMQ".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                let serving = move || drop(serve(stream, &shared));
                let _ = thread::Builder::new().name("RabbitMQ client".to_owned()).spawn(serving);
            }
        })?;
        Ok(RabbitMq { address, shared })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sends a body to everybody who is bound; says to how many.
    pub fn publish(&self, exchange: &str, key: &str, body: &[u8]) -> usize {
        let mut deliver = [&short("consumer")[..], &1_u64.to_be_bytes(), &[0]].concat();
        deliver.extend([short(exchange), short(key)].concat());
        let header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), &[0, 0]].concat();
        let mut message = [method(1, (60, 60), &deliver), frame(2, 1, &header)].concat();
        body.chunks(FRAME_LIMIT as usize - 8).for_each(|part| message.extend(frame(3, 1, part)));
        let wanted = (exchange.to_owned(), key.to_owned());
        let mut consumers = self.shared.consumers();
        let bound = consumers.iter_mut().filter(|consumer| consumer.bindings.contains(&wanted));
        bound.filter_map(|consumer| consumer.stream.write_all(&message).ok()).count()
    }

    /// Waits until so many consumers are bound to all exchanges; says whether that came.
    pub fn wait_for_consumers(&self, count: usize, limit: Duration) -> bool {
        let is_bound = |consumer: &Consumer| {
            EXCHANGES.iter().all(|name| consumer.bindings.iter().any(|(bound, _)| bound == name))
        };
        let too_few = |consumers: &mut Vec<Consumer>| {
            consumers.iter().filter(|consumer| is_bound(consumer)).count() != count
        };
        let waited =
            self.shared.changed.wait_timeout_while(self.shared.consumers(), limit, too_few);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Cuts all connections.
    pub fn disconnect(&self) {
        for consumer in self.shared.consumers().drain(..) {
            let _ = consumer.stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// One connection from beginning to end.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(HEARTBEAT))?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    read(&mut stream, 8)?;
    let start = [&[0, 9, 0, 0, 0, 0][..], &long("PLAIN"), &long("en_US")].concat();
    stream.write_all(&method(0, (10, 10), &start))?;
    let consumer = Consumer { stream: stream.try_clone()?, bindings: BTreeSet::new() };
    shared.consumers().push(consumer);
    let served = answer_all(&mut stream, peer, shared);
    shared.consumers().retain(|consumer| consumer.stream.peer_addr().ok() != Some(peer));
    shared.changed.notify_all();
    served
}

fn answer_all(stream: &mut TcpStream, peer: SocketAddr, shared: &Shared) -> io::Result<()> {
    loop {
        let head = read(stream, 7)?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let payload = read(stream, length.min(FRAME_LIMIT) as usize + 1)?;
        if head[0] != METHOD || payload.len() < 5 {
            continue;
        }
        let (channel, arguments) = (head[2], &payload[4..]);
        let answer = match (payload[1], payload[3]) {
            // connection.start-ok, connection.open, connection.close.
            (10, 11) => {
                let tune = [&[0, 0][..], &FRAME_LIMIT.to_be_bytes(), &[0, 60]].concat();
                Some(((10, 30), tune))
            }
            (10, 40) => Some(((10, 41), vec![0])),
            (10, 50) => Some(((10, 51), Vec::new())),
            // channel.open, exchange.declare.
            (20, 10) => Some(((20, 11), vec![0; 4])),
            (40, 10) => is_waited_for(arguments, 2).then(|| ((40, 11), Vec::new())),
            // queue.declare, queue.bind, basic.consume.
            (50, 10) => Some(((50, 11), [&short("amq.gen-1")[..], &[0; 8]].concat())),
            (50, 20) => {
                let bound = (text(arguments, 1), text(arguments, 2));
                let mut consumers = shared.consumers();
                let is_of = |it: &&mut Consumer| it.stream.peer_addr().ok() == Some(peer);
                if let Some(consumer) = consumers.iter_mut().find(is_of) {
                    consumer.bindings.insert(bound);
                }
                drop(consumers);
                shared.changed.notify_all();
                is_waited_for(arguments, 3).then(|| ((50, 21), Vec::new()))
            }
            (60, 20) => Some(((60, 21), short("consumer"))),
            _ => None,
        };
        if let Some((name, arguments)) = answer {
            // Not between the frames of a message.
            let _consumers = shared.consumers();
            stream.write_all(&method(channel, name, &arguments))?;
        }
    }
}

/// Reads so many bytes; sends heartbeats while none come.
fn read(stream: &mut TcpStream, count: usize) -> io::Result<Vec<u8>> {
    let (mut bytes, mut done) = (vec![0; count], 0);
    while done < count {
        match stream.read(&mut bytes[done..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => done += more,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                stream.write_all(&frame(8, 0, &[]))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// The text at this place of the texts that follow the two reserved bytes.
fn text(arguments: &[u8], place: usize) -> String {
    let mut rest = arguments.get(2..).unwrap_or_default();
    for _ in 0..place {
        rest = rest.get(usize::from(rest.first().copied().unwrap_or(0)) + 1..).unwrap_or_default();
    }
    let length = usize::from(rest.first().copied().unwrap_or(0));
    String::from_utf8_lossy(rest.get(1..=length).unwrap_or_default()).into_owned()
}

/// Is the bit for "no answer" not set in the flags behind so many texts? It is the fifth of a
/// declaration and the only one of a binding.
fn is_waited_for(arguments: &[u8], texts: usize) -> bool {
    let before: usize = (0..texts).map(|place| text(arguments, place).len() + 1).sum();
    let bit = if texts == 2 { 0b1_0000 } else { 1 };
    arguments.get(2 + before).is_some_and(|flags| flags & bit == 0)
}

fn method(channel: u8, (class, number): (u8, u8), arguments: &[u8]) -> Vec<u8> {
    frame(METHOD, channel, &[&[0, class, 0, number][..], arguments].concat())
}

fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default();
    [&[kind, 0, channel][..], &length.to_be_bytes(), payload, &[0xCE]].concat()
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap_or_default()], text.as_bytes()].concat()
}

fn long(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or_default();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
