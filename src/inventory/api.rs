//! The inventory over HTTP: read-only routes, the page, and who may see them.
//!
//! | route | answer |
//! |---|---|
//! | `/v1/inventory/node-configs` | array of records, filtered and paged |
//! | `/v1/inventory/node-configs/{nodeName}` | array of the records of that name; none is 404 |
//! | `/v1/inventory/changes` | array of timelines, filtered and paged likewise |
//! | `/v1/inventory/node-states` | array of what clusters say of nodes, those that are read |
//! | `/v1/interfaces/providers` | the targets and their nodes |
//! | `/v1/interfaces/node-configs` | array of the records of a target |
//! | `/v1/interfaces/node-configs/by-instance/{instanceId}` | those of a VM; none is 404 |
//! | `/v1/overview` | state of the store and of every OpenstackConfig |
//! | `/healthz` | the process answers; needs no token |
//! | `/`, `/docs`, `/openapi.yaml` and their parts | the page, embedded in the program |
//!
//! Everything is served from memory: prepared bytes of an immutable snapshot. Lists are put together
//! from the records' own bytes while they are written, so that a slow reader holds no copy; overview
//! and interfaces are copied, one at a time, into memory that is reserved. There is no path to a file system, and nothing to write to. The wire format is `page/openapi.yaml`, which
//! a test holds against real answers.

mod interfaces;
mod query;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use ring::hmac;
use serde::Serialize;
use serde_json::{Value, json};

use super::contents::{Inventory, Stored};
use super::store::Store;
use crate::http::server::{Body, Handler, Method, Request, Response};
use crate::node_config::hexadecimal;
use crate::overview::{ObjectState, Overview};
use crate::threads::lock;
use crate::token_file::TokenFile;

use query::ListQuery;

const NODE_CONFIGS: &str = "/v1/inventory/node-configs";
const CHANGES: &str = "/v1/inventory/changes";
const STATES: &str = "/v1/inventory/node-states";
const PROVIDERS: &str = "/v1/interfaces/providers";
const INTERFACES: &str = "/v1/interfaces/node-configs";
const BY_INSTANCE: &str = "/v1/interfaces/node-configs/by-instance/";

/// Path, content type and content of each file of the page and of the description of the API. They
/// refer to each other by relative paths.
const ASSETS: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/words.js", "text/javascript; charset=utf-8", include_str!("page/words.js")),
    ("/docs", "text/html; charset=utf-8", include_str!("page/docs.html")),
    ("/openapi.yaml", "application/yaml", include_str!("page/openapi.yaml")),
];

/// What the page may load: own files only, nothing inline, in no frame.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                              connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
                              form-action 'none'; frame-ancestors 'none'";

/// The token's file is read this often at most; a mounted Secret changes without a sign.
const TOKEN_EVERY: Duration = Duration::from_secs(1);

/// What a list holds for each of its items: where it is, and how long.
const ITEM_BYTES: usize = size_of::<Arc<[u8]>>();

/// What the settings say about the API.
#[derive(Clone, Debug, Default)]
pub struct ApiSettings {
    /// The one web origin whose pages may read the API, or `*`; none: no other origin may.
    pub cors_origin: Option<String>,
    /// A file with the token that data is shown for; none: no token is needed.
    pub token_file: Option<PathBuf>,
}

/// How old the records may be that a replica shows which doesn't lead.
pub(crate) type Age = Box<dyn Fn() -> Duration + Send + Sync>;

/// Says who leads and how to ask it, if it isn't this replica.
pub(crate) type Leadership = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The routes.
pub struct Api {
    store: Arc<Store>,
    overview: Arc<Overview>,
    cors_origin: Option<String>,
    token: Option<TokenFile>,
    leadership: Leadership,
    /// None: another replica's records aren't shown.
    age: Option<Age>,
    /// Differs from run to run, so that a version number is never taken for one of another run.
    run: u64,
    /// Held while an answer is made of copies: they aren't counted before.
    making: Mutex<()>,
}

#[derive(Serialize)]
struct OverviewAnswer {
    store: Value,
    objects: Vec<ObjectState>,
}

