//! One object's trouble is not another's: a new object beside much work and beside what hangs, a
//! process that is killed, a spec that changes in the middle of a pass.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulated_cloud::{Cloud, Fault, FaultKind, LoggedRequest, Service};

use super::population::{NAMESPACE, Population, name};
use super::process::{Operator, SOON};
use super::world::World;

/// Nothing falls due by itself during a test.
const CALM: [(&str, &str); 3] =
    [("POLL_FAST_INTERVAL", "1h"), ("POLL_SLOW_INTERVAL", "1h"), ("POLL_ERROR_INTERVAL", "1h")];
const OPENSTACK: [Service; 4] =
    [Service::Contrabass, Service::Keystone, Service::Neutron, Service::Nova];
/// A new object may be so much later than without the others.
const LATER: Duration = Duration::from_millis(500);
/// The machine may be busy: the best of so many new objects counts.
const TRIES: usize = 5;

/// A cloud whose services take so long for each answer, and its first objects.
fn start(population: &Population, objects: usize, latency: Duration) -> World {
    let world = World(Cloud::start(population.without_objects()).unwrap());
    let objects = (0..objects).map(|number| population.object(number)).collect();
    world.kubernetes().load(objects);
    for service in OPENSTACK {
        world.faults().set_latency(service, latency);
    }
    world
}

fn wait_for(world: &World, what: &str, seen: impl Fn(&[LoggedRequest]) -> bool) {
    assert!(world.journal().wait_for(seen, SOON * 2), "{what} never came");
}

fn asks_for_ports(log: &[LoggedRequest]) -> usize {
    log.iter().filter(|request| request.target.contains("/ports?")).count()
}

/// How long it takes from the creation of the object to the arrival of its POST.
fn post_of(world: &World, object: Value) -> Duration {
    let vm_id = object["spec"]["vmNames"][0].as_str().unwrap().to_owned();
    let begun = Instant::now();
    world.kubernetes().load(vec![object]);
    wait_for(world, "the POST of the new object", |log| {
        let posts = log.iter().filter(|request| request.service == Service::Viola);
        posts.into_iter().any(|post| String::from_utf8_lossy(&post.body).contains(&vm_id))
    });
    begun.elapsed()
}

/// The least that a new object takes where nothing else is to be done.
fn alone(latency: Duration) -> Duration {
    let population = Population::new(1 + TRIES, 3, 3);
    let world = start(&population, 1, latency);
    let _operator = Operator::start(&world, &CALM);
    world.wait_for_reason_of(NAMESPACE, &name(0), "Synced");
    (1..=TRIES).map(|number| post_of(&world, population.object(number))).min().unwrap()
}

#[test]
fn a_new_object_does_not_wait_for_a_large_slow_poll() {
    let latency = Duration::from_millis(200);
    let alone = alone(latency);
    let population = Population::new(500 + TRIES, 3, 3);
    let world = start(&population, 500, latency);
    let polls = [("POLL_FAST_INTERVAL", "5s"), ("POLL_SLOW_INTERVAL", "5s")];
    let _operator = Operator::start(&world, &polls);
    wait_for(&world, "the first round", |_| world.held().len() == 1_500);
    let mut beside = Duration::MAX;
    for number in 500..500 + TRIES {
        let from = asks_for_ports(&world.journal().all());
        wait_for(&world, "a poll", |log| asks_for_ports(log) > from);
        beside = beside.min(post_of(&world, population.object(number)));
        if beside <= alone + LATER {
            return;
        }
    }
    panic!("alone {alone:?}, beside a poll of 500 objects {beside:?}");
}

/// The least that a new object takes beside requests that hang for thirty seconds.
fn while_it_hangs(world: &World, object: impl Fn(usize) -> Value) -> Duration {
    let begun = Instant::now();
    let numbers = (10..10 + TRIES).take_while(|_| begun.elapsed() < Duration::from_secs(10));
    numbers.map(|number| post_of(world, object(number))).min().unwrap()
}

