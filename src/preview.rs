//! `multinic-operator plan`: what would be sent for one object, and why. Sends and writes nothing.
//!
//! ```text
//! Kubernetes: objects ─┐
//! inventory: records ──┼─▶ reconcile::{plan, ownership, changes} ─▶ Preview ─▶ text, or bodies
//! the cloud: answers ──┘
//! ```
//!
//! The same way as a sync takes, up to the point where that would post. What only the operator's
//! memory knows is worked out anew or said to be missing: older objects that name the same VMs are
//! planned first, as the operator does after its start, and nodes of other objects are known by the
//! inventory. [`outlook`] and [`text`] are pure.

mod forced;
pub mod outlook;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use self::outlook::{Memory, Outlook};
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::cloud::fetch::Fetch;
use crate::config::Config;
use crate::http::client::Clients;
use crate::inventory::contents::Inventory;
use crate::inventory::probe;
use crate::kube::client::KubeClient;
use crate::kube::objects::RawObject;
use crate::listing;
use crate::metrics::Metrics;
use crate::node_config::NodeConfig;
use crate::reconcile::Failed;
use crate::reconcile::changes::{self, SendContext};
use crate::reconcile::ownership::{Decision, Ownership, Planned};
use crate::reconcile::plan::{Plan, Sources, plan};
use crate::reconcile::report::{Conflict, Reason};
use crate::resources::{OPENSTACK_CONFIGS, ObjectKey, OpenstackConfig, Spec};

/// Why there is no plan.
#[derive(Clone, Debug)]
pub enum NoPlan {
    /// The object can't be read, or isn't one the operator works for.
    NoObject(String),
    /// A sync would end early too; the words are those of the object's status.
    Failed(Failed),
}

impl fmt::Display for NoPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoPlan::NoObject(text) => formatter.write_str(text),
            NoPlan::Failed(Failed { reason, message, .. }) => {
                write!(formatter, "Ready=False, {}: {message}", reason.name())
            }
        }
    }
}

impl std::error::Error for NoPlan {}

impl From<Failed> for NoPlan {
    fn from(failed: Failed) -> NoPlan {
        NoPlan::Failed(failed)
    }
}

/// A plan to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The plan itself: text for people, or the bodies of the requests.
    pub output: String,
    /// What must be known beside the bodies, a line each; as text the plan says it itself.
    pub notes: Vec<String>,
}

/// Makes the plan of one object, to be shown: as text, or only the bodies of the requests.
pub fn run(config: &Config, key: &ObjectKey, json: bool) -> Result<Shown, NoPlan> {
    let clock = Clock::system();
    let metrics = Arc::new(Metrics::default());
    let client = KubeClient::new(config.kubernetes.clone(), clock.clone(), Arc::clone(&metrics));
    let mut notes = Vec::new();
    let raw = objects(config, &client, key, &mut notes)?;
    let objects: BTreeMap<ObjectKey, OpenstackConfig> = raw
        .iter()
        .map(OpenstackConfig::from_raw)
        .map(|object| (object.key.clone(), object))
        .collect();
    let object = objects
        .get(key)
        .ok_or_else(|| NoPlan::NoObject(format!("OpenstackConfig {key} doesn't exist")))?;
    if object.being_deleted {
        let text = format!("OpenstackConfig {key} is being deleted: nothing is sent for it");
        return Err(NoPlan::NoObject(text));
    }
    let (memory, inventory) = recall(config);
    let cloud = Arc::new(Cloud::new(config, clock.clone(), &Clients::new(&metrics)));
    let ownership = Arc::new(Ownership::default());
    let living: Vec<&OpenstackConfig> =
        objects.values().filter(|known| !known.being_deleted).collect();
    living.iter().for_each(|known| ownership.know(known));
    for older in older_of(object, &living) {
        let planned = planned(config, &cloud, older, &inventory)
            .map(|(_, plan)| decided(&ownership, older, &plan, &inventory));
        if let Err(failed) = planned {
            notes.push(format!(
                "nodes of the older OpenstackConfig {} are known by the inventory only: {}: {}",
                older.key,
                failed.reason.name(),
                failed.message
            ));
        }
        ownership.ended(&older.uid, older.generation);
    }
    let (fetch, plan) = planned(config, &cloud, object, &inventory)?;
    let spec = spec_of(object)?;
    let answers = fetch.answers(spec).map_err(Failed::from)?;
    let (own_names, conflicts) = decided(&ownership, object, &plan, &inventory);
    let own: Vec<_> =
        plan.nodes.iter().filter(|node| own_names.contains(&node.config.node_name)).collect();
    let forced_at = raw
        .iter()
        .find(|raw| raw.metadata.uid == object.uid)
        .and_then(|raw| forced::at(raw.body.get()));
    let send_context = SendContext {
        intervals: &config.intervals,
        forced_until: forced_at,
        down_ports: object.status.down_port_retry.as_ref(),
        // Only the running operator knows which deliveries weren't confirmed.
        unconfirmed: &BTreeSet::new(),
        now: clock.now().wall,
    };
    let due = changes::due(spec, &own, &inventory, &send_context);
    let outlook = Outlook {
        config,
        object,
        spec,
        memory,
        inventory: &inventory,
        answers: &answers,
        plan: &plan,
        own: own.len(),
        conflicts: &conflicts,
        due: &due,
        forced_at,
        notes,
    };
    Ok(match json {
        true => Shown { output: bodies(&outlook), notes: text::notes(&outlook) },
        false => Shown { output: text::of(&outlook), notes: Vec::new() },
    })
}

