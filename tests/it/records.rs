//! The inventory as records in Kubernetes: `INVENTORY_STORE=kubernetes`.

mod edits;
mod moves;
mod pace;
mod standby;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulated_cloud::kubernetes::{Denial, ResourceKind};
use simulated_cloud::{Cloud, Fault, FaultKind, LoggedRequest, Scenario, Service};

use super::process::{Operator, SOON, fixtures, run};
use super::world::World;

const STORE: [(&str, &str); 7] = [
    ("INVENTORY_STORE", "kubernetes"),
    ("POD_NAMESPACE", "default"),
    ("POD_NAME", "pod-a"),
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
];
const RENUMBER: &str = "multinic.example.com/renumber";
/// A port of worker-0.
const PORT: &str = "6354868d-f9b9-4574-9672-af08b0d88eea";

fn start(world: &World) -> Operator {
    Operator::start(world, &STORE)
}

fn records(world: &World) -> Vec<Value> {
    world.kubernetes().objects("NodeInterfaces")
}

fn record(world: &World, node: &str) -> Value {
    let is_of = |record: &Value| record["spec"]["nodeName"] == node;
    records(world).into_iter().find(is_of).unwrap_or_else(|| panic!("no record of {node}"))
}

fn name(record: &Value) -> &str {
    record["metadata"]["name"].as_str().unwrap()
}

fn is_post(request: &LoggedRequest) -> bool {
    request.service == Service::Viola && request.method == "POST"
}

fn posts(world: &World) -> usize {
    world.journal().all().iter().filter(|request| is_post(request)).count()
}

fn wait_for_posts(world: &World, count: usize) {
    let answered = |it: &&LoggedRequest| is_post(it) && it.status.is_some();
    let enough = |log: &[LoggedRequest]| log.iter().filter(answered).count() >= count;
    assert!(world.journal().wait_for(enough, SOON), "Viola got {} POSTs", posts(world));
}

/// Another MAC address of a port, so that its node is sent.
fn change(world: &World, mac: &str) {
    world.edit(|state| {
        state.ports.update(PORT, |port| port.mac_address = mac.to_owned());
    });
}

/// Accepted writes of records.
fn writes(world: &World) -> usize {
    let writes = world.kubernetes().writes();
    let of_records = writes.iter().filter(|((resource, _), _)| resource == "nodeinterfaces");
    of_records.map(|(_, count)| count).sum()
}

/// Port and id of the interfaces of a node at Viola.
fn cards(world: &World, node: &str) -> Vec<(String, u64)> {
    let held = world.held().into_iter().find(|(_, name, _)| name == node).unwrap().2;
    let interfaces = held["interfaces"].as_array().unwrap().iter();
    let card = |one: &Value| (one["portId"].as_str().unwrap().into(), one["id"].as_u64().unwrap());
    interfaces.map(card).collect()
}

fn wait_for_polls(world: &World, count: usize) {
    let ports = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.target.contains("/ports?")).count()
    };
    let from = ports(&world.journal().all());
    assert!(world.journal().wait_for(|log| ports(log) >= from + count, SOON), "no polls came");
}

fn wait_until(world: &World, what: &str, holds: impl Fn(&[Value]) -> bool) {
    let seen = world.kubernetes().wait_until(|view| holds(&view.objects("NodeInterfaces")), SOON);
    assert!(seen, "{what}: {:#?}", records(world));
}

fn wait_for_event(world: &World, reason: &str) -> Value {
    let is_meant = |event: &Value| event["reason"] == reason;
    let seen = world.kubernetes().wait_until(|view| view.events().iter().any(is_meant), SOON);
    assert!(seen, "no Event {reason}");
    world.kubernetes().events().into_iter().find(is_meant).unwrap()
}

/// Three nodes whose records are written, one of which has its cards in another order than by MAC.
fn reordered() -> (World, Operator) {
    let world = World::of("three-nodes");
    let operator = start(&world);
    world.wait_for_reason("NoChange");
    change(&world, "FA:16:3E:FF:00:01");
    wait_for_posts(&world, 2);
    wait_for_polls(&world, 2);
    (world, operator)
}

