//! The stand-in for Viola as a process of its own, against the simulated Kubernetes API.

mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_operator::config::Config;
use multinic_operator::http::client::Clients;
use multinic_operator::node_config::NodeConfig;
use multinic_operator::targets::viola::Viola;
use serde_json::{Value, json};
use simulated_cloud::kubernetes::Denial;
use simulated_cloud::{Fault, FaultKind, NODE_CONFIGS, Service};

use self::process::{NAMESPACE, PROGRAM, Stand};
use crate::inventory::client::{connect, read_answer};
use crate::process::SOON;

fn node(name: &str, address: &str) -> Value {
    json!({
        "nodeName": name,
        "instanceId": format!("vm-{name}"),
        "interfaces": [{
            "id": 0, "name": "multinic0", "portId": format!("port-{name}"),
            "macAddress": "fa:16:3e:00:00:01", "address": address, "cidr": "10.10.0.0/16",
            "mtu": 1450, "networkId": "network", "subnetId": "subnet",
        }],
    })
}

/// What is applied of a node: a key that the agent's CRD doesn't declare would fail the whole object.
fn spec(name: &str, address: &str) -> Value {
    let mut spec = node(name, address);
    let interface = spec["interfaces"][0].as_object_mut().unwrap();
    interface.retain(|key, _| !["networkId", "subnetId"].contains(&&**key));
    spec
}

fn three_nodes() -> Value {
    json!([
        node("worker-1", "10.10.0.1"),
        node("worker-2", "10.10.0.2"),
        node("worker-3", "10.10.0.3"),
    ])
}

fn lines(words: &[(&str, &str)]) -> String {
    let line =
        |(name, word): &(&str, &str)| format!("multinicnodeconfig.multinic.io/{name} {word}\n");
    words.iter().map(line).collect()
}

#[test]
fn nodes_become_objects_with_labels_and_spec_and_kubectls_words_say_what_changed() {
    let stand = Stand::start();
    let mut nodes = three_nodes();
    nodes[0]["later"] = json!("unknown fields go no further");
    let created = [("worker-1", "created"), ("worker-2", "created"), ("worker-3", "created")];
    let answer = (200, json!({ "applied": 3, "output": lines(&created) }));
    assert_eq!(stand.post(&nodes, Some("biz-1")), answer);

    let object = stand.object("worker-1").unwrap();
    assert_eq!(object["apiVersion"], "multinic.io/v1alpha1");
    assert_eq!(object["spec"], spec("worker-1", "10.10.0.1"));
    assert_eq!(object.get("status"), None);
    let labels = json!({
        "multinic.io/node-name": "worker-1",
        "multinic.io/instance-id": "vm-worker-1",
        "multinic.io/provider-id": "biz-1",
    });
    assert_eq!(object["metadata"]["labels"], labels);
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers.len(), 1);
    assert_eq!(managers[0]["manager"], "viola-test-api");
    assert_eq!(managers[0]["operation"], "Apply");

    nodes[1] = node("worker-2", "10.10.0.22");
    let second = [("worker-1", "unchanged"), ("worker-2", "configured"), ("worker-3", "unchanged")];
    let answer = (200, json!({ "applied": 3, "output": lines(&second) }));
    assert_eq!(stand.post(&nodes, Some("biz-1")), answer);
    let spec = &stand.object("worker-2").unwrap()["spec"];
    assert_eq!(spec["interfaces"][0]["address"], "10.10.0.22");
}

#[test]
fn another_provider_or_another_hand_on_the_object_is_a_change_and_the_agents_status_is_none() {
    let stand = Stand::start();
    let nodes = json!([node("worker-1", "10.10.0.1")]);
    let word = |provider_id| {
        let (status, body) = stand.post(&nodes, provider_id);
        assert_eq!(status, 200, "{body}");
        let output = body["output"].as_str().unwrap();
        output.trim_end().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(word(Some("biz-1")), "created");
    assert_eq!(word(Some("biz-2")), "configured");
    let status = json!({ "status": { "state": "Configured" } });
    let kind = "MultiNicNodeConfig";
    stand.kubernetes.patch_status(kind, NAMESPACE, "worker-1", &status).unwrap();
    assert_eq!(word(Some("biz-2")), "unchanged");
    assert_eq!(stand.object("worker-1").unwrap()["status"], status["status"]);
    assert_eq!(word(None), "configured");
    let labels = stand.object("worker-1").unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels.get("multinic.io/provider-id"), None);

    let other = json!({ "spec": { "instanceId": "another" } });
    stand.kubernetes.patch(kind, NAMESPACE, "worker-1", &other).unwrap();
    assert_eq!(word(None), "configured");
    assert_eq!(stand.object("worker-1").unwrap()["spec"], spec("worker-1", "10.10.0.1"));
    stand.kubernetes.delete(kind, NAMESPACE, "worker-1").unwrap();
    assert_eq!(word(None), "created");
}

