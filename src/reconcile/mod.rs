//! One pass, top to bottom: the thirteen steps from due objects to their statuses.
//!
//! | step | what | where |
//! |---|---|---|
//! | 1 | the objects are due, their specs make sense | [`crate::controller`], [`check`] |
//! | 2 | Contrabass: where is the cloud | [`crate::cloud::fetch`] |
//! | 3 | RabbitMQ's access becomes a Secret | [`crate::cloud::fetch`], then the controller |
//! | 4, 5 | Keystone: token and catalog; Neutron's endpoint | [`crate::cloud::fetch`] |
//! | 6, 7, 8 | subnets and networks, ports, servers, side by side | [`crate::cloud::fetch`] |
//! | 9 | what each node should have, and whether records are lost | [`plan`], [`interfaces`], [`memory`] |
//! | 10 | which nodes each object manages | [`ownership`] |
//! | 11 | nodes that differ are sent, unless they are held | [`send`], [`changes`], [`removals`], [`crate::targets`] |
//! | 12 | what was accepted is recorded | [`send`], [`changes`], [`crate::inventory::store`] |
//! | 13 | the outcome of each object, and when to look again | [`report`], [`schedule`] |
//!
//! [`crate::cloud::fetch`] asks and [`send`] sends and records. [`ownership`] holds a lock. All other files
//! are pure. Threads, timers and Kubernetes are not known here.

mod adoption;
pub mod changes;
pub mod differences;
pub mod down_ports;
mod hints;
pub mod interfaces;
pub mod memory;
pub mod ownership;
mod pass;
pub mod plan;
pub mod removals;
pub mod report;
pub mod schedule;
mod send;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

pub use self::pass::{Failed, Lane, Outcome, Pass, Scope, Work};
pub use self::send::{Decided, Sending};

use self::memory::Memory;
use self::ownership::{InFlight, Ownership, Planned};
use self::plan::{Plan, Sources};
use self::report::Reason;
use crate::clock::Clock;
use crate::cloud::fetch::Fetch;
use crate::cloud::object_secrets::ObjectSecrets;
use crate::cloud::{CloudError, Clouds, Step};
use crate::config::{Config, Settings};
use crate::inventory::contents::Inventory;
use crate::inventory::store::Store;
use crate::metrics::{CONTROLLER, Metrics};
use crate::resources::{Destination, PortFilter, Spec};
use crate::targets::{ClusterIds, Target};
use crate::threads::{Task, side_by_side};

/// VMs whose ports are asked for together, and whose nodes are sent before the next are asked for.
const SLICE_VMS: usize = 400;

/// What the status of an object says whose part of a pass panicked.
pub(crate) const PANICKED: &str = "the pass ended in a bug of the operator; its log has more";

