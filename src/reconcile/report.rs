//! The status of an object after a pass: reason, message and conditions
//! (docs/behaviour.md#status). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::memory::APPROVAL;
use super::plan::{Plan, Unconfirmed, Unusable};
use crate::clock::{Now, to_seconds_text};
use crate::cloud::Step;
use crate::cloud::answer::shortened;
use crate::resources::{
    APPROVE_ANNOTATION, Condition, DownPortRetry, Hold, ObjectKey, OpenstackConfig, Status,
};
use crate::targets::{Delivery, Kept};

/// Names listed in a message before the rest is only counted.
const NAMES_SHOWN: usize = 5;
/// Different answers of a service in one message, which are longer than names.
const ANSWERS_SHOWN: usize = 3;
/// Characters of a message; a status is read in a terminal.
const MESSAGE_LIMIT: usize = 1_500;
/// Characters of all problems in a message, so that what went well is seen too.
const PROBLEMS_LIMIT: usize = 1_200;
/// Characters of one answer among the problems, or of a note.
const ANSWER_LIMIT: usize = 300;

/// Type and reason of the condition of a paused object.
pub const PAUSED: &str = "Paused";

/// Makes of the names the enum, the list of all, and the text of each.
macro_rules! reasons {
    ($($name:ident),*) => {
        /// Reasons of the Ready condition; dashboards match on their names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Reason { $($name),* }

        impl Reason {
            /// Every reason there is, in the order of docs/behaviour.md#ready-reasons.
            pub const ALL: [Reason; [$(Reason::$name),*].len()] = [$(Reason::$name),*];

            /// The word in the condition.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name)),* }
            }
        }
    };
}

reasons! {
    Synced, NoChange, ConfigError, ContrabassError, KeystoneError, NeutronEndpointError,
    NeutronPortError, SubnetRequired, NeutronSubnetError, SubnetNotFound, SubnetNotUnique, NovaError,
    NodeConflict, ViolaPostError, DeliveryError, ChangeHeld, MemoryLost
}

impl Reason {
    /// Is the object as it should be?
    pub fn is_success(self) -> bool {
        matches!(self, Reason::Synced | Reason::NoChange)
    }
}

impl From<Step> for Reason {
    fn from(step: Step) -> Reason {
        match step {
            Step::Identity => Reason::ConfigError,
            Step::Contrabass => Reason::ContrabassError,
            Step::Keystone => Reason::KeystoneError,
            Step::NeutronEndpoint => Reason::NeutronEndpointError,
            Step::Subnet => Reason::NeutronSubnetError,
            Step::SubnetNotFound => Reason::SubnetNotFound,
            Step::SubnetNotUnique => Reason::SubnetNotUnique,
            Step::Ports => Reason::NeutronPortError,
            Step::Nova => Reason::NovaError,
        }
    }
}

/// Reason and message of the Ready condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The word.
    pub reason: Reason,
    /// The sentence.
    pub message: String,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready { reason: Reason::ConfigError, message: String::new() }
    }
}

/// A node that another object manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The node.
    pub node_name: String,
    /// The older object.
    pub manager: ObjectKey,
    /// The VMs that have the node's name, those of both objects.
    pub vm_ids: BTreeSet<String>,
}

/// What a pass did for one object whose answers were whole.
pub struct Summary<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// Nodes left to older objects.
    pub conflicts: &'a [Conflict],
    /// How many nodes the object manages, but for those that are held.
    pub nodes: usize,
    /// What is held, and how to approve it.
    pub held: Option<String>,
    /// What was sent, and what became of it.
    pub delivery: &'a Delivery,
    /// The operator itself writes into the cluster.
    pub by_kubernetes: bool,
    /// Of the accepted nodes, how many had been sent before just the same.
    pub again: usize,
}

