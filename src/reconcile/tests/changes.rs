//! Which nodes must be sent (SPEC 5, step 11).

use std::collections::BTreeSet;

use super::{
    PROVIDER, intervals, inventory, legacy_record, object, planned, record, seconds, wall,
};
use crate::config::Intervals;
use crate::inventory::record::Record;
use crate::reconcile::changes::{Occasion, Resend, Why, down_hash, due, own, were_sent_since, why};
use crate::reconcile::claims::Decision;
use crate::reconcile::down_ports;
use crate::reconcile::plan::{Plan, PlannedNode};
use crate::resources::{DownPortRetry, Spec};

fn node(down: &[&str]) -> PlannedNode<'static> {
    planned("worker-1", "vm-1", &[("p1", 0), ("p2", 1)], down)
}

/// The same node as Viola accepted it at the start.
fn accepted() -> Record {
    record("worker-1", "vm-1", &[("p1", 0), ("p2", 1)])
}

fn by(node: &PlannedNode<'_>, record: Option<&Record>, resend: Resend) -> Option<Why> {
    why(node, record, PROVIDER, resend)
}

fn nothing() -> Resend {
    Resend { now: wall(1_000), ..Resend::default() }
}

fn everything_until(seconds: u64) -> Resend {
    Resend { accepted_until: Some(wall(seconds)), ..nothing() }
}

#[test]
fn a_node_never_sent_is_sent_and_one_accepted_as_it_is_is_not() {
    assert_eq!(by(&node(&[]), None, nothing()), Some(Why::Changed));
    assert_eq!(by(&node(&[]), Some(&accepted()), nothing()), None);
}

#[test]
fn any_difference_in_the_configuration_is_a_change() {
    let differs = |change: fn(&mut Record)| {
        let mut record = accepted();
        change(&mut record);
        by(&node(&[]), Some(&record), nothing()) == Some(Why::Changed)
    };
    assert!(differs(|record| record.config.interfaces[1].mtu = 9000));
    assert!(differs(|record| record.config.interfaces[1].id = 7));
    assert!(differs(|record| record.config.instance_id = "vm-2".to_owned()));
    assert!(differs(|record| {
        record.config.interfaces.pop();
    }));
}

#[test]
fn a_wrong_hash_alone_is_no_change() {
    let record = Record { last_config_hash: "of the replaced program".to_owned(), ..accepted() };
    assert_eq!(by(&node(&[]), Some(&record), nothing()), None);
}

#[test]
fn what_another_cluster_accepted_counts_as_never_sent() {
    let record = Record { accepted_by: Some("elsewhere".to_owned()), ..accepted() };
    assert_eq!(by(&node(&[]), Some(&record), nothing()), Some(Why::Changed));
}

#[test]
fn a_record_of_the_replaced_program_is_sent_once_for_its_names_not_for_its_silence() {
    let legacy = legacy_record("worker-1", "vm-1", &[("p1", 1), ("p2", 2)]);
    assert_eq!(by(&node(&[]), Some(&legacy), nothing()), Some(Why::Changed));
    let silent = Record { accepted_by: None, ..accepted() };
    assert_eq!(by(&node(&[]), Some(&silent), nothing()), None);
}

#[test]
fn what_was_accepted_up_to_the_moment_somebody_asked_is_sent_again_and_later_ones_are_not() {
    let record = Record { updated_at: wall(60), ..accepted() };
    assert_eq!(by(&node(&[]), Some(&record), everything_until(61)), Some(Why::Again));
    assert_eq!(by(&node(&[]), Some(&record), everything_until(60)), Some(Why::Again));
    assert_eq!(by(&node(&[]), Some(&record), everything_until(59)), None);
}

#[test]
fn a_record_from_the_future_is_sent_again_when_somebody_asks_because_the_clock_was_set_back() {
    let record = Record { updated_at: wall(5_000), ..accepted() };
    assert_eq!(by(&node(&[]), Some(&record), everything_until(900)), Some(Why::Again));
    assert_eq!(by(&node(&[]), Some(&record), nothing()), None);
    let record = Record { updated_at: wall(1_000), ..accepted() };
    assert_eq!(by(&node(&[]), Some(&record), everything_until(900)), None, "of this very moment");
}

#[test]
fn only_nodes_with_down_ports_are_sent_again_for_them() {
    let due = Resend { down_ports: true, ..nothing() };
    assert_eq!(by(&node(&["p2"]), Some(&accepted()), due), Some(Why::DownPorts));
    assert_eq!(by(&node(&["p2"]), Some(&accepted()), nothing()), None);
    assert_eq!(by(&node(&[]), Some(&accepted()), due), None);
}

#[test]
fn a_change_is_a_change_even_when_everything_is_sent_again() {
    let all = Resend { down_ports: true, ..everything_until(900) };
    assert_eq!(by(&node(&["p2"]), None, all), Some(Why::Changed));
    assert_eq!(by(&node(&["p2"]), Some(&accepted()), all), Some(Why::Again));
}

fn spec() -> Spec {
    object("edge", 0, &["vm-1", "vm-2"]).spec.unwrap()
}

fn other(down: &[&str]) -> PlannedNode<'static> {
    planned("worker-2", "vm-2", &[("p8", 0), ("p9", 1)], down)
}

/// Nobody asks for anything, nothing is in doubt, an hour after the start.
struct Pass {
    intervals: Intervals,
    asked_until: Option<u64>,
    down_ports: Option<DownPortRetry>,
    doubted: BTreeSet<String>,
}

