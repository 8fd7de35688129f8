//! Which object manages which node: the rules of the contract one by one, and random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::{PROVIDER, inventory, key, object, owner, record};
use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::reconcile::ownership::{Decision, InFlight, Ownership, Planned, Whose};
use crate::resources::{NodeOwner, ObjectKey, OpenstackConfig};

/// Objects, and an inventory beside them.
struct Fixture {
    ownership: Arc<Ownership>,
    objects: BTreeMap<String, OpenstackConfig>,
    inventory: Arc<Inventory>,
}

fn known(objects: &[OpenstackConfig]) -> Fixture {
    let ownership = Arc::<Ownership>::default();
    let mut fixture = Fixture { ownership, objects: BTreeMap::new(), inventory: inventory(&[]) };
    objects.iter().for_each(|object| fixture.know(object.clone()));
    fixture
}

impl Fixture {
    fn know(&mut self, object: OpenstackConfig) {
        self.ownership.know(&object);
        self.objects.insert(object.uid.clone(), object);
    }

    fn forget(&mut self, uid: &str) {
        self.ownership.forget(uid);
    }

    fn remembering(mut self, records: &[Record]) -> Fixture {
        self.inventory = inventory(records);
        self
    }

    /// One slice: each object by uid with the VM of each node. Plans are made for the objects as the
    /// fixture knows them.
    fn slice(&self, plans: &[(&str, &[(&str, &str)])], began: u64) -> (Vec<Decision>, InFlight) {
        let plans: Vec<Planned<'_>> = plans
            .iter()
            .map(|(uid, nodes)| {
                let object = &self.objects[*uid];
                let spec = object.spec.as_ref().unwrap();
                let nodes = nodes.iter().copied().collect();
                let (provider_id, target) = (spec.provider_id.as_str(), spec.target());
                Planned { uid, generation: object.generation, provider_id, target, nodes }
            })
            .collect();
        self.ownership.decide(&plans, || Arc::clone(&self.inventory), began)
    }

    /// A pass of one object that is over at once, and whose it says the nodes are.
    fn pass(&self, uid: &str, nodes: &[(&str, &str)]) -> BTreeMap<Arc<str>, Whose> {
        let (mut decisions, _) = self.slice(&[(uid, nodes)], u64::MAX);
        self.ownership.ended(uid, self.objects[uid].generation);
        match decisions.pop() {
            Some(Decision::Nodes(nodes)) => nodes,
            other => panic!("{other:?}"),
        }
    }

    /// The nodes of a pass that are the object's own; each node's VM has the node's name.
    fn own(&self, uid: &str, nodes: &[&str]) -> Vec<String> {
        let nodes: Vec<(&str, &str)> = nodes.iter().map(|node| (*node, *node)).collect();
        let whose = self.pass(uid, &nodes).into_iter();
        whose.filter(|(_, whose)| *whose == Whose::Mine).map(|(node, _)| node.to_string()).collect()
    }

    /// Whose the node of a VM is by a pass of one object.
    fn whose(&self, uid: &str, node: &str, vm_id: &str) -> Whose {
        self.pass(uid, &[(node, vm_id)]).remove(node).unwrap()
    }
}

fn nodes(decision: &Decision) -> Vec<(&str, Whose)> {
    match decision {
        Decision::Nodes(nodes) => nodes.iter().map(|(node, w)| (&**node, w.clone())).collect(),
        Decision::Gone => panic!("gone"),
    }
}

fn older(name: &str) -> Whose {
    Whose::Older(key(name))
}

/// What Viola accepted of a node from this object.
fn told(node: &str, vm_id: &str, owned_by: &str) -> Record {
    Record { owner: Some(owner(owned_by)), ..record(node, vm_id, &[("p", 0)]) }
}

/// The same object in another cloud, as its next generation.
fn in_cloud(provider_id: &str, mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.provider_id = provider_id.to_owned();
    }
    OpenstackConfig { generation: object.generation + 1, ..object }
}

/// The same object, for a cluster that isn't named like its cloud.
fn for_cluster(target: &str, mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.k8s_provider_id = Some(target.to_owned());
    }
    object
}

/// The object as it is after a mistake in its spec.
fn unreadable(object: OpenstackConfig) -> OpenstackConfig {
    OpenstackConfig { spec: Err("spec.credentials is missing".to_owned()), ..object }
}

fn old_and_young() -> Fixture {
    known(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])])
}

// Rule 2: age.

#[test]
fn of_two_objects_the_older_keeps_the_node_and_the_younger_learns_whose_it_is() {
    let fixture = old_and_young();
    assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"]);
    let whose = fixture.pass("young", &[("worker-1", "vm-2"), ("worker-2", "vm-3")]);
    assert_eq!(whose["worker-1"], older("old"));
    assert_eq!(whose["worker-2"], Whose::Mine);
    assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"], "it keeps it");
}

