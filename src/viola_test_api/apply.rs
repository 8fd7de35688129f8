//! Applies nodes to the Kubernetes API and says what each apply did.
//!
//! **created, configured, unchanged.** The answer to an apply says by its status whether the object
//! is new, but not whether it changed, and the Role has no right to read. So what each object was
//! like after our last apply is remembered: the same uid, generation (which any change of the spec
//! moves, ours or another's) and labels mean unchanged. The agent's status moves none of them. After
//! a restart nothing is remembered, and the first apply of an object that is there says configured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::kube::access::Access;
use crate::kube::client::KubeClient;
use crate::metrics::Metrics;
use crate::node_objects::{Applied, NodeObjects};
use crate::threads::lock;

use super::payload;

/// Who writes, as server-side apply knows it.
const FIELD_MANAGER: &str = "viola-test-api";

/// What became of one node: kubectl's word for it, or why it wasn't applied.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) node_name: String,
    pub(super) result: Result<&'static str, String>,
}

/// The one writer of the objects.
pub(super) struct Applier {
    objects: NodeObjects,
    /// By name. Held through a whole request: two requests for one node don't overtake each other,
    /// and no more than one is in memory as nodes.
    remembered: Mutex<BTreeMap<String, Applied>>,
}

impl Applier {
    /// Nothing is read or connected yet.
    pub(super) fn new(access: Access, namespace: String, clock: Clock) -> Applier {
        let client = KubeClient::new(access, clock, Arc::new(Metrics::default()))
            .with_field_manager(FIELD_MANAGER);
        Applier { objects: NodeObjects::new(client, namespace), remembered: Mutex::default() }
    }

    /// Applies all nodes of a body and gives what became of each, in their order.
    ///
    /// # Errors
    /// If the body isn't valid; then nothing was applied.
    pub(super) fn apply_all(
        &self,
        body: &[u8],
        provider_id: Option<&str>,
    ) -> Result<Vec<Outcome>, String> {
        let mut remembered = lock(&self.remembered);
        let nodes = payload::read(body)?;
        let results = self.objects.apply_all(&nodes, provider_id);
        let outcomes = nodes.into_iter().zip(results).map(|(node, result)| {
            let result = result.map(|applied| {
                let is_new = applied.is_new;
                let known = Applied { is_new: false, ..applied };
                let before = remembered.insert(node.node_name.clone(), known.clone());
                match before {
                    _ if is_new => "created",
                    Some(before) if before == known => "unchanged",
                    _ => "configured",
                }
            });
            Outcome { node_name: node.node_name, result }
        });
        Ok(outcomes.collect())
    }
}
