//! Certificates good and bad, made here, and versions of TLS: who is believed, and how a refusal
//! reads. That a new authority in a CA file is believed at once is shown in `tests/it/kube/trust.rs`.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_operator::clock::{Clock, Now};
use multinic_operator::http::client::{Client, ClientOptions, Failure, Request, Service};
use multinic_operator::http::trust::Trust;
use multinic_operator::secret::Secret;
use rcgen::{SanType, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConnection, StreamOwned};

use super::certificates::{Authority, named};
use super::server::{Server, listen, read_head};

struct Folder(tempfile::TempDir);

impl Folder {
    fn trust(&self, content: &str) -> Trust {
        let path: PathBuf = self.0.path().join("ca.pem");
        std::fs::write(&path, content).unwrap();
        Trust::Bundle { variable: "VIOLA_CA_FILE", path }
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

fn get(url: &str, trust: Trust) -> Result<u16, String> {
    let options = ClientOptions {
        tls: Default::default(),
        call_limit: Duration::from_secs(20),
        trust,
        idle_limit: Duration::from_secs(4),
        proxies: Arc::default(),
    };
    let client = Client::new(options, Arc::default());
    let token = Secret::new("made-up-token".to_owned());
    let request = Request::get(Service::Viola, url).secret_header("x-auth-token", "", &token);
    client.call(&request).map(|answer| answer.status).map_err(|error| error.to_string())
}

#[test]
fn a_certificate_is_believed_only_if_all_of_it_is_right_and_each_refusal_says_what_is_wrong() {
    let (ours, theirs, remade) =
        (Authority::new("ours"), Authority::new("theirs"), Authority::new("ours"));
    let expired = {
        let mut params = named(&["localhost"]);
        params.not_after = date_time_ymd(2020, 1, 1);
        params
    };
    let early = {
        let mut params = named(&["localhost"]);
        params.not_before = date_time_ymd(2400, 1, 1);
        params
    };
    let address_as_a_name = {
        let mut params = named(&[]);
        params.subject_alt_names = vec![SanType::DnsName("127.0.0.1".try_into().unwrap())];
        params
    };
    let both = rustls::DEFAULT_VERSIONS;
    let with = |params| ours.server_with(params, both);
    let name = "doesn't name this host; it needs it as a subjectAltName";
    let cases = [
        ("right name", "localhost", ours.server(&["localhost"]), ""),
        ("one of several names", "localhost", ours.server(&["a.example", "localhost"]), ""),
        ("right address", "127.0.0.1", ours.server(&["127.0.0.1"]), ""),
        (
            "another authority",
            "localhost",
            theirs.server(&["localhost"]),
            "an authority that isn't trusted here",
        ),
        (
            "an authority made anew",
            "localhost",
            remade.server(&["localhost"]),
            "though one of the same name is",
        ),
        ("expired", "localhost", with(expired), "the certificate has expired"),
        ("not valid yet", "localhost", with(early), "the certificate isn't valid yet"),
        ("another name", "localhost", ours.server(&["other.example"]), name),
        ("no name but the common one", "localhost", ours.server(&[]), name),
        ("another address", "127.0.0.1", ours.server(&["127.0.0.2"]), name),
        ("a name for an address", "127.0.0.1", ours.server(&["localhost"]), name),
        ("an address for a name", "localhost", ours.server(&["127.0.0.1"]), name),
        ("an address written as a name", "127.0.0.1", with(address_as_a_name), name),
        (
            "the authority itself",
            "localhost",
            ours.as_server(),
            "presents a CA certificate as its own",
        ),
    ];
    let folder = folder();
    let trust = folder.trust(&ours.pem());
    for (what, host, config, expected) in cases {
        let server = Server::start(Some(config));
        let url = format!("https://{host}:{}/x", server.address.port());
        match get(&url, trust.clone()) {
            Ok(status) => assert_eq!((status, expected), (200, ""), "{what}"),
            Err(error) => {
                assert!(!expected.is_empty() && error.contains(expected), "{what}: {error}");
                assert!(server.heads().is_empty(), "{what}: the token was sent");
            }
        }
        // The same server without verification: nothing else was wrong.
        assert_eq!(get(&url, Trust::Anyone), Ok(200), "{what}");
    }
}

#[test]
fn a_ca_file_may_hold_several_authorities_and_what_lies_between() {
    let (first, second, third) = (Authority::new("1"), Authority::new("2"), Authority::new("3"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let content = format!("# roots\n{}\n{broken}\r\nsecond:\n{}", first.pem(), second.pem());
    let folder = folder();
    let trust = folder.trust(&content);
    for (authority, good) in [(&first, true), (&second, true), (&third, false)] {
        let server = Server::start(Some(authority.server(&["localhost"])));
        let url = format!("https://localhost:{}/", server.address.port());
        assert_eq!(get(&url, trust.clone()).is_ok(), good);
    }
}

#[test]
fn either_of_the_two_living_versions_of_tls_will_do() {
    let authority = Authority::new("ours");
    let folder = folder();
    let trust = folder.trust(&authority.pem());
    for version in [&TLS12, &TLS13] {
        let server = Server::start(Some(authority.server_with(named(&["localhost"]), &[version])));
        let url = format!("https://localhost:{}/", server.address.port());
        assert_eq!(get(&url, trust.clone()), Ok(200), "{version:?}");
    }
}

#[test]
fn a_server_with_older_versions_only_or_none_is_told_apart_from_a_bad_certificate() {
    // What TLS 1.1 servers say: the fatal alert `protocol_version`, or a ServerHello of 1.1.
    const ALERT: &[u8] = &[21, 3, 2, 0, 2, 2, 70];
    const HELLO: &[u8] = &[
        22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 47, 0,
    ];
    const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let cases = [
        (ALERT, "TLS: the server has neither TLS 1.2 nor 1.3 in common with us"),
        (HELLO, "TLS: the server has neither TLS 1.2 nor 1.3 in common with us"),
        (PLAIN, "TLS: the server doesn't speak TLS"),
    ];
    for (bytes, expected) in cases {
        let server = Server::saying(bytes);
        // Whether or not certificates are verified.
        let error = get(&format!("https://{}/", server.address), Trust::Anyone).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_ca_file_that_goes_bad_while_we_run_is_named_with_its_variable() {
    let folder = folder();
    let trust = folder.trust("nothing");
    let error = get("https://127.0.0.1:1/", trust).unwrap_err();
    assert!(error.contains("TLS: VIOLA_CA_FILE names "), "{error}");
    assert!(error.ends_with("which holds no usable PEM certificate"), "{error}");
}

/// A client whose clock stands still until it is moved, and which keeps no connection.
fn client_by(clock: &Clock, trust: Trust) -> Client {
    let options = ClientOptions {
        tls: Default::default(),
        call_limit: Duration::from_secs(20),
        trust,
        idle_limit: Duration::ZERO,
        proxies: Arc::default(),
    };
    Client::new(options, Arc::default()).timed_by(clock.clone())
}

/// A clock that stands still.
pub fn invented_clock() -> Clock {
    Clock::invented(Now { uptime: Duration::ZERO, wall: "2026-11-20T09:00:00Z".parse().unwrap() })
}

#[test]
fn an_authority_that_is_taken_out_of_its_file_is_believed_for_a_minute_at_most() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = folder();
    let clock = invented_clock();
    let client = client_by(&clock, folder.trust(&format!("{}{}", old.pem(), new.pem())));
    let server = Server::start(Some(old.server(&["localhost"])));
    let url = format!("https://localhost:{}/", server.address.port());
    let get = || {
        let answer = client.call(&Request::get(Service::Viola, &url));
        answer.map(|answer| answer.status).map_err(|error| error.to_string())
    };
    assert_eq!(get(), Ok(200));
    folder.trust(&new.pem());
    clock.advance(Duration::from_secs(60));
    let error = get().unwrap_err();
    assert!(error.contains("signed by an authority that isn't trusted"), "{error}");
    // What a look finds is believed at once, however short ago the last one was.
    folder.trust(&old.pem());
    assert_eq!(get(), Ok(200));
    folder.trust("");
    clock.advance(Duration::from_secs(60));
    let error = get().unwrap_err();
    assert!(error.ends_with("which holds no usable PEM certificate"), "{error}");
    // And whoever puts it right waits for nothing.
    folder.trust(&old.pem());
    assert_eq!(get(), Ok(200));
}

#[test]
fn a_ca_file_is_not_looked_at_in_each_call() {
    let authority = Authority::new("ours");
    let folder = folder();
    let clock = invented_clock();
    let client = client_by(&clock, folder.trust(&authority.pem()));
    let server = Server::start(Some(authority.server(&["localhost"])));
    let url = format!("https://localhost:{}/", server.address.port());
    let get = || client.call(&Request::get(Service::Viola, &url)).map(|answer| answer.status);
    assert_eq!(get().unwrap(), 200);
    folder.trust("nothing");
    clock.advance(Duration::from_secs(59));
    assert_eq!(get().unwrap(), 200);
}

#[test]
fn a_stop_also_ends_calls_that_began_before_the_ca_file_changed() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = folder();
    let clock = invented_clock();
    let client = client_by(&clock, folder.trust(&old.pem()));
    let config = old.server(&["localhost"]);
    let (asked, was_asked) = std::sync::mpsc::channel();
    // Takes each request and never answers.
    let address = listen(move |socket| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let _ = read_head(&mut stream);
        let _ = asked.send(());
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("https://localhost:{}/", address.port());
    let began = Instant::now();
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| client.call(&Request::get(Service::Viola, &url)));
        was_asked.recv().unwrap();
        folder.trust(&new.pem());
        clock.advance(Duration::from_secs(60));
        // The connection that this one makes is by the new file.
        assert!(client.call(&Request::get(Service::Viola, &url)).is_err());
        client.shutdown();
        let error = hanging.join().unwrap().unwrap_err();
        assert_eq!(error.failure, Failure::Stopped);
    });
    assert!(began.elapsed() < Duration::from_secs(10), "it ran to its own limit");
}
