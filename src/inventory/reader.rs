//! Reads an inventory that somebody else may be writing: without its lock, and without a trace.
//!
//! A writing operator replaces the document and drops journal segments that the new document
//! includes. Whoever reads across such a moment could miss a segment, which shows in the folder's
//! names; then it is read once more.

use std::path::Path;

use super::files::Files;
use super::load::{LoadError, Loaded, Places, load};

/// A compaction takes milliseconds and comes once in a megabyte of commits.
const MAX_ATTEMPTS: usize = 5;

/// What the inventory at `path` holds now, its journal included; none if there isn't any.
///
/// # Errors
/// If a file is there but can't be read, or a later version wrote it. Damage is no error, but a
/// finding.
pub fn read(files: &dyn Files, path: &Path) -> Result<Option<Loaded>, LoadError> {
    let places = Places::of(path);
    let mut before = ours(files, &places);
    for _ in 1..MAX_ATTEMPTS {
        let loaded = load(files, &places)?;
        let after = ours(files, &places);
        if after == before {
            return Ok((!after.is_empty()).then_some(loaded));
        }
        before = after;
    }
    load(files, &places).map(Some)
}

/// The names of the document and its journal, as far as they are there.
fn ours(files: &dyn Files, places: &Places) -> Vec<String> {
    // A folder that can't be listed is told by `load`.
    let names = files.list(&places.folder).unwrap_or_default();
    let document = places.document.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_document = |name: &String| Some(name) == document.as_ref();
    let mut ours: Vec<String> = names.iter().filter(|name| is_document(name)).cloned().collect();
    let segments = places.segments(&names);
    ours.extend(segments.iter().map(|path| path.to_string_lossy().into_owned()));
    ours
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::inventory::files::{Appendable, Disk, Files, Lock};
    use std::io;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A disk on which a writer drops a segment while the first reading is under way.
    struct Compacting {
        lists: AtomicUsize,
    }

    const SEGMENT: &str = "inventory.json.journal-00000000000000000001";

    impl Files for Compacting {
        fn create_folder(&self, _: &Path) -> io::Result<()> {
            panic!("a reader makes no folder");
        }
        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            // Once by the reader, once by the loading; gone from then on.
            let early = self.lists.fetch_add(1, Ordering::SeqCst) < 2;
            let names = ["inventory.json"].into_iter().chain(early.then_some(SEGMENT));
            Ok(names.map(str::to_owned).collect())
        }
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            if path.ends_with(SEGMENT) {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(br#"{"records":[]}"#.to_vec())
        }
        fn create(&self, _: &Path) -> io::Result<Box<dyn Appendable>> {
            panic!("a reader creates nothing");
        }
        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            panic!("a reader renames nothing");
        }
        fn remove(&self, _: &Path) -> io::Result<()> {
            panic!("a reader removes nothing");
        }
        fn sync_folder(&self, _: &Path) -> io::Result<()> {
            panic!("a reader syncs nothing");
        }
        fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
            panic!("a reader takes no lock");
        }
    }

    #[test]
    fn a_reading_across_a_compaction_is_done_again() {
        let files = Compacting { lists: AtomicUsize::new(0) };
        assert!(read(&files, Path::new("/x/inventory.json")).unwrap().is_some());
        assert_eq!(files.lists.load(Ordering::SeqCst), 5, "it was believed at once");
    }

    #[test]
    fn no_inventory_is_told_apart_from_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.json");
        assert!(read(&Disk, &path).unwrap().is_none());
        assert!(read(&Disk, Path::new("/nowhere/inventory.json")).unwrap().is_none());
        std::fs::write(&path, r#"{"records":[]}"#).unwrap();
        assert!(read(&Disk, &path).unwrap().is_some_and(|loaded| loaded.inventory.is_empty()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "it left a trace");
    }
}
