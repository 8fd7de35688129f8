//! Every write of ours but the Lease, in three lanes: statuses, Secrets, Events.
//!
//! Callers leave a write in its lane's queue and go on, so an API server in trouble never holds up a
//! sync, and a slow kind of write no other. What became of a Secret comes back through a closure.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use super::client::{KubeClient, Permission};
use super::events::{self, EventText, Events};
use super::lane::{LaneContext, WriteLane};
use super::objects::ObjectReference;
use super::secret_writer::{self, SecretManifest, SecretState};
use super::status_writer::{self, UnknownFields};
use super::write_queue::Priority;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads::{Thread, lock};

/// Statuses that are written at once: 80 a second to an API server 50 ms away.
const STATUS_THREADS: usize = 4;
/// An Event is given up after so many attempts, for it is soon no news.
const EVENT_ATTEMPTS: u32 = 5;
/// Above so many that wait, Events are only counted.
const EVENTS_WAITING: usize = 500;
/// How long a call that is cut may take to return.
const CUT_LIMIT: Duration = Duration::from_millis(500);

type Report = dyn Fn(&SecretManifest, SecretState) + Send + Sync;

/// The running lanes. [`Writer::stop`] ends them; dropping it ends them without writing the rest.
pub struct Writer {
    statuses: WriteLane,
    secrets: WriteLane,
    events: WriteLane,
    recent: Arc<Mutex<Events>>,
    report: Arc<Report>,
    unknown: Arc<UnknownFields>,
    client: KubeClient,
    clock: Clock,
}

impl Writer {
    /// Starts the threads. `instance` is the pod's name, for Events. Nothing is written while
    /// `may_write` says no. `report` runs on the Secrets' thread.
    ///
    /// # Errors
    /// If a thread can't be started.
    pub fn spawn(
        client: &KubeClient,
        instance: String,
        clock: Clock,
        metrics: Arc<Metrics>,
        may_write: impl Fn() -> bool + Send + Sync + 'static,
        report: impl Fn(&SecretManifest, SecretState) + Send + Sync + 'static,
    ) -> io::Result<Writer> {
        let may_write: Permission = Arc::new(may_write);
        // Connections of its own: at the end they are cut if the API doesn't answer in time.
        let mut client = client.with_own_connections();
        client.may_write = Some(Arc::clone(&may_write));
        let context = LaneContext { clock: clock.clone(), metrics, may_write };
        Ok(Writer {
            statuses: WriteLane::spawn("status", STATUS_THREADS, None, &context)?,
            secrets: WriteLane::spawn("secret", 1, None, &context)?,
            events: WriteLane::spawn("event", 1, Some(EVENT_ATTEMPTS), &context)?,
            recent: Arc::new(Mutex::new(Events::new(instance, fastrand::Rng::new()))),
            report: Arc::new(report),
            unknown: Arc::default(),
            client,
            clock,
        })
    }

    /// Makes `status` the whole of the object's status: fields of others go. A status that waits is
    /// replaced by a newer one.
    ///
    /// # Errors
    /// If the status has no form in JSON; then nothing is written.
    pub fn write_status(
        &self,
        object: ObjectReference,
        status: &impl Serialize,
        priority: Priority,
    ) -> serde_json::Result<()> {
        let (client, key, status) =
            (self.client.clone(), (object.clone(), None), serde_json::to_value(status)?);
        let unknown = Arc::clone(&self.unknown);
        let write = Arc::new(move || status_writer::write(&client, &object, &status, &unknown));
        self.statuses.change(|queue| queue.put(key, write, priority));
        Ok(())
    }

    /// Fields of statuses that the API server doesn't know, for its CRD is older than this program.
    pub(crate) fn unknown_status_fields(&self) -> Vec<String> {
        self.unknown.names()
    }

    /// Sees to it that a Secret exists, with this content and owner.
    pub fn write_secret(&self, secret: SecretManifest) {
        let (client, report) = (self.client.clone(), Arc::clone(&self.report));
        let key = (secret.owner.clone(), None);
        let write = Arc::new(move || {
            let result = secret_writer::write(&client, &secret);
            let state = match &result {
                Ok(state) => state.clone(),
                Err(error) => SecretState::Failed(error.to_string()),
            };
            report(&secret, state);
            result.map(drop)
        });
        self.secrets.change(|queue| queue.put(key, write, Priority::Change));
    }

    /// Drops the write that waits for the Secret of this owner.
    pub(crate) fn forget_secret(&self, owner: &ObjectReference) {
        self.secrets.change(|queue| queue.drop_where(|(object, _)| object == owner));
    }

    /// Records an Event about an object, where `kubectl describe` shows it.
    pub fn record_event(
        &self,
        object: ObjectReference,
        is_warning: bool,
        reason: &str,
        note: &str,
    ) {
        let text = EventText::new(is_warning, reason, note);
        if !lock(&self.recent).count(&object, &text, self.clock.now()) {
            return;
        }
        let (client, recent) = (self.client.clone(), Arc::clone(&self.recent));
        let key = (object.clone(), Some(text.clone()));
        let write = Arc::new(move || events::write(&client, &recent, &object, &text));
        self.events.change(|queue| {
            if queue.waiting() < EVENTS_WAITING {
                queue.put(key, write, Priority::Change);
            }
        });
    }

    /// The object is gone: nothing more is written about it.
    pub fn forget(&self, object: &ObjectReference) {
        for lane in self.lanes() {
            lane.change(|queue| queue.drop_where(|(known, _)| known == object));
        }
        lock(&self.recent).forget(object);
    }

    /// Writes what is left as long as the API server answers, at most for `limit`, and ends the
    /// threads; says whether everything was written.
    pub fn stop(self, limit: Duration) -> bool {
        for lane in self.lanes() {
            lane.drain();
        }
        if !self.have_ended_within(limit) {
            self.client.shutdown();
            // A connect that is under way is not waited for.
            self.have_ended_within(CUT_LIMIT);
        }
        self.lanes().iter().all(|lane| lane.is_empty())
    }

    /// Writes nothing more, and cuts the calls that are under way.
    pub fn abandon(&self) {
        for lane in self.lanes() {
            lane.abandon();
        }
        self.client.shutdown();
    }

    /// Has a thread ended? Unless the writer was stopped that is a bug, and something is no longer
    /// written.
    pub fn has_lost_a_thread(&self) -> bool {
        self.threads().any(|thread| thread.has_ended_within(Duration::ZERO))
    }

    fn have_ended_within(&self, limit: Duration) -> bool {
        let until = self.clock.now().uptime.saturating_add(limit);
        let left = || until.saturating_sub(self.clock.now().uptime);
        self.threads().all(|thread| thread.has_ended_within(left()))
    }

    fn threads(&self) -> impl Iterator<Item = &Thread> {
        self.lanes().into_iter().flat_map(|lane| &lane.threads)
    }

    fn lanes(&self) -> [&WriteLane; 3] {
        [&self.statuses, &self.secrets, &self.events]
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.abandon();
    }
}
