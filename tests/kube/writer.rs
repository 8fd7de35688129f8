//! Statuses, Secrets and Events over real connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use multinic_operator::clock::Clock;
use multinic_operator::kube::objects::ObjectReference;
use multinic_operator::kube::writer::{EventKind, Reporter, SecretManifest, WriteReport, Writer};
use multinic_operator::secret::Secret;
use serde_json::{Value, json};
use simulated_cloud::kubernetes::Denial;
use simulated_cloud::{Fault, FaultKind, Service};

use crate::support::{Api, CONFIGS, LIMIT, now};

fn start(api: &Api) -> (Writer, Receiver<WriteReport>) {
    start_if(api, || true)
}

fn start_if(
    api: &Api,
    may_write: impl Fn() -> bool + Send + 'static,
) -> (Writer, Receiver<WriteReport>) {
    let (sender, reports) = unbounded();
    let reporter =
        Reporter { controller: "multinic-operator", instance: "pod-a".to_owned(), action: "Sync" };
    let metrics = std::sync::Arc::clone(&api.metrics);
    let clock = Clock::system();
    let writer = Writer::spawn(&api.client(), reporter, clock, metrics, may_write, move |report| {
        let _ = sender.send(report);
    });
    (writer.unwrap(), reports)
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
        namespace: "default".to_owned(),
        name: format!("rabbitmq-{}", owner.name),
        data: BTreeMap::from(data),
        owner: owner.clone(),
    }
}

#[test]
fn a_status_is_applied_by_force_and_an_equal_one_is_not_written_again() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let (writer, reports) = start(&api);
    let handle = writer.handle();
    handle.apply_status(object.clone(), &json!({"nodes": 1})).unwrap();
    let report = reports.recv_timeout(LIMIT).unwrap();
    assert!(matches!(&report, WriteReport::StatusWritten { object: o, .. } if *o == object));
    assert_eq!(status_of(&api, "a"), json!({"nodes": 1}));
    handle.apply_status(object.clone(), &json!({"nodes": 1})).unwrap();
    handle.apply_status(object, &json!({"nodes": 2})).unwrap();
    reports.recv_timeout(LIMIT).unwrap();
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
    let (writer, reports) = start(&api);
    let written = |nodes: u32| {
        writer.handle().apply_status(object.clone(), &json!({"nodes": nodes})).unwrap();
        let report = reports.recv_timeout(LIMIT).unwrap();
        assert!(matches!(report, WriteReport::StatusWritten { .. }), "{report:?}");
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
    assert!(writer.stop(LIMIT));
}

#[test]
fn while_somebody_else_may_be_writing_nothing_is_written_and_nothing_is_lost() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let allowed = Arc::new(AtomicBool::new(false));
    let may_write = || {
        let allowed = Arc::clone(&allowed);
        move || allowed.load(Ordering::SeqCst)
    };
    let (writer, reports) = start_if(&api, may_write());
    writer.handle().apply_status(object.clone(), &json!({"nodes": 1})).unwrap();
    writer.handle().ensure_secret(secret(&object, "first"));
    writer.handle().record_event(object.clone(), EventKind::Warning, "NovaError", "no answer");
    assert!(reports.recv_timeout(Duration::from_millis(500)).is_err());
    assert!(api.journal.requests(Service::Kubernetes).is_empty());
    allowed.store(true, Ordering::SeqCst);
    assert!(matches!(reports.recv_timeout(LIMIT), Ok(WriteReport::StatusWritten { .. })));
    assert!(matches!(reports.recv_timeout(LIMIT), Ok(WriteReport::SecretOk { .. })));
    assert!(api.kubernetes.wait_until(|view| view.events().len() == 1, LIMIT));
    allowed.store(false, Ordering::SeqCst);
    writer.handle().apply_status(object, &json!({"nodes": 2})).unwrap();
    let begin = now();
    assert!(!writer.stop(LIMIT), "it says that something is left");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(status_of(&api, "a"), json!({"nodes": 1}));
}

