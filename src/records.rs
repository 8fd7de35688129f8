//! The inventory's records as objects in Kubernetes: the [`Backend`] of `INVENTORY_STORE=kubernetes`.
//!
//! ```text
//! store ── write(inventory) ─▶ what differs from what is known of the objects ─▶ POST, apply, DELETE
//!                                        ▲
//! watch ── names whose version is another than the known one ── GET
//! ```
//!
//! What is known of the objects is changed by the store's thread alone, by what the API server answers
//! it. The watch only says which of them to look at. So neither a late event nor a list that was
//! overtaken by a write of ours can be mistaken for what the object is now.

mod known;
mod listed;
pub mod node_interfaces;
pub(crate) mod reading;
pub(crate) mod standby;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::known::{Known, Write, Writer};
use self::listed::Held;
use self::node_interfaces::{NODE_INTERFACES, RENUMBER_ANNOTATION, WRITER_ANNOTATION, object};
use self::reading::{NO_NAMESPACE, list, unlisted, watch};
use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::inventory::backend::{Backend, Opened, Trouble, Written};
use crate::inventory::contents::Inventory;
use crate::inventory::record::Owner;
use crate::inventory::store::Condition;
use crate::kube::client::KubeClient;
use crate::kube::error::{Call, KubeError};
use crate::kube::objects::{ObjectMeta, RawObject};
use crate::kube::watch::Observation;
use crate::kube::watcher::Watcher;
use crate::metrics::Metrics;
use crate::threads::{Task, lock, side_by_side};

/// Calls that are made at the same time.
const SIDE_BY_SIDE: usize = 8;
/// How often what others changed meanwhile is looked at and written over before that is left for later.
const ROUNDS: usize = 3;

/// What others did with the objects, for people and for the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Records of an object's nodes are put back as they were, or their nodes numbered anew.
    Restored {
        /// The object.
        owner: Option<Owner>,
        /// A word for programs.
        reason: &'static str,
        /// A sentence for people.
        note: String,
    },
    /// Another operator writes the records, so this one must end.
    AnotherWriter(String),
}

/// The records of one namespace.
pub(crate) struct Records {
    client: KubeClient,
    /// None if it isn't known.
    namespace: Option<String>,
    us: Writer,
    clock: Clock,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    watcher: Mutex<Option<Watcher>>,
    under_way: Mutex<Option<(String, Now)>>,
    report: Box<dyn Fn(News) + Send + Sync>,
}

