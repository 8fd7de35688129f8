//! What syncs cost, in counts: how many questions, how many of them in a row, how many at once.
//!
//! The same is measured, with times and memory, by `benches/cost`.

use std::collections::BTreeSet;
use std::time::Duration;

use simulated_cloud::{Cloud, Fault, FaultKind, LoggedRequest, Service};

use super::population::{NAMESPACE, Population, name};
use super::process::{Operator, SOON};
use super::world::World;

const UPSTREAM: [Service; 5] =
    [Service::Contrabass, Service::Keystone, Service::Neutron, Service::Nova, Service::Viola];
/// Nothing falls due by itself during a test.
const SLOW_POLLS: [(&str, &str); 3] =
    [("POLL_FAST_INTERVAL", "1h"), ("POLL_SLOW_INTERVAL", "1h"), ("POLL_ERROR_INTERVAL", "1h")];
/// Each poll asks everything a poll may ask, and a pause parts it from the next.
const POLLING: [(&str, &str); 2] =
    [("POLL_FAST_INTERVAL", "900ms"), ("POLL_SLOW_INTERVAL", "900ms")];
/// Objects are due all the time.
const QUICK: [(&str, &str); 3] = [
    ("POLL_FAST_INTERVAL", "300ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "300ms"),
];
/// Long enough that requests of one wave arrive before its first answer, on a busy machine.
const LATENCY: Duration = Duration::from_millis(300);

fn start(population: &Population) -> World {
    World(Cloud::start(population.scenario()).unwrap())
}

fn slow_down(cloud: &Cloud) {
    for service in UPSTREAM {
        cloud.faults().set_latency(service, LATENCY);
    }
}

fn upstream(log: &[LoggedRequest]) -> Vec<LoggedRequest> {
    log.iter().filter(|request| UPSTREAM.contains(&request.service)).cloned().collect()
}

/// Answers that had to be waited for one after another: a request that arrives after the first
/// answer of a wave has begun belongs to the next.
fn waves(requests: &[LoggedRequest]) -> usize {
    let (mut count, mut first_answer) = (0, 0);
    for request in requests {
        let begun = request.begun_ms.unwrap_or(u64::MAX);
        if count == 0 || request.arrived_ms >= first_answer {
            (count, first_answer) = (count + 1, begun);
        } else {
            first_answer = first_answer.min(begun);
        }
    }
    count
}

fn is_status_write(request: &LoggedRequest) -> bool {
    request.service == Service::Kubernetes && request.path().ends_with("/status")
}

/// The upstream requests of so many whole polls; a status write ends each.
fn polls(world: &World, wanted: usize) -> Vec<Vec<LoggedRequest>> {
    let writes = |log: &[LoggedRequest]| log.iter().filter(|r| is_status_write(r)).count();
    assert!(world.journal().wait_for(|log| writes(log) >= 2, SOON), "no poll followed the sync");
    world.journal().clear();
    assert!(world.journal().wait_for(|log| writes(log) > wanted, SOON), "the polls ended");
    let log = world.journal().all();
    let parts = log.split(is_status_write).map(upstream);
    parts.skip(1).take(wanted).collect()
}

/// Viola holds so many nodes.
fn is_held(world: &World, nodes: usize) {
    let is_held = |_: &[LoggedRequest]| world.held().len() >= nodes;
    assert!(world.journal().wait_for(is_held, SOON * 3), "not every node was posted");
}

fn of_path<'a>(log: &'a [LoggedRequest], text: &str) -> Vec<&'a LoggedRequest> {
    log.iter().filter(|request| request.target.contains(text)).collect()
}

#[test]
fn a_cold_sync_waits_for_five_answers_in_a_row_and_asks_each_question_once() {
    for vms in [3, 30, 100] {
        let world = start(&Population::new(1, vms, 3));
        slow_down(&world);
        let _operator = Operator::start(&world, &SLOW_POLLS);
        world.wait_for_reason_of(NAMESPACE, &name(0), "Synced");
        let log = upstream(&world.journal().all());
        assert_eq!(waves(&log), 5, "{vms} VMs: {log:#?}");
        assert_eq!(world.journal().count(Service::Contrabass), 1);
        assert_eq!(world.journal().count(Service::Keystone), 1);
        assert_eq!(of_path(&log, "/subnets/").len(), 1);
        assert_eq!(of_path(&log, "/networks/").len(), 1);
        assert_eq!(of_path(&log, "/ports?").len(), vms.div_ceil(50));
        assert_eq!(world.journal().count(Service::Nova), 1, "one list names them all");
        assert_eq!(world.journal().count(Service::Viola), 1);
    }
}

