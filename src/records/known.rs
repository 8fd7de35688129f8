//! What is known of the objects in Kubernetes, and what follows from that. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::News;
use super::listed::{Key, Object, key_of, unreadable, unusable};
use super::node_interfaces::{
    Digest, Found, digest_of, is_edited, is_to_renumber, keeps_ids, name_of, node_name_of, read,
    target_of, without_ids, writer_of,
};
use crate::inventory::backend::Written;
use crate::inventory::contents::{Inventory, Stored};
use crate::inventory::record::{Change, Owner, Record};
use crate::kube::objects::RawObject;

/// Nodes that are named in one piece of news.
const NAMES_SHOWN: usize = 5;

/// Reasons of Events.
const RESTORED: &str = "RecordRestored";
const RENUMBERED: &str = "Renumbered";

/// Who writes records.
pub(super) struct Writer {
    /// As server-side apply knows all replicas.
    pub(super) manager: &'static str,
    /// This replica, by its name in the Lease.
    pub(super) replica: String,
}

/// A write that is to be made.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) name: String,
    pub(super) key: Key,
    /// The record and its target; none: the object is to go.
    pub(super) put: Option<(Arc<Stored>, String)>,
    /// Empty if there is no such object yet.
    pub(super) version: String,
    pub(super) takes_annotation_off: bool,
    digest: Digest,
}

/// What is known of all objects.
#[derive(Default)]
pub(super) struct Known {
    objects: BTreeMap<String, Object>,
    /// The object of each record.
    names: BTreeMap<Key, String>,
    /// Objects in the version that the watch showed; none: not there.
    shown: BTreeMap<String, Option<String>>,
    /// What memory has to take over and hasn't yet.
    changes: BTreeMap<Key, Change>,
    /// Memory doesn't know yet which objects can't be read.
    has_new_unreadable: bool,
    /// Nodes whose records were restored, by reason and owner.
    restored: BTreeMap<(&'static str, Option<Owner>), BTreeSet<String>>,
}

impl Known {
    /// What was known is replaced by what a list held; what the watch showed meanwhile stays.
    pub(super) fn replace(
        &mut self,
        objects: BTreeMap<String, Object>,
        names: BTreeMap<Key, String>,
    ) {
        let shown = std::mem::take(&mut self.shown);
        *self = Known { shown, objects, names, ..Known::default() };
    }

    /// The watch shows an object.
    pub(super) fn show(&mut self, name: String, version: Option<String>) {
        self.shown.insert(name, version);
    }

    /// The watch lists all objects.
    pub(super) fn show_all(&mut self, seen: BTreeMap<String, Option<String>>) {
        let gone = self.objects.keys().filter(|name| !seen.contains_key(*name));
        let gone: Vec<String> = gone.cloned().collect();
        self.shown.extend(gone.into_iter().map(|name| (name, None)));
        self.shown.extend(seen);
    }

    /// An object isn't what it was known to be, whatever the watch has shown of it.
    pub(super) fn look_again(&mut self, name: &str) {
        self.shown.insert(name.to_owned(), Some(String::new()));
    }

    fn is_news(&self, name: &str, version: Option<&str>) -> bool {
        let known = self.objects.get(name).map(|object| object.version.as_str());
        known.filter(|version| !version.is_empty()) != version
    }

    pub(super) fn has_news(&self) -> bool {
        self.shown.iter().any(|(name, version)| self.is_news(name, version.as_deref()))
    }

    /// The objects that the watch showed in another version than the known one.
    pub(super) fn take_names(&mut self) -> Vec<String> {
        let shown = std::mem::take(&mut self.shown).into_iter();
        let news = shown.filter(|(name, version)| self.is_news(name, version.as_deref()));
        news.map(|(name, _)| name).collect()
    }

