//! List and watch over real connections.

use std::fs;
use std::time::Duration;

use multinic_operator::kube::watch::{FailureKind, Timing};
use serde_json::json;
use simulated_cloud::kubernetes::{Denial, ResourceKind};
use simulated_cloud::{Fault, FaultKind, Service};

use crate::kube::support::{Api, LIMIT, fast, now, watch};

#[test]
fn what_exists_and_what_changes_is_seen_and_a_watch_that_ends_is_taken_up_without_a_list() {
    let api = Api::start();
    api.put("a", "1");
    let (_watcher, seen) = watch(&api, &api.client(), fast());
    seen.wait_for_equal(&api);
    api.put("a", "2");
    api.put("b", "1");
    api.delete("a");
    seen.wait_for_equal(&api);
    assert!(api.kubernetes.wait_until(|view| view.open_watches() == 1, LIMIT));
    api.kubernetes.cut_watches();
    api.put("c", "1");
    seen.wait_for_equal(&api);
    assert_eq!((api.lists(), api.restarts("cut")), (1, 1));
    let requests = api.journal.requests(Service::Kubernetes);
    let watch = requests.iter().find(|request| request.target.contains("watch=1")).unwrap();
    assert!(watch.target.contains("allowWatchBookmarks=true"), "{}", watch.target);
    let (_, seconds) = watch.target.split_once("timeoutSeconds=").unwrap();
    assert!((240..=360).contains(&seconds.parse::<u32>().unwrap()), "{seconds}");
}

#[test]
fn pages_are_followed_and_an_expired_token_leads_to_one_whole_list() {
    let api = Api::start();
    for number in 0..7 {
        api.put(&format!("object-{number}"), "1");
    }
    // The second page is refused as the recorded one was.
    let expired = json!({"kind": "Status", "reason": "Expired", "code": 410});
    let kind = FaultKind::Status {
        status: 410,
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: expired.to_string().into_bytes(),
    };
    api.faults.add(Fault::once(Service::Kubernetes, kind).path_contains("continue="));
    let timing = Timing { page_size: 3, ..fast() };
    let (_watcher, seen) = watch(&api, &api.client(), timing.clone());
    seen.wait_for_equal(&api);
    assert_eq!((api.requests("limit=3"), seen.state(|state| state.replaced)), (2, 1));
    let (_second, seen) = watch(&api, &api.client(), timing);
    seen.wait_for_equal(&api);
    assert_eq!(api.requests("limit=3"), 2 + 3, "three pages");
}

#[test]
fn a_deletion_in_a_gap_is_noticed_by_the_list_after_it() {
    let api = Api::start();
    api.put("a", "1");
    api.put("b", "1");
    let (_watcher, seen) = watch(&api, &api.client(), fast());
    seen.wait_for_equal(&api);
    api.kubernetes.drop_next_events(2);
    api.delete("a");
    api.put("b", "2");
    // Every client gets a 410 after a restart, also one that missed nothing.
    api.kubernetes.restart();
    seen.wait_for_equal(&api);
    assert_eq!((api.lists(), seen.state(|state| state.objects.len())), (2, 1));
    assert_eq!(seen.state(|state| state.troubles.len()), 0, "a restart is no trouble");
}

#[test]
fn a_frozen_server_is_noticed_within_the_silence_limit() {
    let api = Api::start();
    api.kubernetes.set_bookmark_interval(Duration::from_millis(100));
    let silence_limit = Duration::from_millis(400);
    let (_watcher, seen) = watch(&api, &api.client(), Timing { silence_limit, ..fast() });
    assert!(api.kubernetes.wait_until(|view| view.open_watches() == 1, LIMIT));
    // Bookmarks keep an idle watch open for longer than the limit.
    let idle_since = now();
    assert!(!api.journal.wait_for(|requests| requests.len() > 2, 3 * silence_limit));
    assert!(idle_since.elapsed() > 2 * silence_limit);
    api.kubernetes.freeze_watches(true);
    let frozen_at = now();
    api.put("a", "1");
    seen.wait_for_equal(&api);
    let took = frozen_at.elapsed();
    assert!(took >= silence_limit / 2, "the watch was frozen, yet it reported after {took:?}");
    assert!(took < 3 * silence_limit, "noticed after {took:?}");
    assert!(api.restarts("silent") >= 1);
}

#[test]
fn a_server_that_takes_connections_and_never_answers_is_given_up() {
    let api = Api::start();
    api.put("a", "1");
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    let limit = Duration::from_millis(300);
    let timing = Timing { silence_limit: limit, list_limit: limit, ..fast() };
    let (_watcher, seen) = watch(&api, &api.client(), timing);
    seen.wait_for("the trouble", |state| !state.troubles.is_empty());
    let text = seen.state(|state| state.troubles[0].1.clone());
    assert!(text.contains("timed out"), "{text}");
    api.faults.clear();
    seen.wait_for_equal(&api);
    assert_eq!(seen.state(|state| (state.troubles.len(), state.recovered)), (1, 1));
}

