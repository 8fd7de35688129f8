//! What the server remembers: the objects of each kind, one version counter for all, and the history
//! of changes that watches and old lists are answered from.
//!
//! It knows versions, not rules: `writes` decides what a change may be.

use super::access::Access;
use super::kinds::ResourceKind;
use super::status::Failure;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Group and plural.
pub(super) type CollectionId = (String, String);
/// Namespace (empty if there is none) and name.
pub(super) type ObjectId = (String, String);

/// How many changes of one kind are kept.
const HISTORY_MAXIMUM: usize = 10_000;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One change, as watches tell it and as old states are rebuilt from it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: ChangeKind,
    pub(super) id: ObjectId,
    /// The state after the change; for a deletion the last state, with the version of the deletion.
    pub(super) object: Arc<Value>,
    pub(super) previous: Option<Arc<Value>>,
    /// Not told to any watch.
    pub(super) silent: bool,
}

/// All objects of one kind.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) kind: ResourceKind,
    pub(super) objects: BTreeMap<ObjectId, Arc<Value>>,
    /// Ascending by version.
    pub(super) history: Vec<Change>,
    /// A watch or list from an older version than this is refused.
    pub(super) oldest: u64,
    /// False once the CRD is taken away.
    pub(super) served: bool,
    /// Counts how often the CRD came; a watch ends with the one it began in.
    pub(super) incarnation: u64,
}

impl Collection {
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The objects as they were at `version`, if the history reaches back that far.
    pub(super) fn at(&self, version: u64) -> Option<BTreeMap<ObjectId, Arc<Value>>> {
        if version < self.oldest {
            return None;
        }
        let mut objects = self.objects.clone();
        for change in self.history.iter().rev() {
            if change.version <= version {
                break;
            }
            match &change.previous {
                Some(previous) => objects.insert(change.id.clone(), Arc::clone(previous)),
                None => objects.remove(&change.id),
            };
        }
        Some(objects)
    }

    /// Adds a change; the older half goes when there are too many, as in the real server's cache.
    fn remember(&mut self, change: Change) {
        self.history.push(change);
        if self.history.len() > HISTORY_MAXIMUM {
            let forgotten = self.history.drain(..HISTORY_MAXIMUM / 2).next_back();
            self.oldest = forgotten.map_or(self.oldest, |change| change.version);
        }
    }

    /// The changes after `version`, oldest first.
    pub(super) fn since(&self, version: u64) -> &[Change] {
        let first = self.history.partition_point(|change| change.version <= version);
        &self.history[first..]
    }
}

/// What tests switch on and off.
#[derive(Debug)]
pub(super) struct Switches {
    /// Grows with each cut; a watch ends when it is not the one it began in.
    pub(super) cuts: u64,
    /// The same for ends in order, with the last chunk.
    pub(super) ends: u64,
    pub(super) frozen: bool,
    /// Bytes that open watches send as they are.
    pub(super) injected: Vec<Arc<[u8]>>,
    pub(super) silent_changes: usize,
    pub(super) stale_lists: usize,
    /// Continue tokens of older versions are expired.
    pub(super) oldest_continue: u64,
    pub(super) bookmark_interval: Duration,
    /// How long a list waits for a version that the server has not reached.
    pub(super) future_version_wait: Duration,
}

/// Everything behind the server's one lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) collections: BTreeMap<CollectionId, Collection>,
    pub(super) access: Access,
    pub(super) switches: Switches,
    pub(super) open_watches: usize,
    /// Accepted writes over HTTP by resource (`openstackconfigs/status`) and verb.
    pub(super) writes: BTreeMap<(String, String), usize>,
}

impl State {
    /// An empty server that serves the given kinds.
    pub(super) fn new(kinds: Vec<ResourceKind>) -> State {
        let mut state = State {
            // The real server has written some objects of its own before the first request.
            version: 100,
            collections: BTreeMap::new(),
            access: Access::default(),
            switches: Switches {
                cuts: 0,
                ends: 0,
                frozen: false,
                injected: Vec::new(),
                silent_changes: 0,
                stale_lists: 0,
                oldest_continue: 0,
                bookmark_interval: Duration::from_secs(60),
                future_version_wait: Duration::from_secs(3),
            },
            open_watches: 0,
            writes: BTreeMap::new(),
        };
        for kind in kinds {
            state.register(kind);
        }
        state
    }

