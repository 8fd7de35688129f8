//! What is posted: bytes to nodes as they are applied, or what is wrong and where. Pure.
//!
//! Viola's documented payload is taken as well as the operator's, which has more fields: keys that the
//! agent's CRD doesn't declare are left behind, because one of them would fail the whole object. What
//! the operator promises of names, ids and addresses is checked, for a stand-in that swallows anything
//! would test nothing. Bounds of values are the CRD's business.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::node_config::{MAX_INTERFACES, is_kubernetes_name};
use crate::node_objects::{Interface, Node};

/// Longest id, as the custom resource allows it.
const MAX_ID_BYTES: usize = 255;
/// Characters of a wrong value that are shown.
const SHOWN_CHARACTERS: usize = 60;

/// Reads a whole body.
///
/// # Errors
/// What is wrong, after the place where it is, such as `[1].interfaces[0].macAddress`.
pub(super) fn read(body: &[u8]) -> Result<Vec<Node>, String> {
    // Nodes are parsed one by one: a tree of a whole body would take many times its bytes.
    let raw: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not a JSON array of nodes: {error}"))?;
    let mut nodes = Vec::with_capacity(raw.len());
    let mut names = BTreeSet::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let place = format!("[{index}]");
        let node = read_node(raw, &place)?;
        if !names.insert(node.node_name.clone()) {
            return Err(wrong(&place, "nodeName", &node.node_name, "comes twice"));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn read_node(raw: &RawValue, place: &str) -> Result<Node, String> {
    let given: Node<Value> =
        serde_json::from_str(raw.get()).map_err(|error| format!("{place}: {error}"))?;
    let Node { node_name, instance_id, interfaces: list } = given;
    if !is_kubernetes_name(&node_name) {
        let what = "is no Kubernetes name (lower-case letters, digits, '-' and '.', at most 253)";
        return Err(wrong(place, "nodeName", &node_name, what));
    }
    check_id(place, "instanceId", &instance_id)?;
    if list.len() > MAX_INTERFACES {
        return Err(format!("{place}.interfaces: has more than 10 interfaces"));
    }
    let mut interfaces: Vec<Interface> = Vec::with_capacity(list.len());
    for (index, value) in list.into_iter().enumerate() {
        let place = format!("{place}.interfaces[{index}]");
        let interface: Interface =
            serde_json::from_value(value).map_err(|error| format!("{place}: {error}"))?;
        interface.check(&place)?;
        for earlier in &interfaces {
            interface.check_beside(earlier, &place)?;
        }
        interfaces.push(interface);
    }
    Ok(Node { node_name, instance_id, interfaces })
}

impl Interface {
    fn check(&self, place: &str) -> Result<(), String> {
        if usize::from(self.id) >= MAX_INTERFACES {
            return Err(wrong(place, "id", self.id, "is no whole number from 0 to 9"));
        }
        let name = format!("multinic{}", self.id);
        if self.name != name {
            let what = format!("does not belong to id {}, {name:?} does", self.id);
            return Err(wrong(place, "name", &self.name, &what));
        }
        if let Some(port_id) = &self.port_id {
            check_id(place, "portId", port_id)?;
        }
        if !is_mac_address(&self.mac_address) {
            let what = "is no MAC address (six pairs of hexadecimal digits with colons)";
            return Err(wrong(place, "macAddress", &self.mac_address, what));
        }
        match range_contains(&self.cidr, self.address) {
            None => Err(wrong(place, "cidr", &self.cidr, "is no range such as 10.10.0.0/16")),
            Some(false) => {
                let what = format!("is not in {}", self.cidr);
                Err(wrong(place, "address", self.address, &what))
            }
            Some(true) => Ok(()),
        }
    }

    /// No two interfaces of a node may have one of these in common.
    fn check_beside(&self, earlier: &Interface, place: &str) -> Result<(), String> {
        let same_mac = self.mac_address.eq_ignore_ascii_case(&earlier.mac_address);
        let same_port = self.port_id.is_some() && self.port_id == earlier.port_id;
        let fields: [(&str, Value, bool); 3] = [
            ("id", self.id.into(), self.id == earlier.id),
            ("macAddress", self.mac_address.as_str().into(), same_mac),
            ("portId", self.port_id.as_deref().into(), same_port),
        ];
        match fields.into_iter().find(|(.., same)| *same) {
            Some((field, value, _)) => Err(wrong(place, field, value, "comes twice on this node")),
            None => Ok(()),
        }
    }
}

fn check_id(place: &str, field: &str, text: &str) -> Result<(), String> {
    let clean = text.trim() == text && !text.chars().any(char::is_control);
    match clean && !text.is_empty() && text.len() <= MAX_ID_BYTES {
        true => Ok(()),
        false => {
            let what = "must have 1 to 255 bytes, none of them control characters or outer spaces";
            Err(wrong(place, field, text, what))
        }
    }
}

/// The error of a field whose value is wrong; shows the value, or as much of it as is helpful.
fn wrong(place: &str, field: &str, value: impl Serialize, what: &str) -> String {
    let value = json!(value).to_string();
    let shown = match value.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value,
    };
    format!("{place}.{field}: {shown} {what}")
}

fn is_mac_address(text: &str) -> bool {
    let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(is_pair)
}

/// Whether the address lies in the range; none if the text is no range.
fn range_contains(range: &str, address: IpAddr) -> Option<bool> {
    let (network, prefix) = range.split_once('/')?;
    let (network, prefix): (IpAddr, u32) = (network.parse().ok()?, prefix.parse().ok()?);
    let width = if network.is_ipv4() { 32 } else { 128 };
    let host_bits = u32::checked_sub(width, prefix)?;
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let network_bits = |address| bits(address).checked_shr(host_bits).unwrap_or(0);
    Some(network.is_ipv4() == address.is_ipv4() && network_bits(network) == network_bits(address))
}

#[cfg(test)]
mod tests {
    use super::read;
    use serde_json::{Value, json};

    fn interface(id: u8) -> Value {
        json!({
            "id": id, "name": format!("multinic{id}"), "portId": format!("port-{id}"),
            "macAddress": format!("fa:16:3e:00:00:0{id}"), "address": "10.10.0.7",
            "cidr": "10.10.0.0/16", "mtu": 1450, "networkId": "network", "subnetId": "subnet",
        })
    }

    fn payload() -> Value {
        json!([
            { "nodeName": "worker-1", "instanceId": "vm-1", "interfaces": [] },
            {
                "nodeName": "worker-2.example.com", "instanceId": "vm-2", "later": true,
                "interfaces": [interface(0), interface(9)],
            },
        ])
    }

    /// The refusal of the payload with one value replaced, or taken away.
    fn refusal(pointer: &str, value: Option<Value>) -> String {
        let mut payload = payload();
        match value {
            Some(value) => *payload.pointer_mut(pointer).unwrap() = value,
            None => {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                let parent = payload.pointer_mut(parent).unwrap().as_object_mut().unwrap();
                parent.remove(name).unwrap();
            }
        }
        match read(payload.to_string().as_bytes()) {
            Ok(_) => panic!("{pointer} was accepted: {payload}"),
            Err(invalid) => invalid,
        }
    }

    #[test]
    fn a_good_payload_is_read_and_what_the_agents_crd_does_not_declare_is_left_behind() {
        let nodes = read(payload().to_string().as_bytes()).unwrap();
        let mut expected = payload();
        expected[1].as_object_mut().unwrap().remove("later");
        for interface in expected[1]["interfaces"].as_array_mut().unwrap() {
            let fields = interface.as_object_mut().unwrap();
            fields.remove("networkId").and(fields.remove("subnetId")).unwrap();
        }
        assert_eq!(serde_json::to_value(&nodes).unwrap(), expected);
        assert!(read(b"[]").unwrap().is_empty());
    }

    #[test]
    fn violas_documented_payload_has_fewer_fields_and_macs_in_either_case() {
        let mut payload = payload();
        let fields = payload[1]["interfaces"][0].as_object_mut().unwrap();
        // The Go operator leaves out the id 0.
        fields.retain(|name, _| !["id", "portId", "networkId", "subnetId"].contains(&&**name));
        fields["macAddress"] = json!("FA:16:3e:00:00:0A");
        let nodes = serde_json::to_value(read(payload.to_string().as_bytes()).unwrap()).unwrap();
        let expected = json!({
            "id": 0, "name": "multinic0", "macAddress": "FA:16:3e:00:00:0A",
            "address": "10.10.0.7", "cidr": "10.10.0.0/16", "mtu": 1450,
        });
        assert_eq!(nodes[1]["interfaces"][0], expected);
        payload[1]["interfaces"][1]["macAddress"] = json!("fa:16:3E:00:00:0a");
        let text = read(payload.to_string().as_bytes()).unwrap_err();
        assert!(
            text.starts_with("[1].interfaces[1].macAddress: \"fa:16:3E:00:00:0a\" comes twice")
        );
    }

    #[test]
    fn each_field_that_is_required_is_named_with_its_place() {
        for field in ["nodeName", "instanceId", "interfaces"] {
            let text = refusal(&format!("/1/{field}"), None);
            assert!(text.starts_with(&format!("[1]: missing field `{field}`")), "{text}");
        }
        for field in ["name", "macAddress", "address", "cidr", "mtu"] {
            let text = refusal(&format!("/1/interfaces/0/{field}"), None);
            let expected = format!("[1].interfaces[0]: missing field `{field}`");
            assert!(text.starts_with(&expected), "{text}");
        }
    }

    #[test]
    fn wrong_values_are_refused_with_their_place() {
        let long = "x".repeat(300);
        let cases = [
            ("/1/nodeName", json!("Worker_1"), "[1].nodeName: \"Worker_1\" is no Kubernetes name"),
            ("/1/nodeName", json!("a..b"), "[1].nodeName: \"a..b\" is no Kubernetes name"),
            ("/1/nodeName", json!("worker-1"), "[1].nodeName: \"worker-1\" comes twice"),
            ("/1/instanceId", json!(7), "[1]: invalid type: integer `7`, expected a string"),
            ("/1/instanceId", json!(""), "[1].instanceId: \"\" must have 1 to 255 bytes"),
            ("/1/instanceId", json!(long), "[1].instanceId: \"xxx"),
            ("/1/interfaces", json!({}), "[1]: invalid type: map, expected a sequence"),
            ("/1/interfaces", json!(vec![0; 11]), "[1].interfaces: has more than 10 interfaces"),
            ("/1/interfaces/0", json!(1), "[1].interfaces[0]: invalid type: integer `1`, expected"),
            ("/1/interfaces/0/id", json!(10), "[1].interfaces[0].id: 10 is no whole number"),
            ("/1/interfaces/0/id", json!(-1), "[1].interfaces[0]: invalid value: integer `-1`"),
            ("/1/interfaces/0/id", json!(0.5), "[1].interfaces[0]: invalid type: floating point"),
            ("/1/interfaces/0/name", json!("eth0"), "[1].interfaces[0].name: \"eth0\" does not"),
            ("/1/interfaces/1/portId", json!("port-0"), "[1].interfaces[1].portId: \"port-0\" co"),
            (
                "/1/interfaces/1/macAddress",
                json!("fa:16:3e:00:00:00"),
                "[1].interfaces[1].macAddress: \"fa:16:3e:00:00:00\" comes twice",
            ),
            (
                "/1/interfaces/0/macAddress",
                json!("fa:16:3e:00:01"),
                "[1].interfaces[0].macAddress: \"fa:16:3e:00:01\" is no MAC address",
            ),
            ("/1/interfaces/0/address", json!("x"), "[1].interfaces[0]: invalid IP address syntax"),
            (
                "/1/interfaces/0/address",
                json!("10.11.0.7"),
                "[1].interfaces[0].address: \"10.11.0.7\" is not in 10.10.0.0/16",
            ),
            ("/1/interfaces/0/cidr", json!("10.0.0.0/33"), "[1].interfaces[0].cidr: \"10.0.0.0/3"),
            ("/1/interfaces/0/mtu", json!(-1), "[1].interfaces[0]: invalid value: integer `-1`"),
            ("/1/interfaces/0/portId", json!(" a"), "[1].interfaces[0].portId: \" a\" must"),
        ];
        for (pointer, value, beginning) in cases {
            let text = refusal(pointer, Some(value));
            assert!(text.starts_with(beginning), "{pointer}: {text}");
            assert!(text.len() < 250, "{text}");
        }
        let twice = json!([interface(3), interface(3)]);
        let text = refusal("/1/interfaces", Some(twice));
        assert_eq!(text, "[1].interfaces[1].id: 3 comes twice on this node");
    }

    #[test]
    fn what_is_no_array_of_objects_is_refused() {
        for body in ["", "{}", "null", "[", "[1,]", "\u{7f}"] {
            let text = read(body.as_bytes()).unwrap_err();
            assert!(text.starts_with("the body is not a JSON array of nodes: "), "{text}");
        }
        let text = read(b"[null]").unwrap_err();
        assert!(text.starts_with("[0]: invalid type: null"), "{text}");
    }

    #[test]
    fn addresses_of_both_families_are_held_against_their_range() {
        let contains =
            |range, address: &str| super::range_contains(range, address.parse().unwrap());
        assert_eq!(contains("fd00::/64", "fd00::7"), Some(true));
        assert_eq!(contains("fd00::/64", "fd00:0:0:1::7"), Some(false));
        assert_eq!(contains("0.0.0.0/0", "10.0.0.1"), Some(true));
        assert_eq!(contains("::/0", "fd00::1"), Some(true));
        assert_eq!(contains("::/0", "10.0.0.1"), Some(false));
        assert_eq!(contains("10.0.0.1/32", "10.0.0.1"), Some(true));
        assert_eq!(contains("10.0.0.0", "10.0.0.1"), None);
    }
}
