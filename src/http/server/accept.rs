//! Who is in the house: the accept loop, which survives every error, and the list of connections,
//! which has a limit.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::connection;
use super::{Handler, Limits};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads;

/// How long a newcomer waits for the place of one who was sent away.
const PLACE_WAIT: Duration = Duration::from_millis(50);

/// Pause after an accept that failed for want of something (descriptors, memory): long enough not
/// to spin, short enough that nobody notices.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// One part in so many of the connections is sent away when the house is full.
const MADE_ROOM_SHARE: usize = 8;

/// A connection that isn't waiting for its client.
const BUSY: u64 = u64::MAX;

/// A server's connections and what they share.
pub(super) struct House {
    pub(super) name: &'static str,
    pub(super) limits: Limits,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) clock: Clock,
    metrics: Arc<Metrics>,
    guests: Mutex<Guests>,
    changed: Condvar,
}

struct Guests {
    connections: HashMap<u64, Arc<Guest>>,
    next: u64,
    accepting: bool,
    stopping: bool,
}

/// One connection as the house sees it.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    /// Since when we wait for the client, in microseconds of uptime; or [`BUSY`].
    waiting_since: AtomicU64,
}

impl Guest {
    /// From `uptime` on it's the client's turn.
    pub(super) fn waits(&self, uptime: Duration) {
        self.waiting_since.store(uptime.as_micros() as u64, Ordering::Relaxed);
    }

    /// It's our turn.
    pub(super) fn works(&self) {
        self.waiting_since.store(BUSY, Ordering::Relaxed);
    }

    fn send_away(&self) {
        self.works();
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl House {
    pub(super) fn new(
        name: &'static str,
        limits: Limits,
        handler: Arc<dyn Handler>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> House {
        let connections = HashMap::new();
        let guests = Guests { connections, next: 0, accepting: true, stopping: false };
        let (guests, changed) = (Mutex::new(guests), Condvar::new());
        House { name, limits, handler, clock, metrics, guests, changed }
    }

    /// The accept loop. Its only way out is the stop.
    pub(super) fn accept_until_stopped(self: &Arc<House>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.is_stopping() {
                break;
            }
            match accepted {
                Ok((stream, _)) => self.admit(stream),
                Err(error) => self.survive(&error),
            }
        }
        self.guests().accepting = false;
        self.changed.notify_all();
    }

    /// Counts a connection that was refused or sent away.
    pub(super) fn refused(&self, reason: &str) {
        let labels = [("server", self.name), ("reason", reason)];
        self.metrics.add("multinic_http_connections_refused_total", &labels, 1.0);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.guests().stopping
    }

    /// No further connections and requests.
    pub(super) fn begin_stop(&self) {
        let mut guests = self.guests();
        guests.stopping = true;
        for guest in guests.connections.values() {
            // Whoever waits for a request ends; an answer under way goes out.
            let _ = guest.stream.shutdown(Shutdown::Read);
        }
    }

    /// Waits for all to end, then sends away who is left.
    pub(super) fn wait_until_empty(&self, limit: Duration) {
        let inhabited = |guests: &mut Guests| guests.accepting || !guests.connections.is_empty();
        let waited = self.changed.wait_timeout_while(self.guests(), limit, inhabited);
        let (guests, timeout) = waited.unwrap_or_else(|held| held.into_inner());
        if timeout.timed_out() {
            guests.connections.values().for_each(|guest| guest.send_away());
            let _ = self.changed.wait_timeout_while(guests, PLACE_WAIT, inhabited);
        }
    }

    fn admit(self: &Arc<House>, stream: TcpStream) {
        let Some((number, guest)) = self.enter(stream) else {
            self.refused("full");
            return;
        };
        let house = self.clone();
        let started = threads::spawn(self.name, move || {
            let _place = Place { house: &house, number };
            connection::serve(&house, &guest);
        });
        if let Err(error) = started {
            log::warn!("{}: no thread for a connection: {error}", self.name);
            self.refused("no-thread");
            self.leave(number);
        }
    }

    /// Finds a place, if need be that of the one who has kept us waiting longest.
    fn enter(&self, stream: TcpStream) -> Option<(u64, Arc<Guest>)> {
        let full = |guests: &mut Guests| guests.connections.len() >= self.limits.connections;
        let mut guests = self.guests();
        if full(&mut guests) {
            self.send_longest_waiting_away(&guests);
            let waited = self.changed.wait_timeout_while(guests, PLACE_WAIT, full);
            guests = waited.unwrap_or_else(|held| held.into_inner()).0;
            if full(&mut guests) {
                return None;
            }
        }
        let guest = Arc::new(Guest { stream, waiting_since: AtomicU64::new(BUSY) });
        guest.waits(self.clock.now().uptime);
        let number = guests.next;
        guests.next += 1;
        guests.connections.insert(number, guest.clone());
        Some((number, guest))
    }

    fn leave(&self, number: u64) {
        self.guests().connections.remove(&number);
        self.changed.notify_all();
    }

    /// Several at once: a crowd that only connects is then let in, and out, faster than the
    /// system's queue of waiting connections fills up. Behind a full queue an honest client would
    /// wait a second for its next try.
    fn send_longest_waiting_away(&self, guests: &Guests) {
        let number = (self.limits.connections / MADE_ROOM_SHARE).max(1);
        let waiting_since = |guest: &Arc<Guest>| guest.waiting_since.load(Ordering::Relaxed);
        let mut waiting: Vec<_> =
            guests.connections.values().map(|guest| (waiting_since(guest), guest)).collect();
        waiting.retain(|(since, _)| *since != BUSY);
        waiting.sort_unstable_by_key(|(since, _)| *since);
        for (_, guest) in waiting.into_iter().take(number) {
            guest.send_away();
            self.refused("made-room");
        }
    }

    /// After an accept that failed: a client that left before it was let in is nothing; a shortage
    /// is answered by making room and a short pause.
    fn survive(&self, error: &io::Error) {
        let passing = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::Interrupted,
        ];
        if passing.contains(&error.kind()) {
            return;
        }
        log::debug!("{}: accept: {error}", self.name);
        self.refused("accept-failed");
        let guests = self.guests();
        self.send_longest_waiting_away(&guests);
        let stopping = |guests: &mut Guests| !guests.stopping;
        let _ = self.changed.wait_timeout_while(guests, SHORTAGE_PAUSE, stopping);
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        // The list is whole at every statement, so a panic elsewhere needn't spread.
        self.guests.lock().unwrap_or_else(|held| held.into_inner())
    }
}

/// A connection's place, given back when its thread ends, however it ends.
struct Place<'a> {
    house: &'a House,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.house.leave(self.number);
    }
}
