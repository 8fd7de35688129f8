//! What the controller knows of one object, and what follows from an outcome for its status, its Secret
//! and its Events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::feedback::Evaluation;
use super::{Effect, Notice, SecretNote};
use crate::agent::condition::{self, CONFIGURED, Configured, Known};
use crate::clock::Now;
use crate::cloud::contrabass::RabbitMq;
use crate::metrics::Metrics;
use crate::overview::ObjectState;
use crate::queue::Member;
use crate::reconcile::memory::{self, Memory};
use crate::reconcile::removals;
use crate::reconcile::report::{self, Ready, Reason, Report};
use crate::reconcile::{Outcome, Scope, Work};
use crate::resources::{Condition, DownPortRetry, Hold, OpenstackConfig, Status};

#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) object: Arc<OpenstackConfig>,
    /// As last written, or as found.
    pub(super) status: Status,
    /// The watch has shown another status since that was written: an older one of ours, which this one
    /// follows, or an edit, which is put right after the next pass.
    shows_another: bool,
    /// Nodes computed last, for whichever generation.
    pub(super) nodes: Option<u32>,
    /// [`Work::was_planned`].
    was_planned: bool,
    /// [`Work::is_held`].
    is_held: bool,
    /// Resends for DOWN ports so far; the status may not say it yet.
    down_port_retry: Option<DownPortRetry>,
    /// Uptime of the last change that was sent.
    pub(super) changed_at: Option<Duration>,
    /// Everything that was accepted up to this moment is to be sent again.
    resend_until: Option<Timestamp>,
    /// The object's Secret is written. Reports about it count only while it is.
    has_secret: bool,
    /// Provider, and serial of its answer, that the Secret was last made from.
    secret_source: Option<(String, u64)>,
    secret_note: Option<SecretNote>,
    /// RabbitMQ's access can't be used.
    rabbitmq_problem: Option<String>,
    /// The inventory couldn't be written.
    unwritten: Option<String>,
    /// Removals that are held, or approved and not accepted.
    hold: Option<Hold>,
    /// [`Work::removed_at`].
    removed_at: BTreeMap<String, Duration>,
    /// [`Outcome::all_emptied`].
    pub(super) all_emptied: usize,
    /// [`Work::building_since`].
    building_since: BTreeMap<String, Duration>,
    /// [`Outcome::remembered`], as it was logged.
    remembered: Vec<String>,
    over_limit: usize,
    /// Ports that were DOWN when last seen.
    pub(super) down_ports: usize,
    /// How its last pass ended, and of which generation.
    ready: Option<(Ready, i64)>,
    /// What the agent makes of its nodes.
    pub(super) known: Known,
    /// [`Work::drifted`].
    drifted: BTreeSet<String>,
    /// The broker of its cloud, where notifications are listened to.
    pub(super) broker: Option<Arc<RabbitMq>>,
    /// The first notification about it since its last pass began: the uptime at which it came.
    pub(super) heard_at: Option<Duration>,
    /// The same of the pass that is under way.
    pub(super) reacts_to: Option<Duration>,
    /// Its cloud or target has failed, or asked for a pause: notifications don't hurry it.
    pub(super) is_left_alone: bool,
}

impl Tracked {
    pub(super) fn new(object: OpenstackConfig) -> Tracked {
        let mut tracked = Tracked {
            hold: object.status.hold.clone(),
            removed_at: BTreeMap::new(),
            all_emptied: 0,
            status: object.status.clone(),
            shows_another: false,
            nodes: object.status.nodes,
            was_planned: false,
            is_held: memory::is_held(&object.status),
            down_port_retry: object.status.down_port_retry.clone(),
            object: Arc::new(object),
            changed_at: None,
            resend_until: None,
            has_secret: false,
            secret_source: None,
            secret_note: None,
            rabbitmq_problem: None,
            unwritten: None,
            building_since: BTreeMap::new(),
            remembered: Vec::new(),
            over_limit: 0,
            down_ports: 0,
            ready: None,
            known: Known::NotYet,
            drifted: BTreeSet::new(),
            broker: None,
            heard_at: None,
            reacts_to: None,
            is_left_alone: false,
        };
        tracked.note_approval();
        tracked
    }

    pub(super) fn has_broker(&self, broker: &Arc<RabbitMq>) -> bool {
        self.broker.as_ref().is_some_and(|known| Arc::ptr_eq(known, broker))
    }

