//! The status of an object after a pass.

use std::collections::{BTreeMap, BTreeSet};

use super::{at, key, planned, wall};
use crate::reconcile::plan::{LeftOut, Plan, Unusable};
use crate::reconcile::report::{Conflict, Ready, Reason, Report, Summary, next, ready};
use crate::resources::{DownPortRetry, Status};
use crate::targets::{Delivery, Kept, Problem};

/// A pass over these nodes, of which Viola accepted some.
struct Pass {
    plan: Plan,
    conflicts: Vec<Conflict>,
    delivery: Delivery,
    again: usize,
    by_kubernetes: bool,
}

fn pass(nodes: &[&str], accepted: &[&str]) -> Pass {
    let nodes = nodes.iter().map(|node| planned(node, &format!("vm of {node}"), &[("p", 0)], &[]));
    let accepted = accepted.iter().map(|node| (*node).to_owned()).collect();
    Pass {
        plan: Plan { nodes: nodes.collect(), ..Plan::default() },
        conflicts: Vec::new(),
        delivery: Delivery { accepted, ..Delivery::default() },
        again: 0,
        by_kubernetes: false,
    }
}

impl Pass {
    fn refused(mut self, nodes: &[&str], message: &str) -> Pass {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        self.delivery.problems.push(Problem { nodes, message: message.to_owned() });
        self
    }

    fn conflict(mut self, node: &str, manager: &str) -> Pass {
        let (node_name, manager) = (node.to_owned(), key(manager));
        let vm_ids = ["vm-1", "vm-2"].map(str::to_owned).into();
        self.conflicts.push(Conflict { node_name, manager, vm_ids });
        self
    }

    fn ready(&self) -> Ready {
        let managed = self.plan.nodes.iter().filter(|node| {
            let name = &node.config.node_name;
            !self.conflicts.iter().any(|conflict| conflict.node_name == *name)
        });
        ready(&Summary {
            by_kubernetes: self.by_kubernetes,
            plan: &self.plan,
            conflicts: &self.conflicts,
            nodes: managed.count(),
            held: None,
            delivery: &self.delivery,
            again: self.again,
        })
    }

    fn reason(&self) -> Reason {
        self.ready().reason
    }

    fn message(&self) -> String {
        self.ready().message
    }
}

/// A port that is left out for its status.
fn building(node: &str) -> LeftOut {
    let (node_name, port_id) = (node.to_owned(), "p".to_owned());
    LeftOut { node_name, port_id, status: "BUILD".into(), why: Unusable::Status }
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:03}")).collect()
}

#[test]
fn a_success_says_how_many_nodes_and_what_was_left_out_and_why() {
    let mut pass = pass(&["worker-0", "worker-1"], &["worker-0", "worker-1"]);
    pass.plan.without_ports.push("6f1c".to_owned());
    pass.plan.left_out.push(building("worker-1"));
    pass.plan.nodes[0].over_limit = 2;
    assert_eq!(
        pass.message(),
        "synced 2 nodes; left out: 1 VM without ports in the subnet (6f1c), \
         1 port BUILD on worker-1, 2 ports of worker-0 over the limit of 10"
    );
    assert_eq!(pass.reason(), Reason::Synced);
}

#[test]
fn a_pass_that_sent_nothing_is_no_change() {
    let pass = pass(&["worker-0", "worker-1"], &[]);
    assert_eq!(pass.reason(), Reason::NoChange);
    assert_eq!(pass.message(), "2 nodes unchanged");
}

#[test]
fn a_pass_that_sent_some_nodes_says_how_many() {
    let pass = pass(&["worker-0", "worker-1", "worker-2"], &["worker-1"]);
    assert_eq!(pass.message(), "synced 3 nodes, 1 of them sent");
    let again = Pass { again: 1, ..self::pass(&["worker-0"], &["worker-0"]) };
    assert_eq!(again.message(), "synced 1 node (1 again without a change)");
}

