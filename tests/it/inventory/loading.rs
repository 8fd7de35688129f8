//! Files that the store didn't write, or finds changed or damaged.

use std::path::Path;

use multinic_operator::inventory::files::Files as _;
use multinic_operator::inventory::store::{Condition, Store};

use crate::inventory::support::{commit, get, open_on, seen, upsert};
use crate::simulated_disk::{Restart, SimulatedDisk};

const PATH: &str = "/data/inventory.json";

/// As the Go operator writes it: no names, ids from 1, a local time zone.
const ORIGINAL: &str = r#"{
  "records": [
    {
      "providerId": "p-1",
      "nodeName": "worker-0",
      "instanceId": "11111111-2222-3333-4444-555555555555",
      "config": {
        "nodeName": "worker-0",
        "instanceId": "11111111-2222-3333-4444-555555555555",
        "interfaces": [
          {
            "id": 1,
            "portId": "port-a",
            "macAddress": "fa:16:3e:00:00:01",
            "address": "10.10.0.5",
            "cidr": "10.10.0.0/16",
            "mtu": 1450,
            "networkId": "net-a",
            "subnetId": "subnet-a"
          }
        ]
      },
      "lastConfigHash": "0123abcd",
      "updatedAt": "2026-01-30T10:11:12.123456789+09:00"
    }
  ]
}"#;

/// As later versions of it do: with names, and an id of 0 is left out.
const LATER_ORIGINAL: &str = r#"{"records": [{
  "providerId": "biz-1", "nodeName": "worker-0", "instanceId": "vm-0",
  "config": {"nodeName": "worker-0", "instanceId": "vm-0", "interfaces": [
    {"name": "multinic0", "portId": "port-a", "macAddress": "fa:16:3e:00:00:01",
     "address": "10.10.0.5", "cidr": "10.10.0.0/16", "mtu": 1450, "networkId": "n", "subnetId": "s"},
    {"id": 1, "name": "multinic1", "portId": "port-b", "macAddress": "fa:16:3e:00:00:02",
     "address": "10.10.0.6", "cidr": "10.10.0.0/16", "mtu": 1450, "networkId": "n", "subnetId": "s"},
    {"name": "multinic7", "portId": "port-c", "macAddress": "fa:16:3e:00:00:03",
     "address": "10.10.0.7", "cidr": "10.10.0.0/16", "mtu": 1450, "networkId": "n", "subnetId": "s"}
  ]},
  "lastConfigHash": "0123abcd", "updatedAt": "2026-01-30T10:11:12Z"
}]}"#;

fn open(disk: &SimulatedDisk) -> Store {
    open_on(disk.clone(), Path::new(PATH))
}

fn with_file(text: &str) -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    disk.put(Path::new(PATH), text.as_bytes());
    disk
}

fn document(disk: &SimulatedDisk) -> String {
    String::from_utf8(disk.read(Path::new(PATH)).unwrap()).unwrap()
}

fn read(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    disk.read(&Path::new("/data").join(name)).unwrap()
}

#[test]
fn the_file_of_the_go_operator_loads_and_its_ids_are_not_taken_for_ours() {
    let disk = with_file(ORIGINAL);
    let store = open(&disk);
    assert!(store.state().is_healthy() && store.findings().is_empty());
    let stored = store.snapshot().get("p-1", "worker-0").cloned().unwrap();
    assert!(!stored.record.config.ids_are_ours());
    assert_eq!(stored.record.config.interfaces[0].id, 1);
    assert_eq!(stored.record.last_config_hash, "0123abcd");
    assert_eq!(stored.record.updated_at.to_string(), "2026-01-30T01:11:12.123456789Z");
    assert_eq!(stored.record.accepted_by, None);
    drop(store);
    let again = open(&disk.after(Restart::NothingUnsynced)).snapshot();
    assert_eq!(again.get("p-1", "worker-0").unwrap().record, stored.record);
}

#[test]
fn an_interface_without_an_id_has_that_of_its_name() {
    let store = open(&with_file(LATER_ORIGINAL));
    let inventory = store.snapshot();
    let record = &inventory.get("biz-1", "worker-0").unwrap().record;
    let ids: Vec<u8> = record.config.interfaces.iter().map(|interface| interface.id).collect();
    assert_eq!(ids, [0, 1, 7]);
    assert!(record.config.ids_are_ours());
}

