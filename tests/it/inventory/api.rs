//! The API over real connections.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};

use multinic_operator::agent::state::{InterfaceState, State};
use multinic_operator::http::server::{Limits, Server};
use multinic_operator::inventory::api::{Api, ApiSettings};
use multinic_operator::inventory::record::{Change, Owner, ReservedId};
use multinic_operator::inventory::store::Store;
use multinic_operator::overview::{NodeShown, ObjectState, Overview};
use serde_json::json;

use crate::inventory::client::{Answer, connect, exchange, get, request, serve};
use crate::inventory::support::{PROVIDER, commit, open_on, record, start, upsert};
use crate::simulated_disk::{Fault, SimulatedDisk};
use crate::skip::skipped;

const LIST: &str = "/v1/inventory/node-configs";

pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    pub(crate) overview: Arc<Overview>,
    leader: Arc<Mutex<Option<String>>>,
    pub(crate) server: Server,
}

pub(crate) fn world(settings: ApiSettings) -> World {
    world_on(SimulatedDisk::default(), settings)
}

fn world_on(disk: SimulatedDisk, settings: ApiSettings) -> World {
    let store = Arc::new(open_on(disk, Path::new("/data/inventory.json")));
    let overview = Arc::<Overview>::default();
    let leader = Arc::new(Mutex::new(None));
    let shown = leader.clone();
    let leadership = Arc::new(move || shown.lock().unwrap().clone());
    let api = Api::new(store.clone(), overview.clone(), settings, leadership);
    let server = serve(Arc::new(api), Limits::default());
    World { store, overview, leader, server }
}

impl World {
    pub(crate) fn stop_leading(&self, leader: &str) {
        *self.leader.lock().unwrap() = Some(leader.to_owned());
    }

    fn get(&self, target: &str) -> Answer {
        get(self.server.address(), target)
    }

    fn with(&self, target: &str, headers: &str) -> Answer {
        request(self.server.address(), "GET", target, headers)
    }

    fn names(&self, target: &str) -> Vec<String> {
        let answer = self.get(target);
        assert_eq!(answer.status, 200, "{target}: {:?}", answer.json());
        let name = |record: &serde_json::Value| {
            format!(
                "{}/{}",
                record["providerId"].as_str().unwrap(),
                record["nodeName"].as_str().unwrap()
            )
        };
        answer.json().as_array().unwrap().iter().map(name).collect()
    }
}

pub(crate) fn of(provider: &str, node: &str, instance: &str) -> Change {
    let mut record = record(node, instance, &[1, 2], 1);
    record.provider_id = provider.to_owned();
    Change::Upsert(record)
}

/// Three providers; one node name is known to two of them.
fn filled() -> World {
    let world = world(ApiSettings::default());
    let changes = vec![
        of("p2", "worker-0", "vm-3"),
        of("p1", "worker-1", "vm-2"),
        of("p1", "worker-0", "vm-1"),
        of("p3", "한국/노드 <b>", "vm-4"),
    ];
    commit(&world.store, changes).unwrap();
    world
}

#[test]
fn the_list_is_an_ordered_array_of_records_in_the_shape_of_the_file() {
    let world = filled();
    let answer = world.get(LIST);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let record = answer.json()[0].clone();
    let expected = json!({
        "providerId": "p1", "nodeName": "worker-0", "instanceId": "vm-1",
        "config": {"nodeName": "worker-0", "instanceId": "vm-1", "interfaces": [
            {"id": 0, "name": "multinic0", "portId": "port-0001", "macAddress": "fa:16:3e:00:00:01",
             "address": "10.10.0.2", "cidr": "10.10.0.0/16", "mtu": 1450,
             "networkId": "net-a", "subnetId": "subnet-a"},
            {"id": 1, "name": "multinic1", "portId": "port-0002", "macAddress": "fa:16:3e:00:00:02",
             "address": "10.10.0.3", "cidr": "10.10.0.0/16", "mtu": 1450,
             "networkId": "net-a", "subnetId": "subnet-a"}]},
        "lastConfigHash": record["lastConfigHash"], "updatedAt": "2026-11-20T09:00:01Z",
        "acceptedBy": "biz-1"
    });
    assert_eq!(record, expected);
    let all = ["p1/worker-0", "p1/worker-1", "p2/worker-0", "p3/한국/노드 <b>"];
    assert_eq!(world.names(LIST), all);
}

