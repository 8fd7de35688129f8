//! The Kubernetes API, simulated: list, watch, server-side apply and the rest of what the operator
//! and kubectl (`get`, `describe`, `annotate`) need, answering as the recordings in
//! `fixtures/recordings/kubernetes` do.
//!
//! A request comes in here, is authenticated, authorised and routed; `verbs` answers it from the one
//! `State` behind one lock; `controls` are the handles for tests. There are no controllers: nothing is
//! garbage-collected and no namespace is emptied unless a test does it. Objects of custom kinds are held
//! to the schemas of this repository's CRDs as far as `schema` evaluates them, when they come over HTTP.

mod access;
mod apply;
mod controls;
mod discovery;
mod events;
mod fields;
mod identity;
mod kinds;
mod paging;
mod patch;
mod presenter;
mod rules;
mod schema;
mod selectors;
mod status;
mod store;
mod verbs;
mod watch;
mod writes;

pub use access::Denial;
pub use controls::View;
pub use kinds::{Column, ResourceKind};
pub use status::Failure;

use crate::wire::{Body, Framing, Handler, Request, Response};
use access::Action;
use serde_json::Value;
use status::FailureBody;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::State;
use verbs::Call;

/// Largest request body, in bytes.
const BODY_MAXIMUM: usize = 3_145_728;
/// Larger answers are chunked, as Go's server does it.
const CHUNKED_FROM: usize = 2048;

/// A Kubernetes API server, in memory.
pub struct Kubernetes {
    shared: Arc<Shared>,
}

/// The state and its bell: every change rings, every watch and waiting test listens.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Kubernetes {
    /// A server with the built-in kinds, the custom kinds of this project, and the usual namespaces.
    pub fn new() -> Arc<Kubernetes> {
        let mut state = State::new(ResourceKind::initial());
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            controls::make_namespace(&mut state, namespace);
        }
        Arc::new(Kubernetes {
            shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }),
        })
    }

    fn respond(&self, request: &Request) -> Result<Response, Failure> {
        let mut state = self.shared.lock();
        let user = state.access.user(request.header("Authorization"))?;
        if request.body.len() > BODY_MAXIMUM {
            return Err(Failure::request_too_large(BODY_MAXIMUM));
        }
        let Some(route) = Route::read(&request.path) else {
            state.access.check_path(&user, &request.path)?;
            return Ok(page(discovery::page(&state, &request.path)?));
        };
        if route.group == "authorization.k8s.io" && route.plural == "selfsubjectaccessreviews" {
            state.access.check_review(&user, &route.action(&request.method, false))?;
            if request.method != "POST" {
                return Err(Failure::method_not_allowed());
            }
            let review = serde_json::from_slice(&request.body)
                .map_err(|error| Failure::bad_request(error.to_string()))?;
            return Ok(answer(201, &state.access.review(&user, review)));
        }
        let watch = request.method == "GET" && is_true(request.query_value("watch"));
        state.access.check(&user, &route.action(&request.method, watch))?;
        let call = Call::new(&state, request, &route)?;
        if watch {
            return call.watch(&self.shared, &mut state);
        }
        if request.method == "GET" && route.name.is_none() {
            state = self.reach(state, call.list_options().wanted()?.needs());
        }
        let response = call.respond(&mut state);
        drop(state);
        if request.method != "GET" {
            self.shared.changed.notify_all();
        }
        response
    }

    /// Waits a while for a version that is still to come.
    fn reach<'a>(&self, mut state: MutexGuard<'a, State>, version: u64) -> MutexGuard<'a, State> {
        let deadline = crate::clock::instant() + state.switches.future_version_wait;
        while state.version < version {
            let left = deadline.saturating_duration_since(crate::clock::instant());
            if left.is_zero() {
                break;
            }
            state = self.shared.wait(state, left);
        }
        state
    }
}

impl Handler for Kubernetes {
    fn handle(&self, request: &Request) -> Response {
        self.respond(request).unwrap_or_else(|failure| refusal(&failure))
    }
}

/// The parts of a resource's path.
struct Route<'a> {
    group: &'a str,
    version: &'a str,
    plural: &'a str,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    subresource: Option<&'a str>,
}

impl<'a> Route<'a> {
    /// `None`: the path is that of no resource.
    fn read(path: &'a str) -> Option<Route<'a>> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !is_part(group, rest) => {
                (Some(*namespace), rest)
            }
            _ => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(*name), None),
            [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Route { group, version, plural, namespace, name, subresource })
    }

    fn resource(&self) -> String {
        self.action("", false).resource()
    }

    fn action(&self, method: &str, watch: bool) -> Action<'a> {
        let verb = match (method, self.name) {
            ("GET", None) if watch => "watch",
            ("GET", None) => "list",
            ("GET", Some(_)) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", None) => "deletecollection",
            ("DELETE", Some(_)) => "delete",
            _ => "unknown",
        };
        Action {
            verb,
            group: self.group,
            plural: self.plural,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
        }
    }
}

/// Whether what follows `/namespaces/<name>` is a subresource of the namespace itself.
fn is_part(group: &str, rest: &[&str]) -> bool {
    group.is_empty() && matches!(rest, ["status" | "finalize"])
}

fn is_true(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "true"))
}

/// A JSON answer with the headers that the real server always sends.
fn answer(status: u16, body: &Value) -> Response {
    respond_with(status, "application/json", body.to_string() + "\n")
}

fn page(page: discovery::Page) -> Response {
    match page {
        discovery::Page::Json(body) => answer(200, &body),
        discovery::Page::Indented(body) => respond_with(200, "application/json", body.to_owned()),
        discovery::Page::Text(body) => {
            let mut response = respond_with(200, "text/plain; charset=utf-8", body.to_owned());
            response.headers.push(("X-Content-Type-Options".to_owned(), "nosniff".to_owned()));
            response
        }
    }
}

fn refusal(failure: &Failure) -> Response {
    let (content_type, body) = match &failure.body {
        FailureBody::Status(status) => ("application/json", status.to_string() + "\n"),
        FailureBody::IndentedStatus(status) => {
            ("application/json", serde_json::to_string_pretty(status).unwrap_or_default())
        }
        FailureBody::Text(text) => ("text/plain; charset=utf-8", (*text).to_owned()),
    };
    let mut response = respond_with(failure.code, content_type, body);
    if failure.code == 401 {
        // Turned away before priority and fairness had a look.
        response.headers.retain(|(name, _)| !name.starts_with("X-Kubernetes-Pf-"));
    }
    if failure.code == 413 {
        response.reason = Some("Request Entity Too Large");
    }
    for (name, value) in &failure.headers {
        response.headers.push(((*name).to_owned(), value.clone()));
    }
    response
}

fn respond_with(status: u16, content_type: &str, body: String) -> Response {
    let date = crate::clock::timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers = [
        ("Audit-Id", identity::uuid()),
        ("Cache-Control", "no-cache, private".to_owned()),
        ("Content-Type", content_type.to_owned()),
        ("X-Kubernetes-Pf-Flowschema-Uid", "ab1b7f12-6de6-4002-852c-055bfa13494b".to_owned()),
        ("X-Kubernetes-Pf-Prioritylevel-Uid", "d6e5d374-10dd-44ef-96a2-b5f66eaa1c96".to_owned()),
        ("Date", date),
    ];
    Response {
        status,
        reason: None,
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        framing: if body.len() > CHUNKED_FROM { Framing::Chunked } else { Framing::ContentLength },
        body: Body::Bytes(body.into_bytes()),
    }
}
