//! Reads what the agents of other clusters say: one list and watch per cluster, or a list now and then.
//!
//! The thread `clusters` starts and ends the watches. What a watch shows goes straight to the controller,
//! so an agent's word takes no detour.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use crate::agent::object::NodeObject;
use crate::clock::Clock;
use crate::controller::Event;
use crate::controller::feedback::Heard;
use crate::kube::client::KubeClient;
use crate::kube::watch::{FailureKind, Observation, Timing};
use crate::kube::watcher::{WatchSettings, Watcher};
use crate::listing;
use crate::metrics::Metrics;
use crate::node_objects::MULTI_NIC_NODE_CONFIGS;
use crate::resources::ClusterRef;
use crate::targets::cluster::Clusters;
use crate::threads::{Task, Thread, side_by_side};

/// Each watch is a thread and a connection.
const MOST_WATCHES: usize = 100;
/// How often kubeconfigs are looked at, and clusters without a watch listed.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The same for those that couldn't be read: a kubeconfig may come after the object that names it.
const LOOK_AFTER_FAILURE: Duration = Duration::from_secs(60);
/// After a cluster has refused the credentials of its kubeconfig.
const LOOK_AFTER_REFUSAL: Duration = Duration::from_secs(10);
/// Kubeconfigs and lists that are asked for at a time.
const SIDE_BY_SIDE: usize = 4;
/// A page of a list of a cluster without a watch: a cluster that hangs must not hold up the others.
const LIST_LIMIT: Duration = Duration::from_secs(10);

/// The running thread. Dropping it ends the watches.
pub(super) struct ClusterReader {
    wanted: Sender<BTreeSet<ClusterRef>>,
    thread: Thread,
}

/// What is needed to read clusters.
pub(super) struct Settings {
    pub(super) clusters: Arc<Clusters>,
    /// The namespace of the objects.
    pub(super) namespace: String,
    pub(super) timing: Timing,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: Sender<Event>,
}

impl ClusterReader {
    pub(super) fn spawn(settings: Settings) -> io::Result<ClusterReader> {
        let (wanted, changes) = unbounded();
        let (refusals, refused) = bounded(MOST_WATCHES);
        let mut reader = Reader { settings, refusals, read: BTreeMap::new() };
        let thread = Thread::spawn("clusters", move || reader.run(&changes, &refused))?;
        Ok(ClusterReader { wanted, thread })
    }

    /// Reads these clusters, and no others.
    pub(super) fn read(&self, clusters: BTreeSet<ClusterRef>) {
        let _ = self.wanted.send(clusters);
    }

    pub(super) fn has_lost_its_thread(&self) -> bool {
        self.thread.has_ended_within(Duration::ZERO)
    }
}

struct Reader {
    settings: Settings,
    /// Clusters that refused the credentials.
    refusals: Sender<ClusterRef>,
    read: BTreeMap<ClusterRef, Reading>,
}

/// How a cluster is read.
#[derive(Default)]
struct Reading {
    /// Uptime of the next look.
    next: Duration,
    /// The cluster has refused the credentials since the last look.
    is_refused: bool,
    watch: Option<(KubeClient, Watcher)>,
}

impl Reader {
    fn run(&mut self, changes: &Receiver<BTreeSet<ClusterRef>>, refused: &Receiver<ClusterRef>) {
        loop {
            let now = self.settings.clock.now().uptime;
            let next = self.read.values().map(|reading| reading.next).min();
            let wait = next.map_or(LOOK_EVERY, |next| next.saturating_sub(now));
            select! {
                recv(changes) -> wanted => match wanted {
                    Ok(wanted) => self.want(wanted),
                    Err(_) => return,
                },
                recv(refused) -> cluster => {
                    if let Some(reading) = cluster.ok().and_then(|it| self.read.get_mut(&it)) {
                        reading.is_refused = true;
                        reading.next = reading.next.min(now + LOOK_AFTER_REFUSAL);
                    }
                }
                default(wait) => self.look(),
            }
        }
    }

    fn want(&mut self, wanted: BTreeSet<ClusterRef>) {
        self.read.retain(|cluster, _| wanted.contains(cluster));
        for cluster in wanted {
            self.read.entry(cluster).or_default();
        }
    }

