//! Which nodes must be sent.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{intervals, inventory, legacy_record, object, owner, planned, record, seconds, wall};
use crate::config::Intervals;
use crate::inventory::record::{Change, Record, ReservedId};
use crate::reconcile::changes::{Recorded, SendContext, SendReason, down_hash, due};
use crate::reconcile::down_ports;
use crate::reconcile::plan::PlannedNode;
use crate::resources::{DownPortRetry, Spec};

fn node(down: &[&str]) -> PlannedNode {
    planned("worker-1", "vm-1", &[("p1", 0), ("p2", 1)], down)
}

/// The same node as Viola accepted it at the start.
fn accepted() -> Record {
    record("worker-1", "vm-1", &[("p1", 0), ("p2", 1)])
}

/// What makes unchanged nodes be sent again.
#[derive(Clone, Copy, Default)]
struct Resend {
    accepted_until: Option<Timestamp>,
    down_ports: bool,
    now: Timestamp,
}

fn by(node: &PlannedNode, record: Option<&Record>, resend: Resend) -> Option<SendReason> {
    let hash = down_ports::hash(node.down_ports.iter().map(String::as_str));
    let last_attempt = Timestamp::UNIX_EPOCH;
    let down_ports = DownPortRetry { hash, last_attempt, fast_attempts: 0 };
    let context = SendContext {
        intervals: &intervals(),
        forced_until: resend.accepted_until,
        down_ports: resend.down_ports.then_some(&down_ports),
        unconfirmed: &BTreeSet::new(),
        drifted: &BTreeSet::new(),
        now: resend.now,
    };
    let records: Vec<Record> = record.into_iter().cloned().collect();
    due(&spec(), &[node], &inventory(&records), &context).pop().map(|(_, reason)| reason)
}

fn nothing() -> Resend {
    Resend { now: wall(1_000), ..Resend::default() }
}

fn everything_until(seconds: u64) -> Resend {
    Resend { accepted_until: Some(wall(seconds)), ..nothing() }
}

#[test]
fn a_node_never_sent_is_sent_and_one_accepted_as_it_is_is_not() {
    assert_eq!(by(&node(&[]), None, nothing()), Some(SendReason::Changed));
    assert_eq!(by(&node(&[]), Some(&accepted()), nothing()), None);
}

