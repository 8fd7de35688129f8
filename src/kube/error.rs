//! What can come of a call to the Kubernetes API, as types that can be asked.
//!
//! Most refusals carry a `Status` object, but not all: an unknown group is a plain-text 404, the
//! load shedder answers a plain-text 429, and proxies have pages of their own.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use crate::http::client::HttpError;
use crate::secret::Secrets;

/// Texts of other programs are cut to this many characters.
const TEXT_LIMIT: usize = 600;
/// Of an error that is no refusal.
static NO_STATUS: LazyLock<ApiStatus> = LazyLock::new(ApiStatus::default);

/// A call that didn't bring what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubeError {
    /// No whole answer came.
    Transport(HttpError),
    /// The server refused.
    Refused {
        /// What was tried.
        call: Call,
        /// What the server said.
        status: Box<ApiStatus>,
    },
    /// The answer was a success in a form we can't read.
    Unreadable {
        /// What was tried.
        call: Call,
        /// Where reading failed.
        reason: String,
    },
    /// There is no token to log in with.
    NoToken {
        /// File and reason.
        reason: String,
    },
    /// A write that was not sent, for this replica is no longer the leader.
    NotLeading {
        /// What would have been tried.
        call: Call,
    },
}

/// What was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The verb as RBAC knows it.
    pub verb: &'static str,
    /// The path, without its query.
    pub path: String,
}

/// The server's `Status`, or as much of one as a plain-text answer gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiStatus {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, such as `Expired`; empty where none was given.
    pub reason: String,
    /// The server's words.
    pub message: String,
    /// `details.causes`: the reason of each.
    causes: Vec<String>,
    /// `details.name`: the object that the server speaks of.
    name: String,
    /// `Retry-After`, or the same from the body.
    pub retry_after: Option<Duration>,
    /// The answer was a `Status` object, so it came from the API itself.
    from_api: bool,
}

impl ApiStatus {
    /// Reads the body of a refusal; `code` is the HTTP status and `retry_after` the header.
    /// Secrets that are quoted there are redacted.
    pub(crate) fn of_answer(
        code: u16,
        retry_after: Option<Duration>,
        body: &[u8],
        secrets: &Secrets,
    ) -> ApiStatus {
        let read = ApiStatus::read(body, secrets);
        let mut status = read.unwrap_or_else(|| ApiStatus {
            message: shorten(&secrets.redacted(&String::from_utf8_lossy(body))),
            ..ApiStatus::default()
        });
        status.code = code;
        status.retry_after = retry_after.or(status.retry_after);
        status
    }

    /// Reads a `Status` object, such as that of an `ERROR` event; none if it isn't one.
    pub(crate) fn of_body(body: &[u8]) -> Option<ApiStatus> {
        ApiStatus::read(body, &Secrets::default())
    }

