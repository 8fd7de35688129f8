//! The network configuration of one node, as it is sent and as the inventory remembers it.
//!
//! Wire formats: docs/behaviour.md#sending and #inventory-file. No decisions are made here.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A node has the interfaces `multinic0` to `multinic9`; the agent knows no more.
pub const MAX_INTERFACES: usize = 10;

const NAMES: [&str; MAX_INTERFACES] = [
    "multinic0",
    "multinic1",
    "multinic2",
    "multinic3",
    "multinic4",
    "multinic5",
    "multinic6",
    "multinic7",
    "multinic8",
    "multinic9",
];

/// One network interface of a node. What the interfaces of many nodes have in common they share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// 0 to 9; a port keeps it for as long as it stays on the node. Later versions of the Go operator
    /// leave 0 out.
    #[serde(default)]
    pub id: u8,
    /// `multinic{id}`. Absent from files of earlier versions of the Go operator.
    #[serde(default)]
    pub name: Cow<'static, str>,
    /// Neutron's id of the port.
    pub port_id: String,
    /// Lower case, with colons.
    pub mac_address: String,
    /// The port's lowest address in the subnet.
    pub address: IpAddr,
    /// The subnet's range, such as `10.10.0.0/16`.
    pub cidr: Arc<str>,
    /// The network's MTU in bytes.
    pub mtu: u32,
    /// Neutron's id of the network.
    pub network_id: Arc<str>,
    /// Neutron's id of the subnet.
    pub subnet_id: Arc<str>,
}

impl Interface {
    /// The name that belongs to an id.
    pub fn name_of(id: u8) -> Cow<'static, str> {
        match NAMES.get(usize::from(id)) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("multinic{id}")),
        }
    }

    /// What people are shown of a change: the values by their names in JSON, without the port's id.
    pub(crate) fn values(&self) -> [(&'static str, String); 8] {
        [
            ("id", self.id.to_string()),
            ("name", format!("{:?}", self.name)),
            ("macAddress", self.mac_address.clone()),
            ("address", self.address.to_string()),
            ("cidr", self.cidr.to_string()),
            ("mtu", self.mtu.to_string()),
            ("networkId", self.network_id.to_string()),
            ("subnetId", self.subnet_id.to_string()),
        ]
    }
}

/// All interfaces of one node, as sent to Viola.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfig {
    /// The Kubernetes node.
    pub node_name: String,
    /// Nova's id of the VM.
    pub instance_id: String,
    /// Ordered by id.
    pub interfaces: Vec<Interface>,
}

impl NodeConfig {
    /// Can the interface ids be relied on? In files of earlier versions of the Go operator they have
    /// no names and count from 1: ids without their name are not kept.
    pub fn ids_are_ours(&self) -> bool {
        self.interfaces.iter().all(|interface| interface.name == Interface::name_of(interface.id))
    }

    /// Keeps what other interfaces have in common with these only once. What is made from Neutron's
    /// answers shares it anyway; what is read from a file would hold it as often as it is written.
    pub(crate) fn share(&mut self, texts: &mut SharedTexts) {
        for interface in &mut self.interfaces {
            // Left out in files of later versions of the Go operator: the name says it.
            let named = (0..).zip(NAMES).find(|(_, name)| *name == interface.name);
            if interface.id == 0 {
                interface.id = named.map_or(0, |(id, _)| id);
            }
            let name = Interface::name_of(interface.id);
            if interface.name == name {
                interface.name = name;
            }
            for text in [&mut interface.cidr, &mut interface.network_id, &mut interface.subnet_id] {
                *text = texts.shared(text);
            }
        }
    }

    /// SHA-256 of the compact JSON, in hexadecimal: the inventory's `lastConfigHash`.
    pub fn hash(&self) -> String {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        hexadecimal(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref())
    }
}

/// The texts met so far: of networks, subnets, ranges and statuses there are few, however many ports.
#[derive(Debug, Default)]
pub(crate) struct SharedTexts(BTreeSet<Arc<str>>);

impl SharedTexts {
    /// The text as it was met first.
    pub(crate) fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// Lower-case hexadecimal text.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A DNS subdomain, as names of nodes and most other objects are. Parts between dots have no limit
/// of their own.
pub(crate) fn is_kubernetes_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_part)
}

fn is_dns_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::{Interface, NodeConfig, SharedTexts};

    #[test]
    fn the_hash_is_that_of_the_compact_json_in_the_contracts_order() {
        let interface = Interface {
            id: 0,
            name: "multinic0".into(),
            port_id: "p-1".to_owned(),
            mac_address: "fa:16:3e:00:00:01".to_owned(),
            address: [10, 0, 0, 7].into(),
            cidr: "10.0.0.0/24".into(),
            mtu: 1450,
            network_id: "n-1".into(),
            subnet_id: "s-1".into(),
        };
        let (node_name, instance_id) = ("worker-1".to_owned(), "vm-1".to_owned());
        let config = NodeConfig { node_name, instance_id, interfaces: vec![interface] };
        // By `sha256sum`, of the text one would write by hand.
        assert_eq!(
            config.hash(),
            "179ce569989f62ca407d2559c0ad7b4509bebfd358775e8b400e8c0ac2dfec29"
        );
    }

    #[test]
    fn ids_are_ours_only_with_the_names_that_belong_to_them() {
        let config = |name: &str, id: u8| {
            let interface = serde_json::json!({
                "id": id, "name": name, "portId": "p", "macAddress": "m", "address": "10.0.0.7",
                "cidr": "10.0.0.0/24", "mtu": 1450, "networkId": "n", "subnetId": "s",
            });
            let config = serde_json::json!({
                "nodeName": "w", "instanceId": "v", "interfaces": [interface],
            });
            serde_json::from_value::<NodeConfig>(config).unwrap()
        };
        assert!(config("multinic3", 3).ids_are_ours());
        assert!(!config("multinic3", 4).ids_are_ours());
        assert!(!config("", 1).ids_are_ours());
    }

    #[test]
    fn what_interfaces_have_in_common_is_kept_once() {
        let interface = |id: u8, name: &str| {
            serde_json::json!({
                "id": id, "name": name, "portId": "p", "macAddress": "m", "address": "10.0.0.7",
                "cidr": "10.0.0.0/24", "mtu": 1450, "networkId": "n", "subnetId": "s",
            })
        };
        let read: NodeConfig = serde_json::from_value(serde_json::json!({
            "nodeName": "w", "instanceId": "i",
            "interfaces": [interface(0, "multinic0"), interface(1, "eth1")],
        }))
        .unwrap();
        let mut shared = read.clone();
        shared.share(&mut SharedTexts::default());
        assert_eq!(shared, read);
        let [one, other] = shared.interfaces.as_slice() else { panic!("{shared:?}") };
        assert!(Arc::ptr_eq(&one.cidr, &other.cidr));
        assert!(Arc::ptr_eq(&one.network_id, &other.network_id));
        assert!(Arc::ptr_eq(&one.subnet_id, &other.subnet_id));
        assert!(matches!(one.name, Cow::Borrowed("multinic0")));
        assert!(matches!(&other.name, Cow::Owned(name) if name == "eth1"));
    }
}
