//! `multinic-operator plan`: what would be sent for one object, and why. Sends and writes nothing.
//!
//! A dry run: [`crate::reconcile`] reconciles the object with a target that only notes what it is
//! given and a store that writes no file, so that what is shown is what the operator would send.
//! Older objects that name the same VMs go first, as they do when the operator starts. What only a
//! running operator knows (deliveries that weren't confirmed, since when ports are BUILD) is missing.

mod file;
mod text;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::to_raw_value;

use crate::clock::Clock;
use crate::cloud::Clouds;
use crate::cloud::object_secrets::ObjectSecrets;
use crate::config::{Config, Settings};
use crate::export_import;
use crate::http::client::Clients;
use crate::inventory::backend::Opened;
use crate::inventory::contents::Inventory;
use crate::inventory::store::Store;
use crate::kube::client::KubeClient;
use crate::kube::objects::RawObject;
use crate::kube::secret_reader;
use crate::listing;
use crate::metrics::Metrics;
use crate::node_config::NodeConfig;
use crate::reconcile::memory::{self, Memory};
use crate::reconcile::ownership::{Age, Ownership};
use crate::reconcile::removals::{self, Hold};
use crate::reconcile::report::{Ready, count, memory_lost};
use crate::reconcile::{Context, Lane, Observer, Outcome, Pass, Scope, Sending, Work, dry_run};
use crate::resources::{
    APPROVE_ANNOTATION, ClusterRef, Destination, FORCE_ANNOTATION, ObjectKey, OpenstackConfig, Spec,
};
use crate::targets::cluster::Clusters;
use crate::targets::viola::bodies;
use crate::targets::{ClusterIds, Delivery, ObjectNodes, Rules, Target, Targets, cluster};
use crate::threads::lock;

/// Whose plan is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An object as it is.
    Object(ObjectKey),
    /// An object as it would be once this file was applied; `-` is standard input.
    File(PathBuf),
}

/// A plan to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The plan itself: text for people, or the bodies of the requests.
    pub output: String,
    /// What must be known beside the bodies, a line each; as text the plan says it itself.
    pub notes: Vec<String>,
}

type Found = (Vec<Arc<OpenstackConfig>>, Arc<OpenstackConfig>, Option<Timestamp>);

/// Makes the plan of one object, to be shown: as text, or only the bodies of the requests.
///
/// # Errors
/// Why there is none. Where a pass of the operator would end early too, the words are those of the
/// object's status.
pub fn run(config: &Config, subject: &Subject, json: bool) -> Result<Shown, String> {
    let (clock, metrics) = (Clock::system(), Arc::new(Metrics::default()));
    let client = KubeClient::new(config.kubernetes.clone(), clock.clone(), Arc::clone(&metrics));
    let (objects, object, forced_at) = find(config, &client, subject, clock.now().wall)?;
    let mut notes = Vec::new();
    let (inventory, memory) = recall(config, &client, &clock, &mut notes);
    let shared = Arc::new(config.clone());
    let clusters = Clusters::new(&shared, &client, clock.clone(), &metrics);
    let targets = Targets::new(config, &Clients::new(&metrics), Arc::new(clusters));
    let noted = Arc::new(Noted {
        targets,
        namespace: config.delivery.namespace.clone(),
        bodies: Mutex::default(),
    });
    let target = Arc::clone(&noted) as Arc<dyn Target>;
    let secrets = ObjectSecrets::new(clock.clone(), secret_reader::by_name(&client));
    let context = context(config, secrets, inventory, target, clock, metrics);
    objects.iter().for_each(|object| context.ownership.know(object));
    for older in older_of(&object, &objects) {
        let Outcome { nodes, ready, .. } = pass(&context, older, None, &|_, _| {})?;
        if nodes.is_none() {
            let key = &older.key;
            let known =
                format!("nodes of the older OpenstackConfig {key} are known by the inventory");
            notes.push(format!("{known} only: {}: {}", ready.reason.name(), ready.message));
        }
    }
    lock(&noted.bodies).clear();
    let nodes = Mutex::new(String::new());
    let observer = |sending: &Sending<'_>, inventory: &Inventory| {
        let statuses = sending.object.settings.openstack.port_statuses.as_deref();
        let head = [("object", described(&object, subject)), ("inventory", memory.clone())];
        *lock(&nodes) = text::nodes(head, sending, inventory, statuses);
    };
    let mut outcome = pass(&context, &object, forced_at, &observer)?;
    let may_renumber =
        config.inventory.renumber_lost || memory::is_approved(&object, &object.status);
    if outcome.memory == Memory::Renumbered && !may_renumber {
        outcome.ready = memory_lost(&object);
        notes.push("held: the operator sends none of this before it is approved".to_owned());
    }
    notes.extend(sends_nothing(&object, subject, outcome.hold.as_ref()));
    let Ready { reason, message } = &outcome.ready;
    let ready = if reason.is_success() { "True" } else { "False" };
    let status = format!("Ready={ready}, {}: {message}", reason.name());
    if outcome.nodes.is_none() {
        return Err(status);
    }
    notes.extend(outcome.remembered);
    if json {
        return Ok(Shown { output: lock(&noted.bodies).concat(), notes });
    }
    let (nodes, notes) = (lock(&nodes), text::section("note:", &notes));
    let by_kubernetes = object.spec.as_ref().is_ok_and(|spec| spec.destination.is_kubernetes());
    let target = if by_kubernetes { "the cluster" } else { "Viola" };
    let output = format!("{nodes}{notes}\nstatus, should {target} accept: {status}\n");
    Ok(Shown { output, notes: Vec::new() })
}

