//! Which objects exist, when each is due, what their statuses say: all that changes has this one owner.
//!
//! Pure: [`Event`]s and the time go in, [`Effect`]s come out; nothing waits and nothing is asked. The queue
//! decides what is next, [`crate::reconcile`] what a pass comes to, this file what follows from that.

mod brokers;
pub mod feedback;
mod gauges;
mod hearing;
mod tracked;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::cloud::contrabass::RabbitMq;
use crate::config::{Config, FoundSecrets, Intervals};
use crate::inventory::contents::Inventory;
use crate::metrics::{CONTROLLER, Metrics, QUEUE};
use crate::notifications::message::Change;
use crate::overview::Overview;
use crate::queue::{NextPass, Queue, When};
use crate::reconcile::memory::Memory;
use crate::reconcile::ownership::Ownership;
use crate::reconcile::report::Reason;
use crate::reconcile::schedule::{Facts, next_due};
use crate::reconcile::{Lane, Outcome, Pass, Scope, Work};
use crate::resources::{ClusterRef, ObjectKey, OpenstackConfig, Status};
pub use brokers::BrokerNews;
use brokers::Brokers;
use feedback::Heard;
use hearing::Hearing;
pub use hearing::Records;
use tracked::Tracked;

/// An object that is blocked by another pass is due again after this long at the latest.
const LATER: Duration = Duration::from_secs(1);
/// So long the first passes wait for the lists of all namespaces, because which of two objects manages a
/// node depends on both. A namespace that can't be listed stops the others no longer than that; what is
/// recorded as its objects' own stays theirs.
const WAIT_FOR_LISTS: Duration = Duration::from_secs(10);

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// All objects of a namespace: others of it don't exist any more.
    Listed {
        /// The namespace; none for all of them.
        namespace: Option<String>,
        /// Its objects.
        objects: Vec<OpenstackConfig>,
    },
    /// An object exists in this state. Lists and reconnects repeat objects that didn't change.
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
    /// Records of an object's nodes, which others had changed, are put back or emptied: its nodes are
    /// sent again.
    RecordsRestored {
        /// The object's key.
        key: ObjectKey,
        /// The object's uid.
        uid: String,
        /// What became of them.
        notice: Notice,
    },
    /// An object's Secret was written, or couldn't be.
    SecretChecked {
        /// The owner's key.
        key: ObjectKey,
        /// The owner's uid.
        uid: String,
        /// What is wrong with it, if anything is.
        note: Option<SecretNote>,
    },
    /// A cluster says something of its nodes.
    Heard {
        /// The cluster.
        cluster: Arc<ClusterRef>,
        /// What became known.
        heard: Heard,
    },
    /// OpenStack has notified a change.
    Notified {
        /// What has changed.
        change: Change,
        /// What was recorded then; says who had a port that is gone.
        inventory: Arc<Inventory>,
        /// The uptime at which the message came.
        heard_at: Duration,
    },
    /// Something became of the connection to a broker.
    Broker(Arc<RabbitMq>, BrokerNews),
}

/// Trouble with an object's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretNote {
    /// For the status.
    pub text: String,
    /// Another owner has a Secret of that name, which was left alone.
    pub foreign: bool,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Give an idle worker this pass.
    Start(Pass),
    /// Write the whole status.
    WriteStatus(Arc<OpenstackConfig>, Status),
    /// Write the object's Secret.
    WriteSecret(Arc<OpenstackConfig>, RabbitMq),
    /// Stop writing the object's Secret: the provider has no RabbitMQ any more.
    ForgetSecret(Arc<OpenstackConfig>),
    /// Record a Kubernetes Event about the object.
    RecordEvent(Arc<OpenstackConfig>, Notice),
    /// The object is gone: nothing more is written about it.
    Forget(Arc<OpenstackConfig>),
    /// Read these clusters, and no others.
    ReadClusters(BTreeSet<ClusterRef>),
    /// Listen to the notifications of this broker.
    Listen(Arc<RabbitMq>),
    /// No object has this broker any more.
    StopListening(Arc<RabbitMq>),
}

/// What a Kubernetes Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Of type Warning, not Normal.
    pub warning: bool,
    /// A word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub note: String,
}