impl Api {
    /// The routes over a store and an overview.
    pub fn new(
        store: Arc<Store>,
        overview: Arc<Overview>,
        settings: ApiSettings,
        leadership: Leadership,
    ) -> Api {
        Api {
            token: settings.token_file.map(|path| TokenFile::new(path, TOKEN_EVERY)),
            store,
            overview,
            cors_origin: settings.cors_origin.filter(|origin| !origin.is_empty()),
            leadership,
            age: None,
            run: fastrand::u64(..),
            making: Mutex::default(),
        }
    }

    /// The same routes over what another replica keeps.
    pub(crate) fn of_standby(self, age: Age) -> Api {
        Api { age: Some(age), ..self }
    }

    fn route(&self, request: &Request) -> Result<Response, Response> {
        if request.method == Method::Options {
            return Ok(Response::new(204, Body::Empty).with("Allow", "GET, HEAD, OPTIONS"));
        }
        let path = request.path.as_str();
        let node_name = path.strip_prefix(NODE_CONFIGS).and_then(|rest| rest.strip_prefix('/'));
        if let Some(instance_id) = path.strip_prefix(BY_INSTANCE).filter(|id| !id.is_empty()) {
            return self.interfaces(request, Some(instance_id));
        }
        match (path, node_name) {
            ("/v1/overview", _) => self.overview_answer(request),
            (NODE_CONFIGS, _) => self.list(request, |stored| &stored.json),
            (CHANGES, _) => self.list(request, |stored| &stored.timeline),
            (STATES, _) => {
                self.permit(request)?;
                self.shown(request, || serde_json::to_vec(&self.overview.nodes()))
            }
            (PROVIDERS, _) => {
                let inventory = self.inventory(request)?;
                self.copied(request, &inventory, &interfaces::providers(&inventory))
            }
            (INTERFACES, _) => self.interfaces(request, None),
            (_, Some(node_name)) if !node_name.is_empty() => self.single(request, node_name),
            _ => without_records(request).unwrap_or_else(|| {
                Err(Response::error(404, "there is nothing here; see /docs for what there is"))
            }),
        }
    }

    /// Refuses clients without the token, and all where another replica has the records.
    fn permit(&self, request: &Request) -> Result<(), Response> {
        if let Some(token) = &self.token {
            let expected = token.token(self.store.clock().now().uptime).map_err(|_| {
                let message = "the token file of this server can't be read, so no data are shown";
                Response::error(503, message)
            })?;
            let presented = request.authorization.as_ref().and_then(|header| {
                let (scheme, token) = header.expose().split_once(' ')?;
                scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
            });
            let problem = match presented {
                Some(presented) if is_same(presented, expected.expose()) => None,
                Some(_) => Some("the token is not the right one"),
                None => Some("a token is needed: send Authorization: Bearer <token>"),
            };
            if let Some(problem) = problem {
                let scheme = "Bearer realm=\"multinic-inventory\"";
                return Err(Response::error(401, problem).with("WWW-Authenticate", scheme));
            }
        }
        match (self.leadership)() {
            None => Ok(()),
            Some(leader) if self.age.is_none() => Err(not_the_leader(&leader)),
            Some(_) => Ok(()),
        }
    }

    /// The inventory, for those who may see it.
    fn inventory(&self, request: &Request) -> Result<Arc<Inventory>, Response> {
        self.permit(request)?;
        let state = self.store.state();
        match state.remembers() {
            true => Ok(self.store.snapshot()),
            false => Err(unavailable(&state.to_string())),
        }
    }

    fn single(&self, request: &Request, node_name: &str) -> Result<Response, Response> {
        let inventory = self.inventory(request)?;
        let found = match query::provider(&request.query)? {
            Some(provider) => inventory.get(provider, node_name).into_iter().collect(),
            None => inventory.by_name(node_name),
        };
        let found = found.into_iter().filter(|stored| stored.record.was_accepted());
        let items: Arc<[_]> = found.map(|stored| stored.json.clone()).collect();
        if items.is_empty() {
            return Err(Response::error(404, &format!("there is no record of node {node_name}")));
        }
        let body = Body::List(items);
        self.tagged(request, tag_of(&body.bytes()), || Ok(json_answer(200, body)))
    }

