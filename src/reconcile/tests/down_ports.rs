//! Resends for DOWN ports.

use super::{intervals, seconds, wall};
use crate::config::Intervals;
use crate::reconcile::down_ports::{hash, is_due, next, wait};
use crate::resources::DownPortRetry;

/// What passes of one object do about one set of DOWN ports.
struct Passes {
    intervals: Intervals,
    state: Option<DownPortRetry>,
}

impl Passes {
    fn with(max: u32) -> Passes {
        let intervals = Intervals { down_port_fast_retries: max, ..intervals() };
        Passes { intervals, state: None }
    }

    /// A pass at that time that finds these ports DOWN; says whether it sent nodes for them.
    fn pass(&mut self, seconds: u64, down: &[&str]) -> bool {
        let hash = (!down.is_empty()).then(|| hash(down.iter().copied()));
        let before = self.state.as_ref();
        let due =
            hash.as_ref().is_some_and(|hash| is_due(before, hash, &self.intervals, wall(seconds)));
        self.state = next(before, hash, due, false, &self.intervals, wall(seconds));
        due
    }

    /// Passes each second from `from` to `to`; gives the seconds at which nodes were sent.
    fn every_second(&mut self, from: u64, to: u64, down: &[&str]) -> Vec<u64> {
        (from..=to).filter(|second| self.pass(*second, down)).collect()
    }

    fn attempts(&self) -> Option<u32> {
        self.state.as_ref().map(|state| state.fast_attempts)
    }
}

#[test]
fn nodes_are_sent_again_five_times_fast_and_then_slowly_for_as_long_as_it_takes() {
    let mut passes = Passes::with(5);
    let sent = passes.every_second(0, 500, &["p1"]);
    assert_eq!(sent, [20, 40, 60, 80, 100, 220, 340, 460]);
    assert_eq!(passes.attempts(), Some(5));
}

#[test]
fn with_a_maximum_of_none_nodes_are_sent_again_slowly_from_the_first() {
    let mut passes = Passes::with(0);
    assert_eq!(passes.every_second(0, 300, &["p1"]), [120, 240]);
    assert_eq!(passes.attempts(), Some(0));
}

#[test]
fn another_set_of_down_ports_starts_over() {
    let mut passes = Passes::with(1);
    assert_eq!(passes.every_second(0, 60, &["p1"]), [20]);
    assert_eq!(passes.every_second(61, 250, &["p1", "p2"]), [81, 201]);
}

#[test]
fn the_order_of_the_ports_makes_no_other_set() {
    assert_eq!(hash(["p1", "p2"]), hash(["p2", "p1"]));
    assert_ne!(hash(["p1", "p2"]), hash(["p1"]));
    // printf 'p1,p2' | sha256sum
    let known = "8818f49ddacd766db9b804f8ae5b785cfc2bb04644eb83c67b2069c3094d8a2d";
    assert_eq!(hash(["p2", "p1"]), known);
}

#[test]
fn no_down_ports_left_clears_the_state() {
    let mut passes = Passes::with(5);
    passes.every_second(0, 45, &["p1"]);
    assert_eq!(passes.attempts(), Some(2));
    assert!(!passes.pass(46, &[]));
    assert_eq!(passes.state, None);
    assert_eq!(passes.every_second(50, 75, &["p1"]), [70]);
    assert_eq!(passes.attempts(), Some(1));
}

#[test]
fn a_restart_goes_on_counting() {
    let mut before = Passes::with(5);
    before.every_second(0, 90, &["p1"]);
    let kept = serde_json::to_value(before.state.unwrap()).unwrap();
    let mut after = Passes::with(5);
    after.state = serde_json::from_value(kept).unwrap();
    assert_eq!(after.every_second(95, 300, &["p1"]), [100, 220]);
}

#[test]
fn the_state_reads_as_the_contract_names_its_fields() {
    let state = DownPortRetry { hash: "h".to_owned(), last_attempt: wall(0), fast_attempts: 2 };
    let expected = serde_json::json!(
        {"hash": "h", "lastAttempt": "2026-01-02T03:04:05Z", "fastAttempts": 2}
    );
    assert_eq!(serde_json::to_value(state).unwrap(), expected);
}

#[test]
fn a_resend_that_failed_counts_for_nothing_and_stays_due() {
    let (intervals, ports) = (intervals(), || hash(["p1"]));
    let before = next(None, Some(ports()), false, true, &intervals, wall(0));
    let after = next(before.as_ref(), Some(ports()), false, false, &intervals, wall(20));
    assert_eq!(after, before);
    assert!(is_due(after.as_ref(), &ports(), &intervals, wall(21)));
}

#[test]
fn nodes_sent_for_another_reason_are_not_sent_again_at_once() {
    let (intervals, ports) = (intervals(), || hash(["p1"]));
    let before = next(None, Some(ports()), false, true, &intervals, wall(0));
    let after = next(before.as_ref(), Some(ports()), false, true, &intervals, wall(15)).unwrap();
    assert_eq!((after.last_attempt, after.fast_attempts), (wall(15), 0));
    assert_eq!(wait(&after, &intervals, wall(20)), seconds(15));
}

#[test]
fn a_clock_that_was_set_back_does_not_put_the_next_resend_off_until_it_has_caught_up() {
    let mut passes = Passes::with(5);
    passes.pass(100_000, &["p1"]);
    let sent = passes.every_second(0, 60, &["p1"]);
    assert!(sent.first().is_some_and(|first| *first <= 20), "{sent:?}");
    assert!(sent.len() >= 2, "{sent:?}");
}

#[test]
fn a_count_from_outside_that_makes_no_sense_does_no_harm() {
    let intervals = intervals();
    let mad = DownPortRetry { hash: hash(["p1"]), last_attempt: wall(0), fast_attempts: u32::MAX };
    let after = next(Some(&mad), Some(hash(["p1"])), true, false, &intervals, wall(200)).unwrap();
    assert_eq!((after.fast_attempts, after.last_attempt), (5, wall(200)));
}
