//! The HTTP client of every upstream and of the Kubernetes API.
//!
//! It decides once, for all: how TLS is verified, that each call has a limit, how large an
//! answer may be, that redirects are reported and never followed (they would carry `X-Auth-Token`
//! to another host), how proxies are used, how a failure reads, and what texts about a request must
//! not show: the secrets it carried, and a token that its answer brought. It knows no service's format.

mod agents;
mod certificate;
mod failure;
mod request;

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::{Agent, AsSendBody, http};

use agents::{SecureAgents, agent};
pub use certificate::{ClientCertificate, ClientTls, ServerName};
pub use failure::{Failure, HttpError, is_read_timeout};
use failure::{failure_behind, failure_of_io};
pub(crate) use request::retry_after;
pub use request::{Answer, Request, Service, Stream};

use super::proxy::Proxies;
use super::trust::Trust;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads::lock;

/// Answers above this are refused (3,000 ports with all their keys take about 3 MiB).
pub(crate) const BODY_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes allocated at once for an answer that says how long it is; for a longer one it grows.
const BODY_ALLOCATION_BYTES: u64 = 1024 * 1024;
/// Long enough for a lost SYN to be repeated twice.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For what comes in, per connection; ureq's own 128 KiB would cost megabytes for a dozen of them.
const INPUT_BYTES: usize = 16 * 1024;
/// For what goes out; each line of a head must fit, so a URL and a token.
const OUTPUT_BYTES: usize = 8 * 1024;
const USER_AGENT: &str = concat!("multinic-operator/", env!("CARGO_PKG_VERSION"));

/// How a client behaves; fixed for its life.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Limit of one whole call, body included.
    pub call_limit: Duration,
    /// Whom TLS connections trust.
    pub trust: Trust,
    /// How long an unused connection is kept. Short where a request can't be repeated safely.
    pub idle_limit: Duration,
    /// The proxies of the environment; none where requests never leave the cluster.
    pub proxies: Arc<Proxies>,
    /// A certificate of our own, and the server's name where its URL has another.
    pub tls: ClientTls,
}

/// What carries a request to its service, and the whole answer back. The network does, unless a
/// program puts something in its place, such as a cloud of its own.
pub trait Transport: Send + Sync {
    /// One attempt, within the limit; what follows from a failure is the client's business.
    fn carry(&self, request: &Request<'_>, limit: Duration) -> Result<Answer, Failure>;
}

/// Makes the clients of the upstreams, which have in common what carries their requests and who
/// counts them.
#[derive(Clone)]
pub struct Clients {
    metrics: Arc<Metrics>,
    transport: Option<Arc<dyn Transport>>,
}

impl Clients {
    /// Clients that use the network.
    pub fn new(metrics: &Arc<Metrics>) -> Clients {
        Clients { metrics: Arc::clone(metrics), transport: None }
    }

    /// The same, with this in place of the network.
    pub fn over(self, transport: Arc<dyn Transport>) -> Clients {
        Clients { transport: Some(transport), ..self }
    }

    /// One client.
    pub fn client(&self, options: ClientOptions) -> Client {
        let transport = self.transport.clone();
        Client { transport, ..Client::new(options, Arc::clone(&self.metrics)) }
    }
}

/// A client for upstreams that share one trust and one limit. Connections are kept and reused.
pub struct Client {
    options: ClientOptions,
    /// What carries calls in place of the network; none for the network.
    transport: Option<Arc<dyn Transport>>,
    plain: Arc<Agent>,
    secure: Mutex<SecureAgents>,
    stopped: AtomicBool,
    metrics: Arc<Metrics>,
    /// For durations, and for when the CA file is due to be looked at.
    clock: Clock,
}

/// Limits of one attempt; none for what may last for ever.
struct Limits {
    whole: Option<Duration>,
    /// Of each read, and of the wait for the first.
    silence: Option<Duration>,
    /// On a new connection, not on a kept one.
    fresh: bool,
}

impl Client {
    /// A client; no connection is made and no certificate is read yet.
    pub fn new(options: ClientOptions, metrics: Arc<Metrics>) -> Client {
        let plain = Arc::new(agent(&options, None));
        let stopped = AtomicBool::new(false);
        let (secure, clock) = (Mutex::default(), Clock::system());
        Client { options, transport: None, plain, secure, stopped, metrics, clock }
    }

    /// The same, by this clock; only its monotonic half counts.
    pub fn timed_by(self, clock: Clock) -> Client {
        Client { clock, ..self }
    }

    /// Sends the request and reads the whole answer, whatever its status.
    pub fn call(&self, request: &Request<'_>) -> Result<Answer, HttpError> {
        let started = self.clock.now().uptime;
        let limit = request.call_limit.unwrap_or(self.options.call_limit);
        let first = self.call_once(request, limit, false);
        // The limit is one of the whole call, so a second attempt gets what the first one left.
        let left = limit.saturating_sub(self.clock.now().uptime.saturating_sub(started));
        let result = match first {
            Err(error) if left.is_zero() => Err(error),
            Err(error)
                if matches!(error.failure, Failure::Lost | Failure::Reset)
                    && request.repeatable
                    && !self.stopped.load(Ordering::SeqCst) =>
            {
                // A kept connection may have died unseen; a new one settles it.
                self.call_once(request, left, true)
            }
            Err(HttpError { failure: Failure::Tls(_), .. }) if self.trust_changed() => {
                self.call_once(request, left, false)
            }
            result => result,
        };
        self.count(request, started, result.as_ref().ok().map(|answer| answer.status));
        self.stopped_or(result).map(|answer| request.answered(answer))
    }

