//! A small HTTP server, with or without TLS, that remembers what it was asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Runs until the test's process ends.
pub struct Server {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each request with `200` and `{}`, and keeps connections.
    pub fn start(tls: Option<Arc<ServerConfig>>) -> Server {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let address = listen(move |socket| match &tls {
            None => answer_all(socket, &seen),
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                answer_all(StreamOwned::new(connection, socket), &seen);
            }
        });
        Server { address, heads }
    }

    /// Answers whatever comes first with these bytes, and then says no more.
    pub fn saying(bytes: &'static [u8]) -> Server {
        let address = listen(move |mut socket| {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(bytes);
            let _ = socket.read_to_end(&mut Vec::new());
        });
        Server { address, heads: Arc::default() }
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Serves each connection on a thread of its own.
pub fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(socket));
        }
    });
    address
}

/// A head to its blank line; none if the connection ends before.
pub fn read_head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|count| count == 1) {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn answer_all(mut stream: impl Read + Write, seen: &Mutex<Vec<String>>) {
    while let Some(head) = read_head(&mut stream) {
        seen.lock().unwrap().push(head);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        if stream.write_all(answer).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}
