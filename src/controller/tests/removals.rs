//! Objects of which removals are held.

use super::{forced, object, seconds, unchanged, world};
use crate::reconcile::removals::{Hold, Removal};
use crate::reconcile::report::Reason;
use crate::reconcile::{Lane, Outcome, Work};
use crate::resources::{OpenstackConfig, Status};

fn hold(hash: &str, is_approved: bool) -> Hold {
    let node_name = "worker-1".to_owned();
    let removal = Removal {
        node_name,
        ports: vec!["p".to_owned()],
        renumbered: Vec::new(),
        added: Vec::new(),
    };
    Hold { hash: hash.to_owned(), removals: vec![removal], losing: 2, known: 2, is_approved }
}

fn held(work: &Work) -> Outcome {
    let hold = Some(hold("a1", false));
    Outcome { nodes: Some(2), hold, ..Outcome::failed(work, Reason::ChangeHeld, "held") }
}

fn approved(value: Option<&str>, status: &Status) -> OpenstackConfig {
    let approve = value.map(str::to_owned);
    OpenstackConfig { approve, status: status.clone(), ..object("a") }
}

#[test]
fn what_is_held_is_told_once_and_looked_at_as_rarely_as_what_is_well() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", held);
    let since = world.last_status().hold.as_ref().unwrap().since;
    let told =
        |world: &super::World| world.told.iter().filter(|it| it.reason == "ChangeHeld").count();
    assert_eq!(told(&world), 1);
    let before = world.now.uptime;
    world.until_due();
    assert!(world.now.uptime - before >= seconds(120));
    world.finish("a", held);
    assert_eq!((told(&world), world.lanes["a"]), (1, Lane::Poll));
    world.until_due();
    world.finish("a", |work| Outcome { hold: Some(hold("b2", false)), ..held(work) });
    assert_eq!(told(&world), 2, "other removals");
    assert_eq!(world.last_status().hold.as_ref().unwrap().since, since);
    world.until_due();
    world.finish("a", unchanged);
    assert_eq!(world.last_status().hold, None);
}

#[test]
fn an_approval_that_was_seen_counts_without_its_annotation_until_it_is_used() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", held);
    let status = world.last_status().clone();
    world.apply(approved(Some("a1"), &status));
    world.apply(approved(None, &status));
    // A pass began with the annotation; the next one has the approval without it.
    world.finish("a", |work| Outcome {
        nodes: None,
        ..Outcome::failed(work, Reason::NovaError, "")
    });
    assert_eq!(
        world.finish("a", |work| Outcome { hold: Some(hold("a1", true)), ..held(work) }).approvals,
        ["a1"]
    );
    assert!(world.last_status().hold.as_ref().unwrap().approved);
    // Another process goes on with it.
    let status = world.last_status().clone();
    let mut next = super::world();
    next.apply(approved(None, &status));
    let work = next
        .finish("a", |work| Outcome { used_approval: Some("a1".to_owned()), ..unchanged(work) });
    assert_eq!(work.approvals, ["a1"]);
    assert_eq!((&next.last_status().hold, &next.last_status().last_approved), (&None, &None));
    next.apply(forced("now", approved(None, &status)));
    assert!(next.finish("a", unchanged).approvals.is_empty());
}