    fn list(
        &self,
        request: &Request,
        item: fn(&Stored) -> &Arc<[u8]>,
    ) -> Result<Response, Response> {
        let inventory = self.inventory(request)?;
        let query = ListQuery::parse(&request.query)?;
        self.tagged(request, self.tag_of_version(&inventory), || {
            let (found, next) = query.select(&inventory);
            let reservation =
                request.memory.reserve(found.len() * ITEM_BYTES).ok_or_else(Response::no_memory)?;
            let items = found.into_iter().map(|stored| item(stored).clone()).collect();
            let response = json_answer(200, Body::List(items)).holding(reservation);
            Ok(match next {
                None => response,
                // Relative, for it is read behind proxies that add a prefix.
                Some(next) => response
                    .with("Link", format!("<?{}>; rel=\"next\"", query.with_continue(&next)))
                    .with("X-Continue", next),
            })
        })
    }

    /// The records of the target that is asked for, which must be unless a VM is.
    fn interfaces(
        &self,
        request: &Request,
        instance_id: Option<&str>,
    ) -> Result<Response, Response> {
        let inventory = self.inventory(request)?;
        let target = query::provider(&request.query)?;
        if target.or(instance_id).is_none() {
            return Err(Response::error(
                400,
                "providerId is needed: the x-provider-id of a target",
            ));
        }
        let found = interfaces::delivered(&inventory, target, instance_id);
        if let Some(instance_id) = instance_id.filter(|_| found.is_empty()) {
            return Err(Response::error(404, &format!("there is no record of VM {instance_id}")));
        }
        self.copied(request, &inventory, &found)
    }

    /// An answer that follows from the inventory alone.
    fn copied(
        &self,
        request: &Request,
        inventory: &Inventory,
        content: &impl Serialize,
    ) -> Result<Response, Response> {
        self.tagged(request, self.tag_of_version(inventory), || {
            let _making = lock(&self.making);
            let body = serde_json::to_vec(content).unwrap_or_default();
            let reservation =
                request.memory.reserve(body.capacity()).ok_or_else(Response::no_memory)?;
            Ok(json_answer(200, Body::Owned(body)).holding(reservation))
        })
    }

    fn tag_of_version(&self, inventory: &Inventory) -> String {
        format!("\"{:016x}-{}\"", self.run, inventory.version())
    }

    fn overview_answer(&self, request: &Request) -> Result<Response, Response> {
        self.permit(request)?;
        self.shown(request, || {
            let state = self.store.state();
            let store = json!({
                "state": state.name(),
                "reason": state.reason(),
                "since": state.since(),
                "findings": self.store.findings(),
                "records": self.store.snapshot().shown_from("", "").count(),
            });
            serde_json::to_vec(&OverviewAnswer { store, objects: self.overview.all() })
        })
    }

    /// An answer that is copied to see whether it has changed.
    fn shown(
        &self,
        request: &Request,
        content: impl FnOnce() -> serde_json::Result<Vec<u8>>,
    ) -> Result<Response, Response> {
        let making = lock(&self.making);
        let body = content().unwrap_or_default();
        let reservation =
            request.memory.reserve(body.capacity()).ok_or_else(Response::no_memory)?;
        drop(making);
        let tag = tag_of(&body);
        self.tagged(request, tag, || Ok(json_answer(200, Body::Owned(body)).holding(reservation)))
    }

    /// The answer with data, or 304 if the client has it already.
    fn tagged(
        &self,
        request: &Request,
        tag: String,
        answer: impl FnOnce() -> Result<Response, Response>,
    ) -> Result<Response, Response> {
        let scope = if self.token.is_some() { "private, no-cache" } else { "no-cache" };
        let answer = unless_known(request, tag, answer)?.with("Cache-Control", scope);
        let Some(age) = &self.age else { return Ok(answer) };
        let leader = (self.leadership)().unwrap_or_else(|| "this replica, which starts".to_owned());
        Ok(answer.with("Age", age().as_secs().to_string()).with("X-Leader", leader))
    }

