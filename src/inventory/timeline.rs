//! What changed on a node, and when: pure comparison of two records.
//!
//! The entries are a function of the old record and the new one, so the journal needn't hold them:
//! replaying the same records gives the same timeline.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::node_config::Interface;

/// How many entries of a node are kept; older ones go.
pub const KEPT_ENTRIES: usize = 20;

/// One entry of a node's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When Viola accepted the change.
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
pub fn changes(before: Option<&Record>, after: &Record) -> Vec<Entry> {
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
    let with_port = |list: &[Interface], port_id: &str| {
        list.iter().find(|interface| interface.port_id == port_id).cloned()
    };
    for gone in before.iter().filter(|old| with_port(after, &old.port_id).is_none()) {
        found.push(What::PortRemoved {
            port_id: gone.port_id.clone(),
            id: gone.id,
            address: gone.address.to_string(),
        });
    }
    for new in after {
        match with_port(before, &new.port_id) {
            Some(old) => value_changes(&old, new, found),
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

/// The timeline with the new entries at its end, cut to [`KEPT_ENTRIES`].
pub fn extended(timeline: &[Entry], new: Vec<Entry>) -> Vec<Entry> {
    let mut entries = [timeline, &new].concat();
    let surplus = entries.len().saturating_sub(KEPT_ENTRIES);
    entries.drain(..surplus);
    entries
}
