//! `plan`: what it says is what the operator then does, and saying it does nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use simulated_cloud::{Cloud, LoggedRequest, Scenario, Service};
use tempfile::TempDir;

use super::super::process::{Finished, Operator, SOON};
use super::super::scenarios::in_every_fixture;
use super::super::world::{World, ready_of};
use super::{halt_once_settled, run_alone, run_in};

fn plan_of(world: &World) -> Finished {
    run_alone(world, &[], &["plan", &key_of(world)])
}

fn key_of(world: &World) -> String {
    let (namespace, name) = world.object();
    format!("{namespace}/{name}")
}

/// The nodes of the requests that `plan --json` tells of.
fn requests(finished: &Finished) -> Vec<Value> {
    finished.output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Reason and message of the Ready condition as the plan foresees them.
fn foreseen(finished: &Finished) -> (String, String) {
    let text = match finished.code {
        0 => finished.output.lines().last().unwrap().split_once("Ready=").unwrap().1,
        _ => {
            let mut lines = finished.errors.lines();
            lines.find(|line| line.starts_with("Ready=")).unwrap()
        }
    };
    let (reason, message) = text.split_once(", ").unwrap().1.split_once(": ").unwrap();
    (reason.to_owned(), message.to_owned())
}

#[test]
fn in_every_fixture_what_is_planned_is_what_is_then_sent_and_said() {
    in_every_fixture(comes_true);
}

fn comes_true(scenario: Scenario) -> Result<(), String> {
    let world = World(Cloud::start(scenario).unwrap());
    let (mut planned, mut statuses) = (BTreeSet::new(), Vec::new());
    for key in world.scenario().expected.status.keys() {
        let text = run_alone(&world, &[], &["plan", key]);
        statuses.push((key.clone(), foreseen(&text)));
        let bodies = run_alone(&world, &[], &["plan", key, "--json"]);
        assert_eq!(text.code, bodies.code);
        planned.extend(bodies.output.lines().flat_map(nodes_of));
    }
    if world.journal().count(Service::Viola) > 0 || !world.kubernetes().writes().is_empty() {
        return Err("planning wrote something".to_owned());
    }
    let _operator = Operator::start(&world, &[]);
    for (key, (reason, message)) in &statuses {
        let (namespace, name) = key.split_once('/').unwrap();
        let became_true = world.kubernetes().wait_until(
            |view| {
                let object = view.get("OpenstackConfig", namespace, name).unwrap_or_default();
                ready_of(&object).is_some_and(|ready| {
                    ready["reason"] == reason.as_str() && ready["message"] == message.as_str()
                })
            },
            SOON,
        );
        if !became_true {
            let object = world.kubernetes().get("OpenstackConfig", namespace, name).unwrap();
            return Err(format!("{key}: {reason}: {message} never came: {:?}", ready_of(&object)));
        }
    }
    // Nodes of several objects may go in one request.
    let sent = world.journal().requests(Service::Viola);
    let sent: BTreeSet<String> = sent
        .into_iter()
        .flat_map(|request| nodes_of(&String::from_utf8(request.body).unwrap()))
        .collect();
    if sent == planned { Ok(()) } else { Err(format!("sent {sent:#?}\nplanned {planned:#?}")) }
}

#[test]
fn a_plan_needs_no_viola() {
    let world = World::of("three-nodes");
    let key = key_of(&world);
    let finished = run_alone(&world, &[("VIOLA_ENDPOINT", "")], &["plan", &key]);
    assert_eq!(finished.code, 0, "{}", finished.errors);
    assert_eq!(foreseen(&finished).0, "Synced");
}

/// The nodes of a request's body, each as JSON.
fn nodes_of(body: &str) -> Vec<String> {
    let nodes: Vec<Value> = serde_json::from_str(body).unwrap();
    nodes.iter().map(Value::to_string).collect()
}

#[test]
fn a_new_object_is_planned_in_words() {
    let world = World::of("three-nodes");
    let finished = plan_of(&world);
    assert_eq!(finished.code, 0, "{}", finished.errors);
    let text = &finished.output;
    for (_, name, node) in world.expected() {
        assert!(
            text.contains(&format!("node {name} (VM {}", node["instanceId"].as_str().unwrap()))
        );
        for interface in node["interfaces"].as_array().unwrap() {
            for field in ["name", "macAddress", "address", "cidr", "portId"] {
                assert!(text.contains(interface[field].as_str().unwrap()), "{field}: {text}");
            }
        }
    }
    assert!(text.contains("would send  3 of 3 nodes"), "{text}");
    assert_eq!(text.matches("why: new, with ").count(), 3);
    assert!(text.contains("there is no inventory here"), "{text}");
}

#[test]
fn after_a_sync_nothing_would_be_sent_and_the_running_operator_notices_nothing() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    halt_once_settled(&world, &operator);
    let folder = operator.folder();
    let before = files(folder.path());
    let posts = world.journal().count(Service::Viola);
    let writes = world.kubernetes().writes();
    let key = key_of(&world);
    let finished = run_in(&world, &[], folder.path(), &["plan", &key]);
    assert_eq!(finished.code, 0, "{}", finished.errors);
    assert_eq!(finished.output.matches("unchanged, would not be sent").count(), 3);
    assert!(finished.output.contains("would send  0 of 3"), "{}", finished.output);
    let (reason, message) = foreseen(&finished);
    assert_eq!((reason.as_str(), message.as_str()), ("NoChange", "3 nodes unchanged"));
    let bodies = run_in(&world, &[], folder.path(), &["plan", &key, "--json"]);
    assert_eq!((bodies.code, bodies.output.as_str()), (0, ""));
    assert_eq!(files(folder.path()), before, "the inventory was touched");
    assert_eq!(world.journal().count(Service::Viola), posts);
    assert_eq!(world.kubernetes().writes(), writes);
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn what_changed_is_named_and_ids_are_kept_by_the_inventory() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let is_secret = |log: &[LoggedRequest]| {
        log.iter().any(|request| request.method == "POST" && request.target.contains("/secrets?"))
    };
    // Or it arrives beside the plan, which writes nothing.
    assert!(world.journal().wait_for(is_secret, SOON));
    let folder = operator.kill();
    let port = "6354868d-f9b9-4574-9672-af08b0d88eea";
    world.edit(|state| {
        state.ports.update(port, |port| port.mac_address = "FA:16:3E:FF:00:01".to_owned());
    });
    let key = key_of(&world);
    let finished = run_in(&world, &[], folder.path(), &["plan", &key]);
    let why = format!("why: port {port}: macAddress ");
    assert!(finished.output.contains(&why), "{}", finished.output);
    assert!(finished.output.contains("-> fa:16:3e:ff:00:01"), "{}", finished.output);
    assert_eq!(finished.output.matches("unchanged, would not be sent").count(), 2);

    let bodies = run_in(&world, &[], folder.path(), &["plan", &key, "--json"]);
    let planned = requests(&bodies);
    let id_of = |planned: &[Value]| {
        let interfaces = planned[0][0]["interfaces"].as_array().unwrap().clone();
        interfaces.iter().find(|one| one["portId"] == port).unwrap()["id"].clone()
    };
    assert_eq!(id_of(&planned), 0, "the port keeps its id though its MAC is now the highest");
    // Without memory it would have another one, and that is said.
    let forgetful = run_alone(&world, &[], &["plan", &key, "--json"]);
    assert!(forgetful.errors.contains("worked out without memory"), "{}", forgetful.errors);
    assert!(!bodies.errors.contains("worked out without memory"));
    assert_ne!(id_of(&requests(&forgetful)), 0);

    let _operator = Operator::start_in(&world, &[], folder);
    world.wait_for_posts(2);
    let body = world.journal().requests(Service::Viola)[1].body.clone();
    assert_eq!(bodies.output.trim_end().as_bytes(), body);
}

