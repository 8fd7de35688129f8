//! The inventory as it stands at one moment: immutable for readers, pure for the writer.

use std::collections::HashMap;
use std::sync::Arc;

use super::record::{Change, Prepared, Record};
use super::sorted::{Key, Sorted};
use super::timeline;

/// A record with what belongs to it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What Viola last accepted.
    pub record: Record,
    /// `record` as compact JSON, as the API answers it.
    pub json: Arc<[u8]>,
    /// What changed on the node, oldest first.
    pub timeline: Vec<timeline::Entry>,
    /// The inventory's version that came with it; 0 if it was read from a file.
    pub version: u64,
}

/// All records at one moment.
#[derive(Clone, Debug)]
pub struct Inventory {
    version: u64,
    by_node: Sorted,
    by_instance: Sorted,
}

fn node_key(stored: &Stored) -> Key<'_> {
    [&stored.record.provider_id, &stored.record.node_name, ""]
}

fn instance_key(stored: &Stored) -> Key<'_> {
    [&stored.record.provider_id, &stored.record.instance_id, &stored.record.node_name]
}

impl Default for Inventory {
    fn default() -> Inventory {
        Inventory {
            version: 0,
            by_node: Sorted::by(node_key),
            by_instance: Sorted::by(instance_key),
        }
    }
}

impl Inventory {
    /// Moves with every change, within one run of the program.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Is there no record?
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// The record of a node.
    pub fn get(&self, provider_id: &str, node_name: &str) -> Option<&Arc<Stored>> {
        self.by_node.get([provider_id, node_name, ""])
    }

    /// The records of a VM, ordered by node name: more than one only while it is being renamed.
    pub fn by_instance(&self, provider_id: &str, instance_id: &str) -> Vec<&Arc<Stored>> {
        let belongs = |stored: &&Arc<Stored>| {
            stored.record.provider_id == provider_id && stored.record.instance_id == instance_id
        };
        let from = [provider_id, instance_id, ""];
        self.by_instance.starting_at(from).take_while(belongs).collect()
    }

    /// The records of a node name, one per provider that has it, without looking at the others.
    pub fn by_name(&self, node_name: &str) -> Vec<Arc<Stored>> {
        let mut found = Vec::new();
        let mut next = self.iter().next();
        while let Some(stored) = next {
            let provider_id = &stored.record.provider_id;
            found.extend(self.get(provider_id, node_name).cloned());
            // Nothing sorts between a text and the same text with a zero character behind it.
            next = self.starting_at(&format!("{provider_id}\0"), "").next();
        }
        found
    }

    /// All records, ordered by provider and node name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.by_node.iter()
    }

    /// The records from this key on, ordered by provider and node name.
    pub fn starting_at<'a>(
        &'a self,
        provider_id: &str,
        node_name: &str,
    ) -> impl Iterator<Item = &'a Arc<Stored>> + use<'a> {
        self.by_node.starting_at([provider_id, node_name, ""])
    }

    /// Puts a stored record in as it is, for reading a file.
    pub(super) fn restore(&mut self, stored: Stored) {
        self.put(Arc::new(stored));
    }

    /// The changes of one commit. A record that goes while its VM comes back under another name
    /// hands its timeline on.
    pub(super) fn apply(&mut self, changes: &[Prepared]) {
        self.version += 1;
        let renamed = self.leaving(changes);
        for Prepared { change, json } in changes {
            match change {
                Change::Remove { provider_id, node_name } => self.take(provider_id, node_name),
                Change::Upsert(record) => {
                    let before = self.get(&record.provider_id, &record.node_name).cloned();
                    let instance = (record.provider_id.clone(), record.instance_id.clone());
                    let before = before.or_else(|| renamed.get(&instance).cloned());
                    let (earlier, old) = match &before {
                        Some(stored) => (stored.timeline.as_slice(), Some(&stored.record)),
                        None => ([].as_slice(), None),
                    };
                    let timeline = timeline::extended(earlier, timeline::changes(old, record));
                    let (record, json, version) = (record.clone(), json.clone(), self.version);
                    self.put(Arc::new(Stored { record, json, timeline, version }));
                }
            }
        }
    }

    /// Goes on counting where another inventory stood, so that no version is used twice.
    pub(super) fn succeed(&mut self, earlier: &Inventory) {
        self.version = self.version.max(earlier.version) + 1;
    }

    fn leaving(&self, changes: &[Prepared]) -> HashMap<(String, String), Arc<Stored>> {
        let removed = changes.iter().filter_map(|prepared| match &prepared.change {
            Change::Remove { provider_id, node_name } => self.get(provider_id, node_name),
            Change::Upsert(_) => None,
        });
        removed
            .map(|stored| {
                let record = &stored.record;
                ((record.provider_id.clone(), record.instance_id.clone()), stored.clone())
            })
            .collect()
    }

    fn put(&mut self, stored: Arc<Stored>) {
        let record = &stored.record;
        let old = self.get(&record.provider_id, &record.node_name).cloned();
        if let Some(old) = old.filter(|old| old.record.instance_id != record.instance_id) {
            self.by_instance.remove(instance_key(&old));
        }
        self.by_instance.insert(stored.clone());
        self.by_node.insert(stored);
    }

    fn take(&mut self, provider_id: &str, node_name: &str) {
        if let Some(old) = self.by_node.remove([provider_id, node_name, ""]) {
            self.by_instance.remove(instance_key(&old));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Inventory;

    fn at_version(version: u64) -> Inventory {
        let mut inventory = Inventory::default();
        for _ in 0..version {
            inventory.apply(&[]);
        }
        inventory
    }

    #[test]
    fn what_is_read_anew_has_a_version_that_neither_had() {
        for (read, earlier, expected) in [(0, 3, 4), (5, 3, 6), (0, 0, 1)] {
            let mut read = at_version(read);
            read.succeed(&at_version(earlier));
            assert_eq!(read.version(), expected);
        }
    }
}
