//! One object's sync, top to bottom: the thirteen steps of the contract, in order.
//!
//! | step | what | where |
//! |---|---|---|
//! | 1 | the object is due, its spec makes sense | [`crate::controller`], [`Reading::check`] |
//! | 2 | Contrabass: where is the cloud | [`reading`] |
//! | 3 | RabbitMQ's access becomes a Secret | [`Reading::rabbitmq`] |
//! | 4, 5 | Keystone: token and catalog; Neutron's endpoint | [`reading`] |
//! | 6, 7, 8 | subnet and network, ports, servers, side by side | [`reading`] |
//! | 9, 10 | what each node should be told | [`plan`], [`interfaces`] |
//! | 10 | which nodes are this object's | [`claims`] |
//! | 11 | nodes that differ from what Viola accepted are posted | [`changes`], [`Pass::post`] |
//! | 12 | what was accepted is remembered | [`Pass::remember`] |
//! | 13 | when to look again | [`schedule`], by the controller |
//!
//! The files beside this one are pure but for `reading`: no I/O, no clock. Threads, timers and
//! Kubernetes are not known here.

pub mod changes;
pub mod claims;
pub mod down_ports;
pub mod interfaces;
pub mod ownership;
pub mod plan;
pub mod reading;
pub mod report;
pub mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::changes::{Occasion, Why};
use self::claims::{Claim, Claims, Decision, Wanted};
use self::plan::{Plan, PlannedNode};
use self::reading::{Failed, Reading};
use self::report::{Reason, Summary, Verdict};
use crate::clock::Clock;
use crate::cloud::contrabass::RabbitMq;
use crate::cloud::session::Cloud;
use crate::config::Config;
use crate::inventory::record::{Change, Owner, Record};
use crate::inventory::store::Store;
use crate::node_config::NodeConfig;
use crate::resources::{DownPortRetry, OpenstackConfig, Spec};
use crate::targets::Target;
use crate::targets::viola::{Delivery, Viola};

/// How often one sync reads, should its nodes be sent for other objects meanwhile.
const MAX_READINGS: usize = 3;

/// What every sync uses.
pub struct Context {
    /// Settings.
    pub config: Arc<Config>,
    /// Contrabass, Keystone, Neutron, Nova.
    pub cloud: Arc<Cloud>,
    /// Viola.
    pub viola: Arc<Viola>,
    /// What nodes were told.
    pub store: Arc<Store>,
    /// Which object manages which node.
    pub claims: Arc<Claims>,
    /// The time.
    pub clock: Clock,
    /// May this process still act? False once leadership is lost or a stop has begun.
    pub may_act: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Which objects may share one fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The cloud, by its Contrabass id in lower case; empty for objects whose spec can't be read.
    pub provider_id: String,
    /// The OpenStack project.
    pub project_id: String,
}

impl Scope {
    /// The scope of an object.
    pub fn of(object: &OpenstackConfig) -> Scope {
        match &object.spec {
            Ok(spec) => Scope {
                provider_id: spec.provider_id.to_ascii_lowercase(),
                project_id: spec.project_id.clone(),
            },
            Err(_) => Scope::default(),
        }
    }
}

/// Why objects are due. Lanes never mix in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// New, changed or forced: cached failures don't count.
    Fresh,
    /// The last pass failed.
    Retry,
    /// By time.
    Poll,
}

/// Objects of one scope and one lane that are reconciled together, by one worker.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Names the pass in [`crate::controller::Event::PassEnded`].
    pub number: u64,
    /// What the objects share.
    pub scope: Scope,
    /// Why they are due.
    pub lane: Lane,
    /// The objects, the oldest first.
    pub work: Vec<Work>,
}