#[test]
fn a_writer_that_is_abandoned_writes_nothing_of_what_was_left_with_it() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    let (writer, _reports) = start(&api);
    writer.handle().apply_status(object.clone(), &json!({"nodes": 1})).unwrap();
    let has_asked = |log: &[simulated_cloud::LoggedRequest]| !log.is_empty();
    assert!(api.journal.wait_for(has_asked, LIMIT));
    let begin = now();
    writer.abandon();
    writer.handle().apply_status(object, &json!({"nodes": 2})).unwrap();
    while !writer.has_ended() {
        assert!(begin.elapsed() < Duration::from_secs(5), "the call that hangs isn't cut");
        std::thread::yield_now();
    }
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
    let (writer, reports) = start(&api);
    for object in [gone, former] {
        writer.handle().apply_status(object.clone(), &json!({"nodes": 1})).unwrap();
        let report = reports.recv_timeout(LIMIT).unwrap();
        assert_eq!(report, WriteReport::ObjectGone { object });
    }
    assert_eq!(status_of(&api, "again"), Value::Null, "the successor got a status not its own");
    assert!(writer.stop(LIMIT));
}

#[test]
fn while_the_api_is_down_nobody_waits_and_the_newest_status_is_written_once_it_is_back() {
    let mut api = Api::start();
    let objects: Vec<_> =
        (0..20).map(|number| reference(&api.put(&format!("object-{number}"), "1"))).collect();
    let (writer, reports) = start(&api);
    api.stop();
    let begin = now();
    for nodes in 0..50 {
        for object in &objects {
            writer.handle().apply_status(object.clone(), &json!({"nodes": nodes})).unwrap();
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    let report = reports.recv_timeout(LIMIT).unwrap();
    assert!(matches!(report, WriteReport::StatusFailed { .. }), "{report:?}");
    api.start_again();
    let newest = |value: &Value| value["status"]["nodes"] == json!(49);
    assert!(
        api.kubernetes
            .wait_until(|view| view.objects("openstackconfigs").iter().all(newest), LIMIT)
    );
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
    let (writer, reports) = start(&api);
    writer.handle().apply_status(bad, &json!({"nodes": 1})).unwrap();
    writer.handle().apply_status(good, &json!({"nodes": 1})).unwrap();
    assert!(matches!(reports.recv_timeout(LIMIT), Ok(WriteReport::StatusFailed { .. })));
    assert!(matches!(reports.recv_timeout(LIMIT), Ok(WriteReport::StatusWritten { .. })));
    api.faults.clear();
    loop {
        if let WriteReport::StatusWritten { object, .. } = reports.recv_timeout(LIMIT).unwrap() {
            assert_eq!(object.name, "bad");
            break;
        }
    }
    assert!(writer.stop(LIMIT));
}

#[test]
fn a_stop_writes_what_is_left_and_is_bounded_if_nobody_answers() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let (writer, _reports) = start(&api);
    writer.handle().apply_status(object.clone(), &json!({"nodes": 1})).unwrap();
    assert!(writer.stop(LIMIT));
    assert_eq!(status_of(&api, "a"), json!({"nodes": 1}));
    let (writer, _reports) = start(&api);
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    writer.handle().apply_status(object, &json!({"nodes": 2})).unwrap();
    let begin = now();
    assert!(!writer.stop(Duration::from_millis(300)));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_secret_is_created_corrected_put_back_and_never_listed() {
    let api = Api::start();
    let owner = reference(&api.put("a", "1"));
    let (writer, reports) = start(&api);
    let ok = WriteReport::SecretOk { owner: owner.clone(), name: "rabbitmq-a".to_owned() };
    let ensure = |password: &str| {
        writer.handle().ensure_secret(secret(&owner, password));
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
fn a_foreign_secret_is_left_alone_and_that_of_the_objects_former_self_is_taken_over() {
    let api = Api::start();
    let former = reference(&api.put("a", "1"));
    let (writer, reports) = start(&api);
    writer.handle().ensure_secret(secret(&former, "first"));
    reports.recv_timeout(LIMIT).unwrap();
    api.delete("a");
    let owner = reference(&api.put("a", "2"));
    writer.handle().ensure_secret(secret(&owner, "second"));
    let report = reports.recv_timeout(LIMIT).unwrap();
    assert!(matches!(report, WriteReport::SecretOk { .. }), "{report:?}");
    let owned = api.kubernetes.get("secrets", "default", "rabbitmq-a").unwrap();
    assert_eq!(owned["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    assert_eq!(owned["metadata"]["ownerReferences"][0]["uid"], json!(owner.uid));
    let other = json!({"apiVersion": "v1", "kind": "Secret", "data": {"PASSWORD": "bWluZQ=="},
        "metadata": {"name": "rabbitmq-b", "namespace": "default"}});
    api.kubernetes.apply_object(other).unwrap();
    let owner = reference(&api.put("b", "1"));
    writer.handle().ensure_secret(secret(&owner, "ours"));
    let report = reports.recv_timeout(LIMIT).unwrap();
    assert_eq!(report, WriteReport::SecretForeign { owner, name: "rabbitmq-b".to_owned() });
    let kept = api.kubernetes.get("secrets", "default", "rabbitmq-b").unwrap();
    assert_eq!(kept["data"]["PASSWORD"], "bWluZQ==");
    assert!(writer.stop(LIMIT));
}

#[test]
fn equal_events_are_folded_and_a_refusal_of_events_harms_nothing() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let (writer, reports) = start(&api);
    let event = || {
        writer.handle().record_event(object.clone(), EventKind::Warning, "NovaError", "no answer");
    };
    event();
    assert!(api.kubernetes.wait_until(|view| view.events().len() == 1, LIMIT));
    event();
    event();
    let folded = |view: &simulated_cloud::kubernetes::View<'_>| {
        let events = view.events();
        events.len() == 1 && events[0]["series"]["count"] == json!(3)
    };
    assert!(api.kubernetes.wait_until(folded, LIMIT), "{:?}", api.kubernetes.events());
    let shown = &api.kubernetes.events()[0];
    assert_eq!(shown["involvedObject"]["uid"], json!(object.uid));
    api.kubernetes.deny(Denial::new("*", "events"));
    writer.handle().record_event(object.clone(), EventKind::Normal, "Synced", "2 nodes");
    writer.handle().apply_status(object, &json!({"nodes": 2})).unwrap();
    assert!(matches!(reports.recv_timeout(LIMIT), Ok(WriteReport::StatusWritten { .. })));
    assert!(writer.stop(LIMIT), "a refused event is not waited for");
    assert_eq!(api.kubernetes.events().len(), 1);
}

#[test]
fn a_thread_that_ended_though_nobody_asked_is_noticed() {
    let api = Api::start();
    let object = reference(&api.put("a", "1"));
    let reporter =
        Reporter { controller: "multinic-operator", instance: "pod-a".to_owned(), action: "Sync" };
    let metrics = std::sync::Arc::clone(&api.metrics);
    let (alive, ended) = crossbeam_channel::bounded::<()>(0);
    let report = move |_| {
        let _alive = &alive;
        panic!("on purpose");
    };
    let writer =
        Writer::spawn(&api.client(), reporter, Clock::system(), metrics, || true, report).unwrap();
    assert!(!writer.has_ended());
    writer.handle().apply_status(object, &json!({"nodes": 1})).unwrap();
    // What the thread held goes with it.
    assert!(ended.recv_timeout(LIMIT).is_err_and(|error| error.is_disconnected()));
    while !writer.has_ended() {
        std::thread::yield_now();
    }
}
