//! Steps 2 to 8 over services that answer by a script: whose answer counts when several fail at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::{Metrics, Store, object};
use crate::cloud::Clouds;
use crate::cloud::object_secrets::ObjectSecrets;
use crate::cloud::tests::{PROVIDER, Stage, port, provider, refused, reply, stage, token};
use crate::http::client::{Clients, Service};
use crate::inventory::files::Disk;
use crate::inventory::record::Record;
use crate::kube::client::KubeClient;
use crate::reconcile::memory;
use crate::reconcile::plan::Plan;
use crate::reconcile::report::Reason;
use crate::reconcile::{Context, Item, Lane, Outcome, Pass, Scope, Work, each_plan, reconcile};
use crate::resources::OpenstackConfig;
use crate::targets::cluster::Clusters;
use crate::targets::{ClusterIds, Targets};

/// An operator of one object, with one VM and one port.
struct Operator {
    stage: Stage,
    context: Context,
    object: Arc<OpenstackConfig>,
    _folder: tempfile::TempDir,
}

fn operator(settings: &[(&str, &str)]) -> Operator {
    let stage = stage(settings);
    stage.services.set_ports(vec![port("p1", "vm-1", 1)]);
    let folder = tempfile::tempdir().unwrap();
    let context = context(&stage, &stage.clients, folder.path());
    let object = object("a", 0, &["vm-1"]);
    context.ownership.know(&object);
    Operator { stage, context, object: Arc::new(object), _folder: folder }
}

/// What passes of an operator use whose inventory is in this folder.
pub(super) fn context(stage: &Stage, clients: &Clients, folder: &Path) -> Context {
    let path = folder.join("inventory.json");
    let (files, metrics) = (Box::new(Disk), Arc::new(Metrics::default()));
    let store = Store::new(files, &path, stage.clock.clone(), metrics);
    store.retry();
    let kubernetes =
        KubeClient::new(stage.config.kubernetes.clone(), stage.clock.clone(), Arc::default());
    let (clock, no_metrics) = (stage.clock.clone(), Arc::default());
    let clusters = Clusters::new(&stage.config, &kubernetes, clock, &no_metrics);
    let targets = Targets::new(&stage.config, clients, Arc::new(clusters));
    Context {
        config: Arc::clone(&stage.config),
        clouds: Arc::new(Clouds::new(&stage.config, stage.clock.clone(), clients)),
        secrets: Arc::new(ObjectSecrets::new(stage.clock.clone(), Box::new(|_, _| Ok(None)))),
        target: Arc::new(targets),
        targets_side_by_side: 1,
        store: Arc::new(store),
        ownership: Arc::default(),
        metrics: Arc::default(),
        clock: stage.clock.clone(),
        may_act: Arc::new(|| true),
    }
}

/// A pass of these objects, which nothing is known of but what they say themselves.
pub(super) fn pass(lane: Lane, objects: &[Arc<OpenstackConfig>]) -> Pass {
    let work = |object: &Arc<OpenstackConfig>| Work {
        object: Arc::clone(object),
        resend_accepted_until: None,
        down_port_retry: None,
        was_planned: false,
        is_held: memory::is_held(&object.status),
        is_loss_approved: memory::is_approved(object, &object.status),
        building_since: BTreeMap::new(),
        removed_at: BTreeMap::new(),
        approvals: Vec::new(),
        drifted: BTreeSet::new(),
    };
    let work = objects.iter().map(work).collect();
    Pass { number: 1, scope: Scope::of(&objects[0]), lane, work }
}

/// The outcomes of a pass, by the name of the object.
pub(super) fn outcomes(context: &Context, pass: &Pass) -> BTreeMap<String, Outcome> {
    let outcomes = Mutex::new(BTreeMap::new());
    reconcile(context, pass, &|work, outcome| {
        let before = outcomes.lock().unwrap().insert(work.object.key.name.clone(), outcome);
        assert!(before.is_none(), "{} is reported twice", work.object.key);
    });
    outcomes.into_inner().unwrap()
}

impl Operator {
    fn sync(&self) -> Outcome {
        let pass = pass(Lane::Poll, std::slice::from_ref(&self.object));
        outcomes(&self.context, &pass).remove("a").unwrap()
    }

    fn later(&self, seconds: u64) {
        self.stage.clock.advance(Duration::from_secs(seconds));
    }

    /// What Viola was last told of the node.
    fn told(&self, node: &str) -> Option<Record> {
        let stored = self.context.store.snapshot().get(PROVIDER, node).cloned();
        stored.map(|stored| stored.record.clone())
    }
}

