//! The real disk, where any operation can fail, take its time or never end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use multinic_operator::inventory::files::{Appendable, Disk, Files, Lock};

type Before = dyn Fn(&str, &Path) -> io::Result<()> + Send + Sync;

/// Asks before each operation, by its name; `unlock` is one too, after the lock is released.
#[derive(Clone)]
pub(crate) struct Faulty(Arc<Before>);

impl Faulty {
    pub(crate) fn new(
        before: impl Fn(&str, &Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> Faulty {
        Faulty(Arc::new(before))
    }

    /// One operation always fails, with this number of the operating system.
    pub(crate) fn failing(operation: &'static str, number: i32) -> Faulty {
        Faulty::new(move |name, _| match name == operation {
            true => Err(io::Error::from_raw_os_error(number)),
            false => Ok(()),
        })
    }
}

impl Files for Faulty {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Disk.resolve(path)
    }
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        (self.0)("create_folder", folder)?;
        Disk.create_folder(folder)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        (self.0)("list", folder)?;
        Disk.list(folder)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        (self.0)("read", path)?;
        Disk.read(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appendable>> {
        (self.0)("create", path)?;
        Disk.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.0)("rename", to)?;
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.0)("remove", path)?;
        Disk.remove(path)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        (self.0)("sync_folder", folder)?;
        Disk.sync_folder(folder)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        (self.0)("lock", path)?;
        let held = |lock| Box::new(Held(Some(lock), self.clone(), path.to_owned())) as Lock;
        Ok(Disk.lock(path)?.map(held))
    }
}

struct Held(Option<Lock>, Faulty, PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        self.0 = None;
        let _ = (self.1.0)("unlock", &self.2);
    }
}

/// A gate that operations wait at while it is shut.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    is_shut: bool,
    waiting: usize,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.0.0.lock().unwrap().is_shut = true;
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().is_shut = false;
        self.0.1.notify_all();
    }

    pub(crate) fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.waiting += 1;
        state = self.0.1.wait_while(state, |state| state.is_shut).unwrap();
        state.waiting -= 1;
    }

    /// Does an operation wait at it?
    pub(crate) fn is_reached(&self) -> bool {
        self.0.0.lock().unwrap().waiting > 0
    }
}
