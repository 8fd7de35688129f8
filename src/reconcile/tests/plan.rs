//! What each node should have, from the answers of the cloud and the inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    NETWORK, SUBNET, address, found_subnet, intervals, inventory, legacy_record, node_config,
    object, owner, port, record, subnet, wall,
};
use jiff::Timestamp;

use crate::cloud::fetch::{Answers, FoundSubnet, Vm};
use crate::cloud::neutron::Port;
use crate::cloud::nova::ServerName;
use crate::cloud::{CloudError, Step};
use crate::inventory::record::{Record, ReservedId};
use crate::node_config::Interface;
use crate::reconcile::changes::{SendContext, due};
use crate::reconcile::plan::{Plan, PlannedNode, Sources, Unconfirmed, Unusable, attached, plan};
use crate::resources::{ClusterRef, Destination, Spec};
use crate::targets::ClusterIds;

/// A cloud as one pass finds it.
struct Scene {
    names: Vec<(String, ServerName)>,
    ports: BTreeMap<String, Vec<Port>>,
    records: Vec<Record>,
    statuses: Option<Vec<String>>,
    subnets: Vec<FoundSubnet>,
    ports_created_after: Option<Timestamp>,
    held_before: Option<Timestamp>,
    cluster_ids: ClusterIds,
}

/// VMs and what Nova calls them.
fn cloud(vms: &[(&str, &str)]) -> Scene {
    let names = vms
        .iter()
        .map(|(vm_id, name)| ((*vm_id).to_owned(), ServerName::Known(Some((*name).to_owned()))));
    Scene {
        names: names.collect(),
        ports: BTreeMap::new(),
        records: Vec::new(),
        statuses: Some(vec!["ACTIVE".to_owned(), "DOWN".to_owned()]),
        subnets: vec![subnet()],
        ports_created_after: None,
        held_before: None,
        cluster_ids: ClusterIds::new(),
    }
}

impl Scene {
    /// One more VM.
    fn vm(mut self, vm_id: &str, name: ServerName) -> Scene {
        self.names.push((vm_id.to_owned(), name));
        self
    }

    fn port(mut self, vm_id: &str, port: Port) -> Scene {
        self.ports.entry(vm_id.to_owned()).or_default().push(port);
        self
    }

    fn remembers(mut self, record: Record) -> Scene {
        self.records.push(record);
        self
    }

    fn plan(self) -> Plan {
        self.plan_of(&spec())
    }

    fn plan_of(&self, spec: &Spec) -> Plan {
        self.plan_at(spec, &BTreeMap::new(), Duration::ZERO)
    }

    fn plan_at(
        &self,
        spec: &Spec,
        building_since: &BTreeMap<String, Duration>,
        uptime: Duration,
    ) -> Plan {
        let vm = |(id, name): &'_ (String, ServerName)| (id.clone(), name.clone());
        let vms: Vec<(String, ServerName)> = self.names.iter().map(vm).collect();
        let none = Vec::new();
        let vms = vms.iter().map(|(id, name)| {
            let ports = self.ports.get(id).unwrap_or(&none);
            Vm { id, name, ports }
        });
        let answers = Answers { subnets: self.subnets.clone(), vms: vms.collect() };
        plan(&Sources {
            spec,
            uid: "edge",
            answers: &answers,
            statuses: self.statuses.as_deref(),
            ports_created_after: self.ports_created_after,
            held_before: self.held_before,
            inventory: &inventory(&self.records),
            cluster_ids: &self.cluster_ids,
            building_since,
            uptime,
        })
    }
}

/// What the object asks for, as far as plans depend on it.
fn spec() -> Spec {
    object("edge", 0, &["vm-1"]).spec.unwrap()
}

fn failed() -> ServerName {
    ServerName::Failed(CloudError::new(Step::Nova, "Nova GET /servers: HTTP 503"))
}

fn node_names(plan: &Plan) -> Vec<&str> {
    plan.nodes.iter().map(|node| node.config.node_name.as_str()).collect()
}

/// Port and id of the one node there is.
fn ids(plan: &Plan) -> Vec<(&str, u8)> {
    let [PlannedNode { config, .. }] = plan.nodes.as_slice() else { panic!("{plan:?}") };
    config.interfaces.iter().map(|one| (one.port_id.as_str(), one.id)).collect()
}

/// What is remembered once the one node of the plan was accepted.
fn sent(plan: &Plan) -> Record {
    let [node] = plan.nodes.as_slice() else { panic!("{plan:?}") };
    let config = node.config.clone();
    Record {
        reserved_ids: node.reserved.clone(),
        config,
        ..record(&node.config.node_name, &node.config.instance_id, &[])
    }
}

#[test]
fn a_node_goes_by_the_name_nova_gives_and_nodes_are_sorted_by_it() {
    let scene = cloud(&[("vm-1", "worker-b"), ("vm-2", "worker-a")]);
    let plan = scene.port("vm-1", port("p1", 1)).port("vm-2", port("p2", 2)).plan();
    assert_eq!(node_names(&plan), ["worker-a", "worker-b"]);
    assert_eq!(plan.nodes[0].config.instance_id, "vm-2");
    assert_eq!(plan.nodes[0].config.interfaces[0].port_id, "p2");
}

#[test]
fn nodes_of_vms_that_are_no_longer_named_are_said() {
    let of = |uid: &str, node: &str, vm: &str| Record {
        owner: Some(owner(uid)),
        ..record(node, vm, &[("p9", 0)])
    };
    let scene = cloud(&[("vm-1", "worker-1")]).port("vm-1", port("p1", 1));
    let scene = scene.remembers(of("edge", "worker-1", "vm-of-before"));
    let scene = scene.remembers(of("another", "worker-3", "vm-3"));
    let scene = scene
        .remembers(Record { accepted_by: Some(String::new()), ..of("edge", "worker-4", "vm-4") });
    let plan = scene.remembers(of("edge", "worker-2", "vm-2")).plan_of(&spec());
    assert_eq!(plan.former, ["worker-2"]);
}