#[test]
fn interfaces_are_listed_by_the_target_that_accepted_them() {
    let world = world(ApiSettings::default());
    let mut records = vec![
        record("worker-1", "vm-1", &[1, 2], 5),
        record("worker-0", "vm-0", &[3], 7),
        record("other", "vm-0", &[4], 1),
        record("of-go", "vm-9", &[], 2),
        record("reserved", "vm-8", &[5], 3),
    ];
    records[0].accepted_by = Some("BIZ-1".to_owned());
    records[2].accepted_by = Some("biz-2".to_owned());
    records[3].accepted_by = None;
    records[4].accepted_by = Some(String::new());
    commit(&world.store, records.into_iter().map(Change::Upsert).collect()).unwrap();

    let node = |target: &str, name: &str, instance: &str, count: u32, second: u32| {
        json!({"providerId": target, "nodeName": name, "instanceId": instance,
               "interfaceCount": count, "updatedAt": format!("2026-11-20T09:00:0{second}Z")})
    };
    let provider = |target: &str, second: u32, nodes: Vec<serde_json::Value>| {
        json!({"providerId": target, "nodeCount": nodes.len(), "nodes": nodes,
               "updatedAt": format!("2026-11-20T09:00:0{second}Z")})
    };
    let providers = json!({"providers": [
        provider(PROVIDER, 2, vec![node(PROVIDER, "of-go", "vm-9", 0, 2)]),
        provider("biz-1", 7, vec![
            node("biz-1", "worker-0", "vm-0", 1, 7),
            node("BIZ-1", "worker-1", "vm-1", 2, 5),
        ]),
        provider("biz-2", 1, vec![node("biz-2", "other", "vm-0", 1, 1)]),
    ]});
    assert_eq!(world.get("/v1/interfaces/providers").json(), providers);

    let list = "/v1/interfaces/node-configs";
    assert_eq!(
        world.names(&format!("{list}?providerId=Biz-1")),
        ["biz-1/worker-0", "BIZ-1/worker-1"]
    );
    assert_eq!(world.names(&format!("{list}?providerId=none")), [""; 0]);
    let by_instance = format!("{list}/by-instance/vm-0");
    assert_eq!(world.names(&by_instance), ["biz-1/worker-0", "biz-2/other"]);
    assert_eq!(world.names(&format!("{by_instance}?providerId=biz-2")), ["biz-2/other"]);
    let mut expected = world.get(&format!("{LIST}/other")).json()[0].clone();
    expected.as_object_mut().unwrap().remove("acceptedBy");
    expected["providerId"] = json!("biz-2");
    assert_eq!(world.get(&format!("{by_instance}?providerId=biz-2")).json(), json!([expected]));
    for (target, status) in [
        (list.to_owned(), 400),
        (format!("{list}?providerId="), 400),
        (format!("{list}?ProviderId=biz-1"), 400),
        (format!("{by_instance}?providerId=none"), 404),
        (format!("{list}/by-instance/vm-8"), 404),
        (format!("{list}/by-instance/"), 404),
        (format!("{list}/by-instance"), 404),
    ] {
        let answer = world.get(&target);
        assert_eq!(answer.status, status, "{target}");
        assert!(!answer.error().is_empty(), "{target}");
    }
}

