//! The HTTP server: a gate, and tiny_http behind it.
//!
//! ```text
//! listener ─▶ accept loop, porch ─▶ house: connections (one thread each, a bounded number)
//!               read head ─▶ check ─▶ Handler ─▶ tiny_http's Response ─▶ write, long ones in turn
//! ```
//!
//! tiny_http says how an answer looks on the wire (status line, headers, lengths, which answers
//! have no body). Its listener, reader and task pool are never reached: one request with a huge
//! Content-Length aborts the process there, heads have no limit, nothing has a deadline, and one
//! failed accept ends the port for good. So everything before and after the answer is here:
//! `accept` admits connections, `house` knows who is there and who has to go, `head` reads requests
//! strictly, `connection` runs one client, `answer` puts the bytes together, `turns` says who may
//! write a long one, `room` counts what long ones hold of memory until they are taken.
//!
//! **Threads.** Without a poller in the standard library, the choice is between workers that poll
//! idle sockets, which costs either latency or processor time, and one blocking thread per
//! connection, which costs a stack of which some 10 KiB are ever touched. We take the thread, put a
//! cap on their number, and when the house is full let go whoever has kept us waiting longest: an
//! idle kept connection, a head that doesn't end, a reader that doesn't read. A client that sends
//! its request at once never is that one, however many others only connect.

mod accept;
mod answer;
mod connection;
pub mod head;
mod house;
mod room;
mod turns;

use std::borrow::Cow;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::threads;

use accept::Entrance;
use house::House;
pub use room::{Room, Share};

/// Connections the system keeps for us until they are accepted. Whoever finds no place among them
/// tries again after a second, a good client too. Linux caps it at `net.core.somaxconn`, 4096 by
/// default.
const WAITING_CONNECTIONS: i32 = 4096;

/// What the system takes of an answer ahead of its reader (Linux doubles it). Left to itself Linux
/// goes up to 4 MiB, so a full house of readers that don't read would hold a gigabyte of kernel
/// memory, which counts as the pod's; and lists go out at less than half the rate, since what
/// waits so long has left the processor's cache.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// What a client may take of us.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections, and so threads, at a time.
    pub connections: usize,
    /// Bytes of a request's head, its buffer.
    pub head_bytes: usize,
    /// From the connection, or the first byte, to the end of the head.
    pub head: Duration,
    /// From one answer to the next request.
    pub idle: Duration,
    /// To take an answer, on top of what `slowest_reader` allows for its size.
    pub answer: Duration,
    /// Bytes a second that a reader must take of a long answer.
    pub slowest_reader: u64,
    /// Bytes of answers, each made for one request, that may wait for their readers.
    pub held_bytes: usize,
}

/// The pod may have 64 MiB (`manifests/manager`). Of these a thousand objects take 30 at their peak
/// (`docs/performance.md`), and 256 connections 7 for their buffers and stacks. There are two
/// servers: with 12 for each some 3 MiB are left. It must be above the longest answer that a standby
/// passes on (`operator/forward`).
const HELD_BYTES: usize = 12 * 1024 * 1024;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            head_bytes: 16 * 1024,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            answer: Duration::from_secs(10),
            slowest_reader: 64 * 1024,
            held_bytes: HELD_BYTES,
        }
    }
}

/// The methods that pass the gate; it answers all others with 405 itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Read without the body, which the gate leaves out.
    Head,
    /// Ask what may be done.
    Options,
}

/// A request that has passed the gate: it has no body.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// With its percent-encoding resolved: valid UTF-8 without control characters.
    pub path: String,
    /// The query's pairs in order, resolved like the path, with `+` for a space.
    pub query: Vec<(String, String)>,
    /// `If-None-Match`; several lines are joined by commas.
    pub if_none_match: Option<String>,
    /// `Authorization`.
    pub authorization: Option<Secret>,
    /// `Origin`.
    pub origin: Option<String>,
    /// `Via`: the proxies it has come through; several lines are joined by commas.
    pub via: Option<String>,
    /// Where the memory for a long answer is asked for.
    pub room: Room,
}

/// The bytes of an answer, without copying what is prepared.
#[derive(Clone, Debug)]
pub enum Body {
    /// None.
    Empty,
    /// Part of the program.
    Static(&'static [u8]),
    /// A JSON array of items that are prepared, each once for many answers.
    List(Arc<[Arc<[u8]>]>),
    /// Made for this answer.
    Owned(Vec<u8>),
}

impl Body {
    /// All bytes, put together.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Body::Empty => Cow::Borrowed(&[]),
            Body::Static(bytes) => Cow::Borrowed(bytes),
            Body::Owned(bytes) => Cow::Borrowed(bytes),
            Body::List(_) => {
                let pieces = (0..).map_while(|index| self.piece(index));
                Cow::Owned(pieces.collect::<Vec<_>>().concat())
            }
        }
    }

    /// How many bytes there are.
    fn len(&self) -> usize {
        match self {
            Body::Empty => 0,
            Body::Static(bytes) => bytes.len(),
            Body::Owned(bytes) => bytes.len(),
            Body::List(items) => {
                let commas = items.len().saturating_sub(1);
                items.iter().map(|item| item.len()).sum::<usize>() + commas + 2
            }
        }
    }

    /// The bytes in the pieces in which they lie in memory, by number.
    fn piece(&self, index: usize) -> Option<&[u8]> {
        match self {
            Body::Empty => None,
            Body::Static(bytes) => (index == 0).then_some(bytes),
            Body::Owned(bytes) => (index == 0).then_some(bytes),
            Body::List(items) => {
                let last = (2 * items.len()).max(1);
                match index {
                    _ if index > last => None,
                    _ if index == last => Some(b"]"),
                    0 => Some(b"["),
                    _ if index.is_multiple_of(2) => Some(b","),
                    _ => items.get(index / 2).map(|item| &**item),
                }
            }
        }
    }
}

