//! What the clusters say of the nodes that were sent to them, and what follows from it for an object.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::agent::condition::{Configured, NodeReport, configured};
use crate::agent::drift::{Decision, Drift, Facts};
use crate::agent::object::NodeObject;
use crate::agent::state::NodeState;
use crate::clock::Now;
use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::resources::{ClusterRef, OpenstackConfig, Spec};

/// A cluster that was read before counts as readable for so long: API servers restart.
const TROUBLE_LIMIT: Duration = Duration::from_secs(60);

/// What became known of the nodes of one cluster.
#[derive(Clone, Debug)]
pub enum Heard {
    /// All its objects: others don't exist any more.
    Listed(Vec<NodeObject>),
    /// An object exists in this state.
    Changed(Box<NodeObject>),
    /// An object is gone; its successor of the same name may already be known.
    Gone {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// It can't be read for now, and why.
    Trouble(String),
    /// It can be read again.
    Recovered,
    /// There is nothing to read it with.
    Unreadable,
}

/// What is known of all clusters.
#[derive(Debug, Default)]
pub(super) struct Feedback {
    clusters: BTreeMap<ClusterRef, Read>,
}

#[derive(Debug, Default)]
struct Read {
    nodes: BTreeMap<String, Watched>,
    /// All its objects are known, or were before the trouble.
    is_listed: bool,
    is_unreadable: bool,
    /// Why it can't be read, and since which uptime.
    trouble: Option<(String, Duration)>,
}

/// A node of a cluster.
#[derive(Debug, Default)]
struct Watched {
    object: Option<NodeObject>,
    drift: Drift,
    agent: Agent,
    /// What was last said of its drift.
    said: String,
}

/// Does the agent speak of what was sent?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Agent {
    /// It wasn't looked at yet.
    #[default]
    Unknown,
    Speaks,
    /// Not of what has this hash.
    Silent {
        hash: String,
        since: Timestamp,
    },
}

/// What follows for one object.
#[derive(Debug, Default)]
pub(super) struct Evaluation {
    /// What its status says; none where its cluster can't be read.
    pub(super) configured: Option<Configured>,
    /// Its nodes, and what their clusters say.
    pub(super) reports: Vec<NodeReport>,
    /// Nodes that are to be sent again.
    pub(super) resend: BTreeSet<String>,
    /// What is new about its drifts.
    pub(super) news: Vec<String>,
    /// The uptime at which it changes by time alone.
    pub(super) next: Option<Duration>,
}

/// An object that is evaluated.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) object: &'a OpenstackConfig,
    /// Nodes in its last plan.
    pub(super) nodes: u32,
    /// Nothing is sent for it now.
    pub(super) is_held: bool,
}

impl Feedback {
    /// Forgets all other clusters.
    pub(super) fn keep_only(&mut self, wanted: &BTreeSet<ClusterRef>) {
        self.clusters.retain(|cluster, _| wanted.contains(cluster));
    }

    /// Clusters that can't be read.
    pub(super) fn in_trouble(&self) -> usize {
        self.clusters.values().filter(|cluster| cluster.trouble.is_some()).count()
    }

    /// Takes note. Gives the node it is about; none if it is about all of the cluster.
    pub(super) fn hear(&mut self, now: Now, cluster: &ClusterRef, heard: Heard) -> Option<String> {
        let cluster = self.clusters.entry(cluster.clone()).or_default();
        cluster.is_unreadable = false;
        match heard {
            Heard::Listed(objects) => {
                cluster.list(objects);
                None
            }
            Heard::Changed(object) => {
                let name = object.name.clone();
                cluster.nodes.entry(name.clone()).or_default().object = Some(*object);
                Some(name)
            }
            Heard::Gone { name, uid } => {
                let node = cluster.nodes.entry(name.clone()).or_default();
                node.object.take_if(|object| object.uid == uid);
                Some(name)
            }
            Heard::Trouble(text) => {
                let since = cluster.trouble.take().map_or(now.uptime, |(_, since)| since);
                cluster.trouble = Some((text, since));
                None
            }
            Heard::Recovered => {
                cluster.trouble = None;
                None
            }
            Heard::Unreadable => {
                *cluster = Read { is_unreadable: true, ..Read::default() };
                None
            }
        }
    }

    /// What follows for an object whose nodes go to this cluster; none before anything is known of it.
    pub(super) fn evaluate(
        &mut self,
        now: Now,
        cluster: &ClusterRef,
        question: Question<'_>,
        inventory: &Inventory,
    ) -> Option<Evaluation> {
        let cluster = self.clusters.get_mut(cluster)?;
        let Ok(spec) = &question.object.spec else { return None };
        if cluster.is_unreadable {
            return Some(Evaluation::default());
        }
        let trouble = cluster.trouble(now.uptime);
        if !cluster.is_listed && trouble.is_none() {
            return None;
        }
        let mut evaluation =
            Evaluation { next: cluster.trouble_at(now.uptime), ..Evaluation::default() };
        let (is_current, is_listed) = (cluster.trouble.is_none(), cluster.is_listed);
        let vm_ids: BTreeSet<&str> = spec.vm_ids.iter().map(String::as_str).collect();
        let is_sent = |record: &&Record| {
            record.was_accepted()
                && record.is_accepted_by(spec.target())
                && vm_ids.contains(&*record.instance_id.to_ascii_lowercase())
        };
        let records = inventory.by_owner(&question.object.uid).into_iter();
        let mut without_interfaces = 0;
        for record in records.map(|stored| &stored.record).filter(is_sent) {
            if record.config.interfaces.is_empty() {
                without_interfaces += 1;
            } else if is_listed {
                let node = cluster.nodes.entry(record.node_name.clone()).or_default();
                node.evaluate(now, record, question, is_current, &mut evaluation);
            }
        }
        let nodes = usize::try_from(question.nodes).unwrap_or_default();
        let nodes = nodes.saturating_sub(without_interfaces);
        let known = configured(nodes, &evaluation.reports, trouble.as_deref(), now.wall);
        evaluation.configured = Some(Configured { is_counted: is_listed, ..known });
        Some(evaluation)
    }