#[test]
fn filters_are_combined_and_no_match_is_an_empty_array() {
    let world = filled();
    let cases: &[(&str, &[&str])] = &[
        ("?providerId=p1", &["p1/worker-0", "p1/worker-1"]),
        ("?providerId=P1", &["p1/worker-0", "p1/worker-1"]),
        ("?nodeName=worker-0", &["p1/worker-0", "p2/worker-0"]),
        ("?instanceId=vm-3", &["p2/worker-0"]),
        ("?providerId=p1&nodeName=worker-0", &["p1/worker-0"]),
        ("?providerId=p1&instanceId=vm-2", &["p1/worker-1"]),
        ("?nodeName=worker-0&instanceId=vm-3", &["p2/worker-0"]),
        ("?providerId=p1&nodeName=worker-0&instanceId=vm-2", &[]),
        ("?providerId=p", &[]),
        ("?providerId=p11", &[]),
        (
            "?providerId=&nodeName=",
            &["p1/worker-0", "p1/worker-1", "p2/worker-0", "p3/한국/노드 <b>"],
        ),
        ("?nodeName=%ED%95%9C%EA%B5%AD%2F%EB%85%B8%EB%93%9C+%3Cb%3E", &["p3/한국/노드 <b>"]),
        ("?_=12345", &["p1/worker-0", "p1/worker-1", "p2/worker-0", "p3/한국/노드 <b>"]),
    ];
    for (query, expected) in cases {
        assert_eq!(world.names(&format!("{LIST}{query}")), *expected, "{query}");
    }
    for query in
        ["?providerid=p1", "?providerId=a&providerId=b", "?limit=0", "?limit=x", "?continue=!"]
    {
        let answer = world.get(&format!("{LIST}{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(!answer.error().is_empty());
    }
}

#[test]
fn what_was_sent_and_never_accepted_is_shown_nowhere() {
    let world = filled();
    let mut sent = record("unaccepted", "vm-9", &[], 1);
    sent.provider_id = "p1".to_owned();
    sent.accepted_by = Some(String::new());
    sent.reserved_ids = vec![ReservedId { port_id: "port-9".to_owned(), id: 0 }];
    commit(&world.store, vec![Change::Upsert(sent)]).unwrap();
    assert_eq!(world.store.snapshot().len(), 5);
    for target in [LIST, &format!("{LIST}?limit=10"), "/v1/inventory/changes"] {
        assert_eq!(world.names(target).len(), 4, "{target}");
    }
    for query in ["?nodeName=unaccepted", "?instanceId=vm-9", "?providerId=p1&nodeName=unaccepted"]
    {
        assert!(world.names(&format!("{LIST}{query}")).is_empty(), "{query}");
    }
    for target in ["/unaccepted", "/unaccepted?providerId=p1"] {
        assert_eq!(world.get(&format!("{LIST}{target}")).status, 404, "{target}");
    }
    assert_eq!(world.get("/v1/overview").json()["store"]["records"], 4);
}

#[test]
fn a_single_node_is_an_array_with_one_record_per_provider() {
    let world = filled();
    assert_eq!(world.names(&format!("{LIST}/worker-0")), ["p1/worker-0", "p2/worker-0"]);
    assert_eq!(world.names(&format!("{LIST}/worker-0?providerId=p2")), ["p2/worker-0"]);
    let odd = format!("{LIST}/%ED%95%9C%EA%B5%AD%2F%EB%85%B8%EB%93%9C%20%3Cb%3E");
    assert_eq!(world.names(&odd), ["p3/한국/노드 <b>"]);
    for target in ["/worker-9", "/worker-0?providerId=p3", "/"] {
        let answer = world.get(&format!("{LIST}{target}"));
        assert_eq!(answer.status, 404, "{target}");
        assert!(!answer.error().is_empty());
    }
}

#[test]
fn pages_follow_each_other_without_gaps_even_when_records_come_and_go() {
    let world = world(ApiSettings::default());
    let nodes: Vec<_> = (0..25).map(|n| upsert(&format!("n{n:02}"), &[n], 1)).collect();
    commit(&world.store, nodes).unwrap();
    let mut seen = Vec::new();
    let mut target = format!("{LIST}?limit=10&providerId={PROVIDER}");
    loop {
        let answer = world.get(&target);
        for record in answer.json().as_array().unwrap() {
            seen.push(record["nodeName"].as_str().unwrap().to_owned());
        }
        if seen.len() == 10 {
            // The first of the next page goes, and one comes before this place.
            let changes =
                vec![crate::inventory::support::remove("n10"), upsert("n05-new", &[99], 2)];
            commit(&world.store, changes).unwrap();
        }
        let Some(link) = answer.header("link") else {
            assert_eq!(answer.header("x-continue"), None);
            break;
        };
        let (url, relation) = link.split_once("; ").unwrap();
        assert_eq!(relation, "rel=\"next\"");
        let query = url.strip_prefix('<').and_then(|url| url.strip_suffix('>')).unwrap();
        assert!(query.starts_with('?'), "behind a proxy that adds a prefix {url} leads elsewhere");
        target = format!("{LIST}{query}");
        assert!(
            target.contains(PROVIDER.split('-').next().unwrap()) && target.contains("limit=10")
        );
    }
    let expected: Vec<_> = (0..25).filter(|n| *n != 10).map(|n| format!("n{n:02}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_etag_saves_the_body_until_something_changes() {
    let world = filled();
    for target in
        [LIST, &format!("{LIST}/worker-0"), "/v1/inventory/changes", "/v1/overview", "/page.js"]
    {
        let tag = world.get(target).header("etag").unwrap().to_owned();
        for condition in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let answer = world.with(target, &format!("If-None-Match: {condition}\r\n"));
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{target} {condition}");
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
        }
        assert_eq!(world.with(target, "If-None-Match: \"other\"\r\n").status, 200, "{target}");
    }
    let tag_of = |target: &str| world.get(target).header("etag").unwrap().to_owned();
    let (list, single) = (tag_of(LIST), tag_of(&format!("{LIST}/worker-1")));
    commit(&world.store, vec![of("p2", "worker-0", "vm-9")]).unwrap();
    assert_eq!(world.with(LIST, &format!("If-None-Match: {list}\r\n")).status, 200);
    assert_eq!(world.names(&format!("{LIST}?instanceId=vm-9")), ["p2/worker-0"]);
    // Another node's change doesn't touch this one.
    assert_eq!(tag_of(&format!("{LIST}/worker-1")), single);
}

#[test]
fn head_is_get_without_a_body_and_other_methods_are_refused() {
    let world = filled();
    let full = world.get(LIST);
    let mut stream = connect(world.server.address());
    let text = format!("HEAD {LIST} HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = exchange(&mut stream, text.as_bytes()).unwrap();
    assert_eq!(head.header("content-length"), Some(full.body.len().to_string().as_str()));
    assert_eq!(head.header("etag"), full.header("etag"));
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let answer = request(world.server.address(), method, LIST, "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
        assert!(!answer.error().is_empty());
    }
    let options = request(world.server.address(), "OPTIONS", LIST, "");
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(options.header("access-control-allow-origin"), None);
}

#[test]
fn other_origins_are_let_in_only_if_the_settings_say_so() {
    let origin = "Origin: https://ui.example.com\r\n";
    assert_eq!(filled().with(LIST, origin).header("access-control-allow-origin"), None);
    for (allowed, expected) in [
        ("*", Some("*")),
        ("https://ui.example.com", Some("https://ui.example.com")),
        ("https://other.example.com", None),
    ] {
        let cors_origin = Some(allowed.to_owned());
        let world = world(ApiSettings { cors_origin, token_file: None });
        let answer = world.with(LIST, origin);
        assert_eq!(answer.header("access-control-allow-origin"), expected, "{allowed}");
        assert_eq!(answer.header("vary"), (allowed != "*").then_some("Origin"));
        let preflight = request(world.server.address(), "OPTIONS", LIST, origin);
        let headers = expected.map(|_| "Authorization, If-None-Match");
        assert_eq!(preflight.header("access-control-allow-headers"), headers, "{allowed}");
        // Errors must be readable for the page too.
        let missing = world.with("/v1/nothing", origin);
        assert_eq!(missing.header("access-control-allow-origin"), expected);
    }
}

#[test]
fn data_needs_the_token_where_one_is_set_and_a_new_one_counts_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let world = world(ApiSettings { cors_origin: None, token_file: Some(path.clone()) });
    let clock = world.store.clock().clone();
    let later = || clock.advance(std::time::Duration::from_secs(2));
    let status = |header: &str| world.with(LIST, header).status;
    assert_eq!(status("Authorization: Bearer x\r\n"), 503, "no token can be read: nobody gets in");
    fs::write(&path, "s3same-open\n").unwrap();
    later();
    assert_eq!(status("Authorization: Bearer s3same-open\r\n"), 200);
    assert_eq!(status("authorization: bearer s3same-open\r\n"), 200);
    for wrong in [
        "",
        "Authorization: Bearer s3same-ope\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Basic s3same-open\r\n",
        "Authorization: Bearer s3same-open2\r\n",
    ] {
        let answer = world.with(LIST, wrong);
        assert_eq!(answer.status, 401, "{wrong:?}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        assert!(!answer.error().contains("s3same"));
    }
    for target in ["/v1/overview", "/v1/inventory/changes", &format!("{LIST}/x")] {
        assert_eq!(world.get(target).status, 401, "{target}");
    }
    for target in ["/", "/page.js", "/page.css", "/words.js", "/docs", "/openapi.yaml", "/healthz"]
    {
        assert_eq!(world.get(target).status, 200, "{target} shows no data");
    }
    fs::write(&path, "").unwrap();
    later();
    assert_eq!(status("Authorization: Bearer s3same-open\r\n"), 200, "half-way through a change");
    fs::write(&path, "another").unwrap();
    later();
    assert_eq!(status("Authorization: Bearer s3same-open\r\n"), 401);
    assert_eq!(status("Authorization: Bearer another\r\n"), 200);
    let private = world.with(LIST, "Authorization: Bearer another\r\n");
    assert_eq!(private.header("cache-control"), Some("private, no-cache"));
}

#[test]
fn a_replica_that_does_not_lead_says_who_does() {
    let world = filled();
    world.stop_leading("multinic-operator-1");
    for target in [LIST, "/v1/overview", "/v1/inventory/changes"] {
        let answer = world.get(target);
        assert_eq!(answer.status, 503);
        assert!(answer.error().ends_with("(leader: multinic-operator-1)"), "{}", answer.error());
    }
    assert_eq!(world.get("/healthz").status, 200);
    assert_eq!(world.get("/").status, 200);
}

#[test]
fn an_inventory_that_could_not_be_read_is_not_shown_as_empty() {
    let disk = SimulatedDisk::default();
    disk.plan(Some(Fault::FailFrom(0, 1000)));
    let world = world_on(disk, ApiSettings::default());
    let answer = world.get(LIST);
    assert_eq!(answer.status, 503, "an empty list would be a lie");
    let overview = world.get("/v1/overview").json();
    assert_eq!(overview["store"]["state"], "unwritable");
    assert!(overview["store"]["reason"].as_str().unwrap().contains("/data"));
}

#[test]
fn no_path_reaches_the_file_system() {
    let world = filled();
    for target in [
        "/etc/passwd",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/page.css/../../Cargo.toml",
        "//etc/passwd",
        "/index.html",
        "/v1",
        "/v1/inventory",
        "/data/inventory.json",
    ] {
        let answer = world.get(target);
        assert_eq!(answer.status, 404, "{target}");
        assert!(!answer.error().is_empty());
    }
}

#[test]
fn the_page_runs_nothing_but_its_own_files() {
    let world = filled();
    for target in ["/", "/docs"] {
        let answer = world.get(target);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(!policy.contains("unsafe") && !policy.contains("http"));
        let html = String::from_utf8(answer.body.clone()).unwrap();
        for inline in ["<style", " style=", " onclick=", "javascript:", "<script>", "https://"] {
            assert!(!html.contains(inline), "{target} holds {inline}");
        }
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn the_overview_and_the_timelines_are_there_for_the_page() {
    let world = filled();
    world.overview.put(object("shop", "blue", "False", "NovaError"));
    let overview = world.get("/v1/overview").json();
    let store =
        json!({"state": "healthy", "reason": null, "since": null, "findings": [], "records": 4});
    assert_eq!(overview["store"], store);
    assert_eq!(overview["objects"][0]["reason"], "NovaError");
    let changes = world.get("/v1/inventory/changes?providerId=p1&nodeName=worker-1").json();
    let first = json!([{"at": "2026-11-20T09:00:01Z", "change": "firstSent", "interfaces": 2}]);
    assert_eq!(changes, json!([{"providerId": "p1", "nodeName": "worker-1", "changes": first}]));
}

pub(crate) fn object(namespace: &str, name: &str, ready: &str, reason: &str) -> ObjectState {
    ObjectState {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        provider_id: "p1".to_owned(),
        ready: ready.to_owned(),
        ready_since: Some(start()),
        reason: reason.to_owned(),
        hold: None,
        message: "nova: GET /servers/x: 500 internal error".to_owned(),
        nodes: Some(2),
        last_synced_at: Some(start()),
        next_due: None,
        paused: false,
        configured: Some("False".to_owned()),
        configured_nodes: Some("1/2".to_owned()),
        configured_reason: Some("AgentFailed".to_owned()),
        configured_message: Some("the agent failed on 1 node".to_owned()),
    }
}

/// What a cluster says of the first two interfaces of a node.
pub(crate) fn node_shown(provider: &str, node: &str, macs: [&str; 2]) -> NodeShown {
    let interface = |id: u8, mac: &str, state, message: &str| InterfaceState {
        id,
        name: format!("multinic{id}"),
        mac_address: mac.to_owned(),
        state,
        reason: "JobFailed".to_owned(),
        message: message.to_owned(),
    };
    NodeShown {
        provider_id: provider.to_owned(),
        node_name: node.to_owned(),
        instance_id: "vm".to_owned(),
        state: State::Failed,
        message: String::new(),
        drift: "is not as sent (multinic0: mtu 1450 -> 9000)".to_owned(),
        interfaces: vec![
            interface(0, macs[0], State::Configured, ""),
            interface(1, macs[1], State::Failed, "interface with MAC not found"),
        ],
    }
}

/// A record with every optional field.
pub(crate) fn full_record(provider: &str, node: &str) -> Change {
    let mut record = record(node, "vm-full", &(0..10).collect::<Vec<_>>(), 60);
    record.provider_id = provider.to_owned();
    let owner =
        Owner { namespace: "shop".to_owned(), name: "blue".to_owned(), uid: "u-1".to_owned() };
    record.owner = Some(owner);
    record.down_ports = vec!["port-0001".to_owned()];
    record.left_out_ports = 2;
    record.reserved_ids = vec![ReservedId { port_id: "port-0010".to_owned(), id: 9 }];
    Change::Upsert(record)
}

/// Takes a back-up as `docs/operations.md` has it, into this folder; none without curl.
fn back_up(world: &World, folder: &Path) -> Option<ExitStatus> {
    let document = include_str!("../../../docs/operations.md");
    let section = document.split("\n## Backup\n").nth(1).unwrap();
    let commands = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let address = format!("http://{}", world.server.address());
    assert!(commands.contains("http://127.0.0.1:18081/"), "{commands}");
    let commands = commands.replace("http://127.0.0.1:18081", &address);
    if Command::new("curl").arg("--version").output().is_err() {
        skipped("curl is not installed");
        return None;
    }
    Some(Command::new("sh").arg("-c").arg(commands).current_dir(folder).status().unwrap())
}

#[test]
fn the_list_is_a_back_up_that_can_be_put_back() {
    let world = world(ApiSettings::default());
    let owner = Owner { namespace: "shop".into(), name: "amber".into(), uid: "uid-1".into() };
    let mut owned = record("worker-2", "vm-2", &[7, 8], 5);
    owned.owner = Some(owner);
    owned.accepted_by = Some("biz-1".to_owned());
    owned.down_ports = vec!["port-0008".to_owned()];
    let changes = vec![upsert("worker-1", &[3, 1, 2], 1), Change::Upsert(owned)];
    commit(&world.store, changes).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let Some(status) = back_up(&world, folder.path()) else { return };
    assert!(status.success());
    let back_up = fs::read(folder.path().join("inventory.json")).unwrap();

    let disk = SimulatedDisk::default();
    disk.put(Path::new("/data/inventory.json"), &back_up);
    let restored = open_on(disk, Path::new("/data/inventory.json"));
    assert!(restored.state().is_healthy(), "{}", restored.state());
    let records = |store: &Store| {
        let inventory = store.snapshot();
        inventory.iter().map(|stored| stored.record.clone()).collect::<Vec<_>>()
    };
    assert_eq!(records(&restored).len(), 2);
    assert_eq!(records(&restored), records(&world.store));
}

#[test]
fn a_back_up_that_is_refused_leaves_the_last_one_as_it_was() {
    let world = world(ApiSettings::default());
    commit(&world.store, vec![upsert("worker-1", &[1], 1)]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let Some(status) = back_up(&world, folder.path()) else { return };
    assert!(status.success());
    let kept = fs::read(folder.path().join("inventory.json")).unwrap();
    // 503: it isn't the leader.
    world.stop_leading("another");
    assert!(!back_up(&world, folder.path()).unwrap().success());
    assert_eq!(fs::read(folder.path().join("inventory.json")).unwrap(), kept);
}
