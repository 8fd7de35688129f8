//! Lost memory (docs/behaviour.md#lost-memory). Pure.
//!
//! The status of an object says that it has nodes, and the inventory has no record of any of them. The
//! ids that their ports have are unknown: numbered as on first sight, live network cards may change
//! their names.

use std::collections::BTreeSet;

use crate::cloud::fetch::Answers;
use crate::inventory::contents::Inventory;
use crate::reconcile::Work;
use crate::reconcile::report::Reason;
use crate::resources::{OpenstackConfig, Status};

/// The value of [`APPROVE_ANNOTATION`](crate::resources::APPROVE_ANNOTATION) that lets ports be
/// numbered as on first sight.
pub const APPROVAL: &str = "memory-lost";

/// What the inventory knows of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// What was sent for it, if anything was.
    #[default]
    Kept,
    /// Nothing, and nothing is sent until a person decides.
    Held,
    /// Nothing, and its ports are numbered as on first sight.
    Renumbered,
}

/// Decides for one object. Statuses of the Go operator have no `nodes`: it numbered ports as on first
/// sight each time, so nothing is lost with its records.
pub fn of(work: &Work, answers: &Answers<'_>, inventory: &Inventory, may_renumber: bool) -> Memory {
    let OpenstackConfig { status, generation, .. } = &*work.object;
    let has_nodes = status.observed_generation == Some(*generation)
        && status.nodes.is_some_and(|nodes| nodes > 0);
    let ports = answers.vms.iter().flat_map(|vm| vm.ports);
    // A held object stays held when its spec changes, whatever its status says by then.
    let is_lost = (work.is_held || has_nodes)
        && answers.vms.iter().all(|vm| inventory.by_vm(vm.id).is_empty())
        && !has_port_of(inventory, &ports.map(|port| port.id.to_ascii_lowercase()).collect());
    match (is_lost, may_renumber) {
        (false, _) => Memory::Kept,
        (true, true) => Memory::Renumbered,
        (true, false) => Memory::Held,
    }
}

/// Has any record one of these ports? Looks at all records, but only where none is of the VMs.
fn has_port_of(inventory: &Inventory, ports: &BTreeSet<String>) -> bool {
    inventory.iter().any(|stored| {
        let sent = stored.record.config.interfaces.iter().map(|one| &one.port_id);
        let reserved = stored.record.reserved_ids.iter().map(|kept| &kept.port_id);
        sent.chain(reserved).any(|port_id| ports.contains(&port_id.to_ascii_lowercase()))
    })
}

/// Does the status say that the object is held? After a start nothing else is known of it. A pass that
/// failed since has another reason, and keeps the hold.
pub(crate) fn is_held(status: &Status) -> bool {
    status.condition("Ready").is_some_and(|ready| ready.reason == Reason::MemoryLost.name())
        || status.hold.as_ref().is_some_and(|hold| hold.hash == APPROVAL)
}

/// Does the annotation approve, and was that approval not used before?
pub(crate) fn is_approved(object: &OpenstackConfig, status: &Status) -> bool {
    let approval = Some(APPROVAL);
    object.approve.as_deref() == approval && status.last_approved.as_deref() != approval
}

/// `status.lastApproved` after a pass: this approval is used up by a pass that isn't held, whether or
/// not it was needed; that of removals once they were accepted (`used`). Both are forgotten once the
/// annotation is another one.
pub(crate) fn last_approved(
    object: &OpenstackConfig,
    before: &Status,
    is_planned: bool,
    used: Option<&String>,
) -> Option<String> {
    let approve = object.approve.as_ref()?;
    let is_used = (is_planned && approve == APPROVAL)
        || used == Some(approve)
        || before.last_approved.as_ref() == Some(approve);
    is_used.then(|| approve.clone())
}
