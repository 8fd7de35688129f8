//! Kinds of the Kubernetes API and the paths they live under.

use crate::http::url::query_value;

/// One kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version of the group, such as `v1`.
    pub version: &'static str,
    /// The name in paths and in RBAC rules.
    pub plural: &'static str,
    /// The name inside objects.
    pub kind: &'static str,
}

impl Resource {
    /// `core/v1` Secrets.
    pub const SECRETS: Resource =
        Resource { group: "", version: "v1", plural: "secrets", kind: "Secret" };
    /// `events.k8s.io/v1` Events.
    pub const EVENTS: Resource =
        Resource { group: "events.k8s.io", version: "v1", plural: "events", kind: "Event" };
    /// `coordination.k8s.io/v1` Leases.
    pub const LEASES: Resource =
        Resource { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease" };

    /// What objects carry as `apiVersion`.
    pub(crate) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Path of the collection; no namespace means all of them.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            Some(namespace) => {
                format!("{root}/namespaces/{}/{}", query_value(namespace), self.plural)
            }
            None => format!("{root}/{}", self.plural),
        }
    }

    /// Path of one object.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(Some(namespace)), query_value(name))
    }
}

#[cfg(test)]
mod tests {
    use super::Resource;
    use crate::http::url::query_value;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(
            Resource::SECRETS.object("default", "a"),
            "/api/v1/namespaces/default/secrets/a"
        );
        assert_eq!(Resource::LEASES.collection(None), "/apis/coordination.k8s.io/v1/leases");
        assert_eq!(Resource::SECRETS.api_version(), "v1");
        assert_eq!(query_value("a/b?c"), "a%2Fb%3Fc");
    }
}
