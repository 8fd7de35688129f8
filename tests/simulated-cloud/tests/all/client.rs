//! A client that shows an answer as it is on the wire: names in their case, and how it ended.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a test waits for bytes before it fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing promises, where that was looked at.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.status_line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.body.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The answer in these bytes; none if they don't begin like one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status_line = lines.next()?.to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let body = bytes[end + 4..].to_vec();
        Some(Answer { status_line, headers, body, complete: true })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether only the connection's end tells where the body ends.
    pub(crate) fn until_close(&self) -> bool {
        self.header("Content-Length").is_none() && self.header("Transfer-Encoding").is_none()
    }
}

/// Connects to a simulated service.
pub(crate) fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Reads one answer; none if the connection ends before its head does.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(answer) = Answer::parse(&bytes) {
            let declared = answer.header("Content-Length");
            let length = match declared.map(|text| text.parse().unwrap()) {
                None if answer.status_line.contains(" 204 ") => Some(0),
                length => length,
            };
            if length.is_some_and(|length: usize| answer.body.len() >= length) {
                return Some(answer);
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return Answer::parse(&bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Sends a request on a connection of its own and reads the answer.
pub(crate) fn exchange(url: &str, request: &[u8]) -> Option<Answer> {
    let mut stream = connect(url);
    stream.write_all(request).unwrap();
    read_answer(&mut stream)
}
