//! The custom resource `OpenstackConfig` as Rust types (docs/behaviour.md#custom-resource).
//!
//! An object that breaks the schema (an older cluster lets it through) is still an object: its
//! metadata is read, and its status says what is wrong with its spec. A test holds these types
//! to the CRD in `manifests/crd/`.

mod destination;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::DeliverySettings;
use crate::kube::objects::{ObjectMeta, ObjectReference, RawObject};
use crate::kube::resource::Resource;
use crate::secret::Secret;
use destination::GivenDelivery;
pub use destination::{ClusterRef, Destination, KubeconfigRef};

/// The custom resource.
pub const OPENSTACK_CONFIGS: Resource = Resource {
    group: "multinic.example.com",
    version: "v1alpha1",
    plural: "openstackconfigs",
    kind: "OpenstackConfig",
};
/// Any change of this annotation's value means: sync now, and send every node again.
pub const FORCE_ANNOTATION: &str = "multinic.example.com/force-reconcile";
/// The value of this annotation approves what is held.
pub const APPROVE_ANNOTATION: &str = "multinic.example.com/approve";

/// Names an object over its whole life and beyond.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Which OpenstackConfig a node in a cluster is of: `<namespace>/<name>/<uid>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOwner {
    /// The object.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
}

impl NodeOwner {
    /// None if it isn't written as we write it.
    pub(crate) fn read(text: &str) -> Option<NodeOwner> {
        let (namespace, rest) = text.split_once('/')?;
        let (name, uid) = rest.split_once('/')?;
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
        Some(NodeOwner { key, uid: uid.to_owned() })
    }
}

impl fmt::Display for NodeOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.key, self.uid)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// One object as last seen.
#[derive(Clone, Debug)]
pub struct OpenstackConfig {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Tells an object from its successor of the same name.
    pub uid: String,
    /// Moves with each change of the spec.
    pub generation: i64,
    /// When it was created; decides which of two objects keeps a node.
    pub created: Timestamp,
    /// Its deletion was asked for.
    pub being_deleted: bool,
    /// Value of [`FORCE_ANNOTATION`].
    pub force: Option<String>,
    /// Value of [`APPROVE_ANNOTATION`].
    pub approve: Option<String>,
    /// What is wanted, or what is wrong with it.
    pub spec: Result<Spec, String>,
    /// What was last reported; empty where it can't be read.
    pub status: Status,
}

/// What the user asks for, checked and in one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Which subnets, each once: ids, or one name. The first one that has an address of a port counts.
    pub subnets: Vec<SubnetSelector>,
    /// VM ids in lower case, each once, in the order given.
    pub vm_ids: Vec<String>,
    /// The cloud: Contrabass' id of it, or `<namespace>/<Secret>/<cloud's name>`, which is never
    /// sent.
    pub provider_id: String,
    /// `spec.credentials.identityRef`: a cloud that isn't Contrabass'.
    pub identity_ref: Option<IdentityRef>,
    /// The OpenStack project; empty for that of the token of such a cloud.
    pub project_id: String,
    /// The cluster Viola hands the configuration to; none means the provider's id.
    pub k8s_provider_id: Option<String>,
    /// Who brings the nodes there.
    pub destination: Destination,
    /// Nothing is asked or sent for the object.
    pub paused: bool,
    /// Which ports may be added to nodes.
    pub ports: PortFilter,
    /// `spec.settings`, but for the key: what is set otherwise than in the environment.
    pub settings: Arc<Overrides>,
    /// `spec.settings.contrabassEncryptKey`.
    pub encrypt_key: Option<Secret>,
    /// `spec.secrets.contrabassEncryptKeySecretRef`.
    pub encrypt_key_ref: Option<SecretKey>,
}

/// A cloud of the `clouds.yaml` in a Secret of the object's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentityRef {
    /// The Secret.
    pub secret: String,
    /// The cloud's name in the file.
    pub cloud: String,
    /// The region in place of the file's.
    pub region: Option<String>,
}

