//! Files that the store didn't write, or finds changed or damaged.

use std::path::{Path, PathBuf};

use multinic_operator::inventory::files::Files as _;
use multinic_operator::inventory::store::Store;

use crate::simulated_disk::{Restart, SimulatedDisk};
use crate::support::{PROVIDER, open_on, seen, upsert};

const PATH: &str = "/data/inventory.json";

/// As the replaced program writes it: no names, ids from 1, a local time zone.
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

fn set_aside(disk: &SimulatedDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.contains(".corrupt-")).collect()
}

/// Copies of journals whose end is no commit, as a crash leaves them.
fn torn_copies(disk: &SimulatedDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.contains(".torn-")).collect()
}

/// The journal's one segment.
fn journal(disk: &SimulatedDisk) -> PathBuf {
    let is_segment = |name: &String| name.contains(".journal-") && name.ends_with(char::is_numeric);
    Path::new("/data").join(disk.names().into_iter().find(is_segment).unwrap())
}

#[test]
fn the_file_of_the_replaced_program_loads_and_its_ids_are_not_taken_for_ours() {
    let disk = with_file(ORIGINAL);
    let store = open(&disk);
    assert!(store.state().is_healthy() && store.findings().is_empty());
    let stored = store.get("p-1", "worker-0").unwrap();
    assert!(!stored.record.config.ids_are_ours());
    assert_eq!(stored.record.config.interfaces[0].id, 1);
    assert_eq!(stored.record.last_config_hash, "0123abcd");
    assert_eq!(stored.record.updated_at.to_string(), "2026-01-30T01:11:12.123456789Z");
    assert_eq!(stored.record.accepted_by, None);
    drop(store);
    let again = open(&disk.after(Restart::NothingUnsynced));
    assert_eq!(again.get("p-1", "worker-0").unwrap().record, stored.record);
}

#[test]
fn an_empty_list_of_the_replaced_program_loads() {
    for text in [r#"{"records":null}"#, r#"{"records":[]}"#, "{}"] {
        let disk = with_file(text);
        let store = open(&disk);
        assert!(store.state().is_healthy() && store.snapshot().is_empty(), "{text}");
        assert!(set_aside(&disk).is_empty(), "{text}");
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_its_whole_records_are_kept() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    store.commit((0..10).map(|n| upsert(&format!("n{n}"), &[n, n + 100], 1)).collect()).unwrap();
    store.flush_and_close();
    let whole = document(&disk);
    let place = whole.find("\"n4\"").unwrap();
    let hit: Vec<u8> =
        [&whole.as_bytes()[..place], b"\0\0\0\0", &whole.as_bytes()[place + 4..]].concat();
    disk.put(Path::new(PATH), &hit);
    let store = open(&disk);
    assert!(store.state().is_healthy(), "a damaged file must not stop the operator");
    assert_eq!(store.snapshot().len(), 9, "all but n4");
    assert!(store.findings()[0].contains("damaged: 9 records could be read"));
    assert_eq!(set_aside(&disk), ["inventory.json.corrupt-20261120T090000Z"]);
    let kept = disk.read(&Path::new("/data").join(&set_aside(&disk)[0])).unwrap();
    assert_eq!(kept, hit, "the copy is the file as it was found");
    assert!(serde_json::from_str::<serde_json::Value>(&document(&disk)).is_ok());
}

#[test]
fn files_that_are_cut_off_empty_or_garbage_are_set_aside_and_never_overwritten() {
    let cut = &ORIGINAL[..ORIGINAL.len() - 3];
    for (text, records) in
        [(cut, 1), ("", 0), ("\0\0\0\0", 0), ("[1,2", 0), ("{\"records\": 7}", 0)]
    {
        let disk = with_file(text);
        let store = open(&disk);
        assert!(store.state().is_healthy(), "{text:?}: {}", store.state());
        assert_eq!(store.snapshot().len(), records, "{text:?}");
        assert_eq!(set_aside(&disk).len(), 1, "{text:?}");
        drop(store);
        // Once is enough: the next start finds a good file.
        let again = disk.after(Restart::NothingUnsynced);
        assert!(open(&again).findings().is_empty(), "{text:?}");
        assert_eq!(set_aside(&again).len(), 1, "{text:?}");
    }
}

#[test]
fn an_edit_by_hand_is_used_and_said_and_later_commits_stay() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    store.commit(vec![upsert("a", &[1], 1), upsert("b", &[2], 1)]).unwrap();
    store.compact();
    store.commit(vec![upsert("c", &[3], 2)]).unwrap();
    let edited = document(&disk).replace("10.10.0.2", "10.10.7.7");
    let disk = disk.after(Restart::Killed);
    disk.put(Path::new(PATH), edited.as_bytes());
    let store = open(&disk);
    assert!(store.findings()[0].contains("edited by hand or damaged"), "{:?}", store.findings());
    let address = |node: &str| {
        store.get(PROVIDER, node).unwrap().record.config.interfaces[0].address.to_string()
    };
    assert_eq!((address("a"), address("c")), ("10.10.7.7".to_owned(), "10.10.0.4".to_owned()));
}

