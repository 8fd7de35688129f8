//! Which object manages which node: of two that want one, the older object does.
//!
//! One table serves all clouds. Its lock is held for no I/O and nothing waits under it: a node that
//! another pass is sending is [`Whose::Later`], and its object is due again when that pass ends.
//!
//! Two objects want the same node if they give it the same name and share its cloud (the inventory
//! files a record by cloud and name) or its target (Viola knows a node of a cluster by its name).
//! Ids of clouds, targets and VMs compare in lower case.
//!
//! The owner of a record keeps the node while its spec names the record's VM: over a restart, while
//! the VM's ports are away for a moment, and when the VM is renamed. So does an owner whose spec
//! can't be read or whose namespace isn't listed yet: which VMs it names isn't known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::plan::{Plan, PlannedNode};
use super::report::Conflict;
use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::resources::{NodeOwner, ObjectKey, OpenstackConfig, Spec};
use crate::threads::lock;

/// One object's whole plan.
#[derive(Clone, Debug)]
pub struct Planned<'a> {
    /// The object.
    pub uid: &'a str,
    /// The generation that the plan was made for.
    pub generation: i64,
    /// The cloud, by its Contrabass id.
    pub provider_id: &'a str,
    /// The cluster, as `x-provider-id` names it.
    pub target: &'a str,
    /// The VM of each node.
    pub nodes: BTreeMap<&'a str, &'a str>,
}

impl Planned<'_> {
    /// The VMs with this node name: the object's own, and that of another object or of a record.
    fn vms_named(
        &self,
        node: &str,
        plans: &[Planned<'_>],
        inventory: &Inventory,
    ) -> BTreeSet<String> {
        let own = self.nodes.get(node).copied();
        let others = plans.iter().filter(|other| other.target == self.target);
        let others = others.filter_map(|other| other.nodes.get(node).copied());
        let records = inventory.by_target(self.target, node).into_iter();
        let records = records.map(|stored| stored.record.instance_id.as_str());
        own.into_iter().chain(others).chain(records).map(str::to_ascii_lowercase).collect()
    }
}

impl<'a> Planned<'a> {
    pub(crate) fn of(object: &'a OpenstackConfig, spec: &'a Spec, plan: &'a Plan) -> Planned<'a> {
        let (provider_id, target) = (spec.provider_id.as_str(), spec.target());
        let vm = |node: &'a PlannedNode| (&*node.config.node_name, &*node.config.instance_id);
        let nodes = plan.nodes.iter().map(vm).collect();
        Planned { uid: &object.uid, generation: object.generation, provider_id, target, nodes }
    }
}

/// What an object may do with its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: the object is gone or has another spec by now.
    Gone,
    /// Each node of the plan, by name.
    Nodes(BTreeMap<Arc<str>, Whose>),
}

/// Who may send a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The object itself. The node is in flight until its [`InFlight`] ends.
    Mine,
    /// An older object manages the node.
    Older(ObjectKey),
    /// It can't be said now, or the plan is out of date. The object is due again soon.
    Later,
}

impl Decision {
    /// The nodes that are the object's own, those that older objects manage, and whether some can't
    /// be decided now. None if the object is gone. The decision is on `plan`, one of `plans`.
    pub(crate) fn split(
        self,
        plan: &Planned<'_>,
        plans: &[Planned<'_>],
        inventory: &Inventory,
    ) -> Option<(BTreeSet<String>, Vec<Conflict>, bool)> {
        let Decision::Nodes(nodes) = self else { return None };
        let (mut own, mut conflicts, mut later) = (BTreeSet::new(), Vec::new(), false);
        for (node_name, whose) in nodes {
            let node_name = node_name.to_string();
            match whose {
                Whose::Mine => drop(own.insert(node_name)),
                Whose::Older(manager) => {
                    let vm_ids = plan.vms_named(&node_name, plans, inventory);
                    conflicts.push(Conflict { node_name, manager, vm_ids });
                }
                Whose::Later => later = true,
            }
        }
        Some((own, conflicts, later))
    }
}

/// Orders objects, the oldest first; objects of one second by namespace and name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age {
    created: Timestamp,
    key: ObjectKey,
    uid: String,
}

impl Age {
    pub(crate) fn of(object: &OpenstackConfig) -> Age {
        let OpenstackConfig { created, key, uid, .. } = object;
        Age { created: *created, key: key.clone(), uid: uid.clone() }
    }
}

/// Objects by the name of a node or the id of a VM, the oldest first.
type Index = BTreeMap<Arc<str>, Vec<Arc<Age>>>;

/// Cloud and target in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Realms {
    cloud: Arc<str>,
    target: Arc<str>,
}

