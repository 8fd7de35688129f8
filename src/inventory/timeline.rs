//! What changed on a node, and when. Pure. The entries are described in `page/openapi.yaml`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::contents::Stored;
use super::record::Record;
use crate::node_config::Interface;

/// How many entries of a node are kept; older ones go.
const KEPT_ENTRIES: usize = 20;

/// A node's timeline in the file and over HTTP.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timeline {
    pub(super) provider_id: String,
    pub(super) node_name: String,
    /// Oldest first.
    changes: Vec<Value>,
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

    /// The timeline of a record that comes after another one, as JSON.
    pub(super) fn next(before: Option<&Stored>, after: &Record) -> Arc<[u8]> {
        // What was sent and not accepted is no change of the node.
        let old = before.map(|before| &before.record).filter(|record| record.was_accepted());
        let new = if after.was_accepted() { changes(old, after) } else { Vec::new() };
        let mut next = Timeline::of(after);
        if let Some(before) = before {
            let record = &before.record;
            if new.is_empty()
                && (&record.provider_id, &record.node_name)
                    == (&after.provider_id, &after.node_name)
            {
                return before.timeline.clone();
            }
            let earlier = serde_json::from_slice::<Timeline>(&before.timeline);
            next.changes = earlier.map(|earlier| earlier.changes).unwrap_or_default();
        }
        next.changes.extend(new);
        let surplus = next.changes.len().saturating_sub(KEPT_ENTRIES);
        next.changes.drain(..surplus);
        next.to_json()
    }
}

/// What changed between two records of one node; none before means first sight.
fn changes(before: Option<&Record>, after: &Record) -> Vec<Value> {
    let mut found = Vec::new();
    let mut add = |change: &str, mut entry: Value| {
        entry["at"] = json!(after.updated_at);
        entry["change"] = json!(change);
        found.push(entry);
    };
    let Some(before) = before else {
        add("firstSent", json!({"interfaces": after.config.interfaces.len()}));
        return found;
    };
    if before.node_name != after.node_name {
        add("nodeRenamed", json!({"from": before.node_name}));
    }
    if before.instance_id != after.instance_id {
        add("instanceChanged", json!({"from": before.instance_id, "to": after.instance_id}));
    }
    if before.accepted_by != after.accepted_by {
        add("receiverChanged", json!({"from": before.accepted_by, "to": after.accepted_by}));
    }
    let (old, new) = (&before.config.interfaces, &after.config.interfaces);
    let of_port =
        |list: &'_ [Interface], id: &str| list.iter().position(|other| other.port_id == id);
    let port =
        |one: &Interface| json!({"portId": one.port_id, "id": one.id, "address": one.address});
    for gone in old.iter().filter(|old| of_port(new, &old.port_id).is_none()) {
        add("portRemoved", port(gone));
    }
    for new in new {
        let Some(old) = of_port(old, &new.port_id).map(|place| &old[place]) else {
            add("portAdded", port(new));
            continue;
        };
        for ((field, from), (_, to)) in old.values().into_iter().zip(new.values()) {
            // Its name follows from its id.
            if from != to && field != "name" {
                let port_id = &new.port_id;
                let entry = json!({"portId": port_id, "id": new.id, "field": field, "from": from, "to": to});
                add("portChanged", entry);
            }
        }
    }
    found
}