#[test]
fn a_conflict_has_the_vms_of_both_objects() {
    let plan = |uid, vm_id| {
        let nodes = BTreeMap::from([("worker-1", vm_id)]);
        Planned { uid, generation: 1, provider_id: PROVIDER, target: PROVIDER, nodes }
    };
    let (old, young) = (plan("old", "vm-1"), plan("young", "vm-2"));
    let vm_ids = |plans: &[Planned<'_>], records: &[Record]| {
        let decision = Decision::Nodes([("worker-1".into(), older("old"))].into());
        let (_, conflicts, _) = decision.split(&young, plans, &inventory(records)).unwrap();
        conflicts[0].vm_ids.clone()
    };
    let both = BTreeSet::from(["vm-1".to_owned(), "vm-2".to_owned()]);
    assert_eq!(vm_ids(&[old, young.clone()], &[]), both);
    let plans = [young.clone()];
    assert_eq!(vm_ids(&plans, &[record("worker-1", "VM-1", &[("p", 0)])]), both);
    assert_eq!(vm_ids(&plans, &[]).len(), 1);
}

#[test]
fn an_older_object_takes_over_what_a_younger_one_managed() {
    let fixture = old_and_young();
    assert_eq!(fixture.own("young", &["worker-1"]), ["worker-1"]);
    assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"]);
    assert!(fixture.own("young", &["worker-1"]).is_empty());
}

#[test]
fn objects_of_one_second_go_by_namespace_then_name_then_uid() {
    let of = |namespace: &str, name: &str, uid: &str| OpenstackConfig {
        key: ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() },
        uid: uid.to_owned(),
        ..object(name, 5, &["vm"])
    };
    let oldest_first = [of("a", "y", "3"), of("b", "x", "1"), of("b", "x", "2"), of("b", "z", "0")];
    for pair in oldest_first.windows(2) {
        let [first, second] = pair else { panic!("two") };
        let fixture = known(&[second.clone(), first.clone()]);
        assert_eq!(fixture.own(&first.uid, &["worker-1"]), ["worker-1"]);
        assert_eq!(fixture.whose(&second.uid, "worker-1", "vm-9"), Whose::Older(first.key.clone()));
    }
}

// Rules 1 and 4: realms, and what is planned.

#[test]
fn a_younger_object_takes_over_when_the_older_one_goes() {
    let mut fixture = old_and_young();
    fixture.own("old", &["worker-1"]);
    fixture.forget("old");
    assert_eq!(fixture.own("young", &["worker-1"]), ["worker-1"]);
}

#[test]
fn a_younger_object_takes_over_when_the_older_one_loses_the_node() {
    let fixture = old_and_young();
    fixture.own("old", &["worker-1", "worker-3"]);
    fixture.own("old", &["worker-3"]);
    assert_eq!(fixture.own("young", &["worker-1", "worker-3"]), ["worker-1"]);
}

#[test]
fn a_name_stays_planned_while_its_object_is_not_due_and_when_its_fetch_fails() {
    let fixture = old_and_young();
    fixture.own("old", &["worker-1"]);
    // A pass that failed has no plan; it ends all the same.
    fixture.ownership.ended("old", 1);
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
}

#[test]
fn all_plans_of_a_slice_are_entered_before_any_is_decided_whatever_their_order() {
    let fixture = old_and_young();
    let plans: [(&str, &[(&str, &str)]); 2] =
        [("young", &[("worker-1", "vm-2")]), ("old", &[("worker-1", "vm-1")])];
    let (decisions, _in_flight) = fixture.slice(&plans, u64::MAX);
    assert_eq!(nodes(&decisions[0]), [("worker-1", older("old"))]);
    assert_eq!(nodes(&decisions[1]), [("worker-1", Whose::Mine)]);
}

#[test]
fn one_name_in_two_clouds_is_two_nodes() {
    let elsewhere = in_cloud("elsewhere", object("old", 0, &["vm-1"]));
    let fixture = known(&[elsewhere, object("young", 9, &["vm-2"])]);
    assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"]);
    assert_eq!(fixture.own("young", &["worker-1"]), ["worker-1"]);
}

#[test]
fn one_name_sent_to_one_cluster_from_two_clouds_is_one_node() {
    // The cluster's name may be given, or be the cloud's own; it counts in any spelling.
    for other in [
        for_cluster("BIZ", in_cloud("elsewhere", object("old", 0, &["vm-1"]))),
        in_cloud("Biz", object("old", 0, &["vm-1"])),
    ] {
        let mut fixture = known(&[other, for_cluster("biz", object("young", 9, &["vm-2"]))]);
        assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"]);
        assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
        fixture.forget("old");
        assert_eq!(fixture.whose("young", "worker-1", "vm-2"), Whose::Mine);
    }
}

#[test]
fn a_cloud_and_a_cluster_of_one_name_are_not_the_same() {
    // Its cloud is called as the other's cluster is, and its nodes are sent elsewhere.
    let other = for_cluster("other", in_cloud("biz", object("old", 0, &["vm-1"])));
    let fixture = known(&[other, for_cluster("biz", object("young", 9, &["vm-2"]))]);
    assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"]);
    assert_eq!(fixture.own("young", &["worker-1"]), ["worker-1"]);
}

#[test]
fn another_spelling_of_the_cloud_is_the_same_cloud() {
    let mut fixture = old_and_young();
    fixture.own("old", &["worker-1"]);
    let shouting = in_cloud(&PROVIDER.to_ascii_uppercase(), object("old", 0, &["vm-1"]));
    fixture.know(shouting);
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"), "still planned");
    assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"]);
}

#[test]
fn an_object_that_moved_to_another_cloud_leaves_its_nodes_here() {
    let mut fixture = old_and_young();
    fixture.own("old", &["worker-1"]);
    fixture.know(in_cloud("elsewhere", object("old", 0, &["vm-1"])));
    assert_eq!(fixture.own("young", &["worker-1"]), ["worker-1"]);
    // Nor does it take them along: nodes there are others'.
    fixture.know(in_cloud("elsewhere", object("third", 20, &["vm-3"])));
    assert_eq!(fixture.own("third", &["worker-1"]), ["worker-1"]);
}

