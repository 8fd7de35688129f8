//! Services that quote what they were sent: no message repeats a secret, nor a part of one.

use serde_json::json;
use simulated_cloud::{Fault, FaultKind, LoggedRequest, Service};

use super::process::{Operator, SOON};
use super::world::World;

const QUICK: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
];
/// What a service answers that was sent this token.
type Quoting = fn(&str) -> String;
/// The password of the fixtures' clouds.
const PASSWORD: &str = "Adm1n-pässwörd!";

fn failing(status: u16, body: String) -> FaultKind {
    FaultKind::Status { status, headers: Vec::new(), body: body.into_bytes() }
}

/// Everything the operator says, that anybody may read.
fn shown(world: &World, operator: &Operator) -> String {
    let events = world.kubernetes().events();
    let (namespace, name) = world.object();
    let object = world.kubernetes().get("OpenstackConfig", &namespace, &name);
    format!("{}\n{events:?}\n{object:?}\n{}", operator.log(), operator.health("/metrics").1)
}

#[test]
fn a_token_that_neutron_or_nova_quotes_is_in_no_message() {
    // In the middle, where the text is cut, cut off by the service, as a value of the wrong type.
    let bodies: [(u16, Quoting); 5] = [
        (500, |token| json!({"error": {"message": format!("bad token {token}!")}}).to_string()),
        (502, |token| format!("<html><title>no way for {token}</title></html>")),
        (503, |token| format!("{} {token}", "x".repeat(225))),
        (504, |token| format!("X-Auth-Token: {}...", &token[..token.len() - 1])),
        (200, |token| format!("\"{token}\"")),
    ];
    for (service, (status, body)) in
        [Service::Neutron, Service::Nova].into_iter().flat_map(|s| bodies.map(|case| (s, case)))
    {
        let world = World::of("three-nodes");
        // A failure is followed by a new login, so one has to do.
        let variables = [
            ("POLL_FAST_INTERVAL", "200ms"),
            ("POLL_SLOW_INTERVAL", "200ms"),
            ("POLL_ERROR_INTERVAL", "90s"),
        ];
        let operator = Operator::start(&world, &variables);
        world.wait_for_reason("NoChange");
        let log = world.journal().all();
        let token = log.iter().rev().find_map(|request| request.header("x-auth-token")).unwrap();
        let kind = failing(status, body(token));
        world.faults().add(Fault::always(service, kind));
        if service == Service::Neutron {
            world.wait_for_ready(|ready| {
                ready["status"] == "False" && ready["message"].to_string().contains("***")
            });
        } else {
            // The names that are known do until Nova is well again.
            let asked = |log: &[LoggedRequest]| {
                let nova = |request: &&LoggedRequest| request.service == Service::Nova;
                let answered = log.iter().filter(nova).filter(|r| r.status == Some(status));
                status == 200 || answered.count() >= 2
            };
            assert!(world.journal().wait_for(asked, SOON));
        }
        let shown = shown(&world, &operator);
        assert!(!shown.contains(&token[..12]), "{service} {status}: {:?}", world.ready());
    }
}

#[test]
fn a_password_that_keystone_quotes_is_in_no_message_not_even_its_beginning() {
    let world = World::of("three-nodes");
    let escaped = "Adm1n-p\\u00e4ssw\\u00f6rd!";
    let bodies = [
        (400, json!({"error": {"message": format!("no such password: {PASSWORD}")}}).to_string()),
        (400, format!("{{\"password\": \"{escaped}\"")),
        (500, format!("{} {PASSWORD}", "x".repeat(230))),
        (401, format!("{} {PASSWORD}", "x".repeat(235))),
    ];
    for (status, body) in bodies {
        let world = &world;
        world.faults().clear();
        world.faults().add(Fault::always(Service::Keystone, failing(status, body)));
        let operator = Operator::start(world, &QUICK);
        let message = world.wait_for_reason("KeystoneError");
        let count = world.journal().count(Service::Keystone);
        let enough = |log: &[LoggedRequest]| {
            log.iter().filter(|request| request.service == Service::Keystone).count() >= count + 2
        };
        assert!(world.journal().wait_for(enough, SOON));
        assert!(message.contains(&format!("HTTP {status}")) || status != 400, "{message}");
        let shown = shown(world, &operator);
        assert!(!shown.contains("Adm1n"), "{status}: {message}");
    }
}

#[test]
fn an_api_server_that_quotes_a_secret_it_refuses_or_our_token_is_not_repeated() {
    let world = World::of("three-nodes");
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    let bearer = "made-up-bearer-token-0123456789";
    std::fs::write(&token_file, bearer).unwrap();
    // What the first write of the Secret sends, learned from a run of its own.
    let operator = Operator::start(&world, &QUICK);
    let posted = |request: &&LoggedRequest| {
        request.service == Service::Kubernetes
            && request.method == "POST"
            && request.path().ends_with("/secrets")
    };
    assert!(world.journal().wait_for(|log| log.iter().any(|request| posted(&request)), SOON));
    let log = world.journal().all();
    let body: serde_json::Value =
        serde_json::from_slice(&log.iter().find(posted).unwrap().body).unwrap();
    let encoded = body["data"]["RABBITMQ_PASSWORD"].as_str().unwrap().to_owned();
    drop(operator);
    let (namespace, name) = world.object();
    let secret = format!("rabbitmq-{name}");
    let _ = world.kubernetes().delete("Secret", &namespace, &secret);
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422,
        "message": format!("Secret is invalid: data: {encoded} in a request of Bearer {bearer}"),
    });
    let fault = Fault::always(Service::Kubernetes, failing(422, status.to_string()));
    world.faults().add(fault.path_contains("/secrets").method("POST"));
    let token_file = token_file.to_str().unwrap();
    let variables: Vec<(&str, &str)> =
        QUICK.into_iter().chain([("KUBE_TOKEN_FILE", token_file)]).collect();
    let operator = Operator::start(&world, &variables);
    let line = operator.line_with("Secret is invalid: data: ***");
    assert!(line.contains("Bearer ***"), "{line}");
    world.wait_for_ready(|ready| ready["message"].to_string().contains("***"));
    let shown = shown(&world, &operator);
    assert!(!shown.contains(&encoded) && !shown.contains(bearer), "{:?}", world.ready());
}

#[test]
fn no_log_filter_brings_out_what_the_http_crates_would_say() {
    let world = World::of("three-nodes");
    let filter = "trace,ureq::run=trace,ureq_proto::client=trace,ureq_proto::util=trace,\
                  rustls::client=trace";
    let operator = Operator::start(&world, &[("RUST_LOG", filter)]);
    world.wait_for_reason("Synced");
    let log = world.journal().all();
    let token = log.iter().find_map(|request| request.header("x-auth-token")).unwrap();
    let shown = operator.log();
    assert!(!shown.contains(token) && !shown.contains("Adm1n"), "a secret is in the log");
    assert!(!shown.contains("x-auth-token"), "requests are in the log");
}
