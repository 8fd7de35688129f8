//! Applies nodes to the Kubernetes API and tells what each apply did.
//!
//! **created, configured, unchanged.** The answer to an apply says by its status whether the object
//! is new, but not whether it changed, and the Role has no right to read. So what each object was
//! like after our last apply is remembered: the same uid, generation (which any change of the spec
//! moves, ours or another's) and labels mean unchanged. The agent's status moves none of them. After
//! a restart nothing is remembered, and the first apply of an object that is there says configured.
//!
//! **The service account's token** is read from its file for each apply, so a rotated one is never
//! missed; a stand-in can afford that.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde::Deserialize;

use crate::http::client::{Client, ClientOptions, Request, Service};
use crate::kube::access::Access;
use crate::kube::error::{ApiStatus, Call, KubeError, Refusal};
use crate::metrics::Metrics;
use crate::node_config::NodeConfig;
use crate::secret::Secret;
use crate::threads::{self, Task};

use super::object::{self, Labels, MULTI_NIC_NODE_CONFIGS};
use super::payload::{self, Invalid};

/// Who writes, as server-side apply knows it; force takes our fields from others.
const QUERY: &str = "fieldManager=viola-test-api&force=true";
/// The JSON we send is YAML too.
const APPLY_PATCH: &str = "application/apply-patch+yaml";
/// One apply; the API server answers in milliseconds, or it is in trouble.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Below the idle limits of API servers.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Applies at a time.
const SIDE_BY_SIDE: usize = 4;

/// What became of one node.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) node_name: String,
    pub(super) result: Result<Change, String>,
}

/// What an apply did to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Configured,
    Unchanged,
}

impl Change {
    /// kubectl's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Change::Created => "created",
            Change::Configured => "configured",
            Change::Unchanged => "unchanged",
        }
    }
}

/// The one writer of the objects.
pub(super) struct Applier {
    client: Client,
    access: Access,
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
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    uid: String,
    generation: i64,
}

impl Applier {
    /// Nothing is read or connected yet.
    pub(super) fn new(access: Access, namespace: String) -> Applier {
        let options = ClientOptions {
            call_limit: CALL_LIMIT,
            trust: access.trust.clone(),
            idle_limit: IDLE_LIMIT,
        };
        let client = Client::new(options, Arc::new(Metrics::default()));
        Applier { client, access, namespace, remembered: Mutex::default() }
    }

    /// Applies all nodes of a body and gives what became of each, in their order.
    ///
    /// # Errors
    /// If the body isn't valid; then nothing was applied.
    pub(super) fn apply_all(
        &self,
        body: &[u8],
        provider_id: Option<&str>,
    ) -> Result<Vec<Outcome>, Invalid> {
        let mut remembered = self.remembered.lock().unwrap_or_else(|held| held.into_inner());
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
                change(created, before.as_ref(), &state)
            });
            Outcome { node_name: node.node_name, result }
        });
        Ok(outcomes.collect())
    }

    /// Applies one node; gives whether its object is new, and what it is like now.
    fn apply(&self, node: &NodeConfig, labels: Labels) -> Result<(bool, State), KubeError> {
        let path = MULTI_NIC_NODE_CONFIGS.object(&self.namespace, &node.node_name);
        let url = format!("{}{path}?{QUERY}", self.access.api_url.trim_end_matches('/'));
        let call = Call { verb: "patch", method: "PATCH", path };
        let body = object::object(node, &labels, &self.namespace).to_string();
        let token = self.access.token_file.as_deref().map(read_token).transpose()?;
        let request =
            Request::with_body(Service::Kubernetes, "PATCH", &url, APPLY_PATCH, body.as_bytes());
        let request = match &token {
            Some(token) => request.secret_header("authorization", "Bearer ", token),
            None => request,
        };
        // Applying the same twice does no harm.
        let answer = self.client.call(&request.repeatable()).map_err(KubeError::Transport)?;
        if !matches!(answer.status, 200..=299) {
            let status = ApiStatus::of_answer(answer.status, answer.retry_after(), &answer.body);
            return Err(KubeError::Refused(Box::new(Refusal { call, status })));
        }
        let object: Object = serde_json::from_slice(&answer.body)
            .map_err(|error| KubeError::Unreadable { call, reason: error.to_string() })?;
        let Metadata { uid, generation } = object.metadata;
        Ok((answer.status == 201, State { uid, generation, labels }))
    }
}

/// What an apply did, by what the object was like after the one before.
fn change(created: bool, before: Option<&State>, after: &State) -> Change {
    match before {
        _ if created => Change::Created,
        Some(before) if before == after => Change::Unchanged,
        _ => Change::Configured,
    }
}

fn read_token(path: &Path) -> Result<Secret, KubeError> {
    let problem =
        |what: String| KubeError::NoToken { reason: format!("{}: {what}", path.display()) };
    let text = fs::read_to_string(path).map_err(|error| problem(error.kind().to_string()))?;
    match text.trim() {
        "" => Err(problem("the file is empty".to_owned())),
        token => Ok(Secret::new(token.to_owned())),
    }
}
