//! Records, stores and clocks for the tests of the inventory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use multinic_operator::clock::{Clock, Now};
use multinic_operator::inventory::contents::{Inventory, Stored};
use multinic_operator::inventory::files::Files;
use multinic_operator::inventory::record::{Change, Record};
use multinic_operator::inventory::store::{Store, StoreState};
use multinic_operator::metrics::Metrics;
use multinic_operator::node_config::{Interface, NodeConfig};

pub(crate) const PROVIDER: &str = "0e61f1a2-provider";

/// The start of invented time.
pub(crate) fn start() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

pub(crate) fn invented_clock() -> Clock {
    Clock::invented(Now { uptime: Duration::ZERO, wall: start() })
}

/// A store on the real disk, with its thread, once it has tried to open its file.
pub(crate) fn open(path: &Path) -> Arc<Store> {
    let store = Store::open(path, Clock::system(), Arc::default());
    store.wait_until_opened(Duration::from_secs(10));
    store
}

/// Commits, and gives the first error.
pub(crate) fn commit(store: &Store, changes: Vec<Change>) -> Result<(), StoreState> {
    store.commit(changes).into_iter().collect()
}

/// The record of a node of [`PROVIDER`].
pub(crate) fn get(store: &Store, node: &str) -> Option<Arc<Stored>> {
    store.snapshot().get(PROVIDER, node).cloned()
}

/// A store without a thread, on any disk.
pub(crate) fn open_on(files: impl Files + 'static, path: &Path) -> Store {
    let store = Store::new(Box::new(files), path, invented_clock(), Arc::<Metrics>::default());
    store.retry();
    store
}

/// An interface whose values follow from its port's number.
pub(crate) fn interface(id: u8, port: u32) -> Interface {
    Interface {
        id,
        name: Interface::name_of(id),
        port_id: format!("port-{port:04}"),
        mac_address: format!("fa:16:3e:00:{:02x}:{:02x}", port / 256, port % 256),
        address: format!("10.10.{}.{}", port / 250, port % 250 + 1).parse().unwrap(),
        cidr: "10.10.0.0/16".into(),
        mtu: 1450,
        network_id: "net-a".into(),
        subnet_id: "subnet-a".into(),
    }
}

/// A record as a sync would make it, `step` seconds after the start.
pub(crate) fn record(node: &str, instance: &str, ports: &[u32], step: u64) -> Record {
    let interfaces = ports.iter().zip(0..).map(|(port, id)| interface(id, *port)).collect();
    let config =
        NodeConfig { node_name: node.to_owned(), instance_id: instance.to_owned(), interfaces };
    Record {
        provider_id: PROVIDER.to_owned(),
        node_name: node.to_owned(),
        instance_id: instance.to_owned(),
        last_config_hash: config.hash(),
        config,
        updated_at: start().checked_add(Duration::from_secs(step)).unwrap(),
        accepted_by: Some("biz-1".to_owned()),
        owner: None,
        down_ports: Vec::new(),
        left_out_ports: 0,
        reserved_ids: Vec::new(),
    }
}

pub(crate) fn upsert(node: &str, ports: &[u32], step: u64) -> Change {
    Change::Upsert(record(node, &format!("vm-{node}"), ports, step))
}

pub(crate) fn remove(node: &str) -> Change {
    Change::Remove { provider_id: PROVIDER.to_owned(), node_name: node.to_owned() }
}

/// Everything a reader can see of an inventory, as text.
pub(crate) fn seen(inventory: &Inventory) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |stored: &Arc<Stored>| [text(&stored.json), text(&stored.timeline)].join(" ");
    inventory.iter().map(line).collect()
}
