//! Two replicas and one Lease: one works, the other waits for its turn.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use simulated_cloud::{Fault, FaultKind, LoggedRequest, Service};

use super::{QUICK, is_ports, now, ports_requests, wait_for_syncs};
use crate::process::{Operator, SOON};
use crate::world::World;

/// How long an unrenewed Lease holds.
const LEASE: Duration = Duration::from_secs(12);
/// After so long without a renewal a leader has lost.
const RENEW_DEADLINE: Duration = Duration::from_secs(8);
/// What is promised for a leader that was killed.
const TAKE_OVER: Duration = Duration::from_secs(15);

fn replica(world: &World, name: &str) -> Operator {
    // Each replica has a folder of its own, so the one that takes over knows of nothing.
    let election = [
        ("LEADER_ELECT", "true"),
        ("POD_NAMESPACE", "default"),
        ("POD_NAME", name),
        ("MEMORY_LOST", "renumber"),
    ];
    Operator::start(world, &[&QUICK[..], &election].concat())
}

/// The first works, the second stands by.
fn leader_and_follower(world: &World) -> (Operator, Operator) {
    let leader = replica(world, "pod-a");
    world.wait_for_reason("NoChange");
    let follower = replica(world, "pod-b");
    follower.line_with("leader election: pod-a_");
    (leader, follower)
}

fn lease(world: &World) -> Value {
    world.kubernetes().get("leases", "default", "multinic-operator").unwrap()["spec"].clone()
}

/// Waits until somebody works who hadn't before; each process logs in for itself.
fn wait_for_another_worker(world: &World, limit: Duration) {
    let known = tokens(&ports_requests(world));
    let another = |log: &[LoggedRequest]| {
        log.iter().any(|request| is_ports(request) && !known.contains(&token(request)))
    };
    assert!(world.journal().wait_for(another, limit), "nobody took over within {limit:?}");
}

fn token(request: &LoggedRequest) -> String {
    request.header("x-auth-token").unwrap_or_default().to_owned()
}

fn tokens(requests: &[LoggedRequest]) -> Vec<String> {
    let mut tokens: Vec<String> = requests.iter().map(token).collect();
    tokens.sort();
    tokens.dedup();
    tokens
}

/// Who held the Lease from when on, in milliseconds of the journal.
fn holders(world: &World) -> Vec<(u64, String)> {
    let written = |request: &LoggedRequest| {
        let accepted = matches!(request.status, Some(200 | 201));
        let is_write = request.method == "PUT" || request.method == "POST";
        let lease: Value = serde_json::from_slice(&request.body).ok()?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        let at = match holder.as_str() {
            // Given back as soon as that is on its way, got when that is answered.
            "" => request.arrived_ms,
            _ => request.answered_ms?,
        };
        (accepted && is_write && request.path().contains("/leases")).then_some((at, holder))
    };
    world.journal().requests(Service::Kubernetes).iter().filter_map(written).collect()
}

/// Every request for ports was made by the replica that held the Lease then.
fn assert_that_only_holders_worked(world: &World) {
    let holders = holders(world);
    let holder_at = |at: u64| {
        let before = holders.iter().rev().find(|(since, _)| *since <= at);
        before.map(|(_, holder)| holder.clone()).unwrap_or_default()
    };
    let mut replicas: BTreeMap<String, String> = BTreeMap::new();
    for request in ports_requests(world) {
        let holder = holder_at(request.arrived_ms);
        assert_ne!(holder, "", "at {} ms nobody held the Lease", request.arrived_ms);
        let replica = replicas.entry(token(&request)).or_insert_with(|| holder.clone());
        assert_eq!(*replica, holder, "{replica} worked at {} ms", request.arrived_ms);
    }
    let names: Vec<&String> = replicas.values().collect();
    assert_eq!(names.len(), 2, "each logs in once: {names:?}");
    assert_ne!(names[0], names[1]);
}

