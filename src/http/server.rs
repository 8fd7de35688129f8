//! The HTTP server of the inventory, of the probes and of the stand-in Viola.
//!
//! ```text
//! kernel's queue ─▶ accept loop ─▶ one thread per connection: read head ─▶ check it ─▶ read body
//!                                                     ─▶ Handler ─▶ head by tiny_http ─▶ write
//! ```
//!
//! **What tiny_http does.** It writes the head of every answer: status line, headers, date, length.
//! Its listener, its request reader and its task pool aren't used, because nothing in front of them
//! could make them safe: a request with a `Content-Length` of 10^18 makes them allocate as much, which
//! ends the process; a head may be endless and may take for ever; an accept that fails once ends the
//! port for good.
//!
//! **What stands in its place.** [`accept`] takes connections from the kernel's queue and gives each a
//! thread, a bounded number of them. [`head`] reads heads strictly. [`connection`] serves one client:
//! it has a deadline for the head, for the body and for the answer. [`memory`] counts the bytes of
//! answers that only slow readers still hold.
//!
//! **Threads.** The standard library has no poller. The choice is between threads that poll idle
//! sockets, which costs either latency or processor time, and one blocking thread for each
//! connection, which costs a stack of which some 10 KiB are ever touched. We take the thread.
//!
//! **When all connections are taken** the ones that have waited longest for their clients are closed:
//! idle kept connections, heads that don't end, readers that don't read. A client that sends its
//! request at once is never among them, however many others only connect.

mod accept;
mod answer;
mod connection;
pub mod head;
mod memory;

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
use crate::threads::{self, lock};

use accept::Connections;
pub use memory::{MemoryBudget, Reservation};

/// Connections that the kernel keeps until they are accepted. A client that finds no place among them
/// tries again after a second. Linux caps it at `net.core.somaxconn`, 4096 by default.
const WAITING_CONNECTIONS: i32 = 4096;

/// What the kernel takes of an answer ahead of its reader (Linux doubles it). Left to itself Linux
/// goes up to 4 MiB: 256 readers that don't read would hold a gigabyte of kernel memory, which counts
/// as the pod's, and long answers go out at less than half the rate, because what waits so long has
/// left the processor's cache.
const SEND_BUFFER_BYTES: usize = 96 * 1024;

/// The methods of a server that takes no bodies.
const READING_METHODS: &str = "GET, HEAD, OPTIONS";

/// What clients may take of the server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections, and so threads, at a time.
    pub connections: usize,
    /// Bytes of a request's head, its buffer.
    pub head_bytes: usize,
    /// Bytes of a request's body. 0: only methods without a body are let through.
    pub body_bytes: usize,
    /// From the connection, or the first byte, to the end of the head.
    pub head: Duration,
    /// From one answer to the next request.
    pub idle: Duration,
    /// To take an answer or to send a body, on top of what `slowest_reader` allows for its size.
    pub answer: Duration,
    /// Bytes a second of a long answer, or of a body, that a client must take or send.
    pub slowest_reader: u64,
    /// Bytes of answers, each made for one request, that may wait for their readers.
    pub held_bytes: usize,
}

/// The pod may have 64 MiB (`manifests/manager`). Of these a thousand objects take 30 at their peak
/// (`docs/performance.md`), and 256 connections 7 for their buffers and stacks. There are two
/// servers: with 12 for each some 3 MiB are left.
const HELD_BYTES: usize = 12 * 1024 * 1024;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            head_bytes: 16 * 1024,
            body_bytes: 0,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            answer: Duration::from_secs(10),
            slowest_reader: 64 * 1024,
            held_bytes: HELD_BYTES,
        }
    }
}

/// The methods that are let through; all others are answered with 405 before a handler sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Read without the body, which the server leaves out.
    Head,
    /// Ask what may be done.
    Options,
    /// Send a body, where [`Limits::body_bytes`] allows one.
    Post,
}