/// One body a line.
fn bodies(outlook: &Outlook<'_>) -> String {
    let nodes: Vec<&NodeConfig> = outlook.due.iter().map(|(node, _)| &node.config).collect();
    let mut text = String::new();
    for body in crate::targets::viola::bodies(&nodes) {
        text.push_str(&String::from_utf8_lossy(&body));
        text.push('\n');
    }
    text
}

/// All objects that the operator sees, for the nodes of one may be another's.
fn objects(
    config: &Config,
    client: &KubeClient,
    key: &ObjectKey,
    notes: &mut Vec<String>,
) -> Result<Vec<RawObject>, NoPlan> {
    let watched = &config.watch_namespaces;
    if !watched.is_empty() && !watched.contains(&key.namespace) {
        return Err(NoPlan::NoObject(format!(
            "the operator doesn't see {key}: WATCH_NAMESPACES names {}",
            watched.join(", ")
        )));
    }
    let mut objects = Vec::new();
    for scope in config.watch_scopes() {
        match listing::objects(client, scope) {
            Ok(found) => objects.extend(found),
            Err(error) if scope.is_none_or(|scope| scope == key.namespace) => {
                return Err(NoPlan::NoObject(error.to_string()));
            }
            Err(error) => notes.push(format!(
                "conflicts with {} of that namespace aren't seen: {error}",
                OPENSTACK_CONFIGS.plural
            )),
        }
    }
    Ok(objects)
}

/// What nodes were told before, as far as that can be read.
fn recall(config: &Config) -> (Memory, Inventory) {
    match probe::read(&config.inventory.path) {
        Ok(Some(loaded)) => (Memory::Read { findings: loaded.findings }, loaded.inventory),
        Ok(None) => (Memory::Absent, Inventory::default()),
        Err(error) => (Memory::Unreadable(error.to_string()), Inventory::default()),
    }
}

/// Objects that decide before this one: those that are older and name one of its VMs, or a VM of
/// such an object; the oldest first.
fn older_of<'a>(
    object: &'a OpenstackConfig,
    objects: &[&'a OpenstackConfig],
) -> Vec<&'a OpenstackConfig> {
    let age = |object: &OpenstackConfig| (object.created, object.key.clone(), object.uid.clone());
    let shares = |one: &OpenstackConfig, other: &OpenstackConfig| match (&one.spec, &other.spec) {
        (Ok(one), Ok(other)) => {
            one.provider_id.eq_ignore_ascii_case(&other.provider_id)
                && one.vm_ids.iter().any(|id| other.vm_ids.contains(id))
        }
        _ => false,
    };
    let mut sorted = objects.to_vec();
    sorted.sort_by_key(|other| std::cmp::Reverse(age(other)));
    let mut found = vec![object];
    for other in sorted {
        let decides = |known: &&OpenstackConfig| age(other) < age(known) && shares(known, other);
        if found.iter().any(decides) {
            found.push(other);
        }
    }
    found.remove(0);
    found.reverse();
    found
}

fn spec_of(object: &OpenstackConfig) -> Result<&Spec, Failed> {
    object.spec.as_ref().map_err(|problem| Failed::new(Reason::ConfigError, problem.clone()))
}

/// Steps 1 to 10 of a pass of this object alone.
fn planned<'a>(
    config: &Config,
    cloud: &'a Cloud,
    object: &'a OpenstackConfig,
    inventory: &Inventory,
) -> Result<(Fetch<'a>, Plan), Failed> {
    let spec = spec_of(object)?;
    let mut missing = config.all_missing();
    // Nothing is sent.
    missing.retain(|variable| *variable != "VIOLA_ENDPOINT");
    crate::reconcile::check_settings(&missing, spec)?;
    let mut fetch = Fetch::new(cloud, &spec.provider_id, &spec.project_id, false);
    fetch.slice(&[spec], &[spec])?;
    let plan = plan(&Sources {
        spec,
        uid: &object.uid,
        answers: &fetch.answers(spec)?,
        statuses: config.openstack.port_statuses.as_deref(),
        inventory,
        building_since: &BTreeMap::new(),
        uptime: std::time::Duration::ZERO,
    });
    Ok((fetch, plan))
}

/// The names of the nodes that the object manages, and those that others do.
fn decided(
    ownership: &Arc<Ownership>,
    object: &OpenstackConfig,
    plan: &Plan,
    inventory: &Inventory,
) -> (BTreeSet<String>, Vec<Conflict>) {
    let vms = plan.vms();
    let Ok(spec) = &object.spec else { return Default::default() };
    let planned = Planned {
        uid: &object.uid,
        generation: object.generation,
        provider_id: &spec.provider_id,
        target: spec.target(),
        nodes: vms.iter().map(|(name, vm_id)| (name.as_str(), vm_id.as_str())).collect(),
    };
    let snapshot = || Arc::new(inventory.clone());
    let (decisions, _in_flight) = ownership.decide(&[planned], snapshot, inventory.version());
    let decision = decisions.into_iter().next().and_then(Decision::sorted);
    let (own, conflicts, _) = decision.unwrap_or_default();
    (own, conflicts)
}
