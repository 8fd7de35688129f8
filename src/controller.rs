//! The one owner of what changes: which objects exist, when each is due, what each was told.
//!
//! Pure: [`Event`]s and the time go in, [`Effect`]s come out, nothing is waited for. Whoever asks
//! "what can happen?" reads [`Event`]; "what can it do?" is [`Effect`]. The queue decides who is
//! next, [`crate::reconcile`] what a sync comes to, this file what follows from it.

mod gauges;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Now;
use crate::cloud::contrabass::RabbitMq;
use crate::config::Intervals;
use crate::metrics::{CONTROLLER, Metrics, QUEUE};
use crate::overview::{ObjectState, Overview};
use crate::queue::{Member, NextPass, Queue};
use crate::reconcile::ownership::Ownership;
use crate::reconcile::report::{self, Reason, Report};
use crate::reconcile::schedule::{Facts, next_due};
use crate::reconcile::{Lane, Outcome, Pass, Scope, Work};
use crate::resources::{DownPortRetry, ObjectKey, OpenstackConfig, Status};

/// An object that waits for an older one looks again after this long, should nobody wake it.
const WAIT_FOR_OLDER: Duration = Duration::from_secs(1);
/// So long the first syncs wait for the lists of all namespaces, for which of two objects keeps a node
/// depends on both. One that can't be listed stops the others no longer than that; what is recorded as
/// its objects' own is safe with the ownership table.
const WAIT_FOR_LISTS: Duration = Duration::from_secs(10);

/// Everything that can happen.
#[derive(Debug)]
pub enum Event {
    /// A whole scope as it is: what isn't in it doesn't exist any more.
    Listed {
        /// The namespace; none for all of them.
        scope: Option<String>,
        /// All its objects.
        objects: Vec<OpenstackConfig>,
    },
    /// An object was created or changed, or perhaps not at all.
    Applied(Box<OpenstackConfig>),
    /// An object is gone.
    Deleted {
        /// Its key.
        key: ObjectKey,
        /// Its uid: a successor of the same name may already be known.
        uid: String,
    },
    /// An object of a pass is reconciled.
    Finished {
        /// The object as the pass had it.
        work: Box<Work>,
        /// The result.
        outcome: Box<Outcome>,
        /// Time since the pass began.
        took: Duration,
    },
    /// A worker has reported every object of its pass and is idle.
    PassEnded {
        /// [`Pass::number`].
        number: u64,
    },
    /// What became of an object's Secret.
    SecretChecked {
        /// The owner's key.
        key: ObjectKey,
        /// The owner's uid.
        uid: String,
        /// What people should know of it; none when all is well.
        note: Option<SecretNote>,
    },
}

/// Trouble with an object's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretNote {
    /// For the status.
    pub text: String,
    /// The name is taken by a Secret of somebody else's, which was left alone.
    pub foreign: bool,
}

/// Everything that can be done about it.
#[derive(Debug)]
pub enum Effect {
    /// Give an idle worker this pass.
    Start(Pass),
    /// Write the whole status.
    WriteStatus(Arc<OpenstackConfig>, Status),
    /// See that the object's Secret holds this.
    EnsureSecret(Arc<OpenstackConfig>, RabbitMq),
    /// The object's Secret is seen to no longer: the provider has nothing for it any more.
    LeaveSecret(Arc<OpenstackConfig>),
    /// Say something where `kubectl describe` shows it.
    Tell(Arc<OpenstackConfig>, Notice),
    /// The object is gone: nothing more is written about it.
    Forget(Arc<OpenstackConfig>),
}

/// A Kubernetes Event about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Somebody should look.
    pub warning: bool,
    /// A word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub note: String,
}

