//! What the agent says of all nodes of an object: the condition `Configured`, its counts and columns.

use std::time::Duration;

use jiff::Timestamp;

use super::state::{NodeState, State, in_words};
use crate::clock::{Now, to_seconds_text};
use crate::cloud::answer::shortened;
use crate::reconcile::report::{PAUSED, count, listed};
use crate::resources::{Condition, Status};

/// The type of the condition.
pub const CONFIGURED: &str = "Configured";
/// The types of our other conditions.
const OTHERS: [&str; 3] = ["Ready", "Degraded", PAUSED];
/// So long after a delivery the agent must have said something about it.
pub const REPORT_LIMIT: Duration = Duration::from_secs(600);

/// Characters of what is said of one node.
const WORDS_LIMIT: usize = 200;

/// Reasons of the condition; the first one that holds counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It failed on a node.
    AgentFailed,
    /// The cluster can't be read.
    Unreachable,
    /// It said nothing of a node for [`REPORT_LIMIT`].
    NotReported,
    /// It has still to finish some nodes.
    InProgress,
    /// Each node is as it was sent.
    AllConfigured,
}

impl Reason {
    /// The word in the condition.
    pub fn name(self) -> &'static str {
        match self {
            Reason::AgentFailed => "AgentFailed",
            Reason::Unreachable => "Unreachable",
            Reason::NotReported => "NotReported",
            Reason::InProgress => "InProgress",
            Reason::AllConfigured => "AllConfigured",
        }
    }

    fn status(self) -> &'static str {
        match self {
            Reason::AgentFailed => "False",
            Reason::AllConfigured => "True",
            Reason::Unreachable | Reason::NotReported | Reason::InProgress => "Unknown",
        }
    }
}

/// One node of an object, as far as it was accepted.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// The node.
    pub name: String,
    /// Nova's id of its VM.
    pub instance_id: String,
    /// What its cluster says.
    pub state: NodeState,
    /// Since when what was sent last is known to be without a word of the agent.
    pub silent_since: Option<Timestamp>,
    /// What comes of it that the cluster has something else; empty if it has what was sent.
    pub drift: String,
}

impl NodeReport {
    /// Has the agent been silent about it for too long?
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.overdue_at().is_some_and(|at| at <= now)
    }

    /// When it has been silent for too long.
    pub fn overdue_at(&self) -> Option<Timestamp> {
        self.silent_since?.checked_add(REPORT_LIMIT).ok()
    }
}

/// What is written of it to an object's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The condition's.
    pub reason: Reason,
    /// The condition's.
    pub message: String,
    /// The cluster was read, so the numbers say something.
    pub is_counted: bool,
    /// Nodes that the object has.
    pub nodes: usize,
    /// Nodes that are as they were sent.
    pub configured: usize,
    /// Nodes on which the agent failed.
    pub failed: usize,
    /// Nodes about which it has been silent for too long.
    pub overdue: usize,
}

/// The outcome for an object with so many nodes, of which these were accepted. `trouble` is why the
/// cluster can't be read.
pub fn configured(
    nodes: usize,
    reports: &[NodeReport],
    trouble: Option<&str>,
    now: Timestamp,
) -> Configured {
    let of = |state: State| reports.iter().filter(move |node| node.state.state == state);
    let overdue: Vec<_> = reports.iter().filter(|node| node.is_overdue(now)).collect();
    let nodes = nodes.max(reports.len());
    let (configured, failed) = (of(State::Configured).count(), of(State::Failed).count());
    let mut parts = Vec::new();
    let reason = if failed > 0 {
        let failures: Vec<String> = of(State::Failed).map(failure).collect();
        parts.push(format!("the agent failed on {}: {}", count(failed, "node"), listed(&failures)));
        Reason::AgentFailed
    } else if trouble.is_some() {
        Reason::Unreachable
    } else if !overdue.is_empty() {
        Reason::NotReported
    } else if nodes == 0 || configured < nodes {
        Reason::InProgress
    } else {
        Reason::AllConfigured
    };
    if let Some(trouble) = trouble {
        parts.push(format!("the cluster can't be read: {}", shortened(trouble, WORDS_LIMIT)));
    }
    if !overdue.is_empty() {
        let names: Vec<String> = overdue.iter().map(|node| node.name.clone()).collect();
        let nodes = count(names.len(), "node");
        parts.push(format!(
            "no word of the agent for ten minutes about {nodes} as sent: {} (does it run there, and \
             is the VM's id the node's systemUUID?)",
            listed(&names)
        ));
    }
    parts.push(match nodes {
        0 => "no node was accepted yet".to_owned(),
        _ if configured == nodes => format!("{} configured", count(nodes, "node")),
        _ => format!("{configured} of {} configured", count(nodes, "node")),
    });
    let drifts: Vec<String> = reports.iter().filter_map(drift).collect();
    if !drifts.is_empty() {
        parts.push(listed(&drifts));
    }
    let (message, overdue) = (parts.join("; "), overdue.len());
    Configured { reason, message, is_counted: true, nodes, configured, failed, overdue }
}