/// What a person who looks at the plan of the object must know or do before it is sent.
fn sends_nothing(
    object: &OpenstackConfig,
    subject: &Subject,
    hold: Option<&Hold>,
) -> impl Iterator<Item = String> {
    let paused = "paused: the operator sends none of this while spec.paused is true";
    let paused = object.is_paused().then(|| paused.to_owned());
    let of_file = matches!(subject, Subject::File(_));
    let hold = hold.filter(|hold| of_file && !hold.is_approved).map(|hold| {
        // Without quotes, YAML takes some hashes for numbers.
        let approval = format!("{APPROVE_ANNOTATION}: \"{}\"", hold.hash);
        format!("to approve it with the file, add to its metadata.annotations: {approval}")
    });
    paused.into_iter().chain(hold)
}

fn described(object: &OpenstackConfig, subject: &Subject) -> String {
    match subject {
        Subject::Object(key) => key.to_string(),
        Subject::File(path) => format!("{}, once {} is applied", object.key, file::shown(path)),
    }
}

/// All objects that the operator sees, the one that is meant, and when that was forced.
fn find(
    config: &Config,
    client: &KubeClient,
    subject: &Subject,
    now: Timestamp,
) -> Result<Found, String> {
    let (key, file) = match subject {
        Subject::Object(key) => (key.clone(), None),
        Subject::File(path) => {
            let (key, object) = file::read(path)?;
            (key, Some(object))
        }
    };
    let mut raw = Vec::new();
    for namespace in config.watch_scopes() {
        raw.extend(listing::objects(client, namespace).map_err(|error| error.to_string())?);
    }
    let is_watched =
        config.watch_scopes().iter().any(|scope| scope.is_none_or(|it| it == key.namespace));
    let forced_now = match file.filter(|_| is_watched) {
        Some(file) => apply(&mut raw, &key, &file, now)?,
        None => false,
    };
    let objects = raw.iter().map(|raw| Arc::new(OpenstackConfig::from_raw(raw, &config.delivery)));
    let objects: Vec<_> = objects.filter(|object| !object.being_deleted).collect();
    let object = objects.iter().find(|object| object.key == key).ok_or_else(|| {
        let watched = match config.watch_namespaces.join(", ") {
            names if names.is_empty() => names,
            names => format!(" (WATCH_NAMESPACES names {names})"),
        };
        format!("OpenstackConfig {key} doesn't exist, or is being deleted{watched}")
    })?;
    let object = Arc::clone(object);
    let forced_at = raw.iter().find(|raw| raw.metadata.uid == object.uid).and_then(forced_at);
    Ok((objects, object, if forced_now { Some(now) } else { forced_at }))
}

/// Applies a file to the objects of the cluster. Does that set the force annotation?
fn apply(
    raw: &mut Vec<RawObject>,
    key: &ObjectKey,
    file: &Value,
    now: Timestamp,
) -> Result<bool, String> {
    let names = |raw: &RawObject| {
        (&raw.metadata.namespace, &raw.metadata.name) == (&key.namespace, &key.name)
    };
    let live = raw.iter().position(names).map(|at| raw.swap_remove(at));
    let body = live.as_ref().map(RawObject::parse).transpose();
    let body = body.map_err(|error| format!("OpenstackConfig {key}: {error}"))?;
    let applied = to_raw_value(&file::apply(body, file, now)).map_err(|e| e.to_string())?;
    let applied = RawObject::read(&applied)?;
    let force = |raw: &RawObject| raw.metadata.annotations.get(FORCE_ANNOTATION).cloned();
    let forced = force(&applied);
    let is_forced = forced.is_some() && forced != live.as_ref().and_then(force);
    raw.push(applied);
    Ok(is_forced)
}

