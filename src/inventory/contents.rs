//! The inventory as it stands at one moment. It never changes: a commit makes the next one, which
//! shares all records but those that changed.

use std::sync::{Arc, OnceLock};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::record::{Change, Record};
use super::timeline::Timeline;

/// A record with what belongs to it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What was last accepted.
    pub record: Record,
    /// `record` as compact JSON, as file and API have it.
    pub json: Arc<[u8]>,
    /// The node's [`Timeline`] as compact JSON, likewise.
    pub timeline: Arc<[u8]>,
    /// The inventory's version that came with it; 0 if it was read from a file.
    pub version: u64,
    /// SHA-256 of `json` and `timeline`.
    pub(super) digest: [u8; SHA256_OUTPUT_LEN],
}

impl Stored {
    pub(super) fn new(record: Record, timeline: Arc<[u8]>, version: u64) -> Stored {
        // Strings, numbers and lists only: serialisation has nothing to fail on.
        let json: Arc<[u8]> = serde_json::to_vec(&record).unwrap_or_default().into();
        let mut context = Context::new(&SHA256);
        context.update(&json);
        context.update(&timeline);
        let mut digest = [0; SHA256_OUTPUT_LEN];
        digest.copy_from_slice(context.finish().as_ref());
        Stored { record, json, timeline, version, digest }
    }

    fn key(&self) -> (&str, &str) {
        (&self.record.provider_id, &self.record.node_name)
    }
}

/// Positions of records by the hash of one of their ids, made when it is first asked for.
type Positions = OnceLock<Vec<(u64, u32)>>;

/// All records at one moment. Ids are compared without case.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    version: u64,
    /// Ordered by provider and node name.
    records: Vec<Arc<Stored>>,
    by_name: Positions,
    by_instance: Positions,
    by_port: Positions,
}

impl Inventory {
    /// What was read from a file; of records with the same key the last one counts.
    pub(super) fn read(version: u64, records: Vec<Stored>) -> Inventory {
        let mut records: Vec<_> = records.into_iter().map(Arc::new).collect();
        records.sort_by(|one, other| one.key().cmp(&other.key()));
        let mut read: Vec<Arc<Stored>> = Vec::with_capacity(records.len());
        for stored in records {
            if read.last().is_some_and(|last| last.key() == stored.key()) {
                read.pop();
            }
            read.push(stored);
        }
        Inventory { version, records: read, ..Inventory::default() }
    }

    /// The same records as an inventory that goes on from this version.
    pub(super) fn at_version(self, version: u64) -> Inventory {
        Inventory { version: self.version.max(version), ..self }
    }

