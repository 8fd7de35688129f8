//! The forms in which an object can be asked for: itself, or a row of a table for kubectl. Pure; the
//! time for ages is an argument.

use super::events;
use super::kinds::ResourceKind;
use super::paging::Page;
use super::status::Failure;
use serde_json::{Map, Value, json};

/// Whether the first form of the `Accept` header that is served is a table; 406 if none is served.
pub(super) fn asks_for_table(accept: Option<&str>) -> Result<bool, Failure> {
    for offer in accept.unwrap_or("*/*").split(',') {
        let mut parts = offer.split(';').map(str::trim);
        if matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
            match parts.find_map(|part| part.strip_prefix("as=")) {
                None => return Ok(false),
                Some("Table") => return Ok(true),
                Some(_) => {}
            }
        }
    }
    Err(Failure::not_acceptable())
}

/// Shows the objects of one kind, themselves or as a table.
#[derive(Clone, Debug)]
pub(super) struct Presenter {
    pub(super) kind: ResourceKind,
    pub(super) as_table: bool,
    pub(super) now: i64,
}

impl Presenter {
    /// One object, as a GET or a write answers it.
    pub(super) fn object(&self, object: &Value) -> Value {
        self.event(object, true)
    }

    /// One object in a watch event; only the first table of a watch has column definitions.
    pub(super) fn event(&self, object: &Value, first: bool) -> Value {
        let whole = self.whole(object);
        if !self.as_table {
            return whole;
        }
        let version = &whole["metadata"]["resourceVersion"];
        self.table(&[&whole], first, json!({"resourceVersion": version}))
    }

    /// A bookmark: version, kind and nothing else.
    pub(super) fn bookmark(&self, version: u64) -> Value {
        let metadata = json!({"resourceVersion": version.to_string()});
        if self.as_table {
            return self.table(&[], false, metadata);
        }
        json!({
            "apiVersion": self.kind.api_version(), "kind": self.kind.kind, "metadata": metadata,
        })
    }

    /// A list. That of a custom resource always has `continue`, and items that say what they are.
    pub(super) fn list(&self, page: &Page) -> Value {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".into(), json!(page.version.to_string()));
        let always = self.kind.custom && !self.as_table;
        if always || !page.continue_token.is_empty() {
            metadata.insert("continue".into(), json!(page.continue_token));
        }
        if let Some(remaining) = page.remaining {
            metadata.insert("remainingItemCount".into(), json!(remaining));
        }
        let items: Vec<Value> = page.items.iter().map(|item| self.whole(item)).collect();
        if self.as_table {
            return self.table(&items.iter().collect::<Vec<_>>(), true, Value::Object(metadata));
        }
        json!({
            "kind": format!("{}List", self.kind.kind),
            "apiVersion": self.kind.api_version(),
            "metadata": metadata,
            "items": items.into_iter().map(|item| self.item(item)).collect::<Vec<_>>(),
        })
    }

    fn item(&self, mut item: Value) -> Value {
        if let (false, Some(members)) = (self.kind.custom, item.as_object_mut()) {
            members.remove("apiVersion");
            members.remove("kind");
        }
        item
    }

    fn whole(&self, object: &Value) -> Value {
        let mut whole = object.clone();
        match (self.kind.kind.as_str(), self.kind.group.as_str()) {
            ("Event", "") => events::as_core(&mut whole),
            ("Event", "events.k8s.io") => events::to_new_api(&mut whole),
            _ => {}
        }
        whole
    }

    fn table(&self, objects: &[&Value], with_columns: bool, metadata: Value) -> Value {
        let rows: Vec<Value> = objects
            .iter()
            .map(|object| {
                let mut cells = vec![object["metadata"]["name"].clone()];
                cells.extend(self.kind.columns.iter().map(|column| {
                    let value = evaluate(object, &column.path).cloned().unwrap_or_default();
                    match (column.kind.as_str(), value.as_str()) {
                        ("date", Some(time)) => json!(age(time, self.now)),
                        _ => value,
                    }
                }));
                json!({"cells": cells, "object": metadata_only(object)})
            })
            .collect();
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": if with_columns { self.columns() } else { Value::Null },
            "rows": rows,
        })
    }

    fn columns(&self) -> Value {
        let mut columns = vec![json!({
            "name": "Name", "type": "string", "format": "name", "priority": 0,
            "description": "Name must be unique within a namespace.",
        })];
        columns.extend(self.kind.columns.iter().map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": "", "priority": 0,
                "description": format!("Custom resource definition column (in JSONPath format): {}", column.path),
            })
        }));
        Value::Array(columns)
    }
}

fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// A JSONPath of members and `[?(@.member=="value")]` filters.
fn evaluate<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = object;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(filter) = rest.strip_prefix("[?(@.") {
            let (condition, after) = filter.split_once(")]")?;
            let (member, wanted) = condition.split_once("==")?;
            let wanted = wanted.trim().trim_matches(['"', '\'']);
            value = value.as_array()?.iter().find(|item| item[member.trim()] == wanted)?;
            rest = after;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            value = value.get(&after[..end])?;
            rest = &after[end..];
        }
    }
    Some(value)
}

/// The time since, as kubectl's tables round it.
fn age(time: &str, now: i64) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else {
        return "<unknown>".to_owned();
    };
    let seconds = (now - then.as_second()).max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}
