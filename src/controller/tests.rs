//! The controller, driven by events and invented time: workers and Kubernetes are this file.

mod hearing;
mod memory;
mod metrics;
mod notifications;
mod paused;
mod removals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Controller, Effect, Event, Notice, SecretNote};
use crate::clock::Now;
use crate::cloud::contrabass::RabbitMq;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::reconcile::ownership::Ownership;
use crate::reconcile::report::Reason;
use crate::reconcile::{Lane, Outcome, Work};
use crate::resources::{
    ObjectKey, OpenstackConfig, PortFilter, SettingValue, Spec, Status, SubnetSelector,
};
use crate::secret::Secret;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// An object that names the VM `vm of <name>`; its uid is its name and a generation of its own.
fn object(name: &str) -> OpenstackConfig {
    let spec = Spec {
        subnets: vec![SubnetSelector::Id("subnet-1".to_owned())],
        vm_ids: vec![format!("vm of {name}")],
        provider_id: "provider-1".to_owned(),
        project_id: "project-1".to_owned(),
        identity_ref: None,
        k8s_provider_id: None,
        destination: Default::default(),
        paused: false,
        ports: PortFilter::default(),
        settings: Arc::default(),
        encrypt_key: None,
        encrypt_key_ref: None,
    };
    OpenstackConfig {
        key: key(name),
        uid: format!("{name}-1"),
        generation: 1,
        created: "2026-01-01T00:00:00Z".parse().unwrap(),
        being_deleted: false,
        force: None,
        approve: None,
        spec: Ok(spec),
        status: Status::default(),
    }
}

fn in_cloud(provider_id: &str, mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.provider_id = provider_id.to_owned();
    }
    object
}

fn in_project(project_id: &str, mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.project_id = project_id.to_owned();
    }
    object
}

fn with_vms(vm_ids: &[&str], mut object: OpenstackConfig) -> OpenstackConfig {
    if let Ok(spec) = &mut object.spec {
        spec.vm_ids = vm_ids.iter().map(|id| (*id).to_owned()).collect();
    }
    object
}

fn forced(value: &str, object: OpenstackConfig) -> OpenstackConfig {
    OpenstackConfig { force: Some(value.to_owned()), ..object }
}

fn generation(generation: i64, object: OpenstackConfig) -> OpenstackConfig {
    OpenstackConfig { generation, ..object }
}

fn younger(object: OpenstackConfig) -> OpenstackConfig {
    OpenstackConfig { created: "2026-01-01T00:00:09Z".parse().unwrap(), ..object }
}

fn sent() -> Vec<String> {
    vec!["worker-1".to_owned()]
}

fn synced(job: &Work) -> Outcome {
    let outcome = Outcome::failed(job, Reason::Synced, "synced 1 node");
    Outcome { nodes: Some(1), sent: sent(), changed: true, resent: true, ..outcome }
}

fn unchanged(job: &Work) -> Outcome {
    let outcome = Outcome::failed(job, Reason::NoChange, "1 node unchanged");
    Outcome { nodes: Some(1), resent: true, ..outcome }
}

fn down(job: &Work) -> Outcome {
    Outcome::failed(job, Reason::KeystoneError, "Keystone is down")
}

fn conflict(job: &Work) -> Outcome {
    let failed = Outcome::failed(job, Reason::NodeConflict, "worker-1 is managed by another");
    Outcome { nodes: Some(0), ..failed }
}

fn with_rabbitmq(serial: u64, outcome: Outcome) -> Outcome {
    let rabbitmq = RabbitMq {
        urls: vec!["10.0.0.5:5672".to_owned()],
        user: "openstack".to_owned(),
        password: Secret::new("made-up".to_owned()),
    };
    Outcome { rabbitmq: Some((serial, Ok(rabbitmq))), ..outcome }
}

/// The controller and what it has had done.
struct World {
    controller: Controller,
    now: Now,
    overview: Arc<Overview>,
    /// Objects of running passes that aren't reported yet.
    running: Vec<Work>,
    /// Of each running pass which aren't, by its number.
    passes: BTreeMap<u64, BTreeSet<ObjectKey>>,
    /// The objects of each pass that was started, as they were handed out.
    started: Vec<Vec<String>>,
    /// The lane in which each object was synced last.
    lanes: BTreeMap<String, Lane>,
    /// Statuses since they were last looked at, by uid.
    written: Vec<(String, Status)>,
    told: Vec<Notice>,
    secrets: Vec<String>,
    /// Whose Secrets are seen to no longer.
    left: Vec<String>,
    forgotten: Vec<String>,
    /// The clusters that are read.
    clusters: Vec<String>,
    /// To whom a connection is wanted.
    brokers: Vec<Arc<RabbitMq>>,
}

fn world() -> World {
    world_of(4)
}

fn world_of(workers: usize) -> World {
    world_with(workers, "false")
}