#[test]
fn a_changed_spec_in_the_same_cloud_keeps_what_was_planned_also_for_another_cluster() {
    let mut fixture = known(&[
        object("old", 0, &["vm-1"]),
        object("young", 9, &["vm-2"]),
        in_cloud("biz", object("third", 20, &["vm-3"])),
    ]);
    fixture.own("old", &["worker-1"]);
    assert_eq!(fixture.own("third", &["worker-1"]), ["worker-1"]);
    fixture.know(for_cluster("biz", object("old", 0, &["vm-1", "vm-4"])));
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
    assert_eq!(fixture.whose("third", "worker-1", "vm-3"), older("old"));
}

// Rules 3 and 5: what an object means, and who holds a record.

#[test]
fn the_owner_of_the_record_keeps_the_node_over_a_restart_and_while_its_ports_are_away() {
    let fixture = old_and_young().remembering(&[told("worker-1", "vm-1", "old")]);
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
    assert!(fixture.own("old", &[]).is_empty());
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
    assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"]);
}

#[test]
fn over_a_restart_an_older_object_takes_a_node_from_the_owner_of_its_record() {
    let fixture = old_and_young().remembering(&[told("worker-1", "vm-2", "young")]);
    assert_eq!(fixture.own("old", &["worker-1"]), ["worker-1"]);
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
}

#[test]
fn an_owner_that_is_gone_or_names_the_vm_no_longer_holds_nothing() {
    let young = || object("young", 9, &["vm-2"]);
    let record = told("worker-1", "vm-1", "old");
    let gone = known(&[young()]).remembering(std::slice::from_ref(&record));
    assert_eq!(gone.own("young", &["worker-1"]), ["worker-1"]);
    for old in [object("old", 0, &["vm-7"]), in_cloud("other", object("old", 0, &["vm-1"]))] {
        let changed = known(&[old, young()]).remembering(std::slice::from_ref(&record));
        assert_eq!(changed.own("young", &["worker-1"]), ["worker-1"]);
    }
}

#[test]
fn a_successor_of_the_same_name_holds_nothing_that_the_deleted_object_owned() {
    let anew = OpenstackConfig { uid: "anew".to_owned(), ..object("old", 0, &["vm-1"]) };
    let fixture = known(&[anew, object("young", 9, &["vm-2"])]);
    let fixture = fixture.remembering(&[told("worker-1", "vm-1", "old")]);
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), Whose::Mine);
}

#[test]
fn a_record_without_owner_has_no_holder() {
    let records = [record("worker-1", "vm-1", &[("p", 0)])];
    let fixture = old_and_young().remembering(&records);
    assert_eq!(fixture.own("young", &["worker-1"]), ["worker-1"]);
}

#[test]
fn the_owner_keeps_a_vm_that_gets_another_name_for_as_long_as_it_names_the_vm() {
    let young = || object("young", 9, &["vm-1"]);
    let records = [told("worker-1", "vm-1", "old")];
    let fixture = known(&[object("old", 0, &["vm-1"]), young()]).remembering(&records);
    assert_eq!(fixture.whose("young", "renamed", "vm-1"), older("old"));
    assert_eq!(fixture.whose("old", "renamed", "vm-1"), Whose::Mine);
    let fixture = known(&[object("old", 0, &["vm-7"]), young()]).remembering(&records);
    assert_eq!(fixture.whose("young", "renamed", "vm-1"), Whose::Mine);
}

#[test]
fn an_object_that_can_no_longer_be_read_keeps_what_it_planned_and_named() {
    let mut fixture = known(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-1"])]);
    fixture.own("old", &["worker-1"]);
    fixture.know(unreadable(object("old", 0, &[])));
    assert_eq!(fixture.whose("young", "worker-1", "vm-1"), older("old"));
    let fixture = fixture.remembering(&[told("worker-9", "vm-1", "old")]);
    assert_eq!(fixture.whose("young", "worker-9", "vm-1"), older("old"), "it named the VM last");
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Mine);
    let mut fixture = fixture.remembering(&[]);
    fixture.know(object("old", 0, &["vm-7"]));
    fixture.own("old", &[]);
    assert_eq!(fixture.whose("young", "worker-1", "vm-1"), Whose::Mine, "it has moved on");
}

#[test]
fn an_object_that_could_never_be_read_keeps_what_is_recorded_as_its_own() {
    let objects = [unreadable(object("old", 0, &[])), object("young", 9, &["vm-1"])];
    let fixture = known(&objects).remembering(&[told("worker-1", "vm-1", "old")]);
    assert_eq!(fixture.whose("young", "worker-1", "vm-1"), older("old"));
    assert_eq!(fixture.whose("young", "renamed", "vm-1"), older("old"));
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Mine, "never its own");
    let young = [unreadable(object("young", 9, &[])), object("old", 0, &["vm-1"])];
    let fixture = known(&young).remembering(&[told("worker-1", "vm-1", "young")]);
    assert_eq!(fixture.whose("old", "worker-1", "vm-1"), Whose::Mine, "it is younger");
}

