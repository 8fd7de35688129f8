//! The small disk that holds the inventory: a tmpfs, where this user may mount one.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::skip::skipped;

const SIZE: &str = "size=2m";

/// A folder, and what is mounted there.
pub(crate) struct Disk {
    folder: Arc<TempDir>,
    is_small: bool,
}

impl Disk {
    /// An ordinary folder; a small disk of its own if that is wanted and allowed.
    pub(crate) fn new(is_small: bool) -> Disk {
        let mut disk = Disk { folder: Arc::new(TempDir::new().unwrap()), is_small: false };
        if is_small {
            disk.is_small = disk.mount(&["-t", "tmpfs", "-o", SIZE, "tmpfs"]);
            if !disk.is_small {
                skipped("no full and no read-only disks: nothing can be mounted here");
            }
        }
        disk
    }

    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// Can it be full or read-only?
    pub(crate) fn is_small(&self) -> bool {
        self.is_small
    }

    /// Leaves not one byte of room.
    pub(crate) fn fill(&self) {
        // Where not even a name has room, it is full.
        let file = OpenOptions::new().create(true).append(true).open(self.ballast());
        let Ok(mut file) = file else { return };
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// There is room again.
    pub(crate) fn empty(&self) {
        let _ = fs::remove_file(self.ballast());
    }

    /// Makes it read-only, which works while no file is open for writing, or writable again.
    pub(crate) fn set_read_only(&self, is_read_only: bool) -> bool {
        self.mount(&["-o", if is_read_only { "remount,ro" } else { "remount,rw" }])
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("mount");
        command.args(arguments).arg(self.folder.path()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_small {
            let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        }
    }
}
