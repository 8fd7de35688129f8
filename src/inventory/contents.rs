//! The inventory as it stands at one moment. It never changes: a commit makes the next one, which
//! shares all records but those that changed.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::backend::Unreadable;
use super::record::{Change, Record};
use super::timeline::Timeline;
use crate::node_config::SharedTexts;

/// A record with what belongs to it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What was last accepted.
    pub record: Record,
    /// `record` as compact JSON, as file and API have it.
    pub json: Arc<[u8]>,
    /// What changed on the node as compact JSON, as file and API have it.
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
        let digest = context.finish().as_ref().try_into().unwrap_or_default();
        Stored { record, json, timeline, version, digest }
    }

    fn compare(&self, provider_id: &str, node_name: &str) -> Ordering {
        let by_provider = lower(&self.record.provider_id).cmp(lower(provider_id));
        by_provider.then_with(|| self.record.node_name.as_str().cmp(node_name))
    }
}

/// All records at one moment. Ids of providers, targets, VMs and ports are compared without case.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    version: u64,
    /// Ordered by provider and node name, each once.
    records: Vec<Arc<Stored>>,
    /// Positions of records by the hash of their node name, their VM and the uid of their owner; made
    /// when they are needed.
    positions: OnceLock<Vec<(u64, u32)>>,
    /// Nodes whose records are there and can't be read: what they were sent isn't known.
    unreadable: Arc<Unreadable>,
}

impl Inventory {
    /// What a file holds. Of records with the same key the newest counts, or the last of them.
    pub(super) fn read(mut records: Vec<Stored>) -> Inventory {
        records.sort_by_key(|stored| stored.record.updated_at);
        let by_key = records.into_iter().map(|stored| {
            let Record { provider_id, node_name, .. } = &stored.record;
            ((provider_id.to_ascii_lowercase(), node_name.clone()), Arc::new(stored))
        });
        let by_key: BTreeMap<_, _> = by_key.collect();
        Inventory { records: by_key.into_values().collect(), ..Inventory::default() }
    }

    /// These records, without timelines.
    pub(crate) fn of(records: Vec<Record>) -> Inventory {
        let mut texts = SharedTexts::default();
        let stored = |mut record: Record| {
            record.config.share(&mut texts);
            let timeline = Timeline::of(&record).to_json();
            Stored::new(record, timeline, 0)
        };
        Inventory::read(records.into_iter().map(stored).collect())
    }

    /// The same records, beside others that can't be read.
    pub(crate) fn with_unreadable(self, unreadable: Unreadable) -> Inventory {
        Inventory { unreadable: Arc::new(unreadable), ..self }
    }

    /// What is wrong with the record of this node or VM, if it is there and can't be read.
    pub(crate) fn unreadable(&self, node_name_or_vm: &str) -> Option<&str> {
        self.unreadable.get(node_name_or_vm).map(String::as_str)
    }

    /// The same records, as of a later version.
    pub(super) fn at_version(self, version: u64) -> Inventory {
        Inventory { version, ..self }
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

    /// The records that APIs show, from this key on, in order.
    pub(super) fn shown_from<'a>(
        &'a self,
        provider_id: &str,
        node_name: &str,
    ) -> impl Iterator<Item = &'a Arc<Stored>> + use<'a> {
        let (Ok(first) | Err(first)) = self.place(provider_id, node_name);
        self.records[first..].iter().filter(|stored| stored.record.was_accepted())
    }

    /// The record of a node of a provider.
    pub fn get(&self, provider_id: &str, node_name: &str) -> Option<&Arc<Stored>> {
        self.records.get(self.place(provider_id, node_name).ok()?)
    }

    /// The records of a node name, of any provider.
    pub fn by_name(&self, node_name: &str) -> Vec<&Arc<Stored>> {
        self.find(node_name, |record| record.node_name == node_name)
    }

