//! Objects with settings of their own: whom they reach, and what they share with others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::object;
use super::passes::{context, outcomes, pass};
use crate::cloud::tests::{Stage, port, provider, refused, reply, stage, token};
use crate::http::client::Service;
use crate::reconcile::report::{Ready, Reason};
use crate::reconcile::{Context, Lane, Outcome};
use crate::resources::{OpenstackConfig, SettingValue};

const SERVICES: [Service; 5] =
    [Service::Contrabass, Service::Keystone, Service::Neutron, Service::Nova, Service::Viola];

struct Operator {
    stage: Stage,
    context: Context,
    _folder: tempfile::TempDir,
}

fn operator(variables: &[(&str, &str)]) -> Operator {
    let stage = stage(variables);
    stage.services.set_ports(vec![port("p1", "vm-1", 1), port("p2", "vm-2", 2)]);
    let folder = tempfile::tempdir().unwrap();
    let context = context(&stage, &stage.clients, folder.path());
    Operator { stage, context, _folder: folder }
}

impl Operator {
    /// A pass of these objects.
    fn pass(&self, lane: Lane, objects: &[&Arc<OpenstackConfig>]) -> BTreeMap<String, Outcome> {
        let objects: Vec<_> = objects.iter().map(|object| Arc::clone(object)).collect();
        objects.iter().for_each(|object| self.context.ownership.know(object));
        outcomes(&self.context, &pass(lane, &objects))
    }

    /// The hosts that a service was asked at, in order.
    fn hosts(&self, service: Service) -> Vec<String> {
        let host = |url: &String| url.split('/').nth(2).unwrap_or_default().to_owned();
        self.stage.services.asked(service).iter().map(host).collect()
    }
}

