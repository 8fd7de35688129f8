//! Which nodes must be sent (SPEC 5, step 11).

use super::{PROVIDER, legacy_record, planned, record, wall};
use crate::inventory::record::Record;
use crate::sync::changes::{Resend, Why, why};
use crate::sync::plan::PlannedNode;

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