/// What failed on a node, in the agent's words.
fn failure(node: &NodeReport) -> String {
    let failed = node.state.interfaces.iter().filter(|one| one.state == State::Failed);
    let failed = failed.map(|one| match in_words(&one.reason, &one.message) {
        words if words.is_empty() => format!("{} ({})", one.name, one.mac_address),
        words => format!("{} ({}) {words}", one.name, one.mac_address),
    });
    let mut failed: Vec<String> = failed.collect();
    if failed.is_empty() {
        failed.push(node.state.words.clone());
    }
    let failed = failed.join(", ");
    shortened(format!("{} {failed}", node.name).trim_end(), WORDS_LIMIT)
}

fn drift(node: &NodeReport) -> Option<String> {
    let text = format!("{} {}", node.name, node.drift);
    (!node.drift.is_empty()).then(|| shortened(&text, WORDS_LIMIT))
}

/// What is known of an object's agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// Its cluster wasn't looked at yet: what the status said before holds.
    #[default]
    NotYet,
    /// There is nothing to read the cluster with.
    Nothing,
    /// This.
    This(Configured),
}

/// The status with what is known of the agent.
pub fn put(mut status: Status, before: &Status, known: &Known, now: Now) -> Status {
    // What others may have added stays theirs.
    status.conditions.retain(|condition| OTHERS.contains(&condition.kind.as_str()));
    let keep = |status: &mut Status| {
        status.configured.clone_from(&before.configured);
        (status.configured_nodes, status.failed_nodes) =
            (before.configured_nodes, before.failed_nodes);
    };
    let condition = match known {
        Known::NotYet => {
            keep(&mut status);
            before.condition(CONFIGURED).cloned()
        }
        Known::Nothing => {
            status.configured = None;
            (status.configured_nodes, status.failed_nodes) = (None, None);
            None
        }
        Known::This(known) => {
            if known.is_counted {
                let number = |count: usize| Some(u32::try_from(count).unwrap_or(u32::MAX));
                status.configured = Some(format!("{}/{}", known.configured, known.nodes));
                (status.configured_nodes, status.failed_nodes) =
                    (number(known.configured), number(known.failed));
            } else {
                keep(&mut status);
            }
            Some(known.condition(before, status.observed_generation.unwrap_or_default(), now))
        }
    };
    status.conditions.extend(condition);
    status
}

impl Configured {
    fn condition(&self, before: &Status, observed_generation: i64, now: Now) -> Condition {
        let status = self.reason.status();
        let same = before.condition(CONFIGURED).filter(|it| it.status == status);
        let since = same.map(|same| same.last_transition_time.clone());
        Condition {
            kind: CONFIGURED.to_owned(),
            status: status.to_owned(),
            reason: self.reason.name().to_owned(),
            message: self.message.clone(),
            last_transition_time: since.unwrap_or_else(|| to_seconds_text(now.wall)),
            observed_generation,
        }
    }
}
