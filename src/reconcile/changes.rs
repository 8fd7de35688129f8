//! Which nodes must be sent, and what is recorded of them afterwards (steps 11 and 12). Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::down_ports;
use super::plan::PlannedNode;
use crate::config::Intervals;
use crate::inventory::contents::Inventory;
use crate::inventory::record::{Change, Owner, Record, ReservedId};
use crate::node_config::{Interface, NodeConfig};
use crate::resources::{DownPortRetry, Spec};

/// Why a node is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SendReason {
    /// The target accepted another configuration, or none.
    Changed,
    /// The force annotation was set, or the resync interval is over.
    Resync,
    /// It has DOWN ports.
    DownPorts,
    /// Its cluster has something else.
    Drift,
}

/// What makes unchanged nodes be sent again.
#[derive(Clone, Copy, Debug)]
pub struct SendContext<'a> {
    /// How often nodes are sent again.
    pub intervals: &'a Intervals,
    /// Nodes that were accepted up to this moment are sent again.
    pub forced_until: Option<Timestamp>,
    /// Resends for DOWN ports so far.
    pub down_ports: Option<&'a DownPortRetry>,
    /// Nodes whose last delivery wasn't confirmed: the target may hold another configuration than
    /// the recorded one.
    pub unconfirmed: &'a BTreeSet<String>,
    /// Nodes whose cluster has something else than it was sent.
    pub drifted: &'a BTreeSet<String>,
    /// The time of this pass.
    pub now: Timestamp,
}

/// The nodes that must be sent now, and why. `own` are the nodes that the object manages.
pub fn due<'a>(
    spec: &Spec,
    own: &[&'a PlannedNode],
    inventory: &Inventory,
    context: &SendContext<'_>,
) -> Vec<(&'a PlannedNode, SendReason)> {
    let SendContext { intervals, forced_until, now, .. } = *context;
    let by_interval = intervals.resync.and_then(|interval| now.checked_sub(interval).ok());
    let accepted_until = forced_until.into_iter().chain(by_interval).max();
    let is_due = |hash: &str| down_ports::is_due(context.down_ports, hash, intervals, now);
    let down_ports = down_hash(spec, own, inventory).is_some_and(|hash| is_due(&hash));
    let reason = |node: &PlannedNode| {
        let name = &node.config.node_name;
        let record = accepted_record(spec, name, inventory);
        let record = record.filter(|_| !context.unconfirmed.contains(name));
        let Some(record) = record else { return Some(SendReason::Changed) };
        if record.config != node.config || !record.is_accepted_by(spec.target()) {
            return Some(SendReason::Changed);
        }
        // A record from the future is older than it says: the clock was set back since.
        let is_old = |until| record.updated_at <= until || record.updated_at > now;
        if accepted_until.is_some_and(is_old) {
            return Some(SendReason::Resync);
        }
        if context.drifted.contains(name) {
            return Some(SendReason::Drift);
        }
        (down_ports && !node.down_ports.is_empty()).then_some(SendReason::DownPorts)
    };
    own.iter().filter_map(|node| Some((*node, reason(node)?))).collect()
}

/// Of the DOWN ports of nodes that were accepted at some time; none if there are none.
pub fn down_hash(spec: &Spec, own: &[&PlannedNode], inventory: &Inventory) -> Option<String> {
    let is_known = |name: &str| accepted_record(spec, name, inventory).is_some();
    let ids: Vec<&str> = own
        .iter()
        .filter(|node| !node.down_ports.is_empty() && is_known(&node.config.node_name))
        .flat_map(|node| node.down_ports.iter().map(String::as_str))
        .collect();
    (!ids.is_empty()).then(|| down_ports::hash(ids))
}

/// The moment at which the oldest accepted node must be sent again.
pub fn resync_at(
    spec: &Spec,
    own: &[&PlannedNode],
    inventory: &Inventory,
    intervals: &Intervals,
) -> Option<Timestamp> {
    let interval = intervals.resync?;
    let accepted = own
        .iter()
        .filter_map(|node| accepted_record(spec, &node.config.node_name, inventory))
        .map(|record| record.updated_at);
    accepted.min()?.checked_add(interval).ok()
}

fn accepted_record<'a>(
    spec: &Spec,
    node_name: &str,
    inventory: &'a Inventory,
) -> Option<&'a Record> {
    let stored = inventory.get(&spec.provider_id, node_name);
    stored.map(|stored| &stored.record).filter(|record| record.was_accepted())
}

