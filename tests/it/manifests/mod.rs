//! Holds what is applied to a cluster (`manifests/`) to what the program really is: its types, its
//! settings, its ports, its calls.
//!
//! The Helm chart is rendered by Helm's own engine and compared with the kustomizations.
//! The custom resources and the rights are read as files and compared with the code. What kustomize
//! makes of the folders needs `kubectl`; validating that against Kubernetes' own schemas, and the CEL
//! rules, needs `tools/manifests/requirements.txt` installed. Where a tool is missing, its tests say
//! so and pass, unless MANIFEST_TOOLS=required.

pub(crate) mod chart;
mod custom_resources;
mod deploy;
mod references;
mod rendered;
mod restore;
mod rights;
mod schema;
pub(crate) mod tools;

use serde_json::Value;

use crate::text;

/// The documents of YAML text; empty ones are left out.
fn documents(yaml: &str) -> Vec<Value> {
    use serde::Deserialize as _;
    serde_norway::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

/// The one document of a file.
fn document(path: &str) -> Value {
    let mut documents = documents(&text(path));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}
