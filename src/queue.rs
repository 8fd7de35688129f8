//! Which objects are reconciled next, and which of them together. Pure: no clock, no threads.
//!
//! Keys, not objects: what an object looks like is read when its pass starts.
//!
//! ```text
//!            add            its time comes          next                finish
//!   absent -------> waiting --------------> due -----------> in a pass --------> waiting (again)
//! ```
//!
//! A pass takes all due keys of one scope and one lane, its batch. Of the batches that may start, this
//! order says which does:
//!
//! 1. one of Retry or Poll that has been due for [`PATIENCE`], while no such pass runs;
//! 2. Fresh;
//! 3. Notified;
//! 4. Retry and Poll.
//!
//! Within these: what has been due for [`PATIENCE`], the longest first; then the cloud with the fewest
//! passes; then the oldest object (Fresh) or the fewest VMs (the others).
//!
//! Which may start:
//!
//! - A cloud's share is all workers, or half of them, rounded up, while there are other clouds: one slow
//!   cloud can't hold up the others.
//! - Fresh: the last idle worker is for a scope without a Fresh pass, so that one slow scope can't hold
//!   up the new objects of the others. While a Fresh pass runs, the next one of its scope starts
//!   [`SPACING`] after it at the earliest: objects that are created together are in one or two passes,
//!   and don't take all workers if they hang.
//! - Notified: one pass of a scope at a time, and one in [`NOTIFIED_SPACING`], however many messages come.
//! - Retry and Poll: one pass each of a scope at a time. Retry and Poll together use at most one worker
//!   less than their cloud's share (but one at least), and leave the last idle worker to Fresh, unless
//!   it is the only worker or 1 applies.
//!
//! Passes end, so everything due comes to its pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;

use crate::reconcile::{Lane, Scope};

/// A batch that has been due for so long goes before those that became due after it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between the starts of two Fresh passes of one scope, while the first one runs.
const SPACING: Duration = Duration::from_millis(250);

/// Between the starts of two Notified passes of one scope.
const NOTIFIED_SPACING: Duration = Duration::from_secs(1);

/// What the order depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Which keys may share a pass.
    pub scope: Scope,
    /// When the object was created. In a pass the oldest comes first; of one second, by key.
    pub created: Timestamp,
    /// How many VMs the object names.
    pub vms: usize,
}

/// A pass for an idle worker, see [`Queue::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPass<K> {
    /// Names the pass in [`Queue::ended`].
    pub number: u64,
    /// The scope of its keys.
    pub scope: Scope,
    /// Their lane.
    pub lane: Lane,
    /// Its keys, the oldest first.
    pub keys: Vec<K>,
}

/// The queue; times are uptimes, see [`crate::clock::Now`].
#[derive(Debug)]
pub struct Queue<K> {
    workers: usize,
    batch_limit: usize,
    /// Every known key.
    entries: HashMap<K, Entry>,
    /// How many known keys each scope has; absent means none.
    scopes: BTreeMap<Scope, usize>,
    /// Exactly the keys in [`State::Waiting`].
    waiting: BTreeSet<(Duration, K)>,
    /// Exactly the keys in [`State::Due`]; none is empty.
    due: BTreeMap<(Scope, Lane), Batch<K>>,
    /// The passes that are with a worker, by number.
    running: BTreeMap<u64, Running>,
    /// When the last Notified pass of each scope started, if that is younger than [`NOTIFIED_SPACING`].
    notified: BTreeMap<Scope, Duration>,
    /// Uptime at which the next batch may start that has a worker and only waits for [`SPACING`] or
    /// [`NOTIFIED_SPACING`]; set by [`Queue::next`].
    spaced_until: Option<Duration>,
    passes: u64,
    became_due: u64,
}

#[derive(Debug)]
struct Running {
    scope: Scope,
    lane: Lane,
    since: Duration,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    /// In a pass: the lane of that pass.
    lane: Lane,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is planned.
    Idle,
    Waiting {
        at: Duration,
    },
    Due {
        since: Duration,
    },
    /// In a pass. `again`: it was added meanwhile. A `removed` one is forgotten when it is finished.
    Busy {
        again: Option<When>,
        removed: bool,
        due_since: Duration,
        taken_at: Duration,
    },
}

/// When a key is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// The uptime.
    pub at: Duration,
    /// In which lane.
    pub lane: Lane,
}

