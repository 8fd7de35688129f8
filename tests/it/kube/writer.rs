//! Statuses, Secrets and Events over real connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use multinic_operator::clock::Clock;
use multinic_operator::kube::objects::ObjectReference;
use multinic_operator::kube::secret_writer::{SecretManifest, SecretState};
use multinic_operator::kube::write_queue::Priority;
use multinic_operator::kube::writer::Writer;
use multinic_operator::secret::Secret;
use serde_json::{Value, json};
use simulated_cloud::kubernetes::{Denial, View};
use simulated_cloud::{Fault, FaultKind, LoggedRequest, Service};

use crate::kube::support::{Api, CONFIGS, LIMIT, now};

fn start(api: &Api) -> (Writer, Receiver<(ObjectReference, SecretState)>) {
    start_if(api, || true)
}

fn start_if(
    api: &Api,
    may_write: impl Fn() -> bool + Send + Sync + 'static,
) -> (Writer, Receiver<(ObjectReference, SecretState)>) {
    let (sender, reports) = unbounded();
    let metrics = Arc::clone(&api.metrics);
    let clock = Clock::system();
    let report = move |secret: &SecretManifest, state| {
        let _ = sender.send((secret.owner.clone(), state));
    };
    let instance = "pod-a".to_owned();
    let writer = Writer::spawn(&api.client(), instance, clock, metrics, may_write, report);
    (writer.unwrap(), reports)
}

fn write_status(writer: &Writer, object: &ObjectReference, nodes: u32) {
    writer.write_status(object.clone(), &json!({"nodes": nodes}), Priority::Change).unwrap();
}

fn reference(object: &Value) -> ObjectReference {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    ObjectReference {
        resource: CONFIGS,
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        uid: text(&metadata["uid"]),
    }
}

fn status_of(api: &Api, name: &str) -> Value {
    api.kubernetes.get("openstackconfigs", "default", name).unwrap()["status"].clone()
}

fn status_writes(api: &Api) -> usize {
    let key = ("openstackconfigs/status".to_owned(), "patch".to_owned());
    api.kubernetes.writes().get(&key).copied().unwrap_or_default()
}

fn secret(owner: &ObjectReference, password: &str) -> SecretManifest {
    let data = [("PASSWORD".to_owned(), Secret::new(password.to_owned()))];
    SecretManifest {
        name: format!("rabbitmq-{}", owner.name),
        data: BTreeMap::from(data),
        owner: owner.clone(),
    }
}

/// Waits until every object's status has so many nodes.
fn wait_for_nodes(api: &Api, nodes: u32) {
    let written = |view: &View<'_>| {
        let objects = view.objects("openstackconfigs");
        objects.iter().all(|object| object["status"]["nodes"] == json!(nodes))
    };
    assert!(api.kubernetes.wait_until(written, LIMIT), "not all statuses say {nodes}");
}

#[test]
fn a_status_is_applied_by_force() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let (writer, _reports) = start(&api);
    write_status(&writer, &object, 1);
    wait_for_nodes(&api, 1);
    assert_eq!(status_of(&api, "a"), json!({"nodes": 1}));
    write_status(&writer, &object, 2);
    wait_for_nodes(&api, 2);
    assert_eq!(status_writes(&api), 2);
    let requests = api.journal.requests(Service::Kubernetes);
    let request = requests.iter().find(|request| request.method == "PATCH").unwrap();
    assert_eq!(request.header("content-type"), Some("application/apply-patch+yaml"));
    assert!(request.target.contains("/status?fieldManager=multinic-operator&force=true"));
    assert!(writer.stop(LIMIT));
}

