//! Writes of one kind that are still to be made, and which of them is next.
//!
//! Pure: time is an argument. The newest write of a key replaces an older one, so memory is bounded
//! by the number of keys. Writes of one key are made one after the other; those of several keys may
//! be in flight at once. A key that fails waits by itself. A server that fails is tried with one
//! write at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::error::KubeError;
use crate::backoff::Backoff;

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The newest write is made this long after the API server is back, at the latest.
const BACKOFF_MOST: Duration = Duration::from_secs(15);
/// After so many failures of the server in a row the failures of single keys count as its own.
const OUTAGE_AFTER: u32 = 3;
/// A longer `Retry-After` is taken for a mistake.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(120);
/// How soon a replica that may not write looks again whether it may.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The time between two writes that only refresh: a hundred a second.
const REFRESH_INTERVAL: Duration = Duration::from_millis(10);

/// Which writes go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// It tells something new.
    Change,
    /// It only says that nothing has changed; such writes are spread.
    Refresh,
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub enum Next<K, W> {
    /// Make this write, then call [`WriteQueue::finished`].
    Write(K, W),
    /// Nothing for so long; none: until the queue changes.
    Wait(Option<Duration>),
    /// Nothing ever again.
    End,
}

/// Why a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It will never be accepted.
    Invalid,
    /// The right is missing.
    Forbidden,
    /// It may succeed later.
    Retry,
    /// The server, or the way to it, failed.
    Server {
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
}

impl From<&KubeError> for Failure {
    fn from(error: &KubeError) -> Failure {
        let status = error.status();
        if error.is_server_trouble() {
            Failure::Server { retry_after: status.retry_after }
        } else if status.is_invalid() || status.is_field_manager_conflict() {
            Failure::Invalid
        } else if status.is_forbidden() {
            Failure::Forbidden
        } else {
            Failure::Retry
        }
    }
}

/// Which write goes first: the lowest. The number is lower the older the write is.
type Place = (Priority, u64);

struct Entry<W> {
    write: W,
    place: Place,
    not_before: Duration,
    backoff: Backoff,
    /// Dropped while in flight: not to be tried again.
    is_dropped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Running,
    /// Each write gets one more attempt; the first failure of the server is the end.
    Draining,
    Ended,
}

/// The queue.
pub struct WriteQueue<K, W> {
    waiting: BTreeMap<K, Entry<W>>,
    /// The keys of what waits, in order.
    order: BTreeMap<Place, K>,
    in_flight: BTreeMap<K, Entry<W>>,
    /// Keys whose failure was logged.
    failing: BTreeSet<K>,
    /// A failure that concerns all keys was logged, and no write has succeeded since.
    is_failing_for_all: bool,
    /// A key is given up after so many attempts; none: never.
    attempts: Option<u32>,
    /// Because of the server.
    blocked_until: Duration,
    /// The next write that only refreshes may begin.
    refresh_from: Duration,
    server: Backoff,
    mode: Mode,
    added: u64,
    rng: fastrand::Rng,
}

impl<K: Ord + Clone, W: Clone> WriteQueue<K, W> {
    /// An empty queue.
    pub fn new(attempts: Option<u32>, rng: fastrand::Rng) -> WriteQueue<K, W> {
        WriteQueue {
            waiting: BTreeMap::new(),
            order: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            failing: BTreeSet::new(),
            is_failing_for_all: false,
            attempts,
            blocked_until: Duration::ZERO,
            refresh_from: Duration::ZERO,
            server: new_backoff(),
            mode: Mode::Running,
            added: 0,
            rng,
        }
    }

    /// Adds a write, in place of one of the same key that waits.
    pub fn put(&mut self, key: K, write: W, priority: Priority) {
        if let Some(mut waiting) = self.remove(&key) {
            waiting.write = write;
            waiting.place.0 = waiting.place.0.min(priority);
            self.insert(key, waiting);
            return;
        }
        // What a refresh repeats is perhaps not what the write in flight says.
        let priority = if self.in_flight.contains_key(&key) { Priority::Change } else { priority };
        self.added += 1;
        let (place, not_before, backoff) = ((priority, self.added), Duration::ZERO, new_backoff());
        self.insert(key, Entry { write, place, not_before, backoff, is_dropped: false });
    }

    fn insert(&mut self, key: K, entry: Entry<W>) {
        self.order.insert(entry.place, key.clone());
        self.waiting.insert(key, entry);
    }

    fn remove(&mut self, key: &K) -> Option<Entry<W>> {
        let entry = self.waiting.remove(key)?;
        self.order.remove(&entry.place);
        Some(entry)
    }

    /// Drops what waits under these keys; what is in flight is not tried again.
    pub fn drop_where(&mut self, mut is_meant: impl FnMut(&K) -> bool) {
        self.waiting.retain(|key, _| !is_meant(key));
        self.order.retain(|_, key| self.waiting.contains_key(key));
        self.failing.retain(|key| !is_meant(key));
        for (key, entry) in &mut self.in_flight {
            entry.is_dropped |= is_meant(key);
        }
    }

