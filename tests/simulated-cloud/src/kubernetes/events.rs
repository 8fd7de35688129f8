//! Events have two APIs over one store: core/v1, in which they are kept, and events.k8s.io/v1.

use super::kinds::ResourceKind;
use super::status::{Cause, Failure};
use serde_json::{Value, json};

/// Names in events.k8s.io/v1 and in core/v1.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
];

/// events.k8s.io/v1 as clients see it.
pub(super) fn new_api() -> ResourceKind {
    let mut kind = ResourceKind::custom("events.k8s.io", "v1", "Event", "events");
    kind.custom = false;
    kind.status_subresource = false;
    kind.short_names.push("ev".to_owned());
    kind
}

/// An Event of core/v1 with the fields that its encoder never leaves out.
pub(super) fn as_core(event: &mut Value) {
    for (field, empty) in [
        ("involvedObject", json!({})),
        ("source", json!({})),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("eventTime", Value::Null),
        ("reportingComponent", json!("")),
        ("reportingInstance", json!("")),
    ] {
        if event[field].is_null() {
            event[field] = empty;
        }
    }
}

/// A stored Event as events.k8s.io/v1 shows it.
pub(super) fn to_new_api(event: &mut Value) {
    rename(event, |(new, core)| (core, new));
    event["apiVersion"] = json!("events.k8s.io/v1");
    if event["eventTime"].is_null() {
        event["eventTime"] = Value::Null;
    }
}

/// What a client wrote as events.k8s.io/v1, as it is stored; a new one must say who reports what.
pub(super) fn from_new_api(event: &mut Value, is_new: bool) -> Result<(), Failure> {
    if is_new {
        let required =
            ["eventTime", "reportingController", "reportingInstance", "action", "reason"];
        let causes: Vec<Cause> = required
            .iter()
            .filter(|field| event[**field].as_str().unwrap_or_default().is_empty())
            .map(|field| Cause::new("FieldValueRequired", "Required value", field))
            .collect();
        if !causes.is_empty() {
            let name = event["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            return Err(Failure::invalid_named("Event", "", &name, &causes));
        }
    }
    rename(event, |(new, core)| (new, core));
    event["apiVersion"] = json!("v1");
    Ok(())
}

fn rename(
    event: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    if let Some(members) = event.as_object_mut() {
        for names in RENAMED {
            let (from, to) = direction(names);
            if let Some(value) = members.remove(from) {
                members.insert(to.to_owned(), value);
            }
        }
    }
}