    /// Looks at the clusters that are due: first at their kubeconfigs, then at those without a watch.
    fn look(&mut self) {
        let now = self.settings.clock.now().uptime;
        let due = self.read.iter().filter(|(_, reading)| reading.next <= now);
        let due: Vec<_> =
            due.map(|(cluster, reading)| (cluster.clone(), reading.is_refused)).collect();
        let clients = due.iter().map(|(cluster, is_refused)| {
            let clusters = &self.settings.clusters;
            Box::new(move || clusters.reader(cluster, *is_refused)) as Task<'_, _>
        });
        let clients = side_by_side(SIDE_BY_SIDE, clients.collect());
        let mut unwatched = Vec::new();
        for ((cluster, _), client) in due.into_iter().zip(clients) {
            unwatched.extend(self.follow(&cluster, client, now).map(|client| (cluster, client)));
        }
        let settings = &self.settings;
        let lists = unwatched.iter().map(|(cluster, client)| {
            Box::new(|| settings.hear(cluster, settings.list(client))) as Task<'_, ()>
        });
        side_by_side(SIDE_BY_SIDE, lists.collect());
    }

    /// Watches a cluster with its client, or gives the client back if there are too many watches.
    fn follow(
        &mut self,
        cluster: &ClusterRef,
        client: Result<Option<KubeClient>, String>,
        now: Duration,
    ) -> Option<KubeClient> {
        let watches = self.read.values().filter(|reading| reading.watch.is_some()).count();
        let begin = |client| self.begin(cluster, client);
        let Reading { is_refused, watch, .. } = self.read.get(cluster)?;
        let is_same = |client| watch.as_ref().is_some_and(|(known, _)| known.is_same_as(client));
        let mut reading = Reading { next: now + LOOK_EVERY, ..Reading::default() };
        let (mut heard, mut unwatched) = (None, None);
        let mut is_kept = false;
        match client {
            Ok(Some(client)) if is_same(&client) => is_kept = true,
            // A Secret that can't be used now says nothing against the one that was read.
            Err(_) if watch.is_some() => is_kept = true,
            Ok(Some(client)) if watches < MOST_WATCHES || watch.is_some() => match begin(&client) {
                Ok(watcher) => reading.watch = Some((client, watcher)),
                Err(error) => {
                    heard = Some(Heard::Trouble(format!("no thread can be started: {error}")))
                }
            },
            Ok(Some(client)) => unwatched = Some(client),
            Ok(None) => heard = Some(Heard::Unreadable),
            Err(text) => heard = Some(Heard::Trouble(text)),
        }
        reading.is_refused = is_kept && *is_refused;
        if heard.is_some() || reading.is_refused {
            reading.next = now + LOOK_AFTER_FAILURE;
        }
        if let Some(heard) = heard {
            self.settings.hear(cluster, heard);
        }
        let before = self.read.remove(cluster);
        if is_kept {
            reading.watch = before.and_then(|before| before.watch);
        }
        self.read.insert(cluster.clone(), reading);
        unwatched
    }

    fn begin(&self, cluster: &ClusterRef, client: &KubeClient) -> io::Result<Watcher> {
        let Settings { namespace, timing, clock, metrics, events, .. } = &self.settings;
        let settings = WatchSettings {
            resource: MULTI_NIC_NODE_CONFIGS,
            namespace: Some(namespace.clone()),
            timing: timing.clone(),
            seed: fastrand::u64(..),
        };
        let (events, refusals) = (events.clone(), self.refusals.clone());
        let (name, cluster) = (format!("watch {}", cluster.name), Arc::new(cluster.clone()));
        let sink = move |observation: Observation| {
            if let Observation::Trouble { kind: FailureKind::Unauthorized, .. } = &observation {
                let _ = refusals.try_send(ClusterRef::clone(&cluster));
            }
            let (cluster, heard) = (Arc::clone(&cluster), heard(observation));
            let _ = events.send(Event::Heard { cluster, heard });
        };
        Watcher::spawn(&name, client, settings, clock.clone(), Arc::clone(metrics), sink)
    }
}

impl Settings {
    fn list(&self, client: &KubeClient) -> Heard {
        let client = client.with_call_limit(LIST_LIMIT);
        match listing::objects_of(&client, &MULTI_NIC_NODE_CONFIGS, Some(&self.namespace)) {
            Ok(objects) => Heard::Listed(objects.iter().map(NodeObject::from_raw).collect()),
            Err(error) => Heard::Trouble(error.to_string()),
        }
    }

    fn hear(&self, cluster: &ClusterRef, heard: Heard) {
        let _ = self.events.send(Event::Heard { cluster: Arc::new(cluster.clone()), heard });
    }
}

/// What an observation says.
fn heard(observation: Observation) -> Heard {
    match observation {
        Observation::Replaced { objects, .. } => {
            Heard::Listed(objects.iter().map(NodeObject::from_raw).collect())
        }
        Observation::Applied(object) => Heard::Changed(Box::new(NodeObject::from_raw(&object))),
        Observation::Deleted(object) => {
            Heard::Gone { name: object.metadata.name.clone(), uid: object.metadata.uid }
        }
        Observation::Trouble { text, .. } => Heard::Trouble(text),
        Observation::Recovered => Heard::Recovered,
    }
}
