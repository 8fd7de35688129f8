//! Real disks in trouble: full, read-only, forbidden, missing, taken.
//!
//! A full disk is a small tmpfs where mounting is allowed; elsewhere the test says that it was
//! left out. As root nothing is forbidden, so forbidden is shown by things in the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use multinic_operator::inventory::store::{Condition, Store};
use multinic_operator::metrics::Metrics;

use tempfile::TempDir;

use crate::inventory::faulty::{Faulty, Gate};
use crate::inventory::support::{commit, get, invented_clock, open, open_on, upsert};
use crate::skip::skipped;

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(15), "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    began.elapsed()
}

/// A folder on a disk of its own; none where nothing can be mounted.
fn disk(options: &str) -> Option<(TempDir, Mounted)> {
    let folder = tempfile::tempdir().unwrap();
    let mounted = Mounted::by(&["-t", "tmpfs", "-o", options, "tmpfs"], folder.path())?;
    Some((folder, mounted))
}

struct Mounted(PathBuf);

impl Mounted {
    fn by(arguments: &[&str], place: &Path) -> Option<Mounted> {
        let status = Command::new("mount").args(arguments).arg(place).status();
        if !status.is_ok_and(|status| status.success()) {
            skipped("nothing can be mounted here");
            return None;
        }
        Some(Mounted(place.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn remount(folder: &Path, options: &str) {
    let status = Command::new("mount").args(["-o", options]).arg(folder).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_full_disk_is_said_and_everything_is_written_once_there_is_room() {
    let Some((folder, _mounted)) = disk("size=256k") else { return };
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
    store.flush_and_close();
    let found = open(&path);
    assert_eq!(found.snapshot().len(), expected);
    assert!(get(&found, "during").is_some() && found.findings().is_empty());
}

#[test]
fn on_a_read_only_disk_nothing_may_be_sent_until_it_is_writable() {
    let Some((folder, _mounted)) = disk("size=1m") else { return };
    let path = folder.path().join("inventory.json");
    let store = open(&path);
    commit(&store, vec![upsert("before", &[1], 1)]).unwrap();
    store.flush_and_close();
    store.flush_and_close();
    remount(folder.path(), "remount,ro");
    let store = open(&path);
    assert_eq!(store.state().condition, Condition::Unwritable, "{}", store.state());
    assert!(!store.state().remembers(), "what can't be kept must not be sent");
    assert!(store.state().to_string().contains("Read-only file system"), "{}", store.state());
    commit(&store, vec![upsert("during", &[2], 2)]).unwrap_err();
    remount(folder.path(), "remount,rw");
    wait_until("the disk is used again", || store.state().is_healthy());
    store.flush_and_close();
    assert_eq!(open(&path).snapshot().len(), 2);
}

#[test]
fn a_missing_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not/yet/inventory.json");
    let store = open(&path);
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    store.flush_and_close();
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
    store.flush_and_close();
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
    let store = open(&folder.path().join("inventory.json"));
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    let entries: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 2, "the file and its lock");
    for entry in entries {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn a_commit_beside_the_close_is_refused_and_nothing_is_written_without_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let unlocked = Arc::new(AtomicBool::new(false));
    let is_unlocked = unlocked.clone();
    let store = open_on(
        Faulty::new(move |operation, path| {
            if operation == "unlock" {
                // It is another operator's from here on.
                is_unlocked.store(true, Ordering::SeqCst);
                std::thread::park_timeout(Duration::from_millis(300));
            }
            let is_made = operation == "create" && is_unlocked.load(Ordering::SeqCst);
            assert!(!is_made, "{} was made without the lock", path.display());
            Ok(())
        }),
        &path,
    );
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| store.flush_and_close());
        wait_until("the lock given back", || unlocked.load(Ordering::SeqCst));
        let error = commit(&store, vec![upsert("b", &[2], 1)]).unwrap_err();
        assert_eq!(error.condition, Condition::Closed);
    });
    assert_eq!(open(&path).snapshot().len(), 1);
}

const ENOLCK: i32 = 37;
const EIO: i32 = 5;
const EINVAL: i32 = 22;

#[test]
fn without_a_lock_nothing_may_be_sent_and_nothing_is_written() {
    for (number, said) in [(ENOLCK, "No locks available"), (EIO, "Input/output error")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.json");
        let store = open_on(Faulty::failing("lock", number), &path);
        store.retry();
        let state = store.state();
        assert_eq!(state.condition, Condition::Unwritable, "{state}");
        assert!(!state.remembers());
        let reason = state.reason().unwrap();
        assert!(reason.starts_with("cannot lock ") && reason.contains(said), "{reason}");
        assert_eq!(reason.contains("mount the volume"), number == ENOLCK, "{reason}");
        commit(&store, vec![upsert("a", &[1], 1)]).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_file_system_that_cannot_sync_folders_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let store = open_on(Faulty::failing("sync_folder", EINVAL), &path);
    assert!(store.state().is_healthy(), "{}", store.state());
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    let store = open_on(Faulty::failing("sync_folder", EIO), &folder.path().join("other.json"));
    assert!(store.state().to_string().contains("cannot sync the folder"), "{}", store.state());
}

#[test]
fn a_file_that_is_mounted_by_itself_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    fs::write(&path, r#"{"records": []}"#).unwrap();
    let arguments = ["--bind", path.to_str().unwrap()];
    let Some(_mounted) = Mounted::by(&arguments, &path) else { return };
    let store = open(&path);
    let said = store.state().to_string();
    assert_eq!(store.state().condition, Condition::Unwritable, "{said}");
    assert!(said.contains("cannot replace ") && said.contains("subPath"), "{said}");
    assert!(!folder.path().join("inventory.json.tmp").exists());
    store.flush_and_close();
}

#[test]
fn a_link_is_followed_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("volume")).unwrap();
    let target = folder.path().join("volume/nodes.json");
    std::os::unix::fs::symlink("nodes.json", folder.path().join("volume/link.json")).unwrap();
    for (name, points_to) in [
        ("relative.json", "volume/nodes.json".into()),
        ("whole.json", target.clone()),
        ("twice.json", "volume/link.json".into()),
    ] {
        let _ = fs::remove_file(&target);
        let link = folder.path().join(name);
        std::os::unix::fs::symlink(points_to, &link).unwrap();
        // The target isn't there the first time.
        let store = open(&link);
        commit(&store, vec![upsert(name, &[1], 1)]).unwrap();
        let second = open(&target);
        assert_eq!(second.state().condition, Condition::Locked, "both names are one file");
        second.flush_and_close();
        store.flush_and_close();
        assert!(link.is_symlink());
        let text = fs::read_to_string(&target).unwrap();
        assert!(text.contains(name), "{text}");
    }
    let names: Vec<_> = fs::read_dir(folder.path().join("volume")).unwrap().collect();
    assert_eq!(names.len(), 3, "the file, its lock and a link: {names:?}");
}

