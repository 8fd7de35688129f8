//! Requests through a real proxy: which go there, what it gets to see, and whose failure is whose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_operator::http::client::{Client, ClientOptions, Request, Service};
use multinic_operator::http::proxy::Proxies;
use multinic_operator::http::trust::Trust;
use multinic_operator::secret::Secret;

use super::certificates::Authority;
use super::proxy::Proxy;
use super::server::{Server, listen};

const TOKEN: &str = "made-up-token-of-a-test";

fn client(variables: &[(&str, &str)], trust: Trust) -> Client {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    let (proxies, problems) =
        Proxies::read(|name| variables.get(name).map(|text| (*text).to_owned()));
    assert!(problems.is_empty(), "{problems:?}");
    let options = ClientOptions {
        tls: Default::default(),
        call_limit: Duration::from_secs(3),
        trust,
        idle_limit: Duration::from_secs(4),
        proxies: Arc::new(proxies),
    };
    Client::new(options, Arc::default())
}

fn get(client: &Client, url: &str) -> Result<u16, String> {
    let token = Secret::new(TOKEN.to_owned());
    let request = Request::get(Service::Nova, url).secret_header("x-auth-token", "", &token);
    client.call(&request).map(|answer| answer.status).map_err(|error| error.to_string())
}

#[test]
fn both_kinds_of_urls_go_through_a_tunnel_that_is_kept() {
    let (proxy, server) = (Proxy::open(), Server::start(None));
    let client = client(&[("HTTP_PROXY", &proxy.address.to_string())], Trust::Anyone);
    let url = format!("http://nova.example:{}/servers", server.address.port());
    assert_eq!(get(&client, &url), Ok(200));
    assert_eq!(get(&client, &url), Ok(200));
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    let target = format!("CONNECT nova.example:{} HTTP/1.1\r\n", server.address.port());
    assert!(heads[0].starts_with(&target), "{heads:?}");
    let lower = heads[0].to_ascii_lowercase();
    assert!(!lower.contains("authorization") && !heads[0].contains(TOKEN), "{heads:?}");
    assert_eq!(server.heads().len(), 2);
    assert!(server.heads()[1].starts_with("GET /servers HTTP/1.1\r\n"));
}

#[test]
fn a_proxy_of_https_sees_neither_token_nor_path_and_the_service_is_verified_all_the_same() {
    let authority = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, authority.pem()).unwrap();
    let (proxy, server) = (Proxy::open(), Server::start(Some(authority.server(&["nova.example"]))));
    let trust = Trust::Bundle { variable: "OPENSTACK_CA_FILE", path };
    let client = client(&[("https_proxy", &proxy.address.to_string())], trust);
    let port = server.address.port();
    assert_eq!(get(&client, &format!("https://nova.example:{port}/servers")), Ok(200));
    assert!(!proxy.carried().contains(TOKEN) && !proxy.carried().contains("/servers"));
    let error = get(&client, &format!("https://neutron.example:{port}/v2.0")).unwrap_err();
    assert!(error.contains("TLS: the certificate doesn't name this host"), "{error}");
    assert_eq!((proxy.heads().len(), server.heads().len()), (2, 1));
    assert!(server.heads()[0].contains(TOKEN));
}

#[test]
fn a_proxy_is_told_who_we_are_and_its_refusal_shows_no_password() {
    // `me` and `p@ss:w`.
    let lets_in = |head: &str| match head.contains("Basic bWU6cEBzczp3\r\n") {
        true => "200 OK",
        false => "407 Proxy Authentication Required",
    };
    let (proxy, server) = (Proxy::start(lets_in), Server::start(None));
    let url = format!("http://nova.example:{}/", server.address.port());
    let right = format!("http://me:p%40ss%3Aw@{}", proxy.address);
    assert_eq!(get(&client(&[("HTTP_PROXY", &right)], Trust::Anyone), &url), Ok(200));
    assert!(!server.heads()[0].contains("bWU6"), "the service was told, too");
    let wrong = format!("http://me:wr0ng-pass@{}", proxy.address);
    let error = get(&client(&[("HTTP_PROXY", &wrong)], Trust::Anyone), &url).unwrap_err();
    let expected = "the proxy that HTTP_PROXY names: HTTP 407: it wants another user and password";
    assert!(error.contains(expected) && !error.contains("wr0ng"), "{error}");
    assert_eq!(server.heads().len(), 1);
}

#[test]
fn what_fails_at_the_proxy_is_not_blamed_on_the_service() {
    let refusing = Proxy::start(|_| "403 Forbidden");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cases = [
        (refusing.address.to_string(), "HTTP 403: it doesn't connect us with the service"),
        (dead.to_string(), "connection refused"),
        ("proxy.invalid:3128".to_owned(), "the host name could not be resolved"),
    ];
    for (proxy, what) in cases {
        let client = client(&[("http_proxy", &proxy)], Trust::Anyone);
        let error = get(&client, "http://nova.example/servers").unwrap_err();
        assert_eq!(error, format!("Nova GET /servers: the proxy that http_proxy names: {what}"));
    }
}

#[test]
fn a_proxy_that_says_nothing_costs_no_more_than_the_limit_and_ends_at_once_when_we_stop() {
    let silent = listen(|socket| {
        std::thread::sleep(Duration::from_secs(60));
        drop(socket);
    });
    let client = client(&[("HTTP_PROXY", &silent.to_string())], Trust::Anyone);
    let started = Instant::now();
    let error = get(&client, "http://nova.example/").unwrap_err();
    assert!(error.contains("timed out"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    std::thread::scope(|scope| {
        let call = scope.spawn(|| get(&client, "http://nova.example/"));
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        client.shutdown();
        let error = call.join().unwrap().unwrap_err();
        assert!(error.contains("the operator is stopping"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    });
}

#[test]
fn what_no_proxy_names_and_this_machine_are_reached_directly() {
    let (proxy, server) = (Proxy::open(), Server::start(None));
    let address = proxy.address.to_string();
    let client =
        client(&[("HTTP_PROXY", &address), ("NO_PROXY", "10.0.0.0/8,.invalid")], Trust::Anyone);
    assert_eq!(get(&client, &format!("http://{}/", server.address)), Ok(200));
    assert_eq!(get(&client, &format!("http://localhost:{}/", server.address.port())), Ok(200));
    let error = get(&client, "http://nova.invalid/").unwrap_err();
    assert!(error.ends_with("the host name could not be resolved"), "{error}");
    assert!(!error.contains("proxy"), "{error}");
    assert_eq!(proxy.heads().len(), 0);
}
