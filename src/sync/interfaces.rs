//! Which port becomes which interface (SPEC 5, step 10). Pure.
//!
//! An interface's id names a live network card, so a port keeps its id for as long as it stays on
//! the node, whatever comes and goes beside it.

use std::net::IpAddr;

use crate::cloud::neutron::{Port, Subnet};
use crate::node_config::{Interface, MAX_INTERFACES};

/// A port of the node with its address in the subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached<'a> {
    /// The port.
    pub port: &'a Port,
    /// Its lowest address in the subnet.
    pub address: IpAddr,
}

/// The ports of a node by the ids they are given, and how many found no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned<'a> {
    /// Ordered by id, at most [`MAX_INTERFACES`].
    pub ports: Vec<(u8, Attached<'a>)>,
    /// Ports over the limit.
    pub over_limit: usize,
}

/// Gives each port its id: the one it is remembered with (of several the last), or the lowest free
/// one in the order of MAC and port id.
pub fn assign<'a>(ports: &[Attached<'a>], remembered: &[(&str, u8)]) -> Assigned<'a> {
    let mut by_id: [Option<Attached<'a>>; MAX_INTERFACES] = [None; MAX_INTERFACES];
    let mut new = Vec::new();
    let mut ordered = ports.to_vec();
    ordered.sort_by_key(|attached| (&attached.port.mac_address, &attached.port.id));
    for attached in ordered {
        let known = remembered.iter().rfind(|(port_id, _)| *port_id == attached.port.id);
        match known.and_then(|(_, id)| by_id.get_mut(usize::from(*id))) {
            Some(place @ None) => *place = Some(attached),
            _ => new.push(attached),
        }
    }
    let mut new = new.into_iter();
    for place in by_id.iter_mut().filter(|place| place.is_none()) {
        *place = new.next();
    }
    let ports = (0..).zip(by_id).filter_map(|(id, attached)| Some((id, attached?))).collect();
    Assigned { ports, over_limit: new.len() }
}

impl Assigned<'_> {
    /// As the node is told.
    pub fn interfaces(&self, subnet: &Subnet, mtu: u32) -> Vec<Interface> {
        let interface = |(id, attached): &(u8, Attached<'_>)| Interface {
            id: *id,
            name: Interface::name_of(*id),
            port_id: attached.port.id.clone(),
            mac_address: attached.port.mac_address.clone(),
            address: attached.address,
            cidr: subnet.cidr.clone(),
            mtu,
            network_id: subnet.network_id.clone(),
            subnet_id: subnet.id.clone(),
        };
        self.ports.iter().map(interface).collect()
    }

    /// Are these [`Assigned::interfaces`]? Answered without making them: nearly always they are.
    pub fn are(&self, interfaces: &[Interface], subnet: &Subnet, mtu: u32) -> bool {
        let is = |(interface, (id, attached)): (&Interface, &(u8, Attached<'_>))| {
            // Taken apart, so that a field more can't be forgotten here.
            let Interface {
                id: told_id,
                name,
                port_id,
                mac_address,
                address,
                cidr,
                mtu: told_mtu,
                network_id,
                subnet_id,
            } = interface;
            told_id == id
                && *name == Interface::name_of(*id)
                && *port_id == attached.port.id
                && *mac_address == attached.port.mac_address
                && *address == attached.address
                && *cidr == subnet.cidr
                && *told_mtu == mtu
                && *network_id == subnet.network_id
                && *subnet_id == subnet.id
        };
        interfaces.len() == self.ports.len() && interfaces.iter().zip(&self.ports).all(is)
    }
}