fn world_with(workers: usize, notifications: &str) -> World {
    let config = Config::read(|name: &str| match name {
        "KUBE_API_URL" => Some("http://kubernetes.test".to_owned()),
        "OPENSTACK_NOTIFICATIONS" => Some(notifications.to_owned()),
        _ => None,
    });
    let config = Arc::new(config.unwrap());
    let (ownership, overview) = (Arc::new(Ownership::default()), Arc::new(Overview::default()));
    let metrics = Arc::new(Metrics::default());
    let controller = Controller::new(config, workers, ownership, metrics, Arc::clone(&overview));
    World {
        controller,
        now: Now { uptime: seconds(1), wall: "2026-01-02T03:04:05Z".parse().unwrap() },
        overview,
        running: Vec::new(),
        passes: BTreeMap::new(),
        started: Vec::new(),
        lanes: BTreeMap::new(),
        written: Vec::new(),
        told: Vec::new(),
        secrets: Vec::new(),
        left: Vec::new(),
        forgotten: Vec::new(),
        clusters: Vec::new(),
        brokers: Vec::new(),
    }
}

impl World {
    fn event(&mut self, event: Event) {
        self.controller.handle(self.now, event);
        self.turn();
    }

    fn turn(&mut self) {
        for effect in self.controller.dispatch(self.now) {
            match effect {
                Effect::Start(pass) => {
                    let keys = pass.work.iter().map(|work| work.object.key.clone()).collect();
                    self.passes.insert(pass.number, keys);
                    let name = |work: &Work| work.object.key.name.clone();
                    self.started.push(pass.work.iter().map(name).collect());
                    for work in pass.work {
                        let key = &work.object.key;
                        self.lanes.insert(key.name.clone(), pass.lane);
                        let twice = self.running.iter().any(|other| other.object.key == *key);
                        assert!(!twice, "{key} is in two passes");
                        self.running.push(work);
                    }
                }
                Effect::WriteStatus(object, status) => {
                    assert!(!self.forgotten.contains(&object.uid), "{} is gone", object.uid);
                    self.written.push((object.uid.clone(), status));
                }
                Effect::WriteSecret(object, _) => self.secrets.push(object.uid.clone()),
                Effect::ForgetSecret(object) => self.left.push(object.uid.clone()),
                Effect::RecordEvent(_, notice) => self.told.push(notice),
                Effect::Forget(object) => self.forgotten.push(object.uid.clone()),
                Effect::ReadClusters(clusters) => {
                    self.clusters = clusters.into_iter().map(|cluster| cluster.name).collect();
                }
                Effect::Listen(broker) => self.brokers.push(broker),
                Effect::StopListening(broker) => {
                    self.brokers.retain(|known| !Arc::ptr_eq(known, &broker));
                }
            }
        }
    }

    fn wait(&mut self, wait: u64) {
        self.now = self.now.after(seconds(wait));
        self.turn();
    }

    /// Goes on to when the next thing is due by time.
    fn until_due(&mut self) {
        let due = self.controller.next_due().unwrap();
        self.now = self.now.after(due.saturating_sub(self.now.uptime));
        self.turn();
    }

    fn apply(&mut self, object: OpenstackConfig) {
        self.event(Event::Applied(Box::new(object)));
    }

    fn list(&mut self, objects: &[OpenstackConfig]) {
        self.event(Event::Listed { namespace: None, objects: objects.to_vec() });
    }

    fn delete(&mut self, object: &OpenstackConfig) {
        let (key, uid) = (object.key.clone(), object.uid.clone());
        self.event(Event::Deleted { key, uid });
    }

    fn secret_note(&mut self, name: &str, note: Option<&str>) {
        let note = note.map(|text| SecretNote { text: text.to_owned(), foreign: true });
        self.event(Event::SecretChecked { key: key(name), uid: format!("{name}-1"), note });
    }

