//! The inventory at a replica that doesn't lead: the leader's answers, for as long as it has one.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{QUICK, now};
use crate::process::{Answer, Operator, SOON};
use crate::world::World;

const LIST: &str = "/v1/inventory/node-configs";
const TOKEN: &str = "open-sesame-of-the-inventory";
/// What is promised for a leader that was killed.
const TAKE_OVER: Duration = Duration::from_secs(15);

/// A replica that says where it can be asked; all of them share one inventory.
fn replica(
    world: &World,
    name: &str,
    folder: &Arc<TempDir>,
    variables: &[(&str, &str)],
) -> Operator {
    let election = [
        ("LEADER_ELECT", "true"),
        ("POD_NAMESPACE", "default"),
        ("POD_NAME", name),
        ("POD_IP", "127.0.0.1"),
    ];
    let variables = [&QUICK[..], &election, variables].concat();
    Operator::start_in(world, &variables, Arc::clone(folder))
}

fn leader_and_standby(world: &World, variables: &[(&str, &str)]) -> (Operator, Operator) {
    let folder = Arc::new(TempDir::new().unwrap());
    let leader = replica(world, "pod-a", &folder, variables);
    world.wait_for_reason("NoChange");
    let standby = replica(world, "pod-b", &folder, variables);
    standby.line_with("leader election: pod-a_");
    (leader, standby)
}

#[test]
fn a_standby_gives_the_leaders_answers_to_those_the_leader_lets_in() {
    let world = World::of("three-nodes");
    let secrets = TempDir::new().unwrap();
    let path = secrets.path().join("token");
    std::fs::write(&path, TOKEN).unwrap();
    let variables = [
        ("INVENTORY_TOKEN_FILE", path.to_str().unwrap()),
        ("INVENTORY_CORS_ORIGIN", "https://ui.example.com"),
    ];
    let (leader, standby) = leader_and_standby(&world, &variables);
    let bearer = format!("Bearer {TOKEN}");
    let token = ("authorization", bearer.as_str());
    let origin = ("origin", "https://ui.example.com");
    let both = |method: &str, path: &str, headers: &[(&str, &str)], status: u16| -> Answer {
        let [leaders, standbys] = [&leader, &standby].map(|replica| {
            let mut answer = replica.ask_inventory(method, path, headers);
            answer.headers.remove("date");
            answer
        });
        assert_eq!(leaders.status, status, "{method} {path}: {leaders:?}");
        assert_eq!(standbys, leaders, "{method} {path}");
        standbys
    };
    let list = both("GET", LIST, &[token, origin], 200);
    let records: Value = serde_json::from_str(&list.body).unwrap();
    assert_eq!(records.as_array().unwrap().len(), 3);
    assert_eq!(list.headers["access-control-allow-origin"], "https://ui.example.com");
    let tag = list.headers["etag"].as_str();
    assert_eq!(both("GET", LIST, &[token, ("if-none-match", tag)], 304).body, "");
    both("HEAD", LIST, &[token], 200);
    both("OPTIONS", LIST, &[origin], 204);

    let first = both("GET", &format!("{LIST}?limit=1"), &[token], 200);
    let next = first.headers["link"].split(['<', '>']).nth(1).unwrap();
    assert!(!first.headers["x-continue"].is_empty());
    both("GET", next, &[token], 200);
    both("GET", &format!("{LIST}/worker-1"), &[token], 200);
    both("GET", &format!("{LIST}/no%20such%2Fnode%3F?providerId=a%26b"), &[token], 404);
    both("GET", &format!("{LIST}?limit=many"), &[token], 400);
    // The overview changes with each poll: two equal answers of the leader had none between them.
    loop {
        let ask = |replica: &Operator| replica.ask_inventory("GET", "/v1/overview", &[token]).body;
        let [before, between, after] = [&leader, &standby, &leader].map(ask);
        if before == after {
            assert_eq!(between, before);
            break;
        }
    }
    both("GET", "/", &[("accept-language", "ko")], 200);
    both("GET", "/nowhere", &[], 404);
    let refused = both("GET", LIST, &[], 401);
    assert!(refused.headers["www-authenticate"].starts_with("Bearer"), "{refused:?}");
    both("GET", LIST, &[("authorization", "Bearer another")], 401);

    let circle = standby.ask_inventory("GET", LIST, &[token, ("via", "1.1 multinic-operator")]);
    assert_eq!(circle.status, 503, "{circle:?}");
    assert!(circle.body.contains("another replica forwarded this request"), "{circle:?}");
    for replica in [&leader, &standby] {
        assert!(!replica.log().contains(TOKEN), "the token is in the log");
    }
}