#[test]
fn what_others_left_in_a_status_goes_with_the_first_write_and_is_looked_for_no_more() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let theirs = json!({"status": {"nodes": 1, "downPortRetry": {"hash": "h",
        "lastAttempt": "2026-01-02T03:04:05Z", "fastAttempts": 5}}});
    api.kubernetes.patch_status("openstackconfigs", "default", "a", &theirs).unwrap();
    let written = |nodes: u32| {
        let (writer, _reports) = start(&api);
        write_status(&writer, &object, nodes);
        assert!(writer.stop(LIMIT));
        assert_eq!(status_of(&api, "a"), json!({"nodes": nodes}));
        status_writes(&api)
    };
    assert_eq!(written(2), 2, "an apply and a patch");
    assert_eq!(written(3), 3, "an apply alone");
    let requests = api.journal.requests(Service::Kubernetes);
    let bodies = requests.iter().map(|request| serde_json::from_slice::<Value>(&request.body).ok());
    let patch = bodies.flatten().find(|body| {
        body["status"]["downPortRetry"].is_null()
            && body["status"].as_object().is_some_and(|status| status.contains_key("downPortRetry"))
    });
    assert_eq!(patch.unwrap()["status"], json!({"downPortRetry": null}));
}

#[test]
fn while_another_replica_may_be_writing_nothing_is_written_and_nothing_is_lost() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let allowed = Arc::new(AtomicBool::new(false));
    let may_write = {
        let allowed = Arc::clone(&allowed);
        move || allowed.load(Ordering::SeqCst)
    };
    let (writer, reports) = start_if(&api, may_write);
    write_status(&writer, &object, 1);
    writer.write_secret(secret(&object, "first"));
    writer.record_event(object.clone(), true, "NovaError", "no answer");
    assert!(reports.recv_timeout(Duration::from_millis(500)).is_err());
    assert!(api.journal.requests(Service::Kubernetes).is_empty());
    allowed.store(true, Ordering::SeqCst);
    wait_for_nodes(&api, 1);
    assert_eq!(reports.recv_timeout(LIMIT).unwrap().1, SecretState::Written);
    assert!(api.kubernetes.wait_until(|view| view.events().len() == 1, LIMIT));
    allowed.store(false, Ordering::SeqCst);
    write_status(&writer, &object, 2);
    let begin = now();
    assert!(!writer.stop(LIMIT), "it says that something is left");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(status_of(&api, "a"), json!({"nodes": 1}));
}

#[test]
fn a_leader_that_loses_the_lease_between_two_calls_of_a_write_makes_no_further_one() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let allowed = Arc::new(AtomicBool::new(true));
    let may_write = {
        let allowed = Arc::clone(&allowed);
        move || allowed.load(Ordering::SeqCst)
    };
    let (writer, reports) = start_if(&api, may_write);
    // The Secret is read first, and written then.
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang).path_contains("/secrets"));
    writer.write_secret(secret(&object, "first"));
    assert!(api.journal.wait_for(|log: &[LoggedRequest]| !log.is_empty(), LIMIT));
    allowed.store(false, Ordering::SeqCst);
    api.faults.clear();
    let SecretState::Failed(text) = reports.recv_timeout(LIMIT).unwrap().1 else {
        panic!("the Secret was written")
    };
    assert!(text.contains("no longer the leader"), "{text}");
    assert_eq!(api.kubernetes.get("secrets", "default", "rabbitmq-a"), None);
    assert_eq!(api.journal.requests(Service::Kubernetes).len(), 1);
}

#[test]
fn a_writer_that_is_abandoned_writes_nothing_of_what_was_left_with_it() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    let (writer, _reports) = start(&api);
    write_status(&writer, &object, 1);
    assert!(api.journal.wait_for(|log: &[LoggedRequest]| !log.is_empty(), LIMIT));
    let begin = now();
    writer.abandon();
    write_status(&writer, &object, 2);
    assert!(!writer.stop(LIMIT), "it says that something is left");
    assert!(begin.elapsed() < Duration::from_secs(5), "the call that hangs isn't cut");
    assert_eq!(api.journal.requests(Service::Kubernetes).len(), 1);
}

