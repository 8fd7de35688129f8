//! How long to wait after failures: doubling limits with full jitter.
//!
//! Full jitter (anything between nothing and the limit) spreads clients that failed together,
//! which a fixed delay with a little noise doesn't.

use std::time::Duration;

/// Waits that double from `first` to `most`.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    pub(crate) const fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, failures: 0 }
    }

    /// One more failure: how long to wait, at random up to the present limit.
    pub(crate) fn after_failure(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let limit = self.limit();
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(rng.f64())
    }

    /// What the next wait can't exceed.
    pub(crate) fn limit(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures.min(31)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }

    /// Failures since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// A success: the next wait is a first one.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn limits_double_up_to_the_most_and_start_over_after_a_success() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        let mut limits = Vec::new();
        let mut waited = Duration::ZERO;
        for failures in 0..12 {
            limits.push(backoff.limit().as_millis());
            let limit = backoff.limit();
            assert_eq!(backoff.failures(), failures);
            let wait = backoff.after_failure(&mut rng);
            assert!(wait <= limit);
            waited += wait;
        }
        // The limits come to 141 s, and a wait is half of its limit on average.
        assert!((30..120).contains(&waited.as_secs()), "{waited:?}");
        assert_eq!(limits[..4], [100, 200, 400, 800]);
        assert_eq!(limits[9..], [30_000, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.failures(), 0);
        assert_eq!(backoff.limit(), Duration::from_millis(100));
    }
}