    /// The pass that a notification may have caused has ended. One that was in the way of another leaves
    /// the notification to the next.
    pub(super) fn reacted(&mut self, now: Now, outcome: &Outcome, metrics: &Metrics) {
        let Some(heard_at) = self.reacts_to.take() else { return };
        if outcome.later || outcome.aborted {
            self.heard_at = Some(heard_at);
        } else if !outcome.sent.is_empty() {
            let took = now.uptime.saturating_sub(heard_at);
            metrics.observe("multinic_notification_reaction_seconds", &[], took);
        }
    }

    /// What the queue has to know of the object.
    pub(super) fn member(&self) -> Member {
        Member {
            scope: Scope::of(&self.object),
            created: self.object.created,
            vms: self.object.spec.as_ref().map_or(0, |spec| spec.vm_ids.len()),
        }
    }

    /// An approval that was seen counts, also if the annotation is taken off again before it is used.
    fn note_approval(&mut self) {
        let approvals = removals::approvals(&self.object, self.status.last_approved.as_ref(), None);
        if let Some(hold) = self.hold.as_mut().filter(|hold| approvals.contains(&hold.hash)) {
            hold.approved = true;
        }
    }

    /// The object as the watch shows it now.
    pub(super) fn replace(&mut self, object: OpenstackConfig) {
        if self.object.approve != object.approve {
            self.status.last_approved = None;
        }
        self.shows_another = !self.status.is_shown_by(&object.status);
        self.object = Arc::new(object);
        self.note_approval();
    }

    /// Everything is to be sent again, and the Secret written again.
    pub(super) fn force(&mut self, now: Now) {
        self.resend_until = Some(now.wall);
        self.secret_source = None;
    }

    /// What a pass has to know of the object.
    pub(super) fn work(&self) -> Work {
        Work {
            object: Arc::clone(&self.object),
            resend_accepted_until: self.resend_until,
            down_port_retry: self.down_port_retry.clone(),
            was_planned: self.was_planned,
            is_held: self.is_held,
            is_loss_approved: memory::is_approved(&self.object, &self.status),
            building_since: self.building_since.clone(),
            removed_at: self.removed_at.clone(),
            approvals: removals::approvals(
                &self.object,
                self.status.last_approved.as_ref(),
                self.hold.as_ref(),
            ),
            drifted: self.drifted.clone(),
        }
    }

    /// Is nothing sent for it now?
    pub(super) fn is_held(&self) -> bool {
        let hold = self.hold.as_ref().is_some_and(|hold| !hold.approved);
        self.object.is_paused() || self.is_held || hold
    }

    /// Takes note of what its cluster says. Returns whether there are further nodes to be sent again.
    pub(super) fn hear(&mut self, evaluation: Evaluation, effects: &mut Vec<Effect>) -> bool {
        let Evaluation { configured, resend, news, .. } = evaluation;
        let mut record = |warning, reason, note| {
            let notice = Notice { warning, reason, note };
            effects.push(Effect::RecordEvent(Arc::clone(&self.object), notice));
        };
        for note in news {
            record(true, "Drifted", note);
        }
        let before = self.status.condition(CONFIGURED).map(|before| before.reason.as_str());
        let transition = configured.as_ref().filter(|it| before != Some(it.reason.name()));
        if let Some(Configured { reason, message, .. }) = transition
            && *reason != condition::Reason::InProgress
        {
            let is_warning = *reason != condition::Reason::AllConfigured;
            record(is_warning, reason.name(), message.clone());
        }
        self.known = configured.map_or(Known::Nothing, Known::This);
        let is_more = !resend.is_subset(&self.drifted);
        self.drifted = resend;
        is_more
    }

    /// Writes what its cluster says, beside what the last pass came to.
    pub(super) fn write_known(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.write(now, self.status.clone(), effects);
    }

    /// Takes note of what counts also if another pass was in the way.
    pub(super) fn take_outcome(
        &mut self,
        now: Now,
        work: &Work,
        outcome: &Outcome,
        effects: &mut Vec<Effect>,
    ) {
        if outcome.changed {
            self.changed_at = Some(now.uptime);
        }
        if outcome.resent && self.resend_until == work.resend_accepted_until {
            self.resend_until = None;
        }
        self.down_port_retry.clone_from(&outcome.down_port_retry);
        self.building_since.clone_from(&outcome.building_since);
        self.removed_at.clone_from(&outcome.removed_at);
        self.unwritten.clone_from(&outcome.unwritten);
        if outcome.nodes.is_some() {
            // A pass that failed before it saw the ports doesn't know that they are up.
            self.down_ports = outcome.down_ports;
            self.take_hold(now, outcome, effects);
            self.was_planned = true;
            self.is_held = false;
        }
        // A pass that failed before it looked says nothing about it.
        if outcome.memory == Memory::Held {
            self.is_held = true;
            self.hold_all(now);
        }
        if let (false, Ok(spec)) = (outcome.sent.is_empty(), &work.object.spec) {
            let note = report::sent(&outcome.sent, spec.target());
            let notice = Notice { warning: false, reason: "NodesSent", note };
            effects.push(Effect::RecordEvent(Arc::clone(&self.object), notice));
        }
        if self.remembered != outcome.remembered {
            for names in &outcome.remembered {
                log::warn!("{}: {names}", self.object.key);
            }
            self.remembered.clone_from(&outcome.remembered);
        }
        self.secret(work, outcome, effects);
    }