/// What the watch's thread has in common with the store's.
#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Records {
    /// The records in the operator's namespace, written while `may_write` says yes.
    pub(crate) fn new(
        client: &KubeClient,
        config: &Config,
        clock: Clock,
        metrics: Arc<Metrics>,
        may_write: impl Fn() -> bool + Send + Sync + 'static,
        report: impl Fn(News) + Send + Sync + 'static,
    ) -> Records {
        let election = config.leader_election.as_ref();
        Records {
            client: client.with_own_connections().with_permission(Arc::new(may_write)),
            namespace: config.own_namespace.clone(),
            us: Writer {
                manager: client.field_manager(),
                replica: election.map(|election| election.identity.clone()).unwrap_or_default(),
            },
            clock,
            metrics,
            shared: Arc::default(),
            watcher: Mutex::default(),
            under_way: Mutex::default(),
            report: Box::new(report),
        }
    }

    /// Notes what is under way; each answer starts its time anew.
    fn begins(&self, what: &str) {
        *lock(&self.under_way) = Some((what.to_owned(), self.clock.now()));
    }

    fn start_watch(&self, namespace: &str) -> Result<(), Trouble> {
        let mut watcher = lock(&self.watcher);
        if watcher.is_some() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let sink = move |observation| shared.observe(observation);
        let started = watch(&self.client, namespace, &self.clock, &self.metrics, sink);
        let no_thread = |error| {
            let reason = format!("no thread can be started to watch the records: {error}");
            Trouble(Condition::Unreadable, reason)
        };
        *watcher = Some(started.map_err(no_thread)?);
        Ok(())
    }

    fn namespace(&self) -> Result<&str, Trouble> {
        let known = self.namespace.as_deref();
        known.ok_or_else(|| Trouble(Condition::Unreadable, NO_NAMESPACE.to_owned()))
    }

    /// Looks at the objects that the watch showed otherwise than they are known.
    fn look(&self, inventory: &Inventory) -> Result<(), Trouble> {
        let names = lock(&self.shared.known).take_names();
        if names.is_empty() {
            return Ok(());
        }
        let namespace = self.namespace()?;
        let mut tasks: Vec<Task<'_, Result<Option<RawObject>, KubeError>>> = Vec::new();
        for name in &names {
            tasks.push(Box::new(|| {
                let found = self.get(&NODE_INTERFACES.object(namespace, name));
                self.begins("read the records");
                found
            }));
        }
        let found = side_by_side(SIDE_BY_SIDE, tasks);
        let mut known = lock(&self.shared.known);
        let mut failed = None;
        for (name, found) in names.iter().zip(found) {
            match found {
                Ok(found) => {
                    let restored = known.observe(name, found.as_ref(), &self.us, inventory);
                    if let Err(another_writer) = restored {
                        (self.report)(News::AnotherWriter(another_writer.clone()));
                        return Err(Trouble(Condition::Locked, another_writer));
                    }
                }
                Err(error) => {
                    known.look_again(name);
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), |error| Err(self.trouble(error, namespace)))
    }

    /// None if there is no such object.
    fn get(&self, path: &str) -> Result<Option<RawObject>, KubeError> {
        match self.client.get::<Box<RawValue>>(path) {
            Ok(body) => RawObject::read(&body).map(Some).map_err(|reason| {
                let call = Call { verb: "get", path: path.to_owned() };
                KubeError::Unreadable { call, reason }
            }),
            Err(error) if error.status().is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes these writes. Says whether others changed an object in between, so that it has to be
    /// looked at.
    fn send(&self, due: Vec<Write>, written: &mut Written) -> Result<bool, Trouble> {
        let namespace = self.namespace()?;
        lock(&self.shared.known).begin(&due);
        let is_stopping = AtomicBool::new(false);
        let mut tasks: Vec<Task<'_, Result<bool, (KubeError, &Write)>>> = Vec::new();
        for due in &due {
            tasks.push(Box::new(|| {
                if is_stopping.load(Ordering::SeqCst) {
                    return Ok(false);
                }
                let result = self.send_one(due, namespace);
                self.begins("write the records");
                match result {
                    Ok(()) => Ok(false),
                    Err(error) if is_race(&error, due) => {
                        lock(&self.shared.known).look_again(&due.name);
                        Ok(true)
                    }
                    Err(error) => {
                        let stops = !concerns_one(&error);
                        is_stopping.fetch_or(stops, Ordering::SeqCst);
                        self.metrics.add("multinic_inventory_write_failures_total", &[], 1.0);
                        Err((error, due))
                    }
                }
            }));
        }
        let (mut has_raced, mut trouble) = (false, None);
        for result in side_by_side(SIDE_BY_SIDE, tasks) {
            match result {
                Ok(raced) => has_raced |= raced,
                Err((error, due)) if concerns_one(&error) => {
                    let text = format!("the record of node {} is refused: {error}", due.key.1);
                    written.refused.insert(due.key.clone(), text);
                }
                Err((error, _)) => drop(trouble.get_or_insert(error)),
            }
        }
        trouble.map_or(Ok(has_raced), |error| Err(self.trouble(error, namespace)))
    }

    fn send_one(&self, due: &Write, namespace: &str) -> Result<(), KubeError> {
        #[derive(Deserialize)]
        struct Answer {
            metadata: ObjectMeta,
        }
        let path = NODE_INTERFACES.object(namespace, &due.name);
        let Some((stored, target)) = &due.put else {
            match self.client.delete(&path, &due.version) {
                Err(error) if !error.status().is_not_found() => return Err(error),
                _ => lock(&self.shared.known).deleted(&due.name),
            }
            return Ok(());
        };
        let mut body = object(&stored.record, target, namespace);
        body["metadata"]["annotations"] = json!({ WRITER_ANNOTATION: self.us.replica });
        let answer = if due.version.is_empty() {
            self.client.create::<Answer>(&NODE_INTERFACES.collection(Some(namespace)), &body)?
        } else {
            body["metadata"]["resourceVersion"] = json!(due.version);
            self.client.apply::<Answer>(&path, &body)?.1
        };
        self.metrics.add("multinic_inventory_writes_total", &[], 1.0);
        lock(&self.shared.known).written(due, answer.metadata.resource_version.clone());
        if due.takes_annotation_off {
            let metadata = json!({
                "resourceVersion": answer.metadata.resource_version,
                "annotations": { RENUMBER_ANNOTATION: Value::Null },
            });
            let answer = self.client.merge::<Answer>(&path, &json!({ "metadata": metadata }))?;
            lock(&self.shared.known).renumbered(due, answer.metadata.resource_version);
        }
        Ok(())
    }

    /// An error that concerns all records, without the name of the one it was met with: equal failures
    /// have equal texts.
    fn trouble(&self, mut error: KubeError, namespace: &str) -> Trouble {
        let collection = NODE_INTERFACES.collection(Some(namespace));
        if let KubeError::Refused { call, .. }
        | KubeError::Unreadable { call, .. }
        | KubeError::NotLeading { call } = &mut error
        {
            call.path.clone_from(&collection);
        }
        let text = match &error {
            KubeError::Transport(error) => format!("Kubernetes {collection}: {}", error.failure),
            error => error.to_string(),
        };
        // Without the right or the kind nothing will be recorded, however long one waits.
        let status = error.status();
        let is_lasting = status.is_forbidden() || status.code == 404;
        let condition = if is_lasting { Condition::Unwritable } else { Condition::Unwritten };
        Trouble(condition, format!("the records can't be written: {text}"))
    }
}

impl Backend for Records {
    fn place(&self) -> String {
        "the records in Kubernetes".to_owned()
    }

    fn open(&self) -> Result<Opened, Trouble> {
        let namespace = self.namespace()?;
        self.begins("list the records");
        let listed = list(&self.client, namespace);
        *lock(&self.under_way) = None;
        let listed = listed.map_err(|error| Trouble(Condition::Unreadable, unlisted(&error)))?;
        let Held { objects, names, opened } = listed.held(self.clock.now().wall);
        lock(&self.shared.known).replace(objects, names);
        self.start_watch(namespace)?;
        Ok(opened)
    }

    fn write(&self, inventory: &Inventory) -> Result<Written, Trouble> {
        self.begins("write the records");
        let result = self.write_rounds(inventory);
        *lock(&self.under_way) = None;
        if result.is_ok() {
            let restored = lock(&self.shared.known).take_restored();
            restored.into_iter().for_each(|news| (self.report)(news));
        }
        result
    }

    fn under_way(&self) -> Option<(String, Now)> {
        lock(&self.under_way).clone()
    }

    fn close(&self) {
        drop(lock(&self.watcher).take());
    }

    fn on_news(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let _ = self.shared.wake.set(wake);
    }

    fn has_news(&self) -> bool {
        lock(&self.shared.known).has_news()
    }

    fn abandon(&self) {
        self.client.shutdown();
        self.close();
    }
}

impl Records {
    fn write_rounds(&self, inventory: &Inventory) -> Result<Written, Trouble> {
        let mut written = Written::default();
        for _ in 0..ROUNDS {
            self.look(inventory)?;
            let due = lock(&self.shared.known).due(inventory, self.clock.now().wall);
            // A record comes before the one that it replaces goes: a crash between leaves both, and
            // the newer one counts.
            let (put, gone): (Vec<Write>, Vec<Write>) =
                due.into_iter().partition(|it| it.put.is_some());
            let mut has_raced = self.send(put, &mut written)?;
            if !has_raced && written.refused.is_empty() {
                has_raced = self.send(gone, &mut written)?;
            }
            if !has_raced {
                lock(&self.shared.known).take_changes(&mut written);
                return Ok(written);
            }
        }
        let reason = "the records can't be written: others change them all the time";
        Err(Trouble(Condition::Unwritten, reason.to_owned()))
    }
}

impl Shared {
    fn observe(&self, observation: Observation) {
        let seen = |object: &RawObject| {
            (object.metadata.name.clone(), Some(object.metadata.resource_version.clone()))
        };
        let mut known = lock(&self.known);
        match observation {
            Observation::Replaced { objects, .. } => {
                let seen: BTreeMap<_, _> = objects.iter().map(seen).collect();
                known.show_all(seen);
            }
            Observation::Applied(object) => {
                let (name, version) = seen(&object);
                known.show(name, version);
            }
            Observation::Deleted(object) => known.show(object.metadata.name, None),
            // The watcher has logged these.
            Observation::Trouble { .. } | Observation::Recovered => return,
        }
        let has_news = known.has_news();
        drop(known);
        if let (true, Some(wake)) = (has_news, self.wake.get()) {
            wake();
        }
    }
}

/// Is the object another one than it was known to be?
fn is_race(error: &KubeError, due: &Write) -> bool {
    let status = error.status();
    let is_gone = status.is_not_found() && !due.version.is_empty();
    let is_unknown = matches!(error, KubeError::Unreadable { .. });
    status.is_conflict() || status.is_already_exists() || is_gone || is_unknown
}

/// Does the refusal say nothing about other records?
fn concerns_one(error: &KubeError) -> bool {
    let status = error.status();
    // RBAC says who "cannot" what; policies and webhooks have other words.
    let lacks_a_right = status.is_forbidden() && status.message.contains(" cannot ");
    matches!(error, KubeError::Refused { .. })
        && !error.is_server_trouble()
        && !lacks_a_right
        && status.code != 404
}