    /// Takes note of an object as it is now.
    ///
    /// # Errors
    /// Another replica wrote it.
    pub(super) fn observe(
        &mut self,
        name: &str,
        raw: Option<&RawObject>,
        us: &Writer,
        inventory: &Inventory,
    ) -> Result<(), String> {
        let before = self.objects.get(name).cloned();
        let was_unreadable = before.as_ref().is_some_and(|object| object.unreadable.is_some());
        let before = before.filter(|object| object.unreadable.is_none());
        let Some(raw) = raw else {
            self.has_new_unreadable |= was_unreadable;
            self.gone(name, inventory);
            return Ok(());
        };
        let found = read(raw);
        // A person may take a field away, which no manager owns then, or put a back-up in its place,
        // which names the replica of that time.
        let writer = writer_of(raw);
        let earlier =
            [Some(us.replica.as_str()), before.as_ref().and_then(|it| it.writer.as_deref())];
        let is_by_others =
            is_edited(raw, us.manager) || writer.is_none() || earlier.contains(&writer.as_deref());
        let another_writer = || {
            Err(format!(
                "another operator ({}) writes the records (the record {name} isn't as this one knows \
                 it); this one ends, to read them anew",
                writer.as_deref().unwrap_or_default()
            ))
        };
        if let Some(before) = before {
            let recorded = inventory.get(&before.key.0, &before.key.1);
            let is_ours = found.as_ref().is_ok_and(|found| {
                let is_same = before.digest == Some(found.digest)
                    && before.updated_at == found.record.updated_at;
                is_same || before.unconfirmed == Some(found.digest)
            });
            // A store that was set back to an older state has our own earlier records.
            let is_older = is_before(&raw.metadata.resource_version, &before.version);
            if !is_ours && !is_by_others && !is_older {
                return another_writer();
            }
            let Some(object) = self.objects.get_mut(name) else { return Ok(()) };
            object.writer = writer;
            object.version.clone_from(&raw.metadata.resource_version);
            object.renumber = is_to_renumber(&raw.metadata);
            object.unconfirmed = None;
            object.same = None;
            object.digest = None;
            if let (true, Ok(found)) = (is_ours, &found) {
                object.updated_at = found.record.updated_at;
                object.digest = found.has_labels.then_some(found.digest);
            }
            if let (false, Some(recorded)) = (is_ours, recorded) {
                self.note_restored(RESTORED, &recorded.record);
            }
            return Ok(());
        }
        if !is_by_others && !was_unreadable {
            return another_writer();
        }
        match found {
            Err(reason) if inventory.by_name(&node_name_of(raw)).is_empty() => {
                log::error!("{}", unusable(name, &node_name_of(raw), &reason));
                self.objects.insert(name.to_owned(), Object::unreadable(raw, reason));
                self.has_new_unreadable = true;
            }
            Ok(found) if is_unknown(&found, inventory) => {
                log::warn!("the record {name}, made by others, is used from now on");
                let object = Object::of(raw, &found);
                self.names.insert(object.key.clone(), name.to_owned());
                self.changes.insert(object.key.clone(), Change::Upsert(found.record));
                self.objects.insert(name.to_owned(), object);
                self.has_new_unreadable |= was_unreadable;
            }
            // It isn't believed. Read at the next start it would be, so it goes with the next writes.
            _ => {
                log::warn!(
                    "the record {name}, made by others, is taken away: there is one of ours"
                );
                let key = (String::new(), node_name_of(raw));
                let object = Object::new(key, raw.metadata.resource_version.clone());
                self.objects.insert(name.to_owned(), object);
                self.has_new_unreadable |= was_unreadable;
            }
        }
        Ok(())
    }

    fn gone(&mut self, name: &str, inventory: &Inventory) {
        let Some(object) = self.objects.remove(name) else { return };
        if self.names.get(&object.key).is_some_and(|of_key| of_key == name) {
            self.names.remove(&object.key);
            let recorded = inventory.get(&object.key.0, &object.key.1);
            if let (false, Some(recorded)) = (object.version.is_empty(), recorded) {
                self.note_restored(RESTORED, &recorded.record);
            }
        }
    }

    fn note_restored(&mut self, reason: &'static str, record: &Record) {
        let nodes = self.restored.entry((reason, record.owner.clone())).or_default();
        nodes.insert(record.node_name.clone());
    }

    /// What memory has to take over.
    pub(super) fn take_changes(&mut self, written: &mut Written) {
        written.changes = std::mem::take(&mut self.changes).into_values().collect();
        if std::mem::take(&mut self.has_new_unreadable) {
            written.unreadable = Some(unreadable(&self.objects));
        }
    }

