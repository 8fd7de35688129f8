//! The cluster's authority can be exchanged while we run: its file is read again.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multinic_operator::clock::Clock;
use multinic_operator::http::client::{ClientCertificate, ClientTls, ServerName};
use multinic_operator::http::trust::Trust;
use multinic_operator::kube::access::{Access, Credentials};
use multinic_operator::kube::client::KubeClient;
use multinic_operator::metrics::Metrics;
use multinic_operator::secret::Secret;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::http::certificates::Authority;
use crate::http::server::{listen, read_head};
use crate::kube::support::CONFIGS;

/// Answers every request with an empty object, one a connection, and ends with the test's process.
fn serve(config: &Arc<Mutex<Arc<ServerConfig>>>) -> SocketAddr {
    let config = Arc::clone(config);
    listen(move |socket| {
        let connection = ServerConnection::new(Arc::clone(&config.lock().unwrap())).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        read_head(&mut stream);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        let _ = stream.write_all(answer);
        stream.conn.send_close_notify();
        let _ = stream.flush();
    })
}

#[test]
fn a_new_authority_in_the_same_file_is_trusted_from_the_next_call_on() {
    let (a, b) = (Authority::new("a"), Authority::new("b"));
    let [server_a, server_b] = [&a, &b].map(|authority| authority.server(&["127.0.0.1"]));
    let config = Arc::new(Mutex::new(Arc::clone(&server_a)));
    let address = serve(&config);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    let access = Access {
        credentials: Default::default(),
        api_url: format!("https://{address}"),
        token_file: None,
        trust: Trust::Bundle { variable: "KUBE_CA_FILE", path: path.clone() },
        proxies: Arc::default(),
    };
    let client = KubeClient::new(access, Clock::system(), Arc::new(Metrics::default()));
    let get = || client.get::<Value>("/version").map_err(|error| error.to_string());
    let watch = || {
        let silence_limit = Duration::from_secs(5);
        let stream = client.watch(&CONFIGS, None, "1", 300, silence_limit);
        stream.map(|stream| stream.status).map_err(|error| error.to_string())
    };
    let error = get().unwrap_err();
    assert!(error.contains("KUBE_CA_FILE names") && error.contains("can't be read"), "{error}");
    fs::write(&path, a.pem()).unwrap();
    assert_eq!(get(), Ok(serde_json::json!({})));
    *config.lock().unwrap() = server_b;
    let error = get().unwrap_err();
    assert!(error.contains("signed by an authority that isn't trusted"), "{error}");
    fs::write(&path, b.pem()).unwrap();
    assert_eq!(get(), Ok(serde_json::json!({})));
    *config.lock().unwrap() = server_a;
    assert!(watch().is_err());
    fs::write(&path, a.pem()).unwrap();
    assert_eq!(watch(), Ok(200));
}

#[test]
fn a_client_shows_its_certificate_and_asks_for_its_server_by_name() {
    let (authority, stranger) = (Authority::new("a"), Authority::new("b"));
    let server = authority.server_for_known_clients(&["kubernetes.biz"]);
    let address = serve(&Arc::new(Mutex::new(server)));
    let get = |(chain, key): (String, String), name: &str| {
        let certificate = ClientCertificate { chain: Secret::new(chain), key: Secret::new(key) };
        let server_name = ServerName { name: name.to_owned(), host: "127.0.0.1".to_owned() };
        let tls = ClientTls { certificate: Some(certificate), server_name: Some(server_name) };
        let access = Access {
            credentials: Credentials { token: None, tls },
            api_url: format!("https://{name}:{}", address.port()),
            token_file: None,
            trust: Trust::Pem { place: "the test".to_owned(), pem: authority.pem() },
            proxies: Arc::default(),
        };
        let client = KubeClient::new(access, Clock::system(), Arc::new(Metrics::default()));
        client.get::<Value>("/version").map_err(|error| error.to_string())
    };
    assert_eq!(get(authority.client(), "kubernetes.biz"), Ok(serde_json::json!({})));
    let error = get(authority.client(), "elsewhere.biz").unwrap_err();
    assert!(error.contains("doesn't name this host"), "{error}");
    assert!(get(stranger.client(), "kubernetes.biz").is_err());
    let (chain, _) = authority.client();
    let (_, key) = authority.client();
    let error = get((chain, key), "kubernetes.biz").unwrap_err();
    assert!(error.contains("don't belong together"), "{error}");
}