#[test]
fn what_is_not_valid_is_refused_with_its_place_and_nothing_is_applied() {
    let stand = Stand::start();
    let mut nodes = three_nodes();
    nodes[1]["interfaces"][0]["macAddress"] = json!("fa:16");
    let (status, body) = stand.post(&nodes, None);
    assert_eq!(status, 400);
    let error = body["error"].as_str().unwrap();
    assert!(error.starts_with("[1].interfaces[0].macAddress: \"fa:16\" is no MAC"), "{error}");
    let (status, body) = stand.post(&json!({ "nodes": [] }), None);
    assert_eq!(status, 400);
    assert!(body["error"].as_str().unwrap().contains("JSON array"), "{body}");
    assert_eq!(stand.journal.count(Service::Kubernetes), 0);
}

#[test]
fn nodes_that_fail_are_named_and_the_operators_client_takes_the_others_as_accepted() {
    let stand = Stand::start();
    let refused =
        FaultKind::Status { status: 500, headers: Vec::new(), body: b"etcd is full".to_vec() };
    stand.faults.add(Fault::always(Service::Kubernetes, refused).path_contains("/worker-2?"));
    let (status, body) = stand.post(&three_nodes(), None);
    assert_eq!(status, 200);
    assert_eq!(body["applied"], 2);
    assert_eq!(body["output"], lines(&[("worker-1", "created"), ("worker-3", "created")]));
    let errors = body["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[0]["nodeName"]), (1, &json!("worker-2")));
    assert!(errors[0]["error"].as_str().unwrap().contains("etcd is full"), "{body}");

    let endpoint = format!("http://{}", stand.address);
    let config = Config::read(|name| match name {
        "VIOLA_ENDPOINT" => Some(endpoint.clone()),
        "KUBE_API_URL" => Some("http://127.0.0.1:1".to_owned()),
        _ => None,
    });
    let config = config.unwrap();
    let viola = Viola::new(&config, &Clients::new(&Arc::default()));
    let nodes: Vec<NodeConfig> = serde_json::from_value(three_nodes()).unwrap();
    let nodes: Vec<&NodeConfig> = nodes.iter().collect();
    let delivery = viola.deliver(&config.settings, "biz-1", std::slice::from_ref(&nodes), &|| true);
    let accepted: Vec<&str> = delivery.accepted.iter().map(String::as_str).collect();
    assert_eq!(accepted, ["worker-1", "worker-3"]);
    assert_eq!(delivery.problems.len(), 1, "{:?}", delivery.problems);
    assert_eq!(delivery.problems[0].nodes, ["worker-2"]);
}

#[test]
fn when_nothing_could_be_applied_the_answer_is_500_and_says_why() {
    let stand = Stand::start();
    stand.kubernetes.deny(Denial::new("patch", "multinicnodeconfigs"));
    let (status, body) = stand.post(&three_nodes(), None);
    assert_eq!(status, 500);
    let error = body["error"].as_str().unwrap();
    assert!(error.starts_with("none of 3 nodes could be applied: "), "{error}");
    assert!(error.contains("cannot patch resource \"multinicnodeconfigs\""), "{error}");
    assert_eq!(body["errors"].as_array().unwrap().len(), 3);

    stand.kubernetes.allow_everything();
    stand.kubernetes.remove_kind("MultiNicNodeConfig");
    let (status, body) = stand.post(&three_nodes(), None);
    assert_eq!(status, 500);
    assert!(body["error"].as_str().unwrap().contains("CRD may not be installed"), "{body}");
}

#[test]
fn a_server_in_trouble_is_not_asked_once_more_for_each_node() {
    let stand = Stand::start();
    let kind = FaultKind::Html { status: 503 };
    stand.faults.add(Fault::always(Service::Kubernetes, kind));
    let nodes: Vec<Value> = (0..200).map(|n| node(&format!("worker-{n}"), "10.10.0.1")).collect();
    let (status, body) = stand.post(&Value::Array(nodes), None);
    assert_eq!((status, body["errors"].as_array().unwrap().len()), (500, 200));
    // At most one for each of the applies that run side by side.
    assert!(stand.journal.count(Service::Kubernetes) <= 8);
}

#[test]
fn the_token_is_shown_and_a_rotated_one_is_used_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "first-token\n").unwrap();
    let stand = Stand::start_with(&[("KUBE_TOKEN_FILE", path.to_str().unwrap())]);
    stand.kubernetes.accept_token("first-token", "viola-test-api");
    let nodes = json!([node("worker-1", "10.10.0.1")]);
    assert_eq!(stand.post(&nodes, None).0, 200);
    stand.kubernetes.revoke_token("first-token");
    stand.kubernetes.accept_token("second-token", "viola-test-api");
    let (status, body) = stand.post(&nodes, None);
    assert_eq!(status, 500);
    assert!(body["error"].as_str().unwrap().contains("401"), "{body}");
    std::fs::write(&path, "second-token\n").unwrap();
    assert_eq!(stand.post(&nodes, None).0, 200);
}