impl Realms {
    /// Is a node of the same name the same node?
    fn meet(&self, other: &Realms) -> bool {
        self.cloud == other.cloud || self.target == other.target
    }
}

/// What a spec names.
#[derive(Debug)]
struct Named {
    realms: Realms,
    /// Sorted.
    vm_ids: Vec<Arc<str>>,
}

impl Named {
    fn by(spec: &Spec) -> Named {
        let cloud = spec.provider_id.to_ascii_lowercase().into();
        let target = spec.target().to_ascii_lowercase().into();
        let mut vm_ids: Vec<Arc<str>> = spec.vm_ids.iter().map(|id| id.as_str().into()).collect();
        vm_ids.sort_unstable();
        Named { realms: Realms { cloud, target }, vm_ids }
    }

    /// Does it name the VM of the record, in the record's cloud?
    fn means(&self, record: &Record) -> bool {
        let vm_id = record.instance_id.to_ascii_lowercase();
        record.provider_id.eq_ignore_ascii_case(&self.realms.cloud)
            && self.vm_ids.binary_search_by(|known| (**known).cmp(&vm_id)).is_ok()
    }
}

#[derive(Debug)]
struct Object {
    age: Arc<Age>,
    generation: i64,
    /// By the last spec that could be read; none if there was none in this process.
    named: Option<Named>,
    /// The nodes of its last whole plan in this cloud, sorted.
    planned: Vec<Arc<str>>,
    /// The generation with which it appeared or came to its cloud.
    since: i64,
    /// A pass of it has ended since, well or not.
    has_ended: bool,
}

impl Object {
    fn vm_ids(&self) -> &[Arc<str>] {
        self.named.as_ref().map(|named| named.vm_ids.as_slice()).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Table {
    /// By uid.
    objects: HashMap<String, Object>,
    /// By node, the objects that have it in their plan.
    planned: Index,
    /// By VM, the objects that name it and of which no pass has ended.
    unended: Index,
    /// By node, where it is being sent right now.
    in_flight: BTreeMap<Arc<str>, Vec<Realms>>,
    /// Watched namespaces whose objects aren't known yet.
    unlisted: BTreeSet<String>,
}

/// One node of a plan.
struct Claim<'a> {
    age: &'a Age,
    realms: &'a Realms,
    provider_id: &'a str,
    node: &'a str,
    vm_id: &'a str,
}

impl Table {
    fn know(&mut self, object: &OpenstackConfig) {
        let mut known = Object {
            age: Arc::new(Age::of(object)),
            generation: object.generation,
            named: object.spec.as_ref().ok().map(Named::by),
            planned: Vec::new(),
            since: object.generation,
            has_ended: false,
        };
        if let Some(before) = self.forget(&object.uid) {
            let cloud = before.named.as_ref().map(|named| Arc::clone(&named.realms.cloud));
            known.named = known.named.or(before.named);
            if known.named.as_ref().map(|named| &named.realms.cloud) == cloud.as_ref() {
                known.planned = before.planned;
                (known.since, known.has_ended) = (before.since, before.has_ended);
            }
        }
        for node in &known.planned {
            enter(&mut self.planned, node, &known.age);
        }
        if !known.has_ended {
            for vm_id in known.vm_ids() {
                enter(&mut self.unended, vm_id, &known.age);
            }
        }
        self.objects.insert(object.uid.clone(), known);
    }

    fn forget(&mut self, uid: &str) -> Option<Object> {
        let object = self.objects.remove(uid)?;
        for node in &object.planned {
            leave(&mut self.planned, node, &object.age);
        }
        for vm_id in object.vm_ids() {
            leave(&mut self.unended, vm_id, &object.age);
        }
        Some(object)
    }

    fn ended(&mut self, uid: &str, generation: i64) {
        let Some(object) = self.objects.get_mut(uid) else { return };
        if (object.since..=object.generation).contains(&generation) && !object.has_ended {
            object.has_ended = true;
            for vm_id in object.vm_ids() {
                leave(&mut self.unended, vm_id, &object.age);
            }
        }
    }

    /// Replaces what the object's last plan named. Gives its age, or none if the plan is of another
    /// generation.
    fn enter_plan(&mut self, plan: &Planned<'_>) -> Option<Arc<Age>> {
        let object = self.objects.get_mut(plan.uid)?;
        if object.generation != plan.generation {
            return None;
        }
        let age = Arc::clone(&object.age);
        if !object.planned.iter().map(|node| &**node).eq(plan.nodes.keys().copied()) {
            let names = plan.nodes.keys().map(|node| match self.planned.get_key_value(*node) {
                Some((name, _)) => Arc::clone(name),
                None => Arc::from(*node),
            });
            let names: Vec<Arc<str>> = names.collect();
            let before = std::mem::replace(&mut object.planned, names.clone());
            for node in before.iter().filter(|node| !plan.nodes.contains_key(&***node)) {
                leave(&mut self.planned, node, &age);
            }
            for node in &names {
                enter(&mut self.planned, node, &age);
            }
        }
        Some(age)
    }