    /// Names of the objects that are with a worker.
    fn syncing(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.running.iter().map(|job| job.object.key.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn take(&mut self, name: &str) -> Work {
        let place = self.running.iter().position(|job| job.object.key.name == name);
        self.running.remove(place.unwrap_or_else(|| panic!("{name} isn't being synced")))
    }

    /// The object is reconciled; the last one of a pass ends it. Gives what the pass had of it.
    fn finish(&mut self, name: &str, outcome: impl FnOnce(&Work) -> Outcome) -> Work {
        let work = self.report(name, outcome);
        let over: Vec<u64> =
            self.passes.iter().filter(|(_, left)| left.is_empty()).map(|(it, _)| *it).collect();
        for number in over {
            self.passes.remove(&number);
            self.event(Event::PassEnded { number });
        }
        work
    }

    /// The object is reconciled, and its pass goes on.
    fn report(&mut self, name: &str, outcome: impl FnOnce(&Work) -> Outcome) -> Work {
        let work = self.take(name);
        for left in self.passes.values_mut() {
            left.remove(&work.object.key);
        }
        let (outcome, took) = (Box::new(outcome(&work)), seconds(1));
        self.event(Event::Finished { work: Box::new(work.clone()), outcome, took });
        work
    }

    /// Has everything that is due synced without a change, until nobody is at work.
    fn settle(&mut self) {
        for _ in 0..100 + self.running.len() {
            let Some(job) = self.running.first() else { return };
            let name = job.object.key.name.clone();
            self.finish(&name, unchanged);
        }
        panic!("syncs never end: a hot loop");
    }

    fn last_status(&self) -> &Status {
        &self.written.last().unwrap().1
    }

    fn message(&self) -> &str {
        &self.last_status().condition("Ready").unwrap().message
    }
}

#[test]
fn a_new_object_is_synced_at_once_and_its_status_written() {
    let mut world = world();
    world.apply(object("a"));
    assert_eq!(world.syncing(), ["a"]);
    world.finish("a", synced);
    assert_eq!(world.lanes["a"], Lane::Fresh);
    let [(uid, status)] = world.written.as_slice() else { panic!("{:?}", world.written) };
    assert_eq!((uid.as_str(), status.nodes, status.observed_generation), ("a-1", Some(1), Some(1)));
    assert_eq!(status.condition("Ready").unwrap().reason, "Synced");
}

fn listed(namespace: &str, objects: &[OpenstackConfig]) -> Event {
    Event::Listed { namespace: Some(namespace.to_owned()), objects: objects.to_vec() }
}

#[test]
fn the_first_sync_waits_for_the_lists_of_all_namespaces() {
    let mut world = world();
    world.controller = world.controller.expecting(2, world.now);
    world.event(listed("default", &[object("a")]));
    assert!(world.syncing().is_empty());
    world.event(listed("team-b", &[]));
    assert_eq!(world.syncing(), ["a"]);
}

#[test]
fn a_namespace_that_cannot_be_listed_stops_the_others_for_ten_seconds_only() {
    let mut world = world();
    world.controller = world.controller.expecting(2, world.now);
    world.event(listed("default", &[object("a")]));
    let before = world.now.uptime;
    world.until_due();
    assert_eq!(world.syncing(), ["a"]);
    assert_eq!(world.now.uptime - before, seconds(10));
}

#[test]
fn the_first_passes_are_one_for_each_scope_with_the_oldest_objects_first() {
    let mut world = world();
    world.list(&[
        younger(object("a")),
        object("b"),
        younger(in_project("project-2", object("c"))),
        object("d"),
    ]);
    assert_eq!(world.started, [vec!["b", "d", "a"], vec!["c"]]);
    assert!(world.lanes.values().all(|lane| *lane == Lane::Fresh));
}

#[test]
fn what_is_due_together_is_polled_together_and_what_failed_is_retried_apart() {
    let mut world = world();
    world.list(&[object("a"), object("b"), object("c"), object("d")]);
    for (name, outcome) in
        [("a", unchanged as fn(&Work) -> Outcome), ("b", down), ("c", unchanged), ("d", down)]
    {
        world.finish(name, outcome);
    }
    world.until_due();
    assert_eq!(
        (world.started.last().unwrap(), world.lanes["b"]),
        (&names(&["b", "d"]), Lane::Retry)
    );
    world.until_due();
    assert_eq!(
        (world.started.last().unwrap(), world.lanes["a"]),
        (&names(&["a", "c"]), Lane::Poll)
    );
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_new_object_is_reconciled_at_once_during_a_slow_poll_of_a_thousand() {
    let mut world = world_of(2);
    let many: Vec<OpenstackConfig> =
        (0..1_000).map(|number| object(&format!("object-{number:03}"))).collect();
    world.list(&many);
    world.settle();
    world.until_due();
    assert_eq!((world.running.len(), world.passes.len()), (1_000, 1));
    world.apply(object("new"));
    assert_eq!(world.started.last().unwrap(), &["new"]);
    // And so is one of the thousand as soon as its part of the poll is over.
    world.finish("new", synced);
    world.report("object-500", unchanged);
    world.apply(generation(2, object("object-500")));
    assert_eq!(world.started.last().unwrap(), &["object-500"]);
    assert_eq!(world.finish("object-500", synced).object.generation, 2);
}

#[test]
fn a_spec_changed_in_the_middle_of_a_pass_is_looked_at_once_its_old_one_is_reported() {
    let mut world = world();
    world.list(&[object("a"), object("b")]);
    world.wait(1);
    world.apply(generation(2, object("a")));
    assert_eq!(world.passes.len(), 1, "it is in one pass at most");
    world.report("a", synced);
    assert_eq!(world.last_status().observed_generation, Some(1));
    assert_eq!(
        (world.passes.len(), world.started.last().unwrap().as_slice()),
        (2, &["a".to_owned()][..])
    );
    world.finish("a", synced);
    assert_eq!(world.last_status().observed_generation, Some(2));
    assert_eq!(world.syncing(), ["b"], "the old pass goes on");
}

fn later(work: &Work) -> Outcome {
    Outcome { later: true, ..unchanged(work) }
}

#[test]
fn an_object_that_another_pass_is_in_the_way_of_comes_again_when_a_pass_ends() {
    let mut world = world();
    world.list(&[object("a"), in_project("project-2", object("b"))]);
    world.finish("b", later);
    assert!(world.written.is_empty() && world.told.is_empty(), "nothing is said of it");
    assert_eq!(world.syncing(), ["a"], "it doesn't wake itself");
    world.finish("a", synced);
    assert_eq!((world.syncing(), world.lanes["b"]), (vec!["b"], Lane::Fresh));
    world.finish("b", unchanged);
    world.delete(&object("a"));
    world.until_due();
    world.finish("b", later);
    let before = world.now.uptime;
    world.until_due();
    assert_eq!((world.syncing(), world.lanes["b"]), (vec!["b"], Lane::Poll));
    assert_eq!(world.now.uptime - before, seconds(1), "if none ends, after a second");
}

#[test]
fn objects_that_stand_in_no_ones_way_do_not_wake_each_other_again_and_again() {
    let mut world = world();
    world.list(&[object("a"), in_project("project-2", object("b"))]);
    for _ in 0..3 {
        world.finish("a", later);
        world.finish("b", later);
        assert!(world.running.is_empty());
        world.until_due();
        assert_eq!(world.syncing(), ["a", "b"]);
    }
}

#[test]
fn what_was_sent_before_another_pass_was_in_the_way_counts() {
    let retry = crate::resources::DownPortRetry {
        hash: "h".to_owned(),
        last_attempt: "2026-01-02T03:04:00Z".parse().unwrap(),
        fast_attempts: 1,
    };
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |work| {
        let outcome = Outcome { down_port_retry: Some(retry.clone()), later: true, ..synced(work) };
        with_rabbitmq(1, outcome)
    });
    assert_eq!((world.written.len(), world.secrets.len()), (0, 1));
    world.until_due();
    let work = world.finish("a", |work| with_rabbitmq(1, unchanged(work)));
    assert_eq!(work.down_port_retry, Some(retry.clone()));
    assert_eq!(world.last_status().down_port_retry, Some(retry));
    assert_eq!(world.secrets.len(), 1);
    let before = world.now.uptime;
    world.until_due();
    assert!(world.now.uptime - before <= seconds(22), "a change makes the polls fast");
}

#[test]
fn our_own_status_write_wakes_nobody() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", synced);
    let status = world.last_status().clone();
    world.apply(OpenstackConfig { status, ..object("a") });
    world.list(&[object("a")]);
    assert!(world.running.is_empty());
    world.apply(OpenstackConfig { status: Status::default(), ..object("a") });
    assert!(world.running.is_empty());
}

#[test]
fn a_change_of_the_spec_or_of_the_annotation_wakes_at_once() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", unchanged);
    world.apply(generation(2, object("a")));
    assert_eq!(world.finish("a", unchanged).resend_accepted_until, None);
    world.apply(forced("now", generation(2, object("a"))));
    let asked_at = world.now.wall;
    assert_eq!(world.finish("a", unchanged).resend_accepted_until, Some(asked_at));
    world.apply(generation(2, object("a")));
    assert_eq!(world.syncing(), ["a"], "taking the annotation away changes its value too");
}

