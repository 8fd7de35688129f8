//! The client's own promises: tokens, refusals, connections.

use std::fs;
use std::time::Duration;

use multinic_operator::http::client::Failure;
use multinic_operator::kube::error::KubeError;
use multinic_operator::kube::resource::Resource;
use serde_json::{Value, json};
use simulated_cloud::kubernetes::Denial;
use simulated_cloud::{Fault, FaultKind, Service};

use crate::kube::support::{Api, CONFIGS, now};

#[test]
fn a_call_with_a_token_that_was_rotated_a_moment_ago_succeeds() {
    let api = Api::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old").unwrap();
    api.kubernetes.accept_token("old", "operator");
    let client = api.client_with(Some(file.clone()));
    api.put("a", "1");
    let path = CONFIGS.object("default", "a");
    client.get::<Value>(&path).unwrap();
    fs::write(&file, "new").unwrap();
    api.kubernetes.accept_token("new", "operator");
    api.kubernetes.revoke_token("old");
    client.get::<Value>(&path).unwrap();
    fs::write(&file, "wrong").unwrap();
    api.kubernetes.revoke_token("new");
    let error = client.get::<Value>(&path).unwrap_err();
    assert!(error.status().is_unauthorized(), "{error}");
    // Not a minute later but with the next call the right one is found.
    fs::write(&file, "newest").unwrap();
    api.kubernetes.accept_token("newest", "operator");
    client.get::<Value>(&path).unwrap();
}

#[test]
fn refusals_of_the_real_kind_are_told_apart() {
    let api = Api::start();
    let client = api.client();
    let missing = client.get::<Value>(&CONFIGS.object("default", "nosuch")).unwrap_err();
    assert!(missing.status().is_not_found() && !missing.status().is_not_served(), "{missing}");
    let unserved = Resource { group: "nosuch.example.com", ..CONFIGS };
    let unserved = client.list_page(&unserved, None, Some(500), None).unwrap_err();
    assert!(unserved.status().is_not_served(), "{unserved}");
    api.kubernetes.deny(Denial::new("get", "secrets"));
    let denied = client.get::<Value>(&Resource::SECRETS.object("default", "s")).unwrap_err();
    assert!(denied.status().is_forbidden(), "{denied}");
    let text = denied.to_string();
    assert!(
        text.contains("cannot get resource \"secrets\" in API group \"\" in the namespace"),
        "{text}"
    );
}

#[test]
fn connections_are_kept_and_a_dead_one_costs_no_failure() {
    let api = Api::start();
    let client = api.client();
    api.put("a", "1");
    let path = CONFIGS.object("default", "a");
    for _ in 0..5 {
        client.get::<Value>(&path).unwrap();
    }
    assert_eq!(api.journal.connections(Service::Kubernetes), 1);
    api.faults.add(Fault::once(Service::Kubernetes, FaultKind::CloseWithoutAnswer));
    client.get::<Value>(&path).unwrap();
    assert_eq!(api.journal.connections(Service::Kubernetes), 2);
}

#[test]
fn a_write_that_must_not_be_done_twice_is_not_repeated() {
    let api = Api::start();
    let client = api.client();
    api.faults.add(Fault::once(Service::Kubernetes, FaultKind::AnswerLost));
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default"}});
    let path = Resource::SECRETS.collection(Some("default"));
    let error = client.create::<Value>(&path, &secret).unwrap_err();
    assert!(matches!(error, KubeError::Transport(_)), "{error}");
    assert_eq!(api.requests("secrets"), 1);
}

#[test]
fn a_call_has_a_limit_and_a_shutdown_ends_it_and_all_later_ones() {
    let api = Api::start();
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    let path = CONFIGS.object("default", "a");
    let client = api.client().with_call_limit(Duration::from_millis(200));
    let begin = now();
    let error = client.get::<Value>(&path).unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(3));
    let client = api.client();
    let is_stopped = |error: &KubeError| matches!(error, KubeError::Transport(error) if error.failure == Failure::Stopped);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.get::<Value>(&path).unwrap_err());
        assert!(api.journal.wait_for(|requests| requests.len() == 2, crate::kube::support::LIMIT));
        client.shutdown();
        assert!(is_stopped(&call.join().unwrap()));
    });
    assert!(is_stopped(&client.get::<Value>(&path).unwrap_err()));
    assert!(begin.elapsed() < Duration::from_secs(5));
}
