//! A bare HTTP client for the tests of the simulated Kubernetes API: it shows an answer as it stood on the wire.

use crate::client::Answer;
use simulated_cloud::journal::{Journal, Service};
use simulated_cloud::kubernetes::Kubernetes;
use simulated_cloud::wire::Server;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// A running API server and its handles.
pub(crate) struct Running {
    pub(crate) kubernetes: Arc<Kubernetes>,
    pub(crate) server: Server,
}

/// Starts one.
pub(crate) fn start() -> Running {
    let kubernetes = Kubernetes::new();
    let server = Server::start(
        Service::Kubernetes,
        kubernetes.clone(),
        Arc::new(Journal::default()),
        Arc::default(),
    )
    .unwrap();
    Running { kubernetes, server }
}

/// An answer that is read piece by piece.
pub(crate) struct Stream {
    reader: BufReader<TcpStream>,
    pub(crate) status_line: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// Sends a request and reads the head of the answer.
pub(crate) fn open(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Stream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        text.trim_end().to_owned()
    };
    let status_line = line();
    let mut headers = Vec::new();
    loop {
        let header = line();
        let Some((name, value)) = header.split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    Stream { reader, status_line, headers }
}

impl Stream {
    /// One chunk; `None` after the last one; an error when the connection ends before it.
    pub(crate) fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut size = String::new();
        self.reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16)
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
        let mut bytes = vec![0; size + 2];
        self.reader.read_exact(&mut bytes)?;
        bytes.truncate(size);
        Ok((size > 0).then_some(bytes))
    }

    /// Reads to the end.
    pub(crate) fn finish(mut self) -> Answer {
        let value = |name: &str| {
            self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let mut body = Vec::new();
        let mut complete = true;
        if let Some(length) = value("Content-Length") {
            body.resize(length.parse().unwrap(), 0);
            self.reader.read_exact(&mut body).unwrap();
        } else {
            loop {
                match self.chunk() {
                    Ok(Some(chunk)) => body.extend(chunk),
                    Ok(None) => break,
                    Err(_) => {
                        complete = false;
                        break;
                    }
                }
            }
        }
        Answer { status_line: self.status_line, headers: self.headers, body, complete }
    }
}

/// A request with a JSON content type, read to the end.
pub(crate) fn ask(
    running: &Running,
    method: &str,
    target: &str,
    content_type: &str,
    body: &str,
) -> Answer {
    let headers = [
        ("User-Agent".to_owned(), "multinic-operator/0.1".to_owned()),
        ("Content-Type".to_owned(), content_type.to_owned()),
    ];
    open(running.server.address(), method, target, &headers, body.as_bytes()).finish()
}
