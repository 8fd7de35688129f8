//! Replays the recorded requests against the simulated Kubernetes API and compares its answers with
//! those of the real server: status line, header names, and body. Times and uids differ by nature;
//! resource versions are compared, since each case starts from the recorded version.

use crate::kubernetes_client::{Running, Stream, open, start};
use serde_json::{Value, json};
use simulated_cloud::kubernetes::{Denial, Kubernetes, ResourceKind};
use std::path::PathBuf;
use std::time::Duration;

/// Recordings that no case replays, and why.
const NOT_REPLAYED: [(&str, &str); 14] = [
    ("crd-200-established.http", "CRDs are registered by tests and not served as objects"),
    ("crd-create-422-cel-cost.http", "CRDs are registered by tests and not served as objects"),
    ("list-200-gzip-headers-only.http", "nothing is compressed"),
    ("list-429-too-many-requests.http", "load shedding is a fault, put in front of the server"),
    ("watch-429-too-many-requests.http", "load shedding is a fault, put in front of the server"),
    ("list-429-crd-just-created.http", "a new kind is served at once; a fault can say this"),
    ("watch-server-stopped-gracefully.jsonl", "it takes a minute; ending in order is the same"),
    (
        "watch-raw-wire-chunked.http",
        "raw bytes; the same kind of watch is replayed from watch-added-modified-deleted",
    ),
    ("README.md", "not a recording"),
    ("list-metadata-only.http", "only whole objects are served"),
    ("list-secrets-items-without-kind.http", "label selectors aren't simulated"),
    ("patch-json-200.http", "of the patches only merge and apply are simulated"),
    ("patch-json-422-test-failed.http", "of the patches only merge and apply are simulated"),
    (
        "watch-422-sendInitialEvents-without-resourceVersionMatch.http",
        "sendInitialEvents isn't simulated",
    ),
];

struct Recording {
    name: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    request_body: String,
    status_line: String,
    response_headers: Vec<String>,
    body: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/recordings/kubernetes")
}

fn recorded(name: &str) -> Recording {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let (head, body) = text.split_once("framing is taken off:\n").unwrap();
    let all = |key: &str| -> Vec<String> {
        let prefix = format!("# {key}: ");
        head.lines().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
    };
    let request = all("request").remove(0);
    let mut words = request.split(' ');
    Recording {
        name: name.to_owned(),
        method: words.next().unwrap().to_owned(),
        target: words.next().unwrap().to_owned(),
        headers: all("request-header")
            .iter()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        request_body: all("request-body").join("\n"),
        status_line: all("status").remove(0),
        response_headers: all("response-header")
            .iter()
            .map(|line| line.split_once(':').unwrap().0.to_owned())
            .collect(),
        body: body.to_owned(),
    }
}

fn recorded_object(name: &str) -> Value {
    serde_json::from_str(&recorded(name).body).unwrap()
}

fn recorded_items(name: &str) -> Vec<Value> {
    recorded_object(name)["items"].as_array().unwrap().clone()
}

