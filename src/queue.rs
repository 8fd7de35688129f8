//! Which object is synced next: pure, no clock, no threads.
//!
//! Keys, not objects: what an object looks like is read when its sync starts. A key is in one of
//! these states, and the invariants stand beside the fields that keep them:
//!
//! ```text
//!            add, timer                 next                 finish
//!   absent ------------> waiting/due ---------> busy --------------------> waiting (again at)
//!                             ^                  |  add: due again, once
//!                             +------------------+
//! ```
//!
//! Fairness: among due objects the group (the cloud provider) with the fewest running syncs comes
//! first, then the one due longest. No group may hold more than its share of the workers while
//! others exist, and the last idle worker is kept for a group that holds none: one slow cloud
//! can't take them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// The queue; times are uptimes, see [`crate::clock::Now`].
#[derive(Debug)]
pub struct Queue<K> {
    workers: usize,
    /// Every known key is here, and its group in `groups`.
    entries: HashMap<K, Entry>,
    /// Exactly the keys that wait (not busy, with a time), ordered by due time.
    waiting: BTreeSet<Place<K>>,
    /// Exactly the keys whose time has come, by group, ordered by the time they became due.
    due: BTreeMap<String, BTreeSet<Place<K>>>,
    /// Running syncs by group; absent means none.
    running: BTreeMap<String, usize>,
    /// Known keys by group; absent means none.
    groups: BTreeMap<String, usize>,
    busy: usize,
    /// Moves with each key that is queued: of two due at one time, who came first goes first.
    arrivals: u64,
    /// Keys whose time has come, since somebody last asked.
    became_due: u64,
}

/// When a key is due, its place among those due at the same time, and the key.
type Place<K> = (Duration, u64, K);

#[derive(Debug)]
struct Entry {
    group: String,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// In `waiting` at this time, or in `due` since this time.
    Queued { at: Duration, arrival: u64, due: bool },
    /// With a worker; `again` says when it is due after that, whatever the worker's own wish.
    /// `group` is the one it was taken under; a `removed` one is forgotten when its worker is done.
    Busy { group: String, again: Option<Duration>, removed: bool, taken: Taken },
    /// Known, with nothing planned.
    Idle,
}