#[test]
fn an_empty_list_of_the_go_operator_loads() {
    for text in [r#"{"records":null}"#, r#"{"records":[]}"#, "{}"] {
        let disk = with_file(text);
        let store = open(&disk);
        assert!(store.state().is_healthy() && store.snapshot().is_empty(), "{text}");
        assert_eq!(disk.names(), ["inventory.json"], "{text}");
    }
}

#[test]
fn with_a_damaged_file_nothing_may_be_sent_until_a_person_decides() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    commit(&store, (0..10).map(|n| upsert(&format!("n{n}"), &[n], 1)).collect()).unwrap();
    let whole = document(&disk);
    let hit = whole.replacen("\"n4\"", "\0\0\0\0", 1);
    let disk = with_file(&hit);
    let store = open(&disk);
    assert_eq!(store.state().condition, Condition::Unreadable);
    assert!(!store.state().remembers());
    let [aside] = &disk.names()[..] else { panic!("{:?}", disk.names()) };
    assert!(aside.starts_with("inventory.json.corrupt-"), "{aside}");
    let said = store.state().to_string();
    assert!(said.contains(&format!("was damaged and is set aside as {aside}")), "{said}");
    assert_eq!(read(&disk, aside), hit.as_bytes(), "it is kept as it was found");
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap_err();
    store.retry();
    store.flush_and_close();
    assert_eq!(disk.names(), [aside.as_str()], "nothing is written in its place");

    // A restart is no decision. A repaired file, a back-up, and moving the file away are.
    let restarted = disk.after(Restart::NothingUnsynced);
    for (decision, nodes) in [(Some(whole.as_str()), 10), (Some(ORIGINAL), 1), (None, 0)] {
        let disk = restarted.after(Restart::NothingUnsynced);
        let store = open(&disk);
        assert!(!store.state().remembers() && store.state().to_string() == said);
        match decision {
            Some(text) => disk.put(Path::new(PATH), text.as_bytes()),
            None => disk.remove(&Path::new("/data").join(aside)).unwrap(),
        }
        store.retry();
        assert!(store.state().is_healthy(), "{}", store.state());
        assert_eq!((store.snapshot().len(), store.findings()), (nodes, Vec::<String>::new()));
    }
}

#[test]
fn files_that_are_cut_off_empty_or_garbage_are_set_aside_and_never_overwritten() {
    let cut = &ORIGINAL[..ORIGINAL.len() - 3];
    let damaged = [cut, "", "\0\0\0\0", "[1,2", "{\"records\": 7}"];
    let disk = SimulatedDisk::default();
    for (text, count) in damaged.into_iter().zip(1..) {
        disk.put(Path::new(PATH), text.as_bytes());
        let store = open(&disk);
        assert_eq!(store.state().condition, Condition::Unreadable, "{text:?}");
        assert_eq!(disk.names().len(), count, "each has a name of its own");
        let kept = disk.names().into_iter().any(|name| read(&disk, &name) == text.as_bytes());
        assert!(kept, "{text:?} is gone");
    }
}

#[test]
fn an_edit_by_hand_is_used_and_said() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    commit(&store, vec![upsert("a", &[1], 1), upsert("b", &[2], 1)]).unwrap();
    let edited = document(&disk).replace("10.10.0.2", "10.10.7.7");
    let disk = disk.after(Restart::Killed);
    disk.put(Path::new(PATH), edited.as_bytes());
    let store = open(&disk);
    assert!(store.state().is_healthy());
    assert!(store.findings()[0].contains("edited by hand or damaged"), "{:?}", store.findings());
    let address = |node: &str| get(&store, node).unwrap().record.config.interfaces[0].address;
    assert_eq!(address("a").to_string(), "10.10.7.7");
    // Once is enough: the file matches its digest again.
    assert!(open(&disk.after(Restart::NothingUnsynced)).findings().is_empty());
}

#[test]
fn another_layout_is_no_edit() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    store.flush_and_close();
    let json: serde_json::Value = serde_json::from_str(&document(&disk)).unwrap();
    disk.put(Path::new(PATH), serde_json::to_string_pretty(&json).unwrap().as_bytes());
    let store = open(&disk);
    assert!(store.findings().is_empty() && store.snapshot().len() == 1);
}

