//! The inventory's folder and file, looked at without disturbing an operator that works there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::advice;
use super::report::Row;
use crate::config::Config;
use crate::inventory::files::{beside, folder_of};
use crate::inventory::load;
use crate::reconcile::report::count;

const FOLDER: &str = "Inventory folder";
const FILE: &str = "Inventory file";
const API: &str = "Inventory API";

/// The rows of folder and file; the API is this process' own, so there is nothing to ask.
pub(super) fn rows(config: &Config) -> Vec<Row> {
    let path = &config.inventory.path;
    let mut rows = vec![folder_row(path), file_row(path)];
    if !config.inventory.enabled {
        rows.push(Row::skipped(API, "", "INVENTORY_ENABLED is off; the file is kept all the same"));
    }
    rows
}

fn folder_row(path: &Path) -> Row {
    let place = folder_of(path).display().to_string();
    let (folder, exists) = nearest(folder_of(path));
    match try_writing(&folder) {
        Ok(()) if exists => {
            let operator = match is_locked(&beside(path, ".lock")) {
                true => "; an operator works with it (it holds the lock)",
                false => "",
            };
            Row::fine(FOLDER, place, format!("writable{operator}"))
        }
        Ok(()) => {
            let parent = folder.display();
            Row::fine(FOLDER, place, format!("not there yet, can be made in {parent}"))
        }
        Err(error) => {
            let folder = folder.display();
            Row::failed(FOLDER, place, format!("cannot write in {folder}: {error}"), advice::FOLDER)
        }
    }
}

fn file_row(path: &Path) -> Row {
    let place = path.display().to_string();
    match load::read(path) {
        Ok(None) => Row::fine(FILE, place, "not there yet: nothing was ever sent from here"),
        Ok(Some(loaded)) if loaded.findings.is_empty() => {
            let nodes = count(loaded.inventory.len(), "node");
            Row::fine(FILE, place, format!("holds {nodes}"))
        }
        Ok(Some(loaded)) => Row::failed(FILE, place, loaded.findings.join("; "), advice::DAMAGED),
        Err(error) => Row::failed(FILE, place, error.to_string(), advice::INVENTORY),
    }
}

/// The folder if it is there, or the one above it in which it would be made.
fn nearest(folder: &Path) -> (PathBuf, bool) {
    let mut nearest = folder;
    while !nearest.exists() {
        match nearest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => nearest = parent,
            _ => return (PathBuf::from("."), false),
        }
    }
    (nearest.to_owned(), nearest == folder)
}

/// Writes a small file and takes it away again: modes don't tell of full disks and read-only mounts.
fn try_writing(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".multinic-operator-check-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"check\n").and_then(|()| file.sync_all()));
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Does somebody hold the lock? It is never made here, and tried in the way that leaves others who
/// only look alone; an operator that starts in this very moment tries again half a second later.
fn is_locked(lock: &Path) -> bool {
    let Ok(file) = File::open(lock) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