#[test]
fn an_annotation_found_at_the_start_is_no_change() {
    let mut world = world();
    world.apply(forced("yesterday", object("a")));
    assert_eq!(world.finish("a", unchanged).resend_accepted_until, None);
}

#[test]
fn an_object_being_deleted_is_gone_and_comes_back_as_another_one_only() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", synced);
    world.apply(OpenstackConfig { being_deleted: true, ..generation(2, object("a")) });
    world.wait(1_000);
    assert!(world.running.is_empty());
    assert_eq!(world.forgotten, ["a-1"]);
    world.apply(OpenstackConfig { uid: "a-2".to_owned(), ..object("a") });
    assert_eq!(world.syncing(), ["a"]);
}

#[test]
fn events_during_a_sync_make_the_object_due_again_once() {
    let mut world = world();
    world.apply(object("a"));
    for number in 2..6 {
        world.apply(generation(number, object("a")));
    }
    assert_eq!(world.syncing(), ["a"]);
    world.finish("a", synced);
    let job = world.finish("a", synced);
    assert_eq!((job.object.generation, world.lanes["a"]), (5, Lane::Fresh));
    assert!(world.running.is_empty());
}

#[test]
fn the_status_speaks_of_the_generation_that_was_synced() {
    let mut world = world();
    world.apply(object("a"));
    world.apply(generation(2, object("a")));
    world.finish("a", synced);
    assert_eq!(world.last_status().observed_generation, Some(1));
    world.finish("a", synced);
    assert_eq!(world.last_status().observed_generation, Some(2));
}

#[test]
fn what_a_list_no_longer_shows_is_gone_in_its_scope_alone() {
    let mut world = world();
    let other = ObjectKey { namespace: "other".to_owned(), name: "c".to_owned() };
    world.list(&[object("a"), object("b"), OpenstackConfig { key: other, ..object("c") }]);
    world.settle();
    let scope = Some("default".to_owned());
    assert_eq!(world.controller.lists_received(), 1);
    world.event(Event::Listed { namespace: scope.clone(), objects: vec![object("b")] });
    assert_eq!(world.controller.lists_received(), 2);
    world.event(Event::Listed { namespace: scope, objects: vec![object("b")] });
    assert_eq!(world.controller.lists_received(), 2, "listed anew");
    assert_eq!(world.forgotten, ["a-1"]);
    world.wait(1_000);
    assert_eq!(world.syncing(), ["b", "c"]);
}

#[test]
fn a_list_that_shows_a_successor_forgets_the_predecessor() {
    let mut world = world();
    world.list(&[object("a")]);
    world.settle();
    world.list(&[OpenstackConfig { uid: "a-2".to_owned(), ..object("a") }]);
    assert_eq!(world.forgotten, ["a-1"]);
    assert_eq!(world.finish("a", synced).object.uid, "a-2");
}

