//! Which object manages which node (SPEC 5, step 10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proptest::prelude::*;

use super::{PROVIDER, inventory, key, object, owner, record};
use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::reconcile::claims::{Claim, ClaimTable, Claims, Decision, Wanted};
use crate::resources::{ObjectKey, OpenstackConfig};

/// A table that knows these objects, and an inventory beside it.
struct Table {
    claims: ClaimTable,
    inventory: Arc<Inventory>,
}

fn table(objects: &[OpenstackConfig]) -> Table {
    let mut claims = ClaimTable::default();
    for object in objects {
        claims.know(object);
    }
    Table { claims, inventory: inventory(&[]) }
}

fn set(nodes: &[&str]) -> BTreeSet<String> {
    nodes.iter().map(|node| (*node).to_owned()).collect()
}

/// The nodes, each of a VM that has the same name.
fn nodes<'a>(names: &[&'a str]) -> BTreeMap<&'a str, &'a str> {
    names.iter().map(|name| (*name, *name)).collect()
}

/// Nodes of a cloud, for the cluster that is named like it.
fn in_the<'a>(provider_id: &'a str, nodes: &'a BTreeMap<&'a str, &'a str>) -> Wanted<'a> {
    Wanted { provider_id, target: provider_id, nodes }
}

impl Table {
    fn remembers(mut self, node: &str, vm_id: &str, owned_by: &str) -> Table {
        let record = Record { owner: Some(owner(owned_by)), ..record(node, vm_id, &[("p", 0)]) };
        self.inventory = inventory(&[record]);
        self
    }

    fn claim(&mut self, uid: &str, nodes: &[&str]) -> Decision {
        self.claims.claim(uid, &in_the(PROVIDER, &self::nodes(nodes)), &self.inventory).unwrap()
    }

    /// Who keeps the object from the node of a VM.
    fn manager(&mut self, uid: &str, node: &str, vm_id: &str) -> Option<ObjectKey> {
        let nodes = BTreeMap::from([(node, vm_id)]);
        let decision = self.claims.claim(uid, &in_the(PROVIDER, &nodes), &self.inventory);
        decision.unwrap().conflicts.pop().map(|conflict| conflict.manager)
    }

    /// The nodes granted.
    fn granted(&mut self, uid: &str, nodes: &[&str]) -> Vec<String> {
        self.claim(uid, nodes).granted.into_iter().collect()
    }
}

/// The same object in another cloud.
fn in_cloud(provider_id: &str, mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.provider_id = provider_id.to_owned();
    }
    object
}

#[test]
fn of_two_objects_the_older_keeps_the_node_and_the_younger_is_told_by_whom() {
    let mut table = table(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])]);
    assert_eq!(table.granted("old", &["worker-1"]), ["worker-1"]);
    let decision = table.claim("young", &["worker-1", "worker-2"]);
    assert_eq!(decision.granted, set(&["worker-2"]));
    let [conflict] = decision.conflicts.as_slice() else { panic!("{decision:?}") };
    assert_eq!((conflict.node_name.as_str(), &conflict.manager), ("worker-1", &key("old")));
    assert_eq!(table.granted("old", &["worker-1"]), ["worker-1"], "it keeps it");
}

#[test]
fn an_older_object_takes_over_what_a_younger_one_managed() {
    let mut table = table(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])]);
    assert_eq!(table.granted("young", &["worker-1"]), ["worker-1"]);
    assert_eq!(table.granted("old", &["worker-1"]), ["worker-1"]);
    assert!(table.granted("young", &["worker-1"]).is_empty());
}

#[test]
fn a_younger_object_takes_over_when_the_older_one_goes() {
    let mut table = table(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])]);
    table.granted("old", &["worker-1"]);
    table.claims.forget("old");
    assert_eq!(table.granted("young", &["worker-1"]), ["worker-1"]);
}

