//! The stand-in for Viola: what the operator posts becomes `MultiNicNodeConfig` objects of this
//! cluster. For test clusters, for as long as a real Viola is missing.
//!
//! ```text
//! http::server ─▶ payload ─▶ apply ─▶ node_objects ─▶ Kubernetes API
//!                 (strict)    └─▶ answer, node by node
//! ```
//!
//! It never reads objects, writes no status and deletes nothing.
//!
//! **Stopping.** SIGTERM ends it within half a second, also amid a request: each apply is whole in
//! itself, and the operator sends again what brought no answer.

mod apply;
mod payload;
mod settings;

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::http::server::{Body, Limits, Method, Request, Response, Server};
use crate::node_objects::QUALIFIED_NAME;
use crate::signals;
use crate::targets::viola::PATH;

use apply::{Applier, Outcome};

pub use settings::{HELP, Settings};

/// A port or a thread that the process needs couldn't be had.
const EXIT_CANNOT_START: u8 = 1;
/// Clients at a time. With bodies at their limit these are 32 MiB, half of what the pod may have.
const CONNECTIONS: usize = 8;
/// A body may not be longer.
const BODY_BYTES: usize = 4 * 1024 * 1024;

/// Serves until a signal to stop.
pub fn run(settings: Settings, clock: Clock) -> ExitCode {
    match serve(settings, clock) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log::error!("{problem}");
            ExitCode::from(EXIT_CANNOT_START)
        }
    }
}

fn serve(settings: Settings, clock: Clock) -> Result<(), String> {
    let stop = signals::stop_requests().map_err(|error| format!("signals: {error}"))?;
    let applier = Applier::new(settings.kubernetes, settings.namespace, clock.clone());
    let listen = settings.listen;
    let limits = Limits { connections: CONNECTIONS, body_bytes: BODY_BYTES, ..Limits::default() };
    let handler = Arc::new(move |request: &Request| answer(&applier, request));
    let server = Server::start("http", listen, limits, handler, clock, Arc::default())
        .map_err(|error| format!("can't listen on {listen}: {error}"))?;
    log::info!("viola-test-api listens on {}", server.address());
    // If the channel ends, no signal could stop us any more.
    let _ = stop.recv();
    log::info!("stopped by a signal");
    Ok(())
}

fn answer(applier: &Applier, request: &Request) -> Response {
    match (request.path.as_str(), request.method) {
        ("/healthz", Method::Get | Method::Head) => Response::new(200, Body::Static(b"ok"))
            .with("Content-Type", "text/plain; charset=utf-8"),
        ("/healthz", _) => not_allowed("GET"),
        (PATH, Method::Post) => post(applier, request),
        (PATH, _) => not_allowed("POST"),
        _ => Response::error(404, &format!("not found; there are {PATH} and /healthz")),
    }
}

fn not_allowed(allowed: &'static str) -> Response {
    Response::error(405, &format!("only {allowed} is allowed here")).with("Allow", allowed)
}

fn post(applier: &Applier, request: &Request) -> Response {
    let provider_id = request.provider_id.as_deref().filter(|id| !id.is_empty());
    match applier.apply_all(&request.body, provider_id) {
        Ok(outcomes) => report(&outcomes),
        Err(invalid) => {
            log::warn!("refused: {invalid}");
            Response::error(400, &invalid)
        }
    }
}

fn json(status: u16, value: &Value) -> Response {
    Response::new(status, Body::Owned(value.to_string().into_bytes()))
        .with("Content-Type", "application/json")
}

/// kubectl's lines for the nodes that were applied, and the errors of those that weren't. It is a
/// failure as a whole only if nothing was applied.
fn report(outcomes: &[Outcome]) -> Response {
    let (mut output, mut errors) = (String::new(), Vec::new());
    for Outcome { node_name, result } in outcomes {
        match result {
            Ok(word) => {
                let line = format!("{}/{node_name} {word}", QUALIFIED_NAME);
                log::info!("{line}");
                output.push_str(&line);
                output.push('\n');
            }
            Err(error) => {
                log::warn!("{}/{node_name}: {error}", QUALIFIED_NAME);
                errors.push(json!({ "nodeName": node_name, "error": error }));
            }
        }
    }
    let applied = outcomes.len() - errors.len();
    if errors.is_empty() {
        json(200, &json!({ "applied": applied, "output": output }))
    } else if applied > 0 {
        json(200, &json!({ "applied": applied, "output": output, "errors": errors }))
    } else {
        let first = errors[0]["error"].as_str().unwrap_or_default();
        let error = format!("none of {} nodes could be applied: {first}", errors.len());
        json(500, &json!({ "error": error, "errors": errors }))
    }
}

#[cfg(test)]
mod tests {
    use super::report;
    use crate::viola_test_api::apply::Outcome;
    use serde_json::{Value, json};

    fn outcome(name: &str, result: Result<&'static str, &str>) -> Outcome {
        Outcome { node_name: name.to_owned(), result: result.map_err(str::to_owned) }
    }

    fn reported(outcomes: &[Outcome]) -> (u16, Value) {
        let answer = report(outcomes);
        (answer.status, serde_json::from_slice(&answer.body.bytes()).unwrap())
    }

    #[test]
    fn it_is_a_failure_only_if_no_node_was_applied() {
        let (good, bad) = (outcome("a", Ok("created")), outcome("b", Err("no")));
        assert_eq!(reported(&[]), (200, json!({ "applied": 0, "output": "" })));
        let errors = json!([{ "nodeName": "b", "error": "no" }]);
        let output = "multinicnodeconfig.multinic.io/a created\n";
        let body = json!({ "applied": 1, "output": output, "errors": errors });
        assert_eq!(reported(&[good, bad]), (200, body));
        let bad = outcome("b", Err("no"));
        let error = "none of 1 nodes could be applied: no";
        assert_eq!(reported(&[bad]), (500, json!({ "error": error, "errors": errors })));
    }
}