#[test]
fn each_node_has_a_record_that_an_unchanged_poll_does_not_write() {
    let world = World::of("three-nodes");
    let operator = start(&world);
    world.wait_for_reason("NoChange");
    let records = records(&world);
    assert_eq!(records.len(), 3);
    for record in &records {
        let spec = &record["spec"];
        let node = spec["nodeName"].as_str().unwrap();
        assert!(name(record).starts_with(&format!("{node}-")), "{record}");
        assert_eq!(record["metadata"]["labels"]["multinic.io/node-name"], node);
        assert_eq!(record["metadata"]["ownerReferences"], Value::Null);
        assert_eq!(spec["delivery"], "Viola");
        let count = spec["config"]["interfaces"].as_array().unwrap().len();
        let ids: Vec<String> = (0..count).map(|id| id.to_string()).collect();
        assert_eq!(spec["summary"]["interfaces"], ids.join(","));
    }
    let (sent, written) = (posts(&world), writes(&world));
    wait_for_polls(&world, 5);
    world.force("now");
    wait_for_posts(&world, sent + 1);
    wait_for_polls(&world, 2);
    // The same was accepted again: the API shows it, and the record isn't written.
    assert_eq!(writes(&world), written);
    assert_eq!(operator.inventory("/v1/inventory/node-configs").0, 200);
    assert!(!operator.folder().path().join("inventory.json").exists());
}

#[test]
fn a_killed_leader_is_followed_within_15_s_with_the_same_ids_and_no_volume() {
    let (world, operator) = reordered();
    let before = cards(&world, "worker-0");
    assert_eq!(before[0], (PORT.to_owned(), 0), "numbered anew it would be the second");
    let sent = posts(&world);
    let other = [&STORE[..], &[("POD_NAME", "pod-b")]].concat();
    let follower = Operator::start(&world, &other);
    follower.line_with("leader election: pod-a_");
    drop(operator.kill());
    let killed = Instant::now();
    change(&world, "FA:16:3E:FF:00:02");
    wait_for_posts(&world, sent + 1);
    assert!(killed.elapsed() < Duration::from_secs(15), "{:?}", killed.elapsed());
    assert_eq!(cards(&world, "worker-0"), before);
}

#[test]
fn without_kind_right_or_namespace_nothing_is_sent_and_all_say_why() {
    type Prepare = fn(&World);
    let no_kind: Prepare = |world| world.kubernetes().remove_kind("NodeInterfaces");
    let no_right: Prepare = |world| world.kubernetes().deny(Denial::new("list", "nodeinterfaces"));
    let cases: [(Prepare, &str, &str); 3] = [
        (no_kind, "default", "the CRD may not be installed"),
        (no_right, "default", "cannot list resource \"nodeinterfaces\""),
        (|_| (), "", "the operator's own namespace isn't known"),
    ];
    for (prepare, namespace, said) in cases {
        let world = World::of("three-nodes");
        prepare(&world);
        let variables = [&STORE[..], &[("POD_NAMESPACE", namespace)]].concat();
        let operator = Operator::start(&world, &variables);
        let message = world.wait_for_reason("ConfigError");
        assert!(message.contains(said), "{message}");
        assert!(message.contains("no node may be sent"), "{message}");
        let (status, text) = operator.health("/readyz");
        assert!(status == 503 && text.contains(said), "{status} {text}");
        let check = run(&world, &variables, operator.folder().path(), &["check"]);
        assert!(check.code != 0 && check.output.contains("NodeInterfaces"), "{}", check.output);
        let words: String = check.output.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("nothing is sent until they can be read"), "{}", check.output);
        wait_for_polls_or_time(&world);
        assert_eq!(posts(&world), 0, "{said}");
        world.kubernetes().register(ResourceKind::node_interfaces());
        world.kubernetes().allow_everything();
        if !namespace.is_empty() {
            wait_for_posts(&world, 1);
        }
    }
}

