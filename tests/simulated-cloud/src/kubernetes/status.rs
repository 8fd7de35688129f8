//! Answers of the server that are not objects: `Status` bodies and the plain-text errors.
//! Texts, reasons and details are those of the recordings in `fixtures/recordings/kubernetes`.

use super::kinds::{ResourceKind, qualified};
use serde_json::{Map, Value, json};
use std::fmt;

/// A request that the server refuses, as it will stand on the wire.
#[derive(Debug, Clone)]
pub struct Failure {
    pub code: u16,
    pub(super) body: FailureBody,
    pub(super) headers: Vec<(&'static str, String)>,
}

/// The three forms in which the real server words an error.
#[derive(Debug, Clone)]
pub(super) enum FailureBody {
    Status(Value),
    /// Negotiation failed, so the server falls back to indented JSON.
    IndentedStatus(Value),
    Text(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match &self.body {
            FailureBody::Status(status) | FailureBody::IndentedStatus(status) => {
                status["message"].as_str().unwrap_or_default()
            }
            FailureBody::Text(text) => text.trim_end(),
        };
        write!(formatter, "{} {message}", self.code)
    }
}

impl std::error::Error for Failure {}

/// One entry of `details.causes`.
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) field: String,
}

impl Cause {
    pub(super) fn new(reason: &'static str, message: impl Into<String>, field: &str) -> Cause {
        Cause { reason, message: message.into(), field: field.to_owned() }
    }