#[test]
fn only_the_leader_works_and_when_it_stops_the_other_takes_over_at_once() {
    let world = World::of("three-nodes");
    let (leader, follower) = leader_and_follower(&world);
    let (status, body) = follower.inventory("/v1/inventory/node-configs");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("pod-a"), "{body}");
    assert_eq!(leader.inventory("/v1/inventory/node-configs").0, 200);
    for replica in [&leader, &follower] {
        let (status, text) = replica.health("/readyz");
        assert_eq!(status, 200, "{text}");
    }
    wait_for_syncs(&world, 5);
    assert_eq!(tokens(&ports_requests(&world)).len(), 1, "the follower works too");

    let (status, _) = leader.stop();
    assert_eq!(status.code(), Some(0));
    let stopped = now();
    wait_for_another_worker(&world, LEASE / 2);
    assert!(stopped.elapsed() < LEASE / 2, "{:?}", stopped.elapsed());
    wait_for_syncs(&world, 3);
    assert_eq!(follower.inventory("/v1/inventory/node-configs").0, 200);
    let holder = lease(&world)["holderIdentity"].as_str().unwrap().to_owned();
    assert!(holder.starts_with("pod-b_"), "{holder}");
    assert_eq!(lease(&world)["leaseTransitions"], 1);
    assert_that_only_holders_worked(&world);
}

#[test]
fn a_leader_that_is_killed_is_replaced_within_fifteen_seconds() {
    let world = World::of("three-nodes");
    let (leader, _follower) = leader_and_follower(&world);
    leader.kill();
    let killed = now();
    wait_for_another_worker(&world, TAKE_OVER);
    let took = killed.elapsed();
    assert!(took < TAKE_OVER, "{took:?}");
    wait_for_syncs(&world, 3);
    assert_eq!(world.held(), world.expected());
    assert_that_only_holders_worked(&world);
}

#[test]
fn a_leader_that_cannot_renew_its_lease_ends_before_that_runs_out() {
    let world = World::of("three-nodes");
    let leader = replica(&world, "pod-a");
    world.wait_for_reason("NoChange");
    // The rest of the API goes on answering, so nothing else would stop it.
    world
        .faults()
        .add(Fault::always(Service::Kubernetes, FaultKind::Hang).path_contains("/leases"));
    let (status, log) = leader.wait();
    let ended = world.journal().now_ms();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("lost leadership"), "{log}");
    let requests = world.journal().requests(Service::Kubernetes);
    let mut renewals = requests.iter().filter(|request| request.path().contains("/leases"));
    let renewed = renewals.rfind(|request| request.status.is_some()).unwrap().answered_ms;
    let renewed = Duration::from_millis(renewed.unwrap());
    let last = ports_requests(&world).last().unwrap().arrived_ms;
    let worked = Duration::from_millis(last) - renewed;
    assert!(
        worked < RENEW_DEADLINE + Duration::from_millis(500),
        "it worked for {worked:?} after its last renewal"
    );
    assert!(worked > RENEW_DEADLINE / 2, "it gave up after {worked:?} already");
    let lived = Duration::from_millis(ended) - renewed;
    assert!(lived < LEASE, "it lived for {lived:?} after its last renewal");
}

/// Writes that the API server was asked for, but for those of Leases.
fn writes(world: &World) -> Vec<String> {
    let mut requests = world.journal().requests(Service::Kubernetes);
    requests.retain(|one| one.method != "GET" && !one.path().contains("/leases"));
    requests.iter().map(|one| format!("{} {}", one.method, one.path())).collect()
}