#[test]
fn a_successor_waits_for_its_predecessors_sync_and_gets_nothing_of_its_result() {
    let mut world = world();
    world.apply(object("a"));
    world.delete(&object("a"));
    world.apply(OpenstackConfig { uid: "a-2".to_owned(), ..object("a") });
    assert_eq!(world.running.len(), 1);
    world.finish("a", synced);
    assert!(world.written.is_empty(), "{:?}", world.written);
    assert_eq!(world.finish("a", synced).object.uid, "a-2");
    assert_eq!(world.written[0].0, "a-2");
}

#[test]
fn an_object_deleted_during_its_sync_is_spoken_of_no_more() {
    let mut world = world();
    world.apply(object("a"));
    world.delete(&object("a"));
    world.finish("a", |job| with_rabbitmq(1, synced(job)));
    world.wait(1_000);
    assert!(world.written.is_empty() && world.told.is_empty() && world.secrets.is_empty());
    assert!(world.running.is_empty());
    assert_eq!(world.overview.all(), []);
}

#[test]
fn a_late_word_of_a_predecessors_end_does_not_touch_the_successor() {
    let mut world = world();
    world.apply(object("a"));
    world.settle();
    let successor = OpenstackConfig { uid: "a-2".to_owned(), ..object("a") };
    world.apply(successor.clone());
    world.settle();
    world.delete(&object("a"));
    world.wait(1_000);
    assert_eq!(world.syncing(), ["a"]);
    assert_eq!(world.forgotten, ["a-1"]);
}

#[test]
fn a_force_survives_failed_syncs_until_everything_was_accepted() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", synced);
    world.apply(forced("now", object("a")));
    let asked_at = Some(world.now.wall);
    assert_eq!(world.finish("a", down).resend_accepted_until, asked_at);
    world.until_due();
    let half = |job: &Work| Outcome { nodes: Some(2), sent: sent(), ..down(job) };
    assert_eq!(world.finish("a", half).resend_accepted_until, asked_at);
    world.until_due();
    assert_eq!(world.finish("a", unchanged).resend_accepted_until, asked_at);
    world.until_due();
    assert_eq!(world.finish("a", unchanged).resend_accepted_until, None);
}

#[test]
fn a_force_during_a_sync_counts_for_the_next_one() {
    let mut world = world();
    world.apply(object("a"));
    world.wait(3);
    world.apply(forced("now", object("a")));
    let asked_at = Some(world.now.wall);
    assert_eq!(world.finish("a", synced).resend_accepted_until, None);
    assert_eq!(world.finish("a", synced).resend_accepted_until, asked_at);
}

/// Two objects of one cloud that want the same node: the older one has it.
fn young_behind_old() -> World {
    let mut world = world();
    world.list(&[object("old"), younger(object("young"))]);
    world.finish("old", synced);
    world.finish("young", conflict);
    world
}

#[test]
fn a_younger_object_is_woken_when_the_older_one_goes() {
    let mut world = young_behind_old();
    world.wait(1);
    assert!(world.running.is_empty());
    world.delete(&object("old"));
    assert_eq!(world.syncing(), ["young"]);
}

#[test]
fn a_younger_object_is_woken_when_the_older_one_loses_nodes() {
    let mut world = young_behind_old();
    world.apply(generation(2, object("old")));
    world.finish("young", conflict);
    world.finish("old", |job| Outcome { nodes: Some(0), ..unchanged(job) });
    assert_eq!(world.syncing(), ["young"]);
}

#[test]
fn a_younger_object_is_not_woken_when_the_older_one_fails() {
    let mut world = young_behind_old();
    world.apply(generation(2, object("old")));
    world.finish("young", conflict);
    world.finish("old", down);
    assert!(world.syncing().is_empty(), "{:?}", world.syncing());
}

#[test]
fn a_younger_object_is_woken_when_the_older_one_moves_to_another_cloud() {
    let mut world = young_behind_old();
    world.apply(generation(2, in_cloud("elsewhere", object("old"))));
    assert_eq!(world.syncing(), ["old", "young"]);
}

#[test]
fn a_younger_object_of_another_cloud_is_woken_too_for_both_may_send_to_one_cluster() {
    let mut world = world();
    world.list(&[object("old"), younger(in_cloud("elsewhere", object("young")))]);
    world.finish("old", synced);
    world.finish("young", conflict);
    world.delete(&object("old"));
    assert_eq!(world.syncing(), ["young"]);
}

#[test]
fn an_object_that_another_pass_was_in_the_way_of_is_due_when_the_older_object_goes() {
    let mut world = world();
    world.apply(object("old"));
    world.wait(1);
    world.apply(younger(object("young")));
    world.finish("young", later);
    world.now = world.now.after(Duration::from_millis(500));
    world.delete(&object("old"));
    assert_eq!(world.syncing(), ["old", "young"], "the pass of the deleted object still runs");
}

#[test]
fn the_secret_is_looked_after_once_for_each_answer_of_the_provider() {
    let mut world = world();
    world.apply(object("a"));
    let mut ensured = Vec::new();
    for serial in [1, 1, 2, 2] {
        world.finish("a", |job| with_rabbitmq(serial, unchanged(job)));
        ensured.push(world.secrets.len());
        world.until_due();
    }
    assert_eq!(ensured, [1, 1, 2, 2]);
}

