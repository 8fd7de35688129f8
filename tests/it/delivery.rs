//! What Viola is told, when, and what is remembered of it.

use serde_json::{Value, json};
use simulated_cloud::{Cloud, Fault, FaultKind, LoggedRequest, Scenario, Service};

use super::process::{Operator, SOON, fixtures};
use super::world::{World, ready_of};

const QUICK: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
];

/// Names of the nodes of each POST, in order.
fn posts(world: &World) -> Vec<Vec<String>> {
    let names = |nodes: &[Value]| {
        nodes.iter().map(|node| node["nodeName"].as_str().unwrap().to_owned()).collect()
    };
    world.viola().received().iter().map(|post| names(&post.nodes)).collect()
}

fn wait_for_polls(world: &World, count: usize) {
    let from = world.journal().count(Service::Neutron);
    let more = |log: &[LoggedRequest]| {
        let ports = |request: &&LoggedRequest| request.service == Service::Neutron;
        log.iter().filter(ports).count() >= from + 2 * count
    };
    assert!(world.journal().wait_for(more, SOON), "no more polls came");
}

#[test]
fn an_unchanged_object_is_sent_once_and_only_once() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    wait_for_polls(&world, 5);
    assert_eq!(posts(&world).len(), 1);
}

#[test]
fn only_the_node_that_changed_is_sent() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let port = "6354868d-f9b9-4574-9672-af08b0d88eea";
    world.edit(|state| {
        state.ports.update(port, |port| port.mac_address = "FA:16:3E:FF:00:01".to_owned());
    });
    world.wait_for_posts(2);
    assert_eq!(posts(&world)[1], ["worker-0"]);
    let interfaces = world.held()[0].2["interfaces"].clone();
    let changed = interfaces.as_array().unwrap().iter().find(|i| i["portId"] == port).unwrap();
    assert_eq!(changed["macAddress"], "fa:16:3e:ff:00:01");
    assert_eq!(changed["id"], 0, "the port keeps its id though its MAC is now the highest");
}

#[test]
fn each_post_and_each_changed_node_is_a_log_line_also_when_the_cloud_is_registered_anew() {
    let world = World::of("three-nodes");
    let before = "b7c9e2d4-3f61-4a85-9c0e-71d2a6f854e3";
    let credentials = |provider: &str| json!({"credentials": {"openstackProviderID": provider, "k8sProviderID": "biz-1"}});
    world.change_spec(credentials(before));
    world.edit(|state| {
        let mut anew = state.providers[0].clone();
        anew.id = "anew".to_owned();
        state.providers.push(anew);
    });
    world.viola().refuse_node("worker-1", "no such node");
    let operator = Operator::start(&world, &QUICK);
    operator.line_with(
        "POST to biz-1: 3 nodes, 2 accepted (3 changed, 0 for a resync, 0 with DOWN ports, 0 for a \
         drift)",
    );
    operator.line_with("node worker-0 accepted by biz-1: new, with 2 interfaces");
    operator.line_with("POST to biz-1: 1 node, 0 accepted (1 changed");
    world.viola().accept_all_nodes();
    world.wait_for_reason("NoChange");
    world.change_spec(credentials("anew"));
    operator.line_with("POST to biz-1: 3 nodes, 3 accepted (3 changed");
    let line = operator.line_with("node worker-0 accepted by biz-1: its cloud");
    assert!(
        line.ends_with(&format!("its cloud was registered as {before}, now as anew")),
        "{line}"
    );
}

#[test]
fn a_vm_that_is_taken_out_of_the_object_leaves_its_node_and_the_status_names_it() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let vms = ["3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4", "71d5e0a9-2c8b-4f36-9e14-8a3d6c5b02f7"];
    world.change_spec(json!({"vmNames": vms}));
    let says = "2 nodes unchanged; no longer in vmNames, unchanged at the target and in the \
                inventory: worker-2";
    world.wait_for_ready(|ready| ready["message"] == says);
    assert_eq!(posts(&world).len(), 1);
}

