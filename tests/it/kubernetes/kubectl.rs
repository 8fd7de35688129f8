//! What people see and do with kubectl. Where there is none, each test says so and tests nothing.

use std::process::Command;

use super::QUICK;
use crate::process::Operator;
use crate::skip::skipped;
use crate::world::World;
use simulated_cloud::{Fault, FaultKind, Service};

struct Kubectl {
    server: String,
    home: tempfile::TempDir,
}

impl Kubectl {
    /// None where kubectl isn't installed.
    fn of(world: &World) -> Option<Kubectl> {
        if Command::new("kubectl").arg("help").output().is_err() {
            skipped("kubectl is not installed");
            return None;
        }
        let home = tempfile::TempDir::new().unwrap();
        Some(Kubectl { server: world.url(Service::Kubernetes), home })
    }

    /// What it prints; it must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("kubectl")
            .env_remove("KUBECONFIG")
            .env("HOME", self.home.path())
            .args(["--server", &self.server])
            .args(arguments)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn get_shows_how_each_object_is_doing() {
    let world = World::of("three-nodes");
    let Some(kubectl) = Kubectl::of(&world) else { return };
    let _operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let table = kubectl.run(&["get", "osc"]);
    let mut lines = table.lines();
    let heads = lines.next().unwrap();
    let columns: Vec<&str> = heads.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(
        columns,
        ["NAME", "READY", "REASON", "NODES", "CONFIGURED", "LAST SYNCED", "AGE"],
        "{table}"
    );
    let values: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(values[..4], ["demo", "True", "Synced", "3"], "{table}");
    // Without a cluster that can be read, CONFIGURED is empty.
    for time in &values[values.len() - 2..] {
        assert!(time.ends_with('s') || time.ends_with('m'), "{table}");
    }
}

#[test]
fn describe_shows_the_conditions_and_the_events() {
    let world = World::of("three-nodes");
    let Some(kubectl) = Kubectl::of(&world) else { return };
    world.faults().add(
        Fault::always(Service::Neutron, FaultKind::Html { status: 503 }).path_contains("/ports"),
    );
    let operator = Operator::start(&world, &QUICK);
    let message = world.wait_for_reason("NeutronPortError");
    world.faults().clear();
    world.wait_for_reason("NoChange");
    let _ = operator.stop();
    let text = kubectl.run(&["describe", "osc", "demo"]);
    let (object, events) = text.split_once("Events:").unwrap();
    for part in
        ["Conditions:", "Type:", "Ready", "Degraded", "Healthy", "NoChange", "Last Synced At:"]
    {
        assert!(object.contains(part), "{part} is not in\n{text}");
    }
    for part in ["Warning", "NeutronPortError", "Normal", "Synced", "multinic-operator"] {
        assert!(events.contains(part), "{part} is not in\n{text}");
    }
    assert!(events.contains(&message), "{text}");
}

#[test]
fn annotate_makes_the_operator_send_everything_again() {
    let world = World::of("three-nodes");
    let Some(kubectl) = Kubectl::of(&world) else { return };
    let _operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    for (value, posts) in [("one", 2), ("two", 3)] {
        let annotation = format!("multinic.example.com/force-reconcile={value}");
        kubectl.run(&["annotate", "--overwrite", "osc", "demo", &annotation]);
        world.wait_for_posts(posts);
    }
    let received = world.viola().received();
    assert!(received.iter().all(|post| post.nodes.len() == 3));
}
