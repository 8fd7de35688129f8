//! The one owner of the inventory: memory for readers, a place for the next process.
//!
//! The place is a [`Backend`]: a file, or objects in Kubernetes. A commit makes the next [`Inventory`]
//! and waits until the place holds it; commits that wait at the same time share one write. Only when
//! the same was accepted again, so that nothing but `updatedAt` moves, the commit waits for nothing:
//! that is written with the next change, or after a minute.
//!
//! What callers need of a store is [`Store::snapshot`], [`Store::commit`] and [`Store::state`].
//!
//! Locks are taken in the order `disk`, `memory`. `disk` is held during I/O, which may never come
//! back; `memory` never is, so readers don't wait for the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;

use super::backend::{Backend, Opened, Trouble, Written};
use super::contents::Inventory;
use super::file::File;
use super::files::{Disk, Files};
use super::record::Change;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads::{self, lock};

/// First wait after a failure; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// Longest wait: a disk that is back is used again within this time.
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// So long `updatedAt` in the file may lag.
const RESENT_LONGEST: Duration = Duration::from_secs(60);

/// An operation that takes longer is a state of its own.
const SLOW: Duration = Duration::from_secs(5);

/// So long a commit waits for the disk.
const COMMIT_LONGEST: Duration = Duration::from_secs(10);

/// So long the end of the program waits for the disk.
const CLOSE_LONGEST: Duration = Duration::from_secs(2);

/// The inventory store.
pub struct Store {
    backend: Box<dyn Backend>,
    clock: Clock,
    metrics: Arc<Metrics>,
    disk: Mutex<DiskSide>,
    memory: Mutex<InMemory>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct InMemory {
    inventory: Arc<Inventory>,
    /// The inventory's version that must come to disk at once, and the one that has.
    needed: u64,
    durable: u64,
    state: StoreState,
    /// [`Written::refused`] of the last write.
    refused: BTreeMap<(String, String), String>,
    findings: Vec<String>,
    failures: u32,
    is_stopping: bool,
}

impl InMemory {
    /// Has the disk less than memory, if only an `updatedAt`?
    fn is_ahead(&self) -> bool {
        self.inventory.version() > self.durable
    }

    /// Does a commit wait for a disk that works?
    fn is_awaited(&self) -> bool {
        self.state.is_healthy() && self.needed > self.durable
    }

    /// What a write found out about the place.
    fn take(&mut self, written: Written) {
        for reason in written.refused.values() {
            log::error!("{reason}");
        }
        self.refused = written.refused;
        if !written.changes.is_empty() {
            self.inventory = Arc::new(self.inventory.with(written.changes).0);
            self.needed = self.inventory.version();
        }
        if let Some(unreadable) = written.unreadable {
            let inventory = Inventory::clone(&self.inventory).with_unreadable(unreadable);
            self.inventory = Arc::new(inventory);
        }
    }

    /// So long the thread waits for the next attempt, if nothing happens.
    fn wait(&self) -> Duration {
        let doubled = RETRY_FIRST * 2_u32.pow(self.failures.clamp(1, 6) - 1);
        match self.state.is_healthy() {
            false => doubled.min(RETRY_LONGEST),
            true if !self.refused.is_empty() => RETRY_LONGEST,
            true if self.is_ahead() => RESENT_LONGEST,
            true => Duration::MAX,
        }
    }
}

#[derive(Default)]
struct DiskSide {
    is_open: bool,
    is_closed: bool,
}

impl Store {
    /// The inventory at `path`. Never fails and never waits: a thread opens the file, writes it, and
    /// tries a failing disk again; [`Store::state`] says what is wrong.
    pub fn open(path: &Path, clock: Clock, metrics: Arc<Metrics>) -> Arc<Store> {
        Store::new(Box::new(Disk), path, clock, metrics).start()
    }