#[test]
fn any_difference_in_the_configuration_is_a_change() {
    let differs = |change: fn(&mut Record)| {
        let mut record = accepted();
        change(&mut record);
        by(&node(&[]), Some(&record), nothing()) == Some(SendReason::Changed)
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
    assert_eq!(by(&node(&[]), Some(&record), nothing()), Some(SendReason::Changed));
}

#[test]
fn a_record_of_the_replaced_program_is_sent_once_for_its_names_not_for_its_silence() {
    let legacy = legacy_record("worker-1", "vm-1", &[("p1", 1), ("p2", 2)]);
    assert_eq!(by(&node(&[]), Some(&legacy), nothing()), Some(SendReason::Changed));
    let silent = Record { accepted_by: None, ..accepted() };
    assert_eq!(by(&node(&[]), Some(&silent), nothing()), None);
}

#[test]
fn what_was_accepted_up_to_the_moment_somebody_asked_is_sent_again_and_later_ones_are_not() {
    let record = Record { updated_at: wall(60), ..accepted() };
    assert_eq!(by(&node(&[]), Some(&record), everything_until(61)), Some(SendReason::Resync));
    assert_eq!(by(&node(&[]), Some(&record), everything_until(60)), Some(SendReason::Resync));
    assert_eq!(by(&node(&[]), Some(&record), everything_until(59)), None);
}

#[test]
fn a_record_from_the_future_is_sent_again_when_somebody_asks_because_the_clock_was_set_back() {
    let record = Record { updated_at: wall(5_000), ..accepted() };
    assert_eq!(by(&node(&[]), Some(&record), everything_until(900)), Some(SendReason::Resync));
    assert_eq!(by(&node(&[]), Some(&record), nothing()), None);
    let record = Record { updated_at: wall(1_000), ..accepted() };
    assert_eq!(by(&node(&[]), Some(&record), everything_until(900)), None, "of this very moment");
}

#[test]
fn only_nodes_with_down_ports_are_sent_again_for_them() {
    let due = Resend { down_ports: true, ..nothing() };
    assert_eq!(by(&node(&["p2"]), Some(&accepted()), due), Some(SendReason::DownPorts));
    assert_eq!(by(&node(&["p2"]), Some(&accepted()), nothing()), None);
    assert_eq!(by(&node(&[]), Some(&accepted()), due), None);
}

#[test]
fn a_change_is_a_change_even_when_everything_is_sent_again() {
    let all = Resend { down_ports: true, ..everything_until(900) };
    assert_eq!(by(&node(&["p2"]), None, all), Some(SendReason::Changed));
    assert_eq!(by(&node(&["p2"]), Some(&accepted()), all), Some(SendReason::Resync));
}

fn spec() -> Spec {
    object("edge", 0, &["vm-1", "vm-2"]).spec.unwrap()
}

fn other(down: &[&str]) -> PlannedNode {
    planned("worker-2", "vm-2", &[("p8", 0), ("p9", 1)], down)
}

/// Nobody asks for anything, nothing is in doubt, an hour after the start.
struct Pass {
    intervals: Intervals,
    forced_until: Option<u64>,
    down_ports: Option<DownPortRetry>,
    unconfirmed: BTreeSet<String>,
    drifted: BTreeSet<String>,
}

impl Pass {
    fn ordinary() -> Pass {
        let (forced_until, down_ports) = (None, None);
        let (unconfirmed, drifted) = (BTreeSet::new(), BTreeSet::new());
        Pass { intervals: intervals(), forced_until, down_ports, unconfirmed, drifted }
    }

    /// Names of the nodes that are sent, and why; what is in the inventory was accepted at the start.
    fn sends(&self, nodes: &[&PlannedNode], records: &[Record]) -> Vec<(&'static str, SendReason)> {
        let context = SendContext {
            intervals: &self.intervals,
            forced_until: self.forced_until.map(wall),
            down_ports: self.down_ports.as_ref(),
            unconfirmed: &self.unconfirmed,
            drifted: &self.drifted,
            now: wall(3_600),
        };
        let sent = due(&spec(), nodes, &inventory(records), &context);
        let known = ["worker-1", "worker-2"];
        let name = |node: &PlannedNode| {
            known.into_iter().find(|name| *name == node.config.node_name).unwrap()
        };
        sent.into_iter().map(|(node, why)| (name(node), why)).collect()
    }
}

#[test]
fn of_several_nodes_those_that_differ_are_sent() {
    let (one, two) = (node(&[]), other(&[]));
    let sent = Pass::ordinary().sends(&[&one, &two], &[accepted()]);
    assert_eq!(sent, [("worker-2", SendReason::Changed)]);
}

#[test]
fn a_node_whose_cluster_has_something_else_is_sent_though_nothing_changed() {
    let pass = Pass { drifted: BTreeSet::from(["worker-1".to_owned()]), ..Pass::ordinary() };
    assert_eq!(pass.sends(&[&node(&[])], &[accepted()]), [("worker-1", SendReason::Drift)]);
    assert!(Pass::ordinary().sends(&[&node(&[])], &[accepted()]).is_empty());
}

#[test]
fn a_node_in_doubt_is_sent_though_its_record_says_that_nothing_changed() {
    let pass = Pass { unconfirmed: BTreeSet::from(["worker-1".to_owned()]), ..Pass::ordinary() };
    assert_eq!(pass.sends(&[&node(&[])], &[accepted()]), [("worker-1", SendReason::Changed)]);
}

#[test]
fn what_was_accepted_longer_ago_than_the_resync_interval_is_sent_again() {
    let with = |resync| {
        let intervals = Intervals { resync: Some(seconds(resync)), ..intervals() };
        Pass { intervals, ..Pass::ordinary() }.sends(&[&node(&[])], &[accepted()])
    };
    assert_eq!(with(3_600), [("worker-1", SendReason::Resync)]);
    assert_eq!(with(3_601), []);
}

#[test]
fn the_later_of_asked_for_and_too_long_ago_counts() {
    let record = Record { updated_at: wall(2_000), ..accepted() };
    let with = |resync, forced_until| {
        let intervals = Intervals { resync: Some(seconds(resync)), ..intervals() };
        let pass = Pass { intervals, forced_until: Some(forced_until), ..Pass::ordinary() };
        pass.sends(&[&node(&[])], std::slice::from_ref(&record))
    };
    assert_eq!(with(1_600, 1), [("worker-1", SendReason::Resync)]);
    assert_eq!(with(3_000, 2_000), [("worker-1", SendReason::Resync)]);
    assert_eq!(with(3_000, 1_999), []);
}

#[test]
fn the_hash_of_down_ports_is_of_known_nodes_only() {
    let (one, two) = (node(&["p2"]), other(&["p8", "p9"]));
    let of =
        |nodes: &[&PlannedNode], records: &[Record]| down_hash(&spec(), nodes, &inventory(records));
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
    assert_eq!(after(20, down_ports::hash(["p2"])), [("worker-1", SendReason::DownPorts)]);
    assert_eq!(after(19, down_ports::hash(["p2"])), []);
    assert_eq!(after(20, down_ports::hash(["p1"])), []);
}

/// What is recorded after both nodes were sent and only these accepted.
fn recorded(accepted: &[&str], records: &[Record]) -> Vec<Change> {
    let (one, two) = (node(&[]), other(&[]));
    Recorded {
        spec: &Spec { k8s_provider_id: Some("biz".to_owned()), ..spec() },
        owner: &owner("edge"),
        own: &[&one, &two],
        sent: &[&one, &two],
        accepted: &accepted.iter().map(|name| (*name).to_owned()).collect(),
        sent_at: wall(60),
        inventory: &inventory(records),
    }
    .changes()
}

fn ids(reserved: &[ReservedId]) -> Vec<(&str, u8)> {
    reserved.iter().map(|kept| (kept.port_id.as_str(), kept.id)).collect()
}

#[test]
fn ids_of_a_node_that_was_sent_and_not_accepted_are_reserved_in_a_record_no_api_shows() {
    let changes = recorded(&["worker-1"], &[]);
    let [Change::Upsert(first), Change::Upsert(second)] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!((first.node_name.as_str(), first.was_accepted()), ("worker-1", true));
    assert_eq!((second.node_name.as_str(), second.was_accepted()), ("worker-2", false));
    assert_eq!(ids(&second.reserved_ids), [("p8", 0), ("p9", 1)]);
    assert!(second.config.interfaces.is_empty());
    assert_eq!(recorded(&["worker-1"], &[first.clone(), second.clone()]).len(), 1, "said once");
}

#[test]
fn a_refused_change_reserves_its_new_ids_beside_what_was_accepted() {
    let before = record("worker-1", "vm-1", &[("p1", 0), ("gone", 1)]);
    let changes = recorded(&["worker-2"], std::slice::from_ref(&before));
    let refused = changes.iter().find_map(|change| match change {
        Change::Upsert(record) if record.node_name == "worker-1" => Some(record),
        _ => None,
    });
    let refused = refused.unwrap();
    assert_eq!((&refused.config, refused.updated_at), (&before.config, before.updated_at));
    assert_eq!(ids(&refused.reserved_ids), [("p2", 1)]);
    assert!(refused.was_accepted());
}

#[test]
fn a_record_of_the_objects_own_vm_goes_when_the_vm_is_renamed_or_its_cloud_registered_anew() {
    let renamed = record("former-name", "vm-1", &[("p1", 0)]);
    let before = Record {
        provider_id: "former-cloud".to_owned(),
        owner: Some(owner("edge")),
        ..record("worker-2", "vm-2", &[("p8", 0)])
    };
    let of_another_object = Record { owner: Some(owner("another")), ..before.clone() };
    let removed = |records: &[Record]| -> Vec<(String, String)> {
        let changes = recorded(&["worker-1", "worker-2"], records);
        let keys = changes.iter().filter_map(|change| match change {
            Change::Remove { provider_id, node_name } => {
                Some((provider_id.clone(), node_name.clone()))
            }
            Change::Upsert(_) => None,
        });
        keys.collect()
    };
    let key = |cloud: &str, node: &str| (cloud.to_owned(), node.to_owned());
    assert_eq!(removed(&[renamed]), [key("provider-1", "former-name")]);
    assert_eq!(removed(&[before]), [key("former-cloud", "worker-2")]);
    assert_eq!(removed(&[of_another_object]), []);
    let of_go_operator = |cloud: &str| Record {
        provider_id: cloud.to_owned(),
        accepted_by: None,
        owner: None,
        ..record("worker-2", "vm-2", &[("p8", 0)])
    };
    assert_eq!(removed(&[of_go_operator("BIZ")]), [key("BIZ", "worker-2")]);
    assert_eq!(removed(&[of_go_operator("another")]), []);
}
