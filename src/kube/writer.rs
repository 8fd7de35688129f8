//! One thread that owns every write of ours but the Lease, so that an API server in trouble never
//! holds up a sync.
//!
//! Callers leave what they want written in [`pending`], which keeps the newest per object, and go
//! on. The thread asks it what to write next, writes, and tells it what came of it. What others
//! should know comes back through a closure as a [`WriteReport`].

pub mod events;
pub mod pending;
pub mod secrets;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::KubeClient;
use super::error::KubeError;
use super::objects::{ObjectMeta, ObjectReference};
use super::resource::Resource;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads;
pub use events::{EventKind, Reporter};
use pending::{Job, Next, Outcome, Pending, StatusText};
pub use secrets::SecretManifest;
use secrets::SecretPlan;

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteReport {
    /// The status is written; the object has this version now.
    StatusWritten {
        /// Whose status.
        object: ObjectReference,
        /// The version of the object that holds it.
        resource_version: String,
    },
    /// The status couldn't be written. Unless it is invalid it will be tried again.
    StatusFailed {
        /// Whose status.
        object: ObjectReference,
        /// What was tried and what came back.
        text: String,
    },
    /// There is no such object any more, or another one of its name.
    ObjectGone {
        /// The object that was meant.
        object: ObjectReference,
    },
    /// The Secret is as it should be.
    SecretOk {
        /// Its owner.
        owner: ObjectReference,
        /// Its name.
        name: String,
    },
    /// The Secret couldn't be read or written. Unless it is invalid it will be tried again.
    SecretFailed {
        /// Its owner.
        owner: ObjectReference,
        /// Its name.
        name: String,
        /// What was tried and what came back.
        text: String,
    },
    /// A Secret of that name belongs to somebody else and was left alone.
    SecretForeign {
        /// Who should have owned it.
        owner: ObjectReference,
        /// Its name.
        name: String,
    },
}

/// Where writes are left; clones write through the same thread.
#[derive(Clone)]
pub struct WriterHandle {
    shared: Arc<Shared>,
}

struct Shared {
    pending: Mutex<Pending>,
    wake: Sender<()>,
    clock: Clock,
}

/// The running thread. [`Writer::stop`] ends it; dropping it ends it without writing the rest.
pub struct Writer {
    handle: WriterHandle,
    client: KubeClient,
    ended: Receiver<Infallible>,
}

impl Writer {
    /// Starts the thread. `may_write` and `report` run on it: nothing is written while the one says
    /// no, and the other hears what became of it.
    pub fn spawn(
        client: &KubeClient,
        reporter: Reporter,
        clock: Clock,
        metrics: Arc<Metrics>,
        may_write: impl Fn() -> bool + Send + 'static,
        report: impl Fn(WriteReport) + Send + 'static,
    ) -> io::Result<Writer> {
        // Connections of its own: at the end they are cut if the API doesn't answer in time.
        let client = client.with_own_connections();
        let (wake, woken) = bounded(1);
        let (alive, ended) = bounded::<Infallible>(0);
        let pending = Mutex::new(Pending::new(reporter, fastrand::Rng::new()));
        let shared = Arc::new(Shared { pending, wake, clock });
        let actor = Actor {
            client: client.clone(),
            shared: Arc::clone(&shared),
            woken,
            metrics,
            may_write,
            report,
        };
        threads::spawn("kubernetes-writer", move || {
            actor.run();
            drop(alive);
        })?;
        Ok(Writer { handle: WriterHandle { shared }, client, ended })
    }

    /// Where to leave writes.
    pub fn handle(&self) -> WriterHandle {
        self.handle.clone()
    }

    /// Writes what is left as long as the API server answers, at most for `limit`, and ends the
    /// thread; says whether everything was written.
    pub fn stop(self, limit: Duration) -> bool {
        self.handle.shared.change(|pending, _| pending.drain());
        if !self.has_ended_within(limit) {
            self.client.shutdown();
            // The cut call returns at once; a connect that is under way we don't wait for.
            self.has_ended_within(Duration::from_millis(500));
        }
        self.handle.shared.lock().is_empty()
    }

    /// Nothing more is written, and a call that is under way is cut.
    pub fn abandon(&self) {
        self.handle.shared.change(|pending, _| pending.abandon());
        self.client.shutdown();
    }

    /// Has the thread ended? Unless [`Writer::stop`] was called that is a bug, and nothing is written
    /// any more.
    pub fn has_ended(&self) -> bool {
        self.has_ended_within(Duration::ZERO)
    }

