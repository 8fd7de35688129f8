//! RBAC: what the code asks of the API server, and what the manifests allow it to ask.

use std::collections::BTreeSet;

use multinic_operator::check::kubernetes::{NEEDED, NEEDED_FOR_RECORDS, NEEDED_TO_LEAD};
use multinic_operator::kube::resource::Resource;
use multinic_operator::kube::review::Access;
use multinic_operator::records::node_interfaces::NODE_INTERFACES;
use multinic_operator::resources::OPENSTACK_CONFIGS;
use serde_json::Value;

use super::{document, documents};
use crate::{repository, text};

/// One kind of call the operator makes.
struct Call {
    /// The verb RBAC knows it by.
    verb: &'static str,
    resource: Resource,
    subresource: &'static str,
    /// The file it is made in, and how it reads there. Several calls may share one line of code.
    made_in: (&'static str, &'static str),
    role: Role,
}

/// Which role allows it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The operator's, for what it watches.
    Operator,
    /// Only with LEADER_ELECT, in the operator's own namespace.
    Leader,
    /// Only with INVENTORY_STORE=kubernetes, in the operator's own namespace.
    Records,
    /// The operator's in a cluster that it writes nodes into.
    Cluster,
    /// The other program's, in the namespace of its objects.
    StandIn,
}

const fn call(
    verb: &'static str,
    resource: Resource,
    subresource: &'static str,
    made_in: (&'static str, &'static str),
) -> Call {
    Call { verb, resource, subresource, made_in, role: Role::Operator }
}

const fn when_leading(verb: &'static str, made_in: (&'static str, &'static str)) -> Call {
    Call { verb, resource: Resource::LEASES, subresource: "", made_in, role: Role::Leader }
}

const fn of_records(verb: &'static str, made_in: (&'static str, &'static str)) -> Call {
    Call { verb, resource: NODE_INTERFACES, subresource: "", made_in, role: Role::Records }
}

const fn of_nodes(verb: &'static str, code: &'static str, role: Role) -> Call {
    let made_in = ("src/node_objects.rs", code);
    Call { verb, resource: MULTI_NIC_NODE_CONFIGS, subresource: "", made_in, role }
}

const fn of_agents(verb: &'static str, code: &'static str) -> Call {
    let (made_in, role) = (("src/operator/clusters.rs", code), Role::Cluster);
    Call { verb, resource: MULTI_NIC_NODE_CONFIGS, subresource: "", made_in, role }
}

const RECORDS: &str = "src/records.rs";
const READING: &str = "src/records/reading.rs";
const STATUSES: &str = "src/kube/status_writer.rs";
const SECRETS: &str = "src/kube/secret_writer.rs";
const EVENTS: &str = "src/kube/events.rs";
const WATCHER: &str = "src/kube/watcher.rs";
const LISTING: &str = "src/listing.rs";
const LEASE: &str = "src/kube/lease.rs";

/// What the stand-in for Viola writes.
const MULTI_NIC_NODE_CONFIGS: Resource = Resource {
    group: "multinic.io",
    version: "v1alpha1",
    plural: "multinicnodeconfigs",
    kind: "MultiNicNodeConfig",
};

/// Every call to the Kubernetes API.
const CALLS: &[Call] = &[
    call("list", OPENSTACK_CONFIGS, "", (WATCHER, ".list_page(")),
    call("list", OPENSTACK_CONFIGS, "", (LISTING, ".list_page(")),
    call("watch", OPENSTACK_CONFIGS, "", (WATCHER, ".watch(")),
    call("watch", OPENSTACK_CONFIGS, "", ("src/operator.rs", "Watcher::spawn(")),
    call("patch", OPENSTACK_CONFIGS, "status", (STATUSES, ".apply::<")),
    call("patch", OPENSTACK_CONFIGS, "status", (STATUSES, ".merge::<")), // what others left in it
    call("get", Resource::SECRETS, "", (SECRETS, ".get::<")),
    call("get", Resource::SECRETS, "", ("src/kube/secret_reader.rs", ".get::<")), // keys
    call("create", Resource::SECRETS, "", (SECRETS, ".create::<")),
    call("patch", Resource::SECRETS, "", (SECRETS, ".merge::<")),
    call("create", Resource::EVENTS, "", (EVENTS, ".create::<")),
    call("patch", Resource::EVENTS, "", (EVENTS, ".merge::<")),
    of_records("list", (READING, "listing::pages(")),
    of_records("watch", (READING, "Watcher::spawn(")),
    of_records("get", (RECORDS, ".get::<")),
    of_records("create", (RECORDS, ".create::<")),
    of_records("patch", (RECORDS, ".apply::<")),
    of_records("patch", (RECORDS, ".merge::<")), // takes an annotation off
    of_records("delete", (RECORDS, "client.delete(")),
    when_leading("get", (LEASE, ".get::<")),
    when_leading("create", (LEASE, ".create::<")),
    when_leading("update", (LEASE, ".put::<")),
    when_leading("update", (LEASE, ".put::<")), // to give it back
    of_nodes("patch", ".apply::<", Role::StandIn),
    of_nodes("get", ".get::<", Role::Cluster),
    of_nodes("list", "listing::objects_of(", Role::Cluster),
    of_agents("list", "listing::objects_of("),
    of_agents("watch", "Watcher::spawn("),
];

/// Calls that need no rule of ours: those of commands that look once, with rights the operator has
/// anyhow, and those that every authenticated user may make (`system:basic-user`,
/// `system:discovery`, `system:public-info-viewer`).
const NEEDS_NO_RULE: &[(&str, &str)] = &[
    ("src/kube/review.rs", ".create::<"), // a SelfSubjectAccessReview
    ("src/kube/review.rs", ".get::<"),    // /version
    ("src/kube/review.rs", ".get::<"),    // discovery of the custom resource's group
    ("src/kube/review.rs", ".get::<"),    // the schema of its status
];

