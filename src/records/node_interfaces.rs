//! The custom resource `NodeInterfaces`: one record of the inventory as an object. Pure.
//!
//! A test holds the fields to the CRD in `manifests/crd/nodeinterfaces.yaml`: an API server refuses an
//! object with a field that isn't declared there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::inventory::record::{Change, Record};
use crate::kube::objects::{ObjectMeta, RawObject};
use crate::kube::resource::Resource;
use crate::node_config::{NodeConfig, hexadecimal};
use crate::node_objects::is_label_value;

/// The custom resource.
pub const NODE_INTERFACES: Resource = Resource {
    group: "multinic.example.com",
    version: "v1alpha1",
    plural: "nodeinterfaces",
    kind: "NodeInterfaces",
};
/// `true` on a record: its node is numbered anew.
pub const RENUMBER_ANNOTATION: &str = "multinic.example.com/renumber";
/// The replica that wrote a record last, by its name in the Lease.
pub(super) const WRITER_ANNOTATION: &str = "multinic.example.com/written-by";

/// Of a node's name so much stands in the object's.
const NAME_BYTES: usize = 52;
/// Hexadecimal digits of the digest at a name's end.
const NAME_DIGITS: usize = 10;
/// Hexadecimal digits in place of a text that is no label's value.
const LABEL_DIGITS: usize = 16;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// The object's spec: the record, and what columns show of it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    target: String,
    #[serde(default)]
    delivery: String,
    #[serde(flatten)]
    record: Record,
    #[serde(default)]
    summary: Summary,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Summary {
    interfaces: String,
    down: usize,
}

type Labels = BTreeMap<String, String>;

/// An object that was read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) target: String,
    pub(super) record: Record,
    /// [`digest_of`] what was read.
    pub(super) digest: Digest,
    /// Its labels are those that belong to the record.
    pub(super) has_labels: bool,
}

/// The name of a node's object: the node's own as far as a name can hold it, and a digest of target
/// and node.
pub fn name_of(target: &str, node_name: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        lower if lower.is_ascii_lowercase() || lower.is_ascii_digit() => lower,
        _ => '-',
    };
    let name: String = node_name.chars().map(letter).take(NAME_BYTES).collect();
    // A name begins with a letter or a digit.
    let name = name.trim_start_matches('-');
    let separator = if name.is_empty() { "" } else { "-" };
    let key = format!("{target}\0{node_name}");
    format!("{name}{separator}{}", digits_of(&key, NAME_DIGITS))
}

/// The target that a record's object is named by. A record that no target has accepted yet keeps the
/// name that it has, or goes by its cloud.
pub(super) fn target_of<'a>(record: &'a Record, before: Option<&'a str>) -> &'a str {
    let accepted_by = record.accepted_by.as_deref().filter(|by| !by.is_empty());
    accepted_by.or(before).unwrap_or(&record.provider_id)
}

/// What is written: all fields, also the empty ones. An apply takes away a field that it leaves out only
/// where no other manager owns it, and what was created is owned by another kind of manager.
pub fn object(record: &Record, target: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": NODE_INTERFACES.api_version(),
        "kind": NODE_INTERFACES.kind,
        "metadata": {
            "name": name_of(target, &record.node_name),
            "namespace": namespace,
            "labels": labels(record),
        },
        "spec": spec(record, target),
    })
}

fn spec(record: &Record, target: &str) -> Value {
    let ids: Vec<String> =
        record.config.interfaces.iter().map(|interface| interface.id.to_string()).collect();
    let (down, interfaces) = (record.down_ports.len(), ids.join(","));
    let spec = Spec {
        target: target.to_owned(),
        delivery: delivery_to(target).to_owned(),
        record: record.clone(),
        summary: Summary { interfaces, down },
    };
    // Texts, numbers and lists only: there is nothing to fail on.
    let mut spec = serde_json::to_value(&spec).unwrap_or_default();
    for (field, empty) in
        [("downPorts", json!([])), ("leftOutPorts", json!(0)), ("reservedIds", json!([]))]
    {
        if spec[field].is_null() {
            spec[field] = empty;
        }
    }
    spec
}

/// Who delivers, by the name of the target: clusters are named by their Secret, or `-`.
fn delivery_to(target: &str) -> &'static str {
    if target == "-" || target.matches('/').count() == 1 { "Kubernetes" } else { "Viola" }
}

