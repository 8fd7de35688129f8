//! `check`: all is well; and each thing that can be wrong is seen, named, and hides nothing else.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use simulated_cloud::kubernetes::{Denial, ResourceKind};
use simulated_cloud::{Fault, FaultKind, Service};
use tempfile::TempDir;

use super::super::lifecycle::named_pipe;
use super::super::process::{Finished, Operator};
use super::super::world::World;
use super::{halt_once_settled, run_alone, run_in};
use crate::skip::skipped;

const QUICK: [(&str, &str); 3] =
    [("CONTRABASS_TIMEOUT", "1s"), ("OPENSTACK_TIMEOUT", "1s"), ("VIOLA_TIMEOUT", "1s")];

/// What was checked with this result, such as `ok`.
fn with_result(finished: &Finished, result: &str) -> BTreeSet<String> {
    let title = finished.output.lines().next().unwrap();
    let (place, column) = (title.find("WHERE").unwrap(), title.find("RESULT").unwrap());
    let cell = |line: &str, from: usize, to: usize| -> String {
        line.chars().skip(from).take(to - from).collect::<String>().trim().to_owned()
    };
    let rows = finished.output.lines().skip(1).take_while(|line| !line.is_empty());
    let rows = rows.filter(|line| cell(line, column, column + 8) == result);
    rows.map(|line| cell(line, 0, place)).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const ALL: [&str; 15] = [
    "Settings",
    "Kubernetes API",
    "RBAC openstackconfigs",
    "RBAC openstackconfigs/status",
    "RBAC secrets",
    "RBAC events",
    "CRD",
    "OpenstackConfigs",
    "Contrabass",
    "Keystone",
    "Neutron endpoint",
    "Neutron subnet",
    "Nova",
    "Viola",
    "Inventory folder",
];

/// Exactly this failed; those were skipped for it; all else is well.
fn only_failed(finished: &Finished, failed: &[&str], skipped: &[&str]) {
    assert_eq!(finished.code, 1, "{}{}", finished.output, finished.errors);
    assert_eq!(with_result(finished, "FAILED"), names(failed), "{}", finished.output);
    let mut wanted = names(&ALL);
    wanted.insert("Inventory file".to_owned());
    wanted.retain(|name| !failed.contains(&name.as_str()) && !skipped.contains(&name.as_str()));
    assert_eq!(with_result(finished, "ok"), wanted, "{}", finished.output);
    assert!(finished.output.contains("-> "), "it says what to do: {}", finished.output);
}

#[test]
fn in_a_healthy_world_all_is_ok_and_what_is_off_is_skipped() {
    let world = World::of("three-nodes");
    let finished = run_alone(&world, &[], &["check"]);
    assert_eq!(finished.code, 0, "{}{}", finished.output, finished.errors);
    let mut wanted = names(&ALL);
    wanted.insert("Inventory file".to_owned());
    assert_eq!(with_result(&finished, "ok"), wanted, "{}", finished.output);
    assert_eq!(with_result(&finished, "skipped"), names(&["RBAC leases"]));
    assert!(finished.output.contains("all 16 checks are ok, 1 skipped"), "{}", finished.output);
    let viola = world.journal().requests(Service::Viola);
    assert_eq!(viola.len(), 1);
    assert!(world.viola().received().is_empty() && world.kubernetes().writes().is_empty());
}

#[test]
fn a_project_is_asked_about_once_however_many_objects_it_has() {
    let world = World::of("older-object-keeps-node");
    let finished = run_alone(&world, &[], &["check"]);
    assert_eq!(finished.code, 0, "{}", finished.output);
    assert!(world.scenario().objects.len() > 1);
    assert_eq!(world.journal().count(Service::Contrabass), 1);
    assert_eq!(world.journal().count(Service::Keystone), 1);
    assert_eq!(world.journal().count(Service::Nova), 1);
    for object in &world.scenario().objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(finished.output.contains(&format!("default/{name}")), "{}", finished.output);
    }
}