#[test]
fn a_nova_that_goes_on_refusing_a_new_token_costs_no_pass_while_names_are_known() {
    let operator = operator(&[]);
    assert_eq!(operator.sync().ready.reason, Reason::Synced);
    operator.stage.services.say(Service::Nova, "", [refused()]);
    operator.stage.services.set_ports(vec![port("p1", "vm-1", 1), port("p2", "vm-1", 2)]);
    operator.later(60);
    let logins = operator.stage.services.asked(Service::Keystone).len();
    let outcome = operator.sync();
    assert_eq!(outcome.ready.reason, Reason::Synced, "{}", outcome.ready.message);
    assert_eq!(operator.told("node-vm-1").unwrap().config.interfaces.len(), 2);
    let renewed = operator.stage.services.asked(Service::Keystone).len() - logins;
    assert_eq!(renewed, 1, "the token is renewed once");
}

#[test]
fn a_nova_that_goes_on_refusing_a_new_token_leaves_out_a_vm_without_a_name() {
    let operator = operator(&[]);
    operator.stage.services.say(Service::Nova, "", [refused()]);
    let outcome = operator.sync();
    assert_eq!(outcome.ready.reason, Reason::NovaError);
    let said = "Nova GET /v2.1/servers/vm-1: HTTP 401: The request you have made requires";
    assert!(outcome.ready.message.contains(said), "{}", outcome.ready.message);
    assert!(operator.stage.services.asked(Service::Viola).is_empty());
}

#[test]
fn a_token_that_nova_alone_refuses_is_renewed_unseen() {
    let operator = operator(&[]);
    let server = json!({"id": "vm-1", "name": "worker-1"});
    let replies = [refused(), reply(200, json!({"server": server}))];
    operator.stage.services.say(Service::Nova, "", replies);
    let outcome = operator.sync();
    assert_eq!(outcome.ready.reason, Reason::Synced, "{}", outcome.ready.message);
    assert!(operator.told("worker-1").is_some());
}

#[test]
fn a_provider_that_moved_is_followed_in_the_same_pass_though_its_old_place_only_fails() {
    for failure in [reply(503, json!({})), refused()] {
        let operator = operator(&[]);
        assert_eq!(operator.sync().ready.reason, Reason::Synced);
        let services = &operator.stage.services;
        services.say(Service::Contrabass, "", [provider("http://keystone2.test")]);
        let token = token("http://neutron2.test", "http://nova2.test/v2.1");
        services.say(Service::Keystone, "http://keystone2.test", [token]);
        services.say(Service::Neutron, "http://neutron.test", [failure]);
        operator.later(120);
        let outcome = operator.sync();
        assert_eq!(outcome.ready.reason, Reason::NoChange, "{}", outcome.ready.message);
    }
}

#[test]
fn a_contrabass_that_refuses_costs_no_login() {
    let operator = operator(&[]);
    assert_eq!(operator.sync().ready.reason, Reason::Synced);
    operator.stage.services.say(Service::Contrabass, "", [reply(401, json!({}))]);
    operator.later(120);
    assert_eq!(operator.sync().ready.reason, Reason::ContrabassError);
    assert_eq!(operator.stage.services.asked(Service::Keystone).len(), 1);
}

#[test]
fn a_new_password_that_costs_two_starts_over_is_found_in_the_same_pass() {
    // The provider is new, the login of the old one is still remembered, and its token refused.
    let operator = operator(&[]);
    assert_eq!(operator.sync().ready.reason, Reason::Synced);
    let services = &operator.stage.services;
    let attributes = json!({"adminId": "admin", "domain": "default",
        "adminPw": "8ODQwLCgkIBwYFBAMCAQALQ4qDi6YAaeloA0dOZVAjbhZUkdN324oz8oN5BRju1l"});
    let data = json!({"url": "http://keystone.test", "attributes": attributes});
    let changed = json!({"returnCode": "200", "data": data});
    services.say(Service::Contrabass, "", [reply(200, changed)]);
    let ports = reply(200, json!({"ports": [port("p1", "vm-1", 1)]}));
    services.say(Service::Neutron, "/ports?", [refused(), refused(), ports]);
    operator.later(120);
    let outcome = operator.sync();
    assert_eq!(outcome.ready.reason, Reason::NoChange, "{}", outcome.ready.message);
    assert_eq!(services.asked(Service::Keystone).len(), 2);
}

