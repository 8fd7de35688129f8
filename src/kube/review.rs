//! What we may do, and what is served: asked of the API server itself, without doing it.
//!
//! Every authenticated user may put these questions (`system:basic-user`, `system:discovery`), so
//! they need no rule of their own.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::KubeClient;
use super::error::KubeError;
use super::resource::Resource;

/// `authorization.k8s.io/v1` SelfSubjectAccessReviews: they are answered and not stored.
const REVIEWS: Resource = Resource {
    group: "authorization.k8s.io",
    version: "v1",
    plural: "selfsubjectaccessreviews",
    kind: "SelfSubjectAccessReview",
};

/// Something the operator does with one kind of object, which a role must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The kind of object.
    pub resource: Resource,
    /// Its subresource; empty for the object itself.
    pub subresource: &'static str,
    /// The verbs as RBAC knows them.
    pub verbs: &'static [&'static str],
    /// Only the object of this name.
    pub name: Option<&'static str>,
    /// The manifest that has the rule.
    pub role: &'static str,
}

impl Access {
    /// The plural, with the subresource after a slash.
    pub fn plural(&self) -> String {
        match self.subresource {
            "" => self.resource.plural.to_owned(),
            subresource => format!("{}/{subresource}", self.resource.plural),
        }
    }
}

/// May we do this in the namespace, or in all of them at once?
pub(crate) fn may(
    client: &KubeClient,
    access: &Access,
    verb: &str,
    namespace: Option<&str>,
) -> Result<bool, KubeError> {
    let Access { resource, subresource, name, .. } = *access;
    // A request to create has no name in its path, so a rule can't ask for one.
    let name = name.filter(|_| verb != "create");
    let review = json!({
        "apiVersion": REVIEWS.api_version(),
        "kind": REVIEWS.kind,
        "spec": {"resourceAttributes": {
            "namespace": namespace.unwrap_or_default(),
            "verb": verb,
            "group": resource.group,
            "version": resource.version,
            "resource": resource.plural,
            "subresource": subresource,
            "name": name.unwrap_or_default(),
        }},
    });
    let answer = client.create::<Value>(&REVIEWS.collection(None), &review)?;
    Ok(answer["status"]["allowed"] == true)
}

/// The server's version, such as `v1.35.6`.
pub(crate) fn server_version(client: &KubeClient) -> Result<String, KubeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        git_version: String,
    }
    client.get::<Version>("/version").map(|version| version.git_version)
}

/// Are the kind and its status served, that is: is the CRD installed?
pub(crate) fn is_served(client: &KubeClient, resource: &Resource) -> Result<bool, KubeError> {
    let path = format!("/apis/{}/{}", resource.group, resource.version);
    let served = match client.get::<Value>(&path) {
        Ok(discovery) => discovery,
        // No kind of that group and version at all.
        Err(error) if error.status().is_not_served() => return Ok(false),
        Err(error) => return Err(error),
    };
    let has = |name: &str| {
        served["resources"].as_array().into_iter().flatten().any(|found| found["name"] == name)
    };
    Ok(has(resource.plural) && has(&format!("{}/status", resource.plural)))
}

/// The fields of the status that the CRD declares; none if the API server doesn't say.
pub(crate) fn status_fields(client: &KubeClient, resource: &Resource) -> Option<BTreeSet<String>> {
    let path = format!("/openapi/v3/apis/{}/{}", resource.group, resource.version);
    // Servers before 1.27 may not have it.
    let document = client.get::<Value>(&path).ok()?;
    let schemas = document["components"]["schemas"].as_object()?;
    let is_ours = |schema: &&Value| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] == resource.kind))
    };
    let schema = schemas.values().find(is_ours)?;
    Some(schema["properties"]["status"]["properties"].as_object()?.keys().cloned().collect())
}
