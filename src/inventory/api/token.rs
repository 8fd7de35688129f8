//! The bearer token that data is shown for: read from a file, again when the file changes.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::clock::Clock;
use crate::secret::Secret;

/// The file is read this often at most; a mounted Secret changes without a sign.
const READ_EVERY: Duration = Duration::from_secs(1);

/// May a client see data?
pub(super) enum Access {
    Granted,
    Denied(&'static str),
    /// Nobody may, because there is no token to compare with.
    NotConfigured(String),
}

pub(super) struct TokenFile {
    path: PathBuf,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    read_at: Option<Duration>,
    digest: Option<[u8; SHA256_OUTPUT_LEN]>,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf, clock: Clock) -> TokenFile {
        TokenFile { path, clock, known: Mutex::default() }
    }

    /// Compares what the client presents, in a time that says nothing about how much agrees.
    pub(super) fn check(&self, authorization: Option<&Secret>) -> Access {
        let Some(expected) = self.expected() else {
            let message = "the token file of this server can't be read, so nobody is let in";
            return Access::NotConfigured(message.to_owned());
        };
        let presented = authorization.and_then(|header| {
            let (scheme, token) = header.expose().split_once(' ')?;
            scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
        });
        match presented.map(sha256) {
            None => Access::Denied("a token is needed: send Authorization: Bearer <token>"),
            Some(digest) if equal(&digest, &expected) => Access::Granted,
            Some(_) => Access::Denied("the token is not the right one"),
        }
    }

    /// The digest of the current token; the last known one while the file is empty or gone, as it
    /// is for an instant when a mounted Secret is replaced.
    fn expected(&self) -> Option<[u8; SHA256_OUTPUT_LEN]> {
        let now = self.clock.now().uptime;
        let mut known = self.known.lock().unwrap_or_else(|held| held.into_inner());
        if known.read_at.is_none_or(|at| now.saturating_sub(at) >= READ_EVERY) {
            known.read_at = Some(now);
            match fs::read_to_string(&self.path).map(|text| Secret::new(text.trim().to_owned())) {
                Ok(token) if !token.expose().is_empty() => {
                    known.digest = Some(sha256(token.expose()));
                }
                Ok(_) => log::warn!("the token file {} is empty", self.path.display()),
                Err(error) => {
                    log::warn!("cannot read the token file {}: {error}", self.path.display());
                }
            }
        }
        known.digest
    }
}

fn sha256(text: &str) -> [u8; SHA256_OUTPUT_LEN] {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

/// Looks at every byte, whatever it finds.
fn equal(one: &[u8; SHA256_OUTPUT_LEN], other: &[u8; SHA256_OUTPUT_LEN]) -> bool {
    one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}