    fn has_ended_within(&self, limit: Duration) -> bool {
        matches!(self.ended.recv_timeout(limit), Err(RecvTimeoutError::Disconnected))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl WriterHandle {
    /// Wants `status` to be the whole of the object's status: fields that somebody else left in it go.
    /// A status that waits is replaced by a newer one; one that equals what was last written is not
    /// written again.
    ///
    /// # Errors
    /// If the status has no form in JSON; then nothing is written.
    pub fn apply_status(
        &self,
        object: ObjectReference,
        status: &impl Serialize,
    ) -> serde_json::Result<()> {
        let status = StatusText::of(status)?;
        self.shared.change(|pending, _| pending.put_status(object, status));
        Ok(())
    }

    /// Wants a Secret to exist, with this content and owner.
    pub fn ensure_secret(&self, secret: SecretManifest) {
        self.shared.change(|pending, _| pending.put_secret(secret));
    }

    /// The Secret of this owner is no longer seen to; what waits for it is dropped.
    pub fn leave_secret(&self, owner: &ObjectReference) {
        self.shared.change(|pending, _| pending.forget_secret(owner));
    }

    /// Says something about an object where `kubectl describe` shows it.
    pub fn record_event(
        &self,
        regarding: ObjectReference,
        kind: EventKind,
        reason: &str,
        note: &str,
    ) {
        self.shared.change(|pending, clock| {
            pending.put_event(regarding, kind, reason, note, clock.now());
        });
    }

    /// The object is gone: nothing of it is written or remembered any more.
    pub fn forget(&self, object: &ObjectReference) {
        self.shared.change(|pending, _| pending.forget(object));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(|held| held.into_inner())
    }

    fn change(&self, change: impl FnOnce(&mut Pending, &Clock)) {
        change(&mut self.lock(), &self.clock);
        // A full channel means that the thread will look anyway.
        let _ = self.wake.try_send(());
    }
}

struct Actor<M, R> {
    client: KubeClient,
    shared: Arc<Shared>,
    woken: Receiver<()>,
    metrics: Arc<Metrics>,
    may_write: M,
    report: R,
}

/// What is read of any answer to a write.
#[derive(Deserialize)]
struct Written {
    metadata: ObjectMeta,
}

/// What is read of the answer to a status: what it is made of by now.
#[derive(Deserialize)]
struct WrittenStatus {
    metadata: ObjectMeta,
    status: Option<BTreeMap<String, IgnoredAny>>,
}

/// A status as it is applied.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: StatusMetadata<'a>,
    status: &'a RawValue,
}

#[derive(Serialize)]
struct StatusMetadata<'a> {
    name: &'a str,
    namespace: &'a str,
    /// Makes the server refuse it for a successor of the same name.
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
}

impl<M: Fn() -> bool, R: Fn(WriteReport)> Actor<M, R> {
    fn run(&self) {
        loop {
            match self.next() {
                Next::Write(job) => {
                    let (outcome, report) = self.write(&job);
                    self.shared.lock().finished(*job, outcome, self.shared.clock.now());
                    if let Some(report) = report {
                        (self.report)(report);
                    }
                }
                Next::Wait(Some(wait)) => {
                    let _ = self.woken.recv_timeout(wait);
                }
                Next::Wait(None) => {
                    let _ = self.woken.recv();
                }
                Next::End => return,
            }
        }
    }

    fn next(&self) -> Next {
        let mut pending = self.shared.lock();
        match (self.may_write)() {
            true => pending.next(self.shared.clock.now()),
            false => pending.held_back(),
        }
    }

    fn write(&self, job: &Job) -> (Outcome, Option<WriteReport>) {
        match job {
            Job::Status { object, status } => self.write_status(object, status),
            Job::Secret(secret) => self.write_secret(secret),
            Job::Event { namespace, write, .. } => (self.write_event(namespace, write), None),
        }
    }

    fn write_status(
        &self,
        object: &ObjectReference,
        status: &StatusText,
    ) -> (Outcome, Option<WriteReport>) {
        let written = self.apply_status(object, status);
        let object = object.clone();
        match written {
            Ok(metadata) if is_another(&object, &metadata) => {
                log::info!("{object} was made again meanwhile; its status belongs to a new object");
                (Outcome::Gone, Some(WriteReport::ObjectGone { object }))
            }
            Ok(metadata) => {
                let resource_version = metadata.resource_version;
                (Outcome::Done, Some(WriteReport::StatusWritten { object, resource_version }))
            }
            Err(error) if error.is_not_found() || error.is_other_uid() => {
                (Outcome::Gone, Some(WriteReport::ObjectGone { object }))
            }
            Err(error) => {
                let text = error.to_string();
                let outcome = self.failed("status", &error);
                (outcome, Some(WriteReport::StatusFailed { object, text }))
            }
        }
    }