    fn read(body: &[u8], secrets: &Secrets) -> Option<ApiStatus> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let details = &body["details"];
        let causes = details["causes"].as_array().into_iter().flatten();
        let code = body["code"].as_u64().unwrap_or_default();
        (body["kind"] == "Status").then(|| ApiStatus {
            code: u16::try_from(code).unwrap_or_default(),
            reason: text(&body["reason"]),
            message: shorten(&secrets.redacted(&text(&body["message"]))),
            causes: causes.map(|cause| text(&cause["reason"])).collect(),
            name: text(&details["name"]),
            retry_after: details["retryAfterSeconds"].as_u64().map(Duration::from_secs),
            from_api: true,
        })
    }

    /// The version or continue token is too old: list again.
    pub(crate) fn is_expired(&self) -> bool {
        self.code == 410 || self.reason == "Expired" || self.reason == "Gone"
    }

    /// The version is one the server hasn't reached; older servers say so in the message only.
    pub(crate) fn is_too_large_resource_version(&self) -> bool {
        self.has_cause("ResourceVersionTooLarge")
            || self.message.contains("Too large resource version")
    }

    /// The API says that this object doesn't exist.
    pub fn is_not_found(&self) -> bool {
        self.code == 404 && self.from_api && !self.name.is_empty()
    }

    /// The API server itself says so, not something in between or another service.
    pub(crate) fn is_from_api(&self) -> bool {
        self.from_api
    }

    /// The path isn't served: the CRD isn't installed, or the server only starts.
    pub fn is_not_served(&self) -> bool {
        self.code == 404 && !self.is_not_found()
    }

    /// The token isn't accepted.
    pub fn is_unauthorized(&self) -> bool {
        self.code == 401
    }

    /// An RBAC rule is missing, or not loaded yet.
    pub fn is_forbidden(&self) -> bool {
        self.code == 403
    }

    /// The object changed in between: read again and retry.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code == 409 && self.reason == "Conflict" && !self.is_field_manager_conflict()
    }

    /// Another manager owns a field: retrying can't help.
    pub(crate) fn is_field_manager_conflict(&self) -> bool {
        self.has_cause("FieldManagerConflict")
    }

    /// The name is taken.
    pub(crate) fn is_already_exists(&self) -> bool {
        self.code == 409 && self.reason == "AlreadyExists"
    }

    /// The uid that was sent along isn't the object's: it was deleted and created again. A refused
    /// precondition, or, where the uid counts as a change, a field that can't be changed.
    pub(crate) fn is_other_uid(&self) -> bool {
        (self.is_conflict() && self.message.contains("UID in precondition"))
            || (self.code == 422 && self.message.contains("metadata.uid"))
    }

    /// The field of this part of the object that server-side apply found undeclared in the CRD, such
    /// as `nodes` of `status`.
    pub(crate) fn undeclared_field(&self, part: &str) -> Option<&str> {
        let path = self.message.strip_suffix(": field not declared in schema")?;
        let (_, path) = path.rsplit_once(": .")?;
        let field = path.strip_prefix(part)?.strip_prefix('.')?;
        field.split(['.', '[']).next().filter(|_| self.code == 500)
    }

    /// What was sent can't be accepted, however often it is sent.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self.code, 400 | 405 | 406 | 413 | 415 | 422)
    }

    fn has_cause(&self, reason: &str) -> bool {
        self.causes.iter().any(|cause| cause == reason)
    }
}

impl KubeError {
    /// The server's refusal; an empty one if it was something else that happened.
    pub fn status(&self) -> &ApiStatus {
        match self {
            KubeError::Refused { status, .. } => status,
            _ => &NO_STATUS,
        }
    }

    /// Is the trouble with the server or the way to it, rather than with this one object?
    pub(crate) fn is_server_trouble(&self) -> bool {
        match self {
            KubeError::Unreadable { .. } => false,
            KubeError::Refused { status, .. } => matches!(status.code, 401 | 429 | 502..=504),
            _ => true,
        }
    }
}

impl Call {
    /// The HTTP method.
    pub(crate) fn method(&self) -> &'static str {
        match self.verb {
            "create" => "POST",
            "update" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            _ => "GET",
        }
    }
}

impl fmt::Display for KubeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KubeError::Transport(error) => error.fmt(formatter),
            KubeError::Refused { call, status } => {
                write!(formatter, "{call}: ")?;
                refusal(formatter, status)
            }
            KubeError::Unreadable { call, reason } => {
                write!(formatter, "{call}: the answer can't be read: {reason}")
            }
            KubeError::NoToken { reason } => {
                write!(formatter, "Kubernetes: there is no service account token: {reason}")
            }
            KubeError::NotLeading { call } => {
                write!(formatter, "{call}: not sent, this replica is no longer the leader")
            }
        }
    }
}

impl std::error::Error for KubeError {}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Kubernetes {} {}", self.method(), self.path)
    }
}