#[test]
fn an_owner_in_a_namespace_that_is_not_listed_yet_keeps_its_node() {
    let fixture = known(&[]).remembering(&[told("worker-1", "vm-1", "old")]);
    let ownership = Arc::new(Ownership::expecting(["default".to_owned()]));
    let mut fixture = Fixture { ownership, ..fixture };
    fixture.know(object("young", 9, &["vm-1"]));
    assert_eq!(fixture.whose("young", "worker-1", "vm-1"), older("old"));
    assert_eq!(fixture.whose("young", "renamed", "vm-1"), older("old"));
    fixture.ownership.listed("elsewhere");
    assert_eq!(fixture.whose("young", "worker-1", "vm-1"), older("old"));
    fixture.ownership.listed("default");
    assert_eq!(fixture.whose("young", "worker-1", "vm-1"), Whose::Mine, "it wasn't in the list");
}

#[test]
fn over_a_restart_the_owner_in_another_cloud_keeps_the_clusters_node() {
    let old = for_cluster("biz", in_cloud("elsewhere", object("old", 0, &["vm-1"])));
    let young = for_cluster("biz", object("young", 9, &["vm-2"]));
    let there = Record {
        provider_id: "elsewhere".to_owned(),
        accepted_by: Some("biz".to_owned()),
        ..told("worker-1", "vm-1", "old")
    };
    let whose = |old: OpenstackConfig, there: &Record| {
        let fixture = known(&[old, young.clone()]).remembering(std::slice::from_ref(there));
        fixture.whose("young", "worker-1", "vm-2")
    };
    assert_eq!(whose(old.clone(), &there), older("old"));
    assert_eq!(whose(for_cluster("another", old.clone()), &there), Whose::Mine, "sends elsewhere");
    let for_another = Record { accepted_by: Some("another".to_owned()), ..there.clone() };
    assert_eq!(whose(old.clone(), &for_another), Whose::Mine, "was sent elsewhere");
    assert_eq!(whose(in_cloud("third", old), &there), Whose::Mine, "left the cloud of the record");
    assert_eq!(whose(unreadable(object("old", 0, &[])), &there), older("old"), "can't be read");
}

#[test]
fn ids_of_records_compare_in_lower_case() {
    let upper = |id: &str| id.to_ascii_uppercase();
    let there = Record { provider_id: upper(PROVIDER), ..told("worker-1", "VM-1", "old") };
    let fixture = old_and_young().remembering(std::slice::from_ref(&there));
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
    assert_eq!(fixture.whose("young", "renamed", "vm-1"), older("old"));
    let young = for_cluster("Biz", in_cloud("elsewhere", object("young", 9, &["vm-2"])));
    let old = for_cluster("BIZ", object("old", 0, &["vm-1"]));
    let there = Record { accepted_by: Some("biz".to_owned()), ..there };
    let fixture = known(&[old, young]).remembering(&[there]);
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
}

#[test]
fn a_plan_older_than_a_record_of_its_vm_in_another_cloud_is_later() {
    // The cloud was registered anew; what its nodes were sent there says which ids ports have.
    let there = Record { provider_id: "former".to_owned(), ..told("worker-1", "vm-1", "young") };
    let fixture = old_and_young().remembering(&[there]);
    let began = fixture.inventory.version() - 1;
    let (decisions, _) = fixture.slice(&[("old", &[("worker-7", "vm-1")])], began);
    assert_eq!(nodes(&decisions[0]), [("worker-7", Whose::Later)]);
}

// Rule 6: gone.

#[test]
fn a_pass_of_another_generation_or_of_an_object_that_is_gone_may_send_nothing() {
    let mut fixture = old_and_young();
    fixture.own("old", &["worker-1"]);
    for changed in [
        in_cloud("elsewhere", object("young", 9, &["vm-2"])),
        OpenstackConfig { generation: 7, ..object("young", 9, &["vm-2"]) },
    ] {
        fixture.ownership.know(&changed);
        let plans: [(&str, &[(&str, &str)]); 2] =
            [("young", &[("worker-2", "vm-2")]), ("old", &[("worker-1", "vm-1")])];
        let (decisions, _in_flight) = fixture.slice(&plans, u64::MAX);
        assert_eq!(decisions[0], Decision::Gone);
        assert_eq!(nodes(&decisions[1]), [("worker-1", Whose::Mine)]);
    }
    fixture.forget("young");
    let (decisions, _) = fixture.slice(&[("young", &[("worker-2", "vm-2")])], u64::MAX);
    assert_eq!(decisions, [Decision::Gone]);
    // What it would have planned was not entered.
    fixture.know(object("third", 20, &["vm-3"]));
    assert_eq!(fixture.own("third", &["worker-2"]), ["worker-2"]);
}

// Rule 7: the oldest of those in the way.

#[test]
fn the_oldest_of_those_in_the_way_is_named() {
    let fixture = known(&[
        object("first", 0, &["vm-1"]),
        object("second", 1, &["vm-2"]),
        object("third", 2, &["vm-2"]),
        object("fourth", 3, &["vm-9"]),
    ]);
    fixture.own("third", &["worker-1"]);
    assert_eq!(fixture.whose("fourth", "worker-1", "vm-9"), older("third"));
    let fixture = fixture.remembering(&[told("worker-1", "vm-2", "second")]);
    assert_eq!(fixture.whose("fourth", "worker-1", "vm-9"), older("second"));
    let records = [told("worker-1", "vm-2", "second"), told("worker-9", "vm-1", "first")];
    let fixture = fixture.remembering(&records);
    assert_eq!(fixture.whose("fourth", "worker-1", "vm-1"), older("first"), "its VM, renamed");
}