    /// These nodes were accepted because they had drifted.
    pub(super) fn sent_again(&mut self, now: Now, cluster: &ClusterRef, nodes: &BTreeSet<String>) {
        let Some(cluster) = self.clusters.get_mut(cluster) else { return };
        for name in nodes {
            if let Some(node) = cluster.nodes.get_mut(name) {
                node.drift.sent(now.uptime);
            }
        }
    }

    /// A person forced an object of this cluster: nodes of this object are healed again.
    pub(super) fn forced(&mut self, cluster: &ClusterRef, uid: &str, inventory: &Inventory) {
        let Some(cluster) = self.clusters.get_mut(cluster) else { return };
        for stored in inventory.by_owner(uid) {
            if let Some(node) = cluster.nodes.get_mut(&stored.record.node_name) {
                node.drift.forget_rounds();
            }
        }
    }
}

impl Read {
    fn list(&mut self, objects: Vec<NodeObject>) {
        (self.is_listed, self.trouble) = (true, None);
        let mut before = std::mem::take(&mut self.nodes);
        for object in objects {
            let node = before.remove(&object.name).unwrap_or_default();
            self.nodes.insert(object.name.clone(), Watched { object: Some(object), ..node });
        }
        // What is remembered of nodes without an object is for those that are missing.
        let missing = before.into_iter().filter(|(_, node)| node.agent != Agent::Unknown);
        self.nodes.extend(missing.map(|(name, node)| (name, Watched { object: None, ..node })));
    }

    /// Why it can't be read, if that has lasted.
    fn trouble(&self, uptime: Duration) -> Option<String> {
        let lasts = |since: Duration| !self.is_listed || uptime >= since + TROUBLE_LIMIT;
        self.trouble.as_ref().filter(|(_, since)| lasts(*since)).map(|(text, _)| text.clone())
    }

    /// When its trouble has lasted, if it hasn't yet.
    fn trouble_at(&self, uptime: Duration) -> Option<Duration> {
        let at = self.trouble.as_ref().map(|(_, since)| *since + TROUBLE_LIMIT);
        at.filter(|at| *at > uptime)
    }
}

impl Watched {
    fn evaluate(
        &mut self,
        now: Now,
        record: &Record,
        question: Question<'_>,
        is_current: bool,
        evaluation: &mut Evaluation,
    ) {
        let state = NodeState::of(&record.config, self.object.as_ref());
        let silent_since = self.silence(now, record, state.is_reported());
        let mut report = NodeReport {
            name: record.node_name.clone(),
            instance_id: record.instance_id.clone(),
            silent_since,
            drift: String::new(),
            state,
        };
        // What isn't read now may have been put right long ago.
        if is_current {
            report.drift = self.drift(now, record, &report.state, question, evaluation);
        }
        let overdue = report.overdue_at().filter(|at| *at > now.wall);
        let overdue = overdue.and_then(|at| Duration::try_from(at.duration_since(now.wall)).ok());
        evaluation.wake(overdue.map(|wait| now.uptime + wait));
        evaluation.reports.push(report);
    }

    /// Since when the agent has said nothing of what was sent.
    fn silence(&mut self, now: Now, record: &Record, is_reported: bool) -> Option<Timestamp> {
        if is_reported {
            self.agent = Agent::Speaks;
            return None;
        }
        let sent = &record.last_config_hash;
        let since = match &self.agent {
            Agent::Silent { hash, since } if hash == sent => *since,
            Agent::Speaks => now.wall,
            Agent::Unknown | Agent::Silent { .. } => record.updated_at.min(now.wall),
        };
        self.agent = Agent::Silent { hash: sent.clone(), since };
        Some(since)
    }

    /// What is done about what the cluster has instead, and what the status says of it.
    fn drift(
        &mut self,
        now: Now,
        record: &Record,
        state: &NodeState,
        question: Question<'_>,
        evaluation: &mut Evaluation,
    ) -> String {
        self.drift.see(state.drift.as_ref(), &record.last_config_hash, now.uptime);
        let Some(difference) = &state.drift else {
            self.said.clear();
            return String::new();
        };
        let facts = Facts {
            difference,
            accepted_at: record.updated_at,
            heals_edits: question.object.spec.as_ref().is_ok_and(Spec::is_by_kubernetes),
            is_held: question.is_held,
        };
        let decision = self.drift.decide(&facts, now);
        match decision {
            Decision::Wait(at) => evaluation.wake(Some(at)),
            Decision::Send => {
                evaluation.resend.insert(record.node_name.clone());
            }
            Decision::Say | Decision::Held | Decision::GiveUp => {}
        }
        let text = decision.text(difference);
        if !text.is_empty() && self.said != text {
            evaluation.news.push(format!("node {} {text}", record.node_name));
            self.said.clone_from(&text);
        }
        if decision == Decision::Send { String::new() } else { text }
    }
}

impl Evaluation {
    fn wake(&mut self, at: Option<Duration>) {
        self.next = self.next.into_iter().chain(at).min();
    }
}
