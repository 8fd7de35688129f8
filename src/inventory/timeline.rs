//! What changed on a node, and when. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::contents::Stored;
use super::record::Record;
use crate::node_config::Interface;

/// How many entries of a node are kept; older ones go.
const KEPT_ENTRIES: usize = 20;

/// A node's timeline in the file and over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// The cloud, by its Contrabass id.
    pub provider_id: String,
    /// The Kubernetes node.
    pub node_name: String,
    /// What changed, oldest first.
    pub changes: Vec<Entry>,
}

impl Timeline {
    /// A record's timeline without entries.
    pub(super) fn of(record: &Record) -> Timeline {
        let (provider_id, node_name) = (record.provider_id.clone(), record.node_name.clone());
        Timeline { provider_id, node_name, changes: Vec::new() }
    }

    /// Compact JSON.
    pub(super) fn to_json(&self) -> Arc<[u8]> {
        // Strings, numbers and lists only: serialisation has nothing to fail on.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The timeline of a record, as JSON, after one that had another.
    pub(super) fn next(before: Option<&Stored>, after: &Record) -> Arc<[u8]> {
        // What was sent and not accepted is no change of the node.
        let old = before.map(|before| &before.record).filter(|record| record.was_accepted());
        let new = if after.was_accepted() { changes(old, after) } else { Vec::new() };
        let mut next = Timeline::of(after);
        if let Some(before) = before {
            let is_same_node = before.record.provider_id == after.provider_id
                && before.record.node_name == after.node_name;
            if new.is_empty() && is_same_node {
                return before.timeline.clone();
            }
            next.changes = serde_json::from_slice::<Timeline>(&before.timeline)
                .map(|timeline| timeline.changes)
                .unwrap_or_default();
        }
        next.changes.extend(new);
        let surplus = next.changes.len().saturating_sub(KEPT_ENTRIES);
        next.changes.drain(..surplus);
        next.to_json()
    }
}

/// One entry of a node's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the change was accepted.
    pub at: Timestamp,
    /// What changed.
    #[serde(flatten)]
    pub what: What,
}

/// What can change on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    /// The node was sent for the first time.
    FirstSent {
        /// How many interfaces it had.
        interfaces: usize,
    },
    /// The VM is known under another node name now.
    NodeRenamed {
        /// The name before.
        from: String,
    },
    /// Another VM has the node's name now.
    InstanceChanged {
        /// Nova's id of the VM before.
        from: String,
        /// Nova's id of the VM now.
        to: String,
    },
    /// The node was sent to another Biz cluster.
    ReceiverChanged {
        /// The `x-provider-id` before; none if it was unknown.
        from: Option<String>,
        /// The `x-provider-id` now.
        to: Option<String>,
    },
    /// A port came.
    PortAdded {
        /// Neutron's id of the port.
        port_id: String,
        /// The interface id it got.
        id: u8,
        /// Its address.
        address: String,
    },
    /// A port went.
    PortRemoved {
        /// Neutron's id of the port.
        port_id: String,
        /// The interface id it had.
        id: u8,
        /// The address it had.
        address: String,
    },
    /// A value of a port changed.
    PortChanged {
        /// Neutron's id of the port.
        port_id: String,
        /// Its interface id now.
        id: u8,
        /// Which value: the name of the field in the record.
        field: String,
        /// The value before.
        from: String,
        /// The value now.
        to: String,
    },
}

/// What changed between two records of one node; `None` before means first sight.
fn changes(before: Option<&Record>, after: &Record) -> Vec<Entry> {
    let mut found = Vec::new();
    match before {
        None => found.push(What::FirstSent { interfaces: after.config.interfaces.len() }),
        Some(before) => {
            node_changes(before, after, &mut found);
            port_changes(&before.config.interfaces, &after.config.interfaces, &mut found);
        }
    }
    found.into_iter().map(|what| Entry { at: after.updated_at, what }).collect()
}

fn node_changes(before: &Record, after: &Record, found: &mut Vec<What>) {
    if before.node_name != after.node_name {
        found.push(What::NodeRenamed { from: before.node_name.clone() });
    }
    if before.instance_id != after.instance_id {
        found.push(What::InstanceChanged {
            from: before.instance_id.clone(),
            to: after.instance_id.clone(),
        });
    }
    if before.accepted_by != after.accepted_by {
        found.push(What::ReceiverChanged {
            from: before.accepted_by.clone(),
            to: after.accepted_by.clone(),
        });
    }
}

fn port_changes(before: &[Interface], after: &[Interface], found: &mut Vec<What>) {
    fn with_port<'a>(list: &'a [Interface], port_id: &str) -> Option<&'a Interface> {
        list.iter().find(|interface| interface.port_id == port_id)
    }
    for gone in before.iter().filter(|old| with_port(after, &old.port_id).is_none()) {
        found.push(What::PortRemoved {
            port_id: gone.port_id.clone(),
            id: gone.id,
            address: gone.address.to_string(),
        });
    }
    for new in after {
        match with_port(before, &new.port_id) {
            Some(old) => value_changes(old, new, found),
            None => found.push(What::PortAdded {
                port_id: new.port_id.clone(),
                id: new.id,
                address: new.address.to_string(),
            }),
        }
    }
}

fn value_changes(old: &Interface, new: &Interface, found: &mut Vec<What>) {
    let values = [
        ("id", old.id.to_string(), new.id.to_string()),
        ("macAddress", old.mac_address.clone(), new.mac_address.clone()),
        ("address", old.address.to_string(), new.address.to_string()),
        ("cidr", old.cidr.to_string(), new.cidr.to_string()),
        ("mtu", old.mtu.to_string(), new.mtu.to_string()),
        ("networkId", old.network_id.to_string(), new.network_id.to_string()),
        ("subnetId", old.subnet_id.to_string(), new.subnet_id.to_string()),
    ];
    for (field, from, to) in values.into_iter().filter(|(_, from, to)| from != to) {
        found.push(What::PortChanged {
            port_id: new.port_id.clone(),
            id: new.id,
            field: field.to_owned(),
            from,
            to,
        });
    }
}