/// The owner of the objects' states.
pub struct Controller {
    config: Arc<Config>,
    objects: BTreeMap<ObjectKey, Tracked>,
    queue: Queue<ObjectKey>,
    ownership: Arc<Ownership>,
    /// Objects with nodes that wait for another pass: it sends them, or it is the first of an older object.
    blocked: BTreeSet<ObjectKey>,
    /// An object was reconciled since a pass last ended, so a blocked one may go on.
    was_progress: bool,
    /// Objects of which the last pass left nodes to older ones.
    conflicting: BTreeSet<ObjectKey>,
    /// None unless `OPENSTACK_NOTIFICATIONS` is set.
    brokers: Brokers,
    /// Namespaces that have been listed; none stands for all of them in one list.
    listed: BTreeSet<Option<String>>,
    /// How many lists the first passes wait for.
    lists: usize,
    /// Uptime until which the first passes wait for these lists.
    lists_until: Duration,
    stopping: bool,
    effects: Vec<Effect>,
    /// What clusters say of the nodes that were sent to them.
    hearing: Hearing,
    metrics: Arc<Metrics>,
    overview: Arc<Overview>,
}

impl Controller {
    /// A controller that knows no object yet.
    pub fn new(
        config: Arc<Config>,
        workers: usize,
        ownership: Arc<Ownership>,
        metrics: Arc<Metrics>,
        overview: Arc<Overview>,
    ) -> Controller {
        Controller {
            config,
            objects: BTreeMap::new(),
            queue: Queue::new(workers),
            ownership,
            blocked: BTreeSet::new(),
            was_progress: false,
            conflicting: BTreeSet::new(),
            brokers: Brokers::default(),
            listed: BTreeSet::new(),
            lists: 0,
            lists_until: Duration::ZERO,
            stopping: false,
            effects: Vec::new(),
            hearing: Hearing::default(),
            metrics,
            overview,
        }
    }

    /// The same, but the first passes wait for so many lists, if these come soon.
    pub fn expecting(self, lists: usize, now: Now) -> Controller {
        Controller { lists, lists_until: now.uptime + WAIT_FOR_LISTS, ..self }
    }

    /// The same, but with at most so many objects in one pass. For tests.
    pub fn with_batch_limit(mut self, objects: usize) -> Controller {
        self.queue.set_batch_limit(objects);
        self
    }