#[test]
fn with_a_known_token_and_network_a_new_object_waits_for_two_answers() {
    let population = Population::new(2, 30, 3);
    let world = World(Cloud::start(population.without_objects()).unwrap());
    world.kubernetes().load(vec![population.object(0)]);
    let _operator = Operator::start(&world, &SLOW_POLLS);
    world.wait_for_reason_of(NAMESPACE, &name(0), "Synced");
    world.journal().clear();
    slow_down(&world);
    world.kubernetes().load(vec![population.object(1)]);
    world.wait_for_reason_of(NAMESPACE, &name(1), "Synced");
    let log = upstream(&world.journal().all());
    // The network, the ports and the servers, and then the POST.
    assert_eq!(waves(&log), 2, "{log:#?}");
    assert_eq!(of_path(&log, "/networks/").len(), 1);
    assert_eq!(of_path(&log, "/subnets/").len(), 0);
    assert_eq!(world.journal().count(Service::Keystone), 0);
}

#[test]
fn an_unchanged_poll_is_one_wave_of_four_requests() {
    for vms in [3, 30] {
        let world = start(&Population::new(1, vms, 3));
        slow_down(&world);
        let _operator = Operator::start(&world, &POLLING);
        let polls = polls(&world, 5);
        assert_eq!(polls.len(), 5);
        for poll in &polls {
            assert_eq!(waves(poll), 1, "{vms} VMs: {poll:#?}");
            assert_eq!(poll.len(), 4, "{vms} VMs: {poll:#?}");
            // The network's answer has the MTU and lists the subnet.
            assert_eq!(of_path(poll, "/networks/").len(), 1, "{vms} VMs: {poll:#?}");
        }
        assert_eq!(world.journal().count(Service::Keystone), 0, "no poll logs in");
    }
}

#[test]
fn a_metadata_key_costs_a_poll_of_a_whole_project_no_further_request() {
    for vms in [3, 30] {
        let world = start(&Population::new(1, vms, 3));
        slow_down(&world);
        let key = [("OPENSTACK_NODE_NAME_METADATA_KEY", "node-name")];
        let variables: Vec<(&str, &str)> = POLLING.into_iter().chain(key).collect();
        let _operator = Operator::start(&world, &variables);
        for poll in polls(&world, 5) {
            assert_eq!(poll.len(), 4, "{vms} VMs: {poll:#?}");
        }
    }
}

#[test]
fn a_poll_of_a_subnet_given_by_name_asks_for_it_and_for_its_network_side_by_side() {
    let population = Population::new(1, 3, 3);
    let world = World(Cloud::start(population.without_objects()).unwrap());
    let mut object = population.object(0);
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("subnetID");
    spec.insert("subnetName".to_owned(), "tenant".into());
    world.kubernetes().load(vec![object]);
    slow_down(&world);
    let _operator = Operator::start(&world, &POLLING);
    let polls = polls(&world, 5);
    for poll in &polls {
        // A name may mean another subnet by now, so the network's answer can't stand for it.
        assert_eq!(waves(poll), 1, "{poll:#?}");
        assert_eq!(of_path(poll, "/subnets?").len(), 1, "{poll:#?}");
        assert_eq!(of_path(poll, "/networks/").len(), 1, "{poll:#?}");
        assert_eq!(poll.len(), 5, "{poll:#?}");
    }
}

#[test]
fn a_subnet_that_vanishes_is_noticed_by_the_next_poll() {
    let world = start(&Population::new(1, 1, 1));
    let _operator = Operator::start(&world, &POLLING);
    world.wait_for_reason_of(NAMESPACE, &name(0), "NoChange");
    world.edit(|state| state.subnets.clear());
    world.journal().clear();
    world.wait_for_reason_of(NAMESPACE, &name(0), "SubnetNotFound");
    let log = world.journal().all();
    let count = |text| of_path(&log, text).len();
    assert_eq!(count("/networks/"), 1, "{log:#?}");
    assert_eq!(count("/ports?"), 1, "it took more than one poll: {log:#?}");
}

#[test]
fn another_mtu_is_noticed_by_the_next_poll() {
    let world = start(&Population::new(1, 1, 1));
    let _operator = Operator::start(&world, &POLLING);
    world.wait_for_reason_of(NAMESPACE, &name(0), "NoChange");
    world.edit(|state| state.networks[0].mtu = 9_000);
    world.journal().clear();
    world.wait_for_posts(1);
    assert_eq!(world.held()[0].2["interfaces"][0]["mtu"], 9_000);
    let asked = world.journal().all().iter().filter(|r| r.target.contains("/ports?")).count();
    assert!(asked <= 2, "it took {asked} polls");
}

#[test]
fn a_forced_sync_sends_the_mtu_of_now() {
    let world = start(&Population::new(1, 1, 1));
    let _operator = Operator::start(&world, &SLOW_POLLS);
    world.wait_for_posts(1);
    world.edit(|state| state.networks[0].mtu = 9_000);
    world.force("now");
    world.wait_for_posts(2);
    assert_eq!(world.held()[0].2["interfaces"][0]["mtu"], 9_000);
}

/// Requests to OpenStack and POSTs of the first round of these objects.
fn first_round(population: &Population, nodes: usize) -> (usize, usize) {
    let world = start(population);
    let _operator = Operator::start(&world, &SLOW_POLLS);
    is_held(&world, nodes);
    let openstack = |log: &[LoggedRequest]| {
        let asked = [Service::Keystone, Service::Neutron, Service::Nova];
        log.iter().filter(|request| asked.contains(&request.service)).count()
    };
    let first = world.journal().all();
    let posts = first.iter().filter(|request| request.service == Service::Viola).count();
    (openstack(&first), posts)
}

