//! What is likely a mistake, though the cloud answered and nothing failed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Plan, Sources, attached};
use super::report::{count, listed};
use crate::cloud::neutron::is_uuid;
use crate::node_config::is_kubernetes_name;

/// A text for each kind of mistake: how many there are, which, and what is right.
pub(super) fn hints(sources: &Sources<'_>, plan: &Plan) -> Vec<String> {
    let project = &sources.spec.project_id;
    let (ids, without_ports) = without_ports(sources, plan);
    let alike = names_that_differ_in_case(sources, plan);
    let names = plan.nodes.iter().map(|node| &node.config.node_name);
    let impossible = names.filter(|name| !is_kubernetes_name(name) && !alike.contains(*name));
    let kinds = [
        ("value", "of vmNames without the form of a UUID", ids, "it takes ids of VMs, not names"),
        (
            "VM",
            "without any port",
            without_ports,
            &format!("ports of other projects than {project} don't count"),
        ),
        (
            "node name",
            "impossible in Kubernetes",
            impossible.cloned().collect(),
            "it allows lower-case letters, digits, '-' and '.'",
        ),
        (
            "node name",
            "with a difference only in case",
            alike,
            "Kubernetes allows lower-case letters only",
        ),
        (
            "port",
            "with binding_failed",
            unbound_ports(sources, plan),
            "Neutron could not bind them to the host of the VM, whose network agent may be down",
        ),
    ];
    let hint = |(noun, what, names, advice): (&str, &str, BTreeSet<String>, &str)| {
        let (number, names) = (count(names.len(), noun), Vec::from_iter(names));
        format!("hint: {number} {what} ({}): {advice}", listed(&names))
    };
    kinds.into_iter().filter(|(_, _, names, _)| !names.is_empty()).map(hint).collect()
}

/// Of the VMs without a port in the subnets those whose id is none, and those that Nova knows and
/// that have no port in the project at all.
fn without_ports(sources: &Sources<'_>, plan: &Plan) -> (BTreeSet<String>, BTreeSet<String>) {
    let all = plan.absent.iter().chain(&plan.without_ports);
    let no_ids = all.filter(|id| !is_uuid(id)).cloned().collect();
    let bare = sources.answers.vms.iter().filter(|vm| vm.ports.is_empty() && is_uuid(vm.id));
    let bare = bare.map(|vm| vm.id.to_owned()).filter(|id| plan.without_ports.contains(id));
    (no_ids, bare.collect())
}

/// Names of nodes behind the object's target that differ only in case from another one there.
fn names_that_differ_in_case(sources: &Sources<'_>, plan: &Plan) -> BTreeSet<String> {
    let names = || plan.nodes.iter().map(|node| &node.config);
    // Of two such names one has an upper-case letter, and its object says so.
    if !names().any(|node| node.node_name.contains(char::is_uppercase)) {
        return BTreeSet::new();
    }
    let mut by_lower: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for node in names() {
        by_lower.entry(node.node_name.to_lowercase()).or_default().insert(&node.node_name);
    }
    let vms: BTreeSet<&str> = names().map(|node| node.instance_id.as_str()).collect();
    for stored in sources.inventory.iter() {
        let record = &stored.record;
        // The record of a VM that was renamed speaks of the past.
        if record.is_accepted_by(sources.spec.target())
            && !vms.contains(record.instance_id.as_str())
            && let Some(names) = by_lower.get_mut(&record.node_name.to_lowercase())
        {
            names.insert(&record.node_name);
        }
    }
    let alike = by_lower.into_values().filter(|names| names.len() > 1);
    alike.flatten().map(str::to_owned).collect()
}

/// Ports in the subnets that Neutron could not bind, with their nodes.
fn unbound_ports(sources: &Sources<'_>, plan: &Plan) -> BTreeSet<String> {
    let mut ports = BTreeSet::new();
    for vm in &sources.answers.vms {
        let unbound = vm.ports.iter().filter(|port| port.binding_failed);
        for port in unbound.filter(|port| attached(port, &sources.answers.subnets).is_ok()) {
            let node = plan.nodes.iter().find(|node| node.config.instance_id == vm.id);
            let node = node.map_or(vm.id, |node| &node.config.node_name);
            ports.insert(format!("{} of {node}", port.id));
        }
    }
    ports
}
