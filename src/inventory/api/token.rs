//! Who may see data: whoever presents the token that is in the file.

use std::path::PathBuf;
use std::time::Duration;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::clock::Clock;
use crate::secret::Secret;
use crate::token_file::TokenFile;

/// The file is read this often at most; a mounted Secret changes without a sign.
const READ_EVERY: Duration = Duration::from_secs(1);

/// May a client see data?
pub(super) enum Access {
    Granted,
    Denied(&'static str),
    /// Nobody may, because there is no token to compare with.
    NotConfigured(String),
}

/// The check of what clients present against the file's token.
pub(super) struct Guard {
    token: TokenFile,
    clock: Clock,
}

impl Guard {
    pub(super) fn new(path: PathBuf, clock: Clock) -> Guard {
        Guard { token: TokenFile::new(path, READ_EVERY), clock }
    }

    /// Compares what the client presents, in a time that says nothing about how much agrees.
    pub(super) fn check(&self, authorization: Option<&Secret>) -> Access {
        let Ok(expected) = self.token.token(self.clock.now().uptime) else {
            let message = "the token file of this server can't be read, so nobody is let in";
            return Access::NotConfigured(message.to_owned());
        };
        let presented = authorization.and_then(|header| {
            let (scheme, token) = header.expose().split_once(' ')?;
            scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
        });
        match presented.map(sha256) {
            None => Access::Denied("a token is needed: send Authorization: Bearer <token>"),
            Some(digest) if equal(&digest, &sha256(expected.expose())) => Access::Granted,
            Some(_) => Access::Denied("the token is not the right one"),
        }
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