    /// Sends the request, without a body, and hands over the answer's body as it arrives.
    /// `silence_limit` bounds each read; the whole may last for ever.
    pub(crate) fn stream(
        &self,
        request: &Request<'_>,
        silence_limit: Duration,
    ) -> Result<Stream, HttpError> {
        let started = self.clock.now().uptime;
        let result = match self.stream_once(request, silence_limit) {
            Err(HttpError { failure: Failure::Tls(_), .. }) if self.trust_changed() => {
                self.stream_once(request, silence_limit)
            }
            result => result,
        };
        self.count(request, started, result.as_ref().ok().map(|stream| stream.status));
        self.stopped_or(result)
    }

    fn stream_once(
        &self,
        request: &Request<'_>,
        silence_limit: Duration,
    ) -> Result<Stream, HttpError> {
        let agent = self.agent_for(request)?;
        let limits = Limits { whole: None, silence: Some(silence_limit), fresh: false };
        let (parts, body) = self.send(&agent, request, (), limits)?.into_parts();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        let (secrets, body) = (request.secrets(), body.into_reader());
        Ok(Stream { status, headers, secrets, body, _agent: agent })
    }

    /// Ends every connection of this client, also those another thread is blocked on.
    /// Interrupted and later calls fail with [`Failure::Stopped`]; a name lookup or a connect that
    /// is under way runs to its own limit first.
    pub fn shutdown(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        Agent::clone(&self.plain).shutdown();
        lock(&self.secure).shutdown();
    }

    fn call_once(
        &self,
        request: &Request<'_>,
        limit: Duration,
        fresh: bool,
    ) -> Result<Answer, HttpError> {
        if let Some(transport) = &self.transport {
            return transport.carry(request, limit).map_err(|failure| request.failed(failure));
        }
        let agent = self.agent_for(request)?;
        let limits = Limits { whole: Some(limit), silence: None, fresh };
        let response = match request.body {
            Some(body) => self.send(&agent, request, body, limits),
            None => self.send(&agent, request, (), limits),
        };
        let (parts, mut body) = response?.into_parts();
        let announced = body.content_length().unwrap_or(0).min(BODY_ALLOCATION_BYTES);
        let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
        body.with_config().limit(BODY_LIMIT_BYTES).reader().read_to_end(&mut bytes).map_err(
            |error| match failure_of_io(&error) {
                // It has begun to answer, so it had what it wanted of the request.
                Failure::Reset => request.failed(Failure::Lost),
                failure => request.failed(failure),
            },
        )?;
        Ok(Answer::new(parts.status.as_u16(), parts.headers, bytes))
    }

    /// Sends the request, through the proxy for its URL, and reads the head of the answer.
    fn send<B: AsSendBody>(
        &self,
        agent: &Agent,
        request: &Request<'_>,
        body: B,
        limits: Limits,
    ) -> Result<http::Response<ureq::Body>, HttpError> {
        let proxy = self.options.proxies.for_url(request.url);
        let idle = if limits.fresh { Duration::ZERO } else { self.options.idle_limit };
        let configured = agent
            .configure_request(request.build(body)?)
            .proxy(proxy.map(|server| server.proxy.clone()))
            .max_idle_age(idle)
            .timeout_global(limits.whole)
            .timeout_recv_response(limits.silence)
            .timeout_per_read(limits.silence)
            .build();
        agent.run(configured).map_err(|error| request.failed(failure_behind(proxy, &error)))
    }

    fn agent_for(&self, request: &Request<'_>) -> Result<Arc<Agent>, HttpError> {
        let scheme = request.url.get(..8).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("https://") {
            return Ok(Arc::clone(&self.plain));
        }
        let mut secure = lock(&self.secure);
        // Asked under the lock: a shutdown that comes later finds the agent made below.
        if self.stopped.load(Ordering::SeqCst) {
            return Err(request.failed(Failure::Stopped));
        }
        secure
            .get(&self.options, self.clock.now().uptime)
            .map_err(|reason| request.failed(Failure::Tls(reason)))
    }

    /// A call counts once, whether or not it took a second attempt.
    fn count(&self, request: &Request<'_>, started: Duration, status: Option<u16>) {
        if status.is_none() && self.stopped.load(Ordering::SeqCst) {
            // We cut it ourselves.
            return;
        }
        let took = self.clock.now().uptime.saturating_sub(started);
        let method = ("method", request.method);
        if request.service == Service::Kubernetes {
            let code = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
            let host = ("host", host_of(request.url));
            self.metrics.add("rest_client_requests_total", &[("code", &code), method, host], 1.0);
            let labels = [("verb", request.method), host];
            self.metrics.observe("rest_client_request_duration_seconds", &labels, took);
        } else {
            let service = request.service.to_string();
            let service = ("service", service.as_str());
            // Its class: few values, so that they can be a label.
            let class = status.map(|status| format!("{}xx", (status / 100).clamp(1, 5)));
            let labels = [service, method, ("status", class.as_deref().unwrap_or("failed"))];
            self.metrics.add("multinic_upstream_requests_total", &labels, 1.0);
            self.metrics.observe("multinic_upstream_request_duration_seconds", &[service], took);
        }
    }

    /// After a shutdown a broken connection looks like a lost peer; our own flag knows better.
    fn stopped_or<T>(&self, result: Result<T, HttpError>) -> Result<T, HttpError> {
        result.map_err(|error| match self.stopped.load(Ordering::SeqCst) {
            true => HttpError { failure: Failure::Stopped, ..error },
            false => error,
        })
    }

    /// After a failed handshake: is another CA file there than was read?
    fn trust_changed(&self) -> bool {
        lock(&self.secure).forget_if_changed(&self.options.trust, self.clock.now().uptime)
    }
}

/// Host and port as the URL has them.
fn host_of(url: &str) -> &str {
    let behind_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = behind_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