/// A key of a Secret in the object's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    /// The Secret.
    pub name: String,
    /// The key of its data.
    pub key: String,
}

/// Fields of `spec.settings` that aren't blank, by their names.
pub type Overrides = BTreeMap<&'static str, SettingValue>;

/// The value of a field of `spec.settings`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SettingValue {
    /// Trimmed.
    Text(String),
    /// True or false.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Some texts.
    List(Vec<String>),
}

/// Entries of `spec.subnetIDs`.
const MAX_SUBNETS: usize = 10;

/// Fields of `spec.settings`, and the JSON type of their values.
const SETTINGS: [(&str, &str); 20] = [
    ("contrabassEncryptKey", "string"),
    ("contrabassEndpoint", "string"),
    ("contrabassInsecureTLS", "boolean"),
    ("contrabassTimeout", "string"),
    ("downPortFastRetryMax", "integer"),
    ("openstackEndpointInterface", "string"),
    ("openstackEndpointRegion", "string"),
    ("openstackInsecureTLS", "boolean"),
    ("openstackNeutronEndpoint", "string"),
    ("openstackNodeNameMetadataKey", "string"),
    ("openstackNovaEndpoint", "string"),
    ("openstackPortAllowedStatuses", "array of strings"),
    ("openstackTimeout", "string"),
    ("pollErrorInterval", "string"),
    ("pollFastInterval", "string"),
    ("pollFastWindow", "string"),
    ("pollSlowInterval", "string"),
    ("violaEndpoint", "string"),
    ("violaInsecureTLS", "boolean"),
    ("violaTimeout", "string"),
];

impl Spec {
    /// The cluster as its agents know it: by `k8sProviderID`, or the cloud's id at Contrabass.
    pub(crate) fn cluster_id(&self) -> Option<&str> {
        let of_cloud = Some(&*self.provider_id).filter(|_| self.identity_ref.is_none());
        self.k8s_provider_id.as_deref().or(of_cloud)
    }

    /// The cluster that says what its agents make of the nodes. With Viola a kubeconfig that only the
    /// name of the cluster leads to may not exist.
    pub fn read_cluster(&self, namespace: &str) -> Option<ClusterRef> {
        let named = self.destination.cluster().cloned();
        named.or_else(|| ClusterRef::by_convention(namespace, self.k8s_provider_id.as_deref()?))
    }

    /// Does the operator itself write the nodes into their cluster?
    pub fn is_by_kubernetes(&self) -> bool {
        self.destination.is_kubernetes()
    }

    /// Who gets the nodes: for Viola the value of `x-provider-id`, else the cluster's name.
    pub fn target(&self) -> &str {
        match &self.destination {
            Destination::Kubernetes(cluster) => &cluster.name,
            Destination::Viola { .. } => {
                self.k8s_provider_id.as_deref().unwrap_or(&self.provider_id)
            }
        }
    }
}

/// `spec.ports`: what a port must have before it is added to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortFilter {
    /// It was created after the object.
    pub created_after_object: bool,
    /// All of these tags.
    pub tags: Vec<Arc<str>>,
}

/// The value of `spec.ports.createdAfter` and of `PORTS_CREATED_AFTER`.
pub(crate) const OBJECT_CREATION: &str = "ObjectCreation";

/// How the user names a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubnetSelector {
    /// By Neutron's id.
    Id(String),
    /// By its name within the project.
    Name(String),
}

