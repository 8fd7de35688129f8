//! When an object is reconciled next. Pure.
//!
//! Objects of one scope are asked for together, so they should be due together: a scope has ticks, and
//! each poll moves its object towards the nearest one, never early and at most 10 % late. Objects that
//! were created at any times come to be due at the same ticks within a dozen polls. A poll counts from
//! the beginning of the pass, so that those of its slices stay together.

use std::time::Duration;

use jiff::Timestamp;

use super::down_ports;
use crate::clock::Now;
use crate::config::{Intervals, least_pause};
use crate::resources::DownPortRetry;

/// A tick has so many parts. An object that can't reach its tick yet is due at a part, so that objects
/// that were reconciled together stay together.
const PARTS: i128 = 128;
/// No service may ask for a longer pause than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What the next time depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// How long ago the pass began.
    pub took: Duration,
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

/// The uptime at which the object is due next. `phase` says where the ticks of its scope are: any
/// number, the same for all objects of the scope.
pub fn next_due(now: Now, facts: &Facts<'_>, intervals: &Intervals, phase: u64) -> Duration {
    let recent = |changed: Duration| now.uptime.saturating_sub(changed) < intervals.fast_window;
    let poll = if facts.changed_at.is_some_and(recent) { intervals.fast } else { intervals.slow };
    let wait = if facts.failed {
        intervals.error
    } else {
        let down = facts.down_ports.map(|retry| down_ports::wait(retry, intervals, now.wall));
        let resync = facts
            .resync_at
            .map(|at| Duration::try_from(at.duration_since(now.wall)).unwrap_or_default());
        [down, resync].into_iter().flatten().fold(poll, Duration::min)
    };
    // A pass may come to a good end with the names that Nova gave before.
    let wait = wait.max(facts.retry_after.unwrap_or_default().min(LONGEST_PAUSE));
    let is_poll = !facts.failed && wait == poll;
    // Slow passes leave the cloud alone for most of the interval.
    let most = if is_poll { wait - least_pause(wait) } else { Duration::ZERO };
    let took = facts.took.min(most);
    let from = now.uptime.saturating_sub(took);
    from + to_the_tick(from, wait, phase)
}

/// How long to wait from `now` to the tick that is nearest to 1.05 times `wait`, or to the part of a
/// tick that is nearest to that; from `wait` to 1.1 times `wait`. A tick comes each 1.05 times `wait`.
fn to_the_tick(now: Duration, wait: Duration, phase: u64) -> Duration {
    let nanoseconds = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / 64);
    let (now, least) = (nanoseconds(now), nanoseconds(wait));
    let (middle, most) = (least * 21 / 20, least * 11 / 10);
    let part = middle / PARTS;
    if part == 0 {
        return wait;
    }
    let tick = part * PARTS;
    let since_tick = now - i128::from(phase) % tick;
    let earliest = (since_tick + least + part - 1).div_euclid(part);
    let latest = (since_tick + most).div_euclid(part);
    let nearest = (since_tick + middle + tick / 2).div_euclid(tick) * PARTS;
    let due = nearest.clamp(earliest, latest) * part - since_tick;
    u64::try_from(due).map_or(wait, Duration::from_nanos)
}
