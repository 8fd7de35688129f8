//! Which object manages which node: of two that claim one, the older keeps it (SPEC 5, step 10).
//!
//! [`ClaimTable`] decides and is pure. [`Claims`] is the lock around it, and makes "decide, send,
//! remember" one step for a node: an older object that takes a node over waits until the younger
//! one's POST is done, so that the last word at Viola is the older one's.
//!
//! What an object is recorded as the owner of it holds for as long as it names the VM: over a
//! restart, and while the VM's ports are away for a moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use jiff::Timestamp;

use crate::inventory::contents::Inventory;
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
    vm_ids: BTreeSet<String>,
    /// Nodes claimed in the last whole reading; none before the first one in this process.
    claimed: Option<BTreeSet<String>>,
    /// A sync has ended, well or not.
    attempted: bool,
}

type Node = (String, String);

/// By cloud and name who claims it, the oldest first; what nobody claims isn't in it.
type Index = BTreeMap<String, BTreeMap<String, Vec<Seniority>>>;

/// Who claims what.
#[derive(Debug, Default)]
pub struct ClaimTable {
    claimants: BTreeMap<Seniority, Claimant>,
    seniorities: HashMap<String, Seniority>,
    by_node: Index,
    by_vm: Index,
    /// Nodes that are being sent right now.
    sending: BTreeSet<Node>,
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
        let (provider_id, vm_ids) = match &object.spec {
            Ok(spec) => (spec.provider_id.clone(), spec.vm_ids.iter().cloned().collect()),
            Err(_) => (String::new(), BTreeSet::new()),
        };
        let (created, key, uid) = (object.created, object.key.clone(), object.uid.clone());
        let seniority = Arc::new(Age { created, key, uid });
        let before = self.take(&object.uid);
        let (claimed, attempted) = match before {
            Some(before) if before.provider_id == provider_id => (before.claimed, before.attempted),
            _ => (None, false),
        };
        for node in claimed.iter().flatten() {
            insert(&mut self.by_node, &provider_id, node, &seniority);
        }
        for vm_id in &vm_ids {
            insert(&mut self.by_vm, &provider_id, vm_id, &seniority);
        }
        self.seniorities.insert(object.uid.clone(), seniority.clone());
        let claimant =
            Claimant { seniority: seniority.clone(), provider_id, vm_ids, claimed, attempted };
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

    /// Replaces the object's claims by these nodes of the cloud, and says which of them are its
    /// own. None if the object is gone or belongs to another cloud by now: whoever asks began
    /// before that, and has nothing to say about it any more.
    pub fn claim(
        &mut self,
        uid: &str,
        provider_id: &str,
        nodes: &BTreeSet<String>,
        inventory: &Inventory,
    ) -> Option<Decision> {
        let claimant = self.claimant_mut(uid).filter(|known| known.provider_id == provider_id)?;
        let seniority = claimant.seniority.clone();
        let before = claimant.claimed.replace(nodes.clone()).unwrap_or_default();
        for node in before.difference(nodes) {
            remove(&mut self.by_node, provider_id, node, &seniority);
        }
        let mut decision = Decision::default();
        for node in nodes {
            insert(&mut self.by_node, provider_id, node, &seniority);
            match self.older_manager(provider_id, node, &seniority, inventory) {
                Some(manager) => {
                    let node_name = node.clone();
                    decision.conflicts.push(Conflict { node_name, manager });
                }
                None => {
                    decision.granted.insert(node.clone());
                }
            }
        }
        Some(decision)
    }

    fn older_manager(
        &self,
        provider_id: &str,
        node: &str,
        seniority: &Seniority,
        inventory: &Inventory,
    ) -> Option<ObjectKey> {
        let claimants = self.by_node.get(provider_id).and_then(|by_node| by_node.get(node));
        let first = claimants.and_then(|claimants| claimants.first());
        if let Some(first) = first.filter(|first| *first < seniority) {
            return Some(first.key.clone());
        }
        let stored = inventory.get(provider_id, node)?;
        let owner = self.seniorities.get(&stored.record.owner.as_ref()?.uid)?;
        let owner = self.claimants.get(owner).filter(|_| owner < seniority)?;
        // Also while its ports are away for a moment: a younger object that took over for so long
        // would rename the node's network cards twice.
        let holds =
            owner.provider_id == provider_id && owner.vm_ids.contains(&stored.record.instance_id);
        holds.then(|| owner.seniority.key.clone())
    }

    fn claimant_mut(&mut self, uid: &str) -> Option<&mut Claimant> {
        self.claimants.get_mut(self.seniorities.get(uid)?)
    }

    fn take(&mut self, uid: &str) -> Option<Claimant> {
        let claimant = self.claimants.remove(&self.seniorities.remove(uid)?)?;
        for node in claimant.claimed.iter().flatten() {
            remove(&mut self.by_node, &claimant.provider_id, node, &claimant.seniority);
        }
        for vm_id in &claimant.vm_ids {
            remove(&mut self.by_vm, &claimant.provider_id, vm_id, &claimant.seniority);
        }
        Some(claimant)
    }
}

fn insert(index: &mut Index, provider_id: &str, name: &str, seniority: &Seniority) {
    let names = index.entry(provider_id.to_owned()).or_default();
    let claimants = names.entry(name.to_owned()).or_default();
    if let Err(place) = claimants.binary_search(seniority) {
        claimants.reserve_exact(1);
        claimants.insert(place, Arc::clone(seniority));
    }
}

fn remove(index: &mut Index, provider_id: &str, name: &str, seniority: &Seniority) {
    let Some(names) = index.get_mut(provider_id) else { return };
    let Some(claimants) = names.get_mut(name) else { return };
    claimants.retain(|claimant| claimant != seniority);
    if claimants.is_empty() {
        names.remove(name);
    }
    if names.is_empty() {
        index.remove(provider_id);
    }
}

/// The table, shared by the workers.
#[derive(Debug, Default)]
pub struct Claims {
    table: Mutex<ClaimTable>,
    sent: Condvar,
}

impl Claims {
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

    /// See [`ClaimTable::claim`]; nobody else sends a granted node before [`Held`] is dropped.
    /// Waits for others that are sending one of them; how long their POST may take is bounded.
    pub fn claim(
        self: &Arc<Claims>,
        uid: &str,
        provider_id: &str,
        nodes: &BTreeSet<String>,
        inventory: &Inventory,
    ) -> Option<(Decision, Held)> {
        let key = |node: &String| (provider_id.to_owned(), node.clone());
        let mut table = self.lock();
        while nodes.iter().any(|node| table.sending.contains(&key(node))) {
            table = self.sent.wait(table).unwrap_or_else(|held| held.into_inner());
        }
        let decision = table.claim(uid, provider_id, nodes, inventory)?;
        let held: Vec<Node> = decision.granted.iter().map(key).collect();
        table.sending.extend(held.iter().cloned());
        Some((decision, Held { claims: Arc::clone(self), nodes: held }))
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
