//! The verbs of the Kubernetes API over HTTP: who we are, what was asked, and what came back.
//!
//! It knows paths and verbs, tokens and refusals. It retries nothing but a refused token, which may
//! have been rotated; when to ask again is its callers' business.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::header::HeaderMap;

use super::access::Access;
use super::error::{ApiStatus, Call, KubeError, Refusal};
use super::objects::Page;
use super::resource::Resource;
use crate::clock::Clock;
use crate::http::client::{
    Answer, Client, ClientOptions, HttpError, Request, Service, Stream, is_read_timeout,
};
use crate::http::url::query_value;
use crate::metrics::Metrics;
use crate::secret::{Secret, Secrets};
use crate::token_file::TokenFile;

/// Who writes, as server-side apply and the audit log know it.
pub const FIELD_MANAGER: &str = "multinic-operator";
/// One call; the API server answers in milliseconds, or it is in trouble.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// The kubelet rotates a bound token when 80 % of its hour are over, so a minute is never late.
const TOKEN_AGE_LIMIT: Duration = Duration::from_secs(60);
/// Below the idle limits of API servers and of the balancers before them.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Warnings that were said once are remembered up to this many; then they are said again.
const WARNINGS_REMEMBERED: usize = 256;

const JSON: &str = "application/json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A client; clones share connections, token and limits.
#[derive(Clone)]
pub struct KubeClient {
    http: Arc<Client>,
    session: Arc<Session>,
    call_limit: Duration,
    field_manager: &'static str,
    /// What is sent in bodies and mustn't come back in a message.
    withheld: Arc<[Secret]>,
}

/// What came of a server-side apply.
#[derive(Clone, Debug)]
pub struct Applied<T> {
    /// Was there no such object before?
    pub is_new: bool,
    /// The object as it is now.
    pub object: T,
}

/// What all clients of one API server share.
struct Session {
    access: Access,
    base: String,
    token: Option<TokenFile>,
    clock: Clock,
    metrics: Arc<Metrics>,
    warned: Mutex<BTreeSet<String>>,
}

/// What is sent along with a call.
#[derive(Clone, Copy)]
struct Content<'a> {
    kind: &'static str,
    body: &'a [u8],
    /// Does doing it twice do no harm?
    repeatable: bool,
}

impl KubeClient {
    /// A client; nothing is read or connected yet.
    pub fn new(access: Access, clock: Clock, metrics: Arc<Metrics>) -> KubeClient {
        let session = Session {
            base: access.api_url.trim_end_matches('/').to_owned(),
            token: access.token_file.clone().map(token_file),
            access,
            clock,
            metrics,
            warned: Mutex::default(),
        };
        let session = Arc::new(session);
        KubeClient {
            http: connections(&session),
            session,
            call_limit: CALL_LIMIT,
            field_manager: FIELD_MANAGER,
            withheld: Arc::default(),
        }
    }

    /// The same client with connections of its own, so that a [`KubeClient::shutdown`] of one
    /// leaves the other alone.
    pub fn with_own_connections(&self) -> KubeClient {
        KubeClient { http: connections(&self.session), ..self.clone() }
    }

    /// The same client with another limit for each call; 10 s if never set.
    pub fn with_call_limit(&self, call_limit: Duration) -> KubeClient {
        KubeClient { call_limit, ..self.clone() }
    }

    /// The same client under another name for whoever writes; [`FIELD_MANAGER`] if never set.
    pub fn with_field_manager(&self, field_manager: &'static str) -> KubeClient {
        KubeClient { field_manager, ..self.clone() }
    }

