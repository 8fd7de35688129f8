//! The inventory at a replica that doesn't lead: who leads, and how to ask that one.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{QUICK, now};
use crate::process::{Operator, SOON};
use crate::world::World;

const LIST: &str = "/v1/inventory/node-configs";
/// What is promised for a leader that was killed.
const TAKE_OVER: Duration = Duration::from_secs(15);

/// A replica; all of them share one inventory.
fn replica(world: &World, name: &str, folder: &Arc<TempDir>) -> Operator {
    let election = [("LEADER_ELECT", "true"), ("POD_NAMESPACE", "default"), ("POD_NAME", name)];
    Operator::start_in(world, &[&QUICK[..], &election].concat(), Arc::clone(folder))
}

fn leader_and_standby(world: &World) -> (Operator, Operator) {
    let folder = Arc::new(TempDir::new().unwrap());
    let leader = replica(world, "pod-a", &folder);
    world.wait_for_reason("NoChange");
    let standby = replica(world, "pod-b", &folder);
    standby.line_with("leader election: pod-a_");
    (leader, standby)
}

#[test]
fn a_standby_names_the_leader_for_the_records_and_answers_what_needs_none() {
    let world = World::of("three-nodes");
    let (leader, standby) = leader_and_standby(&world);
    for path in [LIST, "/v1/inventory/changes", "/v1/overview", &format!("{LIST}/worker-1")] {
        let answer = standby.ask_inventory("GET", path, &[]);
        assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "5"), "{path}");
        assert!(answer.body.contains("not the leader (leader: pod-a_"), "{path}: {answer:?}");
        let command = "kubectl -n default port-forward pod/pod-a ";
        assert!(answer.body.contains(command), "{path}: {answer:?}");
    }
    for path in ["/", "/page.js", "/docs", "/openapi.yaml", "/healthz"] {
        let [leaders, standbys] = [&leader, &standby].map(|replica| {
            let mut answer = replica.ask_inventory("GET", path, &[]);
            answer.headers.remove("date");
            answer
        });
        assert_eq!(standbys.status, 200, "{path}");
        assert_eq!(standbys, leaders, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(standby.health(path).0, 200, "{path}");
    }
}

#[test]
fn a_standby_that_takes_over_answers_with_the_records_of_its_predecessor() {
    let world = World::of("three-nodes");
    let (leader, standby) = leader_and_standby(&world);
    let list = leader.inventory(LIST);
    assert_eq!(list.0, 200, "{list:?}");
    leader.kill();
    let leads = world.kubernetes().wait_until(
        |view| {
            let lease = view.get("leases", "default", "multinic-operator").unwrap_or_default();
            lease["spec"]["holderIdentity"].as_str().is_some_and(|name| name.starts_with("pod-b_"))
        },
        TAKE_OVER,
    );
    assert!(leads, "the standby did not take over");
    let taken_over = now();
    while standby.inventory(LIST) != list {
        assert!(taken_over.elapsed() < SOON, "{:?}", standby.inventory(LIST));
        std::thread::yield_now();
    }
}

#[test]
fn while_a_former_leader_hangs_the_objects_say_what_is_in_the_way() {
    let world = World::of("three-nodes");
    let (leader, standby) = leader_and_standby(&world);
    leader.signal("STOP");
    let message = world.wait_for_reason("ConfigError");
    assert!(message.contains("the former leader, which has not ended yet"), "{message}");
    let (status, text) = standby.health("/readyz");
    assert_eq!(status, 503, "{text}");
    leader.kill();
    world.wait_for_reason("NoChange");
}
