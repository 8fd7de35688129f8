//! How soon each object may be synced again: never before its interval is over, unless something
//! that concerns it happened since it was last looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use multinic_operator::config::Intervals;
use multinic_operator::controller::Event;
use multinic_operator::reconcile::report::Reason;
use multinic_operator::reconcile::{Outcome, Work};
use multinic_operator::resources::{ObjectKey, OpenstackConfig};

/// No service may ask for a longer pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// An object that another pass was in the way of comes again after so long at most.
const LATER: Duration = Duration::from_secs(1);

/// Waiting for a worker, and for POSTs of others, takes no longer.
const QUEUEING: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Known {
    /// Not before this, if nothing happens.
    earliest: Duration,
    /// Not much later than this; none before the first sync.
    latest: Option<Duration>,
    /// Something happened that may make it due.
    is_woken: bool,
    changed_at: Option<Duration>,
    generation: i64,
    force: Option<String>,
    approve: Option<String>,
    nodes: Option<u32>,
    is_conflicting: bool,
    syncs: u64,
}

/// What is known of when the operator asks.
#[derive(Default)]
pub(crate) struct Pace {
    objects: BTreeMap<(ObjectKey, String), Known>,
    started: Duration,
}

impl Pace {
    /// A process that knows of nothing.
    pub(crate) fn start(&mut self, at: Duration) {
        self.objects.clear();
        self.started = at;
    }

    /// Timers that look at the wall clock may be wrong once.
    pub(crate) fn jumped(&mut self, _: Duration) {
        for known in self.objects.values_mut() {
            known.is_woken = true;
        }
    }

    /// Something reaches the controller.
    pub(crate) fn woken(&mut self, event: &Event) {
        match event {
            Event::Applied(object) => self.seen(object),
            Event::Listed { objects, .. } => {
                // Whoever isn't in the list is gone, which may concern all others.
                let gone =
                    self.objects.keys().any(|(_, uid)| !objects.iter().any(|o| o.uid == *uid));
                if gone {
                    self.wake_all();
                }
                objects.iter().for_each(|object| self.seen(object));
            }
            Event::Deleted { .. } | Event::RecordsRestored { .. } | Event::Notified { .. } => {
                self.wake_all();
            }
            Event::Finished { .. }
            | Event::PassEnded { .. }
            | Event::SecretChecked { .. }
            | Event::Heard { .. }
            | Event::Broker(..) => {}
        }
    }

    fn seen(&mut self, object: &OpenstackConfig) {
        let key = (object.key.clone(), object.uid.clone());
        let known = self.objects.get(&key);
        let is_same = known.is_some_and(|known| {
            known.generation == object.generation
                && known.force == object.force
                && known.approve == object.approve
                && !object.being_deleted
        });
        if is_same {
            return;
        }
        let known = self.objects.entry(key).or_default();
        known.generation = object.generation;
        known.force.clone_from(&object.force);
        known.approve.clone_from(&object.approve);
        // It may give nodes up, of whatever cloud.
        self.wake_all();
    }

    fn wake_all(&mut self) {
        for known in self.objects.values_mut() {
            known.is_woken = true;
        }
    }

    /// (e): may this sync be handed out now?
    pub(crate) fn check(&mut self, at: Duration, job: &Work) -> Result<(), String> {
        let key = (job.object.key.clone(), job.object.uid.clone());
        let known = self.objects.entry(key).or_default();
        known.syncs += 1;
        if at < known.earliest && !known.is_woken {
            let early = known.earliest - at;
            return Err(format!("(e) {} is synced {early:?} too early", job.object.key));
        }
        if let Some(latest) = known.latest.filter(|latest| at > *latest + QUEUEING) {
            return Err(format!("(c) {} is synced {:?} too late", job.object.key, at - latest));
        }
        known.is_woken = false;
        Ok(())
    }

    /// A sync's end reaches the controller.
    pub(crate) fn finished(
        &mut self,
        at: Duration,
        wall: Timestamp,
        job: &Work,
        outcome: &Outcome,
        intervals: &Intervals,
        took: Duration,
    ) {
        let key = (job.object.key.clone(), job.object.uid.clone());
        let Some(known) = self.objects.get_mut(&key) else { return };
        if outcome.changed {
            known.changed_at = Some(at);
        }
        if outcome.later {
            (known.earliest, known.latest) = (at, Some(at + LATER));
            return;
        }
        let recent = known.changed_at.is_some_and(|changed| at < changed + intervals.fast_window);
        let poll = if recent { intervals.fast } else { intervals.slow };
        let pause = outcome.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
        let reason = outcome.ready.reason;
        let is_held = matches!(reason, Reason::MemoryLost | Reason::ChangeHeld);
        let failed = outcome.aborted || !(reason.is_success() || is_held);
        let wait = if failed { intervals.error } else { poll }.max(pause);
        known.latest = Some(at + wait.mul_f64(1.1));
        known.earliest = at
            + if outcome.aborted {
                intervals.error
            } else if failed {
                intervals.error.max(pause)
            } else if intervals.resync.is_some() {
                pause
            } else {
                let poll = if recent { intervals.fast } else { intervals.slow };
                let resend = outcome.down_port_retry.as_ref().map(|retry| {
                    let is_soon = retry.fast_attempts < intervals.down_port_fast_retries;
                    let interval = if is_soon { intervals.fast } else { intervals.slow };
                    let elapsed = Duration::try_from(wall.duration_since(retry.last_attempt));
                    interval.saturating_sub(elapsed.unwrap_or(Duration::MAX))
                });
                let wait = poll.min(resend.unwrap_or(poll)).max(pause);
                // A poll counts from the beginning of the pass.
                if wait == poll { wait.saturating_sub(took.min(poll / 4)) } else { wait }
            };
        known.is_conflicting = outcome.ready.reason == Reason::NodeConflict;
        let freed = outcome.nodes.is_some() && outcome.nodes != known.nodes;
        known.nodes = outcome.nodes.or(known.nodes);
        if freed {
            for (other, known) in &mut self.objects {
                known.is_woken |= *other != key && known.is_conflicting;
            }
        }
    }
}
