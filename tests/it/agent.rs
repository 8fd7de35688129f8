//! What the agent makes of what was sent: the condition `Configured`, page and metrics.

use std::time::Duration;

use serde_json::{Value, json};
use simulated_cloud::kubernetes::Denial;
use simulated_cloud::{Agent, Service};

use super::cluster_delivery::{Biz, KIND, NAMESPACE, QUICK, TOKEN, put, wait_for_polls, world};
use super::process::{Operator, SOON};
use super::world::World;

const JOB: Duration = Duration::from_millis(50);

/// Waits until the object's condition `Configured` has this reason, and gives status and message.
fn wait_for_configured(world: &World, reason: &str) -> (Value, String) {
    let (namespace, name) = world.object();
    let condition = |object: &Value| -> Option<Value> {
        let conditions = object["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == "Configured").cloned()
    };
    let get = || world.kubernetes().get("OpenstackConfig", &namespace, &name);
    let seen = world.kubernetes().wait_until(
        |view| {
            let object = view.get("OpenstackConfig", &namespace, &name);
            object.as_ref().and_then(condition).is_some_and(|it| it["reason"] == reason)
        },
        SOON,
    );
    let status = world.status();
    assert!(seen, "it never became {reason}; it is {:?}", get().as_ref().and_then(condition));
    let condition = condition(&get().unwrap()).unwrap();
    (status, condition["message"].as_str().unwrap().to_owned())
}

/// Waits until there is an Event with this reason.
fn wait_for_event(world: &World, reason: &str) {
    let seen = world
        .kubernetes()
        .wait_until(|view| view.events().iter().any(|event| event["reason"] == reason), SOON);
    assert!(seen, "no Event {reason}");
}

/// The MAC address of the first interface of a node.
fn first_mac(biz: &Biz, node: &str) -> String {
    let object = biz.kubernetes.get(KIND, NAMESPACE, node).unwrap();
    object["spec"]["interfaces"][0]["macAddress"].as_str().unwrap().to_owned()
}

#[test]
fn the_loop_is_closed_and_polls_cost_no_further_request() {
    let biz = Biz::start();
    let world = world(&biz.kubeconfig(TOKEN));
    let agent = Agent::start(&biz.kubernetes, JOB);
    let operator = Operator::start(&world, &QUICK);
    let (status, message) = wait_for_configured(&world, "AllConfigured");
    assert_eq!((&status["configured"], &status["failedNodes"]), (&json!("3/3"), &json!(0)));
    assert_eq!(message, "3 nodes configured");
    wait_for_event(&world, "AllConfigured");
    assert_eq!(biz.kubernetes.open_watches(), 1);
    let requests = biz.journal.all().len();
    wait_for_polls(&world, 3);
    assert_eq!(biz.journal.all().len(), requests, "it is watched, not asked");

    // A change that the agent can't follow on one card.
    let node = world.expected()[0].1.clone();
    let mac = first_mac(&biz, &node);
    agent.fail(&mac, "interface with MAC not found");
    world.edit(|state| state.networks.iter_mut().for_each(|network| network.mtu = 1_400));
    let (status, message) = wait_for_configured(&world, "AgentFailed");
    assert_eq!(status["configured"], "2/3");
    assert!(message.contains("interface with MAC not found"), "{message}");
    assert!(message.contains(&format!("{node} multinic0 ({mac}) JobFailed")), "{message}");
    wait_for_event(&world, "AgentFailed");
    let ready = world.ready().unwrap();
    assert_eq!(ready["status"], "True", "Ready says that it was sent");
    let (code, states) = operator.inventory("/v1/inventory/node-states");
    let states: Value = serde_json::from_str(&states).unwrap();
    let failed = states.as_array().unwrap().iter().find(|state| state["nodeName"] == node);
    let failed = failed.unwrap();
    assert_eq!((code, &failed["state"]), (200, &json!("failed")));
    assert_eq!(failed["interfaces"][0]["message"], "interface with MAC not found");
    let (_, overview) = operator.inventory("/v1/overview");
    assert!(overview.contains("\"configuredNodes\":\"2/3\""), "{overview}");

    // The next generation goes well; a restart doesn't forget what was said.
    agent.mend();
    world.edit(|state| state.networks.iter_mut().for_each(|network| network.mtu = 1_450));
    wait_for_configured(&world, "AllConfigured");
    let folder = operator.folder();
    operator.stop();
    let before = world.status();
    let _operator = Operator::start_in(&world, &QUICK, folder);
    wait_for_polls(&world, 2);
    assert_eq!(world.status()["configured"], before["configured"]);
}

#[test]
fn the_words_of_the_agent_come_without_a_poll() {
    let biz = Biz::start();
    let world = world(&biz.kubeconfig(TOKEN));
    let slow: Vec<(&str, &str)> = [("DELIVERY", "kubernetes"), ("VIOLA_ENDPOINT", "")].into();
    let _operator = Operator::start(&world, &slow);
    world.wait_for_reason("Synced");
    let (_, message) = wait_for_configured(&world, "InProgress");
    assert_eq!(message, "0 of 3 nodes configured");
    let requests = world.journal().count(Service::Neutron);
    let _agent = Agent::start(&biz.kubernetes, JOB);
    wait_for_configured(&world, "AllConfigured");
    assert_eq!(world.journal().count(Service::Neutron), requests);
}

#[test]
fn beside_viola_a_cluster_is_read_once_its_kubeconfig_is_there() {
    let biz = Biz::start();
    let world = World::of("three-nodes");
    world.change_spec(json!({"credentials": {"k8sProviderID": "biz-1"}}));
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    assert!(world.status()["configured"].is_null());
    let (_, states) = operator.inventory("/v1/inventory/node-states");
    assert_eq!(states, "[]");
    let folder = operator.folder();
    operator.stop();
    // Viola has brought the nodes to the cluster, and the agent has taken them.
    let _agent = Agent::start(&biz.kubernetes, JOB);
    for (_, name, mut node) in world.expected() {
        for interface in node["interfaces"].as_array_mut().unwrap() {
            let fields = interface.as_object_mut().unwrap();
            fields.retain(|key, _| !["networkId", "subnetId"].contains(&&**key));
        }
        let object = json!({
            "apiVersion": "multinic.io/v1alpha1", "kind": KIND,
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": node,
        });
        biz.kubernetes.apply_object(object).unwrap();
    }
    put(&world, &biz.kubeconfig(TOKEN));
    let _operator = Operator::start_in(&world, &[], folder);
    let (status, _) = wait_for_configured(&world, "AllConfigured");
    assert_eq!(status["configured"], "3/3");
}

#[test]
fn a_cluster_that_may_not_be_read_is_unreachable_and_deliveries_go_on() {
    let biz = Biz::start();
    biz.kubernetes.deny(Denial::new("list", "multinicnodeconfigs"));
    let world = world(&biz.kubeconfig(TOKEN));
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let (_, message) = wait_for_configured(&world, "Unreachable");
    assert!(message.contains("403"), "{message}");
    assert!(!message.contains(TOKEN));
    wait_for_event(&world, "Unreachable");
    let _agent = Agent::start(&biz.kubernetes, JOB);
    biz.kubernetes.allow_everything();
    wait_for_configured(&world, "AllConfigured");
    let metrics = operator.health("/metrics").1;
    assert!(metrics.contains("multinic_unreadable_clusters"), "{metrics}");
}

#[test]
#[ignore = "it takes a minute: the agent must have taken the cards down first"]
fn a_node_that_somebody_deleted_comes_back() {
    let biz = Biz::start();
    let world = world(&biz.kubeconfig(TOKEN));
    let _agent = Agent::start(&biz.kubernetes, JOB);
    let _operator = Operator::start(&world, &QUICK);
    wait_for_configured(&world, "AllConfigured");
    let node = world.expected()[0].1.clone();
    let mac = first_mac(&biz, &node);
    biz.kubernetes.delete(KIND, NAMESPACE, &node).unwrap();
    let (status, _) = wait_for_configured(&world, "InProgress");
    assert_eq!(status["configured"], "2/3");
    let minute = Duration::from_secs(60);
    let is_back =
        || biz.kubernetes.wait_until(|view| view.get(KIND, NAMESPACE, &node).is_some(), minute / 2);
    assert!(!is_back(), "the agent still takes the cards down");
    assert!(is_back() || is_back());
    assert_eq!(first_mac(&biz, &node), mac);
    wait_for_configured(&world, "AllConfigured");
    wait_for_event(&world, "Drifted");
}
