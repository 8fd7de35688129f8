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
//! Locks are taken in the order `disk`, `state`. `disk` is held during I/O, which may never come
//! back; `state` never is, so readers don't wait for the disk.

mod state;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::contents::Inventory;
use super::document;
use super::files::{Disk, DiskError, Files, Lock, Volume, beside, folder_of};
use super::load::{self, Journal, LoadError, Loaded};
use super::record::Change;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::node_config::hexadecimal;
use crate::threads::{self, lock};

pub use state::{Condition, StoreError, StoreState};

/// First wait after a failure; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// Longest wait: a disk that is back is used again within this time.
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// So long `updatedAt` in the file may lag.
const RESENT_LONGEST: Duration = Duration::from_secs(60);

/// An operation that takes longer is reported as a trouble of its own.
const SLOW: Duration = Duration::from_secs(5);

/// So long a commit waits for the disk.
const COMMIT_LONGEST: Duration = Duration::from_secs(10);

/// So long the end of the program waits for the disk.
const CLOSE_LONGEST: Duration = Duration::from_secs(2);

/// The inventory store. Dropping it closes it, if it has a thread.
pub struct Store {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    volume: Volume,
    path: PathBuf,
    clock: Clock,
    metrics: Arc<Metrics>,
    disk: Mutex<DiskSide>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    inventory: Arc<Inventory>,
    /// The inventory's version that must come to disk at once, and the one that has.
    needed: u64,
    durable: u64,
    /// `updatedAt` in the file lags.
    is_resent: bool,
    shown: StoreState,
    findings: Vec<String>,
    failures: u32,
    is_stopping: bool,
}

#[derive(Default)]
struct DiskSide {
    /// Where the file is, once its links were followed.
    path: PathBuf,
    lock: Option<Lock>,
    is_loaded: bool,
    has_written: bool,
    /// Number of the last write.
    sequence: u64,
    journals: Vec<Journal>,
    is_closed: bool,
}

/// Why memory and disk aren't the same.
struct Trouble(Condition, String);

impl From<DiskError> for Trouble {
    fn from(error: DiskError) -> Trouble {
        Trouble(Condition::Unwritten, error.to_string())
    }
}

impl Store {
    /// The inventory at `path`. Never fails and never waits: a thread opens it, writes it, and tries
    /// a failing disk again; [`Store::state`] says what is wrong.
    pub fn open(path: &Path, clock: Clock, metrics: Arc<Metrics>) -> Store {
        let store = Store::new(Box::new(Disk), path, clock, metrics);
        let shared = store.shared.clone();
        match threads::spawn("inventory", move || shared.keep()) {
            Ok(handle) => *lock(&store.thread) = Some(handle),
            Err(error) => {
                log::error!("the inventory has no thread of its own: {error}");
                store.shared.attempt();
            }
        }
        store
    }

