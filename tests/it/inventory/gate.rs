//! What passes the gate, and how the rest is refused.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use multinic_operator::clock::Clock;
use multinic_operator::http::server::{Body, Limits, Method, Request, Response, Server};

use crate::inventory::client::{connect, exchange, get, read_answer, request, serve};
use crate::skip::skipped;

/// Answers with what it understood.
fn echo(request: &Request) -> Response {
    assert!(request.path != "/panic", "as the test asked");
    let text = format!("{:?} {} {:?}", request.method, request.path, request.query);
    let status = if request.path == "/not-modified" { 304 } else { 200 };
    let body = if status == 304 { Body::Empty } else { Body::Owned(text.into_bytes()) };
    let evil = "a\r\nSet-Cookie: b".to_owned();
    Response::new(status, body).with("Content-Type", "text/plain").with("X-Evil", evil)
}

fn server() -> Server {
    let head = Duration::from_millis(300);
    serve(Arc::new(echo), Limits { head, idle: Duration::from_millis(600), ..Limits::default() })
}

fn serve_at(address: SocketAddr) -> Server {
    let (clock, metrics) = (Clock::system(), Arc::default());
    Server::start("test", address, Limits::default(), Arc::new(echo), clock, metrics).unwrap()
}

fn raw(server: &Server, bytes: &[u8]) -> Option<(u16, String)> {
    let answer = exchange(&mut connect(server.address()), bytes)?;
    Some((answer.status, String::from_utf8(answer.body).unwrap()))
}

