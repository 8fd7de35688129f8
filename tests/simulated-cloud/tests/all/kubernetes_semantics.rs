//! What the simulated Kubernetes API promises beyond the recordings: watches under the switches for tests,
//! server-side apply among several managers, pages, and access.

use crate::kubernetes_client::{Running, Stream, ask, open, start};
use serde_json::{Value, json};
use simulated_cloud::kubernetes::{Denial, ResourceKind};
use std::time::Duration;

const CONFIGS: &str = "/apis/multinic.example.com/v1alpha1/namespaces/default/openstackconfigs";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
const LIMIT: Duration = Duration::from_secs(10);

fn config(name: &str) -> Value {
    json!({
        "apiVersion": "multinic.example.com/v1alpha1",
        "kind": "OpenstackConfig",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"vmNames": ["vm-1"], "subnetID": "subnet-1"},
    })
}

fn with_configs(names: &[&str]) -> Running {
    let running = start();
    // The objects of these tests say only what they are about.
    let kind = ResourceKind { schema: None, ..ResourceKind::openstack_config() };
    running.kubernetes.register(kind);
    for name in names {
        running.kubernetes.apply_object(config(name)).unwrap();
    }
    running
}

/// Opens a watch from the newest version; it is counted as open when this returns.
fn watch(running: &Running, query: &str) -> Stream {
    let before = running.kubernetes.open_watches();
    let list = ask(running, "GET", CONFIGS, JSON, "").json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let target = format!("{CONFIGS}?watch=1&resourceVersion={version}&{query}");
    let stream = open(running.server.address(), "GET", &target, &[], b"");
    assert!(running.kubernetes.wait_until(|view| view.open_watches() > before, LIMIT));
    stream
}

fn next(stream: &mut Stream) -> Value {
    serde_json::from_slice(&stream.chunk().unwrap().unwrap()).unwrap()
}

fn change(running: &Running, name: &str, value: &str) {
    running.kubernetes.annotate("OpenstackConfig", "default", name, "changed", value).unwrap();
}

#[test]
fn many_watches_hear_of_one_change_and_are_counted() {
    let running = with_configs(&["a"]);
    let mut streams: Vec<Stream> = (0..20).map(|_| watch(&running, "timeoutSeconds=60")).collect();
    assert_eq!(running.kubernetes.open_watches(), 20);
    change(&running, "a", "1");
    for stream in &mut streams {
        assert_eq!(next(stream)["object"]["metadata"]["annotations"]["changed"], "1");
    }
    drop(streams);
    assert!(running.kubernetes.wait_until(|view| view.open_watches() == 0, LIMIT));
}

#[test]
fn bookmarks_come_at_their_interval() {
    let running = with_configs(&["a"]);
    running.kubernetes.set_bookmark_interval(Duration::from_millis(50));
    let mut stream = watch(&running, "timeoutSeconds=60&allowWatchBookmarks=true");
    running.kubernetes.advance_version_to(5000);
    let bookmark = loop {
        let event = next(&mut stream);
        assert_eq!(event["type"], "BOOKMARK");
        if event["object"]["metadata"]["resourceVersion"] == "5000" {
            break event;
        }
    };
    assert_eq!(bookmark["object"].as_object().unwrap().len(), 3);
}

#[test]
fn a_frozen_watch_is_silent_past_its_timeout_and_then_catches_up() {
    let running = with_configs(&["a"]);
    let mut stream = watch(&running, "timeoutSeconds=1");
    running.kubernetes.freeze_watches(true);
    change(&running, "a", "while frozen");
    // Longer than the timeout: an end or an event would show in the count or in the first line.
    assert!(
        !running
            .kubernetes
            .wait_until(|view| view.open_watches() == 0, Duration::from_millis(1300))
    );
    running.kubernetes.freeze_watches(false);
    assert_eq!(next(&mut stream)["object"]["metadata"]["annotations"]["changed"], "while frozen");
    assert!(stream.chunk().unwrap().is_none());
}

