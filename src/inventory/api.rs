//! The inventory over HTTP: read-only routes, the page, and who may see them.
//!
//! | route | answer |
//! |---|---|
//! | `/v1/inventory/node-configs` | array of records, filtered and paged |
//! | `/v1/inventory/node-configs/{nodeName}` | array of the records of that name; none is 404 |
//! | `/v1/inventory/changes` | array of timelines, filtered and paged likewise |
//! | `/v1/overview` | state of the store and of every OpenstackConfig |
//! | `/healthz` | the process answers; needs no token |
//! | `/`, `/docs`, `/openapi.yaml` and their parts | the page, embedded in the program |
//!
//! Everything is served from memory: prepared bytes of an immutable snapshot. Lists are put together
//! from the records' own bytes while they are written, so that a slow reader holds no copy. There is
//! no path to a file system, and nothing to write to. The wire format is `page/openapi.yaml`, which
//! a test holds against real answers.

mod assets;
mod etag;
mod query;
mod token;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde_json::{Value, json};

use super::contents::{Inventory, Stored};
use super::store::Store;
use crate::http::server::{Body, Handler, Method, Request, Response};
use crate::overview::{ObjectState, Overview};

use query::ListQuery;
use token::Guard;

const NODE_CONFIGS: &str = "/v1/inventory/node-configs";
const CHANGES: &str = "/v1/inventory/changes";

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