#[test]
fn another_clouds_answer_is_another_answer_although_it_has_the_same_serial() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |job| with_rabbitmq(1, unchanged(job)));
    world.apply(generation(2, in_cloud("elsewhere", object("a"))));
    world.finish("a", |job| with_rabbitmq(1, unchanged(job)));
    assert_eq!(world.secrets.len(), 2);
}

#[test]
fn a_force_has_the_secret_looked_after_too() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |job| with_rabbitmq(1, unchanged(job)));
    world.apply(forced("now", object("a")));
    world.finish("a", |job| with_rabbitmq(1, unchanged(job)));
    assert_eq!(world.secrets.len(), 2);
}

#[test]
fn events_are_told_on_transitions_and_for_what_was_sent() {
    type Step = (fn(&Work) -> Outcome, &'static [&'static str]);
    let mut world = world();
    world.apply(object("a"));
    let outcomes: [Step; 9] = [
        (synced, &["NodesSent"]),
        (down, &["KeystoneError"]),
        (down, &[]),
        (conflict, &["NodeConflict"]),
        (down, &["KeystoneError"]),
        (unchanged, &["Synced"]),
        (unchanged, &[]),
        (synced, &["NodesSent"]),
        (down, &["KeystoneError"]),
    ];
    for (outcome, expected) in outcomes {
        world.finish("a", outcome);
        let told: Vec<&str> = world.told.iter().map(|notice| notice.reason).collect();
        assert_eq!(told, expected);
        assert!(
            world.told.iter().all(|one| one.warning
                == (one.reason.ends_with("Error") || one.reason == "NodeConflict"))
        );
        world.told.clear();
        world.until_due();
    }
}

#[test]
fn equal_sends_have_equal_texts_and_a_pass_that_is_not_over_tells_what_it_sent() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |job| Outcome { later: true, ..synced(job) });
    world.until_due();
    world.finish("a", synced);
    let text = "1 node accepted by provider-1: worker-1";
    let told: Vec<&str> = world.told.iter().map(|one| one.note.as_str()).collect();
    assert_eq!(told, [text, text]);
}

#[test]
fn a_restart_tells_nothing_that_was_told_before() {
    let mut before = world();
    before.apply(object("a"));
    before.finish("a", down);
    let status = before.last_status().clone();
    let mut after = world();
    after.apply(OpenstackConfig { status, ..object("a") });
    after.finish("a", down);
    assert_eq!(after.told, []);
    assert!(after.written.is_empty(), "an equal failure is an equal status");
}

#[test]
fn more_ports_over_the_limit_are_told_once() {
    let mut world = world();
    world.apply(object("a"));
    let mut told = Vec::new();
    for over_limit in [2, 2, 3, 0, 1] {
        world.finish("a", |job| Outcome { over_limit, ..unchanged(job) });
        told.push(world.told.drain(..).map(|notice| notice.reason).collect::<Vec<_>>().len());
        world.until_due();
    }
    assert_eq!(told, [1, 0, 1, 0, 1]);
}

#[test]
fn a_secret_of_somebody_elses_is_noted_in_the_status_until_it_is_gone() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |job| with_rabbitmq(1, synced(job)));
    let synced_at = world.last_status().last_synced_at.clone();
    world.wait(5);
    world.secret_note("a", Some("Secret rabbitmq-a belongs to somebody else"));
    let noted = "synced 1 node; note: Secret rabbitmq-a belongs to somebody else";
    assert_eq!(world.message(), noted);
    assert_eq!(world.last_status().last_synced_at, synced_at, "no sync has ended");
    let told: Vec<&str> = world.told.iter().map(|one| one.reason).collect();
    assert_eq!(told, ["NodesSent", "ForeignSecret"]);
    world.until_due();
    world.finish("a", |job| with_rabbitmq(1, unchanged(job)));
    assert!(world.message().contains("note: Secret rabbitmq-a"), "{}", world.message());
    world.secret_note("a", None);
    assert_eq!(world.message(), "1 node unchanged");
    assert_eq!(world.last_status().condition("Degraded").unwrap().status, "False");
    assert_eq!(world.told.len(), 2);
}

#[test]
fn a_note_about_the_secret_ends_when_the_provider_has_no_rabbitmq_any_more() {
    let taken = Some("Secret rabbitmq-a belongs to somebody else");
    let noted = "1 node unchanged; note: Secret rabbitmq-a belongs to somebody else";
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |job| with_rabbitmq(1, unchanged(job)));
    world.secret_note("a", taken);
    world.until_due();
    world.finish("a", down);
    assert!(world.message().contains("note: Secret"), "nobody knows better: {}", world.message());
    assert!(world.left.is_empty());
    world.until_due();
    world.finish("a", unchanged);
    assert_eq!(world.message(), "1 node unchanged");
    assert_eq!(world.left, ["a-1"]);
    // The end of a write that was under way.
    world.secret_note("a", taken);
    assert_eq!(world.message(), "1 node unchanged");
    world.until_due();
    world.finish("a", unchanged);
    assert_eq!(world.left.len(), 1, "it is left once");
    world.until_due();
    world.finish("a", |job| with_rabbitmq(1, unchanged(job)));
    assert_eq!(world.secrets.len(), 2, "it is seen to anew");
    world.secret_note("a", taken);
    assert_eq!(world.message(), noted);
}

