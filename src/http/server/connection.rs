//! One client, from its first byte to its last answer, on a thread of its own.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::head::{self, Head, Refusal};
use super::house::{Guest, House};
use super::{Body, Method, Response, Room, SEND_BUFFER_BYTES, answer};

/// A write that waits longer comes back to look at its deadline.
const WRITE_SLICE: Duration = Duration::from_secs(1);

/// What is written at a time, so that progress is seen.
const WRITE_BYTES: usize = 256 * 1024;

/// How many pieces of an answer are handed to the system at a time: a hundred records or so.
const WRITE_PIECES: usize = 256;

/// A shorter answer isn't counted: it is less than the buffer that each connection has anyway.
const SHORT_BYTES: usize = 4096;

/// A long answer's turn: many times what a reader on the same machine needs for a list of thousands
/// of records. Whoever needs longer goes on beside the others.
const TURN: Duration = Duration::from_millis(10);

/// Whoever has waited so long for a turn does without.
const TURN_WAIT: Duration = Duration::from_millis(80);

/// What a refused client may still send before the connection is cut: it should see the answer
/// instead of a reset.
const LINGER: Duration = Duration::from_millis(300);
const LINGER_BYTES: usize = 256 * 1024;

/// How waiting for a head ended.
enum Arrival {
    Request(Head),
    /// With whether the answer is to have no body.
    Refused(Refusal, bool),
    /// The client went, or never said anything.
    Gone,
}

/// What the client has yet to be given of an answer.
struct Unsent<'a> {
    head: &'a [u8],
    body: &'a Body,
    /// How much of the body is left.
    left: usize,
    /// The body's next piece, and how much of that is written.
    piece: usize,
    offset: usize,
}

impl<'a> Unsent<'a> {
    fn is_empty(&self) -> bool {
        self.head.is_empty() && self.left == 0
    }

    /// What comes next, up to a number of bytes of the body; gives how many slices that are.
    fn next(&self, most: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut most, mut offset, mut count) = (most.min(self.left), self.offset, 1);
        slices[0] = IoSlice::new(self.head);
        let pieces = (self.piece..).map_while(|index| self.body.piece(index));
        for (slice, piece) in slices[1..].iter_mut().zip(pieces) {
            if most == 0 {
                break;
            }
            let piece = &piece[offset..];
            *slice = IoSlice::new(&piece[..piece.len().min(most)]);
            most -= slice.len();
            offset = 0;
            count += 1;
        }
        count
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.len());
        self.head = &self.head[of_head..];
        self.left -= written - of_head;
        self.offset += written - of_head;
        while let Some(piece) =
            self.body.piece(self.piece).filter(|piece| piece.len() <= self.offset)
        {
            self.offset -= piece.len();
            self.piece += 1;
        }
    }
}

struct Connection<'a> {
    house: &'a Arc<House>,
    guest: &'a Arc<Guest>,
    buffer: Box<[u8]>,
    filled: usize,
    read_timeout: Duration,
}

/// Serves a client until it goes, fails, or keeps us waiting too long.
pub(super) fn serve(house: &Arc<House>, guest: &Arc<Guest>) {
    let prepared = guest
        .stream
        .set_nodelay(true)
        .and_then(|()| guest.stream.set_write_timeout(Some(WRITE_SLICE)));
    if prepared.is_err() {
        return;
    }
    let buffer = vec![0; house.limits.head_bytes].into_boxed_slice();
    let mut connection =
        Connection { house, guest, buffer, filled: 0, read_timeout: Duration::ZERO };
    let mut first = true;
    // An error means that the client is gone; there is nobody to tell.
    while let Ok(true) = connection.exchange(first) {
        first = false;
    }
}