#[test]
fn a_younger_object_takes_over_when_the_older_one_loses_the_node() {
    let mut table = table(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])]);
    table.granted("old", &["worker-1", "worker-3"]);
    table.granted("old", &["worker-3"]);
    assert_eq!(table.granted("young", &["worker-1", "worker-3"]), ["worker-1"]);
}

#[test]
fn objects_of_the_same_second_go_by_name() {
    let mut table = table(&[object("b", 5, &["vm-2"]), object("a", 5, &["vm-1"])]);
    assert_eq!(table.granted("b", &["worker-1"]), ["worker-1"]);
    assert_eq!(table.granted("a", &["worker-1"]), ["worker-1"]);
    assert_eq!(table.claim("b", &["worker-1"]).conflicts[0].manager, key("a"));
}

#[test]
fn one_name_in_two_clouds_is_two_nodes() {
    let elsewhere = in_cloud("elsewhere", object("old", 0, &["vm-1"]));
    let mut table = table(&[elsewhere, object("young", 9, &["vm-2"])]);
    let inventory = Arc::clone(&table.inventory);
    let there = table.claims.claim("old", &in_the("elsewhere", &nodes(&["worker-1"])), &inventory);
    assert_eq!(there.unwrap().granted, set(&["worker-1"]));
    assert_eq!(table.granted("young", &["worker-1"]), ["worker-1"]);
}

#[test]
fn an_object_that_moved_to_another_cloud_leaves_its_nodes_here() {
    let mut table = table(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])]);
    table.granted("old", &["worker-1"]);
    table.claims.know(&in_cloud("elsewhere", object("old", 0, &["vm-1"])));
    assert_eq!(table.granted("young", &["worker-1"]), ["worker-1"]);
    // Nor does it take them along: nodes there are others'.
    table.claims.know(&in_cloud("elsewhere", object("third", 20, &["vm-3"])));
    let inventory = Arc::clone(&table.inventory);
    let there =
        table.claims.claim("third", &in_the("elsewhere", &nodes(&["worker-1"])), &inventory);
    assert_eq!(there.unwrap().granted, set(&["worker-1"]));
}

#[test]
fn a_sync_begun_in_the_cloud_an_object_has_left_may_send_nothing() {
    let mut table = table(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])]);
    table.granted("old", &["worker-1"]);
    table.claims.know(&in_cloud("elsewhere", object("young", 9, &["vm-2"])));
    let inventory = Arc::clone(&table.inventory);
    assert_eq!(
        table.claims.claim("young", &in_the(PROVIDER, &nodes(&["worker-1"])), &inventory),
        None
    );
    assert_eq!(
        table.claims.claim("gone", &in_the(PROVIDER, &nodes(&["worker-1"])), &inventory),
        None
    );
}

#[test]
fn known_again_an_object_keeps_its_claims() {
    let mut table = table(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])]);
    table.granted("old", &["worker-1"]);
    table.claims.know(&object("old", 0, &["vm-1", "vm-3"]));
    assert!(table.granted("young", &["worker-1"]).is_empty());
}

#[test]
fn the_recorded_owner_keeps_the_node_over_a_restart_and_while_its_ports_are_away() {
    let objects = [object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])];
    let mut table = table(&objects).remembers("worker-1", "vm-1", "old");
    assert_eq!(table.claim("young", &["worker-1"]).conflicts[0].manager, key("old"));
    assert!(table.granted("old", &[]).is_empty());
    assert_eq!(table.claim("young", &["worker-1"]).conflicts[0].manager, key("old"));
    assert_eq!(table.granted("old", &["worker-1"]), ["worker-1"]);
}

#[test]
fn over_a_restart_an_older_object_takes_a_node_from_its_recorded_owner() {
    let objects = [object("old", 0, &["vm-1"]), object("young", 9, &["vm-2"])];
    let mut table = table(&objects).remembers("worker-1", "vm-2", "young");
    assert_eq!(table.granted("old", &["worker-1"]), ["worker-1"]);
    assert!(table.granted("young", &["worker-1"]).is_empty());
}

