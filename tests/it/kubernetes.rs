//! The operator and the Kubernetes API: who leads, what is told, and what it survives.
//!
//! `leadership` has two replicas, `events` and `kubectl` what people see, `trouble` a server that
//! fails in known ways, `statuses` what is written and what isn't.

mod events;
mod kubectl;
mod leadership;
mod standby;
mod statuses;
mod trouble;

use std::time::Instant;

use serde_json::{Value, json};
use simulated_cloud::{FaultKind, LoggedRequest, Service};

use super::process::SOON;
use super::world::World;

/// Polls so frequent that whoever works is seen to work.
const QUICK: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "150ms"),
    ("POLL_SLOW_INTERVAL", "150ms"),
    ("POLL_ERROR_INTERVAL", "150ms"),
    ("POLL_FAST_WINDOW", "1s"),
];

/// Each sync that gets so far asks for ports.
fn is_ports(request: &LoggedRequest) -> bool {
    request.service == Service::Neutron && request.path().ends_with("/ports")
}

fn ports_requests(world: &World) -> Vec<LoggedRequest> {
    world.journal().requests(Service::Neutron).into_iter().filter(is_ports).collect()
}

/// Waits until so many more syncs have asked for ports.
fn wait_for_syncs(world: &World, count: usize) {
    let from = ports_requests(world).len();
    let more = |log: &[LoggedRequest]| {
        log.iter().filter(|request| is_ports(request)).count() >= from + count
    };
    assert!(world.journal().wait_for(more, SOON), "no more syncs came");
}

/// A refusal by the API server.
fn refusal(code: u16, reason: &str, retry_after: Option<u32>) -> FaultKind {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "code": code, "message": "on purpose"});
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())));
    FaultKind::Status { status: code, headers, body: body.to_string().into_bytes() }
}

/// Patches of statuses that the API server was asked for.
fn status_writes(log: &[LoggedRequest]) -> usize {
    let is_status =
        |request: &&LoggedRequest| request.method == "PATCH" && request.path().ends_with("/status");
    log.iter().filter(is_status).count()
}

fn events_of(world: &World, reason: &str) -> Vec<Value> {
    let mut events = world.kubernetes().events();
    events.retain(|event| event["reason"] == reason);
    events
}

#[expect(clippy::disallowed_methods, reason = "how long something took in real time is asked here")]
fn now() -> Instant {
    Instant::now()
}
