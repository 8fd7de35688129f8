//! What the server refuses or rewrites in an object before it stores it: names, fields of custom
//! resources, MicroTimes of Leases and Events, Secrets. Pure.

use super::kinds::ResourceKind;
use super::schema;
use super::status::{Cause, Failure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Largest sum of the values of a Secret, in bytes.
const SECRET_MAXIMUM: usize = 1_048_576;
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
    regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// A name that may stand in a path.
pub(super) fn check_name(kind: &ResourceKind, name: &str) -> Result<(), Failure> {
    let good_label = |label: &str| {
        let letters = label.as_bytes();
        let alphanumeric = |letter: Option<&u8>| {
            letter.is_some_and(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
        };
        alphanumeric(letters.first())
            && alphanumeric(letters.last())
            && letters.iter().all(|letter| *letter == b'-' || alphanumeric(Some(letter)))
    };
    if name.len() <= 253 && name.split('.').all(good_label) {
        return Ok(());
    }
    let message = format!("Invalid value: \"{name}\": {SUBDOMAIN}");
    Err(Failure::invalid(kind, name, &[Cause::new("FieldValueInvalid", message, "metadata.name")]))
}

/// Drops the fields that a custom kind doesn't declare, and gives their paths.
pub(super) fn drop_unknown_fields(kind: &ResourceKind, object: &mut Value) -> Vec<String> {
    kind.schema.as_ref().map(|schema| schema::prune(schema, object)).unwrap_or_default()
}

/// Server-side apply refuses what the others drop.
pub(super) fn check_declared(
    kind: &ResourceKind,
    namespace: &str,
    name: &str,
    object: &Value,
) -> Result<(), Failure> {
    match drop_unknown_fields(kind, &mut object.clone()).first() {
        None => Ok(()),
        Some(field) => {
            let message = format!(
                "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): .{field}: \
                 field not declared in schema",
                kind.api_version(),
                kind.kind
            );
            Err(Failure::new(500, None, message, None))
        }
    }
}

/// Holds the part of a custom object that is written to the schema: the status, or all but that.
pub(super) fn check_values(
    kind: &ResourceKind,
    name: &str,
    object: &Value,
    is_status: bool,
) -> Result<(), Failure> {
    let Some(schema) = &kind.schema else { return Ok(()) };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let absent = required.filter(|field| !is_status && object[*field].is_null());
    let mut causes: Vec<Cause> =
        absent.map(|field| Cause::new("FieldValueRequired", "Required value", field)).collect();
    for (field, declared) in schema["properties"].as_object().into_iter().flatten() {
        let is_written = !["apiVersion", "kind", "metadata"].contains(&field.as_str())
            && (field == "status") == is_status;
        if is_written && !object[field].is_null() {
            causes.extend(schema::refused(declared, &object[field], field));
        }
    }
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Failure::invalid(kind, name, &causes)),
    }
}

/// Brings an object of a built-in kind into the form in which it is stored, or refuses it.
pub(super) fn normalise(
    kind: &ResourceKind,
    name: &str,
    object: &mut Value,
) -> Result<(), Failure> {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let metadata = &mut object["metadata"];
        let empty = match &metadata[field] {
            Value::Object(members) => members.is_empty(),
            Value::Array(items) => items.is_empty(),
            other => other.is_null(),
        };
        if let (true, Some(metadata)) = (empty, metadata.as_object_mut()) {
            metadata.remove(field);
        }
    }
    match kind.kind.as_str() {
        "Secret" => normalise_secret(kind, name, object),
        "Lease" => ["acquireTime", "renewTime"]
            .iter()
            .try_for_each(|field| check_micro_time("Lease", &mut object["spec"][field])),
        "Event" => normalise_event(kind, name, object),
        _ => Ok(()),
    }
}

fn normalise_secret(kind: &ResourceKind, name: &str, secret: &mut Value) -> Result<(), Failure> {
    let plain = secret.as_object_mut().and_then(|members| members.remove("stringData"));
    if let Some(Value::Object(plain)) = plain {
        if !secret["data"].is_object() {
            secret["data"] = json!({});
        }
        for (key, value) in plain {
            secret["data"][key] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
        }
    }
    if secret["type"].as_str().unwrap_or_default().is_empty() {
        secret["type"] = json!("Opaque");
    }
    let mut total = 0;
    for (key, value) in secret["data"].as_object().into_iter().flatten() {
        let Some(Ok(bytes)) = value.as_str().map(|text| STANDARD.decode(text)) else {
            return Err(Failure::bad_request(format!(
                "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data in data.{key}"
            )));
        };
        total += bytes.len();
    }
    if total > SECRET_MAXIMUM {
        let message = format!("Too long: may not be more than {SECRET_MAXIMUM} bytes");
        return Err(Failure::invalid(
            kind,
            name,
            &[Cause::new("FieldValueTooLong", message, "data")],
        ));
    }
    Ok(())
}

fn normalise_event(kind: &ResourceKind, name: &str, event: &mut Value) -> Result<(), Failure> {
    check_micro_time("Event", &mut event["eventTime"])?;
    check_micro_time("Event", &mut event["series"]["lastObservedTime"])?;
    if let Some(members) = event.as_object_mut() {
        members.retain(|_, value| !value.is_null() && *value != json!({"lastObservedTime": null}));
    }
    let about = event["involvedObject"]["namespace"].as_str().unwrap_or("default");
    if event["metadata"]["namespace"].as_str() != Some(about) {
        let message = format!("Invalid value: \"{about}\": does not match event.namespace");
        return Err(Failure::invalid(
            kind,
            name,
            &[Cause::new("FieldValueInvalid", message, "involvedObject.namespace")],
        ));
    }
    Ok(())
}

/// `2026-01-02T03:04:05.000000Z`: exactly six digits, or the server can't read it.
fn check_micro_time(kind: &str, time: &mut Value) -> Result<(), Failure> {
    let Some(text) = time.as_str() else {
        return Ok(());
    };
    let refuse = |rest: &str, layout: &str| {
        Err(Failure::bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: parsing time \"{text}\" as \
             \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{rest}\" as \"{layout}\""
        )))
    };
    let Some((seconds, rest)) = text.split_at_checked(19) else {
        return refuse(text, "2006");
    };
    if format!("{seconds}Z").parse::<jiff::Timestamp>().is_err() {
        return refuse(text, "2006");
    }
    let fraction = rest.split_at_checked(7).filter(|(fraction, _)| {
        fraction.starts_with('.') && fraction[1..].bytes().all(|letter| letter.is_ascii_digit())
    });
    let Some((_, zone)) = fraction else {
        return refuse(rest, ".000000");
    };
    let Ok(parsed) = text.parse::<jiff::Timestamp>() else {
        return refuse(zone, "Z07:00");
    };
    if zone != "Z" && zone.len() != 6 {
        return refuse(zone, "Z07:00");
    }
    *time = json!(parsed.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
    Ok(())
}
