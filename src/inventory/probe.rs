//! What `check` and `plan` do with the inventory's files, beside an operator that works with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::files::{Disk, DiskError, Volume, beside};
use super::load::{LoadError, Loaded, load};
use crate::clock::Clock;
use crate::threads;

/// Storage may never answer; so long it is waited for.
const LONGEST: Duration = Duration::from_secs(5);

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
    result.recv_timeout(LONGEST).map_err(|_| {
        let tried = volume.under_way().map_or_else(|| "look at it".to_owned(), |(tried, _)| tried);
        format!("no answer from the storage to the attempt to {tried}")
    })
}

/// What the file at `path` holds; none if there isn't any.
pub(crate) fn read(path: &Path) -> Result<Option<Loaded>, LoadError> {
    let path = path.to_owned();
    let read = bounded_in_time(move |volume| load(volume, &resolve(volume, &path)?));
    read.unwrap_or_else(|problem| Err(problem.into()))
}

/// Where links lead from `path`.
pub(crate) fn resolve(volume: &Volume, path: &Path) -> Result<PathBuf, DiskError> {
    volume.run("find", path, |files| files.resolve(path))
}

/// Tries all that the store does in a folder, with files of its own: locks one, writes one and
/// replaces it.
pub(crate) fn try_folder(volume: &Volume, folder: &Path) -> Result<(), DiskError> {
    let file = folder.join(format!(".multinic-operator-check-{}", std::process::id()));
    let lock_file = beside(&file, ".lock");
    let tried = volume
        .run("lock", &lock_file, |files| files.lock(&lock_file))
        .and_then(|_| volume.replace(&file, |opened| opened.append(b"check\n")))
        .and_then(|_| volume.replace(&file, |opened| opened.append(b"check\n")));
    let removed =
        [&file, &lock_file].map(|path| volume.run("remove", path, |files| files.remove(path)));
    tried?;
    removed.into_iter().collect()
}
