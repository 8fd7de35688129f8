//! What is remembered of one node, in the shape it has on disk and over HTTP.
//!
//! The first six fields are the file format of the Go operator (docs/behaviour.md); the others are
//! extra keys that it ignores. No secret is among them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::node_config::NodeConfig;

/// What was last accepted for one node of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The cloud, by its Contrabass id.
    pub provider_id: String,
    /// The Kubernetes node; with the provider the key of the record.
    pub node_name: String,
    /// Nova's id of the VM.
    pub instance_id: String,
    /// What was sent.
    pub config: NodeConfig,
    /// [`NodeConfig::hash`] of `config`, or what the Go operator wrote.
    pub last_config_hash: String,
    /// When it was last accepted.
    pub updated_at: Timestamp,
    /// The `x-provider-id` it was accepted under; unknown in files of the Go operator. Empty if
    /// nothing was accepted yet: then the record only keeps the ids that were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_by: Option<String>,
    /// The object that sent it; unknown in files of the Go operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Neutron ids of the ports that were DOWN when it was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down_ports: Vec<String>,
    /// Ports that were over the limit of ten and so left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out_ports: u32,
    /// Ids of ports that were still the VM's and couldn't be used when it was sent: no other port
    /// may have them. Ordered by when they were last sent, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved_ids: Vec<ReservedId>,
}

/// An interface id that is kept for a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservedId {
    /// Neutron's id of the port.
    pub port_id: String,
    /// [`Interface::id`](crate::node_config::Interface::id) as it was last sent.
    pub id: u8,
}

impl Record {
    /// Was it ever accepted? A record that wasn't reserves interface ids, and no API shows it.
    pub fn was_accepted(&self) -> bool {
        self.accepted_by.as_deref() != Some("")
    }

    /// Was it accepted by this target? Files of the Go operator don't say by which; it sent by the
    /// same rule, so their records count as accepted by the target that the object names now.
    pub(crate) fn is_accepted_by(&self, target: &str) -> bool {
        self.accepted_by.as_ref().is_none_or(|by| by.eq_ignore_ascii_case(target))
    }

    /// Does it say what this target has? A record of the Go operator is filed under target or provider.
    pub(crate) fn is_of(&self, target: &str, provider_id: &str) -> bool {
        match &self.accepted_by {
            Some(by) => by.eq_ignore_ascii_case(target),
            None => {
                [target, provider_id].iter().any(|id| self.provider_id.eq_ignore_ascii_case(id))
            }
        }
    }

    /// Did a later version of the Go operator write it for this target? They file records under it.
    pub(crate) fn is_of_go_operator_for(&self, target: &str) -> bool {
        self.accepted_by.is_none() && self.provider_id.eq_ignore_ascii_case(target)
    }

    /// Is this the other record, accepted at another time?
    pub(super) fn differs_in_time_only(&self, other: &Record) -> bool {
        *self == Record { updated_at: self.updated_at, ..other.clone() }
    }

    /// Is it a record of the same VM of the same provider?
    pub(super) fn is_of_vm_of(&self, other: &Record) -> bool {
        self.provider_id.eq_ignore_ascii_case(&other.provider_id)
            && self.instance_id.eq_ignore_ascii_case(&other.instance_id)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The OpenstackConfig a record came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Its uid: an object deleted and created again is another one.
    pub uid: String,
}

/// One change of the inventory.
#[expect(clippy::large_enum_variant, reason = "nearly all changes are the large one")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Remember this record in place of what was remembered under its key.
    Upsert(Record),
    /// Forget a record: its VM goes by another node name now.
    #[serde(rename_all = "camelCase")]
    Remove {
        /// The cloud, by its Contrabass id.
        provider_id: String,
        /// The node name that is no longer used.
        node_name: String,
    },
}

impl Change {
    /// Provider and node name.
    pub(crate) fn key(&self) -> (&str, &str) {
        match self {
            Change::Upsert(record) => (&record.provider_id, &record.node_name),
            Change::Remove { provider_id, node_name } => (provider_id, node_name),
        }
    }
}

#[cfg(test)]
impl Record {
    /// A record that says nothing but this.
    pub(crate) fn of(provider_id: &str, config: NodeConfig) -> Record {
        Record {
            provider_id: provider_id.to_owned(),
            node_name: config.node_name.clone(),
            instance_id: config.instance_id.clone(),
            last_config_hash: config.hash(),
            config,
            updated_at: Timestamp::UNIX_EPOCH,
            accepted_by: None,
            owner: None,
            down_ports: Vec::new(),
            left_out_ports: 0,
            reserved_ids: Vec::new(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{Owner, Record, ReservedId};
    use crate::node_config::{Interface, NodeConfig};

    /// A node with one interface, the same for all.
    pub(crate) fn connected(number: usize) -> Record {
        let interface = Interface {
            id: 0,
            name: Interface::name_of(0),
            port_id: "port".to_owned(),
            mac_address: "fa:16:3e:00:00:01".to_owned(),
            address: [10, 0, 0, 7].into(),
            cidr: "10.0.0.0/24".into(),
            mtu: 1450,
            network_id: "network".into(),
            subnet_id: "subnet".into(),
        };
        let mut record = record(number);
        record.config.interfaces.push(interface);
        record
    }

    /// Do two of [`connected`] hold what they have in common only once?
    pub(crate) fn share_a_network(one: &Record, other: &Record) -> bool {
        let [one, other] = [one, other].map(|record| &record.config.interfaces[0].network_id);
        Arc::ptr_eq(one, other)
    }

    /// A node without interfaces; the number tells it from others, and orders it among them.
    pub(crate) fn record(number: usize) -> Record {
        let (node_name, instance_id) = (format!("node-{number:04}"), format!("vm-{number:04}"));
        Record {
            last_config_hash: "0".repeat(64),
            updated_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            ..Record::of("cloud", NodeConfig { node_name, instance_id, interfaces: Vec::new() })
        }
    }

    #[test]
    fn keys_that_the_go_operator_does_not_know_are_there_only_if_they_say_something() {
        let read = |record: &Record| -> serde_json::Value { serde_json::to_value(record).unwrap() };
        let known = json!({
            "providerId": "cloud",
            "nodeName": "node-0001",
            "instanceId": "vm-0001",
            "config": {"nodeName": "node-0001", "instanceId": "vm-0001", "interfaces": []},
            "lastConfigHash": "0".repeat(64),
            "updatedAt": "2026-01-02T03:04:05Z",
        });
        assert_eq!(read(&record(1)), known);
        let text = |text: &str| text.to_owned();
        let more = Record {
            accepted_by: Some(text("biz")),
            owner: Some(Owner { namespace: text("ns"), name: text("a"), uid: text("u") }),
            down_ports: vec![text("port")],
            left_out_ports: 2,
            reserved_ids: vec![ReservedId { port_id: text("away"), id: 3 }],
            ..record(1)
        };
        let mut all = known;
        all["acceptedBy"] = json!("biz");
        all["owner"] = json!({"namespace": "ns", "name": "a", "uid": "u"});
        all["downPorts"] = json!(["port"]);
        all["leftOutPorts"] = json!(2);
        all["reservedIds"] = json!([{"portId": "away", "id": 3}]);
        assert_eq!(read(&more), all);
        assert_eq!(serde_json::from_value::<Record>(all).unwrap(), more);
    }
}
