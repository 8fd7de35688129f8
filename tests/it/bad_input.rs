//! Whatever a service says, it is one clear reason on the object it concerns, other objects go on,
//! and nothing wrong is ever sent.

use std::sync::Mutex;

use serde_json::{Value, json};
use simulated_cloud::{Cloud, Fault, FaultKind, Scenario, Service};

use super::process::{Operator, fixtures};
use super::world::{World, ready_of};

/// One way to be answered badly, and what must come of it.
struct Case {
    name: &'static str,
    service: Service,
    path: &'static str,
    kind: FaultKind,
    reason: &'static str,
    /// Must be in the message.
    says: &'static str,
}

fn case(
    name: &'static str,
    (service, path): (Service, &'static str),
    kind: FaultKind,
    reason: &'static str,
    says: &'static str,
) -> Case {
    Case { name, service, path, kind, reason, says }
}

fn body(value: &Value) -> FaultKind {
    FaultKind::Body(value.to_string().into_bytes())
}

fn status(status: u16, value: &Value) -> FaultKind {
    FaultKind::Status { status, headers: Vec::new(), body: value.to_string().into_bytes() }
}

const PROVIDER: (Service, &str) = (Service::Contrabass, "/provider/");
const TOKENS: (Service, &str) = (Service::Keystone, "/auth/tokens");
const SUBNET: (Service, &str) = (Service::Neutron, "/subnets/");
const NETWORK: (Service, &str) = (Service::Neutron, "/networks/");
const PORTS: (Service, &str) = (Service::Neutron, "/ports");
const SERVERS: (Service, &str) = (Service::Nova, "/servers");
const VIOLA: (Service, &str) = (Service::Viola, "/node-configs");

#[rustfmt::skip] // a table reads better with one row a line
fn cases() -> Vec<Case> {
    let html = || FaultKind::Html { status: 200 };
    let port = |change: Value| {
        let mut port = json!({"id": "6354868d-f9b9-4574-9672-af08b0d88eea",
            "device_id": "3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4", "mac_address": "fa:16:3e:1f:0a:10",
            "status": "ACTIVE", "network_id": "5d0e8c1a-72b4-4f3e-9a16-c83b5e7f2d90",
            "fixed_ips": [{"subnet_id": "c1f4a7d2-0b95-4e68-8d3c-2a9e6b517f04", "ip_address": "10.20.0.10"}]});
        for (key, value) in change.as_object().unwrap() {
            port[key] = value.clone();
        }
        json!({"ports": [port]})
    };
    vec![
        case("provider: HTML", PROVIDER, html(), "ContrabassError", "HTML"),
        case("provider: 500", PROVIDER, status(500, &json!({"returnMessage": "broken"})), "ContrabassError", "HTTP 500: broken"),
        case("provider: an error in a 200", PROVIDER, body(&json!({"returnCode": "404", "returnMessage": "NO_SUCH", "data": null})), "ContrabassError", "returnCode 404: NO_SUCH"),
        case("provider: null data", PROVIDER, body(&json!({"returnCode": "200", "data": null})), "ContrabassError", "no data"),
        case("provider: wrong types", PROVIDER, body(&json!({"returnCode": "200", "data": {"url": 5}})), "ContrabassError", "can't be read"),
        case("provider: an array", PROVIDER, body(&json!([])), "ContrabassError", "can't be read"),
        case("provider: cut body", PROVIDER, FaultKind::CutBody { after_bytes: 60 }, "ContrabassError", "before the answer was complete"),
        case("provider: cut body without a length", PROVIDER, FaultKind::CutBodyUntilClose { after_bytes: 60 }, "ContrabassError", "ends early"),
        case("provider: short ciphertext", PROVIDER, body(&json!({"returnCode": "200", "data": {"url": "http://127.0.0.1:1", "attributes": {"adminId": "a", "adminPw": "AAAA"}}})), "ContrabassError", "can't be decrypted"),
        case("provider: reset", PROVIDER, FaultKind::Reset, "ContrabassError", "ended before the answer"),
        case("provider: nothing at all", PROVIDER, FaultKind::CloseWithoutAnswer, "ContrabassError", "ended before the answer"),
        case("provider: silence", PROVIDER, FaultKind::Hang, "ContrabassError", "timed out"),
        case("provider: nested absurdly deep", PROVIDER, FaultKind::Body([b'['; 100_000].to_vec()), "ContrabassError", "can't be read"),
        case("keystone: HTML", TOKENS, FaultKind::Html { status: 503 }, "KeystoneError", "HTTP 503"),
        case("keystone: redirect", TOKENS, FaultKind::Status { status: 308, headers: vec![("Location".into(), "http://127.0.0.1:1/v3/auth/tokens".into())], body: Vec::new() }, "KeystoneError", "HTTP 308 (redirects aren't followed"),
        case("keystone: no token header", TOKENS, status(201, &json!({"token": {"expires_at": "2099-01-01T00:00:00.000000Z"}})), "KeystoneError", "X-Subject-Token"),
        case("keystone: empty catalog", TOKENS, FaultKind::Status { status: 201, headers: vec![("X-Subject-Token".into(), "t".into())], body: json!({"token": {"expires_at": "2099-01-01T00:00:00.000000Z", "catalog": []}}).to_string().into_bytes() }, "NeutronEndpointError", "it is empty"),
        case("keystone: no catalog", TOKENS, FaultKind::Status { status: 201, headers: vec![("X-Subject-Token".into(), "t".into())], body: json!({"token": {"expires_at": "2099-01-01T00:00:00.000000Z"}}).to_string().into_bytes() }, "KeystoneError", "the token has no catalog"),
        case("keystone: no expiry", TOKENS, FaultKind::Status { status: 201, headers: vec![("X-Subject-Token".into(), "t".into())], body: b"{\"token\": {}}".to_vec() }, "KeystoneError", "expires_at"),
        case("subnet: 500", SUBNET, status(500, &json!({"NeutronError": {"type": "X", "message": "boom", "detail": ""}})), "NeutronSubnetError", "HTTP 500: boom"),
        case("subnet: 404 of the path, not of the subnet", SUBNET, FaultKind::Html { status: 404 }, "NeutronSubnetError", "HTTP 404"),
        case("subnet: another one", SUBNET, body(&json!({"subnet": {"id": "x", "network_id": "n", "cidr": "10.0.0.0/8"}})), "NeutronSubnetError", ": answered with subnet x"),
        case("subnet: null fields", SUBNET, body(&json!({"subnet": {"id": "c1f4a7d2-0b95-4e68-8d3c-2a9e6b517f04", "network_id": null, "cidr": null}})), "NeutronSubnetError", "can't be read"),
        case("network: no MTU", NETWORK, body(&json!({"network": {"id": "5d0e8c1a-72b4-4f3e-9a16-c83b5e7f2d90", "mtu": 0}})), "NeutronSubnetError", "MTU"),
        case("network: MTU of another type", NETWORK, body(&json!({"network": {"id": "5d0e8c1a-72b4-4f3e-9a16-c83b5e7f2d90", "mtu": "big"}})), "NeutronSubnetError", "can't be read"),
        case("ports: key is missing", PORTS, body(&json!({})), "NeutronPortError", "missing field `ports`"),
        case("ports: null", PORTS, body(&json!({"ports": null})), "NeutronPortError", "can't be read"),
        case("ports: a next page without a marker", PORTS, body(&json!({"ports": [], "ports_links": [{"rel": "next", "href": "http://127.0.0.1:1/v2.0/ports?page=2"}]})), "NeutronPortError", "has no marker"),
        case("ports: HTML", PORTS, html(), "NeutronPortError", "HTML"),
        case("ports: cut body", PORTS, FaultKind::CutBody { after_bytes: 200 }, "NeutronPortError", "before the answer was complete"),
        case("ports: cut body without a length", PORTS, FaultKind::CutBodyUntilClose { after_bytes: 200 }, "NeutronPortError", "ends early"),
        case("ports: too long a request", PORTS, FaultKind::Status { status: 414, headers: Vec::new(), body: Vec::new() }, "NeutronPortError", "HTTP 414"),
        case("ports: MAC is none", PORTS, body(&port(json!({"mac_address": "unknown"}))), "NeutronPortError", "no MAC address"),
        case("ports: address is none", PORTS, body(&port(json!({"fixed_ips": [{"subnet_id": "c1f4a7d2-0b95-4e68-8d3c-2a9e6b517f04", "ip_address": "10.20.0"}]}))), "NeutronPortError", "no IP address"),
        case("ports: null MAC", PORTS, body(&port(json!({"mac_address": null}))), "NeutronPortError", "is no MAC address"),
        case("ports: addresses of another type", PORTS, body(&port(json!({"fixed_ips": "10.20.0.10"}))), "NeutronPortError", "can't be read"),
        case("servers: 500", SERVERS, status(500, &json!({"computeFault": {"code": 500, "message": "no cell"}})), "NovaError", "HTTP 500: no cell"),
        case("servers: HTML", SERVERS, html(), "NovaError", "HTML"),
        case("servers: no name", SERVERS, body(&json!({"servers": [], "server": {"id": "3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4", "status": "UNKNOWN"}})), "NovaError", "the answer has no `name`"),
        case("servers: silence", SERVERS, FaultKind::Hang, "NovaError", "timed out"),
        case("servers: 404 of the path, not of a server", SERVERS, FaultKind::Html { status: 404 }, "NovaError", "HTTP 404"),
        case("viola: 500", VIOLA, status(500, &json!({"error": "apply failed"})), "ViolaPostError", "HTTP 500: apply failed"),
        case("viola: 400", VIOLA, status(400, &json!({"error": "bad nodeName"})), "ViolaPostError", "HTTP 400: bad nodeName"),
        case("viola: 404", VIOLA, FaultKind::Html { status: 404 }, "ViolaPostError", "HTTP 404"),
        case("viola: errors without names", VIOLA, body(&json!({"errors": ["no"]})), "ViolaPostError", "refused a node that wasn't sent: no"),
        case("viola: cut body", VIOLA, FaultKind::CutBody { after_bytes: 5 }, "ViolaPostError", "before the answer was complete"),
        case("viola: cut body without a length", VIOLA, FaultKind::CutBodyUntilClose { after_bytes: 5 }, "ViolaPostError", "can't be read"),
        case("viola: silence", VIOLA, FaultKind::Hang, "ViolaPostError", "timed out"),
        case("viola: reset", VIOLA, FaultKind::Reset, "ViolaPostError", "ended before the answer"),
    ]
}

/// Times that make a hang and a recovery quick.
const QUICK: [(&str, &str); 7] = [
    ("CONTRABASS_TIMEOUT", "700ms"),
    ("OPENSTACK_TIMEOUT", "700ms"),
    ("VIOLA_TIMEOUT", "700ms"),
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
];

#[test]
fn every_bad_answer_is_one_clear_reason_and_heals_when_the_service_does() {
    let waiting = Mutex::new(cases().into_iter());
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = { waiting.lock().unwrap().next() } {
                    let run = std::panic::AssertUnwindSafe(|| plays_out(&case));
                    match std::panic::catch_unwind(run) {
                        Ok(Ok(())) => {}
                        Ok(Err(problem)) => {
                            problems.lock().unwrap().push(format!("{}: {problem}", case.name));
                        }
                        Err(_) => problems.lock().unwrap().push(format!("{}: failed", case.name)),
                    }
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn plays_out(case: &Case) -> Result<(), String> {
    let world = World::of("three-nodes");
    let fault = Fault::always(case.service, case.kind.clone()).path_contains(case.path);
    world.faults().add(fault);
    let _operator = Operator::start(&world, &QUICK);
    let message = world.wait_for_reason(case.reason);
    if !message.contains(case.says) {
        return Err(format!("{:?} isn't in {message:?}", case.says));
    }
    let before_viola = case.service != Service::Viola;
    if before_viola && !world.viola().received().is_empty() {
        return Err("something was sent to Viola".to_owned());
    }
    world.faults().clear();
    // What Viola took without our knowing is sent again; any success will do.
    let (namespace, name) = world.object();
    let healed = world.kubernetes().wait_until(
        |view| {
            let object = view.get("OpenstackConfig", &namespace, &name).unwrap_or_default();
            ready_of(&object).is_some_and(|ready| ready["status"] == "True")
        },
        super::process::SOON,
    );
    if !healed {
        return Err(format!("it didn't heal: {}", world.status()));
    }
    if world.held() != world.expected() {
        return Err(format!("after that Viola holds {:?}", world.held()));
    }
    Ok(())
}

#[test]
fn equal_failures_give_equal_messages_and_no_hot_loop() {
    let world = World::of("three-nodes");
    world.faults().add(Fault::always(Service::Contrabass, FaultKind::Reset));
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("ContrabassError");
    let enough = |log: &[simulated_cloud::LoggedRequest]| {
        log.iter().filter(|request| request.service == Service::Contrabass).count() >= 12
    };
    assert!(world.journal().wait_for(enough, super::process::SOON));
    let requests = world.journal().requests(Service::Contrabass);
    let took = requests.last().unwrap().arrived_ms - requests[0].arrived_ms;
    // Each poll asks twice: a reset may have been a stale connection. Six polls, five waits.
    assert!(took >= 4 * 200, "12 requests within {took} ms");
    let statuses = world.kubernetes().writes();
    let key = ("openstackconfigs/status".to_owned(), "patch".to_owned());
    assert_eq!(statuses.get(&key), Some(&1), "a status that doesn't change was written again");
}

#[test]
fn an_object_that_breaks_the_schema_says_so_and_the_others_go_on() {
    let mut scenario = Scenario::load(&fixtures().join("three-nodes")).unwrap();
    let good = scenario.objects[0].clone();
    let broken: [(&str, Value); 6] = [
        ("no-spec", Value::Null),
        ("text-for-a-list", json!({"vmNames": "worker-0"})),
        ("null-vms", json!({"vmNames": null})),
        ("blank-vms", json!({"vmNames": ["", " "]})),
        ("no-credentials", json!({"credentials": null})),
        ("blank-project", json!({"credentials": {"openstackProviderID": "p", "projectID": " "}})),
    ];
    for (name, change) in &broken {
        let mut object = good.clone();
        object["metadata"] = json!({"namespace": "default", "name": name, "generation": 1});
        match change.as_object() {
            None => object["spec"] = Value::Null,
            Some(fields) => {
                for (key, value) in fields {
                    object["spec"][key] = value.clone();
                }
            }
        }
        scenario.objects.push(object);
    }
    let world = World(Cloud::start(scenario).unwrap());
    let _operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    for (name, _) in &broken {
        let message = world.wait_for_reason_of("default", name, "ConfigError");
        assert!(message.contains("spec"), "{name}: {message}");
    }
    assert_eq!(world.held(), world.expected());
}

#[test]
fn one_vm_whose_name_nova_cannot_tell_is_left_out_and_the_others_go_on() {
    let world = World::of("unknown-vm");
    // The VM that isn't in the list is asked for by its id, and that fails.
    let fault = Fault::always(Service::Nova, FaultKind::Html { status: 502 });
    world.faults().add(fault.path_contains("/servers/"));
    let _operator = Operator::start(&world, &QUICK);
    let message = world.wait_for_reason("NovaError");
    assert!(message.contains("their names aren't known"), "{message}");
    let names: Vec<String> = world.held().into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(names, ["worker-0"], "{message}");
}

#[test]
fn nova_failing_later_keeps_the_last_known_names() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let before = world.held();
    world.faults().add(Fault::always(Service::Nova, FaultKind::Html { status: 503 }));
    let polls = world.journal().count(Service::Nova);
    let more = |log: &[simulated_cloud::LoggedRequest]| {
        log.iter().filter(|request| request.service == Service::Nova).count() >= polls + 4
    };
    assert!(world.journal().wait_for(more, super::process::SOON));
    assert_eq!(world.held(), before);
    assert_eq!(world.ready().unwrap()["status"], "True");
}