    /// Opens it on any file system and without a thread: commits write by themselves, and
    /// [`Store::retry`] is the caller's.
    pub fn open_on(
        files: Box<dyn Files>,
        path: &Path,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Store {
        let store = Store::new(files, path, clock, metrics);
        store.shared.attempt();
        store
    }

    fn new(files: Box<dyn Files>, path: &Path, clock: Clock, metrics: Arc<Metrics>) -> Store {
        let shown = StoreState {
            condition: Condition::Opening,
            since: clock.now().wall,
            reason: format!("{} is being read", path.display()),
        };
        let state = State {
            inventory: Arc::default(),
            needed: 0,
            durable: 0,
            is_resent: false,
            shown,
            findings: Vec::new(),
            failures: 0,
            is_stopping: false,
        };
        let shared = Arc::new(Shared {
            volume: Volume::new(files, clock.clone()),
            path: path.to_owned(),
            clock,
            metrics,
            disk: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        Store { shared, thread: Mutex::default() }
    }

    /// Waits until the file was opened, or that has failed, at most so long.
    pub fn wait_until_opened(&self, limit: Duration) {
        let state = lock(&self.shared.state);
        let is_opening = |state: &mut State| state.shown.condition == Condition::Opening;
        let waited = self.shared.changed.wait_timeout_while(state, limit, is_opening);
        let (mut state, _) = waited.unwrap_or_else(|held| held.into_inner());
        if is_opening(&mut state) {
            log::error!("{}", self.shared.shown(&state));
        }
    }

    /// Applies the changes and makes them durable, together with those of other commits that wait
    /// at the same time. Gives a result for each change, in order. Memory has those that failed all
    /// the same, and they are written once the disk is back.
    pub fn commit(&self, changes: Vec<Change>) -> Vec<Result<(), StoreError>> {
        let count = changes.len();
        let result = if count == 0 { Ok(()) } else { self.commit_all(changes) };
        self.report();
        vec![result; count]
    }

    fn commit_all(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        let (inventory, only_resent) = state.inventory.with(changes);
        let version = inventory.version();
        state.inventory = Arc::new(inventory);
        match only_resent {
            true => state.is_resent = true,
            false => state.needed = version,
        }
        shared.changed.notify_all();
        let shown = shared.shown(&state);
        if !shown.is_healthy() {
            return Err(StoreError { state: shown });
        }
        if only_resent {
            return Ok(());
        }
        let is_waiting = |state: &mut State| state.durable < version && state.shown.is_healthy();
        if lock(&self.thread).is_some() {
            let waited = shared.changed.wait_timeout_while(state, COMMIT_LONGEST, is_waiting);
            state = waited.unwrap_or_else(|held| held.into_inner()).0;
        } else {
            drop(state);
            shared.attempt();
            state = lock(&shared.state);
        }
        if state.durable >= version {
            return Ok(());
        }
        let mut shown = shared.shown(&state);
        if shown.is_healthy() {
            shown.condition = Condition::Unwritten;
            shown.reason = format!("{} isn't written yet", shared.path.display());
        }
        Err(StoreError { state: shown })
    }

    /// The inventory as it is now; it doesn't change under its reader.
    pub fn snapshot(&self) -> Arc<Inventory> {
        lock(&self.shared.state).inventory.clone()
    }

    /// How the store is doing.
    pub fn state(&self) -> StoreState {
        self.shared.shown(&lock(&self.shared.state))
    }

    /// What was found damaged or out of place when the file was read, for people.
    pub fn findings(&self) -> Vec<String> {
        lock(&self.shared.state).findings.clone()
    }

    /// The clock the store was opened with.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Tries a failing disk once, or writes an `updatedAt` that lags, now. The store's thread does so
    /// by itself, after at most ten seconds, or a minute.
    pub fn retry(&self) {
        let state = lock(&self.shared.state);
        let is_due = !state.shown.is_healthy() || state.is_resent;
        drop(state);
        if is_due {
            self.shared.attempt();
        }
    }

    /// Writes what isn't written yet, releases the lock and takes no further commit. Storage that
    /// doesn't answer is waited for two seconds at most.
    pub fn flush_and_close(&self) {
        lock(&self.shared.state).is_stopping = true;
        self.shared.changed.notify_all();
        if lock(&self.thread).is_none() {
            return self.shared.close();
        }
        let state = lock(&self.shared.state);
        let is_open = |state: &mut State| state.shown.condition != Condition::Closed;
        let waited = self.shared.changed.wait_timeout_while(state, CLOSE_LONGEST, is_open);
        let (mut state, _) = waited.unwrap_or_else(|held| held.into_inner());
        if is_open(&mut state) {
            log::error!("stopping without the inventory's disk: {}", self.shared.shown(&state));
            state.shown = self.shared.closed();
            return;
        }
        drop(state);
        // It has nothing left to do.
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the inventory's thread ended in a panic");
        }
    }

    /// Is there no thread, or no longer, that writes the file?
    pub fn has_lost_its_thread(&self) -> bool {
        lock(&self.thread).as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Brings the metrics up to date.
    pub fn report(&self) {
        self.shared.report();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if lock(&self.thread).is_some() {
            self.flush_and_close();
        }
    }
}

impl Shared {
    /// The store's thread: writes what commits wait for, tries a failing disk again, and closes.
    fn keep(&self) {
        self.attempt();
        let mut state = lock(&self.state);
        while !state.is_stopping {
            let (is_failing, is_resent) = (!state.shown.is_healthy(), state.is_resent);
            let is_due = |state: &State| !is_failing && state.needed > state.durable;
            let doubled = RETRY_FIRST * 2_u32.pow(state.failures.clamp(1, 6) - 1);
            let wait = match is_failing {
                true => doubled.min(RETRY_LONGEST),
                false if is_resent => RESENT_LONGEST,
                false => Duration::MAX,
            };
            let waited = self.changed.wait_timeout_while(state, wait, |state| {
                !state.is_stopping && !is_due(state) && state.is_resent == is_resent
            });
            let (held, waited) = waited.unwrap_or_else(|held| held.into_inner());
            state = held;
            if !state.is_stopping && (is_due(&state) || waited.timed_out()) {
                drop(state);
                self.attempt();
                state = lock(&self.state);
            }
        }
        drop(state);
        self.close();
    }

    /// Writes what memory has. The file is opened first, if it isn't open yet.
    fn attempt(&self) {
        let mut disk = lock(&self.disk);
        if disk.is_closed {
            return;
        }
        let result = self.open(&mut disk).and_then(|()| self.write(&mut disk));
        let mut state = lock(&self.state);
        match result {
            Ok(version) => {
                if state.failures > 0 {
                    log::info!("{} is written again", self.path.display());
                }
                disk.has_written = true;
                state.durable = version;
                state.failures = 0;
                state.shown = StoreState {
                    condition: Condition::Healthy,
                    since: self.clock.now().wall,
                    reason: String::new(),
                };
            }
            Err(Trouble(condition, reason)) => {
                let condition = match condition {
                    Condition::Unwritten if !disk.has_written => Condition::Unwritable,
                    condition => condition,
                };
                let since = state.shown.since().unwrap_or_else(|| self.clock.now().wall);
                let shown = StoreState { condition, since, reason };
                if state.shown != shown {
                    log::error!("{shown}");
                }
                state.shown = shown;
                state.failures = state.failures.saturating_add(1);
                self.metrics.add("multinic_inventory_write_failures_total", &[], 1.0);
            }
        }
        drop((state, disk));
        self.changed.notify_all();
        self.report();
    }

    /// Locks and reads the file.
    fn open(&self, disk: &mut DiskSide) -> Result<(), Trouble> {
        if disk.lock.is_none() {
            let path = self.volume.run("find", &self.path, |files| files.resolve(&self.path))?;
            let folder = folder_of(&path);
            self.volume.run("make the folder", folder, |files| files.create_folder(folder))?;
            let lock_file = beside(&path, ".lock");
            let lock = self.volume.run("lock", &lock_file, |files| files.lock(&lock_file))?;
            let in_use = || {
                let reason = format!(
                    "{} is in use by another operator: run one replica, or give this one a file of \
                     its own",
                    path.display()
                );
                Trouble(Condition::Locked, reason)
            };
            disk.lock = Some(lock.ok_or_else(in_use)?);
            disk.path = path;
        }
        if disk.is_loaded {
            return Ok(());
        }
        match load::load(&self.volume, &disk.path) {
            Ok(loaded) => self.take_over(disk, loaded.unwrap_or_default()),
            Err(error) => {
                let mut reason = error.to_string();
                if let LoadError::Damaged { bytes, readable, .. } = &error
                    && let Err(error) = self.set_aside(&disk.path, bytes, Some(readable))
                {
                    reason = format!("{reason}; no copy is kept: {error}");
                }
                Err(Trouble(Condition::Unreadable, reason))
            }
        }
    }

    /// What was read becomes memory, with what was committed before on top.
    fn take_over(&self, disk: &mut DiskSide, loaded: Loaded) -> Result<(), Trouble> {
        if let Some(bytes) = &loaded.edited {
            self.set_aside(&disk.path, bytes, None)?;
        }
        for finding in &loaded.findings {
            log::error!("{finding}");
        }
        let mut state = lock(&self.state);
        let earlier = state.inventory.iter().map(|stored| Change::Upsert(stored.record.clone()));
        let read = loaded.inventory.at_version(state.inventory.version());
        state.inventory = Arc::new(read.with(earlier.collect()).0);
        state.findings = loaded.findings;
        drop(state);
        disk.sequence = loaded.sequence;
        disk.journals = loaded.journals;
        disk.is_loaded = true;
        Ok(())
    }

    /// Keeps a copy of a file that can't be relied on, and what can be read of it. Both are named by
    /// the content, so that each content is kept once.
    fn set_aside(
        &self,
        path: &Path,
        bytes: &[u8],
        readable: Option<&Inventory>,
    ) -> Result<(), DiskError> {
        let tag = hexadecimal(&digest(&SHA256, bytes).as_ref()[..6]);
        let copy = beside(path, &format!(".corrupt-{tag}"));
        if self.volume.read(&copy, |files| files.read(&copy))?.is_some() {
            return Ok(());
        }
        if let Some(readable) = readable.filter(|readable| !readable.is_empty()) {
            let recovered = beside(path, &format!(".recovered-{tag}"));
            let at = self.clock.now().wall;
            self.volume.replace(&recovered, |file| {
                document::encode(readable, 0, at, |piece| file.append(piece))
            })?;
            log::error!("what can be read of {} is in {}", path.display(), recovered.display());
        }
        self.volume.replace(&copy, |file| file.append(bytes))?;
        log::error!("a copy of {} is kept as {}", path.display(), copy.display());
        Ok(())
    }

    /// Memory becomes the file; gives the version it holds.
    fn write(&self, disk: &mut DiskSide) -> Result<u64, Trouble> {
        let inventory = {
            let mut state = lock(&self.state);
            state.is_resent = false;
            state.inventory.clone()
        };
        disk.sequence = disk.sequence.saturating_add(1);
        let (sequence, at) = (disk.sequence, self.clock.now().wall);
        let took = self.volume.replace(&disk.path, |file| {
            document::encode(&inventory, sequence, at, |piece| file.append(piece))
        })?;
        self.metrics.observe("multinic_inventory_fsync_duration_seconds", &[], took);
        self.metrics.add("multinic_inventory_writes_total", &[], 1.0);
        let journals = std::mem::take(&mut disk.journals);
        let are_there = !journals.is_empty();
        for Journal { path, is_whole } in journals {
            let gone = match is_whole {
                true => self.volume.run("remove", &path, |files| files.remove(&path)),
                false => {
                    let kept = beside(&path, ".corrupt");
                    self.volume.run("set aside", &path, |files| files.rename(&path, &kept))
                }
            };
            if let Err(error) = gone {
                // Harmless: the file's number is higher than those of its commits.
                log::warn!("{error}");
            }
        }
        if are_there {
            self.volume.sync_folder_of(&disk.path)?;
        }
        Ok(inventory.version())
    }

    /// Writes what isn't written yet and releases the lock.
    fn close(&self) {
        let state = lock(&self.state);
        let is_due = !state.shown.is_healthy() || state.needed > state.durable || state.is_resent;
        drop(state);
        if is_due {
            self.attempt();
        }
        let mut disk = lock(&self.disk);
        disk.is_closed = true;
        lock(&self.state).shown = self.closed();
        disk.lock = None;
        drop(disk);
        self.changed.notify_all();
    }

    fn closed(&self) -> StoreState {
        let reason = "the store is closed".to_owned();
        StoreState { condition: Condition::Closed, since: self.clock.now().wall, reason }
    }

    /// The state, or the operation that the storage doesn't answer.
    fn shown(&self, state: &State) -> StoreState {
        let under_way = self
            .volume
            .under_way()
            .filter(|(_, began)| self.clock.now().uptime.saturating_sub(began.uptime) >= SLOW);
        match under_way {
            Some((tried, began)) if state.shown.condition != Condition::Closed => StoreState {
                condition: match state.shown.condition {
                    Condition::Healthy => Condition::Unwritten,
                    condition => condition,
                },
                since: began.wall,
                reason: format!("no answer from the storage to the attempt to {tried}"),
            },
            _ => state.shown.clone(),
        }
    }

    fn report(&self) {
        let state = lock(&self.state);
        let shown = self.shown(&state);
        let unwritten = match shown.is_healthy() {
            true => 0,
            false => state.inventory.iter().filter(|one| one.version > state.durable).count(),
        };
        let records = state.inventory.len();
        drop(state);
        self.metrics.set("multinic_inventory_records", &[], records as f64);
        self.metrics.set("multinic_inventory_unwritten_records", &[], unwritten as f64);
        for condition in Condition::ALL {
            let value = if shown.condition == condition { 1.0 } else { 0.0 };
            let labels = [("state", condition.name())];
            self.metrics.set("multinic_inventory_state", &labels, value);
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
