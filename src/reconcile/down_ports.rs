//! Resends for DOWN ports (docs/behaviour.md#down-ports). Pure.
//!
//! A port just bound is DOWN until an agent reports it up, and a node that was sent too early may
//! have missed it. So its configuration is sent again: a few times soon, then rarely, for as long
//! as there are DOWN ports.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::Intervals;
use crate::node_config::hexadecimal;
use crate::resources::DownPortRetry;

/// SHA-256 of the sorted port ids, in hexadecimal.
pub fn hash<'a>(ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut ids: Vec<&str> = ids.into_iter().collect();
    ids.sort_unstable();
    let text = ids.join(",");
    hexadecimal(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

/// How long until nodes with DOWN ports are due to be sent again; zero when they are due.
pub fn wait(retry: &DownPortRetry, intervals: &Intervals, wall: Timestamp) -> Duration {
    let interval = if retry.fast_attempts < intervals.down_port_fast_retries {
        intervals.fast
    } else {
        intervals.slow
    };
    // A clock that was set back must not stretch the wait: who knows how long ago it was is due.
    let elapsed = Duration::try_from(wall.duration_since(retry.last_attempt));
    elapsed.map_or(Duration::ZERO, |elapsed| interval.saturating_sub(elapsed))
}

/// Should nodes with DOWN ports be sent again now? `before` is the state from the last pass, and
/// counts only if it speaks of the same ports.
pub fn is_due(
    before: Option<&DownPortRetry>,
    hash: &str,
    intervals: &Intervals,
    wall: Timestamp,
) -> bool {
    before.is_some_and(|retry| retry.hash == hash && wait(retry, intervals, wall).is_zero())
}

/// The state after a pass. `hash` is none when no accepted node has DOWN ports left; `resent` says
/// that nodes were sent again for them and accepted, `sent` that a node with DOWN ports was accepted
/// for whatever reason.
pub fn next(
    before: Option<&DownPortRetry>,
    hash: Option<String>,
    resent: bool,
    sent: bool,
    intervals: &Intervals,
    wall: Timestamp,
) -> Option<DownPortRetry> {
    let hash = hash?;
    let Some(before) = before.filter(|before| before.hash == hash) else {
        return Some(DownPortRetry { hash, last_attempt: wall, fast_attempts: 0 });
    };
    let mut after = before.clone();
    if resent {
        after.fast_attempts =
            after.fast_attempts.saturating_add(1).min(intervals.down_port_fast_retries);
    }
    if resent || sent {
        after.last_attempt = wall;
    }
    Some(after)
}
