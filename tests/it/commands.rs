//! The commands that look once and end: `check` and `plan`, and what is made of other arguments.

mod check;
mod export_import;
mod plan;

use std::path::Path;

use simulated_cloud::{Cloud, Service};
use tempfile::TempDir;

use super::process::{Finished, Operator, SOON, run};
use super::scenarios::SECRETS;
use super::world::World;

/// Runs a command in a folder of its own.
fn run_alone(cloud: &Cloud, variables: &[(&str, &str)], arguments: &[&str]) -> Finished {
    run_in(cloud, variables, TempDir::new().unwrap().path(), arguments)
}

/// Runs a command, and sees that it neither posts nor writes nor tells a secret.
fn run_in(
    cloud: &Cloud,
    variables: &[(&str, &str)],
    folder: &Path,
    arguments: &[&str],
) -> Finished {
    let before = cloud.journal().all().last().map_or(0, |request| request.sequence);
    let finished = run(cloud, variables, folder, arguments);
    let shown = format!("{}\n{}", finished.output, finished.errors);
    let mut secrets: Vec<String> = SECRETS.into_iter().map(str::to_owned).collect();
    for request in cloud.journal().all() {
        secrets.extend(request.header("x-auth-token").map(str::to_owned));
        let from_us = request.sequence > before
            && request.header("user-agent").is_some_and(|agent| agent.contains("multinic"));
        let is_review = request.path().ends_with("/selfsubjectaccessreviews");
        match request.service {
            Service::Viola | Service::Kubernetes if from_us && !is_review => {
                assert_eq!(request.method, "GET", "{} wrote {}", arguments[0], request.target);
            }
            _ => {}
        }
    }
    for secret in secrets {
        assert!(!shown.contains(&secret), "a secret is shown: {shown}");
    }
    finished
}

/// Waits until the operator has written all there is to write about its one object, and halts it:
/// it goes on holding its lock, and what is written from here on, a command wrote.
fn halt_once_settled(world: &World, operator: &Operator) {
    let (namespace, name) = world.object();
    world.wait_for_reason("Synced");
    let secret = format!("rabbitmq-{name}");
    let settled = world
        .kubernetes()
        .wait_until(|view| view.get("Secret", &namespace, &secret).is_some(), SOON);
    assert!(settled, "the Secret never came");
    operator.signal("STOP");
}

#[test]
fn arguments_that_make_no_command_end_with_2_and_the_usage() {
    let world = World::of("three-nodes");
    for arguments in [vec!["chekc"], vec!["plan"], vec!["plan", "demo"], vec!["check", "--all"]] {
        let finished = run_alone(&world, &[], &arguments);
        assert_eq!(finished.code, 2, "{arguments:?}");
        assert!(finished.errors.contains("usage:"), "{arguments:?}: {}", finished.errors);
        assert_eq!(finished.output, "");
    }
    assert!(world.journal().all().is_empty(), "nobody was asked anything");
}

#[test]
fn the_help_tells_of_the_commands_and_needs_no_settings() {
    let world = World::of("three-nodes");
    let finished = run_alone(&world, &[("POLL_FAST_INTERVAL", "soon")], &["--help"]);
    assert_eq!((finished.code, finished.errors.as_str()), (0, ""));
    for text in ["check", "plan NAMESPACE/NAME", "--json", "VIOLA_ENDPOINT"] {
        assert!(finished.output.contains(text), "{text}");
    }
}

#[test]
fn settings_that_cannot_be_used_end_each_command_with_2_and_the_same_report() {
    let world = World::of("three-nodes");
    let bad = [("POLL_FAST_INTERVAL", "soon"), ("SYNC_WORKERS", "0")];
    for arguments in [&["check"][..], &["plan", "default/demo"], &[]] {
        let finished = run_alone(&world, &bad, arguments);
        assert_eq!(finished.code, 2, "{arguments:?}");
        assert!(finished.errors.contains("has 2 problems"), "{}", finished.errors);
        assert!(finished.errors.contains("SYNC_WORKERS"), "{}", finished.errors);
    }
}
