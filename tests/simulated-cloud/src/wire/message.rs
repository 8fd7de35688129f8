//! Requests and answers as the services see them.

use std::borrow::Cow;
use std::io;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::connection::StreamWriter;

#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The query, decoded, in order.
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A request from its parts; path and query are taken from the target. A proxy's absolute
    /// target (`http://host/path`) counts as its path.
    pub fn new(
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> Request {
        let local = match target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        let (path, query) = local.split_once('?').unwrap_or((local, ""));
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            path: percent_decode_str(path).decode_utf8_lossy().into_owned(),
            query: form_urlencoded::parse(query.as_bytes())
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
            headers,
            body,
        }
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The first value of that name in the query.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of that name in the query, in order.
    pub fn query_values(&self, name: &str) -> Vec<&str> {
        self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The query as it came, without the question mark.
    pub fn raw_query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// How the end of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A `Content-Length`; the connection is kept. For bodies that are whole.
    ContentLength,
    /// `Transfer-Encoding: chunked`; the connection is kept.
    Chunked,
    /// Neither length nor chunks nor `Connection: close`, as uwsgi does: the connection's end is
    /// the body's end.
    UntilClose,
}

/// What writes a streamed body.
pub type WriteBody = Box<dyn FnOnce(&mut StreamWriter<'_>) -> io::Result<()> + Send>;

pub enum Body {
    Bytes(Vec<u8>),
    /// A body that is written while it comes about (a watch). An error ends the connection.
    Stream(WriteBody),
}

pub struct Response {
    pub status: u16,
    /// The reason phrase; none: the usual one.
    pub reason: Option<&'static str>,
    /// The headers, in order and in this case, without those of the framing.
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// How its end is told.
    pub framing: Framing,
}

impl Response {
    /// An answer with a whole body and a `Content-Length`.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status,
            reason: None,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: Body::Bytes(body.into()),
            framing: Framing::ContentLength,
        }
    }

    /// A JSON answer with a `Content-Length`.
    pub fn json(status: u16, body: &Value) -> Response {
        Response::new(status, "application/json", body.to_string())
    }

    pub fn empty(status: u16) -> Response {
        Response {
            status,
            reason: None,
            headers: Vec::new(),
            body: Body::Bytes(Vec::new()),
            framing: Framing::ContentLength,
        }
    }

    /// The same answer with one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Response {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Status line and headers, ready for the wire.
    pub(crate) fn head(&self, length: Option<usize>) -> Vec<u8> {
        let reason: Cow<'_, str> = self.reason.unwrap_or_else(|| reason(self.status)).into();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match (self.framing, length) {
            (Framing::ContentLength, Some(length)) if self.status != 204 => {
                head.push_str(&format!("Content-Length: {length}\r\n"));
            }
            (Framing::Chunked, _) => head.push_str("Transfer-Encoding: chunked\r\n"),
            _ => {}
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