#[test]
fn nodes_that_viola_refused_are_named_and_not_counted_as_synced_or_unchanged() {
    let refused = pass(&["worker-0", "worker-1"], &[]);
    let refused = refused.refused(&["worker-0", "worker-1"], "Viola POST: HTTP 500");
    assert_eq!(refused.reason(), Reason::ViolaPostError);
    assert_eq!(refused.message(), "Viola POST: HTTP 500 (not accepted: worker-0, worker-1)");

    let partly = pass(&["worker-0", "worker-1", "worker-2"], &["worker-1"]);
    let partly = partly.refused(&["worker-0"], "Viola POST: refused: no such node");
    let expected = "Viola POST: refused: no such node (not accepted: worker-0); \
                    synced 2 nodes, 1 of them sent";
    assert_eq!(partly.message(), expected);
}

#[test]
fn a_vm_that_goes_by_its_id_is_told_of_but_was_not_left_out() {
    let mut pass = pass(&["6f1c"], &["6f1c"]);
    pass.plan.by_id.push("6f1c".to_owned());
    assert_eq!(pass.reason(), Reason::Synced);
    assert_eq!(pass.message(), "synced 1 node; 1 VM unknown to Nova goes by its id (6f1c)");
}

#[test]
fn a_vm_that_nova_does_not_know_and_that_has_no_ports_goes_by_nothing() {
    let mut pass = pass(&["worker-0"], &[]);
    pass.plan.absent.push("6f1c".to_owned());
    assert_eq!(pass.reason(), Reason::NoChange);
    let expected = "1 node unchanged; left out: 1 VM unknown to Nova and without ports in the \
                    subnet (6f1c)";
    assert_eq!(pass.message(), expected);
}

#[test]
fn a_conflict_names_the_node_its_manager_and_both_vms() {
    let pass = pass(&["worker-0", "worker-1"], &["worker-1"]).conflict("worker-0", "older");
    assert_eq!(pass.reason(), Reason::NodeConflict);
    let expected = "node worker-0 is managed by the older OpenstackConfig default/older, \
                    VMs vm-1, vm-2 share its name; synced 1 node";
    assert_eq!(pass.message(), expected);
}

#[test]
fn duplicate_names_are_a_conflict_that_names_both() {
    let mut pass = pass(&["worker-0"], &[]);
    pass.plan.duplicate_names.insert("twin".to_owned(), vec!["vm-1".to_owned(), "vm-2".to_owned()]);
    assert_eq!(pass.reason(), Reason::NodeConflict);
    for part in ["\"twin\"", "vm-1", "vm-2", "none of them is sent", "1 node unchanged"] {
        assert!(pass.message().contains(part), "{part}: {}", pass.message());
    }
}

#[test]
fn vms_without_a_known_name_are_an_error_of_nova_and_each_message_stands_once() {
    let mut pass = pass(&["worker-0"], &["worker-0"]);
    for vm_id in ["vm-1", "vm-2"] {
        let unresolved = (vm_id.to_owned(), "Nova GET /servers: HTTP 503".to_owned());
        pass.plan.unresolved.push(unresolved);
    }
    assert_eq!(pass.reason(), Reason::NovaError);
    let message = pass.message();
    assert_eq!(message.matches("HTTP 503").count(), 1, "{message}");
    assert!(message.contains("vm-1, vm-2") && message.ends_with("synced 1 node"), "{message}");
}

#[test]
fn a_failed_post_outweighs_a_conflict_and_a_conflict_outweighs_nova() {
    let mut pass = pass(&["worker-0", "worker-1"], &[]).conflict("worker-0", "older");
    pass.plan.unresolved.push(("vm-9".to_owned(), "Nova is down".to_owned()));
    assert_eq!(pass.reason(), Reason::NodeConflict);
    let pass = pass.refused(&["worker-1"], "Viola is down");
    assert_eq!(pass.reason(), Reason::ViolaPostError);
    for part in ["Viola is down", "default/older", "Nova is down"] {
        assert!(pass.message().contains(part), "{part}: {}", pass.message());
    }
}

