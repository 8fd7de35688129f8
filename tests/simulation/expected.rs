//! What each object should come to once nothing goes wrong any more, worked out from the simulated
//! cloud alone.

use std::collections::{BTreeMap, BTreeSet};

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::node_config::NodeConfig;
use multinic_operator::resources::{OpenstackConfig, Spec, SubnetSelector};
use simulated_cloud::CloudState;

use crate::oracle::{Card, cards_of, confirmed_name, last_known_name, subnets, wanted_cards};

/// What an object should come to.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Any of these; several where it depends on how long something is still believed.
    pub(crate) reasons: BTreeSet<&'static str>,
    /// Its nodes: VM and interfaces.
    pub(crate) nodes: BTreeMap<String, (String, BTreeSet<Card>)>,
    /// Nodes of which older objects may or may not be the managers.
    pub(crate) doubtful: BTreeSet<String>,
    conflicts: bool,
}

/// Reasons of objects that are well.
pub(crate) const WELL: [&str; 2] = ["Synced", "NoChange"];

fn failing(reason: &'static str) -> Expected {
    Expected { reasons: BTreeSet::from([reason]), ..Expected::default() }
}

/// What stands in the way before a node is thought of.
fn obstacle(cloud: &CloudState, spec: &Spec) -> Option<(&'static str, bool)> {
    if spec.subnets.is_empty() {
        return Some(("SubnetRequired", true));
    }
    let Some(provider) = cloud.providers.iter().find(|p| p.id == spec.provider_id) else {
        return Some(("ContrabassError", true));
    };
    let user = cloud.users.iter().find(|user| user.name == provider.admin_id);
    if !cloud.projects.iter().any(|project| project.id == spec.project_id) {
        return Some(("KeystoneError", true));
    }
    // A token outlives a password.
    if user.is_none_or(|user| user.password != provider.admin_password) {
        return Some(("KeystoneError", false));
    }
    // A login remembers the catalog that came with it.
    if !cloud.catalog.iter().any(|service| service.kind == "network") {
        return Some(("NeutronEndpointError", false));
    }
    let by_name = matches!(spec.subnets[..], [SubnetSelector::Name(_)]);
    match subnets(cloud, spec).len() {
        0 => Some(("SubnetNotFound", true)),
        1 => None,
        _ if by_name => Some(("SubnetNotUnique", true)),
        _ => None,
    }
}

/// What the object's VMs come to, whoever else names them; and whether two of them have one name.
fn plan(
    cloud: &CloudState,
    spec: &Spec,
    name_key: bool,
    inventory: &Inventory,
) -> (BTreeMap<String, (String, BTreeSet<Card>)>, bool) {
    let Some(subnets) = subnets(cloud, spec).into_iter().next() else { return Default::default() };
    let mut by_name: BTreeMap<String, Vec<(&String, bool)>> = BTreeMap::new();
    for vm in &spec.vm_ids {
        let confirmed = confirmed_name(cloud, &spec.project_id, vm, name_key);
        let remembered = confirmed.is_none().then(|| last_known_name(inventory, vm)).flatten();
        let is_remembered = remembered.is_some();
        let name = confirmed.or(remembered).unwrap_or_else(|| vm.clone());
        by_name.entry(name).or_default().push((vm, is_remembered));
    }
    for vms in by_name.values_mut() {
        if vms.iter().any(|(_, is_remembered)| !is_remembered) {
            vms.retain(|(_, is_remembered)| !is_remembered);
        }
    }
    let twins = by_name.values().any(|vms| vms.len() > 1);
    let single = by_name.into_iter().filter(|(_, vms)| vms.len() == 1);
    let nodes = single.map(|(name, vms)| {
        let vm = vms[0].0;
        let cards = wanted_cards(cloud, spec, &subnets, vm, inventory);
        (name, (vm.clone(), cards))
    });
    (nodes.filter(|(_, (_, cards))| !cards.is_empty()).collect(), twins)
}

fn age(object: &OpenstackConfig) -> (jiff::Timestamp, String, String) {
    (object.created, object.key.to_string(), object.uid.clone())
}

