//! Viola: hands each node's configuration to the cluster the node belongs to
//! (docs/behaviour.md#sending).
//!
//! Nodes of several objects share requests. One node must not keep the others from being sent:
//! - A request that may be too large, or have a node in it that isn't valid, is sent again in halves
//!   until it is refused for one node alone.
//! - After any other refusal of a whole request the next passes send each object by itself, until
//!   all was accepted again.
//! - After a request without an answer the rest isn't tried: it would only wait as long again. What
//!   had no answer comes last in the next pass, and in smaller requests.
//!
//! What became of a request without an answer is unknown, so its nodes count as not accepted and are
//! sent again in a later pass, also if they are by then what was accepted before. Which names Viola
//! takes is Viola's to say; nothing is left out beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::acceptance::{Objection, acceptance};
pub use super::{Delivery, Post, Problem};
use crate::cloud::answer::{error_text, redirect_hint};
use crate::config::{Config, Settings};
use crate::http::client::{
    Answer, Client, ClientOptions, ClientTls, Clients, Failure, Request, Service,
};
use crate::http::proxy::Proxies;
use crate::http::trust::Trust;
use crate::kept::Kept;
use crate::node_config::NodeConfig;
use crate::threads::lock;

/// Where nodes are posted.
pub const PATH: &str = "/v1/k8s/multinic/node-configs";
/// Nodes of one request.
pub(super) const MAX_NODES: usize = 500;
/// Bytes of one request's body.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Requests for halves that are made for one list of nodes: enough to find one node among
/// [`MAX_NODES`], and few where all are refused for another reason. What isn't found is looked for in
/// the next pass, among the fewer that are left.
const MAX_REQUESTS_FOR_HALVES: usize = 20;
/// Shorter than any server's own, so that a kept connection is seldom dead: a POST can't be
/// repeated to find out.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// The clients of Viola, by the settings of objects.
pub struct Viola {
    clients: Clients,
    proxies: Arc<Proxies>,
    /// By the limit of a call and whom it trusts.
    connections: Kept<(Duration, Trust), Client>,
    /// By Viola's endpoint and the cluster's name.
    clusters: Mutex<BTreeMap<(String, String), Cluster>>,
    stopped: AtomicBool,
}

/// What earlier deliveries to a cluster have shown.
#[derive(Default)]
struct Cluster {
    /// [`Target::unconfirmed`](super::Target::unconfirmed).
    unconfirmed: BTreeSet<String>,
    pace: Pace,
}

/// How requests are made up.
#[derive(Clone)]
struct Pace {
    /// Nodes of one request.
    limit: usize,
    /// Each object is sent by itself.
    is_isolated: bool,
    /// Nodes whose last request had no answer, with a number that rises from request to request.
    unanswered: BTreeMap<String, u64>,
}