    /// A store that isn't open yet, on any file system. Without [`Store::start`] commits write by
    /// themselves, and [`Store::retry`] is the caller's, first of all to open it.
    pub fn new(files: Box<dyn Files>, path: &Path, clock: Clock, metrics: Arc<Metrics>) -> Store {
        let file = File::new(files, path, clock.clone(), Arc::clone(&metrics));
        Store::of(Box::new(file), clock, metrics)
    }

    /// A store that isn't open yet, in any place.
    pub(crate) fn of(backend: Box<dyn Backend>, clock: Clock, metrics: Arc<Metrics>) -> Store {
        let mut memory = InMemory::default();
        memory.state.since = clock.now().wall;
        memory.state.reason = format!("{} is being read", backend.place());
        Store {
            backend,
            clock,
            metrics,
            disk: Mutex::default(),
            memory: Mutex::new(memory),
            changed: Condvar::new(),
            thread: Mutex::default(),
        }
    }

    /// A store without a file: what is committed stays in memory. For a dry run.
    pub(crate) fn in_memory(inventory: Inventory, clock: Clock, metrics: Arc<Metrics>) -> Store {
        let store = Store::new(Box::new(Disk), Path::new(""), clock, metrics);
        let mut memory = lock(&store.memory);
        memory.inventory = Arc::new(inventory);
        memory.durable = u64::MAX;
        memory.state = StoreState { condition: Condition::Healthy, ..StoreState::default() };
        drop(memory);
        lock(&store.disk).is_closed = true;
        store
    }

    /// A store that shows what it is given, and nothing yet.
    pub(crate) fn to_show(clock: Clock, metrics: Arc<Metrics>) -> Store {
        let store = Store::in_memory(Inventory::default(), clock, metrics);
        store.show(Err(Trouble(Condition::Opening, "the records are being read".to_owned())));
        store
    }

    /// Shows what another replica keeps, in a store that writes nothing.
    pub(crate) fn show(&self, read: Result<Opened, Trouble>) {
        let mut memory = lock(&self.memory);
        let (condition, reason) = match read {
            Ok(opened) => {
                let version = memory.inventory.version() + 1;
                memory.inventory = Arc::new(opened.inventory.at_version(version));
                memory.findings = opened.findings;
                (Condition::Healthy, String::new())
            }
            Err(Trouble(condition, reason)) => (condition, reason),
        };
        memory.state = StoreState { condition, since: self.clock.now().wall, reason };
    }

    /// Gives the store its thread.
    pub fn start(self) -> Arc<Store> {
        let store = Arc::new(self);
        let woken = Arc::downgrade(&store);
        store.backend.on_news(Box::new(move || {
            if let Some(store) = woken.upgrade() {
                // Under the lock, so that the thread either waits already or sees it before it does.
                let _memory = lock(&store.memory);
                store.changed.notify_all();
            }
        }));
        let own = Arc::clone(&store);
        match threads::spawn("inventory-store", move || own.keep()) {
            Ok(handle) => *lock(&store.thread) = Some(handle),
            Err(error) => log::error!("the inventory has no thread of its own: {error}"),
        }
        store
    }

    /// Waits until the file was opened, or that has failed, at most so long.
    pub fn wait_until_opened(&self, limit: Duration) {
        let is_opening = |memory: &InMemory| memory.state.condition == Condition::Opening;
        let memory = self.wait_while(limit, is_opening);
        if is_opening(&memory) {
            log::error!("{}", self.shown(&memory));
        }
    }

