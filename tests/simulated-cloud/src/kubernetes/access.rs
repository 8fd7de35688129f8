//! Who a request comes from, and what that user may not do. By default everyone may do everything;
//! tests accept certain tokens only, and deny certain actions.

use super::kinds::qualified;
use super::status::Failure;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The user of a request without a token, once tokens are required.
const ANONYMOUS: &str = "system:anonymous";
/// The user of every request while no tokens are required.
const EVERYONE: &str = "admin";

/// Something that is not allowed, although a role would seem to allow it.
#[derive(Clone, Debug)]
pub struct Denial {
    verb: String,
    resource: String,
    scope: Scope,
    name: Option<String>,
    user: Option<String>,
}

#[derive(Clone, Debug)]
enum Scope {
    Everywhere,
    Cluster,
    Namespace(String),
}

impl Denial {
    /// Denies a verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, or `*`) on a plural
    /// (`openstackconfigs`, `openstackconfigs/status`, or `*`), everywhere and for everyone.
    pub fn new(verb: &str, resource: &str) -> Denial {
        Denial {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            scope: Scope::Everywhere,
            name: None,
            user: None,
        }
    }

    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Denial {
        self.scope = Scope::Namespace(namespace.to_owned());
        self
    }

    /// Only for requests over all namespaces, as a namespaced Role denies them.
    #[must_use]
    pub fn at_cluster_scope(mut self) -> Denial {
        self.scope = Scope::Cluster;
        self
    }

    /// Only for the object of this name.
    #[must_use]
    pub fn of(mut self, name: &str) -> Denial {
        self.name = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn for_user(mut self, user: &str) -> Denial {
        self.user = Some(user.to_owned());
        self
    }

    fn covers(&self, user: &str, action: &Action<'_>) -> bool {
        let all_or = |wanted: &str, given: &str| wanted == "*" || wanted == given;
        all_or(&self.verb, action.verb)
            && all_or(&self.resource, &action.resource())
            && self.name.as_deref().is_none_or(|denied| action.name == Some(denied))
            && self.user.as_deref().is_none_or(|denied| denied == user)
            && match &self.scope {
                Scope::Everywhere => true,
                Scope::Cluster => action.namespace.is_none(),
                Scope::Namespace(namespace) => action.namespace == Some(namespace),
            }
    }
}

/// What a request wants to do.
#[derive(Debug)]
pub(super) struct Action<'a> {
    pub(super) verb: &'a str,
    pub(super) group: &'a str,
    pub(super) plural: &'a str,
    pub(super) subresource: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
}

impl Action<'_> {
    /// `plural` or `plural/subresource`.
    pub(super) fn resource(&self) -> String {
        match self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.plural),
            None => self.plural.to_owned(),
        }
    }
}

/// The accepted tokens and the denials.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// Token to user; none means that nobody is asked for one.
    tokens: BTreeMap<String, String>,
    denials: Vec<Denial>,
}

impl Access {
    pub(super) fn accept_token(&mut self, token: &str, user: &str) {
        self.tokens.insert(token.to_owned(), user.to_owned());
    }

    pub(super) fn revoke_token(&mut self, token: &str) {
        self.tokens.remove(token);
        if self.tokens.is_empty() {
            // Still required: no token is accepted any more.
            self.tokens.insert(String::new(), ANONYMOUS.to_owned());
        }
    }

    pub(super) fn deny(&mut self, denial: Denial) {
        self.denials.push(denial);
    }

    pub(super) fn allow_everything(&mut self) {
        self.denials.clear();
    }

    /// The user behind an `Authorization` header.
    pub(super) fn user(&self, authorization: Option<&str>) -> Result<String, Failure> {
        if self.tokens.is_empty() {
            return Ok(EVERYONE.to_owned());
        }
        match authorization.and_then(|header| header.strip_prefix("Bearer ")) {
            None => Ok(ANONYMOUS.to_owned()),
            Some(token) => self
                .tokens
                .get(token.trim())
                .filter(|_| !token.trim().is_empty())
                .cloned()
                .ok_or_else(Failure::unauthorized),
        }
    }

    pub(super) fn is_allowed(&self, user: &str, action: &Action<'_>) -> bool {
        user != ANONYMOUS && !self.denials.iter().any(|denial| denial.covers(user, action))
    }

    /// 403 with the words of the real server.
    pub(super) fn check(&self, user: &str, action: &Action<'_>) -> Result<(), Failure> {
        if self.is_allowed(user, action) {
            return Ok(());
        }
        let named = action.name.map(|name| format!(" \"{name}\"")).unwrap_or_default();
        let place = match action.namespace {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".to_owned(),
        };
        let message = format!(
            "{}{named} is forbidden: User \"{user}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
            qualified(action.plural, action.group),
            action.verb,
            action.resource(),
            action.group,
        );
        let mut details = Map::new();
        if let Some(name) = action.name {
            details.insert("name".into(), json!(name));
        }
        if !action.group.is_empty() {
            details.insert("group".into(), json!(action.group));
        }
        details.insert("kind".into(), json!(action.plural));
        Err(Failure::forbidden(message, Value::Object(details)))
    }

    /// Whoever is logged in may ask what he may do (`system:basic-user`), whatever is denied.
    pub(super) fn check_review(&self, user: &str, action: &Action<'_>) -> Result<(), Failure> {
        if user == ANONYMOUS { self.check(user, action) } else { Ok(()) }
    }

    /// 403 for a path that is no resource; health and version are open to all.
    pub(super) fn check_path(&self, user: &str, path: &str) -> Result<(), Failure> {
        let open = ["/version", "/healthz", "/livez", "/readyz"];
        if user != ANONYMOUS || open.iter().any(|prefix| path.starts_with(prefix)) {
            return Ok(());
        }
        Err(Failure::forbidden(
            format!("forbidden: User \"{user}\" cannot get path \"{path}\""),
            json!({}),
        ))
    }

    /// The answer to a SelfSubjectAccessReview: what was asked, with its status. The empty namespace
    /// stands for all of them at once.
    pub(super) fn review(&self, user: &str, mut review: Value) -> Value {
        let attributes = &review["spec"]["resourceAttributes"];
        let text = |key: &str| attributes[key].as_str().filter(|text| !text.is_empty());
        let allowed = !attributes.is_object()
            || self.is_allowed(
                user,
                &Action {
                    verb: text("verb").unwrap_or_default(),
                    group: text("group").unwrap_or_default(),
                    plural: text("resource").unwrap_or_default(),
                    subresource: text("subresource"),
                    namespace: text("namespace"),
                    name: text("name"),
                },
            );
        review["kind"] = json!("SelfSubjectAccessReview");
        review["apiVersion"] = json!("authorization.k8s.io/v1");
        if review["metadata"].is_null() {
            review["metadata"] = json!({});
        }
        review["status"] = match allowed {
            true => json!({"allowed": true, "reason": "RBAC: allowed by the simulated roles"}),
            false => json!({"allowed": false}),
        };
        review
    }
}