#[test]
fn equal_failures_give_equal_messages_in_whatever_order_they_came() {
    let with = |vms: [&str; 2]| {
        let mut pass = pass(&[], &[]);
        for vm_id in vms {
            pass.plan
                .unresolved
                .push((vm_id.to_owned(), format!("Nova GET /servers/{vm_id}: 500")));
        }
        pass.message()
    };
    assert_eq!(with(["vm-1", "vm-2"]), with(["vm-2", "vm-1"]));
}

#[test]
fn long_lists_are_shortened_and_the_end_of_the_message_is_never_lost() {
    let many = |change: fn(&mut Pass)| {
        let mut pass = pass(&["worker-0"], &["worker-0"]);
        change(&mut pass);
        let message = pass.message();
        assert!(message.contains("synced 1 node"), "{message}");
        assert!(message.contains("more"), "{message}");
        assert!(!message.contains("-099"), "{message}");
    };
    many(|pass| pass.plan.without_ports = numbered("vm", 100));
    many(|pass| pass.plan.by_id = numbered("vm", 100));
    many(|pass| pass.plan.absent = numbered("vm", 100));
    many(|pass| {
        pass.plan.left_out = numbered("worker", 100).iter().map(|node| building(node)).collect();
    });
    many(|pass| {
        let duplicate_names = |name: String| (name, numbered("vm", 100));
        pass.plan.duplicate_names =
            numbered("worker", 100).into_iter().map(duplicate_names).collect::<BTreeMap<_, _>>();
    });
    many(|pass| {
        let words = "Nova said something long that says little of what it was about. ".repeat(4);
        let unresolved = |vm_id: String| (vm_id.clone(), format!("GET /servers/{vm_id}: {words}"));
        pass.plan.unresolved = numbered("vm", 100).into_iter().map(unresolved).collect();
    });
    many(|pass| {
        for node in numbered("worker", 100) {
            let (manager, vm_ids) = (key("older"), BTreeSet::new());
            let conflict = Conflict { node_name: node, manager, vm_ids };
            pass.conflicts.push(conflict);
        }
    });
    many(|pass| {
        for node in numbered("worker", 100) {
            let message = format!("Viola POST: refused: {node} is unknown");
            pass.plan.nodes.push(planned(&node, "vm", &[], &[]));
            pass.delivery.problems.push(Problem { nodes: vec![node], message });
        }
    });
}

#[test]
fn five_names_fit_and_of_six_one_is_only_counted() {
    let message = |count| {
        let mut pass = pass(&[], &[]);
        pass.plan.without_ports = numbered("vm", count);
        pass.message()
    };
    assert!(message(5).ends_with("(vm-000, vm-001, vm-002, vm-003, vm-004)"), "{}", message(5));
    assert!(message(6).ends_with("vm-004, 1 more)"), "{}", message(6));
}

fn ready_of(reason: Reason, message: &str) -> Ready {
    Ready { reason, message: message.to_owned() }
}

fn report(generation: i64) -> Report<'static> {
    Report { generation, nodes: Some(2), ..Report::default() }
}

/// The statuses of syncs that end one after the other, ten seconds apart.
fn statuses(verdicts: &[(Reason, &str)]) -> Vec<Status> {
    let mut status = Status::default();
    let mut all = Vec::new();
    for (turn, (reason, message)) in verdicts.iter().enumerate() {
        let now = at(turn as u64 * 10);
        status = next(&status, &ready_of(*reason, message), &report(1), now);
        all.push(status.clone());
    }
    all
}

fn shown(status: &Status) -> (&str, &str, &str) {
    let ready = status.condition("Ready").unwrap();
    (&ready.status, &ready.reason, &ready.message)
}