fn recorded_events(name: &str) -> Vec<Value> {
    recorded(name).body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What differs from run to run is replaced by a word.
fn normalised(value: &Value) -> Value {
    match value {
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() && text.len() == 20 => {
            json!("<time>")
        }
        Value::Array(items) => items.iter().map(normalised).collect(),
        Value::Object(members) => {
            let generated = members.contains_key("generateName");
            members
                .iter()
                .map(|(name, member)| match name.as_str() {
                    "uid" => (name.clone(), json!("<uid>")),
                    "name" if generated => (name.clone(), json!("<generated>")),
                    _ => (name.clone(), normalised(member)),
                })
                .collect()
        }
        other => other.clone(),
    }
}

/// The server before the recorded request.
fn prepare(name: &str, kubernetes: &Kubernetes) {
    // The recorded server had an OpenstackConfig of its own, and no NodeInterfaces.
    kubernetes.remove_kind("NodeInterfaces");
    kubernetes.register(ResourceKind::of_crd(&recorded_object("crd-200-established.http")));
    kubernetes.accept_token("<token of admin>", "admin");
    kubernetes.accept_token("<token of operator>", "operator");
    kubernetes.deny(Denial::new("*", "*").for_user("operator"));
    kubernetes.set_future_version_wait(Duration::from_millis(10));
    let load = |source: &str| kubernetes.load(vec![recorded_object(source)]);
    let version = |version: u64| kubernetes.advance_version_to(version);
    let tenants = || kubernetes.load(recorded_items("list-200-all.http"));
    let target_namespace = || {
        let metadata = json!({"name": "multinic-system"});
        kubernetes
            .load(vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})]);
    };
    let labelled = || {
        tenants();
        kubernetes.load(recorded_items("list-rv0-any.http").split_off(2));
    };
    match name.trim_end_matches(".http") {
        "apply-secret-201-created" => version(240),
        "apply-secret-200-changed"
        | "apply-secret-200-no-change"
        | "apply-400-without-kind"
        | "apply-400-managedFields-in-body"
        | "apply-422-fieldManager-missing" => {
            load("apply-secret-201-created.http");
        }
        "apply-secret-409-field-conflict"
        | "apply-secret-200-force"
        | "apply-409-stale-resourceVersion" => {
            load("apply-secret-200-changed.http");
        }
        "apply-secret-200-yaml-stringData-drops-data" => {
            let mut secret = recorded_object("apply-secret-200-changed.http");
            secret["metadata"]["resourceVersion"] = json!("244");
            kubernetes.load(vec![secret]);
        }
        "apply-status-custom-resource-200" => {
            let mut object = recorded_object(name);
            object.as_object_mut().unwrap().remove("status");
            object["metadata"]["managedFields"].as_array_mut().unwrap().pop();
            object["metadata"]["resourceVersion"] = json!("248");
            kubernetes.load(vec![object]);
        }
        "apply-500-field-not-declared-in-schema"
        | "apply-500-field-not-declared-in-schema-fieldValidation-ignore"
        | "apply-custom-resource-422-mtu-above-the-crds-maximum"
        | "apply-custom-resource-422-name-not-dns" => target_namespace(),
        "apply-custom-resource-201-declared-fields-only" => {
            target_namespace();
            version(408);
        }
        "create-custom-resource-201-undeclared-fields-pruned" => {
            target_namespace();
            version(409);
        }
        "patch-merge-custom-resource-200-undeclared-fields-pruned" => {
            target_namespace();
            load("create-custom-resource-201-undeclared-fields-pruned.http");
        }
        "create-201" => version(234),
        "create-201-warning-unknown-field" => version(235),
        "create-409-already-exists" => load("create-201.http"),
        "delete-200-again-while-terminating"
        | "patch-200-last-finalizer-removed"
        | "patch-422-add-finalizer-while-terminating" => {
            load("delete-200-with-finalizer-object-returned.http");
        }
        "delete-200-with-finalizer-object-returned" => {
            let mut events = recorded_events("watch-finalizer-delete.jsonl");
            kubernetes.load(vec![events[0]["object"].take()]);
        }
        "delete-200-status-success" => {
            let mut object = recorded_object("create-201.http");
            object["metadata"]["name"] = json!("short-lived");
            kubernetes.load(vec![object]);
        }
        "delete-409-precondition-uid"
        | "get-200"
        | "get-200-pretty-absent-accept"
        | "list-200-all"
        | "list-200-all-namespaces"
        | "list-200-empty-namespace-that-does-not-exist"
        | "list-page-1-limit-1" => tenants(),
        "event-201-created" => version(257),
        "lease-201-created" => version(255),
        "lease-200-renewed"
        | "lease-400-time-with-3-digits"
        | "lease-400-time-with-9-digits"
        | "lease-400-time-without-fraction"
        | "lease-422-put-without-resourceVersion" => {
            load("lease-201-created.http");
        }
        "lease-409-lost-race" => load("lease-200-renewed.http"),
        "list-403-crd-not-installed-unprivileged"
        | "list-404-crd-not-installed-admin"
        | "watch-404-crd-not-installed" => kubernetes.remove_kind("OpenstackConfig"),
        "list-410-continue-expired" | "list-410-exact-resourceVersion-compacted" => {
            version(345);
            kubernetes.compact();
        }
        "list-504-resourceVersion-in-the-future"
        | "list-page-2-continue"
        | "list-page-3-last"
        | "list-resourceVersionMatch-Exact"
        | "list-rv0-any"
        | "list-resourceVersionMatch-NotOlderThan"
        | "list-rv0-with-limit" => labelled(),
        "list-secrets-items-without-kind" => {
            let mut secret = recorded_items(name).remove(0);
            (secret["apiVersion"], secret["kind"]) = (json!("v1"), json!("Secret"));
            kubernetes.load(vec![secret]);
        }
        "patch-422-status-null-required" => {
            let mut object = recorded_object("create-201.http");
            object["metadata"]["name"] = json!("written");
            kubernetes.load(vec![object]);
        }
        "patch-409-merge-with-stale-resourceVersion" => load("put-status-200.http"),
        "patch-415-content-type-json" | "patch-415-strategic-merge-on-custom-resource" => {
            load("create-201.http")
        }
        "patch-main-ignores-status-200"
        | "patch-spec-merge-200-generation-moves"
        | "patch-status-merge-200-no-change" => load("patch-status-merge-200.http"),
        "patch-status-merge-200" => {
            load("create-201.http");
            version(236);
        }
        "put-409-stale-resourceVersion"
        | "put-422-without-resourceVersion"
        | "put-status-200"
        | "put-status-409-stale-resourceVersion" => {
            load("patch-spec-merge-200-generation-moves.http")
        }
        "watch-410-gone-as-event.jsonl" => {
            version(206);
            kubernetes.compact();
        }
        "watch-410-gone-after-restart-and-compaction.jsonl" => {
            version(345);
            kubernetes.compact();
        }
        "watch-410-gone-after-restart-though-nothing-was-missed.jsonl"
        | "watch-410-gone-after-restart-without-compaction.jsonl" => {
            version(346);
            kubernetes.restart();
        }
        _ => {}
    }
}

