//! A node configuration as the custom resource it becomes. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::payload::Node;
use crate::kube::resource::Resource;
use crate::node_config::hexadecimal;

/// The custom resource of the agent.
pub(super) const MULTI_NIC_NODE_CONFIGS: Resource = Resource {
    group: "multinic.io",
    version: "v1alpha1",
    plural: "multinicnodeconfigs",
    kind: "MultiNicNodeConfig",
};
/// How kubectl names the resource of one object.
pub(super) const QUALIFIED_NAME: &str = "multinicnodeconfig.multinic.io";

/// Longest value of a label.
const MAX_LABEL_BYTES: usize = 63;
/// Hexadecimal digits of a digest that are kept: no two values meet by chance.
const DIGEST_DIGITS: usize = 32;

/// Labels by name.
pub(super) type Labels = BTreeMap<&'static str, String>;

/// The labels of a node's object; without a provider id there is no label for one.
pub(super) fn labels(node: &Node, provider_id: Option<&str>) -> Labels {
    let mut labels = Labels::from([
        ("multinic.io/node-name", label_value(&node.node_name)),
        ("multinic.io/instance-id", label_value(&node.instance_id)),
    ]);
    labels.extend(provider_id.map(|id| ("multinic.io/provider-id", label_value(id))));
    labels
}

/// The object: what we say of it, and nothing that is another's to say.
pub(super) fn object(node: &Node, labels: &Labels, namespace: &str) -> Value {
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

fn is_label_value(text: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL_BYTES
        && outer(bytes.first())
        && outer(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::{is_label_value, label_value, labels, object};
    use crate::viola_test_api::payload;
    use serde_json::json;

    #[test]
    fn an_object_has_labels_and_spec_and_nothing_else() {
        let posted = br#"[{"nodeName":"worker-1","instanceId":"vm-1","interfaces":[]}]"#;
        let node = payload::read(posted).unwrap().remove(0);
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