#[test]
fn a_vm_that_is_renamed_is_said_in_the_pass_that_sends_it_and_not_afterwards() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let vm = "71d5e0a9-2c8b-4f36-9e14-8a3d6c5b02f7";
    world.viola().refuse_node("worker-9", "no such node");
    world.edit(|state| {
        state.servers.update(vm, |server| server.name = "worker-9".to_owned());
    });
    let says = "worker-1 is now called worker-9; what was sent before stays at the target";
    world.wait_for_ready(|ready| {
        let message = ready["message"].as_str().unwrap();
        ready["reason"] == "ViolaPostError" && message.ends_with(says)
    });
    world.viola().accept_all_nodes();
    world.wait_for_ready(|ready| ready["message"] == "3 nodes unchanged");
    operator.line_with("worker-9 accepted by");
    let said = |event: &Value| event["message"].as_str().unwrap_or_default().ends_with(says);
    let is_told = |view: &simulated_cloud::kubernetes::View| {
        view.events().iter().any(|event| event["reason"] == "Synced" && said(event))
    };
    assert!(world.kubernetes().wait_until(is_told, SOON), "{:?}", world.kubernetes().events());
}

#[test]
fn a_status_that_was_edited_while_the_object_fails_is_put_right() {
    let world = World::of("three-nodes");
    world.faults().add(Fault::always(Service::Keystone, FaultKind::Html { status: 503 }));
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("KeystoneError");
    let ours = world.status();
    let (namespace, name) = world.object();
    let mut edited = ours.clone();
    for condition in edited["conditions"].as_array_mut().unwrap() {
        let is_ready = condition["type"] == "Ready";
        condition["status"] = if is_ready { "True" } else { "False" }.into();
        condition["reason"] = if is_ready { "Synced" } else { "Healthy" }.into();
    }
    edited["lastError"] = "".into();
    edited["nodes"] = 3.into();
    let patch = json!({"status": edited});
    world.kubernetes().patch_status("OpenstackConfig", &namespace, &name, &patch).unwrap();
    let is_ours = |view: &simulated_cloud::kubernetes::View| {
        let object = view.get("OpenstackConfig", &namespace, &name).unwrap_or_default();
        object["status"]["conditions"] == ours["conditions"]
            && object["status"]["lastError"] == ours["lastError"]
    };
    assert!(world.kubernetes().wait_until(is_ours, SOON), "{}", world.status());
}

#[test]
fn names_that_nova_does_not_confirm_are_logged_once_for_each_outage() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let remembered = |log: &str| log.matches("3 nodes go by their last known name").count();
    for outage in 1..=2 {
        world.faults().add(Fault::always(Service::Nova, FaultKind::Html { status: 503 }));
        world.wait_for_ready(|ready| ready["message"].to_string().contains("last known name"));
        wait_for_polls(&world, 3);
        assert_eq!(remembered(&operator.log()), outage);
        world.faults().clear_service(Service::Nova);
        world.wait_for_ready(|ready| ready["message"] == "3 nodes unchanged");
    }
}

#[test]
fn a_port_in_error_comes_back_as_the_card_it_was_also_after_a_restart() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let port = "6354868d-f9b9-4574-9672-af08b0d88eea";
    let set_status = |status: &str| {
        let status = status.to_owned();
        world.edit(|state| state.ports.update(port, |port| port.status = status));
    };
    let ids = || -> Vec<(String, u64)> {
        let interfaces = world.held()[0].2["interfaces"].clone();
        let id = |one: &Value| (one["portId"].as_str().unwrap().to_owned(), one["id"].as_u64());
        interfaces
            .as_array()
            .unwrap()
            .iter()
            .map(id)
            .map(|(port, id)| (port, id.unwrap()))
            .collect()
    };
    let before = ids();
    assert_eq!((before.len(), before[0].0.as_str(), before[0].1), (2, port, 0));
    set_status("ERROR");
    world.wait_for_posts(2);
    // The next poll begins once the sync that sent it has ended.
    wait_for_polls(&world, 1);
    let (_, record) = operator.inventory("/v1/inventory/node-configs/worker-0");
    let kept = format!(r#""reservedIds":[{{"portId":"{port}","id":0}}]"#);
    assert!(record.contains(&kept), "{record}");

    let folder = operator.kill();
    let _successor = Operator::start_in(&world, &QUICK, folder);
    world.edit(|state| {
        let mut new = state.ports.get(port).unwrap().clone();
        new.id = "00000000-0000-4000-8000-000000000001".to_owned();
        new.status = "ACTIVE".to_owned();
        new.mac_address = "fa:16:3e:00:00:01".to_owned();
        new.fixed_ips[0].ip_address = "10.20.0.201".to_owned();
        state.add_port(new);
    });
    world.wait_for_posts(3);
    let new = ("00000000-0000-4000-8000-000000000001".to_owned(), 2);
    assert_eq!(ids(), [before[1].clone(), new.clone()]);
    set_status("ACTIVE");
    world.wait_for_posts(4);
    assert_eq!(ids(), [before[0].clone(), before[1].clone(), new]);
}

