//! Clouds that aren't Contrabass': `clouds.yaml` in a Secret of the object's namespace.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use simulated_cloud::{Fault, FaultKind, LoggedRequest, Service};
use tempfile::TempDir;

use super::process::{Operator, SOON, run};
use super::settings::NOWHERE;
use super::tls_and_proxy::Relay;
use super::world::World;
use crate::http::certificates::Authority;

const PROJECT: &str = "6f2c1b0e9d8a4c7bb1e5d43a2f908c61";
const READER: &str = "0d1f6b7e52a84c4f9b1de08ac4ff6a27";
/// Of the user, and of its application credential.
const PASSWORD: &str = "r3ader-passw0rd";
const SECRET: &str = "app-s3cret-w0rd";
const CREDENTIAL: &str = concat!(
    "      application_credential_id: 1e2131c44dec4c9fa3b9b0994132cdc6\n",
    "      application_credential_secret: app-s3cret-w0rd\n",
);

/// A cloud whose object names a Secret, with a user who may only read.
fn world(auth: &str) -> World {
    let world = World::of("three-nodes");
    let user = json!({"id": READER, "name": "demo-reader", "password": PASSWORD,
        "projects": [PROJECT]});
    let credential = json!({"id": "1e2131c44dec4c9fa3b9b0994132cdc6", "name": "multinic",
        "secret": SECRET, "user_id": READER, "project_id": PROJECT});
    world.edit(|state| {
        state.users.push(serde_json::from_value(user).unwrap());
        state.application_credentials.push(serde_json::from_value(credential).unwrap());
    });
    world.change_spec(json!({"credentials": {
        "openstackProviderID": null,
        "projectID": null,
        "k8sProviderID": "biz-1",
        "identityRef": {"type": "Secret", "name": "openstack", "cloudName": "prod"},
    }}));
    put(&world, &clouds_yaml(&world.url(Service::Keystone), auth), None);
    world
}

/// The auth_url is in line 4, and what follows `auth` begins in line 5.
fn clouds_yaml(auth_url: &str, auth: &str) -> String {
    format!("clouds:\n  prod:\n    auth:\n      auth_url: {auth_url}\n{auth}")
}

/// Writes the Secret.
fn put(world: &World, clouds_yaml: &str, cacert: Option<&str>) {
    let mut data = json!({"clouds.yaml": STANDARD.encode(clouds_yaml)});
    if let Some(cacert) = cacert {
        data["cacert"] = json!(STANDARD.encode(cacert));
    }
    let metadata = json!({"name": "openstack", "namespace": world.object().0});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
    world.kubernetes().apply_object(secret).unwrap();
}

const QUICK: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "300ms"),
    ("POLL_SLOW_INTERVAL", "400ms"),
    ("POLL_ERROR_INTERVAL", "300ms"),
    ("POLL_FAST_WINDOW", "1s"),
];

/// An operator without Contrabass, and with these endpoints listed.
fn variables(listed: &str) -> Vec<(&str, &str)> {
    let nowhere = [NOWHERE[0], NOWHERE[2], ("ALLOWED_ENDPOINTS", listed)];
    QUICK.into_iter().chain(nowhere).collect()
}

fn start(world: &World) -> Operator {
    Operator::start(world, &variables(&world.url(Service::Keystone)))
}

/// What the three nodes must have, for the one cluster.
fn expected(world: &World) -> Vec<(String, String, Value)> {
    let expected = world.expected().into_iter();
    expected.map(|(_, name, node)| ("biz-1".to_owned(), name, node)).collect()
}

/// All that the operator says, where anybody may read it.
fn shown(world: &World, operator: &Operator) -> String {
    let events = world.kubernetes().events();
    let object = world.kubernetes().objects("OpenstackConfig");
    format!("{}\n{events:?}\n{object:?}\n{}", operator.log(), operator.health("/metrics").1)
}