#[test]
fn an_older_object_in_the_way_counts_before_a_node_that_must_wait() {
    let fixture = old_and_young();
    let (_, _in_flight) = fixture.slice(&[("old", &[("worker-1", "vm-1")])], u64::MAX);
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"), "though in flight");
}

// Rule 8: later.

#[test]
fn a_younger_object_waits_for_an_older_one_with_the_same_vm_until_a_pass_of_it_has_ended() {
    let objects = [object("old", 0, &["vm-1", "vm-2"]), object("young", 9, &["vm-2", "vm-3"])];
    let fixture = known(&objects);
    let whose = fixture.pass("young", &[("worker-2", "vm-2"), ("worker-3", "vm-3")]);
    assert_eq!(whose["worker-2"], Whose::Later);
    assert_eq!(whose["worker-3"], Whose::Mine, "no other object names its VM");
    assert_eq!(
        fixture.whose("old", "worker-2", "vm-2"),
        Whose::Mine,
        "the younger one is no matter"
    );
    let fixture = known(&objects);
    fixture.ownership.ended("old", 1);
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Mine);
}

#[test]
fn no_object_waits_for_one_without_a_common_vm_or_in_another_cloud_or_gone_or_younger() {
    let waits = |other: OpenstackConfig| {
        let fixture = known(&[other, object("young", 9, &["vm-2"])]);
        fixture.whose("young", "worker-2", "vm-2") == Whose::Later
    };
    assert!(waits(object("old", 0, &["vm-2"])));
    assert!(waits(in_cloud(&PROVIDER.to_ascii_uppercase(), object("old", 0, &["vm-2"]))));
    assert!(!waits(object("old", 0, &["vm-1"])));
    assert!(!waits(object("younger", 10, &["vm-2"])));
    assert!(!waits(in_cloud("elsewhere", object("old", 0, &["vm-2"]))));
    let mut fixture = known(&[object("old", 0, &["vm-2"]), object("young", 9, &["vm-2"])]);
    fixture.forget("old");
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Mine);
}

#[test]
fn a_pass_that_ends_counts_from_when_its_object_came_to_its_cloud() {
    let objects = [object("old", 0, &["vm-2"]), object("young", 9, &["vm-2"])];
    let mut fixture = known(&objects);
    fixture.ownership.ended("old", 1);
    let there = in_cloud("elsewhere", object("old", 0, &["vm-2"]));
    fixture.know(there.clone());
    let here = OpenstackConfig { generation: 3, ..object("old", 0, &["vm-2"]) };
    fixture.know(here.clone());
    // Passes that began before it came back.
    fixture.ownership.ended("old", 1);
    fixture.ownership.ended("old", there.generation);
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Later);
    // A pass of an earlier spec in the same cloud counts, as does what it was before.
    fixture.know(OpenstackConfig { generation: 4, ..here.clone() });
    fixture.ownership.ended("old", 3);
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Mine);
    fixture.know(OpenstackConfig { generation: 5, ..here });
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Mine);
}

#[test]
fn an_object_that_becomes_readable_is_waited_for_although_its_broken_spec_was_tried() {
    let mut fixture = known(&[unreadable(object("old", 0, &[])), object("young", 9, &["vm-2"])]);
    fixture.ownership.ended("old", 1);
    fixture.know(OpenstackConfig { generation: 2, ..object("old", 0, &["vm-2"]) });
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Later);
    fixture.ownership.ended("old", 2);
    assert_eq!(fixture.whose("young", "worker-2", "vm-2"), Whose::Mine);
}

#[test]
fn an_older_object_with_a_plan_in_the_same_slice_is_not_waited_for() {
    let fixture = known(&[object("old", 0, &["vm-2"]), object("young", 9, &["vm-2"])]);
    let young: (&str, &[(&str, &str)]) = ("young", &[("worker-2", "vm-2")]);
    let (decisions, _) = fixture.slice(&[young], u64::MAX);
    assert_eq!(nodes(&decisions[0]), [("worker-2", Whose::Later)], "the older one's fetch failed");
    let (decisions, _) = fixture.slice(&[young, ("old", &[])], u64::MAX);
    assert_eq!(nodes(&decisions[0]), [("worker-2", Whose::Mine)], "the older one has no port");
}

#[test]
fn a_node_in_flight_is_later_until_its_target_ends_and_others_are_free_meanwhile() {
    let fixture = old_and_young();
    let young: &[(&str, &str)] = &[("worker-1", "vm-2")];
    let (decisions, mut in_flight) = fixture.slice(&[("young", young)], u64::MAX);
    assert_eq!(nodes(&decisions[0]), [("worker-1", Whose::Mine)]);
    assert_eq!(fixture.whose("old", "worker-1", "vm-1"), Whose::Later);
    assert_eq!(fixture.whose("old", "worker-9", "vm-1"), Whose::Mine);
    in_flight.end("another");
    assert_eq!(fixture.whose("old", "worker-1", "vm-1"), Whose::Later);
    in_flight.end(PROVIDER);
    assert_eq!(fixture.whose("old", "worker-1", "vm-1"), Whose::Mine);
    // By then it is the older one's: the younger one doesn't get it back.
    assert_eq!(fixture.whose("young", "worker-1", "vm-2"), older("old"));
}