/// Nothing is asked of Neutron while nothing may be sent; a few statuses are written instead.
fn wait_for_polls_or_time(world: &World) {
    let patches = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.path().ends_with("/leases/multinic-operator")).count()
    };
    let from = patches(&world.journal().all());
    assert!(world.journal().wait_for(|log| patches(log) > from, SOON), "no Lease was renewed");
}

#[test]
fn records_are_read_in_pages_before_anything_is_sent() {
    let (world, operator) = reordered();
    let before = cards(&world, "worker-0");
    operator.stop();
    // Others' records beside: three pages.
    let template = record(&world, "worker-0");
    for number in 0..1100 {
        let mut other = template.clone();
        let node = format!("other-{number}");
        other["metadata"] = json!({"name": node, "namespace": "default"});
        other["spec"]["nodeName"] = json!(node);
        other["spec"]["instanceId"] = json!(format!("vm-{number}"));
        other["spec"]["config"]["nodeName"] = json!(node);
        other["spec"]["config"]["instanceId"] = json!(format!("vm-{number}"));
        other["spec"]["config"]["interfaces"] = json!([]);
        world.kubernetes().apply_object(other).unwrap();
    }
    let sent = posts(&world);
    world.faults().add(
        Fault::always(Service::Kubernetes, FaultKind::Delay(Duration::from_millis(300)))
            .path_contains("continue="),
    );
    change(&world, "FA:16:3E:FF:00:04");
    let operator = start(&world);
    wait_for_posts(&world, sent + 1);
    let log = world.journal().all();
    let pages = log.iter().filter(|it| it.target.contains("/nodeinterfaces?limit=500"));
    let last = pages.clone().filter_map(|page| page.answered_ms).take(3).last().unwrap();
    assert!(pages.count() >= 3);
    let posted = log.iter().rfind(|it| is_post(it)).unwrap();
    assert!(posted.arrived_ms >= last, "sent before all records were read");
    assert_eq!(cards(&world, "worker-0"), before);
    drop(operator);
}

#[test]
fn a_record_that_cannot_be_read_stops_its_node_only() {
    for (patch, said) in [
        (json!({"spec": {"updatedAt": 7}}), "invalid type: integer"),
        (json!({"spec": {"config": {"interfaces": "twice"}}}), "interface id 0 twice"),
    ] {
        let (world, operator) = reordered();
        operator.stop();
        let before = record(&world, "worker-0");
        let mut patch = patch;
        if patch.pointer("/spec/config").is_some() {
            let mut interfaces = before["spec"]["config"]["interfaces"].clone();
            interfaces[1]["id"] = interfaces[0]["id"].clone();
            patch = json!({"spec": {"config": {"interfaces": interfaces}}});
        }
        world.kubernetes().patch("NodeInterfaces", "default", name(&before), &patch).unwrap();
        let sent = posts(&world);
        let operator = start(&world);
        let message = world.wait_for_reason("ConfigError");
        assert!(message.contains("node worker-0 isn't sent: the record "), "{message}");
        assert!(message.contains(said), "{message}");
        operator.line_with("can't be read, so node worker-0 isn't sent");
        let check = run(&world, &STORE, operator.folder().path(), &["check"]);
        assert!(check.output.contains("worker-0"), "{}", check.output);
        world.force("now");
        wait_for_posts(&world, sent + 1);
        let log = world.journal().all();
        let post = log.iter().rfind(|request| is_post(request)).unwrap();
        let body = String::from_utf8_lossy(&post.body).into_owned();
        assert!(!body.contains("worker-0") && body.contains("worker-1"), "{body}");
        // Corrected, it counts again.
        let spec = json!({"spec": before["spec"]});
        world.kubernetes().patch("NodeInterfaces", "default", name(&before), &spec).unwrap();
        world.wait_for_reason("NoChange");
        assert_eq!(cards(&world, "worker-0")[0], (PORT.to_owned(), 0));
    }
}

