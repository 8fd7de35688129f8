//! The disk of a simulation: the crash simulator, which can also be full or read-only for a while, and
//! takes the process with it where it stops.

use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use multinic_operator::inventory::files::{Appendable, Files, Lock};

use crate::simulated_disk::{Fault, Restart, SimulatedDisk};
use crate::transport::Killed;

/// How the disk is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Full,
    ReadOnly,
}

#[derive(Clone)]
pub(crate) struct Disk {
    disk: SimulatedDisk,
    mood: Arc<Mutex<Mood>>,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk { disk: SimulatedDisk::default(), mood: Arc::new(Mutex::new(Mood::Well)) }
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    /// The process is killed at so many operations from now.
    pub(crate) fn kill_in(&self, operations: usize) {
        self.disk.plan(Some(Fault::StopAt(operations)));
    }

    /// Was the process killed at an operation?
    pub(crate) fn has_stopped(&self) -> bool {
        self.disk.has_stopped()
    }

    pub(crate) fn spare(&self) {
        self.disk.plan(None);
    }

    /// The disk as a restart finds it. Whoever still holds this one writes into the void.
    pub(crate) fn after(&self, restart: Restart) -> Disk {
        Disk { disk: self.disk.after(restart), mood: Arc::new(Mutex::new(self.mood())) }
    }

    /// Everything on it, for searches.
    pub(crate) fn text(&self) -> String {
        let folder = Path::new("/data");
        let files = self
            .disk
            .names()
            .into_iter()
            .filter_map(|name| self.disk.read(&folder.join(name)).ok());
        files.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    fn refuse(&self, by_full: bool) -> io::Result<()> {
        match self.mood() {
            Mood::Full if by_full => Err(io::ErrorKind::StorageFull.into()),
            Mood::ReadOnly => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            _ => Ok(()),
        }
    }

    fn or_killed<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if self.disk.has_stopped() {
            resume_unwind(Box::new(Killed));
        }
        result
    }
}

impl Files for Disk {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.or_killed(self.disk.create_folder(folder))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.or_killed(self.disk.list(folder))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.or_killed(self.disk.read(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Appendable>> {
        self.refuse(true)?;
        let file = self.or_killed(self.disk.create(path))?;
        Ok(Box::new(OpenFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.refuse(false)?;
        self.or_killed(self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.refuse(false)?;
        self.or_killed(self.disk.remove(path))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.or_killed(self.disk.sync_folder(folder))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        self.refuse(false)?;
        self.or_killed(self.disk.lock(path))
    }
}

struct OpenFile {
    disk: Disk,
    file: Box<dyn Appendable>,
}

impl Appendable for OpenFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.disk.refuse(true).is_err() {
            // A full disk takes what fits.
            if self.disk.mood() == Mood::Full {
                let _ = self.file.append(&bytes[..bytes.len() / 2]);
            }
            return self.disk.refuse(true);
        }
        let result = self.file.append(bytes);
        self.disk.or_killed(result)
    }

    fn sync(&mut self) -> io::Result<()> {
        let result = self.file.sync();
        self.disk.or_killed(result)
    }
}
