//! What the inventory's page shows of the objects. The controller writes it; nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;
use serde::Serialize;

use crate::agent::state::{InterfaceState, State};
use crate::resources::Hold;
use crate::threads::lock;

/// One OpenstackConfig as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectState {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The cloud it belongs to.
    pub provider_id: String,
    /// `True`, `False` or `Unknown`.
    pub ready: String,
    /// Since when it has that value.
    pub ready_since: Option<Timestamp>,
    /// Reason of the Ready condition; empty before the first pass.
    pub reason: String,
    /// Message of the Ready condition.
    pub message: String,
    /// What is held and not approved.
    pub hold: Option<Hold>,
    /// Nodes computed in the last pass.
    pub nodes: Option<u32>,
    /// The last pass that ended without an error.
    pub last_synced_at: Option<Timestamp>,
    /// When the next pass is due; none while one runs, or while the object is paused.
    pub next_due: Option<Timestamp>,
    /// `spec.paused` is true.
    pub paused: bool,
    /// Status of the Configured condition; none where the cluster can't be read.
    pub configured: Option<String>,
    /// Configured nodes of all nodes, such as `2/3`.
    pub configured_nodes: Option<String>,
    /// Reason of the Configured condition.
    pub configured_reason: Option<String>,
    /// Message of the Configured condition.
    pub configured_message: Option<String>,
}

/// What the cluster of a node says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeShown {
    /// The cloud it belongs to.
    pub provider_id: String,
    /// The Kubernetes node.
    pub node_name: String,
    /// Nova's id of the VM.
    pub instance_id: String,
    /// How far the node has come.
    pub state: State,
    /// The agent's words about the node as a whole.
    pub message: String,
    /// What the cluster has instead of what was sent; empty if it has that.
    pub drift: String,
    /// Each interface that was sent.
    pub interfaces: Vec<InterfaceState>,
}

/// The states of all objects, and of their nodes.
#[derive(Debug, Default)]
pub struct Overview {
    /// By namespace and name.
    shown: Mutex<BTreeMap<(String, String), ObjectState>>,
    /// Of objects whose cluster can be read, likewise.
    nodes: Mutex<BTreeMap<(String, String), Vec<NodeShown>>>,
}

impl Overview {
    /// Shows an object's state.
    pub fn put(&self, state: ObjectState) {
        let key = (state.namespace.clone(), state.name.clone());
        lock(&self.shown).insert(key, state);
    }

    /// Shows the states of an object's nodes in place of those before.
    pub fn put_nodes(&self, namespace: &str, name: &str, nodes: Vec<NodeShown>) {
        lock(&self.nodes).insert((namespace.to_owned(), name.to_owned()), nodes);
    }

    /// Shows an object no longer.
    pub(crate) fn remove(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.shown).remove(&key);
        lock(&self.nodes).remove(&key);
    }

    /// All states, ordered by namespace and name.
    pub fn all(&self) -> Vec<ObjectState> {
        lock(&self.shown).values().cloned().collect()
    }

    /// The states of all nodes whose clusters can be read, ordered by provider and name.
    pub fn nodes(&self) -> Vec<NodeShown> {
        let mut nodes: Vec<_> = lock(&self.nodes).values().flatten().cloned().collect();
        nodes.sort_by(|a, b| (&a.provider_id, &a.node_name).cmp(&(&b.provider_id, &b.node_name)));
        nodes
    }
}
