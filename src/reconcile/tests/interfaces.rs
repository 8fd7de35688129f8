//! Which port becomes which interface.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::{NETWORK, SUBNET, address, mac, port, subnet};
use crate::cloud::fetch::FoundSubnet;
use crate::cloud::neutron::Port;
use crate::node_config::{Interface, MAX_INTERFACES};
use crate::reconcile::interfaces::{Assigned, Attached, assign};

static ONLY_SUBNET: LazyLock<FoundSubnet> = LazyLock::new(subnet);

fn assigned<'a>(ports: &'a [Port], remembered: &[(&str, u8)]) -> Assigned<'a> {
    beside(&[], ports, remembered)
}

/// The same with ports of the VM that can't be used now.
fn beside<'a>(left_out: &'a [Port], ports: &'a [Port], remembered: &[(&str, u8)]) -> Assigned<'a> {
    let attached: Vec<Attached<'_>> = ports
        .iter()
        .map(|port| Attached { port, subnet: &ONLY_SUBNET, address: port.fixed_ips[0].1 })
        .collect();
    assign(&attached, &left_out.iter().collect::<Vec<_>>(), remembered)
}

/// Port and id, ordered by id.
fn ids<'a>(assigned: &Assigned<'a>) -> Vec<(&'a str, u8)> {
    assigned.ports.iter().map(|(id, one)| (one.port.id.as_str(), *id)).collect()
}

fn interfaces(assigned: &Assigned<'_>) -> Vec<Interface> {
    assigned.interfaces()
}

fn numbered(numbers: std::ops::Range<u8>) -> Vec<Port> {
    numbers.map(|number| port(&format!("port-{number:02}"), number)).collect()
}

#[test]
fn an_interface_says_everything_the_agent_needs() {
    let interface = Interface {
        id: 0,
        name: "multinic0".into(),
        port_id: "a".to_owned(),
        mac_address: mac(7),
        address: address(7),
        cidr: "10.0.0.0/16".into(),
        mtu: 1450,
        network_id: NETWORK.into(),
        subnet_id: SUBNET.into(),
    };
    assert_eq!(interfaces(&assigned(&[port("a", 7)], &[])), [interface]);
}

#[test]
fn on_first_sight_the_order_is_mac_and_then_port_id() {
    let ports = [port("a", 9), port("c", 3), port("b", 3)];
    assert_eq!(ids(&assigned(&ports, &[])), [("b", 0), ("c", 1), ("a", 2)]);
}

#[test]
fn a_port_keeps_its_id_when_a_port_before_it_goes() {
    let ports = [port("b", 2), port("c", 3)];
    let remembered = [("a", 0), ("b", 1), ("c", 2)];
    assert_eq!(ids(&assigned(&ports, &remembered)), [("b", 1), ("c", 2)]);
}

#[test]
fn a_port_keeps_its_id_when_a_port_with_a_lower_mac_comes() {
    let ports = [port("new", 1), port("a", 2), port("b", 3)];
    let remembered = [("a", 0), ("b", 1)];
    assert_eq!(ids(&assigned(&ports, &remembered)), [("a", 0), ("b", 1), ("new", 2)]);
}

#[test]
fn new_ports_fill_the_gaps_from_the_lowest_in_the_order_of_their_macs() {
    let ports = [port("z", 1), port("y", 2), port("x", 3), port("old", 4), port("older", 5)];
    let remembered = [("old", 2), ("older", 0)];
    let expected = [("older", 0), ("z", 1), ("old", 2), ("y", 3), ("x", 4)];
    assert_eq!(ids(&assigned(&ports, &remembered)), expected);
}

#[test]
fn of_more_than_ten_new_ports_the_first_ten_count_and_the_rest_is_counted() {
    let ports = numbered(0..13);
    let assigned = assigned(&ports, &[]);
    assert_eq!(assigned.over_limit, 3);
    let interfaces = interfaces(&assigned);
    assert_eq!(interfaces.len(), 10);
    assert_eq!(interfaces[9].name, "multinic9");
    assert_eq!(interfaces[9].port_id, "port-09");
}