#[test]
fn a_leader_that_was_paused_writes_none_of_the_statuses_that_waited() {
    let world = World::of("three-nodes");
    let (leader, follower) = leader_and_follower(&world);
    let refusal = super::refusal(500, "InternalError", None);
    world.faults().add(Fault::always(Service::Kubernetes, refusal).path_contains("/status"));
    let refused = |log: &[LoggedRequest]| {
        let is_refused =
            |one: &&LoggedRequest| one.path().ends_with("/status") && one.status == Some(500);
        log.iter().filter(is_refused).count() > 2
    };
    world.force("now");
    assert!(world.journal().wait_for(refused, SOON));
    leader.signal("STOP");
    wait_for_another_worker(&world, TAKE_OVER);
    world.faults().clear();
    let written = world.journal().count(Service::Kubernetes);
    let has_written = |log: &[LoggedRequest]| {
        let of_kubernetes = log.iter().filter(|one| one.service == Service::Kubernetes);
        of_kubernetes.skip(written).any(|one| one.path().ends_with("/status"))
    };
    assert!(world.journal().wait_for(has_written, SOON));
    // The other one stands still, so whatever is written now is the former leader's.
    follower.signal("STOP");
    // What was on its way arrives first.
    let mut count = world.journal().count(Service::Kubernetes);
    while world.journal().wait_for(
        |log| log.iter().filter(|one| one.service == Service::Kubernetes).count() > count,
        Duration::from_millis(500),
    ) {
        count = world.journal().count(Service::Kubernetes);
    }
    let before = writes(&world);
    leader.signal("CONT");
    let (status, log) = leader.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(writes(&world)[before.len()..], [""; 0], "it wrote though another one leads");
}

#[test]
fn a_standby_tells_of_each_outage_of_the_api_once() {
    let world = World::of("three-nodes");
    let (_leader, standby) = leader_and_follower(&world);
    let told = || {
        let log = standby.log();
        log.lines().filter(|line| line.contains("leader election: Kubernetes GET")).count()
    };
    let reads = |status: u16| {
        let from = world.journal().count(Service::Kubernetes);
        let seen = |log: &[LoggedRequest]| {
            let of_kubernetes = log.iter().filter(|one| one.service == Service::Kubernetes);
            let leases = of_kubernetes.skip(from).filter(|one| {
                one.method == "GET" && one.path().contains("/leases") && one.status == Some(status)
            });
            leases.count() >= 2
        };
        assert!(world.journal().wait_for(seen, SOON));
    };
    for outage in 1..=2 {
        let refusal = super::refusal(503, "ServiceUnavailable", None);
        let fault = Fault::always(Service::Kubernetes, refusal);
        world.faults().add(fault.method("GET").path_contains("/leases"));
        reads(503);
        world.faults().clear();
        reads(200);
        assert_eq!(told(), outage, "{}", standby.log());
    }
}

#[test]
fn a_leader_that_was_paused_does_not_finish_what_it_had_begun() {
    let world = World::of("three-nodes");
    let (leader, _follower) = leader_and_follower(&world);
    // In the middle of a sync that would change a node, between its questions and its POST.
    let fault = Fault::once(Service::Neutron, FaultKind::Hang);
    world.faults().add(fault.path_contains("/ports"));
    let port = "6354868d-f9b9-4574-9672-af08b0d88eea";
    world.edit(|state| {
        state.ports.update(port, |port| port.mac_address = "fa:16:3e:ff:00:01".to_owned());
    });
    world.force("now");
    let hangs = |log: &[LoggedRequest]| {
        let unanswered = |request: &LoggedRequest| is_ports(request) && request.status.is_none();
        log.iter().any(unanswered) && world.faults().pending().is_empty()
    };
    assert!(world.journal().wait_for(hangs, SOON));
    leader.signal("STOP");
    world.faults().clear();
    wait_for_another_worker(&world, TAKE_OVER);
    world.wait_for_posts(2);
    wait_for_syncs(&world, 3);
    let told = world.viola().received().len();
    leader.signal("CONT");
    let (status, log) = leader.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(world.viola().received().len(), told, "it acted though another one leads");
}

#[test]
fn a_standby_that_cannot_read_the_lease_is_not_ready() {
    let world = World::of("three-nodes");
    let refusal = super::refusal(403, "Forbidden", None);
    world.faults().add(Fault::always(Service::Kubernetes, refusal).path_contains("/leases"));
    let standby = replica(&world, "pod-a");
    standby.line_with("leader election: Kubernetes GET");
    let (status, text) = standby.health("/readyz");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("[-] the Lease can't be read"), "{text}");
    assert_eq!(standby.health("/healthz").0, 200);
    world.faults().clear();
    standby.line_with("this replica leads");
    world.wait_for_reason("NoChange");
    assert_eq!(standby.health("/readyz").0, 200);
}
