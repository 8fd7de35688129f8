//! What can go wrong with a list or a watch, as far as the way on depends on it.

use std::time::Duration;

use crate::http::client::{Failure as HttpFailure, HttpError};
use crate::kube::error::{ApiStatus, KubeError};

/// A list or a watch that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What was tried and what came back.
    pub text: String,
    /// How long the server asked us to stay away.
    pub retry_after: Option<Duration>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The version or continue token is too old.
    Expired,
    /// The version is one the server hasn't reached.
    VersionTooLarge,
    /// The server can't make sense of what we asked.
    BadRequest,
    /// The kind isn't served: its CRD isn't installed.
    NotServed,
    /// An RBAC rule is missing; so it looks, too, while the CRD is.
    Forbidden,
    /// The token isn't accepted.
    Unauthorized,
    /// An answer or a line exceeds our limits.
    AnswerTooLarge,
    /// A line of the watch can't be read.
    Garbled,
    /// Anything else: the server is unreachable, overloaded or broken.
    Unavailable,
}

/// How a watch came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server ended it properly.
    InOrder,
    /// The connection was lost.
    Cut(String),
    /// Nothing came for longer than the limit.
    Silent,
    /// A line exceeded its limit.
    LineTooLong(String),
}

/// Why a list or watch starts over unplanned; a label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartReason {
    /// 410, as a status or as an event.
    Expired,
    /// The watch couldn't be opened.
    Refused,
    /// A page couldn't be read.
    ListFailed,
    /// An `ERROR` event other than 410.
    ErrorEvent,
    /// A line that can't be read.
    Garbled,
    /// The connection was lost.
    Cut,
    /// Nothing came for too long.
    Silent,
    /// It ended as soon as it began.
    Short,
}

impl RestartReason {
    /// The label's value.
    pub(crate) fn label(self) -> &'static str {
        match self {
            RestartReason::Expired => "expired",
            RestartReason::Refused => "refused",
            RestartReason::ListFailed => "list_failed",
            RestartReason::ErrorEvent => "error_event",
            RestartReason::Garbled => "garbled",
            RestartReason::Cut => "cut",
            RestartReason::Silent => "silent",
            RestartReason::Short => "short",
        }
    }
}

impl Failure {
    /// Any failure that says nothing about the version.
    pub(crate) fn other(text: &str) -> Failure {
        Failure { kind: FailureKind::Unavailable, text: text.to_owned(), retry_after: None }
    }

    /// What an error of the client means for the way on.
    pub(crate) fn of_error(error: &KubeError) -> Failure {
        let kind = match error {
            KubeError::Refused { status, .. } => kind_of(status),
            KubeError::Transport(HttpError { failure: HttpFailure::TooLarge, .. }) => {
                FailureKind::AnswerTooLarge
            }
            _ => FailureKind::Unavailable,
        };
        Failure { kind, text: error.to_string(), retry_after: error.status().retry_after }
    }

    /// What the `Status` of an `ERROR` event means for the way on.
    pub(crate) fn of_event(status: &ApiStatus) -> Failure {
        let ApiStatus { code, reason, message, .. } = status;
        let text = format!("the watch brought an error: {code} {reason}: {message}");
        Failure { kind: kind_of(status), text, retry_after: status.retry_after }
    }
}

fn kind_of(status: &ApiStatus) -> FailureKind {
    match status {
        status if status.is_expired() => FailureKind::Expired,
        status if status.is_too_large_resource_version() => FailureKind::VersionTooLarge,
        status if status.is_unauthorized() => FailureKind::Unauthorized,
        status if status.is_forbidden() => FailureKind::Forbidden,
        status if status.code == 404 => FailureKind::NotServed,
        status if status.is_invalid() => FailureKind::BadRequest,
        _ => FailureKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, FailureKind, HttpError, HttpFailure, KubeError};

    #[test]
    fn of_what_the_transport_says_only_the_size_changes_the_way_on() {
        let kind = |failure| {
            let error = HttpError { asked: String::new(), failure };
            Failure::of_error(&KubeError::Transport(error)).kind
        };
        // Smaller pages may help; against all else only waiting does.
        assert_eq!(kind(HttpFailure::TooLarge), FailureKind::AnswerTooLarge);
        assert_eq!(kind(HttpFailure::Lost), FailureKind::Unavailable);
        assert_eq!(kind(HttpFailure::Refused), FailureKind::Unavailable);
    }
}
