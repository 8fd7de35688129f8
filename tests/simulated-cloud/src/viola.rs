//! Viola: takes node configurations in, strictly, and remembers them per Biz cluster.
//!
//! The real one passes them on to a cluster's agents; here tests read what arrived. Whatever breaks
//! the contract is answered with 400 and kept as a violation, for a test to find.

mod contract;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::journal::Journal;
use crate::wire::{Handler, Request, Response};

/// Where node configurations are posted.
pub const NODE_CONFIGS: &str = "/v1/k8s/multinic/node-configs";

#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The header `x-provider-id`.
    pub provider_id: String,
    /// The nodes as they came, also those that were then refused.
    pub nodes: Vec<Value>,
    /// When it came, in milliseconds on the journal's scale.
    pub at_ms: u64,
}

struct Memory {
    received: Vec<Received>,
    current: BTreeMap<String, BTreeMap<String, Value>>,
    violations: Vec<String>,
    refused: BTreeMap<String, String>,
    success: u16,
}

/// The API that receives node configurations.
pub struct Viola {
    journal: Arc<Journal>,
    memory: Mutex<Memory>,
}

impl Viola {
    /// One that has heard of nothing yet; times are taken from the journal.
    pub fn new(journal: Arc<Journal>) -> Arc<Viola> {
        Arc::new(Viola {
            journal,
            memory: Mutex::new(Memory {
                received: Vec::new(),
                current: BTreeMap::new(),
                violations: Vec::new(),
                refused: BTreeMap::new(),
                success: 200,
            }),
        })
    }

    /// All accepted requests, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// What a Biz cluster has been told last: node configurations by node name.
    pub fn current(&self, provider_id: &str) -> BTreeMap<String, Value> {
        self.lock().current.get(provider_id).cloned().unwrap_or_default()
    }

    /// The Biz clusters that have been told something.
    pub fn providers(&self) -> Vec<String> {
        self.lock().current.keys().cloned().collect()
    }

    /// Every breach of the contract so far.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Nodes of this name are not accepted from now on: a 200 whose `errors` names them.
    pub fn refuse_node(&self, node_name: &str, error: &str) {
        self.lock().refused.insert(node_name.to_owned(), error.to_owned());
    }

    pub fn accept_all_nodes(&self) {
        self.lock().refused.clear();
    }

    /// The status of success: 200, 201, 202 or 204 (which has no body, so can refuse no node).
    pub fn set_success_status(&self, status: u16) {
        self.lock().success = status;
    }

    /// Loses all that it was told, as a Viola without its store would.
    pub fn forget(&self) {
        let mut memory = self.lock();
        memory.received.clear();
        memory.current.clear();
    }

    fn post(&self, request: &Request) -> Response {
        let (provider_id, nodes) = match contract::check(request) {
            Ok(accepted) => accepted,
            Err(violation) => {
                let answer = Response::json(400, &json!({"error": violation}));
                self.lock().violations.push(violation);
                return answer;
            }
        };
        let at_ms = self.journal.now_ms();
        let mut guard = self.lock();
        let memory = &mut *guard;
        let mut output = String::new();
        let mut errors = Vec::new();
        let current = memory.current.entry(provider_id.clone()).or_default();
        for node in &nodes {
            let name = node["nodeName"].as_str().unwrap_or_default();
            if let Some(error) = memory.refused.get(name) {
                errors.push(json!({"nodeName": name, "error": error}));
                continue;
            }
            let before = current.insert(name.to_owned(), node.clone());
            let verb = match before {
                None => "created",
                Some(before) if before == *node => "unchanged",
                Some(_) => "configured",
            };
            output.push_str(&format!("multinicnodeconfig.multinic.io/{name} {verb}\n"));
        }
        let applied = nodes.len() - errors.len();
        memory.received.push(Received { provider_id, nodes, at_ms });
        if memory.success == 204 {
            return Response::empty(204);
        }
        let mut body = json!({"applied": applied, "output": output});
        if !errors.is_empty() {
            body["errors"] = Value::Array(errors);
        }
        Response::json(memory.success, &body)
    }

    /// Everything that it holds, by Biz cluster.
    pub fn everything(&self) -> Value {
        json!(self.lock().current)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Viola {
    fn handle(&self, request: &Request) -> Response {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", NODE_CONFIGS) => self.post(request),
            ("GET", NODE_CONFIGS) => Response::json(200, &self.everything()),
            ("GET", "/healthz") => Response::new(200, "text/plain", "ok"),
            (_, NODE_CONFIGS) => Response::json(405, &json!({"error": "method not allowed"})),
            _ => Response::json(404, &json!({"error": "not found"})),
        }
    }
}

/// Whether all texts differ.
fn distinct<'a>(mut texts: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    texts.all(|text| seen.insert(text))
}