#[test]
fn nodes_whose_vm_was_sent_under_another_name_only_are_said() {
    let scene = cloud(&[("vm-1", "worker-9"), ("vm-2", "worker-2"), ("vm-3", "worker-3")]);
    let scene = scene.port("vm-1", port("p1", 1)).port("vm-2", port("p2", 2));
    let scene = scene.port("vm-3", port("p3", 3));
    let scene = scene.remembers(record("worker-1", "VM-1", &[("p1", 0)]));
    // Of another cluster, refused, and of the present name beside a former one.
    let elsewhere = Some("elsewhere".to_owned());
    let scene = scene
        .remembers(Record { accepted_by: elsewhere, ..record("before", "vm-3", &[("p3", 0)]) });
    let refused = Record { accepted_by: Some(String::new()), ..record("no", "vm-3", &[]) };
    let scene = scene.remembers(refused).remembers(record("former", "vm-2", &[("p2", 0)]));
    let plan = scene.remembers(record("worker-2", "vm-2", &[("p2", 0)])).plan_of(&spec());
    assert_eq!(plan.renamed, [("worker-1".to_owned(), "worker-9".to_owned())]);
}

#[test]
fn a_vm_without_a_name_goes_by_its_id() {
    let nameless = ServerName::Known(None);
    let plan = cloud(&[]).vm("vm-1", nameless).port("vm-1", port("p1", 1)).plan();
    assert_eq!(node_names(&plan), ["vm-1"]);
    assert!(plan.by_id.is_empty());
}

fn unconfirmed(node_name: &str, vm_id: &str, why: &str) -> Unconfirmed {
    Unconfirmed { node_name: node_name.to_owned(), vm_id: vm_id.to_owned(), why: why.to_owned() }
}

#[test]
fn a_vm_that_nova_does_not_know_keeps_its_last_known_name_and_it_is_said() {
    let scene = || cloud(&[]).vm("vm-1", ServerName::Unknown).port("vm-1", port("p1", 1));
    let plan = scene().remembers(record("worker-1", "vm-1", &[("p1", 0)])).plan();
    assert_eq!(node_names(&plan), ["worker-1"]);
    assert_eq!(plan.remembered, [unconfirmed("worker-1", "vm-1", "Nova doesn't know its VM")]);
    assert!(plan.by_id.is_empty());
    let plan = scene().plan();
    assert_eq!(
        (node_names(&plan), plan.by_id.as_slice()),
        (vec!["vm-1"], ["vm-1".to_owned()].as_slice())
    );
}

#[test]
fn without_a_compute_endpoint_a_vm_keeps_its_last_known_name_or_goes_by_its_id() {
    let scene = || cloud(&[]).vm("vm-1", ServerName::NoEndpoint).port("vm-1", port("p1", 1));
    assert_eq!(node_names(&scene().plan()), ["vm-1"]);
    assert!(scene().plan().by_id.is_empty(), "no service was asked");
    let plan = scene().remembers(record("worker-1", "vm-1", &[("p1", 0)])).plan();
    assert_eq!(node_names(&plan), ["worker-1"]);
    let why = "the catalog has no compute endpoint";
    assert_eq!(plan.remembered, [unconfirmed("worker-1", "vm-1", why)]);
}

#[test]
fn a_remembered_name_never_stands_against_a_confirmed_one() {
    for name in [ServerName::Unknown, failed(), ServerName::NoEndpoint] {
        let scene = cloud(&[("vm-2", "worker-1")]).vm("vm-1", name);
        let scene = scene.remembers(record("worker-1", "vm-1", &[("p1", 0)]));
        let plan = scene.port("vm-1", port("p1", 1)).port("vm-2", port("p2", 2)).plan();
        assert_eq!(node_names(&plan), ["worker-1"]);
        assert_eq!(plan.nodes[0].config.instance_id, "vm-2");
        assert_eq!(plan.superseded[0].vm_id, "vm-1");
        assert!(plan.duplicate_names.is_empty());
    }
}

#[test]
fn while_nova_fails_a_vm_keeps_the_name_it_was_last_known_by() {
    let scene = cloud(&[]).vm("vm-1", failed()).port("vm-1", port("p1", 1));
    let plan = scene.remembers(record("worker-1", "vm-1", &[("p1", 0)])).plan();
    assert_eq!(node_names(&plan), ["worker-1"]);
    assert!(plan.unresolved.is_empty());
}

#[test]
fn of_two_remembered_names_the_later_one_is_the_last_known() {
    let later = Record { updated_at: wall(60), ..record("b-new", "vm-1", &[("p1", 0)]) };
    let scene = cloud(&[]).vm("vm-1", failed()).port("vm-1", port("p1", 1));
    let plan = scene.remembers(later).remembers(record("a-old", "vm-1", &[("p1", 0)])).plan();
    assert_eq!(node_names(&plan), ["b-new"]);
}

