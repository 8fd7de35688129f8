//! Where the Kubernetes API is, who we are there, and whom we trust to be it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http::trust::Trust;
use crate::secret::Secret;

/// Where the kubelet puts the service account's token and the cluster's CA.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The kubelet rotates a bound token when 80 % of its hour are over, so a minute is never late.
const TOKEN_AGE_LIMIT: Duration = Duration::from_secs(60);

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Base URL, with or without a slash at its end.
    pub api_url: String,
    /// File with the bearer token; none where something in between logs in (`kubectl proxy`).
    pub token_file: Option<PathBuf>,
    /// Whom an https URL's server must be certified by.
    pub trust: Trust,
}

impl Access {
    /// Access of a pod: `host` and `port` are `KUBERNETES_SERVICE_HOST` and `_PORT`. The address is
    /// used as it is, without DNS; the API server's certificate names it.
    pub fn in_cluster(host: &str, port: &str) -> Access {
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let folder = Path::new(SERVICE_ACCOUNT);
        Access {
            api_url: format!("https://{host}:{port}"),
            token_file: Some(folder.join("token")),
            trust: Trust::Bundle { variable: "the service account", path: folder.join("ca.crt") },
        }
    }
}

/// The bearer token, read again from its file when it may have been rotated.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    token: Option<Arc<Secret>>,
    read_at: Option<Duration>,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> TokenFile {
        TokenFile { path, known: Mutex::default() }
    }

    /// The token. `uptime` is the present time. The file is read when the last reading is older
    /// than a minute or was called in question; an empty or unreadable file leaves the old token
    /// in use. Without any token it says why there is none.
    pub(super) fn token(&self, uptime: Duration) -> Result<Arc<Secret>, String> {
        let mut known = self.known.lock().unwrap_or_else(|held| held.into_inner());
        let fresh = known.read_at.is_some_and(|at| uptime.saturating_sub(at) < TOKEN_AGE_LIMIT);
        if let (true, Some(token)) = (fresh, &known.token) {
            return Ok(Arc::clone(token));
        }
        let problem = match fs::read_to_string(&self.path) {
            Ok(text) if !text.trim().is_empty() => {
                known.token = Some(Arc::new(Secret::new(text.trim().to_owned())));
                known.read_at = Some(uptime);
                None
            }
            Ok(_) => Some("the file is empty".to_owned()),
            Err(error) => Some(error.kind().to_string()),
        };
        let path = self.path.display();
        match &known.token {
            Some(token) => Ok(Arc::clone(token)),
            None => Err(format!("{path}: {}", problem.unwrap_or_default())),
        }
    }

    /// The server refused the token: the next look reads the file, however young the last reading.
    pub(super) fn refused(&self) {
        self.known.lock().unwrap_or_else(|held| held.into_inner()).read_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, TokenFile};
    use std::fs;
    use std::time::Duration;

    fn at(token: &TokenFile, seconds: u64) -> Result<String, String> {
        token.token(Duration::from_secs(seconds)).map(|token| token.expose().to_owned())
    }

    #[test]
    fn an_ipv6_address_is_put_in_brackets() {
        assert_eq!(Access::in_cluster("fd00::1", "443").api_url, "https://[fd00::1]:443");
        assert_eq!(Access::in_cluster("10.96.0.1", "443").api_url, "https://10.96.0.1:443");
    }

    #[test]
    fn a_rotated_token_is_seen_within_a_minute_and_at_once_after_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = TokenFile::new(path.clone());
        assert!(at(&token, 0).unwrap_err().contains("token"));
        fs::write(&path, "first\n").unwrap();
        assert_eq!(at(&token, 1).unwrap(), "first");
        fs::write(&path, "second\n").unwrap();
        assert_eq!(at(&token, 60).unwrap(), "first");
        assert_eq!(at(&token, 61).unwrap(), "second");
        fs::write(&path, "third").unwrap();
        token.refused();
        assert_eq!(at(&token, 62).unwrap(), "third");
    }

    #[test]
    fn an_empty_or_missing_file_leaves_the_old_token_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = TokenFile::new(path.clone());
        fs::write(&path, "first").unwrap();
        assert_eq!(at(&token, 0).unwrap(), "first");
        fs::write(&path, " \n").unwrap();
        assert_eq!(at(&token, 100).unwrap(), "first");
        fs::remove_file(&path).unwrap();
        assert_eq!(at(&token, 200).unwrap(), "first");
    }
}