#[test]
fn the_status_of_an_object_that_is_gone_or_another_by_now_is_dropped() {
    let api = Api::start();
    let gone = reference(&api.put("gone", "1"));
    let former = reference(&api.put("again", "1"));
    api.delete("gone");
    api.delete("again");
    api.put("again", "2");
    let (writer, _reports) = start(&api);
    for object in [&gone, &former] {
        write_status(&writer, object, 1);
    }
    assert!(writer.stop(LIMIT));
    let requests = api.journal.requests(Service::Kubernetes);
    let mut statuses: Vec<_> = requests.iter().filter_map(|request| request.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [404, 409], "each is tried once");
    assert_eq!(status_of(&api, "again"), Value::Null, "the successor got a status not its own");
}

#[test]
fn while_the_api_is_down_no_caller_waits_and_the_newest_status_is_written_once_it_is_back() {
    let mut api = Api::start();
    let objects: Vec<_> =
        (0..20).map(|number| reference(&api.put(&format!("object-{number}"), "1"))).collect();
    let (writer, _reports) = start(&api);
    api.stop();
    let begin = now();
    for nodes in 0..50 {
        for object in &objects {
            write_status(&writer, object, nodes);
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    let failures = "multinic_kubernetes_write_failures_total{kind=\"status\"}";
    while !api.metrics.render().contains(failures) {
        assert!(begin.elapsed() < LIMIT);
        std::thread::yield_now();
    }
    api.start_again();
    wait_for_nodes(&api, 49);
    assert!(status_writes(&api) <= objects.len() + 1, "{}", status_writes(&api));
    assert!(writer.stop(LIMIT));
}

#[test]
fn one_object_that_fails_does_not_keep_the_others() {
    let api = Api::start();
    let bad = reference(&api.put("bad", "1"));
    let good = reference(&api.put("good", "1"));
    let kind = FaultKind::Status { status: 500, headers: Vec::new(), body: b"broken".to_vec() };
    api.faults.add(Fault::always(Service::Kubernetes, kind).path_contains("/bad/status"));
    let (writer, _reports) = start(&api);
    write_status(&writer, &bad, 1);
    let tried_twice = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.status == Some(500)).count() >= 2
    };
    assert!(api.journal.wait_for(tried_twice, LIMIT));
    write_status(&writer, &good, 1);
    let good = |view: &View<'_>| {
        let objects = view.objects("openstackconfigs");
        objects.iter().any(|object| object["status"]["nodes"] == json!(1))
    };
    assert!(api.kubernetes.wait_until(good, LIMIT));
    assert_eq!(status_of(&api, "bad"), Value::Null);
    api.faults.clear();
    wait_for_nodes(&api, 1);
    assert!(writer.stop(LIMIT));
}

