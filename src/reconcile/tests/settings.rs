//! Objects with settings of their own: whom they reach, and what they share with others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::object;
use super::passes::{context, outcomes, pass};
use crate::cloud::Clouds;
use crate::cloud::object_secrets::ObjectSecrets;
use crate::cloud::tests::{PROJECT, Stage, port, provider, refused, reply, stage, token};
use crate::http::client::{Clients, Service};
use crate::reconcile::report::{Ready, Reason};
use crate::reconcile::{Context, Lane, Outcome};
use crate::resources::{IdentityRef, OpenstackConfig, SecretKey, SettingValue};
use crate::secret::{Entries, ReadSecret, Secret};

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
        let spec = object.spec.as_ref().unwrap();
        let settings = config.settings_of(spec, &Default::default()).unwrap();
        operator.context.target.unconfirmed(&settings, spec).len()
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

/// Secrets of the namespace `default` by name, what can't be read among them, and how often one was
/// asked for.
#[derive(Clone, Default)]
struct Secrets(Arc<Mutex<(Contents, usize)>>);

type Contents = BTreeMap<String, Result<Entries, String>>;

impl Secrets {
    fn put(&self, name: &str, key: &str, value: &str) {
        let entries = Entries::from([(key.to_owned(), Secret::new(value.to_owned()))]);
        self.0.lock().unwrap().0.insert(name.to_owned(), Ok(entries));
    }

    fn fail(&self, name: &str) {
        self.0.lock().unwrap().0.insert(name.to_owned(), Err("HTTP 500".to_owned()));
    }