    /// The same client with messages that never show these secrets, which are sent in its bodies.
    pub fn withholding<'a>(&self, secrets: impl Iterator<Item = &'a Secret>) -> KubeClient {
        KubeClient { withheld: secrets.cloned().collect(), ..self.clone() }
    }

    /// Ends all calls on these connections at once, also those other threads are blocked in.
    pub fn shutdown(&self) {
        self.http.shutdown();
    }

    /// Reads one object.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, KubeError> {
        let call = Call { verb: "get", method: "GET", path: path.to_owned() };
        let answer = self.call(&call, "", None)?;
        self.read(&call, &answer)
    }

    /// Reads one page of a collection, at the newest version there is: a cached one could be older
    /// than what we already acted upon.
    pub fn list_page(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        limit: Option<u32>,
        continue_token: Option<&str>,
    ) -> Result<Page, KubeError> {
        let path = resource.collection(namespace);
        let mut query = Vec::new();
        query.extend(limit.map(|limit| format!("limit={limit}")));
        query.extend(continue_token.map(|token| format!("continue={}", query_value(token))));
        let call = Call { verb: "list", method: "GET", path };
        let answer = self.call(&call, &query.join("&"), None)?;
        Page::read(&answer.body).map_err(|error| unreadable(&call, &error))
    }

    /// Opens a watch from `version`. Each read of its body, and the wait for its beginning, may
    /// last `silence_limit`; the whole lasts as long as the server likes.
    pub fn watch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        version: &str,
        timeout_seconds: u32,
        silence_limit: Duration,
    ) -> Result<Stream, KubeError> {
        let path = resource.collection(namespace);
        let url = format!(
            "{}{path}?watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            self.session.base,
            query_value(version),
            timeout_seconds
        );
        let call = Call { verb: "watch", method: "GET", path };
        self.with_token(&call, |token| {
            let request = with_token(Request::get(Service::Kubernetes, &url), token);
            let stream = self.http.stream(&request, silence_limit)?;
            self.session.log_warnings(&stream.headers, &stream.secrets);
            match stream.status {
                200..=299 => Ok(Ok(stream)),
                _ => Ok(Err(status_of_stream(stream))),
            }
        })
    }

    /// Creates an object in a collection; never overwrites one.
    pub fn create<T: DeserializeOwned>(&self, path: &str, object: &Value) -> Result<T, KubeError> {
        let call = Call { verb: "create", method: "POST", path: path.to_owned() };
        self.write(&call, &self.manager_query(), JSON, object, false)
    }

    /// Replaces an object; its `metadata.resourceVersion` guards against overwriting a newer one.
    pub fn put<T: DeserializeOwned>(&self, path: &str, object: &Value) -> Result<T, KubeError> {
        let call = Call { verb: "update", method: "PUT", path: path.to_owned() };
        self.write(&call, &self.manager_query(), JSON, object, false)
    }

    /// Server-side apply: what `object` says is ours from now on, taken from others by force.
    pub fn apply<T: DeserializeOwned>(
        &self,
        path: &str,
        object: &impl Serialize,
    ) -> Result<Applied<T>, KubeError> {
        let call = Call { verb: "patch", method: "PATCH", path: path.to_owned() };
        let query = format!("{}&force=true", self.manager_query());
        let answer = self.send(&call, &query, APPLY_PATCH, object, true)?;
        Ok(Applied { is_new: answer.status == 201, object: self.read(&call, &answer)? })
    }

    /// A JSON merge patch; lists are replaced as a whole.
    pub fn merge<T: DeserializeOwned>(&self, path: &str, patch: &Value) -> Result<T, KubeError> {
        let call = Call { verb: "patch", method: "PATCH", path: path.to_owned() };
        self.write(&call, &self.manager_query(), MERGE_PATCH, patch, true)
    }

    fn write<T: DeserializeOwned>(
        &self,
        call: &Call,
        query: &str,
        kind: &'static str,
        object: &impl Serialize,
        repeatable: bool,
    ) -> Result<T, KubeError> {
        self.read(call, &self.send(call, query, kind, object, repeatable)?)
    }

    fn send(
        &self,
        call: &Call,
        query: &str,
        kind: &'static str,
        object: &impl Serialize,
        repeatable: bool,
    ) -> Result<Answer, KubeError> {
        // Maps with texts as keys: there is nothing to fail on.
        let body = zeroize::Zeroizing::new(serde_json::to_vec(object).unwrap_or_default());
        let content = Content { kind, body: &body, repeatable };
        self.call(call, query, Some(content))
    }

    fn read<T: DeserializeOwned>(&self, call: &Call, answer: &Answer) -> Result<T, KubeError> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            let reason = answer.secrets().redacted(&error.to_string());
            KubeError::Unreadable { call: call.clone(), reason }
        })
    }

    fn manager_query(&self) -> String {
        format!("fieldManager={}", self.field_manager)
    }

    fn call(
        &self,
        call: &Call,
        query: &str,
        content: Option<Content<'_>>,
    ) -> Result<Answer, KubeError> {
        let separator = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{}{separator}{query}", self.session.base, call.path);
        self.with_token(call, |token| {
            let request = match content {
                None => Request::get(Service::Kubernetes, &url),
                Some(Content { kind, body, repeatable }) => {
                    let request =
                        Request::with_body(Service::Kubernetes, call.method, &url, kind, body);
                    if repeatable { request.repeatable() } else { request }
                }
            };
            let request = with_token(request, token).call_limit(self.call_limit);
            let answer = self.http.call(&request.carrying(&*self.withheld))?;
            self.session.log_warnings(&answer.headers, answer.secrets());
            match answer.status {
                200..=299 => Ok(Ok(answer)),
                status => {
                    let wait = answer.retry_after();
                    Ok(Err(ApiStatus::of_answer(status, wait, &answer.body, answer.secrets())))
                }
            }
        })
    }

    /// Runs a call with the token; once more with the token as it is in the file by now if the
    /// first was refused, for it may just have been rotated.
    fn with_token<T>(
        &self,
        call: &Call,
        attempt: impl Fn(Option<&Secret>) -> Result<Result<T, ApiStatus>, HttpError>,
    ) -> Result<T, KubeError> {
        let refused = |status| KubeError::Refused(Box::new(Refusal { call: call.clone(), status }));
        let once = |session: &Session| match &session.token {
            None => attempt(None).map_err(KubeError::Transport),
            Some(file) => {
                let token = file.token(session.clock.now().uptime);
                let token = token.map_err(|reason| KubeError::NoToken { reason })?;
                attempt(Some(&token)).map_err(KubeError::Transport)
            }
        };
        let status = match once(&self.session)? {
            Ok(result) => return Ok(result),
            Err(status) => status,
        };
        let Some(file) = self.session.token.as_ref().filter(|_| status.is_unauthorized()) else {
            return Err(refused(status));
        };
        file.refused();
        once(&self.session)?.map_err(|status| {
            if status.is_unauthorized() {
                file.refused();
            }
            refused(status)
        })
    }
}