fn request_body(recording: &Recording) -> String {
    let secret = |bytes: usize| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "too-big"},
            "data": {"plan.json": "AAAA".repeat(bytes / 3)},
        })
        .to_string()
    };
    match recording.name.as_str() {
        "apply-secret-413-request-too-large.http" => secret(3_000_000),
        "apply-secret-422-too-long.http" => secret(1_200_000),
        // JSON for the recorded YAML: the simulation reads no other YAML than that.
        "apply-secret-200-yaml-stringData-drops-data.http" => json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "node-plan"},
            "stringData": {"note": "hello"},
        })
        .to_string(),
        _ => recording.request_body.clone(),
    }
}

fn send(running: &Running, recording: &Recording, target: &str) -> Stream {
    let body = request_body(recording);
    open(running.server.address(), &recording.method, target, &recording.headers, body.as_bytes())
}

/// What is wrong with the answer, if anything.
fn difference(name: &str) -> Option<String> {
    let recording = recorded(name);
    let running = start();
    prepare(name, &running.kubernetes);
    let answer = send(&running, &recording, &recording.target).finish();
    if answer.status_line != recording.status_line {
        let body = String::from_utf8_lossy(&answer.body);
        return Some(format!(
            "{} instead of {}: {body}",
            answer.status_line, recording.status_line
        ));
    }
    let mut names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    let mut wanted: Vec<&str> = recording.response_headers.iter().map(String::as_str).collect();
    names.sort_unstable();
    wanted.sort_unstable();
    if names != wanted {
        return Some(format!("headers {names:?} instead of {wanted:?}"));
    }
    let got = String::from_utf8(answer.body).unwrap();
    let json =
        |text: &str| serde_json::from_str::<Value>(text).ok().map(|value| normalised(&value));
    // Of several undeclared fields the real server names any one, the simulated one the first.
    let recorded =
        recording.body.replace(".subnetId: field not declared", ".networkId: field not declared");
    match (json(&got), json(&recorded)) {
        (Some(got), Some(wanted)) if got == wanted => None,
        (None, None) if got.trim_end() == recorded.trim_end() => None,
        (got, wanted) => Some(format!("body\n  {got:?}\ninstead of\n  {wanted:?}")),
    }
}