#[test]
fn a_node_in_flight_meets_its_name_in_the_same_cloud_or_for_the_same_cluster_alone() {
    let fixture = known(&[
        object("same-cloud", 0, &["vm-1"]),
        for_cluster("biz", in_cloud("same-cluster", object("same-cluster", 1, &["vm-1"]))),
        for_cluster("other", in_cloud("biz", object("neither", 2, &["vm-1"]))),
        for_cluster("Biz", object("young", 9, &["vm-2"])),
    ]);
    let young: &[(&str, &str)] = &[("worker-1", "vm-2")];
    let (_, in_flight) = fixture.slice(&[("young", young)], u64::MAX);
    let expected = [Whose::Later, Whose::Later, Whose::Mine];
    for (uid, whose) in ["same-cloud", "same-cluster", "neither"].into_iter().zip(expected) {
        assert_eq!(fixture.whose(uid, "worker-1", "vm-1"), whose, "{uid}");
    }
    drop(in_flight);
    assert_eq!(fixture.whose("same-cloud", "worker-1", "vm-1"), Whose::Mine);
}

#[test]
fn a_guard_ends_what_is_left_when_it_is_dropped_by_a_panic_too() {
    let fixture = known(&[
        object("old", 0, &["vm-1"]),
        for_cluster("a", object("one", 1, &["vm-2"])),
        for_cluster("b", object("two", 2, &["vm-3"])),
    ]);
    let plans: [(&str, &[(&str, &str)]); 2] =
        [("one", &[("worker-1", "vm-2")]), ("two", &[("worker-2", "vm-3")])];
    let (_, mut in_flight) = fixture.slice(&plans, u64::MAX);
    in_flight.end("a");
    let whose = || ["worker-1", "worker-2"].map(|node| fixture.whose("old", node, "vm-1"));
    assert_eq!(whose(), [Whose::Mine, Whose::Later]);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _in_flight = in_flight;
        panic!("a bug in a plan");
    }));
    assert!(panicked.is_err());
    assert_eq!(whose(), [Whose::Mine, Whose::Mine]);
}

#[test]
fn a_panic_while_it_is_decided_leaves_no_node_in_flight_and_the_table_usable() {
    let fixture = old_and_young();
    let nodes = BTreeMap::from([("worker-1", "vm-2")]);
    let (provider_id, target) = (PROVIDER, PROVIDER);
    let plan = Planned { uid: "young", generation: 1, provider_id, target, nodes };
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fixture.ownership.decide(&[plan], || panic!("a bug in the store"), 0)
    }));
    assert!(panicked.is_err());
    assert_eq!(fixture.whose("old", "worker-1", "vm-1"), Whose::Mine);
}

#[test]
fn a_plan_older_than_a_record_of_its_node_or_its_vm_is_later() {
    let whose = |node: &str, vm_id: &str, versions_ago: u64| {
        let records = [told("worker-1", "vm-1", "young"), told("worker-2", "vm-2", "young")];
        let fixture = old_and_young().remembering(&records);
        let began = fixture.inventory.version() - versions_ago;
        let (decisions, _) = fixture.slice(&[("old", &[(node, vm_id)])], began);
        nodes(&decisions[0])[0].1.clone()
    };
    for (node, vm_id) in [("worker-1", "vm-9"), ("renamed", "vm-1")] {
        assert_eq!(whose(node, vm_id, 1), Whose::Later, "{node}");
        assert_eq!(whose(node, vm_id, 0), Whose::Mine, "{node}");
    }
    assert_eq!(whose("worker-9", "vm-9", 1), Whose::Mine, "what is new is another node's");
}

#[test]
fn the_inventory_is_looked_at_when_no_node_can_end_being_in_flight_any_more() {
    let fixture = old_and_young();
    let nodes = BTreeMap::from([("worker-1", "vm-1")]);
    let (provider_id, target) = (PROVIDER, PROVIDER);
    let plan = Planned { uid: "old", generation: 1, provider_id, target, nodes };
    let (ended, has_ended) = std::sync::mpsc::channel();
    let young: &[(&str, &str)] = &[("worker-1", "vm-2")];
    let (_, in_flight) = fixture.slice(&[("young", young)], u64::MAX);
    let (decisions, _) = std::thread::scope(|scope| {
        let snapshot = || {
            scope.spawn(move || {
                drop(in_flight);
                ended.send(()).unwrap();
            });
            let early = has_ended.recv_timeout(std::time::Duration::from_millis(50));
            assert!(early.is_err(), "ended between the look at the inventory and the decision");
            Arc::clone(&fixture.inventory)
        };
        fixture.ownership.decide(std::slice::from_ref(&plan), snapshot, u64::MAX)
    });
    assert_eq!(self::nodes(&decisions[0]), [("worker-1", Whose::Later)]);
}

// All of them.

/// One of five objects, two of them of the same second, in two clouds and for two clusters.
const CREATED: [u64; 5] = [7, 3, 3, 9, 1];
const OLDEST_FIRST: [usize; 5] = [4, 1, 2, 0, 3];
const CLOUDS: [&str; 3] = [PROVIDER, "Provider-1", "elsewhere"];
const TARGETS: [&str; 3] = [PROVIDER, "biz", "BIZ"];