    /// Takes note of an event.
    pub fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Listed { namespace, objects } => self.listed(now, namespace, objects),
            Event::Applied(object) => self.applied(now, *object),
            Event::Deleted { key, uid } => self.deleted(now, &key, &uid),
            Event::Finished { work, outcome, took } => self.finished(now, &work, *outcome, took),
            Event::PassEnded { number } => self.pass_ended(now, number),
            Event::RecordsRestored { key, uid, notice } => {
                self.records_restored(now, &key, &uid, notice);
            }
            Event::SecretChecked { key, uid, note } => self.secret_checked(now, &key, &uid, note),
            Event::Heard { cluster, heard } => self.heard(now, &cluster, heard),
            Event::Notified { change, inventory, heard_at } => {
                self.notified(now, &change, &inventory, heard_at);
            }
            Event::Broker(rabbitmq, news) => self.broker(now, &rabbitmq, news),
        }
    }

    /// What is to be done, among it passes for idle workers. To be called after events, and when
    /// [`Controller::next_due`] has come.
    pub fn dispatch(&mut self, now: Now) -> Vec<Effect> {
        self.look(now);
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
        let pass = self.queue.next_due().and_then(|due| Some(due.max(self.begins_at()?)));
        pass.into_iter().chain(self.next_look().filter(|_| !self.stopping)).min()
    }

    /// The uptime from which on passes start; none while stopping.
    fn begins_at(&self) -> Option<Duration> {
        let are_listed = self.listed.len() >= self.lists;
        let from = if are_listed { Duration::ZERO } else { self.lists_until };
        (!self.stopping).then_some(from)
    }

    /// No pass starts from now on.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Does a pass run?
    pub fn is_busy(&self) -> bool {
        self.queue.busy_workers() > 0
    }

    /// How many namespaces have been listed.
    pub fn lists_received(&self) -> usize {
        self.listed.len()
    }

    fn listed(&mut self, now: Now, namespace: Option<String>, objects: Vec<OpenstackConfig>) {
        let present: BTreeSet<&str> = objects.iter().map(|object| object.uid.as_str()).collect();
        let known = self.objects.values().map(|tracked| &tracked.object);
        let gone = known.filter(|object| {
            namespace.as_ref().is_none_or(|namespace| *namespace == object.key.namespace)
                && !present.contains(object.uid.as_str())
        });
        for object in gone.cloned().collect::<Vec<_>>() {
            self.deleted(now, &object.key, &object.uid);
        }
        for object in objects {
            self.applied(now, object);
        }
        if let Some(namespace) = &namespace {
            self.ownership.listed(namespace);
        }
        self.listed.insert(namespace);
    }

    fn applied(&mut self, now: Now, object: OpenstackConfig) {
        let known = self.objects.get(&object.key).map(|tracked| Arc::clone(&tracked.object));
        match known {
            _ if object.being_deleted => self.deleted(now, &object.key, &object.uid),
            Some(known) if known.uid == object.uid => self.changed(now, object),
            known => {
                if let Some(known) = known {
                    self.deleted(now, &known.key, &known.uid);
                }
                self.appeared(now, object);
            }
        }
    }

    fn appeared(&mut self, now: Now, object: OpenstackConfig) {
        self.ownership.know(&object);
        let key = object.key.clone();
        self.objects.insert(key.clone(), Tracked::new(object));
        self.make_due(now, &key, Lane::Fresh);
        self.specs_changed(now, &key, false);
        self.show(now, &key);
    }

    /// Status writes come back as changes too: only the spec and the annotation make an object due.
    fn changed(&mut self, now: Now, object: OpenstackConfig) {
        let key = object.key.clone();
        let Some(tracked) = self.objects.get_mut(&key) else { return };
        let forced = tracked.object.force != object.force;
        let is_due = forced
            || tracked.object.approve != object.approve
            || tracked.object.generation != object.generation;
        if is_due {
            self.ownership.know(&object);
        }
        tracked.replace(object);
        if forced {
            tracked.force(now);
        }
        if is_due {
            self.make_due(now, &key, Lane::Fresh);
            self.wake_conflicting(now, &key);
        } else if tracked.object.is_paused() {
            // No pass puts a status right that others edited.
            self.pause(now, &key);
        }
        if is_due {
            self.specs_changed(now, &key, forced);
        }
    }

    fn records_restored(&mut self, now: Now, key: &ObjectKey, uid: &str, notice: Notice) {
        let tracked = self.objects.get_mut(key).filter(|tracked| tracked.object.uid == uid);
        let Some(tracked) = tracked else { return };
        tracked.force(now);
        self.effects.push(Effect::RecordEvent(Arc::clone(&tracked.object), notice));
        self.make_due(now, key, Lane::Fresh);
    }

    fn deleted(&mut self, now: Now, key: &ObjectKey, uid: &str) {
        self.ownership.forget(uid);
        if self.objects.get(key).is_none_or(|tracked| tracked.object.uid != uid) {
            return;
        }
        if let Some(tracked) = self.objects.remove(key) {
            self.queue.remove(key);
            self.blocked.remove(key);
            self.conflicting.remove(key);
            self.look_no_more(key);
            self.overview.remove(&key.namespace, &key.name);
            self.effects.push(Effect::Forget(tracked.object));
            self.leave(tracked.broker);
            self.wake_conflicting(now, key);
            self.wake_blocked(now);
        }
    }

    fn start(&mut self, next: NextPass<ObjectKey>) {
        let NextPass { number, scope, lane, keys } = next;
        let mut work = Vec::with_capacity(keys.len());
        for key in &keys {
            let Some(tracked) = self.objects.get_mut(key) else {
                self.queue.finish(key, None);
                continue;
            };
            tracked.reacts_to = tracked.heard_at.take();
            self.blocked.remove(key);
            if let Some(waited) = self.queue.waited(key) {
                self.metrics.observe("workqueue_queue_duration_seconds", QUEUE, waited);
            }
            work.push(tracked.work());
        }
        if work.is_empty() {
            self.queue.ended(number);
        } else {
            self.effects.push(Effect::Start(Pass { number, scope, lane, work }));
        }
    }

    fn finished(&mut self, now: Now, work: &Work, outcome: Outcome, took: Duration) {
        self.count(now, &outcome, took);
        self.was_progress |= !outcome.later;
        let key = &work.object.key;
        let tracked = self.objects.get_mut(key).filter(|known| known.object.uid == work.object.uid);
        let Some(tracked) = tracked else { return self.queue.finish(key, None) };
        let is_paused = tracked.object.is_paused();
        tracked.reacted(now, &outcome, &self.metrics);
        if outcome.aborted {
            let at = now.uptime + self.config.settings.intervals.error;
            let again = (!is_paused).then_some(When { at, lane: Lane::Retry });
            return self.queue.finish(key, again);
        }
        tracked.take_outcome(now, work, &outcome, &mut self.effects);
        self.look_after(now, work, &outcome);
        if self.config.notifications.enabled {
            self.note_broker(key, &outcome);
        }
        if is_paused {
            self.queue.finish(key, None);
        } else if outcome.later {
            let lane = self.queue.lane(key).unwrap_or(Lane::Retry);
            self.blocked.insert(key.clone());
            self.queue.finish(key, Some(When { at: now.uptime + LATER, lane }));
        } else {
            self.conclude(now, work, &outcome, took);
        }
        self.write_known(now, key);
        self.show(now, key);
    }

    /// The status, and when the object is due again.
    fn conclude(&mut self, now: Now, work: &Work, outcome: &Outcome, took: Duration) {
        let key = &work.object.key;
        let intervals = self.intervals_of(&work.object);
        let Some(tracked) = self.objects.get_mut(key) else { return };
        let freed = outcome.nodes.is_some() && outcome.nodes != tracked.nodes;
        tracked.nodes = outcome.nodes.or(tracked.nodes);
        if outcome.ready.reason == Reason::NodeConflict {
            self.conflicting.insert(key.clone());
        } else {
            self.conflicting.remove(key);
        }
        // What is held (see `reconcile::memory` and `reconcile::removals`) waits for a person. Retrying
        // soon is useless, so it is polled like a success.
        let is_held = outcome.memory == Memory::Held;
        let is_waiting = is_held || outcome.ready.reason == Reason::ChangeHeld;
        let failed = !outcome.ready.reason.is_success() && !is_waiting;
        let undelivered = [Reason::ViolaPostError, Reason::DeliveryError];
        tracked.is_left_alone = failed
            && (outcome.nodes.is_none() || undelivered.contains(&outcome.ready.reason))
            || outcome.retry_after.is_some();
        let facts = Facts {
            took,
            failed,
            retry_after: outcome.retry_after,
            changed_at: tracked.changed_at,
            down_ports: outcome.down_port_retry.as_ref().filter(|_| !is_held),
            resync_at: outcome.resync_at,
        };
        let at = next_due(now, &facts, &intervals, phase(&work.object));
        let lane = if failed { Lane::Retry } else { Lane::Poll };
        tracked.report(now, work, outcome, &mut self.effects);
        self.queue.finish(key, Some(When { at, lane }));
        if freed {
            self.wake_conflicting(now, key);
        }
    }

    /// Those of its settings, or the environment's if they can't be used.
    fn intervals_of(&self, object: &OpenstackConfig) -> Intervals {
        let found = FoundSecrets::default();
        let settings = object.spec.as_ref().ok().map(|spec| self.config.settings_of(spec, &found));
        settings.and_then(Result::ok).unwrap_or_else(|| Arc::clone(&self.config.settings)).intervals
    }

    fn pass_ended(&mut self, now: Now, number: u64) {
        self.queue.ended(number);
        // A pass whose objects were all blocked sent nothing, so its end unblocks nothing. Waking here
        // would loop.
        if std::mem::take(&mut self.was_progress) {
            self.wake_blocked(now);
        }
    }

    fn secret_checked(&mut self, now: Now, key: &ObjectKey, uid: &str, note: Option<SecretNote>) {
        let tracked = self.objects.get_mut(key).filter(|known| known.object.uid == uid);
        if let Some(tracked) = tracked {
            tracked.secret_checked(now, note, &mut self.effects);
            self.show(now, key);
        }
    }

    fn make_due(&mut self, now: Now, key: &ObjectKey, lane: Lane) {
        let Some(tracked) = self.objects.get_mut(key) else { return };
        if tracked.object.is_paused() {
            return self.pause(now, key);
        }
        let member = tracked.member();
        self.queue.add(key, member, lane, now.uptime);
    }

    /// The object waits for a change of its spec. Younger objects don't wait for its first pass: which
    /// nodes stay its own is known by the records.
    fn pause(&mut self, now: Now, key: &ObjectKey) {
        let Some(tracked) = self.objects.get_mut(key) else { return };
        self.queue.remove(key);
        self.blocked.remove(key);
        self.ownership.ended(&tracked.object.uid, tracked.object.generation);
        tracked.pause(now, &mut self.effects);
    }

    /// Nodes may have become free for objects that were refused some, in any cloud: two may send to one
    /// cluster.
    fn wake_conflicting(&mut self, now: Now, cause: &ObjectKey) {
        for key in self.conflicting.clone() {
            if key != *cause {
                self.make_due(now, &key, Lane::Retry);
            }
        }
    }

    fn wake_blocked(&mut self, now: Now) {
        for key in std::mem::take(&mut self.blocked) {
            let lane = self.queue.lane(&key).unwrap_or(Lane::Retry);
            self.make_due(now, &key, lane);
        }
    }

    fn show(&self, now: Now, key: &ObjectKey) {
        let Some(tracked) = self.objects.get(key) else { return };
        let wait = self.queue.due_at(key).map(|due| due.saturating_sub(now.uptime));
        let next_due = wait.and_then(|wait| now.wall.checked_add(wait).ok());
        self.overview.put(tracked.shown(next_due));
    }

    fn count(&self, now: Now, outcome: &Outcome, took: Duration) {
        self.metrics.observe("controller_runtime_reconcile_time_seconds", &[CONTROLLER], took);
        self.metrics.observe("workqueue_work_duration_seconds", QUEUE, took);
        self.metrics.add("multinic_nodes_sent_total", &[], outcome.sent.len() as f64);
        let result = if outcome.later {
            "requeue_after"
        } else if outcome.aborted {
            "requeue"
        } else if outcome.ready.reason.is_success() {
            let seconds = now.wall.as_second() as f64;
            self.metrics.set("multinic_last_success_timestamp_seconds", &[], seconds);
            "success"
        } else {
            self.metrics.add("controller_runtime_reconcile_errors_total", &[CONTROLLER], 1.0);
            self.metrics.add("workqueue_retries_total", QUEUE, 1.0);
            "error"
        };
        let labels = [CONTROLLER, ("result", result)];
        self.metrics.add("controller_runtime_reconcile_total", &labels, 1.0);
    }

    /// Updates the gauges over all objects. That takes time for each object, so it is for every few
    /// seconds.
    pub fn publish_gauges(&self, now: Now) {
        let objects = self.objects.values();
        let objects = objects.map(|it| (&it.status, it.down_ports, it.all_emptied, &it.known));
        gauges::report(&self.metrics, objects);
        let unreadable = self.hearing.feedback.in_trouble();
        self.metrics.set("multinic_unreadable_clusters", &[], unreadable as f64);
        self.brokers.publish_gauges(&self.metrics);
        let (mut longest, mut all) = (Duration::ZERO, Duration::ZERO);
        for running in self.queue.running_times(now.uptime) {
            (longest, all) = (longest.max(running), all + running);
        }
        let longest = longest.as_secs_f64();
        self.metrics.set("workqueue_longest_running_processor_seconds", QUEUE, longest);
        self.metrics.set("workqueue_unfinished_work_seconds", QUEUE, all.as_secs_f64());
    }
}

/// Where the ticks of the object's project are, at which its objects are polled.
fn phase(object: &OpenstackConfig) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Scope { provider_id, project_id, .. } = Scope::of(object);
    (provider_id, project_id).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
