//! What the store promises to those who use it.

use std::sync::Arc;

use multinic_operator::inventory::record::Change;
use multinic_operator::inventory::store::{StoreError, StoreState};

use crate::simulated_disk::SimulatedDisk;
use crate::support::{PROVIDER, open, open_on, record, remove, upsert};

#[test]
fn a_reader_keeps_what_it_has_while_the_writer_goes_on() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    store.commit(vec![upsert("a", &[1], 1)]).unwrap();
    let before = store.snapshot();
    store.commit(vec![upsert("a", &[2], 2), upsert("b", &[3], 2)]).unwrap();
    assert_eq!(before.len(), 1);
    assert_eq!(before.get(PROVIDER, "a").unwrap().record.config.interfaces[0].port_id, "port-0001");
    assert_eq!(store.snapshot().len(), 2);
    assert_ne!(before.version(), store.snapshot().version());
}

#[test]
fn records_are_found_by_node_and_by_vm_and_come_in_order() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    // Enough for many chunks, in an order that isn't theirs.
    let number = |step: u32| step * 7919 % 3000;
    for steps in (0..3000).collect::<Vec<_>>().chunks(250) {
        let changes = steps.iter().map(|step| upsert(&format!("n{:04}", number(*step)), &[1], 1));
        store.commit(changes.collect()).unwrap();
    }
    let inventory = store.snapshot();
    let names: Vec<_> = inventory.iter().map(|stored| stored.record.node_name.clone()).collect();
    assert_eq!(names, (0..3000).map(|n| format!("n{n:04}")).collect::<Vec<_>>());
    for name in &names {
        assert_eq!(store.get(PROVIDER, name).unwrap().record.node_name, *name);
        let of_vm = store.by_instance(PROVIDER, &format!("vm-{name}"));
        assert_eq!(of_vm.len(), 1);
        assert_eq!(of_vm[0].record.node_name, *name);
    }
    assert!(store.get(PROVIDER, "n3000").is_none());
    assert!(store.get("another", "n0001").is_none());
    let odd = names.iter().skip(1).step_by(2);
    store.commit(odd.map(|name| remove(name)).collect()).unwrap();
    assert_eq!(store.snapshot().len(), 1500);
    assert!(store.get(PROVIDER, "n0001").is_none());
    assert!(store.by_instance(PROVIDER, "vm-n0001").is_empty());
    assert_eq!(store.snapshot().by_name("n0002").len(), 1);
    assert_eq!(store.snapshot().starting_at(PROVIDER, "n2995").count(), 2);
}

#[test]
fn a_node_that_gets_another_vm_is_found_by_the_new_vm_only() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    store.commit(vec![Change::Upsert(record("a", "vm-1", &[1], 1))]).unwrap();
    store.commit(vec![Change::Upsert(record("a", "vm-2", &[2], 2))]).unwrap();
    assert!(store.by_instance(PROVIDER, "vm-1").is_empty());
    assert_eq!(store.by_instance(PROVIDER, "vm-2").len(), 1);
}