#[test]
fn a_leader_that_is_gone_is_named_until_the_standby_leads_and_answers_itself() {
    let world = World::of("three-nodes");
    let (leader, standby) = leader_and_standby(&world, &[]);
    let list = standby.inventory(LIST);
    assert_eq!(list.0, 200, "{list:?}");

    leader.signal("STOP");
    let asked = now();
    assert_names_the_leader(&standby, "timed out");
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    leader.kill();
    assert_names_the_leader(&standby, "connection refused");

    let leads = world.kubernetes().wait_until(
        |view| {
            let lease = view.get("leases", "default", "multinic-operator").unwrap_or_default();
            lease["spec"]["holderIdentity"].as_str().is_some_and(|name| name.starts_with("pod-b_"))
        },
        TAKE_OVER,
    );
    assert!(leads, "nobody took over");
    let taken_over = now();
    while standby.inventory(LIST) != list {
        assert!(taken_over.elapsed() < SOON, "{:?}", standby.inventory(LIST));
        std::thread::yield_now();
    }
}

fn assert_names_the_leader(standby: &Operator, reason: &str) {
    let answer = standby.ask_inventory("GET", LIST, &[]);
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "5"), "{answer:?}");
    assert!(answer.body.contains("(leader: pod-a_"), "{answer:?}");
    assert!(answer.body.contains(reason), "{reason}: {answer:?}");
}

#[test]
fn an_address_in_the_lease_that_no_pod_can_have_is_not_asked() {
    let world = World::of("three-nodes");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let port = address.port();
    // A leader that isn't there, and is waited for.
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": "multinic-operator", "namespace": "default" },
        "spec": { "holderIdentity": "ghost", "leaseDurationSeconds": 3600 },
    });
    world.kubernetes().load(vec![lease]);
    let say = |text: &str| {
        let annotation = "multinic.example.com/inventory-address";
        let kubernetes = world.kubernetes();
        kubernetes.annotate("leases", "default", "multinic-operator", annotation, text).unwrap();
    };
    say("first");
    let standby = replica(&world, "pod-b", &Arc::new(TempDir::new().unwrap()), &[]);
    for text in ["first", &format!("http://{address}/"), &format!("localhost:{port}")] {
        say(text);
        standby.line_with(&format!("of the Lease is ignored: {text:?}"));
        // The line may be there before the leader's name is.
        let began = now();
        loop {
            let (status, body) = standby.inventory(LIST);
            assert_eq!(status, 503, "{body}");
            if body.contains("(leader: ghost)\"") {
                break;
            }
            assert!(began.elapsed() < SOON, "{body}");
        }
    }
    // Only now that it is an address is there somebody to take the first connection.
    say(&address.to_string());
    let ghost = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        stream.write_all(b"HTTP/1.1 418 Ghost\r\nContent-Length: 3\r\n\r\nboo").unwrap();
        head
    });
    let began = now();
    let answer = loop {
        let answer = standby.inventory("/v1/first");
        if answer.0 != 503 {
            break answer;
        }
        assert!(began.elapsed() < SOON, "{answer:?}");
        std::thread::yield_now();
    };
    assert_eq!(answer, (418, "boo".to_owned()));
    let head = ghost.join().unwrap();
    assert_eq!(head[0], "GET /v1/first HTTP/1.1", "it was asked before: {head:?}");
    assert!(head.iter().any(|line| line == "via: 1.1 multinic-operator"), "{head:?}");
}

#[test]
fn while_a_former_leader_hangs_the_objects_say_what_is_in_the_way() {
    let world = World::of("three-nodes");
    let (leader, standby) = leader_and_standby(&world, &[]);
    leader.signal("STOP");
    let message = world.wait_for_reason("ConfigError");
    assert!(message.contains("the former leader, which has not ended yet"), "{message}");
    let (status, text) = standby.health("/readyz");
    assert_eq!(status, 503, "{text}");
    leader.kill();
    world.wait_for_reason("NoChange");
}