#[test]
fn a_wrong_commit_number_in_the_file_hides_no_commit_of_the_journal() {
    for number in ["7", "18446744073709551615", "0"] {
        let disk = SimulatedDisk::default();
        let store = open(&disk);
        store.commit(vec![upsert("a", &[1], 1)]).unwrap();
        store.compact();
        store.commit(vec![upsert("b", &[2], 2)]).unwrap();
        let edited = document(&disk)
            .replace("\"sequence\": 2", &format!("\"sequence\": {number}"))
            .replace("\"sequence\": 1", &format!("\"sequence\": {number}"));
        let disk = disk.after(Restart::Killed);
        disk.put(Path::new(PATH), edited.as_bytes());
        let store = open(&disk);
        let copied = set_aside(&disk).len();
        assert!(copied > 0 && !store.findings().is_empty(), "{number}");
        // A number nobody counted up to makes the file someone else's: the journal is copied.
        let found = store.get(PROVIDER, "b").is_some();
        assert!(found || number.len() > 10, "{number}");
        store.commit(vec![upsert("c", &[3], 3)]).unwrap();
        assert!(open(&disk.after(Restart::NothingUnsynced)).get(PROVIDER, "c").is_some());
    }
}

#[test]
fn another_layout_is_no_edit() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    store.commit(vec![upsert("a", &[1], 1)]).unwrap();
    store.flush_and_close();
    let compact: serde_json::Value = serde_json::from_str(&document(&disk)).unwrap();
    disk.put(Path::new(PATH), compact.to_string().as_bytes());
    let store = open(&disk);
    assert!(store.findings().is_empty() && store.snapshot().len() == 1);
}

#[test]
fn a_file_put_in_place_by_someone_else_wins_and_the_journal_is_set_aside() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    store.commit(vec![upsert("ours", &[1], 1)]).unwrap();
    let disk = disk.after(Restart::Killed);
    disk.put(Path::new(PATH), ORIGINAL.as_bytes());
    let store = open(&disk);
    assert!(store.get("p-1", "worker-0").is_some() && store.snapshot().len() == 1);
    assert!(store.findings()[0].contains("put in place by someone else"));
    assert_eq!(set_aside(&disk).len(), 1);
    // What is committed next is found again.
    store.commit(vec![upsert("next", &[1], 2)]).unwrap();
    assert_eq!(open(&disk.after(Restart::NothingUnsynced)).snapshot().len(), 2);
}