#[derive(Clone, Debug)]
enum Step {
    /// The object comes, or its spec changes.
    Know { who: usize, vms: BTreeSet<usize>, cloud: usize, target: usize },
    /// The object is gone.
    Forget { who: usize },
    /// A slice is decided; each object's plan with nodes.
    Decide { plans: BTreeMap<usize, BTreeSet<usize>> },
    /// One target of one of the slices in flight ends.
    End { which: usize, target: usize },
    /// The rest of one of the slices in flight ends, and with it the pass.
    Drop { which: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let few = || proptest::collection::btree_set(0..4usize, 0..4);
    let plans = proptest::collection::btree_map(0..5usize, few(), 1..4);
    let step = prop_oneof![
        2 => (0..5usize, few(), 0..3usize, 0..3usize)
            .prop_map(|(who, vms, cloud, target)| Step::Know { who, vms, cloud, target }),
        1 => (0..5usize).prop_map(|who| Step::Forget { who }),
        6 => plans.prop_map(|plans| Step::Decide { plans }),
        2 => (0..4usize, 0..3usize).prop_map(|(which, target)| Step::End { which, target }),
        2 => (0..4usize).prop_map(|which| Step::Drop { which }),
    ];
    proptest::collection::vec(step, 1..80)
}

/// What a model without indexes knows of an object.
#[derive(Clone, Debug)]
struct Model {
    object: OpenstackConfig,
    planned: BTreeSet<usize>,
    /// The generation that it appeared or came to its cloud with.
    since: i64,
    ended: bool,
}

impl Model {
    fn cloud(&self) -> String {
        self.object.spec.as_ref().unwrap().provider_id.to_ascii_lowercase()
    }

    fn target(&self) -> String {
        self.object.spec.as_ref().unwrap().target().to_ascii_lowercase()
    }

    fn meets(&self, cloud: &str, target: &str) -> bool {
        self.cloud() == cloud || self.target() == target
    }

