//! The one owner of the inventory: memory for readers, a file for the next process.
//!
//! A commit makes the next [`Inventory`] and waits until the file holds it. The whole file is
//! written each time, by [`Volume::replace`]; commits that wait at the same time share one write. So
//! the file is always what is true after a commit, and a crash at any instant leaves the old or the
//! new content. Only when the same was accepted again, so that nothing but `updatedAt` moves, the
//! commit waits for nothing: that is written with the next change, or after a minute.
//!
//! What callers need of a store is [`Store::snapshot`], [`Store::commit`] and [`Store::state`];
//! another kind of store would have the same.
//!
//! Nothing may be sent before the file was locked, read and written once: what is sent by a process
//! that can't remember it would be numbered differently by the next one.
//!
//! Locks are taken in the order `disk`, `memory`. `disk` is held during I/O, which may never come
//! back; `memory` never is, so readers don't wait for the disk.

mod state;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::contents::Inventory;
use super::document;
use super::files::{Disk, DiskError, Files, Lock, Volume, beside, folder_of};
use super::load::{LoadError, load};
use super::record::Change;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads::{self, lock};

pub use state::{Condition, StoreError, StoreState};

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
    volume: Volume,
    path: PathBuf,
    clock: Clock,
    metrics: Arc<Metrics>,
    disk: Mutex<DiskSide>,
    memory: Mutex<Memory>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Memory {
    inventory: Arc<Inventory>,
    /// The inventory's version that must come to disk at once, and the one that has.
    needed: u64,
    durable: u64,
    /// `updatedAt` in the file lags.
    is_resent: bool,
    state: StoreState,
    findings: Vec<String>,
    failures: u32,
    is_stopping: bool,
}

#[derive(Default)]
struct DiskSide {
    file: Option<OpenFile>,
    is_closed: bool,
}

/// A file that was locked and read.
struct OpenFile {
    /// Where it is, once its links were followed.
    path: PathBuf,
    _lock: Lock,
    /// Number of the last write.
    sequence: u64,
    has_written: bool,
    journals: Vec<(PathBuf, bool)>,
}

/// Why memory and disk aren't the same.
struct Trouble(Condition, String);

