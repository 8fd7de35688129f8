//! What the store promises to those who use it.

use std::sync::Arc;

use multinic_operator::inventory::record::Change;
use multinic_operator::inventory::store::{Condition, Store};

use crate::simulated_disk::SimulatedDisk;
use crate::support::{PROVIDER, commit, get, open, open_on, record, remove, upsert};

fn timeline(store: &Store, node: &str) -> serde_json::Value {
    let json: serde_json::Value =
        serde_json::from_slice(&get(store, node).unwrap().timeline).unwrap();
    json["changes"].clone()
}

#[test]
fn a_reader_keeps_what_it_has_while_the_writer_goes_on() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    let before = store.snapshot();
    commit(&store, vec![upsert("a", &[2], 2), upsert("b", &[3], 2)]).unwrap();
    assert_eq!(before.len(), 1);
    assert_eq!(before.get(PROVIDER, "a").unwrap().record.config.interfaces[0].port_id, "port-0001");
    assert_eq!(store.snapshot().len(), 2);
    assert_ne!(before.version(), store.snapshot().version());
}

#[test]
fn records_are_found_by_node_and_by_vm_and_come_in_order() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    // In an order that isn't theirs.
    let number = |step: u32| step * 7919 % 3000;
    for steps in (0..3000).collect::<Vec<_>>().chunks(250) {
        let changes = steps.iter().map(|step| upsert(&format!("n{:04}", number(*step)), &[1], 1));
        commit(&store, changes.collect()).unwrap();
    }
    let inventory = store.snapshot();
    let names: Vec<_> = inventory.iter().map(|stored| stored.record.node_name.clone()).collect();
    assert_eq!(names, (0..3000).map(|n| format!("n{n:04}")).collect::<Vec<_>>());
    for name in &names {
        assert_eq!(get(&store, name).unwrap().record.node_name, *name);
        let of_vm = inventory.by_instance(PROVIDER, &format!("vm-{name}"));
        assert_eq!(of_vm.len(), 1);
        assert_eq!(of_vm[0].record.node_name, *name);
    }
    assert!(get(&store, "n3000").is_none());
    assert!(inventory.get("another", "n0001").is_none());
    let odd = names.iter().skip(1).step_by(2);
    commit(&store, odd.map(|name| remove(name)).collect()).unwrap();
    assert_eq!(store.snapshot().len(), 1500);
    assert!(get(&store, "n0001").is_none());
    assert!(store.snapshot().by_instance(PROVIDER, "vm-n0001").is_empty());
    assert_eq!(store.snapshot().by_name("n0002").len(), 1);
}

#[test]
fn a_node_that_gets_another_vm_is_found_by_the_new_vm_only() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    commit(&store, vec![Change::Upsert(record("a", "vm-1", &[1], 1))]).unwrap();
    commit(&store, vec![Change::Upsert(record("a", "vm-2", &[2], 2))]).unwrap();
    assert!(store.snapshot().by_instance(PROVIDER, "vm-1").is_empty());
    assert_eq!(store.snapshot().by_instance(PROVIDER, "vm-2").len(), 1);
}

#[test]
fn the_timeline_says_what_changed_and_survives_a_restart_and_a_rename() {
    let disk = SimulatedDisk::default();
    let path = "/data/inventory.json".as_ref();
    let store = open_on(disk.clone(), path);
    commit(&store, vec![Change::Upsert(record("old", "vm", &[1, 2], 1))]).unwrap();
    let mut changed = record("old", "vm", &[1, 3], 2);
    changed.config.interfaces[0].mtu = 9000;
    changed.config.interfaces[0].address = "10.10.9.9".parse().unwrap();
    commit(&store, vec![Change::Upsert(changed.clone())]).unwrap();
    changed.node_name = "new".to_owned();
    changed.updated_at = record("", "", &[], 3).updated_at;
    commit(&store, vec![remove("old"), Change::Upsert(changed)]).unwrap();
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
    assert_eq!(timeline(&store, "new"), expected);
    assert_eq!(timeline(&open_on(disk.clone(), path), "new"), expected);
    open_on(disk.clone(), path).flush_and_close();
    assert_eq!(timeline(&open_on(disk, path), "new"), expected);
}

#[test]
fn a_timeline_keeps_its_last_twenty_entries() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    for step in 0..50 {
        commit(&store, vec![upsert("a", &[step], u64::from(step))]).unwrap();
    }
    let changes = timeline(&store, "a");
    assert_eq!(changes.as_array().unwrap().len(), 20);
    assert_eq!(changes[19]["at"], "2026-11-20T09:00:49Z");
}

#[test]
fn sending_the_same_again_is_no_change() {
    let store = open_on(SimulatedDisk::default(), "/data/inventory.json".as_ref());
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    commit(&store, vec![upsert("a", &[1], 99)]).unwrap();
    let stored = get(&store, "a").unwrap();
    assert_eq!(timeline(&store, "a").as_array().unwrap().len(), 1);
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
                    commit(&store, vec![upsert(&format!("{thread}-{number}"), &[1], 1)]).unwrap();
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
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    store.flush_and_close();
    let refused = commit(&store, vec![upsert("b", &[2], 2)]);
    assert_eq!(refused.unwrap_err().state.condition, Condition::Closed);
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["inventory.json", "inventory.json.lock"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["records"][0]["nodeName"], "a");
    let lines = text.lines().filter(|line| line.contains("\"nodeName\":\"a\""));
    assert_eq!(lines.count(), 2, "a record a line, and its timeline: {text}");
    // The lock is free again.
    assert!(open(&path).state().is_healthy());
}

#[test]
fn a_store_says_when_nobody_looks_after_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("inventory.json"));
    assert!(!store.has_lost_its_thread());
    store.flush_and_close();
    assert!(store.has_lost_its_thread());
}