#[test]
fn each_service_that_is_down_or_hangs_is_named_and_hides_nobody_else() {
    let after_contrabass = ["Keystone", "Neutron endpoint", "Neutron subnet", "Nova"];
    let after_keystone = ["Neutron endpoint", "Neutron subnet", "Nova"];
    let cases: [(Service, &str, &[&str], &str); 5] = [
        (Service::Contrabass, "Contrabass", &after_contrabass, "CONTRABASS_ENDPOINT"),
        (Service::Keystone, "Keystone", &after_keystone, "log in by hand"),
        (Service::Neutron, "Neutron subnet", &[], "Neutron's own health"),
        (Service::Nova, "Nova", &[], "OPENSTACK_NOVA_ENDPOINT"),
        (Service::Viola, "Viola", &[], "VIOLA_ENDPOINT"),
    ];
    let world = World::of("three-nodes");
    for (service, row, skipped, advice) in cases {
        world.faults().add(Fault::always(service, FaultKind::Hang));
        let hanging = run_alone(&world, &QUICK, &["check"]);
        world.faults().clear();
        only_failed(&hanging, &[row], skipped);
        assert!(hanging.output.contains("timed out"), "{service}: {}", hanging.output);
        assert!(hanging.took < Duration::from_secs(20), "{service}: {:?}", hanging.took);

        world.stop(service);
        let down = run_alone(&world, &QUICK, &["check"]);
        only_failed(&down, &[row], skipped);
        assert!(down.output.contains("connection refused"), "{service}: {}", down.output);
        assert!(down.output.contains(advice), "{service}: {}", down.output);
        world.start_again(service).unwrap();
    }
}

#[test]
fn without_kubernetes_the_rest_is_tried_as_far_as_it_can_be_known() {
    let world = World::of("three-nodes");
    world.stop(Service::Kubernetes);
    let finished = run_alone(&world, &QUICK, &["check"]);
    assert_eq!(finished.code, 1);
    assert_eq!(with_result(&finished, "FAILED"), names(&["Kubernetes API"]));
    let ok = ["Settings", "Contrabass", "Viola", "Inventory folder", "Inventory file"];
    assert_eq!(with_result(&finished, "ok"), names(&ok), "{}", finished.output);
    assert!(finished.output.contains("KUBE_API_URL"), "{}", finished.output);
}

#[test]
fn a_crd_that_is_older_than_the_program_is_named() {
    let world = World::of("three-nodes");
    let mut older = ResourceKind::openstack_config();
    let mut schema = Value::clone(&*older.schema.unwrap());
    let status = &mut schema["properties"]["status"]["properties"];
    status.as_object_mut().unwrap().remove("lastApproved").unwrap();
    older.schema = Some(Arc::new(schema));
    world.kubernetes().register(older);
    let finished = run_alone(&world, &[], &["check"]);
    only_failed(&finished, &["CRD"], &["RBAC leases"]);
    for part in ["its status lacks lastApproved", "-> apply the CRDs of this version"] {
        assert!(finished.output.contains(part), "{part}: {}", finished.output);
    }
}

#[test]
fn a_missing_right_is_named_with_its_verb_and_where() {
    for (verb, resource) in [
        ("list", "openstackconfigs"),
        ("watch", "openstackconfigs"),
        ("patch", "openstackconfigs/status"),
        ("get", "secrets"),
        ("create", "secrets"),
        ("patch", "secrets"),
        ("create", "events"),
        ("patch", "events"),
    ] {
        let world = World::of("three-nodes");
        world.kubernetes().deny(Denial::new(verb, resource).at_cluster_scope());
        world.kubernetes().deny(Denial::new(verb, resource).in_namespace("default"));
        let finished = run_alone(&world, &[], &["check"]);
        assert_eq!(finished.code, 1, "{verb} {resource}: {}", finished.output);
        let row = format!("RBAC {resource}");
        assert!(with_result(&finished, "FAILED").contains(&row), "{}", finished.output);
        let advice = format!("grant {verb} on {resource} in API group");
        assert!(finished.output.contains(&advice), "{}", finished.output);
        assert!(finished.output.contains("all namespaces: as in manifests/rbac/role.yaml"));
        let others = if verb == "list" { 2 } else { 1 };
        assert_eq!(with_result(&finished, "FAILED").len(), others, "{}", finished.output);
    }
}