#[test]
fn damage_inside_the_journal_is_told_from_a_torn_end() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    for number in 0..6 {
        store.commit(vec![upsert(&format!("n{number}"), &[number], 1)]).unwrap();
    }
    let disk = disk.after(Restart::Killed);
    let path = journal(&disk);
    let bytes = disk.read(&path).unwrap();

    let torn = disk.after(Restart::Killed);
    torn.put(&path, &bytes[..bytes.len() - 10]);
    let store = open(&torn);
    assert_eq!(store.snapshot().len(), 5);
    assert!(store.findings().is_empty() && set_aside(&torn).is_empty(), "{:?}", store.findings());
    let copy = Path::new("/data").join(&torn_copies(&torn)[0]);
    assert_eq!(torn.read(&copy).unwrap(), bytes[..bytes.len() - 10], "a copy is kept all the same");

    let damaged = disk.after(Restart::Killed);
    let mut hit = bytes.clone();
    let place = hit.len() / 2;
    hit[place] ^= 1;
    damaged.put(&path, &hit);
    let store = open(&damaged);
    assert_eq!(store.snapshot().len(), 5, "all but the damaged commit");
    assert!(store.findings()[0].contains("damaged or incomplete"), "{:?}", store.findings());
    assert_eq!(set_aside(&damaged).len(), 1);
}

type Damage = fn(&mut [u8]);

fn flip_a_bit_in_each_line(bytes: &mut [u8]) {
    bytes.split_inclusive_mut(|byte| *byte == b'\n').for_each(|line| line[0] ^= 1);
}

fn spoil_the_last_two_lines(bytes: &mut [u8]) {
    let lines = bytes.split_inclusive_mut(|byte| *byte == b'\n').collect::<Vec<_>>();
    for line in lines.into_iter().rev().take(2) {
        line[0] = b'?';
    }
}

#[test]
fn a_journal_of_nothing_but_damage_is_said_and_set_aside() {
    let ways: [(&str, Damage); 3] = [
        ("zeros", |bytes| bytes.fill(0)),
        ("a bit in each line", flip_a_bit_in_each_line),
        ("the last two lines", spoil_the_last_two_lines),
    ];
    for commits in [1_u32, 2, 6] {
        for (how, damage) in &ways {
            let context = format!("{how}, {commits} commits");
            let disk = SimulatedDisk::default();
            let store = open(&disk);
            store.commit(vec![upsert("first", &[999], 1)]).unwrap();
            store.compact();
            for number in 0..commits {
                store.commit(vec![upsert(&format!("n{number}"), &[number], 1)]).unwrap();
            }
            let disk = disk.after(Restart::NothingUnsynced);
            let path = journal(&disk);
            let mut bytes = disk.read(&path).unwrap();
            damage(&mut bytes);
            disk.put(&path, &bytes);
            let store = open(&disk);
            assert!(store.state().is_healthy(), "{context}: {}", store.state());
            let findings = store.findings().join("; ");
            assert!(findings.contains("damaged or incomplete"), "{context}: {findings:?}");
            let copies = set_aside(&disk);
            assert_eq!(copies.len(), 1, "{context}");
            assert_eq!(
                disk.read(&Path::new("/data").join(&copies[0])).unwrap(),
                bytes,
                "{context}"
            );
        }
    }
}

#[test]
fn of_copies_the_newest_three_of_each_kind_are_kept() {
    let disk = SimulatedDisk::default();
    let earlier = [
        "inventory.json.corrupt-20250101T000000Z",
        "inventory.json.corrupt-20250101T000000Z-2",
        "inventory.json.corrupt-20250202T000000Z",
        "inventory.json.corrupt-20250303T000000Z",
        "inventory.json.journal-00000000000000000007.corrupt-20250101T000000Z",
        "inventory.json.journal-00000000000000000007.torn-20240101T000000Z",
        "another.json.corrupt-20240101T000000Z",
        "inventory.json.corrupt-by-hand",
    ];
    for name in earlier {
        disk.put(&Path::new("/data").join(name), b"a copy");
    }
    disk.put(Path::new(PATH), b"damage");
    open(&disk);
    let mut kept: Vec<&str> = earlier[2..].to_vec();
    kept.extend(["inventory.json", "inventory.json.corrupt-20261120T090000Z"]);
    kept.sort_unstable();
    assert_eq!(disk.names(), kept);
}