#[test]
fn a_dropped_event_shows_only_in_a_list() {
    let running = with_configs(&["a"]);
    let mut stream = watch(&running, "timeoutSeconds=60");
    running.kubernetes.drop_next_events(1);
    change(&running, "a", "untold");
    change(&running, "a", "told");
    let told = next(&mut stream);
    assert_eq!(told["object"]["metadata"]["annotations"]["changed"], "told");
    let version =
        told["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    let exact = format!("{CONFIGS}?resourceVersion={}&resourceVersionMatch=Exact", version - 1);
    let list = ask(&running, "GET", &exact, JSON, "").json();
    assert_eq!(list["items"][0]["metadata"]["annotations"]["changed"], "untold");
}

#[test]
fn injected_bytes_reach_open_watches_as_they_are() {
    let running = with_configs(&["a"]);
    let mut stream = watch(&running, "timeoutSeconds=60");
    running.kubernetes.inject_watch_line("{\"type\":\"ADD");
    assert_eq!(stream.chunk().unwrap().unwrap(), b"{\"type\":\"ADD");
    let mut later = watch(&running, "timeoutSeconds=60");
    change(&running, "a", "1");
    assert_eq!(next(&mut later)["type"], "MODIFIED");
}

#[test]
fn watches_end_in_order_or_cut_as_told() {
    let running = with_configs(&["a"]);
    let ended = watch(&running, "timeoutSeconds=60");
    running.kubernetes.end_watches();
    assert!(ended.finish().complete);
    let cut = watch(&running, "timeoutSeconds=60");
    running.kubernetes.cut_watches();
    assert!(!cut.finish().complete);
}

#[test]
fn after_compaction_old_versions_are_gone_and_the_newest_is_not() {
    let running = with_configs(&["a"]);
    let version = |name: &str| {
        let object = running.kubernetes.get("OpenstackConfig", "default", name).unwrap();
        object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    };
    let old = version("a");
    change(&running, "a", "1");
    running.kubernetes.compact();
    let gone = format!("{CONFIGS}?watch=1&resourceVersion={old}");
    let answer = open(running.server.address(), "GET", &gone, &[], b"").finish();
    assert_eq!((answer.status(), answer.complete), (200, true));
    assert_eq!(answer.lines()[0]["object"]["code"], 410);
    let fresh = format!("{CONFIGS}?watch=1&timeoutSeconds=1&resourceVersion={}", version("a"));
    assert!(open(running.server.address(), "GET", &fresh, &[], b"").finish().body.is_empty());
}

#[test]
fn a_kind_goes_and_comes_back_empty() {
    let running = with_configs(&["a"]);
    running.kubernetes.remove_kind("OpenstackConfig");
    assert_eq!(ask(&running, "GET", CONFIGS, JSON, "").body, b"404 page not found\n");
    running.kubernetes.register(ResourceKind::openstack_config());
    assert_eq!(ask(&running, "GET", CONFIGS, JSON, "").json()["items"], json!([]));
}

#[test]
fn pages_show_one_state_until_their_token_expires() {
    let running = with_configs(&["a", "b", "c"]);
    let first = ask(&running, "GET", &format!("{CONFIGS}?limit=2"), JSON, "").json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    running.kubernetes.delete("OpenstackConfig", "default", "c").unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second_page = format!("{CONFIGS}?limit=2&continue={token}");
    let second = ask(&running, "GET", &second_page, JSON, "").json();
    assert_eq!(second["items"][0]["metadata"]["name"], "c");
    assert_eq!(second["metadata"]["continue"], "");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    running.kubernetes.expire_continue_tokens();
    let expired = ask(&running, "GET", &second_page, JSON, "");
    assert_eq!(expired.status(), 410);
    let token = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest =
        ask(&running, "GET", &format!("{CONFIGS}?limit=2&continue={token}"), JSON, "").json();
    assert_eq!(rest["items"], json!([]), "c is gone by now");
}

#[test]
fn a_stale_list_shows_the_state_before_under_its_version() {
    let running = with_configs(&["a"]);
    change(&running, "a", "1");
    let fresh = ask(&running, "GET", CONFIGS, JSON, "").json();
    running.kubernetes.stale_list_next(1);
    let stale = ask(&running, "GET", CONFIGS, JSON, "").json();
    assert_eq!(stale["items"][0]["metadata"]["annotations"], Value::Null);
    assert_ne!(stale["metadata"]["resourceVersion"], fresh["metadata"]["resourceVersion"]);
    assert_eq!(ask(&running, "GET", CONFIGS, JSON, "").json(), fresh);
}

#[test]
fn a_list_waits_for_a_version_that_is_about_to_come() {
    let running = with_configs(&["a"]);
    running.kubernetes.advance_version_to(900);
    let target = format!("{CONFIGS}?resourceVersion=901&resourceVersionMatch=NotOlderThan");
    let address = running.server.address();
    let waiting = std::thread::scope(|scope| {
        let request = scope.spawn(|| open(address, "GET", &target, &[], b"").finish());
        change(&running, "a", "1");
        request.join().unwrap()
    });
    assert_eq!(waiting.status(), 200);
}

fn apply_status(running: &Running, manager: &str, force: bool, status: &Value) -> (u16, Value) {
    let body = json!({
        "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
        "metadata": {"name": "a"}, "status": status,
    });
    let target = format!("{CONFIGS}/a/status?fieldManager={manager}&force={force}");
    let answer = ask(running, "PATCH", &target, APPLY, &body.to_string());
    (answer.status(), answer.json())
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status, "reason": "Because", "message": ""})
}

