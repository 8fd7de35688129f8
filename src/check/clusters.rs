//! Clusters that the operator itself writes into: can they be read, and which of our objects there does
//! no OpenstackConfig name any more?

use std::collections::BTreeSet;

use super::report::Row;
use super::{SIDE_BY_SIDE, advice};
use crate::config::Config;
use crate::node_objects::Existing;
use crate::reconcile::report::{count, listed};
use crate::resources::{ClusterRef, NodeOwner, OpenstackConfig};
use crate::targets::cluster::Clusters;
use crate::threads::{Task, side_by_side};

const CLUSTER: &str = "Cluster";

/// A row for each cluster that an object names.
pub(super) fn rows(config: &Config, clusters: &Clusters, objects: &[OpenstackConfig]) -> Vec<Row> {
    let specs = objects.iter().filter_map(|object| object.spec.as_ref().ok());
    let named: BTreeSet<&ClusterRef> =
        specs.filter_map(|spec| spec.destination.cluster()).collect();
    let row = |cluster| {
        Box::new(move || match clusters.list(cluster) {
            Ok(existing) => {
                let seen = count(existing.len(), "MultiNicNodeConfig");
                Row::fine(CLUSTER, &cluster.name, seen + &orphans(config, &existing, objects))
            }
            Err(problem) => Row::failed(CLUSTER, &cluster.name, problem, advice::CLUSTER),
        }) as Task<'_, Row>
    };
    side_by_side(SIDE_BY_SIDE, named.into_iter().map(row).collect())
}

/// The objects of ours whose owner is gone, or doesn't name their VM any more.
fn orphans(config: &Config, existing: &[Existing], objects: &[OpenstackConfig]) -> String {
    let is_watched = |owner: &NodeOwner| {
        let watched = &config.watch_namespaces;
        watched.is_empty() || watched.contains(&owner.key.namespace)
    };
    let is_named = |owner: &NodeOwner, vm_id: &str| {
        let owner = objects.iter().find(|object| object.uid == owner.uid);
        owner.is_some_and(|owner| match &owner.spec {
            Ok(spec) => spec.vm_ids.iter().any(|id| id.eq_ignore_ascii_case(vm_id)),
            Err(_) => true,
        })
    };
    let orphans = existing.iter().filter(|existing| {
        let owner = existing.owner.as_deref().and_then(NodeOwner::read);
        owner.is_some_and(|owner| is_watched(&owner) && !is_named(&owner, &existing.instance_id))
    });
    let names: Vec<String> = orphans.map(|existing| existing.name.clone()).collect();
    match names.len() {
        0 => String::new(),
        _ => format!(", of no OpenstackConfig any more and never deleted: {}", listed(&names)),
    }
}
