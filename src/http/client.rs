//! The HTTP client of every upstream and of the Kubernetes API.
//!
//! It decides once, for everybody: how TLS is verified, that each call has a limit, how large an
//! answer may be, that redirects are reported and never followed (they would carry `X-Auth-Token`
//! to another host), how proxies are used, and how a failure reads. It knows no service's format.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::http::header::{HeaderMap, HeaderName, HeaderValue};
use ureq::http::{self, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Timeout};

use super::proxy::{Proxies, ProxyServer};
use super::resolver::RememberingResolver;
use super::trust::{Trust, TrustError};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::secret::Secret;

/// Answers above this are refused (3,000 ports with all their keys take about 3 MiB).
pub const BODY_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
/// Room made at once for an answer that says how long it is; for a longer one it grows.
const BODY_ROOM_BYTES: u64 = 1024 * 1024;
/// Long enough for a lost SYN to be repeated twice.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For what comes in, per connection; ureq's own 128 KiB would cost megabytes for a dozen of them.
const INPUT_BYTES: usize = 16 * 1024;
/// For what goes out; each line of a head must fit, so a URL and a token.
const OUTPUT_BYTES: usize = 8 * 1024;
const USER_AGENT: &str = concat!("multinic-operator/", env!("CARGO_PKG_VERSION"));

/// Whom a client speaks to: a label in metrics and in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Service {
    Contrabass,
    Keystone,
    Neutron,
    Nova,
    Viola,
    Kubernetes,
    /// The replica that leads, asked for its inventory.
    Leader,
}

impl Service {
    /// The name as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Service::Contrabass => "Contrabass",
            Service::Keystone => "Keystone",
            Service::Neutron => "Neutron",
            Service::Nova => "Nova",
            Service::Viola => "Viola",
            Service::Kubernetes => "Kubernetes",
            Service::Leader => "Leader",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

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
}

/// One request. Headers are given as text; a secret goes in [`Request::secret_header`].
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Whom it is for.
    pub service: Service,
    /// The HTTP method.
    pub method: &'static str,
    /// The whole URL.
    pub url: &'a str,
    /// Names and values.
    pub headers: Vec<(&'static str, &'a str)>,
    /// A header's name, what stands before its secret, and the secret.
    pub secret_header: Option<(&'static str, &'static str, &'a Secret)>,
    /// The body, if it has one.
    pub body: Option<&'a [u8]>,
    repeatable: bool,
    call_limit: Option<Duration>,
    answer_limit: u64,
}

impl<'a> Request<'a> {
    /// A GET, which may be repeated once when a kept connection turns out to be dead.
    pub fn get(service: Service, url: &'a str) -> Request<'a> {
        Request::reading(service, "GET", url)
    }

    /// A request by a method that changes nothing (`GET`, `OPTIONS`), which may be repeated likewise.
    pub fn reading(service: Service, method: &'static str, url: &'a str) -> Request<'a> {
        Request { repeatable: true, ..Request::new(service, method, url, None) }
    }

    /// A request with a body (`POST`, `PUT`, `PATCH`), never repeated unless [`Request::repeatable`].
    pub fn with_body(
        service: Service,
        method: &'static str,
        url: &'a str,
        content_type: &'static str,
        body: &'a [u8],
    ) -> Request<'a> {
        Request::new(service, method, url, Some(body)).header("content-type", content_type)
    }

    /// A DELETE without a body.
    pub fn delete(service: Service, url: &'a str) -> Request<'a> {
        Request::new(service, "DELETE", url, None)
    }

    fn new(
        service: Service,
        method: &'static str,
        url: &'a str,
        body: Option<&'a [u8]>,
    ) -> Request<'a> {
        let headers = vec![("accept", "application/json")];
        Request {
            service,
            method,
            url,
            headers,
            secret_header: None,
            body,
            repeatable: false,
            call_limit: None,
            answer_limit: BODY_LIMIT_BYTES,
        }
    }

    /// Adds a header, or replaces the one of that name.
    pub fn header(mut self, name: &'static str, value: &'a str) -> Request<'a> {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    /// A header whose value, after `prefix`, is a secret: it is marked so that no log shows it.
    pub fn secret_header(
        mut self,
        name: &'static str,
        prefix: &'static str,
        secret: &'a Secret,
    ) -> Request<'a> {
        self.secret_header = Some((name, prefix, secret));
        self
    }

    /// Says that doing it twice does no harm, so that a dead kept connection is tried again once.
    pub fn repeatable(mut self) -> Request<'a> {
        self.repeatable = true;
        self
    }

    /// Another limit than the client's for this call.
    pub fn call_limit(mut self, limit: Duration) -> Request<'a> {
        self.call_limit = Some(limit);
        self
    }

    /// A smaller limit than [`BODY_LIMIT_BYTES`] for this call's answer.
    pub fn answer_limit(mut self, bytes: u64) -> Request<'a> {
        self.answer_limit = bytes;
        self
    }

    fn path(&self) -> String {
        let path = self.url.parse::<Uri>().map(|uri| uri.path().to_owned());
        path.unwrap_or_else(|_| self.url.split(['?', '#']).next().unwrap_or_default().to_owned())
    }
}

