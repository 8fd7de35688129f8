//! The steps of docs/upgrade.md, from each version of the Go operator: its inventory file and its
//! objects, the plan beforehand, the upgrade, and the way back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use simulated_cloud::Service;
use tempfile::TempDir;

use super::manifests::chart;
use super::process::{Finished, Operator, run};
use super::settings::{self, NOWHERE};
use super::text;
use super::world::World;

/// A version of the Go operator.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    /// Settings in the environment; interfaces have no names and count from 1.
    Environment,
    /// Settings in objects; records go by the target, and the id 0 is left out.
    Objects,
}

/// An inventory file as the Go operator reads it: these fields, others ignored.
#[derive(Deserialize)]
struct GoFile {
    records: Vec<GoRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoRecord {
    provider_id: String,
    node_name: String,
    instance_id: String,
    config: GoConfig,
    #[serde(rename = "lastConfigHash")]
    _hash: String,
    #[serde(rename = "updatedAt")]
    _updated_at: String,
}

#[derive(Deserialize)]
struct GoConfig {
    interfaces: Vec<Value>,
}

const TARGET: &str = "biz-cluster-seoul-1";

/// The cloud of three nodes, as a version of the Go operator left it.
struct Left {
    world: World,
    version: Version,
    folder: Arc<TempDir>,
}

impl Left {
    fn by(version: Version) -> Left {
        let world = match version {
            Version::Environment => World::of("three-nodes"),
            Version::Objects => settings::world(),
        };
        if version == Version::Objects {
            world.change_spec(json!({"credentials": {"k8sProviderID": TARGET}}));
        }
        was_synced(&world);
        let left = Left { world, version, folder: Arc::new(TempDir::new().unwrap()) };
        fs::write(left.file(), json!({ "records": left.records() }).to_string()).unwrap();
        left
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("inventory.json")
    }

    /// What it recorded. Of worker-0 the later version knew the ports in the other order.
    fn records(&self) -> Vec<Value> {
        let provider = &self.world.scenario().objects[0]["spec"]["credentials"];
        let record = |(_, name, mut node): (String, String, Value)| {
            let interfaces = node["interfaces"].as_array_mut().unwrap();
            let count = interfaces.len() as u64;
            for interface in interfaces {
                let id = interface["id"].as_u64().unwrap();
                let fields = interface.as_object_mut().unwrap();
                if self.version == Version::Environment {
                    fields.remove("name");
                    fields.insert("id".to_owned(), json!(id + 1));
                    continue;
                }
                let id = if name == "worker-0" { count - 1 - id } else { id };
                fields.insert("name".to_owned(), json!(format!("multinic{id}")));
                fields.insert("id".to_owned(), json!(id));
                if id == 0 {
                    fields.remove("id");
                }
            }
            json!({
                "providerId": match self.version {
                    Version::Environment => provider["openstackProviderID"].clone(),
                    Version::Objects => json!(TARGET),
                },
                "nodeName": name,
                "instanceId": node["instanceId"],
                "config": node,
                "lastConfigHash": "5d41402abc4b2a76b9719d911017c592",
                "updatedAt": "2026-01-13T06:23:09.123456789Z",
            })
        };
        self.world.expected().into_iter().map(record).collect()
    }

    fn plan(&self, variables: &[(&str, &str)], more: &[&str]) -> Finished {
        let before = fs::read(self.file()).unwrap();
        let (namespace, name) = self.world.object();
        let key = format!("{namespace}/{name}");
        let arguments = [&["plan", &key], more].concat();
        let finished = run(&self.world, variables, self.folder.path(), &arguments);
        assert_eq!(finished.code, 0, "{}", finished.errors);
        assert_eq!(fs::read(self.file()).unwrap(), before, "a plan changes nothing");
        finished
    }

    /// The nodes that a plan would send, as JSON.
    fn planned(&self, variables: &[(&str, &str)]) -> BTreeSet<String> {
        let bodies = self.plan(variables, &["--json"]).output;
        bodies.lines().flat_map(nodes_of).collect()
    }

    fn sent(&self) -> BTreeSet<String> {
        let posts = self.world.journal().requests(Service::Viola);
        posts.iter().flat_map(|post| nodes_of(std::str::from_utf8(&post.body).unwrap())).collect()
    }

