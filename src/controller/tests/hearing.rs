//! What clusters say of nodes: statuses, Events, and nodes that are sent again.

use std::sync::Arc;

use serde_json::json;

use super::{World, forced, generation, object, seconds, unchanged, world, younger};
use crate::agent::object::NodeObject;
use crate::clock::Clock;
use crate::controller::Event;
use crate::controller::feedback::Heard;
use crate::inventory::contents::Inventory;
use crate::inventory::record::{Change, Owner, Record};
use crate::inventory::store::Store;
use crate::kube::objects::RawObject;
use crate::metrics::Metrics;
use crate::node_config::{Interface, NodeConfig};
use crate::reconcile::report::Reason;
use crate::reconcile::{Lane, Outcome, Work};
use crate::resources::{ClusterRef, OpenstackConfig, Status};

/// A world in which the nodes of object `a` go to a cluster that can be read, and what was accepted.
struct Hearing {
    world: World,
    store: Arc<Store>,
    clock: Clock,
}

fn cluster() -> Arc<ClusterRef> {
    let spec = to_cluster(object("a")).spec.unwrap();
    Arc::new(spec.read_cluster("default").unwrap())
}

fn to_cluster(mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.k8s_provider_id = Some("biz".to_owned());
    }
    object
}

fn paused(mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.paused = true;
    }
    generation(2, object)
}

fn config(mtu: u32) -> NodeConfig {
    let interface = Interface {
        id: 0,
        name: Interface::name_of(0),
        port_id: "p".to_owned(),
        mac_address: "fa:16:3e:00:00:01".to_owned(),
        address: [10, 0, 0, 7].into(),
        cidr: "10.0.0.0/24".into(),
        mtu,
        network_id: "n".into(),
        subnet_id: "s".into(),
    };
    let (node_name, instance_id) = ("worker-1".to_owned(), "vm of a".to_owned());
    NodeConfig { node_name, instance_id, interfaces: vec![interface] }
}

/// The node in its cluster, with this MTU and this state of its generation 1.
fn in_cluster(mtu: u32, state: &str) -> NodeObject {
    let object = json!({
        "metadata": {"name": "worker-1", "uid": "u", "generation": 1, "managedFields": [
            {"manager": "somebody", "fieldsV1": {"f:spec": {}}},
        ]},
        "spec": {"interfaces": [{"macAddress": "fa:16:3e:00:00:01", "mtu": mtu}]},
        "status": {"state": state, "observedGeneration": 1, "interfaceStatuses": [
            {"macAddress": "fa:16:3e:00:00:01", "status": state, "message": "no such card"},
        ]},
    });
    let raw = serde_json::value::to_raw_value(&object).unwrap();
    NodeObject::from_raw(&RawObject::read(&raw).unwrap())
}

impl Hearing {
    /// The object was synced, its one node was accepted, and is in its cluster.
    fn new() -> Hearing {
        let mut hearing = Hearing::start(Status::default());
        hearing.hear(Heard::Listed(vec![in_cluster(1450, "Configured")]));
        hearing
    }

    /// The object was found with this status and synced; its one node was accepted.
    fn start(status: Status) -> Hearing {
        let base = world();
        let clock = Clock::invented(base.now);
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(Store::in_memory(Inventory::default(), clock.clone(), metrics));
        let records = Arc::clone(&store);
        let controller = base.controller.with_records(Box::new(move || Some(records.snapshot())));
        let mut hearing = Hearing { world: World { controller, ..base }, store, clock };
        hearing.world.apply(OpenstackConfig { status, ..to_cluster(object("a")) });
        hearing.finish(true);
        hearing
    }

    /// The object's pass ends; its node was accepted or is unchanged.
    fn finish(&mut self, is_sent: bool) -> Work {
        if is_sent {
            self.accept(1450);
        }
        let sent: Vec<String> = is_sent.then(|| "worker-1".to_owned()).into_iter().collect();
        self.world.finish("a", |work| Outcome { sent, ..unchanged(work) })
    }

    fn accept(&mut self, mtu: u32) {
        let owner =
            Owner { namespace: "default".to_owned(), name: "a".to_owned(), uid: "a-1".to_owned() };
        let record = Record {
            updated_at: self.world.now.wall,
            accepted_by: Some("biz".to_owned()),
            owner: Some(owner),
            ..Record::of("provider-1", config(mtu))
        };
        self.store.commit(vec![Change::Upsert(record)]);
    }

    fn hear(&mut self, heard: Heard) {
        self.world.event(Event::Heard { cluster: cluster(), heard });
        self.wait(1);
    }

    fn changed(&mut self, node: NodeObject) {
        self.hear(Heard::Changed(Box::new(node)));
    }

    fn gone(&mut self) {
        self.hear(Heard::Gone { name: "worker-1".to_owned(), uid: "u".to_owned() });
    }

