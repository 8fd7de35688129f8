//! Which nodes must be sent (SPEC 5, step 11). Pure.

use jiff::Timestamp;

use super::plan::PlannedNode;
use crate::inventory::record::Record;

/// Why a node is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Viola was told something else, or nothing, or for another cluster.
    Changed,
    /// Somebody asked for it, or the interval of resends is over.
    Again,
    /// It has DOWN ports.
    DownPorts,
}

/// What makes unchanged nodes be sent again in this pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resend {
    /// Whatever was accepted up to this moment is sent again.
    pub accepted_until: Option<Timestamp>,
    /// Nodes with DOWN ports are sent again.
    pub down_ports: bool,
    /// The time of this pass.
    pub now: Timestamp,
}

/// Must the node be sent to the cluster behind `target`?
pub fn why(
    node: &PlannedNode,
    record: Option<&Record>,
    target: &str,
    resend: Resend,
) -> Option<Why> {
    let Some(record) = record else { return Some(Why::Changed) };
    // Files of the replaced program don't say for whom a record was accepted; it sent by the same
    // rule, so they count as accepted for whom the object names now.
    let same_target = record.accepted_by.as_deref().is_none_or(|accepted| accepted == target);
    if record.config != node.config || !same_target {
        return Some(Why::Changed);
    }
    // A record from the future is older than it says: the clock was set back since.
    let accepted_by = |moment| record.updated_at <= moment || record.updated_at > resend.now;
    if resend.accepted_until.is_some_and(accepted_by) {
        return Some(Why::Again);
    }
    (resend.down_ports && !node.down_ports.is_empty()).then_some(Why::DownPorts)
}
