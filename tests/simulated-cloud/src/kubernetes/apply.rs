//! Field ownership: which manager wrote which field (`metadata.managedFields`), and server-side apply.
//!
//! Pure: objects and entries go in, objects, entries or conflicts come out. How an object falls into
//! fields is `fields`.

use super::fields::{Fields, Operation, Path, display_path, fields_of, read_paths, write_paths};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Who writes, how, and when.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) manager: String,
    pub(super) api_version: String,
    /// `status` for a write to the subresource.
    pub(super) subresource: Option<&'static str>,
    /// RFC 3339.
    pub(super) time: String,
    /// Whether the kind has no built-in schema, so that its maps count as fields themselves.
    pub(super) custom: bool,
}

/// A field that another manager owns and that would change.
#[derive(Debug, PartialEq)]
pub(super) struct Conflict {
    /// As the message names the other manager.
    pub(super) manager: String,
    /// For example `.data.plan.json`.
    pub(super) field: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    operation: Operation,
    time: String,
    manager: String,
    api_version: String,
    subresource: Option<String>,
    fields: BTreeSet<Path>,
}

impl Entry {
    fn read(value: &Value) -> Entry {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let mut fields = BTreeSet::new();
        read_paths(&value["fieldsV1"], &mut Vec::new(), &mut fields);
        Entry {
            operation: if value["operation"] == "Apply" {
                Operation::Apply
            } else {
                Operation::Update
            },
            time: text("time"),
            manager: text("manager"),
            api_version: text("apiVersion"),
            subresource: value["subresource"].as_str().map(str::to_owned),
            fields,
        }
    }

    fn json(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager,
            "operation": if self.operation == Operation::Apply { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": write_paths(&self.fields),
        });
        if let Some(subresource) = &self.subresource {
            entry["subresource"] = json!(subresource);
        }
        entry
    }

    fn new(writer: &Writer, operation: Operation) -> Entry {
        Entry {
            operation,
            time: writer.time.clone(),
            manager: writer.manager.clone(),
            api_version: writer.api_version.clone(),
            subresource: writer.subresource.map(str::to_owned),
            fields: BTreeSet::new(),
        }
    }

    fn is_of(&self, writer: &Writer, operation: Operation) -> bool {
        self.operation == operation
            && self.manager == writer.manager
            && self.subresource.as_deref() == writer.subresource
            && self.api_version == writer.api_version
    }

    /// As conflict messages name the manager: an Update by its version and time as well.
    fn display(&self) -> String {
        let mut text = format!("\"{}\"", self.manager);
        if let Some(subresource) = &self.subresource {
            text.push_str(&format!(" with subresource \"{subresource}\""));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {} at {}", self.api_version, self.time));
        }
        text
    }
}

/// `managedFields` after a create, PUT or patch that turned `old` into `new`.
pub(super) fn after_update(old: &Value, new: &Value, writer: &Writer) -> Value {
    let before = fields_of(old, writer.custom, Operation::Update);
    let after = fields_of(new, writer.custom, Operation::Update);
    let written: BTreeSet<&Path> = after
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(*value))
        .map(|(path, _)| path)
        .collect();
    let removed: BTreeSet<&Path> =
        before.keys().filter(|path| !after.contains_key(*path)).collect();
    let mut entries = read_entries(old);
    if !entries.iter().any(|entry| entry.is_of(writer, Operation::Update)) {
        entries.push(Entry::new(writer, Operation::Update));
    }
    for entry in &mut entries {
        let own = entry.is_of(writer, Operation::Update);
        let unchanged = entry.fields.clone();
        entry.fields.retain(|path| !removed.contains(path) && (own || !written.contains(path)));
        if own {
            entry.fields.extend(written.iter().map(|path| (*path).clone()));
            if entry.fields != unchanged {
                entry.time.clone_from(&writer.time);
            }
        }
    }
    write_entries(entries)
}

