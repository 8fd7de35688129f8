//! One request off a stream: the head, then the route, then the length, and only then the body.

use std::io::{self, Read, Write};

/// A head may not be longer.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// More header lines than any honest client sends.
const MAX_HEADERS: usize = 64;
/// A body may not be longer (SPEC section 8).
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Taken for a body before any of it has come; the rest is taken as it comes.
const FIRST_BODY_BYTES: usize = 64 * 1024;
/// What is read of a head at a time.
const PIECE_BYTES: usize = 4096;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `GET /healthz`
    Health,
    /// `POST /v1/k8s/multinic/node-configs`
    NodeConfigs,
}

/// A whole request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) route: Route,
    /// `x-provider-id`, unless blank.
    pub(super) provider_id: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why no request was had.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client is told so.
    Refused(Refusal),
    /// The client is gone, or never said anything: there is nobody to tell.
    Gone,
}

/// A request that is answered without being read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: String,
    /// For `Allow`.
    pub(super) allowed: Option<&'static str>,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                refused(408, "the request took too long")
            }
            _ => Failure::Gone,
        }
    }
}

fn refused(status: u16, reason: &str) -> Failure {
    Failure::Refused(Refusal { status, reason: reason.to_owned(), allowed: None })
}

/// What the head says.
#[derive(Debug)]
struct Head {
    route: Route,
    provider_id: Option<String>,
    length: usize,
    /// The client waits to be told that its body is wanted.
    expects_continue: bool,
}