/// What is known of one object.
#[derive(Debug)]
struct Tracked {
    object: Arc<OpenstackConfig>,
    /// As last written, or as found.
    status: Status,
    /// The watch has shown another status since that was written: an older one of ours, which is
    /// followed by this one, or an edit, which is put right after the next pass.
    shows_another: bool,
    /// Resends for DOWN ports so far; the status may not say it yet.
    down_port_retry: Option<DownPortRetry>,
    /// Uptime of the last change that was sent.
    changed_at: Option<Duration>,
    /// Somebody asked for everything accepted up to this moment to be sent again.
    resend_until: Option<Timestamp>,
    /// Is the object's Secret seen to? What is said of it counts for so long only.
    has_secret: bool,
    /// Provider, and serial of its answer, that the object's Secret was last made from.
    secret_source: Option<(String, u64)>,
    secret_note: Option<SecretNote>,
    /// [`Work::building_since`].
    building_since: BTreeMap<String, Duration>,
    /// [`Outcome::remembered`], as it was logged.
    remembered: Vec<String>,
    /// RabbitMQ's access can't be used.
    rabbitmq_problem: Option<String>,
    unwritten: Option<String>,
    over_limit: usize,
    /// Ports that were DOWN when last seen.
    down_ports: usize,
    /// How its last sync ended, and of which generation.
    verdict: Option<(report::Verdict, i64)>,
}

/// The owner of all that.
pub struct Controller {
    intervals: Intervals,
    objects: BTreeMap<ObjectKey, Tracked>,
    queue: Queue<ObjectKey>,
    ownership: Arc<Ownership>,
    /// Objects that another pass was in the way of.
    waiting: BTreeSet<ObjectKey>,
    /// An object was reconciled since a pass last ended, so some may wait no longer.
    was_reported: bool,
    /// Objects whose last sync left nodes to older ones.
    conflicting: BTreeSet<ObjectKey>,
    /// Scopes whose first list has come,
    listed: BTreeSet<Option<String>>,
    /// of so many,
    scopes: usize,
    /// and the uptime from which on the others aren't waited for.
    lists_until: Duration,
    stopping: bool,
    effects: Vec<Effect>,
    metrics: Arc<Metrics>,
    overview: Arc<Overview>,
}

impl Controller {
    /// Knows nothing yet. It works from the start: there is one only where this replica leads, and a
    /// standby watches nothing.
    pub fn new(
        intervals: Intervals,
        workers: usize,
        ownership: Arc<Ownership>,
        metrics: Arc<Metrics>,
        overview: Arc<Overview>,
    ) -> Controller {
        Controller {
            intervals,
            objects: BTreeMap::new(),
            queue: Queue::new(workers),
            ownership,
            waiting: BTreeSet::new(),
            was_reported: false,
            conflicting: BTreeSet::new(),
            listed: BTreeSet::new(),
            scopes: 0,
            lists_until: Duration::ZERO,
            stopping: false,
            effects: Vec::new(),
            metrics,
            overview,
        }
    }

    /// The same, but so many scopes are listed before the first sync, if their lists come soon.
    pub fn expecting(self, scopes: usize, now: Now) -> Controller {
        Controller { scopes, lists_until: now.uptime + WAIT_FOR_LISTS, ..self }
    }