    /// Polls end without a change meanwhile.
    fn wait(&mut self, wait: u64) {
        self.clock.advance(seconds(wait));
        self.world.wait(wait);
        while !self.world.running.is_empty() && self.drifted().is_empty() {
            self.finish(false);
        }
    }

    /// What the pass that runs is to send again.
    fn drifted(&self) -> Vec<String> {
        let [work] = self.world.running.as_slice() else { return Vec::new() };
        work.drifted.iter().cloned().collect()
    }

    fn status(&self) -> &Status {
        self.world.last_status()
    }

    /// Status, reason and count of the last status.
    fn configured(&self) -> (&str, &str, &str) {
        let condition = self.status().condition("Configured").unwrap();
        (&condition.status, &condition.reason, self.status().configured.as_deref().unwrap())
    }

    fn message(&self) -> &str {
        &self.status().condition("Configured").unwrap().message
    }

    fn told(&self, reason: &str) -> usize {
        self.world.told.iter().filter(|notice| notice.reason == reason).count()
    }
}

#[test]
fn the_condition_follows_the_cluster_and_ready_does_not() {
    let mut hearing = Hearing::new();
    assert_eq!(hearing.world.clusters, ["default/biz-kubeconfig"]);
    assert_eq!(hearing.configured(), ("True", "AllConfigured", "1/1"));
    assert_eq!(hearing.told("AllConfigured"), 1);
    hearing.changed(in_cluster(1450, "InProgress"));
    assert_eq!(hearing.configured(), ("Unknown", "InProgress", "0/1"));
    hearing.changed(in_cluster(1450, "Failed"));
    assert_eq!(hearing.configured(), ("False", "AgentFailed", "0/1"));
    assert!(hearing.message().contains("worker-1 multinic0 (fa:16:3e:00:00:01) no such card"));
    assert_eq!((hearing.told("AgentFailed"), hearing.told("InProgress")), (1, 0));
    let ready = hearing.status().condition("Ready").unwrap();
    assert_eq!((&*ready.status, &*ready.reason), ("True", "NoChange"));
    assert_eq!(hearing.status().condition("Degraded").unwrap().status, "False");
    // A poll in between leaves it as it is, and what is said once isn't said again.
    let written = hearing.world.written.len();
    hearing.wait(7200);
    assert_eq!(hearing.configured(), ("False", "AgentFailed", "0/1"));
    assert!(hearing.world.written.len() > written);
    assert_eq!(hearing.told("AgentFailed"), 1);
    let shown = hearing.world.overview.nodes();
    assert_eq!(shown[0].interfaces[0].message, "no such card");
}

#[test]
fn agents_of_many_nodes_cost_a_look_each_half_second() {
    let mut hearing = Hearing::new();
    let written = hearing.world.written.len();
    for state in ["InProgress", "Failed", "InProgress", "Failed"] {
        let heard = Heard::Changed(Box::new(in_cluster(1450, state)));
        hearing.world.event(Event::Heard { cluster: cluster(), heard });
    }
    assert_eq!(hearing.world.written.len(), written);
    hearing.wait(1);
    assert_eq!(hearing.world.written.len(), written + 1);
    assert_eq!(hearing.configured().1, "AgentFailed");
}

#[test]
fn an_agent_that_says_nothing_is_overdue_after_ten_minutes() {
    let mut hearing = Hearing::new();
    let mut silent = in_cluster(1450, "Configured");
    silent.generation = 2;
    hearing.changed(silent);
    assert_eq!(hearing.configured().1, "InProgress");
    hearing.wait(540);
    assert_eq!(hearing.configured().1, "InProgress");
    hearing.wait(61);
    assert_eq!(hearing.configured(), ("Unknown", "NotReported", "0/1"));
    assert_eq!(hearing.told("NotReported"), 1);
}

#[test]
fn a_cluster_that_was_read_is_unreachable_after_a_minute_and_nothing_is_healed_meanwhile() {
    let mut hearing = Hearing::new();
    hearing.wait(120);
    hearing.changed(in_cluster(9000, "Configured"));
    hearing.hear(Heard::Trouble("connection refused".to_owned()));
    assert_eq!(hearing.configured().1, "InProgress");
    hearing.wait(60);
    assert_eq!(hearing.configured(), ("Unknown", "Unreachable", "0/1"));
    assert!(hearing.message().starts_with("the cluster can't be read: connection refused"));
    hearing.hear(Heard::Recovered);
    hearing.changed(in_cluster(1450, "Configured"));
    assert_eq!(hearing.configured().1, "AllConfigured");
    assert_eq!(hearing.told("Unreachable"), 1);
}

#[test]
fn after_a_restart_the_status_stays_until_the_cluster_was_read() {
    let before = Hearing::new();
    let mut hearing = Hearing::start(before.status().clone());
    assert!(hearing.world.written.is_empty(), "nothing has changed");
    hearing.hear(Heard::Trouble("connection refused".to_owned()));
    assert_eq!(hearing.configured(), ("Unknown", "Unreachable", "1/1"));
    hearing.hear(Heard::Unreadable);
    let status = hearing.status();
    assert_eq!((status.condition("Configured"), &status.configured), (None, &None));
}