    /// What is to be said of what was restored.
    pub(super) fn take_restored(&mut self) -> Vec<News> {
        let text = |((reason, owner), nodes): ((&'static str, _), BTreeSet<String>)| {
            let named: Vec<String> = nodes.iter().take(NAMES_SHOWN).cloned().collect();
            let more = if nodes.len() > named.len() { ", ..." } else { "" };
            let what = match reason {
                RENUMBERED => "numbered anew, as the annotation asks",
                _ => "records were edited or deleted, are put back and their nodes sent again",
            };
            let note = format!("{what}: {}{more}", named.join(", "));
            News::Restored { owner, reason, note }
        };
        std::mem::take(&mut self.restored).into_iter().map(text).collect()
    }

    /// The writes by which the objects come to hold this inventory.
    pub(super) fn due(&mut self, inventory: &Inventory, now: Timestamp) -> Vec<Write> {
        // None: the object of this name is as it should be.
        let mut wanted: BTreeMap<String, Option<(&Arc<Stored>, String)>> = BTreeMap::new();
        for stored in inventory.iter() {
            let named = self.names.get(&key_of(&stored.record));
            let object = named.and_then(|name| self.objects.get(name));
            let is_same = |object: &&Object| {
                object.same.as_ref().is_some_and(|same| Arc::ptr_eq(same, stored))
                    && !object.renumber
                    && !object.is_late(&stored.record)
            };
            if let (Some(name), Some(_)) = (named, object.filter(is_same)) {
                wanted.insert(name.clone(), None);
                continue;
            }
            let target = target_of(&stored.record, object.map(|object| object.target.as_str()));
            let name = name_of(target, &stored.record.node_name);
            let is_newer = |(other, _): &(&Arc<Stored>, String)| {
                other.record.updated_at <= stored.record.updated_at
            };
            // Of two clouds' records of one node of a target the newer one is what it was sent last.
            if wanted.get(&name).is_none_or(|other| other.as_ref().is_some_and(is_newer)) {
                wanted.insert(name, Some((stored, target.to_owned())));
            }
        }
        let mut due = Vec::new();
        for (name, object) in &self.objects {
            let is_awaited = self.changes.contains_key(&object.key);
            let is_there = !object.version.is_empty() && object.unreadable.is_none();
            if is_there && !is_awaited && !wanted.contains_key(name) {
                due.push(Write {
                    name: name.clone(),
                    key: object.key.clone(),
                    put: None,
                    version: object.version.clone(),
                    takes_annotation_off: false,
                    digest: Digest::default(),
                });
            }
        }
        for (name, stored) in wanted {
            let Some((stored, target)) = stored else { continue };
            due.extend(self.write_of(name, stored, target, now));
        }
        due
    }

    fn write_of(
        &mut self,
        name: String,
        stored: &Arc<Stored>,
        target: String,
        now: Timestamp,
    ) -> Option<Write> {
        let record = &stored.record;
        let (key, digest) = (key_of(record), digest_of(record, &target));
        let object = self.objects.get_mut(&name);
        let takes_annotation_off = object.as_ref().is_some_and(|object| object.renumber);
        if takes_annotation_off && keeps_ids(record) {
            self.changes.insert(key, without_ids(record, now));
            return None;
        }
        if let Some(object) = object
            && object.digest == Some(digest)
            && !object.is_late(record)
            && !takes_annotation_off
        {
            object.same = Some(Arc::clone(stored));
            return None;
        }
        let object = self.objects.get(&name);
        let version = object.map(|object| object.version.clone()).unwrap_or_default();
        let put = Some((Arc::clone(stored), target));
        Some(Write { name, key, put, version, takes_annotation_off, digest })
    }

    /// These writes begin. Until they are answered an object may hold what is written.
    pub(super) fn begin(&mut self, due: &[Write]) {
        for Write { name, key, digest, .. } in due.iter().filter(|due| due.put.is_some()) {
            let object = self.objects.entry(name.clone());
            let object = object.or_insert_with(|| Object::new(key.clone(), String::new()));
            object.unconfirmed = Some(*digest);
        }
    }

    /// A write was answered with this version.
    pub(super) fn written(&mut self, due: &Write, version: String) {
        let Some((stored, target)) = &due.put else { return };
        let renumber = due.takes_annotation_off;
        let object = Object {
            target: target.clone(),
            digest: Some(due.digest),
            updated_at: stored.record.updated_at,
            same: Some(Arc::clone(stored)),
            renumber,
            ..Object::new(due.key.clone(), version)
        };
        self.objects.insert(due.name.clone(), object);
        self.names.insert(due.key.clone(), due.name.clone());
    }

    /// The annotation was taken off.
    pub(super) fn renumbered(&mut self, due: &Write, version: String) {
        if let (Some(object), Some((stored, _))) = (self.objects.get_mut(&due.name), &due.put) {
            object.version = version;
            object.renumber = false;
            self.note_restored(RENUMBERED, &stored.record);
        }
    }

    /// An object is gone, as it should be.
    pub(super) fn deleted(&mut self, name: &str) {
        if let Some(object) = self.objects.remove(name)
            && self.names.get(&object.key).is_some_and(|of_key| of_key == name)
        {
            self.names.remove(&object.key);
        }
    }
}

/// Is nothing known of its node, its VM and its ports?
fn is_unknown(found: &Found, inventory: &Inventory) -> bool {
    let ports = |record: &Record| {
        let configured = record.config.interfaces.iter().map(|it| it.port_id.to_ascii_lowercase());
        let reserved = record.reserved_ids.iter().map(|it| it.port_id.to_ascii_lowercase());
        configured.chain(reserved).collect::<BTreeSet<String>>()
    };
    let Found { target, record, .. } = found;
    let own = ports(record);
    inventory.by_target(target, &record.node_name).is_empty()
        && inventory.by_vm(&record.instance_id).is_empty()
        && inventory.iter().all(|stored| ports(&stored.record).is_disjoint(&own))
}

/// Is one version of an object older than another? Versions of servers that don't count aren't told
/// apart.
fn is_before(version: &str, other: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    number(version).zip(number(other)).is_some_and(|(version, other)| version < other)
}

#[cfg(test)]
mod tests;