#[test]
fn a_stop_ends_a_blocked_read_at_once() {
    let api = Api::start();
    let (mut watcher, seen) = watch(&api, &api.client(), Timing::default());
    assert!(api.kubernetes.wait_until(|view| view.open_watches() == 1, LIMIT));
    // What comes over the watch shows that it is being read.
    api.put("a", "1");
    seen.wait_for_equal(&api);
    assert_eq!(api.lists(), 1);
    let begin = now();
    watcher.stop();
    assert!(watcher.join(LIMIT));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[test]
fn a_stop_ends_a_wait_and_a_hanging_call_at_once() {
    let api = Api::start();
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    let (mut hanging, _) = watch(&api, &api.client(), Timing::default());
    assert!(api.journal.wait_for(|requests| !requests.is_empty(), LIMIT));
    let begin = now();
    hanging.stop();
    assert!(hanging.join(LIMIT));
    api.faults.clear();
    api.kubernetes.remove_kind("openstackconfigs");
    let timing = Timing {
        backoff_first: Duration::from_secs(1000),
        backoff_most: Duration::from_secs(1000),
        ..fast()
    };
    let (mut waiting, seen) = watch(&api, &api.client(), timing);
    seen.wait_for("the trouble", |state| !state.troubles.is_empty());
    waiting.stop();
    assert!(waiting.join(LIMIT));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_crd_that_goes_and_comes_back_is_waited_for_and_said_once() {
    let api = Api::start();
    api.put("a", "1");
    let (_watcher, seen) = watch(&api, &api.client(), fast());
    seen.wait_for_equal(&api);
    assert!(api.kubernetes.wait_until(|view| view.open_watches() == 1, LIMIT));
    api.kubernetes.remove_kind("openstackconfigs");
    seen.wait_for("all to be gone", |state| state.objects.is_empty());
    api.kubernetes.end_watches();
    assert!(api.journal.wait_for(
        |requests| requests.iter().filter(|request| request.status == Some(404)).count() > 5,
        LIMIT
    ));
    let kinds =
        seen.state(|state| state.troubles.iter().map(|trouble| trouble.0).collect::<Vec<_>>());
    assert!(
        kinds.len() <= 2 && kinds.iter().all(|kind| *kind == FailureKind::NotServed),
        "{kinds:?}"
    );
    api.kubernetes.register(ResourceKind::openstack_config());
    api.put("b", "1");
    seen.wait_for_equal(&api);
    assert!(seen.state(|state| state.recovered) >= 1);
}

#[test]
fn torn_huge_and_unknown_lines_do_not_stop_the_watch() {
    let api = Api::start();
    let (_watcher, seen) = watch(&api, &api.client(), fast());
    let lines = [
        "{\"type\":\"NEWS\",\"object\":{}}\n".to_owned(),
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}\n".to_owned(),
        "\u{0}\u{1}\n".to_owned(),
        "{\"type\":\"ADDED\",\"object\":{\"meta\n".to_owned(),
        "[".repeat(100_000) + "\n",
        "x".repeat(9 * 1024 * 1024) + "\n",
        "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":500,\"message\":\"m\"}}\n"
            .to_owned(),
    ];
    for (number, line) in lines.into_iter().enumerate() {
        assert!(api.kubernetes.wait_until(|view| view.open_watches() == 1, LIMIT));
        api.kubernetes.inject_watch_line(line);
        api.put("a", &number.to_string());
        seen.wait_for_equal(&api);
    }
    // An object of a mebibyte is an object like any other.
    api.put("large", &"y".repeat(1 << 20));
    seen.wait_for_equal(&api);
}

#[test]
fn a_rotated_token_is_taken_up_without_a_trouble() {
    let api = Api::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "first-token").unwrap();
    api.kubernetes.accept_token("first-token", "operator");
    let (_watcher, seen) = watch(&api, &api.client_with(Some(file.clone())), fast());
    api.put("a", "1");
    seen.wait_for_equal(&api);
    fs::write(&file, "second-token\n").unwrap();
    api.kubernetes.accept_token("second-token", "operator");
    api.kubernetes.revoke_token("first-token");
    api.kubernetes.cut_watches();
    api.put("a", "2");
    seen.wait_for_equal(&api);
    assert!(seen.state(|state| state.troubles.is_empty()));
    let requests = api.journal.requests(Service::Kubernetes);
    assert_eq!(requests.iter().filter(|request| request.status == Some(401)).count(), 1);
}

#[test]
fn rights_taken_away_are_said_with_the_rule_that_is_missing() {
    let api = Api::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "token").unwrap();
    api.kubernetes.accept_token("token", "operator");
    api.kubernetes.deny(Denial::new("list", "openstackconfigs"));
    let (_watcher, seen) = watch(&api, &api.client_with(Some(file)), fast());
    seen.wait_for("the trouble", |state| !state.troubles.is_empty());
    let (kind, text) = seen.state(|state| state.troubles[0].clone());
    assert_eq!(kind, FailureKind::Forbidden);
    assert!(
        text.contains(
            "cannot list resource \"openstackconfigs\" in API group \"multinic.example.com\" in the \
             namespace \"default\""
        ),
        "{text}"
    );
    api.kubernetes.allow_everything();
    api.put("a", "1");
    seen.wait_for_equal(&api);
}