fn labels(record: &Record) -> Labels {
    let value = |text: &str| match is_label_value(text) {
        true => text.to_owned(),
        false => digits_of(text, LABEL_DIGITS),
    };
    let label = |name: &str, text: &str| (format!("multinic.io/{name}"), value(text));
    Labels::from([
        label("node-name", &record.node_name),
        label("instance-id", &record.instance_id),
        label("provider-id", &record.provider_id),
    ])
}

fn digits_of(text: &str, digits: usize) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    hexadecimal(digest.as_ref()).chars().take(digits).collect()
}

/// What an object holds of a record, but for the time.
pub(super) fn digest_of(record: &Record, target: &str) -> Digest {
    digest_of_spec(spec(record, target))
}

fn digest_of_spec(mut spec: Value) -> Digest {
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("updatedAt");
    }
    // `Value` orders the keys.
    digest(&SHA256, spec.to_string().as_bytes()).as_ref().try_into().unwrap_or_default()
}

/// Reads an object.
///
/// # Errors
/// Why its record can't be used.
pub(super) fn read(raw: &RawObject) -> Result<Found, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Object {
        api_version: Option<String>,
        spec: Value,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: Option<Labels>,
    }
    let object: Object = raw.parse().map_err(|error| error.to_string())?;
    let version = object.api_version.unwrap_or_else(|| NODE_INTERFACES.api_version());
    if version != NODE_INTERFACES.api_version() {
        return Err(format!("it is of {version}, which this program doesn't know"));
    }
    let Spec { target, record, .. } =
        Spec::deserialize(&object.spec).map_err(|error| format!("spec: {error}"))?;
    check(&record)?;
    let found = object.metadata.labels.unwrap_or_default();
    let has_labels = labels(&record).iter().all(|(name, value)| found.get(name) == Some(value));
    Ok(Found { target, record, digest: digest_of_spec(object.spec), has_labels })
}

