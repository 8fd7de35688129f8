//! A bearer token in a file, read again when it may have been rotated: our own for the Kubernetes
//! API, and the one that clients of the inventory API must send.
//!
//! A mounted Secret changes without notice, and is empty or missing for a moment meanwhile. So the
//! file is read again now and then, and one without a token leaves the old token in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::secret::Secret;
use crate::threads::lock;

/// A file without a token is read again after this, or after the age limit if that is shorter.
const RETRY: Duration = Duration::from_secs(1);

/// The token, as it was when the file was last read.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    age_limit: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    token: Option<Arc<Secret>>,
    /// Uptime from which the file is read again; none for now.
    due: Option<Duration>,
    /// Why the last reading brought no token; empty if it did.
    problem: String,
}

impl TokenFile {
    /// Reads nothing yet. A token is used for at most `age_limit` before the file is read again.
    pub(crate) fn new(path: PathBuf, age_limit: Duration) -> TokenFile {
        TokenFile { path, age_limit, known: Mutex::default() }
    }

    /// The token; `uptime` is the present time. An error says which file never had one, and why.
    pub(crate) fn token(&self, uptime: Duration) -> Result<Arc<Secret>, String> {
        let mut known = lock(&self.known);
        if known.due.is_none_or(|due| uptime >= due) {
            match read(&self.path) {
                Ok(token) => {
                    known.token = Some(Arc::new(token));
                    known.due = Some(uptime.saturating_add(self.age_limit));
                    known.problem.clear();
                }
                Err(problem) => {
                    known.due = Some(uptime.saturating_add(RETRY.min(self.age_limit)));
                    if known.problem != problem {
                        log::warn!("no token can be read: {problem}");
                        known.problem = problem;
                    }
                }
            }
        }
        known.token.clone().ok_or_else(|| known.problem.clone())
    }

    /// The token was refused: the next call reads the file.
    pub(crate) fn refused(&self) {
        lock(&self.known).due = None;
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let problem = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let text = fs::read_to_string(path).map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| problem(&error))?;
    match text.trim() {
        "" => Err(problem(&"the file is empty")),
        token => Ok(Secret::new(token.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::TokenFile;
    use std::fs;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(token: &TokenFile, seconds: u64) -> Result<String, String> {
        token.token(Duration::from_secs(seconds)).map(|token| token.expose().to_owned())
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_what_the_system_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        // Of a kind that has no word of its own.
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let problem = at(&TokenFile::new(path.clone(), MINUTE), 0).unwrap_err();
        let said = "No such device or address (os error 6)";
        assert_eq!(problem, format!("{}: {said}", path.display()));
    }

    #[test]
    fn a_rotated_token_is_seen_within_its_age_limit_and_at_once_after_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = TokenFile::new(path.clone(), MINUTE);
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
        let token = TokenFile::new(path.clone(), MINUTE);
        fs::write(&path, "first").unwrap();
        assert_eq!(at(&token, 0).unwrap(), "first");
        fs::write(&path, " \n").unwrap();
        assert_eq!(at(&token, 100).unwrap(), "first");
        fs::remove_file(&path).unwrap();
        assert_eq!(at(&token, 200).unwrap(), "first");
        fs::write(&path, "second").unwrap();
        assert_eq!(at(&token, 201).unwrap(), "second", "not a whole age limit later");
    }
}
