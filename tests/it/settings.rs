//! Objects with settings of their own, as those written for the Go operator have them.

use serde_json::json;
use simulated_cloud::Service;

use super::process::{Operator, run};
use super::world::World;

/// A cloud that the environment says nothing of, but the object does.
pub(crate) fn world() -> World {
    let world = World::of("three-nodes");
    let settings = json!({
        "contrabassEndpoint": world.url(Service::Contrabass),
        "contrabassInsecureTLS": false,
        "violaEndpoint": world.url(Service::Viola),
        "openstackEndpointInterface": "public",
        "openstackInsecureTLS": true,
        "openstackPortAllowedStatuses": ["ACTIVE", "DOWN"],
        "pollFastInterval": "10s",
        "pollSlowInterval": "1m",
    });
    let key = json!({"name": "contrabass-encrypt-key", "key": "CONTRABASS_ENCRYPT_KEY"});
    let secrets = json!({ "contrabassEncryptKeySecretRef": key });
    world.change_spec(json!({ "settings": settings, "secrets": secrets }));
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "contrabass-encrypt-key", "namespace": world.object().0},
        "data": {"CONTRABASS_ENCRYPT_KEY": "bXVsdGluaWMtZGVtby0xNg=="},
    });
    world.kubernetes().apply_object(secret).unwrap();
    world
}

pub(crate) const NOWHERE: [(&str, &str); 3] =
    [("CONTRABASS_ENDPOINT", ""), ("VIOLA_ENDPOINT", ""), ("CONTRABASS_ENCRYPT_KEY", "")];

#[test]
fn an_object_that_names_its_services_is_synced_where_the_policy_lets_it() {
    for policy in [("OBJECT_SETTINGS", "all"), ("ALLOWED_ENDPOINTS", "*")] {
        let world = world();
        let operator = Operator::start(&world, &[NOWHERE[0], NOWHERE[1], NOWHERE[2], policy]);
        world.wait_for_reason("Synced");
        assert_eq!(world.held(), world.expected(), "{policy:?}");
        drop(operator);
    }
}

#[test]
fn by_default_it_is_a_config_error_that_says_what_would_allow_it_and_nothing_is_asked() {
    let world = world();
    let _operator = Operator::start(&world, &NOWHERE);
    let message = world.wait_for_reason("ConfigError");
    for (field, service) in
        [("contrabassEndpoint", Service::Contrabass), ("violaEndpoint", Service::Viola)]
    {
        let url = world.url(service);
        let problem =
            format!("spec.settings.{field}: {url} isn't in ALLOWED_ENDPOINTS, so nothing is asked");
        assert!(message.contains(&problem), "{message}");
        assert_eq!(world.journal().count(service), 0);
    }
    let folder = tempfile::tempdir().unwrap();
    let (namespace, name) = world.object();
    let check = run(&world, &NOWHERE, folder.path(), &["check"]);
    assert!(check.output.contains("isn't in ALLOWED_ENDPOINTS"), "{}", check.output);
    let name = format!("{namespace}/{name}");
    let plan = run(&world, &NOWHERE, folder.path(), &["plan", &name]);
    assert!(plan.errors.contains("isn't in ALLOWED_ENDPOINTS"), "{}", plan.errors);
}

#[test]
fn check_and_plan_go_by_the_objects_settings() {
    let world = world();
    let folder = tempfile::tempdir().unwrap();
    let (namespace, name) = world.object();
    let name = format!("{namespace}/{name}");
    let variables = [("OBJECT_SETTINGS", "all"), NOWHERE[0], NOWHERE[1], NOWHERE[2]];
    let check = run(&world, &variables, folder.path(), &["check"]);
    assert!(check.output.contains(&format!("by the settings of {name}")), "{}", check.output);
    assert!(check.output.contains(&world.url(Service::Viola)), "{}", check.output);
    let plan = run(&world, &variables, folder.path(), &["plan", &name]);
    assert_eq!(plan.code, 0, "{}", plan.errors);
    assert!(plan.output.contains("synced 3 nodes"), "{}", plan.output);
    assert_eq!(world.journal().count(Service::Viola), 1, "only check's GET");
}
