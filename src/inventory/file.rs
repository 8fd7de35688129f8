//! The inventory in a file, which each write replaces as a whole.
//!
//! A crash at any instant leaves the old or the new content. Nothing may be sent before the file was
//! locked, read and written once: what is sent by a process that can't remember it would be numbered
//! differently by the next one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::backend::{Backend, Opened, Trouble, Written};
use super::contents::Inventory;
use super::document;
use super::files::{DiskError, Files, Lock, Volume, beside, folder_of};
use super::load::load;
use super::store::Condition;
use crate::clock::{Clock, Now};
use crate::metrics::Metrics;
use crate::threads::lock;

pub(super) struct File {
    volume: Volume,
    path: PathBuf,
    clock: Clock,
    metrics: Arc<Metrics>,
    open: Mutex<Option<OpenFile>>,
}

/// A file that was locked and read.
struct OpenFile {
    /// Where it is, once its links were followed.
    path: PathBuf,
    _lock: Lock,
    /// Number of the last write.
    sequence: u64,
    /// The inventory's version that it holds.
    version: u64,
    journals: Vec<(PathBuf, bool)>,
}

impl From<DiskError> for Trouble {
    fn from(error: DiskError) -> Trouble {
        Trouble(Condition::Unwritable, error.to_string())
    }
}

impl File {
    pub(super) fn new(
        files: Box<dyn Files>,
        path: &Path,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> File {
        let volume = Volume::new(files, clock.clone());
        File { volume, path: path.to_owned(), clock, metrics, open: Mutex::default() }
    }
}

impl Backend for File {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&self) -> Result<Opened, Trouble> {
        let path = self.volume.resolve(&self.path)?;
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
        let loaded = load(&self.volume, &path).or_else(|error| {
            let Some(aside) = &error.aside else { return Err(error) };
            log::error!("{error}");
            self.volume.run("set aside", &path, |files| files.rename(&path, aside))?;
            self.volume.sync_folder_of(&path)?;
            load(&self.volume, &path)
        });
        let loaded = loaded.map_err(|error| Trouble(Condition::Unreadable, error.to_string()))?;
        let loaded = loaded.unwrap_or_default();
        let (sequence, journals) = (loaded.sequence, loaded.journals);
        *lock(&self.open) = Some(OpenFile { path, _lock: held, sequence, version: 0, journals });
        Ok(Opened { inventory: loaded.inventory, findings: loaded.findings })
    }

    fn write(&self, inventory: &Inventory) -> Result<Written, Trouble> {
        let mut open = lock(&self.open);
        let Some(file) = &mut *open else {
            return Err(Trouble(Condition::Unwritable, format!("{} isn't open", self.place())));
        };
        file.sequence = file.sequence.saturating_add(1);
        let (sequence, at) = (file.sequence, self.clock.now().wall);
        let written = self.volume.replace(&file.path, |opened| {
            document::encode(inventory, sequence, at, |piece| opened.append(piece))
        });
        let took = written.map_err(|error| match file.version {
            0 => error.into(),
            _ => Trouble(Condition::Unwritten, error.to_string()),
        })?;
        file.version = inventory.version();
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
        Ok(Written::default())
    }

    fn under_way(&self) -> Option<(String, Now)> {
        self.volume.under_way()
    }

    fn close(&self) {
        *lock(&self.open) = None;
    }
}
