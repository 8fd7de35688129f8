//! Which nodes must be sent (SPEC 5, step 11). Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::claims::Decision;
use super::down_ports;
use super::plan::{Plan, PlannedNode};
use crate::config::Intervals;
use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::node_config::NodeConfig;
use crate::resources::{DownPortRetry, Spec};

/// Why a node is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Viola was told something else, or nothing, or for another cluster.
    Changed,
    /// Somebody asked for it, or the interval of resends is over.
    Again,
    /// It has DOWN ports.
    DownPorts,
}

/// What makes unchanged nodes be sent again in this pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resend {
    /// Whatever was accepted up to this moment is sent again.
    pub accepted_until: Option<Timestamp>,
    /// Nodes with DOWN ports are sent again.
    pub down_ports: bool,
    /// The time of this pass.
    pub now: Timestamp,
}

/// What a pass knows of resends before it looks at its nodes.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// How often nodes are sent again.
    pub intervals: &'a Intervals,
    /// Somebody asked for whatever was accepted up to this moment.
    pub asked_until: Option<Timestamp>,
    /// Resends for DOWN ports so far.
    pub down_ports: Option<&'a DownPortRetry>,
    /// Nodes of which Viola may hold something else than what it was seen to accept.
    pub doubted: &'a BTreeSet<String>,
    /// The time of this pass.
    pub now: Timestamp,
}

impl Occasion<'_> {
    fn resend(&self, down_hash: Option<&str>) -> Resend {
        let Occasion { intervals, asked_until, down_ports, now, .. } = *self;
        // Too long ago, or asked for.
        let by_interval = intervals.resync.and_then(|interval| now.checked_sub(interval).ok());
        Resend {
            accepted_until: asked_until.into_iter().chain(by_interval).max(),
            down_ports: down_hash
                .is_some_and(|hash| down_ports::is_due(down_ports, hash, intervals, now)),
            now,
        }
    }
}

/// The nodes of a plan that are the object's own.
pub fn own<'a>(plan: &'a Plan<'_>, decision: &Decision) -> Vec<&'a PlannedNode<'a>> {
    let granted = |node: &&PlannedNode<'_>| decision.granted.contains(&node.config.node_name);
    plan.nodes.iter().filter(granted).collect()
}

/// Was one of the nodes, or its VM under another name, sent for anybody since the inventory had this
/// version? Then what the plan was made from may be older than what Viola was told.
pub fn were_sent_since(
    spec: &Spec,
    own: &[&PlannedNode<'_>],
    inventory: &Inventory,
    version: u64,
) -> bool {
    if inventory.version() == version {
        return false;
    }
    own.iter().any(|node| {
        let NodeConfig { node_name, instance_id, .. } = &*node.config;
        let told = inventory.get(&spec.provider_id, node_name).into_iter();
        let mut told = told.chain(inventory.by_instance(&spec.provider_id, instance_id));
        told.any(|stored| stored.version > version)
    })
}

/// The nodes that must be sent now, and why.
pub fn due<'a>(
    spec: &Spec,
    own: &[&'a PlannedNode<'a>],
    inventory: &Inventory,
    occasion: &Occasion<'_>,
) -> Vec<(&'a PlannedNode<'a>, Why)> {
    let resend = occasion.resend(down_hash(spec, own, inventory).as_deref());
    let why = |node: &PlannedNode<'_>| {
        let name = &node.config.node_name;
        // What Viola holds of a doubted node isn't known, so no record speaks for it.
        let stored = inventory.get(&spec.provider_id, name);
        let stored = stored.filter(|_| !occasion.doubted.contains(name));
        why(node, stored.map(|stored| &stored.record), spec.target(), resend)
    };
    own.iter().filter_map(|node| Some((*node, why(node)?))).collect()
}

/// Of the DOWN ports of nodes that Viola has accepted at some time; none if there are none.
pub fn down_hash(spec: &Spec, own: &[&PlannedNode<'_>], inventory: &Inventory) -> Option<String> {
    let is_known = |name: &str| inventory.get(&spec.provider_id, name).is_some();
    let ids: Vec<&str> = own
        .iter()
        .filter(|node| !node.down_ports.is_empty() && is_known(&node.config.node_name))
        .flat_map(|node| node.down_ports.iter().map(String::as_str))
        .collect();
    (!ids.is_empty()).then(|| down_ports::hash(ids))
}

/// Must the node be sent to the cluster behind `target`?
pub fn why(
    node: &PlannedNode<'_>,
    record: Option<&Record>,
    target: &str,
    resend: Resend,
) -> Option<Why> {
    let Some(record) = record else { return Some(Why::Changed) };
    // Files of the replaced program don't say for whom a record was accepted; it sent by the same
    // rule, so they count as accepted for whom the object names now.
    let same_target = record.accepted_by.as_deref().is_none_or(|accepted| accepted == target);
    if record.config != *node.config || !same_target {
        return Some(Why::Changed);
    }
    // A record from the future is older than it says: the clock was set back since.
    let accepted_by = |moment| record.updated_at <= moment || record.updated_at > resend.now;
    if resend.accepted_until.is_some_and(accepted_by) {
        return Some(Why::Again);
    }
    (resend.down_ports && !node.down_ports.is_empty()).then_some(Why::DownPorts)
}
