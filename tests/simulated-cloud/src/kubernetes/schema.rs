//! What a CRD's schema says of an object: which fields it doesn't declare, which values it refuses.
//! Pure. Patterns, formats, defaults and CEL rules are not evaluated.

use super::status::Cause;
use serde_json::{Map, Value};

/// Takes away the fields that the schema doesn't declare, and gives their paths, such as
/// `spec.interfaces[0].networkId`.
pub(super) fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    let Some(members) = object.as_object_mut() else { return dropped };
    members.retain(|name, value| match (name.as_str(), &schema["properties"][name]) {
        // Every kind has them, and their own rules.
        ("apiVersion" | "kind" | "metadata", _) => true,
        (_, Value::Null) => {
            dropped.push(name.clone());
            false
        }
        (_, declared) => {
            prune_value(declared, value, name, &mut dropped);
            true
        }
    });
    dropped
}

fn prune_value(schema: &Value, value: &mut Value, path: &str, dropped: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune_value(&schema["items"], item, &format!("{path}[{index}]"), dropped);
            }
        }
        Value::Object(members) => {
            let keeps_unknown = schema["x-kubernetes-preserve-unknown-fields"] == true;
            members.retain(|name, member| {
                let declared = declared(schema, name);
                let path = format!("{path}.{name}");
                match declared {
                    Some(declared) => prune_value(declared, member, &path, dropped),
                    None if !keeps_unknown => dropped.push(path),
                    None => {}
                }
                declared.is_some() || keeps_unknown
            });
        }
        _ => {}
    }
}

/// The schema of a member of an object.
fn declared<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let known = schema["properties"].get(name);
    known.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object()))
}

/// What the schema refuses in a value at `path`.
pub(super) fn refused(schema: &Value, value: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    collect(schema, value, path, &mut causes);
    causes
}

fn collect(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let found = kind_of(value);
    let wanted = schema["type"].as_str().unwrap_or(found);
    if wanted != found && !(wanted == "number" && found == "integer") {
        let message = format!(
            "Invalid value: \"{found}\": {path} in body must be of type {wanted}: \"{found}\""
        );
        causes.push(Cause::new("FieldValueTypeInvalid", message, path));
        return;
    }
    let mut refuse = |reason, message: String| causes.push(Cause::new(reason, message, path));
    let bound = |name: &str| schema[name].as_i64();
    let exceeds = |name: &str, count: usize| {
        bound(name).filter(|limit| i64::try_from(count).is_ok_and(|count| count > *limit))
    };
    let is_below = |name: &str, count: usize| {
        bound(name).filter(|limit| i64::try_from(count).is_ok_and(|count| count < *limit))
    };
    match value {
        Value::Number(number) => {
            let invalid = |rule: &str, limit: i64| {
                format!("Invalid value: {number}: {path} in body should be {rule} {limit}")
            };
            let number = number.as_i64().unwrap_or(i64::MAX);
            if let Some(limit) = bound("maximum").filter(|limit| number > *limit) {
                refuse("FieldValueInvalid", invalid("less than or equal to", limit));
            }
            if let Some(limit) = bound("minimum").filter(|limit| number < *limit) {
                refuse("FieldValueInvalid", invalid("greater than or equal to", limit));
            }
        }
        Value::String(text) => {
            if let Some(limit) = exceeds("maxLength", text.chars().count()) {
                let message = format!("Too long: may not be more than {limit} bytes");
                refuse("FieldValueTooLong", message);
            }
            if let Some(limit) = is_below("minLength", text.chars().count()) {
                let rule = format!("{path} in body should be at least {limit} chars long");
                refuse("FieldValueInvalid", format!("Invalid value: {value}: {rule}"));
            }
            if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
                let known: Vec<String> = known.iter().map(Value::to_string).collect();
                let known = known.join(", ");
                let message = format!("Unsupported value: {value}: supported values: {known}");
                refuse("FieldValueNotSupported", message);
            }
        }
        Value::Array(items) => {
            if let Some(limit) = exceeds("maxItems", items.len()) {
                let message = format!("Too many: {}: must have at most {limit} items", items.len());
                refuse("FieldValueTooMany", message);
            }
            if let Some(limit) = is_below("minItems", items.len()) {
                let rule = format!("{path} in body should have at least {limit} items");
                refuse("FieldValueInvalid", format!("Invalid value: {}: {rule}", items.len()));
            }
            for (index, item) in items.iter().enumerate() {
                collect(&schema["items"], item, &format!("{path}[{index}]"), causes);
            }
        }
        Value::Object(members) => collect_members(schema, members, path, causes),
        Value::Bool(_) | Value::Null => {}
    }
}

fn collect_members(
    schema: &Value,
    members: &Map<String, Value>,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required.filter(|name| members.get(*name).is_none_or(Value::is_null)) {
        causes.push(Cause::new("FieldValueRequired", "Required value", &format!("{path}.{name}")));
    }
    // In the order of the recordings, which is the reverse of the names'.
    for (name, member) in members.iter().rev().filter(|(_, member)| !member.is_null()) {
        if let Some(declared) = declared(schema, name) {
            collect(declared, member, &format!("{path}.{name}"), causes);
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
