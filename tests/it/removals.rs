//! Removals from many nodes at once: held until the answer is right again, or a person approves.

use serde_json::{Value, json};
use simulated_cloud::kubernetes::View;
use simulated_cloud::{Fault, FaultKind, LoggedRequest, Service, state::Port};

use super::process::{Operator, SOON, run};
use super::world::World;

const QUICK: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
];

fn posts(world: &World) -> usize {
    world.journal().count(Service::Viola)
}

/// Takes a port from each of the object's nodes that has two; gives the ports.
fn take_ports(world: &World) -> Vec<Port> {
    let nodes = world.held();
    let second = |node: &Value| node["interfaces"][1]["portId"].as_str().map(str::to_owned);
    let ids: Vec<String> = nodes.iter().filter_map(|(_, _, node)| second(node)).collect();
    assert!(ids.len() >= 2, "{nodes:?}");
    let mut taken = Vec::new();
    world.edit(|state| {
        for id in &ids {
            taken.extend(state.ports.remove(id));
        }
    });
    taken
}

fn approve(world: &World, value: &Value) {
    let (namespace, name) = world.object();
    let patch = json!({"metadata": {"annotations": {"multinic.example.com/approve": value}}});
    world.kubernetes().patch("OpenstackConfig", &namespace, &name, &patch).unwrap();
}

fn wait_for_polls(world: &World, count: usize) {
    let polls = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.target.contains("/ports?")).count()
    };
    let from = polls(&world.journal().all());
    assert!(world.journal().wait_for(|log| polls(log) >= from + count, SOON), "no polls came");
}

#[test]
fn half_an_answer_of_neutron_takes_no_card_and_heals_over_a_restart_too() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let sent = posts(&world);
    let taken = take_ports(&world);
    let message = world.wait_for_reason("ChangeHeld");
    assert!(message.contains("multinic.example.com/approve="), "{message}");
    let status = world.status();
    assert_eq!((&status["hold"]["nodes"], &status["nodes"]), (&json!(taken.len()), &json!(3)));
    let is_told = |view: &View| view.events().iter().any(|event| event["reason"] == "ChangeHeld");
    assert!(world.kubernetes().wait_until(is_told, SOON), "no Event");
    operator.line_with("ChangeHeld: held: ");
    world.force("now");
    wait_for_polls(&world, 3);
    let folder = operator.folder();
    drop(operator);
    let operator = Operator::start_in(&world, &QUICK, folder);
    wait_for_polls(&world, 3);
    assert_eq!(world.status()["hold"], status["hold"]);
    let (_, metrics) = operator.health("/metrics");
    assert!(metrics.contains("multinic_held_nodes"), "{metrics}");
    assert_eq!(posts(&world), sent);
    world.edit(|state| taken.into_iter().for_each(|port| state.add_port(port)));
    world.wait_for_reason("NoChange");
    assert_eq!((posts(&world), &world.status()["hold"]), (sent, &Value::Null));
}

#[test]
fn an_approval_is_for_what_the_plan_shows_and_counts_once() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let before = posts(&world);
    let taken = take_ports(&world);
    world.wait_for_reason("ChangeHeld");
    let hash = world.status()["hold"]["hash"].clone();
    let (namespace, name) = world.object();
    let plan =
        run(&world, &[], operator.folder().path(), &["plan", &format!("{namespace}/{name}")]);
    for part in ["held, see the status", "ChangeHeld", hash.as_str().unwrap()] {
        assert!(plan.output.contains(part), "{part}: {}", plan.output);
    }
    approve(&world, &json!("0123456789ab"));
    wait_for_polls(&world, 2);
    assert_eq!(posts(&world), before, "another plan's approval");
    approve(&world, &hash);
    world.wait_for_reason("NoChange");
    assert_eq!(posts(&world), before + 1);
    assert_eq!((&world.status()["lastApproved"], &world.status()["hold"]), (&hash, &Value::Null));
    // The same removal another time.
    world.edit(|state| taken.into_iter().for_each(|port| state.add_port(port)));
    world.wait_for_posts(before + 2);
    world.wait_for_reason("NoChange");
    take_ports(&world);
    let message = world.wait_for_reason("ChangeHeld");
    assert!(message.contains("used before"), "{message}");
}

#[test]
fn an_approval_that_was_seen_outlives_its_annotation() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let before = posts(&world);
    take_ports(&world);
    world.wait_for_reason("ChangeHeld");
    let down = FaultKind::Html { status: 503 };
    world.faults().add(Fault::always(Service::Viola, down));
    approve(&world, &world.status()["hold"]["hash"].clone());
    world.wait_for_reason("ViolaPostError");
    assert_eq!(world.status()["hold"]["approved"], true);
    approve(&world, &Value::Null);
    wait_for_polls(&world, 2);
    world.faults().clear_service(Service::Viola);
    world.wait_for_reason("NoChange");
    assert!(posts(&world) > before);
}