/// One object of a pass.
#[derive(Clone, Debug)]
pub struct Work {
    /// The object as it is at the start.
    pub object: Arc<OpenstackConfig>,
    /// Nodes that were accepted up to this moment are sent again.
    pub resend_accepted_until: Option<Timestamp>,
    /// Resends for DOWN ports so far.
    pub down_port_retry: Option<DownPortRetry>,
    /// Ports that their node was told of and that were BUILD in the last pass, with the uptime at
    /// which that was seen first.
    pub building_since: BTreeMap<String, Duration>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In a word and a sentence.
    pub verdict: Verdict,
    /// Nodes computed; none if it didn't come to that.
    pub nodes: Option<u32>,
    /// Nodes were sent because they differ from what Viola had.
    pub changed: bool,
    /// Nodes Viola accepted in this pass.
    pub sent: usize,
    /// Everything that should have been sent again was accepted.
    pub resent: bool,
    /// Resends for DOWN ports from here on.
    pub down_port_retry: Option<DownPortRetry>,
    /// DOWN ports of nodes that are this object's.
    pub down_ports: usize,
    /// Ports over the limit of interfaces.
    pub over_limit: usize,
    /// When the oldest accepted node must be sent again.
    pub resync_at: Option<Timestamp>,
    /// A service asked to be left alone for so long.
    pub retry_after: Option<Duration>,
    /// RabbitMQ's access and the serial of the answer it came with, or why it can't be used.
    pub rabbitmq: Option<(u64, Result<RabbitMq, String>)>,
    /// The inventory couldn't be written.
    pub unwritten: Option<String>,
    /// [`Work::building_since`] after this pass.
    pub building_since: BTreeMap<String, Duration>,
    /// Another pass is in the way of some of the object's nodes. The object is due again soon, and
    /// its status doesn't change.
    pub later: bool,
    /// The operator is stopping, or the object was changed meanwhile; this says nothing about the
    /// object.
    pub cut_short: bool,
}

impl Outcome {
    /// The outcome of a pass that came to nothing: what was known before stays.
    pub fn failed(job: &Work, reason: Reason, message: impl Into<String>) -> Outcome {
        Outcome::of(job, Verdict { reason, message: message.into() })
    }

    fn of(job: &Work, verdict: Verdict) -> Outcome {
        Outcome {
            verdict,
            nodes: None,
            changed: false,
            sent: 0,
            resent: false,
            down_port_retry: job.down_port_retry.clone(),
            down_ports: 0,
            over_limit: 0,
            resync_at: None,
            retry_after: None,
            rabbitmq: None,
            unwritten: None,
            building_since: job.building_since.clone(),
            later: false,
            cut_short: false,
        }
    }
}

/// Reconciles the objects of a pass and reports the outcome of each. Never fails: what went wrong
/// is the outcome.
pub fn reconcile(context: &Context, pass: &Pass, report: &(dyn Fn(&Work, Outcome) + Sync)) {
    for work in &pass.work {
        report(work, sync(context, work, pass.lane == Lane::Fresh));
    }
}

/// Does one sync. Never fails: what went wrong is the outcome.
pub fn sync(context: &Context, job: &Work, fresh: bool) -> Outcome {
    let mut reading = Reading::new(&context.config, &context.cloud, &job.object, fresh);
    let result = ObjectPass { context, job }.run(&mut reading);
    let mut outcome = result.unwrap_or_else(|failed| {
        let Failed { reason, message, retry_after } = failed;
        Outcome { retry_after, ..Outcome::failed(job, reason, message) }
    });
    outcome.retry_after = outcome.retry_after.max(reading.retry_after);
    outcome.rabbitmq = reading.rabbitmq;
    outcome.cut_short |= !outcome.verdict.reason.is_success() && !(context.may_act)();
    outcome
}

/// One sync under way.
struct ObjectPass<'a> {
    context: &'a Context,
    job: &'a Work,
}

