//! `multinic-operator plan`: what would be sent for one object, and why. Sends and writes nothing.
//!
//! ```text
//! Kubernetes: objects ─┐
//! inventory: records ──┼─▶ sync::{reading, plan, claims, changes} ─▶ Preview ─▶ text, or bodies
//! the cloud: answers ──┘
//! ```
//!
//! The same way as a sync takes, up to the point where that would post. What only the operator's
//! memory knows is worked out anew or said to be missing: older objects that name the same VMs are
//! planned first, as the operator does after its start, and nodes of other objects are known by the
//! inventory. [`outlook`], [`differences`] and [`text`] are pure.

pub mod differences;
mod forced;
pub mod outlook;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use self::outlook::{Memory, Outlook};
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::cloud::session::Answers;
use crate::config::Config;
use crate::http::client::Clients;
use crate::inventory::contents::Inventory;
use crate::inventory::probe;
use crate::kube::client::KubeClient;
use crate::kube::objects::RawObject;
use crate::listing;
use crate::metrics::Metrics;
use crate::node_config::NodeConfig;
use crate::reconcile::changes::{self, Occasion};
use crate::reconcile::claims::{ClaimTable, Decision, Wanted};
use crate::reconcile::plan::{Plan, plan};
use crate::reconcile::reading::{Failed, Reading};
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
    let planner = Planner { config, cloud: &cloud, inventory: &inventory, objects: &objects };
    let mut table = ClaimTable::default();
    for known in objects.values().filter(|known| !known.being_deleted) {
        table.know(known);
    }
    planner.settle_older(&mut table, object, &mut notes);
    let Planned { spec, answers, plan, decision } = planner.plan(&mut table, object)?;

    let own = changes::own(&plan, &decision);
    let forced_at = raw
        .iter()
        .find(|raw| raw.metadata.uid == object.uid)
        .and_then(|raw| forced::at(raw.body.get()));
    let occasion = Occasion {
        intervals: &config.intervals,
        asked_until: forced_at,
        down_ports: object.status.down_port_retry.as_ref(),
        // Only the running operator knows what it sent in vain.
        doubted: &BTreeSet::new(),
        now: clock.now().wall,
    };
    let due = changes::due(spec, &own, &inventory, &occasion);
    let outlook = Outlook {
        config,
        object,
        spec,
        memory,
        inventory: &inventory,
        answers: &answers,
        plan: &plan,
        decision: &decision,
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
    let nodes: Vec<&NodeConfig> = outlook.due.iter().map(|(node, _)| &*node.config).collect();
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

/// What plans are made with.
struct Planner<'a> {
    config: &'a Config,
    cloud: &'a Arc<Cloud>,
    inventory: &'a Inventory,
    objects: &'a BTreeMap<ObjectKey, OpenstackConfig>,
}

/// What a sync would know before it posts.
struct Planned<'a> {
    spec: &'a Spec,
    answers: Answers,
    plan: Plan<'static>,
    decision: Decision,
}

impl<'a> Planner<'a> {
    /// Steps 1 to 10, as in a sync.
    fn plan(
        &self,
        table: &mut ClaimTable,
        object: &'a OpenstackConfig,
    ) -> Result<Planned<'a>, Failed> {
        let mut reading = Reading::new(self.config, self.cloud, object, false);
        let (spec, subnet) = reading.check()?;
        let answers = reading.read(spec, subnet)?;
        let plan = plan(&reading.sources(spec, &answers, self.inventory)).into_owned();
        let wanted =
            Wanted { provider_id: &spec.provider_id, target: spec.target(), nodes: &plan.vms() };
        let decision = table.claim(&object.uid, &wanted, self.inventory).unwrap_or_default();
        Ok(Planned { spec, answers, plan, decision })
    }

    /// Older objects that name one of the same VMs have the first word, the oldest before all.
    fn settle_older(
        &self,
        table: &mut ClaimTable,
        object: &OpenstackConfig,
        notes: &mut Vec<String>,
    ) {
        while let Some(key) = table.must_wait_for(&object.uid) {
            let Some(older) = self.objects.get(&key) else { return };
            self.settle_older(table, older, notes);
            if let Err(failed) = self.plan(table, older) {
                notes.push(format!(
                    "nodes of the older OpenstackConfig {key} are known by the inventory only: \
                     {}: {}",
                    failed.reason.name(),
                    failed.message
                ));
            }
            table.attempted(&older.uid);
        }
    }
}