    /// Serves a kind from now on; its older history is gone.
    pub(super) fn register(&mut self, kind: ResourceKind) {
        let id = (kind.group.clone(), kind.plural.clone());
        self.version += 1;
        let oldest = self.version;
        match self.collections.get_mut(&id) {
            Some(collection) => {
                collection.kind = kind;
                collection.oldest = oldest;
                collection.served = true;
                collection.incarnation += 1;
            }
            None => {
                let collection = Collection {
                    kind,
                    objects: BTreeMap::new(),
                    history: Vec::new(),
                    oldest,
                    served: true,
                    incarnation: 0,
                };
                self.collections.insert(id, collection);
            }
        }
    }

    /// Takes a kind away: each object is deleted, then nothing is served.
    pub(super) fn remove(&mut self, id: &CollectionId) {
        let objects: Vec<ObjectId> = self
            .collections
            .get(id)
            .map(|collection| collection.objects.keys().cloned().collect())
            .unwrap_or_default();
        for object in objects {
            self.commit_deletion(id, &object);
        }
        if let Some(collection) = self.collections.get_mut(id) {
            collection.served = false;
        }
    }

    /// The collection, if it is served.
    pub(super) fn collection(&self, id: &CollectionId) -> Result<&Collection, Failure> {
        self.collections
            .get(id)
            .filter(|collection| collection.served)
            .ok_or_else(Failure::page_not_found)
    }

    /// The served collection whose kind, plural or `plural.group` this is.
    pub(super) fn collection_called(&self, name: &str) -> Option<(&CollectionId, &Collection)> {
        self.collections
            .iter()
            .find(|(_, collection)| collection.served && collection.kind.is_called(name))
    }

    /// The collection for an object's `apiVersion` and `kind`.
    pub(super) fn collection_for(&self, object: &Value) -> Option<CollectionId> {
        self.collections
            .iter()
            .find(|(_, collection)| {
                collection.served
                    && object["kind"] == collection.kind.kind.as_str()
                    && object["apiVersion"] == collection.kind.api_version().as_str()
            })
            .map(|(id, _)| id.clone())
    }

    /// Stores a new state of an object under a new version, and says so to the watches.
    pub(super) fn commit(
        &mut self,
        collection_id: &CollectionId,
        id: ObjectId,
        mut object: Value,
    ) -> Arc<Value> {
        self.version += 1;
        let silent = take_silent(&mut self.switches);
        let version = self.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(object);
        if let Some(collection) = self.collections.get_mut(collection_id) {
            let previous = collection.objects.insert(id.clone(), Arc::clone(&object));
            collection.remember(Change {
                version,
                kind: if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added },
                id,
                object: Arc::clone(&object),
                previous,
                silent,
            });
        }
        object
    }

    /// Takes an object away; the deletion has a version of its own.
    pub(super) fn commit_deletion(&mut self, collection_id: &CollectionId, id: &ObjectId) {
        let Some(collection) = self.collections.get_mut(collection_id) else {
            return;
        };
        let Some(previous) = collection.objects.remove(id) else {
            return;
        };
        self.version += 1;
        let mut object = Value::clone(&previous);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let silent = take_silent(&mut self.switches);
        collection.remember(Change {
            version: self.version,
            kind: ChangeKind::Deleted,
            id: id.clone(),
            object: Arc::new(object),
            previous: Some(previous),
            silent,
        });
    }

    /// Forgets the history: every version before the present one is too old.
    pub(super) fn compact(&mut self) {
        for collection in self.collections.values_mut() {
            collection.oldest = self.version;
        }
    }
}

/// Whether the change that is being made is told to no watch.
fn take_silent(switches: &mut Switches) -> bool {
    let silent = switches.silent_changes > 0;
    switches.silent_changes = switches.silent_changes.saturating_sub(1);
    silent
}