fn degraded(status: &Status) -> (&str, &str) {
    let degraded = status.condition("Degraded").unwrap();
    (&degraded.status, &degraded.reason)
}

fn since(status: &Status, kind: &str) -> String {
    status.condition(kind).unwrap().last_transition_time.clone()
}

#[test]
fn the_transition_time_moves_only_when_the_status_does() {
    let all = statuses(&[
        (Reason::Synced, "synced"),
        (Reason::NoChange, "unchanged"),
        (Reason::NovaError, "down"),
        (Reason::NodeConflict, "duplicate_names"),
        (Reason::Synced, "synced"),
    ]);
    let times = |kind| all.iter().map(|status| since(status, kind)).collect::<Vec<_>>();
    let (start, failed, back) =
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:25Z", "2026-01-02T03:04:45Z");
    assert_eq!(times("Ready"), [start, start, failed, failed, back]);
    assert_eq!(times("Degraded"), [start, start, failed, failed, back]);
}

#[test]
fn the_last_sync_is_the_last_success_whether_or_not_anything_was_sent() {
    let all = statuses(&[
        (Reason::KeystoneError, "down"),
        (Reason::Synced, "synced"),
        (Reason::NoChange, "unchanged"),
        (Reason::NovaError, "down"),
    ]);
    let synced: Vec<Option<&str>> =
        all.iter().map(|status| status.last_synced_at.as_deref()).collect();
    let (first, second) = ("2026-01-02T03:04:15Z", "2026-01-02T03:04:25Z");
    assert_eq!(synced, [None, Some(first), Some(second), Some(second)]);
}

#[test]
fn the_last_error_is_empty_after_success() {
    let all = statuses(&[(Reason::KeystoneError, "down"), (Reason::NoChange, "unchanged")]);
    assert_eq!(all[0].last_error, "down");
    assert_eq!(all[1].last_error, "");
}

#[test]
fn every_reason_but_two_is_an_error_and_degrades() {
    use Reason::{
        ConfigError, ContrabassError, KeystoneError, NeutronEndpointError, NeutronPortError,
        NeutronSubnetError, NoChange, NodeConflict, NovaError, SubnetNotFound, SubnetNotUnique,
        SubnetRequired, Synced, ViolaPostError,
    };
    for (reason, name) in [(Synced, "Synced"), (NoChange, "NoChange")] {
        let status = &statuses(&[(reason, "good")])[0];
        assert_eq!(shown(status), ("True", name, "good"));
        assert_eq!(degraded(status), ("False", "Healthy"));
    }
    for (reason, name) in [
        (ConfigError, "ConfigError"),
        (ContrabassError, "ContrabassError"),
        (KeystoneError, "KeystoneError"),
        (NeutronEndpointError, "NeutronEndpointError"),
        (NeutronPortError, "NeutronPortError"),
        (SubnetRequired, "SubnetRequired"),
        (NeutronSubnetError, "NeutronSubnetError"),
        (SubnetNotFound, "SubnetNotFound"),
        (SubnetNotUnique, "SubnetNotUnique"),
        (NovaError, "NovaError"),
        (NodeConflict, "NodeConflict"),
        (ViolaPostError, "ViolaPostError"),
    ] {
        let status = &statuses(&[(reason, "bad")])[0];
        assert_eq!(shown(status), ("False", name, "bad"));
        assert_eq!(degraded(status), ("True", "Error"));
    }
}

#[test]
fn an_equal_failure_gives_an_equal_status() {
    let all = statuses(&[(Reason::NovaError, "down"), (Reason::NovaError, "down")]);
    assert_eq!(all[0], all[1]);
}

