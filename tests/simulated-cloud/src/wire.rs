//! The HTTP/1.1 server under all simulated services.
//!
//! A thread per connection, and nothing between a service and its bytes: a service decides status,
//! reason phrase, the case of its header names and how its body ends, and a fault may cut, drip,
//! reset or hang. Requests must declare their length. It knows nothing of what is served.

mod connection;
mod message;

pub use connection::StreamWriter;
pub use message::{Body, Framing, Request, Response, WriteBody};

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::faults::Faults;
use crate::journal::{Journal, Service};

/// How long [`Server::stop`] waits for the threads of its connections.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What answers the requests of one server.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Called by many threads at once.
    fn handle(&self, request: &Request) -> Response;

    /// How long a request may be, asked before it is parsed.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

/// The longest request that a server takes, and so what happens beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// A longer request line (with its CRLF) is answered as Neutron's own server does:
    /// `HTTP/1.0 414 Request URI Too Long`, no body, closed.
    pub request_line: Option<usize>,
    /// A longer head is answered as uwsgi does: the connection ends without a byte.
    pub head: Option<usize>,
}

/// Ends waits when the server stops.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this long; true as soon as the server stops.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let guard = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) = self
            .changed
            .wait_timeout_while(guard, limit, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        *stopped
    }
}

/// What the accepting thread and the connections' threads share.
pub(crate) struct Shared {
    pub(crate) service: Service,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) stop: Stop,
    connections: Mutex<HashMap<u64, Arc<TcpStream>>>,
    connection_ended: Condvar,
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<TcpStream>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a connection. A socket closes when nobody holds it any more, so this comes before
    /// the connection's own thread lets go.
    fn forget(&self, connection: u64) {
        self.connections().remove(&connection);
        self.connection_ended.notify_all();
    }
}

/// One server on one port of the loopback interface.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    stopped: AtomicBool,
}

impl Server {
    /// Starts on a free port.
    ///
    /// # Errors
    /// When no port can be bound or no thread started.
    pub fn start(
        service: Service,
        handler: Arc<dyn Handler>,
        journal: Arc<Journal>,
        faults: Arc<Faults>,
    ) -> io::Result<Server> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Server::start_at(address, service, handler, journal, faults)
    }

    /// Starts on a given address.
    ///
    /// # Errors
    /// When the address can't be bound or no thread started.
    pub fn start_at(
        address: SocketAddr,
        service: Service,
        handler: Arc<dyn Handler>,
        journal: Arc<Journal>,
        faults: Arc<Faults>,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            service,
            handler,
            journal,
            faults,
            stop: Stop::default(),
            connections: Mutex::default(),
            connection_ended: Condvar::new(),
        });
        let accepting = thread::Builder::new().name(format!("{service} accept")).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Server { address, shared, accepting: Some(accepting), stopped: AtomicBool::new(false) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the listener and all connections, and waits until their threads have ended. Requests
    /// that hang or wait end without an answer.
    pub fn stop(&mut self) {
        if self.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        self.shared.stop.set();
        // The accepting thread sits in accept(): one more connection wakes it.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
        let connections = self.shared.connections();
        for stream in connections.values() {
            // It may be closed already; then there is nothing to do.
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(
            self.shared
                .connection_ended
                .wait_timeout_while(connections, STOP_LIMIT, |left| !left.is_empty()),
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.is_set() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let stream = Arc::new(stream);
        let number = shared.journal.connection_opened(shared.service);
        shared.connections().insert(number, Arc::clone(&stream));
        let spawned = thread::Builder::new()
            .name(format!("{} {number}", shared.service))
            .stack_size(512 * 1024)
            .spawn({
                let shared = Arc::clone(shared);
                move || {
                    // Also when a service panics: stop() waits for every connection.
                    let _forget = Forget { shared: &shared, connection: number };
                    connection::serve(&shared, number, &stream);
                }
            });
        if spawned.is_err() {
            shared.forget(number);
        }
    }
}

struct Forget<'a> {
    shared: &'a Shared,
    connection: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.forget(self.connection);
    }
}
