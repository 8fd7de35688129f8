//! When an object is looked at next (SPEC 5, step 13).

use std::time::Duration;

use proptest::prelude::*;

use super::{at, intervals, seconds, wall};
use crate::reconcile::schedule::{Facts, next_due};
use crate::resources::DownPortRetry;

/// The wait in seconds after a pass at second 1000, without jitter.
fn wait(facts: &Facts<'_>) -> u64 {
    (next_due(at(1000), facts, &intervals(), 0.0) - seconds(1000)).as_secs()
}

fn changed(uptime: u64) -> Facts<'static> {
    Facts { changed_at: Some(seconds(uptime)), ..Facts::default() }
}

#[test]
fn polls_are_fast_after_a_change_and_slow_when_the_window_is_over() {
    assert_eq!(wait(&changed(1000)), 20);
    assert_eq!(wait(&changed(821)), 20);
    assert_eq!(wait(&changed(820)), 120);
    assert_eq!(wait(&Facts::default()), 120);
}

#[test]
fn after_an_error_the_error_interval_counts_whatever_else_is_due() {
    let retry = DownPortRetry { hash: "h".to_owned(), last_attempt: wall(0), fast_attempts: 0 };
    let facts =
        Facts { failed: true, down_ports: Some(&retry), resync_at: Some(wall(0)), ..changed(1000) };
    assert_eq!(wait(&facts), 30);
}

#[test]
fn a_service_that_asks_for_a_pause_gets_it_within_reason() {
    let asked = |pause| Facts { failed: true, retry_after: Some(pause), ..Facts::default() };
    assert_eq!(wait(&asked(seconds(90))), 90);
    assert_eq!(wait(&asked(seconds(5))), 30);
    assert_eq!(wait(&asked(Duration::MAX)), 600);
    let asked = |pause| Facts { failed: false, ..asked(seconds(pause)) };
    assert_eq!(wait(&asked(90)), 120);
    assert_eq!(wait(&asked(300)), 300);
    assert_eq!(wait(&Facts { resync_at: Some(wall(0)), ..asked(300) }), 300);
}

#[test]
fn down_ports_pull_the_next_pass_forward_and_never_put_it_off() {
    let sent = |second, fast_attempts| DownPortRetry {
        hash: "h".to_owned(),
        last_attempt: wall(second),
        fast_attempts,
    };
    let with = |retry: &DownPortRetry| wait(&Facts { down_ports: Some(retry), ..Facts::default() });
    assert_eq!(with(&sent(1000, 0)), 20);
    assert_eq!(with(&sent(990, 4)), 10);
    assert_eq!(with(&sent(990, 5)), 110);
    let retry = sent(1000, 5);
    assert_eq!(wait(&Facts { down_ports: Some(&retry), ..changed(1000) }), 20);
}

#[test]
fn a_resend_of_everything_pulls_the_next_pass_forward_and_never_puts_it_off() {
    let with = |second| wait(&Facts { resync_at: Some(wall(second)), ..Facts::default() });
    assert_eq!(with(1050), 50);
    assert_eq!(with(5000), 120);
    assert_eq!(with(900), 0);
}

proptest! {
    #[test]
    fn a_poll_is_never_early_and_at_most_a_tenth_late(
        failed: bool,
        pause in proptest::option::of(0..2000u64),
        changed in proptest::option::of(0..2000u64),
        resync in proptest::option::of(0..3000u64),
        spread in -1.0..2.0f64,
    ) {
        let facts = Facts {
            failed,
            retry_after: pause.map(seconds),
            changed_at: changed.map(seconds),
            down_ports: None,
            resync_at: resync.map(wall),
        };
        let exact = next_due(at(1000), &facts, &intervals(), 0.0);
        let spread = next_due(at(1000), &facts, &intervals(), spread);
        let latest = exact + (exact - seconds(1000)) / 10;
        prop_assert!(exact <= spread && spread <= latest, "{exact:?} {spread:?} {latest:?}");
    }
}
