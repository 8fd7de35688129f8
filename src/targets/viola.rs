//! Viola: hands each node's configuration to the cluster the node belongs to (SPEC 5, step 11).
//!
//! A POST is never repeated blindly: what became of one that brought no answer is unknown, so its
//! nodes count as not accepted and are sent again in a later pass. They are so even if they are by
//! then what was accepted before: Viola may hold what nobody saw it accept.
//!
//! An answer that says the request isn't valid is no acceptance of anything in it, and one node may
//! be to blame: the nodes are sent again in halves until it is refused alone, so that it holds
//! nobody up. Which names Viola takes is Viola's to say; nothing is left out beforehand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Deserialize;

use crate::cloud::answer::{error_text, redirect_hint, shortened};
use crate::config::{Config, Required};
use crate::http::client::{Client, ClientOptions, Clients, Request, Service};
use crate::node_config::NodeConfig;

/// Where nodes are posted.
pub const PATH: &str = "/v1/k8s/multinic/node-configs";
/// Nodes of one request.
const MAX_NODES: usize = 500;
/// Bytes of one request's body.
const MAX_BYTES: usize = 1024 * 1024;
/// Requests that one [`Viola::post`] makes beyond its batches to find nodes that aren't valid: enough
/// for one among [`MAX_NODES`], and few where all are refused for another reason. What isn't found
/// is looked for in the next pass, among the fewer that are left.
const MAX_REQUESTS_MORE: usize = 20;
/// Shorter than any server's own, so that a kept connection is seldom dead: a POST can't be
/// repeated to find out.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// The client of Viola.
pub struct Viola {
    endpoint: Required<String>,
    client: Client,
    /// By target, the names of nodes whose last POST wasn't seen to be accepted.
    doubted: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

/// What became of the nodes that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Names of the nodes Viola accepted.
    pub accepted: BTreeSet<String>,
    /// Why the others weren't, each reason once.
    pub problems: Vec<Problem>,
    /// Viola asked to be left alone for so long.
    pub retry_after: Option<Duration>,
}

/// Nodes that weren't accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Their names.
    pub nodes: Vec<String>,
    /// What came back.
    pub message: String,
}

/// What came back for one request.
enum Reply {
    /// An answer, good or bad; what it says of each node is in the delivery.
    Taken,
    /// Something in the request isn't valid, in Viola's words; the delivery knows nothing of it yet.
    NotValid(String),
    /// No answer; the delivery says why.
    Silence,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Option<Vec<NodeError>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeError {
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    error: Option<serde_json::Value>,
    #[serde(default)]
    message: Option<serde_json::Value>,
    #[serde(default)]
    reason: Option<serde_json::Value>,
}

impl Viola {
    /// A client by the configuration; nothing is sent yet.
    pub fn new(config: &Config, clients: &Clients) -> Viola {
        let options = ClientOptions {
            call_limit: config.viola.timeout,
            trust: config.viola.trust.clone(),
            idle_limit: IDLE_LIMIT,
            proxies: Arc::clone(&config.proxies),
        };
        let endpoint = config.viola.endpoint.clone();
        Viola { endpoint, client: clients.client(options), doubted: Mutex::default() }
    }