/// A whole answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Header fields; names compare without regard to case.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After` in its form of whole seconds, the only one these services send.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }
}

/// An answer whose body is still arriving; dropping it closes the connection.
pub struct Stream {
    /// HTTP status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body. A read that exceeded its limit fails with an error [`is_read_timeout`] knows.
    pub reader: Box<dyn Read + Send>,
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A call that brought no whole answer: what was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// Whom we asked.
    pub service: Service,
    /// The HTTP method.
    pub method: &'static str,
    /// The path without its query, which may be long.
    pub path: String,
    /// What happened.
    pub failure: Failure,
}

/// What can happen to a call. Texts are stable: no addresses, ports or times of day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A limit ran out; says which.
    Timeout {
        /// What was being waited for.
        waiting_for: &'static str,
    },
    /// Nobody listens at the address.
    Refused,
    /// The name has no address.
    HostNotFound,
    /// The connection ended before the answer did: nothing is known of the request's effect.
    Lost,
    /// The answer is larger than [`BODY_LIMIT_BYTES`], or than the call allowed.
    TooLarge,
    /// The other side's certificate or TLS version isn't acceptable, or ours can't be loaded.
    Tls(String),
    /// The way ends at the proxy.
    Proxy {
        /// The variable that names it.
        variable: &'static str,
        /// What happened there.
        what: String,
    },
    /// The URL can't be used.
    BadUrl(String),
    /// What came is not HTTP.
    Protocol(String),
    /// The operator is stopping.
    Stopped,
    /// Anything else the system reports.
    Io(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HttpError { service, method, path, failure } = self;
        write!(formatter, "{service} {method} {path}: {failure}")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Timeout { waiting_for } => {
                write!(formatter, "timed out while waiting for {waiting_for}")
            }
            Failure::Refused => formatter.write_str("connection refused"),
            Failure::HostNotFound => formatter.write_str("the host name could not be resolved"),
            Failure::Lost => {
                formatter.write_str("the connection ended before the answer was complete")
            }
            Failure::TooLarge => {
                write!(formatter, "the answer exceeds {} MiB", BODY_LIMIT_BYTES >> 20)
            }
            Failure::Tls(text) => write!(formatter, "TLS: {text}"),
            Failure::Proxy { variable, what } => {
                write!(formatter, "the proxy that {variable} names: {what}")
            }
            Failure::BadUrl(text) => write!(formatter, "the URL can't be used: {text}"),
            Failure::Protocol(text) => write!(formatter, "the answer is not HTTP: {text}"),
            Failure::Stopped => formatter.write_str("not sent, the operator is stopping"),
            Failure::Io(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for HttpError {}

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
        let client = Client::new(options, Arc::clone(&self.metrics));
        Client { transport: self.transport.clone(), ..client }
    }
}

/// A client for upstreams that share one trust and one limit. Connections are kept and reused.
pub struct Client {
    options: ClientOptions,
    /// What carries calls in place of the network; none for the network.
    transport: Option<Arc<dyn Transport>>,
    plain: Agents,
    /// Made at the first https call: root certificates cost milliseconds and memory.
    secure: Mutex<Option<SecureAgent>>,
    /// For http and https.
    tunnels: Vec<Tunnel>,
    stopped: AtomicBool,
    metrics: Arc<Metrics>,
    /// For durations.
    clock: Clock,
}