#[test]
fn a_record_by_the_vms_id_is_its_last_known_name_only_where_there_is_no_other() {
    let by_id = Record { updated_at: wall(60), ..legacy_record("vm-1", "vm-1", &[("p1", 1)]) };
    let scene = || cloud(&[]).vm("vm-1", failed()).port("vm-1", port("p1", 1));
    let named = legacy_record("worker-1", "vm-1", &[("p1", 1)]);
    let plan = scene().remembers(by_id.clone()).remembers(named).plan();
    assert_eq!(node_names(&plan), ["worker-1"]);
    assert_eq!(node_names(&scene().remembers(by_id).plan()), ["vm-1"]);
    let shouting = Record { updated_at: wall(60), ..legacy_record("VM-1", "vm-1", &[("p1", 1)]) };
    let scene = scene().remembers(shouting).remembers(legacy_record("a", "vm-1", &[("p1", 1)]));
    assert_eq!(node_names(&scene.plan()), ["a"]);
}

#[test]
fn a_name_is_remembered_whatever_the_cloud_is_called() {
    let elsewhere =
        Record { provider_id: "elsewhere".to_owned(), ..record("worker-9", "vm-1", &[("p1", 0)]) };
    let scene = cloud(&[]).vm("vm-1", failed()).port("vm-1", port("p1", 1));
    assert_eq!(node_names(&scene.remembers(elsewhere).plan()), ["worker-9"]);
}

#[test]
fn while_nova_fails_a_vm_nobody_remembers_is_left_out_and_the_others_go_on() {
    let scene = cloud(&[("vm-2", "worker-2")]).vm("vm-1", failed());
    let plan = scene.port("vm-1", port("p1", 1)).port("vm-2", port("p2", 2)).plan();
    assert_eq!(node_names(&plan), ["worker-2"]);
    let why = "Nova GET /servers: HTTP 503".to_owned();
    assert_eq!(plan.unresolved, [("vm-1".to_owned(), why)]);
    assert!(plan.without_ports.is_empty() && plan.duplicate_names.is_empty());
}

#[test]
fn of_two_vms_with_one_name_neither_is_sent_and_the_others_go_on() {
    let scene = cloud(&[("vm-1", "twin"), ("vm-2", "twin"), ("vm-3", "worker-3")]);
    let scene = scene.port("vm-1", port("p1", 1)).port("vm-2", port("p2", 2));
    let plan = scene.port("vm-3", port("p3", 3)).plan();
    assert_eq!(node_names(&plan), ["worker-3"]);
    assert_eq!(plan.duplicate_names["twin"], ["vm-1", "vm-2"]);
}

#[test]
fn a_vm_without_ports_is_not_sent_and_counted() {
    let plan = cloud(&[("vm-1", "worker-1"), ("vm-2", "worker-2")]);
    let plan = plan.port("vm-2", port("p2", 2)).plan();
    assert_eq!(node_names(&plan), ["worker-2"]);
    assert_eq!(plan.without_ports, ["vm-1"]);
}

#[test]
fn a_vm_that_nova_does_not_know_and_that_has_no_ports_is_absent() {
    let scene = cloud(&[("vm-2", "worker-2")]).vm("vm-1", ServerName::Unknown);
    let plan = scene.port("vm-2", port("p2", 2)).plan();
    assert_eq!(node_names(&plan), ["worker-2"]);
    assert_eq!(plan.absent, ["vm-1"]);
    assert!(plan.by_id.is_empty() && plan.without_ports.is_empty());
}

#[test]
fn only_ports_of_an_allowed_status_count_and_the_others_are_told() {
    let scene = cloud(&[("vm-1", "worker-1")]).port("vm-1", port("p1", 1));
    let of_status = |id, number, status: &str| Port { status: status.into(), ..port(id, number) };
    let scene = scene
        .port("vm-1", of_status("p2", 2, "DOWN"))
        .port("vm-1", of_status("p3", 3, "BUILD"))
        .port("vm-1", of_status("p4", 4, "BUILD"))
        .port("vm-1", of_status("p5", 5, "ERROR"));
    let plan = scene.plan();
    assert_eq!(ids(&plan), [("p1", 0), ("p2", 1)]);
    assert_eq!(plan.nodes[0].down_ports, ["p2"]);
    let left_out: Vec<_> =
        plan.left_out.iter().map(|port| (&*port.port_id, port.why.clone())).collect();
    assert_eq!(left_out, ["p3", "p4", "p5"].map(|id| (id, Unusable::Status)));
    assert_eq!((&*plan.left_out[2].node_name, &*plan.left_out[2].status), ("worker-1", "ERROR"));
}

#[test]
fn with_every_status_allowed_none_is_left_out() {
    let building = Port { status: "BUILD".into(), ..port("p1", 1) };
    let mut scene = cloud(&[("vm-1", "worker-1")]).port("vm-1", building);
    scene.statuses = None;
    let plan = scene.plan();
    assert_eq!(ids(&plan), [("p1", 0)]);
    assert!(plan.left_out.is_empty());
}

#[test]
fn ports_on_another_network_or_in_another_subnet_are_none_of_ours() {
    let scene = cloud(&[("vm-1", "worker-1")]);
    let elsewhere = Port { network_id: "other".into(), ..port("p1", 1) };
    let fixed_ips = vec![("other".into(), address(2))];
    let beside = Port { fixed_ips, ..port("p2", 2) };
    let bare = Port { fixed_ips: Vec::new(), ..port("p3", 3) };
    // A status that counts for nothing here must not be told either.
    let building = Port { status: "BUILD".into(), ..elsewhere.clone() };
    let building = Port { id: "p4".to_owned(), ..building };
    let plan = scene
        .port("vm-1", elsewhere)
        .port("vm-1", beside)
        .port("vm-1", bare)
        .port("vm-1", building)
        .plan();
    assert!(plan.nodes.is_empty());
    assert!(plan.left_out.iter().all(|port| port.why != Unusable::Status));
    assert_eq!(plan.without_ports, ["vm-1"]);
}

