//! (g): nothing of a mass removal is sent before a person approved just that, and nothing is held that
//! is there. The person believes the status.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::inventory::record::Record;
use multinic_operator::node_config::NodeConfig;
use multinic_operator::reconcile::removals::{Hold, Removal};
use multinic_operator::reconcile::{Outcome, Work};
use multinic_operator::resources::{ObjectKey, Spec};
use simulated_cloud::CloudState;

use crate::driver::{Broken, Simulation};
use crate::kubernetes::Object;
use crate::oracle::{subnets, wanted_cards};
use crate::post::Sent;
use crate::transport::Seen;

/// Removals that were sent so long ago still count.
const RECENT: Duration = Duration::from_secs(600);
/// Held are removals of more than these per cent of an object's nodes.
const LIMIT: usize = 50;

/// What was held, approved and removed.
#[derive(Default)]
pub(crate) struct Holds {
    /// What the operator said that a hash stands for, by the object's uid and hash.
    said: BTreeMap<(String, String), Vec<Removal>>,
    /// What the person has approved, by the object's uid and hash.
    approved: BTreeSet<(String, String)>,
    /// When this process was told that a removal was accepted, by the object's uid and node.
    removed: BTreeMap<(String, String), Duration>,
    /// Uids of all objects that ever named a VM.
    named: BTreeMap<String, BTreeSet<String>>,
}

impl Holds {
    /// A process starts, and doesn't know what the last one removed.
    pub(crate) fn forget_removed(&mut self) {
        self.removed.clear();
    }

    pub(crate) fn note_approval(&mut self, uid: &str, hash: &str) {
        self.approved.insert((uid.to_owned(), hash.to_owned()));
    }

    /// Viola took a node, and the operator knows.
    pub(crate) fn note_accepted(&mut self, at: Duration, sent: &Sent<'_>, inventory: &Inventory) {
        if let [work] = sent.of[..]
            && removal(work.object.spec.as_ref().unwrap(), &sent.node, inventory).is_some()
        {
            self.removed.insert((work.object.uid.clone(), sent.node.node_name.clone()), at);
        }
    }

    /// The objects are these now.
    pub(crate) fn note_objects<'a>(&mut self, objects: impl Iterator<Item = &'a Object>) {
        for object in objects.map(Object::read) {
            for vm in object.spec.iter().flat_map(|spec| &spec.vm_ids) {
                self.named.entry(vm.clone()).or_default().insert(object.uid.clone());
            }
        }
    }

    /// Is this removal part of something that was approved?
    fn is_approved(&self, uid: &str, removal: &Removal) -> bool {
        let of_object = self.approved.iter().filter(|(of, _)| of == uid);
        let said = of_object.filter_map(|approved| self.said.get(approved)).flatten();
        said.into_iter().any(|approved| approved == removal)
    }

    /// A POST takes no cards from many nodes of one object that nobody approved. A VM that several
    /// objects name may be of any of them, and isn't counted.
    pub(crate) fn check_post(
        &self,
        at: Duration,
        nodes: &[Sent<'_>],
        inventory: &Inventory,
    ) -> Result<(), Broken> {
        let mut by_object: BTreeMap<&str, (&Work, Vec<Removal>)> = BTreeMap::new();
        for Sent { node, of } in nodes {
            let [work] = of[..] else { continue };
            let removal = removal(work.object.spec.as_ref().unwrap(), node, inventory);
            let known = by_object.entry(&work.object.uid).or_insert((work, Vec::new()));
            known.1.extend(removal);
        }
        for (uid, (work, removals)) in by_object {
            let known = known(work.object.spec.as_ref().unwrap(), inventory);
            // Of a node that is another object's by now, nothing counts.
            let is_own = |record: &&&Record| self.named[&record.instance_id].len() == 1;
            let names = known.iter().filter(is_own).map(|record| &record.node_name);
            let is_recent = |name: &&String| {
                let removed = self.removed.get(&(uid.to_owned(), (*name).clone()));
                removed.is_some_and(|removed| at < *removed + RECENT)
            };
            let mut losing: BTreeSet<&String> = names.filter(is_recent).collect();
            losing.extend(removals.iter().map(|removal| &removal.node_name));
            let is_mass = losing.len() >= 2 && losing.len() * 100 > LIMIT * known.len();
            if let Some(removal) =
                removals.iter().find(|removal| is_mass && !self.is_approved(uid, removal))
            {
                return Err(format!(
                    "(g) {} of {} nodes lose cards, and nobody approved {removal:?}",
                    losing.len(),
                    known.len()
                ));
            }
        }
        Ok(())
    }

    /// What a pass holds was really taken away, at some moment of the pass.
    pub(crate) fn check_held(
        &mut self,
        work: &Work,
        hold: &Hold,
        clouds: &[&CloudState],
        inventory: &Inventory,
    ) -> Result<(), Broken> {
        let spec = work.object.spec.as_ref().unwrap();
        self.said.insert((work.object.uid.clone(), hold.hash.clone()), hold.removals.clone());
        for Removal { node_name, ports, .. } in &hold.removals {
            let Some(record) =
                known(spec, inventory).into_iter().find(|record| record.node_name == *node_name)
            else {
                continue;
            };
            let vm = &record.instance_id;
            let wanted: Vec<BTreeSet<String>> = clouds
                .iter()
                .flat_map(|cloud| {
                    let subnets = subnets(cloud, spec).into_iter();
                    subnets.map(|subnets| wanted_cards(cloud, spec, &subnets, vm, inventory))
                })
                .map(|cards| cards.into_iter().map(|card| card.port).collect())
                .collect();
            let is_there = |port: &&String| {
                !wanted.is_empty()
                    && wanted.iter().all(|ports| ports.contains(*port) && ports.len() <= 10)
            };
            if let Some(port) = ports.iter().find(is_there) {
                return Err(format!("(g) {node_name} is held for port {port}, which is there"));
            }
        }
        Ok(())
    }
}