/// A proxy as ureq wants it. Made once: it holds a copy of the password.
struct Tunnel {
    variable: &'static str,
    proxy: Result<ureq::Proxy, ureq::Error>,
}

impl Tunnel {
    fn to(server: &ProxyServer) -> Tunnel {
        let builder = ureq::Proxy::builder(ureq::ProxyProtocol::Http);
        let builder = builder.host(&server.host).port(server.port);
        let builder = match &server.login {
            None => builder,
            Some((user, None)) => builder.username(user),
            Some((user, Some(password))) => builder.username(user).password(password.expose()),
        };
        Tunnel { variable: server.variable, proxy: builder.build() }
    }

    /// What fails on the way to the proxy, or at it, isn't the service's failure.
    fn failure_of(&self, error: &ureq::Error) -> Failure {
        let what = match (error, failure_of(error)) {
            // The status, which ureq says twice, such as 407/407.
            (ureq::Error::ConnectProxyFailed(text), _) => match text.rsplit('/').next() {
                Some("407") => {
                    "HTTP 407: it wants another user and password than its URL has".to_owned()
                }
                Some(status) if status.len() == 3 => {
                    format!("HTTP {status}: it doesn't connect us with the service")
                }
                _ => "it gave no usable answer".to_owned(),
            },
            (_, failure @ (Failure::Refused | Failure::HostNotFound)) => failure.to_string(),
            (_, failure) => return failure,
        };
        Failure::Proxy { variable: self.variable, what }
    }
}

struct SecureAgent {
    agents: Agents,
    fingerprint: Vec<u8>,
}

/// Two agents that differ in one thing. Both live as long as the client, so that a shutdown
/// reaches the calls of either.
#[derive(Clone)]
struct Agents {
    /// Keeps connections.
    keeping: Agent,
    /// Keeps none, so that each call connects anew.
    fresh: Agent,
}

impl Agents {
    fn new(options: &ClientOptions, tls: Option<&TlsConfig>) -> Agents {
        Agents { keeping: agent(options, tls, true), fresh: agent(options, tls, false) }
    }

    fn shutdown(&self) {
        self.keeping.clone().shutdown();
        self.fresh.clone().shutdown();
    }
}

impl Client {
    /// A client; no connection is made and no certificate is read yet.
    pub fn new(options: ClientOptions, metrics: Arc<Metrics>) -> Client {
        let plain = Agents::new(&options, None);
        let stopped = AtomicBool::new(false);
        let clock = Clock::system();
        let secure = Mutex::new(None);
        let tunnels = options.proxies.all().map(|(_, server)| Tunnel::to(server)).collect();
        Client { options, transport: None, plain, secure, tunnels, stopped, metrics, clock }
    }

    /// Sends the request and reads the whole answer, whatever its status.
    pub fn call(&self, request: &Request<'_>) -> Result<Answer, HttpError> {
        let started = self.clock.now().uptime;
        let result = match self.call_once(request, false) {
            Err(error)
                if error.failure == Failure::Lost
                    && request.repeatable
                    && !self.stopped.load(Ordering::SeqCst) =>
            {
                // A kept connection may have died unseen; a new one settles it.
                self.call_once(request, true)
            }
            Err(HttpError { failure: Failure::Tls(_), .. }) if self.trust_changed() => {
                self.call_once(request, false)
            }
            result => result,
        };
        self.count(request, started, result.as_ref().ok().map(|answer| answer.status));
        self.stopped_or(result)
    }

    /// Sends the request, without a body, and hands over the answer's body as it arrives.
    /// `silence_limit` bounds each read; the whole may last for ever.
    pub fn stream(
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
        let agent = self.agents_for(request)?.keeping;
        let tunnel = self.tunnel_for(request);
        let configured = agent
            .configure_request(build(request, ())?)
            .proxy(proxy_of(request, tunnel)?)
            .timeout_global(None)
            .timeout_recv_response(Some(silence_limit))
            .timeout_per_read(Some(silence_limit))
            .build();
        let response =
            agent.run(configured).map_err(|error| stopped_at(request, tunnel, &error))?;
        let (parts, body) = response.into_parts();
        let reader = Box::new(body.into_reader());
        Ok(Stream { status: parts.status.as_u16(), headers: parts.headers, reader })
    }

