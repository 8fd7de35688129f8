//! The unit of work: objects of one scope and one lane, reconciled together by one worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::memory::Memory;
use super::removals::Hold;
use super::report::{Ready, Reason};
use crate::cloud::CloudError;
use crate::cloud::contrabass::RabbitMq;
use crate::resources::{DownPortRetry, OpenstackConfig, Overrides};

/// Which objects may share one fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The cloud, by its Contrabass id in lower case; empty for objects whose spec can't be read.
    pub provider_id: String,
    /// The OpenStack project.
    pub project_id: String,
    /// The settings of the objects' own; empty for those of the environment.
    pub settings: Arc<Overrides>,
}

impl Scope {
    /// The scope of an object.
    pub fn of(object: &OpenstackConfig) -> Scope {
        match &object.spec {
            Ok(spec) => Scope {
                provider_id: spec.provider_id.to_ascii_lowercase(),
                project_id: spec.project_id.clone(),
                settings: Arc::clone(&spec.settings),
            },
            Err(_) => Scope::default(),
        }
    }

    /// Do both ask the same Contrabass about the same cloud?
    pub fn is_of_same_cloud(&self, other: &Scope) -> bool {
        let contrabass = |scope: &Scope| scope.settings.get("contrabassEndpoint").cloned();
        self.provider_id == other.provider_id && contrabass(self) == contrabass(other)
    }
}

/// Why objects are due. Lanes never mix in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// New, changed or forced: cached failures don't count.
    Fresh,
    /// OpenStack notified a change.
    Notified,
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
    /// A pass of this process has planned it, so its records weren't lost before the start.
    pub was_planned: bool,
    /// It is held because its records are lost, and no pass has planned it since without holding it.
    pub is_held: bool,
    /// A person has approved that lost records are replaced.
    pub is_loss_approved: bool,
    /// Ports that were sent to their node and were BUILD in the last pass, with the uptime at
    /// which that was seen first.
    pub building_since: BTreeMap<String, Duration>,
    /// Nodes that lost ports or interface ids by what was sent lately, with the uptime of that.
    pub removed_at: BTreeMap<String, Duration>,
    /// Hashes of removals that a person has approved.
    pub approvals: Vec<String>,
    /// Nodes that are sent again, as their cluster has something else.
    pub drifted: BTreeSet<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// For the Ready condition.
    pub ready: Ready,
    /// Nodes computed; none if it didn't come to that.
    pub nodes: Option<u32>,
    /// Nodes were sent because they differ from what Viola had.
    pub changed: bool,
    /// Names of the nodes that were accepted in this pass, sorted.
    pub sent: Vec<String>,
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
    /// [`Work::removed_at`] after this pass.
    pub removed_at: BTreeMap<String, Duration>,
    /// Removals that were held, or approved and not accepted.
    pub hold: Option<Hold>,
    /// The hash of approved removals that were all accepted.
    pub used_approval: Option<String>,
    /// Nodes that the target has, if none of them has an interface left.
    pub all_emptied: usize,
    /// What the inventory knew of the object; [`Memory::Kept`] also where that wasn't looked at.
    pub memory: Memory,
    /// Which nodes go by a name that Nova doesn't confirm, and why.
    pub remembered: Vec<String>,
    /// Some of the object's nodes wait for another pass. The object is due again soon, and
    /// its status doesn't change.
    pub later: bool,
    /// The operator is stopping, or the object was changed meanwhile; this says nothing about the
    /// object.
    pub aborted: bool,
}

impl Outcome {
    /// The outcome of an object for which nothing was decided: what was known before stays.
    pub fn failed(work: &Work, reason: Reason, message: impl Into<String>) -> Outcome {
        Outcome::of(work, Ready { reason, message: message.into() })
    }

    pub(super) fn of(work: &Work, ready: Ready) -> Outcome {
        Outcome {
            ready,
            down_port_retry: work.down_port_retry.clone(),
            building_since: work.building_since.clone(),
            removed_at: work.removed_at.clone(),
            ..Outcome::default()
        }
    }
}

/// An object whose pass ended before it had a plan.
#[derive(Clone, Debug)]
pub struct Failed {
    /// For the Ready condition.
    pub reason: Reason,
    /// What was asked of which service, and what came back.
    pub message: String,
    /// How long the service asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl From<CloudError> for Failed {
    fn from(error: CloudError) -> Failed {
        let CloudError { step, message, retry_after, .. } = error;
        Failed { reason: step.into(), message, retry_after }
    }
}

impl Failed {
    /// A failure that asks for no pause.
    pub fn new(reason: Reason, message: impl Into<String>) -> Failed {
        Failed { reason, message: message.into(), retry_after: None }
    }
}
