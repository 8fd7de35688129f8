//! Replicas that don't lead: what they show, and that they write nothing.

use std::time::Duration;

use serde_json::Value;
use simulated_cloud::{Fault, FaultKind, Service};

use super::super::process::Operator;
use super::super::world::World;
use super::{STORE, change, posts, record, reordered, wait_for_polls, wait_for_posts, wait_until};

const LIST: &str = "/v1/inventory/node-configs";

fn second(world: &World) -> Operator {
    let standby = Operator::start(world, &[&STORE[..], &[("POD_NAME", "pod-b")]].concat());
    standby.line_with("leader election: pod-a_");
    standby
}

/// Asks until the answer is as it should be.
fn ask_until(standby: &Operator, path: &str, holds: impl Fn(&str) -> bool) {
    let mut body = String::new();
    for _ in 0..200 {
        body = standby.ask_inventory("GET", path, &[]).body;
        if holds(&body) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{path}: {body}");
}

#[test]
fn a_standby_shows_the_leaders_records_and_how_old_they_are() {
    let (world, leader) = reordered();
    let standby = second(&world);
    ask_until(&standby, LIST, |body| body == leader.inventory(LIST).1);
    for path in [LIST, "/v1/interfaces/providers", "/v1/overview", &format!("{LIST}/worker-0")] {
        let answer = standby.ask_inventory("GET", path, &[]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(answer.headers["x-leader"].starts_with("pod-a_"), "{path}: {answer:?}");
        assert!(answer.headers["age"].parse::<u64>().unwrap() < 60, "{path}: {answer:?}");
        let leaders = leader.ask_inventory("GET", path, &[]);
        assert!(!leaders.headers.contains_key("age"), "{path}: {leaders:?}");
    }
    assert_eq!(standby.health("/readyz").0, 200);
    change(&world, "FA:16:3E:FF:00:02");
    ask_until(&standby, LIST, |body| body.contains("fa:16:3e:ff:00:02"));
    drop(leader.kill());
    // Its own records, once it leads.
    ask_until(&standby, LIST, |body| body.contains("fa:16:3e:ff:00:02"));
    standby.line_with("leader election: this replica leads");
    for _ in 0..200 {
        let answer = standby.ask_inventory("GET", LIST, &[]);
        if answer.status == 200 && !answer.headers.contains_key("age") {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{:?}", standby.ask_inventory("GET", LIST, &[]));
}

#[test]
fn a_standby_that_cannot_read_the_records_says_why() {
    let (world, _leader) = reordered();
    let fault = Fault::always(Service::Kubernetes, FaultKind::Html { status: 503 });
    world.faults().add(fault.path_contains("/nodeinterfaces?"));
    let standby = second(&world);
    ask_until(&standby, LIST, |body| body.contains("the records can't be read"));
    assert_eq!(standby.inventory(LIST).0, 503);
    assert_eq!(standby.health("/readyz").0, 200);
    world.faults().clear();
    ask_until(&standby, LIST, |body| body.contains("worker-0"));
}

#[test]
fn a_leader_that_was_frozen_writes_and_sends_nothing_once_another_one_leads() {
    let (world, frozen) = reordered();
    let sent = posts(&world);
    let leader = second(&world);
    frozen.signal("STOP");
    change(&world, "FA:16:3E:FF:00:02");
    wait_for_posts(&world, sent + 1);
    let is_by = |record: &Value| {
        let writer = &record["metadata"]["annotations"]["multinic.example.com/written-by"];
        writer.as_str().is_some_and(|writer| writer.starts_with("pod-b_"))
    };
    wait_until(&world, "not written by the new leader", |records| records.iter().any(is_by));
    change(&world, "FA:16:3E:FF:00:03");
    wait_for_posts(&world, sent + 2);
    wait_for_polls(&world, 2);
    let written = record(&world, "worker-0");
    frozen.signal("CONT");
    let (status, log) = frozen.wait();
    assert!(!status.success() && log.contains("lost"), "{log}");
    wait_for_polls(&world, 2);
    assert_eq!(posts(&world), sent + 2);
    assert_eq!(record(&world, "worker-0"), written);
    assert!(is_by(&written), "{written}");
    drop(leader);
}
