//! The operations of a file system that the inventory is built from, and the order they come in.
//!
//! [`Files`] is the real disk. The crash simulator of the tests replaces its operations: it stops at
//! any one of them and loses or reorders what wasn't synced. That is why there is no truncation, no
//! overwriting and no seeking: a file is created, appended to, synced and renamed.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::clock::{Clock, Now};
use crate::threads::{self, lock};

/// Owner only. The file holds no secret, but it is a map of the network.
const FILE_MODE: u32 = 0o600;

/// Linux's "No locks available": a network file system without its lock service.
const ENOLCK: i32 = 37;

/// Storage may never answer; so long it is waited for.
const PROBE_LONGEST: Duration = Duration::from_secs(5);

/// A held lock; dropping it releases it.
pub type Lock = Box<dyn Send>;

/// A file system; the real one, but for what an implementation replaces.
pub trait Files: Send + Sync {
    /// Where a path leads when symbolic links are followed, also if nothing is there yet.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match fs::canonicalize(path) {
            // Nothing there yet, or a link to nothing.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut path = path.to_owned();
                while let Ok(target) = fs::read_link(&path) {
                    path = folder_of(&path).join(target);
                }
                Ok(path)
            }
            resolved => resolved,
        }
    }

    /// Makes the folder and its parents, if they aren't there.
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    /// The names in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
        // A name that isn't UTF-8 can't be one of ours.
        let names: io::Result<Vec<_>> = names.collect();
        Ok(names?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    /// A new, empty file; one that is there already is an error.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appendable>> {
        let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(file))
    }

    /// Gives a file another name, in place of what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Makes names that were created, changed or removed in a folder outlast a power cut.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    /// Locks a file against other processes; none if another one holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                log::warn!("{} is on a file system without locks", path.display());
                Ok(Some(Box::new(file)))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {}

/// A file that is being written.
pub trait Appendable: Send {
    /// Writes all bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written outlast a power cut. After an error the file can't be relied on: the
    /// kernel may have dropped the pages and call the next sync a success.
    fn sync(&mut self) -> io::Result<()>;
}