    /// Ends every connection of this client, also those another thread is blocked on.
    /// Interrupted and later calls fail with [`Failure::Stopped`]; a name lookup or a connect that
    /// is under way runs to its own limit first.
    pub fn shutdown(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.plain.shutdown();
        let secure = self.secure.lock().unwrap_or_else(|held| held.into_inner());
        if let Some(secure) = secure.as_ref() {
            secure.agents.shutdown();
        }
    }

    fn call_once(&self, request: &Request<'_>, fresh: bool) -> Result<Answer, HttpError> {
        let limit = request.call_limit.unwrap_or(self.options.call_limit);
        if let Some(transport) = &self.transport {
            return transport.carry(request, limit).map_err(|failure| failed(request, failure));
        }
        let agents = self.agents_for(request)?;
        let agent = if fresh { agents.fresh } else { agents.keeping };
        let tunnel = self.tunnel_for(request);
        let proxy = proxy_of(request, tunnel)?;
        let response = match request.body {
            Some(body) => {
                let configured = agent.configure_request(build(request, body)?).proxy(proxy);
                agent.run(configured.timeout_global(Some(limit)).build())
            }
            None => {
                let configured = agent.configure_request(build(request, ())?).proxy(proxy);
                agent.run(configured.timeout_global(Some(limit)).build())
            }
        };
        let response = response.map_err(|error| stopped_at(request, tunnel, &error))?;
        let (parts, mut body) = response.into_parts();
        let announced = body.content_length().unwrap_or(0).min(BODY_ROOM_BYTES);
        let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
        body.with_config()
            .limit(request.answer_limit)
            .reader()
            .read_to_end(&mut bytes)
            .map_err(|error| failed(request, failure_of_io(&error)))?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: bytes })
    }

    /// The proxy this request goes through; none to go directly.
    fn tunnel_for(&self, request: &Request<'_>) -> Option<&Tunnel> {
        let server = self.options.proxies.for_url(request.url)?;
        self.tunnels.iter().find(|tunnel| tunnel.variable == server.variable)
    }

    fn agents_for(&self, request: &Request<'_>) -> Result<Agents, HttpError> {
        let scheme_is_https =
            request.url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if !scheme_is_https {
            return Ok(self.plain.clone());
        }
        let mut secure = self.secure.lock().unwrap_or_else(|held| held.into_inner());
        // Asked under the lock: a shutdown that comes later finds the agent made below.
        if self.stopped.load(Ordering::SeqCst) {
            return Err(failed(request, Failure::Stopped));
        }
        if let Some(secure) = secure.as_ref() {
            return Ok(secure.agents.clone());
        }
        let made = self
            .secure_agent()
            .map_err(|error| failed(request, Failure::Tls(error.to_string())))?;
        let agents = made.agents.clone();
        *secure = Some(made);
        Ok(agents)
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
            let code = status.and_then(|status| http::StatusCode::from_u16(status).ok());
            let code = ("code", code.as_ref().map_or("<error>", |code| code.as_str()));
            let host = ("host", host_of(request.url));
            self.metrics.add("rest_client_requests_total", &[code, method, host], 1.0);
            let labels = [("verb", request.method), host];
            self.metrics.observe("rest_client_request_duration_seconds", &labels, took);
        } else {
            let service = ("service", request.service.name());
            let status = ("status", class_of(status));
            let labels = [service, method, status];
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

    fn secure_agent(&self) -> Result<SecureAgent, TrustError> {
        let loaded = self.options.trust.load()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        let tls = match loaded.certificates {
            Some(certificates) => tls.root_certs(RootCerts::new_with_certs(&certificates)).build(),
            None => tls.disable_verification(true).build(),
        };
        let agents = Agents::new(&self.options, Some(&tls));
        Ok(SecureAgent { agents, fingerprint: loaded.fingerprint })
    }

    /// After a failed handshake: has the CA file changed since it was read? Then the next call
    /// reads it again.
    fn trust_changed(&self) -> bool {
        let mut secure = self.secure.lock().unwrap_or_else(|held| held.into_inner());
        let Some(known) = secure.as_ref() else { return false };
        match self.options.trust.load() {
            Ok(loaded) if loaded.fingerprint != known.fingerprint => {
                *secure = None;
                true
            }
            _ => false,
        }
    }
}

/// The class of a status; few values, so that they can be a label.
fn class_of(status: Option<u16>) -> &'static str {
    match status {
        None => "failed",
        Some(..200) => "1xx",
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(400..500) => "4xx",
        Some(500..) => "5xx",
    }
}