    fn whose(
        &self,
        claim: &Claim<'_>,
        slice: &BTreeSet<Arc<Age>>,
        inventory: &Inventory,
        version_before_fetch: u64,
    ) -> Whose {
        if let Some(older) = self.older(claim, inventory) {
            return Whose::Older(older);
        }
        let of_vm = inventory.by_vm(claim.vm_id).into_iter();
        let of_node = inventory.get(claim.provider_id, claim.node).into_iter();
        let is_out_of_date =
            of_vm.chain(of_node).any(|stored| stored.version > version_before_fetch);
        if is_out_of_date || self.waits(claim, slice) || self.is_in_flight(claim) {
            return Whose::Later;
        }
        Whose::Mine
    }

    /// The oldest of those who have the node in their plan or hold a record of it, if it is older.
    fn older(&self, claim: &Claim<'_>, inventory: &Inventory) -> Option<ObjectKey> {
        let meets = |other: &&Arc<Age>| {
            self.named(other).is_some_and(|other| other.realms.meet(claim.realms))
        };
        let planner = self.planned.get(claim.node).into_iter().flatten().find(meets).cloned();
        let of_node = inventory.get(claim.provider_id, claim.node).into_iter();
        let of_vm = inventory.by_instance(claim.provider_id, claim.vm_id);
        let of_target = inventory.by_target(&claim.realms.target, claim.node);
        let records = of_node.chain(of_vm).chain(of_target);
        let holders = records.filter_map(|stored| self.holder(&stored.record, claim.realms));
        let oldest = planner.into_iter().chain(holders).min()?;
        (*oldest < *claim.age).then(|| oldest.key.clone())
    }

    /// The owner of a record, if it still means the record's VM, and for the same cloud or cluster.
    fn holder(&self, record: &Record, realms: &Realms) -> Option<Arc<Age>> {
        let owner = record.owner.as_ref()?;
        let Some(object) = self.objects.get(&owner.uid) else {
            let key = ObjectKey { namespace: owner.namespace.clone(), name: owner.name.clone() };
            // Its age isn't known before it is listed, so it counts as the oldest.
            let age = Age { created: Timestamp::MIN, key, uid: owner.uid.clone() };
            return self.unlisted.contains(&owner.namespace).then(|| Arc::new(age));
        };
        let means = |named: &Named| named.means(record) && named.realms.meet(realms);
        object.named.as_ref().is_none_or(means).then(|| Arc::clone(&object.age))
    }

    /// Is there an older object that names the VM, of which no pass has ended and that isn't in the
    /// same slice? Which nodes are its own isn't known.
    fn waits(&self, claim: &Claim<'_>, slice: &BTreeSet<Arc<Age>>) -> bool {
        let unended = self.unended.get(claim.vm_id).into_iter().flatten();
        unended.take_while(|other| ***other < *claim.age).any(|other| {
            let named = self.named(other);
            !slice.contains(other)
                && named.is_some_and(|other| other.realms.cloud == claim.realms.cloud)
        })
    }

    fn is_in_flight(&self, claim: &Claim<'_>) -> bool {
        let sent = self.in_flight.get(claim.node).into_iter().flatten();
        sent.into_iter().any(|realms| realms.meet(claim.realms))
    }

    fn named(&self, age: &Age) -> Option<&Named> {
        self.objects.get(&age.uid)?.named.as_ref()
    }
}

fn enter(index: &mut Index, name: &Arc<str>, age: &Arc<Age>) {
    let ages = index.entry(Arc::clone(name)).or_default();
    if let Err(place) = ages.binary_search(age) {
        // Nearly always the only one.
        ages.reserve_exact(1);
        ages.insert(place, Arc::clone(age));
    }
}

fn leave(index: &mut Index, name: &str, age: &Arc<Age>) {
    let Some(ages) = index.get_mut(name) else { return };
    ages.retain(|other| other != age);
    if ages.is_empty() {
        index.remove(name);
    }
}

/// The table of all objects, shared by controller and workers.
#[derive(Debug, Default)]
pub struct Ownership {
    table: Mutex<Table>,
}

impl Ownership {
    /// Knows no object. Owners of records in these namespaces count as existing until
    /// [`Ownership::listed`].
    pub fn expecting(namespaces: impl IntoIterator<Item = String>) -> Ownership {
        let unlisted = namespaces.into_iter().collect();
        Ownership { table: Table { unlisted, ..Table::default() }.into() }
    }

