//! Where node configurations are delivered to.

mod acceptance;
pub mod cluster;
pub mod viola;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Settings};
use crate::http::client::Clients;
use crate::node_config::NodeConfig;
use crate::resources::{ClusterRef, Destination, NodeOwner, ObjectKey, OpenstackConfig, Spec};
use crate::threads::{Task, side_by_side};
use cluster::Clusters;
use viola::Viola;

/// Secrets of kubeconfigs that are read at the same time.
const SECRETS_SIDE_BY_SIDE: usize = 8;

/// The interface ids of nodes, by MAC address in lower case. A node that isn't there has none.
pub type ClusterIds = BTreeMap<String, BTreeMap<String, u8>>;

/// Takes node configurations and hands them to clusters.
pub trait Target: Send + Sync {
    /// Reads what leads to these destinations, as far as it isn't known. A `fresh` pass believes no
    /// failure of before.
    fn prepare(&self, destinations: &BTreeSet<&Destination>, fresh: bool);

    /// Can nodes be delivered there, as far as that can be said without asking the cluster?
    ///
    /// # Errors
    /// Why not, for a `ConfigError`.
    fn check(&self, destination: &Destination) -> Result<(), String>;

    /// What the cluster has of these nodes.
    ///
    /// # Errors
    /// Why it can't be said.
    fn interface_ids(
        &self,
        cluster: &ClusterRef,
        nodes: &BTreeSet<String>,
    ) -> Result<ClusterIds, String>;

    /// Delivers the nodes of the objects of one pass to the target of `spec`, which is theirs too, by
    /// their settings. Names differ between all nodes.
    fn deliver(
        &self,
        settings: &Settings,
        spec: &Spec,
        objects: &[ObjectNodes<'_>],
        rules: &Rules<'_>,
    ) -> Delivery;

    /// The nodes of the cluster whose last delivery wasn't seen to be accepted: whether the cluster
    /// has what the inventory records isn't known.
    fn unconfirmed(&self, settings: &Settings, spec: &Spec) -> BTreeSet<String>;

    /// Ends every request; the operator is stopping.
    fn shutdown(&self);
}

/// The nodes of one object.
pub struct ObjectNodes<'a> {
    /// The object.
    pub object: &'a OpenstackConfig,
    /// What it asks for.
    pub spec: &'a Spec,
    /// What is delivered of it.
    pub nodes: Vec<&'a NodeConfig>,
}

impl ObjectNodes<'_> {
    fn owner(&self) -> NodeOwner {
        NodeOwner { key: self.object.key.clone(), uid: self.object.uid.clone() }
    }
}

/// What a delivery asks before it acts.
pub struct Rules<'a> {
    /// A request is begun only while this says so.
    pub may_act: &'a (dyn Fn() -> bool + Sync),
    /// Does this owner keep its node from the object? The text is the id of the node's VM.
    pub keeps: &'a (dyn Fn(&NodeOwner, &OpenstackConfig, &str) -> bool + Sync),
}

/// Viola, and the clusters that the operator itself writes into.
pub struct Targets {
    viola: Viola,
    clusters: Arc<Clusters>,
}

impl Targets {
    /// Nothing is sent yet.
    pub fn new(config: &Config, clients: &Clients, clusters: Arc<Clusters>) -> Targets {
        Targets { viola: Viola::new(config, clients), clusters }
    }
}

impl Target for Targets {
    fn prepare(&self, destinations: &BTreeSet<&Destination>, fresh: bool) {
        let clusters = destinations.iter().filter_map(|destination| destination.cluster());
        let tasks = clusters.map(|cluster| {
            Box::new(move || {
                if fresh {
                    self.clusters.retry(cluster);
                }
                drop(self.clusters.get(cluster));
            }) as Task<'_, ()>
        });
        side_by_side(SECRETS_SIDE_BY_SIDE, tasks.collect());
    }

    fn check(&self, destination: &Destination) -> Result<(), String> {
        match destination {
            Destination::Kubernetes(cluster) => self.clusters.get(cluster).map(drop),
            Destination::Viola { .. } => Ok(()),
        }
    }

    fn interface_ids(
        &self,
        cluster: &ClusterRef,
        nodes: &BTreeSet<String>,
    ) -> Result<ClusterIds, String> {
        self.clusters.interface_ids(cluster, nodes)
    }

    fn deliver(
        &self,
        settings: &Settings,
        spec: &Spec,
        objects: &[ObjectNodes<'_>],
        rules: &Rules<'_>,
    ) -> Delivery {
        match &spec.destination {
            Destination::Kubernetes(cluster) => self.clusters.deliver(cluster, objects, rules),
            Destination::Viola { .. } => {
                let nodes: Vec<_> = objects.iter().map(|of| of.nodes.clone()).collect();
                self.viola.deliver(settings, spec.target(), &nodes, rules.may_act)
            }
        }
    }

    fn unconfirmed(&self, settings: &Settings, spec: &Spec) -> BTreeSet<String> {
        match &spec.destination {
            Destination::Kubernetes(cluster) => self.clusters.unconfirmed(cluster),
            Destination::Viola { .. } => self.viola.unconfirmed(settings, spec.target()),
        }
    }

    fn shutdown(&self) {
        self.viola.shutdown();
        self.clusters.shutdown();
    }
}

/// What became of the nodes that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Names of the nodes that were accepted.
    pub accepted: BTreeSet<String>,
    /// Why the others weren't, each reason once. A message speaks of no other object's nodes.
    pub problems: Vec<Problem>,
    /// Nodes that another object keeps, by the cluster itself. They weren't sent.
    pub kept: Vec<Kept>,
    /// The service asked not to be called for so long.
    pub retry_after: Option<Duration>,
    /// The requests that were made, in their order.
    pub posts: Vec<Post>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The nodes in it.
    pub nodes: Vec<String>,
    /// How many of them were accepted.
    pub accepted: usize,
}

/// A node in a cluster that another object keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The node.
    pub node_name: String,
    /// The object.
    pub manager: ObjectKey,
}

/// Nodes that weren't accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Their names.
    pub nodes: Vec<String>,
    /// What came back.
    pub message: String,
}

impl Delivery {
    /// The part of one object, by the names of its nodes; requests are of all objects.
    pub fn of(&self, nodes: &BTreeSet<&str>) -> Delivery {
        let is_own = |node: &&String| nodes.contains(node.as_str());
        let of_problem = |problem: &Problem| {
            let own = problem.nodes.iter().filter(is_own).cloned().collect::<Vec<String>>();
            let message = problem.message.clone();
            (!own.is_empty()).then_some(Problem { nodes: own, message })
        };
        let problems: Vec<Problem> = self.problems.iter().filter_map(of_problem).collect();
        Delivery {
            accepted: self.accepted.iter().filter(is_own).cloned().collect(),
            kept: self.kept.iter().filter(|kept| is_own(&&kept.node_name)).cloned().collect(),
            retry_after: self.retry_after.filter(|_| !problems.is_empty()),
            problems,
            posts: Vec::new(),
        }
    }

    fn refuse<'a>(&mut self, nodes: impl IntoIterator<Item = &'a NodeConfig>, message: &str) {
        let nodes: Vec<String> = nodes.into_iter().map(|node| node.node_name.clone()).collect();
        if nodes.is_empty() {
            return;
        }
        match self.problems.iter_mut().find(|problem| problem.message == message) {
            Some(problem) => problem.nodes.extend(nodes),
            None => self.problems.push(Problem { nodes, message: message.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests;
