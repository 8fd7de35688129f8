//! Who leads, decided from the Lease as it was read and from our own clock.
//!
//! Pure. Clocks of replicas may differ, so no time in the Lease is compared with our own clock.
//! What counts is how long ago, on our monotonic clock, we saw the Lease change.
//!
//! ```text
//!                    +-------------------------+
//!                    v                         | held by another, or failed
//!      Waited --> Read --> free or run out --> Create / Replace --> Written: leading
//!        ^                                          |                  |
//!        +------------------ race lost -------------+                  | each retry
//!        +---- renewal failed up to the deadline, or taken: Lost <-----+
//! ```

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Now, to_micro_text};

/// Which Lease, and who we are.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Our name: another one for each process, such as the pod's name.
    pub identity: String,
    /// Limits and waits.
    pub timing: LeaseTiming,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTiming {
    /// How long a Lease holds that isn't renewed.
    pub duration: Duration,
    /// A leader that can't renew for so long has lost. The rest of `duration` is for its workers
    /// to stop in, and for clocks that run at different speeds.
    pub renew_deadline: Duration,
    /// The wait between two looks, or two renewals.
    pub retry: Duration,
}

impl Default for LeaseTiming {
    /// A follower may see the last renewal one `retry` late, then waits for `duration`: a killed
    /// leader is replaced after 14 s at the latest. (client-go's 15, 10 and 2 s make it 17 s.)
    fn default() -> LeaseTiming {
        LeaseTiming {
            duration: Duration::from_secs(12),
            renew_deadline: Duration::from_secs(8),
            retry: Duration::from_secs(2),
        }
    }
}

impl LeaseTiming {
    /// No call may last longer than this, so that several fit before the deadline.
    fn call_limit(&self) -> Duration {
        self.renew_deadline / 3
    }
}

/// Who leads, as news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// We do.
    Leading,
    /// Another replica does.
    Following {
        /// Its identity.
        leader: String,
    },
    /// We did, and don't any more: all work must stop at once.
    Lost,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Read the Lease: [`Input::Read`] or [`Input::Failed`].
    Read {
        /// Limit of the call.
        limit: Duration,
    },
    /// Create the Lease: [`Input::Written`], [`Input::RaceLost`] or [`Input::Failed`].
    Create {
        /// The Lease.
        object: Value,
        /// Limit of the call.
        limit: Duration,
    },
    /// Replace the Lease, likewise.
    Replace {
        /// The Lease, with the version it replaces.
        object: Value,
        /// Limit of the call.
        limit: Duration,
    },
    /// [`Input::Waited`] afterwards.
    Wait(Duration),
}

/// What came of a task.
#[derive(Clone, Debug)]
pub enum Input {
    /// The Lease, if there is one.
    Read(Option<Value>),
    /// The Lease as it is after our write.
    Written(Value),
    /// Another replica wrote first.
    RaceLost,
    /// The API couldn't be asked.
    Failed,
    /// The wait is over.
    Waited,
}

/// One replica's view of the election.
pub struct Election {
    settings: LeaseSettings,
    rng: fastrand::Rng,
    /// The Lease as last seen, and when it was first seen like this.
    seen: Option<(Value, Duration)>,
    /// When the call began that last renewed our leadership; none while we don't lead.
    renewed_at: Option<Duration>,
    /// When the write that is under way began.
    writing_since: Duration,
    /// Our write came too late: what we saw is old, so look before the next write.
    must_look: bool,
    /// The leader that was last reported.
    reported: Option<Leadership>,
}

impl Election {
    /// A candidate that knows nothing yet.
    pub fn new(settings: LeaseSettings, rng: fastrand::Rng) -> Election {
        Election {
            settings,
            rng,
            seen: None,
            renewed_at: None,
            writing_since: Duration::ZERO,
            must_look: false,
            reported: None,
        }
    }

    /// What to do first.
    pub(crate) fn first_task(&self) -> Task {
        Task::Read { limit: self.settings.timing.call_limit() }
    }

    /// Takes what came of the last task; gives the next, and what is new.
    pub(crate) fn step(&mut self, input: Input, now: Now) -> (Task, Vec<Leadership>) {
        let mut news = Vec::new();
        if self.renewed_at.is_some_and(|at| self.is_past_deadline(at, &input, now)) {
            self.lose(&mut news);
        }
        let task = match input {
            Input::Read(lease) => self.read(lease, now, &mut news),
            Input::Written(lease) => {
                self.written(lease, now, &mut news);
                self.wait(now)
            }
            Input::RaceLost => {
                self.must_look = true;
                Task::Wait(self.retry() / 10)
            }
            // A write that failed may have been carried out; then the next loses a race to it.
            Input::Failed => self.wait(now),
            Input::Waited => match self.seen.clone() {
                Some((lease, _)) if self.renewed_at.is_some() && !self.must_look => {
                    self.write(Some(lease), now)
                }
                _ => Task::Read { limit: self.call_limit(now) },
            },
        };
        (task, news)
    }

    /// The Lease to write when we stop, and the limit for it; none if we don't lead.
    pub fn release(&mut self, now: Now) -> Option<(Value, Duration)> {
        self.renewed_at.take()?;
        let (mut lease, _) = self.seen.take()?;
        let time = to_micro_text(now.wall);
        let spec = &mut lease["spec"];
        spec["holderIdentity"] = json!("");
        spec["leaseDurationSeconds"] = json!(1);
        spec["acquireTime"] = json!(time);
        spec["renewTime"] = json!(time);
        Some((lease, self.settings.timing.call_limit()))
    }