/// What is recorded of one object's nodes after a delivery.
pub struct Recorded<'a> {
    /// What the object asks for.
    pub spec: &'a Spec,
    /// The object.
    pub owner: &'a Owner,
    /// The nodes that the object manages.
    pub own: &'a [&'a PlannedNode],
    /// Those of them that were sent.
    pub sent: &'a [&'a PlannedNode],
    /// Names of the nodes that were accepted.
    pub accepted: &'a BTreeSet<String>,
    /// When they were sent: what is forced while a delivery is under way is sent after it.
    pub sent_at: Timestamp,
    /// The inventory before the changes.
    pub inventory: &'a Inventory,
}

impl Recorded<'_> {
    /// The changes of the inventory.
    pub fn changes(&self) -> Vec<Change> {
        let (accepted, refused): (Vec<&PlannedNode>, Vec<&PlannedNode>) =
            self.sent.iter().partition(|node| self.accepted.contains(&node.config.node_name));
        let mut changes: Vec<Change> =
            accepted.iter().flat_map(|node| self.replaced(node, &accepted)).collect();
        changes.extend(accepted.into_iter().map(|node| Change::Upsert(self.accepted_node(node))));
        changes.extend(refused.into_iter().filter_map(|node| self.reservation(node)));
        changes.extend(self.owner_changes());
        changes
    }

    /// Records that an accepted node replaces: those of its VM under another node name, those that
    /// this object had written while its cloud was registered under another id, and that of a later
    /// version of the Go operator, which is filed under the target.
    fn replaced(&self, node: &PlannedNode, accepted: &[&PlannedNode]) -> Vec<Change> {
        let records = self.inventory.by_vm(&node.config.instance_id).into_iter();
        let replaced = records.map(|stored| &stored.record).filter(|record| {
            let is_own = record.owner.as_ref().is_some_and(|owner| owner.uid == self.owner.uid);
            match record.provider_id.eq_ignore_ascii_case(&self.spec.provider_id) {
                true => accepted.iter().all(|other| other.config.node_name != record.node_name),
                false => is_own || record.is_of_go_operator_for(self.spec.target()),
            }
        });
        let remove = |record: &Record| Change::Remove {
            provider_id: record.provider_id.clone(),
            node_name: record.node_name.clone(),
        };
        replaced.map(remove).collect()
    }

    fn accepted_node(&self, node: &PlannedNode) -> Record {
        Record {
            provider_id: self.spec.provider_id.clone(),
            node_name: node.config.node_name.clone(),
            instance_id: node.config.instance_id.clone(),
            last_config_hash: node.config.hash(),
            config: node.config.clone(),
            updated_at: self.sent_at,
            accepted_by: Some(self.spec.target().to_owned()),
            owner: Some(self.owner.clone()),
            down_ports: node.down_ports.clone(),
            left_out_ports: u32::try_from(node.over_limit).unwrap_or(u32::MAX),
            reserved_ids: node.reserved.clone(),
        }
    }

    /// A node that was sent and not accepted may have been configured all the same, so the ids it
    /// was sent stay reserved for its ports.
    fn reservation(&self, node: &PlannedNode) -> Option<Change> {
        let stored = self.inventory.get(&self.spec.provider_id, &node.config.node_name);
        let mut record = match stored {
            Some(stored) => stored.record.clone(),
            None => Record {
                config: NodeConfig { interfaces: Vec::new(), ..node.config.clone() },
                last_config_hash: String::new(),
                accepted_by: Some(String::new()),
                down_ports: Vec::new(),
                left_out_ports: 0,
                reserved_ids: Vec::new(),
                ..self.accepted_node(node)
            },
        };
        let before = record.reserved_ids.clone();
        for Interface { port_id, id, .. } in &node.config.interfaces {
            let mut recorded = record.config.interfaces.iter();
            if !recorded.any(|one| one.port_id == *port_id && one.id == *id) {
                record.reserved_ids.retain(|kept| kept.port_id != *port_id && kept.id != *id);
                record.reserved_ids.push(ReservedId { port_id: port_id.clone(), id: *id });
            }
        }
        let is_new = stored.is_none() || record.reserved_ids != before;
        is_new.then_some(Change::Upsert(record))
    }

    /// Unchanged nodes that another object had sent are recorded as this object's: after a restart
    /// nothing else says who manages them.
    fn owner_changes(&self) -> Vec<Change> {
        let sent: BTreeSet<&str> =
            self.sent.iter().map(|node| node.config.node_name.as_str()).collect();
        let names = self.own.iter().map(|node| node.config.node_name.as_str());
        let records = names
            .filter(|name| !sent.contains(name))
            .filter_map(|name| self.inventory.get(&self.spec.provider_id, name))
            .map(|stored| &stored.record);
        let is_other = |record: &&Record| {
            record.owner.as_ref().is_none_or(|owner| owner.uid != self.owner.uid)
        };
        let taken = |record: &Record| Record { owner: Some(self.owner.clone()), ..record.clone() };
        records.filter(is_other).map(|record| Change::Upsert(taken(record))).collect()
    }
}