#[test]
fn a_nova_that_asks_to_be_left_alone_is_heard_the_longest_of_its_wishes() {
    let mut operator = operator(&[]);
    operator.object = Arc::new(object("a", 0, &["vm-1", "vm-2"]));
    operator.context.ownership.know(&operator.object);
    let busy = |pause| {
        reply(429, json!({"overLimit": {"message": "slow down"}})).with("retry-after", pause)
    };
    operator.stage.services.say(Service::Nova, "/servers/vm-1", [busy("300")]);
    operator.stage.services.say(Service::Nova, "/servers/vm-2", [busy("40")]);
    let outcome = operator.sync();
    assert_eq!(outcome.ready.reason, Reason::NovaError);
    assert_eq!(outcome.retry_after, Some(Duration::from_secs(300)));
}

#[test]
fn a_pass_that_goes_on_with_known_names_hears_it_too() {
    let operator = operator(&[]);
    assert_eq!(operator.sync().ready.reason, Reason::Synced);
    let busy = reply(503, json!({})).with("retry-after", "300");
    operator.stage.services.say(Service::Nova, "", [busy]);
    operator.later(60);
    let outcome = operator.sync();
    assert_eq!(outcome.ready.reason, Reason::NoChange, "{}", outcome.ready.message);
    assert_eq!(outcome.retry_after, Some(Duration::from_secs(300)));
}

#[test]
fn a_panic_in_one_plan_is_that_objects_and_leaves_the_others_theirs() {
    let operator = operator(&[]);
    let objects = ["a", "b", "c"].map(|name| Arc::new(object(name, 0, &["vm-1"])));
    let pass = pass(Lane::Poll, &objects);
    let items: Vec<Item<'_>> = pass
        .work
        .iter()
        .map(|work| {
            let settings = Arc::clone(&operator.context.config.settings);
            let spec = work.object.spec.as_ref().unwrap();
            Item { work, spec, settings, key_source: None }
        })
        .collect();
    let plan = |item: &Item<'_>, _: Option<&ClusterIds>| match item.work.object.key.name.as_str() {
        "b" => panic!("on purpose"),
        _ => Ok(Plan::default()),
    };
    let reported = Mutex::new(Vec::new());
    let plans = each_plan(
        &operator.context,
        items.iter().map(|item| (item, None)),
        &plan,
        &|work, outcome| {
            reported.lock().unwrap().push((work.object.key.name.clone(), outcome.ready.reason));
        },
    );
    let planned: Vec<&str> =
        plans.iter().map(|(item, _)| item.work.object.key.name.as_str()).collect();
    assert_eq!(planned, ["a", "c"]);
    assert_eq!(*reported.lock().unwrap(), [("b".to_owned(), Reason::ConfigError)]);
    let metrics = operator.context.metrics.render();
    let panics = "controller_runtime_reconcile_panics_total{controller=\"openstackconfig\"} 1";
    assert!(metrics.contains(panics), "{metrics}");
}

#[test]
fn nodes_that_older_objects_have_sent_are_a_conflict_and_not_lost_memory() {
    let operator = operator(&[]);
    assert_eq!(operator.sync().ready.reason, Reason::Synced);
    // Its VM had this name before, and the older object's record replaced the record of it.
    let mut younger = object("b", 9, &["vm-2"]);
    (younger.status.nodes, younger.status.observed_generation) = (Some(1), Some(1));
    operator.context.ownership.know(&younger);
    let ports = vec![port("p1", "vm-1", 1), port("p2", "vm-2", 2)];
    operator.stage.services.set_ports(ports);
    let server = reply(200, json!({"server": {"id": "vm-2", "name": "node-vm-1"}}));
    operator.stage.services.say(Service::Nova, "/servers/vm-2", [server]);
    let pass = pass(Lane::Poll, &[Arc::new(younger)]);
    let outcome = outcomes(&operator.context, &pass).remove("b").unwrap();
    assert_eq!(outcome.ready.reason, Reason::NodeConflict, "{}", outcome.ready.message);
    assert_eq!(outcome.nodes, Some(0));
}

#[test]
fn a_held_object_sends_nothing_and_its_nodes_stay_its_own() {
    let operator = operator(&[]);
    let mut older = object("a", 0, &["vm-1"]);
    (older.status.nodes, older.status.observed_generation) = (Some(1), Some(1));
    let younger = object("b", 9, &["vm-1"]);
    operator.context.ownership.know(&younger);
    let objects = [Arc::new(younger), Arc::new(older)];
    for object in objects.iter().rev() {
        let pass = pass(Lane::Poll, std::slice::from_ref(object));
        let outcome = outcomes(&operator.context, &pass).remove(&object.key.name).unwrap();
        let expected =
            if object.key.name == "a" { Reason::MemoryLost } else { Reason::NodeConflict };
        assert_eq!(outcome.ready.reason, expected, "{}", outcome.ready.message);
        operator.context.ownership.ended(&object.uid, object.generation);
    }
    assert!(operator.stage.services.asked(Service::Viola).is_empty());
}