/// An object with one VM that sets these texts.
fn with(name: &str, vm_id: &str, settings: &[(&'static str, &str)]) -> Arc<OpenstackConfig> {
    let mut object = object(name, 0, &[vm_id]);
    let text = |text: &str| SettingValue::Text(text.to_owned());
    let settings = settings.iter().map(|(field, value)| (*field, text(value))).collect();
    object.spec.as_mut().unwrap().settings = Arc::new(settings);
    Arc::new(object)
}

#[test]
fn an_endpoint_that_is_not_listed_is_asked_for_nothing() {
    let operator = operator(&[("ALLOWED_ENDPOINTS", "http://listed.test")]);
    for field in
        ["contrabassEndpoint", "openstackNeutronEndpoint", "openstackNovaEndpoint", "violaEndpoint"]
    {
        let object = with("a", "vm-1", &[(field, "http://169.254.169.254/latest/meta-data")]);
        let Ready { reason, message } = operator.pass(Lane::Fresh, &[&object])["a"].ready.clone();
        assert_eq!(reason, Reason::ConfigError);
        let expected = format!(
            "spec.settings.{field}: http://169.254.169.254/latest/meta-data isn't in \
             ALLOWED_ENDPOINTS, so nothing is asked"
        );
        assert_eq!(message, expected);
    }
    // No service was asked, not even the environment's own.
    for service in SERVICES {
        assert_eq!(operator.stage.services.asked(service), Vec::<String>::new(), "{service}");
    }
}

#[test]
fn objects_with_other_endpoints_share_no_look_up_no_token_and_no_post() {
    let operator = operator(&[("ALLOWED_ENDPOINTS", "http://*.other.test")]);
    let services = &operator.stage.services;
    services.say(Service::Contrabass, "contrabass.other", [provider("http://keystone2.test")]);
    let other = token("http://neutron2.test", "http://nova2.test/v2.1");
    services.say(Service::Keystone, "keystone2.test", [other]);
    let a = with("a", "vm-1", &[]);
    // The environment's own value makes no difference.
    let same = with("same", "vm-1", &[("contrabassEndpoint", "http://CONTRABASS.test/")]);
    let b = with(
        "b",
        "vm-2",
        &[
            ("contrabassEndpoint", "http://contrabass.other.test"),
            ("violaEndpoint", "http://viola.other.test"),
        ],
    );
    let outcomes = operator.pass(Lane::Fresh, &[&a, &b]);
    assert_eq!(outcomes["a"].ready.reason, Reason::Synced, "{:?}", outcomes["a"].ready);
    assert_eq!(outcomes["b"].ready.reason, Reason::Synced, "{:?}", outcomes["b"].ready);
    operator.pass(Lane::Poll, &[&same]);
    let contrabass = ["contrabass.test", "contrabass.other.test"];
    assert_eq!(operator.hosts(Service::Contrabass), contrabass);
    assert_eq!(operator.hosts(Service::Keystone), ["keystone.test", "keystone2.test"]);
    assert_eq!(operator.hosts(Service::Viola), ["viola.test", "viola.other.test"]);
    let neutron = operator.stage.services.asked(Service::Neutron);
    let of = |host: &str, vm_id: &str| {
        neutron.iter().any(|url| url.contains(host) && url.contains(vm_id))
    };
    assert!(of("neutron.test", "vm-1") && of("neutron2.test", "vm-2"), "{neutron:?}");
    assert!(!of("neutron.test", "vm-2") && !of("neutron2.test", "vm-1"), "{neutron:?}");
}

#[test]
fn a_viola_that_refuses_tells_nothing_about_another_one() {
    let operator = operator(&[("ALLOWED_ENDPOINTS", "http://viola2.test")]);
    operator.stage.services.say(Service::Viola, "viola2", [reply(500, json!({}))]);
    let (a, b) =
        (with("a", "vm-1", &[]), with("b", "vm-2", &[("violaEndpoint", "http://viola2.test")]));
    let outcomes = operator.pass(Lane::Fresh, &[&a, &b]);
    assert_eq!(outcomes["a"].ready.reason, Reason::Synced);
    assert_eq!(outcomes["b"].ready.reason, Reason::ViolaPostError);
    let config = &operator.context.config;
    let of = |object: &Arc<OpenstackConfig>| {
        let settings = config.settings_of(object.spec.as_ref().unwrap()).unwrap();
        operator.context.target.unconfirmed(&settings, super::PROVIDER).len()
    };
    assert_eq!((of(&a), of(&b)), (0, 1));
    // The same Viola by other limits is still the same.
    let slow = [("violaEndpoint", "http://viola2.test"), ("violaTimeout", "1m")];
    assert_eq!(of(&with("b", "vm-2", &slow)), 1);
}

#[test]
fn a_refused_password_is_counted_over_all_settings() {
    let operator = operator(&[]);
    operator.stage.services.say(Service::Keystone, "", [refused()]);
    let regions = ["", "r1", "r2", "r3", "r4", "r5"];
    for _ in 0..50 {
        for region in regions {
            let settings = [("openstackEndpointRegion", region)];
            let object = with("a", "vm-1", if region.is_empty() { &[] } else { &settings });
            let ready = operator.pass(Lane::Retry, &[&object])["a"].ready.clone();
            assert_eq!(ready.reason, Reason::KeystoneError, "{ready:?}");
        }
        operator.stage.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(operator.hosts(Service::Keystone).len(), 5);
}

#[test]
fn statuses_and_resends_go_by_the_objects_own_settings() {
    let operator = operator(&[]);
    let mut object = Arc::unwrap_or_clone(with("a", "vm-1", &[("pollSlowInterval", "10s")]));
    let spec = object.spec.as_mut().unwrap();
    let statuses = SettingValue::List(vec!["down".to_owned()]);
    Arc::make_mut(&mut spec.settings).insert("openstackPortAllowedStatuses", statuses);
    let outcome = operator.pass(Lane::Fresh, &[&Arc::new(object)]).remove("a").unwrap();
    // The only port is ACTIVE.
    assert_eq!((outcome.ready.reason, outcome.nodes), (Reason::NoChange, Some(0)));
    let note =
        "spec.settings.pollSlowInterval: 10s is shorter than the fast interval, so 20s is used";
    assert!(outcome.ready.message.ends_with(note), "{}", outcome.ready.message);
}