#[test]
fn each_kind_of_credential_logs_in_and_contrabass_is_not_needed() {
    let user = "      username: demo-reader\n      user_domain_name: Default\n";
    let password = format!("      password: {PASSWORD}\n");
    let by_name = format!(
        "      application_credential_name: multinic\n      \
         application_credential_secret: {SECRET}\n"
    );
    for auth in [
        CREDENTIAL.to_owned(),
        format!("{CREDENTIAL}    auth_type: v3applicationcredential\n"),
        format!("{by_name}{user}"),
        format!("{by_name}      user_id: {READER}\n"),
        format!("{user}{password}      project_id: {PROJECT}\n"),
        format!("      user_id: {READER}\n{password}      project_name: demo\n"),
    ] {
        let world = world(&auth);
        let operator = start(&world);
        world.wait_for_ready(|ready| ready["status"] == "True");
        assert_eq!(world.held(), expected(&world), "{auth}");
        assert_eq!(world.journal().count(Service::Contrabass), 0);
        assert_eq!(world.journal().count(Service::Keystone), 1, "{auth}");
        let (_, records) = operator.inventory("/v1/inventory/node-configs");
        let records: Value = serde_json::from_str(&records).unwrap();
        let cloud = format!("{}/openstack/prod", world.object().0);
        assert!(records.as_array().unwrap().iter().all(|it| it["providerId"] == cloud));
        let shown = shown(&world, &operator);
        assert!(!shown.contains(SECRET) && !shown.contains(PASSWORD), "{shown}");
    }
}

#[test]
fn a_cloud_that_is_not_listed_is_not_believed() {
    let world = world(CREDENTIAL);
    let keystone = world.url(Service::Keystone);
    let operator = Operator::start(&world, &variables("https://keystone.example.com"));
    let message = world.wait_for_reason("ConfigError");
    let said = "clouds.prod.auth.auth_url (line 4) isn't in ALLOWED_ENDPOINTS, so nothing is asked";
    assert!(message.contains(said), "{message}");
    assert!(!message.contains(&keystone), "{message}");
    drop(operator);
    // Nor is a Neutron or a Nova that its clouds.yaml names in place of the catalog's.
    for (service, key) in [
        (Service::Neutron, "network_endpoint_override"),
        (Service::Nova, "compute_endpoint_override"),
    ] {
        let own = format!("{CREDENTIAL}    {key}: {}\n", world.url(service));
        put(&world, &clouds_yaml(&keystone, &own), None);
        let operator = Operator::start(&world, &variables(&keystone));
        let said = format!("clouds.prod.{key} (line 7) isn't in ALLOWED_ENDPOINTS");
        world.wait_for_ready(|ready| ready["message"].as_str().unwrap().contains(&said));
        drop(operator);
    }
    for service in [Service::Keystone, Service::Neutron, Service::Nova, Service::Viola] {
        assert_eq!(world.journal().count(service), 0, "{service}");
    }
    let mut all = variables("");
    all.push(("OBJECT_SETTINGS", "all"));
    let _operator = Operator::start(&world, &all);
    world.wait_for_ready(|ready| ready["status"] == "True");
}

#[test]
fn a_clouds_yaml_that_cannot_be_read_is_told_by_key_and_line_and_not_quoted() {
    let world = world(CREDENTIAL);
    let keystone = world.url(Service::Keystone);
    for (from, to, said) in [
        (SECRET, "\"app-s3cret-w0rd", "is no YAML"),
        ("      application_credential_secret", "\tapplication_credential_secret", "with a tab"),
        ("  prod:", "  other:", "clouds.prod is missing, line 2"),
        (
            "    auth:",
            "    auth_type: v3app-s3cret-w0rd\n    auth:",
            "auth_type (line 3) is none of",
        ),
        ("    auth:", "    cacert: /app-s3cret-w0rd\n    auth:", "cacert (line 3) isn't read"),
        (SECRET, "[app-s3cret-w0rd]", "application_credential_secret (line 6) is no text"),
    ] {
        put(&world, &clouds_yaml(&keystone, CREDENTIAL).replace(from, to), None);
        let operator = start(&world);
        let place = format!("Secret {}/openstack, clouds.yaml: ", world.object().0);
        world.wait_for_ready(|ready| {
            let message = ready["message"].as_str().unwrap();
            ready["reason"] == "ConfigError"
                && message.starts_with(&place)
                && message.contains(said)
        });
        let shown = shown(&world, &operator);
        assert!(!shown.contains("app-s3cret"), "{shown}");
    }
    put(&world, &clouds_yaml(&keystone, CREDENTIAL), Some("no certificate: app-s3cret-w0rd"));
    let operator = start(&world);
    world.wait_for_ready(|ready| ready["message"].as_str().unwrap().contains("has cacert, which"));
    assert!(!shown(&world, &operator).contains("app-s3cret"));
    drop(operator);
    world.kubernetes().delete("Secret", &world.object().0, "openstack").unwrap();
    let _operator = start(&world);
    world.wait_for_ready(|ready| ready["message"].as_str().unwrap().ends_with("doesn't exist"));
    assert_eq!(world.journal().count(Service::Keystone), 0);
}

