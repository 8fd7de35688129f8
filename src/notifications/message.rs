//! What a notification of Neutron or Nova says has changed: event type and ids, and nothing else. Pure.
//!
//! A message only gives a reason to look. What is sent comes from what Neutron and Nova are then asked.
//! Some messages hold live tokens of other users, so neither a body nor an error of the parser, which
//! may quote it, leaves this file.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A message, as far as it concerns anybody here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Something has changed.
    Change(Change),
    /// Of another kind, or of an operation that has only begun.
    Other,
    /// No notification of oslo.messaging, or one without the ids that its event has.
    Unreadable,
}

/// What has changed. Ids are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Ports came, went, or are otherwise.
    Ports {
        /// Their projects; empty if not all are known.
        projects: BTreeSet<String>,
        /// The ports.
        ports: BTreeSet<String>,
        /// What they are attached to now: VMs, or routers and the like.
        devices: BTreeSet<String>,
    },
    /// A VM.
    Instance {
        /// Nova's id of it.
        vm: String,
    },
    /// A network, such as its MTU.
    Network {
        /// The network.
        id: String,
    },
    /// A subnet.
    Subnet {
        /// The subnet.
        id: String,
    },
}

impl Message {
    /// The value of a metric's label `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Change(Change::Ports { .. }) => "port",
            Message::Change(Change::Instance { .. }) => "instance",
            Message::Change(Change::Network { .. }) => "network",
            Message::Change(Change::Subnet { .. }) => "subnet",
            Message::Other => "other",
            Message::Unreadable => "unreadable",
        }
    }
}

/// The driver `messagingv2` wraps a notification in an envelope, the driver `messaging` doesn't.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "oslo.message", borrow)]
    message: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Notification<'a> {
    #[serde(borrow)]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// The keys of all events that count. A deletion has the id beside the object, or the id alone.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    port: Option<Item<'a>>,
    #[serde(borrow)]
    ports: Option<Vec<Item<'a>>>,
    port_id: Option<Id<'a>>,
    #[serde(borrow)]
    network: Option<Item<'a>>,
    network_id: Option<Id<'a>>,
    #[serde(borrow)]
    subnet: Option<Item<'a>>,
    subnet_id: Option<Id<'a>>,
    /// Nova's unversioned format.
    instance_id: Option<Id<'a>>,
    /// Nova's versioned format.
    #[serde(rename = "nova_object.data", borrow)]
    instance: Option<Instance<'a>>,
}

type Id<'a> = Cow<'a, str>;

#[derive(Default, Deserialize)]
struct Item<'a> {
    id: Option<Id<'a>>,
    device_id: Option<Id<'a>>,
    project_id: Option<Id<'a>>,
    tenant_id: Option<Id<'a>>,
}

#[derive(Deserialize)]
struct Instance<'a> {
    uuid: Option<Id<'a>>,
}