/// A store with a thread whose disk waits at a gate before one kind of operation, and its clock.
fn gated(path: &Path, operation: &'static str) -> (Arc<Store>, Gate, Arc<Metrics>) {
    let (gate, metrics) = (Gate::default(), Arc::<Metrics>::default());
    let at = gate.clone();
    let files = Faulty::new(move |name, _| {
        if name == operation {
            at.pass();
        }
        Ok(())
    });
    gate.shut();
    let clock = invented_clock();
    let store = Store::new(Box::new(files), path, clock, metrics.clone()).start();
    (store, gate, metrics)
}

#[test]
fn storage_that_hangs_while_the_file_is_opened_is_said_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let (store, gate, metrics) = gated(&path, "lock");
    wait_until("the lock is asked for", || gate.is_reached());
    let began = Instant::now();
    store.wait_until_opened(Duration::from_millis(50));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(store.state().condition, Condition::Opening);
    assert!(!store.state().remembers());
    store.clock().advance(Duration::from_secs(12));
    let state = store.state();
    let expected =
        format!("no answer from the storage to the attempt to lock {}.lock", path.display());
    assert_eq!((state.condition, state.reason()), (Condition::Opening, Some(expected.as_str())));
    assert_eq!(state.since(), Some(crate::inventory::support::start()));
    store.report();
    let shown = metrics.render();
    assert!(shown.contains("multinic_inventory_state{state=\"opening\"} 1"), "{shown}");
    assert!(shown.contains("multinic_inventory_pending_seconds 12"), "{shown}");
    gate.open();
    wait_until("the file is opened", || store.state().is_healthy());
    store.report();
    assert!(metrics.render().contains("multinic_inventory_pending_seconds 0"));
    store.flush_and_close();
}

#[test]
fn storage_that_hangs_while_a_commit_is_written_holds_up_neither_commits_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let (store, gate, _) = gated(&path, "rename");
    gate.open();
    store.wait_until_opened(Duration::from_secs(10));
    gate.shut();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| commit(&store, vec![upsert("a", &[1], 1)]));
        wait_until("the commit is being written", || gate.is_reached());
        assert!(store.state().is_healthy());
        store.clock().advance(Duration::from_secs(6));
        let state = store.state();
        assert_eq!(state.condition, Condition::Unwritten, "{state}");
        assert!(state.remembers());
        assert!(state.reason().unwrap().contains("the attempt to replace "), "{state}");
        let began = Instant::now();
        let error = commit(&store, vec![upsert("b", &[2], 2)]).unwrap_err();
        assert_eq!(error.condition, Condition::Unwritten);
        store.flush_and_close();
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert_eq!(store.state().condition, Condition::Closed);
        first.join().unwrap().unwrap_err();
        gate.open();
    });
    // The folder outlives what is still being written into it.
    let lock = folder.path().join("inventory.json.lock");
    let is_free = || fs::File::open(&lock).is_ok_and(|file| file.try_lock().is_ok());
    wait_until("the writer gives its lock back", is_free);
}

#[test]
fn storage_that_hangs_for_a_while_has_everything_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let (store, gate, _) = gated(&path, "rename");
    gate.open();
    store.wait_until_opened(Duration::from_secs(10));
    gate.shut();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| commit(&store, vec![upsert("a", &[1], 1)]));
        wait_until("the commit is being written", || gate.is_reached());
        store.clock().advance(Duration::from_secs(6));
        gate.open();
        first.join().unwrap().unwrap();
    });
    commit(&store, vec![upsert("b", &[2], 2)]).unwrap();
    store.flush_and_close();
    assert_eq!(open(&path).snapshot().len(), 2);
}
