//! Which removals are held: the arithmetic row by row, the hash, and approvals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{inventory, legacy_record, object, planned, record, seconds};
use crate::inventory::record::Record;
use crate::reconcile::plan::{Plan, PlannedNode};
use crate::reconcile::removals::{Hold, Question, Removals, approvals, removed_at};
use crate::resources::{self, OpenstackConfig};

const NOW: Duration = Duration::from_secs(100_000);

/// Nodes `w<n>` of VMs `vm-<n>`, each of which was sent ports `a<n>` and `b<n>`.
struct Scene {
    records: Vec<Record>,
    plan: Plan,
    removed_at: BTreeMap<String, Duration>,
    approvals: Vec<String>,
    limit: Option<u8>,
}

fn whole(number: usize) -> PlannedNode {
    let ports = [(&*format!("a{number}"), 0), (&*format!("b{number}"), 1)];
    planned(&format!("w{number}"), &format!("vm-{number}"), &ports, &[])
}

/// The node without its second port.
fn cut(number: usize) -> PlannedNode {
    planned(&format!("w{number}"), &format!("vm-{number}"), &[(&format!("a{number}"), 0)], &[])
}

fn of(known: usize) -> Scene {
    let sent = |number: usize| {
        let PlannedNode { config, .. } = whole(number);
        Record { config, ..record(&format!("w{number}"), &format!("vm-{number}"), &[]) }
    };
    Scene {
        records: (0..known).map(sent).collect(),
        plan: Plan { nodes: (0..known).map(whole).collect(), ..Plan::default() },
        removed_at: BTreeMap::new(),
        approvals: Vec::new(),
        limit: Some(50),
    }
}

impl Scene {
    fn cut(mut self, numbers: impl IntoIterator<Item = usize>) -> Scene {
        numbers.into_iter().for_each(|number| self.plan.nodes[number] = cut(number));
        self
    }

    fn decide(&self) -> Removals {
        let vm_ids: Vec<String> = (0..self.records.len()).map(|it| format!("vm-{it}")).collect();
        let vm_ids: Vec<&str> = vm_ids.iter().map(String::as_str).collect();
        let own = self.plan.nodes.iter().map(|node| node.config.node_name.clone()).collect();
        Question {
            spec: &object("edge", 0, &vm_ids).spec.unwrap(),
            plan: &self.plan,
            own: &own,
            inventory: &inventory(&self.records),
            removed_at: &self.removed_at,
            approvals: &self.approvals,
            limit: self.limit,
            uptime: NOW,
        }
        .decide()
    }

    fn hold(&self) -> Option<Hold> {
        self.decide().hold
    }

    fn hash(&self) -> String {
        self.hold().unwrap().hash
    }
}

#[test]
fn each_row_of_the_arithmetic() {
    for (known, losing, is_held) in
        [(4, 2, false), (4, 3, true), (2, 2, true), (3, 2, true), (1, 1, false), (200, 2, false)]
    {
        let decided = of(known).cut(0..losing).decide();
        assert_eq!(decided.hold.is_some(), is_held, "{losing} of {known}");
        assert_eq!(decided.nodes.len(), losing);
    }
    let with_limit = |limit, losing| Scene { limit, ..of(4) }.cut(0..losing).hold().is_some();
    assert!(with_limit(Some(0), 1), "0 %: any removal");
    assert!(!with_limit(None, 4), "off");
    assert!(!with_limit(Some(100), 4) && with_limit(Some(99), 4));
    assert!(!with_limit(Some(0), 0), "nothing is removed");
}

#[test]
fn one_node_a_minute_is_held_once_half_of_them_have_lost_something() {
    let minute = |ago: u64| NOW - seconds(60 * ago);
    let removed = |nodes: u64| (1..=nodes).map(|it| (format!("w{it}"), minute(it))).collect();
    let scene = |nodes| Scene { removed_at: removed(nodes), ..of(10) }.cut([0]);
    assert!(scene(4).hold().is_none());
    assert_eq!(scene(5).hold().unwrap().losing, 6);
    // What was removed ten minutes ago or earlier no longer counts, and neither do other nodes.
    let mut old = scene(5);
    old.removed_at.insert("w5".to_owned(), minute(10));
    old.removed_at.insert("elsewhere".to_owned(), minute(1));
    assert!(old.hold().is_none());
    let kept = removed_at(&old.removed_at, ["w7".to_owned()].into_iter(), NOW);
    let names: Vec<&str> = kept.keys().map(String::as_str).collect();
    assert_eq!(names, ["elsewhere", "w1", "w2", "w3", "w4", "w7"]);
}

#[test]
fn what_is_no_removal_is_not_held() {
    // A renamed node, a new port, and another address or MTU.
    let mut scene = of(2);
    for node in &mut scene.plan.nodes {
        node.config.node_name += "-renamed";
        node.config.interfaces[0].mtu = 9000;
        node.config
            .interfaces
            .push(planned("w", "vm", &[("new", 2)], &[]).config.interfaces.remove(0));
    }
    assert_eq!(scene.decide(), Removals::default());
    // VMs that were taken out of vmNames.
    let mut scene = of(2);
    scene.records.push(record("w9", "vm-gone", &[("a9", 0)]));
    assert_eq!(scene.decide(), Removals::default());
    // What another target was sent, and what was never accepted.
    for accepted_by in ["elsewhere", ""] {
        let mut scene = of(2).cut([0, 1]);
        scene.records.iter_mut().for_each(|it| it.accepted_by = Some(accepted_by.to_owned()));
        assert_eq!(scene.decide(), Removals::default());
    }
    // Ids that a file of the replaced program counts from 1.
    let mut scene = of(2);
    let legacy = |it: usize| {
        let (a, b) = (format!("a{it}"), format!("b{it}"));
        legacy_record(&format!("w{it}"), &format!("vm-{it}"), &[(&a, 1), (&b, 2)])
    };
    scene.records = vec![legacy(0), legacy(1)];
    assert_eq!(scene.decide(), Removals::default());
    scene.plan.nodes = vec![cut(0), cut(1)];
    assert!(scene.hold().is_some(), "its ports count");
}