#[test]
fn a_copy_is_kept_also_when_the_clock_has_gone_back() {
    let disk = with_file("damage");
    for year in [2031, 2032, 2033] {
        let name = format!("/data/inventory.json.corrupt-{year}0101T000000Z");
        disk.put(Path::new(&name), b"a copy");
    }
    open(&disk);
    let made = disk.read(Path::new("/data/inventory.json.corrupt-20261120T090000Z")).unwrap();
    assert_eq!(made, b"damage");
    assert_eq!(set_aside(&disk).len(), 3);
}

#[test]
fn a_missing_document_is_said_and_the_journal_is_not_thrown_away() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    store.commit(vec![upsert("a", &[1], 1)]).unwrap();
    let disk = disk.after(Restart::Killed);
    disk.remove(Path::new(PATH)).unwrap();
    let store = open(&disk);
    assert_eq!(store.snapshot().len(), 1);
    assert!(store.findings()[0].contains("is missing"));
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
        store.commit(vec![upsert("a", &[1], 1)]).unwrap_err();
        store.retry();
        store.flush_and_close();
        assert_eq!(document(&disk), text);
    }
}

#[test]
fn a_byte_order_mark_before_the_file_is_no_damage() {
    let disk = with_file(&format!("\u{feff}{ORIGINAL}"));
    let store = open(&disk);
    assert!(store.findings().is_empty() && store.get("p-1", "worker-0").is_some());
    assert!(set_aside(&disk).is_empty());
    store.flush_and_close();
    disk.put(Path::new(PATH), format!("\u{feff}{}", document(&disk)).as_bytes());
    assert!(open(&disk).findings().is_empty(), "ours, kept by an editor that adds the mark");
}

#[test]
fn loading_gives_what_was_seen_before() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    store.commit((0..700).map(|n| upsert(&format!("n{n}"), &[n % 4000], 1)).collect()).unwrap();
    store.compact();
    store
        .commit((0..300).map(|n| upsert(&format!("n{}", n * 3), &[n, n + 1], 2)).collect())
        .unwrap();
    let before = seen(&store.snapshot());
    assert_eq!(seen(&open(&disk.after(Restart::NothingUnsynced)).snapshot()), before);
}

#[test]
fn whatever_a_file_holds_the_store_opens_and_nothing_is_lost_without_a_copy() {
    let disk = SimulatedDisk::default();
    let store = open(&disk);
    store.commit((0..5).map(|n| upsert(&format!("n{n}"), &[n], 1)).collect()).unwrap();
    store.compact();
    store.commit(vec![upsert("late", &[9], 2)]).unwrap();
    let disk = disk.after(Restart::Killed);
    let paths = [PathBuf::from(PATH), journal(&disk)];
    let whole = seen(&store.snapshot());
    for seed in 0..1500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let hit = disk.after(Restart::Killed);
        let path = &paths[random.usize(0..2)];
        let mut bytes = hit.read(path).unwrap();
        for _ in 0..random.usize(1..4) {
            let place = random.usize(0..bytes.len());
            match random.u8(0..4) {
                0 => bytes[place] = random.u8(..),
                1 => bytes.truncate(place.max(1)),
                2 => bytes.splice(place..place, (0..9).map(|_| random.u8(..))).for_each(drop),
                _ => bytes[place] ^= 1 << random.u8(0..8),
            }
        }
        hit.put(path, &bytes);
        let store = open(&hit);
        if !store.state().remembers() {
            assert!(store.state().to_string().contains("format"), "seed {seed}: {}", store.state());
            assert_eq!(hit.read(path).unwrap(), bytes, "seed {seed}: not ours to touch");
            continue;
        }
        assert!(store.state().is_healthy(), "seed {seed}: {}", store.state());
        let complete = whole.iter().all(|line| seen(&store.snapshot()).contains(line));
        // The end of the journal that was cut off can't be told from a torn write.
        let (copied, torn) = (!set_aside(&hit).is_empty(), !torn_copies(&hit).is_empty());
        assert!(complete || torn || copied, "seed {seed}: records are gone without a copy");
        assert_eq!(copied, !store.findings().is_empty(), "seed {seed}: said and done");
    }
}
