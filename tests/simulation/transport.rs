//! What stands in place of the network: carries each request to the simulated cloud's own handlers,
//! in this process, unless a fault meets it. POSTs to Viola go to the driver, who lets time pass.
//!
//! A cloud that changes while it is asked is shown as it was to some requests of a pass and as it
//! is to others; which ones is drawn, so that it doesn't depend on their order.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use multinic_operator::http::client::{Answer, Failure, Request, Service, Transport};
use multinic_operator::reconcile::{Outcome, Work};
use simulated_cloud::wire;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use crate::cloud::{self, Services};
use crate::faults::{Fault, FaultSettings, Reply, drawn, spoiled};

/// What ends a thread of a process that was killed.
pub(crate) struct Killed;

/// A POST that waits for the driver.
pub(crate) struct Post {
    /// `x-provider-id`.
    pub(crate) target: String,
    pub(crate) request: wire::Request,
    /// None: the process doesn't live to see an answer.
    pub(crate) answer: Sender<Option<Result<Reply, Failure>>>,
}

/// What a pass tells the driver.
pub(crate) enum News {
    Post(Post),
    /// One of its objects is reconciled; the pass goes on when the sender is dropped.
    Reported(Box<Work>, Box<Outcome>, Sender<()>),
    Ended(std::thread::Result<()>),
}

/// What is to happen to one pass.
pub(crate) struct Pass {
    pub(crate) number: u64,
    pub(crate) to_driver: Sender<News>,
    /// The cloud changes while it is asked, by this seed.
    pub(crate) change: Option<u64>,
    /// The process is killed while it asks.
    pub(crate) killed: bool,
    /// Leadership is lost while it asks.
    pub(crate) loses_leadership: Option<Arc<AtomicBool>>,
    pub(crate) seen: Seen,
}

/// What a pass met.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// How often each question was put.
    asked: BTreeMap<String, u32>,
    pub(crate) requests: usize,
    pub(crate) faults: BTreeSet<(Service, Fault)>,
    /// Nova didn't answer a question, whatever the reason.
    pub(crate) nova_failed: bool,
    /// Keystone and user that Contrabass named in this pass,
    pub(crate) named: Option<String>,
    /// and those that the token is from, with which Neutron was asked last.
    pub(crate) used: Option<String>,
    /// Objects, by uid, that are reconciled.
    pub(crate) reported: BTreeSet<String>,
    /// The version of the cloud when the pass began.
    pub(crate) version: u64,
    /// Some requests may have been answered from the cloud as it was before.
    pub(crate) changed: Option<(&'static str, String)>,
    /// Requests that arrived for Neutron or Nova.
    began: bool,
    /// No request sees the cloud as it was any more.
    pub(crate) is_over: bool,
}

impl Seen {
    /// Of a pass that begins when the cloud has this version.
    pub(crate) fn from(version: u64) -> Seen {
        Seen { version, ..Seen::default() }
    }
}

/// The clouds and what is in the way to them.
pub(crate) struct SimulatedTransport {
    pub(crate) now: Services,
    /// As it was when the current pass began to ask, if it has changed since.
    pub(crate) before: Services,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) faults: FaultSettings,
    pub(crate) pass: Option<Pass>,
    pub(crate) counts: BTreeMap<String, u64>,
    /// Keystone and user of each token.
    tokens: BTreeMap<String, String>,
}

