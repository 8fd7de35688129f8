//! What waits to be written, and what of it comes next.
//!
//! Pure: time is an argument, and there is at most one write under way. The newest wish per object
//! replaces an older one, so memory is bounded by the number of objects. An object that fails waits
//! by itself; a server that fails is probed with one write at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::{RawValue, to_raw_value};

use super::events::{EventKey, EventKind, EventWrite, Events, Reporter, namespace_of};
use super::secrets::SecretManifest;
use crate::clock::Now;
use crate::kube::backoff::Backoff;
use crate::kube::objects::ObjectReference;

/// The wait after an object's or the server's first failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest wait: so long after the API is back the newest status is written at the latest.
const BACKOFF_MOST: Duration = Duration::from_secs(15);
/// So many failures of the server in a row, without a success, and it counts as having been down.
const DOWN_AFTER: u32 = 3;
/// A `Retry-After` above this is taken for a mistake.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(120);
/// Events are told for as long as somebody may still want to know: not longer than this.
const EVENT_ATTEMPTS: u32 = 5;
/// How soon it is asked again whether anything may be written.
const HELD_BACK_FOR: Duration = Duration::from_millis(100);
/// Events that may wait; further ones are only counted.
const EVENTS_WAITING: usize = 500;

/// What a write is about; in the order in which they are preferred.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Status { namespace: String, name: String, plural: &'static str },
    Secret { namespace: String, name: String },
    Event(EventKey),
}

/// A status as compact JSON: as a tree it would take ten times the room, for each object.
#[derive(Clone, Debug)]
pub struct StatusText(pub Arc<RawValue>);

impl StatusText {
    /// Writes a status down; fails where it isn't one, for want of texts as keys.
    pub fn of(status: &impl Serialize) -> serde_json::Result<StatusText> {
        Ok(StatusText(to_raw_value(status)?.into()))
    }

    /// Names of its fields; none where it isn't an object.
    pub fn fields(&self) -> BTreeSet<String> {
        let fields = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(self.0.get());
        fields.unwrap_or_default().into_keys().collect()
    }
}

impl PartialEq for StatusText {
    fn eq(&self, other: &StatusText) -> bool {
        self.0.get() == other.0.get()
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// Apply a status.
    Status {
        /// Whose.
        object: ObjectReference,
        /// All of it.
        status: StatusText,
    },
    /// See to a Secret.
    Secret(SecretManifest),
    /// Tell of an event.
    Event {
        /// Which.
        key: EventKey,
        /// Where it is kept.
        namespace: String,
        /// What is sent.
        write: EventWrite,
    },
}

impl Key {
    fn of_status(object: &ObjectReference) -> Key {
        Key::Status {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            plural: object.resource.plural,
        }
    }
}

impl Job {
    fn key(&self) -> Key {
        match self {
            Job::Status { object, .. } => Key::of_status(object),
            Job::Secret(secret) => {
                Key::Secret { namespace: secret.namespace.clone(), name: secret.name.clone() }
            }
            Job::Event { key, .. } => Key::Event(key.clone()),
        }
    }
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Write this, then tell [`Pending::finished`].
    Write(Box<Job>),
    /// Nothing for so long; none: until something new comes.
    Wait(Option<Duration>),
    /// Nothing ever more.
    End,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written.
    Done,
    /// The object isn't there any more.
    Gone,
    /// It will never be accepted.
    Refused,
    /// It failed, and may succeed later.
    Retry,
    /// The server, or the way to it, failed.
    ServerTrouble {
        /// It asked to be left alone for so long.
        retry_after: Option<Duration>,
    },
}

/// A wish that waits. Events are made when their turn comes, from the count they have by then.
enum Wish {
    Write(Job),
    Event(EventKey),
}

struct Waiting {
    wish: Wish,
    /// Turns are taken in this order.
    turn: u64,
    not_before: Duration,
    backoff: Backoff,
    /// The object went while this was under way: nothing is to come of it any more.
    is_forgotten: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Running,
    /// Each wish gets one more attempt; the first trouble of the server is the end.
    Draining,
    Ended,
}

/// All that waits.
pub struct Pending {
    waiting: BTreeMap<Key, Waiting>,
    under_way: Option<Waiting>,
    /// The last status written, by its object: an equal one is no news.
    written: BTreeMap<Key, (String, StatusText)>,
    events: Events,
    /// Nothing is written before this.
    closed_until: Duration,
    server: Backoff,
    mode: Mode,
    turns: u64,
    rng: fastrand::Rng,
}

impl Pending {
    /// Nothing waits yet.
    pub fn new(reporter: Reporter, rng: fastrand::Rng) -> Pending {
        Pending {
            waiting: BTreeMap::new(),
            under_way: None,
            written: BTreeMap::new(),
            events: Events::new(reporter),
            closed_until: Duration::ZERO,
            server: Backoff::new(BACKOFF_FIRST, BACKOFF_MOST),
            mode: Mode::Running,
            turns: 0,
            rng,
        }
    }

