//! What the recordings don't show: the services' rules, one by one.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{Answer, exchange};
use serde_json::{Value, json};
use simulated_cloud::{Cloud, NODE_CONFIGS, Scenario, Service, clock, encrypt};

const PROJECT: &str = "6f2c1b0e9d8a4c7bb1e5d43a2f908c61";
const NETWORK: &str = "5d0e8c1a-72b4-4f3e-9a16-c83b5e7f2d90";
const SUBNET: &str = "c1f4a7d2-0b95-4e68-8d3c-2a9e6b517f04";

fn vm(number: usize) -> String {
    format!("3b8f2c61-9d04-4e7a-a5c2-{number:012x}")
}

/// A cloud with so many servers, each with two ports, and an unattached port.
fn cloud_of(servers: usize) -> Cloud {
    let mut ports: Vec<Value> = (0..servers * 2)
        .map(|number| {
            json!({
                "id": format!("06780d21-73f0-41c5-b3e9-{number:012x}"),
                "mac_address": format!("fa:16:3e:00:{:02x}:{:02x}", number / 256, number % 256),
                "device_id": vm(number / 2),
                "fixed_ips": [{"subnet_id": SUBNET, "ip_address": format!("10.{}.{}.7", number / 256, number % 256)}],
            })
        })
        .collect();
    ports.push(json!({
        "id": "ffffffff-73f0-41c5-b3e9-000000000000",
        "mac_address": "fa:16:3e:ff:00:00",
        "fixed_ips": [{"subnet_id": SUBNET, "ip_address": "10.255.0.1"}],
    }));
    let servers: Vec<Value> = (0..servers)
        .map(|number| json!({"id": vm(number), "name": format!("worker-{number}")}))
        .collect();
    let cloud = json!({
        "providers": [{"id": "p1", "admin_password": "Adm1n-pässwörd!"}],
        "users": [{"id": "u1", "name": "admin", "password": "Adm1n-pässwörd!", "admin": true}],
        "projects": [{"id": PROJECT, "name": "demo"}],
        "networks": [{"id": NETWORK, "name": "tenant-net", "project_id": PROJECT}],
        "subnets": [{"id": SUBNET, "name": "tenant-subnet", "network_id": NETWORK, "cidr": "10.0.0.0/8"}],
        "servers": servers,
        "ports": ports,
    });
    Cloud::start(Scenario::from_json(cloud, Vec::new()).unwrap()).unwrap()
}

fn get(cloud: &Cloud, service: Service, target: &str, token: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n");
    exchange(&cloud.url(service), request.as_bytes()).unwrap()
}

fn post(cloud: &Cloud, service: Service, target: &str, headers: &str, body: &str) -> Answer {
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(&cloud.url(service), request.as_bytes()).unwrap()
}

fn log_in(cloud: &Cloud, domain: Value) -> Answer {
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "ADMIN", "domain": domain, "password": "Adm1n-pässwörd!",
        }}},
        "scope": {"project": {"id": PROJECT}},
    }});
    post(cloud, Service::Keystone, "/v3/auth/tokens", "", &body.to_string())
}

fn token(cloud: &Cloud) -> String {
    let answer = log_in(cloud, json!({"id": "default"}));
    answer.header("X-Subject-Token").unwrap().to_owned()
}

