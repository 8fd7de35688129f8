//! Real disks in trouble: full, read-only, forbidden, missing, taken.
//!
//! A full disk is a small tmpfs where mounting is allowed; elsewhere the test says that it was
//! left out. As root nothing is forbidden, so forbidden is shown by things in the way.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use multinic_operator::inventory::files::{Appendable, Disk, Files, Lock};
use multinic_operator::inventory::store::{Condition, Store};

use crate::support::{commit, get, open, open_on, upsert};

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(15), "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    began.elapsed()
}

fn mount(folder: &Path, options: &str) -> bool {
    let arguments = ["-t", "tmpfs", "-o", options, "tmpfs"];
    let mounted = Command::new("mount").args(arguments).arg(folder).status();
    mounted.is_ok_and(|status| status.success())
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn remount(folder: &Path, options: &str) {
    let status = Command::new("mount").args(["-o", options]).arg(folder).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_full_disk_is_said_and_everything_is_written_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    if !mount(folder.path(), "size=256k") {
        println!("left out: no tmpfs can be mounted here");
        return;
    }
    let _mounted = Mounted(folder.path());
    let path = folder.path().join("inventory.json");
    let store = open(&path);
    commit(&store, vec![upsert("before", &[1], 1)]).unwrap();
    fs::write(folder.path().join("ballast"), vec![1; 1024 * 1024]).unwrap_err();
    let error = commit(&store, vec![upsert("during", &(0..10).collect::<Vec<_>>(), 2)]);
    // The disk's last page may have room for a small commit; it ends soon.
    let mut number = 0;
    let error = match error {
        Err(error) => error,
        Ok(()) => loop {
            number += 1;
            if let Err(error) = commit(&store, vec![upsert(&format!("more-{number}"), &[1], 3)]) {
                break error;
            }
            assert!(number < 1000);
        },
    };
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(store.state().condition, Condition::Unwritten);
    assert!(store.state().remembers());
    assert!(get(&store, "during").is_some(), "memory has it all the same");
    fs::remove_file(folder.path().join("ballast")).unwrap();
    wait_until("the disk is used again", || store.state().is_healthy());
    commit(&store, vec![upsert("after", &[1], 4)]).unwrap();
    let expected = store.snapshot().len();
    drop(store);
    let found = open(&path);
    assert_eq!(found.snapshot().len(), expected);
    assert!(get(&found, "during").is_some() && found.findings().is_empty());
}

#[test]
fn on_a_read_only_disk_nothing_may_be_sent_until_it_is_writable() {
    let folder = tempfile::tempdir().unwrap();
    if !mount(folder.path(), "size=1m") {
        println!("left out: no tmpfs can be mounted here");
        return;
    }
    let _mounted = Mounted(folder.path());
    let path = folder.path().join("inventory.json");
    let store = open(&path);
    commit(&store, vec![upsert("before", &[1], 1)]).unwrap();
    store.flush_and_close();
    drop(store);
    remount(folder.path(), "remount,ro");
    let store = open(&path);
    assert_eq!(store.state().condition, Condition::Unwritable, "{}", store.state());
    assert!(!store.state().remembers(), "what can't be kept must not be sent");
    assert!(store.state().to_string().contains("Read-only file system"), "{}", store.state());
    commit(&store, vec![upsert("during", &[2], 2)]).unwrap_err();
    remount(folder.path(), "remount,rw");
    wait_until("the disk is used again", || store.state().is_healthy());
    drop(store);
    assert_eq!(open(&path).snapshot().len(), 2);
}

#[test]
fn a_missing_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not/yet/inventory.json");
    let store = open(&path);
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    drop(store);
    assert_eq!(open(&path).snapshot().len(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_said_and_made_later() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("data");
    fs::write(&in_the_way, "a file where the folder should be").unwrap();
    let path = in_the_way.join("inventory.json");
    let store = open(&path);
    assert!(!store.state().is_healthy());
    let error = commit(&store, vec![upsert("a", &[1], 1)]).unwrap_err();
    assert!(error.to_string().contains("Not a directory"), "{error}");
    fs::remove_file(&in_the_way).unwrap();
    wait_until("the folder is made", || store.state().is_healthy());
    drop(store);
    assert_eq!(open(&path).snapshot().len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_stops_guessing_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    // A folder of that name can't be read as a file, whoever asks.
    fs::create_dir(&path).unwrap();
    let store = open(&path);
    assert_eq!(store.state().condition, Condition::Unreadable, "{}", store.state());
    assert!(!store.state().remembers(), "ids must not be handed out anew");
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap_err();
    assert!(path.is_dir());
    fs::remove_dir(&path).unwrap();
    wait_until("it can be read", || store.state().is_healthy());
    assert_eq!(store.snapshot().len(), 1);
}

#[test]
fn two_operators_on_one_file_are_told_apart_and_the_second_takes_over_what_the_first_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let first = open(&path);
    commit(&first, vec![upsert("a", &[1], 1)]).unwrap();
    let second = open(&path);
    assert_eq!(second.state().condition, Condition::Locked, "{}", second.state());
    assert!(!second.state().remembers());
    assert!(second.state().to_string().contains("in use by another operator"));
    commit(&second, vec![upsert("b", &[2], 2)]).unwrap_err();
    commit(&first, vec![upsert("c", &[3], 3)]).unwrap();
    first.flush_and_close();
    let waited = wait_until("the second takes over", || second.state().is_healthy());
    assert!(waited < Duration::from_secs(11));
    let names: Vec<_> =
        second.snapshot().iter().map(|stored| stored.record.node_name.clone()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let store: Store = open(&folder.path().join("inventory.json"));
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    let entries: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 2, "the file and its lock");
    for entry in entries {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

/// A real disk whose lock takes long to be given back, and is then another operator's.
struct SlowUnlock(Arc<AtomicBool>);

struct SlowLock(Option<Lock>, Arc<AtomicBool>);

impl Drop for SlowLock {
    fn drop(&mut self) {
        self.0 = None;
        self.1.store(true, Ordering::SeqCst);
        std::thread::park_timeout(Duration::from_millis(300));
    }
}

impl Files for SlowUnlock {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        Disk.create_folder(folder)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        Disk.list(folder)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appendable>> {
        assert!(!self.0.load(Ordering::SeqCst), "{} was made without the lock", path.display());
        Disk.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        Disk.sync_folder(folder)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let slow = |lock| Box::new(SlowLock(Some(lock), self.0.clone())) as Lock;
        Ok(Disk.lock(path)?.map(slow))
    }
}

#[test]
fn a_commit_beside_the_close_is_refused_and_nothing_is_written_without_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let unlocked = Arc::new(AtomicBool::new(false));
    let store = open_on(SlowUnlock(unlocked.clone()), &path);
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| store.flush_and_close());
        wait_until("the lock given back", || unlocked.load(Ordering::SeqCst));
        let error = commit(&store, vec![upsert("b", &[2], 1)]).unwrap_err();
        assert_eq!(error.state.condition, Condition::Closed);
    });
    assert_eq!(open(&path).snapshot().len(), 1);
}
