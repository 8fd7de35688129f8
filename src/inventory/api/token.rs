//! Who may see data: clients that present the token that is in the file.

use std::path::PathBuf;
use std::time::Duration;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::clock::Clock;
use crate::http::server::Response;
use crate::secret::Secret;
use crate::token_file::TokenFile;

/// The file is read this often at most; a mounted Secret changes without a sign.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The check of what clients present against the file's token.
pub(super) struct Guard {
    token: TokenFile,
    clock: Clock,
}

impl Guard {
    pub(super) fn new(path: PathBuf, clock: Clock) -> Guard {
        Guard { token: TokenFile::new(path, READ_EVERY), clock }
    }

    /// Why a client that presents this gets no data; none if it gets them. Compares in a time that
    /// says nothing about how much agrees.
    pub(super) fn refusal(&self, authorization: Option<&Secret>) -> Option<Response> {
        let Ok(expected) = self.token.token(self.clock.now().uptime) else {
            let message = "the token file of this server can't be read, so no data are shown";
            return Some(Response::error(503, message));
        };
        let presented = authorization.and_then(|header| {
            let (scheme, token) = header.expose().split_once(' ')?;
            scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
        });
        let message = match presented.map(sha256) {
            Some(digest) if equal(&digest, &sha256(expected.expose())) => return None,
            Some(_) => "the token is not the right one",
            None => "a token is needed: send Authorization: Bearer <token>",
        };
        let refusal = Response::error(401, message);
        Some(refusal.with("WWW-Authenticate", "Bearer realm=\"multinic-inventory\""))
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
