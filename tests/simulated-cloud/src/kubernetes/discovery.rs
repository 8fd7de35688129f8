//! Paths that are no resources: version, health, discovery.

use super::events;
use super::kinds::ResourceKind;
use super::status::Failure;
use super::store::State;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The answer of a path that is no resource.
pub(super) enum Page {
    Json(Value),
    /// Indented, as the real server writes it.
    Indented(&'static str),
    Text(&'static str),
}

/// The recorded answer of `/version`.
const VERSION: &str = r#"{
  "major": "1",
  "minor": "35",
  "emulationMajor": "1",
  "emulationMinor": "35",
  "minCompatibilityMajor": "1",
  "minCompatibilityMinor": "34",
  "gitVersion": "v1.35.6",
  "gitCommit": "5019821e0eb2f9a74e00e2aab215144336c4b981",
  "gitTreeState": "clean",
  "buildDate": "1970-01-01T00:00:00Z",
  "goVersion": "go1.25.5",
  "compiler": "gc",
  "platform": "linux/amd64"
}"#;

/// Serves a path, or says that there is nothing.
pub(super) fn page(state: &State, path: &str) -> Result<Page, Failure> {
    let kinds = served(state);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        ["version"] => Ok(Page::Indented(VERSION)),
        ["healthz" | "livez" | "readyz", ..] => Ok(Page::Text("ok")),
        ["api"] => Ok(Page::Json(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }))),
        ["apis"] => Ok(Page::Json(json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": group_versions(&kinds).iter().map(|(group, version)| api_group(group, version)).collect::<Vec<_>>(),
        }))),
        ["apis", group] => group_versions(&kinds)
            .iter()
            .find(|(name, _)| name == group)
            .map(|(name, version)| {
                let mut page = api_group(name, version);
                page["kind"] = json!("APIGroup");
                page["apiVersion"] = json!("v1");
                Page::Json(page)
            })
            .ok_or_else(Failure::page_not_found),
        ["openapi", "v3", "apis", group, version] => {
            openapi(&kinds, group, version).map(Page::Json).ok_or_else(Failure::page_not_found)
        }
        ["api", version] => resources(&kinds, "", version),
        ["apis", group, version] => resources(&kinds, group, version),
        _ => Err(Failure::page_not_found()),
    }
}

fn served(state: &State) -> Vec<ResourceKind> {
    let mut kinds: Vec<ResourceKind> = state
        .collections
        .values()
        .filter(|collection| collection.served)
        .map(|collection| collection.kind.clone())
        .collect();
    kinds.push(events::new_api());
    let mut review = ResourceKind::custom(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
    );
    review.custom = false;
    review.namespaced = false;
    review.status_subresource = false;
    kinds.push(review);
    kinds
}

/// Groups besides core, each with its one version.
fn group_versions(kinds: &[ResourceKind]) -> BTreeSet<(String, String)> {
    kinds
        .iter()
        .filter(|kind| !kind.group.is_empty())
        .map(|kind| (kind.group.clone(), kind.version.clone()))
        .collect()
}

fn api_group(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

fn resources(kinds: &[ResourceKind], group: &str, version: &str) -> Result<Page, Failure> {
    let mut resources = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        let verbs: &[&str] = if kind.kind == "SelfSubjectAccessReview" {
            &["create"]
        } else {
            &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
        };
        let mut resource = json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": verbs,
            "storageVersionHash": "Yv4I+sy+cWU=",
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        resources.push(resource);
        if kind.status_subresource {
            resources.push(json!({
                "name": format!("{}/status", kind.plural),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": ["get", "patch", "update"],
            }));
        }
    }
    if resources.is_empty() {
        return Err(Failure::page_not_found());
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(Page::Json(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    })))
}

/// As much of the OpenAPI document of a group as says what its kinds declare.
fn openapi(kinds: &[ResourceKind], group: &str, version: &str) -> Option<Value> {
    let mut schemas = json!({});
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        let mut schema = Value::clone(kind.schema.as_deref()?);
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "kind": kind.kind, "version": version}]);
        let reversed: Vec<&str> = group.rsplit('.').collect();
        schemas[format!("{}.{version}.{}", reversed.join("."), kind.kind)] = schema;
    }
    let info = json!({"title": "Kubernetes", "version": "v1.35.6"});
    Some(json!({"openapi": "3.0.0", "info": info, "components": {"schemas": schemas}}))
}