#[test]
fn conditions_and_status_say_which_generation_they_speak_of() {
    let before = next(&Status::default(), &ready_of(Reason::Synced, ""), &report(1), at(0));
    let after = next(&before, &ready_of(Reason::Synced, ""), &report(2), at(1));
    assert_eq!(after.observed_generation, Some(2));
    let generations: BTreeSet<i64> =
        after.conditions.iter().map(|condition| condition.observed_generation).collect();
    assert_eq!(generations, BTreeSet::from([2]));
}

#[test]
fn a_pass_that_computed_no_nodes_leaves_the_last_count() {
    let before = next(&Status::default(), &ready_of(Reason::Synced, ""), &report(1), at(0));
    let nothing = Report { nodes: None, ..report(1) };
    let after = next(&before, &ready_of(Reason::KeystoneError, "down"), &nothing, at(1));
    assert_eq!(after.nodes, Some(2));
}

#[test]
fn a_note_degrades_a_success_without_making_it_an_error() {
    let notes = ["the Secret belongs to somebody else".to_owned()];
    let noted = Report { notes: &notes, ..report(1) };
    let status = next(&Status::default(), &ready_of(Reason::Synced, "synced"), &noted, at(0));
    let message = "synced; note: the Secret belongs to somebody else";
    assert_eq!(shown(&status), ("True", "Synced", message));
    assert_eq!(degraded(&status), ("True", "Error"));
    assert_eq!(status.last_error, "");
    let healed = next(&status, &ready_of(Reason::Synced, "synced"), &report(1), at(10));
    assert_eq!(shown(&healed), ("True", "Synced", "synced"));
    assert_eq!(degraded(&healed), ("False", "Healthy"));
    assert_eq!(since(&healed, "Ready"), "2026-01-02T03:04:05Z");
    assert_eq!(since(&healed, "Degraded"), "2026-01-02T03:04:15Z");
}

#[test]
fn a_note_is_seen_even_beside_the_longest_message() {
    let notes = ["the inventory isn't on disk".to_owned()];
    let noted = Report { notes: &notes, ..report(1) };
    let long = ready_of(Reason::NovaError, &"Nova is down. ".repeat(400));
    let status = next(&Status::default(), &long, &noted, at(0));
    assert!(status.last_error.contains("the inventory isn't on disk"));
    assert!(status.last_error.len() < 2_000, "{}", status.last_error.len());
}

#[test]
fn the_state_of_resends_is_the_reports_and_goes_when_it_has_none() {
    let retry = DownPortRetry { hash: "h".to_owned(), last_attempt: wall(0), fast_attempts: 1 };
    let with = Report { down_port_retry: Some(retry.clone()), ..report(1) };
    let status = next(&Status::default(), &ready_of(Reason::Synced, ""), &with, at(0));
    assert_eq!(status.down_port_retry, Some(retry));
    let status = next(&status, &ready_of(Reason::Synced, ""), &report(1), at(1));
    assert_eq!(status.down_port_retry, None);
}

#[test]
fn what_a_cluster_refuses_or_keeps_is_said_with_its_reason() {
    let mut pass = pass(&["worker-0", "worker-1", "worker-2"], &["worker-2"]);
    pass.delivery.kept = vec![Kept { node_name: "worker-0".to_owned(), manager: key("other") }];
    assert_eq!(pass.reason(), Reason::NodeConflict);
    let kept = "node worker-0 is managed by the OpenstackConfig default/other, by the annotation of \
                its MultiNicNodeConfig";
    assert_eq!(pass.message(), format!("{kept}; synced 2 nodes, 1 of them sent"));
    let (nodes, message) = (vec!["worker-1".to_owned()], "cluster -: 403 Forbidden: no".to_owned());
    pass.delivery.problems = vec![Problem { nodes, message }];
    pass.by_kubernetes = true;
    assert_eq!(pass.reason(), Reason::DeliveryError);
    let refused = "cluster -: 403 Forbidden: no (not accepted: worker-1)";
    assert_eq!(pass.message(), format!("{refused}; {kept}; synced 1 node"));
}