/// The status subresource: all of it is ours, so it is always written whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// `Ready`, `Degraded`, `Configured` where the cluster can be read, `Paused` while the object is.
    pub conditions: Vec<Condition>,
    /// The last sync that ended well, whether or not anything was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_synced_at: Option<String>,
    /// Empty after success.
    pub last_error: String,
    /// How far resends for DOWN ports have come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_port_retry: Option<DownPortRetry>,
    /// The generation this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes computed last for that generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Removals that are held, or approved and not accepted yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The value of [`APPROVE_ANNOTATION`] that is used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_approved: Option<String>,
    /// Configured nodes of all nodes, such as `2/3`; these three are there where the cluster can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured: Option<String>,
    /// Nodes that are as they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured_nodes: Option<u32>,
    /// Nodes on which the agent failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_nodes: Option<u32>,
}

/// `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Degraded`, `Configured` or `Paused`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word for programs.
    pub reason: String,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
    /// Moves only when `status` does.
    pub last_transition_time: String,
    /// The generation this condition speaks of.
    #[serde(default)]
    pub observed_generation: i64,
}

/// `status.downPortRetry`: lets a restart go on counting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DownPortRetry {
    /// SHA-256 of the sorted ids of the DOWN ports.
    pub hash: String,
    /// When their nodes were last sent.
    pub last_attempt: Timestamp,
    /// Resends so far at the fast interval.
    pub fast_attempts: u32,
}

/// `status.hold`: lets a restart go on with what is held, and with an approval that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Names what the nodes would lose.
    pub hash: String,
    /// Since when something is held.
    pub since: Timestamp,
    /// Nodes that aren't sent because of it.
    pub nodes: u32,
    /// A person has approved it.
    #[serde(default)]
    pub approved: bool,
}

impl Status {
    /// Its fields, as the CRD declares them.
    pub const FIELDS: [&str; 11] = [
        "conditions",
        "lastSyncedAt",
        "lastError",
        "downPortRetry",
        "observedGeneration",
        "nodes",
        "hold",
        "lastApproved",
        "configured",
        "configuredNodes",
        "failedNodes",
    ];

    /// The condition of that type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Does `shown`, the status as the watch has it, say the same, but for `lastSyncedAt`?
    /// Conditions of other types in it are other programs' own.
    pub fn is_shown_by(&self, shown: &Status) -> bool {
        let conditions = self.conditions.iter().all(|ours| shown.conditions.contains(ours));
        let theirs = Status {
            conditions: self.conditions.clone(),
            last_synced_at: self.last_synced_at.clone(),
            ..shown.clone()
        };
        conditions && theirs == *self
    }
}