#[test]
fn a_stop_writes_what_is_left_and_is_bounded_if_the_api_does_not_answer() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let (writer, _reports) = start(&api);
    write_status(&writer, &object, 1);
    assert!(writer.stop(LIMIT));
    assert_eq!(status_of(&api, "a"), json!({"nodes": 1}));
    let (writer, _reports) = start(&api);
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    write_status(&writer, &object, 2);
    let begin = now();
    assert!(!writer.stop(Duration::from_millis(300)));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_secret_is_created_corrected_put_back_and_never_listed() {
    let api = Api::start();
    let owner = reference(&api.put("a", "1"));
    let (writer, reports) = start(&api);
    let ok = (owner.clone(), SecretState::Written);
    let ensure = |password: &str| {
        writer.write_secret(secret(&owner, password));
        assert_eq!(reports.recv_timeout(LIMIT).unwrap(), ok);
        api.kubernetes.get("secrets", "default", "rabbitmq-a").unwrap()
    };
    let created = ensure("first");
    assert_eq!(created["data"]["PASSWORD"], "Zmlyc3Q=");
    assert_eq!(created["metadata"]["ownerReferences"][0]["uid"], json!(owner.uid));
    assert_eq!(
        ensure("first")["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    assert_eq!(ensure("second")["data"]["PASSWORD"], "c2Vjb25k");
    api.kubernetes.delete("secrets", "default", "rabbitmq-a").unwrap();
    assert_eq!(ensure("second")["data"]["PASSWORD"], "c2Vjb25k");
    let requests = api.journal.requests(Service::Kubernetes);
    for request in requests.iter().filter(|request| request.target.contains("secrets")) {
        let is_list = request.method == "GET" && !request.path().ends_with("/rabbitmq-a");
        assert!(!is_list, "{}", request.target);
    }
    assert!(writer.stop(LIMIT));
}

#[test]
fn the_secret_of_another_owner_is_left_alone_and_that_of_the_objects_predecessor_is_corrected() {
    let api = Api::start();
    let former = reference(&api.put("a", "1"));
    let (writer, reports) = start(&api);
    writer.write_secret(secret(&former, "first"));
    reports.recv_timeout(LIMIT).unwrap();
    api.delete("a");
    let owner = reference(&api.put("a", "2"));
    writer.write_secret(secret(&owner, "second"));
    assert_eq!(reports.recv_timeout(LIMIT).unwrap().1, SecretState::Written);
    let owned = api.kubernetes.get("secrets", "default", "rabbitmq-a").unwrap();
    assert_eq!(owned["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    assert_eq!(owned["metadata"]["ownerReferences"][0]["uid"], json!(owner.uid));
    let other = json!({"apiVersion": "v1", "kind": "Secret", "data": {"PASSWORD": "bWluZQ=="},
        "metadata": {"name": "rabbitmq-b", "namespace": "default"}});
    api.kubernetes.apply_object(other).unwrap();
    let owner = reference(&api.put("b", "1"));
    writer.write_secret(secret(&owner, "ours"));
    assert_eq!(reports.recv_timeout(LIMIT).unwrap(), (owner, SecretState::NotOurs));
    let kept = api.kubernetes.get("secrets", "default", "rabbitmq-b").unwrap();
    assert_eq!(kept["data"]["PASSWORD"], "bWluZQ==");
    assert!(writer.stop(LIMIT));
}

#[test]
fn a_secret_whose_name_is_too_long_says_so_first() {
    let api = Api::start();
    let (writer, reports) = start(&api);
    let owner = reference(&api.put("a", "1"));
    let name = format!("rabbitmq-{}", "n".repeat(245));
    writer.write_secret(SecretManifest { name, ..secret(&owner, "hunter2") });
    let expected = "its name, made of the object's, has 254 characters; 253 are allowed";
    assert_eq!(reports.recv_timeout(LIMIT).unwrap().1, SecretState::Failed(expected.to_owned()));
}

#[test]
fn what_waits_for_an_object_that_is_forgotten_is_not_written() {
    let api = Api::start();
    let [kept, gone] = ["kept", "gone"].map(|name| reference(&api.put(name, "1")));
    let allowed = Arc::new(AtomicBool::new(false));
    let may_write = {
        let allowed = Arc::clone(&allowed);
        move || allowed.load(Ordering::SeqCst)
    };
    let (writer, reports) = start_if(&api, may_write);
    for object in [&kept, &gone] {
        write_status(&writer, object, 1);
        writer.write_secret(secret(object, "password"));
        writer.record_event(object.clone(), true, "NovaError", "no answer");
    }
    writer.forget(&gone);
    allowed.store(true, Ordering::SeqCst);
    assert_eq!(reports.recv_timeout(LIMIT).unwrap().0, kept);
    assert!(writer.stop(LIMIT));
    assert!(reports.try_recv().is_err());
    assert_eq!(status_of(&api, "kept"), json!({"nodes": 1}));
    assert_eq!(status_of(&api, "gone"), Value::Null);
    let events = api.kubernetes.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["involvedObject"]["uid"], json!(kept.uid));
}

#[test]
fn equal_events_are_folded_and_a_refusal_of_events_harms_nothing() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let (writer, _reports) = start(&api);
    let event = || writer.record_event(object.clone(), true, "NovaError", "no answer");
    event();
    assert!(api.kubernetes.wait_until(|view| view.events().len() == 1, LIMIT));
    event();
    event();
    let folded = |view: &View<'_>| {
        let events = view.events();
        events.len() == 1 && events[0]["series"]["count"] == json!(3)
    };
    assert!(api.kubernetes.wait_until(folded, LIMIT), "{:?}", api.kubernetes.events());
    let shown = &api.kubernetes.events()[0];
    assert_eq!(shown["involvedObject"]["uid"], json!(object.uid));
    api.kubernetes.deny(Denial::new("*", "events"));
    writer.record_event(object.clone(), false, "Synced", "2 nodes");
    write_status(&writer, &object, 2);
    wait_for_nodes(&api, 2);
    assert!(writer.stop(LIMIT), "a refused event is not waited for");
    assert_eq!(api.kubernetes.events().len(), 1);
}

#[test]
fn a_thread_that_ends_by_itself_is_noticed() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let (metrics, clock) = (Arc::clone(&api.metrics), Clock::system());
    let report = |_: &SecretManifest, _| panic!("on purpose");
    let writer =
        Writer::spawn(&api.client(), "pod-a".to_owned(), clock, metrics, || true, report).unwrap();
    assert!(!writer.has_lost_a_thread());
    writer.write_secret(secret(&object, "password"));
    let begin = now();
    while !writer.has_lost_a_thread() {
        assert!(begin.elapsed() < LIMIT);
        std::thread::yield_now();
    }
    // The others go on.
    write_status(&writer, &object, 1);
    wait_for_nodes(&api, 1);
}