#[test]
fn an_inventory_that_cannot_be_read_is_said_clearly() {
    let world = World::of("three-nodes");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("inventory.json");
    fs::write(&file, json!({"format": 999, "records": []}).to_string()).unwrap();
    let finished = run_in(&world, &[], folder.path(), &["plan", &key_of(&world)]);
    assert_eq!(finished.code, 0, "{}", finished.errors);
    let text = &finished.output;
    assert!(text.contains("has format 999") && text.contains("without memory"), "{text}");
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn a_force_annotation_that_is_younger_than_what_was_accepted_sends_everything() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let (_, records) = operator.inventory("/v1/inventory/node-configs");
    operator.kill();
    let mut records: Value = serde_json::from_str(&records).unwrap();
    for record in records.as_array_mut().unwrap() {
        record["updatedAt"] = json!("2020-01-01T00:00:00Z");
    }
    let folder = Arc::new(TempDir::new().unwrap());
    let file = folder.path().join("inventory.json");
    fs::write(file, json!({"records": records}).to_string()).unwrap();
    let unforced = run_in(&world, &[], folder.path(), &["plan", &key_of(&world)]);
    assert!(unforced.output.contains("would send  0 of 3"), "{}", unforced.output);
    world.force("now");
    let forced = run_in(&world, &[], folder.path(), &["plan", &key_of(&world)]);
    assert!(forced.output.contains("would send  3 of 3"), "{}", forced.output);
    let why = "why: the force-reconcile annotation was set at ";
    assert_eq!(forced.output.matches(why).count(), 3, "{}", forced.output);
    let resync = [("VIOLA_RESYNC_INTERVAL", "24h")];
    let overdue = run_in(&world, &resync, folder.path(), &["plan", &key_of(&world)]);
    assert!(overdue.output.contains("would send  3 of 3"), "{}", overdue.output);
}

