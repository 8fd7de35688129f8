//! The stand-in for Viola (SPEC section 8): what the operator posts becomes `MultiNicNodeConfig`
//! objects of this cluster. For test clusters, for as long as a real Viola is missing.
//!
//! ```text
//! connection ─▶ request ─▶ payload ─▶ object ─▶ apply ─▶ Kubernetes API
//!                (HTTP)     (strict)   (pure)     └─▶ answer, node by node
//! ```
//!
//! It shares the operator's payload types and its way to the Kubernetes API, and nothing else. It
//! never reads objects, writes no status and deletes nothing.
//!
//! **Stopping.** SIGTERM ends it at once, also amid a request: each apply is whole in itself, and
//! the operator sends again what brought no answer.

mod apply;
mod object;
mod payload;
mod request;
mod server;
mod settings;

use std::process::ExitCode;

use serde_json::json;

use crate::clock::Clock;
use crate::signals;

use apply::{Applier, Outcome};
use request::{Request, Route};
use server::Answer;

pub use settings::{HELP, Settings};

/// Something that a process can't do without isn't to be had.
const EXIT_CANNOT_START: u8 = 1;

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
    let address = server::start(listen, clock, move |request| answer(&applier, request))
        .map_err(|error| format!("can't listen on {listen}: {error}"))?;
    log::info!("viola-test-api listens on {address}");
    // An end of the channel is as good as a message: nobody could tell us to stop any more.
    let _ = stop.recv();
    log::info!("stopped by a signal");
    Ok(())
}

fn answer(applier: &Applier, request: Request) -> Answer {
    let Request { route, provider_id, body } = request;
    match route {
        Route::Health => Answer::text("ok"),
        Route::NodeConfigs => match applier.apply_all(&body, provider_id.as_deref()) {
            Ok(outcomes) => report(&outcomes),
            Err(invalid) => {
                log::warn!("refused: {invalid}");
                Answer::error(400, &invalid.to_string())
            }
        },
    }
}

/// kubectl's lines for the nodes that were applied, and the errors of those that weren't. It is a
/// failure as a whole only if nothing was applied.
fn report(outcomes: &[Outcome]) -> Answer {
    let (mut applied, mut output, mut errors) = (0, String::new(), Vec::new());
    for Outcome { node_name, result } in outcomes {
        match result {
            Ok(change) => {
                applied += 1;
                let line = format!("{}/{node_name} {}", object::QUALIFIED_NAME, change.word());
                log::info!("{line}");
                output.push_str(&line);
                output.push('\n');
            }
            Err(error) => {
                log::warn!("{}/{node_name}: {error}", object::QUALIFIED_NAME);
                errors.push(json!({ "nodeName": node_name, "error": error }));
            }
        }
    }
    let first_error = outcomes.iter().find_map(|outcome| outcome.result.as_ref().err());
    match first_error {
        None => Answer::json(200, &json!({ "applied": applied, "output": output })),
        Some(_) if applied > 0 => {
            let body = json!({ "applied": applied, "output": output, "errors": errors });
            Answer::json(200, &body)
        }
        Some(error) => {
            let error = format!("none of {} nodes could be applied: {error}", outcomes.len());
            Answer::json(500, &json!({ "error": error, "errors": errors }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::report;
    use crate::viola_test_api::apply::{Change, Outcome};
    use serde_json::{Value, json};

    fn outcome(name: &str, result: Result<Change, &str>) -> Outcome {
        Outcome { node_name: name.to_owned(), result: result.map_err(str::to_owned) }
    }

    fn reported(outcomes: &[Outcome]) -> (u16, Value) {
        let answer = report(outcomes);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn it_is_a_failure_only_if_no_node_was_applied() {
        let (good, bad) = (outcome("a", Ok(Change::Created)), outcome("b", Err("no")));
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