    /// Wants a status written, unless it is what is written already.
    pub fn put_status(&mut self, object: ObjectReference, status: StatusText) {
        let key = Key::of_status(&object);
        let is_under_way = self.under_way.as_ref().is_some_and(|waiting| match &waiting.wish {
            Wish::Write(known) => known.key() == key,
            Wish::Event(_) => false,
        });
        // What is being written now decides what the newest is, however it ends.
        let is_written = |(uid, written): &(_, _)| *uid == object.uid && *written == status;
        if !is_under_way && self.written.get(&key).is_some_and(is_written) {
            self.waiting.remove(&key);
            return;
        }
        self.put(key, Wish::Write(Job::Status { object, status }));
    }

    /// Wants a Secret seen to.
    pub fn put_secret(&mut self, secret: SecretManifest) {
        let job = Job::Secret(secret);
        self.put(job.key(), Wish::Write(job));
    }

    /// Wants an event told.
    pub fn put_event(
        &mut self,
        regarding: ObjectReference,
        kind: EventKind,
        reason: &str,
        note: &str,
        now: Now,
    ) {
        let event = EventKey::new(regarding, kind, reason, note);
        let is_allowed = self.events.count(&event, now, &mut self.rng);
        let key = Key::Event(event.clone());
        let events = self.waiting.keys().filter(|key| matches!(key, Key::Event(_))).count();
        if self.waiting.contains_key(&key) || !is_allowed || events >= EVENTS_WAITING {
            return;
        }
        self.put(key, Wish::Event(event));
    }

    /// Drops what waits for an object, and what is remembered of it.
    pub fn forget(&mut self, object: &ObjectReference) {
        let key = Key::of_status(object);
        let is_same = |wish: &Wish| match wish {
            Wish::Write(Job::Status { object: known, .. }) => known.uid == object.uid,
            _ => false,
        };
        if self.waiting.get(&key).is_some_and(|waiting| is_same(&waiting.wish)) {
            self.waiting.remove(&key);
        }
        if self.written.get(&key).is_some_and(|(uid, _)| *uid == object.uid) {
            self.written.remove(&key);
        }
        self.forget_secret(object);
        if let Some(under_way) = &mut self.under_way {
            under_way.is_forgotten |= match &under_way.wish {
                Wish::Write(Job::Status { object: known, .. }) => known == object,
                Wish::Write(Job::Secret(_) | Job::Event { .. }) => false,
                Wish::Event(event) => event.regarding == *object,
            };
        }
        self.events.forget(object);
    }

    /// Drops what waits for the Secret of this owner.
    pub fn forget_secret(&mut self, owner: &ObjectReference) {
        let is_its = |wish: &Wish| match wish {
            Wish::Write(Job::Secret(secret)) => secret.owner == *owner,
            _ => false,
        };
        self.waiting.retain(|_, waiting| !is_its(&waiting.wish));
        if let Some(under_way) = &mut self.under_way {
            under_way.is_forgotten |= is_its(&under_way.wish);
        }
    }

    /// What to do while nothing may be written: everything stays as it is, unless it is to end.
    pub fn held_back(&self) -> Next {
        match self.mode {
            Mode::Running => Next::Wait(Some(HELD_BACK_FOR)),
            Mode::Draining | Mode::Ended => Next::End,
        }
    }

