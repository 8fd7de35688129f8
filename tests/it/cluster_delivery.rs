//! Delivery to Kubernetes: nodes become MultiNicNodeConfigs in a cluster of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use simulated_cloud::kubernetes::{Denial, Kubernetes, View};
use simulated_cloud::wire::{Handler, Server};
use simulated_cloud::{Cloud, Fault, FaultKind, Faults, Journal, LoggedRequest, Service};

use super::population::{NAMESPACE as NAMESPACE_OF_OBJECTS, Population};
use super::process::{Operator, SOON, run};
use super::world::World;

pub(crate) const NAMESPACE: &str = "multinic-system";
pub(crate) const KIND: &str = "MultiNicNodeConfig";
pub(crate) const TOKEN: &str = "biz-t0ken-s3cret";
const OWNER: &str = "multinic.example.com/owner";
pub(crate) const QUICK: [(&str, &str); 6] = [
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
    ("DELIVERY", "kubernetes"),
    ("VIOLA_ENDPOINT", ""),
];

/// A business cluster.
pub(crate) struct Biz {
    pub(crate) kubernetes: Arc<Kubernetes>,
    pub(crate) journal: Arc<Journal>,
    faults: Arc<Faults>,
    pub(crate) server: Server,
}

impl Biz {
    pub(crate) fn start() -> Biz {
        let kubernetes = Kubernetes::new();
        kubernetes.load(vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        ]);
        kubernetes.accept_token(TOKEN, "multinic");
        let (journal, faults) = (Arc::new(Journal::new()), Arc::new(Faults::new()));
        let handler = Arc::clone(&kubernetes) as Arc<dyn Handler>;
        let (logged, failing) = (Arc::clone(&journal), Arc::clone(&faults));
        let server = Server::start(Service::Kubernetes, handler, logged, failing).unwrap();
        Biz { kubernetes, journal, faults, server }
    }

    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        kubeconfig(&format!("http://{}", self.server.address()), &format!("token: {token}"))
    }

    fn spec(&self, node: &str) -> Option<Value> {
        Some(self.kubernetes.get(KIND, NAMESPACE, node)?["spec"].clone())
    }

    /// Interface ids of a node by MAC address.
    fn ids(&self, node: &str) -> BTreeMap<String, u64> {
        let spec = self.spec(node).unwrap();
        let interfaces = spec["interfaces"].as_array().unwrap().iter();
        let pair = |one: &Value| {
            (one["macAddress"].as_str().unwrap().to_owned(), one["id"].as_u64().unwrap())
        };
        interfaces.map(pair).collect()
    }
}

fn kubeconfig(server: &str, user: &str) -> String {
    format!(
        "current-context: c\nclusters:\n- name: biz\n  cluster: {{server: '{server}'}}\ncontexts:\n\
         - name: c\n  context: {{cluster: biz, user: u}}\nusers:\n- name: u\n  user: {{{user}}}\n"
    )
}

/// Writes the Secret that Cluster API would have made.
pub(crate) fn put(world: &World, kubeconfig: &str) {
    put_in(world, &world.object().0, kubeconfig);
}

fn put_in(world: &World, namespace: &str, kubeconfig: &str) {
    let metadata = json!({"name": "biz-1-kubeconfig", "namespace": namespace});
    let data = json!({"value": STANDARD.encode(kubeconfig)});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
    world.kubernetes().apply_object(secret).unwrap();
}

pub(crate) fn world(kubeconfig: &str) -> World {
    let world = World::of("three-nodes");
    world.change_spec(json!({"credentials": {"k8sProviderID": "biz-1"}}));
    put(&world, kubeconfig);
    world
}

pub(crate) fn wait_for_polls(world: &World, count: usize) {
    let ports = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.target.contains("/ports?")).count()
    };
    let from = ports(&world.journal().all());
    assert!(world.journal().wait_for(|log| ports(log) >= from + count, SOON), "no more polls");
}