/// How calls of `KubeClient` read in the code.
const SPELLINGS: &[&str] = &[
    "Watcher::spawn(",
    "client.delete(",
    "listing::objects_of(",
    "listing::pages(",
    ".list_page(",
    ".watch(",
    ".get::<",
    ".create::<",
    ".put::<",
    ".apply::<",
    ".merge::<",
];

/// (group, resource, verb), with the name the rule is limited to.
type Right = (String, String, String, Option<String>);

fn rights(role: &Value) -> BTreeSet<Right> {
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().unwrap().iter();
        items.map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let names = match rule.get("resourceNames") {
            Some(names) => texts(names).into_iter().map(Some).collect(),
            None => vec![None],
        };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    for name in &names {
                        let right = (group.clone(), resource.clone(), verb.clone(), name.clone());
                        assert!(rights.insert(right.clone()), "twice: {right:?}");
                    }
                }
            }
        }
    }
    rights
}

fn needed(role: Role) -> BTreeSet<Right> {
    let calls = CALLS.iter().filter(|call| call.role == role);
    calls
        .flat_map(|call| {
            let resource = match call.subresource {
                "" => call.resource.plural.to_owned(),
                subresource => format!("{}/{subresource}", call.resource.plural),
            };
            // RBAC compares names with the path, and a request to create has none in it.
            let is_limited = call.role == Role::Leader && call.verb != "create";
            let name = is_limited.then(|| "multinic-operator".to_owned());
            // Applying an object that isn't there yet is asked for as `create` too; a subresource is
            // always there.
            let applies = call.made_in.1 == ".apply::<" && call.subresource.is_empty();
            let verbs = [call.verb, "create"].into_iter().take(if applies { 2 } else { 1 });
            let group = call.resource.group;
            verbs.map(move |verb| {
                (group.to_owned(), resource.clone(), verb.to_owned(), name.clone())
            })
        })
        .collect()
}

#[test]
fn the_role_allows_what_the_operator_asks_for_and_nothing_more() {
    assert_eq!(rights(&document("manifests/rbac/role.yaml")), needed(Role::Operator));
}

#[test]
fn the_leases_role_allows_what_the_election_asks_for_and_nothing_more() {
    let role = &documents(&text("manifests/rbac/leader_election_role.yaml"))[0];
    assert_eq!(role["kind"], "Role");
    assert_eq!(rights(role), needed(Role::Leader));
}

#[test]
fn the_records_role_allows_what_the_store_asks_for_and_nothing_more() {
    let role = &documents(&text("manifests/rbac/records_role.yaml"))[0];
    assert_eq!(role["kind"], "Role");
    assert_eq!(rights(role), needed(Role::Records));
}

#[test]
fn the_stand_ins_role_allows_what_it_asks_for_and_nothing_more() {
    let objects = documents(&text("manifests/test/viola-test-api.yaml"));
    let role = objects.iter().find(|object| object["kind"] == "Role").unwrap();
    assert_eq!(rights(role), needed(Role::StandIn));
}

#[test]
fn the_role_of_the_own_cluster_allows_what_is_asked_of_it_and_nothing_more() {
    let role = &documents(&text("manifests/components/own-cluster/role.yaml"))[0];
    assert_eq!(role["kind"], "Role");
    let needed = needed(Role::Cluster).union(&needed(Role::StandIn)).cloned().collect();
    assert_eq!(rights(role), needed);
}

#[test]
fn the_check_asks_for_the_rights_that_the_operator_needs_and_no_others() {
    let asked = |accesses: &[Access]| -> BTreeSet<Right> {
        let of = |access: &Access, verb: &str| {
            let name = access.name.filter(|_| verb != "create").map(str::to_owned);
            (access.resource.group.to_owned(), access.plural(), verb.to_owned(), name)
        };
        let rights = accesses
            .iter()
            .flat_map(|access| access.verbs.iter().map(move |verb| of(access, verb)));
        rights.collect()
    };
    assert_eq!(asked(&NEEDED), needed(Role::Operator));
    assert_eq!(asked(&[NEEDED_TO_LEAD]), needed(Role::Leader));
    assert_eq!(asked(&[NEEDED_FOR_RECORDS]), needed(Role::Records));
    for access in NEEDED.iter().chain([&NEEDED_TO_LEAD, &NEEDED_FOR_RECORDS]) {
        assert!(repository(access.role).is_file(), "{}", access.role);
    }
}

#[test]
fn the_table_of_calls_is_that_of_the_code() {
    let mut found = Vec::new();
    let mut folders = vec![repository("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(repository("")).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs")
                && name != "src/kube/client.rs"
                && text(&name).contains("KubeClient")
            {
                let code = text(&name);
                let code = code.split("#[cfg(test)]").next().unwrap();
                for spelling in SPELLINGS {
                    let times = code.matches(spelling).count();
                    found.extend(std::iter::repeat_n((name.clone(), *spelling), times));
                }
            }
        }
    }
    found.sort();
    let mut known: Vec<(String, &str)> = CALLS
        .iter()
        .map(|Call { made_in: (file, code), .. }| ((*file).to_owned(), *code))
        .chain(NEEDS_NO_RULE.iter().map(|(file, code)| ((*file).to_owned(), *code)))
        .collect();
    known.sort();
    assert_eq!(found, known, "a call was added or went: correct CALLS and then the roles");
}
