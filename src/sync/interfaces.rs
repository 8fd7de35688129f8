//! Which port becomes which interface (SPEC 5, step 10). Pure.
//!
//! An interface's id names a live network card, so a port keeps its id for as long as it stays on
//! the node, whatever comes and goes beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::cloud::neutron::{Port, Subnet};
use crate::node_config::{Interface, MAX_INTERFACES};

/// A port of the node with its address in the subnet.
#[derive(Clone, Copy, Debug)]
pub struct Attached<'a> {
    /// The port.
    pub port: &'a Port,
    /// Its lowest address in the subnet.
    pub address: IpAddr,
}

/// The interfaces of a node, and how many ports found no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Ordered by id, at most [`MAX_INTERFACES`].
    pub interfaces: Vec<Interface>,
    /// Ports over the limit.
    pub over_limit: usize,
}

/// Gives each port its id: the one it is remembered with, or the lowest free one in the order of
/// MAC and port id.
pub fn assign(
    ports: &[Attached<'_>],
    remembered: &BTreeMap<String, u8>,
    subnet: &Subnet,
    mtu: u32,
) -> Assigned {
    let mut by_id: BTreeMap<u8, Attached<'_>> = BTreeMap::new();
    let mut new = Vec::new();
    let mut ordered = ports.to_vec();
    ordered.sort_by(|left, right| {
        let key =
            |attached: &Attached<'_>| (attached.port.mac_address.clone(), attached.port.id.clone());
        key(left).cmp(&key(right))
    });
    for attached in ordered {
        match remembered.get(&attached.port.id) {
            Some(id) if usize::from(*id) < MAX_INTERFACES && !by_id.contains_key(id) => {
                by_id.insert(*id, attached);
            }
            _ => new.push(attached),
        }
    }
    let taken: BTreeSet<u8> = by_id.keys().copied().collect();
    let free = (0..MAX_INTERFACES as u8).filter(|id| !taken.contains(id));
    let placed = new.len().min(MAX_INTERFACES - taken.len());
    by_id.extend(free.zip(new.iter().copied()));
    let interfaces =
        by_id.into_iter().map(|(id, attached)| interface(id, attached, subnet, mtu)).collect();
    Assigned { interfaces, over_limit: new.len() - placed }
}

fn interface(id: u8, attached: Attached<'_>, subnet: &Subnet, mtu: u32) -> Interface {
    Interface {
        id,
        name: Interface::name_of(id),
        port_id: attached.port.id.clone(),
        mac_address: attached.port.mac_address.clone(),
        address: attached.address,
        cidr: subnet.cidr.clone(),
        mtu,
        network_id: subnet.network_id.clone(),
        subnet_id: subnet.id.clone(),
    }
}
