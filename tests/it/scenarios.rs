//! Every folder under `fixtures/` is a scenario, and comes out as its files say.

use std::sync::Mutex;

use serde_json::Value;
use simulated_cloud::{Cloud, Scenario, Service};

use super::process::{Operator, SOON, fixtures};
use super::world::{World, ready_of};

/// What must never be seen outside of where it belongs; the fixtures' made-up secrets.
pub(crate) const SECRETS: [&str; 3] = ["Adm1n-pässwörd!", "rabbit-0pen5tack", "multinic-demo-16"];

#[test]
fn every_fixture_comes_out_as_its_files_say() {
    in_every_fixture(plays_out);
}

/// Holds every fixture to a check, four at a time, and names all that fail.
pub(crate) fn in_every_fixture(check: fn(Scenario) -> Result<(), String>) {
    let scenarios = Scenario::load_all(&fixtures()).unwrap();
    assert!(scenarios.len() >= 20, "the fixtures weren't found");
    let waiting = Mutex::new(scenarios.into_iter());
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(scenario) = { waiting.lock().unwrap().next() } {
                    let name = scenario.name.clone();
                    if let Err(problem) = check(scenario) {
                        problems.lock().unwrap().push(format!("{name}: {problem}"));
                    }
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn plays_out(scenario: Scenario) -> Result<(), String> {
    let world = World(Cloud::start(scenario).map_err(|error| error.to_string())?);
    let operator = Operator::start(&world, &[]);
    let expected = &world.scenario().expected;
    for (key, wanted) in &expected.status {
        let (namespace, name) = key.split_once('/').ok_or("a key is namespace/name")?;
        let as_wanted = |object: &Value| {
            ready_of(object).is_some_and(|ready| {
                ready["reason"] == wanted.reason.as_str()
                    && ready["status"] == wanted.ready.as_str()
            })
        };
        let seen = world.kubernetes().wait_until(
            |view| {
                view.get("OpenstackConfig", namespace, name)
                    .is_some_and(|object| as_wanted(&object))
            },
            SOON,
        );
        let object = world.kubernetes().get("OpenstackConfig", namespace, name).unwrap_or_default();
        let ready = ready_of(&object).unwrap_or_default();
        if !seen {
            return Err(format!(
                "{key} should be {}, is {ready}\n{}",
                wanted.reason,
                operator.log()
            ));
        }
        let message = ready["message"].as_str().unwrap_or_default();
        for part in &wanted.message_contains {
            if !message.contains(part.as_str()) {
                return Err(format!("{key}: {part:?} isn't in the message {message:?}"));
            }
        }
        complete_status(&object)?;
    }
    let (held, wanted) = (world.held(), world.expected());
    if held != wanted {
        return Err(format!("Viola holds {held:#?}, not {wanted:#?}"));
    }
    let violations = world.viola().violations();
    if !violations.is_empty() {
        return Err(format!("Viola was sent what it may not be sent: {violations:?}"));
    }
    inventory_equals(&operator, &held)?;
    no_secret_is_shown(&world, &operator)
}

/// The rest of the status follows from the Ready condition.
fn complete_status(object: &Value) -> Result<(), String> {
    let status = &object["status"];
    let ready = ready_of(object).unwrap_or_default();
    let degraded = status["conditions"].as_array().into_iter().flatten();
    let degraded: Vec<_> = degraded.filter(|c| c["type"] == "Degraded").collect();
    let (wanted, reason) = match ready["status"] == "True" {
        true => ("False", "Healthy"),
        false => ("True", "Error"),
    };
    let fits = degraded.len() == 1
        && degraded[0]["status"] == wanted
        && degraded[0]["reason"] == reason
        && status["observedGeneration"] == object["metadata"]["generation"]
        && ready["observedGeneration"] == object["metadata"]["generation"]
        && status["lastSyncedAt"].is_string() == (ready["status"] == "True")
        && (status["lastError"] == "") == (ready["status"] == "True");
    if fits { Ok(()) } else { Err(format!("the status doesn't fit together: {status:#}")) }
}

/// Accepted nodes, and only those, are in the inventory.
fn inventory_equals(operator: &Operator, held: &[(String, String, Value)]) -> Result<(), String> {
    let (status, body) = operator.inventory("/v1/inventory/node-configs");
    let records: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
    let configs: Vec<&Value> =
        records.as_array().into_iter().flatten().map(|record| &record["config"]).collect();
    let mut wanted: Vec<&Value> = held.iter().map(|(_, _, node)| node).collect();
    wanted.sort_by_key(|node| node["nodeName"].to_string());
    let mut sorted = configs.clone();
    sorted.sort_by_key(|node| node["nodeName"].to_string());
    if status == 200 && sorted == wanted {
        return Ok(());
    }
    Err(format!("the inventory answers {status} {body}, not {wanted:?}"))
}

fn no_secret_is_shown(world: &World, operator: &Operator) -> Result<(), String> {
    let statuses = world.kubernetes().objects("OpenstackConfig");
    let events = world.kubernetes().events();
    let shown = format!(
        "{}\n{statuses:?}\n{events:?}\n{}\n{}",
        operator.log(),
        operator.health("/metrics").1,
        operator.inventory("/v1/inventory/node-configs").1,
    );
    let requests = world.journal().requests(Service::Neutron);
    let tokens = requests.iter().filter_map(|request| request.header("x-auth-token"));
    let secrets = SECRETS.into_iter().map(str::to_owned).chain(tokens.map(str::to_owned));
    for secret in secrets {
        if shown.contains(&secret) {
            let at = shown.find(&secret).unwrap_or_default();
            let from = shown[..at].rfind('\n').unwrap_or_default();
            return Err(format!("a secret is shown: {}", &shown[from..at]));
        }
    }
    Ok(())
}
