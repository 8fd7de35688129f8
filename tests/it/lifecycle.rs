//! Start, readiness and stop of the process.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use simulated_cloud::{Fault, FaultKind, LoggedRequest, Service};
use tempfile::TempDir;

use super::process::{Operator, SOON};
use super::world::World;

/// A stop takes ten seconds at most, whatever hangs.
const STOP_LIMIT: Duration = Duration::from_secs(10);

fn has_asked(world: &World, service: Service) {
    let asked = |log: &[LoggedRequest]| log.iter().any(|request| request.service == service);
    assert!(world.journal().wait_for(asked, SOON), "{service:?} was never asked");
}

#[test]
fn an_idle_operator_stops_at_once_with_exit_code_0() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let (status, took) = operator.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_service_that_hangs_does_not_hold_up_the_stop() {
    for service in [
        Service::Contrabass,
        Service::Keystone,
        Service::Neutron,
        Service::Nova,
        Service::Viola,
        Service::Kubernetes,
    ] {
        let world = World::of("three-nodes");
        world.faults().add(Fault::always(service, FaultKind::Hang));
        let operator = Operator::start(&world, &[]);
        has_asked(&world, service);
        let (status, took) = operator.stop();
        assert_eq!(status.code(), Some(0), "{service:?}");
        assert!(took < STOP_LIMIT, "{service:?}: {took:?}");
    }
}

#[test]
fn what_viola_accepts_during_a_stop_is_remembered() {
    let world = World::of("three-nodes");
    world.faults().set_latency(Service::Viola, Duration::from_millis(1500));
    let operator = Operator::start(&world, &[]);
    has_asked(&world, Service::Viola);
    let folder = operator.folder();
    let (status, _) = operator.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(world.viola().received().len(), 1);
    let successor = Operator::start_in(&world, &[], folder);
    world.wait_for_reason("NoChange");
    assert_eq!(world.viola().received().len(), 1);
    let (_, body) = successor.inventory("/v1/inventory/node-configs");
    assert_eq!(body.matches("\"lastConfigHash\"").count(), 3);
}

#[test]
fn a_bad_configuration_ends_with_exit_code_2_and_one_report() {
    let world = World::of("three-nodes");
    let operator =
        Operator::start(&world, &[("POLL_FAST_INTERVAL", "soon"), ("SYNC_WORKERS", "many")]);
    let (status, log) = operator.wait();
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("2 problems"), "{log}");
    assert!(log.contains("POLL_FAST_INTERVAL") && log.contains("SYNC_WORKERS"), "{log}");
}

#[test]
fn a_variable_that_is_no_text_is_in_the_report_with_the_others() {
    let output = Command::new(env!("CARGO_BIN_EXE_multinic-operator"))
        .env_clear()
        .env("VIOLA_ENDPOINT", OsStr::from_bytes(b"http://caf\xe9"))
        .env("SYNC_WORKERS", "many")
        .env("KUBE_API_URL", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let report = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{report}");
    assert!(report.contains("2 problems") && report.contains("SYNC_WORKERS"), "{report}");
    assert!(report.contains("VIOLA_ENDPOINT: is not UTF-8 text"), "{report}");
}

#[test]
fn a_missing_required_variable_is_told_on_every_object() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &[("VIOLA_ENDPOINT", "")]);
    let message = world.wait_for_reason("ConfigError");
    assert!(message.contains("VIOLA_ENDPOINT"), "{message}");
}

#[test]
fn health_and_metrics_answer() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    assert_eq!(operator.health("/healthz"), (200, "ok\n".to_owned()));
    let (status, text) = operator.health("/readyz");
    assert_eq!(status, 200, "{text}");
    let (status, metrics) = operator.health("/metrics");
    assert_eq!(status, 200);
    for line in [
        "controller_runtime_reconcile_total{controller=\"openstackconfig\",result=\"success\"} 1",
        "multinic_nodes_sent_total 3",
        "multinic_upstream_requests_total{service=\"Viola\",method=\"POST\",status=\"2xx\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn an_operator_that_has_not_listed_yet_is_alive_and_not_ready() {
    let world = World::of("three-nodes");
    world.faults().add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    let operator = Operator::start(&world, &[]);
    has_asked(&world, Service::Kubernetes);
    assert_eq!(operator.health("/healthz").0, 200);
    let (status, text) = operator.health("/readyz");
    assert_eq!(status, 503, "{text}");
}

