//! The HTTP server under the simulated services: kept connections, and everything that goes wrong
//! on purpose.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::client::{LIMIT, connect, exchange, read_answer};
use simulated_cloud::wire::{Body, Framing, Handler, Limits, Request, Response, Server};
use simulated_cloud::{Fault, FaultKind, Faults, Journal, Service};

const GET: &[u8] = b"GET /some%20where?a=1&b=two+words HTTP/1.1\r\nHost: x\r\n\r\n";

/// Answers with what it was asked; `/stream` in two chunks.
struct Echo;

impl Handler for Echo {
    fn handle(&self, request: &Request) -> Response {
        let text = format!(
            "{} {} {:?} {}",
            request.method,
            request.path,
            request.query,
            String::from_utf8_lossy(&request.body)
        );
        let mut response = Response::new(200, "text/plain", text);
        match request.path.as_str() {
            "/close" => response.framing = Framing::UntilClose,
            "/stream" => {
                response.framing = Framing::Chunked;
                response.body = Body::Stream(Box::new(|writer| {
                    writer.send(b"one")?;
                    writer.send(b"three")
                }));
            }
            "/torn" => {
                response.framing = Framing::Chunked;
                response.body = Body::Stream(Box::new(|writer| {
                    writer.send(b"one")?;
                    writer.cut();
                    writer.send(b"lost")
                }));
            }
            "/watch" => {
                response.framing = Framing::Chunked;
                response.body = Body::Stream(Box::new(|writer| {
                    writer.send(b"one")?;
                    while !writer.peer_is_gone() {
                        thread::yield_now();
                    }
                    Ok(())
                }));
            }
            _ => {}
        }
        response
    }

    fn limits(&self) -> Limits {
        Limits { request_line: Some(200), head: Some(400) }
    }
}

struct Setup {
    server: Server,
    journal: Arc<Journal>,
    faults: Arc<Faults>,
}

fn setup() -> Setup {
    let journal = Arc::new(Journal::new());
    let faults = Arc::new(Faults::new());
    let server =
        Server::start(Service::Nova, Arc::new(Echo), Arc::clone(&journal), Arc::clone(&faults))
            .unwrap();
    Setup { server, journal, faults }
}

fn read_all(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap())
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let setup = setup();
    let mut stream = connect(&setup.server.url());
    for body in ["first", "second"] {
        let request = format!("POST /x HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut stream).unwrap();
        assert_eq!(answer.body, format!("POST /x [] {body}").as_bytes());
    }
    assert_eq!(setup.journal.connections(Service::Nova), 1);
    assert_eq!(setup.journal.count(Service::Nova), 2);
}

#[test]
fn path_and_query_are_decoded_and_logged_as_they_came() {
    let setup = setup();
    let answer = exchange(&setup.server.url(), GET).unwrap();
    assert_eq!(
        String::from_utf8(answer.body).unwrap(),
        r#"GET /some where [("a", "1"), ("b", "two words")] "#
    );
    assert!(
        setup
            .journal
            .wait_for(|log| log.iter().all(|request| request.answered_ms.is_some()), LIMIT)
    );
    let logged = setup.journal.requests(Service::Nova).remove(0);
    assert_eq!(logged.target, "/some%20where?a=1&b=two+words");
    assert_eq!(logged.status, Some(200));
    assert_eq!(logged.head_bytes, GET.len());
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    let setup = setup();
    let mut stream = connect(&setup.server.url());
    stream.write_all(b"GET /close HTTP/1.1\r\n\r\n").unwrap();
    let answer = read_all(&mut stream).unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nGET /close [] ");
}

#[test]
fn a_streamed_body_goes_out_in_chunks_and_keeps_the_connection() {
    let setup = setup();
    let mut stream = connect(&setup.server.url());
    stream.write_all(b"GET /stream HTTP/1.1\r\n\r\nGET /close HTTP/1.1\r\n\r\n").unwrap();
    let answers = read_all(&mut stream).unwrap();
    assert!(answers.contains("\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\nHTTP/1.1 200 OK"));
}

#[test]
fn a_torn_stream_has_no_last_chunk() {
    let setup = setup();
    let mut stream = connect(&setup.server.url());
    stream.write_all(b"GET /torn HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_all(&mut stream).unwrap().ends_with("\r\n\r\n3\r\none\r\n"));
}

#[test]
fn a_stream_learns_that_its_client_is_gone() {
    let setup = setup();
    let mut stream = connect(&setup.server.url());
    stream.write_all(b"GET /watch HTTP/1.1\r\n\r\n").unwrap();
    let mut first = [0; 10];
    stream.read_exact(&mut first).unwrap();
    drop(stream);
    assert!(
        setup
            .journal
            .wait_for(|log| log.iter().all(|request| request.answered_ms.is_some()), LIMIT)
    );
}

#[test]
fn a_long_request_line_is_a_414_of_http_1_0() {
    let setup = setup();
    let request = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(190));
    let answer = exchange(&setup.server.url(), request.as_bytes()).unwrap();
    assert_eq!(answer.status_line, "HTTP/1.0 414 Request URI Too Long");
}

