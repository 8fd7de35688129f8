//! What tests do to the simulated API server, and what they ask it: the handles that no client has.

use super::access::Denial;
use super::apply::Writer;
use super::kinds::ResourceKind;
use super::status::Failure;
use super::store::{CollectionId, State};
use super::writes::{Deleted, Target};
use super::{Kubernetes, identity, patch};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What [`Kubernetes::wait_until`] shows its condition.
pub struct View<'a> {
    state: &'a State,
}

impl View<'_> {
    /// One object. `kind` is its kind or plural; a cluster-wide object has the namespace "".
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let (_, collection) = self.state.collection_called(kind)?;
        collection.find(namespace, name).map(|object| Value::clone(object))
    }

    /// All objects of a kind, by namespace and name.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        self.state
            .collection_called(kind)
            .map(|(_, collection)| {
                collection.objects.values().map(|object| Value::clone(object)).collect()
            })
            .unwrap_or_default()
    }

    /// All Events, oldest first, as core/v1.
    pub fn events(&self) -> Vec<Value> {
        let mut events = self.objects("events");
        events.sort_by_key(|event| {
            event["metadata"]["resourceVersion"]
                .as_str()
                .and_then(|version| version.parse::<u64>().ok())
        });
        events
    }

    pub fn open_watches(&self) -> usize {
        self.state.open_watches
    }

    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// Accepted writes over HTTP, by resource (`openstackconfigs/status`) and verb (`patch`). One that
    /// changed nothing counts.
    pub fn writes(&self) -> BTreeMap<(String, String), usize> {
        self.state.writes.clone()
    }
}

impl Kubernetes {
    /// Serves one more kind, or one that was taken away, from now on.
    pub fn register(&self, kind: ResourceKind) {
        self.change(|state| state.register(kind));
    }

    /// Takes a CRD away: each of its objects is deleted, its watches end a second later, and it is 404.
    pub fn remove_kind(&self, kind: &str) {
        self.change(|state| {
            if let Some(id) = state.collection_called(kind).map(|(id, _)| id.clone()) {
                state.remove(&id);
            }
        });
    }

    /// Forgets the past: watches and lists from older versions are refused with 410.
    pub fn compact(&self) {
        self.change(State::compact);
    }

    /// The server starts anew: all watches are cut, and every version given out so far is too old.
    pub fn restart(&self) {
        self.change(|state| {
            state.switches.cuts += 1;
            // A starting server writes objects of its own.
            state.version += 3;
            state.compact();
        });
    }

    /// Moves the version counter on, as writes to other kinds would.
    pub fn advance_version_to(&self, version: u64) {
        self.change(|state| state.version = state.version.max(version));
    }

    /// Continue tokens given out so far are expired.
    pub fn expire_continue_tokens(&self) {
        self.change(|state| {
            state.version += 1;
            state.switches.oldest_continue = state.version;
        });
    }

    /// The next lists show the state one change back, under its version.
    pub fn stale_list_next(&self, lists: usize) {
        self.change(|state| state.switches.stale_lists = lists);
    }

    /// How long a list waits for a version that the server has not reached; 3 s like the real one.
    pub fn set_future_version_wait(&self, wait: Duration) {
        self.change(|state| state.switches.future_version_wait = wait);
    }
}

impl Kubernetes {
    /// Ends all watches without the last chunk.
    pub fn cut_watches(&self) {
        self.change(|state| state.switches.cuts += 1);
    }

    /// Ends all watches in order, as at their timeout.
    pub fn end_watches(&self) {
        self.change(|state| state.switches.ends += 1);
    }

    /// While frozen, watches send nothing and don't end, as on a half-open connection.
    /// What happened meanwhile comes after.
    pub fn freeze_watches(&self, frozen: bool) {
        self.change(|state| state.switches.frozen = frozen);
    }

    /// Sends these bytes, as they are, on every watch that is open; a whole line needs its newline.
    pub fn inject_watch_line(&self, bytes: impl Into<Vec<u8>>) {
        self.change(|state| state.switches.injected.push(Arc::from(bytes.into())));
    }

