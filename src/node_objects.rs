//! `MultiNicNodeConfig` objects, which the agent reads: what is in them, and how they are applied.
//!
//! An object holds the fields that the agent's CRD declares and no others: server-side apply of an
//! undeclared one fails for the whole object.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::objects::{ObjectMeta, RawObject};
use crate::kube::resource::Resource;
use crate::listing;
use crate::node_config::{self, MAX_INTERFACES, NodeConfig, hexadecimal};
use crate::threads::{self, Task};

/// The custom resource of the agent.
pub(crate) const MULTI_NIC_NODE_CONFIGS: Resource = Resource {
    group: "multinic.io",
    version: "v1alpha1",
    plural: "multinicnodeconfigs",
    kind: "MultiNicNodeConfig",
};
/// How kubectl names the resource of one object.
pub(crate) const QUALIFIED_NAME: &str = "multinicnodeconfig.multinic.io";

/// Longest value of a label.
const MAX_LABEL_BYTES: usize = 63;
/// Hexadecimal digits of a digest that are kept: no two values meet by chance.
const DIGEST_DIGITS: usize = 32;

/// Requests to one cluster at a time.
pub(crate) const SIDE_BY_SIDE: usize = 8;
/// Says which OpenstackConfig an object is of.
const OWNER_ANNOTATION: &str = "multinic.example.com/owner";

/// Labels by name.
pub(crate) type Labels = BTreeMap<&'static str, String>;

/// The spec of an object.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node<I = Interface> {
    pub(crate) node_name: String,
    pub(crate) instance_id: String,
    pub(crate) interfaces: Vec<I>,
}

impl From<&NodeConfig> for Node {
    fn from(config: &NodeConfig) -> Node {
        let interface = |one: &node_config::Interface| Interface {
            id: one.id,
            port_id: Some(one.port_id.clone()),
            name: one.name.to_string(),
            mac_address: one.mac_address.clone(),
            address: one.address,
            cidr: one.cidr.to_string(),
            mtu: one.mtu,
        };
        Node {
            node_name: config.node_name.clone(),
            instance_id: config.instance_id.clone(),
            interfaces: config.interfaces.iter().map(interface).collect(),
        }
    }
}

/// One interface of a spec.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Interface {
    /// Later versions of the Go operator leave out 0. The name says it as well.
    #[serde(default)]
    pub(crate) id: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port_id: Option<String>,
    pub(crate) name: String,
    pub(crate) mac_address: String,
    pub(crate) address: IpAddr,
    pub(crate) cidr: String,
    pub(crate) mtu: u32,
}

/// An object after an apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// There was none of its name before.
    pub(crate) is_new: bool,
    pub(crate) uid: String,
    /// Any change of the spec moves it, ours or another's.
    pub(crate) generation: i64,
    pub(crate) labels: Labels,
}

/// An object as it is in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Existing {
    pub(crate) name: String,
    /// What [`OWNER_ANNOTATION`] says.
    pub(crate) owner: Option<String>,
    /// The VM.
    pub(crate) instance_id: String,
    /// Ids of interfaces by MAC address in lower case.
    pub(crate) ids: BTreeMap<String, u8>,
}

/// The objects of one namespace of one cluster.
pub(crate) struct NodeObjects {
    client: KubeClient,
    namespace: String,
}

impl NodeObjects {
    /// Writes as the client's field manager.
    pub(crate) fn new(client: KubeClient, namespace: String) -> NodeObjects {
        NodeObjects { client, namespace }
    }

    /// For other calls to the same cluster.
    pub(crate) fn client(&self) -> &KubeClient {
        &self.client
    }

    /// Applies each node, without an owner; gives what became of it, in their order.
    pub(crate) fn apply_all(
        &self,
        nodes: &[Node],
        provider_id: Option<&str>,
    ) -> Vec<Result<Applied, String>> {
        let applied = until_trouble(nodes, &|node| self.apply(node, provider_id, None));
        // What the schema refuses is said in the API server's own words, which name the object;
        // readers shorten what is longer.
        let text = |error: KubeError| match error.status() {
            status if status.code == 422 => status.message.clone(),
            _ => error.to_string(),
        };
        applied.into_iter().map(|result| result.map_err(text)).collect()
    }

    /// Applies one node.
    pub(crate) fn apply(
        &self,
        node: &Node,
        provider_id: Option<&str>,
        owner: Option<&str>,
    ) -> Result<Applied, KubeError> {
        #[derive(Deserialize)]
        struct Object {
            metadata: ObjectMeta,
        }
        let labels = labels(node, provider_id);
        let path = MULTI_NIC_NODE_CONFIGS.object(&self.namespace, &node.node_name);
        let body = object(node, &labels, owner, &self.namespace);
        let (is_new, Object { metadata }) = self.client.apply::<Object>(&path, &body)?;
        let ObjectMeta { uid, generation, .. } = metadata;
        Ok(Applied { is_new, uid, generation, labels })
    }