#[test]
fn a_long_head_ends_the_connection_without_an_answer() {
    let setup = setup();
    let request = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(400));
    assert!(exchange(&setup.server.url(), request.as_bytes()).is_none());
    assert_eq!(setup.journal.requests(Service::Nova)[0].status, None);
}

#[test]
fn a_cut_body_is_shorter_than_declared() {
    let setup = setup();
    let cut = FaultKind::CutBody { after_bytes: 4 };
    setup.faults.add(Fault::once(Service::Nova, cut));
    let mut stream = connect(&setup.server.url());
    stream.write_all(GET).unwrap();
    let answer = read_all(&mut stream).unwrap();
    assert!(answer.ends_with("Content-Length: 49\r\n\r\nGET "), "{answer}");
}

#[test]
fn a_cut_body_without_a_length_looks_complete() {
    let setup = setup();
    let cut = FaultKind::CutBodyUntilClose { after_bytes: 4 };
    setup.faults.add(Fault::once(Service::Nova, cut));
    let answer = exchange(&setup.server.url(), GET).unwrap();
    assert!(answer.until_close());
    assert_eq!(answer.body, b"GET ");
}

#[test]
fn a_reset_is_seen_as_one() {
    let setup = setup();
    setup.faults.add(Fault::once(Service::Nova, FaultKind::Reset));
    let mut stream = connect(&setup.server.url());
    stream.write_all(GET).unwrap();
    let error = read_all(&mut stream).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_close_without_an_answer_is_no_reset() {
    let setup = setup();
    let close = FaultKind::CloseWithoutAnswer;
    setup.faults.add(Fault::once(Service::Nova, close));
    let mut stream = connect(&setup.server.url());
    stream.write_all(GET).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), "");
}

#[test]
fn a_fault_meets_so_many_requests_of_its_kind_and_no_others() {
    let setup = setup();
    let fault = Fault::once(
        Service::Nova,
        FaultKind::Status {
            status: 503,
            headers: vec![("Retry-After".to_owned(), "7".to_owned())],
            body: b"busy".to_vec(),
        },
    );
    setup.faults.add(fault.times(2).method("GET").path_contains("b=two"));
    let url = setup.server.url();
    let status = |request: &[u8]| exchange(&url, request).unwrap().status_line;
    assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1 200 OK");
    assert_eq!(status(GET), "HTTP/1.1 503 Service Unavailable");
    assert_eq!(status(GET), "HTTP/1.1 503 Service Unavailable");
    assert_eq!(status(GET), "HTTP/1.1 200 OK");
    assert!(setup.faults.pending().is_empty());
}

#[test]
fn a_hanging_request_is_answered_when_the_faults_are_cleared() {
    let setup = setup();
    setup.faults.add(Fault::once(Service::Nova, FaultKind::Hang));
    let mut stream = connect(&setup.server.url());
    stream.write_all(GET).unwrap();
    assert!(setup.journal.wait_for(|log| log.len() == 1, LIMIT));
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    setup.faults.clear();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status_line, "HTTP/1.1 200 OK");
}

#[test]
fn stopping_ends_hanging_and_idle_connections_and_frees_the_port() {
    let Setup { mut server, journal, faults } = setup();
    let mut idle = connect(&server.url());
    let mut hanging = connect(&server.url());
    faults.add(Fault::always(Service::Nova, FaultKind::Hang));
    hanging.write_all(GET).unwrap();
    assert!(journal.wait_for(|log| log.len() == 1, LIMIT));
    server.stop();
    assert_eq!(read_all(&mut hanging).unwrap(), "");
    assert_eq!(read_all(&mut idle).unwrap(), "");
    let refused = TcpStream::connect(server.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    faults.clear();
    let again = Server::start_at(server.address(), Service::Nova, Arc::new(Echo), journal, faults);
    let answer = exchange(&again.unwrap().url(), GET).unwrap();
    assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
}

#[test]
fn latency_comes_before_the_answer() {
    let setup = setup();
    let latency = Duration::from_millis(50);
    setup.faults.set_latency(Service::Nova, latency);
    assert!(exchange(&setup.server.url(), GET).is_some());
    assert!(
        setup
            .journal
            .wait_for(|log| log.iter().all(|request| request.answered_ms.is_some()), LIMIT)
    );
    let logged = setup.journal.requests(Service::Nova).remove(0);
    assert!(logged.answered_ms.unwrap() >= logged.arrived_ms + 49);
}