/// Why there is no memory for a long answer.
pub const NO_ROOM: &str = "too many long answers wait for their readers";

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Headers besides those of the connection, the length and the date. A value with anything but
    /// visible ASCII and spaces is left out.
    pub headers: Vec<(&'static str, String)>,
    /// The content.
    pub body: Body,
    /// What the content holds of the memory for long answers.
    pub share: Option<Share>,
}

impl Response {
    /// An answer without headers of its own.
    pub fn new(status: u16, body: Body) -> Response {
        Response { status, headers: Vec::new(), body, share: None }
    }

    /// The same answer, with the memory that was asked for it.
    #[must_use]
    pub fn holding(mut self, share: Share) -> Response {
        self.share = Some(share);
        self
    }

    /// The answer instead of a long one for which there is no memory.
    pub fn no_room() -> Response {
        Response::error(503, &format!("{NO_ROOM}; try again, or ask for less at a time"))
            .with("Retry-After", "2")
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// `{"error": "..."}`, as all errors look.
    pub fn error(status: u16, message: &str) -> Response {
        let text = serde_json::json!({ "error": message }).to_string();
        Response::new(status, Body::Owned(text.into_bytes()))
            .with("Content-Type", "application/json")
            .with("Cache-Control", "no-store")
    }
}

/// Whoever answers requests.
pub trait Handler: Send + Sync {
    /// The answer to a request. A connection's thread waits for it, so what it waits for itself must
    /// have a limit of seconds; a panic becomes a 500.
    fn answer(&self, request: &Request) -> Response;
}

impl<F: Fn(&Request) -> Response + Send + Sync> Handler for F {
    fn answer(&self, request: &Request) -> Response {
        self(request)
    }
}

/// A running server. Dropping it stops it.
pub struct Server {
    house: Arc<House>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
    /// What ends the accept loop's waiting; none once it was told to end.
    listener: Mutex<Option<TcpListener>>,
}

impl Server {
    /// Listens on `address` and answers with `handler`; `name` names the threads and the metric's
    /// label.
    ///
    /// # Errors
    /// If the address can't be had, or the first thread.
    pub fn start(
        name: &'static str,
        address: SocketAddr,
        limits: Limits,
        handler: Arc<dyn Handler>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<Server> {
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let to_end_it = Mutex::new(Some(listener.try_clone()?));
        let house = Arc::new(House::new(name, limits, handler, clock, metrics));
        let entrance = Entrance::new(house.clone(), listener);
        let accepting = threads::spawn(name, move || entrance.accept_until_stopped())?;
        Ok(Server { house, address, accepting, listener: to_end_it })
    }

    /// Where it listens, with the port the system chose if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nobody lets clients in any more.
    pub fn has_lost_its_thread(&self) -> bool {
        self.accepting.is_finished()
    }

    /// Takes no more requests, lets running answers end, and is gone within about `limit`. Once
    /// told, it isn't told again.
    pub fn stop(&self, limit: Duration) {
        let listener = self.listener.lock().unwrap_or_else(|held| held.into_inner()).take();
        let Some(listener) = listener else { return };
        self.house.begin_stop();
        // Ends a blocking accept with an error. A connection to ourselves would do that too, but
        // there are nodes on which the wildcard's own loopback can't be reached.
        if let Err(error) = SockRef::from(&listener).shutdown(Shutdown::Both) {
            log::warn!("{}: cannot end listening on {}: {error}", self.house.name, self.address);
        }
        self.house.wait_until_empty(limit);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::from_millis(500));
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // The wildcard takes IPv4 as well, also where `net.ipv6.bindv6only` says otherwise.
        socket.set_only_v6(false)?;
    }
    // A port that was ours a moment ago is to be had again.
    socket.set_reuse_address(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(WAITING_CONNECTIONS)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::Body;
    use std::sync::Arc;

    #[test]
    fn a_list_is_written_as_the_array_of_its_items() {
        for (items, written) in
            [(vec![], "[]"), (vec!["1"], "[1]"), (vec!["{}", "22", "\"x\""], "[{},22,\"x\"]")]
        {
            let items: Vec<Arc<[u8]>> =
                items.into_iter().map(|item| item.as_bytes().into()).collect();
            let body = Body::List(items.into());
            assert_eq!((&*body.bytes(), body.len()), (written.as_bytes(), written.len()));
        }
    }
}
