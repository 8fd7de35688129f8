//! One client, from its first byte to its last answer.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use super::accept::Open;
use super::head::{self, Head, Refusal};
use super::{Body, Method, READING_METHODS, Response, Shared, answer};

/// A read or write that waits longer comes back to look at its deadline.
const SLICE: Duration = Duration::from_secs(1);

/// A reader that takes nothing of an answer for so long is given up: longer than an honest one on a
/// slow line leaves the system's buffer as it is.
const STALL: Duration = Duration::from_secs(3);

/// How many pieces of an answer are handed to the system at a time: a hundred records or so.
const WRITE_PIECES: usize = 256;

/// A shorter answer isn't counted: it is less than the buffer that each connection has anyway.
const SHORT_BYTES: usize = 4096;

/// How long a refused client may go on sending before the connection is cut: it should see the answer
/// instead of a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Why there is no request; none if the client has gone, or never said anything.
type Stop = Option<Refusal>;

struct Connection<'a> {
    shared: &'a Shared,
    open: &'a Open,
    /// What was read and not used yet: its first `filled` bytes.
    buffer: Box<[u8]>,
    filled: usize,
}

/// Serves a client until it goes, fails, or keeps us waiting too long. An error means that it has gone.
pub(super) fn serve(shared: &Shared, open: &Open) -> io::Result<()> {
    open.stream.set_nodelay(true)?;
    open.stream.set_read_timeout(Some(SLICE))?;
    open.stream.set_write_timeout(Some(SLICE))?;
    let buffer = vec![0; shared.limits.head_bytes].into_boxed_slice();
    let mut connection = Connection { shared, open, buffer, filled: 0 };
    let mut first = true;
    while connection.exchange(first)? {
        first = false;
    }
    Ok(())
}

impl Connection<'_> {
    /// One request and its answer. Gives whether the connection goes on.
    fn exchange(&mut self, first: bool) -> io::Result<bool> {
        let received = self.read_head(first).and_then(|head| self.read_body(head));
        self.open.works();
        let head = match received {
            Ok(head) => head,
            Err(None) => return Ok(false),
            Err(Some(refusal)) => return self.refuse(&refusal).map(|()| false),
        };
        let (response, close) = self.handle(&head);
        self.write(&response, head.request.method == Method::Head, close)?;
        Ok(!close)
    }

    /// Reads until a head is whole. What follows it stays in the buffer.
    fn read_head(&mut self, first: bool) -> Result<Head, Stop> {
        let limits = &self.shared.limits;
        let began = self.shared.uptime();
        self.open.waits(began);
        let mut deadline = began + if first { limits.head } else { limits.idle };
        let mut scanned = 0;
        loop {
            if let Some(end) = head::end_of_head(&self.buffer[..self.filled], &mut scanned)? {
                let mut head = head::parse(&self.buffer[..end], limits.body_bytes)?;
                head.request.memory = self.shared.memory.clone();
                self.consume(end);
                return Ok(head);
            }
            if self.filled == self.buffer.len() {
                return Err(head::too_large(&self.buffer).into());
            }
            if self.filled == 0 {
                self.fill(deadline).map_err(|_| None)?;
                if !first {
                    deadline = self.shared.uptime() + limits.head;
                }
            } else {
                self.fill(deadline).map_err(too_late)?;
            }
        }
    }

    fn read_body(&mut self, mut head: Head) -> Result<Head, Stop> {
        let body = &mut head.request.body;
        let deadline = self.deadline(head.length);
        if head.expects_continue && self.filled < head.length {
            let written = (&self.open.stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            written.map_err(|_| None)?;
        }
        loop {
            let taken = self.filled.min(head.length - body.len());
            body.extend_from_slice(&self.buffer[..taken]);
            self.consume(taken);
            if body.len() == head.length {
                return Ok(head);
            }
            self.fill(deadline).map_err(too_late)?;
            self.open.waits(self.shared.uptime());
        }
    }

    /// Reads once into the buffer, which has free space.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, `UnexpectedEof` if the client has gone.
    fn fill(&mut self, deadline: Duration) -> io::Result<()> {
        loop {
            if self.shared.uptime() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match (&self.open.stream).read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.filled += read;
                    return Ok(());
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }

    /// The handler's answer, and whether the connection must end after it.
    fn handle(&self, head: &Head) -> (Response, bool) {
        let handler = &self.shared.handler;
        let handled = panic::catch_unwind(AssertUnwindSafe(|| handler.answer(&head.request)));
        let Ok(response) = handled else {
            log::error!("{}: a request ended in a panic", self.shared.name);
            return (Response::error(500, "internal error"), true);
        };
        let close = head.close || self.shared.connections.is_stopping();
        match &response.body {
            // A long answer without a reservation is counted from here on.
            Body::Owned(bytes) if bytes.len() > SHORT_BYTES && response.reservation.is_none() => {
                let reserved = self.shared.memory.reserve(bytes.capacity());
                let holding = |reservation| response.holding(reservation);
                (reserved.map_or_else(Response::no_memory, holding), close)
            }
            _ => (response, close),
        }
    }

    /// Says what is wrong, while what was read of the head is still in the buffer, and ends.
    fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        self.shared.refusals.count(refusal.reason);
        let mut response = Response::error(refusal.status, &refusal.message);
        if refusal.status == 405 {
            response = response.with("Allow", READING_METHODS);
        }
        let without_body = head::is_for_a_head_only(&self.buffer[..self.filled]);
        self.write(&response, without_body, true)?;
        self.open.stream.shutdown(Shutdown::Write)?;
        let began = self.shared.uptime();
        self.open.waits(began);
        loop {
            self.filled = 0;
            self.fill(began + LINGER)?;
        }
    }

    fn write(&self, response: &Response, without_body: bool, close: bool) -> io::Result<()> {
        let head = answer::head(response, close)?;
        let body = match without_body || answer::has_no_body(response.status) {
            true => &Body::Empty,
            false => &response.body,
        };
        let (deadline, mut progress) = (self.deadline(body.len()), self.shared.uptime());
        self.open.waits(progress);
        let mut pieces = std::iter::once(&head[..]).chain(body.pieces());
        loop {
            let mut slices = [IoSlice::new(&[]); WRITE_PIECES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&mut pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let mut left = &mut slices[..count];
            while !left.is_empty() {
                match (&self.open.stream).write_vectored(left) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        IoSlice::advance_slices(&mut left, written);
                        progress = self.shared.uptime();
                        self.open.waits(progress);
                    }
                    Err(error) if is_pause(&error) => {}
                    Err(error) => return Err(error),
                }
                let now = self.shared.uptime();
                if !left.is_empty() && now > deadline.min(progress + STALL) {
                    self.shared.refusals.count("slow-reader");
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            if count < WRITE_PIECES {
                return Ok(());
            }
        }
    }

    /// When so many bytes must have been taken or sent.
    fn deadline(&self, bytes: usize) -> Duration {
        let limits = &self.shared.limits;
        let for_size = Duration::from_secs(bytes as u64 / limits.slowest_reader.max(1));
        self.shared.uptime() + limits.answer + for_size
    }
}

/// What a failed read means amid a request.
fn too_late(error: io::Error) -> Stop {
    (error.kind() == io::ErrorKind::TimedOut)
        .then(|| Refusal::new(408, "head-timeout", "the request took too long"))
}

/// A timeout of the socket, or a signal: the deadline decides, not this.
fn is_pause(error: &io::Error) -> bool {
    let pauses = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted];
    pauses.contains(&error.kind())
}
