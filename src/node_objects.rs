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
use crate::kube::objects::ObjectMeta;
use crate::kube::resource::Resource;
use crate::node_config::hexadecimal;
use crate::threads::{self, Task};

/// The custom resource of the agent.
const MULTI_NIC_NODE_CONFIGS: Resource = Resource {
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

/// Applies at a time.
const SIDE_BY_SIDE: usize = 4;

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

    /// Applies each node; gives what became of it, in their order. Once the server itself is in
    /// trouble the rest would only wait for the same answer, and gets it at once.
    pub(crate) fn apply(
        &self,
        nodes: &[Node],
        provider_id: Option<&str>,
    ) -> Vec<Result<Applied, String>> {
        let trouble: OnceLock<String> = OnceLock::new();
        let tasks = nodes.iter().map(|node| {
            let trouble = &trouble;
            Box::new(move || match trouble.get() {
                Some(error) => Err(error.clone()),
                None => self.apply_one(node, labels(node, provider_id)).map_err(|error| {
                    // What the schema refuses is said in the API server's own words, which name the
                    // object; readers shorten what is longer.
                    let status = error.status();
                    let text = match status.code {
                        422 => status.message.clone(),
                        _ => error.to_string(),
                    };
                    if error.is_server_trouble() {
                        let _ = trouble.set(text.clone());
                    }
                    text
                }),
            }) as Task<'_, Result<Applied, String>>
        });
        threads::side_by_side(SIDE_BY_SIDE, tasks.collect())
    }

    fn apply_one(&self, node: &Node, labels: Labels) -> Result<Applied, KubeError> {
        #[derive(Deserialize)]
        struct Object {
            metadata: ObjectMeta,
        }
        let path = MULTI_NIC_NODE_CONFIGS.object(&self.namespace, &node.node_name);
        let body = object(node, &labels, &self.namespace);
        let (is_new, Object { metadata }) = self.client.apply::<Object>(&path, &body)?;
        let ObjectMeta { uid, generation, .. } = metadata;
        Ok(Applied { is_new, uid, generation, labels })
    }
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

/// The object: what we say of it, and nothing that is another's to say.
fn object(node: &Node, labels: &Labels, namespace: &str) -> Value {
    json!({
        "apiVersion": MULTI_NIC_NODE_CONFIGS.api_version(),
        "kind": MULTI_NIC_NODE_CONFIGS.kind,
        "metadata": { "name": node.node_name, "namespace": namespace, "labels": labels },
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
        assert_eq!(object(&node, &labels(&node, Some("biz-1")), "somewhere"), expected);
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