#[test]
fn violas_documented_payload_is_taken() {
    let stand = Stand::start();
    let payload = json!([{
        "nodeName": "worker-1",
        "instanceId": "3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4",
        "interfaces": [{
            "id": 0, "name": "multinic0", "macAddress": "FA:16:3E:1F:0A:10",
            "address": "10.20.0.11", "cidr": "10.20.0.0/24", "mtu": 1450,
        }],
    }]);
    let answer = (200, json!({ "applied": 1, "output": lines(&[("worker-1", "created")]) }));
    assert_eq!(stand.post(&payload, Some("biz-1")), answer);
    assert_eq!(stand.object("worker-1").unwrap()["spec"], payload[0]);
}

#[test]
fn a_node_that_the_crd_refuses_is_named_with_the_api_servers_reason() {
    // As recorded from a real API server, with the agent's CRD.
    let reason = "MultiNicNodeConfig.multinic.io \"worker-2\" is invalid: spec.interfaces[0].mtu: \
                  Invalid value: 9216: spec.interfaces[0].mtu in body should be less than or equal \
                  to 9000";
    let stand = Stand::start();
    let mut nodes = three_nodes();
    nodes[1]["interfaces"][0]["mtu"] = json!(9216);
    let (status, body) = stand.post(&nodes, None);
    assert_eq!((status, &body["applied"]), (200, &json!(2)));
    let errors = body["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[0]["nodeName"]), (1, &json!("worker-2")));
    assert!(errors[0]["error"].as_str().unwrap().contains(reason), "{body}");
}

/// The head of a request up to the headers that a test is about.
fn head(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: h\r\n")
}

#[test]
fn requests_that_are_wrong_as_http_are_answered_in_json() {
    let stand = Stand::start();
    let post = head("POST", NODE_CONFIGS);
    let many = "A: a\r\n".repeat(70);
    let cases = [
        (format!("{post}Content-Length: 4194305\r\n\r\n"), 413),
        (format!("{post}Content-Length: 99999999999999999999999999\r\n\r\n"), 413),
        (format!("{post}Content-Length: -1\r\n\r\n"), 400),
        (format!("{post}Content-Length: +1\r\n\r\n"), 400),
        (format!("{post}Content-Length: 0x10\r\n\r\n"), 400),
        (format!("{post}Content-Length: 1, 1\r\n\r\n"), 400),
        (format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400),
        (format!("{post}Transfer-Encoding: chunked\r\n\r\n"), 411),
        (format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"), 411),
        (format!("{post}\r\n"), 411),
        (format!("{post}{many}\r\n"), 431),
        (format!("{}\r\n", head("GET", NODE_CONFIGS)), 405),
        (format!("{}Content-Length: 2\r\n\r\n{{}}", head("POST", "/healthz")), 405),
        (format!("{}Content-Length: 2\r\n\r\n{{}}", head("GET", NODE_CONFIGS)), 413),
        (format!("{}\r\n", head("DELETE", NODE_CONFIGS)), 405),
        (format!("{}\r\n", head("GET", "/")), 404),
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000)), 414),
    ];
    for (request, expected) in cases {
        let answer = stand.raw(request.as_bytes());
        assert_eq!(answer.status, expected, "{request:.100}: {}", answer.json());
        assert!(!answer.error().is_empty());
        let content_type = answer.header("Content-Type");
        assert!(content_type.is_some_and(|kind| kind.starts_with("application/json")));
        assert_eq!(answer.header("Allow").is_some(), expected == 405, "{answer:?}");
    }
    let get = format!("{}\r\n", head("GET", "/healthz?full"));
    let answer = stand.raw(get.as_bytes());
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
}