#[test]
fn appliers_share_a_list_of_conditions_by_type() {
    let running = with_configs(&["a"]);
    let ready = |status: &str| json!({"conditions": [condition("Ready", status)]});
    assert_eq!(apply_status(&running, "operator", false, &ready("True")).0, 200);
    let other = json!({"conditions": [condition("Reachable", "True")], "nodes": 3});
    let (status, object) = apply_status(&running, "prober", false, &other);
    assert_eq!(status, 200);
    assert_eq!(object["status"]["conditions"].as_array().unwrap().len(), 2);

    let (status, refused) = apply_status(&running, "prober", false, &ready("False"));
    assert_eq!(status, 409);
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"operator\" with subresource \"status\": .status.conditions[type=\"Ready\"].status"
    );
    // What the prober no longer names goes; what the operator owns stays.
    let (_, object) = apply_status(&running, "prober", false, &json!({"nodes": 3}));
    assert_eq!(object["status"]["conditions"], json!([condition("Ready", "True")]));
    let owned = &object["metadata"]["managedFields"];
    let operator =
        owned.as_array().unwrap().iter().find(|entry| entry["manager"] == "operator").unwrap();
    assert_eq!(
        operator["fieldsV1"]["f:status"]["f:conditions"]["k:{\"type\":\"Ready\"}"],
        json!({".": {}, "f:type": {}, "f:status": {}, "f:reason": {}, "f:message": {}})
    );
}

#[test]
fn an_apply_that_changes_nothing_is_no_event() {
    let running = with_configs(&["a"]);
    let status = json!({"nodes": 1, "lastError": ""});
    let (_, first) = apply_status(&running, "operator", true, &status);
    let mut stream = watch(&running, "timeoutSeconds=60");
    let (code, second) = apply_status(&running, "operator", true, &status);
    assert_eq!((code, &second), (200, &first));
    let (_, third) = apply_status(&running, "operator", true, &json!({"nodes": 2}));
    assert_eq!(third["status"], json!({"nodes": 2}), "lastError was left out, so it goes");
    assert_eq!(third["metadata"]["generation"], 1);
    assert_eq!(next(&mut stream)["object"]["status"]["nodes"], 2);
    let writes = running.kubernetes.writes();
    assert_eq!(writes[&("openstackconfigs/status".to_owned(), "patch".to_owned())], 3);
}

#[test]
fn a_user_who_takes_a_field_over_is_met_with_a_conflict() {
    let running = with_configs(&["a"]);
    apply_status(&running, "operator", true, &json!({"nodes": 1}));
    let patch = json!({"status": {"nodes": 5}}).to_string();
    let patched =
        ask(&running, "PATCH", &format!("{CONFIGS}/a/status?fieldManager=user"), MERGE, &patch);
    assert_eq!(patched.json()["status"]["nodes"], 5);
    let (status, refused) = apply_status(&running, "operator", false, &json!({"nodes": 1}));
    assert_eq!(status, 409);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("conflict with \"user\" with subresource \"status\" using multinic.example.com/v1alpha1 at "), "{message}");
    assert_eq!(
        apply_status(&running, "operator", true, &json!({"nodes": 1})).1["status"]["nodes"],
        1
    );
}

