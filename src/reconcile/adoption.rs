//! Interface ids that a cluster gives the ports of nodes without a record
//! (docs/behaviour.md#adoption).
//!
//! A node that was configured by another program, or whose record is lost, has network cards with names.
//! Where its cluster can be asked, its MultiNicNodeConfig says which: its ports keep these ids.

use std::collections::{BTreeMap, BTreeSet};

use super::memory::Memory;
use super::plan::Plan;
use super::report::Reason;
use super::{Context, Failed, Item, MakePlan, Report, each_plan, failed_outcome};
use crate::cloud::fetch::Vm;
use crate::inventory::contents::Inventory;
use crate::node_config::NodeConfig;
use crate::resources::{ClusterRef, Spec};
use crate::targets::ClusterIds;
use crate::threads::{Task, side_by_side};

/// Asks clusters what they have of nodes without a record, and plans the objects of these nodes anew. An
/// object that its cluster must be asked for and can't be isn't planned, unless Viola delivers it.
pub(super) fn adopt<'a>(
    context: &Context,
    plans: Vec<(Item<'a>, Plan)>,
    inventory: &Inventory,
    plan: &MakePlan<'a, '_>,
    finish: Report<'_>,
) -> Vec<(Item<'a>, Plan)> {
    let unknown = plans.into_iter().map(|(item, plan)| {
        let cluster = item.spec.destination.cluster();
        let nodes = cluster.map(|_| without_record(item.spec, &plan, inventory));
        (item, plan, nodes.unwrap_or_default())
    });
    let unknown: Vec<(Item<'a>, Plan, BTreeSet<String>)> = unknown.collect();
    let mut asked: BTreeMap<&ClusterRef, BTreeSet<String>> = BTreeMap::new();
    for (item, _, nodes) in unknown.iter().filter(|(_, _, nodes)| !nodes.is_empty()) {
        if let Some(cluster) = item.spec.destination.cluster() {
            asked.entry(cluster).or_default().extend(nodes.iter().cloned());
        }
    }
    let answers = asked.iter().map(|(cluster, nodes)| {
        Box::new(|| (*cluster, context.target.interface_ids(cluster, nodes)))
            as Task<'_, (&ClusterRef, Result<ClusterIds, String>)>
    });
    let answers = side_by_side(context.targets_side_by_side, answers.collect());
    let cluster_ids: BTreeMap<&ClusterRef, Result<ClusterIds, String>> =
        answers.into_iter().collect();
    let (mut whole, mut again) = (Vec::new(), Vec::new());
    for (item, mut plan, nodes) in unknown {
        let Spec { destination, .. } = item.spec;
        match destination
            .cluster()
            .map(|cluster| cluster_ids.get(cluster).filter(|_| !nodes.is_empty()))
        {
            // Nothing had to be asked, so nothing is lost.
            Some(None) => {
                plan.memory = Memory::Kept;
                whole.push((item, plan));
            }
            Some(Some(Ok(cluster_ids))) => again.push((item, cluster_ids)),
            Some(Some(Err(problem))) if destination.is_kubernetes() => {
                let failed = Failed::new(Reason::DeliveryError, problem);
                finish(item.work, failed_outcome(item.work, failed));
            }
            Some(Some(Err(_))) | None => whole.push((item, plan)),
        }
    }
    let again = again.iter().map(|(item, cluster_ids)| (item, Some(*cluster_ids)));
    whole.extend(each_plan(context, again, plan, finish));
    whole
}

/// The nodes of a plan that the inventory knows nothing of, neither their name nor their VM.
fn without_record(spec: &Spec, plan: &Plan, inventory: &Inventory) -> BTreeSet<String> {
    let nodes = plan.nodes.iter().map(|node| &node.config);
    let is_new = |node: &&NodeConfig| {
        inventory.get(&spec.provider_id, &node.node_name).is_none()
            && inventory.by_vm(&node.instance_id).is_empty()
    };
    nodes.filter(is_new).map(|node| node.node_name.clone()).collect()
}

/// The ids of the VM's ports by what the cluster has of its node.
pub(super) fn ids<'a>(cluster_ids: &BTreeMap<String, u8>, vm: &Vm<'a>) -> Vec<(&'a str, u8)> {
    let id = |mac: &str| cluster_ids.get(&mac.to_ascii_lowercase()).copied();
    let ports = vm.ports.iter();
    ports.filter_map(|port| Some((port.id.as_str(), id(&port.mac_address)?))).collect()
}
