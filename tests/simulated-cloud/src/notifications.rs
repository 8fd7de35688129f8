//! What Neutron and Nova notify when something changes, as the recorded messages have it
//! (`fixtures/recordings/rabbitmq`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde_json::{Value, json};

use crate::pseudo_random::random_hex;
use crate::state::{CloudState, Port, Server};

/// A message for a consumer.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The exchange it is published to.
    pub exchange: &'static str,
    /// Its routing key.
    pub key: &'static str,
    /// `port.update.end` and the like.
    pub event: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// What is notified after a change. That an agent has set a port's status is not.
pub(crate) fn between(before: &CloudState, after: &CloudState) -> Vec<Notification> {
    let mut messages = Vec::new();
    let ports = [before, after].map(|state| {
        let status = String::new();
        let ports = state.ports.iter().map(|port| Port { status: status.clone(), ..port.clone() });
        ports.collect::<Vec<_>>()
    });
    for (act, port) in differences(&ports[0], &ports[1], |it| &it.id) {
        let mut payload = json!({"port": with_tenant(after.ports.get(&port.id).unwrap_or(port))});
        if act == "delete" {
            payload["port_id"] = json!(port.id);
        }
        messages.push(neutron(format!("port.{act}.end"), payload));
    }
    for (act, network) in differences(&before.networks, &after.networks, |it| &it.id) {
        messages
            .push(neutron(format!("network.{act}.end"), json!({"network": with_tenant(network)})));
    }
    for (act, subnet) in differences(&before.subnets, &after.subnets, |it| &it.id) {
        messages.push(neutron(format!("subnet.{act}.end"), json!({"subnet": with_tenant(subnet)})));
    }
    for (act, server) in differences(servers(before), servers(after), |it| &it.id) {
        let act = if act == "update" { "update".to_owned() } else { format!("{act}.end") };
        let (tenant, id) = (&server.project_id, &server.id);
        let old = json!({"tenant_id": tenant, "instance_id": id, "display_name": server.name});
        let (exchange, key) = ("nova", "notifications.info");
        messages.push(notification(exchange, key, format!("compute.instance.{act}"), old));
        let new = json!({"nova_object.data": {"tenant_id": tenant, "uuid": id}});
        let key = "versioned_notifications.info";
        messages.push(notification(exchange, key, format!("instance.{act}"), new));
    }
    messages
}

fn servers(state: &CloudState) -> impl Iterator<Item = &Server> {
    state.servers.newest_first().map(|(_, server)| server)
}

/// Each entity that was made, changed or deleted.
fn differences<'a, T: PartialEq>(
    before: impl IntoIterator<Item = &'a T>,
    after: impl IntoIterator<Item = &'a T>,
    id: impl Fn(&T) -> &String,
) -> Vec<(&'static str, &'a T)> {
    let mut before: BTreeMap<&String, &T> = before.into_iter().map(|it| (id(it), it)).collect();
    let mut found = Vec::new();
    for entity in after {
        match before.remove(id(entity)) {
            None => found.push(("create", entity)),
            Some(old) if old != entity => found.push(("update", entity)),
            Some(_) => {}
        }
    }
    found.extend(before.into_values().map(|entity| ("delete", entity)));
    found
}

/// Neutron names the project twice.
fn with_tenant(entity: &impl Serialize) -> Value {
    let mut body = serde_json::to_value(entity).unwrap_or_default();
    let project = body["project_id"].clone();
    body["tenant_id"] = project;
    body
}

fn neutron(event: String, payload: Value) -> Notification {
    notification("neutron", "notifications.info", event, payload)
}

fn notification(
    exchange: &'static str,
    key: &'static str,
    event: String,
    payload: Value,
) -> Notification {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = random_hex(&format!("message {}", COUNT.fetch_add(1, Ordering::Relaxed)), 32);
    let message = json!({
        "message_id": id,
        "publisher_id": "network.lab",
        "event_type": event,
        "priority": "INFO",
        "payload": payload,
        "timestamp": "2026-11-30 15:32:17.853271",
        "_unique_id": id,
        "_context_is_admin": true,
        "_context_auth_token": null,
    });
    let body = json!({"oslo.version": "2.0", "oslo.message": message.to_string()});
    Notification { exchange, key, event, body: body.to_string().into_bytes() }
}
