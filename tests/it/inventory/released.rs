//! Upgrades from version 0.1.0, which kept its last commits in a journal beside the file. What it left
//! when it was killed is in `released`.

use std::path::Path;

use multinic_operator::inventory::files::Files as _;
use multinic_operator::inventory::store::Store;

use crate::inventory::support::{commit, open_on, seen, upsert};
use crate::simulated_disk::{Fault, Restart, SimulatedDisk};

const PATH: &str = "/data/inventory.json";
const JOURNAL: &str = "/data/inventory.json.journal-00000000000000000003";
const DOCUMENT: &[u8] = include_bytes!("released/inventory.json");
const COMMITS: &[u8] = include_bytes!("released/journal");

fn left() -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    disk.put(Path::new(PATH), DOCUMENT);
    disk.put(Path::new(JOURNAL), COMMITS);
    disk
}

fn open(disk: &SimulatedDisk) -> Store {
    open_on(disk.clone(), Path::new(PATH))
}

fn nodes(store: &Store) -> Vec<String> {
    store.snapshot().iter().map(|stored| stored.record.node_name.clone()).collect()
}

#[test]
fn the_journal_is_folded_in_once_and_removed() {
    let disk = left();
    let store = open(&disk);
    assert!(store.state().is_healthy() && store.findings().is_empty(), "{:?}", store.findings());
    assert_eq!(nodes(&store), ["worker-0", "worker-2", "worker-9"]);
    let inventory = store.snapshot();
    let renamed = inventory.get("cloud", "worker-9").unwrap();
    let timeline: serde_json::Value = serde_json::from_slice(&renamed.timeline).unwrap();
    assert_eq!(timeline["changes"][0]["change"], "firstSent", "it is in the file");
    assert_eq!(timeline["changes"][1]["from"], "worker-1", "it is in the journal");
    assert_eq!(renamed.record.reserved_ids.len(), 1);
    assert_eq!(disk.names(), ["inventory.json"]);
    let again = open(&disk.after(Restart::NothingUnsynced));
    assert_eq!(seen(&again.snapshot()), seen(&inventory));
}

#[test]
fn a_stop_at_any_operation_of_the_upgrade_loses_nothing() {
    let whole = seen(&open(&left()).snapshot());
    let total = {
        let disk = left();
        open(&disk);
        disk.operations()
    };
    for stop in 0..total {
        let disk = left();
        disk.plan(Some(Fault::StopAt(stop)));
        open(&disk);
        let fixed = [Restart::Killed, Restart::NothingUnsynced, Restart::EverythingUnsynced];
        for restart in fixed.into_iter().chain((0..12).map(Restart::Some)) {
            let context = format!("stopped at operation {stop} of {total}, {restart:?}");
            let found = disk.after(restart);
            let store = open(&found);
            assert!(store.findings().is_empty(), "{context}: {:?}", store.findings());
            assert_eq!(seen(&store.snapshot()), whole, "{context}");
        }
    }
    assert!(total > 10, "{total} operations");
}

#[test]
fn a_journal_that_could_not_be_removed_is_not_applied_twice() {
    let disk = left();
    let store = open(&disk);
    commit(&store, vec![upsert("later", &[1], 9)]).unwrap();
    drop(store);
    let disk = disk.after(Restart::NothingUnsynced);
    let worker_0 = open(&disk).snapshot().get("cloud", "worker-0").unwrap().record.clone();
    let mut changed = worker_0.clone();
    changed.down_ports = vec!["port-0001".to_owned()];
    let change = multinic_operator::inventory::record::Change::Upsert(changed.clone());
    commit(&open(&disk), vec![change]).unwrap();
    disk.put(Path::new(JOURNAL), COMMITS);
    let store = open(&disk);
    assert_eq!(store.snapshot().get("cloud", "worker-0").unwrap().record, changed);
    assert!(store.findings().is_empty());
}

#[test]
fn what_can_be_read_of_a_damaged_journal_is_used_and_the_journal_is_kept() {
    let hit = |place: usize| {
        let mut bytes = COMMITS.to_vec();
        bytes[place] ^= 1;
        bytes
    };
    let lines: Vec<usize> =
        COMMITS.iter().zip(0..).filter(|(b, _)| **b == b'\n').map(|(_, at)| at).collect();
    for (journal, found) in [
        // The second of four commits.
        (hit(lines[0] + 50), &["worker-0", "worker-2", "worker-9"][..]),
        (hit(lines[2] - 10), &["worker-0", "worker-1", "worker-2"]),
        // The last one may have been cut off.
        (COMMITS[..COMMITS.len() - 10].to_vec(), &["worker-0", "worker-9"]),
        (vec![0; 5000], &["worker-0", "worker-1"]),
    ] {
        let disk = left();
        disk.put(Path::new(JOURNAL), &journal);
        let store = open(&disk);
        assert!(store.state().is_healthy(), "{}", store.state());
        assert_eq!(nodes(&store), found);
        assert!(store.findings()[0].contains("is damaged"), "{:?}", store.findings());
        assert_eq!(disk.read(Path::new(&format!("{JOURNAL}.corrupt"))).unwrap(), journal);
        assert!(disk.read(Path::new(JOURNAL)).is_err());
        assert!(open(&disk.after(Restart::NothingUnsynced)).findings().is_empty());
    }
}

#[test]
fn a_file_put_in_place_by_someone_else_wins_over_the_journal() {
    let disk = left();
    disk.put(Path::new(PATH), br#"{"records": []}"#);
    let store = open(&disk);
    assert!(store.snapshot().is_empty());
    assert!(store.findings()[0].contains("belongs to another file"), "{:?}", store.findings());
    assert_eq!(disk.read(Path::new(&format!("{JOURNAL}.corrupt"))).unwrap(), COMMITS);
}

#[test]
fn a_missing_file_is_said_and_the_journal_is_not_thrown_away() {
    let disk = left();
    disk.remove(Path::new(PATH)).unwrap();
    let store = open(&disk);
    assert_eq!(nodes(&store), ["worker-0", "worker-2", "worker-9"]);
    assert!(store.findings()[0].contains("is missing"), "{:?}", store.findings());
}
