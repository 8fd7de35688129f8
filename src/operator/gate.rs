//! The inventory's address before the inventory is there: says who leads instead.

use std::sync::{Arc, Mutex, OnceLock};

use crate::http::server::{Body, Handler, Request, Response};
use crate::inventory::api::Api;

/// The inventory's API, or who leads in our place.
pub(super) struct InventoryGate {
    /// The API, once this replica works.
    pub(super) api: Arc<OnceLock<Api>>,
    /// Who leads instead of us.
    pub(super) leader: Arc<Mutex<Option<String>>>,
}

impl Handler for InventoryGate {
    fn answer(&self, request: &Request) -> Response {
        if let Some(api) = self.api.get() {
            return api.answer(request);
        }
        if request.path == "/healthz" {
            let body = Body::Static(b"{\"status\":\"ok\"}");
            return Response::new(200, body).with("Content-Type", "application/json");
        }
        let leader = self.leader.lock().unwrap_or_else(|held| held.into_inner()).clone();
        let leader = leader.unwrap_or_else(|| "about to start here".to_owned());
        let message =
            format!("this replica does not lead and knows nothing: the leader is {leader}");
        Response::error(503, &message).with("Retry-After", "5")
    }
}