/// The Ready condition after a pass that read everything it needed. What went wrong comes first in the
/// message; what went well and what was left out follow.
pub fn ready(summary: &Summary<'_>) -> Ready {
    let Summary { plan, conflicts, nodes, held, delivery, by_kubernetes, again } = summary;
    let problems = shortened(&problems(summary).join("; "), PROBLEMS_LIMIT);
    let mut parts = Vec::from_iter(Some(problems).filter(|problems| !problems.is_empty()));
    let sent = delivery.accepted.len();
    let refused: usize = delivery.problems.iter().map(|problem| problem.nodes.len()).sum();
    let refused = refused + delivery.kept.len();
    let well = nodes.saturating_sub(refused);
    let reason = if !delivery.problems.is_empty() {
        if *by_kubernetes { Reason::DeliveryError } else { Reason::ViolaPostError }
    } else if held.is_some() {
        Reason::ChangeHeld
    } else if !conflicts.is_empty() || !delivery.kept.is_empty() || !plan.duplicate_names.is_empty()
    {
        Reason::NodeConflict
    } else if !plan.unreadable.is_empty() {
        Reason::ConfigError
    } else if !plan.unresolved.is_empty() {
        Reason::NovaError
    } else if sent > 0 {
        Reason::Synced
    } else {
        Reason::NoChange
    };
    if well > 0 || (refused == 0 && held.is_none()) {
        let mut done = match sent {
            0 => format!("{} unchanged", count(well, "node")),
            sent if sent == well => format!("synced {}", count(well, "node")),
            sent => format!("synced {}, {sent} of them sent", count(well, "node")),
        };
        if *again > 0 {
            let _ = write!(done, " ({again} again without a change)");
        }
        parts.push(done);
    }
    if !plan.by_id.is_empty() {
        let vms = count(plan.by_id.len(), "VM");
        let go = if plan.by_id.len() == 1 { "goes by its id" } else { "go by their ids" };
        parts.push(format!("{vms} unknown to Nova {go} ({})", listed(&plan.by_id)));
    }
    parts.extend(remembered(&plan.remembered));
    parts.extend(stuck(plan));
    let left_out = left_out(plan);
    if !left_out.is_empty() {
        parts.push(format!("left out: {}", left_out.join(", ")));
    }
    let renamed = plan.renamed.iter();
    let renamed = renamed.map(|(before, now)| format!("{before} is now called {now}"));
    if !plan.renamed.is_empty() {
        let renamed = listed(&renamed.collect::<Vec<_>>());
        parts.push(format!("{renamed}; what was sent before stays at the target"));
    }
    if !plan.former.is_empty() {
        let what = "no longer in vmNames, unchanged at the target and in the inventory";
        parts.push(format!("{what}: {}", listed(&plan.former)));
    }
    parts.extend(plan.hints.iter().cloned());
    Ready { reason, message: limited(&parts.join("; ")) }
}

/// Why nothing is sent for an object whose records are lost.
pub(crate) fn memory_lost(object: &OpenstackConfig) -> Ready {
    let ObjectKey { namespace, name } = &object.key;
    let used = match object.approve.as_deref() {
        Some(APPROVAL) => " (that value was used before, remove it first)",
        _ => "",
    };
    let message = format!(
        "the inventory has no record of the object's nodes, so nothing is sent: their ports could get \
         other interface ids, and live network cards other names. Restore the inventory \
         (docs/operations.md#restore). Or compare multinic-operator plan {namespace}/{name} with what \
         the nodes have, and approve it: kubectl -n {namespace} annotate osc {name} \
         {APPROVE_ANNOTATION}={APPROVAL}{used}"
    );
    Ready { reason: Reason::MemoryLost, message }
}

fn problems(summary: &Summary<'_>) -> Vec<String> {
    let Summary { plan, conflicts, held, delivery, by_kubernetes, .. } = summary;
    let refused = delivery.problems.iter().map(|problem| {
        let message = shortened(&problem.message, ANSWER_LIMIT);
        format!("{message} (not accepted: {})", listed(&problem.nodes))
    });
    let duplicates = plan.duplicate_names.iter().map(|(name, vm_ids)| {
        format!("VMs {} share the node name {name:?}, none of them is sent", listed(vm_ids))
    });
    let unreadable = plan.unreadable.iter().map(|(node_name, why)| {
        format!("node {node_name} isn't sent: {}", shortened(why, ANSWER_LIMIT))
    });
    let conflicts = conflicts.iter().map(|Conflict { node_name, manager, vm_ids }| {
        let text = format!("node {node_name} is managed by the older OpenstackConfig {manager}");
        let vm_ids = Vec::from_iter(vm_ids.iter().cloned());
        match vm_ids.len() {
            0 | 1 => text,
            _ => format!("{text}, VMs {} share its name", listed(&vm_ids)),
        }
    });
    let unresolved = by_reason(plan.unresolved.iter().map(|(vm_id, why)| (&**why, &**vm_id)));
    let unresolved = unresolved.into_iter().map(|(message, vm_ids)| {
        let message = shortened(message, ANSWER_LIMIT);
        format!("{message} (left out, their names aren't known: {})", listed(&vm_ids))
    });
    let kept = delivery.kept.iter().map(|Kept { node_name, manager }| {
        format!(
            "node {node_name} is managed by the OpenstackConfig {manager}, by the annotation of its \
             MultiNicNodeConfig"
        )
    });
    let mut problems = Vec::from_iter(held.clone());
    let of = if *by_kubernetes { "the cluster" } else { "Viola" };
    problems.extend(few_of(
        ANSWERS_SHOWN,
        refused.collect(),
        &format!("more such answers of {of}"),
    ));
    problems.extend(few(kept.collect(), "more nodes are managed by other objects"));
    problems.extend(few(duplicates.collect(), "more names are shared by several VMs"));
    problems.extend(few(conflicts.collect(), "more nodes are managed by older objects"));
    problems.extend(few(unreadable.collect(), "more nodes whose records can't be read"));
    problems.extend(few_of(ANSWERS_SHOWN, unresolved.collect(), "more such answers of Nova"));
    problems
}

