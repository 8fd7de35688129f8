//! What the store promises to those who use it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use multinic_operator::inventory::contents::{Inventory, Stored};
use multinic_operator::inventory::files::Files as _;
use multinic_operator::inventory::record::{Change, Record, ReservedId};
use multinic_operator::inventory::store::{Condition, Store};

use crate::inventory::faulty::{Faulty, Gate};
use crate::inventory::support::{
    PROVIDER, commit, get, invented_clock, open, open_on, record, remove, seen, upsert,
};
use crate::simulated_disk::{Fault, Restart, SimulatedDisk};

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
fn when_the_same_was_accepted_again_that_is_written_with_the_next_change() {
    let disk = SimulatedDisk::default();
    let path = Path::new("/data/inventory.json");
    let store = open_on(disk.clone(), path);
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    let on_disk = |time: &str| {
        let text = String::from_utf8(disk.read(path).unwrap()).unwrap();
        text.contains(&format!("\"updatedAt\":\"2026-11-20T09:00:{time}Z\""))
    };
    let operations = disk.operations();
    commit(&store, vec![upsert("a", &[1], 2)]).unwrap();
    assert_eq!(disk.operations(), operations, "it wasn't worth a write");
    assert!(on_disk("01"));
    assert_eq!(get(&store, "a").unwrap().record.updated_at.to_string(), "2026-11-20T09:00:02Z");
    commit(&store, vec![upsert("b", &[2], 3)]).unwrap();
    assert!(on_disk("02"));
    // The thread's minute.
    commit(&store, vec![upsert("a", &[1], 4)]).unwrap();
    store.retry();
    assert!(on_disk("04"));
    commit(&store, vec![upsert("a", &[1], 5)]).unwrap();
    store.flush_and_close();
    assert!(on_disk("05"));
}

#[test]
fn the_file_is_what_is_true_after_each_commit() {
    let disk = SimulatedDisk::default();
    let path = Path::new("/data/inventory.json");
    let store = open_on(disk.clone(), path);
    for step in 0..20 {
        let node = format!("n{}", step % 7);
        let change = if step % 5 == 4 { remove(&node) } else { upsert(&node, &[step], 1) };
        commit(&store, vec![change]).unwrap();
        let found = open_on(disk.after(Restart::NothingUnsynced), path);
        assert_eq!(seen(&found.snapshot()), seen(&store.snapshot()));
        assert_eq!(disk.names(), ["inventory.json"]);
    }
}

