//! What the inventory's page shows of the objects. The controller writes it; nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;
use serde::Serialize;

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
    /// Reason of the Ready condition; empty before the first pass.
    pub reason: String,
    /// Message of the Ready condition.
    pub message: String,
    /// Nodes computed in the last pass.
    pub nodes: Option<u32>,
    /// The last pass that ended without an error.
    pub last_synced_at: Option<Timestamp>,
    /// When the next pass is due; none while one runs, or while the object is paused.
    pub next_due: Option<Timestamp>,
    /// `spec.paused` is true.
    pub paused: bool,
}

/// The states of all objects.
#[derive(Debug, Default)]
pub struct Overview {
    /// By namespace and name.
    shown: Mutex<BTreeMap<(String, String), ObjectState>>,
}

impl Overview {
    /// Shows an object's state.
    pub fn put(&self, state: ObjectState) {
        let key = (state.namespace.clone(), state.name.clone());
        lock(&self.shown).insert(key, state);
    }

    /// Shows an object no longer.
    pub(crate) fn remove(&self, namespace: &str, name: &str) {
        lock(&self.shown).remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// All states, ordered by namespace and name.
    pub fn all(&self) -> Vec<ObjectState> {
        lock(&self.shown).values().cloned().collect()
    }
}
