//! A lost inventory: what was sent is unknown, so nothing is sent before a person decides.

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};
use simulated_cloud::{Cloud, Service};
use tempfile::TempDir;

use super::population::{NAMESPACE, Population, name};
use super::process::{Operator, SOON, run};
use super::world::World;

const QUICK: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
];
const APPROVE: &str = "multinic.example.com/approve";
const PORT: &str = "6354868d-f9b9-4574-9672-af08b0d88eea";

fn posts(world: &World) -> usize {
    world.journal().count(Service::Viola)
}

/// Port and id of the interfaces of worker-0 at Viola.
fn cards(world: &World) -> Vec<(String, u64)> {
    let interfaces = world.held()[0].2["interfaces"].clone();
    let id =
        |one: &Value| (one["portId"].as_str().unwrap().to_owned(), one["id"].as_u64().unwrap());
    interfaces.as_array().unwrap().iter().map(id).collect()
}

/// Three nodes, one of which has its cards in another order than by MAC; the operator has ended.
fn reordered() -> (World, Arc<TempDir>) {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    world.edit(|state| {
        state.ports.update(PORT, |port| port.mac_address = "FA:16:3E:FF:00:01".to_owned());
    });
    world.wait_for_posts(2);
    // The next poll begins once the sync that sent it has ended.
    wait_for_polls(&world, 1);
    (world, operator.kill())
}

fn approve(world: &World, value: &Value) {
    let (namespace, name) = world.object();
    let patch = json!({"metadata": {"annotations": {APPROVE: value}}});
    world.kubernetes().patch("OpenstackConfig", &namespace, &name, &patch).unwrap();
}

/// Waits until so many more polls have asked for ports.
fn wait_for_polls(world: &World, count: usize) {
    let ports = |log: &[simulated_cloud::LoggedRequest]| {
        log.iter().filter(|request| request.target.contains("/ports?")).count()
    };
    let from = ports(&world.journal().all());
    assert!(world.journal().wait_for(|log| ports(log) >= from + count, SOON), "no polls came");
}

#[test]
fn an_object_whose_records_are_lost_is_held_until_they_are_restored() {
    let (world, folder) = reordered();
    let (before, sent) = (cards(&world), posts(&world));
    assert_eq!(before[0], (PORT.to_owned(), 0), "numbered anew it would be the second");
    let operator = Operator::start(&world, &QUICK);
    let message = world.wait_for_reason("MemoryLost");
    for part in ["no record of the object's nodes", "#restore", &format!("{APPROVE}=memory-lost")] {
        assert!(message.contains(part), "{part}: {message}");
    }
    operator.line_with("MemoryLost: the inventory has no record");
    let status = world.status();
    assert_eq!((&status["nodes"], &status["lastError"]), (&json!(3), &json!(message)));
    let seen = world
        .kubernetes()
        .wait_until(|view| view.events().iter().any(|event| event["reason"] == "MemoryLost"), SOON);
    assert!(seen, "no Event");
    // Neither time nor force ends it, nor another change of the object.
    world.force("now");
    wait_for_polls(&world, 3);
    approve(&world, &json!("yes"));
    world.change_spec(json!({"credentials": {"k8sProviderID": "biz-2"}}));
    wait_for_polls(&world, 3);
    world.wait_for_reason("MemoryLost");
    assert_eq!(posts(&world), sent);
    drop(operator);
    world.change_spec(json!({"credentials": {"k8sProviderID": null}}));
    let _successor = Operator::start_in(&world, &QUICK, folder);
    world.wait_for_reason("NoChange");
    assert_eq!((posts(&world), cards(&world)), (sent, before));
}