impl From<DiskError> for Trouble {
    fn from(error: DiskError) -> Trouble {
        Trouble(Condition::Unwritable, error.to_string())
    }
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
        let mut memory = Memory::default();
        memory.state.since = clock.now().wall;
        memory.state.reason = format!("{} is being read", path.display());
        Store {
            volume: Volume::new(files, clock.clone()),
            path: path.to_owned(),
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

    /// Gives the store its thread.
    pub fn start(self) -> Arc<Store> {
        let store = Arc::new(self);
        let own = Arc::clone(&store);
        match threads::spawn("inventory", move || own.keep()) {
            Ok(handle) => *lock(&store.thread) = Some(handle),
            Err(error) => log::error!("the inventory has no thread of its own: {error}"),
        }
        store
    }

    /// Waits until the file was opened, or that has failed, at most so long.
    pub fn wait_until_opened(&self, limit: Duration) {
        let is_opening = |memory: &Memory| memory.state.condition == Condition::Opening;
        let memory = self.wait_while(limit, is_opening);
        if is_opening(&memory) {
            log::error!("{}", self.shown(&memory));
        }
    }

    /// Applies the changes and makes them durable, together with those of other commits that wait
    /// at the same time. Gives a result for each change, in order. Memory has those that failed all
    /// the same, and they are written once the disk is back.
    pub fn commit(&self, changes: Vec<Change>) -> Vec<Result<(), StoreError>> {
        let count = changes.len();
        if count == 0 {
            return Vec::new();
        }
        let mut memory = lock(&self.memory);
        let (inventory, only_resent) = memory.inventory.with(changes);
        let version = inventory.version();
        memory.inventory = Arc::new(inventory);
        match only_resent {
            true => memory.is_resent = true,
            false => memory.needed = version,
        }
        self.changed.notify_all();
        let mut state = self.shown(&memory);
        drop(memory);
        if state.is_healthy() && !only_resent {
            if lock(&self.thread).is_none() {
                self.attempt();
            }
            let memory = self.wait_while(COMMIT_LONGEST, |memory| {
                memory.durable < version && memory.state.is_healthy()
            });
            if memory.durable < version {
                state = self.shown(&memory);
                if state.is_healthy() {
                    state.condition = Condition::Unwritten;
                    state.reason = format!("{} isn't written yet", self.path.display());
                }
            }
        }
        self.report();
        vec![if state.is_healthy() { Ok(()) } else { Err(StoreError { state }) }; count]
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
        let is_due =
            !memory.state.is_healthy() || memory.needed > memory.durable || memory.is_resent;
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
        let is_open = |memory: &Memory| memory.state.condition != Condition::Closed;
        let mut memory = self.wait_while(CLOSE_LONGEST, is_open);
        if is_open(&memory) {
            log::error!("{}; the program ends without it", self.shown(&memory));
            memory.state = self.closed();
            self.changed.notify_all();
        }
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
            let (is_failing, is_resent) = (!memory.state.is_healthy(), memory.is_resent);
            let is_due = |memory: &Memory| !is_failing && memory.needed > memory.durable;
            let doubled = RETRY_FIRST * 2_u32.pow(memory.failures.clamp(1, 6) - 1);
            let wait = match is_failing {
                true => doubled.min(RETRY_LONGEST),
                false if is_resent => RESENT_LONGEST,
                false => Duration::MAX,
            };
            let waited = self.changed.wait_timeout_while(memory, wait, |memory| {
                !memory.is_stopping && !is_due(memory) && memory.is_resent == is_resent
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
        is_waiting: impl Fn(&Memory) -> bool,
    ) -> MutexGuard<'_, Memory> {
        let memory = lock(&self.memory);
        let waited = self.changed.wait_timeout_while(memory, limit, |memory| is_waiting(memory));
        waited.unwrap_or_else(|held| held.into_inner()).0
    }

    /// Writes what memory has. The file is opened first, if it isn't open yet.
    fn attempt(&self) {
        let mut disk = lock(&self.disk);
        if disk.is_closed {
            return;
        }
        let opened = if disk.file.is_none() { self.open_file().map(Some) } else { Ok(None) };
        let result = opened.and_then(|opened| {
            disk.file = opened.or(disk.file.take());
            disk.file.as_mut().map_or(Ok(0), |file| self.write(file))
        });
        let mut memory = lock(&self.memory);
        let since = memory.state.since().unwrap_or_else(|| self.clock.now().wall);
        let (condition, reason) = match result {
            Ok(version) => {
                if memory.failures > 0 {
                    log::info!("{} is written again", self.path.display());
                }
                memory.durable = version;
                memory.failures = 0;
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
        self.report();
    }

    /// Locks and reads the file; what it holds becomes memory.
    fn open_file(&self) -> Result<OpenFile, Trouble> {
        let path = self.volume.run("find", &self.path, |files| files.resolve(&self.path))?;
        let folder = folder_of(&path);
        self.volume.run("make the folder", folder, |files| files.create_folder(folder))?;
        let lock_file = beside(&path, ".lock");
        let held = self.volume.run("lock", &lock_file, |files| files.lock(&lock_file))?;
        let in_use = || {
            let reason = format!(
                "{} is in use by another operator. With leader election that is the former \
                 leader, which has not ended yet: delete its pod if it doesn't. Otherwise run one \
                 replica, or give each a file of its own",
                path.display()
            );
            Trouble(Condition::Locked, reason)
        };
        let held = held.ok_or_else(in_use)?;
        let loaded = load(&self.volume, &path).or_else(|error| match error {
            LoadError::Unreadable(_) => Err(error),
            LoadError::Damaged(problem, aside) => {
                log::error!("{problem}");
                self.volume.run("set aside", &path, |files| files.rename(&path, &aside))?;
                self.volume.sync_folder_of(&path)?;
                load(&self.volume, &path)
            }
        });
        let loaded = loaded.map_err(|error| Trouble(Condition::Unreadable, error.to_string()))?;
        let loaded = loaded.unwrap_or_default();
        for finding in &loaded.findings {
            log::error!("{finding}");
        }
        let mut memory = lock(&self.memory);
        // What was committed before the file could be read comes on top.
        let earlier = memory.inventory.iter().map(|stored| Change::Upsert(stored.record.clone()));
        let read = loaded.inventory.at_version(memory.inventory.version());
        memory.inventory = Arc::new(read.with(earlier.collect()).0);
        memory.findings = loaded.findings;
        let (sequence, journals) = (loaded.sequence, loaded.journals);
        Ok(OpenFile { path, _lock: held, sequence, has_written: false, journals })
    }

    /// Memory becomes the file; gives the version it holds.
    fn write(&self, file: &mut OpenFile) -> Result<u64, Trouble> {
        let mut memory = lock(&self.memory);
        memory.is_resent = false;
        let inventory = memory.inventory.clone();
        drop(memory);
        file.sequence = file.sequence.saturating_add(1);
        let (sequence, at) = (file.sequence, self.clock.now().wall);
        let written = self.volume.replace(&file.path, |opened| {
            document::encode(&inventory, sequence, at, |piece| opened.append(piece))
        });
        let took = written.map_err(|error| match file.has_written {
            true => Trouble(Condition::Unwritten, error.to_string()),
            false => error.into(),
        })?;
        file.has_written = true;
        self.metrics.observe("multinic_inventory_fsync_duration_seconds", &[], took);
        self.metrics.add("multinic_inventory_writes_total", &[], 1.0);
        for (path, is_whole) in std::mem::take(&mut file.journals) {
            let kept = beside(&path, ".corrupt");
            // If this fails it is tried at the next start: commits are skipped by their numbers.
            let _ = self.volume.run("remove", &path, |files| match is_whole {
                true => files.remove(&path),
                false => files.rename(&path, &kept),
            });
            let _ = self.volume.sync_folder_of(&path);
        }
        Ok(inventory.version())
    }

    /// Writes what isn't written yet and releases the lock.
    fn close(&self) {
        self.retry();
        let mut disk = lock(&self.disk);
        disk.is_closed = true;
        lock(&self.memory).state = self.closed();
        disk.file = None;
        drop(disk);
        self.changed.notify_all();
    }

    fn closed(&self) -> StoreState {
        let reason = "the store is closed".to_owned();
        StoreState { condition: Condition::Closed, since: self.clock.now().wall, reason }
    }

    /// The state, or the operation that the storage doesn't answer.
    fn shown(&self, memory: &Memory) -> StoreState {
        let mut state = memory.state.clone();
        if let Some((tried, began)) = self.volume.under_way()
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

    /// Brings the metrics up to date.
    pub fn report(&self) {
        let memory = lock(&self.memory);
        let state = self.shown(&memory);
        let is_unwritten = |version| !state.is_healthy() && version > memory.durable;
        let unwritten = memory.inventory.iter().filter(|one| is_unwritten(one.version)).count();
        let records = memory.inventory.len();
        drop(memory);
        self.metrics.set("multinic_inventory_records", &[], records as f64);
        self.metrics.set("multinic_inventory_unwritten_records", &[], unwritten as f64);
        let pending = self.volume.under_way().map_or(Duration::ZERO, |(_, began)| {
            self.clock.now().uptime.saturating_sub(began.uptime)
        });
        self.metrics.set("multinic_inventory_pending_seconds", &[], pending.as_secs_f64());
        for (condition, name) in state::CONDITIONS {
            let value = if condition == state.condition { 1.0 } else { 0.0 };
            self.metrics.set("multinic_inventory_state", &[("state", name)], value);
        }
    }
}
