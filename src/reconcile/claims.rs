//! Which object manages which node: of two that claim one, the older keeps it (SPEC 5, step 10).
//!
//! [`ClaimTable`] decides and is pure. [`Claims`] is the lock around it, and makes "decide, send,
//! remember" one step for a node: an older object that takes a node over waits until the younger
//! one's POST is done, so that the last word at Viola is the older one's. What it had read by then is
//! outdated, so it reads anew.
//!
//! What an object is recorded as the owner of it holds for as long as it names the VM: over a
//! restart, while the VM's ports are away for a moment, and under another name that the VM gets. An
//! object that can't be read holds it as well, for nobody knows what it names; so does one in a
//! namespace that hasn't been listed yet.
//!
//! A node is one node by its cloud and by the cluster it is sent to: two clouds that send the same
//! name to one cluster mean the same node there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use jiff::Timestamp;

use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::resources::{ObjectKey, OpenstackConfig};

/// Orders objects by age; objects of one second by their names. One for each object: who claims a
/// node is a list of nearly always one, so a set of its own would be mostly room.
type Seniority = Arc<Age>;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    created: Timestamp,
    key: ObjectKey,
    uid: String,
}

#[derive(Debug)]
struct Claimant {
    seniority: Seniority,
    provider_id: String,
    target: String,
    vm_ids: BTreeSet<String>,
    /// Its spec can't be read now; the rest is as it was when it could.
    is_unreadable: bool,
    /// Nodes claimed in the last whole reading; none before the first one in this process.
    claimed: Option<BTreeSet<String>>,
    /// A sync has ended, well or not.
    attempted: bool,
}

/// A cloud or a cluster, and the node's name.
type Node = (String, String);

/// By cloud, or cluster, and name who claims it, the oldest first; what nobody claims isn't in it.
type Index = BTreeMap<String, BTreeMap<String, Vec<Seniority>>>;

/// Who claims what.
#[derive(Debug, Default)]
pub struct ClaimTable {
    claimants: BTreeMap<Seniority, Claimant>,
    seniorities: HashMap<String, Seniority>,
    by_node: Index,
    /// Claims of those whose cluster isn't named like their cloud, by cluster.
    by_target: Index,
    by_vm: Index,
    /// Nodes that are being sent right now.
    sending: BTreeSet<Node>,
    /// Watched namespaces whose objects aren't known yet.
    unlisted: BTreeSet<String>,
}

/// What an object wants to manage.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The cloud, by its Contrabass id.
    pub provider_id: &'a str,
    /// The cluster, as `x-provider-id` names it.
    pub target: &'a str,
    /// The nodes by name, and the VM of each.
    pub nodes: &'a BTreeMap<&'a str, &'a str>,
}

/// A node another object manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The node.
    pub node_name: String,
    /// The older object.
    pub manager: ObjectKey,
}

/// Which of the wanted nodes an object may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Nodes that are its own.
    pub granted: BTreeSet<String>,
    /// Nodes it must leave to others.
    pub conflicts: Vec<Conflict>,
}

impl ClaimTable {
    /// An object as it is now. What it claimed stays claimed until its next sync, unless it now
    /// belongs to another cloud.
    pub fn know(&mut self, object: &OpenstackConfig) {
        let (created, key, uid) = (object.created, object.key.clone(), object.uid.clone());
        let seniority = Arc::new(Age { created, key, uid });
        let before = self.take(&object.uid);
        let mut claimant = Claimant {
            seniority: Arc::clone(&seniority),
            provider_id: String::new(),
            target: String::new(),
            vm_ids: BTreeSet::new(),
            is_unreadable: object.spec.is_err(),
            claimed: None,
            attempted: false,
        };
        match (&object.spec, before) {
            (Ok(spec), before) => {
                claimant.provider_id.clone_from(&spec.provider_id);
                spec.target().clone_into(&mut claimant.target);
                claimant.vm_ids = spec.vm_ids.iter().cloned().collect();
                if let Some(before) = before.filter(|it| it.provider_id == spec.provider_id) {
                    (claimant.claimed, claimant.attempted) = (before.claimed, before.attempted);
                }
            }
            (Err(_), Some(before)) => {
                claimant =
                    Claimant { seniority: claimant.seniority, is_unreadable: true, ..before };
            }
            (Err(_), None) => {}
        }
        let Claimant { provider_id, target, vm_ids, claimed, .. } = &claimant;
        for node in claimed.iter().flatten() {
            self.enter_node(provider_id, target, node, &seniority);
        }
        for vm_id in vm_ids {
            enter(&mut self.by_vm, provider_id, vm_id, &seniority);
        }
        self.seniorities.insert(object.uid.clone(), Arc::clone(&seniority));
        self.claimants.insert(seniority, claimant);
    }