/// Orders the batches that may start, the first the least.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    class: Class,
    /// Since when it has been due; the maximum if not yet for [`PATIENCE`].
    since: Duration,
    passes_of_cloud: usize,
    /// When the oldest object was created; none but for Fresh.
    oldest: Option<Timestamp>,
    /// 0 for Fresh.
    vms: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Of Retry or Poll, due for [`PATIENCE`] while no such pass runs.
    Starving,
    Fresh,
    Notified,
    RetryOrPoll,
}

/// Due keys of one scope and lane.
#[derive(Debug)]
struct Batch<K> {
    /// When the first of them became due.
    since: Duration,
    /// The oldest first.
    keys: BTreeSet<(Timestamp, K)>,
    vms: usize,
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// An empty queue for that many workers.
    pub fn new(workers: usize) -> Queue<K> {
        Queue {
            workers: workers.max(1),
            batch_limit: usize::MAX,
            entries: HashMap::new(),
            scopes: BTreeMap::new(),
            waiting: BTreeSet::new(),
            due: BTreeMap::new(),
            running: BTreeMap::new(),
            notified: BTreeMap::new(),
            spaced_until: None,
            passes: 0,
            became_due: 0,
        }
    }

    /// At most so many keys go in one pass. For tests: with 1, each object has a pass of its own.
    pub fn set_batch_limit(&mut self, limit: usize) {
        self.batch_limit = limit.max(1);
    }

    /// Makes a key due at `at` in that lane; earlier, or in a more urgent lane, if it already was. A key
    /// that is in a pass comes once more afterwards. `member` replaces what was known of it.
    pub fn add(&mut self, key: &K, member: Member, lane: Lane, at: Duration) {
        let when = When { at, lane };
        let known = self.unqueue(key);
        self.set_member(key, member);
        match self.entries.get_mut(key).map(|entry| &mut entry.state) {
            Some(State::Busy { again, removed, .. }) => {
                *again = Some(sooner(*again, when));
                *removed = false;
            }
            _ => match known {
                Some((State::Due { since }, lane)) => {
                    self.insert_due(key, sooner(Some(When { at: since, lane }), when));
                }
                Some((State::Waiting { at }, lane)) => {
                    self.insert_waiting(key, sooner(Some(When { at, lane }), when));
                }
                _ => self.insert_waiting(key, when),
            },
        }
    }

    /// The next pass, if one may start. Its keys are busy until [`Queue::finish`], its worker until
    /// [`Queue::ended`].
    pub fn next(&mut self, now: Duration) -> Option<NextPass<K>> {
        self.update_due(now);
        self.spaced_until = self.spaced_until(now);
        let (scope, lane) = self.choose(now)?;
        let keys = self.keys_of(self.due.get(&(scope.clone(), lane))?);
        for key in &keys {
            let Some((State::Due { since }, _)) = self.unqueue(key) else { continue };
            if let Some(entry) = self.entries.get_mut(key) {
                (entry.lane, entry.state) = (
                    lane,
                    State::Busy { again: None, removed: false, due_since: since, taken_at: now },
                );
            }
        }
        if lane == Lane::Notified {
            self.notified.retain(|_, since| *since + NOTIFIED_SPACING > now);
            self.notified.insert(scope.clone(), now);
        }
        self.passes += 1;
        let running = Running { scope: scope.clone(), lane, since: now };
        self.running.insert(self.passes, running);
        Some(NextPass { number: self.passes, scope, lane, keys })
    }

    /// A key of a pass is finished. It is due again as `again` says, or earlier if it was added
    /// meanwhile. A key removed meanwhile is forgotten.
    pub fn finish(&mut self, key: &K, again: Option<When>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let State::Busy { again: added, removed, .. } = entry.state else { return };
        entry.state = State::Idle;
        if removed {
            self.remove(key);
        } else if let Some(when) = again.map_or(added, |again| Some(sooner(added, again))) {
            self.insert_waiting(key, when);
        }
    }

    /// The pass of that number is over, and its worker idle.
    pub fn ended(&mut self, number: u64) {
        self.running.remove(&number);
    }

    /// Forgets a key. While it is in a pass no other pass gets it, not even when it is added again.
    pub fn remove(&mut self, key: &K) {
        self.unqueue(key);
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let State::Busy { again, removed, .. } = &mut entry.state {
            (*again, *removed) = (None, true);
        } else if let Some(entry) = self.entries.remove(key) {
            decrease(&mut self.scopes, &entry.member.scope);
        }
    }

    /// When [`Queue::next`] may have another pass by time alone; `None` if it won't. Most keys that are
    /// due wait for a worker and not for time.
    pub fn next_due(&self) -> Option<Duration> {
        let waiting = self.waiting.first().map(|(at, _)| *at);
        waiting.into_iter().chain(self.spaced_until).min()
    }