/// A request as a handler sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// With its percent-encoding resolved: valid UTF-8 without control characters.
    pub path: String,
    /// The query's pairs in order, resolved like the path, with `+` for a space.
    pub query: Vec<(String, String)>,
    /// `If-None-Match`; several lines are joined by commas.
    pub(crate) if_none_match: Option<String>,
    /// `Authorization`.
    pub(crate) authorization: Option<Secret>,
    /// `Origin`.
    pub(crate) origin: Option<String>,
    /// `x-provider-id`: the cluster that posted nodes are for.
    pub(crate) provider_id: Option<String>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Where the memory for a long answer is reserved.
    pub(crate) memory: MemoryBudget,
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
            Body::List(_) => Cow::Owned(self.pieces().collect::<Vec<_>>().concat()),
        }
    }

    fn len(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// The bytes in the pieces in which they lie in memory; none is empty.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let nothing: &[u8] = b"";
        let items: &[Arc<[u8]>] = if let Body::List(items) = self { items } else { &[] };
        let (opening, closing): (&[u8], &[u8]) = match self {
            Body::Empty => (nothing, nothing),
            Body::Static(bytes) => (bytes, nothing),
            Body::Owned(bytes) => (bytes, nothing),
            Body::List(_) => (b"[", b"]"),
        };
        let commas = std::iter::once(nothing).chain(std::iter::repeat(&b","[..]));
        let items = items.iter().zip(commas).flat_map(|(item, comma)| [comma, item]);
        let all = std::iter::once(opening).chain(items).chain([closing]);
        all.filter(|piece| !piece.is_empty())
    }
}

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
    pub(crate) reservation: Option<Reservation>,
}

impl Response {
    /// An answer without headers of its own.
    pub fn new(status: u16, body: Body) -> Response {
        Response { status, headers: Vec::new(), body, reservation: None }
    }

    /// The same answer, with the memory that was reserved for it.
    #[must_use]
    pub(crate) fn holding(mut self, reservation: Reservation) -> Response {
        self.reservation = Some(reservation);
        self
    }

    /// The answer instead of a long one for which there is no memory.
    pub(crate) fn no_memory() -> Response {
        let message =
            "too many long answers wait for their readers; try again, or ask for less at a time";
        Response::error(503, message).with("Retry-After", "2")
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// `{"error": "..."}`, as all errors look.
    pub(crate) fn error(status: u16, message: &str) -> Response {
        let text = serde_json::json!({ "error": message }).to_string();
        Response::new(status, Body::Owned(text.into_bytes()))
            .with("Content-Type", "application/json")
            .with("Cache-Control", "no-store")
    }
}

/// Answers requests.
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

/// Counts connections and requests that were refused, and connections that were closed for others.
#[derive(Clone, Debug)]
struct Refusals {
    server: &'static str,
    metrics: Arc<Metrics>,
}

impl Refusals {
    fn count(&self, reason: &str) {
        let labels = [("server", self.server), ("reason", reason)];
        self.metrics.add("multinic_http_connections_refused_total", &labels, 1.0);
    }
}

/// What the threads of one server share.
struct Shared {
    name: &'static str,
    limits: Limits,
    handler: Arc<dyn Handler>,
    clock: Clock,
    refusals: Refusals,
    memory: MemoryBudget,
    connections: Connections,
}

impl Shared {
    fn uptime(&self) -> Duration {
        self.clock.now().uptime
    }
}

/// A running server. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
    /// Ends the accept loop's waiting; none once the stop has begun.
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
        let refusals = Refusals { server: name, metrics };
        let memory = MemoryBudget::new(limits.held_bytes, refusals.clone());
        let connections = Connections::default();
        let shared = Shared { name, limits, handler, clock, refusals, memory, connections };
        let shared = Arc::new(shared);
        let accepting = shared.clone();
        let accepting = threads::spawn(name, move || accept::accept(&accepting, &listener))?;
        Ok(Server { shared, address, accepting, listener: to_end_it })
    }

    /// Where it listens, with the port the system chose if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name of its threads.
    pub(crate) fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The accept loop has ended: no client can connect any more.
    pub fn has_lost_its_thread(&self) -> bool {
        self.accepting.is_finished()
    }

    /// Takes no more requests, lets running answers end, and is gone within about `limit`. A second
    /// call does nothing.
    pub fn stop(&self, limit: Duration) {
        let Some(listener) = lock(&self.listener).take() else { return };
        self.shared.connections.begin_stop();
        // Ends a blocking accept with an error. A connection to ourselves would do that too, but
        // there are nodes on which the wildcard's own loopback can't be reached.
        if let Err(error) = SockRef::from(&listener).shutdown(Shutdown::Both) {
            log::warn!("{}: cannot end listening on {}: {error}", self.shared.name, self.address);
        }
        self.shared.connections.wait_until_closed(limit);
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
    // The port of a process that has just ended can be taken at once.
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