    fn json(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

impl Failure {
    pub(super) fn new(
        code: u16,
        reason: Option<&str>,
        message: impl Into<String>,
        details: Option<Value>,
    ) -> Failure {
        let mut status = Map::new();
        status.insert("kind".into(), json!("Status"));
        status.insert("apiVersion".into(), json!("v1"));
        status.insert("metadata".into(), json!({}));
        status.insert("status".into(), json!("Failure"));
        status.insert("message".into(), Value::String(message.into()));
        if let Some(reason) = reason {
            status.insert("reason".into(), json!(reason));
        }
        if let Some(details) = details {
            status.insert("details".into(), details);
        }
        status.insert("code".into(), json!(code));
        Failure { code, body: FailureBody::Status(Value::Object(status)), headers: Vec::new() }
    }

    /// The `Status` object, if it is one.
    pub(super) fn status(&self) -> Option<&Value> {
        match &self.body {
            FailureBody::Status(status) | FailureBody::IndentedStatus(status) => Some(status),
            FailureBody::Text(_) => None,
        }
    }

    fn text(code: u16, text: &'static str) -> Failure {
        Failure {
            code,
            body: FailureBody::Text(text),
            headers: vec![("X-Content-Type-Options", "nosniff".to_owned())],
        }
    }

    /// A path or kind that is not served.
    pub(super) fn page_not_found() -> Failure {
        Failure::text(404, "404 page not found\n")
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, Some("BadRequest"), message, None)
    }

    pub(super) fn unauthorized() -> Failure {
        Failure::new(401, Some("Unauthorized"), "Unauthorized", None)
    }

    pub(super) fn method_not_allowed() -> Failure {
        Failure::new(
            405,
            Some("MethodNotAllowed"),
            "the server does not allow this method on the requested resource",
            Some(json!({})),
        )
    }

    pub(super) fn not_acceptable() -> Failure {
        let mut failure = Failure::new(
            406,
            Some("NotAcceptable"),
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf",
            None,
        );
        if let FailureBody::Status(status) = failure.body {
            failure.body = FailureBody::IndentedStatus(status);
        }
        failure
    }

    pub(super) fn unsupported_media_type(accepted: &str) -> Failure {
        Failure::new(
            415,
            Some("UnsupportedMediaType"),
            format!(
                "the body of the request was in an unknown format - accepted media types include: {accepted}"
            ),
            None,
        )
    }

    pub(super) fn request_too_large(limit: usize) -> Failure {
        let mut failure = Failure::new(
            413,
            Some("RequestEntityTooLarge"),
            format!("Request entity too large: limit is {limit}"),
            None,
        );
        failure.headers.push(("Connection", "close".to_owned()));
        failure
    }

    pub(super) fn not_found(kind: &ResourceKind, name: &str) -> Failure {
        Failure::new(
            404,
            Some("NotFound"),
            format!("{} \"{name}\" not found", kind.qualified_plural()),
            Some(details(name, &kind.group, &kind.plural)),
        )
    }

    pub(super) fn already_exists(kind: &ResourceKind, name: &str) -> Failure {
        Failure::new(
            409,
            Some("AlreadyExists"),
            format!("{} \"{name}\" already exists", kind.qualified_plural()),
            Some(details(name, &kind.group, &kind.plural)),
        )
    }

    /// A resourceVersion that is not the newest.
    pub(super) fn modified(kind: &ResourceKind, name: &str) -> Failure {
        Failure::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(super) fn conflict(kind: &ResourceKind, name: &str, why: &str) -> Failure {
        Failure::new(
            409,
            Some("Conflict"),
            format!(
                "Operation cannot be fulfilled on {} \"{name}\": {why}",
                kind.qualified_plural()
            ),
            Some(details(name, &kind.group, &kind.plural)),
        )
    }

    /// A precondition of a delete that does not hold; it names the kind, not the plural.
    pub(super) fn precondition(kind: &ResourceKind, name: &str, why: &str) -> Failure {
        let named = if kind.custom { kind.qualified_kind() } else { kind.qualified_plural() };
        Failure::new(
            409,
            Some("Conflict"),
            format!("Operation cannot be fulfilled on {named} \"{name}\": {why}"),
            Some(details(name, &kind.group, if kind.custom { &kind.kind } else { &kind.plural })),
        )
    }

    pub(super) fn field_managers(message: String, causes: &[Cause]) -> Failure {
        Failure::new(
            409,
            Some("Conflict"),
            message,
            Some(json!({"causes": causes.iter().map(Cause::json).collect::<Vec<_>>()})),
        )
    }

    /// An object that breaks a rule; validation names the kind.
    pub(super) fn invalid(kind: &ResourceKind, name: &str, causes: &[Cause]) -> Failure {
        Failure::invalid_named(&kind.kind, &kind.group, name, causes)
    }

    /// An update that breaks a rule of the registry, which names the plural.
    pub(super) fn invalid_update(kind: &ResourceKind, name: &str, causes: &[Cause]) -> Failure {
        Failure::invalid_named(&kind.plural, &kind.group, name, causes)
    }

    /// Options of a request that make no sense.
    pub(super) fn invalid_options(options: &str, cause: Cause) -> Failure {
        Failure::invalid_named(options, "meta.k8s.io", "", &[cause])
    }

    pub(super) fn invalid_named(kind: &str, group: &str, name: &str, causes: &[Cause]) -> Failure {
        let mut texts: Vec<String> = Vec::new();
        for cause in causes {
            let text = format!("{}: {}", cause.field, cause.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut details = details(name, group, kind);
        details["causes"] = causes.iter().map(Cause::json).collect();
        Failure::new(
            422,
            Some("Invalid"),
            format!("{} \"{name}\" is invalid: {list}", qualified(kind, group)),
            Some(details),
        )
    }

    pub(super) fn forbidden(message: String, details: Value) -> Failure {
        let mut failure = Failure::new(403, Some("Forbidden"), message, Some(details));
        failure.headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
        failure
    }

    /// A continue token whose snapshot is gone; `inconsistent` is the token to go on without it.
    pub(super) fn continue_expired(inconsistent: &str) -> Failure {
        let mut failure = Failure::new(
            410,
            Some("Expired"),
            "The provided continue parameter is too old to display a consistent list result. You can \
             start a new list without the continue parameter, or use the continue token in this \
             response to retrieve the remainder of the results. Continuing with the provided token \
             results in an inconsistent list - objects that were created, modified, or deleted between \
             the time the first chunk was returned and now may show up in the list.",
            None,
        );
        if let FailureBody::Status(status) = &mut failure.body {
            status["metadata"]["continue"] = json!(inconsistent);
        }
        failure
    }

    pub(super) fn list_expired() -> Failure {
        Failure::new(
            410,
            Some("Expired"),
            "The resourceVersion for the provided list is too old.",
            None,
        )
    }

    /// What the `ERROR` event of a watch from too old a version carries.
    pub(super) fn watch_expired(asked: u64, oldest: u64) -> Failure {
        Failure::new(
            410,
            Some("Expired"),
            format!("too old resource version: {asked} ({oldest})"),
            None,
        )
    }

    pub(super) fn version_too_large(asked: u64, current: u64) -> Failure {
        let mut failure = Failure::new(
            504,
            Some("Timeout"),
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
            Some(json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            })),
        );
        failure.headers.push(("Retry-After", "1".to_owned()));
        failure
    }
}

/// `details` of a Status; the server leaves out what is empty.
fn details(name: &str, group: &str, kind: &str) -> Value {
    let mut details = Map::new();
    if !name.is_empty() {
        details.insert("name".into(), json!(name));
    }
    if !group.is_empty() {
        details.insert("group".into(), json!(group));
    }
    details.insert("kind".into(), json!(kind));
    Value::Object(details)
}

/// The answer to a delete that took effect at once.
pub(super) fn deleted(kind: &ResourceKind, name: &str, uid: &str) -> Value {
    let mut details = details(name, &kind.group, &kind.plural);
    details["uid"] = json!(uid);
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