#[test]
fn nodes_with_down_ports_are_due_again_by_the_state_in_the_status() {
    let world = World::of("down-ports");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let folder = operator.kill();
    let key = key_of(&world);
    let early = [("POLL_FAST_INTERVAL", "1h"), ("POLL_SLOW_INTERVAL", "2h")];
    let not_yet = run_in(&world, &early, folder.path(), &["plan", &key]);
    assert!(not_yet.output.contains("would send  0 of "), "{}", not_yet.output);
    let late = [("POLL_FAST_INTERVAL", "1ms")];
    let due = run_in(&world, &late, folder.path(), &["plan", &key]);
    assert!(due.output.contains("why: DOWN ports are due again: "), "{}", due.output);
}

#[test]
fn ports_are_left_out_with_their_reason() {
    let world = World::of("port-states");
    let text = plan_of(&world).output;
    assert!(text.contains(": status BUILD (only ACTIVE, DOWN count)"), "{text}");
    let world = World::of("eleven-ports");
    let text = plan_of(&world).output;
    assert!(text.contains(": over the limit of 10"), "{text}");

    let world = World::of("three-nodes");
    let port = "6354868d-f9b9-4574-9672-af08b0d88eea";
    world.edit(|state| {
        state.ports.update(port, |port| port.fixed_ips.clear());
    });
    let text = plan_of(&world).output;
    assert!(text.contains(&format!("port {port} of worker-0: no fixed ip")), "{text}");
    let another = "network_id";
    world.edit(|state| {
        state.ports.update(port, |port| port.network_id = another.to_owned());
    });
    let text = plan_of(&world).output;
    assert!(text.contains(&format!("port {port} of worker-0: on another network")), "{text}");
}

#[test]
fn a_port_in_error_is_left_out_and_its_card_stays_its_own() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let is_secret = |log: &[LoggedRequest]| {
        log.iter().any(|request| request.method == "POST" && request.target.contains("/secrets?"))
    };
    // Or it arrives beside the plan, which writes nothing.
    assert!(world.journal().wait_for(is_secret, SOON));
    let folder = operator.kill();
    let port = "6354868d-f9b9-4574-9672-af08b0d88eea";
    world.edit(|state| state.ports.update(port, |port| port.status = "ERROR".to_owned()));
    let text = run_in(&world, &[], folder.path(), &["plan", &key_of(&world)]).output;
    assert!(text.contains(&format!("port {port} can't be used now, multinic0 stays its own")));
    let left_out = format!(
        "port {port} of worker-0: status ERROR (only ACTIVE, DOWN count); multinic0 stays its own"
    );
    assert!(text.contains(&left_out), "{text}");
}

#[test]
fn nodes_of_older_objects_are_named_with_their_managers() {
    let world = World::of("older-object-keeps-node");
    let finished = run_alone(&world, &[], &["plan", "default/a-newer"]);
    assert_eq!(finished.code, 0, "{}", finished.errors);
    let text = &finished.output;
    assert!(text.contains("not sent: the older OpenstackConfig default/b-older manages it"));
    assert_eq!(foreseen(&finished).0, "NodeConflict");
}

#[test]
fn an_older_object_that_fails_leaves_its_nodes_and_that_is_said() {
    let world = World::of("older-object-keeps-node");
    let patch = json!({"spec": {"subnetID": "no-such-subnet"}});
    world.kubernetes().patch("OpenstackConfig", "default", "b-older", &patch).unwrap();
    let finished = run_alone(&world, &[], &["plan", "default/a-newer"]);
    let text = &finished.output;
    assert!(text.contains("would send  2 of 2 nodes"), "{text}{}", finished.errors);
    let note = "nodes of the older OpenstackConfig default/b-older are known by the inventory \
                only: SubnetNotFound: ";
    assert!(text.contains(note), "{text}");
    let bodies = run_alone(&world, &[], &["plan", "default/a-newer", "--json"]);
    assert!(bodies.errors.contains(note), "{}", bodies.errors);
    assert_eq!(requests(&bodies)[0].as_array().unwrap().len(), 2, "the older's aren't among them");
}

