//! Objects whose nodes were sent and of which the inventory has no record.

use super::passes::pass;
use super::{inventory, object, owner, port, record, subnet};
use std::sync::Arc;

use crate::cloud::fetch::{Answers, Vm};
use crate::cloud::nova::ServerName;
use crate::inventory::record::{Record, ReservedId};
use crate::reconcile::memory::{self, APPROVAL, Memory, is_approved, last_approved};
use crate::reconcile::{Lane, Work};
use crate::resources::{Condition, OpenstackConfig, Status};

/// An object with one VM, whose two nodes were computed at this generation.
fn synced(generation: i64, nodes: Option<u32>, observed: Option<i64>) -> OpenstackConfig {
    let status = Status { nodes, observed_generation: observed, ..Status::default() };
    OpenstackConfig { generation, status, ..object("edge", 0, &["vm-1"]) }
}

fn with_reason(reason: &str, object: OpenstackConfig) -> OpenstackConfig {
    let ready = Condition {
        kind: "Ready".to_owned(),
        status: "False".to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        last_transition_time: String::new(),
        observed_generation: 1,
    };
    let status = Status { conditions: vec![ready], ..object.status };
    OpenstackConfig { status, ..object }
}

/// The VM `vm-1` has the port `p1`.
fn memory_of(object: &OpenstackConfig, records: &[Record], may_renumber: bool) -> Memory {
    memory_of_work(object, false, records, may_renumber)
}

fn memory_of_work(
    object: &OpenstackConfig,
    is_held: bool,
    records: &[Record],
    may_renumber: bool,
) -> Memory {
    let ports = [port("p1", 1)];
    let name = ServerName::Known(Some("worker-1".to_owned()));
    let vms = vec![Vm { id: "vm-1", name: &name, ports: &ports }];
    let answers = Answers { subnets: vec![subnet()], vms };
    let pass = pass(Lane::Poll, &[Arc::new(object.clone())]);
    let work = Work { is_held: is_held || pass.work[0].is_held, ..pass.work[0].clone() };
    memory::of(&work, &answers, &inventory(records), may_renumber)
}

#[test]
fn an_object_is_held_when_its_status_has_nodes_and_no_record_is_of_them() {
    let known = synced(3, Some(2), Some(3));
    assert_eq!(memory_of(&known, &[], false), Memory::Held);
    assert_eq!(memory_of(&known, &[], true), Memory::Renumbered);
    // Records of others say nothing of it, not even of a node of its name.
    let other = record("worker-1", "vm-9", &[("p9", 0)]);
    assert_eq!(memory_of(&known, &[other], false), Memory::Held);
}

#[test]
fn a_record_of_a_vm_or_a_port_is_memory_whoever_has_it() {
    let known = synced(3, Some(2), Some(3));
    let of_vm = Record { owner: Some(owner("other")), ..record("worker-1", "VM-1", &[]) };
    let of_port = record("worker-9", "vm-9", &[("P1", 0)]);
    let reserved_ids = vec![ReservedId { port_id: "p1".to_owned(), id: 4 }];
    let reserved = Record { reserved_ids, ..record("worker-9", "vm-9", &[]) };
    let unsent = Record { accepted_by: Some(String::new()), ..record("worker-1", "vm-1", &[]) };
    for record in [of_vm, of_port, reserved, unsent] {
        for may_renumber in [false, true] {
            let records = std::slice::from_ref(&record);
            assert_eq!(memory_of(&known, records, may_renumber), Memory::Kept, "{record:?}");
        }
    }
}

#[test]
fn an_object_without_nodes_or_with_a_changed_spec_was_not_sent_as_it_is() {
    let statuses = [
        ("new", synced(1, None, None)),
        ("of the Go operator", with_reason("Synced", synced(1, None, None))),
        ("no node", synced(1, Some(0), Some(1))),
        ("changed since", synced(2, Some(2), Some(1))),
        ("no generation", synced(1, Some(2), None)),
    ];
    for (what, object) in statuses {
        assert_eq!(memory_of(&object, &[], false), Memory::Kept, "{what}");
    }
}

#[test]
fn a_held_object_stays_held_when_its_spec_is_changed() {
    let changed = with_reason("MemoryLost", synced(2, Some(2), Some(1)));
    assert_eq!(memory_of(&changed, &[], false), Memory::Held);
    assert_eq!(memory_of(&changed, &[record("worker-1", "vm-1", &[])], false), Memory::Kept);
    // A failure has replaced the reason since.
    let failed = with_reason("KeystoneError", synced(2, None, Some(1)));
    assert_eq!(memory_of_work(&failed, true, &[], false), Memory::Held);
    assert_eq!(memory_of_work(&failed, true, &[], true), Memory::Renumbered);
    let restored = [record("worker-1", "vm-1", &[])];
    assert_eq!(memory_of_work(&failed, true, &restored, false), Memory::Kept);
}

#[test]
fn an_approval_counts_until_it_is_used_and_again_once_it_was_removed() {
    let annotated = |value: Option<&str>| {
        let approve = value.map(str::to_owned);
        OpenstackConfig { approve, ..synced(1, Some(2), Some(1)) }
    };
    let used = Status { last_approved: Some(APPROVAL.to_owned()), ..Status::default() };
    let unused = Status::default();
    let (approved, bare) = (annotated(Some(APPROVAL)), annotated(None));
    assert!(is_approved(&approved, &unused) && !is_approved(&approved, &used));
    assert!(!is_approved(&bare, &unused) && !is_approved(&annotated(Some("yes")), &unused));

    let after =
        |object, before, is_planned| last_approved(object, before, is_planned, None).is_some();
    assert!(after(&approved, &unused, true), "used up");
    assert!(!after(&approved, &unused, false), "a pass that came to no plan uses nothing up");
    assert!(after(&approved, &used, false), "it stays used up");
    assert!(!after(&bare, &used, true) && !after(&annotated(Some("yes")), &used, true));
}