/// When a worker took a key; nothing is decided by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    at: Duration,
    due_since: Duration,
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// An empty queue for that many workers.
    pub fn new(workers: usize) -> Queue<K> {
        Queue {
            workers: workers.max(1),
            entries: HashMap::new(),
            waiting: BTreeSet::new(),
            due: BTreeMap::new(),
            running: BTreeMap::new(),
            groups: BTreeMap::new(),
            busy: 0,
            arrivals: 0,
            became_due: 0,
        }
    }

    /// Makes a key due at `at`, or earlier if it already was. Given while it is busy, it comes once
    /// more afterwards. `group` replaces the group it had.
    pub fn add(&mut self, key: &K, group: &str, at: Duration) {
        self.set_group(key, group);
        let Some(entry) = self.entries.get_mut(key) else { return };
        match &mut entry.state {
            State::Busy { again, removed, .. } => {
                *again = Some(again.map_or(at, |known| known.min(at)));
                *removed = false;
            }
            State::Queued { at: known, .. } if *known <= at => {}
            State::Queued { .. } | State::Idle => {
                self.unqueue(key);
                self.queue(key, at);
            }
        }
    }

    /// The next key to sync, if one is due, a worker is free and its group may have another. The
    /// key is busy until [`Queue::finish`].
    pub fn next(&mut self, now: Duration) -> Option<K> {
        self.ripen(now);
        let idle = self.workers.checked_sub(self.busy).filter(|idle| *idle > 0)?;
        let share = self.share();
        let (group, _) = self
            .due
            .iter()
            .filter(|(group, _)| self.may_run(group, idle, share))
            .filter_map(|(group, keys)| Some((group, keys.first()?)))
            .min_by_key(|(group, first)| (self.running_of(group), first.0))?;
        let group = group.clone();
        let keys = self.due.get_mut(&group)?;
        let (due_since, _, key) = keys.pop_first()?;
        if keys.is_empty() {
            self.due.remove(&group);
        }
        *self.running.entry(group.clone()).or_default() += 1;
        self.busy += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            let taken = Taken { at: now, due_since };
            entry.state = State::Busy { group, again: None, removed: false, taken };
        }
        Some(key)
    }

    /// A worker is done with the key, which is due again at `again_at`, or earlier if something
    /// was added meanwhile. A key removed meanwhile is forgotten.
    pub fn finish(&mut self, key: &K, again_at: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let State::Busy { group, again, removed, .. } = &entry.state else { return };
        self.busy -= 1;
        decrease(&mut self.running, group);
        let (again, removed) = (*again, *removed);
        entry.state = State::Idle;
        if removed {
            self.remove(key);
        } else if let Some(at) = again.into_iter().chain(again_at).min() {
            self.queue(key, at);
        }
    }

    /// Forgets a key and its timers. While it is busy no other worker gets it, not even when it
    /// is added again.
    pub fn remove(&mut self, key: &K) {
        self.unqueue(key);
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let State::Busy { again, removed, .. } = &mut entry.state {
            (*again, *removed) = (None, true);
        } else if let Some(entry) = self.entries.remove(key) {
            decrease(&mut self.groups, &entry.group);
        }
    }

    /// When the next waiting key becomes due; `None` if nothing waits. Keys that are due already
    /// wait for a worker, not for time.
    pub fn next_due(&self) -> Option<Duration> {
        self.waiting.first().map(|(at, ..)| *at)
    }

    /// When a key is due next, if that is planned.
    pub fn due_at(&self, key: &K) -> Option<Duration> {
        match &self.entries.get(key)?.state {
            State::Queued { at, .. } => Some(*at),
            State::Busy { again, .. } => *again,
            State::Idle => None,
        }
    }

    /// Is the key with a worker?
    pub fn is_busy(&self, key: &K) -> bool {
        matches!(self.entries.get(key), Some(Entry { state: State::Busy { .. }, .. }))
    }

    /// Keys that are due and wait for a worker.
    pub fn depth(&self) -> usize {
        self.due.values().map(BTreeSet::len).sum()
    }

    /// How often a key became due since this was last asked.
    pub fn take_became_due(&mut self) -> u64 {
        std::mem::take(&mut self.became_due)
    }

    /// How long a key that is with a worker had been due when the worker took it.
    pub fn waited(&self, key: &K) -> Option<Duration> {
        let State::Busy { taken, .. } = &self.entries.get(key)?.state else { return None };
        Some(taken.at.saturating_sub(taken.due_since))
    }

    /// For how long each busy key has been with its worker; looks at every key.
    pub fn running_times(&self, now: Duration) -> impl Iterator<Item = Duration> {
        self.entries.values().filter_map(move |entry| match &entry.state {
            State::Busy { taken, .. } => Some(now.saturating_sub(taken.at)),
            _ => None,
        })
    }

    /// Keys that are with a worker.
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// How many workers one group may hold: all when it is alone, else half.
    fn share(&self) -> usize {
        if self.groups.len() <= 1 { self.workers } else { self.workers.div_ceil(2) }
    }

    fn may_run(&self, group: &str, idle: usize, share: usize) -> bool {
        let running = self.running_of(group);
        let alone = self.groups.len() <= 1;
        running < share && (alone || running == 0 || idle > 1)
    }

    fn running_of(&self, group: &str) -> usize {
        self.running.get(group).copied().unwrap_or_default()
    }

    fn ripen(&mut self, now: Duration) {
        while let Some((at, ..)) = self.waiting.first()
            && *at <= now
            && let Some((at, arrival, key)) = self.waiting.pop_first()
        {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.state = State::Queued { at, arrival, due: true };
                self.due.entry(entry.group.clone()).or_default().insert((at, arrival, key));
                self.became_due += 1;
            }
        }
    }

    fn set_group(&mut self, key: &K, group: &str) {
        match self.entries.get(key) {
            Some(entry) if entry.group == group => return,
            Some(entry) => {
                let queued_at = match entry.state {
                    State::Queued { at, .. } => Some(at),
                    _ => None,
                };
                self.unqueue(key);
                if let Some(entry) = self.entries.get_mut(key) {
                    decrease(&mut self.groups, &entry.group);
                    entry.group = group.to_owned();
                }
                if let Some(at) = queued_at {
                    self.queue(key, at);
                }
            }
            None => {
                let entry = Entry { group: group.to_owned(), state: State::Idle };
                self.entries.insert(key.clone(), entry);
            }
        }
        *self.groups.entry(group.to_owned()).or_default() += 1;
    }

    fn queue(&mut self, key: &K, at: Duration) {
        if let Some(entry) = self.entries.get_mut(key) {
            let arrival = self.arrivals;
            self.arrivals += 1;
            entry.state = State::Queued { at, arrival, due: false };
            self.waiting.insert((at, arrival, key.clone()));
        }
    }

    fn unqueue(&mut self, key: &K) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let State::Queued { at, arrival, due } = entry.state else { return };
        let place = (at, arrival, key.clone());
        if due {
            if let Some(keys) = self.due.get_mut(&entry.group) {
                keys.remove(&place);
                if keys.is_empty() {
                    self.due.remove(&entry.group);
                }
            }
        } else {
            self.waiting.remove(&place);
        }
        entry.state = State::Idle;
    }
}

fn decrease(counts: &mut BTreeMap<String, usize>, group: &str) {
    if let Some(count) = counts.get_mut(group) {
        *count -= 1;
        if *count == 0 {
            counts.remove(group);
        }
    }
}

#[cfg(test)]
mod tests;