#[test]
fn an_owner_reference_is_applied_and_garbage_is_collected() {
    let running = with_configs(&["a"]);
    let owner = running.kubernetes.get("OpenstackConfig", "default", "a").unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"user": "YQ=="},
        "metadata": {"name": "rabbitmq-a", "ownerReferences": [{
            "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
            "name": "a", "uid": owner["metadata"]["uid"], "controller": true,
        }]},
    });
    let target = "/api/v1/namespaces/default/secrets/rabbitmq-a?fieldManager=multinic-operator";
    let created = ask(&running, "PATCH", target, APPLY, &secret.to_string());
    assert_eq!(created.status(), 201);
    assert_eq!(
        created.json()["metadata"]["ownerReferences"],
        secret["metadata"]["ownerReferences"]
    );
    assert_eq!(running.kubernetes.collect_garbage(), 0);
    running.kubernetes.delete("OpenstackConfig", "default", "a").unwrap();
    assert_eq!(running.kubernetes.collect_garbage(), 1);
    assert!(running.kubernetes.objects("Secret").is_empty());
}

#[test]
fn access_is_denied_by_verb_resource_place_and_user() {
    let running = with_configs(&["a"]);
    running.kubernetes.accept_token("secret-a", "operator");
    let with_token = |method: &str, target: &str, token: &str, body: &Value| {
        let headers = [
            ("Authorization".to_owned(), format!("Bearer {token}")),
            ("Content-Type".to_owned(), JSON.to_owned()),
        ];
        open(running.server.address(), method, target, &headers, body.to_string().as_bytes())
            .finish()
    };
    let everywhere = "/apis/multinic.example.com/v1alpha1/openstackconfigs";
    running.kubernetes.deny(Denial::new("list", "openstackconfigs").at_cluster_scope());
    running
        .kubernetes
        .deny(Denial::new("*", "secrets").in_namespace("default").for_user("operator"));
    assert_eq!(with_token("GET", CONFIGS, "secret-a", &Value::Null).status(), 200);
    assert_eq!(with_token("GET", everywhere, "secret-a", &Value::Null).status(), 403);
    assert_eq!(with_token("GET", CONFIGS, "other", &Value::Null).status(), 401);
    assert_eq!(ask(&running, "GET", CONFIGS, JSON, "").status(), 403);
    let review = |namespace: &str| {
        let review = json!({"spec": {"resourceAttributes": {
            "verb": "patch", "resource": "secrets", "namespace": namespace,
        }}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        with_token("POST", path, "secret-a", &review).json()["status"]["allowed"].clone()
    };
    assert_eq!((review("default"), review("kube-system")), (json!(false), json!(true)));
    running.kubernetes.revoke_token("secret-a");
    assert_eq!(with_token("GET", CONFIGS, "secret-a", &Value::Null).status(), 401);
}

#[test]
fn an_event_is_one_object_in_both_apis() {
    let running = start();
    let event = json!({
        "metadata": {"name": "a.1", "namespace": "default"},
        "involvedObject": {"kind": "OpenstackConfig", "namespace": "default", "name": "a"},
        "reason": "Synced", "message": "synced 2 nodes", "type": "Normal", "count": 1,
    });
    let core = "/api/v1/namespaces/default/events";
    assert_eq!(ask(&running, "POST", core, JSON, &event.to_string()).status(), 201);
    let newer = "/apis/events.k8s.io/v1/namespaces/default/events";
    let found = ask(&running, "GET", newer, JSON, "").json();
    assert_eq!(found["items"][0]["note"], "synced 2 nodes");
    let patch = json!({"note": "synced 3 nodes", "deprecatedCount": 2}).to_string();
    let patched = ask(&running, "PATCH", &format!("{newer}/a.1"), MERGE, &patch).json();
    assert_eq!(patched["regarding"]["name"], "a");
    let stored = running.kubernetes.events();
    assert_eq!((&stored[0]["message"], &stored[0]["count"]), (&json!("synced 3 nodes"), &json!(2)));
    let version = &stored[0]["metadata"]["resourceVersion"];
    let again = ask(&running, "PATCH", &format!("{core}/a.1"), MERGE, r#"{"count": 2}"#).json();
    assert_eq!(&again["metadata"]["resourceVersion"], version);
    let incomplete = json!({"metadata": {"name": "a.2"}, "reason": "Synced"}).to_string();
    assert_eq!(ask(&running, "POST", newer, JSON, &incomplete).status(), 422);
}

#[test]
fn a_lease_is_created_by_put_and_taken_once() {
    let running = start();
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/multinic-operator";
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "multinic-operator"}, "spec": {"holderIdentity": "pod-a"},
    });
    let created = ask(&running, "PUT", path, JSON, &lease.to_string());
    assert_eq!(created.status(), 201);
    lease["metadata"]["resourceVersion"] = created.json()["metadata"]["resourceVersion"].clone();
    lease["spec"]["holderIdentity"] = json!("pod-b");
    assert_eq!(ask(&running, "PUT", path, JSON, &lease.to_string()).status(), 200);
    lease["spec"]["holderIdentity"] = json!("pod-c");
    assert_eq!(ask(&running, "PUT", path, JSON, &lease.to_string()).status(), 409);
}

