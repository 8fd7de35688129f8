//! What is posted, read strictly: bytes to node configurations, or what is wrong and where. Pure.
//!
//! Fields that aren't known are tolerated and go no further. All else that the operator promises
//! (SPEC section 5, steps 10 and 11) is held against what came, for a stand-in that swallows
//! anything would test nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::node_config::{Interface, MAX_INTERFACES, NodeConfig};

/// Longest id, as the custom resource allows it.
const MAX_ID_BYTES: usize = 255;
/// Characters of a wrong value that are shown.
const SHOWN_CHARACTERS: usize = 60;

/// Why a payload is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// Such as `[1].interfaces[0].macAddress`; empty for the whole.
    place: String,
    reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => formatter.write_str(&self.reason),
            place => write!(formatter, "{place}: {}", self.reason),
        }
    }
}

/// Reads a whole body.
pub(super) fn read(body: &[u8]) -> Result<Vec<NodeConfig>, Invalid> {
    // Nodes are parsed one by one: a tree of a whole body would take many times its bytes.
    let raw: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| Invalid {
        place: String::new(),
        reason: format!("the body is not a JSON array of nodes: {error}"),
    })?;
    let mut nodes = Vec::with_capacity(raw.len());
    let mut names = BTreeSet::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let place = format!("[{index}]");
        let value: Value = serde_json::from_str(raw.get())
            .map_err(|error| Invalid { place: place.clone(), reason: error.to_string() })?;
        let fields = Fields::of(&value, place)?;
        let node = read_node(&fields)?;
        if !names.insert(node.node_name.clone()) {
            return Err(fields.wrong("nodeName", "comes twice"));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn read_node(fields: &Fields<'_>) -> Result<NodeConfig, Invalid> {
    let node_name = fields.text("nodeName")?;
    if !is_dns_subdomain(node_name) {
        return Err(fields.wrong(
            "nodeName",
            "is no Kubernetes name (lower-case letters, digits, '-' and '.', at most 253)",
        ));
    }
    let instance_id = fields.text("instanceId")?;
    let list = fields.get("interfaces")?.as_array();
    let list = list.ok_or_else(|| fields.wrong("interfaces", "is not an array"))?;
    if list.len() > MAX_INTERFACES {
        return Err(fields.wrong("interfaces", "has more than 10 interfaces"));
    }
    let mut interfaces: Vec<Interface> = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let place = format!("{}.interfaces[{index}]", fields.place);
        let fields = Fields::of(value, place)?;
        let interface = read_interface(&fields)?;
        if let Some(field) = doubled_field(&interfaces, &interface) {
            return Err(fields.wrong(field, "comes twice on this node"));
        }
        interfaces.push(interface);
    }
    Ok(NodeConfig {
        node_name: node_name.to_owned(),
        instance_id: instance_id.to_owned(),
        interfaces,
    })
}

/// The field that this interface has in common with an earlier one and must not.
fn doubled_field(earlier: &[Interface], interface: &Interface) -> Option<&'static str> {
    earlier.iter().find_map(|other| match () {
        () if other.id == interface.id => Some("id"),
        () if other.port_id == interface.port_id => Some("portId"),
        () if other.mac_address == interface.mac_address => Some("macAddress"),
        () => None,
    })
}

fn read_interface(fields: &Fields<'_>) -> Result<Interface, Invalid> {
    let id = fields.get("id")?.as_u64().and_then(|id| u8::try_from(id).ok());
    let id = id.filter(|id| usize::from(*id) < MAX_INTERFACES);
    let id = id.ok_or_else(|| fields.wrong("id", "is no whole number from 0 to 9"))?;
    let name = Interface::name_of(id);
    if fields.text("name")? != name {
        return Err(fields.wrong("name", &format!("does not belong to id {id}, {name:?} does")));
    }
    let mac_address = fields.text("macAddress")?;
    if !is_mac_address(mac_address) {
        return Err(fields.wrong(
            "macAddress",
            "is no MAC address (six pairs of lower-case hexadecimal digits with colons)",
        ));
    }
    let address: IpAddr = fields
        .text("address")?
        .parse()
        .map_err(|_| fields.wrong("address", "is no IPv4 or IPv6 address"))?;
    let cidr = fields.text("cidr")?;
    let contains = range_contains(cidr, address)
        .ok_or_else(|| fields.wrong("cidr", "is no range such as 10.10.0.0/16"))?;
    if !contains {
        return Err(fields.wrong("address", &format!("is not in {cidr}")));
    }
    let mtu = fields.get("mtu")?.as_u64().and_then(|mtu| u32::try_from(mtu).ok());
    Ok(Interface {
        id,
        name,
        port_id: fields.text("portId")?.to_owned(),
        mac_address: mac_address.to_owned(),
        address,
        cidr: cidr.into(),
        mtu: mtu
            .filter(|mtu| *mtu > 0)
            .ok_or_else(|| fields.wrong("mtu", "is no positive number of bytes"))?,
        network_id: fields.text("networkId")?.into(),
        subnet_id: fields.text("subnetId")?.into(),
    })
}