    /// Sends the nodes (ordered by name) in as few requests as the limits allow, each of them only
    /// while `may_act` says so: a request may take its time, and leadership may be lost meanwhile.
    /// After a request without an answer the rest isn't tried: it would only wait as long again.
    pub fn post(
        &self,
        target: &str,
        nodes: &[&NodeConfig],
        may_act: &dyn Fn() -> bool,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        let url = match self.endpoint.get() {
            Ok(endpoint) => format!("{endpoint}{PATH}"),
            Err(variable) => {
                delivery.refuse(nodes.iter().copied(), &format!("{variable} is not set"));
                return delivery;
            }
        };
        let mut waiting = VecDeque::from(batches(nodes));
        let mut requests_more = MAX_REQUESTS_MORE;
        let mut stopped = None;
        while let Some(batch) = waiting.pop_front() {
            if stopped.is_none() && !may_act() {
                stopped = Some("not sent, this replica may no longer act");
            }
            if let Some(why) = stopped {
                delivery.refuse(batch.nodes, why);
                continue;
            }
            match self.post_batch(&url, target, &batch, &mut delivery) {
                Reply::Taken => {}
                Reply::NotValid(_) if batch.nodes.len() > 1 && requests_more >= 2 => {
                    requests_more -= 2;
                    let (first, second) = batch.nodes.split_at(batch.nodes.len() / 2);
                    let halves = [second, first].into_iter().flat_map(batches);
                    halves.for_each(|half| waiting.push_front(half));
                }
                Reply::NotValid(message) => delivery.refuse(batch.nodes, &message),
                Reply::Silence => stopped = Some("not tried after that"),
            }
        }
        self.note(target, nodes, &delivery);
        delivery
    }

    /// The nodes behind a target of which Viola may hold something else than what it was seen to
    /// accept.
    pub fn doubted(&self, target: &str) -> BTreeSet<String> {
        self.lock_doubted().get(target).cloned().unwrap_or_default()
    }

    fn note(&self, target: &str, nodes: &[&NodeConfig], delivery: &Delivery) {
        let mut doubted = self.lock_doubted();
        let mut names = doubted.remove(target).unwrap_or_default();
        for node in nodes {
            if delivery.accepted.contains(&node.node_name) {
                names.remove(&node.node_name);
            } else {
                names.insert(node.node_name.clone());
            }
        }
        if !names.is_empty() {
            doubted.insert(target.to_owned(), names);
        }
    }

    fn lock_doubted(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.doubted.lock().unwrap_or_else(|held| held.into_inner())
    }

    fn post_batch(
        &self,
        url: &str,
        target: &str,
        batch: &Batch<'_>,
        delivery: &mut Delivery,
    ) -> Reply {
        let request =
            Request::with_body(Service::Viola, "POST", url, "application/json", &batch.body)
                .header("x-provider-id", target);
        let answer = match self.client.call(&request) {
            Ok(answer) => answer,
            Err(error) => {
                delivery.refuse(batch.nodes.iter().copied(), &error.to_string());
                return Reply::Silence;
            }
        };
        let nodes = batch.nodes.iter().copied();
        if !matches!(answer.status, 200 | 201 | 202 | 204) {
            let (status, hint) = (answer.status, redirect_hint(answer.status));
            let what = refusal(&format!("HTTP {status}"), &error_text(&answer));
            if matches!(status, 400 | 422) {
                return Reply::NotValid(what);
            }
            delivery.refuse(nodes, &format!("{what}{hint}"));
            if matches!(status, 429 | 503) {
                delivery.retry_after = delivery.retry_after.max(answer.retry_after());
            }
            return Reply::Taken;
        }
        match node_errors(&answer.body) {
            Ok(errors) => delivery.take(&batch.nodes, &errors),
            Err(what) => delivery.refuse(nodes, &refusal(&what, "")),
        }
        Reply::Taken
    }

    /// The HTTP status of any answer to a GET where nodes are posted: the way there, without a post.
    pub fn reach(&self) -> Result<u16, String> {
        let endpoint = self.endpoint.get().map_err(|variable| format!("{variable} is not set"))?;
        let url = format!("{endpoint}{PATH}");
        let answer = self.client.call(&Request::get(Service::Viola, &url));
        answer.map(|answer| answer.status).map_err(|error| error.to_string())
    }

    /// Cuts every call short; the operator is stopping.
    pub fn shutdown(&self) {
        self.client.shutdown();
    }
}

impl Delivery {
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

