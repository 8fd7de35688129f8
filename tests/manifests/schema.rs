//! A CRD's schema, as the tests need it: its leaves, its bounds, its verdict on an object.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::document;

/// One version of a CRD.
pub(crate) struct Schema {
    pub(crate) crd: Value,
    root: Value,
}

impl Schema {
    /// The CRD in a file, which has one version.
    pub(crate) fn of(path: &str) -> Schema {
        let crd = document(path);
        assert_eq!(crd["spec"]["versions"].as_array().unwrap().len(), 1, "{path}");
        let root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        Schema { crd, root }
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

    /// What keeps the schema from being structural, or a value from being bounded.
    pub(crate) fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        collect_flaws(&self.root, "$", &mut flaws);
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

fn collect_flaws(schema: &Value, path: &str, flaws: &mut Vec<String>) {
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
    }
    match schema["type"].as_str() {
        Some("string") if schema["maxLength"].is_null() => flaw("a string without maxLength"),
        Some("string") => {}
        Some("integer") if schema["format"].is_null() => flaw("an integer without format"),
        Some("integer") => {}
        Some("array") => {
            if schema["maxItems"].is_null() {
                flaw("a list without maxItems");
            }
            collect_flaws(&schema["items"], &format!("{path}[]"), flaws);
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
                collect_flaws(below, &format!("{path}.{name}"), flaws);
            }
        }
        _ => flaw("no type that structural schemas know"),
    }
}
