//! An API server that is a process of its own, and stopped in the middle of everything: connections
//! stay open, new ones are accepted by the kernel, and nothing ever answers.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multinic_operator::clock::Clock;
use multinic_operator::http::trust::Trust;
use multinic_operator::kube::access::Access;
use multinic_operator::kube::client::KubeClient;
use multinic_operator::kube::watch::{FailureKind, Timing};
use serde_json::{Value, json};

use crate::kube::support::{Api, CONFIGS, LIMIT, fast, now, watch};

/// The program `simulated-cloud`; killed when dropped.
struct ServerProcess {
    child: Child,
    url: String,
}

impl ServerProcess {
    fn start() -> ServerProcess {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/three-nodes");
        let mut child = Command::new(program())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut urls = lines
            .map_while(Result::ok)
            .filter_map(|line| Some(line.strip_prefix("kubernetes ")?.to_owned()));
        let url = urls.next().unwrap();
        ServerProcess { child, url }
    }

    fn client(&self, api: &Api) -> KubeClient {
        let access = Access {
            credentials: Default::default(),
            api_url: self.url.clone(),
            token_file: None,
            trust: Trust::System,
            proxies: std::sync::Arc::default(),
        };
        KubeClient::new(access, Clock::system(), std::sync::Arc::clone(&api.metrics))
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the program is: beside the operator's; built if it is not there yet.
fn program() -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_multinic-operator")).parent().unwrap();
    let program = folder.join("simulated-cloud");
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--package", "simulated-cloud", "--bin", "simulated-cloud"]);
        build.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    }
    program
}

#[test]
fn a_server_that_is_frozen_is_noticed_in_bounded_time_and_taken_up_again_when_it_thaws() {
    // For its metrics alone.
    let api = Api::start();
    let server = ServerProcess::start();
    let client = server.client(&api);
    let limit = Duration::from_millis(500);
    let timing = Timing {
        silence_limit: limit,
        list_limit: limit,
        // This server's bookmarks come each minute, so that each watch is silent for too long; one
        // that lived up to the limit is no trouble yet.
        healthy_after: limit / 2,
        ..fast()
    };
    let (_watcher, seen) = watch(&api, &client, timing);
    seen.wait_for("the object", |state| state.objects.contains_key("demo"));
    // What is seen of this comes by the watch, so the frost falls on an open one.
    let writing = client.with_own_connections().with_call_limit(LIMIT);
    let change = json!({"spec": {"subnetName": "before it froze"}});
    writing.merge::<Value>(&CONFIGS.object("default", "demo"), &change).unwrap();
    seen.wait_for("the change", |state| state.objects["demo"].contains("before it froze"));
    assert_eq!(seen.state(|state| state.troubles.len()), 0);
    let known = seen.state(|state| state.objects.clone());

    server.signal("STOP");
    let frozen_at = now();
    seen.wait_for("the trouble", |state| !state.troubles.is_empty());
    // The rest of one silence, the list after it, and the first waits.
    let took = frozen_at.elapsed();
    assert!(took < 2 * limit + Duration::from_millis(800), "noticed after {took:?}");
    let (kind, text) = seen.state(|state| state.troubles[0].clone());
    assert_eq!(kind, FailureKind::Unavailable);
    assert!(text.contains("timed out"), "{text}");
    assert!(api.restarts("silent") >= 1);
    assert_eq!(seen.state(|state| state.objects.clone()), known, "silence is no deletion");

    server.signal("CONT");
    let change = json!({"spec": {"subnetName": "after it thawed"}});
    writing.merge::<Value>(&CONFIGS.object("default", "demo"), &change).unwrap();
    seen.wait_for("the change", |state| state.objects["demo"].contains("after it thawed"));
    assert!(seen.state(|state| state.recovered) >= 1);
}