#[test]
fn every_recorded_answer_is_given_again() {
    let mut replayed = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let skipped = NOT_REPLAYED.iter().any(|(skipped, _)| *skipped == name);
        let told_as_a_story = name.ends_with(".jsonl") && !name.starts_with("watch-410");
        if skipped || told_as_a_story {
            continue;
        }
        replayed += 1;
        if let Some(difference) = difference(&name) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {replayed} differ:\n{}", wrong.len(), wrong.join("\n\n"));
    assert_eq!(replayed, 102);
}

/// Replays a watch: `before` prepares, then `during` happens, and the events must be the recorded ones.
fn watch_story(name: &str, before: impl Fn(&Kubernetes), during: impl Fn(&Kubernetes)) {
    let recording = recorded(name);
    let running = start();
    let kubernetes = &running.kubernetes;
    prepare(name, kubernetes);
    kubernetes.allow_everything();
    kubernetes.set_bookmark_interval(Duration::from_millis(100));
    before(kubernetes);
    let (path, query) = recording.target.split_once('?').unwrap();
    let query: Vec<String> = query
        .split('&')
        .map(|part| match part.split_once('=') {
            Some(("timeoutSeconds", _)) => "timeoutSeconds=1".to_owned(),
            _ => part.to_owned(),
        })
        .collect();
    let stream = send(&running, &recording, &format!("{path}?{}", query.join("&")));
    during(kubernetes);
    let answer = stream.finish();
    assert_eq!(answer.status_line, recording.status_line, "{name}");
    assert!(answer.complete, "{name}");
    let without_bookmarks = |events: Vec<Value>| -> Vec<Value> {
        events
            .iter()
            .filter(|event| {
                event["type"] != "BOOKMARK" || !event["object"]["metadata"]["annotations"].is_null()
            })
            .map(normalised)
            .collect()
    };
    let bookmark =
        |events: &[Value]| events.iter().find(|event| event["type"] == "BOOKMARK").cloned();
    let (got, wanted) = (answer.lines(), recorded_events(name));
    if let Some(wanted) = bookmark(&wanted) {
        assert_eq!(bookmark(&got), Some(wanted), "{name}");
    }
    assert_eq!(without_bookmarks(got), without_bookmarks(wanted), "{name}");
}

/// Makes the recorded events happen.
fn happen(kubernetes: &Kubernetes, name: &str) {
    for event in recorded_events(name) {
        let metadata = &event["object"]["metadata"];
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => kubernetes.load(vec![event["object"].clone()]),
            Some("DELETED") if metadata["finalizers"].is_null() => {
                let name = metadata["name"].as_str().unwrap();
                kubernetes.delete("OpenstackConfig", "default", name).unwrap();
            }
            Some("DELETED") => {
                let no_finalizers = json!({"metadata": {"finalizers": null}});
                let name = metadata["name"].as_str().unwrap();
                kubernetes.patch("OpenstackConfig", "default", name, &no_finalizers).unwrap();
            }
            _ => {}
        }
    }
}

