//! The inventory API on a standby: the leader's answer, or which replica that is.

use std::sync::{Arc, OnceLock};

use super::forward::Forwarder;
use super::leader::Leader;
use super::leadership::LeaderStatus;
use crate::http::server::{Body, Handler, Request, Response};
use crate::inventory::api::Api;

/// The inventory API of this replica or of the leader.
pub(super) struct InventoryGate {
    /// Set once this replica leads.
    pub(super) api: Arc<OnceLock<Api>>,
    pub(super) leader: Arc<LeaderStatus>,
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
        let leader =
            self.leader.other().unwrap_or_else(|| Leader::named("this replica, which starts"));
        let mut message = format!("not the leader (leader: {})", leader.name);
        match leader.inventory.map(|address| self.forwarder.forward(request, address)) {
            None => {}
            Some(Ok(response)) => return response,
            Some(Err(reason)) => {
                message.push_str("; the leader could not be asked: ");
                message.push_str(&reason);
            }
        }
        Response::error(503, &message).with("Retry-After", "5")
    }
}