    /// Starts where nothing may be sent yet.
    fn is_refused(&self, variables: &[(&str, &str)]) -> String {
        let operator = Operator::start_in(&self.world, variables, Arc::clone(&self.folder));
        let message = self.world.wait_for_reason("ConfigError");
        drop(operator);
        assert_eq!(self.world.journal().count(Service::Viola), 0, "nothing is sent");
        message
    }

    /// Upgrades, sees that what was planned is what is sent, and that it is sent once.
    fn upgrade(&self, variables: &[(&str, &str)]) {
        let planned = self.planned(variables);
        let operator = Operator::start_in(&self.world, variables, Arc::clone(&self.folder));
        self.world.wait_for_reason("Synced");
        drop(operator);
        assert_eq!(self.sent(), planned);
        assert_eq!(self.planned(variables), BTreeSet::new());
        let posts = self.world.journal().count(Service::Viola);
        let _operator = Operator::start_in(&self.world, variables, Arc::clone(&self.folder));
        self.world.wait_for_reason("NoChange");
        assert_eq!(self.world.journal().count(Service::Viola), posts, "it was sent once");
    }

    /// The Go operator reads the file that the operator leaves.
    fn is_read_by_the_go_operator(&self) {
        let file: GoFile = serde_json::from_slice(&fs::read(self.file()).unwrap()).unwrap();
        let nodes: Vec<&str> =
            file.records.iter().map(|record| record.node_name.as_str()).collect();
        assert_eq!(nodes, ["worker-0", "worker-1", "worker-2"]);
        for record in &file.records {
            assert!(!record.provider_id.is_empty() && !record.instance_id.is_empty());
            for interface in &record.config.interfaces {
                for field in ["portId", "name", "macAddress", "address", "cidr"] {
                    assert!(interface[field].is_string(), "{field}: {interface}");
                }
            }
        }
    }
}

/// The nodes of a request's body, each as JSON.
fn nodes_of(body: &str) -> Vec<String> {
    let nodes: Vec<Value> = serde_json::from_str(body).unwrap();
    nodes.iter().map(Value::to_string).collect()
}

/// The status that the Go operator left.
fn was_synced(world: &World) {
    let (namespace, name) = world.object();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "synced",
            "lastTransitionTime": "2026-01-13T06:23:09Z",
        })
    };
    let status = json!({ "status": {
        "conditions": [condition("Ready", "True", "Synced"), condition("Degraded", "False", "Healthy")],
        "lastSyncedAt": "2026-01-13T06:23:09Z",
    }});
    world.kubernetes().patch_status("OpenstackConfig", &namespace, &name, &status).unwrap();
}

#[test]
fn from_settings_in_the_environment() {
    let left = Left::by(Version::Environment);
    let plan = left.plan(&[], &[]).output;
    assert!(plan.contains("would send  3 of 3 nodes"), "{plan}");
    for why in ["id 1 -> 0", "name \"\" -> \"multinic0\""] {
        assert!(plan.contains(why), "{plan}");
    }
    let message = left.is_refused(&[("CONTRABASS_ENDPOINT", ""), ("VIOLA_ENDPOINT", "")]);
    assert!(message.contains("CONTRABASS_ENDPOINT"), "{message}");
    left.upgrade(&[]);
    assert_eq!(left.world.held(), left.world.expected(), "numbered as on first sight");
    left.is_read_by_the_go_operator();
}

#[test]
fn from_settings_in_objects() {
    let left = Left::by(Version::Objects);
    let with = |policy| [&NOWHERE[..], &[policy]].concat();
    let plan = left.plan(&with(("OBJECT_SETTINGS", "all")), &[]).output;
    assert!(plan.contains(&format!("its cloud was registered as {TARGET}")), "{plan}");
    assert!(!plan.contains(": id "), "no id changes: {plan}");
    let message = left.is_refused(&NOWHERE);
    assert!(message.contains("ALLOWED_ENDPOINTS"), "{message}");
    let endpoints = [left.world.url(Service::Contrabass), left.world.url(Service::Viola)].join(",");
    left.upgrade(&with(("ALLOWED_ENDPOINTS", &endpoints)));
    let viola = left.world.viola();
    let ids = |node: &Value| -> Vec<(String, u64)> {
        let interfaces = node["interfaces"].as_array().unwrap().iter();
        let ids = interfaces.map(|each| {
            (each["portId"].as_str().unwrap().to_owned(), each["id"].as_u64().unwrap_or(0))
        });
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        ids
    };
    for record in left.records() {
        let name = record["nodeName"].as_str().unwrap();
        assert_eq!(
            ids(&viola.current(TARGET)[name]),
            ids(&record["config"]),
            "{name} keeps its ids"
        );
    }
    left.is_read_by_the_go_operator();
}