impl SimulatedTransport {
    pub(crate) fn new(
        cloud: simulated_cloud::CloudState,
        faults: FaultSettings,
    ) -> SimulatedTransport {
        let (counts, tokens) = (BTreeMap::new(), BTreeMap::new());
        let state = State { faults, pass: None, counts, tokens };
        SimulatedTransport {
            before: Services::of(cloud.clone()),
            now: Services::of(cloud),
            state: state.into(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A killed thread holds nothing here when it ends.
        self.state.lock().unwrap()
    }

    fn post(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let to_driver = self.state().pass.as_ref().unwrap().to_driver.clone();
        let (answer, answered) = channel();
        let target = request.headers.iter().find(|(name, _)| *name == "x-provider-id");
        let target = target.map(|(_, value)| (*value).to_owned()).unwrap_or_default();
        let post = Post { target, request: simulated(request), answer };
        to_driver.send(News::Post(post)).unwrap();
        match answered.recv().ok().flatten() {
            Some(reply) => reply.map(answer_of),
            None => resume_unwind(Box::new(Killed)),
        }
    }

    /// Which of the two states a request sees.
    fn services(&self, pass: &mut Pass, seed: u64, request: &Request<'_>) -> &Services {
        let of_the_cloud = matches!(request.service, Service::Neutron | Service::Nova);
        if request.service == Service::Keystone && pass.seen.began {
            // A new token is unknown to the past.
            pass.seen.is_over = true;
        }
        if of_the_cloud && !pass.seen.began {
            pass.seen.began = true;
            if let Some(change) = pass.change {
                let mut now = self.now.state.lock();
                self.before.state.lock().clone_from(&now);
                let mut random = fastrand::Rng::with_seed(change);
                pass.seen.changed = cloud::change(&mut now, &mut random);
            }
        }
        if !of_the_cloud || pass.seen.changed.is_none() || pass.seen.is_over {
            return &self.now;
        }
        let (question, marker) = match request.url.split_once("marker=") {
            Some((question, _)) => (question.trim_end_matches(['?', '&']), true),
            None => (request.url, false),
        };
        let number = pass.number.to_string();
        match drawn(seed, &["which", &number, question]) % 4 {
            0 => &self.before,
            1 => &self.now,
            _ if marker => &self.now,
            _ => &self.before,
        }
    }
}

impl Transport for SimulatedTransport {
    fn carry(&self, request: &Request<'_>, _: Duration) -> Result<Answer, Failure> {
        if request.service == Service::Viola {
            return self.post(request);
        }
        let mut guard = self.state();
        let state = &mut *guard;
        let pass = state.pass.as_mut().unwrap();
        if request.service == Service::Neutron {
            if pass.killed {
                drop(guard);
                resume_unwind(Box::new(Killed));
            }
            if let Some(may_act) = pass.loses_leadership.take() {
                may_act.store(false, Ordering::SeqCst);
            }
        }
        let services = self.services(pass, state.faults.seed, request);
        let asked = pass.seen.asked.entry(format!("{} {}", request.method, request.url));
        let attempt = asked.and_modify(|count| *count += 1).or_insert(1).to_string();
        pass.seen.requests += 1;
        let (number, service) = (pass.number.to_string(), request.service.to_string());
        let parts = [number.as_str(), &service, request.url, &attempt];
        let met = state.faults.meets(request.service, &parts);
        if let Some(met) = met {
            pass.seen.faults.insert((request.service, met.fault));
            let count = format!("{} {}", request.service, met.fault.name());
            *state.counts.entry(count).or_default() += 1;
            if met.asks_for_long() {
                *state.counts.entry("long pause".to_owned()).or_default() += 1;
            }
        }
        let reply = answered(services, request).ok_or(Failure::Refused);
        let is_answer = |reply: &Reply| matches!(reply.status, 200 | 404);
        pass.seen.nova_failed |= request.service == Service::Nova
            && (met.is_some() || !reply.as_ref().is_ok_and(is_answer));
        if let Ok(reply) = &reply {
            access(services, request, reply, &mut pass.seen, &mut state.tokens);
        }
        drop(guard);
        match met {
            None => reply.map(answer_of),
            Some(met) => spoiled(met, reply?, &secret(request)).map(answer_of),
        }
    }
}

/// Notes whose access is used: what Contrabass says, what Keystone gives for it, what Neutron is
/// shown.
fn access(
    services: &Services,
    request: &Request<'_>,
    reply: &Reply,
    seen: &mut Seen,
    tokens: &mut BTreeMap<String, String>,
) {
    match request.service {
        Service::Contrabass => {
            let cloud = services.state.lock();
            let known = cloud.providers.iter().find(|known| request.url.ends_with(&known.id));
            seen.named = known.map(|known| format!("{} {}", cloud.urls.keystone, known.admin_id));
        }
        Service::Keystone => {
            let body: serde_json::Value =
                serde_json::from_slice(request.body.unwrap_or_default()).unwrap_or_default();
            let user = body["auth"]["identity"]["password"]["user"]["name"].as_str();
            let base = request.url.split("/v3").next().unwrap_or_default();
            let token = reply.headers.iter().find(|(name, _)| name == "X-Subject-Token");
            if let Some((_, token)) = token {
                tokens.insert(token.clone(), format!("{base} {}", user.unwrap_or_default()));
            }
        }
        Service::Neutron => seen.used = tokens.get(&secret(request)).cloned(),
        _ => {}
    }
}

/// What the caller shows to be let in.
fn secret(request: &Request<'_>) -> String {
    match (request.secret_header, request.body) {
        (Some((_, _, token)), _) => token.expose().to_owned(),
        (None, Some(body)) => {
            let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let password = &body["auth"]["identity"]["password"]["user"]["password"];
            password.as_str().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

/// None if nobody listens at that address (any more).
fn answered(services: &Services, request: &Request<'_>) -> Option<Reply> {
    let urls = services.state.lock().urls.clone();
    let (base, handler) = match request.service {
        Service::Contrabass => ("http://contrabass.test", &services.contrabass),
        Service::Keystone => (urls.keystone.as_str(), &services.keystone),
        Service::Neutron => (urls.neutron.as_str(), &services.neutron),
        Service::Nova => (urls.nova.as_str(), &services.nova),
        _ => return None,
    };
    request.url.starts_with(base).then(|| handler.handle(&simulated(request)).into())
}

fn simulated(request: &Request<'_>) -> wire::Request {
    let rest = request.url.strip_prefix("http://").unwrap_or(request.url);
    let (host, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut headers = vec![("Host".to_owned(), host.to_owned())];
    headers.extend(
        request.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    if let Some((name, prefix, secret)) = request.secret_header {
        headers.push((name.to_owned(), format!("{prefix}{}", secret.expose())));
    }
    let body = request.body.unwrap_or_default().to_vec();
    wire::Request::new(request.method, target, headers, body)
}

fn answer_of(reply: Reply) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in &reply.headers {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    Answer::new(reply.status, headers, reply.body)
}