    fn names_vm_of(&self, node: usize) -> bool {
        self.object.spec.as_ref().unwrap().vm_ids.contains(&format!("vm-{node}"))
    }
}

/// A slice in flight: its guard, and object, cloud, target and number of each node.
struct Flight {
    guard: InFlight,
    passes: BTreeMap<usize, i64>,
    nodes: Vec<(usize, String, String, usize)>,
}

fn name(who: usize) -> String {
    format!("object-{who}")
}

fn rank(who: usize) -> usize {
    OLDEST_FIRST.iter().position(|one| *one == who).unwrap()
}

#[derive(Default)]
struct History {
    ownership: Arc<Ownership>,
    models: BTreeMap<usize, Model>,
    flights: Vec<Flight>,
    generation: i64,
}

impl History {
    fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Know { who, vms, cloud, target } => {
                self.generation += 1;
                let vms: Vec<String> = vms.iter().map(|vm| format!("vm-{vm}")).collect();
                let vms: Vec<&str> = vms.iter().map(String::as_str).collect();
                let object = object(&name(who), CREATED[who], &vms);
                let object = for_cluster(TARGETS[target], in_cloud(CLOUDS[cloud], object));
                let object = OpenstackConfig { generation: self.generation, ..object };
                self.ownership.know(&object);
                let (planned, since) = (BTreeSet::new(), self.generation);
                let mut model = Model { object, planned, since, ended: false };
                if let Some(before) = self.models.get(&who).filter(|m| m.cloud() == model.cloud()) {
                    model.planned.clone_from(&before.planned);
                    (model.since, model.ended) = (before.since, before.ended);
                }
                self.models.insert(who, model);
            }
            Step::Forget { who } => {
                self.ownership.forget(&name(who));
                self.models.remove(&who);
            }
            Step::Decide { plans } => self.decide(&plans)?,
            Step::End { which, target } => {
                if let Some(flight) = self.flights.get_mut(which) {
                    let ended = TARGETS[target];
                    flight.guard.end(ended);
                    flight.nodes.retain(|(.., target, _)| target != ended);
                }
            }
            Step::Drop { which } if which < self.flights.len() => {
                let flight = self.flights.swap_remove(which);
                drop(flight.guard);
                for (who, generation) in flight.passes {
                    self.ownership.ended(&name(who), generation);
                    let model = self.models.get_mut(&who);
                    if let Some(model) = model.filter(|m| m.since <= generation) {
                        model.ended = true;
                    }
                }
            }
            Step::Drop { .. } => {}
        }
        Ok(())
    }

    fn decide(&mut self, plans: &BTreeMap<usize, BTreeSet<usize>>) -> Result<(), TestCaseError> {
        let known: BTreeMap<usize, &BTreeSet<usize>> = plans
            .iter()
            .filter(|(who, _)| self.models.contains_key(who))
            .map(|(who, nodes)| (*who, nodes))
            .collect();
        for (who, nodes) in &known {
            self.models.get_mut(who).unwrap().planned = (*nodes).clone();
        }
        let names: Vec<(String, String)> =
            (0..4).map(|node| (format!("worker-{node}"), format!("vm-{node}"))).collect();
        let uids: BTreeMap<usize, String> = known.keys().map(|who| (*who, name(*who))).collect();
        let planned: Vec<Planned<'_>> = known
            .iter()
            .map(|(who, nodes)| {
                let object = &self.models[who].object;
                let spec = object.spec.as_ref().unwrap();
                let pairs =
                    nodes.iter().map(|node| (names[*node].0.as_str(), names[*node].1.as_str()));
                Planned {
                    uid: &uids[who],
                    generation: object.generation,
                    provider_id: &spec.provider_id,
                    target: spec.target(),
                    nodes: pairs.collect(),
                }
            })
            .collect();
        let (decisions, guard) =
            self.ownership.decide(&planned, || Arc::new(Inventory::default()), 0);
        let mut flight = Flight { guard, passes: BTreeMap::new(), nodes: Vec::new() };
        for ((who, nodes), decision) in known.iter().zip(&decisions) {
            let model = &self.models[who];
            let (cloud, target) = (model.cloud(), model.target());
            flight.passes.insert(*who, model.object.generation);
            let decided = self::nodes(decision);
            prop_assert_eq!(decided.len(), nodes.len());
            for (node, (_, whose)) in nodes.iter().zip(decided) {
                let meets = |other: &Model| other.meets(&cloud, &target);
                let mut older = self.models.iter().filter(|(other, _)| rank(**other) < rank(*who));
                let in_the_way = older
                    .clone()
                    .filter(|(_, other)| other.planned.contains(node) && meets(other))
                    .map(|(other, _)| *other)
                    .min_by_key(|other| rank(*other));
                let waits = older.any(|(other, model)| {
                    model.names_vm_of(*node)
                        && model.cloud() == cloud
                        && !model.ended
                        && !known.contains_key(other)
                });
                let all = self.flights.iter().flat_map(|flight| &flight.nodes);
                let is_in_flight = all.clone().any(|(_, other_cloud, other_target, other)| {
                    other == node
                        && (*other_cloud == cloud || other_target.to_ascii_lowercase() == target)
                });
                let expected = match in_the_way {
                    Some(other) => Whose::Older(key(&name(other))),
                    None if waits || is_in_flight => Whose::Later,
                    None => Whose::Mine,
                };
                prop_assert_eq!(&whose, &expected, "node {} of {}", node, who);
                if whose == Whose::Mine {
                    // No two have it in flight, in the same slice neither.
                    let twice = flight.nodes.iter().any(|(_, other_cloud, other_target, other)| {
                        other == node
                            && (*other_cloud == cloud
                                || other_target.to_ascii_lowercase() == target)
                    });
                    prop_assert!(!twice, "node {} of {} twice in a slice", node, who);
                    let spec = model.object.spec.as_ref().unwrap();
                    let spelled = spec.target().to_owned();
                    flight.nodes.push((*who, cloud.clone(), spelled, *node));
                }
            }
        }
        self.flights.push(flight);
        Ok(())
    }

    /// All passes end, and then each object has one, the youngest first: every node is its oldest
    /// planner's.
    fn rest(&mut self) -> Result<(), TestCaseError> {
        while !self.flights.is_empty() {
            self.run(Step::Drop { which: 0 })?;
        }
        for _ in 0..2 {
            for who in OLDEST_FIRST.into_iter().rev() {
                let Some(model) = self.models.get(&who) else { continue };
                let plans = BTreeMap::from([(who, model.planned.clone())]);
                self.run(Step::Decide { plans })?;
                self.run(Step::Drop { which: 0 })?;
            }
        }
        for (who, model) in self.models.clone() {
            self.decide(&BTreeMap::from([(who, model.planned.clone())]))?;
            let flight = self.flights.pop().unwrap();
            let own: BTreeSet<usize> = flight.nodes.iter().map(|(.., node)| *node).collect();
            let is_oldest = |node: &usize| {
                self.models.iter().all(|(other, m)| {
                    rank(*other) >= rank(who)
                        || !m.planned.contains(node)
                        || !m.meets(&model.cloud(), &model.target())
                })
            };
            let oldest: BTreeSet<usize> = model.planned.iter().copied().filter(is_oldest).collect();
            prop_assert_eq!(own, oldest, "at rest, nodes of {}", who);
        }
        self.models.keys().for_each(|who| self.ownership.forget(&name(*who)));
        let nothing = format!("{:?}", Ownership::default());
        prop_assert_eq!(format!("{:?}", self.ownership), nothing, "what is over takes no memory");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Nodes have no records. Node n's VM is vm-n.
    #[test]
    fn no_node_is_in_flight_twice_and_at_rest_it_is_its_oldest_planners(steps in steps()) {
        let mut history = History::default();
        for step in steps {
            history.run(step)?;
        }
        history.rest()?;
    }
}

#[test]
fn the_owner_that_a_cluster_names_keeps_a_node_while_it_exists_is_older_and_names_the_vm() {
    let ownership = Ownership::expecting(["unlisted".to_owned()]);
    let (older, younger) = (object("older", 0, &["vm-1"]), object("younger", 1, &["vm-1"]));
    ownership.know(&older);
    ownership.know(&younger);
    let of =
        |object: &OpenstackConfig| NodeOwner { key: object.key.clone(), uid: object.uid.clone() };
    assert!(ownership.keeps(&of(&older), &younger, "VM-1"));
    assert!(!ownership.keeps(&of(&older), &younger, "vm-2"));
    assert!(!ownership.keeps(&of(&older), &older, "vm-1"));
    assert!(!ownership.keeps(&of(&younger), &older, "vm-1"));
    ownership.forget(&older.uid);
    assert!(!ownership.keeps(&of(&older), &younger, "vm-1"));
    let mut unlisted = of(&older);
    unlisted.key.namespace = "unlisted".to_owned();
    assert!(ownership.keeps(&unlisted, &younger, "vm-1"));
}