    /// The next changes, of any kind, are told to no watch.
    pub fn drop_next_events(&self, changes: usize) {
        self.change(|state| state.switches.silent_changes = changes);
    }

    /// How often quiet watches send a bookmark; 60 s like the real one. For watches opened from now on.
    pub fn set_bookmark_interval(&self, interval: Duration) {
        self.change(|state| state.switches.bookmark_interval = interval);
    }

    pub fn open_watches(&self) -> usize {
        self.view(|view| view.open_watches())
    }
}

impl Kubernetes {
    /// From now on a token is required; this one is the given user's. Others are 401, none is 403.
    pub fn accept_token(&self, token: &str, user: &str) {
        self.change(|state| state.access.accept_token(token, user));
    }

    /// A token is accepted no longer, for instance because it has been rotated.
    pub fn revoke_token(&self, token: &str) {
        self.change(|state| state.access.revoke_token(token));
    }

    /// Denies something. Watches that are open go on.
    pub fn deny(&self, denial: Denial) {
        self.change(|state| state.access.deny(denial));
    }

    pub fn allow_everything(&self) {
        self.change(|state| state.access.allow_everything());
    }
}

/// Objects, as a user of the cluster writes and reads them. Nothing here counts in `writes`.
impl Kubernetes {
    /// Puts objects there as they are: uid, times, managedFields and status are kept if given, else
    /// invented; a version is kept if it is newer than all. Missing namespaces are made. Objects of a kind that is not served are left out.
    pub fn load(&self, objects: Vec<Value>) {
        self.change(|state| {
            for mut object in objects {
                let Some(id) = state.collection_for(&object) else { continue };
                let custom = state.collections.get(&id).is_some_and(|found| found.kind.custom);
                let metadata = &mut object["metadata"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let key = (text(&metadata["namespace"]), text(&metadata["name"]));
                fill(&mut metadata["uid"], || json!(identity::uuid()));
                fill(&mut metadata["creationTimestamp"], || json!(identity::timestamp()));
                if custom {
                    fill(&mut metadata["generation"], || json!(1));
                }
                if let Ok(version) = text(&metadata["resourceVersion"]).parse::<u64>() {
                    state.version = state.version.max(version.saturating_sub(1));
                }
                make_namespace(state, &key.0);
                state.commit(&id, key, object);
            }
        });
    }

    /// Creates the object, or replaces it (the status stays, as with kubectl).
    pub fn apply_object(&self, mut object: Value) -> Result<Value, Failure> {
        self.change(|state| {
            let collection = state.collection_for(&object).ok_or_else(Failure::page_not_found)?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (namespace, name) =
                (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
            make_namespace(state, &namespace);
            let target = target(state, collection, &namespace, &name)?;
            super::writes::remove_member(&mut object["metadata"], "resourceVersion");
            let writer = user(&target, None);
            let stored = match state.current(&target) {
                Ok(_) => state.update(&target, object, &writer, false)?,
                Err(_) => state.create(target, object, &writer)?,
            };
            Ok(Value::clone(&stored))
        })
    }

    /// Merges a patch into the main resource.
    pub fn patch(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Failure> {
        self.merge(kind, namespace, name, patch, None)
    }

    /// Merges a patch into the status.
    pub fn patch_status(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Failure> {
        self.merge(kind, namespace, name, patch, Some("status"))
    }

    /// Sets one annotation.
    pub fn annotate(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        key: &str,
        value: &str,
    ) -> Result<Value, Failure> {
        self.patch(kind, namespace, name, &json!({"metadata": {"annotations": {key: value}}}))
    }

    /// Deletes, or marks for deletion while there are finalizers.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<(), Failure> {
        self.change(|state| {
            let collection = called(state, kind)?;
            let target = target(state, collection, namespace, name)?;
            match state.delete(&target, &Value::Null, &identity::timestamp())? {
                Deleted::Gone(_) | Deleted::Terminating(_) => Ok(()),
            }
        })
    }

    /// Deletes what belongs to owners that are gone, as the garbage collector of a real cluster does.
    /// Returns how many objects went.
    pub fn collect_garbage(&self) -> usize {
        self.change(|state| {
            let uids: BTreeSet<String> = state
                .collections
                .values()
                .flat_map(|collection| collection.objects.values())
                .filter_map(|object| object["metadata"]["uid"].as_str().map(str::to_owned))
                .collect();
            let is_orphan = |object: &Value| {
                object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| {
                    owners
                        .iter()
                        .all(|owner| !owner["uid"].as_str().is_some_and(|uid| uids.contains(uid)))
                })
            };
            let orphans: Vec<_> = state
                .collections
                .iter()
                .flat_map(|(id, collection)| {
                    collection
                        .objects
                        .iter()
                        .filter(|(_, object)| is_orphan(object))
                        .map(|(key, _)| (id.clone(), key.clone()))
                })
                .collect();
            for (id, key) in &orphans {
                state.commit_deletion(id, key);
            }
            orphans.len()
        })
    }

    /// One object. `kind` is its kind or plural; a cluster-wide object has the namespace "".
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.view(|view| view.get(kind, namespace, name))
    }

    /// All objects of a kind, by namespace and name.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        self.view(|view| view.objects(kind))
    }

