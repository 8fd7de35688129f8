//! Steps 11 to 13: sends what differs, records what was accepted, and says what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::changes::{self, Recorded, SendContext, SendReason};
use super::memory::Memory;
use super::ownership::InFlight;
use super::plan::{Plan, PlannedNode};
use super::removals::{self, Question, Removals};
use super::report::{self, Conflict, Summary};
use super::{Context, Observer, Outcome, Report, Work, differences, down_ports};
use crate::clock::Now;
use crate::config::Settings;
use crate::inventory::contents::Inventory;
use crate::inventory::record::{Change, Owner, Record};
use crate::resources::{NodeOwner, OpenstackConfig, Spec};
use crate::targets::{Delivery, ObjectNodes, Post, Rules};
use crate::threads::lock;

/// An object of a slice with its plan, and what it may send of it.
pub struct Decided<'a> {
    pub(super) work: &'a Work,
    /// What the object asks for.
    pub spec: &'a Spec,
    /// What it is reconciled by.
    pub settings: Arc<Settings>,
    /// What its nodes should have.
    pub plan: Plan,
    /// Names of the nodes that the object manages.
    pub own: BTreeSet<String>,
    /// Nodes that older objects manage.
    pub conflicts: Vec<Conflict>,
    /// Some nodes wait for another pass.
    pub(super) later: bool,
}

/// What is sent of one object.
pub struct Sending<'a> {
    /// The object.
    pub object: &'a Decided<'a>,
    own: Vec<&'a PlannedNode>,
    /// What the nodes would lose.
    pub removals: Removals,
    /// The nodes that are sent, and why.
    pub due: Vec<(&'a PlannedNode, SendReason)>,
}