impl Connection<'_> {
    /// One request and its answer. Gives whether the connection goes on.
    fn exchange(&mut self, first: bool) -> io::Result<bool> {
        match self.await_head(first)? {
            Arrival::Gone => Ok(false),
            Arrival::Refused(refusal, without_body) => {
                self.guest.works();
                self.house.refused(refusal.reason);
                let mut response = Response::error(refusal.status, &refusal.message);
                if refusal.status == 405 {
                    response = response.with("Allow", "GET, HEAD, OPTIONS");
                }
                self.write(&response, without_body, true)?;
                self.linger();
                Ok(false)
            }
            Arrival::Request(mut head) => {
                let room = Room::of(self.house, self.guest);
                head.request.room = room.clone();
                let (response, failed) = self.handle(&head);
                let response = counted(response, &room);
                let close = head.close || failed || self.house.is_stopping();
                self.write(&response, head.request.method == Method::Head, close)?;
                Ok(!close)
            }
        }
    }

    fn handle(&self, head: &Head) -> (Response, bool) {
        let handler = &self.house.handler;
        match panic::catch_unwind(AssertUnwindSafe(|| handler.answer(&head.request))) {
            Ok(response) => (response, false),
            Err(_) => {
                log::error!("{}: a request ended in a panic", self.house.name);
                (Response::error(500, "internal error"), true)
            }
        }
    }

    /// Reads until a head is whole. What follows it stays in the buffer: it is the next request.
    fn await_head(&mut self, first: bool) -> io::Result<Arrival> {
        let limits = &self.house.limits;
        let began = self.house.clock.now().uptime;
        if !first {
            // Of the first request the house knew at the door whether it is still to come.
            self.guest.waits(began);
        }
        let mut deadline = began + if first { limits.head } else { limits.idle };
        let mut timed_by_head = first;
        let mut scanned = 0;
        loop {
            match head::end_of_head(&self.buffer[..self.filled], &mut scanned) {
                Ok(Some(end)) => {
                    self.guest.works();
                    let arrival = match head::parse(&self.buffer[..end]) {
                        Ok(head) => Arrival::Request(head),
                        Err(refusal) => self.refused(refusal),
                    };
                    self.buffer.copy_within(end..self.filled, 0);
                    self.filled -= end;
                    return Ok(arrival);
                }
                Ok(None) => {}
                Err(refusal) => return Ok(self.refused(refusal)),
            }
            if self.filled == self.buffer.len() {
                return Ok(self.refused(head::too_large(&self.buffer)));
            }
            let now = self.house.clock.now().uptime;
            if self.filled > 0 && !timed_by_head {
                deadline = now + limits.head;
                timed_by_head = true;
            }
            if now >= deadline {
                return Ok(self.too_late());
            }
            self.set_read_timeout(deadline - now)?;
            match (&self.guest.stream).read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(Arrival::Gone),
                Ok(read) => self.filled += read,
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn too_late(&self) -> Arrival {
        match self.filled {
            0 => Arrival::Gone,
            _ => self.refused(Refusal::new(408, "head-timeout", "the request took too long")),
        }
    }

    /// While what was read of the head is still there.
    fn refused(&self, refusal: Refusal) -> Arrival {
        Arrival::Refused(refusal, head::is_for_a_head_only(&self.buffer[..self.filled]))
    }

    /// A system call only where it makes a difference: a limit may be overrun by a tenth.
    fn set_read_timeout(&mut self, wanted: Duration) -> io::Result<()> {
        let set = self.read_timeout;
        if wanted > set || set - wanted > set / 10 {
            self.guest.stream.set_read_timeout(Some(wanted.max(Duration::from_millis(1))))?;
            self.read_timeout = wanted;
        }
        Ok(())
    }

    fn write(&self, response: &Response, without_body: bool, close: bool) -> io::Result<()> {
        let head = answer::head(response, close)?;
        let length = match without_body || answer::has_no_body(response.status) {
            true => 0,
            false => response.body.len(),
        };
        let limits = &self.house.limits;
        let for_size = Duration::from_secs(length as u64 / limits.slowest_reader.max(1));
        let deadline = self.house.clock.now().uptime + limits.answer + for_size;
        let body = &response.body;
        let mut unsent = Unsent { head: &head, body, left: length, piece: 0, offset: 0 };
        if length > SEND_BUFFER_BYTES {
            self.write_in_turn(&mut unsent)?;
        }
        self.guest.waits(self.house.clock.now().uptime);
        while !unsent.is_empty() {
            self.write_some(&mut unsent, WRITE_BYTES)?;
            if !unsent.is_empty() && self.house.clock.now().uptime > deadline {
                self.house.refused("slow-reader");
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Writes what the reader takes within a turn, all of it if it keeps up.
    fn write_in_turn(&self, unsent: &mut Unsent) -> io::Result<()> {
        // Until then it is the client who waits.
        self.guest.works();
        let Some(_turn) = self.house.turns.take(TURN_WAIT) else { return Ok(()) };
        let began = self.house.clock.now().uptime;
        self.guest.waits(began);
        self.guest.stream.set_write_timeout(Some(TURN))?;
        while !unsent.is_empty() && self.house.clock.now().uptime < began + TURN {
            self.write_some(unsent, usize::MAX)?;
        }
        self.guest.stream.set_write_timeout(Some(WRITE_SLICE))
    }

    /// One write.
    fn write_some(&self, unsent: &mut Unsent, most: usize) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); WRITE_PIECES];
        let count = unsent.next(most, &mut slices);
        match (&self.guest.stream).write_vectored(&slices[..count]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                unsent.advance(written);
                self.guest.waits(self.house.clock.now().uptime);
                Ok(())
            }
            Err(error) if is_pause(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes in what a refused client is still sending, within limits.
    fn linger(&mut self) {
        if self.guest.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let began = self.house.clock.now().uptime;
        self.guest.waits(began);
        let mut taken = 0;
        while taken < LINGER_BYTES {
            let spent = self.house.clock.now().uptime.saturating_sub(began);
            let Some(left) = LINGER.checked_sub(spent).filter(|left| !left.is_zero()) else {
                return;
            };
            if self.guest.stream.set_read_timeout(Some(left)).is_err() {
                return;
            }
            match (&self.guest.stream).read(&mut self.buffer) {
                Ok(read) if read > 0 => taken += read,
                _ => return,
            }
        }
    }
}

/// A long answer that was made without asking counts from here on.
fn counted(response: Response, room: &Room) -> Response {
    match &response.body {
        Body::Owned(bytes) if bytes.len() > SHORT_BYTES && response.share.is_none() => {
            match room.take(bytes.capacity()) {
                Some(share) => response.holding(share),
                None => Response::no_room(),
            }
        }
        _ => response,
    }
}

/// A timeout of the socket, or a signal: the deadline decides, not this.
fn is_pause(error: &io::Error) -> bool {
    let pauses = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted];
    pauses.contains(&error.kind())
}
