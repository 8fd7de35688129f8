//! A request's head, read strictly. Pure.
//!
//! What two servers might understand differently is refused: bare line feeds, folded lines, transfer
//! codings, odd lengths, doubled headers, broken percent-encoding. So nothing can be smuggled past a
//! proxy, and nothing odd reaches a handler. A declared length is checked before a byte of the body is
//! read.

use percent_encoding::percent_decode_str;

use super::{MemoryBudget, Method, Request};
use crate::secret::Secret;

/// More header lines than any honest client sends.
const MAX_HEADERS: usize = 64;

/// Longest path and query.
const MAX_TARGET_BYTES: usize = 4096;

const SCHEME: &str = "http://";

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A head that was accepted.
#[derive(Debug)]
pub struct Head {
    /// What it asks for, as yet without its body.
    pub request: Request,
    /// Bytes of the body.
    pub length: usize,
    /// The client waits to hear that its body is wanted.
    pub(crate) expects_continue: bool,
    /// The client wants no further answer on this connection.
    pub(crate) close: bool,
}

/// A head that was not.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status to answer with.
    pub status: u16,
    /// One word for the metric.
    pub(crate) reason: &'static str,
    /// For the client: what is wrong with its request.
    pub(crate) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: &'static str, message: &str) -> Refusal {
        Refusal { status, reason, message: message.to_owned() }
    }
}

fn bad(message: &str) -> Refusal {
    Refusal::new(400, "bad-request", message)
}

/// Where the head ends, behind its empty line. `scanned` remembers what was looked at before.
///
/// # Errors
/// As soon as a byte can't be part of a head, such as the first of a TLS handshake.
pub fn end_of_head(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, Refusal> {
    while let Some(byte) = bytes.get(*scanned) {
        match byte {
            b'\n' if *scanned == 0 || bytes[*scanned - 1] != b'\r' => {
                return Err(bad("a line ends without a carriage return"));
            }
            0..=8 | 11 | 12 | 14..=31 | 127 => {
                return Err(bad(
                    "a control character in the head; this port speaks plain HTTP/1.1",
                ));
            }
            _ => {}
        }
        *scanned += 1;
        if bytes[..*scanned].ends_with(END_OF_HEAD) {
            return Ok(Some(*scanned));
        }
    }
    Ok(None)
}

/// Is an answer to this to have no body? Read from its first word, for heads that can't be parsed.
pub(super) fn is_for_a_head_only(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"\r\n").unwrap_or(bytes).starts_with(b"HEAD ")
}

/// The refusal of a head that fills the buffer without ending.
pub(super) fn too_large(bytes: &[u8]) -> Refusal {
    match bytes.contains(&b'\n') {
        true => Refusal::new(431, "too-large", "the head of the request is too large"),
        false => Refusal::new(414, "too-large", "the path is too long"),
    }
}

/// Reads a whole head; `body_limit` is as in [`Limits::body_bytes`](super::Limits).
///
/// # Errors
/// If it isn't a request that a handler may see.
pub fn parse(bytes: &[u8], body_limit: usize) -> Result<Head, Refusal> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut lines);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the head is not complete")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "too-large", "too many headers"));
        }
        Err(httparse::Error::Version) => {
            return Err(Refusal::new(505, "bad-request", "only HTTP/1.0 and HTTP/1.1 are spoken"));
        }
        Err(error) => return Err(bad(&format!("the head is malformed: {error}"))),
    }
    // httparse has seen all three, or it would not have called the head complete.
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let old = parsed.version == Some(0);
    let headers = Headers(parsed.headers);
    let method = read_method(method, body_limit)?;
    headers.check_host(old)?;
    let length = headers.length(method, body_limit)?;
    let (path, query) = read_target(method, target)?;
    let request = Request {
        method,
        path,
        query,
        if_none_match: headers.joined("If-None-Match")?,
        authorization: headers.single("Authorization")?.map(|text| Secret::new(text.to_owned())),
        origin: headers.single("Origin")?.map(str::to_owned),
        provider_id: headers.single("x-provider-id")?.map(str::to_owned),
        body: Vec::new(),
        memory: MemoryBudget::default(),
    };
    let close = old || headers.has_token("Connection", "close")?;
    let expects_continue = headers.has_token("Expect", "100-continue")?;
    Ok(Head { request, length, expects_continue, close })
}

