//! Does the Kubernetes API answer, does RBAC allow what the operator does, is the CRD installed, and
//! which objects exist?

use super::report::Row;
use super::{SIDE_BY_SIDE, advice};
use crate::config::Config;
use crate::http::url::shown;
use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::objects::RawObject;
use crate::kube::resource::Resource;
use crate::kube::review::{self, Access};
use crate::listing;
use crate::records::node_interfaces::NODE_INTERFACES;
use crate::resources::{OPENSTACK_CONFIGS, OpenstackConfig, Status};
use crate::threads::{Task, side_by_side};

const API: &str = "Kubernetes API";
const CRD: &str = "CRD";
const OBJECTS: &str = "OpenstackConfigs";

/// In all namespaces, or in each that is watched.
pub const NEEDED: [Access; 4] = [
    needed(OPENSTACK_CONFIGS, "", &["list", "watch"]),
    needed(OPENSTACK_CONFIGS, "status", &["patch"]),
    needed(Resource::SECRETS, "", &["get", "create", "patch"]),
    needed(Resource::EVENTS, "", &["create", "patch"]),
];

/// In the operator's own namespace, with LEADER_ELECT.
pub const NEEDED_TO_LEAD: Access = Access {
    name: Some("multinic-operator"),
    role: "manifests/rbac/leader_election_role.yaml",
    ..needed(Resource::LEASES, "", &["get", "create", "update"])
};

/// In the operator's own namespace, with INVENTORY_STORE=kubernetes.
pub const NEEDED_FOR_RECORDS: Access = Access {
    role: "manifests/rbac/records_role.yaml",
    ..needed(NODE_INTERFACES, "", &["get", "list", "watch", "create", "patch", "delete"])
};

const fn needed(
    resource: Resource,
    subresource: &'static str,
    verbs: &'static [&'static str],
) -> Access {
    Access { resource, subresource, verbs, name: None, role: "manifests/rbac/role.yaml" }
}

/// The rows, and the objects that could be read; none if none could.
pub(super) fn rows(
    config: &Config,
    client: &KubeClient,
) -> (Vec<Row>, Option<Vec<OpenstackConfig>>) {
    let address = shown(&config.kubernetes.api_url);
    let version = review::server_version(client).or_else(|error| {
        // Some clusters give their version to no stranger; that is an answer too.
        let answers = error.status().is_forbidden();
        answers.then(|| "answers, without telling its version".to_owned()).ok_or(error)
    });
    let has_answered = version.is_ok();
    let mut rows = vec![Row::of(API, address, version)];
    if !has_answered {
        let why = "the Kubernetes API doesn't answer";
        rows.extend(["RBAC", CRD, OBJECTS].map(|what| Row::skipped(what, "", why)));
        return (rows, None);
    }
    let scopes = config.watch_scopes();
    let mut tasks: Vec<Task<'_, Row>> = Vec::new();
    for access in &NEEDED {
        tasks.push(Box::new(|| access_row(client, access, &scopes)));
    }
    tasks.push(Box::new(|| match &config.leader_election {
        None => Row::skipped("RBAC leases", "", "LEADER_ELECT is off"),
        Some(settings) => access_row(client, &NEEDED_TO_LEAD, &[Some(&settings.namespace)]),
    }));
    if let (true, Some(namespace)) = (config.inventory.in_kubernetes, &config.own_namespace) {
        let scope = [Some(namespace.as_str())];
        tasks.push(Box::new(move || access_row(client, &NEEDED_FOR_RECORDS, &scope)));
    }
    tasks.push(Box::new(|| crd_row(client)));
    rows.extend(side_by_side(SIDE_BY_SIDE, tasks));
    let mut lists: Vec<Task<'_, Result<Vec<RawObject>, KubeError>>> = Vec::new();
    for scope in &scopes {
        lists.push(Box::new(|| listing::objects(client, *scope)));
    }
    let mut found = None;
    for (scope, listed) in scopes.iter().zip(side_by_side(SIDE_BY_SIDE, lists)) {
        let listed = listed.map(|raw| {
            let objects = found.get_or_insert_with(Vec::new);
            objects.extend(raw.iter().map(|raw| OpenstackConfig::from_raw(raw, &config.delivery)));
            format!("{} found", raw.len())
        });
        rows.push(Row::of(OBJECTS, places(&[*scope]), listed));
    }
    (rows, found)
}

/// Asks for each verb in each of the namespaces.
fn access_row(client: &KubeClient, access: &Access, scopes: &[Option<&str>]) -> Row {
    let plural = access.plural();
    let what = format!("RBAC {plural}");
    let (mut verbs, mut missing) = (Vec::new(), Vec::new());
    for verb in access.verbs {
        let before = missing.len();
        for scope in scopes {
            match review::may(client, access, verb, *scope) {
                Ok(true) => {}
                Ok(false) => missing.push(*scope),
                error => return Row::of(&what, places(scopes), error),
            }
        }
        verbs.extend((missing.len() > before).then_some(*verb));
    }
    if missing.is_empty() {
        return Row::fine(&what, places(scopes), format!("may {}", access.verbs.join(", ")));
    }
    missing.sort_unstable();
    missing.dedup();
    let (verbs, places, group) = (verbs.join(", "), places(&missing), access.resource.group);
    let role = access.role;
    let advice =
        format!("grant {verbs} on {plural} in API group {group:?}, {places}: as in {role}");
    Row::failed(&what, places, format!("may not {verbs}"), advice)
}

fn places(namespaces: &[Option<&str>]) -> String {
    let names: Vec<&str> = namespaces.iter().copied().flatten().collect();
    match names.as_slice() {
        [] => "all namespaces".to_owned(),
        [name] => format!("namespace {name}"),
        names => format!("namespaces {}", names.join(", ")),
    }
}

fn crd_row(client: &KubeClient) -> Row {
    let place = format!("{}.{}", OPENSTACK_CONFIGS.plural, OPENSTACK_CONFIGS.group);
    let version = OPENSTACK_CONFIGS.version;
    match review::is_served(client, &OPENSTACK_CONFIGS) {
        Ok(false) => {
            let seen = format!("{version} isn't served with its status");
            Row::failed(CRD, place, seen, advice::CRD)
        }
        Ok(true) => {
            let declared = review::status_fields(client, &OPENSTACK_CONFIGS);
            let lacks = |field: &&str| declared.as_ref().is_some_and(|all| !all.contains(*field));
            let lacking: Vec<&str> = Status::FIELDS.into_iter().filter(lacks).collect();
            let seen = format!("{version} is served");
            match lacking.as_slice() {
                [] => Row::fine(CRD, place, seen),
                fields => {
                    let seen = format!("{seen}, but its status lacks {}", fields.join(", "));
                    Row::failed(CRD, place, seen, advice::OLDER_CRD)
                }
            }
        }
        error => Row::of(CRD, place, error),
    }
}