#[test]
fn rights_are_asked_for_in_the_watched_namespaces_and_leases_where_a_leader_is_elected() {
    let world = World::of("three-nodes");
    // As a namespaced role leaves it: nothing over all namespaces.
    world.kubernetes().deny(Denial::new("*", "*").at_cluster_scope());
    world.kubernetes().deny(Denial::new("watch", "openstackconfigs").in_namespace("team-b"));
    world.kubernetes().deny(Denial::new("update", "leases").in_namespace("operators"));
    let variables = [
        ("WATCH_NAMESPACES", "default,team-b"),
        ("LEADER_ELECT", "true"),
        ("POD_NAMESPACE", "operators"),
    ];
    let finished = run_alone(&world, &variables, &["check"]);
    let failed = names(&["RBAC openstackconfigs", "RBAC leases"]);
    assert_eq!(with_result(&finished, "FAILED"), failed, "{}", finished.output);
    assert!(finished.output.contains("may not watch"), "{}", finished.output);
    assert!(finished.output.contains("namespace team-b"), "{}", finished.output);
    assert!(finished.output.contains("namespaces default, team-b"), "{}", finished.output);
    assert!(finished.output.contains("grant update on leases"), "{}", finished.output);
    assert!(finished.output.contains("leader_election_role.yaml"), "{}", finished.output);
}

#[test]
fn a_token_that_is_refused_and_a_missing_crd_are_told_apart() {
    let world = World::of("three-nodes");
    world.kubernetes().remove_kind("OpenstackConfig");
    let finished = run_alone(&world, &[], &["check"]);
    assert!(with_result(&finished, "FAILED").contains("CRD"), "{}", finished.output);
    assert!(finished.output.contains("make install"), "{}", finished.output);

    let world = World::of("three-nodes");
    world.kubernetes().accept_token("the-good-token", "operator");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "the-bad-token").unwrap();
    let variables = [("KUBE_TOKEN_FILE", file.to_str().unwrap())];
    let finished = run_alone(&world, &variables, &["check"]);
    assert!(with_result(&finished, "FAILED").contains("Kubernetes API"), "{}", finished.output);
    assert!(finished.output.contains("401 Unauthorized"), "{}", finished.output);
    assert!(!finished.output.contains("the-bad-token"));
}

#[test]
fn what_is_wrong_with_the_cloud_has_the_words_of_the_status() {
    let world = World::of("three-nodes");
    let wrong_key = [("CONTRABASS_ENCRYPT_KEY", "another-key-0016")];
    let finished = run_alone(&world, &wrong_key, &["check"]);
    let skipped = ["Keystone", "Neutron endpoint", "Neutron subnet", "Nova"];
    only_failed(&finished, &["Contrabass"], &skipped);
    assert!(finished.output.contains("adminPw can't be decrypted"), "{}", finished.output);

    world.edit(|state| state.users[0].password = "changed".to_owned());
    let finished = run_alone(&world, &[], &["check"]);
    only_failed(&finished, &["Keystone"], &["Neutron endpoint", "Neutron subnet", "Nova"]);
    assert!(finished.output.contains("HTTP 401"), "{}", finished.output);

    let world = World::of("no-network-endpoint");
    let finished = run_alone(&world, &[], &["check"]);
    only_failed(&finished, &["Neutron endpoint"], &["Neutron subnet"]);
    assert!(finished.output.contains("OPENSTACK_NEUTRON_ENDPOINT"), "{}", finished.output);

    let world = World::of("three-nodes");
    world.change_spec(serde_json::json!({"subnetID": "no-such-subnet"}));
    let finished = run_alone(&world, &[], &["check"]);
    only_failed(&finished, &["Neutron subnet"], &[]);
    assert!(finished.output.contains("of default/demo"), "{}", finished.output);
}

#[test]
fn a_required_setting_that_is_missing_fails_and_the_rest_is_tried() {
    let world = World::of("three-nodes");
    let finished = run_alone(&world, &[("VIOLA_ENDPOINT", "")], &["check"]);
    only_failed(&finished, &["Settings"], &["Viola"]);
    assert!(finished.output.contains("VIOLA_ENDPOINT"), "{}", finished.output);
}

#[test]
fn without_objects_contrabass_is_only_reached() {
    let world = World::of("three-nodes");
    let (namespace, name) = world.object();
    world.kubernetes().delete("OpenstackConfig", &namespace, &name).unwrap();
    let finished = run_alone(&world, &[], &["check"]);
    assert_eq!(finished.code, 0, "{}", finished.output);
    assert!(with_result(&finished, "ok").contains("Contrabass"));
    let skipped = ["RBAC leases", "Keystone", "Neutron endpoint", "Nova"];
    assert_eq!(with_result(&finished, "skipped"), names(&skipped), "{}", finished.output);
}