    /// What to do at this uptime, if this replica may write.
    pub fn next(&mut self, now: Duration, may_write: bool) -> Next<K, W> {
        let is_draining = self.mode == Mode::Draining;
        let is_idle = self.waiting.is_empty();
        if self.mode == Mode::Ended || (is_draining && (is_idle || !may_write)) {
            return Next::End;
        }
        if is_idle || (self.server.failures() > 0 && !self.in_flight.is_empty()) {
            return Next::Wait(None);
        }
        if !may_write {
            return Next::Wait(Some(LOOK_AGAIN));
        }
        let refresh_from = if is_draining { Duration::ZERO } else { self.refresh_from };
        let (mut due, mut soonest) = (None, None::<Duration>);
        for ((priority, _), key) in &self.order {
            let Some(entry) = self.waiting.get(key) else { continue };
            if self.in_flight.contains_key(key) {
                continue;
            }
            let from = if *priority == Priority::Refresh { refresh_from } else { Duration::ZERO };
            let earliest = self.blocked_until.max(from);
            let due_at = entry.not_before.max(earliest);
            if due_at <= now {
                due = Some(key.clone());
                break;
            }
            soonest = Some(soonest.map_or(due_at, |soonest| soonest.min(due_at)));
            // None of those behind it can be due sooner.
            if due_at == earliest {
                break;
            }
        }
        let Some(key) = due else {
            if is_draining {
                return Next::End;
            }
            return Next::Wait(soonest.map(|at| at.saturating_sub(now)));
        };
        let Some(entry) = self.remove(&key) else { return Next::Wait(None) };
        if entry.place.0 == Priority::Refresh {
            self.refresh_from = now.saturating_add(REFRESH_INTERVAL);
        }
        let write = entry.write.clone();
        self.in_flight.insert(key.clone(), entry);
        Next::Write(key, write)
    }

    /// Takes the result of a write; says whether it is worth a line in the log: a failure of a key
    /// whose write did not fail before, or a success after that.
    pub fn finished(&mut self, key: &K, result: Result<(), Failure>, now: Duration) -> bool {
        let Some(mut entry) = self.in_flight.remove(key) else { return false };
        match result {
            Err(Failure::Server { retry_after }) => self.server_failed(retry_after, now),
            _ => self.server_answered(now),
        }
        let Err(failure) = result else {
            self.is_failing_for_all = false;
            return self.failing.remove(key);
        };
        if entry.is_dropped {
            return false;
        }
        let is_news = self.began_to_fail(key, failure);
        entry.not_before = now.saturating_add(entry.backoff.after_failure(&mut self.rng));
        let is_given_up = self
            .attempts
            .is_some_and(|most| failure == Failure::Forbidden || entry.backoff.failures() >= most);
        if is_given_up {
            self.failing.remove(key);
        }
        if is_given_up || failure == Failure::Invalid {
            return is_news;
        }
        if let Some(newer) = self.remove(key) {
            // It keeps its place and takes over the wait.
            (entry.write, entry.place) = (newer.write, newer.place);
        } else {
            self.added += 1;
            entry.place.1 = self.added;
        }
        self.insert(key.clone(), entry);
        is_news
    }

    /// Gives each write one more attempt, and then ends.
    pub(crate) fn drain(&mut self) {
        if self.mode == Mode::Running {
            self.mode = Mode::Draining;
            self.blocked_until = Duration::ZERO;
            for entry in self.waiting.values_mut() {
                entry.not_before = Duration::ZERO;
            }
        }
    }

    /// Ends without a further attempt.
    pub fn abandon(&mut self) {
        self.mode = Mode::Ended;
    }

    /// How many writes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Is nothing left to write?
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Notes a failure; says whether it is to be logged. An outage is logged with the first key that
    /// meets it, not with each.
    fn began_to_fail(&mut self, key: &K, failure: Failure) -> bool {
        let concerns_all = matches!(failure, Failure::Server { .. } | Failure::Forbidden);
        if (concerns_all && self.is_failing_for_all) || self.failing.contains(key) {
            return false;
        }
        self.is_failing_for_all |= concerns_all;
        self.failing.insert(key.clone());
        true
    }

    fn server_failed(&mut self, retry_after: Option<Duration>, now: Duration) {
        let mut wait = retry_after.unwrap_or_default().min(RETRY_AFTER_MOST);
        // Writes that were in flight together fail together, which is one failure of the server.
        if now >= self.blocked_until {
            wait = wait.max(self.server.after_failure(&mut self.rng));
        }
        self.blocked_until = self.blocked_until.max(now.saturating_add(wait));
        if self.mode == Mode::Draining {
            self.mode = Mode::Ended;
        }
    }

    fn server_answered(&mut self, now: Duration) {
        if self.server.failures() >= OUTAGE_AFTER {
            for entry in self.waiting.values_mut() {
                entry.not_before = now;
                entry.backoff.reset();
            }
        }
        self.server.reset();
    }
}

fn new_backoff() -> Backoff {
    Backoff::new(BACKOFF_FIRST, BACKOFF_MOST)
}

#[cfg(test)]
mod tests;