#[test]
fn a_listed_keystone_that_redirects_gets_the_secret_sent_nowhere_else() {
    let world = world(CREDENTIAL);
    let elsewhere = world.url(Service::Contrabass);
    let headers = vec![("Location".to_owned(), format!("{elsewhere}/v3/auth/tokens"))];
    let kind = FaultKind::Status { status: 307, headers, body: Vec::new() };
    world.faults().add(Fault::always(Service::Keystone, kind));
    let operator = start(&world);
    let message = world.wait_for_reason("KeystoneError");
    assert!(message.contains("HTTP 307 (redirects aren't followed"), "{message}");
    assert_eq!(world.journal().count(Service::Contrabass), 0);
    assert!(!shown(&world, &operator).contains(SECRET));
}

#[test]
fn certificates_are_verified_by_the_secrets_own_whatever_the_environment_says() {
    let (theirs, others) = (Authority::new("theirs"), Authority::new("others"));
    for cacert in [Some(others.pem()), None] {
        let world = world(CREDENTIAL);
        let keystone = Relay::of(&world, Service::Keystone, &theirs).url("");
        put(&world, &clouds_yaml(&keystone, CREDENTIAL), cacert.as_deref());
        let mut variables = variables(&keystone);
        variables.push(("OPENSTACK_INSECURE_TLS", "true"));
        let _operator = Operator::start(&world, &variables);
        let message = world.wait_for_reason("KeystoneError");
        let untrusted = "signed by an authority that isn't trusted here";
        assert!(message.contains(untrusted), "{message}");
    }
    let world = world(CREDENTIAL);
    let keystone = Relay::of(&world, Service::Keystone, &theirs).url("");
    let text = clouds_yaml(&keystone, CREDENTIAL);
    let folder = Arc::new(TempDir::new().unwrap());
    let insecure = ("OPENSTACK_INSECURE_TLS", "true");
    let with = |more: &[(&'static str, &'static str)]| {
        let all: Vec<_> = variables(&keystone).into_iter().chain(more.iter().copied()).collect();
        Operator::start_in(&world, &all, Arc::clone(&folder))
    };
    // The Secret's certificates are all that counts, and the path beside them isn't read.
    put(&world, &format!("{text}    cacert: /etc/ssl/ca.pem\n"), Some(&theirs.pem()));
    let operator = with(&[insecure]);
    world.wait_for_ready(|ready| ready["status"] == "True");
    drop(operator);
    // Verification is turned off only where the environment's is, or objects may do so.
    put(&world, &format!("{text}    verify: false\n"), None);
    let operator = with(&[("OPENSTACK_INSECURE_TLS", "false")]);
    let message = world.wait_for_reason("ConfigError");
    let said = "clouds.prod.verify (line 7) is false and turns verification off, which only";
    assert!(message.contains(said), "{message}");
    drop(operator);
    let _operator = with(&[insecure]);
    world.wait_for_ready(|ready| ready["status"] == "True");
}

#[test]
fn the_project_is_the_tokens_and_another_is_a_config_error() {
    let world = world(CREDENTIAL);
    let other = "a41d7e53c0924f18b6e2c97d05f83b1a";
    world.change_spec(json!({"credentials": {"projectID": other}}));
    let _operator = start(&world);
    let message = world.wait_for_reason("ConfigError");
    let said = format!("spec.credentials.projectID is {other}, but the token of cloud \"prod\"");
    assert!(message.starts_with(&said), "{message}");
    assert_eq!(world.journal().count(Service::Neutron), 0);
    world.change_spec(json!({"credentials": {"projectID": PROJECT}}));
    world.wait_for_ready(|ready| ready["status"] == "True");
    assert_eq!(world.journal().count(Service::Keystone), 1, "one token serves both");
    assert_eq!(world.held(), expected(&world));
}

#[test]
fn viola_is_never_sent_the_name_of_a_secret() {
    let world = world(CREDENTIAL);
    world.change_spec(json!({"credentials": {"k8sProviderID": null}}));
    let _operator = start(&world);
    let message = world.wait_for_reason("ConfigError");
    let said = "spec.credentials.k8sProviderID is required with identityRef";
    assert!(message.contains(said), "{message}");
    assert_eq!(world.journal().count(Service::Keystone), 0);
    assert_eq!(world.journal().count(Service::Viola), 0);
}

