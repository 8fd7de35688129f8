//! What a VM is called: never by what an answer leaves out, never by another project's server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{PROJECT, Stage, reply, stage};
use crate::cloud::nova::{Nova, ServerName};
use crate::cloud::service::TokenService;
use crate::http::client::{ClientOptions, Service};
use crate::http::trust::Trust;
use crate::secret::Secret;

const BY_METADATA: [(&str, &str); 1] = [("OPENSTACK_NODE_NAME_METADATA_KEY", "node")];

fn known(name: &str) -> ServerName {
    ServerName::Known(Some(name.to_owned()))
}

/// What the VMs are called.
fn names<const N: usize>(stage: &Stage, vm_ids: [&str; N]) -> [ServerName; N] {
    let answers = stage.ask(&vm_ids).unwrap();
    vm_ids.map(|id| answers.names[id].clone())
}

/// Nova lists these servers,
fn list(stage: &Stage, servers: Value) {
    stage.services.say(Service::Nova, "/servers", [reply(200, json!({"servers": servers}))]);
}

/// and shows this one.
fn show(stage: &Stage, id: &str, server: Value) {
    let body = json!({"server": server});
    stage.services.say(Service::Nova, &format!("/servers/{id}"), [reply(200, body)]);
}

fn metadata(stage: &Stage, id: &str, metadata: Value) {
    let body = json!({"metadata": metadata});
    stage.services.say(Service::Nova, &format!("/servers/{id}/metadata"), [reply(200, body)]);
}

fn failure(name: &ServerName) -> &str {
    match name {
        ServerName::Failed(error) => &error.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_that_is_absent_is_not_no_name() {
    for server in [json!({"id": "vm-1", "status": "UNKNOWN"}), json!({"id": "vm-1", "name": null})]
    {
        let stage = stage(&[]);
        show(&stage, "vm-1", server);
        let [name] = names(&stage, ["vm-1"]);
        let said =
            "Nova GET /v2.1/servers/vm-1: the answer has no `name` (is the server's cell down?)";
        assert_eq!(failure(&name), said);
    }
}

#[test]
fn a_row_without_a_name_is_asked_for_by_its_id() {
    let stage = stage(&[]);
    let rows = json!([{"id": "vm-1", "name": "one"}, {"id": "vm-2", "status": "UNKNOWN"},
        {"id": "vm-3", "name": null}]);
    list(&stage, rows);
    show(&stage, "vm-2", json!({"id": "vm-2", "name": "two"}));
    show(&stage, "vm-3", json!({"id": "vm-3", "status": "UNKNOWN"}));
    let [first, second, third] = names(&stage, ["vm-1", "vm-2", "vm-3"]);
    assert_eq!((first, second), (known("one"), known("two")));
    assert!(failure(&third).contains("/servers/vm-3: the answer has no `name`"), "{third:?}");
}

#[test]
fn a_blank_name_is_no_name() {
    let stage = stage(&[]);
    list(&stage, json!([{"id": "vm-1", "name": ""}, {"id": "vm-2", "name": "two"}]));
    let [first, second] = names(&stage, ["vm-1", "vm-2"]);
    assert_eq!((first, second), (ServerName::Known(None), known("two")));
    show(&stage, "vm-1", json!({"id": "vm-1", "name": " "}));
    assert_eq!(names(&stage, ["vm-1"]), [ServerName::Known(None)]);
}

#[test]
fn where_the_metadata_has_the_node_name_the_servers_may_be_absent() {
    let stage = stage(&BY_METADATA);
    metadata(&stage, "vm-1", json!({"node": "one"}));
    assert_eq!(names(&stage, ["vm-1"]), [known("one")]);
    list(
        &stage,
        json!([
            {"id": "vm-1", "metadata": {"node": "one"}},
            {"id": "vm-2", "metadata": {}},
            {"id": "vm-3", "name": "three"},
        ]),
    );
    show(&stage, "vm-2", json!({"id": "vm-2", "metadata": {}}));
    show(&stage, "vm-3", json!({"id": "vm-3", "name": "three"}));
    // So small a project is listed with its details.
    let ids = ["vm-1", "vm-2", "vm-3"].map(str::to_owned);
    let names = nova(&stage, 3).names(&ids);
    assert_eq!(names["vm-1"], known("one"));
    let of = |id: &str| failure(&names[id]);
    assert!(of("vm-2").ends_with("the answer has no `name` (is the server's cell down?)"));
    assert!(of("vm-3").ends_with("the answer has no `metadata` (is the server's cell down?)"));
}

/// Nova with a project of that many servers.
fn nova(stage: &Stage, servers: usize) -> Nova {
    let (trust, proxies) = (Trust::Anyone, Arc::clone(&stage.config.proxies));
    let (call_limit, idle_limit) = (Duration::from_secs(1), Duration::from_secs(1));
    let options = ClientOptions { call_limit, trust, idle_limit, proxies, tls: Default::default() };
    let api = TokenService {
        service: Service::Nova,
        client: Arc::new(stage.clients.client(options)),
        endpoint: "http://nova.test/v2.1".into(),
        token: Arc::new(Secret::new("made-up-token".to_owned())),
        project_id: PROJECT.into(),
    };
    let project_size = Arc::new(Mutex::new(Some(servers)));
    Nova { api, metadata_key: Some("node".into()), project_size }
}

#[test]
fn a_server_of_another_project_is_unknown_whoever_may_see_it() {
    let theirs = |id: &str| json!({"id": id, "name": "worker-1", "tenant_id": "project-9"});
    let ours = |id: &str| json!({"id": id, "name": "worker-1", "tenant_id": "PROJECT-1"});
    let stage = stage(&[]);
    show(&stage, "vm-1", ours("vm-1"));
    show(&stage, "vm-2", theirs("vm-2"));
    let [own, foreign] = names(&stage, ["vm-1", "vm-2"]);
    assert_eq!((own, foreign), (known("worker-1"), ServerName::Unknown));
}

#[test]
fn metadata_of_another_projects_server_takes_no_name_away() {
    let stage = stage(&BY_METADATA);
    for (id, project) in [("vm-1", PROJECT), ("vm-2", "project-9"), ("vm-3", PROJECT)] {
        let node = if id == "vm-3" { "worker-3" } else { "worker-1" };
        let values = json!({"node": node});
        show(&stage, id, json!({"id": id, "name": "x", "tenant_id": project, "metadata": values}));
        metadata(&stage, id, values);
    }
    let ids = ["vm-1", "vm-2", "vm-3"].map(str::to_owned);
    // So large a project isn't listed for them.
    let names = nova(&stage, 300).names(&ids);
    assert_eq!(names["vm-1"], known("worker-1"));
    assert_eq!(names["vm-2"], ServerName::Unknown);
    assert_eq!(names["vm-3"], known("worker-3"));
    let asked = stage.services.asked(Service::Nova);
    let shown = asked.iter().filter(|url| !url.ends_with("/metadata")).count();
    assert_eq!(shown, 2, "only those of one name are looked at twice: {asked:?}");
}

#[test]
fn another_server_than_the_one_asked_for_is_told_with_what_was_asked() {
    let stage = stage(&[]);
    show(&stage, "vm-1", json!({"id": "vm-9", "name": "nine"}));
    let [name] = names(&stage, ["vm-1"]);
    assert_eq!(failure(&name), "Nova GET /v2.1/servers/vm-1: answered with server vm-9");
}