/// What every pass uses.
pub struct Context {
    /// Settings.
    pub config: Arc<Config>,
    /// Contrabass, Keystone, Neutron, Nova.
    pub clouds: Arc<Clouds>,
    /// Keys for Contrabass, and clouds, that objects bring.
    pub secrets: Arc<ObjectSecrets>,
    /// Where nodes are sent.
    pub target: Arc<dyn Target>,
    /// To how many of them one slice sends at the same time.
    pub targets_side_by_side: usize,
    /// What was accepted.
    pub store: Arc<Store>,
    /// Which object manages which node.
    pub ownership: Arc<Ownership>,
    /// The time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// May this process still act? False once leadership is lost or a stop has begun.
    pub may_act: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Takes the outcome of one object.
pub type Report<'a> = &'a (dyn Fn(&Work, Outcome) + Sync);

/// Is shown what is decided about one object before any of it is sent, and the inventory at this time.
pub type Observer<'a> = &'a (dyn Fn(&Sending<'_>, &Inventory) + Sync);

/// An object of the pass whose spec makes sense.
#[derive(Clone)]
struct Item<'a> {
    work: &'a Work,
    spec: &'a Spec,
    settings: Arc<Settings>,
    /// Which Secret has the key; none if it is in none.
    key_source: Option<String>,
}

/// Reconciles the objects of a pass and reports the outcome of each. Never fails: what went wrong
/// is in the outcomes.
pub fn reconcile(context: &Context, pass: &Pass, report: Report<'_>) {
    run(context, pass, None, report);
}

/// The same for a target that only notes what it is given, and a store that writes no file.
pub fn dry_run(context: &Context, pass: &Pass, observer: Observer<'_>, report: Report<'_>) {
    run(context, pass, Some(observer), report);
}

fn run(context: &Context, pass: &Pass, observer: Option<Observer<'_>>, report: Report<'_>) {
    // Almost always one group: objects of a scope differ in keys or regions at most.
    let mut groups: Vec<Vec<Item<'_>>> = Vec::new();
    let specs = pass.work.iter().filter_map(|work| {
        let spec = work.object.spec.as_ref().ok()?;
        Some((work.object.key.namespace.as_str(), spec))
    });
    context.secrets.prepare(&context.config, specs, pass.lane == Lane::Fresh);
    let specs = pass.work.iter().filter_map(|work| work.object.spec.as_ref().ok());
    let destinations = specs.map(|spec| &spec.destination).collect();
    context.target.prepare(&destinations, pass.lane == Lane::Fresh);
    for work in &pass.work {
        match check(context, work) {
            Ok(item) => match groups.iter_mut().find(|group| group[0].settings == item.settings) {
                Some(group) => group.push(item),
                None => groups.push(vec![item]),
            },
            Err(failed) => report(work, failed_outcome(work, failed)),
        }
    }
    for items in groups {
        run_group(context, pass.lane == Lane::Fresh, &items, observer, report);
    }
}

/// Objects with equal settings. They have the provider and the project in common, too.
fn run_group(
    context: &Context,
    fresh: bool,
    items: &[Item<'_>],
    observer: Option<Observer<'_>>,
    report: Report<'_>,
) {
    let Some(oldest) = items.first() else { return };
    let cloud = context.clouds.with(&oldest.settings);
    let Spec { provider_id, project_id, .. } = oldest.spec;
    let mut fetch = Fetch::new(&cloud, provider_id, project_id, fresh);
    let is_forced = |item: &Item<'_>| item.work.resend_accepted_until.is_some();
    if fresh && items.iter().any(is_forced) {
        fetch.force_login();
    }
    let pass_specs = specs(items);
    for slice in slices(items) {
        run_slice(context, &mut fetch, &pass_specs, slice, observer, report);
    }
}

/// Steps 2 to 13 for one slice. Reports each of its objects once.
fn run_slice(
    context: &Context,
    fetch: &mut Fetch<'_>,
    pass_specs: &[&Spec],
    slice: &[Item<'_>],
    observer: Option<Observer<'_>>,
    report: Report<'_>,
) {
    if !(context.may_act)() {
        slice.iter().for_each(|item| report(item.work, aborted(item.work)));
        return;
    }
    // A record that another pass writes from here on may be newer than what is fetched now, so a plan
    // for its node would be out of date.
    let version_before_fetch = context.store.snapshot().version();
    let fetched = fetch.slice(pass_specs, &specs(slice));
    let fetch = &*fetch;
    let finish = |work: &Work, outcome| report(work, finished(context, fetch, work, outcome));
    if let Err(error) = fetched {
        for item in slice {
            finish(item.work, failed_outcome(item.work, failed_fetch(context, item, &error)));
        }
        return;
    }
    let inventory = context.store.snapshot();
    let plan = |item: &Item<'_>, cluster_ids: Option<&ClusterIds>| {
        plan_of(context, fetch, item, &inventory, cluster_ids)
    };
    let plans = each_plan(context, slice.iter().map(|item| (item, None)), &plan, &finish);
    let plans = adoption::adopt(context, plans, &inventory, &plan, &finish);
    let (decided, in_flight, inventory) = decide(context, plans, version_before_fetch, &finish);
    let in_flight = Mutex::new(in_flight);
    let mut by_target: BTreeMap<(&str, &Destination), Vec<Decided<'_>>> = BTreeMap::new();
    for object in decided {
        let Spec { destination, .. } = object.spec;
        by_target.entry((object.spec.target(), destination)).or_default().push(object);
    }
    let mut sends: Vec<Task<'_, ()>> = Vec::new();
    for objects in by_target.values() {
        sends.push(Box::new(|| {
            send::send(context, objects, &inventory, &in_flight, observer, &finish);
        }));
    }
    side_by_side(context.targets_side_by_side, sends);
}

/// Step 1: does the object say enough to begin, and is it known what was accepted before?
fn check<'a>(context: &Context, work: &'a Work) -> Result<Item<'a>, Failed> {
    let config_error = |message: String| Failed::new(Reason::ConfigError, message);
    let spec = work.object.spec.as_ref().map_err(|problem| config_error(problem.clone()))?;
    let namespace = &work.object.key.namespace;
    let settings = context.secrets.settings_of(&context.config, namespace, spec);
    let (settings, key_source) = settings.map_err(config_error)?;
    let (missing, state) =
        (settings.all_missing(spec.destination.is_kubernetes()), context.store.state());
    if !missing.is_empty() {
        return Err(config_error(format!("the operator's settings lack {}", missing.join(", "))));
    }
    context.target.check(&spec.destination).map_err(config_error)?;
    if spec.subnets.is_empty() {
        let message = "set spec.subnetIDs, spec.subnetID or spec.subnetName; none is given";
        return Err(Failed::new(Reason::SubnetRequired, message));
    }
    if !state.remembers() {
        // Ports would be numbered as on first sight, and live network cards renamed.
        let why = state.reason().unwrap_or_default();
        let message = format!("no node may be sent while the inventory isn't known: {why}");
        return Err(config_error(message));
    }
    Ok(Item { work, spec, settings, key_source })
}

fn specs<'a>(items: &[Item<'a>]) -> Vec<&'a Spec> {
    items.iter().map(|item| item.spec).collect()
}