/// An object in the cluster as somebody else left it.
fn existing(node: &str, owner: &str, interfaces: Value) -> Value {
    json!({
        "apiVersion": "multinic.io/v1alpha1", "kind": KIND,
        "metadata": {"name": node, "namespace": NAMESPACE, "annotations": {OWNER: owner}},
        "spec": {"nodeName": node, "instanceId": "vm-of-before", "interfaces": interfaces},
    })
}

#[test]
fn nodes_become_objects_of_their_owner_and_unchanged_polls_ask_the_cluster_nothing() {
    let biz = Biz::start();
    let world = world(&biz.kubeconfig(TOKEN));
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    assert_eq!(world.journal().count(Service::Viola), 0);
    let (namespace, name) = world.object();
    let uid = world.kubernetes().get("OpenstackConfig", &namespace, &name).unwrap();
    let uid = uid["metadata"]["uid"].as_str().unwrap().to_owned();
    for (_, node, expected) in world.expected() {
        let object = biz.kubernetes.get(KIND, NAMESPACE, &node).unwrap();
        let metadata = &object["metadata"];
        assert_eq!(metadata["annotations"][OWNER], format!("{namespace}/{name}/{uid}"));
        assert_eq!(metadata["labels"]["multinic.io/provider-id"], "biz-1");
        assert_eq!(metadata["managedFields"][0]["manager"], "multinic-operator");
        let mut expected = expected;
        for interface in expected["interfaces"].as_array_mut().unwrap() {
            let fields = interface.as_object_mut().unwrap();
            fields.retain(|key, _| !["networkId", "subnetId"].contains(&&**key));
        }
        assert_eq!(object["spec"], expected);
    }
    operator
        .line_with(&format!("apply in cluster {namespace}/biz-1-kubeconfig: 3 nodes, 3 accepted"));
    let records: Value = serde_json::from_str(&operator.inventory("/v1/inventory/node-configs").1)
        .unwrap_or_default();
    assert!(!records.to_string().contains(TOKEN));
    let requests = biz.journal.all().len();
    wait_for_polls(&world, 4);
    assert_eq!(biz.journal.all().len(), requests);
    // Only by the kubeconfig's token, and nowhere else.
    let own = |request: &LoggedRequest| request.header("authorization").map(str::to_owned);
    for request in biz.journal.all() {
        assert_eq!(own(&request).as_deref(), Some(&*format!("Bearer {TOKEN}")));
        assert!(request.method != "DELETE");
    }
    for request in world.journal().all() {
        assert!(own(&request).is_none_or(|text| !text.contains(TOKEN)));
    }
    assert!(!operator.log().contains(TOKEN));
    let check = run(&world, &QUICK, operator.folder().path(), &["check"]);
    assert!(check.output.contains("3 MultiNicNodeConfigs"), "{}", check.output);
    biz.kubernetes
        .apply_object(existing("worker-9", &format!("{namespace}/gone/uid-9"), json!([])))
        .unwrap();
    let check = run(&world, &QUICK, operator.folder().path(), &["check"]);
    let orphan = "of no OpenstackConfig any more and never deleted: worker-9";
    assert!(check.output.contains(orphan), "{}", check.output);
}

#[test]
fn lost_memory_is_healed_by_the_ids_that_the_cluster_gives_macs() {
    let biz = Biz::start();
    let world = world(&biz.kubeconfig(TOKEN));
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    drop(operator.kill());
    let before = biz.ids("worker-0");
    assert!(before.len() > 1, "{before:?}");
    let last = u64::try_from(before.len()).unwrap() - 1;
    // As another program might have numbered them.
    let mut spec = biz.spec("worker-0").unwrap();
    for interface in spec["interfaces"].as_array_mut().unwrap() {
        let id = last - interface["id"].as_u64().unwrap();
        interface["id"] = json!(id);
        interface["name"] = json!(format!("multinic{id}"));
    }
    biz.kubernetes.patch(KIND, NAMESPACE, "worker-0", &json!({"spec": spec})).unwrap();
    let turned = biz.ids("worker-0");
    assert_ne!(before, turned);
    // Without its inventory, and with the status of before.
    let _operator = Operator::start(&world, &QUICK);
    wait_for_polls(&world, 3);
    world.wait_for_reason("NoChange");
    assert_eq!(biz.ids("worker-0"), turned);
}

