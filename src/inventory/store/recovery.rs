//! Bringing disk and memory together: at start, and again after each failure.
//!
//! The way is always the same: have the lock, have read what is there, keep copies of what can't be
//! relied on, write memory out whole as a new document, start the journal anew.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DiskSide, JOURNAL_FLOOR_BYTES, Queued, Shared, StoreState, Trouble, lock};
use crate::inventory::contents::Inventory;
use crate::inventory::document;
use crate::inventory::files::Appendable;
use crate::inventory::load::{self, Loaded, Why};

impl Shared {
    /// Brings disk and memory together: at start, and again after each failure.
    pub(super) fn recover(&self) {
        let _maintenance = lock(&self.maintenance);
        let mut disk = lock(&self.disk);
        if disk.closed {
            return;
        }
        match self.try_to_recover(&mut disk) {
            Ok(()) => {
                let mut shown = lock(&self.shown);
                if !shown.state.is_healthy() {
                    log::info!("{} is written again", self.places.document.display());
                }
                shown.state = StoreState::Healthy;
                shown.failures = 0;
            }
            Err(trouble) => self.show(trouble),
        }
        drop(disk);
        self.report_sizes();
    }

    fn try_to_recover(&self, disk: &mut DiskSide) -> Result<(), Trouble> {
        let unlocked = self.take_lock(disk)?;
        if !disk.loaded {
            let loaded = load::load(&*self.files, &self.places)
                .map_err(|error| Trouble::Unreadable(error.to_string()))?;
            self.take_over(disk, loaded);
        }
        if let Some(error) = unlocked {
            return Err(Trouble::Unwritten(self.cannot("lock", &error)));
        }
        self.keep_copies(disk)
            .map_err(|error| Trouble::Unwritten(self.cannot("set aside", &error)))?;
        self.write_out(disk).map_err(|error| Trouble::Unwritten(self.cannot("write", &error)))
    }

    /// Gives the error if there is no lock to be had for another reason than another operator:
    /// reading is safe then, writing isn't.
    fn take_lock(&self, disk: &mut DiskSide) -> Result<Option<io::Error>, Trouble> {
        if disk.lock.is_some() {
            return Ok(None);
        }
        let folder = self.files.create_folder(&self.places.folder);
        match folder.and_then(|()| self.files.lock(&self.places.lock())) {
            Ok(Some(lock)) => {
                disk.lock = Some(lock);
                // Whatever was read without the lock may have changed since.
                disk.loaded = false;
                Ok(None)
            }
            Ok(None) => Err(Trouble::Locked(format!(
                "{} is in use by another operator: run one replica, or give this one a file of \
                 its own",
                self.places.document.display()
            ))),
            Err(error) => Ok(Some(error)),
        }
    }

    /// What was read becomes memory, with the changes on top that no disk has seen.
    fn take_over(&self, disk: &mut DiskSide, loaded: Loaded) {
        let Loaded { mut inventory, sequence, findings, set_aside, document_due, document_bytes } =
            loaded;
        for finding in &findings {
            log::error!("{finding}");
        }
        let mut memory = lock(&self.memory);
        if !memory.unwritten.is_empty() {
            let changes: Vec<_> = memory.unwritten.values().cloned().collect();
            inventory.apply(&changes);
        }
        inventory.succeed(&memory.inventory);
        memory.inventory = Arc::new(inventory);
        memory.sequence = sequence;
        drop(memory);
        disk.durable = sequence;
        disk.loaded = true;
        disk.document_due = document_due;
        disk.compact_above = document_bytes.max(JOURNAL_FLOOR_BYTES);
        disk.set_aside = set_aside;
        lock(&self.shown).findings = findings;
    }

