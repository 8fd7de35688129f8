//! Mass removals (docs/behaviour.md#mass-removals): an answer of Neutron or a spec may be wrong and look
//! right, and then many nodes would give up their cards at once. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::plan::{Plan, PlannedNode};
use super::report::{count, few};
use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::node_config::hexadecimal;
use crate::resources::{
    self, APPROVE_ANNOTATION, OBJECT_CREATION, ObjectKey, OpenstackConfig, Spec,
};

/// Removals that were sent so long ago still count: slices and scripts are small.
const RECENT: Duration = Duration::from_secs(600);

/// What one node would lose that it was sent, and which ports it may not get without being asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Removal {
    /// The node.
    pub node_name: String,
    /// Ids of ports that it was sent and that would be missing, sorted.
    pub ports: Vec<String>,
    /// Ports that would get another id: port, old id, new id; sorted.
    pub renumbered: Vec<(String, u8, u8)>,
    /// Ports older than the object that a node of the Go operator would get, sorted.
    pub added: Vec<String>,
}

/// What is held of an object, or approved and not sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Names what would be lost; as the value of an annotation it approves it.
    pub hash: String,
    /// Of the nodes that could be sent.
    pub removals: Vec<Removal>,
    /// Nodes that count as losing something: these, those without any interface left, and those whose
    /// removals were sent within [`RECENT`].
    pub losing: usize,
    /// Nodes of the object that the target has.
    pub known: usize,
    /// A person has approved it, so it is sent.
    pub is_approved: bool,
}

/// What decides about the removals of one object.
pub struct Question<'a> {
    /// What the object asks for.
    pub spec: &'a Spec,
    /// What its nodes should have.
    pub plan: &'a Plan,
    /// Names of the nodes that the object manages.
    pub own: &'a BTreeSet<String>,
    /// What was accepted before.
    pub inventory: &'a Inventory,
    /// [`Work::removed_at`](super::Work::removed_at).
    pub removed_at: &'a BTreeMap<String, Duration>,
    /// Hashes that a person has approved.
    pub approvals: &'a [String],
    /// Held are removals of more nodes than this percentage; none: never.
    pub limit: Option<u8>,
    /// The time of the pass.
    pub uptime: Duration,
}

/// What would be lost, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removals {
    /// Nodes that would lose something and could be sent.
    pub nodes: BTreeSet<String>,
    /// What is to be held, or is approved; none if all may be sent.
    pub hold: Option<Hold>,
    /// How many nodes have no interface left, if that is all of the nodes that the target has.
    pub all_emptied: usize,
}

impl Question<'_> {
    /// Decides for one object.
    pub fn decide(&self) -> Removals {
        let records = self.records();
        let own = self.plan.nodes.iter().filter(|node| self.own.contains(&node.config.node_name));
        let changes: Vec<Removal> =
            own.filter_map(|node| removal(records.get(&vm_of(node)).copied(), node)).collect();
        let removals = changes.iter().filter(|change| change.is_removal());
        let vm_ids = self.plan.without_ports.iter().chain(&self.plan.absent);
        let emptied: Vec<&Record> =
            vm_ids.filter_map(|id| records.get(&id.to_ascii_lowercase()).copied()).collect();
        let all_emptied = if emptied.len() == records.len() { emptied.len() } else { 0 };
        let nodes: BTreeSet<String> = removals.map(|it| it.node_name.clone()).collect();
        let recent = records.values().filter(|record| {
            let removed = self.removed_at.get(&record.node_name);
            removed.is_some_and(|at| self.uptime.saturating_sub(*at) < RECENT)
        });
        let others = emptied.into_iter().chain(recent.copied()).map(|record| &record.node_name);
        let losing = nodes.iter().chain(others).collect::<BTreeSet<&String>>().len();
        let (known, target) = (records.len(), self.spec.target());
        let is_mass = self.limit.is_some_and(|limit| {
            limit == 0 || (losing >= 2 && losing * 100 > usize::from(limit) * known)
        });
        let is_held = is_mass || self.approvals.contains(&hash(target, &changes));
        let mut removals = changes;
        removals.retain(|change| is_held || !change.added.is_empty());
        let hash = hash(target, &removals);
        let is_approved = self.approvals.contains(&hash);
        let hold = Hold { hash, removals, losing, known, is_approved };
        let hold = Some(hold).filter(|hold| !hold.removals.is_empty());
        Removals { nodes, hold, all_emptied }
    }

    /// The records that speak of what the target has of the object's VMs, by VM in lower case.
    fn records(&self) -> BTreeMap<String, &Record> {
        let Question { spec, plan, own, inventory, .. } = self;
        let of_others = plan.nodes.iter().filter(|node| !own.contains(&node.config.node_name));
        let of_others: BTreeSet<String> = of_others.map(vm_of).collect();
        let record = |vm_id: &String| {
            let vm_id = vm_id.to_ascii_lowercase();
            let records = inventory.by_vm(&vm_id).into_iter().map(|stored| &stored.record);
            let of_target = records.filter(|it| it.is_of(spec.target(), &spec.provider_id));
            let newest = of_target.max_by_key(|record| record.updated_at);
            let newest = newest.filter(|record| !record.config.interfaces.is_empty())?;
            (!of_others.contains(&vm_id)).then_some((vm_id, newest))
        };
        spec.vm_ids.iter().filter_map(record).collect()
    }
}