#[test]
fn nodes_viola_refuses_are_named_and_sent_again_and_the_others_are_not() {
    let world = World::of("three-nodes");
    world.viola().refuse_node("worker-1", "no such node here");
    let operator = Operator::start(&world, &QUICK);
    let message = world.wait_for_reason("ViolaPostError");
    assert!(message.contains("no such node here") && message.contains("worker-1"), "{message}");
    world.wait_for_posts(2);
    assert_eq!(posts(&world)[1], ["worker-1"]);
    let (status, _) = operator.inventory("/v1/inventory/node-configs/worker-1");
    assert_eq!(status, 404, "a refused node is not in the inventory");
    world.viola().accept_all_nodes();
    world.wait_for_reason("NoChange");
    assert_eq!(world.held(), world.expected());
    assert_eq!(operator.inventory("/v1/inventory/node-configs/worker-1").0, 200);
}

#[test]
fn every_success_code_counts() {
    for code in [201, 202, 204] {
        let world = World::of("three-nodes");
        world.viola().set_success_status(code);
        let _operator = Operator::start(&world, &[]);
        world.wait_for_reason("Synced");
        assert_eq!(world.held(), world.expected(), "HTTP {code}");
    }
}

#[test]
fn a_post_whose_answer_was_lost_is_not_repeated_blindly_but_by_a_later_pass() {
    let world = World::of("three-nodes");
    world.faults().add(Fault::once(Service::Viola, FaultKind::AnswerLost));
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_posts(1);
    world.wait_for_reason("NoChange");
    let requests = world.journal().requests(Service::Viola);
    assert_eq!(requests.len(), 2);
    let between = requests[1].arrived_ms - requests[0].arrived_ms;
    assert!(between >= 200, "it was repeated after {between} ms, not after the error interval");
}

#[test]
fn a_restart_sends_nothing_that_was_accepted_and_a_crash_forgets_nothing() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let folder = operator.kill();
    let polls = world.journal().count(Service::Neutron);
    let _successor = Operator::start_in(&world, &QUICK, folder);
    let more = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.service == Service::Neutron).count() >= polls + 6
    };
    assert!(world.journal().wait_for(more, SOON));
    assert_eq!(posts(&world).len(), 1);
}