#[test]
fn a_node_of_another_living_owner_is_not_written_and_one_of_a_dead_owner_is() {
    let biz = Biz::start();
    let world = world(&biz.kubeconfig(TOKEN));
    let (namespace, name) = world.object();
    let card = json!([{"macAddress": "fa:16:3e:00:99:99", "id": 0, "name": "multinic0"}]);
    for (node, owner) in [
        ("worker-0", "elsewhere/its-own/uid-1".to_owned()),
        ("worker-1", format!("{namespace}/deleted/uid-2")),
    ] {
        biz.kubernetes.apply_object(existing(node, &owner, card.clone())).unwrap();
    }
    let variables = [&QUICK[..], &[("WATCH_NAMESPACES", &*namespace)]].concat();
    let _operator = Operator::start(&world, &variables);
    let message = world.wait_for_reason("NodeConflict");
    let expected = "node worker-0 is managed by the OpenstackConfig elsewhere/its-own";
    assert!(message.contains(expected), "{message}");
    assert_eq!(biz.spec("worker-0").unwrap()["instanceId"], "vm-of-before");
    assert_ne!(biz.spec("worker-1").unwrap()["instanceId"], "vm-of-before");
    let annotation = json!({"metadata": {"annotations": {OWNER: null}}});
    biz.kubernetes.patch(KIND, NAMESPACE, "worker-0", &annotation).unwrap();
    world.wait_for_ready(|ready| ready["status"] == "True");
    let owner = biz.kubernetes.get(KIND, NAMESPACE, "worker-0").unwrap();
    let owner = owner["metadata"]["annotations"][OWNER].as_str().unwrap().to_owned();
    assert!(owner.starts_with(&format!("{namespace}/{name}/")), "{owner}");
}

#[test]
fn each_kind_of_trouble_with_a_cluster_is_named_and_nothing_is_lost() {
    let biz = Biz::start();
    let world = world(&biz.kubeconfig(TOKEN));
    biz.kubernetes.deny(Denial::new("patch", "multinicnodeconfigs"));
    let operator = Operator::start(&world, &QUICK);
    let (namespace, _) = world.object();
    let said = |text: &str| {
        world.wait_for_ready(|ready| {
            ready["reason"] == "DeliveryError"
                && ready["message"].as_str().is_some_and(|message| message.contains(text))
        });
        let message = world.ready().unwrap()["message"].as_str().unwrap().to_owned();
        assert!(
            message.starts_with(&format!("cluster {namespace}/biz-1-kubeconfig: ")),
            "{message}"
        );
        message
    };
    let message = said("cannot patch resource");
    assert!(message.contains("(not accepted: worker-0, worker-1, worker-2)"), "{message}");
    biz.kubernetes.allow_everything();
    world.wait_for_reason("NoChange");
    // One node alone is refused: the others go on.
    let status = |status: u16, text: &str| FaultKind::Status {
        status,
        headers: vec![("location".to_owned(), "http://127.0.0.1:1/".to_owned())],
        body: text.as_bytes().to_vec(),
    };
    let put_fault = |kind: FaultKind| {
        biz.faults.clear();
        biz.faults.add(Fault::always(Service::Kubernetes, kind));
        world.force(&format!("{:?}", std::time::Instant::now()));
    };
    put_fault(status(302, ""));
    said("302: redirects aren't followed");
    put_fault(status(200, "<html>inner s3cret page</html>"));
    said("the answer isn't one of a Kubernetes API");
    put_fault(status(403, "inner s3cret page"));
    said("403, which isn't an answer of a Kubernetes API");
    put_fault(FaultKind::Reset);
    said("the connection ended before the answer was complete");
    biz.faults.clear();
    world.wait_for_reason("NoChange");
    biz.kubernetes.remove_kind(KIND);
    world.force("no CRD");
    said("404: it doesn't serve MultiNicNodeConfigs");
    assert!(!operator.log().contains("s3cret"));
    let events = world.kubernetes().events();
    assert!(!format!("{events:?} {}", world.status()).contains("s3cret"));
}