/// What one of the objects should come to beside all the others.
pub(crate) fn expected(
    cloud: &CloudState,
    object: &OpenstackConfig,
    all: &[OpenstackConfig],
    name_key: bool,
    inventory: &Inventory,
) -> Expected {
    let Ok(spec) = &object.spec else { return failing("ConfigError") };
    let obstacle_here = obstacle(cloud, spec);
    if let Some((reason, true)) = obstacle_here {
        return failing(reason);
    }
    let (nodes, twins) = plan(cloud, spec, name_key, inventory);
    let mut expected = Expected { conflicts: twins, ..Expected::default() };
    let older = || all.iter().filter(|other| age(other) < age(object));
    // What such an object claimed when it could be read it claims still.
    let some_are_unreadable = older().any(|other| other.spec.is_err());
    let older: Vec<(&OpenstackConfig, &Spec)> = older()
        .filter_map(|other| Some((other, other.spec.as_ref().ok()?)))
        .filter(|(_, other)| other.provider_id == spec.provider_id)
        .collect();
    for (name, node) in nodes {
        let mut is_taken = false;
        if some_are_unreadable {
            expected.doubtful.insert(name.clone());
        }
        let of_name = inventory.get(&spec.provider_id, &name);
        // A VM that has got another name is its recorded owner's still.
        let of_vm = match of_name.filter(|stored| stored.record.instance_id == node.0) {
            Some(_) => Vec::new(),
            None => inventory.by_instance(&spec.provider_id, &node.0),
        };
        for (other, theirs) in &older {
            match obstacle(cloud, theirs) {
                // What it claimed in its last whole reading it claims still, if there was one.
                Some(_) => drop(expected.doubtful.insert(name.clone())),
                None => is_taken |= plan(cloud, theirs, name_key, inventory).0.contains_key(&name),
            }
            is_taken |= of_name.into_iter().chain(of_vm.iter().copied()).any(|stored| {
                stored.record.owner.as_ref().is_some_and(|owner| owner.uid == other.uid)
                    && theirs.vm_ids.contains(&stored.record.instance_id)
            });
        }
        if is_taken {
            expected.conflicts = true;
        } else {
            expected.nodes.insert(name, node);
        }
    }
    if expected.conflicts {
        expected.reasons.insert("NodeConflict");
    } else {
        expected.reasons.extend(WELL);
    }
    if !expected.doubtful.is_empty() {
        expected.reasons.extend(WELL);
        expected.reasons.insert("NodeConflict");
    }
    if let Some((reason, false)) = obstacle_here {
        expected.reasons.insert(reason);
        expected.doubtful.extend(expected.nodes.keys().cloned());
    }
    expected
}

/// What is wrong with an object's status once nothing goes wrong any more, where Viola may refuse one
/// of its nodes.
pub(crate) fn check_status(
    object: &OpenstackConfig,
    expected: &Expected,
    viola_refuses: bool,
) -> Result<(), String> {
    let ready = object.status.condition("Ready").ok_or("it has no status")?;
    let reason = ready.reason.as_str();
    if !(expected.reasons.contains(reason) || viola_refuses && reason == "ViolaPostError") {
        let reasons = &expected.reasons;
        return Err(format!("it says {reason} ({}) instead of {reasons:?}", ready.message));
    }
    if object.status.observed_generation != Some(object.generation) {
        return Err(format!("its status speaks of {:?}", object.status.observed_generation));
    }
    let is_well = WELL.contains(&reason);
    if (ready.status == "True") != is_well || is_well != object.status.last_error.is_empty() {
        return Err(format!("Ready is {} for {reason}", ready.status));
    }
    let degraded = object.status.condition("Degraded").map(|known| known.status.as_str());
    let noted = ready.message.contains("note: Secret");
    if degraded != Some(if is_well && !noted { "False" } else { "True" }) {
        return Err(format!("Degraded is {degraded:?} for {reason}: {}", ready.message));
    }
    Ok(())
}

/// What is wrong with what Viola holds of a node that should have these cards of this VM.
pub(crate) fn check_held(
    cloud: &CloudState,
    name: &str,
    vm: &str,
    cards: &BTreeSet<Card>,
    held: &NodeConfig,
) -> Result<(), String> {
    let sent = cards_of(held);
    let fits = sent.is_subset(cards) && sent.len() == cards.len().min(10);
    if held.instance_id != *vm || !fits {
        return Err(format!("Viola holds {sent:?} of {name} instead of {cards:?}"));
    }
    for interface in &held.interfaces {
        let mtu = cloud.network(&interface.network_id).map(|network| network.mtu);
        // The interface of a port that is BUILD stays whole.
        let port = cloud.ports.get(&interface.port_id);
        let is_kept = port.is_some_and(|port| port.status == "BUILD");
        if mtu != Some(interface.mtu) && !is_kept {
            return Err(format!("Viola holds MTU {} instead of {mtu:?}", interface.mtu));
        }
    }
    Ok(())
}
