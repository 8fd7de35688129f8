//! A `MultiNicNodeConfig` as its cluster has it.
//!
//! Reading is lenient: other versions of the agent may leave out what this one writes.

use std::fmt::Display;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::kube::objects::RawObject;
use crate::node_config::{Interface, NodeConfig};

/// What matters of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// Name of the object and of the Kubernetes node.
    pub name: String,
    /// Tells it from its successor of the same name.
    pub uid: String,
    /// Moves with each change of the spec, whoever makes it.
    pub generation: i64,
    /// What the agent is told to do.
    pub spec: NodeSpec,
    /// Who wrote the spec last, by `managedFields`.
    pub last_writer: Option<String>,
    /// What the agent says; empty before it said anything.
    pub status: AgentStatus,
}

/// The spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpec {
    #[serde(deserialize_with = "lenient")]
    instance_id: Option<String>,
    #[serde(deserialize_with = "or_default")]
    interfaces: Vec<GivenInterface>,
}

/// An interface of a spec. Only its MAC address is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GivenInterface {
    #[serde(deserialize_with = "or_default")]
    pub(super) mac_address: String,
    #[serde(deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    address: Option<String>,
    #[serde(deserialize_with = "lenient")]
    cidr: Option<String>,
    #[serde(deserialize_with = "lenient")]
    mtu: Option<u32>,
}

/// The status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AgentStatus {
    /// Of which generation it speaks.
    #[serde(deserialize_with = "lenient")]
    pub(super) observed_generation: Option<i64>,
    /// `Pending`, `InProgress`, `Configured` or `Failed`.
    #[serde(deserialize_with = "or_default")]
    pub(super) state: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) interface_statuses: Vec<InterfaceStatus>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<AgentCondition>,
}

/// What the agent says of one interface. It has a `name` as well, which is its position in the list
/// where the agent failed, so it is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct InterfaceStatus {
    #[serde(deserialize_with = "lenient")]
    pub(super) id: Option<u8>,
    #[serde(deserialize_with = "or_default")]
    pub(super) mac_address: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) status: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) reason: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct AgentCondition {
    #[serde(deserialize_with = "or_default")]
    reason: String,
    #[serde(deserialize_with = "or_default")]
    message: String,
}

impl NodeObject {
    /// Reads an object. What can't be read of it counts as absent.
    pub fn from_raw(raw: &RawObject) -> NodeObject {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            metadata: Metadata,
            #[serde(deserialize_with = "or_default")]
            spec: NodeSpec,
            #[serde(deserialize_with = "or_default")]
            status: AgentStatus,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Metadata {
            #[serde(deserialize_with = "or_default")]
            managed_fields: Vec<ManagedFields>,
        }
        let Body { metadata, spec, status } = raw.parse().unwrap_or_default();
        NodeObject {
            name: raw.metadata.name.clone(),
            uid: raw.metadata.uid.clone(),
            generation: raw.metadata.generation,
            spec,
            last_writer: last_writer(metadata.managed_fields),
            status,
        }
    }

    /// Does the status speak of the spec as it is now?
    pub(super) fn is_reported(&self) -> bool {
        let AgentStatus { observed_generation, state, .. } = &self.status;
        *observed_generation == Some(self.generation) && !state.is_empty()
    }

    /// In what the spec differs from what was sent, one difference each. What it lacks isn't compared.
    pub(super) fn differences(&self, sent: &NodeConfig) -> Vec<String> {
        let mut differences = Vec::new();
        let instance_id = self.spec.instance_id.as_deref().filter(|id| !id.is_empty());
        if let Some(id) = instance_id.filter(|id| !id.eq_ignore_ascii_case(&sent.instance_id)) {
            differences.push(format!("instanceId {} -> {id}", sent.instance_id));
        }
        for interface in &sent.interfaces {
            match self.interface(interface) {
                Some(given) => differences.extend(given.differences(interface)),
                None => differences.push(format!("{} is gone", interface.name)),
            }
        }
        let is_sent = |given: &&GivenInterface| {
            sent.interfaces.iter().any(|interface| given.is_of(&interface.mac_address))
        };
        let others = self.spec.interfaces.iter().filter(|given| !is_sent(given));
        differences.extend(others.map(|given| format!("{} is added", given.mac_address)));
        differences
    }

    /// The interface of the spec with the same MAC address.
    pub(super) fn interface(&self, sent: &Interface) -> Option<&GivenInterface> {
        self.spec.interfaces.iter().find(|given| given.is_of(&sent.mac_address))
    }

    /// What the agent says of the node as a whole: reason and message of its condition.
    pub(super) fn words(&self) -> (&str, &str) {
        let condition = self.status.conditions.first();
        condition.map_or(("", ""), |condition| (&condition.reason, &condition.message))
    }
}

impl GivenInterface {
    fn is_of(&self, mac_address: &str) -> bool {
        self.mac_address.eq_ignore_ascii_case(mac_address)
    }

    /// In what it differs from what was sent, as far as it says something.
    pub(super) fn differences(&self, sent: &Interface) -> Vec<String> {
        let id = &sent.name;
        let mut differences = Vec::new();
        let mut compare = |field: &str, was: &dyn Display, is: Option<String>| {
            if let Some(is) = is.filter(|is| *is != was.to_string()) {
                differences.push(format!("{id}: {field} {was} -> {is}"));
            }
        };
        // The same address may be written in several ways.
        let address = self.address.as_ref().map(|text| match text.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => text.clone(),
        });
        compare("name", &sent.name, self.name.clone());
        compare("address", &sent.address, address);
        compare("cidr", &sent.cidr, self.cidr.clone());
        compare("mtu", &sent.mtu, self.mtu.map(|mtu| mtu.to_string()));
        differences
    }
}

impl InterfaceStatus {
    /// Is it about this interface? The MAC address counts if there is one, else the id.
    pub(super) fn is_of(&self, interface: &Interface) -> bool {
        match self.mac_address.is_empty() {
            false => self.mac_address.eq_ignore_ascii_case(&interface.mac_address),
            true => self.id == Some(interface.id),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ManagedFields {
    #[serde(deserialize_with = "or_default")]
    manager: String,
    #[serde(deserialize_with = "or_default")]
    subresource: String,
    #[serde(deserialize_with = "lenient")]
    time: Option<Timestamp>,
    #[serde(deserialize_with = "or_default")]
    fields_v1: Fields,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:spec")]
    spec: Option<Box<RawValue>>,
}

/// The manager of a part of the spec that wrote last.
fn last_writer(managers: Vec<ManagedFields>) -> Option<String> {
    let writers = managers.into_iter().filter(|one| {
        one.subresource.is_empty() && !one.manager.is_empty() && one.fields_v1.spec.is_some()
    });
    Some(writers.max_by_key(|one| one.time)?.manager)
}

/// The value, or none if it is absent or of another type.
fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).ok())
}

/// The value, or the default if it is absent, null or can't be read.
fn or_default<'de, D: Deserializer<'de>, T: Default + serde::de::DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(lenient(deserializer)?.unwrap_or_default())
}