#[test]
fn an_element_that_someone_else_has_a_part_in_keeps_its_key() {
    let running = with_configs(&["a"]);
    apply_status(&running, "operator", true, &json!({"conditions": [condition("Ready", "True")]}));
    let mut edited = condition("Ready", "True");
    edited["reason"] = json!("Edited");
    let patch = json!({"status": {"conditions": [edited]}}).to_string();
    ask(&running, "PATCH", &format!("{CONFIGS}/a/status?fieldManager=user"), MERGE, &patch);
    let (_, object) = apply_status(&running, "operator", true, &json!({"nodes": 1}));
    assert_eq!(object["status"]["conditions"], json!([{"type": "Ready", "reason": "Edited"}]));
}

#[test]
fn an_access_review_says_what_the_request_itself_would_meet() {
    let running = with_configs(&["a"]);
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = |verb: &str, subresource: &str, namespace: &str| {
        let attributes = json!({"group": "multinic.example.com", "resource": "openstackconfigs",
            "verb": verb, "subresource": subresource, "namespace": namespace});
        let body = json!({"apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}});
        let answer = ask(&running, "POST", path, JSON, &body.to_string());
        assert_eq!(answer.status(), 201);
        answer.json()["status"]["allowed"].as_bool().unwrap()
    };
    assert!(review("list", "", "") && review("patch", "status", "default"));
    running.kubernetes.deny(Denial::new("list", "openstackconfigs").at_cluster_scope());
    running.kubernetes.deny(Denial::new("patch", "openstackconfigs/status"));
    assert!(!review("list", "", "") && review("list", "", "default"));
    assert!(!review("patch", "status", "default") && review("patch", "", "default"));
    assert_eq!(ask(&running, "GET", path, JSON, "").status(), 405);
    assert!(running.kubernetes.writes().is_empty(), "a review is stored nowhere");
    running.kubernetes.accept_token("made-up", "operator");
    let anonymous = ask(&running, "POST", path, JSON, "{}");
    assert_eq!(anonymous.status(), 403, "only who is logged in may ask");
}

#[test]
fn a_custom_object_over_http_is_held_to_its_schema() {
    let running = start();
    let node = |spec: Value| {
        let body = json!({
            "apiVersion": "multinic.io/v1alpha1", "kind": "MultiNicNodeConfig",
            "metadata": {"name": "n"}, "spec": spec,
        });
        let target = "/apis/multinic.io/v1alpha1/namespaces/default/multinicnodeconfigs";
        let answer = ask(&running, "POST", target, JSON, &body.to_string());
        (answer.status(), answer.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    let interface = json!({"macAddress": "fa:16:3e:00:00:01"});
    let with = |field: &str, value: Value| {
        let mut interface = interface.clone();
        interface[field] = value;
        json!({"nodeName": "n", "interfaces": [interface]})
    };
    for (spec, refusal) in [
        (json!({"interfaces": [interface]}), "spec.nodeName: Required value"),
        (json!({"nodeName": "", "interfaces": [interface]}), "should be at least 1 chars long"),
        (json!({"nodeName": "n", "interfaces": []}), "should have at least 1 items"),
        (json!({"nodeName": "n", "interfaces": {}}), "must be of type array: \"object\""),
        (
            json!({"nodeName": "n", "interfaces": vec![&interface; 11]}),
            "must have at most 10 items",
        ),
        (with("mtu", json!(67)), "should be greater than or equal to 68"),
        (with("mtu", json!(9001)), "should be less than or equal to 9000"),
        (with("id", json!(0.5)), "must be of type integer: \"number\""),
        (with("portId", json!("p".repeat(256))), "Too long: may not be more than 255 bytes"),
    ] {
        let (status, message) = node(spec);
        assert!(status == 422 && message.contains(refusal), "{refusal}: {status} {message}");
    }
    assert_eq!(node(with("mtu", json!(9000))), (201, String::new()));
}