#[test]
fn the_inventory_is_looked_at_without_disturbing_the_operator_that_has_it() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    halt_once_settled(&world, &operator);
    let folder = operator.folder();
    let finished = run_in(&world, &[], folder.path(), &["check"]);
    operator.signal("CONT");
    assert_eq!(finished.code, 0, "{}", finished.output);
    assert!(finished.output.contains("an operator works with it"), "{}", finished.output);
    assert!(finished.output.contains("holds 3 nodes"), "{}", finished.output);
    assert_eq!(operator.health("/readyz").0, 200);
    assert!(!operator.log().contains("in use by another operator"));
    let left = std::fs::read_dir(folder.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().contains("check")), "{left:?}");
}

#[test]
fn an_inventory_that_cannot_be_written_or_read_is_named() {
    let world = World::of("three-nodes");
    let nowhere = [("INVENTORY_DB_PATH", "/proc/inventory.json"), ("INVENTORY_ENABLED", "false")];
    let finished = run_alone(&world, &nowhere, &["check"]);
    only_failed(&finished, &["Inventory folder"], &[]);
    assert!(finished.output.contains("manifests/overlays/pvc"), "{}", finished.output);
    assert!(with_result(&finished, "skipped").contains("Inventory API"), "{}", finished.output);

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("inventory.json");
    std::fs::write(&file, "neither JSON nor an inventory").unwrap();
    let finished = run_in(&world, &[], folder.path(), &["check"]);
    only_failed(&finished, &["Inventory file"], &[]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "it was left alone");
}

#[test]
fn storage_that_hangs_is_named_and_not_waited_for() {
    let world = World::of("three-nodes");
    let folder = TempDir::new().unwrap();
    named_pipe(&folder.path().join("inventory.json"));
    let began = Instant::now();
    let finished = run_in(&world, &[], folder.path(), &["check"]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    only_failed(&finished, &["Inventory file"], &[]);
    let said = "no answer from the storage to the attempt to read";
    assert!(finished.output.contains(said), "{}", finished.output);
}

#[test]
fn a_file_that_is_mounted_by_itself_is_named() {
    let world = World::of("three-nodes");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("inventory.json");
    std::fs::write(&file, r#"{"records": []}"#).unwrap();
    let mounted = Command::new("mount").arg("--bind").args([&file, &file]).status();
    if !mounted.is_ok_and(|status| status.success()) {
        skipped("nothing can be mounted here");
        return;
    }
    let finished = run_in(&world, &[], folder.path(), &["check"]);
    let _ = Command::new("umount").arg("-l").arg(&file).status();
    only_failed(&finished, &["Inventory folder"], &[]);
    assert!(finished.output.contains("is mounted by itself (subPath)"), "{}", finished.output);
}

#[test]
fn notifications_are_tried_over_a_connection_of_its_own() {
    let world = World::of("three-nodes");
    let on = [&QUICK[..], &[("OPENSTACK_NOTIFICATIONS", "true")]].concat();
    let check = || {
        let finished = run_alone(&world, &on, &["check"]);
        let row = finished.output.lines().find(|line| line.starts_with("RabbitMQ ")).unwrap();
        (finished.code, row.to_owned())
    };
    let broker = world.broker();
    let (code, row) = check();
    let bound = format!("connected to {}, bound to neutron and nova; ", broker.address());
    assert!(code == 0 && row.contains(&format!("{bound}heard nothing in 5 s")), "{row}");
    let (code, row) = std::thread::scope(|scope| {
        let check = scope.spawn(check);
        assert!(broker.wait_for_consumers(1, Duration::from_secs(20)));
        broker.publish("neutron", "notifications.info", b"{}");
        check.join().unwrap()
    });
    assert!(code == 0 && row.contains(&format!("{bound}heard a message within 1 s")), "{row}");
    world.edit(|state| {
        state.providers[0].rabbitmq.as_mut().unwrap().urls = vec!["127.0.0.1:1".to_owned()];
    });
    let (code, row) = check();
    assert!(code == 1 && row.contains("FAILED   127.0.0.1:1: connection refused"), "{row}");
    world.edit(|state| state.providers[0].rabbitmq = None);
    let (code, row) = check();
    assert!(code == 0 && row.contains("skipped  no answer of Contrabass names one"), "{row}");
}
