//! The real kubectl against the simulated Kubernetes API. Without kubectl on the PATH nothing is tested here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod kubernetes_client;

use kubernetes_client::{Running, start};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

fn kubectl(running: &Running, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .env("HOME", std::env::temp_dir().join(format!("kubectl-home-{}", std::process::id())))
        .env_remove("KUBECONFIG")
        .arg(format!("--server={}", running.server.url()))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs kubectl with this text as its input; it must succeed.
fn run(running: &Running, arguments: &[&str], input: &str) -> String {
    let output = try_run(running, arguments, input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn try_run(running: &Running, arguments: &[&str], input: &str) -> Output {
    let mut child = kubectl(running, arguments).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn kubectl_is_missing() -> bool {
    Command::new("kubectl").arg("help").output().is_err()
}

fn manifest(vm: &str) -> String {
    json!({
        "apiVersion": "multinic.example.com/v1alpha1",
        "kind": "OpenstackConfig",
        "metadata": {"name": "biz-cluster-1", "namespace": "default"},
        "spec": {
            "subnetID": "6f1b2c3d-0000-4000-8000-000000000001",
            "vmNames": [vm],
            "credentials": {"openstackProviderID": "provider-1", "projectID": "project-1"},
        },
    })
    .to_string()
}

#[test]
fn kubectl_creates_shows_changes_and_deletes() {
    if kubectl_is_missing() {
        return;
    }
    let running = start();
    let name = "openstackconfig.multinic.example.com/biz-cluster-1";
    let apply = ["apply", "-f", "-"];
    assert_eq!(run(&running, &apply, &manifest("vm-1")), format!("{name} created\n"));
    assert_eq!(run(&running, &apply, &manifest("vm-1")), format!("{name} unchanged\n"));
    assert_eq!(run(&running, &apply, &manifest("vm-2")), format!("{name} configured\n"));
    assert_eq!(
        running.kubernetes.get("OpenstackConfig", "default", "biz-cluster-1").unwrap()["metadata"]
            ["generation"],
        2
    );

    let status = json!({"status": {"nodes": 2, "lastSyncedAt": "2020-01-01T00:00:00Z", "conditions": [
        {"type": "Degraded", "status": "False", "reason": "Healthy"},
        {"type": "Ready", "status": "True", "reason": "Synced"},
    ]}});
    running
        .kubernetes
        .patch_status("OpenstackConfig", "default", "biz-cluster-1", &status)
        .unwrap();
    let table = run(&running, &["get", "osc"], "");
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "REASON", "NODES", "LAST", "SYNCED", "AGE"]);
    assert_eq!(rows[1][..4], ["biz-cluster-1", "True", "Synced", "2"]);
    assert!(rows[1][4].ends_with('d') && rows[1][5].ends_with('s'), "{table}");
    let yaml = run(&running, &["get", "osc", "biz-cluster-1", "-o", "yaml"], "");
    assert!(yaml.contains("reason: Synced\n") && yaml.contains("  - vm-2\n"), "{yaml}");

    run(
        &running,
        &["annotate", "osc", "biz-cluster-1", "multinic.example.com/force-reconcile=now"],
        "",
    );
    let object = running.kubernetes.get("openstackconfigs", "default", "biz-cluster-1").unwrap();
    assert_eq!(object["metadata"]["annotations"]["multinic.example.com/force-reconcile"], "now");
    assert_eq!(object["metadata"]["generation"], 2);

    let deleted = run(&running, &["delete", "osc", "biz-cluster-1"], "");
    assert!(deleted.contains("\"biz-cluster-1\" deleted"), "{deleted}");
    assert!(running.kubernetes.objects("OpenstackConfig").is_empty());
    let missing = try_run(&running, &["get", "osc", "biz-cluster-1"], "");
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(
        error.contains("openstackconfigs.multinic.example.com \"biz-cluster-1\" not found"),
        "{error}"
    );
}

#[test]
fn kubectl_describes_an_object_with_its_events() {
    if kubectl_is_missing() {
        return;
    }
    let running = start();
    run(&running, &["apply", "-f", "-"], &manifest("vm-1"));
    let object = running.kubernetes.get("OpenstackConfig", "default", "biz-cluster-1").unwrap();
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"generateName": "biz-cluster-1.", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingController": "multinic-operator", "reportingInstance": "pod-a",
        "action": "Sync", "reason": "Synced", "type": "Normal", "note": "synced 2 nodes",
        "regarding": {
            "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
            "namespace": "default", "name": "biz-cluster-1", "uid": object["metadata"]["uid"],
        },
    });
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let answer =
        kubernetes_client::ask(&running, "POST", path, "application/json", &event.to_string());
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.json()["note"], "synced 2 nodes");
    let described = run(&running, &["describe", "osc", "biz-cluster-1"], "");
    assert!(described.contains("Kind:         OpenstackConfig"), "{described}");
    assert!(
        described.contains("synced 2 nodes") && described.contains("multinic-operator"),
        "{described}"
    );
    let events = run(&running, &["get", "events"], "");
    assert!(events.contains("Synced"), "{events}");
}

#[test]
fn kubectl_applies_on_the_server_and_meets_conflicts() {
    if kubectl_is_missing() {
        return;
    }
    let running = start();
    let secret = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "rabbitmq", "namespace": "default"}, "data": {"user": value},
        })
        .to_string()
    };
    let as_manager =
        |manager: &'static str| ["apply", "--server-side", "--field-manager", manager, "-f", "-"];
    assert_eq!(
        run(&running, &as_manager("one"), &secret("YQ==")),
        "secret/rabbitmq serverside-applied\n"
    );
    let refused = try_run(&running, &as_manager("two"), &secret("Yg=="));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("conflict with \"one\": .data.user"), "{error}");
    // Client-side, which for a built-in kind sends a strategic merge patch.
    run(&running, &["apply", "-f", "-"], &secret("Yw=="));
    let stored = running.kubernetes.get("Secret", "default", "rabbitmq").unwrap();
    assert_eq!(stored["data"]["user"], "Yw==");
}

#[test]
fn kubectl_watches() {
    if kubectl_is_missing() {
        return;
    }
    let running = start();
    run(&running, &["apply", "-f", "-"], &manifest("vm-1"));
    let mut child = kubectl(&running, &["get", "osc", "-w"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("NAME"));
    assert!(lines.next().unwrap().starts_with("biz-cluster-1"));
    assert!(running.kubernetes.wait_until(|view| view.open_watches() == 1, LIMIT));
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NovaError"}]}});
    running
        .kubernetes
        .patch_status("OpenstackConfig", "default", "biz-cluster-1", &status)
        .unwrap();
    let line = lines.next().unwrap();
    assert!(line.contains("False") && line.contains("NovaError"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(running.kubernetes.wait_until(|view| view.open_watches() == 0, LIMIT));
}