/// What is said of each reason, ordered.
fn by_reason<'a>(
    items: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<&'a str, Vec<String>> {
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (reason, item) in items {
        reasons.entry(reason).or_default().insert(item);
    }
    let owned = |items: BTreeSet<&str>| items.into_iter().map(str::to_owned).collect();
    reasons.into_iter().map(|(reason, items)| (reason, owned(items))).collect()
}

/// Which nodes go by a name that Nova doesn't confirm, and why, a text for each reason.
pub fn remembered(names: &[Unconfirmed]) -> Vec<String> {
    let reasons = by_reason(names.iter().map(|name| (&*name.why, &*name.node_name)));
    let text = |(why, nodes): (&str, Vec<String>)| {
        let (what, why) = (count(nodes.len(), "node"), shortened(why, ANSWER_LIMIT));
        let go = if nodes.len() == 1 { "goes by its" } else { "go by their" };
        format!("{what} {go} last known name ({}): {why}", listed(&nodes))
    };
    few_of(ANSWERS_SHOWN, reasons.into_iter().map(text).collect(), "more such answers of Nova")
}

fn stuck(plan: &Plan) -> Vec<String> {
    let text = |(node, port): &(String, String)| format!("port {port} of {node}");
    let ports: Vec<String> = plan.stuck.iter().map(text).collect();
    if ports.is_empty() {
        return Vec::new();
    }
    vec![format!("BUILD for over an hour, unchanged so long: {}", listed(&ports))]
}

fn left_out(plan: &Plan) -> Vec<String> {
    let mut parts = Vec::new();
    if !plan.absent.is_empty() {
        let vms = count(plan.absent.len(), "VM");
        let absent = listed(&plan.absent);
        parts.push(format!("{vms} unknown to Nova and without ports in the subnet ({absent})"));
    }
    if !plan.without_ports.is_empty() {
        let vms = count(plan.without_ports.len(), "VM");
        parts.push(format!("{vms} without ports in the subnet ({})", listed(&plan.without_ports)));
    }
    if !plan.nameless.is_empty() {
        let vms = count(plan.nameless.len(), "VM");
        parts.push(format!("{vms} whose name nobody knows ({})", listed(&plan.nameless)));
    }
    if !plan.impossible_names.is_empty() {
        let names = count(plan.impossible_names.len(), "node name");
        let listed = listed(&plan.impossible_names);
        parts.push(format!("{names} impossible in Kubernetes ({listed})"));
    }
    let superseded = plan.superseded.iter().map(|Unconfirmed { node_name, vm_id, why }| {
        format!("VM {vm_id}, whose last known name {node_name} another VM has ({why})")
    });
    parts.extend(few(superseded.collect(), "more VMs whose names other VMs have"));
    let mut by_status: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for port in plan.left_out.iter().filter(|port| port.why == Unusable::Status) {
        *by_status.entry((&port.node_name, &port.status)).or_default() += 1;
    }
    let statuses = by_status
        .into_iter()
        .map(|((node, status), number)| format!("{} {status} on {node}", count(number, "port")));
    parts.extend(few(statuses.collect(), "more nodes with ports left out for their status"));
    let mut filtered: BTreeMap<String, usize> = BTreeMap::new();
    for port in &plan.left_out {
        let why = match &port.why {
            Unusable::TooOld => "older than the object".to_owned(),
            Unusable::UnknownAge => "of unknown age".to_owned(),
            Unusable::WithoutTag(tag) => format!("without tag {tag}"),
            _ => continue,
        };
        *filtered.entry(why).or_default() += 1;
    }
    let filtered =
        filtered.into_iter().map(|(why, number)| format!("{} {why}", count(number, "port")));
    parts.extend(few(filtered.collect(), "more reasons in spec.ports"));
    let over = plan.nodes.iter().filter(|node| node.over_limit > 0).map(|node| {
        let ports = count(node.over_limit, "port");
        format!("{ports} of {} over the limit of 10", node.config.node_name)
    });
    parts.extend(few(over.collect(), "more nodes with ports over the limit"));
    parts
}

