//! The rights the operator needs, and what the API server says of them, as rows. Pure.

use std::collections::BTreeMap;

use super::advice;
use super::report::Row;
use crate::config::LeaderElection;
use crate::kube::error::KubeError;
use crate::kube::resource::Resource;
use crate::kube::review::Right;
use crate::resources::OPENSTACK_CONFIGS;

const fn right(verb: &'static str, resource: Resource, subresource: &'static str) -> Right {
    Right { verb, resource, subresource, name: None }
}

/// In all namespaces, or in each that is watched: as in `manifests/rbac/role.yaml`.
pub const NEEDED: &[Right] = &[
    right("list", OPENSTACK_CONFIGS, ""),
    right("watch", OPENSTACK_CONFIGS, ""),
    right("patch", OPENSTACK_CONFIGS, "status"),
    right("get", Resource::SECRETS, ""),
    right("create", Resource::SECRETS, ""),
    right("patch", Resource::SECRETS, ""),
    right("create", Resource::EVENTS, ""),
    right("patch", Resource::EVENTS, ""),
];

const LEASE: Right =
    Right { verb: "get", resource: Resource::LEASES, subresource: "", name: Some(LEASE_NAME) };
const LEASE_NAME: &str = "multinic-operator";

/// In the operator's own namespace, with LEADER_ELECT: as in
/// `manifests/components/ha/leader_election_role.yaml`.
pub const NEEDED_TO_LEAD: &[Right] = &[
    LEASE,
    // A request to create has no name in its path, so a rule can't ask for one.
    Right { verb: "create", name: None, ..LEASE },
    Right { verb: "update", ..LEASE },
];

/// One question: a right, and the namespace; none for all of them at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is to be done.
    pub right: Right,
    /// Where.
    pub namespace: Option<String>,
}

/// Everything that must be asked.
pub fn questions(scopes: &[Option<&str>], election: Option<&LeaderElection>) -> Vec<Question> {
    let everywhere = NEEDED.iter().flat_map(|right| {
        scopes.iter().map(|scope| Question { right: *right, namespace: scope.map(str::to_owned) })
    });
    let leading = election.into_iter().flat_map(|settings| {
        let namespace = || Some(settings.namespace.clone());
        NEEDED_TO_LEAD.iter().map(move |right| Question { right: *right, namespace: namespace() })
    });
    everywhere.chain(leading).collect()
}

/// What was answered for one resource in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Verbs {
    allowed: Vec<&'static str>,
    missing: Vec<&'static str>,
    /// The first answer that didn't come: its text, and what to do.
    failed: Option<(String, &'static str)>,
}

/// A row for each resource; namespaces of which the same is true share one.
pub fn rows(answers: &[(Question, Result<bool, KubeError>)]) -> Vec<Row> {
    let mut resources: Vec<(String, &'static str)> = Vec::new();
    let mut by_place: BTreeMap<(String, Option<&str>), Verbs> = BTreeMap::new();
    for (Question { right, namespace }, answer) in answers {
        let plural = right.plural();
        if !resources.iter().any(|(known, _)| *known == plural) {
            resources.push((plural.clone(), right.resource.group));
        }
        let verbs = by_place.entry((plural, namespace.as_deref())).or_default();
        match answer {
            Ok(true) => verbs.allowed.push(right.verb),
            Ok(false) => verbs.missing.push(right.verb),
            Err(error) => {
                verbs.failed = Some((error.to_string(), advice::of_kubernetes(error)));
            }
        }
    }
    let mut rows = Vec::new();
    for (plural, group) in resources {
        let mut by_verbs: BTreeMap<&Verbs, Vec<Option<&str>>> = BTreeMap::new();
        for ((_, namespace), verbs) in by_place.iter().filter(|((of, _), _)| *of == plural) {
            by_verbs.entry(verbs).or_default().push(*namespace);
        }
        for (verbs, namespaces) in by_verbs {
            rows.push(row(&plural, group, &namespaces, verbs));
        }
    }
    rows
}

fn row(plural: &str, group: &str, namespaces: &[Option<&str>], verbs: &Verbs) -> Row {
    let what = format!("RBAC {plural}");
    let place = place(namespaces);
    if let Some((error, advice)) = &verbs.failed {
        return Row::failed(&what, place, error, *advice);
    }
    if verbs.missing.is_empty() {
        return Row::fine(&what, place, format!("may {}", verbs.allowed.join(", ")));
    }
    let missing = verbs.missing.join(", ");
    let role = match plural == Resource::LEASES.plural {
        true => "manifests/components/ha/leader_election_role.yaml",
        false => "manifests/rbac/role.yaml",
    };
    let advice =
        format!("grant {missing} on {plural} in API group {group:?}, {place}: as in {role}");
    Row::failed(&what, place, format!("may not {missing}"), advice)
}

fn place(namespaces: &[Option<&str>]) -> String {
    let names: Vec<&str> = namespaces.iter().copied().flatten().collect();
    match names.as_slice() {
        [] => "all namespaces".to_owned(),
        [name] => format!("namespace {name}"),
        names => format!("namespaces {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Question, questions, rows};
    use crate::check::report::{CheckResult, Row};
    use crate::config::LeaderElection;
    use crate::kube::error::KubeError;

    fn answered(
        scopes: &[Option<&str>],
        election: Option<&LeaderElection>,
        may: impl Fn(&Question) -> bool,
    ) -> Vec<Row> {
        let answers: Vec<(Question, Result<bool, KubeError>)> = questions(scopes, election)
            .into_iter()
            .map(|question| {
                let answer = Ok(may(&question));
                (question, answer)
            })
            .collect();
        rows(&answers)
    }

    #[test]
    fn a_resource_has_one_row_and_namespaces_share_it_while_they_agree() {
        let all = answered(&[None], None, |_| true);
        let places: Vec<(&str, &str)> =
            all.iter().map(|row| (row.what.as_str(), row.place.as_str())).collect();
        assert_eq!(
            places,
            [
                ("RBAC openstackconfigs", "all namespaces"),
                ("RBAC openstackconfigs/status", "all namespaces"),
                ("RBAC secrets", "all namespaces"),
                ("RBAC events", "all namespaces"),
            ]
        );
        let scopes = [Some("a"), Some("b"), Some("c")];
        let some = answered(&scopes, None, |question| {
            question.right.verb != "watch" || question.namespace.as_deref() != Some("b")
        });
        assert_eq!(some.len(), 5);
        assert_eq!(
            some[0],
            Row::failed(
                "RBAC openstackconfigs",
                "namespace b",
                "may not watch",
                "grant watch on openstackconfigs in API group \"multinic.example.com\", namespace b: \
             as in manifests/rbac/role.yaml"
            )
        );
        assert_eq!(some[1].place, "namespaces a, c");
        assert_eq!(some[1].result, CheckResult::Fine("may list, watch".to_owned()));
    }

    #[test]
    fn leases_are_asked_about_where_replicas_elect_a_leader() {
        let (namespace, identity) = ("system".to_owned(), "pod".to_owned());
        let election = LeaderElection { namespace, identity, pod_ip: None };
        let last = answered(&[None], Some(&election), |_| true).pop().unwrap();
        assert_eq!(last, Row::fine("RBAC leases", "namespace system", "may get, create, update"));
    }
}