impl Appendable for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Does an operator hold the lock of the inventory at `path`? The lock is never made here, and tried in
/// the way that leaves others who only look alone; an operator that starts in this very moment tries
/// again half a second later.
pub(crate) fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(beside(path, ".lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// What the file system refused.
#[derive(Debug)]
pub(crate) struct DiskError {
    /// The operation and the file.
    tried: String,
    error: io::Error,
}

impl fmt::Display for DiskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}: {}", self.tried, self.error)?;
        match self.error.kind() {
            _ if self.error.raw_os_error() == Some(ENOLCK) => formatter.write_str(
                "; mount the volume so that files on it can be locked (NFS: its lock service, or \
                 the option nolock), or use another one",
            ),
            ErrorKind::ResourceBusy => formatter.write_str(
                "; if the file is mounted by itself (subPath), mount the folder it is in instead",
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for DiskError {}

/// A file system whose operations say what is tried, while it is tried and when it fails.
pub(crate) struct Volume {
    files: Box<dyn Files>,
    clock: Clock,
    /// Storage may never answer: the operation that is under way, and since when.
    under_way: Mutex<Option<(String, Now)>>,
    /// One warning is enough for a file system that can't sync folders.
    warned: Once,
}

impl Volume {
    pub(crate) fn new(files: Box<dyn Files>, clock: Clock) -> Volume {
        Volume { files, clock, under_way: Mutex::default(), warned: Once::new() }
    }

    /// The operation that is under way, and since when.
    pub(crate) fn under_way(&self) -> Option<(String, Now)> {
        lock(&self.under_way).clone()
    }

    /// One operation, in words that follow "cannot" and "trying to".
    pub(crate) fn run<T>(
        &self,
        verb: &str,
        path: &Path,
        operation: impl FnOnce(&dyn Files) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let tried = format!("{verb} {}", path.display());
        *lock(&self.under_way) = Some((tried.clone(), self.clock.now()));
        let result = operation(&*self.files);
        *lock(&self.under_way) = None;
        result.map_err(|error| DiskError { tried, error })
    }

    /// Where links lead from `path`.
    pub(crate) fn resolve(&self, path: &Path) -> Result<PathBuf, DiskError> {
        self.run("find", path, |files| files.resolve(path))
    }

    /// A file's bytes, or a folder's names; none if it isn't there.
    pub(crate) fn read<T>(
        &self,
        path: &Path,
        read: impl FnOnce(&dyn Files) -> io::Result<T>,
    ) -> Result<Option<T>, DiskError> {
        self.run("read", path, |files| match read(files) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        })
    }

    /// Replaces a file by a new one: written beside it, synced, renamed, the folder synced. A crash
    /// at any instant leaves the old or the new content. Gives how long the sync took.
    pub(crate) fn replace(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut dyn Appendable) -> io::Result<()>,
    ) -> Result<Duration, DiskError> {
        let temporary = beside(path, ".tmp");
        self.run("remove", &temporary, |files| match files.remove(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })?;
        let replaced = self.run("create", &temporary, |files| files.create(&temporary));
        let replaced = replaced.and_then(|mut file| {
            self.run("write", &temporary, |_| fill(&mut *file))?;
            let started = self.clock.now().uptime;
            self.run("sync", &temporary, |_| file.sync())?;
            let took = self.clock.now().uptime.saturating_sub(started);
            self.run("replace", path, |files| files.rename(&temporary, path))?;
            self.sync_folder_of(path)?;
            Ok(took)
        });
        if replaced.is_err() {
            // Space is short, perhaps; a leftover would make it shorter.
            let _ = self.run("remove", &temporary, |files| files.remove(&temporary));
        }
        replaced
    }

    /// Makes the names in a file's folder outlast a power cut, where the file system can do that.
    pub(crate) fn sync_folder_of(&self, path: &Path) -> Result<(), DiskError> {
        let folder = folder_of(path);
        self.run("sync the folder", folder, |files| match files.sync_folder(folder) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let folder = folder.display();
                self.warned.call_once(|| log::warn!("{folder} can't be synced: {error}"));
                Ok(())
            }
            synced => synced,
        })
    }

    /// Tries all that the store does in a folder, with files of its own: locks one, writes one and
    /// replaces it.
    pub(crate) fn try_folder(&self, folder: &Path) -> Result<(), DiskError> {
        let file = folder.join(format!(".multinic-operator-check-{}", std::process::id()));
        let lock_file = beside(&file, ".lock");
        let tried = self
            .run("lock", &lock_file, |files| files.lock(&lock_file))
            .and_then(|_| self.replace(&file, |opened| opened.append(b"check\n")))
            .and_then(|_| self.replace(&file, |opened| opened.append(b"check\n")));
        let removed =
            [&file, &lock_file].map(|path| self.run("remove", path, |files| files.remove(path)));
        tried?;
        removed.into_iter().collect()
    }
}

/// Does something with files, unless the storage doesn't answer.
pub(crate) fn bounded_in_time<T: Send + 'static>(
    work: impl FnOnce(&Volume) -> T + Send + 'static,
) -> Result<T, String> {
    let volume = Arc::new(Volume::new(Box::new(Disk), Clock::system()));
    let (done, result) = bounded(1);
    let own = Arc::clone(&volume);
    let thread = threads::spawn("files", move || {
        let _ = done.send(work(&own));
    });
    thread.map_err(|error| format!("no thread can be started: {error}"))?;
    result.recv_timeout(PROBE_LONGEST).map_err(|_| {
        let tried = volume.under_way().map_or_else(|| "look at it".to_owned(), |(tried, _)| tried);
        format!("no answer from the storage to the attempt to {tried}")
    })
}

/// A file's path with something at its end.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
