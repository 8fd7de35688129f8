//! What people are shown of the objects: written by the coordinator, read by the inventory's page.
//!
//! Nobody decides anything by it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;
use serde::Serialize;

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
    /// Reason of the Ready condition; empty before the first sync.
    pub reason: String,
    /// Message of the Ready condition.
    pub message: String,
    /// Nodes computed in the last sync.
    pub nodes: Option<u32>,
    /// The last sync that ended without an error.
    pub last_synced_at: Option<Timestamp>,
    /// When the next sync is due; none while one runs.
    pub next_due: Option<Timestamp>,
}

/// The states of all objects, with a version that moves with each change.
#[derive(Debug, Default)]
pub struct Overview {
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    version: u64,
    objects: BTreeMap<(String, String), ObjectState>,
}

impl Overview {
    /// Shows an object's state.
    pub fn put(&self, state: ObjectState) {
        let mut shown = self.shown.lock().unwrap_or_else(|held| held.into_inner());
        let key = (state.namespace.clone(), state.name.clone());
        if shown.objects.get(&key) != Some(&state) {
            shown.version += 1;
            shown.objects.insert(key, state);
        }
    }

    /// Shows an object no longer.
    pub fn remove(&self, namespace: &str, name: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(|held| held.into_inner());
        if shown.objects.remove(&(namespace.to_owned(), name.to_owned())).is_some() {
            shown.version += 1;
        }
    }

    /// The version and all states, ordered by namespace and name.
    pub fn all(&self) -> (u64, Vec<ObjectState>) {
        let shown = self.shown.lock().unwrap_or_else(|held| held.into_inner());
        (shown.version, shown.objects.values().cloned().collect())
    }
}