/// Server-side apply: the object that `applied` makes of `live` (null if there is none), with its
/// `managedFields` in place. Without `force` a field that someone else owns with another value is a conflict.
pub(super) fn apply(
    live: &Value,
    applied: &Value,
    writer: &Writer,
    force: bool,
) -> Result<Value, Vec<Conflict>> {
    let wanted = only_writable(fields_of(applied, writer.custom, Operation::Apply), writer);
    let present = fields_of(live, writer.custom, Operation::Apply);
    let (mine, mut others): (Vec<Entry>, Vec<Entry>) =
        read_entries(live).into_iter().partition(|entry| entry.is_of(writer, Operation::Apply));

    let changed: BTreeSet<&Path> = wanted
        .iter()
        .filter(|(path, value)| present.get(*path) != Some(*value))
        .filter(|(path, value)| {
            !(is_empty_map(value) && present.keys().any(|other| other.starts_with(path)))
        })
        .map(|(path, _)| path)
        .collect();
    if !force {
        let conflicts: Vec<Conflict> = others
            .iter()
            .flat_map(|entry| {
                entry
                    .fields
                    .iter()
                    .filter(|path| changed.contains(path))
                    .map(|path| Conflict { manager: entry.display(), field: display_path(path) })
            })
            .collect();
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    for entry in &mut others {
        entry.fields.retain(|path| !changed.contains(path));
    }

    let mut merged = live.clone();
    for (path, value) in &wanted {
        set(&mut merged, path, value);
    }
    let formerly_mine = mine.first().map(|entry| entry.fields.clone()).unwrap_or_default();
    // Elements before their members (a path sorts after its prefix), while their keys still name them.
    for path in &formerly_mine {
        let owned_by_others =
            others.iter().any(|entry| entry.fields.iter().any(|other| other.starts_with(path)));
        let still_wanted = wanted.keys().any(|kept| kept.starts_with(path));
        if !owned_by_others && !still_wanted && !is_key(path) {
            remove(&mut merged, path);
        }
    }

    let mut own = Entry::new(writer, Operation::Apply);
    own.fields = wanted.into_keys().collect();
    if let Some(before) = mine.first()
        && before.fields == own.fields
    {
        own.time.clone_from(&before.time);
    }
    others.push(own);
    if !merged["metadata"].is_object() {
        merged["metadata"] = json!({});
    }
    merged["metadata"]["managedFields"] = write_entries(others);
    Ok(merged)
}

/// Each endpoint resets what it does not write: `/status` all but the status.
fn only_writable(mut fields: Fields, writer: &Writer) -> Fields {
    if writer.custom {
        let status = writer.subresource == Some("status");
        fields.retain(|path, _| (path.first().map(String::as_str) == Some("f:status")) == status);
    }
    fields
}

fn read_entries(object: &Value) -> Vec<Entry> {
    object["metadata"]["managedFields"]
        .as_array()
        .map(|entries| entries.iter().map(Entry::read).collect())
        .unwrap_or_default()
}

/// In the server's order: by operation, time, manager, version, subresource; empty sets are dropped.
fn write_entries(mut entries: Vec<Entry>) -> Value {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|one, other| {
        let key = |entry: &Entry| {
            (
                entry.operation,
                entry.time.clone(),
                entry.manager.clone(),
                entry.api_version.clone(),
                entry.subresource.clone(),
            )
        };
        key(one).cmp(&key(other))
    });
    entries.iter().map(Entry::json).collect()
}

/// Writes one field, and the containers on the way to it.
fn set(target: &mut Value, path: &[String], value: &Value) {
    let Some((element, rest)) = path.split_first() else {
        *target = value.clone();
        return;
    };
    if let Some(name) = element.strip_prefix("f:") {
        if !target.is_object() {
            *target = json!({});
        }
        if rest.is_empty() {
            // An empty map is merged into what is there, so it changes nothing.
            if !(is_empty_map(value) && target[name].is_object()) {
                target[name] = value.clone();
            }
        } else {
            set(&mut target[name], rest, value);
        }
        return;
    }
    if !target.is_array() {
        *target = json!([]);
    }
    let Some(items) = target.as_array_mut() else {
        return;
    };
    let index = match items.iter().position(|item| is_element(item, element)) {
        Some(index) => index,
        None => {
            items.push(new_element(element, value));
            items.len() - 1
        }
    };
    if let Some(item) = items.get_mut(index)
        && !(rest.is_empty() && value.is_null())
    {
        set(item, rest, value);
    }
}

fn remove(target: &mut Value, path: &[String]) {
    let Some((element, rest)) = path.split_first() else {
        return;
    };
    match target {
        Value::Object(members) => {
            let Some(name) = element.strip_prefix("f:") else {
                return;
            };
            if rest.is_empty() {
                members.remove(name);
            } else if let Some(member) = members.get_mut(name) {
                remove(member, rest);
                if is_empty(member) {
                    members.remove(name);
                }
            }
        }
        Value::Array(items) => {
            let Some(index) = items.iter().position(|item| is_element(item, element)) else {
                return;
            };
            if rest.is_empty() {
                items.remove(index);
            } else {
                remove(&mut items[index], rest);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn is_empty_map(value: &Value) -> bool {
    value.is_object() && is_empty(value)
}

fn is_element(item: &Value, element: &str) -> bool {
    if let Some(value) = element.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    let Some(Ok(Value::Object(keys))) = element.strip_prefix("k:").map(serde_json::from_str) else {
        return false;
    };
    keys.iter().all(|(key, value)| &item[key] == value)
}

/// Whether the path ends in a member by which a list tells its elements apart; it goes with the element.
fn is_key(path: &[String]) -> bool {
    let [.., element, member] = path else {
        return false;
    };
    let keys = element.strip_prefix("k:").map(serde_json::from_str::<Map<String, Value>>);
    match (keys, member.strip_prefix("f:")) {
        (Some(Ok(keys)), Some(name)) => keys.contains_key(name),
        _ => false,
    }
}

fn new_element(element: &str, value: &Value) -> Value {
    match element.strip_prefix("k:").map(serde_json::from_str) {
        Some(Ok(keys)) => keys,
        _ => value.clone(),
    }
}