#[test]
fn a_missing_node_is_sent_again_after_a_minute_and_three_times_at_most() {
    let mut hearing = Hearing::new();
    hearing.wait(120);
    hearing.gone();
    assert!(hearing.drifted().is_empty(), "the agent still takes the cards down");
    hearing.wait(58);
    assert!(hearing.drifted().is_empty());
    for round in 1..=3 {
        hearing.wait(2);
        assert_eq!(hearing.drifted(), ["worker-1"], "round {round}");
        assert_eq!(hearing.world.lanes.get("a"), Some(&Lane::Poll));
        hearing.finish(true);
        hearing.wait(59);
        assert!(hearing.drifted().is_empty(), "round {round}");
    }
    hearing.wait(2);
    assert!(hearing.drifted().is_empty());
    assert!(hearing.message().contains("worker-1 is missing in the cluster; it was sent again"));
    assert_eq!(hearing.told("Drifted"), 2, "that it is sent again, and that it no longer is");
    hearing.world.apply(forced("now", to_cluster(object("a"))));
    hearing.finish(true);
    hearing.wait(61);
    assert_eq!(hearing.drifted(), ["worker-1"]);
}

#[test]
fn a_node_that_viola_delivers_is_not_sent_again_for_an_edit_but_it_is_said() {
    let mut hearing = Hearing::new();
    hearing.changed(in_cluster(9000, "Configured"));
    assert_eq!(hearing.configured().1, "InProgress");
    assert_eq!(hearing.told("Drifted"), 0, "what was just sent may still be on its way");
    hearing.wait(61);
    assert!(hearing.drifted().is_empty());
    assert_eq!(
        hearing.message(),
        "0 of 1 node configured; worker-1 is not as sent (multinic0: mtu 1450 -> 9000, last written \
         by somebody); Viola delivers it, so it is not sent again"
    );
    hearing.changed(in_cluster(9000, "InProgress"));
    assert_eq!(hearing.told("Drifted"), 1);
    hearing.changed(in_cluster(1450, "Configured"));
    assert_eq!(hearing.message(), "1 node configured");
}

#[test]
fn nothing_is_sent_again_for_a_paused_or_held_object_and_the_condition_goes_on() {
    let mut hearing = Hearing::new();
    hearing.wait(120);
    hearing.world.apply(paused(to_cluster(object("a"))));
    hearing.gone();
    hearing.wait(61);
    assert!(hearing.drifted().is_empty());
    assert_eq!(hearing.configured().1, "InProgress");
    assert!(hearing.message().ends_with("while the object is paused or held"));
    let condition = hearing.status().condition("Paused").unwrap();
    assert_eq!(condition.status, "True");
    hearing.world.apply(generation(3, to_cluster(object("a"))));
    let held = |work: &Work| {
        let hold = crate::reconcile::removals::Hold {
            hash: "a1".to_owned(),
            removals: Vec::new(),
            losing: 2,
            known: 2,
            is_approved: false,
        };
        let outcome = Outcome::failed(work, Reason::ChangeHeld, "held");
        Outcome { nodes: Some(1), hold: Some(hold), ..outcome }
    };
    hearing.world.finish("a", held);
    hearing.wait(61);
    assert!(hearing.drifted().is_empty());
    hearing.changed(in_cluster(1450, "Configured"));
    assert_eq!(hearing.configured().1, "AllConfigured");
}

#[test]
fn records_of_other_objects_vms_and_targets_are_not_the_objects() {
    let mut hearing = Hearing::new();
    hearing.world.apply(younger(to_cluster(object("b"))));
    hearing.world.finish("b", |work| Outcome { nodes: Some(0), ..unchanged(work) });
    let shown = hearing.world.overview.nodes();
    assert_eq!(shown.len(), 1);
    let mut elsewhere = to_cluster(object("a"));
    if let Ok(spec) = &mut elsewhere.spec {
        spec.vm_ids = vec!["another".to_owned()];
    }
    hearing.world.apply(generation(2, elsewhere));
    hearing.world.finish("a", unchanged);
    assert_eq!(hearing.configured(), ("Unknown", "InProgress", "0/1"));
    assert!(hearing.world.overview.nodes().is_empty());
}

#[test]
fn clusters_are_read_while_an_object_names_them() {
    let mut hearing = Hearing::new();
    hearing.world.apply(generation(2, object("a")));
    assert!(hearing.world.clusters.is_empty());
    hearing.world.finish("a", unchanged);
    assert_eq!(hearing.status().condition("Configured"), None);
    // Late words of a cluster that nobody names any more.
    hearing.changed(in_cluster(1450, "Failed"));
    assert_eq!(hearing.status().condition("Configured"), None);
    assert_eq!(hearing.world.written.last().unwrap().0, "a-1");
}
