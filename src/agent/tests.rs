//! The agent's recorded statuses, and what follows from them.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::condition::{Known, NodeReport, Reason, configured, put};
use super::drift::{Decision, Drift, Facts};
use super::object::NodeObject;
use super::state::{Difference, NodeState, State};
use crate::clock::Now;
use crate::kube::objects::RawObject;
use crate::node_config::{Interface, NodeConfig};
use crate::resources::Status;

const MINUTE: Duration = Duration::from_secs(60);

fn recorded(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/agent");
    let text = fs::read_to_string(format!("{folder}/multinicnodeconfig-{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn read(object: &Value) -> NodeObject {
    let raw = serde_json::value::to_raw_value(object).unwrap();
    NodeObject::from_raw(&RawObject::read(&raw).unwrap())
}

/// What was sent to the recorded node: the first so many of its interfaces.
fn sent(interfaces: usize) -> NodeConfig {
    let interface = |id: u8, mac_address: &str, address: &str| Interface {
        id,
        name: Interface::name_of(id),
        port_id: format!("port-{id}"),
        mac_address: mac_address.to_owned(),
        address: address.parse().unwrap(),
        cidr: "10.20.0.0/24".into(),
        mtu: 1450,
        network_id: "n".into(),
        subnet_id: "s".into(),
    };
    let mut all = vec![
        interface(0, "fa:16:3e:1f:0a:10", "10.20.0.11"),
        interface(2, "fa:16:3e:2b:44:c1", "10.20.0.110"),
    ];
    all.truncate(interfaces);
    NodeConfig {
        node_name: "worker-2".to_owned(),
        instance_id: "3B8F2C61-9D04-4E7A-A5C2-1F6E8D90B7A4".to_owned(),
        interfaces: all,
    }
}

fn states(node: &NodeState) -> Vec<State> {
    node.interfaces.iter().map(|one| one.state).collect()
}

fn wall() -> Timestamp {
    "2026-11-30T16:00:00Z".parse().unwrap()
}

fn report(name: &str, state: NodeState, silent_minutes: Option<i64>) -> NodeReport {
    let since = |minutes: i64| wall() - jiff::SignedDuration::from_mins(minutes);
    NodeReport {
        name: name.to_owned(),
        instance_id: String::new(),
        silent_since: silent_minutes.map(since),
        drift: String::new(),
        state,
    }
}

#[test]
fn recorded_statuses_are_read_by_mac_address_not_by_the_agents_name() {
    let node = NodeState::of(&sent(1), Some(&read(&recorded("configured"))));
    assert_eq!((node.state, states(&node)), (State::Configured, vec![State::Configured]));
    assert_eq!(node.drift, None);
    let node = NodeState::of(&sent(2), Some(&read(&recorded("failed"))));
    assert_eq!(node.state, State::Failed);
    assert_eq!(states(&node), [State::Configured, State::Failed]);
    let failed = &node.interfaces[1];
    assert_eq!((&*failed.name, &*failed.reason), ("multinic2", "JobFailed"));
    assert_eq!(failed.message, "interface with MAC not found");
    let node = NodeState::of(&sent(2), Some(&read(&recorded("in-progress-after-change"))));
    assert_eq!((node.state, states(&node)), (State::InProgress, vec![State::InProgress; 2]));
}

#[test]
fn a_status_of_another_generation_says_nothing() {
    let mut object = recorded("configured");
    object["metadata"]["generation"] = json!(3);
    let node = NodeState::of(&sent(1), Some(&read(&object)));
    assert_eq!((node.state, states(&node)), (State::Sent, vec![State::Sent]));
    assert!(!node.is_reported());
    object["status"] = Value::Null;
    assert_eq!(NodeState::of(&sent(1), Some(&read(&object))).state, State::Sent);
}

#[test]
fn a_status_of_another_spec_is_no_success_and_no_failure_of_what_was_sent() {
    // The target still has the spec with one interface, and its status.
    let node = NodeState::of(&sent(2), Some(&read(&recorded("configured"))));
    assert_eq!(
        (node.state, states(&node)),
        (State::InProgress, vec![State::Configured, State::Sent])
    );
    let mut object = recorded("failed");
    object["spec"]["interfaces"][1]["mtu"] = json!(9000);
    let node = NodeState::of(&sent(2), Some(&read(&object)));
    assert_eq!(
        (node.state, states(&node)),
        (State::InProgress, vec![State::Configured, State::Sent])
    );
}

#[test]
fn an_interface_is_matched_by_id_only_without_a_mac_address() {
    let mut object = recorded("failed");
    object["status"]["interfaceStatuses"][1]["macAddress"] = Value::Null;
    let node = NodeState::of(&sent(2), Some(&read(&object)));
    assert_eq!(states(&node), [State::Configured, State::Failed]);
    object["status"]["interfaceStatuses"][1]["macAddress"] = json!("fa:16:3e:00:00:01");
    let node = NodeState::of(&sent(2), Some(&read(&object)));
    assert_eq!((node.state, states(&node)), (State::Failed, vec![State::Configured, State::Sent]));
    assert_eq!(node.words, "JobFailedPartial");
}

#[test]
fn a_status_without_interfaces_holds_for_all_of_them() {
    let mut object = recorded("failed");
    object["status"]["interfaceStatuses"] = json!([]);
    let node = NodeState::of(&sent(2), Some(&read(&object)));
    assert_eq!(states(&node), [State::Failed, State::Failed]);
    assert_eq!(node.interfaces[0].reason, "JobFailedPartial");
}

#[test]
fn what_was_edited_is_named_and_what_is_not_there_is_not_compared() {
    let mut object = recorded("failed");
    let manager = |name: &str, time: &str, part: &str| json!({"manager": name, "time": time, "fieldsV1": {part: {}}});
    object["metadata"]["managedFields"] = json!([
        manager("multinic-operator", "2026-11-30T15:00:00Z", "f:spec"),
        manager("kubectl-edit", "2026-11-30T15:01:00Z", "f:spec"),
        manager("agent", "2026-11-30T15:02:00Z", "f:status"),
    ]);
    let interfaces = &mut object["spec"]["interfaces"];
    interfaces[0] = json!({"macAddress": "FA:16:3E:1F:0A:10"});
    interfaces[1]["address"] = json!("10.20.0.7");
    object["spec"]["instanceId"] = json!("other");
    let node = NodeState::of(&sent(2), Some(&read(&object)));
    let Some(Difference::Edited { what, writer }) = node.drift else { panic!("{node:?}") };
    let vm = "3B8F2C61-9D04-4E7A-A5C2-1F6E8D90B7A4";
    assert_eq!(
        what,
        [format!("instanceId {vm} -> other"), "multinic2: address 10.20.0.110 -> 10.20.0.7".into()]
    );
    assert_eq!(writer.as_deref(), Some("kubectl-edit"));
    object["spec"]["interfaces"] = json!([{"macAddress": "fa:16:3e:00:00:09"}]);
    let node = NodeState::of(&sent(1), Some(&read(&object)));
    let Some(Difference::Edited { what, .. }) = node.drift else { panic!("{node:?}") };
    assert_eq!(what[1..], ["multinic0 is gone", "fa:16:3e:00:00:09 is added"]);
}

#[test]
fn an_object_that_makes_no_sense_is_read_as_far_as_it_does() {
    let object = json!({
        "metadata": {"name": "worker-2", "generation": 2, "managedFields": "x"},
        "spec": {"interfaces": [{"macAddress": "fa:16:3e:1f:0a:10", "mtu": "large"}]},
        "status": {"state": 7, "observedGeneration": "2", "interfaceStatuses": {}},
    });
    let node = NodeState::of(&sent(1), Some(&read(&object)));
    assert_eq!((node.state, node.drift), (State::Sent, None));
}

#[test]
fn the_first_reason_that_holds_counts() {
    let of = |name: &str, interfaces: usize| {
        NodeState::of(&sent(interfaces), Some(&read(&recorded(name))))
    };
    let missing = NodeState::of(&sent(1), None);
    let reports = [
        report("a", of("configured", 1), None),
        report("b", of("in-progress-after-change", 2), None),
        report("c", missing, Some(10)),
        report("d", of("failed", 2), None),
    ];
    let reason = |count: usize, trouble| configured(count, &reports[..count], trouble, wall());
    let all = reason(4, Some("refused"));
    assert_eq!(all.reason, Reason::AgentFailed);
    assert_eq!((all.nodes, all.configured, all.failed, all.overdue), (4, 1, 1, 1));
    assert_eq!(
        all.message,
        "the agent failed on 1 node: d multinic2 (fa:16:3e:2b:44:c1) JobFailed: interface with MAC \
         not found; the cluster can't be read: refused; no word of the agent for ten minutes about \
         1 node as sent: c (does it run there, and is the VM's id the node's systemUUID?); 1 of 4 \
         nodes configured"
    );
    assert_eq!(reason(3, Some("refused")).reason, Reason::Unreachable);
    assert_eq!(reason(3, None).reason, Reason::NotReported);
    assert_eq!(reason(2, None).reason, Reason::InProgress);
    assert_eq!(reason(1, None).reason, Reason::AllConfigured);
    assert_eq!(reason(1, None).message, "1 node configured");
    // A node that wasn't accepted yet isn't configured.
    assert_eq!(configured(2, &reports[..1], None, wall()).reason, Reason::InProgress);
    assert_eq!(configured(0, &[], None, wall()).message, "no node was accepted yet");
}

#[test]
fn the_status_has_condition_and_column_and_its_time_moves_with_the_status_only() {
    let node = || NodeState::of(&sent(1), Some(&read(&recorded("configured"))));
    let now = Now { uptime: MINUTE, wall: wall() };
    let known =
        |nodes| Known::This(configured(nodes, &[report("a", node(), None)], None, now.wall));
    let synced = Status { observed_generation: Some(4), ..Status::default() };
    let first = put(synced.clone(), &Status::default(), &known(2), now);
    let condition = first.condition("Configured").unwrap();
    assert_eq!((&*condition.status, condition.observed_generation), ("Unknown", 4));
    assert_eq!(first.configured.as_deref(), Some("1/2"));
    assert_eq!((first.configured_nodes, first.failed_nodes), (Some(1), Some(0)));
    let all = put(first.clone(), &first, &known(1), now.after(MINUTE));
    let condition = all.condition("Configured").unwrap();
    assert_eq!((&*condition.status, &*condition.reason), ("True", "AllConfigured"));
    assert_eq!(condition.last_transition_time, "2026-11-30T16:01:00Z");
    let later = put(synced.clone(), &all, &known(1), now.after(2 * MINUTE));
    assert_eq!(later, all, "a pass in between takes nothing away");
    assert_eq!(put(synced.clone(), &all, &Known::NotYet, now), all);
    assert_eq!(put(all.clone(), &all, &Known::Nothing, now), synced);
}

struct Heal {
    drift: Drift,
    accepted_at: Timestamp,
    now: Now,
    difference: Difference,
    heals_edits: bool,
    is_held: bool,
}

impl Heal {
    /// A node that has been right for a day.
    fn of(difference: Difference) -> Heal {
        let now = Now { uptime: 1440 * MINUTE, wall: wall() };
        let mut drift = Drift::default();
        drift.see(None, "hash", Duration::ZERO);
        let accepted_at = wall() - jiff::SignedDuration::from_hours(24);
        Heal { drift, accepted_at, now, difference, heals_edits: true, is_held: false }
    }

    fn after(&mut self, wait: Duration) -> Decision {
        self.now = self.now.after(wait);
        self.drift.see(Some(&self.difference), "hash", self.now.uptime);
        let Heal { difference, accepted_at, heals_edits, is_held, .. } = &*self;
        let facts = Facts {
            difference,
            accepted_at: *accepted_at,
            heals_edits: *heals_edits,
            is_held: *is_held,
        };
        self.drift.decide(&facts, self.now)
    }

    fn sent(&mut self) {
        self.drift.sent(self.now.uptime);
        self.accepted_at = self.now.wall;
    }
}

fn edited() -> Difference {
    Difference::Edited { what: vec!["multinic0: mtu 1450 -> 9000".to_owned()], writer: None }
}

#[test]
fn a_missing_node_is_sent_again_a_minute_after_it_vanished() {
    let mut heal = Heal::of(Difference::Missing);
    let vanished = heal.now.uptime;
    assert_eq!(heal.after(Duration::ZERO), Decision::Wait(vanished + MINUTE));
    assert_eq!(heal.after(MINUTE - Duration::from_secs(1)), Decision::Wait(vanished + MINUTE));
    assert_eq!(heal.after(Duration::from_secs(1)), Decision::Send);
}

#[test]
fn an_edited_node_is_sent_again_at_once_but_not_right_after_a_delivery() {
    let mut heal = Heal::of(edited());
    assert_eq!(heal.after(Duration::ZERO), Decision::Send);
    heal.accepted_at = heal.now.wall;
    assert_eq!(heal.after(Duration::ZERO), Decision::Wait(heal.now.uptime + MINUTE));
    assert_eq!(heal.after(MINUTE), Decision::Send);
    heal.heals_edits = false;
    assert_eq!(heal.after(Duration::ZERO), Decision::Say);
    heal.is_held = true;
    assert_eq!(heal.after(Duration::ZERO), Decision::Held);
    // The clock was set back.
    let mut heal = Heal::of(edited());
    heal.accepted_at = heal.now.after(60 * MINUTE).wall;
    assert_eq!(heal.after(Duration::ZERO), Decision::Send);
}

#[test]
fn after_three_rounds_it_is_left_alone_until_the_record_changes_or_it_is_forced() {
    let mut heal = Heal::of(edited());
    for _ in 0..3 {
        assert_eq!(heal.after(MINUTE), Decision::Send);
        heal.sent();
        // It shows, and is undone again.
        heal.drift.see(None, "hash", heal.now.uptime);
    }
    assert_eq!(heal.after(MINUTE), Decision::GiveUp);
    assert_eq!(heal.after(60 * MINUTE), Decision::GiveUp);
    let mut forced = heal.drift.clone();
    forced.forget_rounds();
    let facts = Facts {
        difference: &heal.difference,
        accepted_at: heal.accepted_at,
        heals_edits: true,
        is_held: false,
    };
    assert_eq!(forced.decide(&facts, heal.now), Decision::Send);
    let mut changed = heal.drift.clone();
    changed.see(Some(&heal.difference), "another", heal.now.uptime);
    assert_eq!(changed.decide(&facts, heal.now), Decision::Send);
    // Right for ten minutes: the next one is another story.
    heal.drift.see(None, "hash", heal.now.uptime);
    heal.now = heal.now.after(10 * MINUTE);
    heal.drift.see(None, "hash", heal.now.uptime);
    assert_eq!(heal.after(MINUTE), Decision::Send);
}

#[test]
fn rounds_are_a_minute_apart_even_if_the_delivery_is_not_recorded() {
    let mut heal = Heal::of(edited());
    assert_eq!(heal.after(Duration::ZERO), Decision::Send);
    heal.drift.sent(heal.now.uptime);
    assert_eq!(heal.after(Duration::ZERO), Decision::Wait(heal.now.uptime + MINUTE));
}

#[test]
fn what_is_said_of_a_drift_names_it_and_who_wrote() {
    let what = vec!["multinic0: mtu 1450 -> 9000".to_owned()];
    let edited = Difference::Edited { what, writer: Some("kubectl-edit".to_owned()) };
    assert_eq!(
        Decision::GiveUp.text(&edited),
        "is not as sent (multinic0: mtu 1450 -> 9000, last written by kubectl-edit); it was sent \
         again three times and is left alone now"
    );
    assert_eq!(
        Decision::Send.text(&Difference::Missing),
        "is missing in the cluster; it is sent again"
    );
    assert_eq!(Decision::Wait(MINUTE).text(&edited), "");
}