    /// All Events, oldest first, as core/v1.
    pub fn events(&self) -> Vec<Value> {
        self.view(|view| view.events())
    }

    /// Accepted writes over HTTP; see [`View::writes`].
    pub fn writes(&self) -> BTreeMap<(String, String), usize> {
        self.view(|view| view.writes())
    }

    /// Waits until the condition holds, looking at it after each change. False: the limit passed.
    #[must_use]
    pub fn wait_until(&self, condition: impl Fn(&View<'_>) -> bool, limit: Duration) -> bool {
        let deadline = crate::clock::instant() + limit;
        let mut state = self.shared.lock();
        loop {
            if condition(&View { state: &state }) {
                return true;
            }
            let left = deadline.saturating_duration_since(crate::clock::instant());
            if left.is_zero() {
                return false;
            }
            state = self.shared.wait(state, left);
        }
    }

    fn merge(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: &Value,
        subresource: Option<&'static str>,
    ) -> Result<Value, Failure> {
        self.change(|state| {
            let collection = called(state, kind)?;
            let target = target(state, collection, namespace, name)?;
            let mut desired = Value::clone(&*state.current(&target)?);
            patch::merge(&mut desired, patch);
            let writer = user(&target, subresource);
            Ok(Value::clone(&*state.update(&target, desired, &writer, false)?))
        })
    }

    fn view<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        look(&View { state: &self.shared.lock() })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.shared.lock());
        self.shared.changed.notify_all();
        result
    }
}

fn fill(value: &mut Value, make: impl FnOnce() -> Value) {
    if value.is_null() {
        *value = make();
    }
}

fn called(state: &State, kind: &str) -> Result<CollectionId, Failure> {
    state.collection_called(kind).map(|(id, _)| id.clone()).ok_or_else(Failure::page_not_found)
}

fn target(
    state: &State,
    collection: CollectionId,
    namespace: &str,
    name: &str,
) -> Result<Target, Failure> {
    // Tests write also what is older than the schema, or what an older one let through.
    let kind = ResourceKind { schema: None, ..state.collection(&collection)?.kind.clone() };
    Ok(Target { kind, collection, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// The writer of a test: a person with kubectl.
fn user(target: &Target, subresource: Option<&'static str>) -> Writer {
    Writer {
        manager: "kubectl".to_owned(),
        api_version: target.kind.api_version(),
        subresource,
        time: identity::timestamp(),
        custom: target.kind.custom,
    }
}

pub(super) fn make_namespace(state: &mut State, name: &str) {
    let id = (String::new(), "namespaces".to_owned());
    let exists = state.collections.get(&id).is_none_or(|found| found.find("", name).is_some());
    if !exists && !name.is_empty() {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "uid": identity::uuid(),
                "creationTimestamp": identity::timestamp(),
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        state.commit(&id, (String::new(), name.to_owned()), namespace);
    }
}