    /// Applies the changes and makes them durable, together with those of other commits that wait
    /// at the same time. Gives a result for each change, in order. Memory has those that failed all
    /// the same, and they are written once the disk is back.
    pub fn commit(&self, changes: Vec<Change>) -> Vec<Result<(), StoreState>> {
        let keys: Vec<_> = changes.iter().map(|change| owned(change.key())).collect();
        if keys.is_empty() {
            return Vec::new();
        }
        let mut memory = lock(&self.memory);
        let (inventory, only_resent) = memory.inventory.with(changes);
        let version = inventory.version();
        memory.inventory = Arc::new(inventory);
        if !only_resent {
            memory.needed = version;
        }
        self.changed.notify_all();
        let mut state = self.whole(&memory);
        drop(memory);
        let mut refused = BTreeMap::new();
        if state.is_healthy() && !only_resent {
            if lock(&self.thread).is_none() {
                self.attempt();
            }
            let memory = self.wait_while(COMMIT_LONGEST, |memory| {
                memory.durable < version && memory.state.is_healthy()
            });
            if memory.durable < version {
                state = self.whole(&memory);
                if state.is_healthy() {
                    state.condition = Condition::Unwritten;
                    state.reason = format!("{} isn't written yet", self.backend.place());
                }
            }
            refused.clone_from(&memory.refused);
        }
        let result = |key| match (state.is_healthy(), refused.get(&key)) {
            (true, None) => Ok(()),
            (true, Some(reason)) => Err(self.refused(reason)),
            (false, _) => Err(state.clone()),
        };
        keys.into_iter().map(result).collect()
    }

    fn refused(&self, reason: &str) -> StoreState {
        let (condition, since) = (Condition::Unwritten, self.clock.now().wall);
        StoreState { condition, since, reason: reason.to_owned() }
    }

    /// The inventory as it is now; it doesn't change under its reader.
    pub fn snapshot(&self) -> Arc<Inventory> {
        lock(&self.memory).inventory.clone()
    }

    /// How the store is doing.
    pub fn state(&self) -> StoreState {
        self.shown(&lock(&self.memory))
    }

    /// What was found damaged or out of place when the file was read, for people.
    pub fn findings(&self) -> Vec<String> {
        lock(&self.memory).findings.clone()
    }

    /// The clock the store was opened with.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Tries a failing disk once, or writes an `updatedAt` that lags, now. The store's thread does so
    /// by itself, after at most ten seconds, or a minute.
    pub fn retry(&self) {
        let memory = lock(&self.memory);
        let is_due = !memory.state.is_healthy() || memory.is_ahead();
        drop(memory);
        if is_due {
            self.attempt();
        }
    }

    /// Writes what isn't written yet, releases the lock and takes no further commit. Storage that
    /// doesn't answer is waited for two seconds at most.
    pub fn flush_and_close(&self) {
        let thread = lock(&self.thread).take();
        if thread.is_none() {
            return self.close();
        }
        lock(&self.memory).is_stopping = true;
        self.changed.notify_all();
        let is_open = |memory: &InMemory| memory.state.condition != Condition::Closed;
        let mut memory = self.wait_while(CLOSE_LONGEST, is_open);
        if is_open(&memory) {
            log::error!("{}; the program ends without it", self.shown(&memory));
            memory.state = self.closed();
            self.changed.notify_all();
        }
    }

    /// Writes nothing more, and cuts what is under way: another replica may have taken over.
    pub(crate) fn abandon(&self) {
        self.backend.abandon();
    }

    /// Is there no thread, or no longer, that writes the file?
    pub fn has_lost_its_thread(&self) -> bool {
        lock(&self.thread).as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The store's thread: writes what commits wait for, tries a failing disk again, and closes.
    fn keep(&self) {
        self.attempt();
        let mut memory = lock(&self.memory);
        while !memory.is_stopping {
            let (wait, was_ahead) = (memory.wait(), memory.is_ahead());
            let is_due = |memory: &InMemory| {
                memory.is_awaited() || (memory.state.is_healthy() && self.backend.has_news())
            };
            let waited = self.changed.wait_timeout_while(memory, wait, |memory| {
                !memory.is_stopping && !is_due(memory) && memory.is_ahead() == was_ahead
            });
            let (held, waited) = waited.unwrap_or_else(|held| held.into_inner());
            memory = held;
            if !memory.is_stopping && (is_due(&memory) || waited.timed_out()) {
                drop(memory);
                self.attempt();
                memory = lock(&self.memory);
            }
        }
        drop(memory);
        self.close();
    }

    fn wait_while(
        &self,
        limit: Duration,
        is_waiting: impl Fn(&InMemory) -> bool,
    ) -> MutexGuard<'_, InMemory> {
        let memory = lock(&self.memory);
        let waited = self.changed.wait_timeout_while(memory, limit, |memory| is_waiting(memory));
        waited.unwrap_or_else(|held| held.into_inner()).0
    }

