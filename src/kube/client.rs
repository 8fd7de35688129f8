//! The verbs of the Kubernetes API over HTTP: who we are, what was asked, and what came back.
//!
//! It repeats nothing but a call whose token was refused, which may have been rotated; when to ask
//! again is its callers' business.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use ureq::http::header::HeaderMap;

use super::access::{Access, Credentials};
use super::error::{ApiStatus, Call, KubeError};
use super::objects::Page;
use super::resource::Resource;
use crate::clock::Clock;
use crate::http::client::{Answer, Client, ClientOptions, Request, Service, Stream, retry_after};
use crate::http::url::query_value;
use crate::metrics::Metrics;
use crate::secret::{Secret, Secrets};
use crate::threads::lock;
use crate::token_file::TokenFile;

/// Who writes, as server-side apply and the audit log know it.
const FIELD_MANAGER: &str = "multinic-operator";
/// One call; the API server answers in milliseconds, or it is in trouble.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// The kubelet rotates a bound token when 80 % of its hour are over, so a minute is never late.
const TOKEN_AGE_LIMIT: Duration = Duration::from_secs(60);
/// Below the idle limits of API servers and of the balancers before them.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Above so many the warnings that were logged are forgotten, and logged again.
const WARNINGS_REMEMBERED: usize = 256;
/// What is read of the body of a watch that was refused.
const REFUSAL_LIMIT_BYTES: u64 = 64 * 1024;

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
    /// Secrets that are sent in bodies and must not come back in a message.
    pub(super) withheld: Arc<[Secret]>,
    /// No write is sent while this says no.
    pub(super) may_write: Option<Permission>,
}

/// Says whether this replica may write.
pub(crate) type Permission = Arc<dyn Fn() -> bool + Send + Sync>;

/// What all clients of one API server share.
struct Session {
    base: String,
    options: ClientOptions,
    login: Login,
    clock: Clock,
    metrics: Arc<Metrics>,
    warned: Mutex<BTreeSet<String>>,
}

/// How requests say who we are.
enum Login {
    /// They don't: something in between does, or a certificate.
    None,
    Token(Secret),
    TokenFile(TokenFile),
}

impl KubeClient {
    /// A client; nothing is read or connected yet.
    pub fn new(access: Access, clock: Clock, metrics: Arc<Metrics>) -> KubeClient {
        let Access { api_url, token_file, trust, proxies, credentials } = access;
        let Credentials { token, tls } = credentials;
        let login = match (token, token_file) {
            (Some(token), _) => Login::Token(token),
            (None, Some(path)) => Login::TokenFile(TokenFile::new(path, TOKEN_AGE_LIMIT)),
            (None, None) => Login::None,
        };
        let base = api_url.trim_end_matches('/').to_owned();
        let (call_limit, idle_limit) = (CALL_LIMIT, IDLE_LIMIT);
        let options = ClientOptions { call_limit, trust, idle_limit, proxies, tls };
        let warned = Mutex::default();
        let session = Arc::new(Session { base, options, login, clock, metrics, warned });
        KubeClient {
            http: session.connections(),
            session,
            call_limit: CALL_LIMIT,
            field_manager: FIELD_MANAGER,
            withheld: Arc::default(),
            may_write: None,
        }
    }

    /// The same client with connections of its own, so that a [`KubeClient::shutdown`] of one
    /// leaves the other alone.
    pub fn with_own_connections(&self) -> KubeClient {
        KubeClient { http: self.session.connections(), ..self.clone() }
    }

    /// The same client with another limit for each call; 10 s if never set.
    pub fn with_call_limit(&self, call_limit: Duration) -> KubeClient {
        KubeClient { call_limit, ..self.clone() }
    }

    /// The same client under another name as field manager.
    pub(crate) fn with_field_manager(&self, field_manager: &'static str) -> KubeClient {
        KubeClient { field_manager, ..self.clone() }
    }

    /// The same client, which sends no write while this says no.
    pub(crate) fn with_permission(&self, may_write: Permission) -> KubeClient {
        KubeClient { may_write: Some(may_write), ..self.clone() }
    }