impl Pass {
    fn ordinary() -> Pass {
        let (asked_until, down_ports, doubted) = (None, None, BTreeSet::new());
        Pass { intervals: intervals(), asked_until, down_ports, doubted }
    }

    /// Names of the nodes that are sent, and why; what is in the inventory was accepted at the start.
    fn sends(
        &self,
        nodes: &[&PlannedNode<'static>],
        records: &[Record],
    ) -> Vec<(&'static str, Why)> {
        let occasion = Occasion {
            intervals: &self.intervals,
            asked_until: self.asked_until.map(wall),
            down_ports: self.down_ports.as_ref(),
            doubted: &self.doubted,
            now: wall(3_600),
        };
        let sent = due(&spec(), nodes, &inventory(records), &occasion);
        let known = ["worker-1", "worker-2"];
        let name = |node: &PlannedNode<'_>| {
            known.into_iter().find(|name| *name == node.config.node_name).unwrap()
        };
        sent.into_iter().map(|(node, why)| (name(node), why)).collect()
    }
}

#[test]
fn only_granted_nodes_of_a_plan_are_the_objects_own() {
    let plan = Plan { nodes: vec![node(&[]), other(&[])], ..Plan::default() };
    let granted = BTreeSet::from(["worker-2".to_owned()]);
    let decision = Decision { granted, ..Decision::default() };
    let names: Vec<&str> =
        own(&plan, &decision).iter().map(|node| node.config.node_name.as_str()).collect();
    assert_eq!(names, ["worker-2"]);
}

#[test]
fn of_several_nodes_those_that_differ_are_sent() {
    let (one, two) = (node(&[]), other(&[]));
    let sent = Pass::ordinary().sends(&[&one, &two], &[accepted()]);
    assert_eq!(sent, [("worker-2", Why::Changed)]);
}

#[test]
fn a_node_in_doubt_is_sent_though_its_record_says_that_nothing_changed() {
    let pass = Pass { doubted: BTreeSet::from(["worker-1".to_owned()]), ..Pass::ordinary() };
    assert_eq!(pass.sends(&[&node(&[])], &[accepted()]), [("worker-1", Why::Changed)]);
}

#[test]
fn what_was_accepted_longer_ago_than_the_resync_interval_is_sent_again() {
    let with = |resync| {
        let intervals = Intervals { resync: Some(seconds(resync)), ..intervals() };
        Pass { intervals, ..Pass::ordinary() }.sends(&[&node(&[])], &[accepted()])
    };
    assert_eq!(with(3_600), [("worker-1", Why::Again)]);
    assert_eq!(with(3_601), []);
}

#[test]
fn the_later_of_asked_for_and_too_long_ago_counts() {
    let record = Record { updated_at: wall(2_000), ..accepted() };
    let with = |resync, asked_until| {
        let intervals = Intervals { resync: Some(seconds(resync)), ..intervals() };
        let pass = Pass { intervals, asked_until: Some(asked_until), ..Pass::ordinary() };
        pass.sends(&[&node(&[])], std::slice::from_ref(&record))
    };
    assert_eq!(with(1_600, 1), [("worker-1", Why::Again)]);
    assert_eq!(with(3_000, 2_000), [("worker-1", Why::Again)]);
    assert_eq!(with(3_000, 1_999), []);
}

#[test]
fn the_hash_of_down_ports_is_of_known_nodes_only() {
    let (one, two) = (node(&["p2"]), other(&["p8", "p9"]));
    let of = |nodes: &[&PlannedNode<'_>], records: &[Record]| {
        down_hash(&spec(), nodes, &inventory(records))
    };
    assert_eq!(of(&[&one, &two], &[]), None);
    assert_eq!(of(&[&one, &two], &[accepted()]), Some(down_ports::hash(["p2"])));
    let second = record("worker-2", "vm-2", &[("p8", 0), ("p9", 1)]);
    let both = Some(down_ports::hash(["p2", "p8", "p9"]));
    assert_eq!(of(&[&one, &two], &[accepted(), second]), both);
    assert_eq!(of(&[&node(&[])], &[accepted()]), None);
}

#[test]
fn nodes_with_the_same_down_ports_as_before_are_sent_again_when_their_time_has_come() {
    let after = |seconds_ago: u64, hash: String| {
        let last_attempt = wall(3_600 - seconds_ago);
        let down_ports = Some(DownPortRetry { hash, last_attempt, fast_attempts: 0 });
        Pass { down_ports, ..Pass::ordinary() }.sends(&[&node(&["p2"])], &[accepted()])
    };
    assert_eq!(after(20, down_ports::hash(["p2"])), [("worker-1", Why::DownPorts)]);
    assert_eq!(after(19, down_ports::hash(["p2"])), []);
    assert_eq!(after(20, down_ports::hash(["p1"])), []);
}

#[test]
fn a_plan_is_outdated_by_what_was_sent_of_its_nodes_since_and_by_nothing_else() {
    let spec = object("a", 0, &[]).spec.unwrap();
    let node = node(&[]);
    let sent_after = |record: Record, commits_before: u64| {
        let inventory = inventory(&[record]);
        let begun = inventory.version() - 1 + commits_before;
        were_sent_since(&spec, &[&node], &inventory, begun)
    };
    assert!(sent_after(accepted(), 0));
    assert!(sent_after(record("former-name", "vm-1", &[("p1", 0)]), 0), "the VM was renamed");
    assert!(!sent_after(record("worker-2", "vm-2", &[("p3", 0)]), 0), "another node");
    assert!(!sent_after(accepted(), 1), "before the reading began");
}
