//! The inventory's address on a replica that doesn't work: its leader's answer, or who that is.

use std::sync::{Arc, Mutex, OnceLock};

use super::forward::Forwarder;
use super::leader::Leader;
use crate::http::server::{Body, Handler, Request, Response};
use crate::inventory::api::Api;

/// The inventory's API, or the leader in our place.
pub(super) struct InventoryGate {
    /// The API, once this replica works.
    pub(super) api: Arc<OnceLock<Api>>,
    /// Who leads instead of us.
    pub(super) leader: Arc<Mutex<Option<Leader>>>,
    pub(super) forwarder: Forwarder,
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
        let leader = leader.unwrap_or_else(|| Leader::named("about to start here"));
        let mut message =
            format!("this replica does not lead and knows nothing: the leader is {}", leader.name);
        match leader.inventory.map(|address| self.forwarder.pass_on(request, address)) {
            None => {}
            Some(Ok(response)) => return response,
            Some(Err(reason)) => {
                message.push_str(", which could not be asked: ");
                message.push_str(&reason);
            }
        }
        Response::error(503, &message).with("Retry-After", "5")
    }
}
