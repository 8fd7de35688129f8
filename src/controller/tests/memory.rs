//! Objects whose records are lost: held, approved, numbered anew.

use super::{down, forced, generation, object, seconds, synced, unchanged, world};
use crate::reconcile::memory::{APPROVAL, Memory};
use crate::reconcile::report::Reason;
use crate::reconcile::{Lane, Outcome, Work};
use crate::resources::{DownPortRetry, OpenstackConfig, Status};

fn held(work: &Work) -> Outcome {
    let memory = Memory::Held;
    Outcome { memory, ..Outcome::failed(work, Reason::MemoryLost, "no record") }
}

fn approved(object: OpenstackConfig) -> OpenstackConfig {
    OpenstackConfig { approve: Some(APPROVAL.to_owned()), ..object }
}

/// As an earlier process left it: two nodes, and no approval or a used one.
fn known(last_approved: Option<&str>) -> OpenstackConfig {
    let last_approved = last_approved.map(str::to_owned);
    let (nodes, observed_generation) = (Some(2), Some(1));
    let status = Status { nodes, observed_generation, last_approved, ..Status::default() };
    OpenstackConfig { status, ..object("a") }
}

#[test]
fn a_held_object_keeps_its_nodes_and_is_looked_at_as_rarely_as_one_that_is_well() {
    let mut world = world();
    let mut object = known(None);
    // Overdue resends for DOWN ports must not have it looked at in a loop.
    object.status.down_port_retry = Some(DownPortRetry {
        hash: "a".repeat(64),
        last_attempt: "2025-01-01T00:00:00Z".parse().unwrap(),
        fast_attempts: 1,
    });
    world.apply(object);
    let before = world.now.uptime;
    world.finish("a", held);
    let status = world.last_status();
    assert_eq!(status.condition("Ready").unwrap().reason, "MemoryLost");
    assert_eq!(status.condition("Degraded").unwrap().reason, "Error");
    assert_eq!(status.nodes, Some(2));
    assert_eq!(world.told.len(), 1);
    assert!(world.told[0].warning && world.told[0].reason == "MemoryLost");
    world.until_due();
    assert!(world.now.uptime - before >= seconds(120));
    assert_eq!(world.syncing(), ["a"]);
    world.finish("a", held);
    assert_eq!(world.told.len(), 1, "a state that lasts is no news");
}

#[test]
fn the_annotation_is_acted_on_at_once_used_once_and_counts_again_after_it_was_removed() {
    let mut world = world();
    world.apply(known(None));
    assert!(!world.finish("a", held).is_loss_approved);
    world.apply(approved(known(None)));
    let work = world.finish("a", synced);
    assert!(work.is_loss_approved);
    assert_eq!(world.lanes["a"], Lane::Fresh);
    assert_eq!(world.last_status().last_approved.as_deref(), Some(APPROVAL));
    // The same annotation again, as our own status write shows it, is no reason to look.
    world.apply(approved(known(Some(APPROVAL))));
    assert!(world.syncing().is_empty());
    world.apply(forced("now", approved(known(Some(APPROVAL)))));
    assert!(!world.finish("a", unchanged).is_loss_approved, "it is used up");
    // Removed and set again before any pass has seen it removed.
    world.apply(forced("now", known(Some(APPROVAL))));
    world.apply(forced("now", approved(known(Some(APPROVAL)))));
    assert!(!world.finish("a", held).is_loss_approved, "this pass began without it");
    assert!(world.finish("a", synced).is_loss_approved);
}

#[test]
fn what_a_process_has_planned_was_not_lost_before_it_started() {
    let mut world = world();
    world.apply(known(None));
    assert!(!world.finish("a", held).was_planned);
    world.until_due();
    assert!(!world.finish("a", down).was_planned);
    world.until_due();
    assert!(!world.finish("a", unchanged).was_planned);
    world.until_due();
    assert!(world.finish("a", unchanged).was_planned);
}

#[test]
fn an_approval_that_was_used_before_a_restart_is_used_up() {
    let mut world = world();
    world.apply(approved(known(Some(APPROVAL))));
    assert!(!world.finish("a", held).is_loss_approved);
    assert_eq!(world.last_status().last_approved.as_deref(), Some(APPROVAL));
}

#[test]
fn an_approval_survives_a_pass_that_came_to_no_plan() {
    let mut world = world();
    world.apply(approved(known(None)));
    world.finish("a", down);
    assert_eq!(world.last_status().last_approved, None);
    world.until_due();
    assert!(world.finish("a", synced).is_loss_approved);
}

#[test]
fn ports_that_are_numbered_anew_are_a_warning() {
    let mut world = world();
    world.apply(known(None));
    world.finish("a", |work| Outcome { memory: Memory::Renumbered, ..synced(work) });
    let [_, told] = world.told.as_slice() else { panic!("{:?}", world.told) };
    assert!(told.warning && told.reason == "MemoryLost", "{told:?}");
}

#[test]
fn nodes_of_another_generation_are_not_said_of_this_one_unless_the_object_is_held() {
    let mut world = world();
    world.apply(known(None));
    world.finish("a", unchanged);
    world.apply(generation(2, known(None)));
    world.finish("a", down);
    assert_eq!(world.last_status().nodes, None, "its new VMs have no record, and none is lost");
    world.until_due();
    world.finish("a", down);
    assert_eq!(world.last_status().nodes, None);

    let mut world = super::world();
    world.apply(known(None));
    world.finish("a", held);
    world.apply(generation(2, known(None)));
    world.finish("a", down);
    assert_eq!(world.last_status().nodes, Some(2));
}

#[test]
fn an_object_stays_held_when_a_pass_fails_and_its_spec_is_changed() {
    let mut world = world();
    world.apply(known(None));
    assert!(!world.finish("a", held).is_held);
    world.until_due();
    assert!(world.finish("a", down).is_held);
    world.apply(generation(2, known(None)));
    assert!(world.finish("a", down).is_held);
    assert_eq!(world.last_status().nodes, Some(2));
    // As another process finds it, with another spec and a reason that doesn't say it.
    let status = world.last_status().clone();
    assert_eq!(status.condition("Ready").unwrap().reason, "KeystoneError");
    let mut next = super::world();
    next.apply(OpenstackConfig { status, ..generation(3, object("a")) });
    assert!(next.finish("a", held).is_held);
    next.until_due();
    next.finish("a", unchanged);
    assert_eq!(next.last_status().hold, None);
    world.until_due();
    assert!(world.finish("a", held).is_held);
    world.until_due();
    assert!(world.finish("a", unchanged).is_held, "it is planned in this pass");
    world.until_due();
    assert!(!world.finish("a", unchanged).is_held);
}