/// The items in groups of at most [`SLICE_VMS`] VMs, an object with more of them alone.
fn slices<'a, 'b>(items: &'b [Item<'a>]) -> Vec<&'b [Item<'a>]> {
    let (mut slices, mut first, mut vms) = (Vec::new(), 0, 0);
    for (at, item) in items.iter().enumerate() {
        let more = item.spec.vm_ids.len();
        if at > first && vms + more > SLICE_VMS {
            slices.push(&items[first..at]);
            (first, vms) = (at, 0);
        }
        vms += more;
    }
    slices.push(&items[first..]);
    slices
}

/// Step 9 for one object.
fn plan_of(
    context: &Context,
    fetch: &Fetch<'_>,
    item: &Item<'_>,
    inventory: &Inventory,
    cluster_ids: Option<&ClusterIds>,
) -> Result<Plan, Failed> {
    let Item { work, spec, settings, .. } = item;
    let answers = fetch.answers(spec)?;
    let mut plan = plan::plan(&Sources {
        spec,
        uid: &work.object.uid,
        answers: &answers,
        statuses: settings.openstack.port_statuses.as_deref(),
        ports_created_after: (spec.ports.created_after_object
            || settings.openstack.ports_created_after_object)
            .then_some(work.object.created),
        held_before: (spec.ports == PortFilter::default()
            && !settings.openstack.ports_created_after_object)
            .then_some(work.object.created),
        inventory,
        cluster_ids: cluster_ids.unwrap_or(&ClusterIds::new()),
        building_since: &work.building_since,
        uptime: context.clock.now().uptime,
    })
    .without_unreadable(inventory);
    let may_renumber = work.is_loss_approved || context.config.inventory.renumber_lost;
    // What can't be read is not lost, and isn't sent in any case.
    let memory = match work.was_planned || cluster_ids.is_some() || !plan.unreadable.is_empty() {
        true => Memory::Kept,
        false => memory::of(work, &answers, inventory, may_renumber),
    };
    plan.hints.extend(settings.notes.iter().cloned());
    Ok(Plan { memory, ..plan })
}