#[test]
fn another_operator_that_writes_the_records_ends_this_one() {
    let (world, operator) = reordered();
    let before = record(&world, "worker-0");
    // As another process of the operator writes: by server-side apply, under the same name.
    let mut body = json!({
        "apiVersion": before["apiVersion"], "kind": before["kind"],
        "metadata": {"name": name(&before), "namespace": "default",
            "annotations": {"multinic.example.com/written-by": "pod-b_1"},
            "labels": before["metadata"]["labels"]},
        "spec": before["spec"],
    });
    body["spec"]["lastConfigHash"] = json!("another");
    let url = format!(
        "{}/apis/multinic.example.com/v1alpha1/namespaces/default/nodeinterfaces/{}?\
         fieldManager=multinic-operator&force=true",
        world.url(Service::Kubernetes),
        name(&before)
    );
    let request = ureq::http::Request::builder()
        .method("PATCH")
        .uri(url)
        .header("content-type", "application/apply-patch+yaml");
    let agent: ureq::Agent =
        ureq::Agent::config_builder().allow_non_standard_methods(true).build().into();
    agent.run(request.body(body.to_string()).unwrap()).unwrap();
    let (status, log) = operator.wait();
    assert!(!status.success());
    assert!(log.contains("another operator (pod-b_1) writes the records"), "{log}");
}

#[test]
fn with_the_api_server_away_nodes_go_on_and_records_follow() {
    let (world, operator) = reordered();
    let fault = Fault::always(Service::Kubernetes, FaultKind::Html { status: 503 });
    world.faults().add(fault.path_contains("/nodeinterfaces/"));
    let sent = posts(&world);
    change(&world, "FA:16:3E:FF:00:03");
    wait_for_posts(&world, sent + 1);
    let written = world.kubernetes().wait_until(
        |view| {
            view.objects("OpenstackConfig")[0].to_string().contains("the inventory isn't written")
        },
        SOON,
    );
    assert!(written, "no status says so: {}", world.status());
    assert!(operator.health("/readyz").1.contains("[!] inventory is unwritten"));
    world.faults().clear();
    wait_until(&world, "never written", |records| {
        records.iter().any(|record| record.to_string().contains("fa:16:3e:ff:00:03"))
    });
    world.wait_for_ready(|ready| ready["reason"] == "NoChange");
}

#[test]
fn a_refused_record_is_named_and_the_others_are_written() {
    let world = World::of("three-nodes");
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": "Invalid", "code": 422, "message": "worker-1 is not welcome"});
    let kind = FaultKind::Status {
        status: 422,
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes(),
    };
    // The first of three POSTs.
    let refused = Fault::once(Service::Kubernetes, kind).method("POST");
    world.faults().add(refused.path_contains("/nodeinterfaces?"));
    let operator = start(&world);
    operator.line_with("is refused: Kubernetes POST");
    wait_until(&world, "the others aren't written", |records| records.len() >= 2);
    // Tried again after ten seconds.
    wait_until(&world, "never written", |records| records.len() == 3);
    world.wait_for_ready(|ready| ready["reason"] == "NoChange");
}

#[test]
fn leader_election_switched_off_beside_it_is_an_error() {
    let world =
        World(Cloud::start(Scenario::load(&fixtures().join("three-nodes")).unwrap()).unwrap());
    let variables = [&STORE[..], &[("LEADER_ELECT", "false")]].concat();
    let (status, log) = Operator::start(&world, &variables).wait();
    assert!(!status.success());
    assert!(log.contains("LEADER_ELECT: false contradicts INVENTORY_STORE"), "{log}");
}

#[test]
fn plan_reads_the_records() {
    let (world, operator) = reordered();
    let (namespace, object) = world.object();
    let key = format!("{namespace}/{object}");
    let plan = run(&world, &STORE, operator.folder().path(), &["plan", &key]);
    assert_eq!(plan.code, 0, "{}{}", plan.output, plan.errors);
    assert!(plan.output.contains("records in Kubernetes, 3 records"), "{}", plan.output);
    assert!(plan.output.contains("NoChange"), "{}", plan.output);
}
