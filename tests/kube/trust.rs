//! The cluster's authority can be exchanged while we run: its file is read again.
//!
//! The certificates in `tls/` were made for these tests, for 127.0.0.1 and a hundred years:
//! `authority-a` signed `server-a`, `authority-b` signed `server-b`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multinic_operator::clock::Clock;
use multinic_operator::http::trust::Trust;
use multinic_operator::kube::access::Access;
use multinic_operator::kube::client::KubeClient;
use multinic_operator::metrics::Metrics;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::support::CONFIGS;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube/tls").join(name)
}

fn certificate(letter: &str) -> Arc<ServerConfig> {
    let chain = CertificateDer::from_pem_file(file(&format!("server-{letter}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(file(&format!("server-{letter}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_no_client_auth().with_single_cert(vec![chain], key).unwrap())
}

/// Answers every request with an empty object, one a connection, and ends with the test's process.
fn serve(config: &Arc<Mutex<Arc<ServerConfig>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::clone(config);
    let body = move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config.lock().unwrap())).unwrap();
            let mut stream = StreamOwned::new(connection, socket);
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
            let _ = stream.write_all(answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    };
    std::thread::Builder::new().name("tls server".to_owned()).spawn(body).unwrap();
    address
}

#[test]
fn a_new_authority_in_the_same_file_is_trusted_from_the_next_call_on() {
    let config = Arc::new(Mutex::new(certificate("a")));
    let address = serve(&config);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    let access = Access {
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
    fs::copy(file("authority-a.pem"), &path).unwrap();
    assert_eq!(get(), Ok(serde_json::json!({})));
    *config.lock().unwrap() = certificate("b");
    let error = get().unwrap_err();
    assert!(error.contains("signed by an authority that isn't trusted"), "{error}");
    fs::copy(file("authority-b.pem"), &path).unwrap();
    assert_eq!(get(), Ok(serde_json::json!({})));
    *config.lock().unwrap() = certificate("a");
    assert!(watch().is_err());
    fs::copy(file("authority-a.pem"), &path).unwrap();
    assert_eq!(watch(), Ok(200));
}
