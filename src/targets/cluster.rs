//! Clusters that the operator itself writes into: one MultiNicNodeConfig for each node
//! (docs/behaviour.md#delivery-to-kubernetes).
//!
//! A cluster's client is made from a kubeconfig in a Secret and kept. The Secret is read again every five
//! minutes, and after the cluster refused or didn't answer; another client is made only if it has changed.
//! The operator's own token is for its own cluster alone.
//!
//! Nothing is deleted: the agent would take the cards from the node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{ClusterIds, Delivery, Kept, ObjectNodes, Post, Rules};
use crate::clock::Clock;
use crate::cloud::cache::Cache;
use crate::config::{Config, read_kubeconfig};
use crate::kube::access::Access;
use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::secret_reader;
use crate::metrics::Metrics;
use crate::node_config::NodeConfig;
use crate::node_objects::{self, Existing, Node, NodeObjects, SIDE_BY_SIDE, until_trouble};
use crate::resources::{ClusterRef, KubeconfigRef, NodeOwner};
use crate::secret::{Entries, ReadSecret};
use crate::threads::lock;

/// All clusters, by the Secret that leads to them.
pub struct Clusters {
    config: Arc<Config>,
    read: Box<ReadSecret>,
    clock: Clock,
    metrics: Arc<Metrics>,
    own: Arc<Cluster>,
    /// An error says why the kubeconfig can't be used.
    known: Cache<KubeconfigRef, Arc<Cluster>, String>,
    /// By the cluster's name, [`Target::unconfirmed`](super::Target::unconfirmed).
    unconfirmed: Mutex<BTreeMap<String, BTreeSet<String>>>,
    stopped: AtomicBool,
}

/// One cluster, and the objects that nodes have in it.
pub(crate) struct Cluster {
    /// What the client was made from; none for the operator's own cluster.
    access: Option<Access>,
    pub(crate) objects: NodeObjects,
    /// Has as many places as there may be requests at a time.
    places: (Sender<()>, Receiver<()>),
}

/// A request's place among those to one cluster.
struct Place<'a>(&'a Receiver<()>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_recv();
    }
}

impl Cluster {
    fn new(access: Option<Access>, client: KubeClient, namespace: &str) -> Cluster {
        let objects = NodeObjects::new(client, namespace.to_owned());
        Cluster { access, objects, places: bounded(SIDE_BY_SIDE) }
    }

    /// Waits until another request may be made.
    fn place(&self) -> Place<'_> {
        // It fails only without a receiver, which is here.
        let _ = self.places.0.send(());
        Place(&self.places.1)
    }

    fn get(&self, node_name: &str) -> Result<Option<Existing>, KubeError> {
        let _place = self.place();
        self.objects.get(node_name)
    }
}

/// What became of one node.
enum Done {
    Applied,
    /// Another object's.
    Kept(NodeOwner),
    /// This replica may no longer act.
    NotSent,
}

