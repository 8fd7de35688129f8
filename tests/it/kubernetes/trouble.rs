//! An API server that lacks the kind or refuses rights: waited for, and said once.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use simulated_cloud::kubernetes::{Denial, ResourceKind, View};
use simulated_cloud::{LoggedRequest, Service};

use super::{QUICK, wait_for_syncs};
use crate::process::{Operator, SOON};
use crate::world::World;

/// Waits until the API server has refused so often.
fn wait_for_refusals(world: &World, status: u16, count: usize) {
    let refused = |log: &[LoggedRequest]| {
        let is_refusal = |request: &&LoggedRequest| {
            request.service == Service::Kubernetes && request.status == Some(status)
        };
        log.iter().filter(is_refusal).count() >= count
    };
    assert!(world.journal().wait_for(refused, SOON), "not refused with {status} {count} times");
}

fn warnings(operator: &Operator, text: &str) -> usize {
    let log = operator.log();
    let is_warning = |line: &&str| line.contains("WARN") || line.contains("ERROR");
    log.lines().filter(is_warning).filter(|line| line.contains(text)).count()
}

#[test]
fn a_missing_crd_is_waited_for_and_said_once() {
    let world = World::of("three-nodes");
    let object = world.scenario().objects[0].clone();
    world.kubernetes().remove_kind("openstackconfigs");
    let operator = Operator::start(&world, &QUICK);
    wait_for_refusals(&world, 404, 5);
    assert_eq!(operator.health("/healthz").0, 200);
    let line = operator.line_with("/openstackconfigs");
    assert!(line.contains("CRD") || line.contains("CustomResourceDefinition"), "{line}");
    assert_eq!(warnings(&operator, "/openstackconfigs"), 1, "{}", operator.log());
    world.kubernetes().register(ResourceKind::openstack_config());
    world.kubernetes().apply_object(object).unwrap();
    world.wait_for_reason("NoChange");
    operator.line_with("recovered");
    assert_eq!(warnings(&operator, "/openstackconfigs"), 1, "{}", operator.log());
}

#[test]
fn a_watch_that_is_refused_names_the_missing_rule_once_and_is_taken_up_when_it_may() {
    let world = World::of("three-nodes");
    world.kubernetes().deny(Denial::new("watch", "openstackconfigs"));
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let rule = "cannot watch resource \"openstackconfigs\" in API group \"multinic.example.com\"";
    operator.line_with(rule);
    wait_for_refusals(&world, 403, 4);
    assert_eq!(warnings(&operator, rule), 1, "{}", operator.log());
    world.kubernetes().allow_everything();
    operator.line_with("recovered");
    let posts = world.viola().received().len();
    world.force("again");
    world.wait_for_posts(posts + 1);
}

#[test]
fn a_restart_of_the_api_server_is_no_trouble_and_nothing_in_the_gap_is_missed() {
    let world = World::of("older-object-keeps-node");
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason_of("default", "a-newer", "NodeConflict");
    world.kubernetes().drop_next_events(1);
    world.kubernetes().delete("OpenstackConfig", "default", "b-older").unwrap();
    wait_for_syncs(&world, 3);
    world.kubernetes().restart();
    world.wait_for_reason_of("default", "a-newer", "NoChange");
    assert_eq!(warnings(&operator, "watch"), 0, "{}", operator.log());
}

#[test]
fn an_older_crd_gets_the_status_that_it_knows_and_the_whole_one_once_it_is_renewed() {
    let world = World::of("three-nodes");
    let mut older = ResourceKind::openstack_config();
    let mut schema = Value::clone(&*older.schema.unwrap());
    let status = &mut schema["properties"]["status"]["properties"];
    for field in ["nodes", "observedGeneration"] {
        status.as_object_mut().unwrap().remove(field).unwrap();
    }
    older.schema = Some(Arc::new(schema));
    world.kubernetes().register(older);
    let operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let status = world.status();
    assert!(status["lastSyncedAt"].is_string(), "{status}");
    assert!(status["nodes"].is_null() && status["observedGeneration"].is_null(), "{status}");
    let advice = "apply the CRDs of this version";
    let line = operator.line_with(advice);
    assert!(line.contains("WARN") && line.contains("without nodes, observedGeneration"), "{line}");
    let shows = |wanted: bool| {
        let begin = Instant::now();
        while operator.health("/readyz").1.contains(advice) != wanted {
            assert!(begin.elapsed() < SOON, "{:?}", operator.health("/readyz"));
            std::thread::yield_now();
        }
        assert_eq!(operator.health("/readyz").0, 200);
    };
    shows(true);
    assert_eq!(warnings(&operator, advice), 1, "{}", operator.log());

    world.kubernetes().register(ResourceKind::openstack_config());
    let (namespace, name) = world.object();
    let is_whole = |view: &View| {
        let object = view.get("OpenstackConfig", &namespace, &name).unwrap();
        object["status"]["nodes"] == 3 && object["status"]["observedGeneration"] == 1
    };
    assert!(world.kubernetes().wait_until(is_whole, SOON), "{}", world.status());
    shows(false);
}