/// The spec as it stands in the object, before it is checked. Names as in the CRD.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenSpec {
    #[serde(rename = "subnetIDs")]
    subnet_ids: Option<Vec<String>>,
    #[serde(rename = "subnetID")]
    subnet_id: Option<String>,
    subnet_name: Option<String>,
    vm_names: Vec<String>,
    credentials: GivenCredentials,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    settings: serde_json::Value,
    #[serde(default)]
    secrets: GivenSecrets,
    #[serde(default)]
    ports: Option<GivenPorts>,
    #[serde(default)]
    delivery: GivenDelivery,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenPorts {
    created_after: Option<String>,
    tags: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GivenSecrets {
    contrabass_encrypt_key_secret_ref: Option<SecretKey>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenCredentials {
    #[serde(rename = "openstackProviderID")]
    openstack_provider_id: Option<String>,
    identity_ref: Option<GivenIdentityRef>,
    #[serde(rename = "projectID")]
    project_id: Option<String>,
    #[serde(rename = "k8sProviderID")]
    k8s_provider_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GivenIdentityRef {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    cloud_name: String,
    region: Option<String>,
}

impl OpenstackConfig {
    /// Does its spec say that nothing is to be done for it? One that can't be read doesn't.
    pub fn is_paused(&self) -> bool {
        self.spec.as_ref().is_ok_and(|spec| spec.paused)
    }

    /// How statuses, Events and owners name it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            resource: OPENSTACK_CONFIGS,
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            uid: self.uid.clone(),
        }
    }

    /// Reads an object as it came from the API server. Never fails: a spec that can't be read is
    /// a problem of that object, a status that can't be read counts as empty.
    pub fn from_raw(raw: &RawObject, delivery: &DeliverySettings) -> OpenstackConfig {
        let ObjectMeta { namespace, name, uid, generation, .. } = &raw.metadata;
        let body: Body = raw.parse().unwrap_or_default();
        OpenstackConfig {
            key: ObjectKey { namespace: namespace.clone(), name: name.clone() },
            uid: uid.clone(),
            generation: *generation,
            created: raw.metadata.creation_timestamp.unwrap_or(Timestamp::MIN),
            being_deleted: raw.metadata.deletion_timestamp.is_some(),
            force: raw.metadata.annotations.get(FORCE_ANNOTATION).cloned(),
            approve: raw.metadata.annotations.get(APPROVE_ANNOTATION).cloned(),
            spec: read_spec(namespace, body.spec.as_ref(), delivery),
            status: read_status(body.status.as_ref()),
        }
    }
}

/// The parts of an object beside its metadata.
#[derive(Default, Deserialize)]
struct Body {
    spec: Option<serde_json::Value>,
    status: Option<serde_json::Value>,
}

fn read_spec(
    namespace: &str,
    spec: Option<&serde_json::Value>,
    delivery: &DeliverySettings,
) -> Result<Spec, String> {
    let spec = spec.ok_or("spec is missing")?;
    let given = GivenSpec::deserialize(spec).map_err(|error| format!("spec: {error}"))?;
    let subnets = read_subnets(given.subnet_ids, given.subnet_id, given.subnet_name)?;
    let mut seen = BTreeSet::new();
    let mut vm_ids = Vec::new();
    for (at, id) in given.vm_names.into_iter().enumerate() {
        // A blank id would match every port that belongs to no VM at all.
        let id = optional(Some(id), &format!("vmNames[{at}]"))?;
        let id = id.map(|id| id.to_ascii_lowercase()).filter(|id| seen.insert(id.clone()));
        vm_ids.extend(id);
    }
    if vm_ids.is_empty() {
        return Err("spec.vmNames names no VM".to_owned());
    }
    let Credentials { provider_id, identity_ref, project_id, k8s_provider_id } =
        read_credentials(namespace, given.credentials)?;
    let destination =
        destination::read(namespace, k8s_provider_id.as_deref(), given.delivery, delivery)?;
    let (settings, encrypt_key) = read_settings(&given.settings)?;
    let spec = Spec {
        subnets,
        vm_ids,
        provider_id,
        identity_ref,
        project_id,
        k8s_provider_id,
        destination,
        paused: given.paused,
        ports: given.ports.map_or_else(|| Ok(PortFilter::default()), read_ports)?,
        settings: Arc::new(settings),
        encrypt_key,
        encrypt_key_ref: encrypt_key_ref(given.secrets)?,
    };
    if !spec.destination.is_kubernetes() {
        check_header(&spec)?;
    }
    Ok(spec)
}

/// Viola routes by the target's name, in a header.
fn check_header(spec: &Spec) -> Result<(), String> {
    let name = if spec.k8s_provider_id.is_some() { K8S_PROVIDER } else { PROVIDER };
    if spec.identity_ref.is_some() && spec.k8s_provider_id.is_none() {
        return Err(format!(
            "spec.{K8S_PROVIDER} is required with identityRef: Viola routes by it"
        ));
    }
    match spec.target() {
        target if target.is_ascii() => Ok(()),
        target => Err(format!(
            "spec.{name} must be ASCII, because it is sent in the header x-provider-id: {target:?}"
        )),
    }
}

/// `spec.credentials`, as [`Spec`] has them.
struct Credentials {
    provider_id: String,
    identity_ref: Option<IdentityRef>,
    project_id: String,
    k8s_provider_id: Option<String>,
}

const PROVIDER: &str = "credentials.openstackProviderID";
const K8S_PROVIDER: &str = "credentials.k8sProviderID";
const PROJECT: &str = "credentials.projectID";
const IDENTITY: &str = "credentials.identityRef";

fn read_credentials(namespace: &str, given: GivenCredentials) -> Result<Credentials, String> {
    let provider_id = optional(given.openstack_provider_id, PROVIDER)?;
    let project_id = optional(given.project_id, PROJECT)?;
    let k8s_provider_id = optional(given.k8s_provider_id, K8S_PROVIDER)?;
    let (provider_id, identity_ref) = match (provider_id, given.identity_ref) {
        (None, None) => return Err(format!("set spec.{PROVIDER} or spec.{IDENTITY}")),
        (Some(id), None) => (id, None),
        (Some(_), Some(_)) => {
            return Err(format!("spec.{PROVIDER} and spec.{IDENTITY} exclude each other"));
        }
        (None, Some(given)) => {
            let named = read_identity_ref(given)?;
            (format!("{namespace}/{}/{}", named.secret, named.cloud), Some(named))
        }
    };
    let project_id = match project_id {
        None if identity_ref.is_none() => return Err(format!("spec.{PROJECT} is blank")),
        given => given.unwrap_or_default(),
    };
    Ok(Credentials { provider_id, identity_ref, project_id, k8s_provider_id })
}

fn read_identity_ref(given: GivenIdentityRef) -> Result<IdentityRef, String> {
    if let Some(kind) = given.kind.filter(|kind| kind != "Secret") {
        return Err(format!("spec.{IDENTITY}.type is {kind:?}; only Secret is known"));
    }
    check_secret_name(&format!("{IDENTITY}.name"), &given.name)?;
    let field = format!("{IDENTITY}.cloudName");
    let cloud = optional(Some(given.cloud_name), &field)?;
    Ok(IdentityRef {
        secret: given.name,
        cloud: cloud.ok_or_else(|| format!("spec.{field} is blank"))?,
        region: optional(given.region, &format!("{IDENTITY}.region"))?,
    })
}

/// A Secret's name has no other characters, and begins with none of the signs.
fn check_secret_name(field: &str, name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(is_plain) {
        return Err(format!("spec.{field}: {name:?} isn't a valid name of a Secret"));
    }
    Ok(())
}

/// The subnets by the first field that isn't blank: `subnetIDs`, `subnetID`, `subnetName`.
fn read_subnets(
    ids: Option<Vec<String>>,
    id: Option<String>,
    name: Option<String>,
) -> Result<Vec<SubnetSelector>, String> {
    let given = ids.unwrap_or_default();
    if given.len() > MAX_SUBNETS {
        return Err(format!(
            "spec.subnetIDs has {} entries; allowed are {MAX_SUBNETS}",
            given.len()
        ));
    }
    let mut ids: Vec<String> = Vec::new();
    for (at, id) in given.into_iter().enumerate() {
        let id = optional(Some(id), &format!("subnetIDs[{at}]"))?;
        ids.extend(id.filter(|id| ids.iter().all(|known| !known.eq_ignore_ascii_case(id))));
    }
    let id = optional(id, "subnetID")?;
    if ids.is_empty() {
        ids.extend(id);
    }
    // A subnet's name is compared exactly, so it isn't trimmed.
    let name = name.filter(|name| ids.is_empty() && !name.trim().is_empty());
    Ok(ids.into_iter().map(SubnetSelector::Id).chain(name.map(SubnetSelector::Name)).collect())
}

fn read_ports(given: GivenPorts) -> Result<PortFilter, String> {
    let created_after = given.created_after.filter(|text| !text.trim().is_empty());
    if let Some(text) = created_after.as_ref().filter(|text| text.trim() != OBJECT_CREATION) {
        return Err(format!(
            "spec.ports.createdAfter is {text:?}; only {OBJECT_CREATION} is known"
        ));
    }
    let mut tags: Vec<Arc<str>> = Vec::new();
    for tag in given.tags.unwrap_or_default() {
        let tag: Arc<str> = tag.trim().into();
        if !tag.is_empty() && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(PortFilter { created_after_object: created_after.is_some(), tags })
}

/// `spec.settings`, and the key in it. What is null, blank or empty counts as absent, as in the Go
/// operator.
fn read_settings(given: &serde_json::Value) -> Result<(Overrides, Option<Secret>), String> {
    let (mut settings, mut encrypt_key) = (Overrides::new(), None);
    let fields = match given {
        serde_json::Value::Null => return Ok((settings, encrypt_key)),
        given => given.as_object().ok_or("spec.settings isn't an object")?,
    };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let field = SETTINGS.iter().find(|(known, _)| known == name);
        let (name, kind) = field.ok_or_else(|| format!("spec.settings.{name} is unknown"))?;
        if *name == "contrabassEncryptKey" {
            let key = value.as_str().ok_or("spec.settings.contrabassEncryptKey isn't a string")?;
            encrypt_key = (!key.trim().is_empty()).then(|| Secret::new(key.to_owned()));
            continue;
        }
        let value = match *kind {
            "string" => value.as_str().map(|text| SettingValue::Text(text.trim().to_owned())),
            "boolean" => value.as_bool().map(SettingValue::Flag),
            "integer" => value.as_i64().map(SettingValue::Number),
            _ => Vec::deserialize(value).ok().map(SettingValue::List),
        };
        match value.ok_or_else(|| format!("spec.settings.{name} is no {kind}"))? {
            SettingValue::Text(text) if text.is_empty() => {}
            SettingValue::List(list) if list.iter().all(|text| text.trim().is_empty()) => {}
            SettingValue::Text(text) if text.contains(char::is_control) => {
                return Err(format!("spec.settings.{name} has a control character"));
            }
            value => drop(settings.insert(*name, value)),
        }
    }
    Ok((settings, encrypt_key))
}

fn encrypt_key_ref(secrets: GivenSecrets) -> Result<Option<SecretKey>, String> {
    let Some(SecretKey { name, key }) = secrets.contrabass_encrypt_key_secret_ref else {
        return Ok(None);
    };
    let field = "secrets.contrabassEncryptKeySecretRef";
    check_secret_name(&format!("{field}.name"), &name)?;
    let key = optional(Some(key), &format!("{field}.key"))?;
    let key = key.ok_or_else(|| format!("spec.{field}.key is blank"))?;
    Ok(Some(SecretKey { name, key }))
}

/// A value that becomes part of a URL or a header; none if it is blank.
fn optional(value: Option<String>, name: &str) -> Result<Option<String>, String> {
    let value = value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    match value {
        Some(value) if value.contains(char::is_control) => {
            Err(format!("spec.{name} has a control character: {value:?}"))
        }
        value => Ok(value),
    }
}

fn read_status(status: Option<&serde_json::Value>) -> Status {
    let Some(status) = status else { return Status::default() };
    // Field by field, so that one unreadable field (written by hand) doesn't cost the others.
    fn field<T: DeserializeOwned + Default>(status: &serde_json::Value, name: &str) -> T {
        status.get(name).and_then(|value| T::deserialize(value).ok()).unwrap_or_default()
    }
    Status {
        conditions: field(status, "conditions"),
        last_synced_at: field(status, "lastSyncedAt"),
        last_error: field(status, "lastError"),
        down_port_retry: field(status, "downPortRetry"),
        observed_generation: field(status, "observedGeneration"),
        nodes: field(status, "nodes"),
        hold: field(status, "hold"),
        last_approved: field(status, "lastApproved"),
        configured: field(status, "configured"),
        configured_nodes: field(status, "configuredNodes"),
        failed_nodes: field(status, "failedNodes"),
    }
}

#[cfg(test)]
mod tests {
    use super::{PortFilter, Spec, SubnetSelector, read_status};
    use serde_json::json;

    fn read_spec(namespace: &str, spec: Option<&serde_json::Value>) -> Result<Spec, String> {
        super::read_spec(namespace, spec, &Default::default())
    }

    fn spec(change: impl FnOnce(&mut serde_json::Value)) -> serde_json::Value {
        let mut spec = json!({
            "subnetID": "s1", "subnetName": "lan",
            "vmNames": ["A", "b"],
            "credentials": {"openstackProviderID": "p", "projectID": "q"},
        });
        change(&mut spec);
        spec
    }

    #[test]
    fn subnet_ids_win_then_the_id_and_blank_selectors_count_as_absent() {
        let read = |change: fn(&mut serde_json::Value)| {
            read_spec("default", Some(&spec(change))).unwrap().subnets
        };
        let id = |id: &str| SubnetSelector::Id(id.to_owned());
        assert_eq!(read(|_| ()), [id("s1")]);
        let by_name = read(|spec| spec["subnetID"] = json!(" "));
        assert_eq!(by_name, [SubnetSelector::Name("lan".to_owned())]);
        let none = read(|spec| {
            spec["subnetID"] = json!(null);
            spec["subnetName"] = json!("");
        });
        assert_eq!(none, []);
        assert_eq!(
            read(|spec| spec["subnetIDs"] = json!(["s3", " s2", "", "S3"])),
            [id("s3"), id("s2")]
        );
        assert_eq!(read(|spec| spec["subnetIDs"] = json!([])), [id("s1")]);
        assert_eq!(read(|spec| spec["subnetIDs"] = json!([" "])), [id("s1")]);
    }

    #[test]
    fn a_list_of_subnets_has_at_most_ten_readable_entries() {
        let problem = |ids: serde_json::Value| {
            read_spec("default", Some(&spec(|spec| spec["subnetIDs"] = ids))).unwrap_err()
        };
        assert_eq!(problem(json!(vec!["s"; 11])), "spec.subnetIDs has 11 entries; allowed are 10");
        assert!(problem(json!(["s", "a\u{7f}b"])).starts_with("spec.subnetIDs[1] has a control"));
        assert!(problem(json!("s")).contains("expected a sequence"));
    }

    #[test]
    fn a_port_filter_has_known_words_and_each_tag_once() {
        let read = |ports: serde_json::Value| {
            read_spec("default", Some(&spec(|spec| spec["ports"] = ports))).map(|spec| spec.ports)
        };
        let filter = |created_after_object, tags: &[&str]| PortFilter {
            created_after_object,
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
        };
        assert_eq!(read(json!(null)), Ok(filter(false, &[])));
        assert_eq!(read(json!({"createdAfter": "", "tags": [" "]})), Ok(filter(false, &[])));
        let whole = json!({"createdAfter": "ObjectCreation", "tags": ["a", " b", "a", "A"]});
        assert_eq!(read(whole), Ok(filter(true, &["a", "b", "A"])));
        let unknown = read(json!({"createdAfter": "Yesterday"})).unwrap_err();
        let said = "spec.ports.createdAfter is \"Yesterday\"; only ObjectCreation is known";
        assert_eq!(unknown, said);
        assert!(read(json!({"tags": "a"})).unwrap_err().contains("expected a sequence"));
    }

    #[test]
    fn viola_hands_over_to_the_named_cluster_or_else_to_the_clouds_own() {
        let target = |body| read_spec("default", Some(&body)).unwrap().target().to_owned();
        assert_eq!(target(spec(|_| ())), "p");
        let named = spec(|spec| spec["credentials"]["k8sProviderID"] = json!("k"));
        assert_eq!(target(named), "k");
    }

    #[test]
    fn vm_ids_count_once_in_one_spelling_and_blank_ones_not_at_all() {
        let body = spec(|spec| spec["vmNames"] = json!([" A", "a", "", "B "]));
        assert_eq!(read_spec("default", Some(&body)).unwrap().vm_ids, ["a", "b"]);
    }

    #[test]
    fn a_value_that_no_url_or_header_can_hold_is_refused_by_the_name_of_its_field() {
        let problem = |pointer: &str, value: &str| {
            let mut body = spec(|_| ());
            *body.pointer_mut(pointer).unwrap() = json!(value);
            read_spec("default", Some(&body)).unwrap_err()
        };
        let with_cluster = spec(|spec| spec["credentials"]["k8sProviderID"] = json!("biz\n1"));
        assert_eq!(
            read_spec("default", Some(&with_cluster)).unwrap_err(),
            "spec.credentials.k8sProviderID has a control character: \"biz\\n1\""
        );
        for (pointer, field) in [
            ("/subnetID", "spec.subnetID"),
            ("/vmNames/1", "spec.vmNames[1]"),
            ("/credentials/openstackProviderID", "spec.credentials.openstackProviderID"),
            ("/credentials/projectID", "spec.credentials.projectID"),
        ] {
            let problem = problem(pointer, "a\u{7f}b");
            assert!(problem.starts_with(&format!("{field} has a control character")), "{problem}");
        }
        let foreign = problem("/credentials/openstackProviderID", "비즈");
        assert!(foreign.starts_with("spec.credentials.openstackProviderID must be ASCII"));
        let named = spec(|spec| {
            spec["credentials"]["openstackProviderID"] = json!("비즈");
            spec["credentials"]["k8sProviderID"] = json!("biz");
        });
        assert!(read_spec("default", Some(&named)).is_ok());
    }

    #[test]
    fn what_breaks_the_schema_is_told_in_words() {
        let problem = |change: fn(&mut serde_json::Value)| {
            read_spec("default", Some(&spec(change))).unwrap_err()
        };
        assert!(problem(|spec| spec["vmNames"] = json!("a")).contains("expected a sequence"));
        assert!(problem(|spec| spec["vmNames"] = json!(null)).contains("invalid type: null"));
        assert!(problem(|spec| spec["vmNames"] = json!([])).contains("spec.vmNames"));
        assert!(problem(|spec| spec["vmNames"] = json!([7])).contains("expected a string"));
        assert!(problem(|spec| spec["credentials"] = json!({})).contains("openstackProviderID"));
        let blank = problem(|spec| spec["credentials"]["projectID"] = json!(" "));
        assert_eq!(blank, "spec.credentials.projectID is blank");
        assert_eq!(read_spec("default", None).unwrap_err(), "spec is missing");
    }

    #[test]
    fn a_status_is_shown_whatever_its_time_and_whatever_others_add() {
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "R", "message": "m",
                "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1})
        };
        let status = |conditions: &[serde_json::Value], nodes: u32, time: &str| {
            read_status(Some(&json!({"conditions": conditions, "nodes": nodes,
                "lastError": "", "lastSyncedAt": time})))
        };
        let (ready, other) = (condition("Ready", "True"), condition("Reviewed", "True"));
        let ours = status(std::slice::from_ref(&ready), 2, "2026-01-02T03:04:05Z");
        assert!(ours.is_shown_by(&status(&[ready.clone(), other], 2, "2026-01-02T03:05:05Z")));
        assert!(!ours.is_shown_by(&status(
            std::slice::from_ref(&ready),
            3,
            "2026-01-02T03:04:05Z"
        )));
        assert!(!ours.is_shown_by(&status(
            &[condition("Ready", "False")],
            2,
            "2026-01-02T03:04:05Z"
        )));
        assert!(!ours.is_shown_by(&status(&[], 2, "2026-01-02T03:04:05Z")));
    }

    #[test]
    fn one_unreadable_status_field_does_not_cost_the_others() {
        let status = read_status(Some(&json!({"nodes": "three", "lastError": "x"})));
        assert_eq!((status.nodes, status.last_error.as_str()), (None, "x"));
    }
}
