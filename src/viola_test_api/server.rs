//! Connections: a few threads that each accept one, read its request, answer and hang up.
//!
//! The operator's gate ([`crate::http::server`]) lets no body in, by design. tiny_http's listener
//! would, but a request that declares 10^18 bytes and sends none makes it allocate as much when the
//! request is dropped, which ends the process, and it waits for a slow client for ever. Neither can
//! be helped from outside, so its listener isn't used here either: [`super::request`] checks the
//! declared length first, takes memory only for bytes that came, and each read has a deadline.
//! tiny_http gives the words of the status line.
//!
//! This is enough for a handful of clients that mean well. Whoever wants can keep all threads
//! waiting until their deadlines; the kubelet would then start the stand-in anew.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::request::{self, Failure, Refusal, Request};
use crate::clock::Clock;
use crate::threads;

/// Requests at a time. With bodies at their limit these are 32 MiB, half of what the pod may have.
const THREADS: usize = 8;
/// From the connection to the end of the body.
const READ_LIMIT: Duration = Duration::from_secs(20);
/// For the whole answer, which is short.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a refused client may go on sending: it should see the answer instead of a reset.
const LINGER: Duration = Duration::from_secs(1);
/// After an accept that failed for want of something.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    content_type: &'static str,
    allow: Option<&'static str>,
}

impl Answer {
    /// A 200 in plain text.
    pub(super) fn text(text: &str) -> Answer {
        let body = text.as_bytes().to_vec();
        Answer { status: 200, body, content_type: "text/plain; charset=utf-8", allow: None }
    }

    /// JSON.
    pub(super) fn json(status: u16, value: &Value) -> Answer {
        let body = value.to_string().into_bytes();
        Answer { status, body, content_type: "application/json", allow: None }
    }

    /// `{"error": "..."}`
    pub(super) fn error(status: u16, message: &str) -> Answer {
        Answer::json(status, &json!({ "error": message }))
    }

    /// No connection is kept: a kept one would keep its thread.
    fn head(&self) -> String {
        let Answer { status, body, content_type, allow } = self;
        let words = tiny_http::StatusCode(*status).default_reason_phrase();
        let allow = allow.map(|methods| format!("Allow: {methods}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {status} {words}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n{allow}Connection: close\r\n\r\n",
            body.len()
        )
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        Answer { allow: refusal.allowed, ..Answer::error(refusal.status, &refusal.reason) }
    }
}

/// Listens, and answers with `handler` for as long as the process lives. Gives where it listens.
///
/// # Errors
/// If the address can't be had, or a thread.
pub(super) fn start(
    address: SocketAddr,
    clock: Clock,
    handler: impl Fn(Request) -> Answer + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = Arc::new(TcpListener::bind(address)?);
    let handler = Arc::new(handler);
    for _ in 0..THREADS {
        let (listener, handler, clock) = (listener.clone(), handler.clone(), clock.clone());
        threads::spawn("http", move || accept_for_ever(&listener, &clock, &*handler))?;
    }
    listener.local_addr()
}

fn accept_for_ever(listener: &TcpListener, clock: &Clock, handler: &dyn Fn(Request) -> Answer) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = serve(&stream, clock, handler) {
                    log::debug!("a client went away: {error}");
                }
            }
            Err(error) => {
                log::debug!("accept: {error}");
                let _ = crossbeam_channel::after(SHORTAGE_PAUSE).recv();
            }
        }
    }
}

fn serve(stream: &TcpStream, clock: &Clock, handler: &dyn Fn(Request) -> Answer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (answer, unread) = match request::read(&mut Timed::new(stream, clock, READ_LIMIT)) {
        Ok(request) => (answer(handler, request), false),
        Err(Failure::Refused(refusal)) => (Answer::from(refusal), true),
        Err(Failure::Gone) => return Ok(()),
    };
    let mut bytes = answer.head().into_bytes();
    bytes.extend_from_slice(&answer.body);
    Timed::new(stream, clock, WRITE_LIMIT).write_all(&bytes)?;
    stream.shutdown(Shutdown::Write)?;
    if unread {
        // Ends with the client's last byte or its time, whichever comes first.
        let _ = io::copy(&mut Timed::new(stream, clock, LINGER), &mut io::sink());
    }
    Ok(())
}

fn answer(handler: &dyn Fn(Request) -> Answer, request: Request) -> Answer {
    panic::catch_unwind(AssertUnwindSafe(|| handler(request))).unwrap_or_else(|_| {
        log::error!("a request ended in a panic");
        Answer::error(500, "internal error")
    })
}

/// A stream on which all reads and writes together have a deadline.
struct Timed<'a> {
    stream: &'a TcpStream,
    clock: &'a Clock,
    deadline: Duration,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a TcpStream, clock: &'a Clock, limit: Duration) -> Timed<'a> {
        Timed { stream, clock, deadline: clock.now().uptime + limit }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_sub(self.clock.now().uptime);
        // Zero would mean no limit to the system.
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