#[test]
fn a_recorded_owner_that_is_gone_or_names_the_vm_no_longer_holds_nothing() {
    let young = || object("young", 9, &["vm-2"]);
    let mut gone = table(&[young()]).remembers("worker-1", "vm-1", "old");
    assert_eq!(gone.granted("young", &["worker-1"]), ["worker-1"]);
    let objects = [object("old", 0, &["vm-7"]), young()];
    let mut changed = table(&objects).remembers("worker-1", "vm-1", "old");
    assert_eq!(changed.granted("young", &["worker-1"]), ["worker-1"]);
}

#[test]
fn a_younger_object_waits_for_an_older_one_with_the_same_vm_until_that_has_been_tried() {
    let objects = [object("old", 0, &["vm-1", "vm-2"]), object("young", 9, &["vm-2"])];
    let mut table = table(&objects);
    assert_eq!(table.claims.must_wait_for("old"), None);
    assert_eq!(table.claims.must_wait_for("young"), Some(key("old")));
    table.claims.attempted("old");
    assert_eq!(table.claims.must_wait_for("young"), None);
}

#[test]
fn nobody_waits_for_an_object_without_a_common_vm_or_in_another_cloud_or_gone() {
    let waits = |other: OpenstackConfig| {
        table(&[other, object("young", 9, &["vm-2"])]).claims.must_wait_for("young").is_some()
    };
    assert!(waits(object("old", 0, &["vm-2"])));
    assert!(!waits(object("old", 0, &["vm-1"])));
    assert!(!waits(object("younger", 10, &["vm-2"])));
    assert!(!waits(in_cloud("elsewhere", object("old", 0, &["vm-2"]))));
    let mut table = table(&[object("old", 0, &["vm-2"]), object("young", 9, &["vm-2"])]);
    table.claims.forget("old");
    assert_eq!(table.claims.must_wait_for("young"), None);
}

#[test]
fn an_older_object_waits_until_the_younger_ones_post_is_done_and_reads_anew() {
    let claims = Arc::new(Claims::default());
    claims.know(&object("old", 0, &["vm-1"]));
    claims.know(&object("young", 9, &["vm-2"]));
    let empty = inventory(&[]);
    let claim =
        |uid: &str, node: &str| claims.claim(uid, &in_the(PROVIDER, &nodes(&[node])), &empty);
    let Claim::Held(_, held) = claim("young", "worker-1") else { panic!("nobody else wants it") };
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::scope(|scope| {
        scope.spawn(|| tell.send(claim("old", "worker-1")).unwrap());
        // Another node is nobody's business: it is granted meanwhile.
        assert!(matches!(claim("young", "worker-9"), Claim::Held(..)));
        let early = told.recv_timeout(Duration::from_millis(50));
        drop(held);
        early
    });
    assert!(waiting.is_err(), "granted while the other was sending: {waiting:?}");
    assert!(matches!(told.recv().unwrap(), Claim::Waited), "what it has read is outdated by then");
    assert!(matches!(claim("old", "worker-1"), Claim::Held(..)));
}

#[test]
fn a_younger_object_is_refused_a_node_that_the_older_one_is_sending_without_waiting_for_it() {
    let claims = Arc::new(Claims::default());
    claims.know(&object("old", 0, &["vm-1"]));
    claims.know(&object("young", 9, &["vm-2"]));
    let empty = inventory(&[]);
    let wanted = nodes(&["worker-1"]);
    let claim = |uid: &str| claims.claim(uid, &in_the(PROVIDER, &wanted), &empty);
    let Claim::Held(_, _held) = claim("old") else { panic!("nobody else wants it") };
    let Claim::Held(decision, _) = claim("young") else { panic!("it has nothing to wait for") };
    assert_eq!(decision.conflicts[0].manager, key("old"));
}