/// Sends the nodes of these objects that differ to their target, in one delivery, and records what
/// was accepted in one commit. Objects with nothing to send don't wait for it. `inventory` is the one by
/// which was decided whose the nodes are.
pub(super) fn send(
    context: &Context,
    objects: &[Decided<'_>],
    inventory: &Inventory,
    in_flight: &Mutex<InFlight>,
    observer: Option<Observer<'_>>,
    report: Report<'_>,
) {
    let now = context.clock.now();
    let Some(Decided { settings, spec, .. }) = objects.first() else { return };
    let unconfirmed = context.target.unconfirmed(settings, spec);
    let limit = context.config.inventory.hold_removals_above;
    let sendings =
        objects.iter().map(|object| Sending::of(object, inventory, &unconfirmed, limit, now));
    let sendings =
        sendings.inspect(|sending| observer.iter().for_each(|see| see(sending, inventory)));
    let (unchanged, due): (Vec<Sending<'_>>, Vec<Sending<'_>>) =
        sendings.partition(|sending| sending.due.is_empty());
    settle(context, &unchanged, &Delivery::default(), now.wall, report);
    if !due.is_empty() {
        // What is forced while a delivery is under way is sent after it.
        let sent_at = context.clock.now().wall;
        let nodes: Vec<ObjectNodes<'_>> = due.iter().map(Sending::nodes).collect();
        let keeps = |owner: &NodeOwner, object: &OpenstackConfig, vm_id: &str| {
            // Whether an object that isn't watched exists can't be known here.
            let watched = &context.config.watch_namespaces;
            (!watched.is_empty() && !watched.contains(&owner.key.namespace))
                || context.ownership.keeps(owner, object, vm_id)
        };
        let rules = Rules { may_act: &*context.may_act, keeps: &keeps };
        let delivery = context.target.deliver(settings, spec, &nodes, &rules);
        if observer.is_none() {
            log_delivery(spec, &due, &delivery, inventory);
        }
        settle(context, &due, &delivery, sent_at, report);
    }
    lock(in_flight).end(spec.target());
}

/// Records what was accepted, in one commit, and then reports the objects.
fn settle(
    context: &Context,
    sendings: &[Sending<'_>],
    delivery: &Delivery,
    sent_at: Timestamp,
    report: Report<'_>,
) {
    let inventory = context.store.snapshot();
    let changes = sendings.iter().flat_map(|sending| {
        // Without a delivery, only the owner of a record may change, which is the leader's to say.
        match !sending.due.is_empty() || (context.may_act)() {
            true => sending.changes(delivery, &inventory, sent_at),
            false => Vec::new(),
        }
    });
    let unwritten = commit(context, changes.collect());
    let inventory = context.store.snapshot();
    for sending in sendings {
        let now = Now { wall: sent_at, ..context.clock.now() };
        let outcome = sending.outcome(delivery, &inventory, now);
        report(sending.object.work, Outcome { unwritten: unwritten.clone(), ..outcome });
    }
}

/// Step 12. Returns what is wrong with the inventory, if anything is: it keeps what it couldn't
/// write and goes on trying.
fn commit(context: &Context, changes: Vec<Change>) -> Option<String> {
    let results = context.store.commit(changes);
    if let Some(error) = results.into_iter().find_map(Result::err) {
        log::error!("the inventory can't be written: {error}");
    }
    let state = context.store.state();
    state.reason().map(|reason| format!("the inventory isn't written: {reason}"))
}

impl<'a> Sending<'a> {
    fn of(
        object: &'a Decided<'a>,
        inventory: &Inventory,
        unconfirmed: &BTreeSet<String>,
        limit: Option<u8>,
        now: Now,
    ) -> Sending<'a> {
        let is_held = object.plan.memory == Memory::Held;
        let is_own = |node: &&PlannedNode| !is_held && object.own.contains(&node.config.node_name);
        let own: Vec<&PlannedNode> = object.plan.nodes.iter().filter(is_own).collect();
        let question = Question {
            spec: object.spec,
            plan: &object.plan,
            own: &object.own,
            inventory,
            removed_at: &object.work.removed_at,
            approvals: &object.work.approvals,
            limit,
            uptime: now.uptime,
        };
        let removals = if is_held { Removals::default() } else { question.decide() };
        let mut sending = Sending { object, own, removals, due: Vec::new() };
        let send_context = SendContext {
            intervals: &object.settings.intervals,
            forced_until: object.work.resend_accepted_until,
            down_ports: object.work.down_port_retry.as_ref(),
            unconfirmed,
            drifted: &object.work.drifted,
            now: now.wall,
        };
        sending.due = changes::due(object.spec, &sending.not_held(), inventory, &send_context);
        sending
    }

    /// The object's nodes but for those that are held.
    fn not_held(&self) -> Vec<&'a PlannedNode> {
        let is_held = |node: &&PlannedNode| {
            self.removals.hold.as_ref().is_some_and(|hold| hold.keeps(&node.config.node_name))
        };
        self.own.iter().copied().filter(|node| !is_held(node)).collect()
    }

    fn nodes(&self) -> ObjectNodes<'_> {
        let nodes = self.due.iter().map(|(node, _)| &node.config).collect();
        ObjectNodes { object: &self.object.work.object, spec: self.object.spec, nodes }
    }

    /// Why a node is sent, in words, by the inventory that decided it.
    pub fn why(
        &self,
        node: &PlannedNode,
        reason: SendReason,
        inventory: &Inventory,
    ) -> Vec<String> {
        let Decided { spec, work, .. } = self.object;
        let (name, vm_id) = (&node.config.node_name, &node.config.instance_id);
        let record = inventory.get(&spec.provider_id, name).map(|stored| &stored.record);
        let record = record.filter(|record| record.was_accepted());
        // Of whichever provider: the cloud may have been registered under another id since.
        let of_vm = inventory.by_vm(vm_id).into_iter().map(|stored| &stored.record);
        let of_vm: Vec<_> = of_vm.filter(|record| record.was_accepted()).collect();
        let same_name = |record: &&&Record| record.node_name == *name;
        let before = of_vm.iter().find(same_name).or(of_vm.first()).copied();
        let forced_at = work.resend_accepted_until;
        let is_forced = |forced: &Timestamp| record.is_some_and(|it| it.updated_at <= *forced);
        vec![match (reason, record, before) {
            (SendReason::Changed, Some(record), _) => {
                return differences::between(record, node, spec.target());
            }
            (SendReason::Changed, None, Some(before)) if before.node_name == *name => {
                let (was, is) = (&before.provider_id, &spec.provider_id);
                let mut why = vec![format!("its cloud was registered as {was}, now as {is}")];
                why.extend(differences::between(before, node, spec.target()));
                return why;
            }
            (SendReason::Changed, None, Some(before)) => {
                let before = &before.node_name;
                format!("its VM was known as node {before}, whose record it replaces")
            }
            (SendReason::Changed, None, None) => {
                let interfaces = report::count(node.config.interfaces.len(), "interface");
                format!("new, with {interfaces}: nothing was accepted for it before")
            }
            (SendReason::Resync, ..) => match forced_at.filter(is_forced) {
                Some(forced) => format!(
                    "the force-reconcile annotation was set at {forced}, after it was accepted"
                ),
                None => "VIOLA_RESYNC_INTERVAL has passed since it was accepted".to_owned(),
            },
            (SendReason::Drift, ..) => "its cluster has something else than it was sent".to_owned(),
            (SendReason::DownPorts, ..) => {
                format!("DOWN ports are due again: {}", node.down_ports.join(", "))
            }
        }]
    }

    fn changes(
        &self,
        delivery: &Delivery,
        inventory: &Inventory,
        sent_at: Timestamp,
    ) -> Vec<Change> {
        let object = &self.object.work.object;
        let owner = Owner {
            namespace: object.key.namespace.clone(),
            name: object.key.name.clone(),
            uid: object.uid.clone(),
        };
        let is_kept = |node: &&PlannedNode| {
            delivery.kept.iter().any(|kept| kept.node_name == node.config.node_name)
        };
        let sent = self.due.iter().map(|(node, _)| *node).filter(|node| !is_kept(node));
        let sent: Vec<&PlannedNode> = sent.collect();
        // A record of the Go operator stays without an owner for as long as its node is held.
        let mut not_held = self.not_held();
        not_held.retain(|node| !is_kept(node));
        let recorded = Recorded {
            spec: self.object.spec,
            owner: &owner,
            own: &not_held,
            sent: &sent,
            accepted: &delivery.accepted,
            sent_at,
            inventory,
        };
        recorded.changes()
    }

    /// `inventory` has what was accepted in this pass.
    fn outcome(&self, delivery: &Delivery, inventory: &Inventory, now: Now) -> Outcome {
        let Sending { object, own, removals, due } = self;
        let Decided { work, spec, plan, conflicts, later, .. } = object;
        let (memory, building_since) = (plan.memory, plan.building_since.clone());
        if memory == Memory::Held {
            let outcome = Outcome::of(work, report::memory_lost(&work.object));
            return Outcome { memory, building_since, later: *later, ..outcome };
        }
        let names = due.iter().map(|(node, _)| node.config.node_name.as_str()).collect();
        let delivery = delivery.of(&names);
        let intervals = &object.settings.intervals;
        let is_accepted = |node: &PlannedNode| delivery.accepted.contains(&node.config.node_name);
        let accepted = || due.iter().filter(|(node, _)| is_accepted(node));
        let count = |wanted| accepted().filter(|(_, reason)| *reason == wanted).count();
        let for_down_ports = count(SendReason::DownPorts);
        let not_held = self.not_held();
        let (before, target) = (removals.hold.clone(), spec.target());
        let is_approved = before.as_ref().is_some_and(|hold| hold.is_approved);
        let hold = before.and_then(|hold| match is_approved {
            true => hold.without(&delivery.accepted, target),
            false => Some(hold),
        });
        let used = removals.hold.as_ref().filter(|_| is_approved && hold.is_none());
        let removed = delivery.accepted.intersection(&removals.nodes).cloned();
        let summary = Summary {
            plan,
            conflicts,
            nodes: not_held.len(),
            held: hold.as_ref().filter(|_| !is_approved).map(|hold| hold.message(&work.object)),
            delivery: &delivery,
            by_kubernetes: spec.destination.is_kubernetes(),
            again: count(SendReason::Resync) + count(SendReason::Drift) + for_down_ports,
        };
        let down_port_retry = down_ports::next(
            work.down_port_retry.as_ref(),
            changes::down_hash(spec, &not_held, inventory),
            for_down_ports > 0,
            accepted().any(|(node, _)| !node.down_ports.is_empty()),
            intervals,
            now.wall,
        );
        Outcome {
            nodes: Some(u32::try_from(own.len()).unwrap_or(u32::MAX)),
            changed: count(SendReason::Changed) > 0,
            sent: delivery.accepted.iter().cloned().collect(),
            resent: delivery.problems.is_empty()
                && delivery.kept.is_empty()
                && !later
                && hold.is_none(),
            down_port_retry,
            down_ports: own.iter().map(|node| node.down_ports.len()).sum(),
            over_limit: own.iter().map(|node| node.over_limit).sum(),
            resync_at: changes::resync_at(spec, &not_held, inventory, intervals),
            retry_after: delivery.retry_after,
            building_since,
            removed_at: removals::removed_at(&work.removed_at, removed, now.uptime),
            used_approval: used.map(|hold| hold.hash.clone()),
            all_emptied: removals.all_emptied,
            hold,
            memory,
            remembered: report::remembered(&plan.remembered),
            later: *later,
            ..Outcome::of(work, report::ready(&summary))
        }
    }
}