impl Viola {
    /// Nothing is sent yet.
    pub fn new(config: &Config, clients: &Clients) -> Viola {
        Viola {
            clients: clients.clone(),
            proxies: Arc::clone(&config.proxies),
            connections: Kept::default(),
            clusters: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    fn client(&self, settings: &Settings) -> Arc<Client> {
        let key = (settings.viola.timeout, settings.viola.trust.clone());
        let client = self.connections.get(&key, || {
            let ((call_limit, trust), proxies) = (key.clone(), Arc::clone(&self.proxies));
            let idle_limit = IDLE_LIMIT;
            self.clients.client(ClientOptions {
                call_limit,
                trust,
                idle_limit,
                proxies,
                tls: ClientTls::default(),
            })
        });
        if self.stopped.load(Ordering::SeqCst) {
            client.shutdown();
        }
        client
    }

    /// The HTTP status of any answer to a GET where nodes are posted: the way there, without a post.
    pub fn reach(&self, settings: &Settings) -> Result<u16, String> {
        let endpoint = settings.viola.endpoint.as_ref();
        let endpoint = endpoint.map_err(|variable| format!("{variable} is not set"))?;
        let url = format!("{endpoint}{PATH}");
        let answer = self.client(settings).call(&Request::get(Service::Viola, &url));
        answer.map(|answer| answer.status).map_err(|error| error.to_string())
    }
}

fn post(client: &Client, url: &str, target: &str, batch: &Batch<'_>) -> Reply {
    let request = Request::with_body(Service::Viola, "POST", url, "application/json", &batch.body)
        .header("x-provider-id", target);
    match client.call(&request) {
        Ok(answer) if matches!(answer.status, 200 | 201 | 202 | 204) => Reply::Good(answer),
        Ok(answer) => {
            let (status, words) = (answer.status, error_text(&answer));
            let message = batch.refusal(&format!("HTTP {status}"), &words);
            let message = message + redirect_hint(status);
            let kind = match status {
                413 | 414 | 431 => Refusal::TooLarge,
                400 | 422 => Refusal::NotValid,
                _ => Refusal::Other,
            };
            let retry_after = answer.retry_after().filter(|_| matches!(status, 429 | 503));
            Reply::Refused { message, kind, retry_after }
        }
        Err(error) if error.failure == Failure::Reset => {
            let (message, retry_after) = (error.to_string(), None);
            Reply::Refused { message, kind: Refusal::Reset, retry_after }
        }
        Err(error) => Reply::NoAnswer {
            message: error.to_string(),
            was_sent: !matches!(
                error.failure,
                Failure::Refused
                    | Failure::HostNotFound
                    | Failure::Tls(_)
                    | Failure::Proxy(_)
                    | Failure::BadUrl(_)
                    | Failure::BadHeader(_)
                    | Failure::Stopped
            ),
        },
    }
}

impl Viola {
    /// Delivers the nodes of the objects of one pass, one list per object, to the cluster `target`
    /// by the settings of these objects. Names differ between all nodes. A request is begun only
    /// while `may_act` says so.
    pub fn deliver(
        &self,
        settings: &Settings,
        target: &str,
        objects: &[Vec<&NodeConfig>],
        may_act: &dyn Fn() -> bool,
    ) -> Delivery {
        let nodes = || objects.iter().flatten().copied();
        let mut delivery = Delivery::default();
        let (url, key) = match settings.viola.endpoint.as_ref() {
            Ok(endpoint) => (format!("{endpoint}{PATH}"), cluster_key(endpoint, target)),
            Err(variable) => {
                delivery.refuse(nodes(), &format!("{variable} is not set"));
                return delivery;
            }
        };
        let pace = lock(&self.clusters).get(&key).map(|known| known.pace.clone());
        let pace = pace.unwrap_or_default();
        let lists = pace.lists(objects);
        let client = self.client(settings);
        let mut sending = PendingDelivery { pace, ..PendingDelivery::default() };
        for items in lists {
            sending.send(&items, may_act, &|batch| post(&client, &url, target, batch));
        }
        let PendingDelivery { mut pace, was_lowered, failed, delivery, .. } = sending;
        if !was_lowered && !delivery.accepted.is_empty() {
            pace.limit = MAX_NODES.min(2 * pace.limit);
        }
        let mut clusters = lock(&self.clusters);
        // Another worker may have noted other nodes meanwhile.
        let known = clusters.entry(key).or_default();
        known.pace.limit = pace.limit;
        known.pace.is_isolated = failed || (pace.is_isolated && !delivery.problems.is_empty());
        for NodeConfig { node_name, .. } in nodes() {
            match pace.unanswered.get(node_name) {
                Some(number) => known.pace.unanswered.insert(node_name.clone(), *number),
                None => known.pace.unanswered.remove(node_name),
            };
            if delivery.accepted.contains(node_name) {
                known.unconfirmed.remove(node_name);
            } else {
                known.unconfirmed.insert(node_name.clone());
            }
        }
        delivery
    }

    /// As [`Target::unconfirmed`](super::Target::unconfirmed).
    pub fn unconfirmed(&self, settings: &Settings, target: &str) -> BTreeSet<String> {
        let Ok(endpoint) = &settings.viola.endpoint else { return BTreeSet::new() };
        let clusters = lock(&self.clusters);
        let known = clusters.get(&cluster_key(endpoint, target));
        known.map(|known| known.unconfirmed.clone()).unwrap_or_default()
    }

    pub(super) fn shutdown(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.connections.all().iter().for_each(|client| client.shutdown());
    }
}

fn cluster_key(endpoint: &str, target: &str) -> (String, String) {
    (endpoint.to_owned(), target.to_owned())
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { limit: MAX_NODES, is_isolated: false, unanswered: BTreeMap::new() }
    }
}

impl Pace {
    /// The nodes that may share requests, list by list, each ordered by node name.
    fn lists<'a>(&self, objects: &[Vec<&'a NodeConfig>]) -> Vec<Vec<Item<'a>>> {
        let items = |(object, nodes): (usize, &Vec<&'a NodeConfig>)| {
            nodes.iter().map(|node| Item { object, node }).collect::<Vec<Item<'a>>>()
        };
        let mut lists: Vec<Vec<Item<'_>>> = objects.iter().enumerate().map(items).collect();
        if self.is_isolated {
            let unanswered = |item: &Item<'_>| self.unanswered.get(&item.node.node_name);
            lists.sort_by_key(|items| items.iter().filter_map(unanswered).max());
        } else {
            lists = vec![lists.into_iter().flatten().collect()];
        }
        for items in &mut lists {
            items.sort_unstable_by_key(|item| &item.node.node_name);
        }
        lists
    }
}

