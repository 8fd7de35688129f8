//! The inventory's document and journal, whole, damaged or written by somebody else.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use multinic_operator::clock::{Clock, Now};
use multinic_operator::inventory::record::{Change, Record};
use multinic_operator::inventory::store::Store;
use multinic_operator::metrics::Metrics;
use multinic_operator::node_config::{Interface, NodeConfig};
use ring::digest::{SHA256, digest};

#[path = "../../support/simulated_disk.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "its users need different parts of it")]
mod simulated_disk;

use simulated_disk::{Restart, SimulatedDisk};

const DOCUMENT: &str = "/data/inventory.json";
const CHECKSUM_BYTES: usize = 16;

/// The document and up to two segments of the journal, separated by zero bytes; a journal's line
/// that begins with `#` is given its checksum here, for no fuzzer guesses one.
///
/// A store that opens says the same a second time, keeps what it had when something is added, and
/// never overwrites a file that it couldn't read whole: that is set aside.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == 0);
    let disk = SimulatedDisk::default();
    let document = parts.next().unwrap_or_default();
    if !document.is_empty() {
        disk.put(Path::new(DOCUMENT), document);
    }
    for (part, first) in parts.by_ref().take(2).zip([1_u64, 3]) {
        let path = format!("{DOCUMENT}.journal-{first:020}");
        disk.put(Path::new(&path), &with_checksums(part));
    }
    let store = open(&disk);
    if !store.state().remembers() {
        let is_kept = |name: &String| read(&disk, name) == document;
        assert!(disk.names().iter().any(is_kept), "a file that can't be used is gone");
        return;
    }
    let before = records(&store);
    if store.state().is_healthy() {
        let again = open(&disk.after(Restart::NothingUnsynced));
        assert_eq!(records(&again), before, "a restart reads something else");
    }
    let added = sample("added");
    let known = before.iter().any(|record| key(record) == key(&added));
    let results = store.commit(vec![Change::Upsert(added.clone())]);
    if results.iter().all(Result::is_ok) && !known {
        drop(store);
        let mut expected = before;
        expected.push(added);
        expected.sort_by(|one, other| key(one).cmp(&key(other)));
        let found = records(&open(&disk.after(Restart::NothingUnsynced)));
        assert_eq!(found, expected, "what was acknowledged isn't what is there");
    }
}

fn with_checksums(journal: &[u8]) -> Vec<u8> {
    let mut fixed = Vec::new();
    for line in journal.split_inclusive(|byte| *byte == b'\n') {
        let Some(payload) = line.strip_prefix(b"#") else {
            fixed.extend_from_slice(line);
            continue;
        };
        let payload = payload.strip_suffix(b"\n").unwrap_or(payload);
        for byte in &digest(&SHA256, payload).as_ref()[..CHECKSUM_BYTES] {
            fixed.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        fixed.push(b' ');
        fixed.extend_from_slice(payload);
        fixed.push(b'\n');
    }
    fixed
}

fn open(disk: &SimulatedDisk) -> Store {
    let wall = jiff::Timestamp::UNIX_EPOCH;
    let clock = Clock::invented(Now { uptime: Duration::ZERO, wall });
    let path = Path::new(DOCUMENT);
    let store = Store::new(Box::new(disk.clone()), path, clock, Arc::<Metrics>::default());
    store.retry();
    store
}

fn read(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    use multinic_operator::inventory::files::Files as _;
    disk.read(&Path::new("/data").join(name)).unwrap_or_default()
}

fn key(record: &Record) -> (&str, &str) {
    (&record.provider_id, &record.node_name)
}

/// In the inventory's own order, which has each key once.
fn records(store: &Store) -> Vec<Record> {
    let inventory = store.snapshot();
    let records: Vec<Record> = inventory.iter().map(|stored| stored.record.clone()).collect();
    let keys: BTreeSet<_> = records.iter().map(key).collect();
    assert_eq!(keys.len(), records.len(), "a key is there twice");
    assert!(records.is_sorted_by(|one, other| key(one) <= key(other)));
    records
}

/// A disk in memory, for other targets.
pub(crate) fn disk() -> Box<dyn multinic_operator::inventory::files::Files> {
    Box::new(SimulatedDisk::default())
}

/// A record of a node with one interface.
pub(crate) fn sample(node_name: &str) -> Record {
    let interface = Interface {
        id: 0,
        name: Interface::name_of(0),
        port_id: "port-1".to_owned(),
        mac_address: "fa:16:3e:00:00:01".to_owned(),
        address: [10, 0, 0, 1].into(),
        cidr: "10.0.0.0/24".into(),
        mtu: 1500,
        network_id: "network-1".into(),
        subnet_id: "subnet-1".into(),
    };
    let config = NodeConfig {
        node_name: node_name.to_owned(),
        instance_id: format!("vm-{node_name}"),
        interfaces: vec![interface],
    };
    Record {
        provider_id: "fuzz".to_owned(),
        node_name: config.node_name.clone(),
        instance_id: config.instance_id.clone(),
        last_config_hash: config.hash(),
        config,
        updated_at: jiff::Timestamp::UNIX_EPOCH,
        accepted_by: Some("cluster".to_owned()),
        owner: None,
        down_ports: Vec::new(),
        left_out_ports: 0,
        reserved_ids: Vec::new(),
    }
}