#[test]
fn requests_of_a_round_grow_with_the_vms_and_not_with_the_objects() {
    // Of the first round: one login, one subnet and its network beside ports and names.
    let (requests, posts) = first_round(&Population::new(200, 10, 3), 2_000);
    assert!(requests <= 60, "200 objects of 10 VMs: {requests}");
    assert!(posts <= 5, "200 objects of 10 VMs: {posts} POSTs");
    let (requests, posts) = first_round(&Population::new(1_000, 3, 3), 3_000);
    assert!(requests <= 80, "1,000 objects of 3 VMs: {requests}");
    assert!(posts <= 10, "1,000 objects of 3 VMs: {posts} POSTs");
}

#[test]
fn two_hundred_objects_of_one_project_log_in_once() {
    let world = start(&Population::new(200, 3, 3));
    let _operator = Operator::start(&world, &SLOW_POLLS);
    is_held(&world, 600);
    assert_eq!(world.journal().count(Service::Keystone), 1);
    assert_eq!(world.journal().count(Service::Contrabass), 1);
    // Four workers with eight questions each.
    for service in UPSTREAM {
        let most = world.journal().in_flight_maximum(service);
        assert!(most <= 32, "{service} had {most} requests at once");
    }
    let kept = world.journal().connections(Service::Neutron);
    assert!(kept <= 32, "{kept} connections to Neutron");
}

#[test]
fn requests_grow_with_the_pages_and_no_head_with_the_vms() {
    for (vms, answers) in [(400, 400_usize.div_ceil(50)), (3_000, 60)] {
        let mut population = Population::new(1, vms, 3);
        // What uwsgi's default buffer holds; larger heads end the connection without a word.
        population.settings.neutron_uwsgi = true;
        population.settings.uwsgi_head_limit = 3_660;
        let world = start(&population);
        let _operator = Operator::start(&world, &SLOW_POLLS);
        world.wait_for_reason_of(NAMESPACE, &name(0), "Synced");
        let log = upstream(&world.journal().all());
        assert_eq!(of_path(&log, "/ports?").len(), answers);
        // A page of Nova's has a thousand servers, and an exactly full one is followed by another.
        assert!(world.journal().count(Service::Nova) <= vms / 1_000 + 1);
        assert_eq!(world.held().len(), vms);
        let longest = log.iter().map(|request| request.head_bytes).max().unwrap();
        assert!(longest <= 3_600, "a head of {longest} bytes");
        let most = world.journal().in_flight_maximum(Service::Neutron);
        assert!(most <= 8, "one sync had {most} requests at Neutron at once");
    }
}

/// Two providers that take turns: the even objects belong to the first.
fn two_providers() -> Population {
    Population { providers: 2, ..Population::new(12, 1, 1) }
}

fn posted_providers(log: &[LoggedRequest]) -> Vec<&str> {
    let posts = log.iter().filter(|r| r.service == Service::Viola);
    posts.filter_map(|r| r.header("x-provider-id")).collect()
}

#[test]
fn a_provider_that_hangs_delays_no_object_of_another() {
    let world = start(&two_providers());
    let hanging = super::population::provider(0);
    let other = super::population::provider(1);
    let fault = Fault::always(Service::Contrabass, FaultKind::Hang).path_contains(&hanging);
    world.faults().add(fault);
    let _operator = Operator::start(&world, &QUICK);
    // Its six objects are polled again and again, together, long before the 30 s after which a
    // hanging call is given up.
    let polled = |log: &[LoggedRequest]| of_path(log, "/ports?").len() >= 20;
    assert!(world.journal().wait_for(polled, SOON), "the hanging provider took all workers");
    let log = world.journal().all();
    assert!(posted_providers(&log).iter().all(|id| *id == other), "the other one did hang");
    world.faults().clear();
    is_held(&world, 12);
}

#[test]
fn an_overloaded_provider_is_left_alone_as_long_as_it_asks_and_nobody_else_is() {
    for status in [429, 503] {
        let world = start(&two_providers());
        let overloaded = super::population::provider(0);
        let headers = vec![("Retry-After".to_owned(), "3600".to_owned())];
        let kind = FaultKind::Status { status, headers, body: Vec::new() };
        world.faults().add(Fault::always(Service::Contrabass, kind).path_contains(&overloaded));
        let _operator = Operator::start(&world, &QUICK);
        let ports = |log: &[LoggedRequest]| of_path(log, "/ports?").len();
        // The others have been polled many times meanwhile.
        assert!(world.journal().wait_for(|log| ports(log) >= 20, SOON));
        let log = world.journal().all();
        let asked = of_path(&log, &overloaded).len();
        // One question is shared by whoever asks within half an error interval.
        assert!((1..=6).contains(&asked), "HTTP {status}: asked {asked} times");
        let polled: BTreeSet<&str> = posted_providers(&log).into_iter().collect();
        assert_eq!(polled.len(), 1, "only the other provider's objects are posted");
    }
}