#[test]
fn a_bad_kubeconfig_is_a_config_error_by_its_key_and_a_good_one_is_found_soon() {
    let biz = Biz::start();
    let server = format!("http://{}", biz.server.address());
    let world = world(&kubeconfig(&server, &format!("exec: {{command: {TOKEN}}}")));
    let operator = Operator::start(&world, &QUICK);
    let (namespace, _) = world.object();
    let message = world.wait_for_reason("ConfigError");
    let expected =
        format!("Secret {namespace}/biz-1-kubeconfig, value: users.user.exec (line 10) ");
    assert!(message.starts_with(&expected), "{message}");
    assert_eq!(biz.journal.all().len(), 0);
    put(&world, &biz.kubeconfig(TOKEN));
    world.force("now");
    world.wait_for_reason("NoChange");
    // The token is rotated, as Cluster API does it.
    biz.kubernetes.accept_token("rotated-t0ken", "multinic");
    biz.kubernetes.revoke_token(TOKEN);
    put(&world, &biz.kubeconfig("rotated-t0ken"));
    world.force("again");
    let is_rotated = |log: &[LoggedRequest]| {
        log.iter().any(|request| {
            request.method == "PATCH"
                && request.header("authorization") == Some("Bearer rotated-t0ken")
        })
    };
    assert!(biz.journal.wait_for(is_rotated, SOON), "the Secret wasn't read again");
    world.wait_for_ready(|ready| ready["status"] == "True");
    for secret in [TOKEN, "rotated-t0ken"] {
        assert!(!operator.log().contains(secret) && !world.status().to_string().contains(secret));
    }
}

#[test]
fn the_own_cluster_is_written_to_only_where_that_is_allowed() {
    let world = World::of("three-nodes");
    world.kubernetes().load(vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
    ]);
    world.change_spec(json!({"credentials": {"k8sProviderID": null}}));
    let operator = Operator::start(&world, &QUICK);
    let message = world.wait_for_reason("ConfigError");
    assert!(message.contains("OWN_CLUSTER=true"), "{message}");
    drop(operator.kill());
    let _operator = Operator::start(&world, &[&QUICK[..], &[("OWN_CLUSTER", "true")]].concat());
    world.wait_for_reason("NoChange");
    assert_eq!(world.kubernetes().objects(KIND).len(), 3);
    assert_eq!(world.journal().count(Service::Viola), 0);
}

#[test]
fn a_thousand_new_nodes_take_three_requests_each_and_seconds() {
    let biz = Biz::start();
    let world = World(Cloud::start(Population::new(10, 100, 1).scenario()).unwrap());
    for object in world.kubernetes().objects("OpenstackConfig") {
        let name = object["metadata"]["name"].as_str().unwrap();
        let spec = json!({"spec": {"credentials": {"k8sProviderID": "biz-1"}}});
        world.kubernetes().patch("OpenstackConfig", NAMESPACE_OF_OBJECTS, name, &spec).unwrap();
    }
    put_in(&world, NAMESPACE_OF_OBJECTS, &biz.kubeconfig(TOKEN));
    biz.faults.set_latency(Service::Kubernetes, Duration::from_millis(5));
    let started = Instant::now();
    let _operator = Operator::start(&world, &QUICK);
    let all = |view: &View<'_>| view.objects(KIND).len() == 1000;
    assert!(biz.kubernetes.wait_until(all, SOON), "{}", biz.kubernetes.objects(KIND).len());
    // 3,000 requests of 5 ms, eight at a time, take two seconds.
    println!("1,000 nodes in {:?}", started.elapsed());
    assert_eq!(biz.journal.all().iter().filter(|it| it.method == "PATCH").count(), 1000);
    // Lists and watches have a query.
    let is_read = |it: &&LoggedRequest| it.method == "GET" && !it.target.contains('?');
    assert_eq!(biz.journal.all().iter().filter(is_read).count(), 2000);
}
