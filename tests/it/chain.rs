//! The chain to its end: the operator, the stand-in for Viola, and the objects that an agent reads.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use simulated_cloud::kubernetes::Denial;
use simulated_cloud::{Cloud, LoggedRequest, Scenario, Service};

use super::process::{Operator, SOON, fixtures};
use super::scenarios::in_every_fixture;
use super::world::World;

const KIND: &str = "MultiNicNodeConfig";
const NAMESPACE: &str = "multinic-system";

/// The running program `viola-test-api`; killed when dropped.
struct StandIn {
    child: Child,
    url: String,
}

impl StandIn {
    fn start(world: &World) -> StandIn {
        world.kubernetes().load(vec![json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
        })]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_viola-test-api"))
            .env_clear()
            .env("KUBE_API_URL", world.url(Service::Kubernetes))
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = log.find_map(|line| line.split("listens on ").nth(1).map(str::to_owned));
        // A log that nobody reads would fill its pipe.
        std::thread::spawn(move || log.for_each(drop));
        StandIn { child, url: format!("http://{}", address.unwrap().trim()) }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both programs, the one posting to the other.
fn chain(world: &World, variables: &[(&str, &str)]) -> (StandIn, Operator) {
    let stand_in = StandIn::start(world);
    let variables = [variables, &[("VIOLA_ENDPOINT", stand_in.url.as_str())]].concat();
    let operator = Operator::start(world, &variables);
    (stand_in, operator)
}

/// The objects' specs by name.
fn specs(world: &World) -> BTreeMap<String, Value> {
    let objects = world.kubernetes().objects(KIND).into_iter();
    let named = |object: Value| {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        (name, object["spec"].clone())
    };
    objects.map(named).collect()
}

/// What was posted, without what the agent's CRD doesn't declare.
fn expected(world: &World) -> BTreeMap<String, Value> {
    let applied = |mut node: Value| {
        for interface in node["interfaces"].as_array_mut().unwrap() {
            let fields = interface.as_object_mut().unwrap();
            fields.retain(|name, _| !["networkId", "subnetId"].contains(&&**name));
        }
        node
    };
    world.expected().into_iter().map(|(_, name, node)| (name, applied(node))).collect()
}

/// How often each node's object was applied.
fn applies(world: &World) -> BTreeMap<String, usize> {
    let mut applies = BTreeMap::new();
    let is_apply = |request: &LoggedRequest| {
        request.method == "PATCH" && request.path().contains("/multinicnodeconfigs/")
    };
    for request in world.journal().requests(Service::Kubernetes).iter().filter(|r| is_apply(r)) {
        let name = request.path().rsplit('/').next().unwrap().to_owned();
        *applies.entry(name).or_default() += 1;
    }
    applies
}

#[test]
fn every_fixtures_nodes_become_objects_and_nothing_else_does() {
    let scenarios = Scenario::load_all(&fixtures()).unwrap();
    let with_nodes = scenarios.iter().filter(|scenario| !scenario.expected.posts.is_empty());
    assert!(with_nodes.count() > 10, "the fixtures have no nodes");
    in_every_fixture(become_objects);
}

fn become_objects(scenario: Scenario) -> Result<(), String> {
    let world = World(Cloud::start(scenario).map_err(|error| error.to_string())?);
    let (_stand_in, _operator) = chain(&world, &[]);
    for (key, wanted) in &world.scenario().expected.status {
        let (namespace, object) = key.split_once('/').ok_or("a key is namespace/name")?;
        let ready = world.ready_when(namespace, object, |ready| ready["reason"] == wanted.reason);
        ready.map_err(|ready| format!("{key} never became {}; it is {ready}", wanted.reason))?;
    }
    let (found, wanted) = (specs(&world), expected(&world));
    if found != wanted {
        return Err(format!("the objects are {found:?}, not {wanted:?}"));
    }
    for (provider, node, _) in world.expected() {
        let object = world.kubernetes().get(KIND, NAMESPACE, &node).unwrap_or_default();
        let labels = &object["metadata"]["labels"];
        let fits = labels["multinic.io/provider-id"] == *provider
            && labels["multinic.io/node-name"] == *node;
        if !fits {
            return Err(format!("{node} has the labels {labels}"));
        }
    }
    Ok(())
}

#[test]
fn a_node_whose_object_is_refused_is_named_and_sent_again_and_the_others_are_not() {
    let world = World::of("three-nodes");
    world.kubernetes().deny(Denial::new("patch", "multinicnodeconfigs").of("worker-1"));
    let quick = [("POLL_ERROR_INTERVAL", "200ms"), ("POLL_FAST_INTERVAL", "200ms")];
    let (_stand_in, operator) = chain(&world, &quick);
    let message = world.wait_for_reason("ViolaPostError");
    assert!(message.contains("worker-1") && message.contains("403 Forbidden"), "{message}");
    assert!(!message.contains("worker-0") && !message.contains("worker-2"), "{message}");
    let mut accepted = expected(&world);
    let refused = accepted.remove("worker-1").unwrap();
    assert_eq!(specs(&world), accepted);
    assert_eq!(operator.inventory("/v1/inventory/node-configs/worker-1").0, 404);
    assert_eq!(operator.inventory("/v1/inventory/node-configs/worker-0").0, 200);

    world.kubernetes().allow_everything();
    world.wait_for_reason("NoChange");
    accepted.insert("worker-1".to_owned(), refused);
    assert_eq!(specs(&world), accepted);
    assert_eq!(operator.inventory("/v1/inventory/node-configs/worker-1").0, 200);
    let applies = applies(&world);
    assert!(applies["worker-1"] > 1, "{applies:?}");
    assert_eq!((applies["worker-0"], applies["worker-2"]), (1, 1));
}

#[test]
fn a_node_that_the_agents_crd_refuses_is_named_with_the_api_servers_reason() {
    let world = World::of("three-nodes");
    // worker-1 is wanted on the storage network, whose MTU is above what the agent's CRD allows.
    let mut storage = world.scenario().objects[0].clone();
    let vms = storage["spec"]["vmNames"].as_array().unwrap().clone();
    storage["metadata"]["name"] = json!("storage");
    storage["spec"]["vmNames"] = json!([vms[1]]);
    storage["spec"]["subnetID"] = json!("94a2d5e8-6c3b-4170-8f9e-b15d7c0a4e63");
    world.kubernetes().apply_object(storage).unwrap();
    world.change_spec(json!({ "vmNames": [vms[0], vms[2]] }));
    let set_mtu = |mtu| world.edit(|state| state.networks[1].mtu = mtu);
    set_mtu(9216);
    let quick = [("POLL_ERROR_INTERVAL", "200ms"), ("POLL_FAST_INTERVAL", "200ms")];
    let (_stand_in, operator) = chain(&world, &quick);
    let message = world.wait_for_reason_of("default", "storage", "ViolaPostError");
    for part in [
        "worker-1",
        "MultiNicNodeConfig.multinic.io \"worker-1\" is invalid: spec.interfaces[0].mtu",
        "spec.interfaces[0].mtu in body should be less than or equal to 9000",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("worker-0") && !message.contains("worker-2"), "{message}");
    world.wait_for_reason("NoChange");
    assert_eq!(specs(&world).into_keys().collect::<Vec<_>>(), ["worker-0", "worker-2"]);
    assert_eq!(operator.inventory("/v1/inventory/node-configs/worker-1").0, 404);
    assert_eq!(operator.inventory("/v1/inventory/node-configs/worker-0").0, 200);

    set_mtu(9000);
    world.wait_for_reason_of("default", "storage", "NoChange");
    assert_eq!(specs(&world)["worker-1"]["interfaces"][0]["mtu"], 9000);
    let applies = applies(&world);
    assert!(applies["worker-1"] > 1, "{applies:?}");
    assert_eq!((applies["worker-0"], applies["worker-2"]), (1, 1));
}

#[test]
fn a_port_that_changes_changes_its_nodes_object_alone() {
    let world = World::of("three-nodes");
    let (_stand_in, _operator) = chain(&world, &[("POLL_FAST_INTERVAL", "200ms")]);
    world.wait_for_reason("NoChange");
    let port = "3e1bcf29-d8ed-4823-9f09-de1ad46b0b9d";
    let address = "10.20.0.250";
    world.edit(|state| {
        state.ports.update(port, |port| port.fixed_ips[0].ip_address = address.to_owned());
    });
    let mut wanted = expected(&world);
    wanted.get_mut("worker-0").unwrap()["interfaces"][1]["address"] = json!(address);
    let arrived = |node: &Value| node["interfaces"][1]["address"] == address;
    let seen = world.kubernetes().wait_until(
        |view| view.get(KIND, NAMESPACE, "worker-0").is_some_and(|object| arrived(&object["spec"])),
        SOON,
    );
    assert!(seen, "it never arrived");
    assert_eq!(specs(&world), wanted);
    let applies: Vec<(String, usize)> = applies(&world).into_iter().collect();
    let expected = [("worker-0", 2), ("worker-1", 1), ("worker-2", 1)];
    assert_eq!(applies, expected.map(|(name, count)| (name.to_owned(), count)));
}