/// A node, and the object of the pass that it belongs to.
#[derive(Clone, Copy)]
struct Item<'a> {
    object: usize,
    node: &'a NodeConfig,
}

/// Nodes that may share requests, and aren't sent yet.
struct List<'a> {
    rest: &'a [Item<'a>],
    /// Of refused requests; the last is the next.
    halves: Vec<&'a [Item<'a>]>,
    /// So many requests may still be made for halves.
    left: usize,
}

impl<'a> List<'a> {
    fn next(&mut self, limit: usize) -> Option<Batch<'a>> {
        if let Some(half) = self.halves.pop() {
            return Some(Batch::first_of(half, half.len()));
        }
        let batch = (!self.rest.is_empty()).then(|| Batch::first_of(self.rest, limit))?;
        self.rest = &self.rest[batch.items.len()..];
        Some(batch)
    }

    /// Puts the halves of a request back; false if it has none, or enough of them were sent.
    fn halve(&mut self, batch: &Batch<'a>) -> bool {
        if batch.items.len() < 2 || self.left < 2 {
            return false;
        }
        self.left -= 2;
        let (first, second) = batch.items.split_at(batch.items.len().div_ceil(2));
        self.halves.extend([second, first]);
        true
    }
}

/// What came back for one request.
enum Reply {
    /// An answer with the status of a success.
    Good(Answer),
    /// The request as a whole was refused.
    Refused { message: String, kind: Refusal, retry_after: Option<Duration> },
    /// No answer.
    NoAnswer {
        message: String,
        /// Perhaps it is for what was sent: Viola was reached.
        was_sent: bool,
    },
}

/// What a request may have been refused for. The halves may pass, unless it is another reason.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// Its size, by the status.
    TooLarge,
    /// Its size, perhaps: it wasn't read to its end.
    Reset,
    /// One of its nodes.
    NotValid,
    Other,
}

/// One delivery under way.
#[derive(Default)]
struct PendingDelivery {
    pace: Pace,
    /// The limit was halved in this delivery.
    was_lowered: bool,
    /// Why nothing more is sent.
    stopped: Option<String>,
    /// A request failed for another reason than a node that is known.
    failed: bool,
    delivery: Delivery,
}

