//! How often what is asked: look-ups and logins are shared, tokens are kept, access is renewed.

use serde_json::{Value, json};
use simulated_cloud::{Cloud, LoggedRequest, Scenario, Service};

use super::process::{Operator, SOON, fixtures};
use super::world::World;

const QUICK: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "300ms"),
    ("POLL_SLOW_INTERVAL", "400ms"),
    ("POLL_ERROR_INTERVAL", "300ms"),
    ("POLL_FAST_WINDOW", "1s"),
];

#[test]
fn a_refused_token_is_renewed_once_and_nobody_notices() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    world.edit(|state| state.revoke_tokens());
    world.journal().clear();
    let renewed = |log: &[LoggedRequest]| {
        let keystone = log.iter().position(|request| request.service == Service::Keystone);
        keystone.is_some_and(|at| {
            log[at..].iter().any(|r| r.target.contains("/ports") && r.status == Some(200))
        })
    };
    assert!(world.journal().wait_for(renewed, SOON));
    let refused = world.journal().all().iter().filter(|r| r.status == Some(401)).count();
    assert!(refused >= 1, "the token wasn't refused at all");
    assert_eq!(world.journal().count(Service::Keystone), 1);
    assert_eq!(world.ready().unwrap()["status"], "True");
}

#[test]
fn a_token_is_renewed_before_it_expires_by_the_clock_of_its_server() {
    let mut scenario = Scenario::load(&fixtures().join("three-nodes")).unwrap();
    scenario.state.settings.token_lifetime_seconds = 3;
    scenario.state.settings.clock_skew_seconds = -7200;
    let world = World(Cloud::start(scenario).unwrap());
    let _operator = Operator::start(&world, &QUICK);
    let enough = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.service == Service::Keystone).count() >= 3
    };
    assert!(world.journal().wait_for(enough, SOON));
    let log = world.journal().all();
    let refused: Vec<_> = log.iter().filter(|request| request.status == Some(401)).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let logins: Vec<u64> = log
        .iter()
        .filter(|request| request.service == Service::Keystone)
        .map(|request| request.arrived_ms)
        .collect();
    assert!(logins.windows(2).all(|pair| pair[1] - pair[0] >= 2000), "{logins:?}");
}

#[test]
fn a_changed_password_is_asked_for_once_more_and_found() {
    let world = World::of("three-nodes");
    // A long fast interval: the remembered answer of Contrabass is still fresh when it is wrong.
    let variables = [("POLL_FAST_INTERVAL", "60s"), ("POLL_SLOW_INTERVAL", "60s")];
    let _operator = Operator::start(&world, &variables);
    world.wait_for_reason("Synced");
    world.edit(|state| {
        state.revoke_tokens();
        for user in &mut state.users {
            user.password = "n3w-passw0rd".to_owned();
        }
        for provider in &mut state.providers {
            provider.admin_password = "n3w-passw0rd".to_owned();
        }
    });
    world.force("now");
    world.wait_for_posts(2);
    assert_eq!(world.journal().count(Service::Contrabass), 2);
}

#[test]
fn a_password_changed_in_keystone_alone_is_not_tried_at_each_poll_of_each_project() {
    let mut scenario = Scenario::load(&fixtures().join("three-nodes")).unwrap();
    let mut other = scenario.objects[0].clone();
    other["metadata"]["name"] = json!("other-project");
    other["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000001");
    other["spec"]["credentials"]["projectID"] = json!("0123456789abcdef0123456789abcdef");
    scenario.objects.push(other);
    let world = World(Cloud::start(scenario).unwrap());
    let _operator = Operator::start(&world, &QUICK);
    let message_of = |name: &str, part: &str| {
        let is_said = |object: &Value| {
            let message = object["status"]["lastError"].as_str().unwrap_or_default();
            object["metadata"]["name"] == name && message.contains(part)
        };
        let kubernetes = world.kubernetes();
        kubernetes.wait_until(|view| view.objects("OpenstackConfig").iter().any(is_said), SOON)
    };
    assert!(message_of("other-project", "is right, but project 0123456789abcdef"));
    world.wait_for_reason("NoChange");
    world.journal().clear();
    world.edit(|state| {
        state.revoke_tokens();
        state.users.iter_mut().for_each(|user| user.password = "n3w-passw0rd".to_owned());
    });
    world.wait_for_reason("KeystoneError");
    let asked = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.service == Service::Contrabass).count()
    };
    assert!(world.journal().wait_for(|log| asked(log) >= 10, SOON));
    assert!(message_of("other-project", "or its password is wrong (refused"));
    let logins = world.journal().count(Service::Keystone);
    // One that was under way when the password changed may be missing.
    assert!((1..=5).contains(&logins), "{logins} logins");
}