/// A JSON object and where it stands.
struct Fields<'a> {
    place: String,
    values: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value, place: String) -> Result<Fields<'a>, Invalid> {
        match value.as_object() {
            Some(values) => Ok(Fields { place, values }),
            None => Err(Invalid { place, reason: format!("{} is not an object", shown(value)) }),
        }
    }

    fn get(&self, name: &str) -> Result<&'a Value, Invalid> {
        self.values.get(name).ok_or_else(|| self.invalid(name, "is missing".to_owned()))
    }

    fn text(&self, name: &str) -> Result<&'a str, Invalid> {
        let text = self.get(name)?.as_str();
        let text = text.ok_or_else(|| self.wrong(name, "is not a string"))?;
        let clean = text.trim() == text && !text.chars().any(char::is_control);
        match clean && !text.is_empty() && text.len() <= MAX_ID_BYTES {
            true => Ok(text),
            false => Err(self.wrong(
                name,
                "must have 1 to 255 bytes, none of them control characters or outer spaces",
            )),
        }
    }

    /// The error of a field whose value is wrong; shows the value.
    fn wrong(&self, name: &str, what: &str) -> Invalid {
        let value = self.values.get(name).map(shown).unwrap_or_default();
        self.invalid(name, format!("{value} {what}"))
    }

    fn invalid(&self, name: &str, reason: String) -> Invalid {
        Invalid { place: format!("{}.{name}", self.place), reason }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "the array".to_owned(),
        Value::Object(_) => "the object".to_owned(),
        value => {
            let text = value.to_string();
            match text.char_indices().nth(SHOWN_CHARACTERS) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text,
            }
        }
    }
}

/// RFC 1123: the name of a namespace, or a part of most other names.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_dns_part(text)
}

/// Parts between dots have no limit of their own in the names of Kubernetes objects.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_part)
}

fn is_dns_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_mac_address(text: &str) -> bool {
    let is_pair = |pair: &str| {
        pair.len() == 2 && pair.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
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
            Err(invalid) => invalid.to_string(),
        }
    }

    #[test]
    fn a_good_payload_is_read_and_unknown_fields_are_left_behind() {
        let nodes = read(payload().to_string().as_bytes()).unwrap();
        let mut expected = payload();
        expected[1].as_object_mut().unwrap().remove("later");
        assert_eq!(serde_json::to_value(&nodes).unwrap(), expected);
        assert!(read(b"[]").unwrap().is_empty());
    }

    #[test]
    fn each_field_is_required_where_it_belongs() {
        for field in ["nodeName", "instanceId", "interfaces"] {
            let text = refusal(&format!("/1/{field}"), None);
            assert_eq!(text, format!("[1].{field}: is missing"));
        }
        let interface = interface(0);
        assert_eq!(interface.as_object().unwrap().len(), 9);
        for field in interface.as_object().unwrap().keys() {
            let text = refusal(&format!("/1/interfaces/0/{field}"), None);
            assert_eq!(text, format!("[1].interfaces[0].{field}: is missing"));
        }
    }

    #[test]
    fn wrong_values_are_refused_with_their_place() {
        let long = "x".repeat(300);
        let cases = [
            ("/1/nodeName", json!("Worker_1"), "[1].nodeName: \"Worker_1\" is no Kubernetes name"),
            ("/1/nodeName", json!("a..b"), "[1].nodeName: \"a..b\" is no Kubernetes name"),
            ("/1/nodeName", json!("worker-1"), "[1].nodeName: \"worker-1\" comes twice"),
            ("/1/instanceId", json!(7), "[1].instanceId: 7 is not a string"),
            ("/1/instanceId", json!(""), "[1].instanceId: \"\" must have 1 to 255 bytes"),
            ("/1/instanceId", json!(long), "[1].instanceId: \"xxx"),
            ("/1/interfaces", json!({}), "[1].interfaces: the object is not an array"),
            ("/1/interfaces", json!(vec![0; 11]), "[1].interfaces: the array has more than 10"),
            ("/1/interfaces/0", json!(1), "[1].interfaces[0]: 1 is not an object"),
            ("/1/interfaces/0/id", json!(10), "[1].interfaces[0].id: 10 is no whole number"),
            ("/1/interfaces/0/id", json!(-1), "[1].interfaces[0].id: -1 is no whole number"),
            ("/1/interfaces/0/id", json!(0.5), "[1].interfaces[0].id: 0.5 is no whole number"),
            ("/1/interfaces/0/name", json!("eth0"), "[1].interfaces[0].name: \"eth0\" does not"),
            ("/1/interfaces/1/portId", json!("port-0"), "[1].interfaces[1].portId: \"port-0\" co"),
            (
                "/1/interfaces/1/macAddress",
                json!("fa:16:3e:00:00:00"),
                "[1].interfaces[1].macAddress: \"fa:16:3e:00:00:00\" comes twice",
            ),
            (
                "/1/interfaces/0/macAddress",
                json!("FA:16:3E:00:00:01"),
                "[1].interfaces[0].macAddress: \"FA:16:3E:00:00:01\" is no MAC address",
            ),
            ("/1/interfaces/0/address", json!("x"), "[1].interfaces[0].address: \"x\" is no IPv4"),
            (
                "/1/interfaces/0/address",
                json!("10.11.0.7"),
                "[1].interfaces[0].address: \"10.11.0.7\" is not in 10.10.0.0/16",
            ),
            ("/1/interfaces/0/cidr", json!("10.0.0.0/33"), "[1].interfaces[0].cidr: \"10.0.0.0/3"),
            ("/1/interfaces/0/mtu", json!(0), "[1].interfaces[0].mtu: 0 is no positive number"),
            ("/1/interfaces/0/subnetId", json!(" a"), "[1].interfaces[0].subnetId: \" a\" must"),
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
            let text = read(body.as_bytes()).unwrap_err().to_string();
            assert!(text.starts_with("the body is not a JSON array of nodes: "), "{text}");
        }
        assert_eq!(read(b"[null]").unwrap_err().to_string(), "[0]: null is not an object");
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