    /// The object is gone, and so are its claims.
    pub fn forget(&mut self, uid: &str) {
        self.take(uid);
    }

    /// A sync of the object ended, well or not.
    pub fn attempted(&mut self, uid: &str) {
        if let Some(claimant) = self.claimant_mut(uid) {
            claimant.attempted = true;
        }
    }

    /// An older object that names one of the same VMs and hasn't been synced yet in this process:
    /// until it has, nobody knows which nodes are its own.
    pub fn must_wait_for(&self, uid: &str) -> Option<ObjectKey> {
        let claimant = self.claimants.get(self.seniorities.get(uid)?)?;
        let by_vm = self.by_vm.get(&claimant.provider_id)?;
        let sharers = claimant.vm_ids.iter().filter_map(|vm_id| by_vm.get(vm_id));
        let older = sharers.flatten().filter(|seniority| **seniority < claimant.seniority);
        let unsynced =
            older.filter_map(|seniority| self.claimants.get(seniority)).find(|c| !c.attempted);
        unsynced.map(|claimant| claimant.seniority.key.clone())
    }

    /// Replaces the object's claims by these nodes, and says which of them are its own. None if the
    /// object is gone or belongs to another cloud or cluster by now: whoever asks began before that,
    /// and has nothing to say about it any more.
    pub fn claim(
        &mut self,
        uid: &str,
        wanted: &Wanted<'_>,
        inventory: &Inventory,
    ) -> Option<Decision> {
        let Wanted { provider_id, target, nodes } = *wanted;
        let claimant = self
            .claimant_mut(uid)
            .filter(|known| known.provider_id == provider_id && known.target == target)?;
        let seniority = Arc::clone(&claimant.seniority);
        let is_claimed = |claimed: &BTreeSet<String>| claimed.iter().eq(nodes.keys());
        if !claimant.claimed.as_ref().is_some_and(is_claimed) {
            let claimed = nodes.keys().map(|node| (*node).to_owned()).collect();
            let before = claimant.claimed.replace(claimed).unwrap_or_default();
            for node in before.iter().filter(|node| !nodes.contains_key(node.as_str())) {
                leave(&mut self.by_node, provider_id, node, &seniority);
                leave(&mut self.by_target, target, node, &seniority);
            }
            for node in nodes.keys() {
                self.enter_node(provider_id, target, node, &seniority);
            }
        }
        let mut decision = Decision::default();
        for (node, vm_id) in nodes {
            let manager = self
                .older_claimant(wanted, node, &seniority)
                .or_else(|| self.recorded_manager(wanted, node, vm_id, &seniority, inventory));
            match manager {
                Some(manager) => {
                    let node_name = (*node).to_owned();
                    decision.conflicts.push(Conflict { node_name, manager });
                }
                None => {
                    decision.granted.insert((*node).to_owned());
                }
            }
        }
        Some(decision)
    }

    /// The oldest of those who claim the node, in this cloud or for this cluster, if it is older.
    fn older_claimant(
        &self,
        wanted: &Wanted<'_>,
        node: &str,
        seniority: &Seniority,
    ) -> Option<ObjectKey> {
        let Wanted { provider_id, target, .. } = *wanted;
        let of_cloud = claimants(&self.by_node, provider_id, node).first();
        let of_cluster = claimants(&self.by_target, target, node).first();
        // A cloud may have the name that others give the cluster.
        let sends_there = |other: &&Seniority| {
            self.claimants.get(*other).is_some_and(|other| other.target == target)
        };
        let named_alike = claimants(&self.by_node, target, node).iter().find(sends_there);
        let oldest = of_cloud.into_iter().chain(of_cluster).chain(named_alike).min()?;
        (oldest < seniority).then(|| oldest.key.clone())
    }