#[test]
fn the_recorded_owner_keeps_a_vm_that_gets_another_name_for_as_long_as_it_names_the_vm() {
    let young = || object("young", 9, &["vm-1"]);
    let objects = [object("old", 0, &["vm-1"]), young()];
    let mut table_of_old = table(&objects).remembers("worker-1", "vm-1", "old");
    assert_eq!(table_of_old.manager("young", "renamed", "vm-1"), Some(key("old")));
    assert_eq!(table_of_old.manager("old", "renamed", "vm-1"), None);
    let objects = [object("old", 0, &["vm-7"]), young()];
    let mut table = table(&objects).remembers("worker-1", "vm-1", "old");
    assert_eq!(table.manager("young", "renamed", "vm-1"), None);
}

/// The object as it is once somebody has mistyped its spec.
fn unreadable(object: OpenstackConfig) -> OpenstackConfig {
    OpenstackConfig { spec: Err("spec.credentials is missing".to_owned()), ..object }
}

#[test]
fn an_object_that_can_no_longer_be_read_keeps_what_it_claimed() {
    let mut table = table(&[object("old", 0, &["vm-1"]), object("young", 9, &["vm-1"])]);
    table.granted("old", &["worker-1"]);
    table.claims.know(&unreadable(object("old", 0, &[])));
    assert_eq!(table.manager("young", "worker-1", "vm-1"), Some(key("old")));
    table.claims.know(&object("old", 0, &["vm-7"]));
    table.granted("old", &[]);
    assert_eq!(table.manager("young", "worker-1", "vm-1"), None, "readable again, it has moved on");
}

#[test]
fn an_object_that_cannot_be_read_after_a_restart_keeps_what_is_recorded_as_its_own() {
    let objects = [unreadable(object("old", 0, &[])), object("young", 9, &["vm-1"])];
    let mut table = table(&objects).remembers("worker-1", "vm-1", "old");
    assert_eq!(table.manager("young", "worker-1", "vm-1"), Some(key("old")));
    assert_eq!(table.manager("young", "worker-2", "vm-2"), None, "that was never its own");
}

#[test]
fn a_recorded_owner_in_a_namespace_that_is_not_listed_yet_keeps_its_node() {
    let inventory = table(&[]).remembers("worker-1", "vm-1", "old").inventory;
    let claims = Arc::new(Claims::expecting(["default".to_owned()]));
    claims.know(&object("young", 9, &["vm-1"]));
    let wanted = nodes(&["worker-1"]);
    let conflicts = || match claims.claim("young", &in_the(PROVIDER, &wanted), &inventory) {
        Claim::Held(decision, _) => decision.conflicts,
        other => panic!("{other:?}"),
    };
    assert_eq!(conflicts()[0].manager, key("old"));
    claims.listed("default");
    assert_eq!(conflicts(), [], "it was not among those that are there");
}

/// The same object, for a cluster that isn't named like its cloud.
fn for_cluster(target: &str, mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.k8s_provider_id = Some(target.to_owned());
    }
    object
}

#[test]
fn one_name_sent_to_one_cluster_from_two_clouds_is_one_node() {
    let young = for_cluster("biz", object("young", 9, &["vm-2"]));
    // The cluster's name may be given, or be the cloud's own.
    let others = [
        for_cluster("biz", in_cloud("elsewhere", object("old", 0, &["vm-1"]))),
        in_cloud("biz", object("old", 0, &["vm-1"])),
    ];
    let wanted = nodes(&["worker-1"]);
    for other in others {
        let provider_id = other.spec.as_ref().unwrap().provider_id.clone();
        let there = Wanted { provider_id: &provider_id, target: "biz", nodes: &wanted };
        let here = Wanted { provider_id: PROVIDER, target: "biz", nodes: &wanted };
        let mut table = table(&[other, young.clone()]);
        let none = inventory(&[]);
        assert_eq!(table.claims.claim("old", &there, &none).unwrap().granted, set(&["worker-1"]));
        let conflicts = table.claims.claim("young", &here, &none).unwrap().conflicts;
        assert_eq!(conflicts[0].manager, key("old"), "{provider_id}");
        table.claims.forget("old");
        assert_eq!(table.claims.claim("young", &here, &none).unwrap().conflicts, []);
    }
}