fn labelled_tenants(kubernetes: &Kubernetes) {
    kubernetes.load(recorded_items("list-200-all.http"));
    kubernetes.load(recorded_items("list-rv0-any.http").split_off(2));
}

#[test]
fn a_watch_tells_creation_changes_and_deletion() {
    let name = "watch-added-modified-deleted.jsonl";
    watch_story(name, labelled_tenants, |kubernetes| happen(kubernetes, name));
    let name = "watch-finalizer-delete.jsonl";
    watch_story(
        name,
        |kubernetes| kubernetes.advance_version_to(225),
        |kubernetes| happen(kubernetes, name),
    );
}

#[test]
fn a_watch_of_one_name_tells_only_of_it() {
    let name = "watch-field-selector-name.jsonl";
    let labels = json!({"metadata": {"labels": {"a": "1"}}});
    watch_story(
        name,
        |kubernetes| {
            labelled_tenants(kubernetes);
            kubernetes.advance_version_to(223);
        },
        |kubernetes| {
            kubernetes.patch("OpenstackConfig", "default", "tenant-1", &labels).unwrap();
            happen(kubernetes, name);
        },
    );
}

#[test]
fn a_watch_without_a_version_starts_with_everything() {
    for name in ["watch-without-resourceVersion.jsonl", "watch-resourceVersion-0.jsonl"] {
        watch_story(
            name,
            |kubernetes| {
                labelled_tenants(kubernetes);
                kubernetes.advance_version_to(218);
            },
            |_| {},
        );
    }
}

#[test]
fn a_watch_ends_in_order_when_its_crd_goes() {
    let name = "watch-crd-deleted-while-watching.jsonl";
    watch_story(
        name,
        |kubernetes| {
            let states: Vec<Value> = recorded_events(name)
                .into_iter()
                .map(|mut event| {
                    event["object"]["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                    event["object"].take()
                })
                .collect();
            kubernetes.load(states);
            // Creating and dropping the CRD and its storage moved the counter too.
            kubernetes.advance_version_to(351);
        },
        |kubernetes| kubernetes.remove_kind("OpenstackConfig"),
    );
}

#[test]
fn quiet_watches_end_at_their_timeout() {
    for name in
        ["watch-idle-ends-at-timeoutSeconds.jsonl", "watch-resourceVersion-in-the-future.jsonl"]
    {
        watch_story(name, |kubernetes| kubernetes.advance_version_to(215), |_| {});
    }
    let name = "watch-bookmark.jsonl";
    watch_story(
        name,
        |kubernetes| kubernetes.advance_version_to(215),
        |kubernetes| kubernetes.advance_version_to(217),
    );
}

#[test]
fn a_secret_in_a_watch_says_what_it_is() {
    let name = "watch-secret-modified-and-bookmark.jsonl";
    watch_story(
        name,
        |kubernetes| {
            prepare("list-secrets-items-without-kind.http", kubernetes);
            kubernetes.allow_everything();
        },
        |kubernetes| happen(kubernetes, name),
    );
}

#[test]
fn a_watch_outlives_the_right_to_watch() {
    let name = "watch-goes-on-after-rights-are-revoked.jsonl";
    watch_story(
        name,
        |kubernetes| {
            labelled_tenants(kubernetes);
            kubernetes.advance_version_to(251);
        },
        |kubernetes| {
            kubernetes.deny(Denial::new("*", "*").for_user("operator"));
            happen(kubernetes, name);
        },
    );
}

#[test]
fn a_killed_server_ends_the_watch_without_the_last_chunk() {
    let name = "watch-server-killed.jsonl";
    let recording = recorded(name);
    let running = start();
    running.kubernetes.accept_token("<token of admin>", "admin");
    running.kubernetes.advance_version_to(346);
    let stream = send(&running, &recording, &recording.target);
    running.kubernetes.restart();
    let answer = stream.finish();
    assert_eq!(answer.status_line, recording.status_line);
    assert!(answer.body.is_empty() && !answer.complete);
}
