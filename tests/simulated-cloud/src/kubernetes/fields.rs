//! How an object falls into fields, and how sets of fields are written (FieldsV1).
//!
//! Pure. A field is named by its path in the notation of FieldsV1 (`f:spec`, `k:{"type":"Ready"}`,
//! `v:"finalizer"`). A path that stands for a container ("." in FieldsV1) carries the value null, so it
//! never counts as changed.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Where a field is.
pub(super) type Path = Vec<String>;
/// Fields and their values.
pub(super) type Fields = BTreeMap<Path, Value>;

/// How a manager writes. Only an Update owns containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// Metadata that the server writes itself, so that nobody owns it.
const SERVER_METADATA: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

/// How a value at a path is broken up into fields.
enum Shape {
    /// Owned as a whole.
    Atomic,
    /// A part of the schema: only its members are fields.
    Struct,
    /// Members and, for an Update, the map itself are fields.
    Map,
    /// A list of values, each a field.
    Set,
    /// A list of objects told apart by this member; whether their members are fields of their own.
    Keyed(&'static str, bool),
}

fn shape(path: &[String], value: &Value, custom: bool) -> Shape {
    let names: Vec<&str> =
        path.iter().map(|element| element.strip_prefix("f:").unwrap_or(element)).collect();
    match (names.as_slice(), value) {
        ([] | ["metadata"], _) => Shape::Struct,
        (["metadata", "labels" | "annotations"], Value::Object(_)) => Shape::Map,
        (["metadata", "finalizers"], Value::Array(_)) => Shape::Set,
        (["metadata", "ownerReferences"], Value::Array(_)) => Shape::Keyed("uid", false),
        (["metadata", "ownerReferences", _], _) => Shape::Atomic,
        (["status", "conditions"], Value::Array(_)) => Shape::Keyed("type", true),
        (["status", "conditions", key], Value::Object(_)) if key.starts_with("k:") => Shape::Struct,
        (["involvedObject" | "regarding" | "related"], _) if !custom => Shape::Atomic,
        (["data" | "stringData" | "binaryData"], Value::Object(_)) => Shape::Map,
        (_, Value::Object(_)) if custom => Shape::Map,
        (_, Value::Object(_)) => Shape::Struct,
        _ => Shape::Atomic,
    }
}

/// The fields of an object, as its kind's schema (or the lack of one) makes them.
pub(super) fn fields_of(object: &Value, custom: bool, operation: Operation) -> Fields {
    let mut fields = Fields::new();
    collect(object, &mut Vec::new(), custom, operation, &mut fields);
    fields
}

fn collect(
    value: &Value,
    path: &mut Path,
    custom: bool,
    operation: Operation,
    fields: &mut Fields,
) {
    let shape = shape(path, value, custom);
    let is_map = matches!(shape, Shape::Map);
    match (shape, value) {
        (Shape::Struct | Shape::Map, Value::Object(members)) if !members.is_empty() => {
            if is_map && operation == Operation::Update {
                fields.insert(path.clone(), Value::Null);
            }
            for (name, member) in members {
                let hidden = (path.is_empty() && (name == "apiVersion" || name == "kind"))
                    || (path.len() == 1
                        && path[0] == "f:metadata"
                        && SERVER_METADATA.contains(&name.as_str()));
                if !hidden {
                    path.push(format!("f:{name}"));
                    collect(member, path, custom, operation, fields);
                    path.pop();
                }
            }
        }
        (Shape::Set, Value::Array(items)) if !items.is_empty() => {
            if operation == Operation::Update {
                fields.insert(path.clone(), Value::Null);
            }
            for item in items {
                path.push(format!("v:{item}"));
                fields.insert(path.clone(), item.clone());
                path.pop();
            }
        }
        (Shape::Keyed(key, deep), Value::Array(items)) if !items.is_empty() => {
            if operation == Operation::Update {
                fields.insert(path.clone(), Value::Null);
            }
            for item in items {
                path.push(format!("k:{}", json!({key: item[key]})));
                if deep {
                    fields.insert(path.clone(), Value::Null);
                    collect(item, path, custom, operation, fields);
                } else {
                    fields.insert(path.clone(), item.clone());
                }
                path.pop();
            }
        }
        _ if path.len() > 1 || path.first().is_some_and(|name| name != "f:metadata") => {
            fields.insert(path.clone(), value.clone());
        }
        _ => {}
    }
}

/// Adds the paths of a FieldsV1 node.
pub(super) fn read_paths(node: &Value, path: &mut Path, fields: &mut BTreeSet<Path>) {
    let Some(members) = node.as_object() else {
        return;
    };
    if members.is_empty() && !path.is_empty() {
        fields.insert(path.clone());
    }
    for (name, member) in members {
        if name == "." {
            fields.insert(path.clone());
        } else {
            path.push(name.clone());
            read_paths(member, path, fields);
            path.pop();
        }
    }
}

/// The paths as FieldsV1.
pub(super) fn write_paths(fields: &BTreeSet<Path>) -> Value {
    let mut root = json!({});
    for path in fields {
        let mut node = &mut root;
        for element in path {
            node = &mut node[element];
            if node.is_null() {
                *node = json!({});
            }
        }
        if fields.iter().any(|other| other.len() > path.len() && other.starts_with(path)) {
            node["."] = json!({});
        }
    }
    root
}

/// As conflicts show a path: `.status.conditions[type="Ready"].reason`.
pub(super) fn display_path(path: &[String]) -> String {
    let mut text = String::new();
    for element in path {
        if let Some(name) = element.strip_prefix("f:") {
            text.push_str(&format!(".{name}"));
        } else if let Some(Ok(keys)) =
            element.strip_prefix("k:").map(serde_json::from_str::<Map<String, Value>>)
        {
            let keys: Vec<String> =
                keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            text.push_str(&format!("[{}]", keys.join(",")));
        } else if let Some(value) = element.strip_prefix("v:") {
            text.push_str(&format!("[={value}]"));
        }
    }
    text
}