    /// A name that wasn't sent may be anybody's (Kubernetes writes names in lower case, a person may
    /// have mistyped one), so then nobody counts as accepted.
    fn take(&mut self, nodes: &[&NodeConfig], errors: &BTreeMap<String, String>) {
        let sent: BTreeSet<&String> = nodes.iter().map(|node| &node.node_name).collect();
        let strange = errors.iter().find(|(name, _)| !sent.contains(name));
        let strange = strange.map(|(name, text)| {
            let name = shortened(name, 160);
            refusal(&format!("refused {name:?}, which wasn't sent"), text)
        });
        for node in nodes {
            match (errors.get(&node.node_name), &strange) {
                (Some(text), _) => self.refuse([*node], &refusal("refused", text)),
                (None, Some(message)) => self.refuse([*node], message),
                (None, None) => {
                    self.accepted.insert(node.node_name.clone());
                }
            }
        }
    }
}

fn refusal(what: &str, text: &str) -> String {
    let separator = if text.is_empty() { "" } else { ": " };
    format!("Viola POST {PATH}: {what}{separator}{text}")
}

/// Nodes that a successful answer says were not accepted. An answer that isn't JSON says nothing
/// of the sort; one that begins like JSON and can't be read may have been about to.
fn node_errors(body: &[u8]) -> Result<BTreeMap<String, String>, String> {
    if !matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return Ok(BTreeMap::new());
    }
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|_| "the answer can't be read".to_owned())?;
    if value.get("errors").is_none_or(serde_json::Value::is_null) {
        return Ok(BTreeMap::new());
    }
    let body = Body::deserialize(&value)
        .map_err(|_| "the answer has errors that can't be read".to_owned())?;
    let mut errors = BTreeMap::new();
    for error in body.errors.unwrap_or_default() {
        let text = [error.error, error.message, error.reason].into_iter().flatten().next();
        let text = text.map(|text| match text {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        });
        let text = shortened(&text.unwrap_or_default(), 160);
        match error.node_name {
            Some(node) => errors.insert(node, text),
            None => return Err(format!("the answer has an error without a nodeName: {text}")),
        };
    }
    Ok(errors)
}

/// The bodies of the requests that [`Viola::post`] makes for these nodes.
pub fn bodies(nodes: &[&NodeConfig]) -> Vec<Vec<u8>> {
    batches(nodes).into_iter().map(|batch| batch.body).collect()
}

/// One request's nodes and its body.
struct Batch<'a> {
    nodes: Vec<&'a NodeConfig>,
    body: Vec<u8>,
}