/// Nodes of which something was removed lately, and when, after these were accepted, too.
pub(crate) fn removed_at(
    before: &BTreeMap<String, Duration>,
    accepted: impl Iterator<Item = String>,
    uptime: Duration,
) -> BTreeMap<String, Duration> {
    let before = before.iter().filter(|(_, at)| uptime.saturating_sub(**at) < RECENT);
    let before = before.map(|(node, at)| (node.clone(), *at));
    before.chain(accepted.map(|node| (node, uptime))).collect()
}

impl Hold {
    /// The part of an approved hold that is left once these nodes were accepted.
    pub fn without(mut self, accepted: &BTreeSet<String>, target: &str) -> Option<Hold> {
        self.removals.retain(|removal| !accepted.contains(&removal.node_name));
        self.hash = hash(target, &self.removals);
        (!self.removals.is_empty()).then_some(self)
    }

    /// Does it keep this node from being sent?
    pub fn keeps(&self, node_name: &str) -> bool {
        !self.is_approved && self.removals.iter().any(|removal| removal.node_name == node_name)
    }

    /// What is held, why, and how it is approved.
    pub fn message(&self, object: &OpenstackConfig) -> String {
        let ObjectKey { namespace, name } = &object.key;
        let Hold { hash, removals, losing, known, .. } = self;
        let nodes = few(removals.iter().map(Removal::text).collect(), "more");
        let used = match object.approve.as_ref() == Some(hash) {
            true => " (that value was used before, remove it first)",
            false => "",
        };
        let lost = removals.iter().any(Removal::is_removal);
        let lost = lost.then(|| {
            format!(
                "{losing} of {} would lose ports or get other interface ids",
                count(*known, "node")
            )
        });
        let added = removals.iter().filter(|removal| !removal.added.is_empty()).count();
        let added = (added > 0).then(|| {
            let nodes = count(added, "node");
            format!(
                "{nodes} of the Go operator would get ports older than the object, which it left out \
                 (spec.ports and PORTS_CREATED_AFTER={OBJECT_CREATION} leave them out)"
            )
        });
        format!(
            "held: {}. If that is right, approve it: kubectl -n {namespace} annotate osc {name} \
             --overwrite {APPROVE_ANNOTATION}={hash}{used}; not sent: {}",
            lost.into_iter().chain(added).collect::<Vec<_>>().join("; "),
            nodes.join(", "),
        )
    }
}

impl Removal {
    fn text(&self) -> String {
        let ports = self.ports.iter().map(|port| format!("without port {port}"));
        let renumbered = self.renumbered.iter();
        let ids = renumbered.map(|(port, was, is)| format!("port {port} multinic{was} -> {is}"));
        let added = self.added.iter().map(|port| format!("with port {port}"));
        let all = ports.chain(ids).chain(added).collect();
        format!("{} ({})", self.node_name, few(all, "more").join(", "))
    }

    fn is_removal(&self) -> bool {
        !self.ports.is_empty() || !self.renumbered.is_empty()
    }
}

/// Hashes that a person has approved and that aren't used up: the annotation's, and one that was seen
/// before the annotation was taken off.
pub(crate) fn approvals(
    object: &OpenstackConfig,
    last_approved: Option<&String>,
    hold: Option<&resources::Hold>,
) -> Vec<String> {
    let annotation = object.approve.as_ref().filter(|hash| last_approved != Some(hash));
    let seen = hold.filter(|hold| hold.approved).map(|hold| &hold.hash);
    annotation.into_iter().chain(seen).cloned().collect()
}

fn vm_of(node: &PlannedNode) -> String {
    node.config.instance_id.to_ascii_lowercase()
}

/// What the node would lose of what its record says. Ids of files in which they count from 1 are not
/// what the node has.
fn removal(record: Option<&Record>, node: &PlannedNode) -> Option<Removal> {
    let (mut ports, mut renumbered) = (Vec::new(), Vec::new());
    let sent = record.iter().flat_map(|record| &record.config.interfaces);
    for sent in sent {
        let mut now = node.config.interfaces.iter();
        match now.find(|now| now.port_id.eq_ignore_ascii_case(&sent.port_id)) {
            None => ports.push(sent.port_id.to_ascii_lowercase()),
            Some(now)
                if now.id != sent.id
                    && record.is_some_and(|record| record.config.ids_are_ours()) =>
            {
                renumbered.push((sent.port_id.to_ascii_lowercase(), sent.id, now.id));
            }
            Some(_) => {}
        }
    }
    ports.sort_unstable();
    renumbered.sort_unstable();
    let node_name = node.config.node_name.clone();
    let mut added = node.older_ports.clone();
    added.sort_unstable();
    let removal = Removal { node_name, ports, renumbered, added };
    (removal.is_removal() || !removal.added.is_empty()).then_some(removal)
}

/// 12 hexadecimal digits that name the target and what its nodes would lose. Addresses, MTUs and new
/// ports don't change them, but for ports that are held themselves.
fn hash(target: &str, removals: &[Removal]) -> String {
    let mut sorted: Vec<&Removal> = removals.iter().collect();
    sorted.sort_unstable();
    let mut text = target.to_ascii_lowercase();
    for Removal { node_name, ports, renumbered, added } in sorted {
        text += &format!("\n{node_name}");
        ports.iter().for_each(|port| text += &format!("\0-{port}"));
        renumbered.iter().for_each(|(port, was, is)| text += &format!("\0{port} {was} {is}"));
        added.iter().for_each(|port| text += &format!("\0+{port}"));
    }
    let mut hash = hexadecimal(digest(&SHA256, text.as_bytes()).as_ref());
    hash.truncate(12);
    hash
}