    /// What to write next; statuses and Secrets before events, and whoever waits longest first.
    pub fn next(&mut self, now: Now) -> Next {
        loop {
            if self.mode == Mode::Ended || (self.mode == Mode::Draining && self.waiting.is_empty())
            {
                return Next::End;
            }
            let due_at = |waiting: &Waiting| waiting.not_before.max(self.closed_until);
            let due = self.waiting.iter().filter(|(_, waiting)| due_at(waiting) <= now.uptime);
            let first =
                due.min_by_key(|(key, waiting)| (matches!(key, Key::Event(_)), waiting.turn));
            let Some(key) = first.map(|(key, _)| key.clone()) else {
                if self.mode == Mode::Draining {
                    return Next::End;
                }
                let soonest = self.waiting.values().map(due_at).min();
                return Next::Wait(soonest.map(|at| at.saturating_sub(now.uptime)));
            };
            let Some(waiting) = self.waiting.remove(&key) else { continue };
            let job = match &waiting.wish {
                Wish::Write(job) => job.clone(),
                Wish::Event(event) => match self.events.write(event) {
                    Some(write) => {
                        let namespace = namespace_of(&event.regarding.namespace).to_owned();
                        Job::Event { key: event.clone(), namespace, write }
                    }
                    // It was forgotten in the meantime.
                    None => continue,
                },
            };
            self.under_way = Some(waiting);
            return Next::Write(Box::new(job));
        }
    }

    /// Takes what came of the write.
    pub fn finished(&mut self, job: Job, outcome: Outcome, now: Now) {
        let Some(waiting) = self.under_way.take() else { return };
        let key = job.key();
        match outcome {
            Outcome::ServerTrouble { retry_after } => self.server_failed(retry_after, now),
            _ => self.server_answered(now),
        }
        if waiting.is_forgotten {
            return;
        }
        match (outcome, job) {
            (Outcome::Done, Job::Status { object, status }) => {
                let is_news = self.waiting.get(&key).is_some_and(|newer| match &newer.wish {
                    Wish::Write(Job::Status { object: newer, status: newest }) => {
                        newer.uid != object.uid || *newest != status
                    }
                    _ => true,
                });
                if !is_news {
                    self.waiting.remove(&key);
                }
                self.written.insert(key, (object.uid, status));
            }
            (Outcome::Done, Job::Event { key, .. }) => self.events.created(&key),
            (Outcome::Gone, Job::Status { .. }) => {
                self.written.remove(&key);
            }
            (Outcome::Gone | Outcome::Refused, Job::Event { key, .. }) => {
                self.events.forgotten(&key);
            }
            (Outcome::Done | Outcome::Gone | Outcome::Refused, _) => {}
            (Outcome::Retry | Outcome::ServerTrouble { .. }, _) => {
                self.try_again(key, waiting, now);
            }
        }
    }

    /// Gives each wish one more attempt, and then ends.
    pub fn drain(&mut self) {
        if self.mode == Mode::Running {
            self.mode = Mode::Draining;
            self.closed_until = Duration::ZERO;
            for waiting in self.waiting.values_mut() {
                waiting.not_before = Duration::ZERO;
            }
        }
    }

    /// Ends without a further attempt.
    pub fn abandon(&mut self) {
        self.mode = Mode::Ended;
    }

    /// Is nothing left to write?
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    fn put(&mut self, key: Key, wish: Wish) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.wish = wish;
            return;
        }
        self.turns += 1;
        let backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MOST);
        let waiting = Waiting {
            wish,
            turn: self.turns,
            not_before: Duration::ZERO,
            backoff,
            is_forgotten: false,
        };
        self.waiting.insert(key, waiting);
    }

    fn server_failed(&mut self, retry_after: Option<Duration>, now: Now) {
        let wait = self.server.after_failure(&mut self.rng);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MOST);
        self.closed_until = now.uptime.saturating_add(wait.max(asked));
        if self.mode == Mode::Draining {
            self.mode = Mode::Ended;
        }
    }

    fn server_answered(&mut self, now: Now) {
        if self.server.failures() >= DOWN_AFTER {
            // It was down for everybody, so nobody's failures were its own.
            for waiting in self.waiting.values_mut() {
                waiting.not_before = now.uptime;
                waiting.backoff.reset();
            }
        }
        self.server.reset();
    }

    /// Puts a failed wish back, behind all others; a newer one keeps its place and takes the wait.
    fn try_again(&mut self, key: Key, mut waiting: Waiting, now: Now) {
        let wait = waiting.backoff.after_failure(&mut self.rng);
        let attempts = waiting.backoff.failures();
        let not_before = now.uptime.saturating_add(wait);
        match (self.waiting.get_mut(&key), &key) {
            (Some(newer), _) => {
                newer.not_before = not_before;
                newer.backoff = waiting.backoff;
            }
            (None, Key::Event(event)) if attempts >= EVENT_ATTEMPTS => {
                self.events.forgotten(event);
            }
            (None, _) => {
                self.turns += 1;
                waiting.turn = self.turns;
                waiting.not_before = not_before;
                self.waiting.insert(key, waiting);
            }
        }
    }
}

#[cfg(test)]
mod tests;