fn context(
    config: &Config,
    secrets: ObjectSecrets,
    inventory: Inventory,
    target: Arc<dyn Target>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> Context {
    let (mut config, mut settings) = (config.clone(), Settings::clone(&config.settings));
    // Nothing is sent, so it doesn't matter where to.
    settings.viola.endpoint = settings.viola.endpoint.or_else(|_| Ok(String::new()));
    config.settings = Arc::new(settings);
    Context {
        clouds: Arc::new(Clouds::new(&config, clock.clone(), &Clients::new(&metrics))),
        secrets: Arc::new(secrets),
        config: Arc::new(config),
        target,
        targets_side_by_side: 1,
        store: Arc::new(Store::in_memory(inventory, clock.clone(), Arc::clone(&metrics))),
        ownership: Arc::new(Ownership::default()),
        clock,
        metrics,
        may_act: Arc::new(|| true),
    }
}

/// Takes nodes as if they were sent and accepted. What clusters have is asked of them.
struct Noted {
    targets: Targets,
    /// Of the MultiNicNodeConfigs.
    namespace: String,
    /// Of the requests of the last pass, one a line.
    bodies: Mutex<Vec<String>>,
}

impl Target for Noted {
    fn prepare(&self, destinations: &BTreeSet<&Destination>, fresh: bool) {
        self.targets.prepare(destinations, fresh);
    }

    fn check(&self, destination: &Destination) -> Result<(), String> {
        self.targets.check(destination)
    }

    fn interface_ids(
        &self,
        cluster: &ClusterRef,
        nodes: &BTreeSet<String>,
    ) -> Result<ClusterIds, String> {
        self.targets.interface_ids(cluster, nodes)
    }

    fn deliver(
        &self,
        _: &Settings,
        spec: &Spec,
        objects: &[ObjectNodes<'_>],
        _: &Rules<'_>,
    ) -> Delivery {
        let nodes: Vec<&NodeConfig> = objects.iter().flat_map(|of| of.nodes.clone()).collect();
        let bodies = match &spec.destination {
            Destination::Viola { .. } => bodies(&nodes),
            Destination::Kubernetes(_) => cluster::bodies(objects, &self.namespace),
        };
        let line = |body: Vec<u8>| String::from_utf8_lossy(&body).into_owned() + "\n";
        *lock(&self.bodies) = bodies.into_iter().map(line).collect();
        let accepted = nodes.into_iter().map(|node| node.node_name.clone()).collect();
        Delivery { accepted, ..Delivery::default() }
    }

    fn unconfirmed(&self, _: &Settings, _: &Spec) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn shutdown(&self) {}
}

/// A pass of this object alone.
fn pass(
    context: &Context,
    object: &Arc<OpenstackConfig>,
    forced_at: Option<Timestamp>,
    observer: Observer<'_>,
) -> Result<Outcome, String> {
    let work = Work {
        object: Arc::clone(object),
        resend_accepted_until: forced_at,
        down_port_retry: object.status.down_port_retry.clone(),
        was_planned: false,
        is_held: memory::is_held(&object.status),
        // A held object is shown as it would be sent once it is approved.
        is_loss_approved: true,
        building_since: BTreeMap::new(),
        removed_at: BTreeMap::new(),
        drifted: BTreeSet::new(),
        approvals: removals::approvals(
            object,
            object.status.last_approved.as_ref(),
            object.status.hold.as_ref(),
        ),
    };
    let pass = Pass { number: 0, scope: Scope::of(object), lane: Lane::Poll, work: vec![work] };
    let reported = Mutex::new(None);
    dry_run(context, &pass, observer, &|_, outcome| *lock(&reported) = Some(outcome));
    context.ownership.ended(&object.uid, object.generation);
    let outcome = lock(&reported).take();
    outcome.ok_or_else(|| format!("the pass of {} had no outcome", object.key))
}

/// What was accepted before, as far as that can be read, and its place in words.
fn recall(
    config: &Config,
    client: &KubeClient,
    clock: &Clock,
    notes: &mut Vec<String>,
) -> (Inventory, String) {
    let path = export_import::place(config);
    let read = export_import::read(config, client, clock);
    let (problem, state) = match read {
        Ok(Some(Opened { inventory, findings })) => {
            notes.extend(findings);
            let records = count(inventory.len(), "record");
            return (inventory, format!("{path}, {records}"));
        }
        Ok(None) => ("there is no inventory here".to_owned(), "not there"),
        Err(error) => (format!("{error}, so that the operator sends nothing"), "can't be read"),
    };
    notes.push(format!(
        "{problem}: interface ids are worked out without memory and may differ, and every node \
         counts as new"
    ));
    (Inventory::default(), format!("{path}, {state}"))
}

/// Objects that decide before this one: those that are older and name one of its VMs, the oldest
/// first.
fn older_of<'a>(
    object: &Arc<OpenstackConfig>,
    objects: &'a [Arc<OpenstackConfig>],
) -> Vec<&'a Arc<OpenstackConfig>> {
    let age = Age::of(object);
    let is_older = |other: &&Arc<OpenstackConfig>| {
        let (Ok(one), Ok(other_spec)) = (&object.spec, &other.spec) else { return false };
        // A paused one keeps the nodes of its records and decides nothing.
        Age::of(other) < age
            && !other.is_paused()
            && one.provider_id.eq_ignore_ascii_case(&other_spec.provider_id)
            && one.vm_ids.iter().any(|id| other_spec.vm_ids.contains(id))
    };
    let mut older: Vec<_> = objects.iter().filter(is_older).collect();
    older.sort_by_cached_key(|other| Age::of(other));
    older
}