#[test]
fn a_port_that_cannot_be_used_says_why() {
    let subnets = [subnet()];
    let why = |port: Port| attached(&port, &subnets).map(|attached| attached.address);
    let fine = port("p1", 1);
    assert_eq!(why(fine.clone()), Ok(address(1)));
    let elsewhere = Port { network_id: "other".into(), ..fine.clone() };
    assert_eq!(why(elsewhere), Err(Unusable::OtherNetwork));
    let fixed_ips = vec![("other".into(), address(1))];
    assert_eq!(why(Port { fixed_ips, ..fine.clone() }), Err(Unusable::OtherSubnet));
    assert_eq!(why(Port { fixed_ips: Vec::new(), ..fine }), Err(Unusable::NoAddress));
}

#[test]
fn with_several_subnets_each_interface_has_its_own_and_the_first_listed_counts() {
    let mut scene = cloud(&[("vm-1", "worker-1")]);
    let beside = found_subnet("subnet-2", NETWORK, "10.2.0.0/16", 1450);
    let storage = found_subnet("subnet-3", "network-3", "10.3.0.0/16", 9000);
    scene.subnets = vec![storage, beside, subnet()];
    let place = |subnet: &str, number| (subnet.into(), address(number));
    // MACs are in another order than subnets; p2 is in two subnets, of which subnet-2 is listed first.
    let both = Port { fixed_ips: vec![place(SUBNET, 2), place("subnet-2", 12)], ..port("p2", 2) };
    let fixed_ips = vec![place("subnet-3", 3)];
    let stored = Port { network_id: "network-3".into(), fixed_ips, ..port("p3", 3) };
    let stray = Port { fixed_ips: vec![place("subnet-3", 4)], ..port("p4", 4) };
    let scene = [stored, both, port("p1", 1), stray]
        .into_iter()
        .fold(scene, |scene, port| scene.port("vm-1", port));
    let plan = scene.plan();
    let seen = |one: &Interface| {
        (one.port_id.clone(), one.id, one.subnet_id.to_string(), one.cidr.to_string(), one.mtu)
    };
    let row = |port: &str, id, subnet: &str, cidr: &str, mtu| {
        (port.to_owned(), id, subnet.to_owned(), cidr.to_owned(), mtu)
    };
    let seen: Vec<_> = plan.nodes[0].config.interfaces.iter().map(seen).collect();
    let rows = [
        row("p1", 0, SUBNET, "10.0.0.0/16", 1450),
        row("p2", 1, "subnet-2", "10.2.0.0/16", 1450),
        row("p3", 2, "subnet-3", "10.3.0.0/16", 9000),
    ];
    assert_eq!(seen, rows);
    assert_eq!(plan.left_out[0].why, Unusable::OtherSubnet);
}