#[test]
fn each_change_of_a_commit_has_a_result() {
    let disk = SimulatedDisk::default();
    let store = open_on(disk.clone(), Path::new("/data/inventory.json"));
    let changes = || vec![upsert("a", &[1], 1), remove("b"), upsert("c", &[2], 1)];
    assert_eq!(store.commit(changes()), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(store.commit(Vec::new()), []);
    disk.plan(Some(Fault::FailFrom(0, 1000)));
    let results = store.commit(vec![upsert("a", &[7], 2), remove("c")]);
    assert!(results.len() == 2 && results.iter().all(Result::is_err), "{results:?}");
}

#[test]
fn commits_that_wait_at_the_same_time_share_one_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let (gate, writes) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (at, counted) = (gate.clone(), writes.clone());
    let files = Faulty::new(move |operation, _| {
        if operation == "rename" {
            at.pass();
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let store = Store::new(Box::new(files), &path, invented_clock(), Arc::default()).start();
    store.wait_until_opened(std::time::Duration::from_secs(10));
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    gate.shut();
    std::thread::scope(|scope| {
        for number in 0..9 {
            let store = &store;
            scope.spawn(move || {
                commit(store, vec![upsert(&format!("n{number}"), &[1], 1)]).unwrap()
            });
        }
        while store.snapshot().len() < 9 || !gate.is_reached() {
            std::thread::yield_now();
        }
        gate.open();
    });
    // One was under way when the others came.
    assert!(writes.load(Ordering::SeqCst) <= 3, "{} writes", writes.load(Ordering::SeqCst));
    store.flush_and_close();
    assert_eq!(open(&path).snapshot().len(), 9);
}

fn names(found: Vec<&Arc<Stored>>) -> Vec<String> {
    let name =
        |stored: &Arc<Stored>| format!("{}/{}", stored.record.provider_id, stored.record.node_name);
    found.into_iter().map(name).collect()
}

#[test]
fn records_are_found_by_vm_and_target_whatever_the_provider_is_called() {
    let store = open_on(SimulatedDisk::default(), Path::new("/data/inventory.json"));
    let of = |provider: &str, node: &str, vm: &str, ports: &[u32], target: &str| Record {
        provider_id: provider.to_owned(),
        accepted_by: Some(target.to_owned()),
        ..record(node, vm, ports, 1)
    };
    let records = [
        of("cloud-a", "worker-1", "vm-a", &[1, 2], "biz-1"),
        of("cloud-a", "worker-2", "vm-c", &[3], "biz-1"),
        of("cloud-b", "worker-1", "vm-b", &[5], "biz-2"),
        of("cloud-c", "worker-9", "VM-A", &[1], "Biz-1"),
    ];
    commit(&store, records.into_iter().map(Change::Upsert).collect()).unwrap();
    let inventory = store.snapshot();
    let all_of_vm_a = ["cloud-a/worker-1", "cloud-c/worker-9"];
    assert_eq!(names(inventory.by_vm("vm-a")), all_of_vm_a);
    assert_eq!(names(inventory.by_vm("Vm-A")), all_of_vm_a);
    assert_eq!(names(inventory.by_instance("CLOUD-C", "vm-a")), ["cloud-c/worker-9"]);
    assert_eq!(names(inventory.by_name("worker-1")), ["cloud-a/worker-1", "cloud-b/worker-1"]);
    assert_eq!(names(inventory.by_target("biz-1", "worker-1")), ["cloud-a/worker-1"]);
    assert_eq!(names(inventory.by_target("BIZ-1", "worker-9")), ["cloud-c/worker-9"]);
    for nothing in ["", "worker-1"] {
        assert!(inventory.by_vm(nothing).is_empty());
    }
    assert!(inventory.by_name("Worker-1").is_empty(), "node names differ by case");
}

#[test]
fn another_spelling_of_a_provider_is_the_same_provider() {
    let disk = SimulatedDisk::default();
    let store = open_on(disk.clone(), Path::new("/data/inventory.json"));
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    let capitals = PROVIDER.to_uppercase();
    assert!(store.snapshot().get(&capitals, "a").is_some());
    let Change::Upsert(mut record) = upsert("a", &[2], 2) else { unreachable!() };
    record.provider_id.clone_from(&capitals);
    commit(&store, vec![Change::Upsert(record)]).unwrap();
    assert_eq!(names(store.snapshot().iter().collect()), [format!("{capitals}/a")]);
    commit(&store, vec![remove("a")]).unwrap();
    assert!(store.snapshot().is_empty());
}

#[test]
fn of_two_spellings_in_a_file_the_newer_record_counts() {
    let (disk, path) = (SimulatedDisk::default(), Path::new("/data/inventory.json"));
    let line = |provider: &str, mtu: u32, step| {
        let mut record = record("a", "vm-a", &[1], step);
        record.provider_id = provider.to_owned();
        record.config.interfaces[0].mtu = mtu;
        serde_json::to_string(&record).unwrap()
    };
    let records = [line("cloud", 1400, 5), line("CLOUD", 9000, 7), line("Cloud", 1500, 6)];
    disk.put(path, format!("{{\"records\": [{}]}}", records.join(",")).as_bytes());
    let store = open_on(disk, path);
    assert_eq!(names(store.snapshot().iter().collect()), ["CLOUD/a"]);
    assert_eq!(store.snapshot().get("cloud", "a").unwrap().record.config.interfaces[0].mtu, 9000);
}

/// What a plain look through all records finds.
fn scan(inventory: &Inventory, is_wanted: impl Fn(&Record) -> bool) -> Vec<String> {
    names(inventory.iter().filter(|stored| is_wanted(&stored.record)).collect())
}

#[test]
fn look_ups_find_what_a_look_through_all_records_finds() {
    let store = open_on(SimulatedDisk::default(), Path::new("/data/inventory.json"));
    let mut random = fastrand::Rng::with_seed(5);
    for step in 0..300 {
        let changes = (0..random.usize(1..6)).map(|_| {
            let (node, vm) = (random.u8(0..40), random.u8(0..40));
            let mut made = record(
                &format!("n{node}"),
                &format!("vm-{vm}"),
                &[random.u32(0..60), random.u32(0..60)],
                step,
            );
            made.provider_id = format!("cloud-{}", random.u8(0..3));
            match random.u8(0..4) {
                0 => Change::Remove { provider_id: made.provider_id, node_name: made.node_name },
                _ => Change::Upsert(made),
            }
        });
        commit(&store, changes.collect()).unwrap();
        let inventory = store.snapshot();
        let keys: Vec<_> =
            inventory.iter().map(|one| (&one.record.provider_id, &one.record.node_name)).collect();
        assert!(keys.is_sorted() && keys.windows(2).all(|two| two[0] != two[1]), "{keys:?}");
        let (vm, node) = (format!("vm-{}", random.u8(0..40)), format!("n{}", random.u8(0..40)));
        assert_eq!(names(inventory.by_vm(&vm)), scan(&inventory, |one| one.instance_id == vm));
        assert_eq!(names(inventory.by_name(&node)), scan(&inventory, |one| one.node_name == node));
    }
}

#[test]
fn what_was_sent_and_not_accepted_is_kept_and_is_no_change_of_the_node() {
    let (disk, path) = (SimulatedDisk::default(), Path::new("/data/inventory.json"));
    let store = open_on(disk.clone(), path);
    let mut sent = record("a", "vm-a", &[], 1);
    sent.accepted_by = Some(String::new());
    sent.reserved_ids = vec![ReservedId { port_id: "port-0001".to_owned(), id: 0 }];
    commit(&store, vec![Change::Upsert(sent.clone())]).unwrap();
    assert_eq!(timeline(&store, "a"), serde_json::json!([]));
    let store = open_on(disk.after(Restart::NothingUnsynced), path);
    assert_eq!(get(&store, "a").unwrap().record, sent);
    commit(&store, vec![upsert("a", &[1], 2)]).unwrap();
    let first =
        serde_json::json!([{"at": "2026-11-20T09:00:02Z", "change": "firstSent", "interfaces": 1}]);
    assert_eq!(timeline(&store, "a"), first);
}

#[test]
fn commits_of_many_threads_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let store = open(&path);
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
    store.flush_and_close();
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
    assert_eq!(refused.unwrap_err().condition, Condition::Closed);
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
