//! Objects as a list or a watch shows them, and the inventory that they hold. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::node_interfaces::{
    Digest, Found, is_to_renumber, keeps_ids, node_name_of, read, vm_id_of, without_ids, writer_of,
};
use crate::inventory::backend::{Opened, Unreadable};
use crate::inventory::contents::{Inventory, Stored};
use crate::inventory::record::{Change, Record};
use crate::kube::objects::RawObject;

/// So long `updatedAt` of an object may lag while nothing else changes.
const LAG: Duration = Duration::from_secs(3600);

/// Provider, in lower case, and node name: a record's key in the inventory.
pub(super) type Key = (String, String);

pub(super) fn key_of(record: &Record) -> Key {
    (record.provider_id.to_ascii_lowercase(), record.node_name.clone())
}

/// The objects that a list or a watch showed.
#[derive(Default)]
pub(super) struct Listed {
    objects: BTreeMap<String, (Object, Option<Record>)>,
    /// What was wrong with objects that have no name.
    pub(super) unnamed: Vec<String>,
}

impl Listed {
    pub(super) fn add(&mut self, raw: &RawObject) {
        let read = match read(raw) {
            Ok(found) => (Object::of(raw, &found), Some(found.record)),
            Err(reason) => (Object::unreadable(raw, reason), None),
        };
        self.objects.insert(raw.metadata.name.clone(), read);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.objects.remove(name);
    }
}

/// What is known of one object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) target: String,
    /// Empty: it isn't there.
    pub(super) version: String,
    /// What it holds; none: something else than what it should, whatever that is.
    pub(super) digest: Option<Digest>,
    pub(super) updated_at: Timestamp,
    /// What was written without an answer, so that it may be what the object holds.
    pub(super) unconfirmed: Option<Digest>,
    /// The record that it was last found to hold.
    pub(super) same: Option<Arc<Stored>>,
    /// Why its record can't be read.
    pub(super) unreadable: Option<String>,
    /// The VM that it is of, as far as that can be told where the record can't be read.
    pub(super) vm_id: Option<String>,
    /// Its node is to be numbered anew.
    pub(super) renumber: bool,
    /// The replica that wrote it.
    pub(super) writer: Option<String>,
}

impl Object {
    pub(super) fn of(raw: &RawObject, found: &Found) -> Object {
        Object {
            key: key_of(&found.record),
            target: found.target.clone(),
            version: raw.metadata.resource_version.clone(),
            digest: found.has_labels.then_some(found.digest),
            updated_at: found.record.updated_at,
            unconfirmed: None,
            same: None,
            unreadable: None,
            vm_id: None,
            renumber: is_to_renumber(&raw.metadata),
            writer: writer_of(raw),
        }
    }

    pub(super) fn unreadable(raw: &RawObject, reason: String) -> Object {
        Object {
            digest: None,
            unreadable: Some(reason),
            vm_id: vm_id_of(raw),
            ..Object::new((String::new(), node_name_of(raw)), raw.metadata.resource_version.clone())
        }
    }

    pub(super) fn new(key: Key, version: String) -> Object {
        Object {
            key,
            target: String::new(),
            version,
            digest: None,
            updated_at: Timestamp::UNIX_EPOCH,
            unconfirmed: None,
            same: None,
            unreadable: None,
            vm_id: None,
            renumber: false,
            writer: None,
        }
    }

    pub(super) fn is_late(&self, record: &Record) -> bool {
        self.updated_at.checked_add(LAG).is_ok_and(|until| record.updated_at >= until)
    }
}

/// What objects hold.
pub(super) struct Held {
    pub(super) objects: BTreeMap<String, Object>,
    /// The object of each record.
    pub(super) names: BTreeMap<Key, String>,
    pub(super) opened: Opened,
}

impl Listed {
    /// The inventory that the objects hold.
    pub(super) fn held(&self, now: Timestamp) -> Held {
        let mut held =
            Held { objects: BTreeMap::new(), names: BTreeMap::new(), opened: Opened::default() };
        let mut findings = self.unnamed.clone();
        let newest = self.newest_of_vms();
        let mut records = Vec::new();
        for (name, (object, record)) in &self.objects {
            held.objects.insert(name.clone(), object.clone());
            if let Some(reason) = &object.unreadable {
                findings.push(unusable(name, &object.key.1, reason));
            }
            let Some(record) = record else { continue };
            // The VM got another node name, and a crash came before the record under the old one was
            // taken away: that is done with the first write.
            let newest = newest.get(&vm_of(record));
            if record.was_accepted() && newest.is_some_and(|newest| *newest > record.updated_at) {
                continue;
            }
            let other = held.names.get(&object.key).and_then(|name| held.objects.get(name));
            if other.is_none_or(|other| other.updated_at <= record.updated_at) {
                held.names.insert(object.key.clone(), name.clone());
            }
            records.push(match (object.renumber && keeps_ids(record), without_ids(record, now)) {
                (true, Change::Upsert(record)) => record,
                _ => record.clone(),
            });
        }
        let inventory = Inventory::of(records).with_unreadable(unreadable(&held.objects));
        held.opened = Opened { inventory, findings };
        held
    }

    /// When a record of each VM was accepted last.
    fn newest_of_vms(&self) -> BTreeMap<(String, String), Timestamp> {
        let mut newest = BTreeMap::new();
        let records = self.objects.values().filter_map(|(_, record)| record.as_ref());
        for record in records.filter(|record| record.was_accepted()) {
            let newest = newest.entry(vm_of(record)).or_insert(record.updated_at);
            *newest = record.updated_at.max(*newest);
        }
        newest
    }
}

/// Cloud and VM.
fn vm_of(record: &Record) -> (String, String) {
    (record.provider_id.to_ascii_lowercase(), record.instance_id.to_ascii_lowercase())
}

/// The nodes and VMs whose records can't be read.
pub(super) fn unreadable(objects: &BTreeMap<String, Object>) -> Unreadable {
    let mut unreadable = Unreadable::new();
    for (name, object) in objects {
        let Some(reason) = &object.unreadable else { continue };
        let text = format!("the record {name} can't be read: {reason}");
        for name in object.vm_id.iter().chain([&object.key.1]) {
            unreadable.insert(name.clone(), text.clone());
        }
    }
    unreadable
}

pub(super) fn unusable(name: &str, node_name: &str, reason: &str) -> String {
    format!(
        "the record {name} can't be read, so node {node_name} isn't sent: {reason}; correct it, or \
         put a back-up in its place"
    )
}