#[test]
fn a_good_request_arrives_decoded_and_the_connection_is_kept() {
    let server = server();
    let mut stream = connect(server.address());
    for _ in 0..3 {
        let text = "GET /a%20b/%ED%95%9C?x=1&y=%26+z&flag HTTP/1.1\r\nHost: h:1\r\n\r\n";
        let answer = exchange(&mut stream, text.as_bytes()).unwrap();
        let expected = r#"Get /a b/한 [("x", "1"), ("y", "& z"), ("flag", "")]"#;
        assert_eq!(String::from_utf8(answer.body.clone()).unwrap(), expected);
        assert_eq!(answer.header("connection"), None);
        assert_eq!(answer.header("server"), Some("multinic-operator"));
        assert!(answer.header("date").unwrap().ends_with("GMT"));
        assert_eq!(answer.header("x-evil"), None, "a header must not end its line");
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[test]
fn head_has_the_length_and_no_body_and_not_modified_has_neither() {
    let server = server();
    let mut stream = connect(server.address());
    let head = exchange(&mut stream, b"HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(head.header("content-length"), Some("10"));
    let text = b"GET /not-modified HTTP/1.1\r\nHost: h\r\n\r\n";
    let answer = exchange(&mut stream, text).unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (304, None));
    // The next answer begins right behind, so nothing else was sent.
    assert_eq!(exchange(&mut stream, text).unwrap().status, 304);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = server();
    let mut stream = connect(server.address());
    let many: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    let first = exchange(&mut stream, many.as_bytes()).unwrap();
    assert_eq!(first.body, b"Get /0 []");
    for number in 1..50 {
        let answer = read_answer(&mut stream, false).unwrap();
        assert_eq!(answer.body, format!("Get /{number} []").as_bytes());
    }
}

#[test]
fn a_connection_ends_when_the_client_wants_it_or_speaks_http_1_0() {
    let server = server();
    for text in
        ["GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"]
    {
        let mut stream = connect(server.address());
        let answer = exchange(&mut stream, text.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(read_answer(&mut stream, false).is_none());
    }
}

#[test]
fn what_two_servers_might_read_differently_is_refused() {
    let server = server();
    let cases: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\nHost: h\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\n\r\n", 400),
        // One empty line before a request is to be forgiven (RFC 9112 section 2.2).
        ("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000000000\r\n\r\n", 413),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", 413),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello", 413),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", 405),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        ("GET http://h/x?y=1 HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        ("GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET https://h/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /% HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /%2 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /?a=%0d%0a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /#x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /한 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("\u{16}\u{3}\u{1}\u{2}", 400),
        ("nonsense\r\n\r\n", 400),
    ];
    for (text, status) in cases {
        let (actual, body) =
            raw(&server, text.as_bytes()).unwrap_or_else(|| panic!("{text:?} got no answer"));
        assert_eq!(actual, *status, "{text:?}: {body}");
        if *status != 200 {
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert!(!json["error"].as_str().unwrap().is_empty(), "{text:?}");
        }
    }
}

#[test]
fn a_target_in_absolute_form_is_read_behind_its_authority() {
    let server = server();
    for (target, read) in [
        ("http://h/x?y=1", r#"Get /x [("y", "1")]"#),
        ("http://h", "Get / []"),
        ("http://h?x=1", r#"Get / [("x", "1")]"#),
        ("http://h?a=/healthz", r#"Get / [("a", "/healthz")]"#),
        ("HTTP://h:1/x", "Get /x []"),
    ] {
        let answer = get(server.address(), target);
        let body = String::from_utf8(answer.body).unwrap();
        assert_eq!((answer.status, body.as_str()), (200, read), "{target}");
    }
}

#[test]
fn a_refused_head_has_no_body_either() {
    let server = server();
    for text in [
        "HEAD /% HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "\r\nHEAD /% HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "HEAD / HTTP/1.1\nHost: h\n\n".to_owned(),
        format!("HEAD /{}", "x".repeat(20_000)),
    ] {
        let mut stream = connect(server.address());
        stream.write_all(text.as_bytes()).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert!(all.starts_with("HTTP/1.1 4") && all.contains("Content-Length: "), "{all:?}");
        assert!(all.ends_with("\r\n\r\n"), "{text:.40}: {all:?}");
    }
}

#[test]
fn a_refused_method_says_which_are_allowed() {
    let answer = request(server().address(), "DELETE", "/x", "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn heads_have_a_limit_in_bytes_and_lines() {
    let server = server();
    let long = "x".repeat(20_000);
    let many = "X: y\r\n".repeat(100);
    for (text, status) in [
        (format!("GET /{long}"), 414),
        (format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", &long[..5000]), 414),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"), 431),
    ] {
        assert_eq!(raw(&server, text.as_bytes()).unwrap().0, status);
    }
}

#[test]
fn a_head_that_drips_is_ended_by_one_deadline() {
    let server = server();
    let mut stream = connect(server.address());
    let began = Instant::now();
    let mut answer = None;
    stream.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
    while answer.is_none() && began.elapsed() < Duration::from_secs(3) {
        answer = exchange(&mut stream, b"G");
    }
    assert_eq!(answer.unwrap().status, 408);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn idle_connections_end_silently() {
    let server = server();
    let mut stream = connect(server.address());
    assert_eq!(exchange(&mut stream, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().status, 200);
    let began = Instant::now();
    assert!(read_answer(&mut stream, false).is_none());
    let waited = began.elapsed();
    assert!(waited > Duration::from_millis(400) && waited < Duration::from_secs(2), "{waited:?}");
}

#[test]
fn a_panic_in_a_handler_is_an_error_500_and_nothing_more() {
    let server = server();
    let answer = get(server.address(), "/panic");
    assert_eq!((answer.status, answer.error().as_str()), (500, "internal error"));
    assert_eq!(get(server.address(), "/fine").status, 200);
}

#[test]
fn stopping_ends_idle_connections_and_frees_the_port() {
    let server = server();
    let mut idle: Vec<_> = (0..20).map(|_| connect(server.address())).collect();
    for stream in &mut idle {
        exchange(stream, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    let (address, began) = (server.address(), Instant::now());
    server.stop(Duration::from_secs(1));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(std::net::TcpStream::connect(address).is_err());
    drop(server);
    assert!(idle.iter_mut().all(|stream| read_answer(stream, false).is_none()));
}

/// Tells a helper that it was started by its test.
const NETWORK_VARIABLE: &str = "GATE_TEST_NETWORK";

/// Runs a helper of this file in a network of its own, made ready by a script, where that is allowed.
fn in_a_network_of_its_own(script: &str, helper: &str) {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c"])
        .arg(format!("{script} && echo ready && exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", helper, "--ignored", "--nocapture"])
        .env(NETWORK_VARIABLE, "1")
        .output();
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    match output {
        Ok(output) if said(&output).contains("ready") => {
            assert!(output.status.success(), "{}", said(&output));
        }
        other => skipped(&format!("no network namespace can be made here: {other:?}")),
    }
}

/// Not a test of its own: the server of [`a_server_that_cannot_reach_itself_stops_at_once`].
#[test]
#[ignore = "started in a network of its own"]
fn stops_where_it_cannot_be_reached() {
    if std::env::var(NETWORK_VARIABLE).is_err() {
        return;
    }
    for address in ["[::]:0", "0.0.0.0:0"] {
        let server = serve_at(address.parse().unwrap());
        let address = server.address();
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap_err();
        let began = Instant::now();
        server.stop(Duration::from_secs(2));
        drop(server);
        assert!(began.elapsed() < Duration::from_millis(300), "{address}: {:?}", began.elapsed());
    }
}

#[test]
fn a_server_that_cannot_reach_itself_stops_at_once() {
    // Nothing is reached where not even loopback is up.
    in_a_network_of_its_own("true", "inventory::gate::stops_where_it_cannot_be_reached");
}

#[test]
fn a_stop_that_took_its_time_is_not_taken_again_by_the_drop() {
    let (busy, arrived) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let (busy, told) = (Mutex::new(busy), Mutex::new(told));
    let handler = move |_: &Request| {
        busy.lock().unwrap().send(()).unwrap();
        let _ = told.lock().unwrap().recv();
        Response::new(200, Body::Empty)
    };
    let server = serve(Arc::new(handler), Limits::default());
    let mut client = connect(server.address());
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    arrived.recv().unwrap();
    server.stop(Duration::from_millis(100));
    let began = Instant::now();
    drop(server);
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    drop(go_on);
}

/// Not a test of its own: the server of [`the_wildcard_takes_ipv4_whatever_the_system_prefers`].
#[test]
#[ignore = "started in a network of its own"]
fn answers_by_ipv4_at_the_wildcard_of_ipv6() {
    if std::env::var(NETWORK_VARIABLE).is_err() {
        return;
    }
    let server = serve_at("[::]:0".parse().unwrap());
    let by_ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().port()));
    assert_eq!(get(by_ipv4, "/x").body, b"Get /x []");
}

#[test]
fn the_wildcard_takes_ipv4_whatever_the_system_prefers() {
    let script = "echo 1 > /proc/sys/net/ipv6/bindv6only && ip link set lo up";
    in_a_network_of_its_own(script, "inventory::gate::answers_by_ipv4_at_the_wildcard_of_ipv6");
}

#[test]
fn options_reaches_the_handler() {
    let answer = request(server().address(), "OPTIONS", "/x", "");
    assert!(answer.body.starts_with(format!("{:?}", Method::Options).as_bytes()));
}

#[test]
fn a_server_says_when_nobody_lets_clients_in_any_more() {
    let server = server();
    assert_eq!(get(server.address(), "/").status, 200);
    assert!(!server.has_lost_its_thread());
    server.stop(Duration::from_secs(5));
    while !server.has_lost_its_thread() {
        std::thread::yield_now();
    }
}