#[test]
fn a_refused_secret_is_tried_rarely_and_read_again() {
    let world = world(CREDENTIAL);
    let keystone = world.url(Service::Keystone);
    let secret_reads = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.target.ends_with("/secrets/openstack")).count()
    };
    let wrong = clouds_yaml(&keystone, &CREDENTIAL.replace(SECRET, "another-s3cret"));
    put(&world, &wrong, None);
    let operator = start(&world);
    let message = world.wait_for_reason("KeystoneError");
    let said = "the application credential of cloud \"prod\" of Secret";
    assert!(message.contains(said) && message.contains("(refused 1 times)"), "{message}");
    // Each retry reads the Secret, and logs in only once it says something else.
    assert!(world.journal().wait_for(|log| secret_reads(log) >= 4, SOON));
    assert_eq!(world.journal().count(Service::Keystone), 1);
    // One that was deleted is a 404 in words of Keystone's that quote its id.
    put(&world, &wrong.replace("1e2131c4", "ffffffff"), None);
    world.wait_for_ready(|ready| ready["message"].as_str().unwrap().contains("HTTP 404: there is"));
    put(&world, &clouds_yaml(&keystone, CREDENTIAL), None);
    world.wait_for_ready(|ready| ready["status"] == "True");
    let shown = shown(&world, &operator);
    assert!(!shown.contains("another-s3cret") && !shown.contains("ffffffff4dec"), "{shown}");
}

#[test]
fn objects_share_a_login_by_the_same_cloud_of_the_same_secret_alone() {
    let world = world(CREDENTIAL);
    let (namespace, name) = world.object();
    let object = world.kubernetes().get("OpenstackConfig", &namespace, &name).unwrap();
    let vms = object["spec"]["vmNames"].as_array().unwrap().clone();
    world.change_spec(json!({"vmNames": [vms[0]]}));
    let another = |name: &str, vm: &Value, secret: &str| {
        let mut spec = object["spec"].clone();
        spec["vmNames"] = json!([vm]);
        spec["credentials"]["identityRef"]["name"] = json!(secret);
        let metadata = json!({"name": name, "namespace": namespace});
        let kind = json!({"apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig", "metadata": metadata, "spec": spec});
        world.kubernetes().apply_object(kind).unwrap();
    };
    another("same", &vms[1], "openstack");
    another("copied", &vms[2], "copy");
    let secret = world.kubernetes().get("Secret", &namespace, "openstack").unwrap();
    let metadata = json!({"name": "copy", "namespace": namespace});
    let copy = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata,
        "data": secret["data"]});
    world.kubernetes().apply_object(copy).unwrap();
    let _operator = start(&world);
    for name in [name.as_str(), "same", "copied"] {
        world.ready_when(&namespace, name, |ready| ready["status"] == "True").unwrap();
    }
    assert_eq!(world.journal().count(Service::Keystone), 2);
    assert_eq!(world.held(), expected(&world));
}

#[test]
fn check_and_plan_know_clouds_of_secrets() {
    let world = world(CREDENTIAL);
    let folder = tempfile::tempdir().unwrap();
    let (namespace, name) = world.object();
    let listed = world.url(Service::Keystone);
    let check = run(&world, &variables(&listed), folder.path(), &["check"]);
    assert_eq!(check.code, 0, "{}", check.output);
    let place = format!("cloud \"prod\" of Secret {namespace}/openstack");
    let row = |what: &str| {
        let found = check
            .output
            .lines()
            .find(|line| line.starts_with(what) && line.contains(&place) && line.contains(" ok "));
        assert!(found.is_some(), "{what}: {}", check.output);
    };
    ["Secret", "Keystone", "Neutron endpoint", "Nova"].into_iter().for_each(row);
    let skipped = check.output.lines().filter(|line| line.contains("CONTRABASS_"));
    assert!(skipped.clone().count() == 2 && skipped.clone().all(|line| line.contains("skipped")));
    let object = format!("{namespace}/{name}");
    let plan = run(&world, &variables(&listed), folder.path(), &["plan", &object]);
    assert_eq!(plan.code, 0, "{}", plan.errors);
    assert!(plan.output.contains("synced 3 nodes"), "{}", plan.output);
    let forged = run(&world, &variables(""), folder.path(), &["check"]);
    assert_eq!(forged.code, 1);
    assert!(forged.output.contains("isn't in ALLOWED_ENDPOINTS"), "{}", forged.output);
    assert!(!forged.output.contains(SECRET) && !check.output.contains(SECRET));
}
