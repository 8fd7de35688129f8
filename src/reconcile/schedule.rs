//! When an object is looked at next (SPEC 5, step 13). Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::down_ports;
use crate::clock::Now;
use crate::config::Intervals;
use crate::resources::DownPortRetry;

/// Polls are spread by up to this share of their interval, never early.
const JITTER: f64 = 0.1;
/// No service may ask for a longer pause than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What the next time depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The pass ended with an error.
    pub failed: bool,
    /// A service asked to be left alone for so long.
    pub retry_after: Option<Duration>,
    /// Uptime of the last change that was sent.
    pub changed_at: Option<Duration>,
    /// Resends for DOWN ports.
    pub down_ports: Option<&'a DownPortRetry>,
    /// When the oldest accepted node must be sent again.
    pub resync_at: Option<Timestamp>,
}

/// The uptime at which the object is due next. `spread` is from 0 to 1, at random.
pub fn next_due(now: Now, facts: &Facts<'_>, intervals: &Intervals, spread: f64) -> Duration {
    let wait = if facts.failed {
        intervals.error
    } else {
        let recent = |changed: Duration| now.uptime.saturating_sub(changed) < intervals.fast_window;
        let poll =
            if facts.changed_at.is_some_and(recent) { intervals.fast } else { intervals.slow };
        let down = facts.down_ports.map(|retry| down_ports::wait(retry, intervals, now.wall));
        let resync = facts
            .resync_at
            .map(|at| Duration::try_from(at.duration_since(now.wall)).unwrap_or_default());
        [down, resync].into_iter().flatten().fold(poll, Duration::min)
    };
    // A pass may come to a good end with the names that Nova told before.
    let wait = wait.max(facts.retry_after.unwrap_or_default().min(LONGEST_PAUSE));
    now.uptime + wait + wait.mul_f64(JITTER * spread.clamp(0.0, 1.0))
}