    /// All nodes are held, because their records are lost.
    fn hold_all(&mut self, now: Now) {
        let before = self.hold.take().filter(|hold| hold.hash == memory::APPROVAL);
        self.hold = Some(before.unwrap_or_else(|| Hold {
            hash: memory::APPROVAL.to_owned(),
            since: now.wall,
            nodes: self.status.nodes.unwrap_or_default(),
            approved: false,
        }));
    }

    /// What is held after a pass that looked at it.
    fn take_hold(&mut self, now: Now, outcome: &Outcome, effects: &mut Vec<Effect>) {
        let before = self.hold.take();
        self.hold = outcome.hold.as_ref().map(|hold| Hold {
            hash: hold.hash.clone(),
            since: before.as_ref().map_or(now.wall, |before| before.since),
            nodes: u32::try_from(hold.removals.len()).unwrap_or(u32::MAX),
            approved: hold.is_approved,
        });
        let mut warn = |reason, note| {
            let notice = Notice { warning: true, reason, note };
            effects.push(Effect::RecordEvent(Arc::clone(&self.object), notice));
        };
        let is_held = |hold: &&Hold| !hold.approved;
        if let Some(hold) = outcome.hold.as_ref().filter(|hold| !hold.is_approved)
            && before.as_ref().filter(is_held).is_none_or(|before| before.hash != hold.hash)
        {
            warn(Reason::ChangeHeld.name(), hold.message(&self.object));
        }
        if outcome.all_emptied > 0 && self.all_emptied == 0 {
            let nodes = report::count(outcome.all_emptied, "node");
            let note =
                format!("{nodes} had interfaces and none has a port now, so nothing is sent");
            warn("AllPortsGone", note);
        }
        self.all_emptied = outcome.all_emptied;
    }

    /// RabbitMQ's access is written to the Secret once for each answer of Contrabass.
    fn secret(&mut self, work: &Work, outcome: &Outcome, effects: &mut Vec<Effect>) {
        match &outcome.rabbitmq {
            Some((_, Err(problem))) => self.rabbitmq_problem = Some(problem.clone()),
            Some((serial, Ok(rabbitmq))) => {
                self.rabbitmq_problem = None;
                let spec = work.object.spec.as_ref();
                let source = spec.ok().map(|spec| (spec.provider_id.clone(), *serial));
                if self.secret_source != source {
                    self.secret_source = source;
                    self.has_secret = true;
                    let object = Arc::clone(&self.object);
                    effects.push(Effect::WriteSecret(object, rabbitmq.clone()));
                }
            }
            // The provider was looked up, and has no RabbitMQ (any more).
            None if outcome.nodes.is_some() => {
                self.rabbitmq_problem = None;
                self.secret_source = None;
                self.secret_note = None;
                if std::mem::take(&mut self.has_secret) {
                    effects.push(Effect::ForgetSecret(Arc::clone(&self.object)));
                }
            }
            None => {}
        }
    }

    /// Writes the outcome to the status, and records Events about what is new in it.
    pub(super) fn report(
        &mut self,
        now: Now,
        work: &Work,
        outcome: &Outcome,
        effects: &mut Vec<Effect>,
    ) {
        self.record_events(outcome, effects);
        self.ready = Some((outcome.ready.clone(), work.object.generation));
        if let Some(mut status) = self.next_status(now, outcome.nodes) {
            let is_planned = outcome.nodes.is_some();
            let used = outcome.used_approval.as_ref();
            status.last_approved =
                memory::last_approved(&work.object, &self.status, is_planned, used);
            self.write(now, status, effects);
        }
    }

