//! The one owner of the inventory: memory for readers, disk for ever.
//!
//! A commit is applied to memory, appended to the journal and synced before it is acknowledged;
//! commits that wait for the disk at the same time share one sync. When the journal has outgrown
//! the document, a new document is written beside it in the background. A crash at any instant
//! finds a prefix of the commits, and every acknowledged one in it:
//!
//! 1. the document is replaced by temporary file, sync, rename, sync of the folder;
//! 2. only then are the journal segments it includes removed; until then they are skipped by number;
//! 3. a segment's name and its first line, which holds no change, are synced before its first commit
//!    is appended;
//! 4. after a failed write or sync nothing is appended to that file again: memory is written out
//!    whole, as a new document;
//! 5. what was found at start is written out whole too, because what a process reads isn't
//!    necessarily what a power cut would leave.
//!
//! Locks are taken in the order `maintenance`, `disk`, `memory`; `shown` is a leaf. Readers take
//! `memory` only, and it is never held during I/O.

mod recovery;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::contents::{Inventory, Stored};
use super::files::{Appendable, Disk, Files, Lock};
use super::journal;
use super::load::{Places, SetAside};
use super::record::{Change, Prepared};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads;

pub use state::{StoreError, StoreState};

/// A journal smaller than this is never worth a new document.
const JOURNAL_FLOOR_BYTES: u64 = 1024 * 1024;

/// First wait after a failure; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// Longest wait: a disk that is back is used again within this time.
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// The inventory store. Dropping it ends its thread; what was acknowledged is on disk.
pub struct Store {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    files: Box<dyn Files>,
    places: Places,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Held while a document is written or the disk is tried again.
    maintenance: Mutex<()>,
    disk: Mutex<DiskSide>,
    memory: Mutex<Memory>,
    shown: Mutex<Shown>,
    orders: Mutex<Orders>,
    ordered: Condvar,
}

struct Memory {
    inventory: Arc<Inventory>,
    /// Number of the last commit.
    sequence: u64,
    /// Commits that wait for the journal.
    queue: Vec<Queued>,
    /// The journal takes nothing; commits get no number and go to `unwritten`.
    troubled: bool,
    /// The last change of each key that no disk has seen.
    unwritten: BTreeMap<(String, String), Prepared>,
}

struct Queued {
    sequence: u64,
    changes: Vec<Prepared>,
}

#[derive(Default)]
struct DiskSide {
    lock: Option<Lock>,
    /// What the disk holds is in memory.
    loaded: bool,
    /// Memory must be written out whole before the journal goes on.
    document_due: bool,
    set_aside: Vec<SetAside>,
    segment: Option<Box<dyn Appendable>>,
    /// Segments that the document doesn't include yet.
    segments: Vec<PathBuf>,
    journal_bytes: u64,
    compact_above: u64,
    /// Number of the last commit that is on disk.
    durable: u64,
    closed: bool,
}

struct Shown {
    state: StoreState,
    findings: Vec<String>,
    failures: u32,
}

#[derive(Default)]
struct Orders {
    stop: bool,
    compact: bool,
}

/// What stands between memory and disk.
enum Trouble {
    Unwritten(String),
    Locked(String),
    Unreadable(String),
}

impl Store {
    /// Opens the inventory at `path`, with a thread that compacts it and tries a failing disk
    /// again. Never fails: [`Store::state`] says what is wrong, and it is put right once it can be.
    pub fn open(path: &Path, clock: Clock, metrics: Arc<Metrics>) -> Store {
        let store = Store::open_on(Box::new(Disk), path, clock, metrics);
        let shared = store.shared.clone();
        match threads::spawn("inventory", move || shared.keep()) {
            Ok(handle) => *lock(&store.keeper) = Some(handle),
            Err(error) => log::error!("the inventory has no thread of its own: {error}"),
        }
        store
    }

    /// Opens it on any file system and without a thread: [`Store::retry`] and [`Store::compact`]
    /// are the caller's.
    pub fn open_on(
        files: Box<dyn Files>,
        path: &Path,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Store {
        let memory = Memory {
            inventory: Arc::default(),
            sequence: 0,
            queue: Vec::new(),
            troubled: true,
            unwritten: BTreeMap::new(),
        };
        let shown = Shown { state: StoreState::Healthy, findings: Vec::new(), failures: 0 };
        let shared = Arc::new(Shared {
            files,
            places: Places::of(path),
            clock,
            metrics,
            maintenance: Mutex::default(),
            disk: Mutex::default(),
            memory: Mutex::new(memory),
            shown: Mutex::new(shown),
            orders: Mutex::default(),
            ordered: Condvar::new(),
        });
        shared.recover();
        Store { shared, keeper: Mutex::default() }
    }

    /// Applies all changes and makes them durable with one write, however many they are.
    ///
    /// # Errors
    /// If the disk doesn't take them. Memory has them all the same, and they are written once the
    /// disk is back.
    pub fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> = changes.into_iter().map(Prepared::new).collect();
        self.shared.commit(changes)
    }

