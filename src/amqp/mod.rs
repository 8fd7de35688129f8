//! A consumer of messages by AMQP 0-9-1, as RabbitMQ speaks it.
//!
//! [`Session`] is one connection without its socket: bytes go in, bytes and [`Event`]s come out, and time
//! is an argument. It logs in, makes a queue of its own, and binds it to each exchange that it finds; it
//! never declares an exchange and never publishes. It cannot go on after an [`Error`]: another
//! connection has to be made.
//!
//! | file | what is in it |
//! |---|---|
//! | `wire` | frames and fields |
//! | `session` | login, heartbeats, queue, messages, close |
//! | `bindings` | the channel that looks for exchanges and binds to them |

mod bindings;
mod session;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use session::Session;

use crate::secret::Secret;

/// Bodies above this are passed over.
pub const BODY_LIMIT_BYTES: u64 = 1024 * 1024;

const OUT_OF_TURN: Error = Error::Malformed("what doesn't belong there");

/// Who logs in, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// The virtual host, `/` by default; at most 255 bytes.
    pub vhost: String,
}

/// What is listened to.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Exchanges to bind to, each as soon as it is there.
    pub exchanges: Vec<&'static str>,
    /// Routing keys to bind with, at least one.
    pub keys: Vec<&'static str>,
    /// Messages the broker keeps while they aren't read; older ones go first.
    pub queue_limit: u32,
    /// How often exchanges are looked for. One that is bound is bound again: it may have been deleted and
    /// declared anew, which takes the bindings away in silence.
    pub look_every: Duration,
}

/// What a session observes. Texts are the broker's own words, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The login succeeded and the queue is consumed.
    Subscribed,
    /// The queue is bound to this exchange and wasn't before.
    Bound(&'static str),
    /// This exchange can't be bound to, and why: there is none (404), or the user may not read it
    /// (403). It goes on being looked for; said again if the reason changes.
    Unbound(&'static str, String),
    /// A message's body. It may hold other people's tokens: never to be logged.
    Message(Vec<u8>),
    /// A message whose body, of so many bytes, is above [`BODY_LIMIT_BYTES`].
    TooLarge(u64),
    /// The broker has run short of memory or disk and takes no messages from anybody.
    Blocked(String),
    /// It takes messages again.
    Unblocked,
}

/// Why a session can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// What answered speaks another protocol: the beginning of what it sent.
    NotAmqp(String),
    /// The broker sent this.
    Malformed(&'static str),
    /// The broker closed the connection, or the channel of the queue: its code and words.
    Closed(String),
    /// The queue was deleted, or its node went away.
    Cancelled,
    /// For so long no login and no queue came of it, or not even a heartbeat came.
    TimedOut(Duration),
}

impl Error {
    /// For the beginning of an answer; an alert of TLS has the type 21.
    fn not_amqp(bytes: &[u8]) -> Error {
        Error::NotAmqp(match bytes {
            [21, ..] => "an alert of TLS: it wants TLS at this port".to_owned(),
            _ => format!("\"{}\"", bytes[..bytes.len().min(16)].escape_ascii()),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotAmqp(sent) => write!(formatter, "it answers no AMQP 0-9-1 but {sent}"),
            Error::Malformed(what) => write!(formatter, "the broker sent {what}"),
            Error::Closed(reason) => write!(formatter, "the broker says {reason}"),
            Error::Cancelled => write!(formatter, "the broker took our queue away"),
            Error::TimedOut(limit) => {
                write!(formatter, "the broker didn't answer for {} s", limit.as_secs())
            }
        }
    }
}

impl std::error::Error for Error {}