#[test]
fn ten_ports_are_not_too_many() {
    let ports = numbered(0..10);
    let assigned = assigned(&ports, &[]);
    assert_eq!((assigned.ports.len(), assigned.over_limit), (10, 0));
}

#[test]
fn a_full_node_keeps_its_ports_although_a_new_one_has_the_lowest_mac() {
    let mut ports = numbered(1..11);
    let names: Vec<String> = ports.iter().map(|port| port.id.clone()).collect();
    let remembered: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(0..10).collect();
    ports.push(port("new", 0));
    let assigned = assigned(&ports, &remembered);
    assert_eq!((ids(&assigned), assigned.over_limit), (remembered, 1));
}

#[test]
fn an_id_remembered_out_of_range_is_given_anew() {
    let ports = [port("a", 1), port("b", 2)];
    assert_eq!(ids(&assigned(&ports, &[("a", 10), ("b", 9)])), [("a", 0), ("b", 9)]);
    assert_eq!(ids(&assigned(&ports, &[("a", 255)])), [("a", 0), ("b", 1)]);
}

#[test]
fn of_two_ports_remembered_with_one_id_the_one_told_last_keeps_it() {
    let ports = [port("a", 2), port("b", 1)];
    assert_eq!(ids(&assigned(&ports, &[("a", 4), ("b", 4)])), [("a", 0), ("b", 4)]);
    assert_eq!(ids(&assigned(&ports, &[("b", 4), ("a", 4)])), [("b", 0), ("a", 4)]);
    let away = beside(&ports[1..], &ports[..1], &[("a", 4), ("b", 4)]);
    assert_eq!((ids(&away), away.reserved), (vec![("a", 0)], vec![("b", 4)]));
}

#[test]
fn a_node_without_ports_has_no_interfaces() {
    let nothing = Assigned { ports: Vec::new(), reserved: Vec::new(), over_limit: 0 };
    assert_eq!(assigned(&[], &[("a", 0)]), nothing);
}

#[test]
fn the_id_of_a_port_that_cannot_be_used_for_a_while_is_nobody_elses() {
    let away = [port("a", 1)];
    let ports = [port("b", 2), port("new", 0)];
    let assigned = beside(&away, &ports, &[("a", 0), ("b", 1)]);
    assert_eq!(ids(&assigned), [("b", 1), ("new", 2)]);
    assert_eq!(assigned.reserved, [("a", 0)]);
}

#[test]
fn a_port_that_was_never_told_reserves_nothing_and_one_that_is_gone_neither() {
    let away = [port("unheard", 1)];
    let ports = [port("b", 2)];
    let assigned = beside(&away, &ports, &[("gone", 0), ("unheard", 10)]);
    assert_eq!((ids(&assigned), assigned.reserved), (vec![("b", 0)], Vec::new()));
}