#[test]
fn an_approval_numbers_ports_as_on_first_sight_and_counts_once() {
    let (world, _folder) = reordered();
    let (before, sent) = (cards(&world), posts(&world));
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("MemoryLost");
    let key = {
        let (namespace, name) = world.object();
        format!("{namespace}/{name}")
    };
    let plan = run(&world, &[], TempDir::new().unwrap().path(), &["plan", &key]);
    assert_eq!(plan.code, 0, "{}", plan.errors);
    for part in ["would send  3 of 3", "held: the operator sends none", "Ready=False, MemoryLost"] {
        assert!(plan.output.contains(part), "{part}: {}", plan.output);
    }
    approve(&world, &json!("memory-lost"));
    world.wait_for_reason("NoChange");
    assert_eq!(posts(&world), sent + 1);
    assert_eq!(cards(&world)[1], (PORT.to_owned(), 1));
    assert_ne!(cards(&world), before);
    operator.line_with("their ports were numbered as on first sight");
    assert_eq!(world.status()["lastApproved"], "memory-lost");
    drop(operator);
    // The next loss is another matter, though the annotation is still there.
    let operator = Operator::start(&world, &QUICK);
    let message = world.wait_for_reason("MemoryLost");
    assert!(message.contains("used before"), "{message}");
    wait_for_polls(&world, 3);
    assert_eq!(posts(&world), sent + 1);
    // An approval that comes while no operator runs counts as well.
    drop(operator);
    approve(&world, &Value::Null);
    let operator = Operator::start(&world, &QUICK);
    let forgotten = |view: &simulated_cloud::kubernetes::View| {
        let (namespace, name) = world.object();
        let object = view.get("OpenstackConfig", &namespace, &name).unwrap_or_default();
        object["status"]["lastApproved"].is_null()
    };
    assert!(world.kubernetes().wait_until(forgotten, SOON), "{}", world.status());
    drop(operator);
    approve(&world, &json!("memory-lost"));
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_posts(sent + 2);
    world.wait_for_reason("NoChange");
}

#[test]
fn memory_lost_renumber_sends_as_on_first_sight_and_says_so() {
    let (world, _folder) = reordered();
    let sent = posts(&world);
    let renumber = [&QUICK[..], &[("MEMORY_LOST", "renumber")]].concat();
    let operator = Operator::start(&world, &renumber);
    operator.line_with("MemoryLost: the inventory has no record of the object's nodes");
    world.wait_for_posts(sent + 1);
    assert_eq!(cards(&world)[1], (PORT.to_owned(), 1));
    world.wait_for_reason("NoChange");
}

#[test]
fn a_younger_object_does_not_take_the_nodes_of_a_held_one() {
    let world = World::of("older-object-keeps-node");
    // It has no other node, so nothing of its own is lost.
    let only = json!({"spec": {"vmNames": ["3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4"]}});
    world.kubernetes().patch("OpenstackConfig", "default", "a-newer", &only).unwrap();
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason_of("default", "a-newer", "NodeConflict");
    world.wait_for_reason_of("default", "b-older", "NoChange");
    let sent = posts(&world);
    drop(operator);
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason_of("default", "b-older", "MemoryLost");
    wait_for_polls(&world, 6);
    world.wait_for_reason_of("default", "a-newer", "NodeConflict");
    assert_eq!(posts(&world), sent);
}

/// The records that the operator had, but for those that aren't wanted, in a folder of their own.
fn records(operator: Operator, is_wanted: impl Fn(&Value) -> bool) -> Arc<TempDir> {
    let (_, list) = operator.inventory("/v1/inventory/node-configs");
    operator.kill();
    let mut records: Vec<Value> = serde_json::from_str(&list).unwrap();
    records.retain(is_wanted);
    let folder = Arc::new(TempDir::new().unwrap());
    let document = json!({"records": records}).to_string();
    fs::write(folder.path().join("inventory.json"), document).unwrap();
    folder
}

#[test]
fn only_objects_without_any_record_are_held() {
    let population = Population::new(2, 2, 1);
    let world = World(Cloud::start(population.scenario()).unwrap());
    let operator = Operator::start(&world, &QUICK);
    for number in [0, 1] {
        world.wait_for_reason_of(NAMESPACE, &name(number), "NoChange");
    }
    // One object lost one record of two, the other both.
    let folder = records(operator, |record| record["nodeName"] == "worker-00000");
    world.journal().clear();
    let _operator = Operator::start_in(&world, &QUICK, folder);
    world.wait_for_reason_of(NAMESPACE, &name(1), "MemoryLost");
    world.wait_for_reason_of(NAMESPACE, &name(0), "NoChange");
    wait_for_polls(&world, 3);
    let sent = world.journal().requests(Service::Viola);
    assert_eq!(sent.len(), 1);
    let body: Value = serde_json::from_slice(&sent[0].body).unwrap();
    assert_eq!((body.as_array().unwrap().len(), &body[0]["nodeName"]), (1, &json!("worker-00001")));
}

#[test]
fn a_status_of_the_go_operator_holds_nothing() {
    let world = World::of("three-nodes");
    let (namespace, name) = world.object();
    // It wrote no generation and no number of nodes.
    let status = json!({"status": {
        "conditions": [{"type": "Ready", "status": "True", "reason": "Synced", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1}],
        "lastSyncedAt": "2026-01-02T03:04:05Z"}});
    world.kubernetes().patch_status("openstackconfigs", &namespace, &name, &status).unwrap();
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_posts(1);
    world.wait_for_reason("NoChange");
}