/// When the force annotation was set, by `metadata.managedFields`; none if it isn't set or has no
/// owner there. The operator goes by the moment at which it sees the value change, which is later
/// by no more than the watch takes.
fn forced_at(object: &RawObject) -> Option<Timestamp> {
    let object: Value = serde_json::from_str(object.body.get()).ok()?;
    let metadata = object.get("metadata")?;
    metadata.get("annotations")?.get(FORCE_ANNOTATION)?;
    let field =
        format!("/fieldsV1/f:metadata/f:annotations/f:{}", FORCE_ANNOTATION.replace('/', "~1"));
    let entries = metadata.get("managedFields")?.as_array()?.iter();
    let owners = entries.filter(|entry| entry.pointer(&field).is_some());
    owners.filter_map(|entry| entry.get("time")?.as_str()?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};

    use super::forced_at;
    use crate::clock::Clock;
    use crate::inventory::contents::Inventory;
    use crate::inventory::record::{Change, Record};
    use crate::inventory::store::Store;
    use crate::kube::objects::RawObject;
    use crate::metrics::Metrics;
    use crate::node_config::NodeConfig;
    use crate::resources::FORCE_ANNOTATION;

    fn object() -> Value {
        let entry = |time: &str, field: &str| {
            json!({"manager": "kubectl-annotate", "operation": "Update", "time": time,
                   "fieldsV1": {"f:metadata": {"f:annotations": {field: {}}}}})
        };
        json!({"metadata": {
            "name": "a",
            "namespace": "default",
            "uid": "u1",
            "annotations": {FORCE_ANNOTATION: "1", "other": "2"},
            "managedFields": [
                entry("2026-11-22T10:00:00Z", &format!("f:{FORCE_ANNOTATION}")),
                entry("2026-11-22T11:00:00Z", "f:other"),
            ],
        }})
    }

    fn time(object: &Value) -> Option<Timestamp> {
        forced_at(&RawObject::read(&to_raw_value(object).unwrap()).unwrap())
    }

    #[test]
    fn what_a_dry_run_records_is_known_to_its_next_pass_and_on_no_disk() {
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::default()));
        let store = Store::in_memory(Inventory::default(), clock, metrics);
        let (node_name, instance_id) = ("worker-0".to_owned(), "vm-1".to_owned());
        let config = NodeConfig { node_name, instance_id, interfaces: Vec::new() };
        let change = Change::Upsert(Record::of("p", config));
        assert_eq!(store.commit(vec![change]), [Ok(())]);
        assert!(store.snapshot().get("p", "worker-0").is_some());
        assert!(store.state().is_healthy() && store.state().remembers());
    }

    #[test]
    fn the_time_is_that_of_the_annotations_owner() {
        let mut object = object();
        assert_eq!(time(&object).unwrap().to_string(), "2026-11-22T10:00:00Z");
        object["metadata"]["annotations"].as_object_mut().unwrap().remove(FORCE_ANNOTATION);
        assert_eq!(time(&object), None);
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
        object["metadata"]["annotations"][FORCE_ANNOTATION] = json!("2");
        assert_eq!(time(&object), None);
    }
}
