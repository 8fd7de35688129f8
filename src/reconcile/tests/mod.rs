//! The pure core of a pass, held to docs/behaviour.md rule by rule.
//!
//! This file has the builders: a cloud in a few words, records of the inventory, invented time.

mod changes;
mod down_ports;
mod interfaces;
mod memory;
mod ownership;
mod passes;
mod plan;
mod removals;
mod report;
mod requests;
mod schedule;
mod settings;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::plan::PlannedNode;
use crate::clock::{Clock, Now};
use crate::cloud::fetch::FoundSubnet;
use crate::cloud::neutron::Port;
use crate::config::{Config, Intervals};
use crate::inventory::contents::Inventory;
use crate::inventory::files::Disk;
use crate::inventory::record::{Change, Owner, Record};
use crate::inventory::store::Store;
use crate::metrics::Metrics;
use crate::node_config::{Interface, NodeConfig};
use crate::resources::{ObjectKey, OpenstackConfig, PortFilter, Spec, Status, SubnetSelector};

const PROVIDER: &str = "provider-1";
const NETWORK: &str = "network-1";
const SUBNET: &str = "subnet-1";

/// Invented time: so many seconds after the start, on both clocks.
fn at(seconds: u64) -> Now {
    let start = Now { uptime: Duration::ZERO, wall: "2026-01-02T03:04:05Z".parse().unwrap() };
    start.after(Duration::from_secs(seconds))
}

fn wall(seconds: u64) -> Timestamp {
    at(seconds).wall
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The defaults: 20 s, 2 min, 30 s, fast for 3 min, 5 fast retries, no resync.
fn intervals() -> Intervals {
    let url = |name: &str| (name == "KUBE_API_URL").then(|| "http://kubernetes.test".to_owned());
    Config::read(url).unwrap().settings.intervals
}

fn subnet() -> FoundSubnet {
    found_subnet(SUBNET, NETWORK, "10.0.0.0/16", 1450)
}

fn found_subnet(id: &str, network: &str, cidr: &str, mtu: u32) -> FoundSubnet {
    let subnet = json!({"id": id, "network_id": network, "cidr": cidr});
    FoundSubnet { subnet: serde_json::from_value(subnet).unwrap(), mtu }
}

fn mac(number: u8) -> String {
    format!("fa:16:3e:00:00:{number:02x}")
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

/// An ACTIVE port in the subnet; the number makes its MAC and its address.
fn port(id: &str, number: u8) -> Port {
    Port {
        id: id.to_owned(),
        mac_address: mac(number),
        status: "ACTIVE".into(),
        network_id: NETWORK.into(),
        fixed_ips: vec![(SUBNET.into(), address(number))],
        binding_failed: false,
        created_at: Some(wall(0)),
        tags: Vec::new(),
    }
}

fn interface(port_id: &str, id: u8) -> Interface {
    Interface {
        id,
        name: Interface::name_of(id),
        port_id: port_id.to_owned(),
        mac_address: mac(id),
        address: address(id),
        cidr: "10.0.0.0/16".into(),
        mtu: 1450,
        network_id: NETWORK.into(),
        subnet_id: SUBNET.into(),
    }
}

fn node_config(node: &str, vm_id: &str, ports: &[(&str, u8)]) -> NodeConfig {
    NodeConfig {
        node_name: node.to_owned(),
        instance_id: vm_id.to_owned(),
        interfaces: ports.iter().map(|(port_id, id)| interface(port_id, *id)).collect(),
    }
}

/// What was accepted at the start, for the provider's own cluster, from nobody in particular.
fn record(node: &str, vm_id: &str, ports: &[(&str, u8)]) -> Record {
    Record {
        updated_at: wall(0),
        accepted_by: Some(PROVIDER.to_owned()),
        ..Record::of(PROVIDER, node_config(node, vm_id, ports))
    }
}

/// As the replaced program wrote it: no names, no owner, no word for whom; ids as given.
fn legacy_record(node: &str, vm_id: &str, ports: &[(&str, u8)]) -> Record {
    let mut record = Record { accepted_by: None, ..record(node, vm_id, ports) };
    for interface in &mut record.config.interfaces {
        interface.name = "".into();
    }
    record
}

fn inventory(records: &[Record]) -> Arc<Inventory> {
    if records.is_empty() {
        return Arc::default();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let (clock, metrics) = (Clock::invented(at(0)), Arc::new(Metrics::default()));
    let store = Store::new(Box::new(Disk), &path, clock, metrics);
    store.retry();
    let results = store.commit(records.iter().cloned().map(Change::Upsert).collect());
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let inventory = store.snapshot();
    store.flush_and_close();
    inventory
}

/// A node that should be told about these ports, of which some are DOWN.
fn planned(node: &str, vm_id: &str, ports: &[(&str, u8)], down: &[&str]) -> PlannedNode {
    PlannedNode {
        config: node_config(node, vm_id, ports),
        down_ports: down.iter().map(|id| (*id).to_owned()).collect(),
        over_limit: 0,
        older_ports: Vec::new(),
        reserved: Vec::new(),
    }
}

/// An object that names these VMs, created so many seconds after the start. Its uid is its name.
fn object(name: &str, created: u64, vm_ids: &[&str]) -> OpenstackConfig {
    let spec = Spec {
        subnets: vec![SubnetSelector::Id(SUBNET.to_owned())],
        vm_ids: vm_ids.iter().map(|id| (*id).to_owned()).collect(),
        provider_id: PROVIDER.to_owned(),
        project_id: "project-1".to_owned(),
        identity_ref: None,
        k8s_provider_id: None,
        destination: Default::default(),
        paused: false,
        ports: PortFilter::default(),
        settings: Arc::default(),
        encrypt_key: None,
        encrypt_key_ref: None,
    };
    OpenstackConfig {
        key: key(name),
        uid: name.to_owned(),
        generation: 1,
        created: wall(created),
        being_deleted: false,
        force: None,
        approve: None,
        spec: Ok(spec),
        status: Status::default(),
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn owner(name: &str) -> Owner {
    Owner { namespace: "default".to_owned(), name: name.to_owned(), uid: name.to_owned() }
}