#[test]
fn over_a_restart_the_recorded_owner_in_another_cloud_keeps_the_clusters_node() {
    let old = for_cluster("biz", in_cloud("elsewhere", object("old", 0, &["vm-1"])));
    let young = for_cluster("biz", object("young", 9, &["vm-2"]));
    let told = Record {
        provider_id: "elsewhere".to_owned(),
        accepted_by: Some("biz".to_owned()),
        owner: Some(owner("old")),
        ..record("worker-1", "vm-1", &[("p", 0)])
    };
    let wanted = nodes(&["worker-1"]);
    let here = Wanted { provider_id: PROVIDER, target: "biz", nodes: &wanted };
    let conflicts = |old: OpenstackConfig| {
        let mut table = table(&[old, young.clone()]);
        let inventory = inventory(std::slice::from_ref(&told));
        table.claims.claim("young", &here, &inventory).unwrap().conflicts
    };
    assert_eq!(conflicts(old.clone())[0].manager, key("old"));
    assert_eq!(conflicts(for_cluster("another", old)), [], "it sends to another cluster now");
}

#[derive(Clone, Debug)]
enum Step {
    /// The object comes, or changes its VMs.
    Know {
        who: usize,
        vms: BTreeSet<usize>,
    },
    Forget {
        who: usize,
    },
    Claim {
        who: usize,
        nodes: BTreeSet<usize>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let few = || proptest::collection::btree_set(0..4usize, 0..4);
    let step = prop_oneof![
        2 => (0..5usize, few()).prop_map(|(who, vms)| Step::Know { who, vms }),
        1 => (0..5usize).prop_map(|who| Step::Forget { who }),
        5 => (0..5usize, few()).prop_map(|(who, nodes)| Step::Claim { who, nodes }),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Two of the five objects are of the same second; every node has no record.
    #[test]
    fn a_node_is_granted_to_the_oldest_of_those_who_claim_it_and_to_nobody_else(steps in steps()) {
        let created = [7, 3, 3, 9, 1];
        let oldest_first = [4, 1, 2, 0, 3];
        let rank = |who: usize| oldest_first.iter().position(|one| *one == who).unwrap();
        let name = |who: usize| format!("object-{who}");
        let mut table = table(&[]);
        let mut model: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Know { who, vms } => {
                    let vms: Vec<String> = vms.iter().map(|vm| format!("vm-{vm}")).collect();
                    let vms: Vec<&str> = vms.iter().map(String::as_str).collect();
                    table.claims.know(&object(&name(who), created[who], &vms));
                    model.entry(who).or_default();
                }
                Step::Forget { who } => {
                    table.claims.forget(&name(who));
                    model.remove(&who);
                }
                Step::Claim { who, nodes } => {
                    let names: Vec<String> =
                        nodes.iter().map(|node| format!("worker-{node}")).collect();
                    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
                    let wanted = self::nodes(&wanted);
                    let inventory = Arc::clone(&table.inventory);
                    let wanted = in_the(PROVIDER, &wanted);
                    let decision = table.claims.claim(&name(who), &wanted, &inventory);
                    if !model.contains_key(&who) {
                        prop_assert_eq!(decision, None);
                        continue;
                    }
                    let decision = decision.unwrap();
                    model.insert(who, nodes.clone());
                    prop_assert_eq!(decision.granted.len() + decision.conflicts.len(), nodes.len());
                    for node in nodes {
                        let holders = model.iter().filter(|(_, held)| held.contains(&node));
                        let oldest = holders.map(|(who, _)| *who).min_by_key(|who| rank(*who));
                        let granted = decision.granted.contains(&format!("worker-{node}"));
                        prop_assert_eq!(granted, oldest == Some(who));
                        let conflict = decision
                            .conflicts
                            .iter()
                            .find(|conflict| conflict.node_name == format!("worker-{node}"));
                        let manager = oldest.filter(|_| !granted).map(|who| key(&name(who)));
                        prop_assert_eq!(conflict.map(|one| one.manager.clone()), manager);
                    }
                }
            }
        }
    }
}