#[test]
fn a_body_is_read_to_its_end_and_no_further_and_the_connection_is_kept() {
    let stand = Stand::start();
    let mut client = connect(stand.address);
    let post = head("POST", NODE_CONFIGS);
    let body = three_nodes().to_string();
    let length = body.len();
    let expecting = format!("{post}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n");
    client.write_all(expecting.as_bytes()).unwrap();
    let mut told = [0; 25];
    client.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    // The body comes in pieces, and the next request right behind it.
    let rest = format!("{body}{post}Content-Length: 2\r\n\r\n[]");
    for piece in rest.as_bytes().chunks(100) {
        client.write_all(piece).unwrap();
    }
    for applied in [3, 0] {
        let answer = read_answer(&mut client, false).unwrap();
        assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(applied)));
        assert_ne!(answer.header("Connection"), Some("close"));
    }
}

#[test]
fn a_huge_declared_length_costs_nothing_and_a_body_beyond_the_limit_still_gets_its_answer() {
    let stand = Stand::start();
    for target in ["GET /healthz", "POST /v1/k8s/multinic/node-configs", "POST /"] {
        let request =
            format!("{target} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000000000\r\n\r\n");
        assert_eq!(stand.raw(request.as_bytes()).status, 413, "{target}");
    }
    let post = head("POST", NODE_CONFIGS);
    let mut request = format!("{post}Content-Length: 6000000\r\n\r\n").into_bytes();
    request.resize(request.len() + 6_000_000, b' ');
    assert_eq!(stand.raw(&request).status, 413);

    // Just below the limit it is read to its end.
    let mut body = three_nodes().to_string().into_bytes();
    body.resize(4 * 1024 * 1024, b' ');
    let mut request = format!("{post}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(&body);
    let answer = stand.raw(&request);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_client_that_stalls_costs_the_others_nothing() {
    let stand = Stand::start();
    let mut stalled = TcpStream::connect(stand.address).unwrap();
    let head = format!("{}Content-Length: 100\r\n\r\n[", head("POST", NODE_CONFIGS));
    stalled.write_all(head.as_bytes()).unwrap();
    let silent = TcpStream::connect(stand.address).unwrap();
    let (status, _) = stand.post(&three_nodes(), None);
    assert_eq!(status, 200);
    drop((stalled, silent));
}

#[test]
fn sigterm_ends_it_promptly_with_exit_code_0_also_amid_a_request() {
    let stand = Stand::start();
    stand.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    let body = three_nodes().to_string();
    let mut client = TcpStream::connect(stand.address).unwrap();
    let head = format!("{}Content-Length: {}\r\n\r\n", head("POST", NODE_CONFIGS), body.len());
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(body.as_bytes()).unwrap();
    assert!(stand.journal.wait_for(|requests| !requests.is_empty(), SOON));
    let started = Instant::now();
    let status = stand.stop();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let mut rest = Vec::new();
    // An end or a reset: either way there is no answer that could be taken for one.
    let _ = client.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

#[test]
fn bad_settings_are_told_in_one_report_with_exit_code_2() {
    let output = Command::new(PROGRAM)
        .env_clear()
        .envs([("LISTEN_ADDR", "nowhere"), ("TARGET_NAMESPACE", "Multi_Nic")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let report = String::from_utf8(output.stderr).unwrap();
    for part in ["has 3 problems", "LISTEN_ADDR: ", "TARGET_NAMESPACE: ", "KUBE_API_URL: "] {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn a_port_that_is_taken_is_told_with_exit_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(PROGRAM)
        .env_clear()
        .envs([("LISTEN_ADDR", address.as_str()), ("KUBE_API_URL", "http://127.0.0.1:1")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("can't listen on"), "{log}");
}