impl Session {
    /// Says each text of the server's `Warning` headers once.
    fn log_warnings(&self, headers: &HeaderMap, secrets: &Secrets) {
        for header in headers.get_all("warning") {
            let Ok(text) = header.to_str() else { continue };
            let text = secrets.redacted(text);
            let mut warned = self.warned.lock().unwrap_or_else(|held| held.into_inner());
            if warned.len() >= WARNINGS_REMEMBERED {
                warned.clear();
            }
            if warned.insert(text.clone()) {
                log::warn!("the Kubernetes API server warns: {text}");
            }
        }
    }
}

fn connections(session: &Session) -> Arc<Client> {
    let options = ClientOptions {
        call_limit: CALL_LIMIT,
        trust: session.access.trust.clone(),
        idle_limit: IDLE_LIMIT,
        proxies: Arc::clone(&session.access.proxies),
    };
    Arc::new(Client::new(options, Arc::clone(&session.metrics)))
}

fn with_token<'a>(request: Request<'a>, token: Option<&'a Secret>) -> Request<'a> {
    match token {
        Some(token) => request.secret_header("authorization", "Bearer ", token),
        None => request,
    }
}

fn token_file(path: PathBuf) -> TokenFile {
    TokenFile::new(path, TOKEN_AGE_LIMIT)
}

fn unreadable(call: &Call, error: &serde_json::Error) -> KubeError {
    KubeError::Unreadable { call: call.clone(), reason: error.to_string() }
}

/// A watch that was refused: its body is a short `Status`, or a page of whoever stands between.
fn status_of_stream(stream: Stream) -> ApiStatus {
    const LIMIT: u64 = 64 * 1024;
    let retry_after = stream.headers.get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| text.trim().parse().ok());
    let mut body = Vec::new();
    let result =
        std::io::Read::read_to_end(&mut std::io::Read::take(stream.reader, LIMIT), &mut body);
    if let Err(error) = result {
        // The status alone says enough; what came of the body is shown as far as it goes.
        log::debug!("body of a refused watch: {error}, silent: {}", is_read_timeout(&error));
    }
    let retry_after = retry_after.map(Duration::from_secs);
    ApiStatus::of_answer(stream.status, retry_after, &body, &stream.secrets)
}