    /// The inventory as it is now; it doesn't change under its reader.
    pub fn snapshot(&self) -> Arc<Inventory> {
        lock(&self.shared.memory).inventory.clone()
    }

    /// The record of a node.
    pub fn get(&self, provider_id: &str, node_name: &str) -> Option<Arc<Stored>> {
        self.snapshot().get(provider_id, node_name).cloned()
    }

    /// The records of a VM, ordered by node name.
    pub fn by_instance(&self, provider_id: &str, instance_id: &str) -> Vec<Arc<Stored>> {
        self.snapshot().by_instance(provider_id, instance_id).into_iter().cloned().collect()
    }

    /// How the store is doing.
    pub fn state(&self) -> StoreState {
        lock(&self.shared.shown).state.clone()
    }

    /// What was found damaged or out of place when the file was read, for people.
    pub fn findings(&self) -> Vec<String> {
        lock(&self.shared.shown).findings.clone()
    }

    /// The clock the store was opened with.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Tries a failing disk once, now. The store's thread does so by itself, with a growing wait
    /// of at most ten seconds.
    pub fn retry(&self) {
        if !self.state().is_healthy() {
            self.shared.recover();
        }
    }

    /// Writes the document now, if the journal holds anything. The store's thread does so by
    /// itself when it is worth it.
    pub fn compact(&self) {
        self.shared.compact();
    }

    /// Writes everything into the document, lets go of the lock and takes no further commit.
    pub fn flush_and_close(&self) {
        self.stop_keeper();
        self.retry();
        self.shared.compact();
        let mut disk = lock(&self.shared.disk);
        disk.closed = true;
        disk.segment = None;
        disk.lock = None;
        lock(&self.shared.memory).troubled = true;
        lock(&self.shared.shown).state = StoreState::Closed;
    }