#[test]
fn slow_secret_calls_hold_up_no_status() {
    let api = Api::start();
    let owners: Vec<_> =
        (0..40).map(|number| reference(&api.put(&format!("owner-{number}"), "1"))).collect();
    let delay = FaultKind::Delay(Duration::from_secs(5));
    api.faults.add(Fault::always(Service::Kubernetes, delay).path_contains("/secrets"));
    let (writer, _reports) = start(&api);
    for owner in &owners {
        writer.write_secret(secret(owner, "password"));
    }
    assert!(api.journal.wait_for(|log: &[LoggedRequest]| !log.is_empty(), LIMIT));
    let begin = now();
    for object in &owners {
        write_status(&writer, object, 1);
    }
    wait_for_nodes(&api, 1);
    // A Secret's two calls take ten seconds.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn three_hundred_statuses_are_written_promptly_though_the_api_is_50_milliseconds_away() {
    let api = Api::start();
    let objects: Vec<_> =
        (0..300).map(|number| reference(&api.put(&format!("object-{number}"), "1"))).collect();
    let delay = FaultKind::Delay(Duration::from_millis(50));
    api.faults.add(Fault::always(Service::Kubernetes, delay));
    let (writer, _reports) = start(&api);
    let begin = now();
    for object in &objects {
        writer.write_status(object.clone(), &json!({"nodes": 1}), Priority::Refresh).unwrap();
    }
    // One that tells something new passes them by.
    let before = api.journal.requests(Service::Kubernetes).len();
    write_status(&writer, &objects[299], 1);
    wait_for_nodes(&api, 1);
    // One after the other takes 15 s.
    assert!(begin.elapsed() < Duration::from_secs(13), "{:?}", begin.elapsed());
    let requests = api.journal.requests(Service::Kubernetes);
    let place = requests.iter().position(|request| request.target.contains("/object-299/"));
    assert!(place.is_some_and(|place| place < before + 20), "{place:?} after {before}");
}