    /// All objects of the namespace are known.
    pub fn listed(&self, namespace: &str) {
        lock(&self.table).unlisted.remove(namespace);
    }

    /// An object as it is now. What it planned stays planned unless its cloud is another one now.
    pub fn know(&self, object: &OpenstackConfig) {
        lock(&self.table).know(object);
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        lock(&self.table).forget(uid);
    }

    /// A pass of this generation of the object has ended, well or not.
    pub fn ended(&self, uid: &str, generation: i64) {
        lock(&self.table).ended(uid, generation);
    }

    /// Does the owner that a cluster knows of a node keep it from this object? Not if it is gone, is
    /// younger, or its spec no longer names the node's VM.
    pub(crate) fn keeps(&self, owner: &NodeOwner, from: &OpenstackConfig, vm_id: &str) -> bool {
        let table = lock(&self.table);
        match table.objects.get(&owner.uid) {
            None => table.unlisted.contains(&owner.key.namespace),
            Some(object) => {
                let vm_id = vm_id.to_ascii_lowercase();
                let names =
                    |named: &Named| named.vm_ids.binary_search_by(|id| (**id).cmp(&vm_id)).is_ok();
                *object.age < Age::of(from) && object.named.as_ref().is_none_or(names)
            }
        }
    }

    /// Decides whose the nodes of these plans are, and gives a decision for each plan in their order.
    /// What they name is entered for all before any is decided. Objects of the slice without a whole
    /// plan are left out: what they planned last stays.
    ///
    /// `snapshot` is called under the lock. A node ends being in flight after its record is in the
    /// inventory, so only an inventory looked at from then on is sure to have the record.
    /// `version_before_fetch` is the inventory's version when the slice began to ask the cloud.
    pub fn decide(
        self: &Arc<Ownership>,
        plans: &[Planned<'_>],
        snapshot: impl FnOnce() -> Arc<Inventory>,
        version_before_fetch: u64,
    ) -> (Vec<Decision>, InFlight) {
        let mut in_flight = InFlight { ownership: Arc::clone(self), nodes: BTreeMap::new() };
        let mut decisions = vec![Decision::Gone; plans.len()];
        let mut table = lock(&self.table);
        let inventory = snapshot();
        let entered = plans.iter().enumerate();
        let entered = entered.filter_map(|(at, plan)| Some((table.enter_plan(plan)?, at)));
        let oldest_first: BTreeMap<Arc<Age>, usize> = entered.collect();
        let slice: BTreeSet<Arc<Age>> = oldest_first.keys().cloned().collect();
        for (age, at) in &oldest_first {
            let plan = &plans[*at];
            let Some(object) = table.objects.get(&age.uid) else { continue };
            let Some(named) = &object.named else { continue };
            let (names, realms) = (object.planned.clone(), named.realms.clone());
            let mut nodes = BTreeMap::new();
            for (node, vm_id) in names.into_iter().zip(plan.nodes.values()) {
                let (provider_id, realms) = (plan.provider_id, &realms);
                let claim = Claim { age, realms, provider_id, node: &node, vm_id };
                let whose = table.whose(&claim, &slice, &inventory, version_before_fetch);
                if whose == Whose::Mine {
                    in_flight.add(plan.target, &node, realms);
                    table.in_flight.entry(Arc::clone(&node)).or_default().push(realms.clone());
                }
                nodes.insert(node, whose);
            }
            decisions[*at] = Decision::Nodes(nodes);
        }
        (decisions, in_flight)
    }
}

/// The nodes of one slice that are [`Whose::Mine`]; no other pass sends them. It must outlive the
/// commit of what was accepted. Dropped, it ends for all of them.
#[derive(Debug)]
pub struct InFlight {
    ownership: Arc<Ownership>,
    /// By target, spelled as in the plan.
    nodes: BTreeMap<String, Vec<(Arc<str>, Realms)>>,
}

impl InFlight {
    /// What was accepted behind this target is recorded.
    pub fn end(&mut self, target: &str) {
        let ended = self.nodes.remove(target).unwrap_or_default();
        let mut table = lock(&self.ownership.table);
        for (node, realms) in ended {
            let Some(sent) = table.in_flight.get_mut(&node) else { continue };
            sent.retain(|other| *other != realms);
            if sent.is_empty() {
                table.in_flight.remove(&node);
            }
        }
    }

    fn add(&mut self, target: &str, node: &Arc<str>, realms: &Realms) {
        let nodes = self.nodes.entry(target.to_owned()).or_default();
        nodes.push((Arc::clone(node), realms.clone()));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        while let Some(target) = self.nodes.keys().next().cloned() {
            self.end(&target);
        }
    }
}
