//! A disk in memory that stops, fails, and forgets as a real one may.
//!
//! What is promised after a power cut is only what was synced: bytes by the file's sync, names by
//! the folder's. Everything else may be there, in part, in any order, or as zeros.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use multinic_operator::inventory::files::{Appendable, Files, Lock};

/// Smaller than any real sector, so that single lines are torn too.
const SECTOR_BYTES: usize = 64;

#[derive(Clone, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    unsynced_changes: Vec<NameChange>,
    operations: usize,
    fault: Option<Fault>,
    stopped: bool,
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

/// What happens at a numbered operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It and everything after it fails: the machine or the process is gone.
    StopAt(usize),
    /// Operations from the first to before the second fail, later ones work again.
    FailFrom(usize, usize),
}

/// What a restart finds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Restart {
    /// Only the process ended: all that was written is seen, though still unsynced.
    Killed,
    /// Power cut, nothing unsynced survived.
    NothingUnsynced,
    /// Power cut, everything unsynced happened to survive.
    EverythingUnsynced,
    /// Power cut, any part of it survived.
    Some(u64),
}

impl SimulatedDisk {
    pub(crate) fn with(fault: Fault) -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        disk.plan(Some(fault));
        disk
    }

    /// Plans a fault; operations are counted anew.
    pub(crate) fn plan(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.operations = 0;
        state.fault = fault;
        state.stopped = false;
    }

    /// Did a planned stop come?
    pub(crate) fn has_stopped(&self) -> bool {
        self.state().stopped
    }

    pub(crate) fn operations(&self) -> usize {
        self.state().operations
    }

    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let content = state.contents.len();
        state.contents.push(Content { bytes: bytes.to_vec(), synced: bytes.len() });
        state.names.insert(path.to_owned(), content);
        state.synced_names.insert(path.to_owned(), content);
    }

    /// A disk as found after a restart; this one stays as it is.
    pub(crate) fn after(&self, restart: Restart) -> SimulatedDisk {
        let mut state = self.state().clone();
        state.fault = None;
        state.stopped = false;
        state.operations = 0;
        let mut random = match restart {
            Restart::Killed => return SimulatedDisk(Arc::new(Mutex::new(state))),
            Restart::Some(seed) => fastrand::Rng::with_seed(seed),
            _ => fastrand::Rng::with_seed(0),
        };
        let survives = |random: &mut fastrand::Rng| match restart {
            Restart::NothingUnsynced => false,
            Restart::EverythingUnsynced | Restart::Killed => true,
            Restart::Some(_) => random.bool(),
        };
        let mut names = state.synced_names.clone();
        for change in std::mem::take(&mut state.unsynced_changes) {
            if survives(&mut random) {
                change.apply(&mut names);
            }
        }
        for content in &mut state.contents {
            let unsynced = content.bytes.split_off(content.synced);
            if matches!(restart, Restart::Some(_)) && random.bool() {
                // Data may be lost although the length is kept, or the other way round.
                let kept = random.usize(0..=unsynced.len());
                for sector in unsynced[..kept].chunks(SECTOR_BYTES) {
                    match survives(&mut random) {
                        true => content.bytes.extend_from_slice(sector),
                        false => content.bytes.extend(std::iter::repeat_n(0, sector.len())),
                    }
                }
            } else if survives(&mut random) {
                content.bytes.extend_from_slice(&unsynced);
            }
            content.synced = content.bytes.len();
        }
        state.synced_names = names.clone();
        state.names = names;
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let state = self.state();
        state.names.keys().map(|path| path.file_name().unwrap().to_str().unwrap().into()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts an operation; gives the state and whether the operation is to fail.
    fn operation(&self) -> io::Result<(MutexGuard<'_, State>, bool)> {
        let mut state = self.state();
        if state.stopped {
            return Err(io::Error::other("the machine has stopped"));
        }
        let number = state.operations;
        state.operations += 1;
        let fails = match state.fault {
            Some(Fault::StopAt(at)) if number >= at => {
                state.stopped = true;
                true
            }
            Some(Fault::FailFrom(from, to)) => (from..to).contains(&number),
            _ => false,
        };
        Ok((state, fails))
    }
}

impl SimulatedDisk {
    /// An operation that changes nothing on the disk.
    fn plain_operation(&self) -> io::Result<()> {
        let (state, fails) = self.operation()?;
        drop(state);
        if fails { Err(full()) } else { Ok(()) }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Set(path, content) => {
                names.insert(path.clone(), *content);
            }
            NameChange::Rename(from, to, content) => {
                names.remove(from);
                names.insert(to.clone(), *content);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl State {
    /// A change of names that may or may not have happened when it is said to have failed.
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_changes.push(change);
    }

    fn content_at(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for SimulatedDisk {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn create_folder(&self, _: &Path) -> io::Result<()> {
        self.plain_operation()
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        self.plain_operation()?;
        Ok(self.names())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (state, fails) = self.operation()?;
        if fails {
            return Err(full());
        }
        let content = state.content_at(path)?;
        Ok(state.contents[content].bytes.clone())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Appendable>> {
        let (mut state, fails) = self.operation()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if fails && !state.stopped {
            return Err(full());
        }
        let content = state.contents.len();
        state.contents.push(Content::default());
        state.change(NameChange::Set(path.to_owned(), content));
        match fails {
            true => Err(full()),
            false => Ok(Box::new(SimulatedFile { disk: self.clone(), content })),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, fails) = self.operation()?;
        let content = state.content_at(from)?;
        if !fails || state.stopped {
            state.change(NameChange::Rename(from.to_owned(), to.to_owned(), content));
        }
        if fails { Err(full()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, fails) = self.operation()?;
        state.content_at(path)?;
        if !fails || state.stopped {
            state.change(NameChange::Remove(path.to_owned()));
        }
        if fails { Err(full()) } else { Ok(()) }
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        let (mut state, fails) = self.operation()?;
        if fails {
            return Err(full());
        }
        state.synced_names = state.names.clone();
        state.unsynced_changes.clear();
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        self.plain_operation()?;
        Ok(Some(Box::new(())))
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    content: usize,
}

impl Appendable for SimulatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut state, fails) = self.disk.operation()?;
        // A failing write may have written a part.
        let written = if fails && !state.stopped { bytes.len() / 2 } else { bytes.len() };
        state.contents[self.content].bytes.extend_from_slice(&bytes[..written]);
        if fails { Err(full()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let (mut state, fails) = self.disk.operation()?;
        if fails {
            return Err(full());
        }
        let content = &mut state.contents[self.content];
        content.synced = content.bytes.len();
        Ok(())
    }
}
