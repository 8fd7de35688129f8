//! A client that sends exactly the bytes it is told and reads exactly one answer.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use multinic_operator::clock::Clock;
use multinic_operator::http::server::{Handler, Limits, Server};

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn serve(handler: Arc<dyn Handler>, limits: Limits) -> Server {
    serve_as("test", handler, limits)
}

pub(crate) fn serve_as(name: &'static str, handler: Arc<dyn Handler>, limits: Limits) -> Server {
    let address = "127.0.0.1:0".parse().unwrap();
    Server::start(name, address, limits, handler, Clock::system(), Arc::default()).unwrap()
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes and reads one answer; none if the connection ends without one.
pub(crate) fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Option<Answer> {
    // A server that has refused already may have closed its side.
    let _ = stream.write_all(bytes);
    read_answer(stream, bytes.starts_with(b"HEAD"))
}

pub(crate) fn read_answer(stream: &mut TcpStream, without_body: bool) -> Option<Answer> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.trim_end().lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<_, _> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; if without_body { 0 } else { length }];
    stream.read_exact(&mut body).ok()?;
    Some(Answer { status, headers, body })
}

/// One request on a connection of its own.
pub(crate) fn request(address: SocketAddr, method: &str, target: &str, headers: &str) -> Answer {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    exchange(&mut connect(address), text.as_bytes()).unwrap()
}

pub(crate) fn get(address: SocketAddr, target: &str) -> Answer {
    request(address, "GET", target, "")
}