#[test]
fn the_annotation_sends_every_node_again_once() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    for turn in ["1", "2"] {
        world.force(turn);
        world.wait_for_posts(1 + turn.parse::<usize>().unwrap());
    }
    assert_eq!(posts(&world).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn a_forced_resend_that_fails_is_not_forgotten() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    world.faults().add(Fault::always(Service::Viola, FaultKind::Html { status: 503 }));
    world.force("again");
    world.wait_for_reason("ViolaPostError");
    world.faults().clear();
    world.wait_for_reason("NoChange");
    assert_eq!(posts(&world).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn a_resync_interval_sends_every_node_again_for_ever() {
    let world = World::of("three-nodes");
    let variables = [&QUICK[..], &[("VIOLA_RESYNC_INTERVAL", "400ms")]].concat();
    let _operator = Operator::start(&world, &variables);
    world.wait_for_posts(4);
    assert!(posts(&world).iter().all(|nodes| nodes.len() == 3));
}

#[test]
fn another_cluster_has_not_heard_of_what_the_first_one_accepted() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    world.change_spec(json!({"credentials": {"k8sProviderID": "biz-2"}}));
    world.wait_for_posts(2);
    assert_eq!(world.viola().current("biz-2").len(), 3);
    // Also when the change comes while the operator is away.
    let folder = operator.kill();
    world.change_spec(json!({"credentials": {"k8sProviderID": "biz-3"}}));
    let _successor = Operator::start_in(&world, &QUICK, folder);
    world.wait_for_posts(3);
    assert_eq!(world.viola().current("biz-3").len(), 3);
}

#[test]
fn down_ports_are_sent_again_soon_then_rarely_and_a_restart_goes_on_counting() {
    let world = World::of("down-ports");
    let variables = [
        ("POLL_FAST_INTERVAL", "300ms"),
        ("POLL_SLOW_INTERVAL", "1500ms"),
        ("POLL_FAST_WINDOW", "1ms"),
        ("DOWN_PORT_FAST_RETRY_MAX", "3"),
    ];
    let operator = Operator::start(&world, &variables);
    world.wait_for_posts(3);
    let counted = world.kubernetes().wait_until(
        |view| {
            let object = view.get("OpenstackConfig", "default", "nodes").unwrap_or_default();
            object["status"]["downPortRetry"]["fastAttempts"] == 2
        },
        SOON,
    );
    assert!(counted, "{}", world.status());
    let folder = operator.kill();
    let _successor = Operator::start_in(&world, &variables, folder);
    world.wait_for_posts(6);
    let at: Vec<u64> =
        world.journal().requests(Service::Viola).iter().map(|request| request.arrived_ms).collect();
    let gaps: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Once, three times fast, then slow. The other side notes when a request arrives, a little late
    // now and then.
    assert!(gaps[..3].iter().all(|gap| *gap >= 290), "{gaps:?}");
    assert!(gaps[3..].iter().all(|gap| *gap >= 1490), "{gaps:?}");
    let retry = world.status()["downPortRetry"].clone();
    assert_eq!(retry["fastAttempts"], 3, "{retry}");

    let ports: Vec<String> = world.edit(|state| {
        state
            .ports
            .iter()
            .filter(|port| port.status == "DOWN")
            .map(|port| port.id.clone())
            .collect()
    });
    assert!(!ports.is_empty());
    world.edit(|state| {
        for id in &ports {
            state.ports.update(id, |port| port.status = "ACTIVE".to_owned());
        }
    });
    let cleared = world.kubernetes().wait_until(
        |view| {
            let object = view.get("OpenstackConfig", "default", "nodes").unwrap_or_default();
            object["status"]["downPortRetry"].is_null()
        },
        SOON,
    );
    assert!(cleared, "{}", world.status());
}

#[test]
fn a_vm_with_a_new_name_replaces_its_record_and_keeps_its_ids() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let vm = "3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4";
    world.edit(|state| state.servers.update(vm, |server| server.name = "edge-0".to_owned()));
    world.wait_for_posts(2);
    assert_eq!(posts(&world)[1], ["edge-0"]);
    // Later polls come after that sync has ended, its record included.
    wait_for_polls(&world, 2);
    world.wait_for_reason("NoChange");
    assert_eq!(operator.inventory("/v1/inventory/node-configs/edge-0").0, 200);
    assert_eq!(operator.inventory("/v1/inventory/node-configs/worker-0").0, 404);
}

#[test]
fn a_file_of_the_replaced_program_loads_and_its_node_is_sent_once() {
    let world = World::of("three-nodes");
    let folder = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    let expected = world.expected();
    let records: Vec<Value> = expected
        .iter()
        .map(|(provider, name, node)| {
            let mut config = node.clone();
            if name == "worker-0" {
                for interface in config["interfaces"].as_array_mut().unwrap() {
                    interface["id"] = json!(interface["id"].as_u64().unwrap() + 1);
                    interface.as_object_mut().unwrap().remove("name");
                }
            }
            json!({"providerId": provider, "nodeName": name, "instanceId": node["instanceId"],
                "config": config, "lastConfigHash": "of-the-other-program",
                "updatedAt": "2026-10-01T12:00:00Z"})
        })
        .collect();
    let file = folder.path().join("inventory.json");
    std::fs::write(file, json!({"records": records}).to_string()).unwrap();
    let _operator = Operator::start_in(&world, &QUICK, folder);
    world.wait_for_posts(1);
    world.wait_for_reason("NoChange");
    wait_for_polls(&world, 2);
    assert_eq!(posts(&world), [["worker-0"]]);
    assert_eq!(world.viola().received()[0].nodes[0], expected[0].2);
}