/// Says who leads, if it isn't this replica.
pub type Leadership = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The routes.
pub struct Api {
    store: Arc<Store>,
    overview: Arc<Overview>,
    cors_origin: Option<String>,
    token: Option<Guard>,
    leadership: Leadership,
    /// Differs from run to run, so that a version number is never taken for one of another run.
    run: u64,
    /// Held while an overview is made: what is copied for that isn't counted.
    overview_making: Mutex<()>,
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
            token: settings.token_file.map(|path| Guard::new(path, store.clock().clone())),
            store,
            overview,
            cors_origin: settings.cors_origin.filter(|origin| !origin.is_empty()),
            leadership,
            run: fastrand::u64(..),
            overview_making: Mutex::default(),
        }
    }

    fn route(&self, request: &Request) -> Response {
        if request.method == Method::Options {
            return preflight();
        }
        if request.path == "/healthz" {
            return json_answer(200, Body::Static(b"{\"status\":\"ok\"}"))
                .with("Cache-Control", "no-store");
        }
        if let Some(asset) = assets::answer(request) {
            return asset;
        }
        let node_name =
            request.path.strip_prefix(NODE_CONFIGS).and_then(|rest| rest.strip_prefix('/'));
        let known = [NODE_CONFIGS, CHANGES, "/v1/overview"].contains(&request.path.as_str());
        if !known && node_name.is_none_or(str::is_empty) {
            return Response::error(404, "there is nothing here; see /docs for what there is");
        }
        let answer = self.refusal(request).map_or_else(|| self.data(request, node_name), Err);
        answer.unwrap_or_else(|refusal| refusal)
    }

    /// Why this client gets no data, if it doesn't.
    fn refusal(&self, request: &Request) -> Option<Response> {
        let token = self.token.as_ref();
        let refusal = token.and_then(|token| token.refusal(request.authorization.as_ref()));
        if refusal.is_some() {
            return refusal;
        }
        let leader = (self.leadership)()?;
        let message = format!("not the leader (leader: {leader})");
        Some(Response::error(503, &message).with("Retry-After", "5"))
    }

    fn data(&self, request: &Request, node_name: Option<&str>) -> Result<Response, Response> {
        if request.path == "/v1/overview" {
            return self.overview_answer(request);
        }
        let state = self.store.state();
        if !state.remembers() {
            return Err(Response::error(503, &state.to_string()).with("Retry-After", "5"));
        }
        let inventory = self.store.snapshot();
        match node_name {
            Some(node_name) => self.single(request, &inventory, node_name),
            None if request.path == CHANGES => {
                self.list(request, &inventory, |stored| &stored.timeline)
            }
            None => self.list(request, &inventory, |stored| &stored.json),
        }
    }

    fn single(
        &self,
        request: &Request,
        inventory: &Inventory,
        node_name: &str,
    ) -> Result<Response, Response> {
        let provider = query::single(&request.query)?;
        let found: Vec<&Arc<Stored>> = match &provider {
            Some(provider) => inventory.get(provider, node_name).into_iter().collect(),
            None => inventory.by_name(node_name),
        };
        let found: Vec<_> = found.iter().filter(|stored| stored.record.was_accepted()).collect();
        if found.is_empty() {
            return Err(Response::error(404, &format!("there is no record of node {node_name}")));
        }
        let items: Arc<[_]> = found.iter().map(|stored| stored.json.clone()).collect();
        let body = Body::List(items);
        self.tagged(request, etag::of_content(&body.bytes()), || Ok(json_answer(200, body)))
    }

    fn list(
        &self,
        request: &Request,
        inventory: &Inventory,
        item: fn(&Stored) -> &Arc<[u8]>,
    ) -> Result<Response, Response> {
        let query = ListQuery::parse(&request.query)?;
        let tag = format!("\"{:016x}-{}\"", self.run, inventory.version());
        self.tagged(request, tag, || {
            if query.is_everything() && request.path == NODE_CONFIGS {
                return Ok(json_answer(200, Body::List(inventory.list())));
            }
            let (found, next) = query.select(inventory);
            let reservation =
                request.memory.reserve(found.len() * ITEM_BYTES).ok_or_else(Response::no_memory)?;
            let items = found.iter().map(|stored| item(stored).clone()).collect();
            let response = json_answer(200, Body::List(items)).holding(reservation);
            Ok(match next {
                None => response,
                Some(next) => response
                    .with("Link", format!("<{}?{}>; rel=\"next\"", request.path, query.link(&next)))
                    .with("X-Continue", next),
            })
        })
    }

    fn overview_answer(&self, request: &Request) -> Result<Response, Response> {
        let making = self.overview_making.lock().unwrap_or_else(|held| held.into_inner());
        let state = self.store.state();
        let store = json!({
            "state": state.name(),
            "reason": state.reason(),
            "since": state.since(),
            "findings": self.store.findings(),
            "records": self.store.snapshot().list().len(),
        });
        let answer = OverviewAnswer { store, objects: self.overview.all() };
        let body = serde_json::to_vec(&answer).unwrap_or_default();
        let reservation =
            request.memory.reserve(body.capacity()).ok_or_else(Response::no_memory)?;
        drop((answer, making));
        let tag = etag::of_content(&body);
        self.tagged(request, tag, || Ok(json_answer(200, Body::Owned(body)).holding(reservation)))
    }

    /// The answer, or 304 if the client has it already.
    fn tagged(
        &self,
        request: &Request,
        tag: String,
        answer: impl FnOnce() -> Result<Response, Response>,
    ) -> Result<Response, Response> {
        let known = request.if_none_match.as_deref().is_some_and(|list| etag::matches(list, &tag));
        let response = if known { Response::new(304, Body::Empty) } else { answer()? };
        let scope = if self.token.is_some() { "private, no-cache" } else { "no-cache" };
        Ok(response.with("ETag", tag).with("Cache-Control", scope))
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
            .with("Access-Control-Expose-Headers", "ETag, Link, X-Continue");
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
        let response = self.with_cors(request, self.route(request));
        response.with("X-Content-Type-Options", "nosniff").with("Referrer-Policy", "no-referrer")
    }
}

fn preflight() -> Response {
    Response::new(204, Body::Empty).with("Allow", "GET, HEAD, OPTIONS")
}

fn json_answer(status: u16, body: Body) -> Response {
    Response::new(status, body).with("Content-Type", "application/json")
}