    /// Events are for transitions and for what was sent; a state that lasts is in the status.
    fn record_events(&mut self, outcome: &Outcome, effects: &mut Vec<Effect>) {
        let mut record = |warning, reason, note: String| {
            let notice = Notice { warning, reason, note };
            effects.push(Effect::RecordEvent(Arc::clone(&self.object), notice));
        };
        let ready = &outcome.ready;
        let before = self.status.condition("Ready");
        let reason = ready.reason.name();
        if ready.reason.is_success() {
            if before.is_some_and(|ready| ready.status == "False") {
                record(false, Reason::Synced.name(), ready.message.clone());
            }
        } else if before.is_none_or(|ready| ready.reason != reason)
            && ready.reason != Reason::ChangeHeld
        {
            record(true, reason, ready.message.clone());
        }
        if outcome.memory == Memory::Renumbered {
            let note = "the inventory has no record of the object's nodes, so their ports were \
                        numbered as on first sight";
            record(true, Reason::MemoryLost.name(), note.to_owned());
        }
        if outcome.nodes.is_some() {
            if outcome.over_limit > self.over_limit {
                let ports = report::count(outcome.over_limit, "port");
                let note = format!("over the limit of 10 interfaces a node: {ports}");
                record(true, "InterfacesTruncated", note);
            }
            self.over_limit = outcome.over_limit;
        }
    }

    /// The Secret was written, or couldn't be.
    pub(super) fn secret_checked(
        &mut self,
        now: Now,
        note: Option<SecretNote>,
        effects: &mut Vec<Effect>,
    ) {
        // The end of a write that was under way when the Secret was forgotten says nothing any more.
        if !self.has_secret || self.secret_note == note {
            return;
        }
        if let Some(note) = note.as_ref().filter(|note| note.foreign) {
            let notice = Notice { warning: true, reason: "ForeignSecret", note: note.text.clone() };
            effects.push(Effect::RecordEvent(Arc::clone(&self.object), notice));
        }
        self.secret_note = note;
        if let Some(mut status) = self.next_status(now, None) {
            // No pass has ended: only the note is new.
            status.last_synced_at.clone_from(&self.status.last_synced_at);
            self.write(now, status, effects);
        }
    }

    /// Writes that nothing is done for the object.
    pub(super) fn pause(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let status = report::paused(&self.status, self.object.generation, now);
        self.write(now, status, effects);
    }

    /// None before the first pass, and while the object is paused.
    fn next_status(&self, now: Now, nodes: Option<u32>) -> Option<Status> {
        let (ready, generation) = self.ready.as_ref().filter(|_| !self.object.is_paused())?;
        let secret = self.secret_note.as_ref().map(|note| &note.text);
        let notes = [secret, self.rabbitmq_problem.as_ref(), self.unwritten.as_ref()];
        let notes: Vec<String> = notes.into_iter().flatten().cloned().collect();
        let report = Report {
            generation: *generation,
            nodes,
            is_held: self.is_held,
            down_port_retry: self.down_port_retry.clone(),
            hold: self.hold.clone(),
            notes: &notes,
        };
        Some(report::next(&self.status, ready, &report, now))
    }

    fn write(&mut self, now: Now, status: Status, effects: &mut Vec<Effect>) {
        let status = condition::put(status, &self.status, &self.known, now);
        if std::mem::take(&mut self.shows_another) || self.status != status {
            self.status = status.clone();
            effects.push(Effect::WriteStatus(Arc::clone(&self.object), status));
        }
    }

    /// For the inventory's page.
    pub(super) fn shown(&self, next_due: Option<Timestamp>) -> ObjectState {
        let configured = self.status.condition(CONFIGURED);
        let ready = self.status.condition("Ready");
        let text = |read: fn(&Condition) -> &String| ready.map(|it| read(it).clone());
        let spec = self.object.spec.as_ref();
        ObjectState {
            namespace: self.object.key.namespace.clone(),
            name: self.object.key.name.clone(),
            provider_id: spec.map(|spec| spec.provider_id.clone()).unwrap_or_default(),
            ready: text(|ready| &ready.status).unwrap_or_else(|| "Unknown".to_owned()),
            ready_since: ready.and_then(|ready| ready.last_transition_time.parse().ok()),
            reason: text(|ready| &ready.reason).unwrap_or_default(),
            message: text(|ready| &ready.message).unwrap_or_default(),
            hold: self.status.hold.clone().filter(|hold| !hold.approved),
            nodes: self.status.nodes,
            last_synced_at: self.status.last_synced_at.as_ref().and_then(|it| it.parse().ok()),
            next_due,
            paused: self.object.is_paused(),
            configured: configured.map(|it| it.status.clone()),
            configured_nodes: self.status.configured.clone(),
            configured_reason: configured.map(|it| it.reason.clone()),
            configured_message: configured.map(|it| it.message.clone()),
        }
    }
}