impl ObjectPass<'_> {
    fn run(&self, reading: &mut Reading<'_>) -> Result<Outcome, Failed> {
        let (spec, subnet) = reading.check()?;
        self.check_memory()?;
        for _ in 0..MAX_READINGS {
            let begun = self.context.store.snapshot().version();
            let answers = reading.read(spec, subnet)?;
            let inventory = self.context.store.snapshot();
            let plan = plan::plan(&reading.sources(spec, &answers, &inventory));
            let wanted = Wanted {
                provider_id: &spec.provider_id,
                target: spec.target(),
                nodes: &plan.vms(),
            };
            match self.context.claims.claim(&self.job.object.uid, &wanted, &inventory) {
                Claim::Held(decision, held) => {
                    let own = changes::own(&plan, &decision);
                    let now = self.context.store.snapshot();
                    if changes::were_sent_since(spec, &own, &now, begun) {
                        continue;
                    }
                    let outcome = self.send(spec, &plan, &own, &decision);
                    drop(held);
                    return Ok(outcome);
                }
                Claim::Waited => {}
                Claim::Gone => {
                    return Ok(
                        self.cut_short("the object was moved to another cloud during its sync")
                    );
                }
            }
        }
        Ok(self.cut_short("its nodes were sent for other objects again and again during its sync"))
    }

    fn cut_short(&self, message: &str) -> Outcome {
        let failed = Outcome::failed(self.job, Reason::ConfigError, message);
        Outcome { cut_short: true, ..failed }
    }

    /// Without memory ids would be handed out anew, and live network cards renamed.
    fn check_memory(&self) -> Result<(), Failed> {
        let state = self.context.store.state();
        if state.remembers() {
            return Ok(());
        }
        let why = state.reason().unwrap_or_default();
        let message = format!("no node may be sent while the inventory isn't known: {why}");
        Err(Failed::new(Reason::ConfigError, message))
    }

    /// Steps 11 and 12 for the nodes that are this object's.
    fn send(
        &self,
        spec: &Spec,
        plan: &Plan<'_>,
        own: &[&PlannedNode<'_>],
        decision: &Decision,
    ) -> Outcome {
        let intervals = &self.context.config.intervals;
        let inventory = self.context.store.snapshot();
        let wall = self.context.clock.now().wall;
        let before = self.job.down_port_retry.as_ref();
        let doubted = self.context.viola.unconfirmed(spec.target());
        let occasion = Occasion {
            intervals,
            asked_until: self.job.resend_accepted_until,
            down_ports: before,
            doubted: &doubted,
            now: wall,
        };
        let due = changes::due(spec, own, &inventory, &occasion);
        drop(inventory);
        // What is asked for while a POST is under way is asked for after it.
        let sent_at = self.context.clock.now().wall;
        let delivery = self.post(spec, &due);
        let unwritten = self.remember(spec, own, &due, &delivery, sent_at);

        let accepted = |kind: Why| {
            let accepted = |(node, why): &&(&PlannedNode<'_>, Why)| {
                *why == kind && delivery.accepted.contains(&node.config.node_name)
            };
            due.iter().filter(accepted).count()
        };
        let (changed, for_down_ports) = (accepted(Why::Changed), accepted(Why::DownPorts));
        let with_down_ports = due.iter().any(|(node, _)| {
            !node.down_ports.is_empty() && delivery.accepted.contains(&node.config.node_name)
        });
        let summary = Summary {
            plan,
            conflicts: &decision.conflicts,
            nodes: own.len(),
            delivery: &delivery,
            again: accepted(Why::Again) + for_down_ports,
        };
        let down_port_retry = down_ports::next(
            before,
            changes::down_hash(spec, own, &self.context.store.snapshot()),
            for_down_ports > 0,
            with_down_ports,
            intervals,
            wall,
        );
        Outcome {
            nodes: Some(u32::try_from(own.len()).unwrap_or(u32::MAX)),
            changed: changed > 0,
            sent: delivery.accepted.len(),
            resent: delivery.problems.is_empty(),
            down_port_retry,
            down_ports: own.iter().map(|node| node.down_ports.len()).sum(),
            over_limit: own.iter().map(|node| node.over_limit).sum(),
            resync_at: self.resync_at(spec, own),
            retry_after: delivery.retry_after,
            unwritten,
            ..Outcome::of(self.job, report::verdict(&summary))
        }
    }

    /// Step 11.
    fn post(&self, spec: &Spec, due: &[(&PlannedNode<'_>, Why)]) -> Delivery {
        if due.is_empty() {
            return Delivery::default();
        }
        let nodes: Vec<&NodeConfig> = due.iter().map(|(node, _)| &*node.config).collect();
        self.context.viola.deliver(spec.target(), &[nodes], &*self.context.may_act)
    }

    /// Step 12: in one durable write. Gives what is wrong with the disk, if anything is.
    fn remember(
        &self,
        spec: &Spec,
        own: &[&PlannedNode<'_>],
        due: &[(&PlannedNode<'_>, Why)],
        delivery: &Delivery,
        sent_at: Timestamp,
    ) -> Option<String> {
        let store = &self.context.store;
        let accepted: Vec<&PlannedNode<'_>> = due
            .iter()
            .map(|(node, _)| *node)
            .filter(|node| delivery.accepted.contains(&node.config.node_name))
            .collect();
        let mut changes = self.taken_over(spec, own, due);
        changes.extend(self.changes(spec, &accepted, sent_at));
        if !changes.is_empty() {
            // The commit keeps what it couldn't write and goes on trying; the state says so below.
            if let Some(error) = store.commit(changes).into_iter().find_map(Result::err) {
                log::error!("{}: {error}", self.job.object.key);
            }
        }
        store.state().reason().map(|reason| format!("the inventory isn't on disk: {reason}"))
    }

    /// Nodes that stay as another object had them sent are recorded as this one's: after a restart
    /// nobody else knows whose they are.
    fn taken_over(
        &self,
        spec: &Spec,
        own: &[&PlannedNode<'_>],
        due: &[(&PlannedNode<'_>, Why)],
    ) -> Vec<Change> {
        if !(self.context.may_act)() {
            return Vec::new();
        }
        let inventory = self.context.store.snapshot();
        let sent: BTreeSet<&str> =
            due.iter().map(|(node, _)| node.config.node_name.as_str()).collect();
        let kept = own.iter().map(|node| node.config.node_name.as_str());
        let records = kept
            .filter(|name| !sent.contains(name))
            .filter_map(|name| inventory.get(&spec.provider_id, name))
            .map(|stored| &stored.record);
        let uid = &self.job.object.uid;
        records
            .filter(|record| record.owner.as_ref().is_none_or(|owner| owner.uid != *uid))
            .map(|record| Change::Upsert(Record { owner: Some(self.owner()), ..record.clone() }))
            .collect()
    }

    fn owner(&self) -> Owner {
        let object = &self.job.object;
        Owner {
            namespace: object.key.namespace.clone(),
            name: object.key.name.clone(),
            uid: object.uid.clone(),
        }
    }

    fn changes(
        &self,
        spec: &Spec,
        accepted: &[&PlannedNode<'_>],
        updated_at: Timestamp,
    ) -> Vec<Change> {
        let inventory = self.context.store.snapshot();
        let kept: BTreeSet<&str> =
            accepted.iter().map(|node| node.config.node_name.as_str()).collect();
        let mut changes = Vec::new();
        for node in accepted {
            // A VM whose node name changed replaces its old record.
            for old in inventory.by_instance(&spec.provider_id, &node.config.instance_id) {
                let node_name = old.record.node_name.clone();
                if !kept.contains(node_name.as_str()) {
                    let provider_id = spec.provider_id.clone();
                    changes.push(Change::Remove { provider_id, node_name });
                }
            }
        }
        changes.extend(accepted.iter().map(|node| {
            Change::Upsert(Record {
                provider_id: spec.provider_id.clone(),
                node_name: node.config.node_name.clone(),
                instance_id: node.config.instance_id.clone(),
                config: node.config.clone().into_owned(),
                last_config_hash: node.config.hash(),
                updated_at,
                accepted_by: Some(spec.target().to_owned()),
                owner: Some(self.owner()),
                down_ports: node.down_ports.clone(),
                left_out_ports: u32::try_from(node.over_limit).unwrap_or(u32::MAX),
                reserved_ids: node.reserved.clone(),
            })
        }));
        changes
    }

    fn resync_at(&self, spec: &Spec, own: &[&PlannedNode<'_>]) -> Option<Timestamp> {
        let interval = self.context.config.intervals.resync?;
        let inventory = self.context.store.snapshot();
        let accepted = own
            .iter()
            .filter_map(|node| inventory.get(&spec.provider_id, &node.config.node_name))
            .map(|stored| stored.record.updated_at);
        accepted.min()?.checked_add(interval).ok()
    }
}

#[cfg(test)]
mod tests;
