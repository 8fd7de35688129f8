//! Which port becomes which interface (docs/behaviour.md#interface-ids). Pure.
//!
//! An interface's id names a live network card, so a port keeps its id for as long as it stays on
//! the node, whatever comes and goes beside it. It stays for as long as Neutron lists it with the
//! VM: one that can't be used for a while (its status is BUILD, it has lost its address) is left
//! out, but what it comes back as is its own card, and meanwhile no other port may be that card.

use std::net::IpAddr;

use crate::cloud::fetch::FoundSubnet;
use crate::cloud::neutron::Port;
use crate::node_config::{Interface, MAX_INTERFACES};

/// A port of the node with its address in one of the subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached<'a> {
    /// The port.
    pub port: &'a Port,
    /// Of the subnets in which it has addresses, the one that the object lists first.
    pub subnet: &'a FoundSubnet,
    /// Its lowest address in the subnet.
    pub address: IpAddr,
}

/// The ports of a node by the ids they are given, and how many found no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned<'a> {
    /// Ordered by id, at most [`MAX_INTERFACES`].
    pub ports: Vec<(u8, Attached<'a>)>,
    /// Ports that are left out and their ids, ordered by when they were last sent, oldest first.
    pub reserved: Vec<(&'a str, u8)>,
    /// Ports over the limit.
    pub over_limit: usize,
}

/// Gives each port its id: the one it is remembered with, or the lowest free one in the order of
/// MAC and port id. `left_out` are the VM's ports that can't be used now; theirs stay taken.
///
/// `remembered` is ordered by when it was sent: the last entry is right where several speak of one
/// port, or of one id.
pub fn assign<'a>(
    ports: &[Attached<'a>],
    left_out: &[&'a Port],
    remembered: &[(&str, u8)],
) -> Assigned<'a> {
    let mut by_id: [Option<Attached<'a>>; MAX_INTERFACES] = [None; MAX_INTERFACES];
    let mut reserved: Vec<(&str, u8)> = Vec::new();
    let mut new = ports.to_vec();
    new.sort_by_key(|attached| (&attached.port.mac_address, &attached.port.id));
    for (at, (port_id, id)) in remembered.iter().enumerate().rev() {
        let is_outdated = remembered[at + 1..].iter().any(|(later, _)| later == port_id);
        let is_taken = reserved.iter().any(|(_, reserved)| reserved == id);
        let Some(place @ None) = by_id.get_mut(usize::from(*id)) else { continue };
        if is_outdated || is_taken {
            continue;
        }
        if let Some(known) = new.iter().position(|attached| attached.port.id == *port_id) {
            *place = Some(new.remove(known));
        } else if let Some(port) = left_out.iter().find(|port| port.id == *port_id) {
            reserved.push((&port.id, *id));
        }
    }
    let mut new = new.into_iter();
    let is_free = |id: &u8| !reserved.iter().any(|(_, reserved)| reserved == id);
    for (id, place) in (0..).zip(&mut by_id) {
        if place.is_none() && is_free(&id) {
            *place = new.next();
        }
    }
    // With all ten ids gone, what can be used comes before what can't: a card that a pod may use now
    // isn't refused for one that may never come back. The port that was sent to the node longest
    // ago gives way, for its card is the likeliest to be gone from the node.
    while new.len() > 0
        && let Some((_, id)) = reserved.pop()
    {
        by_id[usize::from(id)] = new.next();
    }
    reserved.reverse();
    let ports = (0..).zip(by_id).filter_map(|(id, attached)| Some((id, attached?))).collect();
    Assigned { ports, reserved, over_limit: new.len() }
}

impl Assigned<'_> {
    /// As they are sent to the node.
    pub fn interfaces(&self) -> Vec<Interface> {
        let interface = |(id, attached): &(u8, Attached<'_>)| {
            let FoundSubnet { subnet, mtu } = attached.subnet;
            Interface {
                id: *id,
                name: Interface::name_of(*id),
                port_id: attached.port.id.clone(),
                mac_address: attached.port.mac_address.clone(),
                address: attached.address,
                cidr: subnet.cidr.clone(),
                mtu: *mtu,
                network_id: subnet.network_id.clone(),
                subnet_id: subnet.id.clone(),
            }
        };
        self.ports.iter().map(interface).collect()
    }
}
