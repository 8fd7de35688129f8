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
//! write a long one.
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
mod turns;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::threads;

use accept::Entrance;
use house::House;

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
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            head_bytes: 16 * 1024,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            answer: Duration::from_secs(10),
            slowest_reader: 64 * 1024,
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
    /// `Accept-Language`.
    pub accept_language: Option<String>,
    /// `Via`: the proxies it has come through; several lines are joined by commas.
    pub via: Option<String>,
}

/// The bytes of an answer, without copying what is prepared.
#[derive(Clone, Debug)]
pub enum Body {
    /// None.
    Empty,
    /// Part of the program.
    Static(&'static [u8]),
    /// Prepared once for many answers.
    Shared(Arc<[u8]>),
    /// Made for this answer.
    Owned(Vec<u8>),
}

impl Body {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Body::Empty => &[],
            Body::Static(bytes) => bytes,
            Body::Shared(bytes) => bytes,
            Body::Owned(bytes) => bytes,
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Headers besides those of the connection, the length and the date. A value with anything but
    /// visible ASCII and spaces is left out.
    pub headers: Vec<(&'static str, String)>,
    /// The content.
    pub body: Body,
}

impl Response {
    /// An answer without headers of its own.
    pub fn new(status: u16, body: Body) -> Response {
        Response { status, headers: Vec::new(), body }
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
        let listener = TcpListener::bind(address)?;
        // The standard library asks for 128 places, which a crowd fills in a moment.
        SockRef::from(&listener).listen(WAITING_CONNECTIONS)?;
        // Connections inherit it.
        SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER_BYTES)?;
        let address = listener.local_addr()?;
        let house = Arc::new(House::new(name, limits, handler, clock, metrics));
        let entrance = Entrance::new(house.clone(), listener);
        let accepting = threads::spawn(name, move || entrance.accept_until_stopped())?;
        Ok(Server { house, address, accepting })
    }

    /// Where it listens, with the port the system chose if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nobody lets clients in any more.
    pub fn has_lost_its_thread(&self) -> bool {
        self.accepting.is_finished()
    }

    /// Takes no more requests, lets running answers end, and is gone within about `limit`.
    pub fn stop(&self, limit: Duration) {
        self.house.begin_stop();
        // A blocking accept ends only by a connection; it may fail if one is waiting already.
        let _ = TcpStream::connect_timeout(&reachable(self.address), limit / 4);
        self.house.wait_until_empty(limit);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::from_millis(500));
    }
}

/// An address that stands for all is reached by loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
