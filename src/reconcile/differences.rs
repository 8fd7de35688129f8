//! What differs between what was sent to a node and what would be sent now. Pure.

use std::collections::BTreeMap;

use crate::inventory::record::Record;
use crate::node_config::{Interface, NodeConfig};
use crate::reconcile::plan::PlannedNode;

/// In words, one difference each; empty if there is none.
pub fn between(record: &Record, node: &PlannedNode, target: &str) -> Vec<String> {
    let now = &node.config;
    let mut differences = Vec::new();
    if let Some(accepted) = record.accepted_by.as_deref().filter(|_| !record.is_accepted_by(target))
    {
        differences
            .push(format!("it was accepted for cluster {accepted}, {target} hasn't heard of it"));
    }
    let before = &record.config;
    if before.instance_id != now.instance_id {
        differences.push(format!("VM {} -> {}", before.instance_id, now.instance_id));
    }
    if before.node_name != now.node_name {
        differences.push(format!("name {} -> {}", before.node_name, now.node_name));
    }
    let (old, new) = (by_port(before), by_port(now));
    for (port_id, interface) in &new {
        match old.get(port_id) {
            None => differences.push(format!(
                "port {port_id} is new, as multinic{} with {}",
                interface.id, interface.address
            )),
            Some(known) => {
                let values = known.values().into_iter().zip(interface.values());
                differences.extend(values.filter(|(was, is)| was != is).map(
                    |((field, was), (_, is))| format!("port {port_id}: {field} {was} -> {is}"),
                ));
            }
        }
    }
    for (port_id, interface) in old.iter().filter(|(port_id, _)| !new.contains_key(*port_id)) {
        differences.push(match node.reserved.iter().find(|kept| kept.port_id == **port_id) {
            Some(kept) => {
                format!("port {port_id} can't be used now, multinic{} stays its own", kept.id)
            }
            None => format!("port {port_id} is gone, it was multinic{}", interface.id),
        });
    }
    if differences.is_empty() && before != now {
        differences.push("the order of its interfaces".to_owned());
    }
    differences
}

fn by_port(config: &NodeConfig) -> BTreeMap<&str, &Interface> {
    config.interfaces.iter().map(|one| (one.port_id.as_str(), one)).collect()
}

#[cfg(test)]
mod tests {
    use super::between;
    use crate::inventory::record::{Record, ReservedId};
    use crate::node_config::{Interface, NodeConfig};
    use crate::reconcile::plan::PlannedNode;

    fn interface(id: u8, port_id: &str) -> Interface {
        Interface {
            id,
            name: Interface::name_of(id),
            port_id: port_id.to_owned(),
            mac_address: format!("fa:16:3e:00:00:0{id}"),
            address: format!("10.0.0.{id}").parse().unwrap(),
            cidr: "10.0.0.0/24".into(),
            mtu: 1500,
            network_id: "n".into(),
            subnet_id: "s".into(),
        }
    }

    fn config(interfaces: Vec<Interface>) -> NodeConfig {
        NodeConfig { node_name: "worker".to_owned(), instance_id: "vm".to_owned(), interfaces }
    }

    fn record(config: NodeConfig) -> Record {
        Record { accepted_by: Some("p".to_owned()), ..Record::of("p", config) }
    }

    fn planned(config: &NodeConfig, reserved: Vec<ReservedId>) -> PlannedNode {
        PlannedNode {
            config: config.clone(),
            down_ports: Vec::new(),
            over_limit: 0,
            older_ports: Vec::new(),
            reserved,
        }
    }

    #[test]
    fn ports_that_come_go_and_change_are_named_and_what_stays_is_not() {
        let before = record(config(vec![interface(0, "a"), interface(1, "b"), interface(2, "c")]));
        assert!(between(&before, &planned(&before.config, Vec::new()), "p").is_empty());
        let mut moved = interface(1, "b");
        moved.address = "10.0.0.99".parse().unwrap();
        moved.mtu = 1450;
        let now = config(vec![interface(0, "a"), moved, interface(3, "d")]);
        assert_eq!(
            between(&before, &planned(&now, Vec::new()), "p"),
            [
                "port b: address 10.0.0.1 -> 10.0.0.99",
                "port b: mtu 1500 -> 1450",
                "port d is new, as multinic3 with 10.0.0.3",
                "port c is gone, it was multinic2",
            ]
        );
        let kept = vec![ReservedId { port_id: "c".to_owned(), id: 2 }];
        let differences = between(&before, &planned(&now, kept), "p");
        assert_eq!(differences[3], "port c can't be used now, multinic2 stays its own");
    }

    #[test]
    fn another_cluster_hasnt_heard_of_it() {
        let before = record(config(vec![interface(0, "a")]));
        assert!(between(&before, &planned(&before.config, Vec::new()), "P").is_empty());
        let differences = between(&before, &planned(&before.config, Vec::new()), "biz-2");
        assert_eq!(differences, ["it was accepted for cluster p, biz-2 hasn't heard of it"]);
    }
}