/// The commands of the guide below a heading.
fn commands(heading: &str) -> Vec<String> {
    let guide = text("docs/upgrade.md");
    let section = guide.split(&format!("\n{heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn from_its_chart() {
    let upgrade = commands("### Helm").concat();
    let values = upgrade.split("<<'END'\n").nth(1).unwrap().split("\nEND\n").next().unwrap();
    let Some(environment) = chart::upgraded(values) else { return };
    let left = Left::by(Version::Objects);
    let endpoints = [left.world.url(Service::Contrabass), left.world.url(Service::Viola)].join(",");
    // The release's settings, at this cloud's addresses and in a test's folder.
    let given = environment["ALLOWED_ENDPOINTS"].as_str().unwrap();
    assert_eq!(given, "https://contrabass.example.com,https://viola.example.com");
    let mut variables = NOWHERE.to_vec();
    for (name, value) in environment.as_object().unwrap() {
        match name.as_str() {
            "ALLOWED_ENDPOINTS" => variables.push((name, &endpoints)),
            "INVENTORY_ADDR" | "INVENTORY_DB_PATH" => {}
            _ => variables.push((name, value.as_str().unwrap())),
        }
    }
    // That chart's program verifies certificates, and only some objects may turn that off.
    let message = left.is_refused(&variables);
    assert!(message.contains("OBJECT_SETTINGS"), "{message}");
    left.world.change_spec(json!({"settings": {"openstackInsecureTLS": null}}));
    left.upgrade(&variables);
}

/// In place of curl: the API of a version of the Go operator, from files.
const CURL: &str = r#"#!/bin/sh
for url; do :; done
file="$ANSWERS/$(echo "$url" | sed 's#.*/v1/##; s#[/?=]#-#g')"
[ -e "$file" ] || { echo "curl: (22) 404" >&2; exit 22; }
cat "$file"
"#;

/// In place of kubectl: two targets, one of them twice.
const KUBECTL: &str = r#"#!/bin/sh
case "$*" in *get*) echo biz-1 biz-2 biz-1 ;; esac
"#;

fn tool(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_inventory_is_taken_from_the_api_of_either_version() {
    let record = |target: &str, node: &str| json!({"providerId": target, "nodeName": node});
    let first = vec![("inventory-node-configs", json!([record("p", "a"), record("p", "b")]))];
    let later = vec![
        ("interfaces-node-configs-providerId-biz-1", json!([record("biz-1", "a")])),
        (
            "interfaces-node-configs-providerId-biz-2",
            json!([record("biz-2", "b"), record("biz-2", "c")]),
        ),
    ];
    // A target without nodes.
    let empty = vec![
        ("interfaces-node-configs-providerId-biz-1", json!(null)),
        ("interfaces-node-configs-providerId-biz-2", json!([record("biz-2", "b")])),
    ];
    for answers in [first, later, empty] {
        let folder = tempfile::tempdir().unwrap();
        let tools = folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        tool(&tools, "curl", CURL);
        tool(&tools, "kubectl", KUBECTL);
        tool(&tools, "sleep", "#!/bin/sh\n");
        let mut expected = Vec::new();
        for (name, answer) in &answers {
            fs::write(folder.path().join(name), format!("{answer}\n")).unwrap();
            expected.extend(answer.as_array().into_iter().flatten().cloned());
        }
        let path = std::env::var("PATH").unwrap();
        let block = commands("## 1. Take the inventory file").concat();
        // Job control is for terminals.
        let block = block.replace("kill %1", "wait");
        let output = Command::new("sh")
            .args(["-c", &block])
            .current_dir(folder.path())
            .env("PATH", format!("{}:{path}", tools.display()))
            .env("ANSWERS", folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let taken = fs::read_to_string(folder.path().join("inventory.json")).unwrap();
        let taken: Value =
            serde_json::from_str(&taken).unwrap_or_else(|error| panic!("{error}: {taken}\n{said}"));
        assert_eq!(taken, json!({ "records": expected }));
    }
}