    /// The same, but at most so many objects are reconciled in one pass. For tests.
    pub fn with_batch_limit(mut self, objects: usize) -> Controller {
        self.queue.set_batch_limit(objects);
        self
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Listed { scope, objects } => self.listed(now, scope, objects),
            Event::Applied(object) => self.applied(now, *object),
            Event::Deleted { key, uid } => self.deleted(now, &key, &uid),
            Event::Finished { work, outcome, took } => self.finished(now, &work, *outcome, took),
            Event::PassEnded { number } => self.pass_ended(now, number),
            Event::SecretChecked { key, uid, note } => self.secret_checked(now, &key, &uid, note),
        }
    }

    /// Gives jobs to free workers; call it after every turn. Gives what is to be done.
    pub fn dispatch(&mut self, now: Now) -> Vec<Effect> {
        while self.begins_at().is_some_and(|from| now.uptime >= from) {
            let Some(next) = self.queue.next(now.uptime) else { break };
            self.start(next);
        }
        self.metrics.set("workqueue_depth", QUEUE, self.queue.depth() as f64);
        self.metrics.add("workqueue_adds_total", QUEUE, self.queue.take_became_due() as f64);
        let busy = self.queue.busy_workers() as f64;
        self.metrics.set("controller_runtime_active_workers", &[CONTROLLER], busy);
        std::mem::take(&mut self.effects)
    }

    /// The uptime at which [`Controller::dispatch`] has something to do by time alone.
    pub fn next_due(&self) -> Option<Duration> {
        self.queue.next_due().and_then(|due| Some(due.max(self.begins_at()?)))
    }

    /// The uptime from which on syncs begin; none while they don't at all.
    fn begins_at(&self) -> Option<Duration> {
        let are_listed = self.listed.len() >= self.scopes;
        let from = if are_listed { Duration::ZERO } else { self.lists_until };
        (!self.stopping).then_some(from)
    }

    /// No new syncs from now on.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Is any worker still at work?
    pub fn is_busy(&self) -> bool {
        self.queue.busy_workers() > 0
    }

    /// How many scopes have been listed.
    pub fn scopes_listed(&self) -> usize {
        self.listed.len()
    }

    fn listed(&mut self, now: Now, scope: Option<String>, objects: Vec<OpenstackConfig>) {
        let present: BTreeSet<&str> = objects.iter().map(|object| object.uid.as_str()).collect();
        let gone: Vec<(ObjectKey, String)> = self
            .objects
            .iter()
            .filter(|(key, _)| scope.as_ref().is_none_or(|scope| *scope == key.namespace))
            .filter(|(_, tracked)| !present.contains(tracked.object.uid.as_str()))
            .map(|(key, tracked)| (key.clone(), tracked.object.uid.clone()))
            .collect();
        for (key, uid) in gone {
            self.deleted(now, &key, &uid);
        }
        // Nothing of a scope is dispatched before all of it is known: which of two keeps a node
        // depends on both. Ownership keeps what is recorded of the other scopes.
        for object in objects {
            self.applied(now, object);
        }
        if let Some(namespace) = &scope {
            self.ownership.listed(namespace);
        }
        self.listed.insert(scope);
    }

    fn applied(&mut self, now: Now, object: OpenstackConfig) {
        let key = object.key.clone();
        if object.being_deleted {
            let uid = object.uid.clone();
            return self.deleted(now, &key, &uid);
        }
        match self.objects.get(&key).map(|tracked| Arc::clone(&tracked.object)) {
            Some(known) if known.uid == object.uid => self.changed(now, &known, object),
            Some(known) => {
                let uid = known.uid.clone();
                self.deleted(now, &key, &uid);
                self.appeared(now, object);
            }
            None => self.appeared(now, object),
        }
    }

    fn appeared(&mut self, now: Now, object: OpenstackConfig) {
        self.ownership.know(&object);
        let key = object.key.clone();
        let object = Arc::new(object);
        let tracked = Tracked {
            status: object.status.clone(),
            shows_another: false,
            down_port_retry: object.status.down_port_retry.clone(),
            object,
            changed_at: None,
            resend_until: None,
            has_secret: false,
            secret_source: None,
            secret_note: None,
            building_since: BTreeMap::new(),
            remembered: Vec::new(),
            rabbitmq_problem: None,
            unwritten: None,
            over_limit: 0,
            down_ports: 0,
            verdict: None,
        };
        self.objects.insert(key.clone(), tracked);
        self.make_due(now, &key, Lane::Fresh);
        self.show(now, &key);
    }

    /// Our own status writes come back as changes too: only the spec and the annotation count.
    fn changed(&mut self, now: Now, known: &OpenstackConfig, object: OpenstackConfig) {
        let key = object.key.clone();
        let forced = known.force != object.force;
        let acts = forced || known.generation != object.generation;
        if acts {
            self.ownership.know(&object);
        }
        let Some(tracked) = self.objects.get_mut(&key) else { return };
        tracked.shows_another = !tracked.status.is_shown_by(&object.status);
        tracked.object = Arc::new(object);
        if forced {
            tracked.resend_until = Some(now.wall);
            tracked.secret_source = None;
        }
        if acts {
            self.make_due(now, &key, Lane::Fresh);
            self.wake_conflicting(now, &key);
        }
    }

    fn deleted(&mut self, now: Now, key: &ObjectKey, uid: &str) {
        self.ownership.forget(uid);
        if self.objects.get(key).is_none_or(|tracked| tracked.object.uid != uid) {
            return;
        }
        if let Some(tracked) = self.objects.remove(key) {
            self.queue.remove(key);
            self.waiting.remove(key);
            self.conflicting.remove(key);
            self.overview.remove(&key.namespace, &key.name);
            self.effects.push(Effect::Forget(tracked.object));
            self.wake_conflicting(now, key);
            self.wake_waiting(now);
        }
    }

    fn start(&mut self, next: NextPass<ObjectKey>) {
        let NextPass { number, scope, lane, keys } = next;
        let work: Vec<Work> = keys.iter().filter_map(|key| self.work_on(key)).collect();
        if work.is_empty() {
            self.queue.ended(number);
        } else {
            self.effects.push(Effect::Start(Pass { number, scope, lane, work }));
        }
    }

    /// What a pass has to know of an object.
    fn work_on(&mut self, key: &ObjectKey) -> Option<Work> {
        let Some(tracked) = self.objects.get(key) else {
            self.queue.finish(key, None);
            return None;
        };
        self.waiting.remove(key);
        if let Some(waited) = self.queue.waited(key) {
            self.metrics.observe("workqueue_queue_duration_seconds", QUEUE, waited);
        }
        Some(Work {
            object: Arc::clone(&tracked.object),
            resend_accepted_until: tracked.resend_until,
            down_port_retry: tracked.down_port_retry.clone(),
            building_since: tracked.building_since.clone(),
        })
    }

    /// Another pass is in the way of the object, which is due again when one ends, or soon.
    fn put_off(&mut self, now: Now, key: &ObjectKey, lane: Lane) {
        self.waiting.insert(key.clone());
        self.queue.finish(key, Some((now.uptime + WAIT_FOR_OLDER, lane)));
    }

    /// Its worker is idle. What it was in the way of comes now.
    fn pass_ended(&mut self, now: Now, number: u64) {
        self.queue.ended(number);
        if std::mem::take(&mut self.was_reported) {
            self.wake_waiting(now);
        }
    }

    fn finished(&mut self, now: Now, work: &Work, outcome: Outcome, took: Duration) {
        self.count(now, &outcome, took);
        let key = &work.object.key;
        self.was_reported |= !outcome.later;
        let tracked = self.objects.get_mut(key).filter(|t| t.object.uid == work.object.uid);
        let Some(tracked) = tracked else { return self.queue.finish(key, None) };
        if outcome.cut_short {
            let due = now.uptime + self.intervals.error;
            return self.queue.finish(key, Some((due, Lane::Retry)));
        }
        if outcome.changed {
            tracked.changed_at = Some(now.uptime);
        }
        if outcome.resent && tracked.resend_until == work.resend_accepted_until {
            tracked.resend_until = None;
        }
        tracked.down_port_retry.clone_from(&outcome.down_port_retry);
        tracked.building_since.clone_from(&outcome.building_since);
        tracked.unwritten.clone_from(&outcome.unwritten);
        if outcome.nodes.is_some() {
            // A pass that failed before it saw the ports doesn't know that they are up.
            tracked.down_ports = outcome.down_ports;
        }
        Self::secret(&mut self.effects, tracked, work, &outcome);
        if tracked.remembered != outcome.remembered {
            for names in &outcome.remembered {
                log::warn!("{key}: {names}");
            }
            tracked.remembered.clone_from(&outcome.remembered);
        }
        if outcome.later {
            let lane = self.queue.lane(key).unwrap_or(Lane::Retry);
            self.put_off(now, key, lane);
        } else {
            self.conclude(now, work, outcome);
        }
        self.show(now, key);
    }

    /// What the outcome says of the object's state, and when it is looked at next.
    fn conclude(&mut self, now: Now, work: &Work, outcome: Outcome) {
        let key = &work.object.key;
        let Some(tracked) = self.objects.get_mut(key) else { return };
        let freed = outcome.nodes.is_some() && outcome.nodes != tracked.status.nodes;
        if outcome.verdict.reason == Reason::NodeConflict {
            self.conflicting.insert(key.clone());
        } else {
            self.conflicting.remove(key);
        }
        Self::notices(&mut self.effects, tracked, &outcome);
        let failed = !outcome.verdict.reason.is_success();
        let facts = Facts {
            failed,
            retry_after: outcome.retry_after,
            changed_at: tracked.changed_at,
            down_ports: outcome.down_port_retry.as_ref(),
            resync_at: outcome.resync_at,
        };
        let due = next_due(now, &facts, &self.intervals, phase(&work.object));
        let notes = tracked.notes();
        let report = Report {
            generation: work.object.generation,
            nodes: outcome.nodes,
            down_port_retry: outcome.down_port_retry,
            notes: &notes,
        };
        let status = report::next(&tracked.status, &outcome.verdict, &report, now);
        tracked.verdict = Some((outcome.verdict, work.object.generation));
        Self::write(&mut self.effects, tracked, status);
        self.queue.finish(key, Some((due, if failed { Lane::Retry } else { Lane::Poll })));
        if freed {
            self.wake_conflicting(now, key);
        }
    }

    /// RabbitMQ's access goes into the Secret once for each answer of Contrabass.
    fn secret(effects: &mut Vec<Effect>, tracked: &mut Tracked, work: &Work, outcome: &Outcome) {
        let Some((serial, access)) = &outcome.rabbitmq else {
            if outcome.nodes.is_some() {
                // The provider was looked up, and has no RabbitMQ (any more).
                tracked.rabbitmq_problem = None;
                tracked.secret_source = None;
                tracked.secret_note = None;
                if std::mem::take(&mut tracked.has_secret) {
                    effects.push(Effect::LeaveSecret(Arc::clone(&tracked.object)));
                }
            }
            return;
        };
        let source = provider_of(&work.object).map(|provider| (provider, *serial));
        match access {
            Ok(rabbitmq) => {
                tracked.rabbitmq_problem = None;
                if tracked.secret_source != source {
                    tracked.secret_source = source;
                    tracked.has_secret = true;
                    let object = Arc::clone(&tracked.object);
                    effects.push(Effect::EnsureSecret(object, rabbitmq.clone()));
                }
            }
            Err(problem) => tracked.rabbitmq_problem = Some(problem.clone()),
        }
    }

    /// Events are for transitions only; a state that lasts is in the status.
    fn notices(effects: &mut Vec<Effect>, tracked: &mut Tracked, outcome: &Outcome) {
        let mut tell = |warning, reason, note: String| {
            let notice = Notice { warning, reason, note };
            effects.push(Effect::Tell(Arc::clone(&tracked.object), notice));
        };
        let verdict = &outcome.verdict;
        let before = tracked.status.condition("Ready");
        let was = before.map(|ready| (ready.status.as_str(), ready.reason.as_str()));
        let reason = verdict.reason.name();
        if verdict.reason.is_success() {
            if was.is_some_and(|(status, _)| status == "False") {
                tell(false, Reason::Synced.name(), verdict.message.clone());
            }
        } else if was.is_none_or(|(_, known)| known != reason) {
            tell(true, reason, verdict.message.clone());
        }
        if outcome.nodes.is_some() {
            if outcome.over_limit > tracked.over_limit {
                let ports = report::count(outcome.over_limit, "port");
                let note = format!("over the limit of 10 interfaces a node: {ports}");
                tell(true, "InterfacesTruncated", note);
            }
            tracked.over_limit = outcome.over_limit;
        }
    }

    fn secret_checked(&mut self, now: Now, key: &ObjectKey, uid: &str, note: Option<SecretNote>) {
        let Some(tracked) = self.objects.get_mut(key) else { return };
        // A write that was under way when the Secret was left speaks of what is over.
        let is_over = !tracked.has_secret;
        if tracked.object.uid != uid || is_over || tracked.secret_note == note {
            return;
        }
        if let Some(note) = note.as_ref().filter(|note| note.foreign) {
            let notice = Notice { warning: true, reason: "ForeignSecret", note: note.text.clone() };
            self.effects.push(Effect::Tell(Arc::clone(&tracked.object), notice));
        }
        tracked.secret_note = note;
        let notes = tracked.notes();
        if let Some((verdict, generation)) = &tracked.verdict {
            let report = Report {
                generation: *generation,
                nodes: None,
                down_port_retry: tracked.down_port_retry.clone(),
                notes: &notes,
            };
            let mut status = report::next(&tracked.status, verdict, &report, now);
            // No sync has ended: only the note is new.
            status.last_synced_at.clone_from(&tracked.status.last_synced_at);
            Self::write(&mut self.effects, tracked, status);
            self.show(now, key);
        }
    }

    fn write(effects: &mut Vec<Effect>, tracked: &mut Tracked, status: Status) {
        if std::mem::take(&mut tracked.shows_another) || tracked.status != status {
            tracked.status = status.clone();
            effects.push(Effect::WriteStatus(Arc::clone(&tracked.object), status));
        }
    }

    fn make_due(&mut self, now: Now, key: &ObjectKey, lane: Lane) {
        let Some(tracked) = self.objects.get(key) else { return };
        let object = &tracked.object;
        let member = Member {
            scope: Scope::of(object),
            created: object.created,
            vms: object.spec.as_ref().map_or(0, |spec| spec.vm_ids.len()),
        };
        self.queue.add(key, member, lane, now.uptime);
    }

    /// Nodes may have become free: objects that were refused some are looked at again. Of any cloud:
    /// two may send to one cluster.
    fn wake_conflicting(&mut self, now: Now, cause: &ObjectKey) {
        for key in self.conflicting.clone() {
            if key != *cause {
                self.make_due(now, &key, Lane::Retry);
            }
        }
    }

    fn wake_waiting(&mut self, now: Now) {
        for key in std::mem::take(&mut self.waiting) {
            let lane = self.queue.lane(&key).unwrap_or(Lane::Retry);
            self.make_due(now, &key, lane);
        }
    }

    fn show(&self, now: Now, key: &ObjectKey) {
        let Some(tracked) = self.objects.get(key) else { return };
        let ready = tracked.status.condition("Ready");
        let text = |read: fn(&crate::resources::Condition) -> &String| {
            ready.map(|condition| read(condition).clone()).unwrap_or_default()
        };
        self.overview.put(ObjectState {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            provider_id: match &tracked.object.spec {
                Ok(spec) => spec.provider_id.clone(),
                Err(_) => String::new(),
            },
            ready: ready.map_or_else(|| "Unknown".to_owned(), |ready| ready.status.clone()),
            reason: text(|ready| &ready.reason),
            message: text(|ready| &ready.message),
            nodes: tracked.status.nodes,
            last_synced_at: tracked.status.last_synced_at.as_ref().and_then(|t| t.parse().ok()),
            next_due: self
                .queue
                .due_at(key)
                .and_then(|due| now.wall.checked_add(due.saturating_sub(now.uptime)).ok()),
        });
    }

    fn count(&self, now: Now, outcome: &Outcome, took: Duration) {
        self.metrics.observe("controller_runtime_reconcile_time_seconds", &[CONTROLLER], took);
        self.metrics.observe("workqueue_work_duration_seconds", QUEUE, took);
        self.metrics.add("multinic_nodes_sent_total", &[], outcome.sent as f64);
        if outcome.later {
            self.count_result("requeue_after");
        } else if outcome.cut_short {
            self.count_result("requeue");
        } else if outcome.verdict.reason.is_success() {
            self.count_result("success");
            let seconds = now.wall.as_second() as f64;
            self.metrics.set("multinic_last_success_timestamp_seconds", &[], seconds);
        } else {
            self.count_result("error");
            self.metrics.add("controller_runtime_reconcile_errors_total", &[CONTROLLER], 1.0);
            self.metrics.add("workqueue_retries_total", QUEUE, 1.0);
        }
    }

    fn count_result(&self, result: &str) {
        let labels = [CONTROLLER, ("result", result)];
        self.metrics.add("controller_runtime_reconcile_total", &labels, 1.0);
    }

    /// Gauges over all objects; costs as much as there are objects, so it is for every few seconds.
    pub fn publish_gauges(&self, now: Now) {
        let objects = self.objects.values();
        gauges::report(&self.metrics, objects.map(|known| (&known.status, known.down_ports)));
        let (mut longest, mut all) = (Duration::ZERO, Duration::ZERO);
        for running in self.queue.running_times(now.uptime) {
            (longest, all) = (longest.max(running), all + running);
        }
        let longest = longest.as_secs_f64();
        self.metrics.set("workqueue_longest_running_processor_seconds", QUEUE, longest);
        self.metrics.set("workqueue_unfinished_work_seconds", QUEUE, all.as_secs_f64());
    }
}

/// Where the ticks of the object's scope are, at which it is polled.
fn phase(object: &OpenstackConfig) -> u64 {
    let mut hasher = DefaultHasher::new();
    Scope::of(object).hash(&mut hasher);
    hasher.finish()
}

/// None while the spec can't be read.
fn provider_of(object: &OpenstackConfig) -> Option<String> {
    object.spec.as_ref().ok().map(|spec| spec.provider_id.clone())
}

impl Tracked {
    /// What people should know beside the verdict.
    fn notes(&self) -> Vec<String> {
        let secret = self.secret_note.as_ref().map(|note| note.text.clone());
        [secret, self.rabbitmq_problem.clone(), self.unwritten.clone()]
            .into_iter()
            .flatten()
            .collect()
    }
}

#[cfg(test)]
mod tests;