#[test]
fn a_new_object_does_not_wait_for_a_subnet_that_hangs() {
    let alone = alone(Duration::ZERO);
    let population = Population::new(10 + TRIES, 3, 3);
    let world = start(&population, 0, Duration::ZERO);
    let hanging = "c1f4a7d2-0000-4e68-8d3c-2a9e6b517f04";
    world.faults().add(Fault::always(Service::Neutron, FaultKind::Hang).path_contains(hanging));
    let _operator = Operator::start(&world, &CALM);
    for number in 0..10 {
        let mut object = population.object(number);
        object["spec"]["subnetID"] = json!(hanging);
        world.kubernetes().load(vec![object]);
    }
    wait_for(&world, "a hanging request", |log| {
        log.iter().any(|request| request.target.contains(hanging))
    });
    let beside = while_it_hangs(&world, |number| population.object(number));
    assert!(beside <= alone + LATER, "alone {alone:?}, beside ten that hang {beside:?}");
}

#[test]
fn a_new_object_does_not_wait_for_a_target_that_hangs() {
    let alone = alone(Duration::ZERO);
    let population = Population::new(10 + TRIES, 3, 3);
    let to = |number: usize, target: &str| {
        let mut object = population.object(number);
        object["spec"]["credentials"]["k8sProviderID"] = json!(target);
        object
    };
    let world = start(&population, 0, Duration::ZERO);
    world.faults().add(Fault::once(Service::Viola, FaultKind::Hang));
    let _operator = Operator::start(&world, &CALM);
    world.kubernetes().load((0..10).map(|number| to(number, "hanging")).collect());
    wait_for(&world, "a hanging POST", |log| log.iter().any(|one| one.service == Service::Viola));
    let beside = while_it_hangs(&world, |number| to(number, "other"));
    assert!(beside <= alone + LATER, "alone {alone:?}, beside a target that hangs {beside:?}");
}

#[test]
fn a_process_that_is_killed_between_the_post_and_the_record_is_followed_by_one_that_sends_the_same()
{
    let world = World::of("three-nodes");
    world.faults().set_latency(Service::Viola, Duration::from_millis(700));
    let operator = Operator::start(&world, &[]);
    wait_for(&world, "the POST", |log| log.iter().any(|one| one.service == Service::Viola));
    let folder = operator.kill();
    world.wait_for_posts(1);
    assert_eq!(world.held(), world.expected(), "Viola has it, and nobody knows");
    let successor = Operator::start_in(&world, &[], folder);
    world.wait_for_reason("Synced");
    let posts = world.journal().requests(Service::Viola);
    assert_eq!(posts.len(), 2);
    assert_eq!(posts[0].body, posts[1].body);
    assert_eq!(world.held(), world.expected());
    let (_, records) = successor.inventory("/v1/inventory/node-configs");
    assert_eq!(records.matches("\"lastConfigHash\"").count(), 3);
}

#[test]
fn a_spec_that_changes_in_the_middle_of_a_pass_is_the_one_that_is_sent() {
    let world = World::of("three-nodes");
    world.faults().set_latency(Service::Neutron, Duration::from_millis(700));
    let (namespace, name) = world.object();
    let object = world.kubernetes().get("OpenstackConfig", &namespace, &name).unwrap();
    let _operator = Operator::start(&world, &[]);
    wait_for(&world, "the first pass", |log| asks_for_ports(log) > 0);
    world.change_spec(json!({"vmNames": [object["spec"]["vmNames"][1]]}));
    world.wait_for_reason("Synced");
    let posts = world.viola().received();
    assert_eq!(posts.len(), 1, "{posts:?}");
    let nodes: Vec<&Value> = posts[0].nodes.iter().map(|node| &node["instanceId"]).collect();
    assert_eq!(nodes, [&object["spec"]["vmNames"][1]]);
}