    /// The owner of what Viola was told of the node, or of its VM under another name, if that is an
    /// older object which still means it.
    fn recorded_manager(
        &self,
        wanted: &Wanted<'_>,
        node: &str,
        vm_id: &str,
        seniority: &Seniority,
        inventory: &Inventory,
    ) -> Option<ObjectKey> {
        let Wanted { provider_id, target, .. } = *wanted;
        let own = inventory.get(provider_id, node);
        let manager = own.and_then(|own| self.holder(&own.record, wanted, seniority));
        let is_known = own.is_some_and(|own| own.record.instance_id == vm_id);
        let manager = manager.or_else(|| {
            let renamed =
                if is_known { Vec::new() } else { inventory.by_instance(provider_id, vm_id) };
            renamed.into_iter().find_map(|other| self.holder(&other.record, wanted, seniority))
        });
        if manager.is_some() || (target == provider_id && self.by_target.is_empty()) {
            return manager;
        }
        let there = inventory.by_name(node);
        let mut there = there.iter().filter(|other| {
            other.record.provider_id != provider_id
                && other.record.accepted_by.as_deref() == Some(target)
        });
        there.find_map(|other| self.holder(&other.record, wanted, seniority))
    }

    /// The owner of a record, if it is older and still means the record's node. Also while its ports
    /// are away for a moment: a younger object that took over for so long would rename the node's
    /// network cards twice.
    fn holder(
        &self,
        record: &Record,
        wanted: &Wanted<'_>,
        seniority: &Seniority,
    ) -> Option<ObjectKey> {
        let owner = record.owner.as_ref()?;
        let Some(known) = self.seniorities.get(&owner.uid) else {
            let (namespace, name) = (owner.namespace.clone(), owner.name.clone());
            return self.unlisted.contains(&namespace).then_some(ObjectKey { namespace, name });
        };
        let claimant = self.claimants.get(known).filter(|_| known < seniority)?;
        let is_there = claimant.provider_id == record.provider_id
            && claimant.vm_ids.contains(&record.instance_id)
            && (record.provider_id == wanted.provider_id || claimant.target == wanted.target);
        // One that can't be read since the start of the process: what it names isn't known.
        let is_in_the_dark = claimant.is_unreadable && claimant.vm_ids.is_empty();
        (is_there || is_in_the_dark).then(|| known.key.clone())
    }

    fn enter_node(&mut self, provider_id: &str, target: &str, node: &str, seniority: &Seniority) {
        enter(&mut self.by_node, provider_id, node, seniority);
        if target != provider_id {
            enter(&mut self.by_target, target, node, seniority);
        }
    }

    fn claimant_mut(&mut self, uid: &str) -> Option<&mut Claimant> {
        self.claimants.get_mut(self.seniorities.get(uid)?)
    }

    fn take(&mut self, uid: &str) -> Option<Claimant> {
        let claimant = self.claimants.remove(&self.seniorities.remove(uid)?)?;
        let Claimant { provider_id, target, seniority, .. } = &claimant;
        for node in claimant.claimed.iter().flatten() {
            leave(&mut self.by_node, provider_id, node, seniority);
            leave(&mut self.by_target, target, node, seniority);
        }
        for vm_id in &claimant.vm_ids {
            leave(&mut self.by_vm, provider_id, vm_id, seniority);
        }
        Some(claimant)
    }
}

/// Who claims a name, the oldest first.
fn claimants<'a>(index: &'a Index, owner: &str, name: &str) -> &'a [Seniority] {
    index.get(owner).and_then(|names| names.get(name)).map(Vec::as_slice).unwrap_or_default()
}

