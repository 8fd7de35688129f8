//! An object as it would be once a file with it was applied.
//!
//! As `kubectl apply` does it: what the file has replaces what the cluster has, lists whole; what the
//! file of the last apply had and this one hasn't goes; everything else stays.

use std::path::Path;
use std::{fs, io};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::yaml;
use crate::resources::{OPENSTACK_CONFIGS, ObjectKey};

/// Where `kubectl apply` keeps the file it was given last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How messages name a file.
pub(super) fn shown(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => path.display().to_string(),
    }
}

/// The object of a file, and its key.
pub(super) fn read(path: &Path) -> Result<(ObjectKey, Value), String> {
    let text = match path.to_str() {
        Some("-") => io::read_to_string(io::stdin()),
        _ => fs::read_to_string(path),
    };
    let text = text.map_err(|error| format!("cannot read {}: {error}", shown(path)))?;
    parse(&text).map_err(|problem| format!("{} {problem}", shown(path)))
}

fn parse(text: &str) -> Result<(ObjectKey, Value), String> {
    // Not all JSON is YAML.
    let object = serde_json::from_str(text).or_else(|_| yaml::read(text))?;
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (OPENSTACK_CONFIGS.api_version(), OPENSTACK_CONFIGS.kind);
    let given = (text("/apiVersion"), text("/kind"));
    if given != (version.as_str(), kind) {
        return Err(format!("has {:?} of {:?}, not one {kind} of {version}", given.1, given.0));
    }
    let required = |name: &str| match text(&format!("/metadata/{name}")) {
        "" => Err(format!("has no metadata.{name}")),
        text => Ok(text.to_owned()),
    };
    let key = ObjectKey { namespace: required("namespace")?, name: required("name")? };
    Ok((key, object))
}

/// The object after the apply; `live` is what the cluster has.
pub(super) fn apply(live: Option<Value>, file: &Value, now: Timestamp) -> Value {
    let mut object = live.unwrap_or_else(|| {
        let (namespace, name) = (&file["metadata"]["namespace"], &file["metadata"]["name"]);
        json!({"metadata": {"namespace": namespace, "name": name, "uid": "not created yet",
            "generation": 0, "creationTimestamp": now.to_string()}})
    });
    let last = object["metadata"]["annotations"][LAST_APPLIED].as_str();
    let last: Value = last.and_then(|last| serde_json::from_str(last).ok()).unwrap_or_default();
    let spec = merged(&object["spec"], &last["spec"], &file["spec"]);
    if spec != object["spec"] {
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
    }
    object["spec"] = spec;
    let of = |object: &Value| object["metadata"]["annotations"].clone();
    object["metadata"]["annotations"] = merged(&of(&object), &of(&last), &of(file));
    object
}

/// A field of the object; null in the file takes a field away.
fn merged(live: &Value, last: &Value, file: &Value) -> Value {
    let absent = Map::new();
    let given = match file {
        Value::Object(given) => given,
        Value::Null => &absent,
        value => return value.clone(),
    };
    let mut fields = live.as_object().cloned().unwrap_or_default();
    fields.retain(|name, _| match given.get(name) {
        Some(value) => !value.is_null(),
        None => last.get(name).is_none(),
    });
    for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        let name_of = name.as_str();
        fields.insert(name.clone(), merged(&live[name_of], &last[name_of], value));
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{LAST_APPLIED, apply, parse};

    fn file(metadata: Value, spec: Value) -> Value {
        json!({"apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
            "metadata": metadata, "spec": spec})
    }

    #[test]
    fn a_file_is_one_object_with_a_name_and_a_namespace() {
        let read = |object: Value| parse(&object.to_string());
        let whole = json!({"namespace": "a", "name": "b"});
        assert_eq!(read(file(whole, json!({}))).unwrap().0.to_string(), "a/b");
        let list = read(json!({"apiVersion": "v1", "kind": "List"})).unwrap_err();
        assert!(list.starts_with("has \"List\" of \"v1\", not one OpenstackConfig"), "{list}");
        let unplaced = read(file(json!({"name": "b"}), json!({}))).unwrap_err();
        assert_eq!(unplaced, "has no metadata.namespace");
        let nothing = parse("# nothing").unwrap_err();
        assert!(nothing.starts_with("has \"\" of \"\""), "{nothing}");
    }

    #[test]
    fn an_object_that_is_not_there_is_created_now() {
        let file = file(
            json!({"namespace": "a", "name": "b", "uid": "u", "annotations": {"x": "1"}}),
            json!({"vmNames": ["v"], "paused": null}),
        );
        let object = apply(None, &file, Timestamp::UNIX_EPOCH);
        assert_eq!(object["spec"], json!({"vmNames": ["v"]}));
        assert_eq!(
            object["metadata"],
            json!({"namespace": "a", "name": "b", "annotations": {"x": "1"}, "generation": 1,
                "uid": "not created yet", "creationTimestamp": "1970-01-01T00:00:00Z"})
        );
    }

    #[test]
    fn an_apply_keeps_what_others_set_and_takes_away_what_it_set_before() {
        let last = file(json!({"annotations": {"old": "1"}}), json!({"subnetName": "lan"}));
        let live = json!({
            "metadata": {"namespace": "a", "name": "b", "uid": "u", "generation": 4,
                "annotations": {"old": "1", "hand": "2", LAST_APPLIED: last.to_string()}},
            "spec": {"subnetName": "lan", "paused": true, "vmNames": ["v", "w"],
                "credentials": {"projectID": "p", "k8sProviderID": "k"}},
            "status": {"nodes": 2},
        });
        let new = json!({"subnetID": "s", "vmNames": ["w"],
            "credentials": {"projectID": "q", "k8sProviderID": null}});
        let given = file(json!({"namespace": "a", "name": "b"}), new);
        let object = apply(Some(live.clone()), &given, Timestamp::UNIX_EPOCH);
        let spec = json!({"subnetID": "s", "paused": true, "vmNames": ["w"],
            "credentials": {"projectID": "q"}});
        assert_eq!((&object["spec"], &object["status"]), (&spec, &live["status"]));
        let metadata = &object["metadata"];
        assert_eq!((&metadata["uid"], &metadata["generation"]), (&json!("u"), &json!(5)));
        assert_eq!(metadata["annotations"]["hand"], "2");
        assert_eq!(metadata["annotations"].get("old"), None);
        // The same once more is no change.
        let again = apply(Some(object.clone()), &given, Timestamp::UNIX_EPOCH);
        assert_eq!(again["metadata"]["generation"], 5);
    }
}