    /// Up to which uptime we lead unless we renew; none while we don't.
    pub(crate) fn leads_until(&self) -> Option<Duration> {
        Some(self.renewed_at?.saturating_add(self.settings.timing.renew_deadline))
    }

    fn is_past_deadline(&self, renewed_at: Duration, input: &Input, now: Now) -> bool {
        // A renewal that succeeded counts from its beginning, before which no replica can have seen it.
        let from = match input {
            Input::Written(_) => self.writing_since,
            _ => renewed_at,
        };
        now.uptime.saturating_sub(from) >= self.settings.timing.renew_deadline
    }

    fn read(&mut self, lease: Option<Value>, now: Now, news: &mut Vec<Leadership>) -> Task {
        self.must_look = false;
        let Some(lease) = lease else {
            // Deleted: its holder leads on until it notices, and creates it again then.
            return match self.left_to_another(now) {
                Some(left) => Task::Wait(self.retry().min(left)),
                None => self.write(None, now),
            };
        };
        let since = match &self.seen {
            Some((known, since)) if known["spec"] == lease["spec"] => *since,
            _ => now.uptime,
        };
        self.seen = Some((lease.clone(), since));
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if self.renewed_at.is_some() && holder != self.settings.identity {
            self.lose(news);
        }
        let Some(left) = self.left_to_another(now) else { return self.write(Some(lease), now) };
        let following = Leadership::Following { leader: holder.to_owned() };
        if self.reported.as_ref() != Some(&following) {
            self.reported = Some(following.clone());
            news.push(following);
        }
        // Not later than the Lease runs out: who polls past it is late by a whole retry.
        Task::Wait(self.retry().min(left))
    }

    /// How much longer the Lease, as it was last seen, is another's; none if it is free or ours.
    fn left_to_another(&self, now: Now) -> Option<Duration> {
        let (lease, since) = self.seen.as_ref()?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let duration = lease["spec"]["leaseDurationSeconds"].as_u64();
        let duration = duration.map_or(self.settings.timing.duration, Duration::from_secs);
        let left = duration.saturating_sub(now.uptime.saturating_sub(*since));
        let is_anothers = !holder.is_empty() && holder != self.settings.identity;
        (is_anothers && !left.is_zero()).then_some(left)
    }

    fn written(&mut self, lease: Value, now: Now, news: &mut Vec<Leadership>) {
        let was_leading = self.renewed_at.is_some();
        self.seen = Some((lease, now.uptime));
        let took = now.uptime.saturating_sub(self.writing_since);
        if took >= self.settings.timing.renew_deadline {
            // So late that others may already count it as run out: look again first.
            return;
        }
        self.renewed_at = Some(self.writing_since);
        self.reported = None;
        if !was_leading {
            news.push(Leadership::Leading);
        }
    }

    fn write(&mut self, lease: Option<Value>, now: Now) -> Task {
        self.writing_since = now.uptime;
        let limit = self.call_limit(now);
        let (time, is_new) = (to_micro_text(now.wall), lease.is_none());
        let LeaseSettings { namespace, name, identity, timing } = &self.settings;
        let new = || {
            json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": { "name": name, "namespace": namespace },
                "spec": { "holderIdentity": identity, "acquireTime": time, "leaseTransitions": 0 },
            })
        };
        let mut object = lease.unwrap_or_else(new);
        if !object["spec"].is_object() {
            object["spec"] = json!({});
        }
        let spec = &mut object["spec"];
        if spec["holderIdentity"] != json!(identity) {
            let transitions = spec["leaseTransitions"].as_u64().unwrap_or_default();
            spec["leaseTransitions"] = json!(transitions.saturating_add(1));
            spec["acquireTime"] = json!(time);
        }
        spec["holderIdentity"] = json!(identity);
        spec["leaseDurationSeconds"] = json!(timing.duration.as_secs().max(1));
        spec["renewTime"] = json!(time);
        if is_new { Task::Create { object, limit } } else { Task::Replace { object, limit } }
    }

    /// No call of a leader lasts beyond its deadline.
    fn call_limit(&self, now: Now) -> Duration {
        let limit = self.settings.timing.call_limit().min(self.left(now));
        limit.max(Duration::from_millis(10))
    }

    /// A leader in trouble hears of its loss at the deadline, not a retry later.
    fn wait(&mut self, now: Now) -> Task {
        Task::Wait(self.retry().min(self.left(now)))
    }

    /// Until our leadership ends unless we renew; the whole deadline while we don't lead.
    fn left(&self, now: Now) -> Duration {
        let spent = self.renewed_at.map_or(Duration::ZERO, |at| now.uptime.saturating_sub(at));
        self.settings.timing.renew_deadline.saturating_sub(spent)
    }

    /// A little sooner than asked for, at random, so that replicas don't look in step.
    fn retry(&mut self) -> Duration {
        self.settings.timing.retry.mul_f64(0.8 + 0.2 * self.rng.f64())
    }

    fn lose(&mut self, news: &mut Vec<Leadership>) {
        self.renewed_at = None;
        self.reported = None;
        news.push(Leadership::Lost);
    }
}

#[cfg(test)]
mod tests;