    /// Who writes, as server-side apply knows it.
    pub(crate) fn field_manager(&self) -> &'static str {
        self.field_manager
    }

    /// Does it ask the same server as the same user, by the same credentials?
    pub(crate) fn is_same_as(&self, other: &KubeClient) -> bool {
        Arc::ptr_eq(&self.session, &other.session)
    }

    /// Ends all calls on these connections at once, also those other threads are blocked in.
    pub fn shutdown(&self) {
        self.http.shutdown();
    }

    /// Reads one object.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, KubeError> {
        let call = Call { verb: "get", path: path.to_owned() };
        let answer = self.read(&call, "")?;
        parse(&call, &answer)
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
        let call = Call { verb: "list", path };
        let answer = self.read(&call, &query.join("&"))?;
        Page::read(&answer.body).map_err(|error| unreadable(&call, &answer, &error))
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
        let call = Call { verb: "watch", path: resource.collection(namespace) };
        let version = query_value(version);
        let query = format!(
            "watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={timeout_seconds}"
        );
        let url = self.url(&call, &query);
        self.with_token(Request::get(Service::Kubernetes, &url), |request| {
            let stream = self.http.stream(request, silence_limit);
            let mut stream = stream.map_err(KubeError::Transport)?;
            self.session.log_warnings(&stream.headers, &stream.secrets);
            if (200..=299).contains(&stream.status) {
                return Ok(stream);
            }
            let mut body = Vec::new();
            // What comes of the body is shown; the status alone says enough.
            let _ = stream.by_ref().take(REFUSAL_LIMIT_BYTES).read_to_end(&mut body);
            Err(refused(&call, stream.status, &stream.headers, &body, &stream.secrets))
        })
    }

    /// Creates an object in a collection; never overwrites one.
    pub fn create<T: DeserializeOwned>(&self, path: &str, object: &Value) -> Result<T, KubeError> {
        Ok(self.write("create", path, "", JSON, object)?.1)
    }

    /// Replaces an object; its `metadata.resourceVersion` guards against overwriting a newer one.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        object: &Value,
    ) -> Result<T, KubeError> {
        Ok(self.write("update", path, "", JSON, object)?.1)
    }

    /// Server-side apply: what `object` says is ours from now on, taken from others by force. Gives
    /// whether there was no such object before, and the object as it is now.
    pub(crate) fn apply<T: DeserializeOwned>(
        &self,
        path: &str,
        object: &impl Serialize,
    ) -> Result<(bool, T), KubeError> {
        let (status, object) = self.write("patch", path, "&force=true", APPLY_PATCH, object)?;
        Ok((status == 201, object))
    }

    /// A JSON merge patch; lists are replaced as a whole.
    pub fn merge<T: DeserializeOwned>(&self, path: &str, patch: &Value) -> Result<T, KubeError> {
        Ok(self.write("patch", path, "", MERGE_PATCH, patch)?.1)
    }

    /// Deletes an object, if it is still in this version.
    pub(crate) fn delete(&self, path: &str, version: &str) -> Result<(), KubeError> {
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "resourceVersion": version },
        });
        self.write::<IgnoredAny>("delete", path, "", JSON, &options).map(drop)
    }

    fn read(&self, call: &Call, query: &str) -> Result<Answer, KubeError> {
        let url = self.url(call, query);
        self.call(call, Request::get(Service::Kubernetes, &url))
    }

    fn write<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        path: &str,
        query: &str,
        kind: &'static str,
        object: &impl Serialize,
    ) -> Result<(u16, T), KubeError> {
        let call = Call { verb, path: path.to_owned() };
        if self.may_write.as_ref().is_some_and(|may_write| !may_write()) {
            return Err(KubeError::NotLeading { call });
        }
        // Maps with texts as keys: there is nothing to fail on.
        let body = zeroize::Zeroizing::new(serde_json::to_vec(object).unwrap_or_default());
        let url = self.url(&call, &format!("fieldManager={}{query}", self.field_manager));
        let method = call.method();
        let request = Request::with_body(Service::Kubernetes, method, &url, kind, &body);
        // Done twice, a patch has done what it does once.
        let request = if method == "PATCH" { request.repeatable() } else { request };
        let answer = self.call(&call, request)?;
        Ok((answer.status, parse(&call, &answer)?))
    }

    fn call(&self, call: &Call, request: Request<'_>) -> Result<Answer, KubeError> {
        let mut request = request.carrying(&*self.withheld);
        request.call_limit = Some(self.call_limit);
        self.with_token(request, |request| {
            let answer = self.http.call(request).map_err(KubeError::Transport)?;
            let Answer { status, headers, body, .. } = &answer;
            self.session.log_warnings(headers, answer.secrets());
            match status {
                200..=299 => Ok(answer),
                _ => Err(refused(call, *status, headers, body, answer.secrets())),
            }
        })
    }

    fn url(&self, call: &Call, query: &str) -> String {
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{}{}{separator}{query}", self.session.base, call.path)
    }

    /// Makes a request with the token; if that was refused, once more with the token as it is in the
    /// file by now, for it may just have been rotated.
    fn with_token<T>(
        &self,
        request: Request<'_>,
        attempt: impl Fn(&Request<'_>) -> Result<T, KubeError>,
    ) -> Result<T, KubeError> {
        let file = match &self.session.login {
            Login::None => return attempt(&request),
            Login::Token(token) => {
                return attempt(&request.secret_header("authorization", "Bearer ", token));
            }
            Login::TokenFile(file) => file,
        };
        let is_refused = |error: &KubeError| error.status().is_unauthorized();
        let once = || {
            let token = file.token(self.session.clock.now().uptime);
            let token = token.map_err(|reason| KubeError::NoToken { reason })?;
            let result =
                attempt(&request.clone().secret_header("authorization", "Bearer ", &token));
            if result.as_ref().is_err_and(is_refused) {
                file.refused();
            }
            result
        };
        once().or_else(|error| if is_refused(&error) { once() } else { Err(error) })
    }
}

impl Session {
    fn connections(&self) -> Arc<Client> {
        Arc::new(Client::new(self.options.clone(), Arc::clone(&self.metrics)))
    }

    /// Logs each text of the server's `Warning` headers once.
    fn log_warnings(&self, headers: &HeaderMap, secrets: &Secrets) {
        for header in headers.get_all("warning") {
            let Ok(text) = header.to_str() else { continue };
            let text = secrets.redacted(text);
            let mut warned = lock(&self.warned);
            if warned.len() >= WARNINGS_REMEMBERED {
                warned.clear();
            }
            if warned.insert(text.clone()) {
                log::warn!("the Kubernetes API server warns: {text}");
            }
        }
    }
}

fn refused(
    call: &Call,
    code: u16,
    headers: &HeaderMap,
    body: &[u8],
    secrets: &Secrets,
) -> KubeError {
    let status = ApiStatus::of_answer(code, retry_after(headers), body, secrets);
    KubeError::Refused { call: call.clone(), status: Box::new(status) }
}

fn parse<T: DeserializeOwned>(call: &Call, answer: &Answer) -> Result<T, KubeError> {
    serde_json::from_slice(&answer.body).map_err(|error| unreadable(call, answer, &error))
}

fn unreadable(call: &Call, answer: &Answer, error: &serde_json::Error) -> KubeError {
    let reason = answer.secrets().redacted(&error.to_string());
    KubeError::Unreadable { call: call.clone(), reason }
}