/// Step 9 for one object, with what its cluster has of nodes without a record, if it was asked.
type MakePlan<'a, 'b> = dyn Fn(&Item<'a>, Option<&ClusterIds>) -> Result<Plan, Failed> + 'b;

/// The plans of a slice: a failure or a panic is one object's.
fn each_plan<'a, 'b>(
    context: &Context,
    items: impl Iterator<Item = (&'b Item<'a>, Option<&'b ClusterIds>)>,
    plan: &MakePlan<'a, '_>,
    finish: Report<'_>,
) -> Vec<(Item<'a>, Plan)>
where
    'a: 'b,
{
    let mut plans = Vec::new();
    for (item, cluster_ids) in items {
        let planned =
            catch_unwind(AssertUnwindSafe(|| plan(item, cluster_ids))).unwrap_or_else(|_| {
                context.metrics.add(
                    "controller_runtime_reconcile_panics_total",
                    &[CONTROLLER],
                    1.0,
                );
                Err(Failed::new(Reason::ConfigError, PANICKED))
            });
        match planned {
            Ok(plan) => plans.push((item.clone(), plan)),
            Err(failed) => finish(item.work, failed_outcome(item.work, failed)),
        }
    }
    plans
}

/// Step 10 for all objects of a slice together: which of the planned nodes each of them manages, and
/// the records by which that is so. Records that change afterwards are newer than the plans.
fn decide<'a>(
    context: &Context,
    plans: Vec<(Item<'a>, Plan)>,
    version_before_fetch: u64,
    finish: Report<'_>,
) -> (Vec<Decided<'a>>, InFlight, Arc<Inventory>) {
    let planned: Vec<Planned<'_>> =
        plans.iter().map(|(item, plan)| Planned::of(&item.work.object, item.spec, plan)).collect();
    let mut inventory = Arc::default();
    let snapshot = || {
        inventory = context.store.snapshot();
        Arc::clone(&inventory)
    };
    let (decisions, in_flight) = context.ownership.decide(&planned, snapshot, version_before_fetch);
    let split = decisions.into_iter().zip(&planned);
    let split: Vec<_> =
        split.map(|(decision, plan)| decision.split(plan, &planned, &inventory)).collect();
    let mut decided = Vec::new();
    for ((item, mut plan), split) in plans.into_iter().zip(split) {
        let Some((own, conflicts, later)) = split else {
            finish(item.work, aborted(item.work));
            continue;
        };
        if own.is_empty() && !conflicts.is_empty() {
            // All its nodes belong to older objects, whose records replaced its own. So a missing
            // record is no loss, and the object isn't held.
            plan.memory = Memory::Kept;
        }
        let Item { work, spec, settings, .. } = item;
        decided.push(Decided { work, spec, settings, plan, own, conflicts, later });
    }
    (decided, in_flight, inventory)
}

/// Why there is no access to the cloud. A key that doesn't fit may have been replaced.
fn failed_fetch(context: &Context, item: &Item<'_>, error: &CloudError) -> Failed {
    let mut failed = Failed::from(error.clone());
    let Item { work, spec, key_source, .. } = item;
    let is_login = matches!(error.step, Step::Keystone | Step::Identity);
    if error.undecryptable || (is_login && spec.identity_ref.is_some()) {
        context.secrets.may_be_old(&work.object.key.namespace, spec);
    }
    if error.undecryptable {
        let source = match (key_source, &spec.encrypt_key) {
            (Some(source), _) => source,
            (None, Some(_)) => "spec.settings.contrabassEncryptKey",
            (None, None) => "CONTRABASS_ENCRYPT_KEY",
        };
        failed.message += &format!(" It is that of {source}");
    }
    failed
}

/// What is said of an object for which nothing was decided.
fn failed_outcome(work: &Work, failed: Failed) -> Outcome {
    let Failed { reason, message, retry_after } = failed;
    Outcome { retry_after, ..Outcome::failed(work, reason, message) }
}

/// The object is due again, and nothing is said of it.
fn aborted(work: &Work) -> Outcome {
    let message = "the pass ended before it came to the object";
    Outcome { aborted: true, ..Outcome::failed(work, Reason::ConfigError, message) }
}

/// The outcome with what the whole pass found out.
fn finished(context: &Context, fetch: &Fetch<'_>, work: &Work, mut outcome: Outcome) -> Outcome {
    outcome.rabbitmq = fetch.rabbitmq();
    if let Ok(spec) = &work.object.spec {
        outcome.retry_after = outcome.retry_after.max(fetch.retry_after(spec));
    }
    outcome.aborted |= !outcome.ready.reason.is_success() && !(context.may_act)();
    outcome
}

#[cfg(test)]
mod tests;