/// Reads one request.
pub(super) fn read(stream: &mut (impl Read + Write)) -> Result<Request, Failure> {
    let (bytes, end) = read_head(stream)?;
    let head = parse(&bytes[..end])?;
    let mut body = Vec::with_capacity(head.length.min(FIRST_BODY_BYTES));
    let early = &bytes[end..];
    body.extend_from_slice(&early[..early.len().min(head.length)]);
    if head.expects_continue && body.len() < head.length {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let missing = head.length - body.len();
    if stream.take(missing as u64).read_to_end(&mut body)? < missing {
        return Err(Failure::Gone);
    }
    Ok(Request { route: head.route, provider_id: head.provider_id, body })
}

/// All bytes up to the head's end and perhaps some beyond, and where the head ends.
fn read_head(stream: &mut impl Read) -> Result<(Vec<u8>, usize), Failure> {
    const END: &[u8] = b"\r\n\r\n";
    let (mut bytes, mut piece) = (Vec::new(), [0; PIECE_BYTES]);
    loop {
        let count = match stream.read(&mut piece) {
            Ok(0) => return Err(Failure::Gone),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Nothing was asked: a connection opened ahead of need.
            Err(_) if bytes.is_empty() => return Err(Failure::Gone),
            Err(error) => return Err(error.into()),
        };
        let searched = bytes.len().saturating_sub(END.len() - 1);
        bytes.extend_from_slice(&piece[..count]);
        let found = bytes[searched..].windows(END.len()).position(|window| window == END);
        match found.map(|at| searched + at + END.len()) {
            Some(end) if end <= MAX_HEAD_BYTES => return Ok((bytes, end)),
            None if bytes.len() <= MAX_HEAD_BYTES => {}
            _ => return Err(refused(431, "the head of the request is too large")),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Head, Failure> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut lines);
    let complete = parsed.parse(bytes);
    match complete {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(refused(400, "the head is not complete")),
        Err(httparse::Error::TooManyHeaders) => return Err(refused(431, "too many headers")),
        Err(error) => return Err(refused(400, &format!("the head is malformed: {error}"))),
    }
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let route = route(method, target).map_err(Failure::Refused)?;
    let headers = Headers(parsed.headers);
    let length = match route {
        Route::Health => 0,
        Route::NodeConfigs => headers.length()?,
    };
    let provider_id = headers.last("x-provider-id").filter(|id| !id.is_empty());
    let expects_continue = headers
        .last("expect")
        .is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue"));
    Ok(Head { route, provider_id, length, expects_continue })
}

fn route(method: &str, target: &str) -> Result<Route, Refusal> {
    let path = target.split('?').next().unwrap_or_default();
    let (route, allowed) = match path {
        "/healthz" => (Route::Health, "GET"),
        crate::targets::viola::PATH => (Route::NodeConfigs, "POST"),
        _ => {
            let reason =
                format!("not found; there are {} and /healthz", crate::targets::viola::PATH);
            return Err(Refusal { status: 404, reason, allowed: None });
        }
    };
    match method == allowed {
        true => Ok(route),
        false => {
            let reason = format!("only {allowed} is allowed here");
            Err(Refusal { status: 405, reason, allowed: Some(allowed) })
        }
    }
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl Headers<'_> {
    fn all(&self, name: &str) -> impl Iterator<Item = String> {
        let with_name = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        with_name.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    }

    fn last(&self, name: &str) -> Option<String> {
        self.all(name).last()
    }

    /// The declared length of the body, within the limit.
    fn length(&self) -> Result<usize, Failure> {
        if self.last("transfer-encoding").is_some() {
            return Err(refused(411, "a Content-Length is required, not a Transfer-Encoding"));
        }
        let mut lengths: Vec<String> = self.all("content-length").collect();
        lengths.dedup();
        let length = match lengths.as_slice() {
            [] => return Err(refused(411, "a Content-Length is required")),
            [length] => length,
            _ => return Err(refused(400, "more than one Content-Length")),
        };
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused(400, "the Content-Length is no number"));
        }
        // A number that doesn't fit is too large as well.
        let length = length.parse().ok().filter(|length| *length <= MAX_BODY_BYTES);
        length.ok_or_else(|| {
            refused(
                413,
                &format!("the body has more than {MAX_BODY_BYTES} bytes; post fewer nodes"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, MAX_BODY_BYTES, Request, Route, read};
    use std::io::{self, Read, Write};

    const POST: &str = "POST /v1/k8s/multinic/node-configs HTTP/1.1\r\nHost: h\r\n";

    /// A client whose bytes come one by one, and what it was sent.
    struct Client<'a> {
        bytes: &'a [u8],
        told: Vec<u8>,
    }

    impl Read for Client<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.bytes.read(&mut buffer[..length])
        }
    }

    impl Write for Client<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.told.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn status_of(request: &str) -> u16 {
        match read(&mut Client { bytes: request.as_bytes(), told: Vec::new() }) {
            Ok(_) => 200,
            Err(Failure::Refused(refusal)) => refusal.status,
            Err(Failure::Gone) => 0,
        }
    }

    #[test]
    fn a_request_is_read_to_the_end_of_its_body_and_no_further() {
        let text = format!(
            "{POST}X-Provider-ID:  biz-1 \r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n[ ]more"
        );
        let mut client = Client { bytes: text.as_bytes(), told: Vec::new() };
        let request = read(&mut client).unwrap();
        let provider_id = Some("biz-1".to_owned());
        let expected = Request { route: Route::NodeConfigs, provider_id, body: b"[ ]".to_vec() };
        assert_eq!(request, expected);
        assert_eq!(client.bytes, b"more");
        assert_eq!(client.told, b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    #[test]
    fn a_length_is_checked_before_a_byte_of_the_body_is_asked_for() {
        let with = |headers: &str| status_of(&format!("{POST}{headers}\r\n"));
        assert_eq!(with("Content-Length: 0\r\n"), 200);
        assert_eq!(with("Content-Length: 00\r\nContent-Length: 00\r\n"), 200);
        assert_eq!(with(&format!("Content-Length: {MAX_BODY_BYTES}\r\n")), 0);
        assert_eq!(with(&format!("Content-Length: {}\r\n", MAX_BODY_BYTES + 1)), 413);
        assert_eq!(with("Content-Length: 1000000000000000000\r\n"), 413);
        assert_eq!(with("Content-Length: 99999999999999999999999999\r\n"), 413);
        assert_eq!(with(""), 411);
        assert_eq!(with("Transfer-Encoding: chunked\r\n"), 411);
        assert_eq!(with("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n"), 411);
        for length in ["-1", "+1", "", "0x10", "1, 1"] {
            assert_eq!(with(&format!("Content-Length: {length}\r\n")), 400, "{length:?}");
        }
        assert_eq!(with("Content-Length: 1\r\nContent-Length: 2\r\n"), 400);
    }

    #[test]
    fn what_is_not_asked_for_rightly_is_refused_by_its_head() {
        assert_eq!(status_of("GET /healthz?full HTTP/1.1\r\n\r\n"), 200);
        assert_eq!(status_of("GET /health HTTP/1.1\r\n\r\n"), 404);
        assert_eq!(status_of("POST /healthz HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(status_of("GET /v1/k8s/multinic/node-configs HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(status_of("\u{16}\u{3}\u{1}\r\n\r\n"), 400);
        assert_eq!(status_of(&format!("{POST}A: {}\r\n\r\n", "a".repeat(17_000))), 431);
        assert_eq!(status_of(&format!("{POST}{}\r\n", "A: a\r\n".repeat(70))), 431);
        assert_eq!(status_of("POST /v1"), 0);
    }
}