#[test]
fn a_failing_kubernetes_api_does_not_stop_the_sync_and_the_newest_status_is_written_later() {
    let world = World::of("three-nodes");
    let fault = Fault::always(Service::Kubernetes, FaultKind::Html { status: 500 });
    world.faults().add(fault.method("PATCH"));
    let variables = [("POLL_FAST_INTERVAL", "300ms"), ("POLL_SLOW_INTERVAL", "300ms")];
    let _operator = Operator::start(&world, &variables);
    world.wait_for_posts(1);
    let polled = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.target.contains("/ports")).count() >= 4
    };
    assert!(world.journal().wait_for(polled, SOON));
    assert!(world.ready().is_none());
    world.faults().clear();
    world.wait_for_reason("NoChange");
}

#[test]
fn only_the_named_namespaces_are_watched() {
    let world = World::of("three-nodes");
    let (namespace, _) = world.object();
    let variables = [("WATCH_NAMESPACES", format!("{namespace},elsewhere"))];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let _operator = Operator::start(&world, &variables);
    world.wait_for_reason("Synced");
    let lists: Vec<String> =
        world.journal().requests(Service::Kubernetes).iter().map(|r| r.path().to_owned()).collect();
    assert!(lists.iter().all(|path| path.contains("/namespaces/")), "{lists:?}");
}

/// Runs `mkfifo`: who reads a named pipe that nobody writes to waits, as for storage that hangs.
pub(super) fn named_pipe(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn storage_that_hangs_is_said_everywhere_and_waited_for() {
    let world = World::of("three-nodes");
    let folder = Arc::new(TempDir::new().unwrap());
    let pipe = folder.path().join("inventory.json");
    named_pipe(&pipe);
    let operator = Operator::start_in(&world, &[], Arc::clone(&folder));
    let said = format!("no answer from the storage to the attempt to read {}", pipe.display());
    operator.line_with(&said);
    let (status, text) = operator.health("/readyz");
    assert_eq!(status, 503);
    assert!(text.contains(&format!("[-] inventory: {said} (since 2")), "{text}");
    assert!(!text.contains("standing by"), "{text}");
    assert_eq!(operator.health("/healthz").0, 200);
    let metrics = operator.health("/metrics").1;
    assert!(metrics.contains("multinic_inventory_state{state=\"opening\"} 1"), "{metrics}");
    let (status, text) = operator.inventory("/v1/inventory/node-configs");
    assert!(status == 503 && text.contains(&said), "{status} {text}");
    world.wait_for_reason("ConfigError");
    assert!(world.viola().received().is_empty());
    let (status, took) = operator.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < STOP_LIMIT, "{took:?}");

    let often = [("POLL_ERROR_INTERVAL", "1s"), ("POLL_FAST_INTERVAL", "1s")];
    let operator = Operator::start_in(&world, &often, folder);
    operator.line_with(&said);
    std::fs::write(&pipe, r#"{"records": []}"#).unwrap();
    world.wait_for_reason("Synced");
    assert_eq!(operator.health("/readyz").0, 200);
    assert!(pipe.is_file());
}

#[test]
fn a_paused_object_is_left_alone_over_a_restart_until_the_pause_ends() {
    let world = World::of("three-nodes");
    let quick = [("POLL_FAST_INTERVAL", "200ms"), ("POLL_SLOW_INTERVAL", "300ms")];
    let operator = Operator::start(&world, &quick);
    world.wait_for_reason("NoChange");
    let condition = || {
        let conditions = world.status()["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "Paused")
    };
    let is_paused = |view: &simulated_cloud::kubernetes::View| {
        let (namespace, name) = world.object();
        let object = view.get("OpenstackConfig", &namespace, &name).unwrap_or_default();
        object["status"]["conditions"].to_string().contains("spec.paused is true")
    };
    world.change_spec(serde_json::json!({"paused": true}));
    assert!(world.kubernetes().wait_until(is_paused, SOON), "{}", world.status());
    assert_eq!(condition().unwrap()["status"], "True");
    assert_eq!(world.ready().unwrap()["reason"], "NoChange");
    let folder = operator.folder();
    assert_eq!(operator.stop().0.code(), Some(0));
    let asked = |service| world.journal().count(service);
    let before = (asked(Service::Neutron), asked(Service::Viola));
    let operator = Operator::start_in(&world, &quick, folder);
    // Until the controller has seen the object.
    while !operator.inventory("/v1/overview").1.contains("\"paused\":true") {}
    assert_eq!((asked(Service::Neutron), asked(Service::Viola)), before);
    world.change_spec(serde_json::json!({"paused": null}));
    let goes_on = |view: &simulated_cloud::kubernetes::View| !is_paused(view);
    assert!(world.kubernetes().wait_until(goes_on, SOON), "{}", world.status());
    assert_eq!(condition(), None);
    assert!(asked(Service::Neutron) > before.0);
    assert_eq!(asked(Service::Viola), before.1, "nothing had changed");
}