fn batches<'a>(nodes: &[&'a NodeConfig]) -> Vec<Batch<'a>> {
    let mut batches: Vec<Batch<'a>> = Vec::new();
    for node in nodes {
        let json = serde_json::to_vec(node).unwrap_or_default();
        match batches.last_mut() {
            Some(batch)
                if batch.nodes.len() < MAX_NODES
                    && batch.body.len() + json.len() + 2 <= MAX_BYTES =>
            {
                batch.body.push(b',');
                batch.body.extend_from_slice(&json);
                batch.nodes.push(node);
            }
            _ => {
                let mut body = Vec::with_capacity(json.len() + 2);
                body.push(b'[');
                body.extend_from_slice(&json);
                batches.push(Batch { nodes: vec![node], body });
            }
        }
    }
    for batch in &mut batches {
        batch.body.push(b']');
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{Delivery, MAX_BYTES, PATH, Viola, batches, bodies, node_errors};
    use crate::config::Config;
    use crate::http::client::{Answer, Clients, Failure, Request, Transport};
    use crate::node_config::NodeConfig;

    /// Answers with this status, or not at all where it is 0.
    #[derive(Default)]
    struct Answering {
        status: AtomicU16,
        asked: AtomicUsize,
    }

    impl Transport for Answering {
        fn carry(&self, _: &Request<'_>, _: Duration) -> Result<Answer, Failure> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match self.status.load(Ordering::SeqCst) {
                0 => Err(Failure::Lost),
                status => Ok(Answer::new(status, Default::default(), Vec::new())),
            }
        }
    }

    /// Answers by the names of the nodes it is sent, and notes them; not at all where it is 0.
    struct Picky<F> {
        answer: F,
        asked: Mutex<Vec<Vec<String>>>,
    }

    impl<F: Fn(&[String]) -> (u16, String) + Send + Sync + 'static> Picky<F> {
        fn new(answer: F) -> Arc<Picky<F>> {
            Arc::new(Picky { answer, asked: Mutex::default() })
        }

        fn requests(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    impl<F: Fn(&[String]) -> (u16, String) + Send + Sync> Transport for Picky<F> {
        fn carry(&self, request: &Request<'_>, _: Duration) -> Result<Answer, Failure> {
            let nodes: Vec<NodeConfig> = serde_json::from_slice(request.body.unwrap()).unwrap();
            let names: Vec<String> = nodes.into_iter().map(|node| node.node_name).collect();
            let (status, body) = (self.answer)(&names);
            self.asked.lock().unwrap().push(names);
            if status == 0 {
                return Err(Failure::Lost);
            }
            Ok(Answer::new(status, Default::default(), body.into_bytes()))
        }
    }

    fn viola(service: &Arc<impl Transport + 'static>) -> Viola {
        let config = Config::read(|name| match name {
            "VIOLA_ENDPOINT" => Some("http://viola.test".to_owned()),
            "KUBE_API_URL" => Some("http://kubernetes.test".to_owned()),
            _ => None,
        });
        let clients = Clients::new(&Arc::default()).over(Arc::clone(service) as _);
        Viola::new(&config.unwrap(), &clients)
    }

    #[test]
    fn a_node_is_in_doubt_from_a_post_that_nobody_saw_accepted_to_the_next_that_was() {
        let service = Arc::<Answering>::default();
        let viola = viola(&service);
        let node = node("worker-0".to_owned());
        for (status, doubted) in [(200, false), (0, true), (204, false), (500, true), (200, false)]
        {
            service.status.store(status, Ordering::SeqCst);
            viola.post("biz", &[&node], &|| true);
            assert_eq!(viola.doubted("biz").contains("worker-0"), doubted, "after {status}");
            assert!(viola.doubted("other").is_empty());
        }
    }

    #[test]
    fn after_an_answer_the_next_request_follows_and_after_silence_none_does() {
        let nodes: Vec<NodeConfig> = (0..1201).map(|n| node(format!("worker-{n:05}"))).collect();
        let nodes: Vec<&NodeConfig> = nodes.iter().collect();
        for (status, asked, accepted) in [(200, 3, 1201), (500, 3, 0), (0, 1, 0)] {
            let service = Arc::<Answering>::default();
            service.status.store(status, Ordering::SeqCst);
            let delivery = viola(&service).post("biz", &nodes, &|| true);
            assert_eq!(service.asked.load(Ordering::SeqCst), asked, "{status}");
            assert_eq!(delivery.accepted.len(), accepted, "{status}");
            let refused: usize = delivery.problems.iter().map(|problem| problem.nodes.len()).sum();
            assert_eq!(refused, 1201 - accepted, "{status}");
        }
    }

    #[test]
    fn who_is_refused_under_a_name_that_was_not_sent_is_anybody() {
        let answer = r#"{"errors":[{"nodeName":"WORKER-0","error":"no such node"},
                                   {"nodeName":"worker-1","error":"not ready"}]}"#;
        let service = Picky::new(|_: &[String]| (200, answer.to_owned()));
        let nodes = ["worker-0", "worker-1", "worker-2"].map(|name| node(name.to_owned()));
        let viola = viola(&service);
        let delivery = viola.post("biz", &nodes.each_ref(), &|| true);
        assert!(delivery.accepted.is_empty());
        let anybody = r#"refused "WORKER-0", which wasn't sent: no such node"#;
        let told: Vec<_> = delivery.problems.iter().map(|p| (&*p.message, &p.nodes)).collect();
        let message = |what| format!("Viola POST {PATH}: {what}");
        let (anybody, named) = (message(anybody), message("refused: not ready"));
        let [others, own] = [["worker-0", "worker-2"].as_slice(), &["worker-1"]]
            .map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(told, [(anybody.as_str(), &others), (named.as_str(), &own)]);
        assert_eq!(viola.doubted("biz").len(), 3);
    }

    /// Refuses whatever has one of these nodes in it, as a whole.
    fn strict(status: u16, bad: &[&str]) -> impl Fn(&[String]) -> (u16, String) + use<> {
        let bad: BTreeSet<String> = bad.iter().map(|name| (*name).to_owned()).collect();
        move |names: &[String]| match names.iter().position(|name| bad.contains(name)) {
            Some(at) => (status, format!(r#"{{"error":"[{at}].nodeName is no DNS name"}}"#)),
            None => (200, String::new()),
        }
    }

    fn refused(delivery: &Delivery) -> Vec<&str> {
        delivery.problems.iter().flat_map(|p| &p.nodes).map(String::as_str).collect()
    }

    #[test]
    fn a_node_that_is_not_valid_is_refused_alone_and_holds_nobody_up() {
        for status in [400, 422] {
            let service = Picky::new(strict(status, &["Wörker 2"]));
            let nodes = ["worker-1", "Wörker 2", "worker-3"].map(|name| node(name.to_owned()));
            let viola = viola(&service);
            let delivery = viola.post("biz", &nodes.each_ref(), &|| true);
            assert_eq!(Vec::from_iter(&delivery.accepted), ["worker-1", "worker-3"]);
            let [problem] = delivery.problems.as_slice() else { panic!("{delivery:?}") };
            let message = format!("Viola POST {PATH}: HTTP {status}: [0].nodeName is no DNS name");
            assert_eq!(
                (&problem.message, problem.nodes.as_slice()),
                (&message, ["Wörker 2".to_owned()].as_slice())
            );
            assert_eq!(Vec::from_iter(viola.doubted("biz")), ["Wörker 2"]);
            assert_eq!(service.requests(), 5);
        }
    }

    #[test]
    fn one_of_five_hundred_is_found_wherever_it_is_and_few_requests_are_spent() {
        let nodes: Vec<NodeConfig> = (0..500).map(|n| node(format!("worker-{n:05}"))).collect();
        let nodes: Vec<&NodeConfig> = nodes.iter().collect();
        for bad in [0, 1, 249, 250, 333, 499] {
            let bad = format!("worker-{bad:05}");
            let service = Picky::new(strict(400, &[&bad]));
            let delivery = viola(&service).post("biz", &nodes, &|| true);
            assert_eq!(refused(&delivery), [bad]);
            assert_eq!(delivery.accepted.len(), 499);
            assert!((17..=19).contains(&service.requests()), "{}", service.requests());
        }
    }

    #[test]
    fn where_everything_is_refused_at_most_twenty_requests_more_are_made() {
        let nodes: Vec<NodeConfig> = (0..1201).map(|n| node(format!("worker-{n:05}"))).collect();
        let nodes: Vec<&NodeConfig> = nodes.iter().collect();
        for (status, requests) in [(400, 23), (422, 23), (403, 3), (413, 3), (500, 3)] {
            let service = Picky::new(move |_: &[String]| (status, String::new()));
            let delivery = viola(&service).post("biz", &nodes, &|| true);
            assert_eq!(service.requests(), requests, "{status}");
            assert!(delivery.accepted.is_empty());
            assert_eq!(refused(&delivery).len(), 1201, "{status}");
            assert_eq!(delivery.problems.len(), 1, "one reason is said once");
        }
        let alone = Picky::new(|_: &[String]| (400, String::new()));
        viola(&alone).post("biz", &nodes[..1], &|| true);
        assert_eq!(alone.requests(), 1, "who is refused alone is found already");
    }

    #[test]
    fn while_the_invalid_node_is_looked_for_no_request_follows_one_without_an_answer() {
        let service = Picky::new(|names: &[String]| match names.len() {
            4 => (400, String::new()),
            _ => (0, String::new()),
        });
        let nodes: Vec<NodeConfig> = (0..4).map(|n| node(format!("worker-{n}"))).collect();
        let nodes: Vec<&NodeConfig> = nodes.iter().collect();
        let delivery = viola(&service).post("biz", &nodes, &|| true);
        assert_eq!((service.requests(), refused(&delivery).len()), (2, 4));
        let leader = Picky::new(|_: &[String]| (400, String::new()));
        let delivery = viola(&leader).post("biz", &nodes, &|| leader.requests() == 0);
        assert_eq!((leader.requests(), refused(&delivery).len()), (1, 4));
    }

    #[test]
    fn who_may_no_longer_act_sends_no_further_request() {
        let nodes: Vec<NodeConfig> = (0..1201).map(|n| node(format!("worker-{n:05}"))).collect();
        let nodes: Vec<&NodeConfig> = nodes.iter().collect();
        for before_end in [0, 1, 2] {
            let service = Picky::new(|_: &[String]| (200, String::new()));
            let delivery = viola(&service).post("biz", &nodes, &|| service.requests() < before_end);
            assert_eq!(service.requests(), before_end);
            assert_eq!(delivery.accepted.len(), 500 * before_end);
            let [problem] = delivery.problems.as_slice() else { panic!("{delivery:?}") };
            assert_eq!(problem.message, "not sent, this replica may no longer act");
            assert_eq!(problem.nodes.len(), 1201 - 500 * before_end);
        }
    }

    fn node(name: String) -> NodeConfig {
        NodeConfig { node_name: name, instance_id: "vm".to_owned(), interfaces: Vec::new() }
    }

    #[test]
    fn a_request_has_at_most_500_nodes_and_1_mib() {
        let nodes: Vec<NodeConfig> = (0..1201).map(|n| node(format!("worker-{n:05}"))).collect();
        let nodes: Vec<&NodeConfig> = nodes.iter().collect();
        let sizes: Vec<usize> = batches(&nodes).iter().map(|batch| batch.nodes.len()).collect();
        assert_eq!(sizes, [500, 500, 201]);

        let long: Vec<NodeConfig> = (0..5).map(|_| node("x".repeat(400_000))).collect();
        let long: Vec<&NodeConfig> = long.iter().collect();
        let made = batches(&long);
        assert_eq!(made.len(), 3);
        let shown = bodies(&long);
        assert!(made.iter().map(|batch| &batch.body).eq(&shown), "what plan shows is what is sent");
        for batch in made {
            assert!(batch.body.len() <= MAX_BYTES);
            let read: Vec<NodeConfig> = serde_json::from_slice(&batch.body).unwrap();
            assert_eq!(read.len(), batch.nodes.len());
        }
    }

    #[test]
    fn a_body_is_filled_to_the_last_byte_and_not_beyond() {
        let base = serde_json::to_vec(&node(String::new())).unwrap().len();
        let first = node("x".repeat(500_000));
        // Brackets and a comma are three bytes.
        let room = MAX_BYTES - 500_000 - 2 * base - 3;
        let full = batches(&[&first, &node("y".repeat(room))])
            .iter()
            .map(|batch| batch.body.len())
            .collect::<Vec<_>>();
        assert_eq!(full, [MAX_BYTES]);
        assert_eq!(batches(&[&first, &node("y".repeat(room + 1))]).len(), 2);
    }

    #[test]
    fn errors_name_nodes_and_anything_unclear_is_no_acceptance() {
        for body in ["", "ok", "{}", r#"{"applied":3}"#, r#"{"errors":[]}"#, r#"{"errors":null}"#] {
            assert!(node_errors(body.as_bytes()).unwrap().is_empty(), "{body}");
        }
        let body = r#"{"errors":[{"nodeName":"a","error":"no"},{"nodeName":"b"}]}"#;
        let errors = node_errors(body.as_bytes()).unwrap();
        assert_eq!((errors["a"].as_str(), errors["b"].as_str()), ("no", ""));
        for body in [r#"{"applied":"#, r#"{"errors":["no"]}"#, r#"{"errors":[{"error":"no"}]}"#] {
            assert!(node_errors(body.as_bytes()).is_err(), "{body}");
        }
    }
}