#[test]
fn the_rabbitmq_secret_is_made_put_back_and_never_taken_from_somebody_else() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    let (namespace, name) = world.object();
    let secret_name = format!("rabbitmq-{name}");
    let there = |world: &World| {
        world
            .kubernetes()
            .wait_until(|view| view.get("Secret", &namespace, &secret_name).is_some(), SOON)
    };
    assert!(there(&world));
    let secret = world.kubernetes().get("Secret", &namespace, &secret_name).unwrap();
    let keys: Vec<&String> = secret["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["RABBITMQ_PASSWORD", "RABBITMQ_URLS", "RABBITMQ_USER"]);
    assert_eq!(secret["metadata"]["ownerReferences"][0]["name"], name.as_str());
    assert_eq!(secret["type"], "Opaque");
    world.kubernetes().delete("Secret", &namespace, &secret_name).unwrap();
    assert!(there(&world), "it wasn't put back");

    world.kubernetes().delete("Secret", &namespace, &secret_name).unwrap();
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"namespace": namespace, "name": secret_name}, "data": {"mine": "eA=="}});
    world.kubernetes().apply_object(foreign).unwrap();
    let told = world.kubernetes().wait_until(
        |view| {
            let object = view.get("OpenstackConfig", &namespace, &name).unwrap_or_default();
            let ready = ready_of(&object).unwrap_or_default();
            ready["message"].to_string().contains("is not owned by this OpenstackConfig")
        },
        SOON,
    );
    // Whoever was quicker: ours or theirs, what stands is whole.
    let secret = world.kubernetes().get("Secret", &namespace, &secret_name).unwrap();
    if told {
        assert_eq!(secret["data"], json!({"mine": "eA=="}));
        assert_eq!(world.ready().unwrap()["status"], "True", "trouble there never stops a sync");
    } else {
        panic!("nobody was told of the foreign Secret: {}", world.status());
    }
}

#[test]
fn two_objects_and_one_node_the_younger_takes_over_when_the_older_goes() {
    let world = World::of("older-object-keeps-node");
    let _operator = Operator::start(&world, &[]);
    let message = world.wait_for_reason_of("default", "a-newer", "NodeConflict");
    assert!(message.contains("default/b-older"), "{message}");
    let before = posts(&world).len();
    world.kubernetes().delete("OpenstackConfig", "default", "b-older").unwrap();
    world.wait_for_reason_of("default", "a-newer", "Synced");
    assert_eq!(posts(&world).len(), before + 1);
}

#[test]
fn what_was_read_before_another_objects_post_is_not_sent_after_it() {
    let world = World::of("older-object-keeps-node");
    let names = |vm: &str| json!({"spec": {"vmNames": [vm]}});
    let edit = |vm| {
        let patch = names(vm);
        world.kubernetes().patch("OpenstackConfig", "default", "b-older", &patch).unwrap();
    };
    // It has nothing to send at first, so the younger one sends the node; the answer takes long.
    edit("71d5e0a9-2c8b-4f36-9e14-8a3d6c5b02f7");
    world.faults().add(Fault::once(Service::Viola, FaultKind::Hang));
    let _operator = Operator::start(&world, &[]);
    world.wait_for_reason_of("default", "b-older", "NoChange");
    let asks = |log: &[LoggedRequest]| log.iter().any(|request| request.service == Service::Viola);
    assert!(world.journal().wait_for(asks, SOON), "the younger one sends nothing");

    // The older one reads everything and has to wait for it. Meanwhile the cloud changes.
    let vm = "3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4";
    world.journal().clear();
    edit(vm);
    let has_read = |log: &[LoggedRequest]| {
        let of_clouds =
            log.iter().filter(|r| matches!(r.service, Service::Neutron | Service::Nova));
        let about = |service| {
            let mut asked = of_clouds.clone().filter(|request| request.service == service);
            asked.any(|request| request.target.contains(vm))
        };
        about(Service::Neutron)
            && about(Service::Nova)
            && of_clouds.clone().all(|request| request.status.is_some())
    };
    assert!(world.journal().wait_for(has_read, SOON), "the older one doesn't read");
    world.edit(|state| {
        state.ports.update("525fae9c-61bf-4798-be50-57a64fa06122", |port| {
            port.fixed_ips[0].ip_address = "10.20.0.99".to_owned();
        });
    });
    world.faults().clear_service(Service::Viola);
    world.wait_for_reason_of("default", "b-older", "Synced");
    let posts = world.viola().received();
    let of_older = posts
        .iter()
        .flat_map(|post| &post.nodes)
        .filter(|node| node["interfaces"][0]["cidr"] == "10.20.0.0/24");
    let sent: Vec<&Value> = of_older.map(|node| &node["interfaces"][0]["address"]).collect();
    assert_eq!(sent, ["10.20.0.99"]);
}

