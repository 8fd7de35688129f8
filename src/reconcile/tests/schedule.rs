//! When an object is reconciled next.

use std::time::Duration;

use proptest::prelude::*;

use super::{at, intervals, seconds, wall};
use crate::clock::Now;
use crate::config::Intervals;
use crate::reconcile::schedule::{Facts, next_due};
use crate::resources::DownPortRetry;

/// The least wait in seconds after a pass at second 1000, wherever the ticks are.
fn wait(facts: &Facts<'_>) -> u64 {
    let waits =
        (0..100).map(|phase| next_due(at(1000), facts, &intervals(), phase * 7_000_000_000));
    (waits.min().unwrap() - seconds(1000)).as_secs()
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
        now in 0..10_000_000u64,
        milliseconds in 0..100_000_000u64,
        phase: u64,
    ) {
        let now = Now { uptime: Duration::from_millis(now), ..at(0) };
        let wait = Duration::from_millis(milliseconds);
        let intervals = Intervals { slow: wait, ..intervals() };
        let due = next_due(now, &Facts::default(), &intervals, phase);
        let (earliest, latest) = (now.uptime + wait, now.uptime + wait + wait / 10);
        prop_assert!(earliest <= due && due <= latest, "{earliest:?} {due:?} {latest:?}");
    }
}

#[test]
fn objects_of_one_scope_that_were_created_at_any_times_come_to_be_polled_together() {
    let mut random = fastrand::Rng::with_seed(7);
    let random_second = |random: &mut fastrand::Rng| random.f64() * 120.0;
    let mut due: Vec<Duration> =
        (0..1_000).map(|_| Duration::from_secs_f64(random_second(&mut random))).collect();
    let mut passes = 0;
    for _ in 0..=13 {
        // As the queue has it: one pass at a time, with all that are due, and it takes a while.
        due.sort_unstable();
        let (mut next, mut idle_at) = (Vec::new(), Duration::ZERO);
        passes = 0;
        while next.len() < due.len() {
            let begins = idle_at.max(due[next.len()]);
            let count = due[next.len()..].iter().take_while(|at| **at <= begins).count();
            idle_at = begins + Duration::from_millis(400);
            let now = Now { uptime: idle_at, ..at(0) };
            next.extend((0..count).map(|_| next_due(now, &Facts::default(), &intervals(), 99)));
            passes += 1;
        }
        due = next;
    }
    assert!(passes <= 2, "{passes} passes in the last round");
}

#[test]
fn objects_whose_slices_end_at_different_times_stay_together() {
    let mut due = vec![Duration::ZERO; 1_000];
    for _ in 0..5 {
        let begins = due[0];
        assert!(due.iter().all(|at| *at == begins), "{due:?}");
        let ends = (0..1_000).map(|number| Duration::from_millis(number * 4));
        due = ends
            .map(|took| {
                let now = Now { uptime: begins + took, ..at(0) };
                next_due(now, &Facts { took, ..Facts::default() }, &intervals(), 99)
            })
            .collect();
    }
}

#[test]
fn only_polls_count_from_the_beginning_and_by_a_quarter_at_most() {
    let took = seconds(500);
    assert_eq!(wait(&Facts { took, ..Facts::default() }), 90);
    assert_eq!(wait(&Facts { took, failed: true, ..Facts::default() }), 30);
    assert_eq!(wait(&Facts { took, retry_after: Some(seconds(300)), ..Facts::default() }), 300);
    assert_eq!(wait(&Facts { took, resync_at: Some(wall(1050)), ..Facts::default() }), 50);
}
