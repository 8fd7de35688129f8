//! A plan in words, for people. Pure.

use crate::inventory::contents::Inventory;
use crate::node_config::{MAX_INTERFACES, NodeConfig};
use crate::reconcile::Sending;
use crate::reconcile::plan::{LeftOut, Plan, Unusable};
use crate::reconcile::report::count;
use crate::resources::Destination;
use crate::table::aligned;
use crate::targets::viola::PATH;

/// What would be sent to each node and why, and which ports become no interface.
pub(super) fn nodes(
    head: [(&str, String); 2],
    sending: &Sending<'_>,
    inventory: &Inventory,
    statuses: Option<&[String]>,
) -> String {
    let (object, due) = (sending.object, &sending.due);
    let held = |node: &str| sending.removals.hold.as_ref().is_some_and(|hold| hold.keeps(node));
    let planned = count(object.plan.nodes.len(), "node");
    let target = object.spec.target();
    let request = match object.spec.destination {
        Destination::Viola { .. } => format!("POST {PATH}, x-provider-id: {target}"),
        Destination::Kubernetes(_) => format!("apply of MultiNicNodeConfigs in cluster {target}"),
    };
    let head = head
        .into_iter()
        .chain([("request", request), ("would send", format!("{} of {planned}", due.len()))]);
    let head: Vec<_> = head.map(|(name, value)| vec![name.to_owned(), value]).collect();
    let mut text = aligned(&head).join("\n") + "\n";
    for node in &object.plan.nodes {
        let NodeConfig { node_name, instance_id, .. } = &node.config;
        let conflict = object.conflicts.iter().find(|conflict| conflict.node_name == *node_name);
        let mut lines = Vec::new();
        let result =
            match (due.iter().find(|(due, _)| due.config.node_name == *node_name), conflict) {
                (Some((_, reason)), _) => {
                    let why = sending.why(node, *reason, inventory);
                    lines.extend(why.into_iter().map(|why| format!("why: {why}")));
                    "would be sent".to_owned()
                }
                (None, Some(conflict)) => {
                    format!("not sent: the older OpenstackConfig {} manages it", conflict.manager)
                }
                (None, None) if held(node_name) => "held, see the status".to_owned(),
                (None, None) if object.own.contains(node_name) => {
                    "unchanged, would not be sent".to_owned()
                }
                (None, None) => "not sent yet: who manages it isn't known".to_owned(),
            };
        lines.extend(interfaces(&node.config));
        text += &section(&format!("node {node_name} (VM {instance_id}): {result}"), &lines);
    }
    let left_out = |port: &LeftOut| left_out(port, &object.plan, statuses);
    text + &section("left out:", &object.plan.left_out.iter().map(left_out).collect::<Vec<_>>())
}

fn interfaces(config: &NodeConfig) -> Vec<String> {
    let title = ["ID", "NAME", "MAC", "ADDRESS", "CIDR", "MTU", "PORT"];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    rows.extend(config.interfaces.iter().map(|interface| {
        vec![
            interface.id.to_string(),
            interface.name.to_string(),
            interface.mac_address.clone(),
            interface.address.to_string(),
            interface.cidr.to_string(),
            interface.mtu.to_string(),
            interface.port_id.clone(),
        ]
    }));
    aligned(&rows)
}

fn left_out(port: &LeftOut, plan: &Plan, statuses: Option<&[String]>) -> String {
    let LeftOut { node_name, port_id, status, why } = port;
    let why = match why {
        Unusable::OtherNetwork => "on another network".to_owned(),
        Unusable::NoAddress => "no fixed ip".to_owned(),
        Unusable::OtherSubnet => "its fixed ips are in other subnets".to_owned(),
        Unusable::TooOld => "older than the object".to_owned(),
        Unusable::UnknownAge => "Neutron doesn't say when it was created".to_owned(),
        Unusable::WithoutTag(tag) => format!("without tag {tag}"),
        Unusable::OverLimit => format!("over the limit of {MAX_INTERFACES}"),
        Unusable::Status => {
            let counted = statuses.unwrap_or_default().join(", ");
            format!("status {status} (only {counted} count)")
        }
    };
    let mut reserved = plan.nodes.iter().flat_map(|node| &node.reserved);
    let kept = reserved.find(|kept| kept.port_id == *port_id);
    let kept = kept.map(|kept| format!("; multinic{} stays its own", kept.id));
    format!("port {port_id} of {node_name}: {why}{}", kept.unwrap_or_default())
}

/// A paragraph; empty without items, as each begins with an empty line.
pub(super) fn section(title: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    format!("\n{title}\n  {}\n", items.join("\n  "))
}
