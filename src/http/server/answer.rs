//! The head of an answer, as tiny_http writes it.

use std::io;

use tiny_http::{HTTPVersion, Header, StatusCode};

use super::Response;

/// Names the program; a version would only help those who look for old ones.
const SERVER: (&str, &str) = ("Server", "multinic-operator");

/// The bytes up to the body. tiny_http keeps the `Connection` header to itself and states a length
/// even where HTTP forbids one, so those two lines are put right here.
pub(super) fn head(response: &Response, close: bool) -> io::Result<Vec<u8>> {
    let own = response.headers.iter().map(|(name, value)| (*name, value.as_str()));
    // A value that could end the line ends here instead: tiny_http would let it through.
    let harmless = |(_, value): &(&str, &str)| {
        value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    };
    let headers = own.chain([SERVER]).filter(harmless);
    let headers: Vec<_> =
        headers.filter_map(|(name, value)| Header::from_bytes(name, value).ok()).collect();
    let mut bytes = Vec::with_capacity(512);
    tiny_http::Response::new(
        StatusCode(response.status),
        headers,
        io::empty(),
        Some(response.body.len()),
        None,
    )
    // Prepared bytes always have a length.
    .with_chunked_threshold(usize::MAX)
    .raw_print(&mut bytes, HTTPVersion(1, 1), &[], true, None)?;
    if has_no_body(response.status) {
        remove(&mut bytes, b"Content-Length: 0\r\n");
    }
    if close {
        let before_empty_line = bytes.len().saturating_sub(2);
        bytes.splice(before_empty_line..before_empty_line, *b"Connection: close\r\n");
    }
    Ok(bytes)
}

/// Statuses whose answers end with the head.
pub(super) fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn remove(bytes: &mut Vec<u8>, line: &[u8]) {
    if let Some(at) = bytes.windows(line.len()).position(|window| window == line) {
        bytes.drain(at..at + line.len());
    }
}