#[test]
fn a_file_put_in_place_by_someone_else_is_used() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    commit(&store, vec![upsert("ours", &[1], 1)]).unwrap();
    let disk = disk.after(Restart::Killed);
    disk.put(Path::new(PATH), ORIGINAL.as_bytes());
    let store = open(&disk);
    assert!(store.snapshot().get("p-1", "worker-0").is_some() && store.snapshot().len() == 1);
    commit(&store, vec![upsert("next", &[1], 2)]).unwrap();
    assert_eq!(open(&disk.after(Restart::NothingUnsynced)).snapshot().len(), 2);
}

#[test]
fn a_file_of_a_format_that_is_not_known_is_left_alone() {
    for format in ["2", "\"2\"", "\"1\"", "4294967296", "-1", "1.5", "[1]", "{\"major\": 2}"] {
        let text = format!(r#"{{"format": {format}, "records": {{"shape": "unknown"}}}}"#);
        let disk = with_file(&text);
        let store = open(&disk);
        assert!(!store.state().remembers(), "{format}");
        let said = store.state().to_string();
        assert!(said.contains(&format!("format {format}")), "{said}");
        commit(&store, vec![upsert("a", &[1], 1)]).unwrap_err();
        store.retry();
        store.flush_and_close();
        assert_eq!(document(&disk), text);
    }
}

#[test]
fn a_byte_order_mark_before_the_file_is_no_damage() {
    let disk = with_file(&format!("\u{feff}{ORIGINAL}"));
    let store = open(&disk);
    assert!(store.findings().is_empty() && store.snapshot().get("p-1", "worker-0").is_some());
    store.flush_and_close();
    disk.put(Path::new(PATH), format!("\u{feff}{}", document(&disk)).as_bytes());
    assert!(open(&disk).findings().is_empty(), "ours, kept by an editor that adds the mark");
}

#[test]
fn of_a_key_that_a_file_holds_twice_the_last_record_counts() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    commit(&store, vec![upsert("a", &[1], 1)]).unwrap();
    let text = document(&disk);
    let record = text.lines().find(|line| line.contains("interfaces")).unwrap();
    let twice = format!("{{\"records\": [{record}, {}]}}", record.replace("1450", "9000"));
    let store = open(&with_file(&twice));
    assert_eq!(store.snapshot().len(), 1);
    assert_eq!(get(&store, "a").unwrap().record.config.interfaces[0].mtu, 9000);
}

#[test]
fn loading_gives_what_was_seen_before() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    let node = |n: u32| format!("n{n}");
    commit(&store, (0..700).map(|n| upsert(&node(n), &[n % 4000], 1)).collect()).unwrap();
    commit(&store, (0..300).map(|n| upsert(&node(n * 3), &[n, n + 1], 2)).collect()).unwrap();
    let before = seen(&store.snapshot());
    assert_eq!(seen(&open(&disk.after(Restart::NothingUnsynced)).snapshot()), before);
}

#[test]
fn whatever_a_file_holds_nothing_is_lost_without_a_word() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    commit(&store, (0..5).map(|n| upsert(&format!("n{n}"), &[n], 1)).collect()).unwrap();
    let disk = disk.after(Restart::Killed);
    let whole = seen(&store.snapshot());
    for seed in 0..1500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let hit = disk.after(Restart::Killed);
        let mut bytes = hit.read(Path::new(PATH)).unwrap();
        for _ in 0..random.usize(1..4) {
            let place = random.usize(0..bytes.len());
            match random.u8(0..4) {
                0 => bytes[place] = random.u8(..),
                1 => bytes.truncate(place.max(1)),
                2 => bytes.splice(place..place, (0..9).map(|_| random.u8(..))).for_each(drop),
                _ => bytes[place] ^= 1 << random.u8(0..8),
            }
        }
        hit.put(Path::new(PATH), &bytes);
        let store = open(&hit);
        if store.state().remembers() {
            assert!(store.state().is_healthy(), "seed {seed}: {}", store.state());
            let complete = whole.iter().all(|line| seen(&store.snapshot()).contains(line));
            assert!(complete || !store.findings().is_empty(), "seed {seed}: nothing is said");
        } else {
            let kept = hit.names().into_iter().any(|name| read(&hit, &name) == bytes);
            assert!(kept, "seed {seed}: the file is gone");
        }
    }
}