/// What an Event says of nodes that were accepted. Equal sends have equal texts, so that they are
/// counted in one Event.
pub(crate) fn sent(nodes: &[String], target: &str) -> String {
    format!("{} accepted by {target}: {}", count(nodes.len(), "node"), listed(nodes))
}

/// `1 node`, `2 nodes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

pub(crate) fn listed(names: &[String]) -> String {
    few(names.to_vec(), "more").join(", ")
}

pub(super) fn few(items: Vec<String>, rest: &str) -> Vec<String> {
    few_of(NAMES_SHOWN, items, rest)
}

fn few_of(shown: usize, mut items: Vec<String>, rest: &str) -> Vec<String> {
    let more = items.len().saturating_sub(shown);
    items.truncate(shown);
    if more > 0 {
        items.push(format!("{more} {rest}"));
    }
    items
}

fn limited(message: &str) -> String {
    shortened(message, MESSAGE_LIMIT)
}

/// What goes into the status beside the Ready condition.
#[derive(Clone, Debug, Default)]
pub struct Report<'a> {
    /// The generation that was synced.
    pub generation: i64,
    /// Nodes computed; none if it didn't come to that.
    pub nodes: Option<u32>,
    /// The object is held because its records are lost.
    pub is_held: bool,
    /// Resends for DOWN ports.
    pub down_port_retry: Option<DownPortRetry>,
    /// Removals that are held, or approved and not accepted.
    pub hold: Option<Hold>,
    /// What is wrong although the sync went well, such as a full disk; empty if nothing is.
    pub notes: &'a [String],
}

/// The status of an object whose spec says `paused`: what its last sync came to, and that none follows.
pub fn paused(before: &Status, generation: i64, now: Now) -> Status {
    let time = to_seconds_text(now.wall);
    let condition = |kind: &str, status: &str, message: &str| Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: PAUSED.to_owned(),
        message: message.to_owned(),
        last_transition_time: time.clone(),
        observed_generation: generation,
    };
    let known = |kind: &str| before.condition(kind).cloned();
    let ready = known("Ready")
        .unwrap_or_else(|| condition("Ready", "Unknown", "paused before the first sync"));
    let message =
        "spec.paused is true: nothing is asked or sent, and the object's nodes stay its own";
    let paused = known(PAUSED).filter(|known| known.status == "True");
    let since = paused.map_or_else(|| time.clone(), |known| known.last_transition_time);
    let paused = Condition { last_transition_time: since, ..condition(PAUSED, "True", message) };
    Status {
        conditions: [Some(ready), known("Degraded"), Some(paused)].into_iter().flatten().collect(),
        observed_generation: Some(generation),
        ..before.clone()
    }
}

/// The whole status after a sync. `before` keeps what this sync has nothing to say about, and the
/// moment of each condition's last transition.
pub fn next(before: &Status, ready: &Ready, report: &Report<'_>, now: Now) -> Status {
    let success = ready.reason.is_success();
    // What is noted beside a long message must not be cut off.
    let mut message = limited(&ready.message);
    for note in report.notes {
        let _ = write!(message, "; note: {}", shortened(note, ANSWER_LIMIT));
    }
    let healthy = success && report.notes.is_empty();
    // Nodes of another spec have other records. A held object is recognised by its nodes.
    let is_of_generation = before.observed_generation == Some(report.generation) || report.is_held;
    let time = to_seconds_text(now.wall);
    let condition = |kind: &str, status: bool, reason: &str, message: &str| {
        let status = if status { "True" } else { "False" };
        let known = before.condition(kind).filter(|known| known.status == status);
        Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: known
                .map_or_else(|| time.clone(), |known| known.last_transition_time.clone()),
            observed_generation: report.generation,
        }
    };
    let degraded = if healthy {
        condition("Degraded", false, "Healthy", "")
    } else {
        condition("Degraded", true, "Error", &message)
    };
    Status {
        conditions: vec![condition("Ready", success, ready.reason.name(), &message), degraded],
        last_synced_at: if success { Some(time.clone()) } else { before.last_synced_at.clone() },
        last_error: if success { String::new() } else { message.clone() },
        down_port_retry: report.down_port_retry.clone(),
        hold: report.hold.clone(),
        observed_generation: Some(report.generation),
        nodes: report.nodes.or(before.nodes.filter(|_| is_of_generation)),
        ..before.clone()
    }
}
