//! The only place of the simulated cloud that asks for the time.
//!
//! A simulated server lives in real time: tokens expire, latencies pass. Everything else in this
//! crate takes a time as an argument or asks here.

use std::time::Instant;

use jiff::Timestamp;

/// The wall clock.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where the simulation asks for the time"
)]
pub fn timestamp() -> Timestamp {
    Timestamp::now()
}

/// The monotonic clock.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where the simulation asks for the time"
)]
pub fn instant() -> Instant {
    Instant::now()
}