    fn reads(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn reader(&self) -> Box<ReadSecret> {
        let secrets = Arc::clone(&self.0);
        Box::new(move |namespace, name| {
            assert_eq!(namespace, "default");
            let (secrets, reads) = &mut *secrets.lock().unwrap();
            *reads += 1;
            secrets.get(name).cloned().transpose()
        })
    }
}

/// Decrypts what Contrabass says.
const RIGHT: &str = "multinic-demo-16";
const WRONG: &str = "another-demo-16b";
const DEFAULT: (&str, &str) = ("contrabass-encrypt-key", "CONTRABASS_ENCRYPT_KEY");

/// An operator with these Secrets, and with the wrong key in its environment.
fn operator_with(secrets: &Secrets, variables: &[(&str, &str)]) -> Operator {
    let key = ("CONTRABASS_ENCRYPT_KEY", WRONG);
    let mut operator = operator(&[variables, &[key]].concat());
    let secrets = ObjectSecrets::new(operator.stage.clock.clone(), secrets.reader());
    operator.context.secrets = Arc::new(secrets);
    operator
}

/// An object that brings a key itself, or names a Secret.
fn with_key(
    name: &str,
    literal: Option<&str>,
    named: Option<(&str, &str)>,
) -> Arc<OpenstackConfig> {
    let mut object = object(name, 0, &["vm-1"]);
    let spec = object.spec.as_mut().unwrap();
    spec.encrypt_key = literal.map(|key| Secret::new(key.to_owned()));
    let named = named.map(|(name, key)| (name.to_owned(), key.to_owned()));
    spec.encrypt_key_ref = named.map(|(name, key)| SecretKey { name, key });
    Arc::new(object)
}

#[test]
fn a_named_secret_comes_first_then_the_namespaces_then_the_setting_then_the_environment() {
    let mine = Some(("mine", "key"));
    // The Secret that is named, the namespace's, the setting; whose key was used.
    for (named, default, literal, source) in [
        (None, None, None, "CONTRABASS_ENCRYPT_KEY"),
        (None, None, Some(WRONG), "spec.settings.contrabassEncryptKey"),
        (None, None, Some(RIGHT), ""),
        (None, Some(WRONG), Some(RIGHT), "Secret default/contrabass-encrypt-key"),
        (None, Some(RIGHT), Some(WRONG), ""),
        (Some(WRONG), Some(RIGHT), Some(RIGHT), "Secret default/mine"),
        (Some(RIGHT), Some(WRONG), Some(WRONG), ""),
        // The line's end of a file is no part of a key.
        (Some("multinic-demo-16\n"), None, None, ""),
    ] {
        let case = format!("{named:?} {default:?} {literal:?}");
        let secrets = Secrets::default();
        named.iter().for_each(|value| secrets.put("mine", "key", value));
        default.iter().for_each(|value| secrets.put(DEFAULT.0, DEFAULT.1, value));
        let operator = operator_with(&secrets, &[]);
        let object = with_key("a", literal, mine.filter(|_| named.is_some()));
        let Ready { reason, message } = operator.pass(Lane::Fresh, &[&object])["a"].ready.clone();
        if source.is_empty() {
            assert_eq!(reason, Reason::Synced, "{case}: {message}");
        } else {
            assert_eq!(reason, Reason::ContrabassError, "{case}: {message}");
            let expected =
                format!("does the key belong to this Contrabass? It is that of {source}");
            assert!(message.ends_with(&expected), "{case}: {message}");
        }
    }
}

#[test]
fn a_secret_that_cannot_be_used_is_named_and_nothing_is_asked() {
    let secrets = Secrets::default();
    secrets.put("short", "key", "five!");
    secrets.fail("broken");
    let field = "spec.secrets.contrabassEncryptKeySecretRef";
    for (name, key, problem) in [
        ("absent", "key", "doesn't exist"),
        ("short", "other", "has no key other"),
        ("short", "key", "can't be used: key has 5 bytes; AES needs 16, 24 or 32"),
        ("broken", "key", "can't be read: HTTP 500"),
    ] {
        let operator = operator_with(&secrets, &[]);
        let object = with_key("a", Some(RIGHT), Some((name, key)));
        let Ready { reason, message } = operator.pass(Lane::Fresh, &[&object])["a"].ready.clone();
        assert_eq!(message, format!("{field}: Secret default/{name} {problem}"));
        assert_eq!(reason, Reason::ConfigError);
        assert_eq!(operator.hosts(Service::Contrabass).len(), 0);
    }
    secrets.put(DEFAULT.0, DEFAULT.1, "five!");
    let operator = operator_with(&secrets, &[]);
    let message =
        &operator.pass(Lane::Fresh, &[&with_key("a", None, None)])["a"].ready.message.clone();
    assert!(
        message.starts_with("Secret default/contrabass-encrypt-key can't be used"),
        "{message}"
    );
    // Not even Kubernetes is asked where the settings can't be used, or no keys are allowed.
    let reads = secrets.reads();
    let bad = with("a", "vm-1", &[("pollFastInterval", "1ms")]);
    assert_eq!(operator.context.keys_of(&bad).unwrap_err().split(':').count(), 2);
    let operator = operator_with(&secrets, &[("OBJECT_SETTINGS", "none")]);
    let problem = operator.context.keys_of(&with_key("a", None, Some(("mine", "key"))));
    assert!(problem.unwrap_err().contains("OBJECT_SETTINGS=tuning would"));
    assert_eq!(operator.context.keys_of(&with_key("a", None, None)), Ok(()));
    assert_eq!(secrets.reads(), reads);
}

impl Context {
    fn keys_of(&self, object: &OpenstackConfig) -> Result<(), String> {
        let spec = object.spec.as_ref().unwrap();
        self.secrets.settings_of(&self.config, &object.key.namespace, spec).map(drop)
    }
}

#[test]
fn a_secret_is_read_every_five_minutes_and_when_its_key_does_not_fit() {
    let secrets = Secrets::default();
    let operator = operator_with(&secrets, &[]);
    let object = with_key("a", Some(RIGHT), None);
    let poll = || operator.pass(Lane::Poll, &[&object])["a"].ready.reason;
    let later = |seconds| operator.stage.clock.advance(Duration::from_secs(seconds));
    // A namespace without a Secret costs one read in five minutes, whatever is polled.
    for _ in 0..29 {
        assert!(poll().is_success());
        later(10);
    }
    assert_eq!(secrets.reads(), 1);
    later(10);
    assert!(poll().is_success());
    assert_eq!(secrets.reads(), 2);
    // One that appears counts at once for objects that change, otherwise when it is read again.
    secrets.put(DEFAULT.0, DEFAULT.1, WRONG);
    assert!(poll().is_success());
    assert_eq!(operator.pass(Lane::Fresh, &[&object])["a"].ready.reason, Reason::ContrabassError);
    // A key that doesn't fit is read again with each retry.
    assert_eq!(secrets.reads(), 3);
    secrets.put(DEFAULT.0, DEFAULT.1, RIGHT);
    later(1);
    assert_eq!(operator.pass(Lane::Retry, &[&object])["a"].ready.reason, Reason::NoChange);
    assert_eq!(secrets.reads(), 4);
    // Known keys outlive trouble of the API server.
    secrets.fail(DEFAULT.0);
    later(301);
    assert!(poll().is_success() && poll().is_success());
    assert_eq!(secrets.reads(), 5);
}

#[test]
fn a_named_secret_that_is_missing_is_looked_for_again_soon_but_once_for_all() {
    let secrets = Secrets::default();
    let operator = operator_with(&secrets, &[]);
    let objects = ["a", "b", "c"].map(|name| with_key(name, None, Some(("mine", "key"))));
    let objects = [&objects[0], &objects[1], &objects[2]];
    operator.pass(Lane::Fresh, &objects);
    operator.pass(Lane::Retry, &objects);
    assert_eq!(secrets.reads(), 1);
    secrets.put("mine", "key", RIGHT);
    operator.stage.clock.advance(Duration::from_secs(30));
    let outcomes = operator.pass(Lane::Retry, &objects[..1]);
    assert_eq!(outcomes["a"].ready.reason, Reason::Synced);
}

#[test]
fn objects_with_different_keys_share_no_look_up() {
    let operator = operator_with(&Secrets::default(), &[]);
    let (a, b) = (with_key("a", Some(RIGHT), None), with_key("b", None, None));
    let outcomes = operator.pass(Lane::Fresh, &[&a, &b]);
    assert_eq!(outcomes["a"].ready.reason, Reason::Synced);
    assert_eq!(outcomes["b"].ready.reason, Reason::ContrabassError);
    assert_eq!(operator.hosts(Service::Contrabass).len(), 2);
}

const CLOUDS: &str = "clouds: {prod: {region_name: R1, auth: {auth_url: 'http://keystone.test', \
    application_credential_id: a1, application_credential_secret: s3cret}}}";

/// An object that names the cloud of a Secret.
fn with_identity() -> Arc<OpenstackConfig> {
    let mut object = object("a", 0, &["vm-1"]);
    let spec = object.spec.as_mut().unwrap();
    let (secret, cloud) = ("openstack".to_owned(), "prod".to_owned());
    spec.provider_id = "default/openstack/prod".to_owned();
    spec.identity_ref = Some(IdentityRef { secret, cloud, region: None });
    spec.project_id = String::new();
    spec.k8s_provider_id = Some("biz".to_owned());
    Arc::new(object)
}

/// An operator that knows the Secret, and a Keystone that accepts what it says.
fn operator_with_identity(secrets: &Secrets) -> Operator {
    secrets.put("openstack", "clouds.yaml", CLOUDS);
    let listed = ("ALLOWED_ENDPOINTS", "http://keystone.test");
    let operator = operator_with(secrets, &[listed, ("POLL_ERROR_INTERVAL", "20s")]);
    let service = |kind: &str, url: &str| {
        json!({"type": kind,
        "endpoints": [{"interface": "public", "region": "R1", "url": url}]})
    };
    let catalog =
        [service("network", "http://neutron.test"), service("compute", "http://nova.test/v2.1")];
    let token = json!({"expires_at": "2026-02-02T09:04:05.000000Z", "project": {"id": PROJECT},
        "catalog": catalog});
    let accepted = reply(201, json!({"token": token})).with("x-subject-token", "made-up-token");
    operator.stage.services.say(Service::Keystone, "", [accepted]);
    operator
}

#[test]
fn a_cloud_of_a_secret_is_read_every_five_minutes_and_logs_in_anew_only_if_it_changed() {
    let secrets = Secrets::default();
    let operator = operator_with_identity(&secrets);
    let object = with_identity();
    let poll = || operator.pass(Lane::Poll, &[&object])["a"].ready.clone();
    let later = |seconds| operator.stage.clock.advance(Duration::from_secs(seconds));
    let logins = || operator.hosts(Service::Keystone).len();
    for _ in 0..29 {
        let ready = poll();
        assert!(ready.reason.is_success(), "{}", ready.message);
        later(10);
    }
    assert_eq!((secrets.reads(), logins()), (1, 1));
    later(10);
    assert!(poll().reason.is_success());
    assert_eq!((secrets.reads(), logins()), (2, 1));
    // What is known outlives trouble of the API server.
    secrets.fail("openstack");
    later(300);
    assert!(poll().reason.is_success());
    assert_eq!((secrets.reads(), logins()), (3, 1));
    // Another secret is another login; the token of the former isn't used for it.
    secrets.put("openstack", "clouds.yaml", &CLOUDS.replace("s3cret", "other"));
    later(300);
    assert!(poll().reason.is_success());
    assert_eq!((secrets.reads(), logins()), (4, 2));
    // Once the Secret says something that can't be read, what it said before doesn't count.
    secrets.put("openstack", "clouds.yaml", "clouds: {}");
    later(300);
    assert_eq!(poll().reason, Reason::ConfigError);
    assert_eq!(operator.hosts(Service::Contrabass).len(), 0);
}

#[test]
fn a_refused_application_credential_is_tried_as_rarely_as_a_password() {
    let secrets = Secrets::default();
    let operator = operator_with_identity(&secrets);
    operator.stage.services.forget(Service::Keystone);
    operator.stage.services.say(Service::Keystone, "", [refused()]);
    let object = with_identity();
    let mut minutes = Vec::new();
    for second in (0..4 * 3600).step_by(20) {
        let before = operator.hosts(Service::Keystone).len();
        let ready = operator.pass(Lane::Retry, &[&object])["a"].ready.clone();
        assert_eq!(ready.reason, Reason::KeystoneError);
        assert!(!ready.message.contains("Contrabass"), "{}", ready.message);
        let logins = operator.hosts(Service::Keystone).len() - before;
        minutes.extend(std::iter::repeat_n(second / 60, logins));
        operator.stage.clock.advance(Duration::from_secs(20));
    }
    assert_eq!(minutes, [0, 1, 6, 36]);
}

#[test]
fn settings_that_come_up_during_a_stop_open_no_new_way_out() {
    let stage = stage(&[("CONTRABASS_ENDPOINT", "http://127.0.0.1:1")]);
    let clients = Clients::new(&Arc::default());
    let clouds = Clouds::new(&stage.config, stage.clock.clone(), &clients);
    let reach = || clouds.with(&stage.config.settings).reach_contrabass().unwrap_err().message;
    clouds.shutdown();
    assert!(reach().ends_with("not sent, the operator is stopping"), "{}", reach());
}
