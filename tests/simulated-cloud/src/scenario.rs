//! Scenarios: a cloud, the objects in Kubernetes and what must come of them, from a folder.
//!
//! | file | |
//! |---|---|
//! | `README.md` | what the scenario shows |
//! | `cloud.json` | what Contrabass and OpenStack hold |
//! | `objects.json` | the objects that Kubernetes holds at the beginning (optional) |
//! | `expected.json` | what Viola must hold in the end, and the objects' status (for tests) |
//! | `environment.json` | further environment variables for the operator (optional) |
//!
//! Adding a scenario is adding a folder.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::state::{
    ApplicationCredential, CatalogService, CloudState, Domain, Endpoint, Network, Port, Project,
    Provider, Server, Settings, Subnet, User,
};

/// What a scenario begins with and what it must come to.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    pub name: String,
    pub state: CloudState,
    pub objects: Vec<Value>,
    pub expected: Expected,
    /// Further environment variables; `{neutron}` and `{nova}` stand for the simulated services.
    pub environment: BTreeMap<String, String>,
}

/// What must come of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// What Viola must hold in the end; nothing under any other provider id.
    pub posts: Vec<ExpectedPost>,
    /// The status of the objects, by `namespace/name`.
    pub status: BTreeMap<String, ExpectedStatus>,
}

/// What Viola must hold for one Biz cluster.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedPost {
    /// The header `x-provider-id`.
    pub provider_id: String,
    /// The exact node configurations, sorted by node name.
    pub nodes: Vec<Value>,
}

/// The Ready condition that an object must come to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedStatus {
    /// `True` or `False`.
    pub ready: String,
    pub reason: String,
    /// Texts that the message must contain.
    #[serde(default)]
    pub message_contains: Vec<String>,
}

/// What is wrong with a scenario's files.
#[derive(Debug)]
pub struct ScenarioError {
    pub path: PathBuf,
    pub problem: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for ScenarioError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloudFile {
    #[serde(default = "demo_key")]
    encryption_key: String,
    #[serde(default)]
    settings: Settings,
    providers: Vec<Provider>,
    #[serde(default)]
    domains: Option<Vec<Domain>>,
    users: Vec<User>,
    #[serde(default)]
    application_credentials: Vec<ApplicationCredential>,
    projects: Vec<Project>,
    #[serde(default)]
    catalog: Option<Vec<CatalogService>>,
    #[serde(default)]
    networks: Vec<Network>,
    #[serde(default)]
    subnets: Vec<Subnet>,
    #[serde(default)]
    servers: Vec<Server>,
    #[serde(default)]
    ports: Vec<Port>,
}

impl Scenario {
    /// Loads a scenario's folder, of which only `cloud.json` must be there.
    ///
    /// # Errors
    /// When a file can't be read, or doesn't say what it must.
    pub fn load(folder: &Path) -> Result<Scenario, ScenarioError> {
        let name = folder.file_name().unwrap_or_default();
        Ok(Scenario {
            name: name.to_string_lossy().into_owned(),
            state: state_from(read::<CloudFile>(&folder.join("cloud.json"))?),
            objects: read_if_there(&folder.join("objects.json"))?,
            expected: read_if_there(&folder.join("expected.json"))?,
            environment: read_if_there(&folder.join("environment.json"))?,
        })
    }

    /// Loads all scenarios below a folder, for tests: its subfolders that have a `cloud.json`, by
    /// name.
    ///
    /// # Errors
    /// When the folder can't be read, or a scenario in it, or one doesn't say what it expects.
    pub fn load_all(folder: &Path) -> Result<Vec<Scenario>, ScenarioError> {
        let problem = |error: std::io::Error| ScenarioError {
            path: folder.to_owned(),
            problem: error.to_string(),
        };
        let mut folders = Vec::new();
        for entry in fs::read_dir(folder).map_err(problem)? {
            let path = entry.map_err(problem)?.path();
            if !path.join("cloud.json").exists() {
                continue;
            }
            let expected = path.join("expected.json");
            if !expected.exists() {
                let problem = "is missing; a test needs to know what must come of it".to_owned();
                return Err(ScenarioError { path: expected, problem });
            }
            folders.push(path);
        }
        folders.sort();
        folders.iter().map(|path| Scenario::load(path)).collect()
    }

    /// A scenario made in a test: the content of a `cloud.json`, and objects.
    ///
    /// # Errors
    /// When the content isn't that of a `cloud.json`.
    pub fn from_json(cloud: Value, objects: Vec<Value>) -> Result<Scenario, ScenarioError> {
        let file = serde_json::from_value(cloud).map_err(|error| ScenarioError {
            path: PathBuf::from("cloud.json"),
            problem: error.to_string(),
        })?;
        Ok(Scenario {
            name: "made in a test".to_owned(),
            state: state_from(file),
            objects,
            ..Scenario::default()
        })
    }
}

fn read_if_there<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ScenarioError> {
    if path.exists() { read(path) } else { Ok(T::default()) }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ScenarioError> {
    let problem = |problem: String| ScenarioError { path: path.to_owned(), problem };
    let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| problem(error.to_string()))
}

fn state_from(file: CloudFile) -> CloudState {
    let mut state = CloudState::default();
    state.settings = file.settings;
    state.encryption_key = file.encryption_key;
    state.providers = file.providers;
    state.domains = file.domains.unwrap_or_else(bootstrap_domain);
    state.users = file.users;
    state.application_credentials = file.application_credentials;
    state.projects = file.projects;
    state.catalog = file.catalog.unwrap_or_else(usual_catalog);
    state.networks = file.networks;
    state.subnets = file.subnets;
    for server in file.servers {
        state.add_server(server);
    }
    for port in file.ports {
        state.add_port(port);
    }
    state
}

fn demo_key() -> String {
    "multinic-demo-16".to_owned()
}

/// The domain that every Keystone begins with.
fn bootstrap_domain() -> Vec<Domain> {
    vec![Domain { id: "default".to_owned(), name: "Default".to_owned() }]
}

/// One region, as the install guides set it up.
fn usual_catalog() -> Vec<CatalogService> {
    let service = |kind: &str, name: &str, url: &str| CatalogService {
        kind: kind.to_owned(),
        name: name.to_owned(),
        endpoints: ["admin", "internal", "public"]
            .into_iter()
            .map(|interface| Endpoint {
                interface: interface.to_owned(),
                region: Some("RegionOne".to_owned()),
                region_id: Some("RegionOne".to_owned()),
                url: url.to_owned(),
            })
            .collect(),
    };
    vec![
        service("identity", "keystone", "{keystone}/v3"),
        service("compute", "nova", "{nova}/v2.1"),
        service("network", "neutron", "{neutron}"),
    ]
}