/// What was sent before, and the ids that follow from it.
type Row = (&'static str, Option<Record>, &'static [(&'static str, u8)]);

#[test]
fn a_node_of_the_go_operator_tells_new_ports_that_are_older_than_the_object() {
    let aged = |port: Port, created: Option<u64>| Port { created_at: created.map(wall), ..port };
    let ports = [
        aged(port("sent", 1), Some(0)),
        aged(port("same-mac", 2), Some(0)),
        aged(port("old", 3), Some(9)),
        aged(port("ageless", 4), None),
        aged(port("new", 5), Some(10)),
    ];
    let mut go = legacy_record("worker-1", "vm-1", &[("sent", 1), ("another-id", 2)]);
    let owned = Record { owner: Some(owner("edge")), accepted_by: None, ..go.clone() };
    let (none, old): (&[&str], &[&str]) = (&[], &["old", "ageless"]);
    let rows = [
        ("a record of the Go operator", Some(go.clone()), Some(10), old),
        ("spec.ports decides", Some(go.clone()), None, none),
        ("a record with an owner", Some(owned), Some(10), none),
        ("no record", None, Some(10), none),
    ];
    for (what, record, held_before, expected) in rows {
        let mut scene = cloud(&[("vm-1", "worker-1")]);
        scene.held_before = held_before.map(wall);
        scene.records.extend(record);
        let scene = ports.iter().fold(scene, |scene, port| scene.port("vm-1", port.clone()));
        assert_eq!(scene.plan().nodes[0].older_ports, expected, "{what}");
    }
    // Its VM was renamed meanwhile.
    go.node_name = "before".to_owned();
    let mut scene = cloud(&[("vm-1", "worker-1")]).remembers(go);
    scene.held_before = Some(wall(10));
    assert_eq!(scene.port("vm-1", ports[2].clone()).plan().nodes[0].older_ports, ["old"]);
}

#[test]
fn a_filter_keeps_ports_out_and_never_takes_away_what_was_sent() {
    let mut spec = spec();
    spec.ports.tags = vec!["multinic".into()];
    let tagged = |port: Port, created: u64| Port {
        tags: vec!["other".into(), "multinic".into()],
        created_at: Some(wall(created)),
        ..port
    };
    let ports = [
        tagged(port("old", 1), 9),
        tagged(port("new", 2), 10),
        Port { created_at: None, ..tagged(port("ageless", 3), 0) },
        Port { tags: vec!["Multinic".into()], ..tagged(port("bare", 4), 11) },
        // What can't be used for another reason is counted for that one.
        Port { fixed_ips: Vec::new(), ..tagged(port("elsewhere", 5), 0) },
    ];
    let sent = [("old", 3), ("ageless", 5)];
    let reserved = Record {
        accepted_by: Some(String::new()),
        reserved_ids: vec![ReservedId { port_id: "bare".to_owned(), id: 4 }],
        ..record("worker-1", "vm-1", &[])
    };
    let other_target = Record { accepted_by: Some("biz".to_owned()), ..record("w", "vm-1", &sent) };
    let rows: [Row; 6] = [
        ("nothing was sent", None, &[("new", 0)]),
        (
            "accepted",
            Some(record("worker-1", "vm-1", &sent)),
            &[("new", 0), ("old", 3), ("ageless", 5)],
        ),
        (
            "under another name",
            Some(record("w", "vm-1", &sent)),
            &[("new", 0), ("old", 3), ("ageless", 5)],
        ),
        (
            "by the Go operator",
            Some(legacy_record("worker-1", "vm-1", &[("old", 1)])),
            &[("new", 1), ("old", 0)],
        ),
        ("sent and not accepted", Some(reserved), &[("new", 0), ("bare", 4)]),
        ("to another cluster", Some(other_target), &[("new", 0)]),
    ];
    for (what, record, expected) in rows {
        let mut scene = cloud(&[("vm-1", "worker-1")]);
        scene.ports_created_after = Some(wall(10));
        scene.records.extend(record);
        for port in &ports {
            scene = scene.port("vm-1", port.clone());
        }
        let plan = scene.plan_of(&spec);
        let mut ids = ids(&plan);
        ids.sort_by_key(|(_, id)| *id);
        let mut expected = expected.to_vec();
        expected.sort_by_key(|(_, id)| *id);
        assert_eq!(ids, expected, "{what}");
        if what == "nothing was sent" {
            let why = |port: &str| {
                let mut all = plan.left_out.iter();
                all.find(|one| one.port_id == port).map(|one| one.why.clone())
            };
            assert_eq!(why("old"), Some(Unusable::TooOld));
            assert_eq!(why("ageless"), Some(Unusable::UnknownAge));
            assert_eq!(why("bare"), Some(Unusable::WithoutTag("multinic".into())));
            assert_eq!(why("elsewhere"), Some(Unusable::NoAddress));
            assert!(plan.nodes[0].reserved.is_empty());
        }
    }
}

#[test]
fn of_several_addresses_in_the_subnet_the_lowest_by_number_counts() {
    let ours = |number| (SUBNET.into(), address(number));
    let lowest_elsewhere = ("other".into(), address(1));
    let fixed_ips = vec![ours(100), lowest_elsewhere, ours(9), ours(20)];
    let scene = cloud(&[("vm-1", "worker-1")]).port("vm-1", Port { fixed_ips, ..port("p1", 1) });
    assert_eq!(scene.plan().nodes[0].config.interfaces[0].address, address(9));
}

#[test]
fn ids_in_upper_case_are_the_same_ids() {
    let shouting = Port {
        network_id: NETWORK.to_uppercase().into(),
        fixed_ips: vec![(SUBNET.to_uppercase().into(), address(1))],
        ..port("p1", 1)
    };
    let plan = cloud(&[("vm-1", "worker-1")]).port("vm-1", shouting).plan();
    let interface = &plan.nodes[0].config.interfaces[0];
    assert_eq!((&*interface.network_id, &*interface.subnet_id), (NETWORK, SUBNET));
}

#[test]
fn a_node_is_as_it_was_told_before_only_if_its_vm_is_the_same_too() {
    let told = [("p1", 1)];
    let plan_of = |told: Record| {
        cloud(&[("vm-1", "worker-1")]).remembers(told).port("vm-1", port("p1", 1)).plan()
    };
    let same = plan_of(record("worker-1", "vm-1", &told));
    assert_eq!(same.nodes[0].config, node_config("worker-1", "vm-1", &told));
    let of_another_vm = plan_of(record("worker-1", "vm-2", &told));
    assert_eq!(of_another_vm.nodes[0].config.instance_id, "vm-1");
    let longer_mtu = plan_of({
        let mut record = record("worker-1", "vm-1", &told);
        record.config.interfaces[0].mtu = 9_000;
        record
    });
    assert_eq!(longer_mtu.nodes[0].config.interfaces[0].mtu, 1450);
}

#[test]
fn a_port_keeps_the_id_the_inventory_remembers() {
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(record("worker-1", "vm-1", &[("p2", 0)]));
    let plan = scene.port("vm-1", port("p1", 1)).port("vm-1", port("p2", 2)).plan();
    assert_eq!(ids(&plan), [("p2", 0), ("p1", 1)]);
}

#[test]
fn a_port_that_is_built_anew_keeps_its_id_over_several_posts() {
    let broken = Port { status: "ERROR".into(), ..port("p1", 1) };
    let bare = Port { fixed_ips: Vec::new(), ..broken.clone() };
    let elsewhere = Port { network_id: "other".into(), ..broken.clone() };
    for away in [broken, bare, elsewhere] {
        let scene = || cloud(&[("vm-1", "worker-1")]).port("vm-1", port("p2", 2));
        let told = record("worker-1", "vm-1", &[("p1", 0), ("p2", 1)]);
        let plan = scene().port("vm-1", away.clone()).remembers(told).plan();
        assert_eq!(ids(&plan), [("p2", 1)], "{away:?}");
        let plan =
            scene().port("vm-1", away.clone()).port("vm-1", port("p3", 3)).remembers(sent(&plan));
        let plan = plan.plan();
        assert_eq!(ids(&plan), [("p2", 1), ("p3", 2)], "{away:?}");
        let plan =
            scene().port("vm-1", away).port("vm-1", port("p4", 4)).remembers(sent(&plan)).plan();
        assert_eq!(ids(&plan), [("p2", 1), ("p4", 2)], "a port that is gone leaves its id behind");
        let plan = scene().port("vm-1", port("p1", 1)).remembers(sent(&plan)).plan();
        assert_eq!(ids(&plan), [("p1", 0), ("p2", 1)]);
        assert!(plan.nodes[0].reserved.is_empty());
    }
}

#[test]
fn a_port_keeps_its_id_though_all_its_node_has_is_built_anew() {
    let broken = Port { status: "ERROR".into(), ..port("p1", 1) };
    let told = record("worker-1", "vm-1", &[("p1", 0)]);
    let scene = || cloud(&[("vm-1", "worker-1")]).port("vm-1", broken.clone());
    assert!(scene().remembers(told.clone()).plan().nodes.is_empty());
    let plan = scene().remembers(told).port("vm-1", port("p0", 0)).plan();
    assert_eq!(ids(&plan), [("p0", 1)]);
}

#[test]
fn an_id_kept_for_a_port_goes_with_its_vm_to_another_name() {
    let broken = Port { status: "ERROR".into(), ..port("p1", 1) };
    let before = record("before", "vm-1", &[("p1", 0), ("p2", 1)]);
    let scene =
        |name| cloud(&[("vm-1", name)]).port("vm-1", broken.clone()).port("vm-1", port("p2", 2));
    let plan = scene("before").remembers(before).plan();
    let plan = scene("after").remembers(sent(&plan)).plan();
    assert_eq!(plan.nodes[0].reserved, [ReservedId { port_id: "p1".to_owned(), id: 0 }]);
}

#[test]
fn a_reservation_alone_makes_a_node_no_other_one() {
    let broken = Port { status: "ERROR".into(), ..port("p1", 1) };
    let scene = || cloud(&[("vm-1", "worker-1")]).port("vm-1", port("p2", 2));
    let told = record("worker-1", "vm-1", &[("p1", 0), ("p2", 1)]);
    let with = sent(&scene().port("vm-1", broken).remembers(told).plan());
    assert_eq!(with.reserved_ids.len(), 1);
    let plan = scene().remembers(with.clone()).plan();
    assert!(plan.nodes[0].reserved.is_empty(), "the port is gone");
    let context = SendContext {
        intervals: &intervals(),
        forced_until: None,
        down_ports: None,
        unconfirmed: &BTreeSet::new(),
        drifted: &BTreeSet::new(),
        now: wall(60),
    };
    assert!(due(&spec(), &[&plan.nodes[0]], &inventory(&[with]), &context).is_empty());
}

#[test]
fn what_another_vm_was_told_under_the_name_does_not_renumber_ports_that_were_here_before() {
    let theirs =
        Record { updated_at: wall(60), ..record("worker-1", "vm-1", &[("came", 3), ("away", 0)]) };
    let scene = cloud(&[("vm-2", "worker-1")]).remembers(theirs);
    let scene = scene.remembers(record("before", "vm-2", &[("stayed", 3)]));
    let plan = scene.port("vm-2", port("came", 1)).port("vm-2", port("stayed", 2)).plan();
    assert_eq!(ids(&plan), [("came", 0), ("stayed", 3)]);
}

#[test]
fn a_renamed_vm_keeps_the_ids_of_its_ports() {
    let scene = cloud(&[("vm-1", "renamed")]).remembers(record("before", "vm-1", &[("p2", 0)]));
    let plan = scene.port("vm-1", port("p1", 1)).port("vm-1", port("p2", 2)).plan();
    assert_eq!(node_names(&plan), ["renamed"]);
    assert_eq!(ids(&plan), [("p2", 0), ("p1", 1)]);
}

#[test]
fn a_port_moved_to_the_vm_that_replaced_its_nodes_former_one_keeps_its_id() {
    let scene = cloud(&[("vm-2", "worker-1")]).remembers(record("worker-1", "vm-1", &[("p2", 3)]));
    let plan = scene.port("vm-2", port("p1", 1)).port("vm-2", port("p2", 2)).plan();
    assert_eq!(ids(&plan), [("p1", 0), ("p2", 3)]);
}

#[test]
fn of_two_records_the_one_told_last_counts_most() {
    let later = Record { updated_at: wall(60), ..record("a-late", "vm-1", &[("p1", 5)]) };
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(later);
    let plan = scene.remembers(record("z-early", "vm-1", &[("p1", 2)])).port("vm-1", port("p1", 1));
    assert_eq!(ids(&plan.plan()), [("p1", 5)]);
}

#[test]
fn ids_stay_when_the_cloud_is_registered_under_another_id() {
    let elsewhere = |target: &str, uid: &str| Record {
        provider_id: "elsewhere".to_owned(),
        accepted_by: Some(target.to_owned()),
        owner: Some(owner(uid)),
        ..record("worker-1", "vm-1", &[("p1", 4), ("p2", 0)])
    };
    for before in [elsewhere("elsewhere", "edge"), elsewhere("provider-1", "another")] {
        let building = Port { status: "ERROR".into(), ..port("p2", 2) };
        let scene = cloud(&[("vm-1", "worker-1")]).remembers(before);
        let scene = scene.port("vm-1", port("p1", 1)).port("vm-1", building);
        let plan = scene.port("vm-1", port("p3", 3)).plan();
        assert_eq!(ids(&plan), [("p3", 1), ("p1", 4)], "multinic0 stays that of p2");
    }
}

#[test]
fn another_clusters_record_numbers_ports_of_the_subnet_and_reserves_nothing() {
    let elsewhere = Record {
        provider_id: "elsewhere".to_owned(),
        accepted_by: Some("elsewhere".to_owned()),
        owner: Some(owner("another")),
        ..record("worker-1", "vm-1", &[("p1", 4), ("p2", 0)])
    };
    let beside = Port { network_id: "other".into(), ..port("p2", 2) };
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(elsewhere).port("vm-1", beside);
    let plan = scene.port("vm-1", port("p1", 1)).port("vm-1", port("p3", 3)).plan();
    assert_eq!(ids(&plan), [("p3", 0), ("p1", 4)]);
}

#[test]
fn ids_and_names_are_the_same_in_either_case() {
    let shouting = Record {
        provider_id: "PROVIDER-1".to_owned(),
        accepted_by: Some("PROVIDER-1".to_owned()),
        ..record("worker-1", "VM-1", &[("p2", 0)])
    };
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(shouting);
    let plan = scene.port("vm-1", port("p1", 1)).port("vm-1", port("p2", 2)).plan();
    assert_eq!(ids(&plan), [("p2", 0), ("p1", 1)]);
}

#[test]
fn a_port_that_is_build_for_seconds_stays_as_the_node_has_it() {
    let told = {
        let mut told = record("worker-1", "vm-1", &[("p1", 0), ("p2", 1)]);
        told.config.interfaces[0].mtu = 9_000;
        told
    };
    let building = |id: &str, number| Port { status: "BUILD".into(), ..port(id, number) };
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(told.clone());
    let scene = scene.port("vm-1", building("p1", 7)).port("vm-1", port("p2", 1));
    let scene = scene.port("vm-1", building("p3", 3));
    let plan = scene.plan_of(&spec());
    assert_eq!(ids(&plan), [("p1", 0), ("p2", 1)], "a new port waits");
    assert_eq!(plan.nodes[0].config.interfaces[0], told.config.interfaces[0], "all of it stays");
    assert!(plan.nodes[0].down_ports.is_empty() && plan.nodes[0].reserved.is_empty());
    assert_eq!(plan.left_out.len(), 1);
    let hour = Duration::from_secs(3_600);
    let since = BTreeMap::from([("p1".to_owned(), Duration::ZERO)]);
    assert_eq!(plan.building_since, since);
    assert!(scene.plan_at(&spec(), &since, hour - Duration::from_secs(1)).stuck.is_empty());
    let stuck = scene.plan_at(&spec(), &since, hour).stuck;
    assert_eq!(stuck, [("worker-1".to_owned(), "p1".to_owned())]);
}

#[test]
fn a_port_that_is_build_stays_on_a_node_that_was_renamed() {
    let sent = record("worker-old", "vm-1", &[("p1", 0), ("p2", 1)]);
    let building = Port { status: "BUILD".into(), ..port("p1", 7) };
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(sent.clone());
    let plan = scene.port("vm-1", building).port("vm-1", port("p2", 1)).plan_of(&spec());
    assert_eq!(ids(&plan), [("p1", 0), ("p2", 1)]);
    assert_eq!(plan.nodes[0].config.interfaces[0], sent.config.interfaces[0]);
}

#[test]
fn a_port_that_is_build_stays_as_the_go_operator_sent_it() {
    let mut sent = Record { accepted_by: None, ..record("worker-1", "vm-1", &[("p1", 1)]) };
    sent.config.interfaces[0].name = "".into();
    let building = Port { status: "BUILD".into(), ..port("p1", 7) };
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(sent.clone());
    let plan = scene.port("vm-1", building).port("vm-1", port("p2", 1)).plan_of(&spec());
    let interfaces = &plan.nodes[0].config.interfaces;
    let kept = interfaces.iter().find(|interface| interface.port_id == "p1").unwrap();
    assert_eq!(kept.address, sent.config.interfaces[0].address);
    assert_eq!(interfaces.len(), 2);
}

#[test]
fn a_build_port_that_another_cluster_was_told_of_waits_here() {
    let told = Record {
        accepted_by: Some("elsewhere".to_owned()),
        ..record("worker-1", "vm-1", &[("p1", 0)])
    };
    let building = Port { status: "BUILD".into(), ..port("p1", 1) };
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(told).port("vm-1", building);
    assert!(scene.plan().nodes.is_empty());
}

#[test]
fn ids_of_the_replaced_program_count_from_one_and_are_not_kept() {
    let legacy = legacy_record("worker-1", "vm-1", &[("p2", 1), ("p1", 2)]);
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(legacy);
    let plan = scene.port("vm-1", port("p1", 1)).port("vm-1", port("p2", 2)).plan();
    assert_eq!(ids(&plan), [("p1", 0), ("p2", 1)]);
}

#[test]
fn ids_of_the_replaced_program_are_not_kept_under_a_former_name_either() {
    let legacy = legacy_record("before", "vm-1", &[("p1", 2)]);
    let scene = cloud(&[("vm-1", "worker-1")]).remembers(legacy);
    assert_eq!(ids(&scene.port("vm-1", port("p1", 1)).plan()), [("p1", 0)]);
}

#[test]
fn ports_over_the_limit_are_counted_and_their_down_status_is_nobodys_concern() {
    let down =
        |number: u8| Port { status: "DOWN".into(), ..port(&format!("p{number:02}"), number) };
    let scene = (0..12)
        .map(down)
        .fold(cloud(&[("vm-1", "worker-1")]), |scene, port| scene.port("vm-1", port));
    let plan = scene.plan();
    assert_eq!(plan.nodes[0].over_limit, 2);
    let left_out: Vec<_> =
        plan.left_out.iter().map(|port| (&*port.port_id, port.why.clone())).collect();
    assert_eq!(left_out, ["p10", "p11"].map(|id| (id, Unusable::OverLimit)));
    let sent: Vec<&str> = ids(&plan).iter().map(|(port_id, _)| *port_id).collect();
    assert_eq!(plan.nodes[0].down_ports, sent);
}

const UUID: &str = "0a1b2c3d-0000-4000-8000-000000000001";

#[test]
fn a_name_in_place_of_an_id_and_a_vm_without_any_port_are_hinted_at_once_each() {
    let scene = cloud(&[(UUID, "worker-1"), ("worker-2", "worker-2")]);
    let plan = scene.vm("worker-3", ServerName::Unknown).plan();
    assert_eq!(
        plan.hints,
        [
            "hint: 2 values of vmNames without the form of a UUID (worker-2, worker-3): it takes \
             ids of VMs, not names"
                .to_owned(),
            format!(
                "hint: 1 VM without any port ({UUID}): ports of other projects than project-1 \
                 don't count"
            ),
        ]
    );
    let elsewhere = Port { network_id: "other".into(), ..port("p1", 1) };
    let plan = cloud(&[(UUID, "worker-1")]).port(UUID, elsewhere).plan();
    assert_eq!((plan.without_ports.len(), plan.hints.len()), (1, 0));
}

#[test]
fn names_that_no_kubernetes_node_can_have_are_sent_and_hinted_at() {
    let names = [("vm-1", "Worker"), ("vm-2", "a_b"), ("vm-3", "a b"), ("vm-4", "a.b-1")];
    let scene = names.iter().zip(1..).fold(cloud(&names), |scene, ((vm_id, name), number)| {
        scene.port(vm_id, port(name, number))
    });
    let plan = scene.plan();
    assert_eq!(plan.nodes.len(), 4);
    let expected = "hint: 3 node names impossible in Kubernetes (Worker, a b, a_b): it allows \
                    lower-case letters, digits, '-' and '.'";
    assert_eq!(plan.hints, [expected]);
}

#[test]
fn names_of_one_target_that_differ_only_in_case_are_hinted_at() {
    let scene = || cloud(&[("vm-1", "Worker")]).port("vm-1", port("p1", 1));
    let expected = "hint: 2 node names with a difference only in case (Worker, worker): \
                    Kubernetes allows lower-case letters only";
    let plan = scene().vm("vm-2", ServerName::Known(Some("worker".to_owned())));
    assert_eq!(plan.port("vm-2", port("p2", 2)).plan().hints, [expected]);
    assert_eq!(scene().remembers(record("worker", "vm-9", &[("p9", 0)])).plan().hints, [expected]);
    let renamed = record("worker", "vm-1", &[("p1", 0)]);
    let elsewhere = record("worker", "vm-9", &[("p9", 0)]);
    let elsewhere = Record { accepted_by: Some("biz".to_owned()), ..elsewhere };
    for record in [renamed, elsewhere] {
        let hints = scene().remembers(record).plan().hints;
        assert!(hints.len() == 1 && hints[0].contains("impossible"), "{hints:?}");
    }
}

#[test]
fn a_port_that_neutron_could_not_bind_is_sent_and_hinted_at() {
    let unbound = Port { binding_failed: true, status: "DOWN".into(), ..port("p1", 1) };
    let elsewhere = Port { network_id: "other".into(), id: "p2".to_owned(), ..unbound.clone() };
    let scene = cloud(&[("vm-1", "worker-1")]).port("vm-1", unbound);
    let plan = scene.port("vm-1", elsewhere).plan();
    assert_eq!(plan.nodes[0].config.interfaces.len(), 1);
    assert_eq!(plan.hints.len(), 1);
    assert!(plan.hints[0].starts_with("hint: 1 port with binding_failed (p1 of worker-1): "));
}

/// The object, delivered by the operator itself.
fn in_cluster() -> Spec {
    let cluster = ClusterRef { name: "-".to_owned(), kubeconfig: None };
    Spec { destination: Destination::Kubernetes(cluster), ..spec() }
}

#[test]
fn ports_of_a_node_without_a_record_keep_the_ids_that_the_cluster_gives_their_macs() {
    let scene = || {
        let scene = cloud(&[("vm-1", "worker-1")]).port("vm-1", port("p1", 1));
        let scene = scene.port("vm-1", port("p2", 2)).port("vm-1", port("p3", 3));
        let mac = |number| port("any", number).mac_address.to_ascii_lowercase();
        let told = BTreeMap::from([(mac(1), 4), (mac(2), 0), ("of another port".to_owned(), 1)]);
        Scene { cluster_ids: BTreeMap::from([("worker-1".to_owned(), told)]), ..scene }
    };
    assert_eq!(ids(&scene().plan_of(&in_cluster())), [("p2", 0), ("p3", 1), ("p1", 4)]);
    let recorded = scene().remembers(record("worker-1", "vm-1", &[("p1", 2)]));
    assert_eq!(ids(&recorded.plan_of(&in_cluster())), [("p2", 0), ("p3", 1), ("p1", 2)]);
    let renamed = scene().remembers(record("worker-9", "vm-1", &[("p3", 0)]));
    assert_eq!(ids(&renamed.plan_of(&in_cluster())), [("p3", 0), ("p1", 1), ("p2", 2)]);
}

#[test]
fn what_a_cluster_can_not_have_is_left_out_and_named() {
    let scene = cloud(&[("vm-1", "Worker_1"), ("vm-2", "worker-2")]);
    let scene = scene.vm("vm-3", ServerName::Known(None)).vm("vm-4", ServerName::Unknown);
    let scene = (1..=4).fold(scene, |scene, number| {
        scene.port(&format!("vm-{number}"), port(&format!("p{number}"), number))
    });
    let plan = scene.plan_of(&in_cluster());
    assert_eq!(node_names(&plan), ["worker-2"]);
    assert_eq!(plan.impossible_names, ["Worker_1"]);
    assert_eq!(plan.nameless, ["vm-3", "vm-4"]);
    assert!(plan.by_id.is_empty() && plan.hints.is_empty(), "{plan:?}");
    assert_eq!(scene.plan_of(&spec()).nodes.len(), 4, "Viola decides itself");
}
