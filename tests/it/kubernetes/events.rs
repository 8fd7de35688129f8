//! Events on the objects: transitions, not states.

use serde_json::{Value, json};
use simulated_cloud::kubernetes::Denial;
use simulated_cloud::{Fault, FaultKind, Service};

use super::{QUICK, events_of, wait_for_syncs};
use crate::process::{Operator, SOON};
use crate::world::World;

fn wait_for_event(world: &World, reason: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let seen = world.kubernetes().wait_until(
        |view| view.events().iter().any(|event| event["reason"] == reason && condition(event)),
        SOON,
    );
    assert!(seen, "no such event {reason}: {:?}", world.kubernetes().events());
    events_of(world, reason).remove(0)
}

fn ports_cannot_be_read(world: &World) {
    let fault = Fault::always(Service::Neutron, FaultKind::Html { status: 503 });
    world.faults().add(fault.path_contains("/ports"));
}

#[test]
fn a_failure_and_the_recovery_are_told_once_and_the_same_again_is_counted() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let sent = wait_for_event(&world, "NodesSent", |_| true);
    assert_eq!(sent["type"], "Normal");
    assert!(sent["message"].as_str().unwrap().starts_with("3 nodes accepted by "), "{sent}");
    assert!(sent["message"].as_str().unwrap().ends_with(": worker-0, worker-1, worker-2"));
    assert_eq!(world.kubernetes().events(), [sent], "all was well from the beginning");

    ports_cannot_be_read(&world);
    let message = world.wait_for_reason("NeutronPortError");
    let failure = wait_for_event(&world, "NeutronPortError", |_| true);
    assert_eq!(failure["type"], "Warning");
    assert_eq!(failure["message"], message);
    let (namespace, name) = world.object();
    let object = world.kubernetes().get("OpenstackConfig", &namespace, &name).unwrap();
    assert_eq!(failure["involvedObject"]["uid"], object["metadata"]["uid"]);
    wait_for_syncs(&world, 5);
    let again = events_of(&world, "NeutronPortError");
    assert_eq!(again, [failure], "a state that lasts is no news");

    world.faults().clear();
    let recovery = wait_for_event(&world, "Synced", |_| true);
    assert_eq!(recovery["type"], "Normal");

    for turn in 2..=3 {
        ports_cannot_be_read(&world);
        wait_for_event(&world, "NeutronPortError", |event| event["series"]["count"] == json!(turn));
        world.faults().clear();
        wait_for_event(&world, "Synced", |event| event["series"]["count"] == json!(turn));
    }
    assert_eq!(world.kubernetes().events().len(), 3, "{:?}", world.kubernetes().events());
}

#[test]
fn many_sends_of_the_same_nodes_are_one_event() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    for turn in 2..=4 {
        world.force(&turn.to_string());
        wait_for_event(&world, "NodesSent", |event| event["series"]["count"] == json!(turn));
    }
    assert_eq!(world.kubernetes().events().len(), 1, "{:?}", world.kubernetes().events());
}

#[test]
fn what_people_should_see_is_told_by_name() {
    let world = World::of("eleven-ports");
    let _operator = Operator::start(&world, &[]);
    let event = wait_for_event(&world, "InterfacesTruncated", |_| true);
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["message"], "over the limit of 10 interfaces a node: 1 port");

    let world = World::of("older-object-keeps-node");
    let _operator = Operator::start(&world, &[]);
    let event = wait_for_event(&world, "NodeConflict", |_| true);
    assert_eq!(event["involvedObject"]["name"], "a-newer");
    assert!(event["message"].as_str().unwrap().contains("default/b-older"), "{event}");
}

#[test]
fn a_secret_of_somebody_else_is_told_and_left_alone() {
    let world = World::of("three-nodes");
    let (namespace, name) = world.object();
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"namespace": namespace, "name": format!("rabbitmq-{name}")},
        "data": {"mine": "eA=="}});
    world.kubernetes().apply_object(foreign).unwrap();
    let _operator = Operator::start(&world, &QUICK);
    let event = wait_for_event(&world, "ForeignSecret", |_| true);
    assert_eq!(event["type"], "Warning");
    wait_for_syncs(&world, 5);
    assert_eq!(events_of(&world, "ForeignSecret"), [event]);
    let secret = world.kubernetes().get("Secret", &namespace, &format!("rabbitmq-{name}"));
    assert_eq!(secret.unwrap()["data"], json!({"mine": "eA=="}));
}

#[test]
fn events_that_may_not_be_written_hurt_nothing_else() {
    let world = World::of("three-nodes");
    world.kubernetes().deny(Denial::new("create", "events"));
    ports_cannot_be_read(&world);
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NeutronPortError");
    let line = operator.line_with("could not write the event of");
    assert!(
        line.contains("cannot create resource \"events\" in API group \"events.k8s.io\""),
        "{line}"
    );
    world.faults().clear();
    world.wait_for_reason("NoChange");
    assert_eq!(world.held(), world.expected());
    // Once it may, it does: nothing is stuck.
    world.kubernetes().allow_everything();
    ports_cannot_be_read(&world);
    wait_for_event(&world, "NeutronPortError", |_| true);
}