/// Could it be what a node was sent?
fn check(record: &Record) -> Result<(), String> {
    let NodeConfig { node_name, instance_id, interfaces } = &record.config;
    if (node_name, instance_id) != (&record.node_name, &record.instance_id) {
        return Err("spec.config is of another node or VM than the spec".to_owned());
    }
    let (mut ids, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for interface in interfaces {
        if !ids.insert(interface.id) {
            return Err(format!("spec.config has the interface id {} twice", interface.id));
        }
        if !ports.insert(interface.port_id.to_ascii_lowercase()) {
            return Err(format!("spec.config has the port {} twice", interface.port_id));
        }
    }
    Ok(())
}

/// The node that an object is of, as far as it can be told where the record can't be read.
pub(super) fn node_name_of(raw: &RawObject) -> String {
    let body: Value = raw.parse().unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let named = text("/spec/nodeName").or_else(|| text("/spec/config/nodeName"));
    let named = named.or_else(|| text("/metadata/labels/multinic.io~1node-name"));
    named.unwrap_or_else(|| {
        let name = &raw.metadata.name;
        name.rsplit_once('-').map_or(name.as_str(), |(node, _)| node).to_owned()
    })
}

/// The VM that an object is of, likewise.
pub(super) fn vm_id_of(raw: &RawObject) -> Option<String> {
    let body: Value = raw.parse().ok()?;
    Some(body.pointer("/spec/instanceId")?.as_str()?.to_owned())
}

/// Does a manager beside us own a part of the spec? So it is once a person edited it.
pub(super) fn is_edited(raw: &RawObject, manager: &str) -> bool {
    let body: Value = raw.parse().unwrap_or_default();
    let entries = body.pointer("/metadata/managedFields").and_then(Value::as_array);
    let of_others = |entry: &&Value| entry["manager"].as_str() != Some(manager);
    let has_spec = |entry: &Value| entry.pointer("/fieldsV1/f:spec").is_some();
    entries.into_iter().flatten().filter(of_others).any(has_spec)
}

/// The replica that wrote an object last, if it says so.
pub(super) fn writer_of(raw: &RawObject) -> Option<String> {
    raw.metadata.annotations.get(WRITER_ANNOTATION).cloned()
}

/// Is the node to be numbered anew?
pub(super) fn is_to_renumber(metadata: &ObjectMeta) -> bool {
    metadata.annotations.get(RENUMBER_ANNOTATION).is_some_and(|value| value == "true")
}

/// Does the record keep an id for any port?
pub(super) fn keeps_ids(record: &Record) -> bool {
    !record.config.interfaces.is_empty() || !record.reserved_ids.is_empty()
}

/// The record without its ids: as if the node had never been accepted, but that its VM and its object
/// are known.
pub(super) fn without_ids(record: &Record, now: Timestamp) -> Change {
    Change::Upsert(Record {
        config: NodeConfig { interfaces: Vec::new(), ..record.config.clone() },
        last_config_hash: String::new(),
        accepted_by: Some(String::new()),
        down_ports: Vec::new(),
        left_out_ports: 0,
        reserved_ids: Vec::new(),
        updated_at: now,
        ..record.clone()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{digest_of, labels, name_of, node_name_of, object, read, target_of};
    use crate::inventory::record::tests::connected;
    use crate::kube::objects::RawObject;

    fn raw(object: &Value) -> RawObject {
        RawObject::read(&serde_json::value::to_raw_value(object).unwrap()).unwrap()
    }

    #[test]
    fn names_are_those_of_nodes_as_far_as_a_name_can_hold_them() {
        // By `printf 'biz\0worker-0' | sha256sum`.
        assert_eq!(name_of("biz", "worker-0"), "worker-0-2b5538b2c8");
        let long = "n".repeat(200);
        for (node, begins) in [
            ("Worker.0 A", "worker-0-a-"),
            ("_-x", "x-"),
            ("한국", ""),
            (long.as_str(), &long[..52]),
        ] {
            let name = name_of("biz", node);
            assert!(name.starts_with(begins) && name.len() <= 63, "{node}: {name}");
            assert!(name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-'), "{name}");
            assert!(!name.starts_with('-'), "{name}");
        }
        assert_ne!(name_of("biz", "a b"), name_of("biz", "a_b"));
        assert_ne!(name_of("biz", "a"), name_of("biz-2", "a"));
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same() {
        let mut record = connected(1);
        record.instance_id = "a VM".to_owned();
        record.config.instance_id.clone_from(&record.instance_id);
        assert_eq!(labels(&record)["multinic.io/instance-id"].len(), 16);
        assert_eq!(target_of(&record, None), "cloud");
        record.accepted_by = Some(String::new());
        assert_eq!(target_of(&record, Some("biz")), "biz", "not accepted yet, it keeps its name");
        record.accepted_by = Some("biz-2".to_owned());
        assert_eq!(target_of(&record, Some("biz")), "biz-2");
        let mut written = object(&record, "biz-2", "default");
        assert_eq!(written["spec"]["downPorts"], json!([]), "an apply can't take a field away");
        let found = read(&raw(&written)).unwrap();
        assert_eq!((&found.record, found.target.as_str()), (&record, "biz-2"));
        assert_eq!(found.digest, digest_of(&record, "biz-2"));
        assert!(found.has_labels);
        written["metadata"]["labels"]["multinic.io/node-name"] = json!("other");
        written["spec"]["updatedAt"] = json!("2027-01-02T03:04:05Z");
        let other = read(&raw(&written)).unwrap();
        assert!(other.digest == found.digest && !other.has_labels, "the time doesn't count");
        written["spec"]["summary"]["down"] = json!(7);
        assert_ne!(read(&raw(&written)).unwrap().digest, found.digest);
    }

    #[test]
    fn a_record_that_no_node_was_sent_is_refused_and_names_its_node() {
        let good = object(&connected(1), "cloud", "default");
        for (pointer, value, said) in [
            ("/apiVersion", json!("multinic.example.com/v2"), "v2"),
            ("/spec/updatedAt", json!(7), "invalid type"),
            ("/spec/config/nodeName", json!("other"), "of another node"),
            ("/spec/config/interfaces/1/id", json!(0), "interface id 0 twice"),
            ("/spec/config/interfaces/1/portId", json!("PORT"), "port PORT twice"),
        ] {
            let mut bad = good.clone();
            let interfaces = bad["spec"]["config"]["interfaces"].as_array_mut().unwrap();
            let mut second = interfaces[0].clone();
            (second["id"], second["portId"]) = (json!(1), json!("port-2"));
            interfaces.push(second);
            assert!(read(&raw(&bad)).is_ok());
            *bad.pointer_mut(pointer).unwrap() = value;
            let problem = read(&raw(&bad)).unwrap_err();
            assert!(problem.contains(said), "{problem}");
            assert_eq!(node_name_of(&raw(&bad)), "node-0001");
        }
        let bare = json!({"metadata": {"name": "worker-0-0123456789"}});
        assert_eq!(node_name_of(&raw(&bare)), "worker-0");
    }
}