/// Reads the body of a message.
pub fn read(body: &[u8]) -> Message {
    let Ok(Envelope { message }) = serde_json::from_slice(body) else { return Message::Unreadable };
    let body = message.as_ref().map_or(body, |message| message.as_bytes());
    let Ok(Notification { event_type, payload }) = serde_json::from_slice(body) else {
        return Message::Unreadable;
    };
    let Some(read) = event_type.as_deref().and_then(reader) else { return Message::Other };
    let payload =
        payload.and_then(|payload| serde_json::from_str::<Payload<'_>>(payload.get()).ok());
    payload.and_then(read).map_or(Message::Unreadable, Message::Change)
}

type Reader = fn(Payload<'_>) -> Option<Change>;

/// How the change is read from the payload of such an event; none if the event doesn't count. An
/// operation that has only begun can still fail, and its end is notified.
fn reader(event: &str) -> Option<Reader> {
    match event {
        "port.create.end" | "port.update.end" | "port.delete.end" => Some(ports),
        "network.update.end" | "network.delete.end" => Some(|payload| {
            let id = payload.network.and_then(|network| network.id).or(payload.network_id)?;
            Some(Change::Network { id: lower(&id)? })
        }),
        "subnet.create.end" | "subnet.update.end" | "subnet.delete.end" => Some(|payload| {
            let id = payload.subnet.and_then(|subnet| subnet.id).or(payload.subnet_id)?;
            Some(Change::Subnet { id: lower(&id)? })
        }),
        _ => {
            let event = event.strip_prefix("compute.").unwrap_or(event);
            let counts = event == "instance.update"
                || event.starts_with("instance.") && event.ends_with(".end");
            counts.then_some(|payload| {
                let versioned = payload.instance.and_then(|instance| instance.uuid);
                Some(Change::Instance { vm: lower(&versioned.or(payload.instance_id)?)? })
            })
        }
    }
}

fn ports(payload: Payload<'_>) -> Option<Change> {
    let Payload { port, ports, port_id, .. } = payload;
    let mut items: Vec<Item<'_>> = port.into_iter().chain(ports.into_iter().flatten()).collect();
    if items.is_empty() {
        items.push(Item { id: port_id, ..Item::default() });
    }
    let project =
        |item: &Item<'_>| item.project_id.as_ref().or(item.tenant_id.as_ref()).and_then(lower);
    let projects: Option<BTreeSet<String>> = items.iter().map(project).collect();
    let ids: Option<BTreeSet<String>> =
        items.iter().map(|item| item.id.as_ref().and_then(lower)).collect();
    let devices = items.iter().filter_map(|item| item.device_id.as_ref().and_then(lower)).collect();
    Some(Change::Ports { projects: projects.unwrap_or_default(), ports: ids?, devices })
}

/// None if it is empty.
fn lower(id: &Id<'_>) -> Option<String> {
    Some(id.trim().to_ascii_lowercase()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use serde_json::{Value, json};

    use super::{Change, Message, read};

    const PROJECT: &str = "90ea24f5e1e54e688c61648ccb939436";
    const VM: &str = "0b161ca4-d54f-4d02-ba3f-3cfff8ac81ae";

    fn recorded(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings/rabbitmq");
        std::fs::read(folder.join(format!("{name}.json"))).unwrap()
    }

    fn ports(project: &str, ports: &[&str], devices: &[&str]) -> Message {
        let set =
            |ids: &[&str]| -> BTreeSet<String> { ids.iter().map(|id| (*id).to_owned()).collect() };
        let projects = set(if project.is_empty() { &[] } else { std::slice::from_ref(&project) });
        Message::Change(Change::Ports { projects, ports: set(ports), devices: set(devices) })
    }

    fn instance(vm: &str) -> Message {
        Message::Change(Change::Instance { vm: vm.to_owned() })
    }

    proptest! {
        #[test]
        fn a_mangled_message_names_no_empty_id(
            name in select(&["port.update.end-attached", "instance.update", "subnet.update.end"]),
            cuts in vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..6),
        ) {
            let mut body = recorded(name);
            for (place, byte, act) in cuts {
                let place = place.index(body.len());
                match act {
                    0 => body[place] = byte,
                    1 => drop(body.remove(place)),
                    _ => body.insert(place, byte),
                }
            }
            let ids = match read(&body) {
                Message::Change(Change::Ports { projects, ports, devices }) => {
                    prop_assert!(!ports.is_empty());
                    projects.into_iter().chain(ports).chain(devices).collect()
                }
                Message::Change(Change::Instance { vm }) => vec![vm],
                Message::Change(Change::Network { id } | Change::Subnet { id }) => vec![id],
                Message::Other | Message::Unreadable => Vec::new(),
            };
            prop_assert!(ids.iter().all(|id| !id.is_empty() && *id == id.to_ascii_lowercase()));
        }
    }

    fn notification(event: &str, payload: Value) -> Vec<u8> {
        let message = json!({"event_type": event, "payload": payload}).to_string();
        serde_json::to_vec(&json!({"oslo.version": "2.0", "oslo.message": message})).unwrap()
    }

    #[test]
    fn each_recorded_message_says_what_changed_or_is_passed_over() {
        let port = "2ebe10a1-f7b8-451a-8688-ec01af699629";
        let network = Change::Network { id: "7efc2aa6-50ac-47ba-b6d4-e8c8d56dd146".to_owned() };
        let subnet = Change::Subnet { id: "98e77ebd-d3d6-4ee8-affe-d9e67bf1ace7".to_owned() };
        let made = "dc5e544d-64e1-4579-a286-eb3b29ecc42e";
        for (name, expected) in [
            ("port.create.end", ports(PROJECT, &[port], &[])),
            (
                "port.create.end-by-nova",
                ports(PROJECT, &["289bd14c-4ac5-4e3e-a442-6fc0be9d6a9f"], &[VM]),
            ),
            ("port.update.end-attached", ports(PROJECT, &[port], &[VM])),
            ("port.update.end-detached", ports(PROJECT, &[port], &[])),
            ("port.delete.end", ports(PROJECT, &[port], &[])),
            ("instance.interface_attach.end", instance(VM)),
            ("instance.interface_detach.end", instance(VM)),
            ("instance.update", instance(made)),
            ("compute.instance.update", instance(made)),
            ("compute.instance.create.end", instance(made)),
            ("instance.delete.end", instance(made)),
            ("compute.instance.delete.end", instance(made)),
            ("network.update.end", Message::Change(network)),
            ("subnet.update.end", Message::Change(subnet)),
            ("port.create.start", Message::Other),
            ("trunk.create.end", Message::Other),
            ("router.interface.create", Message::Other),
            ("security_group_rule.create.end", Message::Other),
            ("scheduler.select_destinations.start", Message::Other),
            ("attach_interface", Message::Other),
            ("compute.exception", Message::Other),
            ("compute.instance.exists", Message::Other),
            ("rpc-push", Message::Other),
        ] {
            assert_eq!(read(&recorded(name)), expected, "{name}");
        }
    }

    #[test]
    fn other_forms_of_the_same_are_read_too() {
        let bulk = json!({"ports": [
            {"id": "P1", "device_id": "VM-1", "project_id": "p"},
            {"id": "p2", "device_id": "", "tenant_id": "p"},
        ]});
        let bulk = notification("port.create.end", bulk);
        assert_eq!(read(&bulk), ports("p", &["p1", "p2"], &["vm-1"]));
        // An older Neutron says the id only.
        let deleted = notification("port.delete.end", json!({"port_id": "p1"}));
        assert_eq!(read(&deleted), ports("", &["p1"], &[]));
        // Of the driver `messaging`, and with a key that this parser doesn't know.
        let bare = json!({"event_type": "compute.instance.update", "x": [], "payload": {
            "instance_id": VM, "metadata": {"a": [1]},
        }});
        assert_eq!(read(bare.to_string().as_bytes()), instance(VM));
    }

    #[test]
    fn what_is_no_notification_or_lacks_its_ids_is_unreadable() {
        let deep = "[".repeat(100_000);
        let deep_payload = format!(r#"{{"event_type": "port.update.end", "payload": {deep}"#);
        for body in [
            b"".as_slice(),
            b"\xff\xfe",
            b"[]",
            b"null",
            br#"{"oslo.message": 1}"#,
            br#"{"oslo.message": "{"}"#,
            br#"{"event_type": "port.update.end"}"#,
            br#"{"event_type": "port.update.end", "payload": []}"#,
            br#"{"event_type": "port.update.end", "payload": {"port": {"id": ""}}}"#,
            br#"{"event_type": "port.update.end", "payload": {"ports": [{"id": "a"}, {}]}}"#,
            br#"{"event_type": "network.update.end", "payload": {"port": {"id": "a"}}}"#,
            br#"{"event_type": "instance.update", "payload": {"nova_object.data": {}}}"#,
            deep.as_bytes(),
            deep_payload.as_bytes(),
        ] {
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
            assert_eq!(read(body), Message::Unreadable, "{shown}");
        }
        assert_eq!(read(b"{}"), Message::Other);
        assert_eq!(read(br#"{"event_type": "port.update.start"}"#), Message::Other);
    }
}
