//! Objects whose spec says `paused`.

use super::{
    down, forced, generation, object, seconds, synced, unchanged, with_vms, world, younger,
};
use crate::reconcile::{Lane, Outcome};
use crate::resources::OpenstackConfig;

fn paused(mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.paused = true;
    }
    object
}

#[test]
fn a_paused_object_keeps_what_its_last_pass_came_to_and_has_no_pass() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", synced);
    let before = world.last_status().clone();
    world.wait(1);
    world.apply(generation(2, paused(object("a"))));
    let status = world.last_status().clone();
    assert_eq!(status.conditions[..2], before.conditions[..]);
    assert_eq!((status.observed_generation, status.nodes), (Some(2), Some(1)));
    assert_eq!(status.last_synced_at, before.last_synced_at);
    let condition = status.condition("Paused").unwrap();
    assert_eq!((&*condition.status, &*condition.reason), ("True", "Paused"));
    // Neither time nor force.
    world.wait(7_200);
    world.apply(forced("now", generation(2, paused(object("a")))));
    assert!(world.syncing().is_empty());
    assert_eq!(world.controller.next_due(), None);
    assert_eq!(world.last_status(), &status, "a pause is written once");
    // What was forced meanwhile counts once the pause ends.
    world.apply(forced("now", generation(3, object("a"))));
    assert!(world.finish("a", unchanged).resend_accepted_until.is_some());
    assert_eq!(world.lanes["a"], Lane::Fresh);
    assert_eq!(world.last_status().condition("Paused"), None);
}

#[test]
fn an_object_that_was_never_synced_says_that_it_is_paused() {
    let mut world = world();
    world.apply(paused(object("a")));
    let status = world.last_status();
    let ready = status.condition("Ready").unwrap();
    assert_eq!((&*ready.status, &*ready.reason), ("Unknown", "Paused"));
    assert_eq!((status.condition("Degraded"), status.nodes), (None, None));
    assert!(world.syncing().is_empty());
}

#[test]
fn a_pass_that_runs_when_the_pause_begins_is_the_last_one() {
    for outcome in [synced, unchanged, down, |work: &_| Outcome { aborted: true, ..down(work) }] {
        let mut world = world();
        world.apply(object("a"));
        world.apply(generation(2, paused(object("a"))));
        let written = world.written.len();
        world.finish("a", outcome);
        world.secret_note("a", Some("belongs to another"));
        world.wait(7_200);
        assert!(world.syncing().is_empty());
        assert_eq!(world.written.len(), written);
        // A pause that ends before the pass does.
        world.apply(generation(3, object("a")));
        assert_eq!(world.syncing(), ["a"]);
    }
}

#[test]
fn a_status_of_a_paused_object_that_others_edited_is_put_right() {
    let mut world = world();
    world.apply(paused(object("a")));
    let status = world.last_status().clone();
    let shown = |status| OpenstackConfig { status, ..paused(object("a")) };
    world.apply(shown(status.clone()));
    assert_eq!(world.written.len(), 1, "our own write comes back");
    let mut edited = status.clone();
    edited.conditions[0].status = "True".to_owned();
    world.apply(shown(edited));
    assert_eq!((world.written.len(), world.last_status()), (2, &status));
}

#[test]
fn a_younger_object_does_not_wait_for_the_first_pass_of_a_paused_one() {
    let mut world = world();
    world.list(&[paused(object("a")), younger(with_vms(&["vm of a"], object("b")))]);
    assert_eq!(world.syncing(), ["b"]);
    world.finish("b", synced);
    world.wait(seconds(1).as_secs());
    assert!(world.syncing().is_empty());
}