#[test]
fn both_spellings_of_the_bootstrap_domain_log_in_and_an_odd_one_costs_one_more_try() {
    for (domain, logins) in [("default", 1), ("Default", 1), ("DEFAULT", 1)] {
        let mut scenario = Scenario::load(&fixtures().join("three-nodes")).unwrap();
        for provider in &mut scenario.state.providers {
            provider.domain = domain.to_owned();
        }
        let world = World(Cloud::start(scenario).unwrap());
        let _operator = Operator::start(&world, &[]);
        world.wait_for_reason("Synced");
        assert_eq!(world.journal().count(Service::Keystone), logins, "{domain}");
    }
}

#[test]
fn a_catalog_that_changes_is_noticed() {
    let world = World::of("three-nodes");
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NoChange");
    let catalog = world.edit(|state| std::mem::take(&mut state.catalog));
    world.edit(|state| state.revoke_tokens());
    world.wait_for_reason("NeutronEndpointError");
    world.edit(|state| state.catalog = catalog);
    world.wait_for_reason("NoChange");
}

#[test]
fn a_nova_that_moved_is_looked_for_in_the_catalog_before_the_token_expires() {
    let mut scenario = Scenario::load(&fixtures().join("three-nodes")).unwrap();
    let nova = scenario.state.catalog.iter_mut().find(|service| service.kind == "compute").unwrap();
    let right = nova.endpoints.clone();
    nova.endpoints.iter_mut().for_each(|endpoint| endpoint.url = "http://127.0.0.1:9".to_owned());
    let world = World(Cloud::start(scenario).unwrap());
    let _operator = Operator::start(&world, &QUICK);
    world.wait_for_reason("NovaError");
    world.edit(|state| {
        let mut services = state.catalog.iter_mut();
        services.find(|service| service.kind == "compute").unwrap().endpoints = right;
    });
    world.wait_for_reason("NoChange");
    assert_eq!(world.held(), world.expected());
}

#[test]
fn no_request_head_is_larger_than_the_strictest_front_end_takes() {
    let mut scenario = Scenario::load(&fixtures().join("three-nodes")).unwrap();
    scenario.state.settings.uwsgi_head_limit = 3600;
    scenario.state.settings.neutron_uwsgi = true;
    let vms: Vec<String> =
        (0..400).map(|number| format!("00000000-0000-4000-8000-{number:012}")).collect();
    let known = scenario.objects[0]["spec"]["vmNames"].as_array().unwrap().clone();
    scenario.objects[0]["spec"]["vmNames"] =
        known.into_iter().chain(vms.into_iter().map(|vm| json!(vm))).collect();
    let world = World(Cloud::start(scenario).unwrap());
    let _operator = Operator::start(&world, &[]);
    let message = world.wait_for_reason("Synced");
    assert!(message.contains("400 VMs unknown to Nova and without ports"), "{message}");
    assert_eq!(world.held(), world.expected());
    let log = world.journal().requests(Service::Neutron);
    let largest = log.iter().map(|request| request.head_bytes).max().unwrap();
    assert!(largest <= 3600, "{largest} bytes");
    let ports = log.iter().filter(|request| request.target.contains("/ports")).count();
    assert!(ports <= 9, "{ports} requests for 403 VMs");
}