    /// Tries once to write what memory has, and notes what came of it.
    fn attempt(&self) {
        let mut disk = lock(&self.disk);
        if disk.is_closed {
            return;
        }
        let result = self.write(&mut disk);
        let mut memory = lock(&self.memory);
        let since = memory.state.since().unwrap_or_else(|| self.clock.now().wall);
        let (condition, reason) = match result {
            Ok((version, written)) => {
                if memory.failures > 0 {
                    log::info!("{} is written again", self.backend.place());
                }
                memory.durable = version;
                memory.failures = 0;
                memory.take(written);
                (Condition::Healthy, String::new())
            }
            Err(Trouble(condition, reason)) => {
                memory.failures = memory.failures.saturating_add(1);
                self.metrics.add("multinic_inventory_write_failures_total", &[], 1.0);
                (condition, reason)
            }
        };
        let state = StoreState { condition, since, reason };
        if memory.state != state && !state.is_healthy() {
            log::error!("{state}");
        }
        if memory.state.condition != Condition::Closed {
            memory.state = state;
        }
        drop((memory, disk));
        self.changed.notify_all();
    }

    /// Reads the place; what it holds becomes memory.
    fn open_place(&self) -> Result<(), Trouble> {
        let opened = self.backend.open()?;
        for finding in &opened.findings {
            log::error!("{finding}");
        }
        let mut memory = lock(&self.memory);
        // What was committed before the place could be read comes on top.
        let earlier = memory.inventory.iter().map(|stored| Change::Upsert(stored.record.clone()));
        let read = opened.inventory.at_version(memory.inventory.version());
        memory.inventory = Arc::new(read.with(earlier.collect()).0);
        memory.findings = opened.findings;
        Ok(())
    }

    /// Memory comes to its place, which is opened first if it isn't yet; gives the version it holds.
    fn write(&self, disk: &mut DiskSide) -> Result<(u64, Written), Trouble> {
        if !disk.is_open {
            self.open_place()?;
            disk.is_open = true;
        }
        let inventory = self.snapshot();
        let written = self.backend.write(&inventory)?;
        Ok((inventory.version(), written))
    }

    /// Writes what isn't written yet and releases the lock.
    fn close(&self) {
        self.retry();
        let mut disk = lock(&self.disk);
        disk.is_closed = true;
        lock(&self.memory).state = self.closed();
        self.backend.close();
        drop(disk);
        self.changed.notify_all();
    }

    fn closed(&self) -> StoreState {
        let reason = "the store is closed".to_owned();
        StoreState { condition: Condition::Closed, since: self.clock.now().wall, reason }
    }

    /// The state, with the records that the place refuses.
    fn shown(&self, memory: &InMemory) -> StoreState {
        let state = self.whole(memory);
        match memory.refused.first_key_value() {
            Some((_, reason)) if state.is_healthy() => self.refused(reason),
            _ => state,
        }
    }

    /// The state of the place as a whole, or the operation that the storage doesn't answer.
    fn whole(&self, memory: &InMemory) -> StoreState {
        let mut state = memory.state.clone();
        if let Some((tried, began)) = self.backend.under_way()
            && self.clock.now().uptime.saturating_sub(began.uptime) >= SLOW
            && state.condition != Condition::Closed
        {
            if state.is_healthy() {
                state.condition = Condition::Unwritten;
            }
            state.since = began.wall;
            state.reason = format!("no answer from the storage to the attempt to {tried}");
        }
        state
    }

