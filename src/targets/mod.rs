//! Where node configurations are delivered to.

mod acceptance;
pub mod viola;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Settings;
use crate::node_config::NodeConfig;

/// Takes node configurations and hands them to clusters.
pub trait Target: Send + Sync {
    /// Delivers the nodes of the objects of one pass, one list per object, to the cluster `target`
    /// by the settings of these objects. Names differ between all nodes. A request is begun only
    /// while `may_act` says so.
    fn deliver(
        &self,
        settings: &Settings,
        target: &str,
        objects: &[Vec<&NodeConfig>],
        may_act: &dyn Fn() -> bool,
    ) -> Delivery;

    /// The nodes of the cluster whose last delivery wasn't seen to be accepted: whether the cluster
    /// has what the inventory records isn't known.
    fn unconfirmed(&self, settings: &Settings, target: &str) -> BTreeSet<String>;

    /// Ends every request; the operator is stopping.
    fn shutdown(&self);
}

/// What became of the nodes that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Names of the nodes that were accepted.
    pub accepted: BTreeSet<String>,
    /// Why the others weren't, each reason once. A message speaks of no other object's nodes.
    pub problems: Vec<Problem>,
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