    /// When a key is due next, if that is planned.
    pub fn due_at(&self, key: &K) -> Option<Duration> {
        match self.entries.get(key)?.state {
            State::Waiting { at } | State::Due { since: at } => Some(at),
            State::Busy { again, .. } => again.map(|when| when.at),
            State::Idle => None,
        }
    }

    /// The lane of a key; in a pass, that of the pass.
    pub fn lane(&self, key: &K) -> Option<Lane> {
        self.entries.get(key).map(|entry| entry.lane)
    }

    /// Keys that are due and wait for a worker.
    pub fn depth(&self) -> usize {
        self.due.values().map(|batch| batch.keys.len()).sum()
    }

    /// How often a key became due since this was last asked.
    pub fn take_became_due(&mut self) -> u64 {
        std::mem::take(&mut self.became_due)
    }

    /// How long a key that is in a pass had been due when the pass started.
    pub fn waited(&self, key: &K) -> Option<Duration> {
        match self.entries.get(key)?.state {
            State::Busy { due_since, taken_at, .. } => Some(taken_at.saturating_sub(due_since)),
            _ => None,
        }
    }

    /// For how long each key that isn't finished has been in its pass; looks at every key.
    pub fn running_times(&self, now: Duration) -> impl Iterator<Item = Duration> {
        self.entries.values().filter_map(move |entry| match entry.state {
            State::Busy { taken_at, .. } => Some(now.saturating_sub(taken_at)),
            _ => None,
        })
    }

    /// Workers that have a pass.
    pub fn busy_workers(&self) -> usize {
        self.running.len()
    }

    /// The keys for a pass, the oldest first; where there are too many, those due longest.
    fn keys_of(&self, batch: &Batch<K>) -> Vec<K> {
        let mut keys: Vec<&(Timestamp, K)> = batch.keys.iter().collect();
        if keys.len() > self.batch_limit {
            keys.sort_by_key(|(_, key)| self.due_at(key));
            keys.truncate(self.batch_limit);
            keys.sort();
        }
        keys.into_iter().map(|(_, key)| key.clone()).collect()
    }

    /// The batch that starts next.
    fn choose(&self, now: Duration) -> Option<(Scope, Lane)> {
        let polls = self.running.values().filter(|pass| is_poll(pass.lane)).count();
        let has_waited = |batch: &Batch<K>| now.saturating_sub(batch.since) >= PATIENCE;
        let starves =
            |lane: Lane, batch: &Batch<K>| is_poll(lane) && polls == 0 && has_waited(batch);
        let rank = |scope: &Scope, lane: Lane, batch: &Batch<K>| {
            let class = match lane {
                Lane::Fresh => Class::Fresh,
                Lane::Notified => Class::Notified,
                _ if starves(lane, batch) => Class::Starving,
                Lane::Retry | Lane::Poll => Class::RetryOrPoll,
            };
            let since = if has_waited(batch) { batch.since } else { Duration::MAX };
            let passes_of_cloud = self.running_of_cloud(scope).count();
            let oldest = batch.keys.first().map(|(created, _)| *created);
            let (oldest, vms) = if lane == Lane::Fresh { (oldest, 0) } else { (None, batch.vms) };
            Rank { class, since, passes_of_cloud, oldest, vms }
        };
        self.due
            .iter()
            .filter(|((scope, lane), batch)| {
                self.may_start(scope, *lane, starves(*lane, batch))
                    && self.spaced(scope, *lane).is_none_or(|from| from <= now)
            })
            .min_by_key(|((scope, lane), batch)| rank(scope, *lane, batch))
            .map(|(place, _)| place.clone())
    }

    /// Is there a worker for a pass of that scope and lane?
    fn may_start(&self, scope: &Scope, lane: Lane, starves: bool) -> bool {
        let idle = self.workers.saturating_sub(self.running.len());
        let share = if self.has_several_clouds() { self.workers.div_ceil(2) } else { self.workers };
        if idle == 0 || self.running_of_cloud(scope).count() >= share {
            return false;
        }
        let runs_alike = self.running_alike(scope, lane).next().is_some();
        match lane {
            Lane::Fresh => idle > 1 || !runs_alike || self.scopes.len() <= 1,
            Lane::Notified => !runs_alike,
            Lane::Retry | Lane::Poll => {
                let polls = self.running_of_cloud(scope).filter(|it| is_poll(it.lane));
                let leaves_one = idle > 1 || self.workers == 1 || starves;
                !runs_alike && leaves_one && polls.count() < (share - 1).max(1)
            }
        }
    }

