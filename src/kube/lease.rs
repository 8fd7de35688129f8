//! Leader election by a Lease (`coordination.k8s.io/v1`): at most one replica leads.
//!
//! The decisions are [`election`]'s, which is pure. The thread here reads and writes the Lease as
//! that asks for, and tells a closure who leads. A leader hears [`Leadership::Lost`] before another
//! replica can take over, and must have stopped its work by the time the Lease runs out.

pub mod election;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::Value;

use super::client::KubeClient;
use super::error::{ApiStatus, KubeError};
use super::resource::Resource;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads::Thread;
use election::{Election, Input, Task};
pub use election::{Leadership, LeaseSettings, LeaseTiming};

/// A running election. Dropping it ends the thread without releasing the Lease.
pub struct LeaderElection {
    client: KubeClient,
    hold: LeaseHold,
    /// Asks for the Lease to be released; dropped, it ends the thread without that.
    stop: Sender<()>,
    thread: Thread,
}

/// Whether the Lease is ours at this moment. It is up to the clock and not to the election's thread:
/// a process that was paused learns at once, before that thread has run, that it no longer leads.
#[derive(Clone, Debug)]
pub struct LeaseHold {
    /// Uptime in milliseconds up to which we lead; 0 while we don't.
    until: Arc<AtomicU64>,
    /// Uptime in milliseconds up to which what was read of the Lease counts.
    known_until: Arc<AtomicU64>,
    clock: Clock,
}

impl LeaseHold {
    /// May this replica act as the leader?
    pub fn is_held(&self) -> bool {
        self.clock.now().uptime < Duration::from_millis(self.until.load(Ordering::SeqCst))
    }

    /// Was the Lease read or written so lately that this replica would notice its end?
    pub(crate) fn is_known(&self) -> bool {
        self.clock.now().uptime < Duration::from_millis(self.known_until.load(Ordering::SeqCst))
    }
}

fn set(milliseconds: &AtomicU64, time: Duration) {
    let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    milliseconds.store(time, Ordering::SeqCst);
}

impl LeaderElection {
    /// Starts the thread. `sink` runs on it and must return quickly: while it runs, the Lease isn't
    /// renewed.
    pub fn spawn(
        client: &KubeClient,
        settings: LeaseSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
        sink: impl FnMut(Leadership) + Send + 'static,
    ) -> io::Result<LeaderElection> {
        let client = client.with_own_connections();
        let (stop, stopped) = bounded(1);
        let rng = fastrand::Rng::new();
        let (until, known_until) = (Arc::default(), Arc::default());
        let hold = LeaseHold { until, known_until, clock: clock.clone() };
        let mut candidate = Candidate {
            known_for: settings.timing.duration,
            collection: Resource::LEASES.collection(Some(&settings.namespace)),
            path: Resource::LEASES.object(&settings.namespace, &settings.name),
            election: Election::new(settings, rng),
            client: client.clone(),
            hold: hold.clone(),
            clock,
            metrics,
            stopped,
            sink,
            read_trouble: String::new(),
            write_trouble: String::new(),
        };
        let thread = Thread::spawn("leader-election", move || candidate.run())?;
        Ok(LeaderElection { client, hold, stop, thread })
    }

    /// Tells at any time whether the Lease is ours.
    pub fn hold(&self) -> LeaseHold {
        self.hold.clone()
    }

    /// Gives the Lease back, if it is ours, so that another replica takes over at once, and ends
    /// the thread. To be called when all work has stopped. Takes at most `limit`; says whether the
    /// thread has ended by then.
    pub fn release(self, limit: Duration) -> bool {
        let _ = self.stop.try_send(());
        self.thread.has_ended_within(limit)
    }
}

impl Drop for LeaderElection {
    fn drop(&mut self) {
        self.client.shutdown();
    }
}

struct Candidate<S> {
    collection: String,
    path: String,
    election: Election,
    /// How long what was read of the Lease counts.
    known_for: Duration,
    client: KubeClient,
    hold: LeaseHold,
    clock: Clock,
    metrics: Arc<Metrics>,
    stopped: Receiver<()>,
    sink: S,
    /// What the log last said of reads that failed, until one succeeds; and of writes likewise. Each
    /// by itself: with the right to read the Lease but not to write it the log would say so every other
    /// second.
    read_trouble: String,
    write_trouble: String,
}

impl<S: FnMut(Leadership)> Candidate<S> {
    fn run(&mut self) {
        self.show(false);
        let mut task = self.election.first_task();
        loop {
            let input = match task {
                Task::Read { limit } => {
                    let lease = self.client.with_call_limit(limit).get::<Value>(&self.path);
                    self.read(lease)
                }
                Task::Create { object, limit } => {
                    let client = self.client.with_call_limit(limit);
                    self.written(client.create::<Value>(&self.collection, &object))
                }
                Task::Replace { object, limit } => {
                    let client = self.client.with_call_limit(limit);
                    self.written(client.put::<Value>(&self.path, &object))
                }
                Task::Wait(wait) => match self.stopped.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => Input::Waited,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Ok(()) => return self.release(),
                },
            };
            let now = self.clock.now();
            if matches!(input, Input::Read(_) | Input::Written(_)) {
                set(&self.hold.known_until, now.uptime + self.known_for);
            }
            let (next, news) = self.election.step(input, now);
            task = next;
            set(&self.hold.until, self.election.leads_until().unwrap_or_default());
            for leadership in news {
                self.tell(leadership);
            }
        }
    }

    fn read(&mut self, result: Result<Value, KubeError>) -> Input {
        let lease = match result {
            Ok(lease) => Some(lease),
            Err(error) if error.status().is_not_found() => None,
            Err(error) => return failed(&mut self.read_trouble, &error),
        };
        self.read_trouble.clear();
        Input::Read(lease)
    }

    fn written(&mut self, result: Result<Value, KubeError>) -> Input {
        let is_race = |status: &ApiStatus| {
            status.is_conflict() || status.is_already_exists() || status.is_not_found()
        };
        match result {
            Ok(lease) => {
                self.read_trouble.clear();
                self.write_trouble.clear();
                Input::Written(lease)
            }
            // Changed, created or deleted since it was read.
            Err(error) if is_race(error.status()) => Input::RaceLost,
            Err(error) => failed(&mut self.write_trouble, &error),
        }
    }

    fn release(&mut self) {
        let Some((object, limit)) = self.election.release(self.clock.now()) else { return };
        set(&self.hold.until, Duration::ZERO);
        match self.client.with_call_limit(limit).put::<Value>(&self.path, &object) {
            Ok(_) => log::info!("leader election: the Lease is released"),
            Err(error) => log::warn!("leader election: the Lease could not be released: {error}"),
        }
        self.show(false);
    }

    fn tell(&mut self, leadership: Leadership) {
        // First those that have to stop.
        (self.sink)(leadership.clone());
        match &leadership {
            Leadership::Leading => log::info!("leader election: this replica leads"),
            Leadership::Following { leader } => log::info!("leader election: {leader} leads"),
            Leadership::Lost => log::error!("leader election: the Lease is lost"),
        }
        self.show(leadership == Leadership::Leading);
    }

    fn show(&self, is_leading: bool) {
        let value = if is_leading { 1.0 } else { 0.0 };
        self.metrics.set("leader_election_master_status", &[("name", "multinic-operator")], value);
    }
}

/// Says what failed, unless it is what was said before.
fn failed(said: &mut String, error: &KubeError) -> Input {
    let text = error.to_string();
    if text != *said {
        log::warn!("leader election: {text}");
        *said = text;
    }
    Input::Failed
}