#[test]
fn other_ids_and_another_subnet_are_removals() {
    let mut renumbered = of(2);
    for node in &mut renumbered.plan.nodes {
        node.config.interfaces[1].id = 3;
    }
    let hold = renumbered.hold().unwrap();
    assert_eq!(hold.removals[1].renumbered, [("b1".to_owned(), 1, 3)]);
    let mut elsewhere = of(2);
    for node in &mut elsewhere.plan.nodes {
        node.config.interfaces.iter_mut().for_each(|it| it.port_id += "-other");
    }
    assert_eq!(elsewhere.hold().unwrap().removals[0].ports, ["a0", "b0"]);
}

#[test]
fn nodes_without_any_port_count_and_are_no_removals_by_themselves() {
    let empty = |numbers: &[usize], mut scene: Scene| {
        scene.plan.nodes.retain(|node| {
            !numbers.iter().any(|number| node.config.node_name == format!("w{number}"))
        });
        scene.plan.without_ports = numbers.iter().map(|it| format!("vm-{it}")).collect();
        scene.decide()
    };
    let decided = empty(&[1, 2], of(4).cut([0]));
    assert_eq!((decided.nodes.len(), decided.hold.unwrap().losing), (1, 3));
    assert_eq!(empty(&[1, 2], of(4)), Removals::default());
    let all = empty(&[0, 1], of(2));
    assert_eq!(all, Removals { all_emptied: 2, ..Removals::default() });
}

#[test]
fn the_hash_names_target_nodes_ports_and_ids_and_nothing_else() {
    let hash = of(4).cut(0..3).hash();
    assert_eq!(hash.len(), 12);
    let mut other_values = of(4).cut(0..3);
    other_values.plan.nodes.reverse();
    for node in &mut other_values.plan.nodes {
        node.config.interfaces[0].mtu = 9000;
        node.config.interfaces[0].address = "10.9.9.9".parse().unwrap();
    }
    assert_eq!(other_values.hash(), hash);
    assert_ne!(of(4).cut(1..4).hash(), hash);
    let mut another_id = of(4).cut(0..3);
    another_id.plan.nodes[0].config.interfaces[0].id = 5;
    assert_ne!(another_id.hash(), hash);
}

#[test]
fn an_approved_hold_is_sent_and_what_was_refused_of_it_stays_approved() {
    let mut scene = of(4).cut(0..3);
    assert!(scene.hold().unwrap().keeps("w1"));
    scene.approvals = vec!["another".to_owned(), scene.hash()];
    let hold = scene.hold().unwrap();
    assert!(hold.is_approved && !hold.keeps("w1"));
    let accepted = BTreeSet::from(["w0".to_owned(), "w1".to_owned()]);
    let left = hold.clone().without(&accepted, "provider-1").unwrap();
    assert!(left.is_approved && left.removals.len() == 1);
    let rest = Scene { approvals: vec![left.hash.clone()], ..of(4).cut([2]) };
    assert_eq!(rest.hold().unwrap().hash, left.hash);
    assert_eq!(hold.without(&["w0", "w1", "w2"].map(str::to_owned).into(), "provider-1"), None);
}

#[test]
fn ports_older_than_the_object_hold_their_node_alone_until_they_are_approved() {
    let mut scene = of(4).cut([0]);
    scene.limit = None;
    scene.plan.nodes[2].older_ports = vec!["a2".to_owned()];
    let decided = scene.decide();
    let hold = decided.hold.unwrap();
    assert!(hold.keeps("w2") && !hold.keeps("w0"));
    assert_eq!(decided.nodes, BTreeSet::from(["w0".to_owned()]), "w0 alone loses something");
    let message = hold.message(&object("edge", 0, &["vm-1"]));
    let said = "held: 1 node of the Go operator would get ports older than the object, which it left \
                out (spec.ports and PORTS_CREATED_AFTER=ObjectCreation leave them out). If that is";
    assert!(message.starts_with(said), "{message}");
    assert!(message.ends_with("not sent: w2 (with port a2)"), "{message}");
    scene.approvals = vec![hold.hash];
    assert!(scene.hold().unwrap().is_approved);
    // Beside removals of many nodes all are approved together.
    let mut many = of(4).cut(0..3);
    let removals_alone = many.hash();
    many.plan.nodes[3].older_ports = vec!["a3".to_owned()];
    let hold = many.hold().unwrap();
    assert!(hold.keeps("w0") && hold.keeps("w3") && hold.hash != removals_alone);
}

#[test]
fn an_approval_counts_until_it_is_used_and_also_once_its_annotation_is_gone() {
    let annotated = |value: Option<&str>| OpenstackConfig {
        approve: value.map(str::to_owned),
        ..object("edge", 0, &["vm-1"])
    };
    let hold = |approved| resources::Hold {
        hash: "seen".to_owned(),
        since: super::wall(0),
        nodes: 3,
        approved,
    };
    let used = "new".to_owned();
    assert_eq!(approvals(&annotated(Some("new")), None, None), ["new"]);
    assert!(approvals(&annotated(Some("new")), Some(&used), Some(&hold(false))).is_empty());
    assert_eq!(approvals(&annotated(None), Some(&used), Some(&hold(true))), ["seen"]);
}