    /// Brings the metrics up to date, before they are shown.
    pub fn report(&self) {
        let memory = lock(&self.memory);
        let state = self.shown(&memory);
        let is_unwritten = |version| !state.is_healthy() && version > memory.durable;
        let unwritten = memory.inventory.iter().filter(|one| is_unwritten(one.version)).count();
        let records = memory.inventory.len();
        drop(memory);
        self.metrics.set("multinic_inventory_records", &[], records as f64);
        self.metrics.set("multinic_inventory_unwritten_records", &[], unwritten as f64);
        let pending = self.backend.under_way().map_or(Duration::ZERO, |(_, began)| {
            self.clock.now().uptime.saturating_sub(began.uptime)
        });
        self.metrics.set("multinic_inventory_pending_seconds", &[], pending.as_secs_f64());
        for (condition, name) in CONDITIONS {
            let value = if condition == state.condition { 1.0 } else { 0.0 };
            self.metrics.set("multinic_inventory_state", &[("state", name)], value);
        }
    }
}

fn owned(key: (&str, &str)) -> (String, String) {
    (key.0.to_owned(), key.1.to_owned())
}

/// What the store can be relied on for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// The program is stopping; nothing is written any more.
    Closed,
    /// Everything that was committed is in its place.
    Healthy,
    /// Another operator has the place; what it holds isn't known here.
    Locked,
    /// The place hasn't been read yet.
    #[default]
    Opening,
    /// The place can't be read or used; what it holds isn't known.
    Unreadable,
    /// The place can't be written by this process, and perhaps never could: what is sent would be
    /// forgotten.
    Unwritable,
    /// Everything is known, but the place is behind; tried again until it isn't.
    Unwritten,
}

/// All conditions, and a word for each for metrics and the API.
const CONDITIONS: [(Condition, &str); 7] = [
    (Condition::Closed, "closed"),
    (Condition::Healthy, "healthy"),
    (Condition::Locked, "locked"),
    (Condition::Opening, "opening"),
    (Condition::Unreadable, "unreadable"),
    (Condition::Unwritable, "unwritable"),
    (Condition::Unwritten, "unwritten"),
];

/// The state of the store. As an error of a change: it is not on disk. It is kept in memory and
/// written later; after [`Condition::Closed`] it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// In a word.
    pub condition: Condition,
    /// Since when.
    pub since: Timestamp,
    /// What was tried on what, and what came back. Stable: without times.
    pub reason: String,
}

impl StoreState {
    /// Is everything on disk?
    pub fn is_healthy(&self) -> bool {
        self.condition == Condition::Healthy
    }

    /// Is it known what nodes were sent before, and can it be kept? If not, no node may be sent:
    /// interface ids would be given out again and network cards renamed.
    pub fn remembers(&self) -> bool {
        matches!(self.condition, Condition::Healthy | Condition::Unwritten)
    }

    /// What is wrong; none when healthy.
    pub fn reason(&self) -> Option<&str> {
        (!self.is_healthy()).then_some(self.reason.as_str())
    }

    /// Since when it isn't healthy.
    pub fn since(&self) -> Option<Timestamp> {
        (!self.is_healthy()).then_some(self.since)
    }

    /// One word for metrics and the API.
    pub fn name(&self) -> &'static str {
        let named = CONDITIONS.iter().find(|(condition, _)| *condition == self.condition);
        named.map_or("", |(_, name)| name)
    }
}

impl fmt::Display for StoreState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.condition {
            Condition::Healthy => return formatter.write_str("the inventory is written"),
            Condition::Unwritten => "kept in memory until it can be written",
            _ => "not available",
        };
        write!(formatter, "the inventory is {what}: {}", self.reason)
    }
}

impl std::error::Error for StoreState {}