#[test]
fn a_port_that_can_be_used_takes_the_last_id_from_the_one_whose_was_told_longest_ago() {
    let away = [port("a", 20), port("b", 21)];
    let mut ports = numbered(0..8);
    let names: Vec<String> = ports.iter().map(|port| port.id.clone()).collect();
    let mut remembered = vec![("b", 9), ("a", 8)];
    remembered.extend(names.iter().map(String::as_str).zip(0..8));
    let full = beside(&away, &ports, &remembered);
    assert_eq!((full.ports.len(), full.reserved), (8, vec![("b", 9), ("a", 8)]));
    ports.push(port("new", 8));
    let fuller = beside(&away, &ports, &remembered);
    assert_eq!(ids(&fuller)[8], ("new", 9));
    assert_eq!((fuller.reserved, fuller.over_limit), (vec![("a", 8)], 0));
    ports.extend([port("newer", 9), port("newest", 10)]);
    let fullest = beside(&away, &ports, &remembered);
    assert_eq!(ids(&fullest)[8..], [("newer", 8), ("new", 9)]);
    assert_eq!((fullest.reserved, fullest.over_limit), (Vec::new(), 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Ports come and go between passes, and can't be used for a while; what a pass gave is what the
    /// next one remembers.
    #[test]
    fn whatever_comes_and_goes_a_port_that_stays_keeps_its_id(
        passes in proptest::collection::vec(
            proptest::collection::btree_map(0..24u8, proptest::bool::weighted(0.7), 0..18),
            1..12,
        ),
        turn in 0..16usize,
    ) {
        let mut remembered: Vec<(String, u8)> = Vec::new();
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        for (pass, present) in passes.into_iter().enumerate() {
            // MACs run against the ids of the ports, and two ports may share one.
            let of_kind = |wanted: bool| -> Vec<Port> {
                let numbers = present.iter().filter(|(_, is_usable)| **is_usable == wanted);
                numbers
                    .map(|(number, _)| port(&format!("port-{number:02}"), (24 - number) / 2))
                    .collect()
            };
            let (ports, away) = (of_kind(true), of_kind(false));
            let pairs: Vec<(&str, u8)> =
                remembered.iter().map(|(port_id, id)| (port_id.as_str(), *id)).collect();
            let known: BTreeMap<&str, u8> = pairs.iter().copied().collect();
            let assigned = beside(&away, &ports, &pairs);
            let interfaces = interfaces(&assigned);
            let given: BTreeMap<&str, u8> =
                interfaces.iter().map(|one| (one.port_id.as_str(), one.id)).collect();
            let reserved: BTreeMap<&str, u8> = assigned.reserved.iter().copied().collect();
            let used: BTreeSet<u8> = given.values().chain(reserved.values()).copied().collect();

            prop_assert_eq!(used.len(), given.len() + reserved.len(), "ids are unique");
            prop_assert!(used.iter().all(|id| usize::from(*id) < MAX_INTERFACES));
            prop_assert_eq!(interfaces.len(), ports.len().min(MAX_INTERFACES));
            prop_assert_eq!(assigned.over_limit, ports.len() - interfaces.len());
            prop_assert!(interfaces.is_sorted_by_key(|one| one.id));
            let displaced: Vec<&Port> = away
                .iter()
                .filter(|port| known.contains_key(&*port.id) && !reserved.contains_key(&*port.id))
                .collect();
            prop_assert!(displaced.is_empty() || used.len() == MAX_INTERFACES, "needlessly");
            for port in &displaced {
                let is_last = reserved.keys().all(|kept| told[&port.id] <= told[*kept]);
                prop_assert!(is_last, "{} wasn't told of longest ago", port.id);
            }
            for (port_id, id) in &reserved {
                prop_assert_eq!(known.get(port_id), Some(id), "{} has another id", port_id);
            }
            let free: BTreeSet<u8> = displaced.iter().map(|port| known[&*port.id]).collect();
            for one in &interfaces {
                prop_assert_eq!(&one.name, &format!("multinic{}", one.id));
                match known.get(&*one.port_id) {
                    Some(id) => prop_assert_eq!(one.id, *id, "{} changed its id", one.port_id),
                    None => prop_assert!(
                        free.contains(&one.id) || (0..one.id).all(|lower| used.contains(&lower))
                    ),
                }
            }
            for port in ports.iter().filter(|port| known.contains_key(&*port.id)) {
                prop_assert!(given.contains_key(&*port.id), "{} lost its place", port.id);
            }
            let mut turned = ports.clone();
            turned.rotate_left(turn % ports.len().max(1));
            let turned = beside(&away, &turned, &pairs);
            prop_assert_eq!(ids(&turned), ids(&assigned), "order matters");
            prop_assert_eq!(&turned.reserved, &assigned.reserved, "order matters");

            // A node without interfaces isn't sent, so what was remembered stays.
            if !given.is_empty() {
                told.extend(given.keys().map(|port_id| ((*port_id).to_owned(), pass)));
                let after = assigned.reserved.iter().copied().chain(given);
                remembered = after.map(|(port_id, id)| (port_id.to_owned(), id)).collect();
            }
        }
    }
}