/// Host and port as the URL has them.
fn host_of(url: &str) -> &str {
    let behind_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = behind_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Did this read end because nothing came within the limit given to [`Client::stream`]?
pub fn is_read_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_)))
}

fn agent(options: &ClientOptions, tls: Option<&TlsConfig>, keeps: bool) -> Agent {
    let (idle, idle_per_host) = if keeps { (32, 16) } else { (0, 0) };
    let mut builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(USER_AGENT)
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle_per_host)
        .max_idle_age(options.idle_limit)
        .timeout_connect(Some(CONNECT_LIMIT.min(options.call_limit)))
        .timeout_global(Some(options.call_limit));
    if let Some(tls) = tls {
        builder = builder.tls_config(tls.clone());
    }
    let resolver = RememberingResolver::new(Clock::system());
    Agent::with_parts(builder.build(), DefaultConnector::default(), resolver)
}

fn build<B>(request: &Request<'_>, body: B) -> Result<http::Request<B>, HttpError> {
    let mut builder = http::Request::builder().method(request.method).uri(request.url);
    for (name, value) in &request.headers {
        builder = builder.header(*name, *value);
    }
    if let Some((name, prefix, secret)) = request.secret_header {
        let text = zeroize::Zeroizing::new(format!("{prefix}{}", secret.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            failed(request, Failure::BadUrl(format!("{name} has characters no header may hold")))
        })?;
        value.set_sensitive(true);
        builder = builder.header(HeaderName::from_static(name), value);
    }
    builder.body(body).map_err(|error| failed(request, Failure::BadUrl(error.to_string())))
}

fn failed(request: &Request<'_>, failure: Failure) -> HttpError {
    let path = request.path();
    HttpError { service: request.service, method: request.method, path, failure }
}

fn proxy_of(
    request: &Request<'_>,
    tunnel: Option<&Tunnel>,
) -> Result<Option<ureq::Proxy>, HttpError> {
    let Some(Tunnel { variable, proxy }) = tunnel else { return Ok(None) };
    match proxy {
        Ok(proxy) => Ok(Some(proxy.clone())),
        Err(_) => {
            let what = "its URL can't be used".to_owned();
            Err(failed(request, Failure::Proxy { variable, what }))
        }
    }
}

/// What came of a request that never got an answer.
fn stopped_at(request: &Request<'_>, tunnel: Option<&Tunnel>, error: &ureq::Error) -> HttpError {
    failed(request, tunnel.map_or_else(|| failure_of(error), |tunnel| tunnel.failure_of(error)))
}

fn failure_of(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(limit) => Failure::Timeout { waiting_for: waiting_for(*limit) },
        ureq::Error::HostNotFound => Failure::HostNotFound,
        ureq::Error::ConnectionFailed => Failure::Refused,
        ureq::Error::BodyExceedsLimit(_) => Failure::TooLarge,
        ureq::Error::Rustls(error) => Failure::Tls(super::trust::explain(error)),
        ureq::Error::Tls(text) => Failure::Tls((*text).to_owned()),
        ureq::Error::BadUri(text) => Failure::BadUrl(text.clone()),
        ureq::Error::Http(error) => Failure::BadUrl(error.to_string()),
        ureq::Error::Protocol(error) => Failure::Protocol(error.to_string()),
        ureq::Error::Io(error) => failure_of_io(error),
        other => Failure::Io(other.to_string()),
    }
}

fn failure_of_io(error: &io::Error) -> Failure {
    if let Some(inner) = error.get_ref() {
        if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
            return failure_of(inner);
        }
        if let Some(inner) = inner.downcast_ref::<rustls::Error>() {
            return Failure::Tls(super::trust::explain(inner));
        }
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            Failure::Timeout { waiting_for: "the network" }
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::BrokenPipe => Failure::Lost,
        kind => Failure::Io(kind.to_string()),
    }
}

fn waiting_for(limit: Timeout) -> &'static str {
    match limit {
        Timeout::Resolve => "the name to be resolved",
        Timeout::Connect => "the connection",
        Timeout::SendRequest | Timeout::SendBody | Timeout::PerWrite => "the request to be taken",
        Timeout::RecvBody => "the rest of the answer",
        _ => "the answer",
    }
}