fn refusal(formatter: &mut fmt::Formatter<'_>, status: &ApiStatus) -> fmt::Result {
    let ApiStatus { code, reason, message, from_api, .. } = status;
    match code {
        401 => formatter
            .write_str("401 Unauthorized: the API server doesn't accept the service account token"),
        // The API's own message names verb, resource, group and namespace.
        403 if *from_api => write!(
            formatter,
            "403 Forbidden: {message}; the RBAC rule is missing, or the API server has only just \
             started and not loaded it yet"
        ),
        404 if status.is_not_served() => {
            write!(formatter, "404: not served, the CRD may not be installed ({message})")
        }
        300..=399 => write!(formatter, "{code}: redirects aren't followed; check KUBE_API_URL"),
        _ if reason.is_empty() => write!(formatter, "{code}: {message}"),
        _ => write!(formatter, "{code} {reason}: {message}"),
    }
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(TEXT_LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiStatus, Call, KubeError};
    use crate::kube::recordings::Recording;
    use crate::secret::Secrets;
    use std::time::Duration;

    fn refusal(name: &str, verb: &'static str) -> KubeError {
        let recording = Recording::load(name);
        let status = ApiStatus::of_answer(
            recording.status,
            recording.retry_after(),
            &recording.body,
            &Secrets::default(),
        );
        let call = Call { verb, path: recording.path() };
        KubeError::Refused { call, status: Box::new(status) }
    }

    #[test]
    fn a_403_names_what_is_missing_and_does_not_say_so_for_sure() {
        for (name, missing) in [
            (
                "patch-403-status-needs-its-own-rule.http",
                "cannot patch resource \"openstackconfigs/status\" in API group \
                 \"multinic.example.com\" in the namespace \"default\"",
            ),
            (
                "list-403-forbidden-cluster-scope.http",
                "cannot list resource \"openstackconfigs\" in API group \"multinic.example.com\" \
                 at the cluster scope",
            ),
            ("create-403-forbidden.http", "cannot create resource \"secrets\" in API group \"\""),
        ] {
            let text = refusal(name, "list").to_string();
            assert!(text.contains(missing), "{text}");
            assert!(text.contains("the RBAC rule is missing, or the API server has only just"));
        }
        let status = ApiStatus::of_answer(403, None, b"<html>no", &Secrets::default());
        let call = Call { verb: "list", path: "/api/v1/secrets".to_owned() };
        let text = KubeError::Refused { call, status: Box::new(status) }.to_string();
        assert_eq!(text, "Kubernetes GET /api/v1/secrets: 403: <html>no", "not the API's answer");
    }

    #[test]
    fn a_401_is_told_apart_from_a_403() {
        let error = refusal("list-401-bad-token.http", "list");
        assert!(error.status().is_unauthorized() && !error.status().is_forbidden());
        assert!(error.to_string().contains("doesn't accept the service account token"));
    }

    #[test]
    fn an_undeclared_field_is_named() {
        let error = refusal("apply-500-field-not-declared-in-schema.http", "patch");
        assert_eq!(error.status().undeclared_field("spec"), Some("interfaces"));
        assert_eq!(error.status().undeclared_field("status"), None);
        let other = refusal("apply-custom-resource-422-name-not-dns.http", "patch");
        assert_eq!(other.status().undeclared_field("spec"), None);
    }

    #[test]
    fn the_three_meanings_of_409_are_told_apart() {
        let taken = refusal("create-409-already-exists.http", "create");
        assert!(taken.status().is_already_exists() && !taken.status().is_conflict());
        let stale = refusal("put-409-stale-resourceVersion.http", "update");
        assert!(stale.status().is_conflict() && !stale.status().is_already_exists());
        let owned = refusal("apply-secret-409-field-conflict.http", "patch");
        assert!(owned.status().is_field_manager_conflict() && !owned.status().is_conflict());
    }

    #[test]
    fn a_plain_text_404_is_a_missing_crd_and_a_status_404_a_missing_object() {
        let crd = refusal("list-404-crd-not-installed-admin.http", "list");
        assert!(crd.status().is_not_served() && !crd.status().is_not_found());
        let object = refusal("apply-status-404-does-not-create.http", "patch");
        assert!(object.status().is_not_found() && !object.status().is_not_served());
    }

    #[test]
    fn both_kinds_of_429_say_how_long_to_stay_away() {
        for name in ["list-429-too-many-requests.http", "list-429-crd-just-created.http"] {
            let error = refusal(name, "list");
            assert_eq!(error.status().retry_after, Some(Duration::from_secs(1)), "{name}");
            assert!(error.is_server_trouble());
        }
    }

    #[test]
    fn an_old_and_a_future_version_are_recognised() {
        assert!(refusal("list-410-continue-expired.http", "list").status().is_expired());
        let future = refusal("list-504-resourceVersion-in-the-future.http", "list");
        assert!(future.status().is_too_large_resource_version() && !future.status().is_expired());
    }

    #[test]
    fn a_page_of_a_proxy_is_shortened_and_never_a_missing_object() {
        let page = "<html>".repeat(1000);
        let status = ApiStatus::of_answer(404, None, page.as_bytes(), &Secrets::default());
        assert!(!status.is_not_found() && status.message.len() < 700);
    }
}
