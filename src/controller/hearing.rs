//! When the controller looks at what clusters say of an object's nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::feedback::{Feedback, Heard, Question};
use super::{Controller, Effect};
use crate::agent::condition::NodeReport;
use crate::clock::Now;
use crate::inventory::contents::Inventory;
use crate::overview::NodeShown;
use crate::reconcile::{Lane, Outcome, Work};
use crate::resources::{ClusterRef, ObjectKey, OpenstackConfig};

/// Agents of many nodes write at the same time; an object is looked at no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often records are asked for that aren't read yet.
const RECORDS_EVERY: Duration = Duration::from_secs(1);

/// Gives the records; none while they aren't read.
pub type Records = Box<dyn Fn() -> Option<Arc<Inventory>> + Send>;

/// What is known of clusters, and when which object is looked at.
#[derive(Default)]
pub(super) struct Hearing {
    pub(super) feedback: Feedback,
    records: Option<Records>,
    looks: BTreeMap<ObjectKey, Look>,
    clusters: BTreeSet<ClusterRef>,
    /// Objects came, changed or went since these were collected.
    is_outdated: bool,
}

#[derive(Debug, Default)]
struct Look {
    /// Uptime of the next.
    at: Option<Duration>,
    /// Uptime of the last.
    last: Option<Duration>,
}

impl Controller {
    /// The same, with what was accepted by clusters; without it nothing is asked of them.
    pub fn with_records(mut self, records: Records) -> Controller {
        self.hearing.records = Some(records);
        self
    }

    pub(super) fn heard(&mut self, now: Now, cluster: &ClusterRef, heard: Heard) {
        if !self.hearing.clusters.contains(cluster) {
            return;
        }
        let node = self.hearing.feedback.hear(now, cluster, heard);
        let owners = node.and_then(|node| {
            let records = self.records()?;
            let owners = records.by_name(&node).into_iter();
            let owners = owners.filter_map(|stored| stored.record.owner.as_ref());
            let key = |namespace: &String, name: &String| ObjectKey {
                namespace: namespace.clone(),
                name: name.clone(),
            };
            Some(owners.map(|owner| key(&owner.namespace, &owner.name)).collect::<Vec<_>>())
        });
        let of_cluster = |key: &&ObjectKey| self.cluster_of(key).as_ref() == Some(cluster);
        let keys: Vec<ObjectKey> = match &owners {
            Some(owners) => owners.iter().filter(of_cluster).cloned().collect(),
            None => self.objects.keys().filter(of_cluster).cloned().collect(),
        };
        for key in keys {
            self.look_soon(now, &key);
        }
    }

    fn records(&self) -> Option<Arc<Inventory>> {
        (self.hearing.records.as_ref()?)()
    }

    fn cluster_of(&self, key: &ObjectKey) -> Option<ClusterRef> {
        cluster_of(&self.objects.get(key)?.object)
    }

    /// An object came, or its spec or annotations changed.
    pub(super) fn specs_changed(&mut self, now: Now, key: &ObjectKey, is_forced: bool) {
        self.hearing.is_outdated = true;
        self.look_soon(now, key);
        let cluster = self.cluster_of(key).zip(self.records()).filter(|_| is_forced);
        if let (Some((cluster, records)), Some(tracked)) = (cluster, self.objects.get(key)) {
            // What has drifted is put right again.
            self.hearing.feedback.forced(&cluster, &tracked.object.uid, &records);
        }
    }

    /// An object is gone.
    pub(super) fn look_no_more(&mut self, key: &ObjectKey) {
        self.hearing.is_outdated = true;
        self.hearing.looks.remove(key);
    }

    fn collect_clusters(&mut self) {
        if !std::mem::take(&mut self.hearing.is_outdated) || self.hearing.records.is_none() {
            return;
        }
        let objects = self.objects.values();
        let clusters = objects.filter_map(|tracked| cluster_of(&tracked.object)).collect();
        if self.hearing.clusters != clusters {
            self.hearing.feedback.keep_only(&clusters);
            self.hearing.clusters.clone_from(&clusters);
            self.effects.push(Effect::ReadClusters(clusters));
        }
    }