fn read_method(method: &str, body_limit: usize) -> Result<Method, Refusal> {
    match method {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "OPTIONS" => Ok(Method::Options),
        "POST" if body_limit > 0 => Ok(Method::Post),
        _ => {
            let message = "only GET, HEAD and OPTIONS are allowed: nothing can be changed here";
            Err(Refusal::new(405, "method", message))
        }
    }
}

/// Path and query of a target: `/path?query`, `http://host/path`, or `*` for OPTIONS.
fn read_target(method: Method, target: &str) -> Result<(String, Vec<(String, String)>), Refusal> {
    if target.len() > MAX_TARGET_BYTES {
        return Err(Refusal::new(414, "too-large", "the path is too long"));
    }
    if !target.is_ascii() || target.contains('#') {
        return Err(bad("the path holds characters that must be percent-encoded"));
    }
    if target == "*" && method == Method::Options {
        return Ok((target.to_owned(), Vec::new()));
    }
    let local = behind_authority(target)?;
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    let path = if path.is_empty() { "/" } else { path };
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
    });
    Ok((decode(path)?, pairs.collect::<Result<_, Refusal>>()?))
}

/// Path and query of a target that may begin with a scheme, in any case, and an authority.
fn behind_authority(target: &str) -> Result<&str, Refusal> {
    let (scheme, rest) = target.split_at_checked(SCHEME.len()).unwrap_or((target, ""));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    match (target.starts_with('/'), scheme.eq_ignore_ascii_case(SCHEME)) {
        (true, _) => Ok(target),
        (_, true) if end == 0 => Err(bad("the target names no host")),
        (_, true) => Ok(&rest[end..]),
        _ => Err(bad("the path does not begin with a slash")),
    }
}

/// Resolves percent-encoding; every `%` must be followed by two hexadecimal digits.
fn decode(text: &str) -> Result<String, Refusal> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_escape) {
        return Err(bad("a percent sign is not followed by two hexadecimal digits"));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| bad("the percent-encoding is not valid UTF-8"))?;
    match decoded.chars().any(char::is_control) {
        true => Err(bad("the path holds control characters")),
        false => Ok(decoded.into_owned()),
    }
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    /// The declared length of the body, within the limit.
    fn length(&self, method: Method, limit: usize) -> Result<usize, Refusal> {
        let chunked = self.single("Transfer-Encoding")?.is_some();
        let length = self.single("Content-Length")?;
        if method != Method::Post {
            return match length {
                _ if chunked => Err(bad("a request must not have a body")),
                None | Some("0") => Ok(0),
                Some(_) => Err(Refusal::new(413, "body", "a request must not have a body")),
            };
        }
        let Some(length) = length.filter(|_| !chunked) else {
            let message = "a Content-Length is required, and no Transfer-Encoding";
            return Err(Refusal::new(411, "body", message));
        };
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad("the Content-Length is no number"));
        }
        // A number that doesn't fit is too large as well.
        let length = length.parse().ok().filter(|length| *length <= limit);
        length.ok_or_else(|| {
            Refusal::new(413, "body", &format!("the body has more than {limit} bytes"))
        })
    }

    /// No doubt about the host.
    fn check_host(&self, old: bool) -> Result<(), Refusal> {
        let host = self.single("Host")?;
        if host.is_none() && !old {
            return Err(bad("the Host header is missing"));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
        match host.unwrap_or_default().bytes().all(allowed) {
            true => Ok(()),
            false => Err(bad("the Host header is not a host")),
        }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = Result<&'a str, Refusal>> {
        let with_name = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        with_name.map(|header| {
            let text = str::from_utf8(header.value);
            text.map(str::trim).map_err(|_| bad("a header is not valid UTF-8"))
        })
    }

    fn single(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.values(name);
        let first = values.next().transpose()?;
        match values.next() {
            None => Ok(first),
            Some(_) => Err(bad(&format!("more than one {name} header"))),
        }
    }

    fn joined(&self, name: &str) -> Result<Option<String>, Refusal> {
        let values = self.values(name).collect::<Result<Vec<_>, _>>()?;
        Ok((!values.is_empty()).then(|| values.join(", ")))
    }

    fn has_token(&self, name: &str, token: &str) -> Result<bool, Refusal> {
        let joined = self.joined(name)?.unwrap_or_default();
        Ok(joined.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    }
}
