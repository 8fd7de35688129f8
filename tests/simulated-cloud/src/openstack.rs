//! The OpenStack services, answering as Zed's do (Keystone 22, Neutron 21, Nova 26): the same
//! status lines, header names, framing, error bodies and oddities.
//!
//! `fixtures/recordings/openstack` holds answers of the real services; a test replays them here.

mod keystone;
mod neutron;
mod nova;

pub use keystone::Keystone;
pub use neutron::Neutron;
pub use nova::Nova;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::pseudo_random::random_hex;
use crate::state::{CloudState, Token};
use crate::wire::{Body, Framing, Request, Response};

/// Why a service refuses a request before it looks at it.
enum Refusal {
    /// Token missing, unknown, revoked or expired.
    Unauthorized,
    /// The service can't ask Keystone.
    KeystoneUnreachable,
}

/// The token of a request.
fn authenticate<'a>(state: &'a CloudState, request: &Request) -> Result<&'a Token, Refusal> {
    let text = request.header("X-Auth-Token").ok_or(Refusal::Unauthorized)?;
    if state.settings.keystone_unreachable {
        return Err(Refusal::KeystoneUnreachable);
    }
    state.valid_token(text).ok_or(Refusal::Unauthorized)
}

impl Refusal {
    fn status(&self) -> u16 {
        match self {
            Refusal::Unauthorized => 401,
            Refusal::KeystoneUnreachable => 503,
        }
    }

    /// The body that Neutron and Nova share: it comes from the same middleware.
    fn body(&self) -> Value {
        match self {
            Refusal::Unauthorized => json!({"error": {
                "code": 401,
                "title": "Unauthorized",
                "message": "The request you have made requires authentication.",
            }}),
            Refusal::KeystoneUnreachable => json!({
                "message": "The server is currently unavailable. Please try again at a later time.<br /><br />\nThe Keystone service is temporarily unavailable.\n\n",
                "code": "503 Service Unavailable",
                "title": "Service Unavailable",
            }),
        }
    }
}

/// What the 401s of all services point to.
fn keystone_challenge(state: &CloudState) -> String {
    format!("Keystone uri=\"{}{}/v3\"", state.urls.keystone, state.settings.keystone_prefix)
}

/// A new request id.
fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let digits = random_hex(&format!("request {count}"), 32);
    format!(
        "req-{}-{}-4{}-8{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[13..16],
        &digits[17..20],
        &digits[20..]
    )
}

/// An answer of a service behind uwsgi: the connection's end is the body's end, unless the cloud
/// keeps connections.
fn uwsgi_response(
    state: &CloudState,
    status: u16,
    headers: Vec<(&str, String)>,
    body: impl Into<Vec<u8>>,
) -> Response {
    Response {
        status,
        reason: None,
        headers: owned(headers),
        body: Body::Bytes(body.into()),
        framing: if state.settings.keep_alive {
            Framing::ContentLength
        } else {
            Framing::UntilClose
        },
    }
}

fn owned(headers: Vec<(&str, String)>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Scheme and host as the client sees them, from which the services make links.
fn public_base(request: &Request) -> String {
    let scheme = request.header("X-Forwarded-Proto").unwrap_or("http");
    let host = request.header("Host").unwrap_or("localhost");
    format!("{scheme}://{host}")
}

/// The path below the configured prefix, if it is there.
fn below_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// A query with the given parameters, written as Python's `urlencode` writes it.
fn encode_query<'a>(parameters: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}