/// One line for each POST, and one for each node whose configuration changed.
fn log_delivery(spec: &Spec, sendings: &[Sending<'_>], delivery: &Delivery, inventory: &Inventory) {
    let due = || sendings.iter().flat_map(|one| one.due.iter().map(move |due| (one, due)));
    let reasons: BTreeMap<&str, SendReason> =
        due().map(|(_, (node, reason))| (node.config.node_name.as_str(), *reason)).collect();
    let target = spec.target();
    let what = if spec.destination.is_kubernetes() { "apply in cluster" } else { "POST to" };
    for Post { nodes, accepted } in &delivery.posts {
        let reasons: Vec<_> = nodes.iter().filter_map(|node| reasons.get(node.as_str())).collect();
        let count = |wanted| reasons.iter().filter(|reason| ***reason == wanted).count();
        let (changed, resync) = (count(SendReason::Changed), count(SendReason::Resync));
        let (down_ports, drift) = (count(SendReason::DownPorts), count(SendReason::Drift));
        log::info!(
            "{what} {target}: {}, {accepted} accepted ({changed} changed, {resync} for a resync, \
             {down_ports} with DOWN ports, {drift} for a drift)",
            report::count(nodes.len(), "node"),
        );
    }
    for (sending, (node, reason)) in due() {
        let name = &node.config.node_name;
        if *reason != SendReason::Changed || !delivery.accepted.contains(name) {
            continue;
        }
        let what = sending.why(node, *reason, inventory).join("; ");
        log::info!("{}: node {name} accepted by {target}: {what}", sending.object.work.object.key);
    }
}