#[test]
fn a_node_that_is_taken_over_as_it_is_is_recorded_as_the_older_objects_without_a_post() {
    let world = World::of("older-object-keeps-node");
    let edit = |spec: Value| {
        let patch = json!({"spec": spec});
        world.kubernetes().patch("OpenstackConfig", "default", "b-older", &patch).unwrap();
    };
    edit(json!({"vmNames": ["71d5e0a9-2c8b-4f36-9e14-8a3d6c5b02f7"]}));
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason_of("default", "a-newer", "Synced");
    let before = posts(&world).len();
    let vm = "3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4";
    edit(json!({"vmNames": [vm], "subnetID": "94a2d5e8-6c3b-4170-8f9e-b15d7c0a4e63"}));
    world.wait_for_reason_of("default", "a-newer", "NodeConflict");
    let (_, node) = operator.inventory("/v1/inventory/node-configs/worker-0");
    let node: Value = serde_json::from_str(&node).unwrap();
    assert_eq!(node[0]["owner"]["name"], "b-older");
    assert_eq!(posts(&world).len(), before);
}

#[test]
fn the_owner_in_a_namespace_that_is_listed_late_keeps_its_node_over_a_restart() {
    let mut scenario = Scenario::load(&fixtures().join("older-object-keeps-node")).unwrap();
    let older = scenario.objects.iter_mut().find(|one| one["metadata"]["name"] == "b-older");
    older.unwrap()["metadata"]["namespace"] = json!("team-b");
    let world = World(Cloud::start(scenario).unwrap());
    let quick = [("WATCH_NAMESPACES", "default,team-b"), ("POLL_ERROR_INTERVAL", "200ms")];
    let operator = Operator::start(&world, &quick);
    world.wait_for_reason_of("team-b", "b-older", "Synced");
    world.wait_for_reason_of("default", "a-newer", "NodeConflict");
    let before = posts(&world).len();
    let folder = operator.kill();
    let list = Fault::always(Service::Kubernetes, FaultKind::Hang);
    world.faults().add(list.path_contains("/namespaces/team-b/openstackconfigs"));
    let _successor = Operator::start_in(&world, &quick, folder);
    wait_for_polls(&world, 6);
    assert_eq!(posts(&world).len(), before, "the younger object took the node over");
}

#[test]
fn node_claims_are_not_forgotten_at_a_restart() {
    let world = World::of("older-object-keeps-node");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason_of("default", "a-newer", "NodeConflict");
    world.wait_for_reason_of("default", "b-older", "Synced");
    let before = world.held();
    let folder = operator.kill();
    // The older one's subnet can't be read at first: it keeps its node all the same.
    world.faults().add(
        Fault::always(Service::Neutron, FaultKind::Html { status: 503 })
            .path_contains("/subnets/c1f4"),
    );
    world.kubernetes().annotate("OpenstackConfig", "default", "a-newer", "x", "y").unwrap();
    let quick = [("POLL_ERROR_INTERVAL", "200ms")];
    let _successor = Operator::start_in(&world, &quick, folder);
    wait_for_polls(&world, 6);
    assert_eq!(world.held(), before, "the younger object took the node over");
}

#[test]
fn a_retry_state_that_the_replaced_program_left_is_cleared() {
    let world = World::of("three-nodes");
    let (namespace, name) = world.object();
    // It wrote statuses by PUT, so these fields stay its own until somebody takes them away.
    let retry = json!({"status": {"downPortRetry": {
        "hash": "0".repeat(64), "lastAttempt": "2026-01-02T03:04:05Z", "fastAttempts": 5}}});
    world.kubernetes().patch_status("openstackconfigs", &namespace, &name, &retry).unwrap();
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    assert_eq!(world.status()["downPortRetry"], Value::Null, "{}", world.status());
}