    /// From when on a pass of that scope and lane may start, because of those before it.
    fn spaced(&self, scope: &Scope, lane: Lane) -> Option<Duration> {
        match lane {
            Lane::Fresh => self.running_alike(scope, lane).map(|pass| pass.since + SPACING).max(),
            Lane::Notified => self.notified.get(scope).map(|since| *since + NOTIFIED_SPACING),
            Lane::Retry | Lane::Poll => None,
        }
    }

    fn spaced_until(&self, now: Duration) -> Option<Duration> {
        let may_start = self.due.keys().filter(|(scope, lane)| self.may_start(scope, *lane, false));
        may_start.filter_map(|(scope, lane)| self.spaced(scope, *lane)).filter(|at| *at > now).min()
    }

    fn running_of_cloud(&self, scope: &Scope) -> impl Iterator<Item = &Running> {
        self.running.values().filter(|pass| pass.scope.is_of_same_cloud(scope))
    }

    fn running_alike(&self, scope: &Scope, lane: Lane) -> impl Iterator<Item = &Running> {
        self.running.values().filter(move |pass| pass.lane == lane && pass.scope == *scope)
    }

    /// Objects whose spec can't be read have no cloud, and need none.
    fn has_several_clouds(&self) -> bool {
        let mut scopes = self.scopes.keys().filter(|scope| !scope.provider_id.is_empty());
        let first = scopes.next();
        scopes.any(|scope| first.is_some_and(|first| !first.is_of_same_cloud(scope)))
    }

    fn update_due(&mut self, now: Duration) {
        while let Some((at, _)) = self.waiting.first()
            && *at <= now
            && let Some((at, key)) = self.waiting.pop_first()
        {
            let Some(entry) = self.entries.get(&key) else { continue };
            let lane = entry.lane;
            self.became_due += 1;
            self.insert_due(&key, When { at, lane });
        }
    }

    fn insert_waiting(&mut self, key: &K, When { at, lane }: When) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        (entry.lane, entry.state) = (lane, State::Waiting { at });
        self.waiting.insert((at, key.clone()));
    }

    fn insert_due(&mut self, key: &K, When { at: since, lane }: When) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        (entry.lane, entry.state) = (lane, State::Due { since });
        let empty = Batch { since, keys: BTreeSet::new(), vms: 0 };
        let batch = self.due.entry((entry.member.scope.clone(), lane)).or_insert(empty);
        batch.since = batch.since.min(since);
        batch.keys.insert((entry.member.created, key.clone()));
        batch.vms += entry.member.vms;
    }

    /// Takes a key out of those that wait or are due, and says how it was there.
    fn unqueue(&mut self, key: &K) -> Option<(State, Lane)> {
        let entry = self.entries.get_mut(key)?;
        let (state, lane) = (entry.state, entry.lane);
        match state {
            State::Idle | State::Busy { .. } => return None,
            State::Waiting { at } => {
                self.waiting.remove(&(at, key.clone()));
            }
            State::Due { .. } => {
                let place = (entry.member.scope.clone(), lane);
                if let Some(batch) = self.due.get_mut(&place) {
                    batch.keys.remove(&(entry.member.created, key.clone()));
                    batch.vms -= entry.member.vms;
                    if batch.keys.is_empty() {
                        self.due.remove(&place);
                    }
                }
            }
        }
        entry.state = State::Idle;
        Some((state, lane))
    }

    /// Not for keys that wait or are due.
    fn set_member(&mut self, key: &K, member: Member) {
        *self.scopes.entry(member.scope.clone()).or_default() += 1;
        match self.entries.get_mut(key) {
            Some(entry) => {
                decrease(&mut self.scopes, &entry.member.scope);
                entry.member = member;
            }
            None => {
                let entry = Entry { member, lane: Lane::Fresh, state: State::Idle };
                self.entries.insert(key.clone(), entry);
            }
        }
    }
}

/// Is it a lane of objects that are due by time?
fn is_poll(lane: Lane) -> bool {
    matches!(lane, Lane::Retry | Lane::Poll)
}

/// The earlier time, and the more urgent lane.
fn sooner(known: Option<When>, new: When) -> When {
    let earlier = |known: When| When { at: known.at.min(new.at), lane: known.lane.min(new.lane) };
    known.map_or(new, earlier)
}

fn decrease(counts: &mut BTreeMap<Scope, usize>, scope: &Scope) {
    if let Some(count) = counts.get_mut(scope) {
        *count -= 1;
        if *count == 0 {
            counts.remove(scope);
        }
    }
}

#[cfg(test)]
mod tests;
