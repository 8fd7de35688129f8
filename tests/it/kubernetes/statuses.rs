//! What is written into statuses, and what isn't.

use std::time::Duration;

use serde_json::{Value, json};
use simulated_cloud::kubernetes::View;
use simulated_cloud::{Fault, FaultKind, LoggedRequest, Service};

use super::{QUICK, ports_requests, refusal, status_writes, wait_for_syncs};
use crate::process::{Operator, SOON};
use crate::world::World;

fn writes(world: &World) -> usize {
    status_writes(&world.journal().requests(Service::Kubernetes))
}

#[test]
fn its_own_status_writes_wake_nobody() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let one_sync = ports_requests(&world).len();
    // What somebody else changes, and isn't ours to act upon, wakes nobody either.
    let (namespace, name) = world.object();
    let note = json!({"status": {"reviewer": "a person"}});
    world.kubernetes().patch_status("OpenstackConfig", &namespace, &name, &note).unwrap();
    world.kubernetes().annotate("OpenstackConfig", &namespace, &name, "note", "seen").unwrap();
    // This comes over the watch after all that.
    world.force("now");
    world.wait_for_posts(2);
    world.force("once more");
    world.wait_for_posts(3);
    assert_eq!(ports_requests(&world).len(), 3 * one_sync);
}

#[test]
fn a_failure_that_lasts_is_written_once() {
    let world = World::of("three-nodes");
    world.faults().add(
        Fault::always(Service::Neutron, FaultKind::Html { status: 503 }).path_contains("/ports"),
    );
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NeutronPortError");
    wait_for_syncs(&world, 6);
    assert_eq!(writes(&world), 1, "a status that churns");
}

#[test]
fn a_status_that_was_refused_by_a_conflict_or_a_failing_server_is_written_again() {
    let refusals = [
        refusal(409, "Conflict", None),
        refusal(500, "InternalError", None),
        refusal(429, "TooManyRequests", Some(1)),
        FaultKind::Reset,
        FaultKind::AnswerLost,
    ];
    for kind in refusals {
        let world = World::of("three-nodes");
        let fault = Fault::once(Service::Kubernetes, kind.clone()).method("PATCH");
        world.faults().add(fault.path_contains("/status"));
        let _operator = Operator::start(&world, &[]);
        world.wait_for_reason("Synced");
        let twice = |log: &[LoggedRequest]| status_writes(log) >= 2;
        assert!(world.journal().wait_for(twice, SOON), "{kind:?}");
    }
}

#[test]
fn a_status_write_that_fails_again_and_again_does_not_wait_for_the_next_poll() {
    let world = World::of("three-nodes");
    let fault = Fault::always(Service::Kubernetes, refusal(500, "InternalError", None)).times(3);
    world.faults().add(fault.method("PATCH").path_contains("/status"));
    let rare = [("POLL_FAST_INTERVAL", "1h"), ("POLL_SLOW_INTERVAL", "1h")];
    let operator = Operator::start(&world, &rare);
    world.wait_for_reason("Synced");
    assert!(status_writes(&world.journal().all()) >= 4);
    assert_eq!(ports_requests(&world).len(), 1, "it was polled again");
    operator.line_with("the status of OpenstackConfig default/demo is written again");
    let log = operator.log();
    let said = |line: &&str| line.contains("WARN") && line.contains("could not write the status");
    assert_eq!(log.lines().filter(said).count(), 1, "{log}");
}

#[test]
fn an_object_that_goes_during_its_sync_leaves_nothing_behind() {
    let world = World::of("three-nodes");
    let object = world.scenario().objects[0].clone();
    let (namespace, name) = world.object();
    let delay = FaultKind::Delay(Duration::from_millis(500));
    world.faults().add(Fault::once(Service::Kubernetes, delay).method("PATCH"));
    let operator = Operator::start(&world, &[]);
    let being_written = |log: &[LoggedRequest]| status_writes(log) == 1;
    assert!(world.journal().wait_for(being_written, SOON));
    world.kubernetes().delete("OpenstackConfig", &namespace, &name).unwrap();
    let gone = |log: &[LoggedRequest]| {
        log.iter().any(|request| request.method == "PATCH" && request.status == Some(404))
    };
    assert!(world.journal().wait_for(gone, SOON));
    // Its successor is an object of its own, and nothing is tried for the first one any more.
    world.kubernetes().apply_object(object).unwrap();
    world.wait_for_reason("NoChange");
    assert_eq!(writes(&world), 2);
    assert!(!operator.log().contains("could not write"), "{}", operator.log());
}

#[test]
fn a_status_that_comes_too_late_is_not_the_one_of_a_successor() {
    let world = World::of("three-nodes");
    let object = world.scenario().objects[0].clone();
    let (namespace, name) = world.object();
    let delay = FaultKind::Delay(Duration::from_millis(500));
    world.faults().add(Fault::once(Service::Kubernetes, delay).method("PATCH"));
    // The successor isn't synced in the meantime.
    let operator = Operator::start(&world, &[]);
    let being_written = |log: &[LoggedRequest]| status_writes(log) == 1;
    assert!(world.journal().wait_for(being_written, SOON));
    world.faults().add(Fault::always(Service::Contrabass, FaultKind::Hang));
    world.kubernetes().delete("OpenstackConfig", &namespace, &name).unwrap();
    world.kubernetes().apply_object(object).unwrap();
    let refused = |log: &[LoggedRequest]| {
        log.iter().any(|request| request.method == "PATCH" && request.status == Some(409))
    };
    assert!(world.journal().wait_for(refused, SOON));
    // The successor has its own or none.
    let status = world.status();
    assert!(!status.to_string().contains("\"Synced\""), "{status}, {}", operator.log());
    world.faults().clear();
    world.wait_for_reason("NoChange");
}

#[test]
fn conditions_of_others_stay_in_the_status_and_their_fields_go() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let (namespace, name) = world.object();
    let mut conditions = world.status()["conditions"].as_array().unwrap().clone();
    conditions.push(json!({"type": "Reviewed", "status": "True", "reason": "ByAPerson",
        "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}));
    let note = json!({"status": {"conditions": conditions, "reviewer": "a person"}});
    world.kubernetes().patch_status("OpenstackConfig", &namespace, &name, &note).unwrap();
    // A status of ours that differs comes after it.
    world.faults().add(
        Fault::always(Service::Neutron, FaultKind::Html { status: 503 }).path_contains("/ports"),
    );
    world.wait_for_reason("NeutronPortError");
    let is_gone = |view: &View<'_>| {
        view.objects("openstackconfigs").iter().all(|object| object["status"]["reviewer"].is_null())
    };
    assert!(world.kubernetes().wait_until(is_gone, SOON), "{}", world.status());
    let status = world.status();
    let reviewed = |condition: &&Value| condition["type"] == "Reviewed";
    let reviewed = status["conditions"].as_array().unwrap().iter().find(reviewed);
    assert_eq!(reviewed.unwrap()["reason"], "ByAPerson", "{status}");
}