    /// Moves with every commit, within one run of the program.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Is there no record?
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All records, ordered by provider and node name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.records.iter()
    }

    /// The records that APIs show, from this key on, ordered by provider and node name.
    pub(super) fn shown_from<'a>(
        &'a self,
        provider_id: &str,
        node_name: &str,
    ) -> impl Iterator<Item = &'a Arc<Stored>> + use<'a> {
        let first = self.place(provider_id, node_name).unwrap_or_else(|place| place);
        self.records[first..].iter().filter(|stored| stored.record.was_accepted())
    }

    /// The record of a node of a provider.
    pub fn get(&self, provider_id: &str, node_name: &str) -> Option<&Arc<Stored>> {
        match self.place(provider_id, node_name) {
            Ok(place) => self.records.get(place),
            Err(_) => {
                let mut named = self.by_name(node_name).into_iter();
                named.find(|other| other.record.provider_id.eq_ignore_ascii_case(provider_id))
            }
        }
    }

    /// The records of a node name, of any provider.
    pub fn by_name(&self, node_name: &str) -> Vec<&Arc<Stored>> {
        let found = self.find(&self.by_name, node_name, |record| vec![&record.node_name]);
        found.filter(|stored| stored.record.node_name == node_name).collect()
    }

    /// The records of a node name that were accepted by this target.
    pub fn by_target(&self, target: &str, node_name: &str) -> Vec<&Arc<Stored>> {
        let accepted_there = |stored: &&Arc<Stored>| {
            stored.record.accepted_by.as_ref().is_some_and(|by| by.eq_ignore_ascii_case(target))
        };
        self.by_name(node_name).into_iter().filter(accepted_there).collect()
    }

    /// The records of a VM, of any provider: more than one while it is being renamed, or if its
    /// cloud was registered under another id.
    pub fn by_vm(&self, instance_id: &str) -> Vec<&Arc<Stored>> {
        let found = self.find(&self.by_instance, instance_id, |record| vec![&record.instance_id]);
        found.filter(|other| other.record.instance_id.eq_ignore_ascii_case(instance_id)).collect()
    }

    /// The records of a VM of one provider.
    pub fn by_instance(&self, provider_id: &str, instance_id: &str) -> Vec<&Arc<Stored>> {
        let mut found = self.by_vm(instance_id);
        found.retain(|other| other.record.provider_id.eq_ignore_ascii_case(provider_id));
        found
    }

    /// The records, of any provider, in which a port has or had an id.
    pub fn by_port(&self, port_id: &str) -> Vec<&Arc<Stored>> {
        let found = self.find(&self.by_port, port_id, |record| record.ports().collect());
        let has_it = |stored: &&Arc<Stored>| {
            stored.record.ports().any(|port| port.eq_ignore_ascii_case(port_id))
        };
        found.filter(has_it).collect()
    }

    /// The inventory after the changes of one commit, and whether they only say that the same was
    /// accepted again. A record that goes while its VM comes back under another name hands its
    /// timeline on.
    pub(super) fn with(&self, changes: Vec<Change>) -> (Inventory, bool) {
        let version = self.version + 1;
        let records = self.records.clone();
        let mut next = Inventory { version, records, ..Inventory::default() };
        let leaving: Vec<Arc<Stored>> = changes
            .iter()
            .filter(|change| matches!(change, Change::Remove { .. }))
            .filter_map(|change| self.get(change.key().0, change.key().1).cloned())
            .collect();
        let mut only_resent = true;
        for change in changes {
            let (provider_id, node_name) = change.key();
            let before = next.take(self, provider_id, node_name);
            let Change::Upsert(record) = change else {
                only_resent &= before.is_none();
                continue;
            };
            let is_resent = |before: &Arc<Stored>| record.differs_in_time_only(&before.record);
            only_resent &= before.as_ref().is_some_and(is_resent);
            let renamed = || leaving.iter().find(|left| record.is_of_vm_of(&left.record));
            let before = before.as_ref().or_else(renamed);
            let timeline = Timeline::next(before.map(|before| &**before), &record);
            let stored = Stored::new(record, timeline, version);
            let (Ok(place) | Err(place)) =
                next.place(&stored.record.provider_id, &stored.record.node_name);
            next.records.insert(place, Arc::new(stored));
        }
        (next, only_resent)
    }

    /// Takes a key's record out, however its provider is spelled in `earlier`.
    fn take(
        &mut self,
        earlier: &Inventory,
        provider_id: &str,
        node_name: &str,
    ) -> Option<Arc<Stored>> {
        let place = self.place(provider_id, node_name).ok().or_else(|| {
            let other = earlier.get(provider_id, node_name)?;
            self.place(&other.record.provider_id, node_name).ok()
        })?;
        Some(self.records.remove(place))
    }

    fn place(&self, provider_id: &str, node_name: &str) -> Result<usize, usize> {
        self.records.binary_search_by(|stored| stored.key().cmp(&(provider_id, node_name)))
    }

    /// Records that have this key, or another one with the same hash.
    fn find<'a>(
        &'a self,
        positions: &'a Positions,
        key: &str,
        keys: fn(&Record) -> Vec<&str>,
    ) -> impl Iterator<Item = &'a Arc<Stored>> + use<'a> {
        let positions = positions.get_or_init(|| {
            let mut positions = Vec::new();
            for (stored, position) in self.records.iter().zip(0..) {
                positions.extend(keys(&stored.record).into_iter().map(|key| (hash(key), position)));
            }
            positions.sort_unstable();
            positions.dedup();
            positions
        });
        let wanted = hash(key);
        let first = positions.partition_point(|(hash, _)| *hash < wanted);
        let found = positions[first..].iter().take_while(move |(hash, _)| *hash == wanted);
        found.filter_map(|(_, position)| self.records.get(*position as usize))
    }
}

/// FNV-1a of the lower-case text.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    })
}