#[test]
fn the_timeline_says_what_changed_and_survives_a_restart_and_a_rename() {
    let disk = SimulatedDisk::default();
    let path = "/data/inventory.json".as_ref();
    let store = open_on(disk.clone(), path);
    store.commit(vec![Change::Upsert(record("old", "vm", &[1, 2], 1))]).unwrap();
    let mut changed = record("old", "vm", &[1, 3], 2);
    changed.config.interfaces[0].mtu = 9000;
    changed.config.interfaces[0].address = "10.10.9.9".parse().unwrap();
    store.commit(vec![Change::Upsert(changed.clone())]).unwrap();
    changed.node_name = "new".to_owned();
    changed.updated_at = record("", "", &[], 3).updated_at;
    store.commit(vec![remove("old"), Change::Upsert(changed)]).unwrap();
    let expected = serde_json::json!([
        {"at": "2026-11-20T09:00:01Z", "change": "firstSent", "interfaces": 2},
        {"at": "2026-11-20T09:00:02Z", "change": "portRemoved", "portId": "port-0002", "id": 1,
         "address": "10.10.0.3"},
        {"at": "2026-11-20T09:00:02Z", "change": "portChanged", "portId": "port-0001", "id": 0,
         "field": "address", "from": "10.10.0.2", "to": "10.10.9.9"},
        {"at": "2026-11-20T09:00:02Z", "change": "portChanged", "portId": "port-0001", "id": 0,
         "field": "mtu", "from": "1450", "to": "9000"},
        {"at": "2026-11-20T09:00:02Z", "change": "portAdded", "portId": "port-0003", "id": 1,
         "address": "10.10.0.4"},
        {"at": "2026-11-20T09:00:03Z", "change": "nodeRenamed", "from": "old"},
    ]);
    let shown = |store: &multinic_operator::inventory::store::Store| {
        serde_json::to_value(&store.get(PROVIDER, "new").unwrap().timeline).unwrap()
    };
    assert_eq!(shown(&store), expected);
    // Once from the journal, once from the document.
    assert_eq!(shown(&open_on(disk.clone(), path)), expected);
    open_on(disk.clone(), path).flush_and_close();
    assert_eq!(shown(&open_on(disk, path)), expected);
}

#[test]
fn a_timeline_keeps_its_last_twenty_entries() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    for step in 0..50 {
        store.commit(vec![upsert("a", &[step], u64::from(step))]).unwrap();
    }
    let stored = store.get(PROVIDER, "a").unwrap();
    assert_eq!(stored.timeline.len(), 20);
    assert_eq!(stored.timeline[19].at, stored.record.updated_at);
}

#[test]
fn sending_the_same_again_is_no_change() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    store.commit(vec![upsert("a", &[1], 1)]).unwrap();
    store.commit(vec![upsert("a", &[1], 99)]).unwrap();
    let stored = store.get(PROVIDER, "a").unwrap();
    assert_eq!(stored.timeline.len(), 1);
    assert_eq!(stored.record.updated_at, record("", "", &[], 99).updated_at);
}

#[test]
fn commits_of_many_threads_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let store = Arc::new(open(&path));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..25 {
                    store.commit(vec![upsert(&format!("{thread}-{number}"), &[1], 1)]).unwrap();
                }
            });
        }
    });
    assert_eq!(store.snapshot().len(), 200);
    drop(store);
    assert_eq!(open(&path).snapshot().len(), 200);
}

#[test]
fn a_closed_store_takes_nothing_and_leaves_one_readable_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let store = open(&path);
    store.commit(vec![upsert("a", &[1], 1)]).unwrap();
    store.flush_and_close();
    let refused = store.commit(vec![upsert("b", &[2], 2)]);
    assert_eq!(refused, Err(StoreError { state: StoreState::Closed }));
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["inventory.json", "inventory.json.lock"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["records"][0]["nodeName"], "a");
    assert!(text.lines().count() > 20, "a person reads it line by line: {text}");
    // The lock is free again.
    assert!(open(&path).state().is_healthy());
}

#[test]
fn the_journal_is_folded_into_the_document_before_it_outgrows_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let store = open(&path);
    let ports: Vec<u32> = (0..10).collect();
    let journal_bytes = || -> u64 {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        let journals =
            entries.filter(|entry| entry.file_name().to_str().unwrap().contains("journal"));
        journals.map(|entry| entry.metadata().map_or(0, |data| data.len())).sum()
    };
    let mut largest = 0;
    let mut written = 0;
    for step in 0..60 {
        let changes: Vec<_> =
            (0..50).map(|node| upsert(&format!("n{node}"), &ports, step)).collect();
        written += 50 * 2600;
        store.commit(changes).unwrap();
        largest = largest.max(journal_bytes());
    }
    assert!(written > 6_000_000);
    assert!(largest < 3_000_000, "the journal grew to {largest} bytes");
}

#[test]
fn a_store_says_when_nobody_looks_after_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("inventory.json"));
    assert!(!store.has_lost_its_thread());
    store.flush_and_close();
    assert!(store.has_lost_its_thread());
}