    /// The records of a node name that this target accepted.
    pub fn by_target(&self, target: &str, node_name: &str) -> Vec<&Arc<Stored>> {
        self.find(node_name, |record| {
            let accepted_by = record.accepted_by.as_deref().unwrap_or_default();
            record.node_name == node_name && accepted_by.eq_ignore_ascii_case(target)
        })
    }

    /// The records of a VM, of any provider: more than one while it is being renamed, or if its
    /// cloud was registered under another id.
    pub fn by_vm(&self, instance_id: &str) -> Vec<&Arc<Stored>> {
        self.find(instance_id, |record| record.instance_id.eq_ignore_ascii_case(instance_id))
    }

    /// The records of a VM of one provider.
    pub fn by_instance(&self, provider_id: &str, instance_id: &str) -> Vec<&Arc<Stored>> {
        let mut found = self.by_vm(instance_id);
        found.retain(|other| other.record.provider_id.eq_ignore_ascii_case(provider_id));
        found
    }

    /// The records of the nodes that an object had sent.
    pub fn by_owner(&self, uid: &str) -> Vec<&Arc<Stored>> {
        self.find(uid, |record| record.owner.as_ref().is_some_and(|owner| owner.uid == uid))
    }

    /// The inventory after the changes of one commit, and whether they only say that the same was
    /// accepted again. A record that goes while its VM comes back under another name hands its
    /// timeline on.
    pub(super) fn with(&self, changes: Vec<Change>) -> (Inventory, bool) {
        let (version, records) = (self.version + 1, self.records.clone());
        let unreadable = Arc::clone(&self.unreadable);
        let mut next = Inventory { version, records, unreadable, ..Inventory::default() };
        let removed = changes.iter().filter(|change| matches!(change, Change::Remove { .. }));
        let leaving: Vec<_> =
            removed.filter_map(|change| self.get(change.key().0, change.key().1)).collect();
        let mut only_resent = true;
        for change in changes {
            let (provider_id, node_name) = change.key();
            let place = next.place(provider_id, node_name);
            let before = place.ok().map(|place| next.records.remove(place));
            let Change::Upsert(record) = change else {
                only_resent &= before.is_none();
                continue;
            };
            let before = before.as_ref();
            only_resent &= before.is_some_and(|before| record.differs_in_time_only(&before.record));
            let renamed = || leaving.iter().copied().find(|left| record.is_of_vm_of(&left.record));
            let before = before.or_else(renamed).map(|before| &**before);
            let timeline = Timeline::next(before, &record);
            let (Ok(place) | Err(place)) = place;
            next.records.insert(place, Arc::new(Stored::new(record, timeline, version)));
        }
        (next, only_resent)
    }

    fn place(&self, provider_id: &str, node_name: &str) -> Result<usize, usize> {
        self.records.binary_search_by(|stored| stored.compare(provider_id, node_name))
    }

    /// The records that have this node name or VM and are wanted, in order.
    fn find(&self, key: &str, is_wanted: impl Fn(&Record) -> bool) -> Vec<&Arc<Stored>> {
        let positions = self.positions.get_or_init(|| {
            let mut positions = Vec::new();
            for (stored, position) in self.records.iter().zip(0..) {
                let Record { node_name, instance_id, owner, .. } = &stored.record;
                let keys = [Some(node_name), Some(instance_id), owner.as_ref().map(|it| &it.uid)];
                positions.extend(keys.into_iter().flatten().map(|key| (hash(key), position)));
            }
            positions.sort_unstable();
            positions.dedup();
            positions
        });
        let key = hash(key);
        let first = positions.partition_point(|(hash, _)| *hash < key);
        let found = positions[first..].iter().take_while(|(hash, _)| *hash == key);
        let found = found.map(|(_, position)| &self.records[*position as usize]);
        found.filter(|stored| is_wanted(&stored.record)).collect()
    }
}

fn lower(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().map(|byte| byte.to_ascii_lowercase())
}

/// FNV-1a of the lower-case text.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    lower(text).fold(0xcbf2_9ce4_8422_2325, step)
}