fn enter(index: &mut Index, owner: &str, name: &str, seniority: &Seniority) {
    let names = index.entry(owner.to_owned()).or_default();
    let claimants = names.entry(name.to_owned()).or_default();
    if let Err(place) = claimants.binary_search(seniority) {
        claimants.reserve_exact(1);
        claimants.insert(place, Arc::clone(seniority));
    }
}

fn leave(index: &mut Index, owner: &str, name: &str, seniority: &Seniority) {
    let Some(names) = index.get_mut(owner) else { return };
    let Some(claimants) = names.get_mut(name) else { return };
    claimants.retain(|claimant| claimant != seniority);
    if claimants.is_empty() {
        names.remove(name);
    }
    if names.is_empty() {
        index.remove(owner);
    }
}

/// The table, shared by the workers.
#[derive(Debug, Default)]
pub struct Claims {
    table: Mutex<ClaimTable>,
    sent: Condvar,
}

/// What came of [`Claims::claim`].
#[derive(Debug)]
pub enum Claim {
    /// Which nodes are the object's own; nobody else sends one of them before [`Held`] is dropped.
    Held(Decision, Held),
    /// One of its nodes was being sent for another object. That is over by now, and what was read
    /// before it is outdated.
    Waited,
    /// The object is gone, or belongs to another cloud or cluster by now.
    Gone,
}

impl Claims {
    /// Objects of these namespaces are there, though nobody knows them before they are listed.
    pub fn expecting(namespaces: impl IntoIterator<Item = String>) -> Claims {
        let unlisted = namespaces.into_iter().collect();
        Claims {
            table: ClaimTable { unlisted, ..ClaimTable::default() }.into(),
            ..Claims::default()
        }
    }

    /// All objects of the namespace are known.
    pub fn listed(&self, namespace: &str) {
        self.lock().unlisted.remove(namespace);
    }

    /// See [`ClaimTable::know`].
    pub fn know(&self, object: &OpenstackConfig) {
        self.lock().know(object);
    }

    /// See [`ClaimTable::forget`].
    pub fn forget(&self, uid: &str) {
        self.lock().forget(uid);
    }

    /// See [`ClaimTable::attempted`].
    pub fn attempted(&self, uid: &str) {
        self.lock().attempted(uid);
    }

    /// See [`ClaimTable::must_wait_for`].
    pub fn must_wait_for(&self, uid: &str) -> Option<ObjectKey> {
        self.lock().must_wait_for(uid)
    }

    /// See [`ClaimTable::claim`]. Waits while one of the nodes that are its own is being sent for
    /// another object; how long a POST may take is bounded. The claim itself is made before, so that
    /// the other doesn't send the node again.
    pub fn claim(
        self: &Arc<Claims>,
        uid: &str,
        wanted: &Wanted<'_>,
        inventory: &Inventory,
    ) -> Claim {
        let mut table = self.lock();
        let Some(decision) = table.claim(uid, wanted, inventory) else { return Claim::Gone };
        let owners = BTreeSet::from([wanted.provider_id, wanted.target]);
        let keys = |owner: &str| {
            let key = |node: &String| (owner.to_owned(), node.clone());
            decision.granted.iter().map(key).collect::<Vec<Node>>()
        };
        let held: Vec<Node> = owners.into_iter().flat_map(keys).collect();
        let is_sent = |table: &ClaimTable| held.iter().any(|node| table.sending.contains(node));
        if is_sent(&table) {
            while is_sent(&table) {
                table = self.sent.wait(table).unwrap_or_else(|held| held.into_inner());
            }
            return Claim::Waited;
        }
        table.sending.extend(held.iter().cloned());
        Claim::Held(decision, Held { claims: Arc::clone(self), nodes: held })
    }

    fn lock(&self) -> MutexGuard<'_, ClaimTable> {
        self.table.lock().unwrap_or_else(|held| held.into_inner())
    }
}

/// Nodes that are being sent.
#[derive(Debug)]
pub struct Held {
    claims: Arc<Claims>,
    nodes: Vec<Node>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.claims.lock();
        for node in &self.nodes {
            table.sending.remove(node);
        }
        drop(table);
        self.claims.sent.notify_all();
    }
}