    /// Leaving a field out of an apply takes away only what nobody but us has written. What another
    /// field manager wrote as well, such as the program we replaced, goes by a patch of its own.
    fn apply_status(
        &self,
        object: &ObjectReference,
        status: &StatusText,
    ) -> Result<ObjectMeta, KubeError> {
        let ObjectReference { resource, namespace, name, uid } = object;
        let path = format!("{}/status", resource.object(namespace, name));
        let body = Status {
            api_version: &resource.api_version(),
            kind: resource.kind,
            metadata: StatusMetadata { name, namespace, uid },
            status: &status.0,
        };
        let applied = self.client.apply::<WrittenStatus>(&path, &body)?;
        let WrittenStatus { metadata, status: found } = applied.object;
        let ours = status.fields();
        let left_over: BTreeMap<String, Value> = found
            .unwrap_or_default()
            .into_keys()
            .filter(|field| !ours.contains(field))
            .map(|field| (field, Value::Null))
            .collect();
        if left_over.is_empty() || is_another(object, &metadata) || !(self.may_write)() {
            return Ok(metadata);
        }
        // Guarded by the version that was seen, as is every write that isn't an apply.
        let version = &metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": left_over });
        Ok(self.client.merge::<Written>(&path, &patch)?.metadata)
    }

    fn write_secret(&self, secret: &SecretManifest) -> (Outcome, Option<WriteReport>) {
        let (owner, name) = (secret.owner.clone(), secret.name.clone());
        match self.ensure_secret(secret) {
            Ok(SecretPlan::Foreign) => {
                (Outcome::Done, Some(WriteReport::SecretForeign { owner, name }))
            }
            Ok(_) => (Outcome::Done, Some(WriteReport::SecretOk { owner, name })),
            Err(error) => {
                let text = error.to_string();
                let outcome = self.failed("secret", &error);
                (outcome, Some(WriteReport::SecretFailed { owner, name, text }))
            }
        }
    }

    fn ensure_secret(&self, secret: &SecretManifest) -> Result<SecretPlan, KubeError> {
        let path = Resource::SECRETS.object(&secret.namespace, &secret.name);
        let client = self.client.withholding(secret.data.values());
        let existing = match client.get::<secrets::Existing>(&path) {
            Ok(existing) => Some(existing),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let plan = secrets::plan(existing.as_ref(), secret);
        match &plan {
            SecretPlan::Create(object) => {
                let collection = Resource::SECRETS.collection(Some(&secret.namespace));
                client.create::<Written>(&collection, object)?;
            }
            SecretPlan::Merge(patch) => {
                client.merge::<Written>(&path, patch)?;
            }
            SecretPlan::Nothing | SecretPlan::Foreign => {}
        }
        Ok(plan)
    }

    fn write_event(&self, namespace: &str, write: &events::EventWrite) -> Outcome {
        let result = match write {
            events::EventWrite::Create(event) => {
                let path = Resource::EVENTS.collection(Some(namespace));
                self.client.create::<Written>(&path, event)
            }
            events::EventWrite::Repeat { name, patch } => {
                let path = Resource::EVENTS.object(namespace, name);
                self.client.merge::<Written>(&path, patch)
            }
        };
        match result {
            Ok(_) => Outcome::Done,
            // It may have reached the server before its answer was lost.
            Err(error) if error.is_already_exists() => Outcome::Done,
            // The server forgets events after an hour.
            Err(error) if error.is_not_found() => Outcome::Gone,
            Err(error) if error.is_forbidden() => {
                self.failed("event", &error);
                Outcome::Refused
            }
            Err(error) => self.failed("event", &error),
        }
    }

    fn failed(&self, kind: &'static str, error: &KubeError) -> Outcome {
        self.metrics.add("multinic_kubernetes_write_failures_total", &[("kind", kind)], 1.0);
        log::warn!("could not write {kind}: {error}");
        if error.is_server_trouble() {
            Outcome::ServerTrouble { retry_after: error.retry_after() }
        } else if error.is_invalid() || error.is_field_manager_conflict() {
            Outcome::Refused
        } else {
            Outcome::Retry
        }
    }
}

/// Is what was found another object than the one that was meant?
fn is_another(meant: &ObjectReference, found: &ObjectMeta) -> bool {
    !meant.uid.is_empty() && found.uid != meant.uid
}