impl PendingDelivery {
    /// Sends nodes that may share requests.
    fn send(
        &mut self,
        items: &[Item<'_>],
        may_act: &dyn Fn() -> bool,
        post: &dyn Fn(&Batch<'_>) -> Reply,
    ) {
        let mut list = List { rest: items, halves: Vec::new(), left: MAX_REQUESTS_FOR_HALVES };
        while let Some(batch) = list.next(self.pace.limit) {
            if self.stopped.is_none() && !may_act() {
                self.stopped = Some("not sent, this replica may no longer act".to_owned());
            }
            if let Some(why) = &self.stopped {
                self.delivery.refuse(batch.nodes(), why);
                continue;
            }
            let count = batch.items.len();
            let mut unanswered = 0;
            for node in batch.nodes() {
                unanswered += usize::from(self.pace.unanswered.remove(&node.node_name).is_some());
            }
            let is_again = unanswered == count;
            let accepted_before = self.delivery.accepted.len();
            match post(&batch) {
                Reply::Good(answer) => self.take(&batch, &answer),
                Reply::Refused { kind, .. } if kind != Refusal::Other && list.halve(&batch) => {
                    match kind {
                        Refusal::TooLarge => self.lower(count),
                        Refusal::Reset => self.lower(self.pace.limit),
                        Refusal::NotValid | Refusal::Other => {}
                    }
                }
                Reply::Refused { message, kind, retry_after } => {
                    if kind == Refusal::TooLarge && count == 1 {
                        // It is for this node, so what was larger says nothing.
                        self.pace.limit = MAX_NODES;
                    }
                    self.failed |= count > 1 || kind == Refusal::Other;
                    self.delivery.retry_after = self.delivery.retry_after.max(retry_after);
                    self.delivery.refuse(batch.nodes(), &message);
                }
                Reply::NoAnswer { message, was_sent } => {
                    if was_sent {
                        self.note_unanswered(&batch, is_again);
                    }
                    self.delivery.refuse(batch.nodes(), &message);
                    self.stopped =
                        Some(format!("not sent, an earlier request had no answer: {message}"));
                }
            }
            let nodes = batch.nodes().map(|node| node.node_name.clone()).collect();
            let accepted = self.delivery.accepted.len() - accepted_before;
            self.delivery.posts.push(Post { nodes, accepted });
        }
    }

    /// Viola had the request and didn't answer; `is_again` says that it didn't either when these nodes
    /// were sent last.
    fn note_unanswered(&mut self, batch: &Batch<'_>, is_again: bool) {
        self.failed = true;
        let count = batch.items.len();
        if count > 1 {
            // What is lost once makes no small request smaller.
            self.lower(if is_again { count } else { self.pace.limit });
        }
        let last = self.pace.unanswered.values().max().copied().unwrap_or_default();
        let names = batch.nodes().map(|node| (node.node_name.clone(), last + 1));
        self.pace.unanswered.extend(names);
    }

    /// Node by node what an answer with the status of a success says.
    fn take(&mut self, batch: &Batch<'_>, answer: &Answer) {
        let sent = batch.nodes().map(|node| node.node_name.as_str()).collect();
        let said = acceptance(&answer.body, &sent);
        let objection = said.others.err().map(|objection| match objection {
            Objection::Answer(what) => batch.refusal(what, &error_text(answer)),
            Objection::Stranger(text) => batch.refusal("refused a node that wasn't sent", &text),
        });
        self.failed |= objection.is_some();
        for node in batch.nodes() {
            let name = node.node_name.as_str();
            match (said.refused.get(name), &objection) {
                (Some(text), _) => self.delivery.refuse([node], &refusal("refused", text)),
                (None, Some(message)) if !said.accepted.contains(name) => {
                    self.delivery.refuse([node], message);
                }
                (None, _) => {
                    self.delivery.accepted.insert(name.to_owned());
                }
            }
        }
    }

    /// The next requests have at most half of these.
    fn lower(&mut self, nodes: usize) {
        self.pace.limit = self.pace.limit.min(nodes.div_ceil(2));
        self.was_lowered = true;
    }
}

/// Viola's words about a request, or about one of its nodes.
fn refusal(what: &str, words: &str) -> String {
    let separator = if words.is_empty() { "" } else { ": " };
    format!("Viola POST {PATH}: {what}{separator}{words}")
}

/// The bodies of the requests that are made for the nodes of one object, ordered by name.
pub fn bodies(nodes: &[&NodeConfig]) -> Vec<Vec<u8>> {
    let items: Vec<Item<'_>> = nodes.iter().map(|node| Item { object: 0, node }).collect();
    let mut list = List { rest: &items, halves: Vec::new(), left: 0 };
    std::iter::from_fn(|| list.next(MAX_NODES)).map(|batch| batch.body).collect()
}

/// One request's nodes and its body.
struct Batch<'a> {
    items: &'a [Item<'a>],
    body: Vec<u8>,
}

impl<'a> Batch<'a> {
    /// The first of these nodes, as many as one request may have and at least one.
    fn first_of(items: &'a [Item<'a>], limit: usize) -> Batch<'a> {
        let (mut body, mut count) = (Vec::new(), 0);
        for item in items.iter().take(limit.max(1)) {
            let json = serde_json::to_vec(item.node).unwrap_or_default();
            if count > 0 && body.len() + json.len() + 2 > MAX_BYTES {
                break;
            }
            body.push(if count == 0 { b'[' } else { b',' });
            body.extend_from_slice(&json);
            count += 1;
        }
        body.push(b']');
        Batch { items: &items[..count], body }
    }

    fn nodes(&self) -> impl Iterator<Item = &'a NodeConfig> {
        self.items.iter().map(|item| item.node)
    }

    /// Why the whole request was refused. Viola's words may be about a single node, or a place in the
    /// request: they are for the object that has it, so only where that is known.
    fn refusal(&self, what: &str, words: &str) -> String {
        let object = self.items.first().map(|item| item.object);
        if self.items.iter().all(|item| Some(item.object) == object) {
            return refusal(what, words);
        }
        refusal(what, "the request had nodes of several objects; each is sent by itself next")
    }
}