    pub(super) fn look_soon(&mut self, now: Now, key: &ObjectKey) {
        if self.hearing.records.is_none() {
            return;
        }
        let look = self.hearing.looks.entry(key.clone()).or_default();
        let soon = look.last.map_or(now.uptime, |last| now.uptime.max(last + LOOK_EVERY));
        look.at = Some(look.at.map_or(soon, |at| at.min(soon)));
    }

    /// The uptime of the next look.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.hearing.looks.values().filter_map(|look| look.at).min()
    }

    /// Looks at the objects that are due for it.
    pub(super) fn look(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        self.collect_clusters();
        let is_due = |look: &Look| look.at.is_some_and(|at| at <= now.uptime);
        let looks = self.hearing.looks.iter().filter(|(_, look)| is_due(look));
        for key in looks.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.look_at(now, &key);
            self.write_known(now, &key);
            self.show(now, &key);
        }
    }

    /// Finds out what the clusters say of an object; its status isn't written yet.
    fn look_at(&mut self, now: Now, key: &ObjectKey) {
        if self.hearing.records.is_none() {
            return;
        }
        let records = self.records();
        let Some(tracked) = self.objects.get_mut(key) else { return };
        let look = self.hearing.looks.entry(key.clone()).or_default();
        (look.at, look.last) = (None, Some(now.uptime));
        let Some(records) = records else {
            look.at = Some(now.uptime + RECORDS_EVERY);
            return;
        };
        let Some(cluster) = cluster_of(&tracked.object) else {
            tracked.hear(Default::default(), &mut self.effects);
            return;
        };
        let question = Question {
            object: &tracked.object,
            nodes: tracked.nodes.unwrap_or_default(),
            is_held: tracked.is_held(),
        };
        let feedback = &mut self.hearing.feedback;
        let Some(evaluation) = feedback.evaluate(now, &cluster, question, &records) else { return };
        look.at = evaluation.next;
        let provider_id = tracked.object.spec.as_ref().map(|spec| spec.provider_id.as_str());
        let shown = evaluation.reports.iter();
        let shown = shown.map(|report| shown_node(report, provider_id.unwrap_or_default()));
        self.overview.put_nodes(&key.namespace, &key.name, shown.collect());
        if tracked.hear(evaluation, &mut self.effects) {
            self.make_due(now, key, Lane::Poll);
        }
    }

    pub(super) fn write_known(&mut self, now: Now, key: &ObjectKey) {
        if let Some(tracked) = self.objects.get_mut(key) {
            tracked.write_known(now, &mut self.effects);
        }
    }

    /// A pass of the object has ended: what was accepted is recorded.
    pub(super) fn look_after(&mut self, now: Now, work: &Work, outcome: &Outcome) {
        let key = &work.object.key;
        let accepted = outcome.sent.iter().filter(|name| work.drifted.contains(*name));
        let accepted: BTreeSet<String> = accepted.cloned().collect();
        if let Some(cluster) = cluster_of(&work.object).filter(|_| !accepted.is_empty()) {
            self.hearing.feedback.sent_again(now, &cluster, &accepted);
            self.metrics.add("multinic_drift_resends_total", &[], accepted.len() as f64);
        }
        self.look_at(now, key);
    }
}

/// The cluster of an object's nodes, which may not be readable.
fn cluster_of(object: &OpenstackConfig) -> Option<ClusterRef> {
    object.spec.as_ref().ok()?.read_cluster(&object.key.namespace)
}

fn shown_node(report: &NodeReport, provider_id: &str) -> NodeShown {
    NodeShown {
        provider_id: provider_id.to_owned(),
        node_name: report.name.clone(),
        instance_id: report.instance_id.clone(),
        state: report.state.state,
        message: report.state.words.clone(),
        drift: report.drift.clone(),
        interfaces: report.state.interfaces.clone(),
    }
}
