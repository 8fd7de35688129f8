//! Who is in the house: the list of connections, which has a limit, and who has to go when it is
//! full.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::connection;
use super::turns::Turns;
use super::{Handler, Limits};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads;

/// How long a newcomer waits for the place of one who was sent away.
const PLACE_WAIT: Duration = Duration::from_millis(50);

/// How long an accept that failed for want of something (descriptors, memory) waits for a connection
/// to end: long enough not to spin, short enough that nobody notices.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// Whoever has taken nothing of a long answer for so long may have to go for another one: longer than
/// an honest reader on a slow line lets the system's buffer be.
const PATIENCE: Duration = Duration::from_secs(2);

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
    pub(super) turns: Turns,
    metrics: Arc<Metrics>,
    guests: Mutex<Guests>,
    changed: Condvar,
    /// Bytes of answers that wait for their readers.
    held: AtomicUsize,
}

struct Guests {
    connections: HashMap<u64, Arc<Guest>>,
    next: u64,
    /// How many have ever left.
    departed: u64,
    /// How many were sent away and are still there.
    departing: usize,
    accepting: bool,
    stopping: bool,
}

/// One connection as the house sees it.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    /// Since when we wait for the client, in microseconds of uptime; or [`BUSY`].
    waiting_since: AtomicU64,
    /// Bytes of answers that are held for it.
    held: AtomicUsize,
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
        let guests = Guests {
            connections: HashMap::new(),
            next: 0,
            departed: 0,
            departing: 0,
            accepting: true,
            stopping: false,
        };
        let (guests, changed) = (Mutex::new(guests), Condvar::new());
        let turns = Turns::for_this_machine();
        let held = AtomicUsize::new(0);
        House { name, limits, handler, clock, turns, metrics, guests, changed, held }
    }

    /// The accept loop has come to its end.
    pub(super) fn accepting_ended(&self) {
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

    /// How many connections have a thread.
    pub(super) fn inhabitants(&self) -> usize {
        self.guests().connections.len()
    }

    /// Is there no place for one more, beside those on the porch?
    pub(super) fn is_full(&self, on_porch: usize) -> bool {
        self.is_full_with(&self.guests(), on_porch)
    }

    fn is_full_with(&self, guests: &Guests, on_porch: usize) -> bool {
        guests.connections.len() + on_porch >= self.limits.connections
    }

    /// Frees a place, if need be that of the one who has kept us waiting longest. Says whether one
    /// became free in time.
    pub(super) fn make_room(&self, on_porch: usize) -> bool {
        self.send_away_until(PLACE_WAIT, |guests| !self.is_full_with(guests, on_porch))
    }

    /// Frees what a connection holds of the system. Says whether it became free in time.
    pub(super) fn make_room_in_shortage(&self) -> bool {
        let departed = self.guests().departed;
        self.send_away_until(SHORTAGE_PAUSE, |guests| guests.departed > departed)
    }

    /// Gives the connection a thread. Whoever has asked already doesn't keep us waiting.
    pub(super) fn let_in(self: &Arc<House>, stream: TcpStream, has_asked: bool) {
        let (waiting_since, held) = (AtomicU64::new(BUSY), AtomicUsize::new(0));
        let guest = Arc::new(Guest { stream, waiting_since, held });
        if !has_asked {
            guest.waits(self.clock.now().uptime);
        }
        let number = self.enter(guest.clone());
        let house = self.clone();
        let started = threads::spawn(self.name, move || {
            let _place = Place { house: &house, number };
            // Closed before its place is given back.
            let guest = guest;
            connection::serve(&house, &guest);
        });
        if let Err(error) = started {
            log::warn!("{}: no thread for a connection: {error}", self.name);
            self.refused("no-thread");
            self.leave(number);
        }
    }

    /// Counts bytes that are held for a guest, if they fit into the budget.
    pub(super) fn hold(&self, guest: &Guest, bytes: usize) -> bool {
        let had = self.try_to_hold(guest, bytes)
            || (self.send_unread_away(bytes) && self.try_to_hold(guest, bytes));
        if !had {
            self.refused("no-room");
        }
        had
    }

    fn try_to_hold(&self, guest: &Guest, bytes: usize) -> bool {
        let with_them =
            |held: usize| Some(held + bytes).filter(|sum| *sum <= self.limits.held_bytes);
        let fit = self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, with_them).is_ok();
        if fit {
            guest.held.fetch_add(bytes, Ordering::SeqCst);
        }
        fit
    }

    pub(super) fn hold_no_longer(&self, guest: &Guest, bytes: usize) {
        guest.held.fetch_sub(bytes, Ordering::SeqCst);
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Sends away whoever has taken nothing of a long answer for long, if that makes enough room for
    /// these bytes: nobody has to go in vain. Says whether there is room in time.
    fn send_unread_away(&self, bytes: usize) -> bool {
        let lacking =
            || (self.held.load(Ordering::SeqCst) + bytes).saturating_sub(self.limits.held_bytes);
        let long_ago = self.clock.now().uptime.saturating_sub(PATIENCE).as_micros() as u64;
        let mut guests = self.guests();
        let mut unread: Vec<_> = guests
            .connections
            .values()
            .map(|guest| (guest.waiting_since.load(Ordering::Relaxed), guest))
            .map(|(since, guest)| (since, guest.held.load(Ordering::SeqCst), guest))
            .filter(|(since, held, _)| *since <= long_ago && *held > 0)
            .collect();
        unread.sort_unstable_by_key(|(since, ..)| *since);
        let (needed, mut freed, mut count) = (lacking(), 0, 0);
        while freed < needed {
            let Some((_, held, _)) = unread.get(count) else { return false };
            freed += held;
            count += 1;
        }
        for (.., guest) in &unread[..count] {
            guest.send_away();
            self.refused("unread");
        }
        guests.departing += count;
        let waited = self.changed.wait_timeout_while(guests, PLACE_WAIT, |_| lacking() > 0);
        drop(waited);
        lacking() == 0
    }

    fn enter(&self, guest: Arc<Guest>) -> u64 {
        let mut guests = self.guests();
        let number = guests.next;
        guests.next += 1;
        guests.connections.insert(number, guest);
        number
    }

    fn leave(&self, number: u64) {
        let mut guests = self.guests();
        guests.connections.remove(&number);
        guests.departed += 1;
        guests.departing = guests.departing.saturating_sub(1);
        drop(guests);
        self.changed.notify_all();
    }

    /// Waits until there is enough, and sends away if nobody is on the way out already.
    fn send_away_until(&self, limit: Duration, enough: impl Fn(&Guests) -> bool) -> bool {
        let mut guests = self.guests();
        if !enough(&guests) && guests.departing == 0 {
            self.send_longest_waiting_away(&mut guests);
        }
        let lacking = |guests: &mut Guests| !enough(guests) && !guests.stopping;
        let waited = self.changed.wait_timeout_while(guests, limit, lacking);
        let (mut guests, timeout) = waited.unwrap_or_else(|held| held.into_inner());
        if timeout.timed_out() {
            // Whoever was told to go takes long; others must be told.
            guests.departing = 0;
        }
        enough(&guests)
    }

    /// Several at once: a crowd is then let in, and out, faster than the system's queue of waiting
    /// connections fills up. Behind a full queue an honest client would wait a second for its next
    /// try.
    fn send_longest_waiting_away(&self, guests: &mut Guests) {
        let waiting_since = |guest: &Arc<Guest>| guest.waiting_since.load(Ordering::Relaxed);
        let mut waiting: Vec<_> =
            guests.connections.values().map(|guest| (waiting_since(guest), guest)).collect();
        waiting.retain(|(since, _)| *since != BUSY);
        waiting.sort_unstable_by_key(|(since, _)| *since);
        waiting.truncate(self.limits.connections.div_ceil(MADE_ROOM_SHARE));
        for (_, guest) in &waiting {
            guest.send_away();
            self.refused("made-room");
        }
        guests.departing = waiting.len();
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

#[cfg(test)]
mod tests {
    use super::super::{Body, Limits, Request, Response, Room};
    use super::{Guest, House, PATIENCE};
    use crate::clock::{Clock, Now};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    /// A house with a budget of 100 bytes, in invented time.
    fn house() -> (Arc<House>, Clock) {
        let now = Now { uptime: Duration::from_secs(60), wall: jiff::Timestamp::UNIX_EPOCH };
        let clock = Clock::invented(now);
        let limits = Limits { held_bytes: 100, ..Limits::default() };
        let handler = Arc::new(|_: &Request| Response::new(200, Body::Empty));
        let house = House::new("budget", limits, handler, clock.clone(), Arc::default());
        (Arc::new(house), clock)
    }

    /// A guest who waits from now on, with the client's end of the connection.
    fn guest(house: &House) -> (u64, Arc<Guest>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let (waiting_since, held) = (AtomicU64::new(0), AtomicUsize::new(0));
        let guest = Arc::new(Guest { stream, waiting_since, held });
        guest.waits(house.clock.now().uptime);
        (house.enter(guest.clone()), guest, client)
    }

    #[test]
    fn no_more_is_held_than_the_budget_and_what_is_given_back_is_had_again() {
        let (house, _) = house();
        let (_, one, _client) = guest(&house);
        let room = Room::of(&house, &one);
        let mut share = room.take(60).unwrap();
        assert!(room.take(41).is_none() && !share.grow(41));
        assert!(share.grow(40) && room.take(1).is_none());
        share.shrink_to(30);
        assert!(room.take(70).is_some());
        drop(share);
        assert!(room.take(100).is_some() && room.take(101).is_none());
        assert_eq!(house.held.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn who_takes_nothing_for_long_has_to_go_for_another_and_nobody_in_vain() {
        let (house, clock) = house();
        let (number, idle, _idle_client) = guest(&house);
        let (_, newcomer, _client) = guest(&house);
        let (held, own) = (Room::of(&house, &idle).take(60).unwrap(), Room::of(&house, &newcomer));
        let is_there = || idle.waiting_since.load(Ordering::Relaxed) != super::BUSY;
        assert!(own.take(50).is_none() && is_there(), "nobody has waited for long");
        clock.advance(PATIENCE);
        let own_share = own.take(40).unwrap();
        newcomer.works();
        assert!(own.take(70).is_none() && is_there(), "it wouldn't be enough");
        let had = std::thread::scope(|scope| {
            scope.spawn(|| {
                while is_there() {
                    std::thread::yield_now();
                }
                drop(held);
                house.leave(number);
            });
            own.take(60)
        });
        // On a busy machine the one who had to go may need longer than is waited for it.
        assert!(had.is_some() || own.take(60).is_some());
        drop(own_share);
    }
}