impl Clusters {
    /// Nothing is read or connected yet. `kubernetes` is the operator's own cluster.
    pub fn new(
        config: &Arc<Config>,
        kubernetes: &KubeClient,
        clock: Clock,
        metrics: &Arc<Metrics>,
    ) -> Clusters {
        let own = kubernetes.with_own_connections();
        Clusters {
            own: Arc::new(Cluster::new(None, own, &config.delivery.namespace)),
            config: Arc::clone(config),
            read: secret_reader::by_name(kubernetes),
            clock,
            metrics: Arc::clone(metrics),
            known: Cache::default(),
            unconfirmed: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// The cluster, by its kubeconfig as it is now or was less than five minutes ago.
    ///
    /// # Errors
    /// Why its kubeconfig can't be used, without a word of it.
    pub(crate) fn get(&self, named: &ClusterRef) -> Result<Arc<Cluster>, String> {
        let Some(secret) = &named.kubeconfig else { return Ok(Arc::clone(&self.own)) };
        let read = || (self.read)(&secret.namespace, &secret.secret);
        let make = |read, before| self.find(secret, read, before);
        let found = self.known.of_secret(secret, &self.clock, read, make);
        if self.stopped.load(Ordering::SeqCst)
            && let Ok(cluster) = &found
        {
            cluster.objects.client().shutdown();
        }
        found
    }

    fn find(
        &self,
        at: &KubeconfigRef,
        read: Result<Option<Entries>, String>,
        before: Option<Arc<Cluster>>,
    ) -> Result<Arc<Cluster>, String> {
        let KubeconfigRef { namespace, secret, key } = at;
        let place = format!("Secret {namespace}/{secret}");
        let entries = read.map_err(|error| format!("{place} can't be read: {error}"))?;
        let entries = entries.ok_or_else(|| no_secret(at))?;
        let text = entries.get(key).ok_or_else(|| format!("{place} has no key {key}"))?;
        let (roots, proxies) = (&self.config.public_roots, &self.config.proxies);
        let access = read_kubeconfig(text.expose(), &place, roots, proxies)
            .map_err(|problem| format!("{place}, {key}: {problem}"))?;
        let is_same = |known: &Arc<Cluster>| known.access.as_ref() == Some(&access);
        if let Some(before) = before.filter(is_same) {
            return Ok(before);
        }
        let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
        let client = KubeClient::new(access.clone(), clock, metrics);
        Ok(Arc::new(Cluster::new(Some(access), client, &self.config.delivery.namespace)))
    }

    /// The client that reads the cluster; none if there is no Secret. After a refusal by the cluster
    /// its Secret is read again.
    ///
    /// # Errors
    /// As [`Clusters::get`].
    pub(crate) fn reader(
        &self,
        named: &ClusterRef,
        is_refused: bool,
    ) -> Result<Option<KubeClient>, String> {
        if let Some(secret) = named.kubeconfig.as_ref().filter(|_| is_refused) {
            self.known.shorten(secret, Duration::ZERO);
        }
        match (self.get(named), &named.kubeconfig) {
            (Ok(cluster), _) => Ok(Some(cluster.objects.client().clone())),
            (Err(problem), Some(secret)) if problem == no_secret(secret) => Ok(None),
            (Err(problem), _) => Err(problem),
        }
    }

    /// Forgets that the kubeconfig couldn't be used.
    pub(super) fn retry(&self, named: &ClusterRef) {
        if let Some(secret) = &named.kubeconfig {
            self.known.forget_where(secret, Result::is_err);
        }
    }

    /// What went wrong with a node's request, in words that are equal for equal failures. After a
    /// refusal the kubeconfig is read again when it is next needed.
    pub(crate) fn failed(&self, named: &ClusterRef, node_name: &str, error: &KubeError) -> String {
        if let Some(secret) = &named.kubeconfig
            && (error.is_server_trouble() || error.status().is_forbidden())
        {
            self.known.shorten(secret, Duration::ZERO);
        }
        format!("cluster {}: {}", named.name, words(error, node_name))
    }

    /// What the cluster has of these nodes.
    ///
    /// # Errors
    /// Why it can't be said.
    pub(super) fn interface_ids(
        &self,
        named: &ClusterRef,
        nodes: &BTreeSet<String>,
    ) -> Result<ClusterIds, String> {
        let cluster = self.get(named)?;
        let nodes: Vec<&String> = nodes.iter().collect();
        let mut cluster_ids = ClusterIds::new();
        for (node, found) in nodes.iter().zip(until_trouble(&nodes, &|node| cluster.get(node))) {
            let found = found.map_err(|error| self.failed(named, node, &error))?;
            cluster_ids.extend(found.map(|existing| (existing.name, existing.ids)));
        }
        Ok(cluster_ids)
    }

    /// All that the cluster has.
    ///
    /// # Errors
    /// Why it can't be said.
    pub(crate) fn list(&self, named: &ClusterRef) -> Result<Vec<Existing>, String> {
        let cluster = self.get(named)?;
        cluster.objects.list().map_err(|error| self.failed(named, "", &error))
    }

    /// As [`Target::deliver`](super::Target::deliver).
    pub(super) fn deliver(
        &self,
        named: &ClusterRef,
        objects: &[ObjectNodes<'_>],
        rules: &Rules<'_>,
    ) -> Delivery {
        let nodes = objects.iter().flat_map(|of| of.nodes.iter().map(move |node| (of, *node)));
        let nodes: Vec<(&ObjectNodes<'_>, &NodeConfig)> = nodes.collect();
        let mut delivery = Delivery::default();
        let cluster = match self.get(named) {
            Ok(cluster) => cluster,
            Err(problem) => {
                delivery.refuse(nodes.into_iter().map(|(_, node)| node), &problem);
                return delivery;
            }
        };
        let results = until_trouble(&nodes, &|(of, node)| apply(&cluster, of, node, rules));
        for ((_, node), result) in nodes.iter().zip(results) {
            let name = &node.node_name;
            match result {
                Ok(Done::Applied) => drop(delivery.accepted.insert(name.clone())),
                Ok(Done::Kept(owner)) => {
                    delivery.kept.push(Kept { node_name: name.clone(), manager: owner.key });
                }
                Ok(Done::NotSent) => {
                    delivery.refuse([*node], "not sent, this replica may no longer act");
                }
                Err(error) => {
                    let retry_after = error.status().retry_after;
                    delivery.retry_after = delivery.retry_after.max(retry_after);
                    delivery.refuse([*node], &self.failed(named, name, &error));
                }
            }
        }
        let names = nodes.iter().map(|(_, node)| node.node_name.clone()).collect();
        delivery.posts.push(Post { nodes: names, accepted: delivery.accepted.len() });
        self.note(named, &nodes, &delivery);
        delivery
    }

    fn note(
        &self,
        named: &ClusterRef,
        nodes: &[(&ObjectNodes<'_>, &NodeConfig)],
        delivery: &Delivery,
    ) {
        let mut unconfirmed = lock(&self.unconfirmed);
        let unconfirmed = unconfirmed.entry(named.name.clone()).or_default();
        for (_, NodeConfig { node_name, .. }) in nodes {
            match delivery.accepted.contains(node_name) {
                true => unconfirmed.remove(node_name),
                false => unconfirmed.insert(node_name.clone()),
            };
        }
    }

    /// As [`Target::unconfirmed`](super::Target::unconfirmed).
    pub(super) fn unconfirmed(&self, named: &ClusterRef) -> BTreeSet<String> {
        lock(&self.unconfirmed).get(&named.name).cloned().unwrap_or_default()
    }

    pub(super) fn shutdown(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let own = Arc::clone(&self.own);
        for cluster in self.known.all().into_iter().chain([own]) {
            cluster.objects.client().shutdown();
        }
    }
}

/// Says that there is none.
fn no_secret(KubeconfigRef { namespace, secret, .. }: &KubeconfigRef) -> String {
    format!("Secret {namespace}/{secret} doesn't exist")
}

/// Writes one node, unless it is another object's.
fn apply(
    cluster: &Cluster,
    of: &ObjectNodes<'_>,
    node: &NodeConfig,
    rules: &Rules<'_>,
) -> Result<Done, KubeError> {
    let _place = cluster.place();
    if !(rules.may_act)() {
        return Ok(Done::NotSent);
    }
    let existing = cluster.objects.get(&node.node_name)?;
    if let Some(existing) = existing
        && let Some(owner) = existing.owner.as_deref().and_then(NodeOwner::read)
        && (rules.keeps)(&owner, of.object, &existing.instance_id)
    {
        return Ok(Done::Kept(owner));
    }
    if !(rules.may_act)() {
        return Ok(Done::NotSent);
    }
    let owner = of.owner().to_string();
    cluster.objects.apply(&Node::from(node), of.spec.cluster_id(), Some(&owner))?;
    Ok(Done::Applied)
}

/// The objects that would be applied, one a line.
pub(crate) fn bodies(objects: &[ObjectNodes<'_>], namespace: &str) -> Vec<Vec<u8>> {
    let bodies = objects.iter().flat_map(|of| {
        let owner = of.owner().to_string();
        of.nodes.iter().map(move |node| {
            let body = node_objects::body(
                &Node::from(*node),
                of.spec.cluster_id(),
                Some(&owner),
                namespace,
            );
            body.to_string().into_bytes()
        })
    });
    bodies.collect()
}

/// What another service than an API server says isn't repeated: a kubeconfig may name any server.
/// Nor is the node's name, which stands beside the words.
fn words(error: &KubeError, node_name: &str) -> String {
    match error {
        KubeError::Transport(error) => error.failure.to_string(),
        KubeError::Refused { status, .. } => match status.code {
            300..=399 => format!("{}: redirects aren't followed", status.code),
            404 if status.is_not_served() => {
                "404: it doesn't serve MultiNicNodeConfigs of multinic.io/v1alpha1; install the \
                 agent with its CRD"
                    .to_owned()
            }
            code if status.is_from_api() => {
                let message = status.message.replace(&format!(" \"{node_name}\""), "");
                format!("{code} {}: {message}", status.reason)
            }
            code => format!("{code}, which isn't an answer of a Kubernetes API"),
        },
        KubeError::Unreadable { .. } => "the answer isn't one of a Kubernetes API".to_owned(),
        KubeError::NoToken { reason } => format!("there is no service account token: {reason}"),
        KubeError::NotLeading { .. } => "not sent, this replica no longer leads".to_owned(),
    }
}
