//! What a request to Viola must look like, to the letter.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::distinct;
use crate::wire::Request;

/// No body may be longer, in bytes.
const BODY_MAXIMUM: usize = 1024 * 1024;
/// No request may have more nodes.
const NODES_MAXIMUM: usize = 500;
/// Ids go from 0 to 9.
const INTERFACES_MAXIMUM: usize = 10;

const NODE_FIELDS: [&str; 3] = ["instanceId", "interfaces", "nodeName"];
const INTERFACE_FIELDS: [&str; 9] =
    ["address", "cidr", "id", "macAddress", "mtu", "name", "networkId", "portId", "subnetId"];

/// The provider id and the nodes of a request, or what is wrong with it and where.
pub(super) fn check(request: &Request) -> Result<(String, Vec<Value>), String> {
    if request.body.len() > BODY_MAXIMUM {
        return Err(format!("a body of {} bytes", request.body.len()));
    }
    let content_type = request.header("Content-Type").unwrap_or_default();
    if !content_type.starts_with("application/json") {
        return Err(format!("Content-Type is {content_type:?}"));
    }
    let provider_id = request
        .header("x-provider-id")
        .filter(|id| !id.trim().is_empty())
        .ok_or("no x-provider-id")?;
    let body: Value =
        serde_json::from_slice(&request.body).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Array(nodes) = body else {
        return Err("the body is no array".to_owned());
    };
    if nodes.is_empty() || nodes.len() > NODES_MAXIMUM {
        return Err(format!("{} nodes", nodes.len()));
    }
    for (index, node) in nodes.iter().enumerate() {
        check_node(node).map_err(|problem| format!("node {index}: {problem}"))?;
    }
    let names = || nodes.iter().map(|node| text_of(node, "nodeName"));
    if !distinct(names()) {
        return Err("a node name comes twice".to_owned());
    }
    if !names().is_sorted() {
        return Err("the nodes are not sorted by name".to_owned());
    }
    Ok((provider_id.to_owned(), nodes))
}

fn check_node(node: &Value) -> Result<(), String> {
    check_fields(node, &NODE_FIELDS)?;
    for field in ["nodeName", "instanceId"] {
        check_text(node, field)?;
    }
    let Value::Array(interfaces) = &node["interfaces"] else {
        return Err("interfaces is no array".to_owned());
    };
    if interfaces.is_empty() || interfaces.len() > INTERFACES_MAXIMUM {
        return Err(format!("{} interfaces", interfaces.len()));
    }
    for (index, interface) in interfaces.iter().enumerate() {
        check_interface(interface).map_err(|problem| format!("interface {index}: {problem}"))?;
    }
    for field in ["name", "portId", "macAddress"] {
        if !distinct(interfaces.iter().map(|interface| text_of(interface, field))) {
            return Err(format!("two interfaces have the same {field}"));
        }
    }
    Ok(())
}

fn check_interface(interface: &Value) -> Result<(), String> {
    check_fields(interface, &INTERFACE_FIELDS)?;
    let id = interface["id"]
        .as_u64()
        .filter(|id| *id < 10)
        .ok_or_else(|| format!("id is {}", interface["id"]))?;
    if text_of(interface, "name") != format!("multinic{id}") {
        return Err(format!("id is {id} and name {}", interface["name"]));
    }
    for field in ["portId", "networkId", "subnetId"] {
        check_text(interface, field)?;
    }
    if !is_mac_address(text_of(interface, "macAddress")) {
        return Err(format!("macAddress is {}", interface["macAddress"]));
    }
    let address: Option<IpAddr> = text_of(interface, "address").parse().ok();
    let range = text_of(interface, "cidr")
        .split_once('/')
        .and_then(|(network, prefix)| Some((network.parse().ok()?, prefix.parse().ok()?)));
    match (address, range) {
        (Some(address), Some((network, prefix))) if contains(network, prefix, address) => {}
        _ => {
            return Err(format!(
                "address is {} and cidr {}",
                interface["address"], interface["cidr"]
            ));
        }
    }
    if interface["mtu"].as_u64().is_none_or(|mtu| mtu == 0) {
        return Err(format!("mtu is {}", interface["mtu"]));
    }
    Ok(())
}

/// Exactly these fields.
fn check_fields(value: &Value, fields: &[&str]) -> Result<(), String> {
    let object: &Map<String, Value> = value.as_object().ok_or("no object")?;
    if let Some(missing) = fields.iter().find(|field| !object.contains_key(**field)) {
        return Err(format!("no {missing}"));
    }
    match object.keys().find(|key| !fields.contains(&key.as_str())) {
        Some(unknown) => Err(format!("unknown field {unknown}")),
        None => Ok(()),
    }
}

fn check_text(value: &Value, field: &str) -> Result<(), String> {
    let text = text_of(value, field);
    if text.is_empty() || text.trim() != text {
        return Err(format!("{field} is {}", value[field]));
    }
    Ok(())
}

fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Six pairs of lower-case hexadecimal digits.
fn is_mac_address(text: &str) -> bool {
    let pairs: Vec<&str> = text.split(':').collect();
    pairs.len() == 6
        && pairs.iter().all(|pair| {
            pair.len() == 2 && pair.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// Whether the address lies in the range.
fn contains(network: IpAddr, prefix: u32, address: IpAddr) -> bool {
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let Some(host_bits) = u32::checked_sub(width, prefix) else {
        return false;
    };
    let network_bits = |bits: u128| bits.checked_shr(host_bits).unwrap_or(0);
    network_bits(network) == network_bits(address)
}