    /// Lets pages of the one configured origin read the answer.
    fn with_cors(&self, request: &Request, response: Response) -> Response {
        let Some(allowed) = &self.cors_origin else { return response };
        let response = if allowed == "*" { response } else { response.with("Vary", "Origin") };
        if allowed != "*" && request.origin.as_ref() != Some(allowed) {
            return response;
        }
        let response = response
            .with("Access-Control-Allow-Origin", allowed.clone())
            .with("Access-Control-Expose-Headers", "Age, ETag, Link, X-Continue, X-Leader");
        match request.method {
            Method::Options => response
                .with("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
                .with("Access-Control-Allow-Headers", "Authorization, If-None-Match")
                .with("Access-Control-Max-Age", "600"),
            _ => response,
        }
    }
}

impl Handler for Api {
    fn answer(&self, request: &Request) -> Response {
        let answer = self.route(request).unwrap_or_else(|refusal| refusal);
        guarded(self.with_cors(request, answer))
    }
}

/// The answer of a replica that has no records, as another one leads (or this one is starting): the
/// page's files and the probe, and 503 to all else.
pub(crate) fn answer_without_records(request: &Request, leader: Option<String>) -> Response {
    let leader = leader.as_deref().unwrap_or("this replica, which starts");
    let answer = without_records(request).unwrap_or_else(|| Err(not_the_leader(leader)));
    guarded(answer.unwrap_or_else(|refusal| refusal))
}

/// What is answered without any record; none for other paths.
fn without_records(request: &Request) -> Option<Result<Response, Response>> {
    if request.path == "/healthz" {
        let answer = json_answer(200, Body::Static(b"{\"status\":\"ok\"}"));
        return Some(Ok(answer.with("Cache-Control", "no-store")));
    }
    asset(request)
}

fn not_the_leader(leader: &str) -> Response {
    unavailable(&format!("not the leader (leader: {leader})"))
}

fn guarded(answer: Response) -> Response {
    answer.with("X-Content-Type-Options", "nosniff").with("Referrer-Policy", "no-referrer")
}

/// The file at the request's path; none if there is no such file.
fn asset(request: &Request) -> Option<Result<Response, Response>> {
    let (_, content_type, content) = ASSETS.iter().find(|(path, ..)| *path == request.path)?;
    let content = content.as_bytes();
    let answer = unless_known(request, tag_of(content), || {
        Ok(Response::new(200, Body::Static(content)).with("Content-Type", *content_type))
    });
    Some(answer.map(|answer| {
        answer.with("Cache-Control", "no-cache").with("Content-Security-Policy", CONTENT_POLICY)
    }))
}

/// The answer with its entity tag, or 304 if the client names the tag. Tags are compared weakly, as
/// RFC 9110, 13.1.2, asks.
fn unless_known(
    request: &Request,
    tag: String,
    answer: impl FnOnce() -> Result<Response, Response>,
) -> Result<Response, Response> {
    let known = request.if_none_match.as_deref().unwrap_or_default().split(',');
    let mut known = known.map(|known| known.trim().trim_start_matches("W/"));
    let response = match known.any(|known| known == tag || known == "*") {
        true => Response::new(304, Body::Empty),
        false => answer()?,
    };
    Ok(response.with("ETag", tag))
}

/// An entity tag that follows from the content.
fn tag_of(content: &[u8]) -> String {
    format!("\"{}\"", hexadecimal(&digest(&SHA256, content).as_ref()[..16]))
}

/// Compares in a time that says nothing about how much of the tokens agrees, as ring compares
/// signatures.
fn is_same(presented: &str, expected: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"");
    let signature = hmac::sign(&key, expected.as_bytes());
    hmac::verify(&key, presented.as_bytes(), signature.as_ref()).is_ok()
}

fn unavailable(message: &str) -> Response {
    Response::error(503, message).with("Retry-After", "5")
}

fn json_answer(status: u16, body: Body) -> Response {
    Response::new(status, body).with("Content-Type", "application/json")
}