    /// The object of a node, if there is one.
    pub(crate) fn get(&self, node_name: &str) -> Result<Option<Existing>, KubeError> {
        let path = MULTI_NIC_NODE_CONFIGS.object(&self.namespace, node_name);
        match self.client.get::<Given>(&path) {
            Ok(given) => Ok(Some(given.into())),
            Err(error) if error.status().is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects.
    pub(crate) fn list(&self) -> Result<Vec<Existing>, KubeError> {
        let objects =
            listing::objects_of(&self.client, &MULTI_NIC_NODE_CONFIGS, Some(&self.namespace))?;
        let read = |raw: &RawObject| raw.parse::<Given>().ok().map(Existing::from);
        Ok(objects.iter().filter_map(read).collect())
    }
}

/// Does something with each item, side by side. Once the server itself is in trouble the rest would
/// only wait for the same answer, and gets it at once.
pub(crate) fn until_trouble<N: Sync, T: Send>(
    items: &[N],
    what: &(dyn Fn(&N) -> Result<T, KubeError> + Sync),
) -> Vec<Result<T, KubeError>> {
    let trouble: OnceLock<KubeError> = OnceLock::new();
    let tasks = items.iter().map(|item| {
        let trouble = &trouble;
        Box::new(move || match trouble.get() {
            Some(error) => Err(error.clone()),
            None => what(item).inspect_err(|error| {
                if error.is_server_trouble() {
                    let _ = trouble.set(error.clone());
                }
            }),
        }) as Task<'_, Result<T, KubeError>>
    });
    threads::side_by_side(SIDE_BY_SIDE, tasks.collect())
}

/// An object as somebody wrote it: only its name is sure.
#[derive(Deserialize)]
struct Given {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

impl From<Given> for Existing {
    fn from(Given { metadata, spec }: Given) -> Existing {
        let interfaces = spec["interfaces"].as_array().into_iter().flatten();
        Existing {
            name: metadata.name,
            owner: metadata.annotations.get(OWNER_ANNOTATION).cloned(),
            instance_id: spec["instanceId"].as_str().unwrap_or_default().to_owned(),
            ids: interfaces.filter_map(mac_and_id).collect(),
        }
    }
}

/// None where id and name contradict each other, for then nobody knows what the card is called.
fn mac_and_id(interface: &Value) -> Option<(String, u8)> {
    let mac = interface["macAddress"].as_str()?.to_ascii_lowercase();
    let of_name = interface["name"].as_str().filter(|name| !name.is_empty());
    let of_name = of_name.map(|name| name.strip_prefix("multinic")?.parse::<u8>().ok());
    let given = interface["id"].as_u64().map(|id| u8::try_from(id).ok());
    let id = match (given, of_name) {
        (Some(id), Some(of_name)) if id == of_name => id,
        // Later versions of the Go operator leave out 0.
        (None, id) | (id, None) => id?,
        _ => None,
    }?;
    (usize::from(id) < MAX_INTERFACES).then_some((mac, id))
}

/// The labels of a node's object; without a provider id there is no label for one.
fn labels(node: &Node, provider_id: Option<&str>) -> Labels {
    let mut labels = Labels::from([
        ("multinic.io/node-name", label_value(&node.node_name)),
        ("multinic.io/instance-id", label_value(&node.instance_id)),
    ]);
    labels.extend(provider_id.map(|id| ("multinic.io/provider-id", label_value(id))));
    labels
}

/// The object of a node as it would be applied.
pub(crate) fn body(
    node: &Node,
    provider_id: Option<&str>,
    owner: Option<&str>,
    namespace: &str,
) -> Value {
    object(node, &labels(node, provider_id), owner, namespace)
}

/// The object: what we say of it, and nothing that is another's to say.
fn object(node: &Node, labels: &Labels, owner: Option<&str>, namespace: &str) -> Value {
    let mut metadata = json!({ "name": node.node_name, "namespace": namespace, "labels": labels });
    if let Some(owner) = owner {
        metadata["annotations"] = json!({ OWNER_ANNOTATION: owner });
    }
    json!({
        "apiVersion": MULTI_NIC_NODE_CONFIGS.api_version(),
        "kind": MULTI_NIC_NODE_CONFIGS.kind,
        "metadata": metadata,
        "spec": node,
    })
}

/// The text itself where a label can hold it, else `sha256-` and the beginning of its digest: equal
/// texts still have equal labels, different ones different labels, and the object says it in full.
/// The provider id alone is then nowhere to be read, as the spec doesn't hold it.
fn label_value(text: &str) -> String {
    if is_label_value(text) {
        return text.to_owned();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let digits: String = hexadecimal(digest.as_ref()).chars().take(DIGEST_DIGITS).collect();
    format!("sha256-{digits}")
}

pub(crate) fn is_label_value(text: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL_BYTES
        && outer(bytes.first())
        && outer(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::Node;
    use super::{is_label_value, label_value, labels, object};
    use serde_json::json;

    #[test]
    fn an_object_has_labels_and_spec_and_nothing_else() {
        let (node_name, instance_id) = ("worker-1".to_owned(), "vm-1".to_owned());
        let node = Node { node_name, instance_id, interfaces: Vec::new() };
        let expected = json!({
            "apiVersion": "multinic.io/v1alpha1",
            "kind": "MultiNicNodeConfig",
            "metadata": {
                "name": "worker-1",
                "namespace": "somewhere",
                "labels": {
                    "multinic.io/node-name": "worker-1",
                    "multinic.io/instance-id": "vm-1",
                    "multinic.io/provider-id": "biz-1",
                },
            },
            "spec": { "nodeName": "worker-1", "instanceId": "vm-1", "interfaces": [] },
        });
        assert_eq!(object(&node, &labels(&node, Some("biz-1")), None, "somewhere"), expected);
        assert_eq!(labels(&node, None).len(), 2);
    }

    #[test]
    fn what_no_label_can_hold_is_replaced_by_its_digest() {
        let long = "a".repeat(64);
        for text in ["", "a b", "-a", "a.", "a/b", "한국", long.as_str()] {
            let value = label_value(text);
            assert!(value.starts_with("sha256-") && is_label_value(&value), "{text:?}: {value}");
            assert_eq!(value, label_value(text));
        }
        assert_ne!(label_value("a b"), label_value("a/b"));
        for text in ["a", "A.b_c-9", &long[1..]] {
            assert_eq!(label_value(text), text);
        }
    }
}