    /// Copies of what can't be relied on, before the originals are replaced.
    fn keep_copies(&self, disk: &mut DiskSide) -> io::Result<()> {
        let at = self.clock.now().wall;
        while let Some(set_aside) = disk.set_aside.last() {
            let names = self.files.list(&self.places.folder)?;
            let copy = self.places.copy(set_aside, at, &names);
            let written = self.write_new(&copy, |file| file.append(&set_aside.bytes));
            if let Err(error) = written {
                let _ = self.files.remove(&copy);
                return Err(error);
            }
            self.files.sync_folder(&self.places.folder)?;
            let level = match set_aside.why {
                Why::Damaged => log::Level::Error,
                Why::Torn => log::Level::Warn,
            };
            let (file, copy) = (set_aside.file.display(), copy.display());
            log::log!(level, "{file} was set aside as {copy}");
            disk.set_aside.pop();
            if disk.set_aside.is_empty() {
                // A disk that damages files again and again isn't to be filled by their copies.
                let names = self.files.list(&self.places.folder).unwrap_or_default();
                self.remove_all(&self.places.surplus_copies(&names, at));
            }
        }
        Ok(())
    }

    /// Memory becomes the document, and the journal starts anew.
    fn write_out(&self, disk: &mut DiskSide) -> io::Result<()> {
        let (inventory, sequence, unwritten) = {
            let mut memory = lock(&self.memory);
            disk.document_due |= !memory.unwritten.is_empty();
            if disk.document_due {
                // One number for all that came without one.
                memory.sequence += 1;
            }
            let unwritten = std::mem::take(&mut memory.unwritten);
            (memory.inventory.clone(), memory.sequence, unwritten)
        };
        if disk.document_due {
            match self.write_document(&inventory, sequence) {
                Ok(bytes) => disk.compact_above = bytes.max(JOURNAL_FLOOR_BYTES),
                Err(error) => {
                    let mut memory = lock(&self.memory);
                    for (key, change) in unwritten {
                        memory.unwritten.entry(key).or_insert(change);
                    }
                    return Err(error);
                }
            }
            let names = self.files.list(&self.places.folder).unwrap_or_default();
            self.remove_all(&self.places.segments(&names));
            disk.segments.clear();
            disk.journal_bytes = 0;
            disk.document_due = false;
        }
        disk.durable = sequence;
        let mut memory = lock(&self.memory);
        memory.troubled = false;
        // What came while the document was being written goes into the journal.
        let late: Vec<_> = std::mem::take(&mut memory.unwritten).into_values().collect();
        if !late.is_empty() {
            memory.sequence += 1;
            let sequence = memory.sequence;
            memory.queue.push(Queued { sequence, changes: late });
        }
        drop(memory);
        self.write_queue(disk);
        match lock(&self.memory).troubled {
            true => Err(io::Error::other("the journal took nothing")),
            false => Ok(()),
        }
    }

    /// Replaces the document; gives its size.
    pub(super) fn write_document(&self, inventory: &Inventory, sequence: u64) -> io::Result<u64> {
        let temporary = self.places.temporary();
        match self.files.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut bytes = 0;
        let at = self.clock.now().wall;
        let written = self.write_new(&temporary, |file| {
            document::encode(inventory, sequence, at, |piece| {
                bytes += piece.len() as u64;
                file.append(piece)
            })
        });
        let replaced = written
            .and_then(|()| self.files.rename(&temporary, &self.places.document))
            .and_then(|()| self.files.sync_folder(&self.places.folder));
        match replaced {
            Ok(()) => {
                self.metrics.add("multinic_inventory_writes_total", &[], 1.0);
                Ok(bytes)
            }
            Err(error) => {
                // Space is short, perhaps; a leftover would make it shorter.
                let _ = self.files.remove(&temporary);
                Err(error)
            }
        }
    }

    fn write_new(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut dyn Appendable) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut file = self.files.create(path)?;
        fill(&mut *file)?;
        file.sync()
    }

    /// Segments whose commits the document includes, or copies that are too many.
    pub(super) fn remove_all(&self, files: &[PathBuf]) {
        for file in files {
            if let Err(error) = self.files.remove(file) {
                // Harmless: a segment's commits are skipped by number.
                log::warn!("cannot remove {}: {error}", file.display());
            }
        }
    }
}