#[test]
fn a_name_that_is_only_remembered_is_said_so() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let folder = operator.kill();
    for (_, _, node) in world.expected() {
        let vm_id = node["instanceId"].as_str().unwrap();
        world.edit(|state| drop(state.servers.remove(vm_id).unwrap()));
    }
    let key = key_of(&world);
    let note = "3 nodes go by their last known name (worker-0, worker-1, worker-2): Nova doesn't \
                know its VM";
    let finished = run_in(&world, &[], folder.path(), &["plan", &key]);
    assert!(finished.output.contains(note), "{}{}", finished.output, finished.errors);
    let bodies = run_in(&world, &[], folder.path(), &["plan", &key, "--json"]);
    assert!(bodies.errors.contains(note), "{}", bodies.errors);
}

#[test]
fn where_no_plan_can_be_made_the_status_has_the_same_words() {
    let world = World::of("three-nodes");
    world.stop(Service::Neutron);
    let finished = plan_of(&world);
    assert_eq!((finished.code, finished.output.as_str()), (1, ""));
    let (reason, message) = foreseen(&finished);
    let _operator = Operator::start(&world, &[]);
    assert_eq!(world.wait_for_reason(&reason), message);
}

#[test]
fn an_object_that_is_not_there_or_not_watched_is_no_plan() {
    let world = World::of("three-nodes");
    let absent = run_alone(&world, &[], &["plan", "default/nobody"]);
    assert_eq!(absent.code, 1);
    assert!(absent.errors.contains("OpenstackConfig default/nobody doesn't exist"));
    let elsewhere = [("WATCH_NAMESPACES", "team-a,team-b")];
    let unseen = run_alone(&world, &elsewhere, &["plan", "default/demo"]);
    assert_eq!(unseen.code, 1);
    assert!(unseen.errors.contains("WATCH_NAMESPACES names team-a, team-b"), "{}", unseen.errors);
    world.stop(Service::Kubernetes);
    let down = run_alone(&world, &[], &["plan", "default/demo"]);
    assert_eq!(down.code, 1);
    assert!(down.errors.contains("connection refused"), "{}", down.errors);
}

#[test]
fn a_file_is_planned_as_if_it_was_applied_and_its_hash_approves_it_in_advance() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    halt_once_settled(&world, &operator);
    let folder = operator.folder();
    let path = folder.path().join("object.yaml");
    let mut object = world.scenario().objects[0].clone();
    object["spec"]["subnetID"] = json!("94a2d5e8-6c3b-4170-8f9e-b15d7c0a4e63");
    let planned = |object: &Value| {
        fs::write(&path, serde_norway::to_string(object).unwrap()).unwrap();
        run_in(&world, &[], folder.path(), &["plan", "-f", path.to_str().unwrap()])
    };
    let held = planned(&object);
    assert_eq!(held.code, 0, "{}", held.errors);
    for part in [&format!("default/demo, once {} is applied", path.display()), "would send  0 of 3"]
    {
        assert!(held.output.contains(part), "{part}: {}", held.output);
    }
    assert_eq!(foreseen(&held).0, "ChangeHeld");
    let approval = "add to its metadata.annotations: multinic.example.com/approve: \"";
    let hash = held.output.split_once(approval).unwrap().1.split_once('"').unwrap().0;
    object["metadata"]["annotations"] = json!({"multinic.example.com/approve": hash});
    let approved = planned(&object);
    assert!(approved.output.contains("would send  3 of 3"), "{}", approved.output);
    let sent = world.journal().count(Service::Viola);
    let annotations = &object["metadata"]["annotations"];
    let patch = json!({"spec": object["spec"], "metadata": {"annotations": annotations}});
    world.kubernetes().patch("OpenstackConfig", "default", "demo", &patch).unwrap();
    operator.signal("CONT");
    world.wait_for_ready(|ready| ready["observedGeneration"] == 2 && ready["status"] == "True");
    assert_eq!(world.journal().count(Service::Viola), sent + 1);
    assert_eq!(world.status()["lastApproved"], hash);
}