#[test]
fn a_note_about_a_predecessors_secret_is_not_the_successors() {
    let mut world = world();
    world.apply(OpenstackConfig { uid: "a-2".to_owned(), ..object("a") });
    world.finish("a", synced);
    world.secret_note("a", Some("Secret rabbitmq-a belongs to somebody else"));
    assert_eq!(world.message(), "synced 1 node");
}

#[test]
fn access_to_rabbitmq_that_cannot_be_used_is_noted_until_it_can_or_is_taken_away() {
    let broken = |serial, job: &Work| {
        let problem = Err("the RabbitMQ password can't be decrypted".to_owned());
        Outcome { rabbitmq: Some((serial, problem)), ..unchanged(job) }
    };
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |job| broken(1, job));
    assert!(world.message().contains("can't be decrypted"));
    world.until_due();
    world.finish("a", |job| with_rabbitmq(2, unchanged(job)));
    assert_eq!(world.message(), "1 node unchanged");
    world.until_due();
    world.finish("a", |job| broken(3, job));
    world.until_due();
    world.finish("a", down);
    assert!(world.message().contains("can't be decrypted"), "nobody knows better");
    world.until_due();
    world.finish("a", unchanged);
    assert_eq!(world.message(), "1 node unchanged");
}

#[test]
fn a_status_is_not_written_when_nothing_changed() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", down);
    assert_eq!(world.written.len(), 1);
    for _ in 0..5 {
        world.until_due();
        world.finish("a", down);
    }
    assert_eq!(world.written.len(), 1);
}

#[test]
fn a_sync_that_was_aborted_says_nothing() {
    let mut world = world();
    world.apply(forced("now", object("a")));
    world.finish("a", |job| Outcome { aborted: true, ..down(job) });
    assert!(world.written.is_empty() && world.told.is_empty());
    world.wait(31);
    assert_eq!(world.syncing(), ["a"]);
}

#[test]
fn an_object_with_intervals_of_its_own_is_polled_by_them() {
    let due_after = |settings: &[(&'static str, &str)], outcome: fn(&Work) -> Outcome| {
        let (mut world, mut object) = (world(), object("a"));
        let text =
            |(name, text): &(&'static str, &str)| (*name, SettingValue::Text((*text).to_owned()));
        object.spec.as_mut().unwrap().settings = Arc::new(settings.iter().map(text).collect());
        world.apply(object);
        world.finish("a", outcome);
        (world.controller.next_due().unwrap() - world.now.uptime).as_secs_f64()
    };
    let failed: fn(&Work) -> Outcome = |work| Outcome::failed(work, Reason::ConfigError, "no");
    for (settings, outcome, seconds) in [
        (("pollSlowInterval", "30s"), unchanged as fn(&Work) -> Outcome, 30.0),
        (("pollFastInterval", "10s"), synced, 10.0),
        (("pollFastWindow", "0s"), synced, 120.0),
        (("pollErrorInterval", "5s"), failed, 5.0),
        // An interval that can't be used leaves the environment's.
        (("pollErrorInterval", "1ms"), failed, 30.0),
    ] {
        let due = due_after(&[settings], outcome);
        // A poll counts from the beginning of the pass, a second before.
        assert!((seconds - 1.0..=seconds * 1.1).contains(&due), "{settings:?}: {due}");
    }
}

#[test]
fn polls_come_fast_after_a_change_then_slowly_and_after_an_error_in_between() {
    let mut world = world();
    world.apply(object("a"));
    let mut waited = |outcome: fn(&Work) -> Outcome| {
        world.finish("a", outcome);
        let before = world.now.uptime;
        world.until_due();
        (world.now.uptime - before).as_secs()
    };
    // A pass takes a second, and polls count from its beginning.
    assert!((19..=21).contains(&waited(synced)));
    assert!((30..=33).contains(&waited(down)));
    assert!((19..=21).contains(&waited(unchanged)));
    for _ in 0..6 {
        waited(unchanged);
    }
    assert!((119..=131).contains(&waited(unchanged)));
}

#[test]
fn the_state_of_resends_goes_from_the_status_into_the_job() {
    let retry = crate::resources::DownPortRetry {
        hash: "h".to_owned(),
        last_attempt: "2026-01-02T03:04:00Z".parse().unwrap(),
        fast_attempts: 3,
    };
    let status = Status { down_port_retry: Some(retry.clone()), ..Status::default() };
    let mut world = world();
    world.apply(OpenstackConfig { status, ..object("a") });
    let job = world.finish("a", down);
    assert_eq!(job.down_port_retry.as_ref(), Some(&retry));
    assert_eq!(world.last_status().down_port_retry, Some(retry), "a failure leaves it");
    world.until_due();
    world.finish("a", |job| Outcome { down_port_retry: None, ..unchanged(job) });
    assert_eq!(world.last_status().down_port_retry, None);
}

#[test]
fn the_status_is_the_coordinators_own_word_whatever_it_sees_written() {
    let seen = |nodes| {
        let mut object = object("a");
        (object.status.nodes, object.status.observed_generation) = (Some(nodes), Some(1));
        object
    };
    let mut world = world();
    world.apply(seen(7));
    world.finish("a", down);
    assert_eq!(world.last_status().nodes, Some(7), "it goes on from what it finds");
    world.apply(seen(9));
    world.wait(1_000);
    world.finish("a", synced);
    assert_eq!(world.last_status().nodes, Some(1));
    world.apply(seen(9));
    world.wait(1_000);
    world.finish("a", down);
    assert_eq!(world.last_status().nodes, Some(1));
}

#[test]
fn a_status_that_others_edited_is_put_right_after_the_next_pass() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", down);
    let ours = world.last_status().clone();
    let mut edited = ours.clone();
    edited.conditions[0].status = "True".to_owned();
    edited.conditions[0].last_transition_time = "2020-01-01T00:00:00Z".to_owned();
    world.apply(OpenstackConfig { status: edited, ..object("a") });
    assert_eq!((world.written.len(), world.running.len()), (1, 0), "it wakes no one");
    world.until_due();
    world.finish("a", down);
    assert_eq!((world.written.len(), world.last_status()), (2, &ours));
    // Ours comes back, or doesn't: it is written once.
    for _ in 0..3 {
        world.until_due();
        world.finish("a", down);
        world.apply(OpenstackConfig { status: ours.clone(), ..object("a") });
    }
    assert_eq!(world.written.len(), 2);
}

#[test]
fn an_older_status_of_ours_that_the_watch_shows_late_is_no_edit() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", down);
    world.until_due();
    world.finish("a", conflict);
    for (_, status) in world.written.clone() {
        world.apply(OpenstackConfig { status, ..object("a") });
    }
    world.until_due();
    world.finish("a", conflict);
    assert_eq!(world.written.len(), 2);
}

