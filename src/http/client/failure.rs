//! How a call can fail, in stable words, whatever the libraries below call it.

use std::fmt;
use std::io;

use ureq::Timeout;

use super::BODY_LIMIT_BYTES;
use crate::http::proxy::ProxyServer;
use crate::http::trust;
use crate::secret::Secrets;

/// A call that brought no whole answer: what was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// What was asked: service, method, and path without its query, which may be long.
    pub asked: String,
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
    /// Nothing listens at the address.
    Refused,
    /// The name has no address.
    HostNotFound,
    /// The connection ended before the answer did: nothing is known of the request's effect.
    Lost,
    /// The connection was reset before an answer came. A system resets a connection that is closed
    /// while it holds bytes that weren't read, so the service didn't read the whole request.
    Reset,
    /// The answer is larger than [`BODY_LIMIT_BYTES`].
    TooLarge,
    /// The other side's certificate or TLS version isn't acceptable, or ours can't be loaded.
    Tls(String),
    /// The way ends at the proxy.
    Proxy(String),
    /// The URL can't be used.
    BadUrl(String),
    /// The value of this header can't be sent.
    BadHeader(&'static str),
    /// The operator is stopping.
    Stopped,
    /// Anything else.
    Other(String),
}

impl Failure {
    /// The same with texts that don't show these secrets.
    pub(super) fn redacted(mut self, secrets: &Secrets) -> Failure {
        if let Failure::Tls(text)
        | Failure::Proxy(text)
        | Failure::BadUrl(text)
        | Failure::Other(text) = &mut self
        {
            *text = secrets.redacted(text);
        }
        self
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.asked, self.failure)
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
            Failure::Lost | Failure::Reset => {
                formatter.write_str("the connection ended before the answer was complete")
            }
            Failure::TooLarge => {
                write!(formatter, "the answer exceeds {} MiB", BODY_LIMIT_BYTES >> 20)
            }
            Failure::Tls(text) => write!(formatter, "TLS: {text}"),
            Failure::BadUrl(text) => write!(formatter, "the URL can't be used: {text}"),
            Failure::BadHeader(name) => write!(
                formatter,
                "not sent, the value of the header {name} has control or non-ASCII characters"
            ),
            Failure::Stopped => formatter.write_str("not sent, the operator is stopping"),
            Failure::Proxy(text) | Failure::Other(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for HttpError {}

/// Did this read end because nothing came within the limit given to [`super::Client::stream`]?
pub fn is_read_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_)))
}

pub(super) fn failure_of(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(limit) => Failure::Timeout { waiting_for: waiting_for(*limit) },
        ureq::Error::HostNotFound => Failure::HostNotFound,
        ureq::Error::ConnectionFailed => Failure::Refused,
        ureq::Error::BodyExceedsLimit(_) => Failure::TooLarge,
        // The connection is at its end, and what is left makes no whole chunk.
        ureq::Error::BodyStalled => Failure::Lost,
        ureq::Error::Rustls(error) => Failure::Tls(trust::explain(error)),
        ureq::Error::Tls(text) => Failure::Tls((*text).to_owned()),
        ureq::Error::BadUri(text) => Failure::BadUrl(without_url(text)),
        ureq::Error::Http(error) => Failure::BadUrl(error.to_string()),
        ureq::Error::Protocol(error) => Failure::Other(format!("the answer is not HTTP: {error}")),
        ureq::Error::Io(error) => failure_of_io(error),
        other => Failure::Other(other.to_string()),
    }
}

/// What fails on the way to the proxy, or at it, isn't the service's failure.
pub(super) fn failure_behind(proxy: Option<&ProxyServer>, error: &ureq::Error) -> Failure {
    let failure = failure_of(error);
    let Some(ProxyServer { variable, .. }) = proxy else { return failure };
    let what = match error {
        // The status, which ureq says twice, such as 407/407.
        ureq::Error::ConnectProxyFailed(text) => match text.rsplit('/').next() {
            Some("407") => "HTTP 407: it wants another user and password than its URL has".into(),
            Some(status) if status.len() == 3 => {
                format!("HTTP {status}: it doesn't connect us with the service")
            }
            _ => "it gave no usable answer".to_owned(),
        },
        _ if matches!(failure, Failure::Refused | Failure::HostNotFound) => failure.to_string(),
        _ => return failure,
    };
    Failure::Proxy(format!("the proxy that {variable} names: {what}"))
}

pub(super) fn failure_of_io(error: &io::Error) -> Failure {
    if let Some(inner) = error.get_ref() {
        if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
            return failure_of(inner);
        }
        if let Some(inner) = inner.downcast_ref::<rustls::Error>() {
            return Failure::Tls(trust::explain(inner));
        }
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            Failure::Timeout { waiting_for: "the network" }
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::Reset,
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => Failure::Lost,
        // Kinds are few, and have no word for a want of descriptors; the system's numbers do.
        kind if error.raw_os_error().is_none() => Failure::Other(kind.to_string()),
        _ => Failure::Other(error.to_string()),
    }
}

/// ureq says what a URL is missing behind all of it, its user and password too.
fn without_url(text: &str) -> String {
    match text.rsplit_once(" is missing ") {
        Some((_, part)) => format!("it has no {part}"),
        None => text.to_owned(),
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::{failure_of, failure_of_io};

    #[test]
    fn an_answer_that_ends_in_the_middle_of_a_chunk_is_a_lost_connection() {
        let text = failure_of(&ureq::Error::BodyStalled).to_string();
        assert_eq!(text, "the connection ended before the answer was complete");
    }

    #[test]
    fn a_want_of_descriptors_is_said_to_be_one() {
        let text = failure_of_io(&io::Error::from_raw_os_error(24)).to_string();
        assert!(text.to_lowercase().contains("too many open files"), "{text}");
        let text = failure_of_io(&io::Error::from(io::ErrorKind::InvalidData)).to_string();
        assert_eq!(text, "invalid data");
    }
}
