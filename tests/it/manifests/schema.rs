//! A CRD's schema, as the tests need it: its leaves, its bounds, its verdict on an object.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{document, documents};
use crate::repository;

/// One version of a CRD.
pub(crate) struct Schema {
    pub(crate) crd: Value,
    root: Value,
}

impl Schema {
    /// The CRD in a file, which has one version.
    pub(crate) fn of(path: &str) -> Schema {
        Schema::read(document(path))
    }

    fn read(crd: Value) -> Schema {
        assert_eq!(crd["spec"]["versions"].as_array().unwrap().len(), 1, "{crd}");
        let root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        Schema { crd, root }
    }

    /// Every CRD below `manifests/`, with the file it is in.
    pub(crate) fn all() -> Vec<(String, Schema)> {
        let mut schemas = Vec::new();
        let mut folders = vec![repository("manifests")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "yaml") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    if !text.contains("\nkind: CustomResourceDefinition\n") {
                        continue;
                    }
                    let crds = documents(&text).into_iter();
                    let crds = crds.filter(|object| object["kind"] == "CustomResourceDefinition");
                    let name = path.display().to_string();
                    schemas.extend(crds.map(|crd| (name.clone(), Schema::read(crd))));
                }
            }
        }
        schemas
    }

    /// Paths of all values below a property of the object that aren't objects or lists themselves,
    /// such as `conditions[].type`.
    pub(crate) fn leaves(&self, property: &str) -> BTreeSet<String> {
        let mut leaves = BTreeSet::new();
        collect_leaves(&self.root["properties"][property], String::new(), &mut leaves);
        leaves
    }

    /// What the schema refuses in an object; empty if it is fine. CEL rules are not evaluated.
    pub(crate) fn refuses(&self, object: &Value) -> Vec<String> {
        // What CRDs call a schema is a part of JSON Schema, apart from the x-kubernetes-* words.
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&self.root)
            .unwrap();
        validator
            .iter_errors(object)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    /// What keeps the schema from being structural, a value from being bounded, or a CEL rule from
    /// being cheap: an API server refuses a CRD whose rules cost too much in the worst case.
    pub(crate) fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        collect_flaws(&self.root, "$", 1, &mut flaws);
        flaws
    }
}

fn collect_leaves(schema: &Value, path: String, leaves: &mut BTreeSet<String>) {
    match schema["type"].as_str() {
        Some("object") => {
            for (name, below) in schema["properties"].as_object().unwrap() {
                let separator = if path.is_empty() { "" } else { "." };
                collect_leaves(below, format!("{path}{separator}{name}"), leaves);
            }
        }
        Some("array") => collect_leaves(&schema["items"], format!("{path}[]"), leaves),
        _ => {
            leaves.insert(path);
        }
    }
}

/// Paths of all values in an object, written as [`Schema::leaves`] does.
pub(crate) fn paths(value: &Value) -> BTreeSet<String> {
    fn collect(value: &Value, path: String, paths: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, below) in fields {
                    let separator = if path.is_empty() { "" } else { "." };
                    collect(below, format!("{path}{separator}{name}"), paths);
                }
            }
            Value::Array(items) => {
                for item in items {
                    collect(item, format!("{path}[]"), paths);
                }
            }
            _ => {
                paths.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(value, String::new(), &mut found);
    found
}

/// How many characters the values of a schema may have in all, where a list or map counts once for
/// each item it may have.
fn characters(schema: &Value) -> u64 {
    let bound = |name: &str| schema[name].as_u64().unwrap_or(1);
    let properties = schema["properties"].as_object();
    let properties: u64 = properties.into_iter().flatten().map(|(_, each)| characters(each)).sum();
    let items = match schema["type"].as_str() {
        Some("array") => bound("maxItems").saturating_mul(characters(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            bound("maxProperties").saturating_mul(characters(&schema["additionalProperties"]))
        }
        _ => 0,
    };
    bound("maxLength").saturating_add(properties).saturating_add(items)
}

/// `times` is how often the schema may occur in one object.
fn collect_flaws(schema: &Value, path: &str, times: u64, flaws: &mut Vec<String>) {
    let mut flaw = |what: &str| flaws.push(format!("{path}: {what}"));
    let is_known = |format: &str| ["date-time", "int32", "int64"].contains(&format);
    if schema["format"].as_str().is_some_and(|format| !is_known(format)) {
        flaw("a format API servers don't know");
    }
    if let Some(required) = schema["required"].as_array() {
        for name in required {
            if schema["properties"][name.as_str().unwrap()].is_null() {
                flaw(&format!("requires {name}, which it doesn't have"));
            }
        }
    }
    for rule in schema["x-kubernetes-validations"].as_array().unwrap_or(&Vec::new()) {
        if rule["message"].as_str().is_none_or(str::is_empty) {
            flaw("a rule without a message");
        }
        let text = rule["rule"].as_str().unwrap();
        // The estimate of what becomes of a number's text has no bound.
        if text.contains("string(") {
            flaw("a rule that makes a text of a number");
        }
        // An API server's limit for one rule is ten million units, a tenth of one for a character.
        if times.saturating_mul(characters(schema)) > 10_000_000 {
            flaw("a rule over too much text");
        }
    }
    match schema["type"].as_str() {
        Some("string") if schema["maxLength"].is_null() => flaw("a string without maxLength"),
        Some("string" | "boolean") => {}
        Some("integer") if schema["format"].is_null() => flaw("an integer without format"),
        Some("integer") => {}
        Some("array") => {
            if schema["maxItems"].is_null() {
                flaw("a list without maxItems");
            }
            let times = times.saturating_mul(schema["maxItems"].as_u64().unwrap_or(u64::MAX));
            collect_flaws(&schema["items"], &format!("{path}[]"), times, flaws);
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            if schema["maxProperties"].is_null() {
                flaw("a map without maxProperties");
            }
            let times = times.saturating_mul(schema["maxProperties"].as_u64().unwrap_or(u64::MAX));
            collect_flaws(&schema["additionalProperties"], &format!("{path}{{}}"), times, flaws);
        }
        Some("object") => {
            let Some(properties) = schema["properties"].as_object() else {
                let is_open = schema["x-kubernetes-preserve-unknown-fields"] == json!(true);
                if path != "$.metadata" && !is_open {
                    flaw("an object without properties");
                }
                return;
            };
            for (name, below) in properties {
                collect_flaws(below, &format!("{path}.{name}"), times, flaws);
            }
        }
        _ => flaw("no type that structural schemas know"),
    }
}
