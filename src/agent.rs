//! What the MultiNIC agent made of what was sent (docs/behaviour.md#agent-status). Pure.
//!
//! | file | what |
//! |---|---|
//! | [`object`] | a `MultiNicNodeConfig` as its cluster has it |
//! | [`state`] | what it says of a node and of each of its interfaces |
//! | [`condition`] | what it says of an OpenstackConfig: the condition `Configured` |
//! | [`drift`] | when a node is sent again because the cluster lost it or others changed it |

use std::fmt;

use crate::node_config::is_kubernetes_name;
use crate::resources::OpenstackConfig;

pub mod condition;
pub mod drift;
pub mod object;
pub mod state;

/// A cluster that is read, by the kubeconfig of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cluster {
    /// Namespace of the Secret and of the objects that name it.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The key of its data.
    pub key: String,
}

impl Cluster {
    /// The cluster of an object's nodes, which may not be readable; none if nothing names it.
    pub fn of(object: &OpenstackConfig) -> Option<Cluster> {
        let spec = object.spec.as_ref().ok()?;
        let secret = format!("{}-kubeconfig", spec.k8s_provider_id.as_ref()?);
        let namespace = object.key.namespace.clone();
        is_kubernetes_name(&secret).then(|| Cluster { namespace, secret, key: "value".to_owned() })
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.secret)
    }
}

#[cfg(test)]
mod tests;
