//! The program as a process, and the API server it writes to.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;

use serde_json::{Value, json};
use simulated_cloud::kubernetes::Kubernetes;
use simulated_cloud::wire::{Handler, Server};
use simulated_cloud::{Faults, Journal, NODE_CONFIGS, Service};

use crate::inventory::client::{Answer, connect, exchange};
use crate::process::SOON;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_viola-test-api");
pub(crate) const NAMESPACE: &str = "multinic-system";

/// A running stand-in and its API server; both end when dropped.
pub(crate) struct Stand {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) kubernetes: Arc<Kubernetes>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) faults: Arc<Faults>,
    _server: Server,
}

impl Stand {
    pub(crate) fn start() -> Stand {
        Stand::start_with(&[])
    }

    /// Starts it with these further variables.
    pub(crate) fn start_with(variables: &[(&str, &str)]) -> Stand {
        let kubernetes = Kubernetes::new();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
        });
        kubernetes.load(vec![namespace]);
        let (journal, faults) = (Arc::new(Journal::new()), Arc::new(Faults::new()));
        let handler = Arc::clone(&kubernetes) as Arc<dyn Handler>;
        let (logged, failing) = (Arc::clone(&journal), Arc::clone(&faults));
        let server = Server::start(Service::Kubernetes, handler, logged, failing).unwrap();
        let mut child = Command::new(PROGRAM)
            .env_clear()
            .env("KUBE_API_URL", format!("http://{}", server.address()))
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = log
            .find_map(|line| line.split("listens on ").nth(1).map(str::to_owned))
            .map(|text| text.trim().parse().unwrap())
            .unwrap_or_else(|| panic!("it never said where it listens"));
        // A log that nobody reads would fill its pipe.
        std::thread::spawn(move || log.for_each(drop));
        Stand { child, address, kubernetes, journal, faults, _server: server }
    }

    /// Status and JSON of a POST of these nodes.
    pub(crate) fn post(&self, nodes: &Value, provider_id: Option<&str>) -> (u16, Value) {
        let body = nodes.to_string();
        let provider_id = provider_id.map(|id| format!("x-provider-id: {id}\r\n"));
        let request = format!(
            "POST {NODE_CONFIGS} HTTP/1.1\r\nHost: h\r\n{}Content-Length: {}\r\n\r\n{body}",
            provider_id.unwrap_or_default(),
            body.len()
        );
        let answer = self.raw(request.as_bytes());
        (answer.status, answer.json())
    }

    /// The answer to these bytes.
    pub(crate) fn raw(&self, request: &[u8]) -> Answer {
        exchange(&mut connect(self.address), request).unwrap()
    }

    /// The object of a node.
    pub(crate) fn object(&self, node_name: &str) -> Option<Value> {
        self.kubernetes.get("MultiNicNodeConfig", NAMESPACE, node_name)
    }

    /// Sends SIGTERM and waits for the end; one that doesn't come soon is brought about by SIGKILL.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let signal = |name: &str| {
            Command::new("kill").args([name, pid.as_str()]).status().unwrap().success()
        };
        assert!(signal("-TERM"));
        let (ended, end) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let signal = &signal;
            scope.spawn(move || {
                if end.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout) {
                    signal("-KILL");
                }
            });
            let status = self.child.wait().unwrap();
            drop(ended);
            status
        })
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
