//! The programs in their images' own root folders: no loader, no library, no shell, no hosts file.
//! Everything is found by name, with nothing but the resolv.conf that a pod gets.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use simulated_cloud::kubernetes::Kubernetes;
use simulated_cloud::wire::{Handler, Server};
use simulated_cloud::{Cloud, Faults, Journal, NODE_CONFIGS, Scenario, Service};
use tempfile::TempDir;

use crate::archive::Image;
use crate::names::NameServer;
use crate::skip::skipped;

/// Long enough for anything that should happen at once, on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);

/// A program of an image, in the image's root folder, as the image's user.
struct Contained {
    child: Child,
    root: TempDir,
}

impl Contained {
    /// None without root, or without the image.
    fn root(image: &str) -> Option<(Image, TempDir)> {
        let image = Image::read(image)?;
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            skipped("only root may change the root folder and serve names on port 53");
            return None;
        }
        let root = TempDir::new().unwrap();
        image.unpack(root.path());
        Some((image, root))
    }

    fn start(
        image: &Image,
        root: TempDir,
        names: &NameServer,
        variables: &[(String, String)],
    ) -> Contained {
        fs::write(root.path().join("etc/resolv.conf"), names.resolv_conf()).unwrap();
        let config = &image.config["config"];
        let child = Command::new("/usr/sbin/chroot")
            .arg(format!("--userspec={}", config["User"].as_str().unwrap()))
            .arg("--groups=")
            .arg(root.path())
            .arg(config["Entrypoint"][0].as_str().unwrap())
            .env_clear()
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Contained { child, root }
    }

    /// Ends it as Kubernetes would; gives what it logged as well.
    fn stop(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `http://127.0.0.1:8080/x` as `http://NAME.test:8080/x`.
fn named(url: &str, name: &str) -> String {
    let by_name = url.replace("//127.0.0.1:", &format!("//{name}.test:"));
    assert_ne!(by_name, url);
    by_name
}

/// A cloud whose services call each other and themselves by name.
fn cloud_by_name(scenario: &str) -> (Cloud, Vec<(String, String)>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(scenario);
    let cloud = Cloud::start(Scenario::load(&folder).unwrap()).unwrap();
    cloud.edit(|state| {
        state.urls.keystone = named(&state.urls.keystone, "keystone");
        state.urls.neutron = named(&state.urls.neutron, "neutron");
        state.urls.nova = named(&state.urls.nova, "nova");
    });
    let mut environment = cloud.environment();
    for (variable, value) in &mut environment {
        match variable.as_str() {
            "CONTRABASS_ENDPOINT" => *value = named(value, "contrabass"),
            "VIOLA_ENDPOINT" => *value = named(value, "viola"),
            "KUBE_API_URL" => *value = named(value, "kubernetes"),
            _ => {}
        }
    }
    for (variable, value) in [
        ("HEALTH_ADDR", "127.0.0.1:0"),
        ("INVENTORY_ADDR", "127.0.0.1:0"),
        ("POLL_FAST_INTERVAL", "1h"),
        ("POLL_SLOW_INTERVAL", "1h"),
    ] {
        environment.push((variable.to_owned(), value.to_owned()));
    }
    (cloud, environment)
}

#[test]
fn in_an_otherwise_empty_root_the_operator_finds_everybody_by_name_and_sends() {
    let Some((image, root)) = Contained::root("operator") else { return };
    let (cloud, environment) = cloud_by_name("three-nodes");
    let names = NameServer::start();
    let operator = Contained::start(&image, root, &names, &environment);
    let synced = cloud.kubernetes().wait_until(
        |view| {
            let object = view.get("OpenstackConfig", "default", "demo");
            object.is_some_and(|object| object.to_string().contains("\"Synced\""))
        },
        SOON,
    );
    let inventory = operator.root.path().join("var/lib/multinic-operator/inventory.json");
    let owner = fs::metadata(&inventory).map(|file| (file.uid(), file.gid()));
    let (status, log) = operator.stop();
    assert!(synced, "{:?}\n{log}", cloud.kubernetes().objects("OpenstackConfig"));
    assert!(status.success(), "{status}\n{log}");
    assert_eq!(owner.unwrap(), (65532, 65532));

    let posts = cloud.viola().received();
    assert_eq!(posts.len(), 1);
    let expected = &cloud.scenario().expected.posts[0];
    assert_eq!((&posts[0].provider_id, &posts[0].nodes), (&expected.provider_id, &expected.nodes));
    let asked: BTreeSet<String> = names.asked().into_iter().collect();
    for name in ["contrabass", "keystone", "neutron", "nova", "viola", "kubernetes"] {
        assert!(asked.contains(&format!("{name}.test")), "{name} wasn't asked for: {asked:?}");
    }
}

#[test]
fn in_an_otherwise_empty_root_the_stand_in_finds_the_api_server_by_name_and_applies() {
    let Some((image, root)) = Contained::root("viola-test-api") else { return };
    let kubernetes = Kubernetes::new();
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "multinic-system"},
    });
    kubernetes.load(vec![namespace]);
    let handler = Arc::clone(&kubernetes) as Arc<dyn Handler>;
    let server = Server::start(
        Service::Kubernetes,
        handler,
        Arc::new(Journal::new()),
        Arc::new(Faults::new()),
    )
    .unwrap();
    let names = NameServer::start();
    let variables = [
        ("KUBE_API_URL".to_owned(), format!("http://kubernetes.test:{}", server.address().port())),
        ("LISTEN_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
    ];
    let mut stand_in = Contained::start(&image, root, &names, &variables);
    let mut log = BufReader::new(stand_in.child.stderr.as_mut().unwrap());
    let mut address = String::new();
    while !address.contains("listens on ") {
        address.clear();
        assert_ne!(log.read_line(&mut address).unwrap(), 0, "it never said where it listens");
    }
    let address = address.trim().rsplit(' ').next().unwrap();
    let scenario = fixture_nodes();
    let mut answer = ureq::post(format!("http://{address}{NODE_CONFIGS}"))
        .header("x-provider-id", "biz-1")
        .send(scenario.to_string())
        .unwrap();
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(answer["applied"], scenario.as_array().unwrap().len(), "{answer}");
    assert_eq!(kubernetes.objects("MultiNicNodeConfig").len(), 3);
    assert!(names.asked().contains(&"kubernetes.test".to_owned()), "{:?}", names.asked());
    let (status, _) = stand_in.stop();
    assert!(status.success(), "{status}");
}

/// What the operator would post.
fn fixture_nodes() -> Value {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/three-nodes");
    Value::Array(Scenario::load(&folder).unwrap().expected.posts[0].nodes.clone())
}