fn ids(answer: &Answer, collection: &str) -> Vec<String> {
    answer.json()[collection]
        .as_array()
        .unwrap()
        .iter()
        .map(|entity| entity["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn domain_names_match_in_any_case_and_domain_ids_exactly() {
    let cloud = cloud_of(1);
    for (domain, status) in [
        (json!({"id": "default"}), "HTTP/1.1 201 CREATED"),
        (json!({"name": "Default"}), "HTTP/1.1 201 CREATED"),
        (json!({"name": "default"}), "HTTP/1.1 201 CREATED"),
        (json!({"id": "Default"}), "HTTP/1.1 401 UNAUTHORIZED"),
    ] {
        assert_eq!(log_in(&cloud, domain.clone()).status_line, status, "{domain}");
    }
}

#[test]
fn a_revoked_token_is_refused_by_both_services() {
    let cloud = cloud_of(1);
    let token = token(&cloud);
    assert_eq!(get(&cloud, Service::Neutron, "/v2.0/ports", &token).status_line, "HTTP/1.1 200 OK");
    cloud.edit(|state| state.revoke_tokens());
    for (service, target) in [(Service::Neutron, "/v2.0/ports"), (Service::Nova, "/v2.1/servers")] {
        let answer = get(&cloud, service, target, &token);
        assert_eq!(answer.status_line, "HTTP/1.1 401 Unauthorized");
    }
}

#[test]
fn a_double_slash_is_redirected() {
    let cloud = cloud_of(1);
    let answer = post(&cloud, Service::Keystone, "/v3//auth/tokens", "", "{}");
    assert_eq!(answer.status_line, "HTTP/1.1 308 PERMANENT REDIRECT");
    assert_eq!(answer.header("Location"), Some("http://x/v3/auth/tokens"));
}

#[test]
fn an_empty_device_id_matches_unattached_ports_and_a_bare_one_nothing() {
    let cloud = cloud_of(2);
    let token = token(&cloud);
    let ports = |query: &str| {
        let target = format!("/v2.0/ports?{query}");
        ids(&get(&cloud, Service::Neutron, &target, &token), "ports").len()
    };
    assert_eq!(ports("device_id="), 1);
    assert_eq!(ports(&format!("device_id={}&device_id=", vm(0))), 3);
    assert_eq!(ports(&format!("device_id={}", vm(0).to_uppercase())), 2);
    assert_eq!(ports(&format!("device_id={},{}", vm(0), vm(1))), 0);
    assert_eq!(ports("device_id"), 5);
    assert_eq!(ports(&format!("device_id&device_id={}", vm(0))), 2);
}

#[test]
fn neutron_cuts_lists_that_nobody_wanted_cut() {
    let cloud = cloud_of(2);
    cloud.edit(|state| state.settings.pagination_max_limit = Some(3));
    let token = token(&cloud);
    let first = get(&cloud, Service::Neutron, "/v2.0/ports", &token);
    assert_eq!(ids(&first, "ports").len(), 3);
    let next = first.json()["ports_links"][0]["href"].as_str().unwrap().to_owned();
    let target = next.strip_prefix("http://x").unwrap();
    assert_eq!(ids(&get(&cloud, Service::Neutron, target, &token), "ports").len(), 2);
}

#[test]
fn nova_cuts_lists_at_its_maximum_and_knows_no_vanished_marker() {
    let cloud = cloud_of(3);
    cloud.edit(|state| state.settings.nova_max_limit = 2);
    let token = token(&cloud);
    let first = get(&cloud, Service::Nova, "/v2.1/servers/detail", &token);
    assert_eq!(ids(&first, "servers"), [vm(2), vm(1)]);
    let next = first.json()["servers_links"][0]["href"].as_str().unwrap().to_owned();
    let target = next.strip_prefix("http://x").unwrap();
    assert_eq!(ids(&get(&cloud, Service::Nova, target, &token), "servers"), [vm(0)]);
    cloud.edit(|state| state.servers.remove(&vm(1)));
    let gone = get(&cloud, Service::Nova, target, &token);
    assert_eq!(gone.status_line, "HTTP/1.1 400 Bad Request");
    let empty = get(&cloud, Service::Nova, "/v2.1/servers?limit=0", &token);
    assert!(ids(&empty, "servers").is_empty());
}

#[test]
fn contrabass_says_in_a_200_that_it_knows_no_such_provider() {
    let cloud = cloud_of(1);
    let path = "/v1/contrabass/admin/infra/provider";
    let known = get(&cloud, Service::Contrabass, &format!("{path}/p1"), "");
    let password = encrypt(b"multinic-demo-16", "p1", "Adm1n-pässwörd!").unwrap();
    assert_eq!(known.json()["data"]["attributes"]["adminPw"], password);
    assert_eq!(known.json()["data"]["url"], cloud.url(Service::Keystone));
    let unknown = get(&cloud, Service::Contrabass, &format!("{path}/p2"), "");
    assert_eq!(unknown.status_line, "HTTP/1.1 200 OK");
    assert_eq!(unknown.json()["returnCode"], "404");
}

/// A node with one interface; the test changes one field of it.
fn node(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut interface = json!({
        "id": 0, "name": "multinic0", "portId": "a", "macAddress": "fa:16:3e:00:00:01",
        "address": "10.0.0.5", "cidr": "10.0.0.0/24", "mtu": 1450, "networkId": "b", "subnetId": "c",
    });
    change(&mut interface);
    json!({"nodeName": name, "instanceId": "d", "interfaces": [interface]})
}

fn send(cloud: &Cloud, nodes: &[Value]) -> Answer {
    let headers = "x-provider-id: p1\r\nContent-Type: application/json\r\n";
    post(cloud, Service::Viola, NODE_CONFIGS, headers, &json!(nodes).to_string())
}

#[test]
fn viola_refuses_every_breach_of_the_contract() {
    let cloud = cloud_of(1);
    type Change = fn(&mut Value);
    let breaches: [Change; 8] = [
        |interface| interface["id"] = json!(10),
        |interface| interface["name"] = json!("multinic1"),
        |interface| interface["macAddress"] = json!("FA:16:3E:00:00:01"),
        |interface| interface["address"] = json!("10.0.1.5"),
        |interface| interface["mtu"] = json!(0),
        |interface| interface["portId"] = json!(""),
        |interface| interface["colour"] = json!("red"),
        |interface| interface["cidr"] = json!("10.0.0.0"),
    ];
    for (count, breach) in breaches.into_iter().enumerate() {
        let answer = send(&cloud, &[node("worker-0", breach)]);
        assert_eq!(answer.status_line, "HTTP/1.1 400 Bad Request", "breach {count}");
        assert_eq!(cloud.viola().violations().len(), count + 1);
    }
    let unsorted = [node("worker-1", |_| {}), node("worker-0", |_| {})];
    assert_eq!(send(&cloud, &unsorted).status_line, "HTTP/1.1 400 Bad Request");
    assert!(cloud.viola().current("p1").is_empty());
    assert!(cloud.viola().received().is_empty());
}

#[test]
fn viola_keeps_what_it_accepts_and_names_what_it_refuses() {
    let cloud = cloud_of(1);
    cloud.viola().refuse_node("worker-1", "no such node");
    let nodes = [node("worker-0", |_| {}), node("worker-1", |_| {})];
    let answer = send(&cloud, &nodes).json();
    assert_eq!(answer["applied"], 1);
    assert_eq!(answer["errors"], json!([{"nodeName": "worker-1", "error": "no such node"}]));
    assert_eq!(cloud.viola().current("p1").into_keys().collect::<Vec<_>>(), ["worker-0"]);
    cloud.viola().accept_all_nodes();
    cloud.viola().set_success_status(204);
    assert_eq!(send(&cloud, &nodes).status_line, "HTTP/1.1 204 No Content");
    assert_eq!(cloud.viola().current("p1").len(), 2);
    assert_eq!(cloud.viola().received().len(), 2);
}

#[test]
fn a_stopped_service_comes_back_on_its_port_with_what_it_held() {
    let cloud = cloud_of(1);
    send(&cloud, &[node("worker-0", |_| {})]);
    let address = cloud.url(Service::Viola);
    cloud.stop(Service::Viola);
    assert!(std::net::TcpStream::connect(address.trim_start_matches("http://")).is_err());
    cloud.start_again(Service::Viola).unwrap();
    assert_eq!(cloud.url(Service::Viola), address);
    let held = get(&cloud, Service::Viola, NODE_CONFIGS, "").json();
    assert_eq!(held["p1"]["worker-0"]["nodeName"], "worker-0");
}

#[test]
fn the_control_interface_changes_ports_and_servers_and_sets_faults() {
    let cloud = cloud_of(1);
    let port = "06780d21-73f0-41c5-b3e9-000000000000";
    let edit =
        |body: Value| post(&cloud, Service::Control, "/edit", "", &body.to_string()).status_line;
    let ok = "HTTP/1.1 200 OK";
    assert_eq!(edit(json!({"port": port, "status": "DOWN"})), ok);
    assert_eq!(edit(json!({"server": vm(0), "name": "renamed"})), ok);
    assert_eq!(edit(json!({"port": port, "colour": "red"})), "HTTP/1.1 400 Bad Request");
    cloud.edit(|state| {
        assert_eq!(state.ports.get(port).unwrap().status, "DOWN");
        assert_eq!(state.servers.get(&vm(0)).unwrap().1.name, "renamed");
    });
    assert_eq!(edit(json!({"remove_port": port})), ok);
    cloud.edit(|state| assert!(state.ports.get(port).is_none()));
    let fault = json!({"service": "viola", "kind": "status", "status": 500, "times": 1});
    post(&cloud, Service::Control, "/faults", "", &fault.to_string());
    assert_eq!(send(&cloud, &[]).status_line, "HTTP/1.1 500 Internal Server Error");
    let requests = get(&cloud, Service::Control, "/requests?service=viola", "").json();
    assert_eq!(requests[0]["status"], 500);
}

#[test]
fn three_thousand_servers_are_no_trouble() {
    let cloud = Arc::new(cloud_of(3000));
    let token = token(&cloud);
    let begin = clock::instant();
    for first in (0..3000).step_by(50) {
        let query: String =
            (first..first + 50).map(|number| format!("&device_id={}", vm(number))).collect();
        let target = format!("/v2.0/ports?project_id={PROJECT}{query}");
        assert_eq!(ids(&get(&cloud, Service::Neutron, &target, &token), "ports").len(), 100);
    }
    // A linear search per device would take minutes.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

/// Measured with Keystone 22: only such a token says how it came to be.
#[test]
fn an_application_credential_logs_in_to_its_project_by_id_or_by_name_and_user() {
    let cloud = cloud_of(1);
    let credential = json!({"id": "a1", "name": "multinic", "secret": "app-secret",
        "user_id": "u1", "project_id": PROJECT});
    cloud.edit(|state| {
        state.application_credentials = vec![serde_json::from_value(credential).unwrap()];
    });
    let log_in = |named: Value| {
        let body = json!({"auth": {"identity": {
            "methods": ["application_credential"], "application_credential": named}}});
        let content = "Content-Type: application/json\r\n";
        post(&cloud, Service::Keystone, "/v3/auth/tokens", content, &body.to_string())
    };
    for named in [
        json!({"id": "a1", "secret": "app-secret"}),
        json!({"name": "multinic", "secret": "app-secret", "user": {"id": "u1"}}),
        json!({"name": "multinic", "secret": "app-secret",
            "user": {"name": "admin", "domain": {"name": "Default"}}}),
    ] {
        let answer = log_in(named);
        let token = &answer.json()["token"];
        assert_eq!(token["methods"], json!(["application_credential"]));
        assert_eq!(token["project"]["id"], PROJECT);
        assert!(token["catalog"].is_array());
        let credential = json!({"id": "a1", "name": "multinic", "restricted": true});
        assert_eq!(token["application_credential"], credential);
    }
    cloud.edit(|state| state.users[0].projects = Some(Vec::new()));
    assert_eq!(log_in(json!({"id": "a1", "secret": "app-secret"})).status(), 401);
}
