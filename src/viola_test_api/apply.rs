//! Applies nodes to the Kubernetes API and says what each apply did.
//!
//! **created, configured, unchanged.** The answer to an apply says by its status whether the object
//! is new, but not whether it changed, and the Role has no right to read. So what each object was
//! like after our last apply is remembered: the same uid, generation (which any change of the spec
//! moves, ours or another's) and labels mean unchanged. The agent's status moves none of them. After
//! a restart nothing is remembered, and the first apply of an object that is there says configured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use serde::Deserialize;

use crate::clock::Clock;
use crate::kube::access::Access;
use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::objects::ObjectMeta;
use crate::metrics::Metrics;
use crate::threads::{self, Task, lock};

use super::object::{self, Labels, MULTI_NIC_NODE_CONFIGS};
use super::payload::{self, Node};

/// Who writes, as server-side apply knows it.
const FIELD_MANAGER: &str = "viola-test-api";
/// Applies at a time.
const SIDE_BY_SIDE: usize = 4;

/// What became of one node: kubectl's word for it, or why it wasn't applied.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) node_name: String,
    pub(super) result: Result<&'static str, String>,
}

/// The one writer of the objects.
pub(super) struct Applier {
    client: KubeClient,
    namespace: String,
    /// By name. Held through a whole request: two requests for one node don't overtake each other,
    /// and no more than one is in memory as nodes.
    remembered: Mutex<BTreeMap<String, State>>,
}

/// What an object was like after an apply, as far as we have a say in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    uid: String,
    generation: i64,
    labels: Labels,
}

#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

impl Applier {
    /// Nothing is read or connected yet.
    pub(super) fn new(access: Access, namespace: String, clock: Clock) -> Applier {
        let client = KubeClient::new(access, clock, Arc::new(Metrics::default()))
            .with_field_manager(FIELD_MANAGER);
        Applier { client, namespace, remembered: Mutex::default() }
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
        // Once the server itself is in trouble the rest would only wait for the same answer.
        let trouble: OnceLock<String> = OnceLock::new();
        let tasks = nodes.iter().map(|node| {
            let trouble = &trouble;
            Box::new(move || match trouble.get() {
                Some(error) => Err(error.clone()),
                None => self.apply(node, object::labels(node, provider_id)).map_err(|error| {
                    let text = error.to_string();
                    if error.is_server_trouble() {
                        let _ = trouble.set(text.clone());
                    }
                    text
                }),
            }) as Task<'_, Result<(bool, State), String>>
        });
        let results = threads::side_by_side(SIDE_BY_SIDE, tasks.collect());
        let outcomes = nodes.into_iter().zip(results).map(|(node, result)| {
            let result = result.map(|(created, state)| {
                let before = remembered.insert(node.node_name.clone(), state.clone());
                match before {
                    _ if created => "created",
                    Some(before) if before == state => "unchanged",
                    _ => "configured",
                }
            });
            Outcome { node_name: node.node_name, result }
        });
        Ok(outcomes.collect())
    }

    /// Applies one node; gives whether its object is new, and what it is like now.
    fn apply(&self, node: &Node, labels: Labels) -> Result<(bool, State), KubeError> {
        let path = MULTI_NIC_NODE_CONFIGS.object(&self.namespace, &node.node_name);
        let body = object::object(node, &labels, &self.namespace);
        let (is_new, object) = self.client.apply::<Object>(&path, &body)?;
        let ObjectMeta { uid, generation, .. } = object.metadata;
        Ok((is_new, State { uid, generation, labels }))
    }
}