impl Simulation {
    /// The person looks at an object's status.
    pub(crate) fn see_hold(&mut self, key: &ObjectKey) {
        let Some((uid, hash, is_taken_off)) =
            self.kubernetes.approve(self.at, key, &mut self.random)
        else {
            return;
        };
        self.holds.note_approval(&uid, &hash);
        self.count("approved");
        if is_taken_off {
            self.count("approval taken off");
        }
        self.trace.tell(self.at, format!("{key} ({uid}): {hash} is approved"));
    }

    /// Takes note of what a pass holds.
    pub(crate) fn note_hold(
        &mut self,
        work: &Work,
        outcome: &Outcome,
        seen: &Seen,
    ) -> Result<(), Broken> {
        let Some(hold) = outcome.hold.as_ref().filter(|hold| !hold.is_approved) else {
            return Ok(());
        };
        // Where the cloud changed in the middle of the pass, nobody knows what it saw.
        let clouds = match seen.changed {
            None => self.oracle.clouds_since(seen.version),
            Some(_) => Vec::new(),
        };
        let clouds: Vec<&CloudState> = clouds.iter().map(|cloud| &**cloud).collect();
        let inventory = self.process.as_ref().unwrap().context.store.snapshot();
        self.holds.check_held(work, hold, &clouds, &inventory)
    }
}

/// Records of what the target has of the object's VMs.
fn known<'a>(spec: &Spec, inventory: &'a Inventory) -> Vec<&'a Record> {
    let record = |vm: &String| {
        let records = inventory.by_vm(vm).into_iter().map(|stored| &stored.record);
        let of_target =
            records.filter(|record| record.accepted_by.as_deref() == Some(spec.target()));
        let newest = of_target.max_by_key(|record| record.updated_at);
        newest.filter(|record| !record.config.interfaces.is_empty())
    };
    spec.vm_ids.iter().filter_map(record).collect()
}

/// What the node loses of what it has.
fn removal(spec: &Spec, node: &NodeConfig, inventory: &Inventory) -> Option<Removal> {
    let known = known(spec, inventory);
    let record = known.into_iter().find(|record| record.instance_id == node.instance_id)?;
    let now = |port: &str| node.interfaces.iter().find(|one| one.port_id == port);
    let (mut ports, mut renumbered) = (Vec::new(), Vec::new());
    for sent in &record.config.interfaces {
        match now(&sent.port_id) {
            None => ports.push(sent.port_id.clone()),
            Some(now) if now.id != sent.id => {
                renumbered.push((sent.port_id.clone(), sent.id, now.id));
            }
            Some(_) => {}
        }
    }
    ports.sort_unstable();
    renumbered.sort_unstable();
    let is_removal = !ports.is_empty() || !renumbered.is_empty();
    let node_name = node.node_name.clone();
    is_removal.then_some(Removal { node_name, ports, renumbered, added: Vec::new() })
}