#[test]
fn once_stopping_nothing_is_started_and_what_ends_is_still_told() {
    let mut world = world();
    world.apply(object("a"));
    world.controller.stop();
    world.apply(object("b"));
    assert!(world.controller.is_busy());
    world.finish("a", synced);
    assert_eq!(world.written.len(), 1);
    world.wait(1_000);
    assert!(world.running.is_empty() && !world.controller.is_busy());
}

/// Twenty objects of three clouds, some with common VMs, under thousands of random events. What
/// must hold at every moment is asserted by [`World::turn`] and here; that every object gets its
/// turn, at the end.
#[test]
fn under_random_events_no_object_is_lost_or_synced_twice_at_once() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = world_of(3);
        let mut alive: BTreeMap<String, OpenstackConfig> = BTreeMap::new();
        let mut lives = 0;
        for _ in 0..4_000 {
            let name = format!("object-{:02}", random.u8(..20));
            match random.u8(..12) {
                0 | 1 => {
                    let known = alive.get(&name).cloned();
                    let next = known.map(|known| generation(known.generation + 1, known));
                    let next = next.unwrap_or_else(|| {
                        lives += 1;
                        let fresh =
                            OpenstackConfig { uid: format!("life-{lives}"), ..object(&name) };
                        with_vms(&[&format!("vm-{}", random.u8(..8))], fresh)
                    });
                    let next = in_cloud(&format!("cloud-{}", random.u8(..3)), next);
                    alive.insert(name, next.clone());
                    world.apply(next);
                }
                2 => {
                    if let Some(known) = alive.get_mut(&name) {
                        known.force = Some(random.u8(..).to_string());
                        let known = known.clone();
                        world.apply(known);
                    }
                }
                3 => {
                    if let Some(gone) = alive.remove(&name) {
                        world.delete(&gone);
                    }
                }
                4 => {
                    alive.retain(|_, _| random.u8(..20) > 0);
                    let objects: Vec<OpenstackConfig> = alive.values().cloned().collect();
                    world.list(&objects);
                }
                5 | 6 => world.wait(random.u64(..40)),
                _ if !world.running.is_empty() => {
                    let place = random.usize(..world.running.len());
                    let name = world.running[place].object.key.name.clone();
                    let outcome: fn(&Work) -> Outcome = random
                        .choice([synced as fn(&Work) -> Outcome, unchanged, down, conflict])
                        .unwrap();
                    world.finish(&name, outcome);
                }
                _ => {}
            }
            assert!(world.passes.len() <= 3);
            let shown: BTreeSet<String> =
                world.overview.all().into_iter().map(|shown| shown.name).collect();
            assert_eq!(shown, alive.keys().cloned().collect(), "seed {seed}");
        }
        // Left alone, every object is synced within one slow interval and its jitter.
        let mut unsynced: BTreeSet<String> =
            alive.values().map(|object| object.uid.clone()).collect();
        let end = world.now.uptime + seconds(140);
        while world.now.uptime < end {
            while let Some(job) = world.running.first() {
                let name = job.object.key.name.clone();
                let job = world.finish(&name, unchanged);
                let known = alive.get(&name).is_some_and(|known| known.uid == job.object.uid);
                if known && alive[&name].generation == job.object.generation {
                    unsynced.remove(&job.object.uid);
                }
            }
            world.wait(1);
        }
        assert!(unsynced.is_empty(), "seed {seed}: never synced: {unsynced:?}");
    }
}
