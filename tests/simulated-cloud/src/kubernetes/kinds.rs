//! What the simulated API server serves: the built-in kinds the operator and kubectl touch, and custom ones.

use serde_json::Value;
use std::sync::{Arc, LazyLock};

/// The custom resources of this repository, as a cluster has them.
static OPENSTACK_CONFIGS: LazyLock<Value> =
    LazyLock::new(|| read(include_str!("../../../../manifests/crd/openstackconfigs.yaml")));
static NODE_INTERFACES: LazyLock<Value> =
    LazyLock::new(|| read(include_str!("../../../../manifests/crd/nodeinterfaces.yaml")));
static MULTI_NIC_NODE_CONFIGS: LazyLock<Value> =
    LazyLock::new(|| read(include_str!("../../../../manifests/test/multinicnodeconfigs.yaml")));

/// A printer column of a custom resource, as `additionalPrinterColumns` describes it.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading, for example `Last Synced`.
    pub name: String,
    /// `string`, `integer` or `date`.
    pub kind: String,
    /// JSONPath into the object, for example `.status.nodes`.
    pub path: String,
}

/// One kind of object, and how the server treats it.
#[derive(Clone, Debug)]
pub struct ResourceKind {
    pub group: String,
    /// API version, for example `v1alpha1`.
    pub version: String,
    /// Kind, for example `OpenstackConfig`.
    pub kind: String,
    /// Plural, as it stands in paths.
    pub plural: String,
    /// Singular, for kubectl.
    pub singular: String,
    /// Short names, for kubectl.
    pub short_names: Vec<String>,
    pub namespaced: bool,
    /// Whether `/status` is served; then a write to the main resource ignores the status.
    pub status_subresource: bool,
    /// Whether a CRD defines it. The server answers differently for these in many small ways.
    pub custom: bool,
    /// Printer columns besides the name.
    pub columns: Vec<Column>,
    /// The CRD's `openAPIV3Schema`; without one every field is taken as it is.
    pub schema: Option<Arc<Value>>,
}

impl ResourceKind {
    /// A namespaced custom resource with a status subresource and no columns but the age.
    pub fn custom(group: &str, version: &str, kind: &str, plural: &str) -> ResourceKind {
        ResourceKind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            namespaced: true,
            status_subresource: true,
            custom: true,
            columns: Vec::new(),
            schema: None,
        }
        .with_column("Age", "date", ".metadata.creationTimestamp")
    }

    /// What the first version of a CustomResourceDefinition defines.
    pub fn of_crd(crd: &Value) -> ResourceKind {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (spec, names) = (&crd["spec"], &crd["spec"]["names"]);
        let version = &spec["versions"][0];
        let columns = list(&version["additionalPrinterColumns"]).into_iter();
        // The others are for `kubectl get -o wide`.
        let shown = columns.filter(|column| column["priority"].as_u64().unwrap_or_default() == 0);
        let column = |column: Value| Column {
            name: text(&column["name"]),
            kind: text(&column["type"]),
            path: text(&column["jsonPath"]),
        };
        ResourceKind {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            kind: text(&names["kind"]),
            plural: text(&names["plural"]),
            singular: text(&names["singular"]),
            short_names: list(&names["shortNames"]).iter().map(text).collect(),
            namespaced: spec["scope"] == "Namespaced",
            status_subresource: version["subresources"]["status"].is_object(),
            custom: true,
            columns: shown.map(column).collect(),
            schema: Some(Arc::new(version["schema"]["openAPIV3Schema"].clone())),
        }
    }

    /// `multinic.example.com/v1alpha1 OpenstackConfig`, the operator's own resource.
    pub fn openstack_config() -> ResourceKind {
        ResourceKind::of_crd(&OPENSTACK_CONFIGS)
    }

    /// `multinic.example.com/v1alpha1 NodeInterfaces`, the operator's own records.
    pub fn node_interfaces() -> ResourceKind {
        ResourceKind::of_crd(&NODE_INTERFACES)
    }

    /// `multinic.io/v1alpha1 MultiNicNodeConfig`, what the stand-in for Viola writes.
    pub fn multi_nic_node_config() -> ResourceKind {
        ResourceKind::of_crd(&MULTI_NIC_NODE_CONFIGS)
    }

    /// The same kind with one more column.
    #[must_use]
    pub fn with_column(mut self, name: &str, kind: &str, path: &str) -> ResourceKind {
        self.columns.push(Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
            path: path.to_owned(),
        });
        self
    }

    fn built_in(group: &str, kind: &str, plural: &str, short_name: &str) -> ResourceKind {
        let mut built_in = ResourceKind::custom(group, "v1", kind, plural);
        built_in.custom = false;
        built_in.status_subresource = false;
        if !short_name.is_empty() {
            built_in.short_names.push(short_name.to_owned());
        }
        built_in
    }

    /// Everything a new server serves.
    pub(super) fn initial() -> Vec<ResourceKind> {
        let mut namespace = ResourceKind::built_in("", "Namespace", "namespaces", "ns");
        namespace.namespaced = false;
        let mut event = ResourceKind::built_in("", "Event", "events", "ev");
        event.columns.clear();
        let event = event
            .with_column("Last Seen", "date", ".lastTimestamp")
            .with_column("Type", "string", ".type")
            .with_column("Reason", "string", ".reason")
            .with_column("Object", "string", ".involvedObject.name")
            .with_column("Message", "string", ".message");
        vec![
            namespace,
            event,
            ResourceKind::built_in("", "Secret", "secrets", ""),
            ResourceKind::built_in("", "ConfigMap", "configmaps", "cm"),
            ResourceKind::built_in("coordination.k8s.io", "Lease", "leases", ""),
            ResourceKind::openstack_config(),
            ResourceKind::node_interfaces(),
            ResourceKind::multi_nic_node_config(),
        ]
    }

    /// `apiVersion` of the objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `plural.group`, or the plural alone for core: how most messages name the resource.
    pub fn qualified_plural(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// `Kind.group`, or the kind alone for core: how validation messages name it.
    pub(super) fn qualified_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }

    /// Whether it is meant by this kind or plural name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.kind == name || self.plural == name || self.qualified_plural() == name
    }
}

/// `name.group`, or the name alone for core.
pub(super) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

fn read(crd: &str) -> Value {
    serde_norway::from_str(crd).unwrap_or_default()
}
