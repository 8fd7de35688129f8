//! The recorded answers of a real API server, for tests.

use std::path::PathBuf;
use std::time::Duration;

/// One recorded answer.
pub(crate) struct Recording {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    request_line: String,
}

impl Recording {
    /// Reads a recording by its file name.
    pub(crate) fn load(name: &str) -> Recording {
        let folder =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings/kubernetes");
        let bytes = std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut rest = bytes.as_slice();
        let mut recording = Recording {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            request_line: String::new(),
        };
        while rest.first() == Some(&b'#') {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let line = String::from_utf8_lossy(&rest[1..end]).trim().to_owned();
            rest = &rest[end..];
            if let Some(status) = line.strip_prefix("status: ") {
                recording.status = status.split(' ').nth(1).unwrap().parse().unwrap();
            } else if let Some(request) = line.strip_prefix("request: ") {
                recording.request_line = request.to_owned();
            } else if let Some((name, value)) =
                line.strip_prefix("response-header: ").and_then(|header| header.split_once(": "))
            {
                recording.headers.push((name.to_lowercase(), value.to_owned()));
            }
        }
        recording.body = rest.to_vec();
        recording
    }

    /// The path that was asked for, without its query.
    pub(crate) fn path(&self) -> String {
        let target = self.request_line.split(' ').nth(1).unwrap();
        target.split('?').next().unwrap().to_owned()
    }

    /// `Retry-After` of the answer.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let (_, value) = self.headers.iter().find(|(name, _)| name == "retry-after")?;
        Some(Duration::from_secs(value.parse().unwrap()))
    }
}