    /// Nobody compacts the journal or tries a failing disk again: the thread that does has ended,
    /// or could never be started.
    pub fn has_lost_its_thread(&self) -> bool {
        lock(&self.keeper).as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn stop_keeper(&self) {
        lock(&self.shared.orders).stop = true;
        self.shared.ordered.notify_all();
        if let Some(handle) = lock(&self.keeper).take()
            && handle.join().is_err()
        {
            log::error!("the inventory's thread ended in a panic");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop_keeper();
    }
}

impl Shared {
    fn commit(&self, changes: Vec<Prepared>) -> Result<(), StoreError> {
        let numbered = self.remember(changes);
        let Some(sequence) = numbered else {
            self.report_sizes();
            return Err(StoreError { state: lock(&self.shown).state.clone() });
        };
        let mut disk = lock(&self.disk);
        self.write_queue(&mut disk);
        let durable = disk.durable >= sequence;
        let outgrown = disk.journal_bytes > disk.compact_above;
        drop(disk);
        self.report_sizes();
        if outgrown {
            lock(&self.orders).compact = true;
            self.ordered.notify_all();
        }
        match durable {
            true => Ok(()),
            false => Err(StoreError { state: lock(&self.shown).state.clone() }),
        }
    }

    /// Memory has the changes after this; gives their number if the journal is to take them.
    fn remember(&self, changes: Vec<Prepared>) -> Option<u64> {
        let mut memory = lock(&self.memory);
        Arc::make_mut(&mut memory.inventory).apply(&changes);
        if memory.troubled {
            keep_last(&mut memory.unwritten, changes);
            return None;
        }
        memory.sequence += 1;
        let sequence = memory.sequence;
        memory.queue.push(Queued { sequence, changes });
        Some(sequence)
    }

    /// Appends all waiting commits and syncs once. After the close nothing is appended: the lock is
    /// given back, and another operator may have taken it.
    fn write_queue(&self, disk: &mut DiskSide) {
        if disk.closed {
            return;
        }
        let queue = std::mem::take(&mut lock(&self.memory).queue);
        let (Some(first), Some(last)) = (queue.first(), queue.last()) else { return };
        let (first, last) = (first.sequence, last.sequence);
        let lines: Vec<_> =
            queue.iter().map(|queued| journal::encode(queued.sequence, &queued.changes)).collect();
        let bytes = lines.concat();
        match self.append(disk, first, &bytes) {
            Ok(()) => {
                disk.durable = last;
                disk.journal_bytes += bytes.len() as u64;
                self.metrics.add("multinic_inventory_writes_total", &[], 1.0);
            }
            Err(error) => {
                disk.segment = None;
                disk.document_due = true;
                let mut memory = lock(&self.memory);
                memory.troubled = true;
                let arrived_since = std::mem::take(&mut memory.queue);
                for queued in queue.into_iter().chain(arrived_since) {
                    keep_last(&mut memory.unwritten, queued.changes);
                }
                drop(memory);
                self.show(Trouble::Unwritten(self.cannot("append to the journal of", &error)));
            }
        }
    }

    fn append(&self, disk: &mut DiskSide, first: u64, bytes: &[u8]) -> io::Result<()> {
        let segment = match &mut disk.segment {
            Some(segment) => segment,
            None => {
                let path = self.places.segment(first);
                let mut created = self.files.create(&path)?;
                self.files.sync_folder(&self.places.folder)?;
                created.append(&journal::first_line(first))?;
                created.sync()?;
                disk.segments.push(path);
                disk.segment.insert(created)
            }
        };
        segment.append(bytes)?;
        let started = self.clock.now().uptime;
        let synced = segment.sync();
        let took = self.clock.now().uptime.saturating_sub(started);
        self.metrics.observe("multinic_inventory_fsync_duration_seconds", &[], took);
        synced
    }

    /// Writes a document while commits go on into a new segment, then drops the segments that it
    /// includes. A failure changes nothing: the journal still has everything.
    fn compact(&self) {
        let _maintenance = lock(&self.maintenance);
        let (inventory, sequence, segments) = {
            let mut disk = lock(&self.disk);
            self.write_queue(&mut disk);
            let memory = lock(&self.memory);
            if memory.troubled || disk.segments.is_empty() {
                return;
            }
            disk.segment = None;
            disk.journal_bytes = 0;
            let segments = std::mem::take(&mut disk.segments);
            (memory.inventory.clone(), memory.sequence, segments)
        };
        let written = self.write_document(&inventory, sequence);
        match written {
            Ok(bytes) => {
                lock(&self.disk).compact_above = bytes.max(JOURNAL_FLOOR_BYTES);
                self.remove_all(&segments);
            }
            Err(error) => {
                self.metrics.add("multinic_inventory_write_failures_total", &[], 1.0);
                log::warn!("{}; the journal grows meanwhile", self.cannot("rewrite", &error));
                lock(&self.disk).segments.splice(..0, segments);
            }
        }
    }

    fn cannot(&self, what: &str, error: &io::Error) -> String {
        format!("cannot {what} {}: {error}", self.places.document.display())
    }

    /// A failure becomes the state; it is logged when it is news.
    fn show(&self, trouble: Trouble) {
        let now = self.clock.now().wall;
        let mut shown = lock(&self.shown);
        let since = shown.state.since().unwrap_or(now);
        let state = match trouble {
            Trouble::Unwritten(reason) => StoreState::Unwritten { since, reason },
            Trouble::Locked(reason) => StoreState::Locked { since, reason },
            Trouble::Unreadable(reason) => StoreState::Unreadable { since, reason },
        };
        if shown.state != state {
            log::error!("{state}");
        }
        shown.state = state;
        shown.failures = shown.failures.saturating_add(1);
        drop(shown);
        self.metrics.add("multinic_inventory_write_failures_total", &[], 1.0);
        // The lock makes sure that the thread isn't just between looking and waiting.
        drop(lock(&self.orders));
        self.ordered.notify_all();
    }

    fn report_sizes(&self) {
        let memory = lock(&self.memory);
        let (records, unwritten) = (memory.inventory.len(), memory.unwritten.len());
        drop(memory);
        self.metrics.set("multinic_inventory_records", &[], records as f64);
        self.metrics.set("multinic_inventory_unwritten_records", &[], unwritten as f64);
        let present = lock(&self.shown).state.name();
        for state in StoreState::NAMES {
            let value = if state == present { 1.0 } else { 0.0 };
            self.metrics.set("multinic_inventory_state", &[("state", state)], value);
        }
    }

    /// The store's thread.
    fn keep(&self) {
        loop {
            let (wait, failing) = {
                let shown = lock(&self.shown);
                let doubled = RETRY_FIRST * 2_u32.pow(shown.failures.clamp(1, 6) - 1);
                match shown.state.is_healthy() {
                    true => (Duration::from_secs(3600), false),
                    false => (doubled.min(RETRY_LONGEST), true),
                }
            };
            let orders = lock(&self.orders);
            let idle = |orders: &mut Orders| {
                let newly_failing = !failing && !lock(&self.shown).state.is_healthy();
                !orders.stop && !orders.compact && !newly_failing
            };
            let waited = self.ordered.wait_timeout_while(orders, wait, idle);
            let (mut orders, timeout) = waited.unwrap_or_else(|held| held.into_inner());
            if orders.stop {
                return;
            }
            let compact = std::mem::take(&mut orders.compact);
            drop(orders);
            if failing && timeout.timed_out() {
                self.recover();
            } else if compact {
                self.compact();
            }
        }
    }
}

fn keep_last(unwritten: &mut BTreeMap<(String, String), Prepared>, changes: Vec<Prepared>) {
    for prepared in changes {
        let (provider_id, node_name) = prepared.change.key();
        unwritten.insert((provider_id.to_owned(), node_name.to_owned()), prepared);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard is whole at every statement, so a panic elsewhere needn't spread.
    mutex.lock().unwrap_or_else(|held| held.into_inner())
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("places", &self.shared.places).finish_non_exhaustive()
    }
}
