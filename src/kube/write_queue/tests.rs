//! Which write is next, under invented time.

use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;
use std::time::Duration;

use super::{Failure, Next, Priority, WriteQueue};

const SERVER: Failure = Failure::Server { retry_after: None };

type Queue = WriteQueue<String, u32>;

fn queue() -> Queue {
    WriteQueue::new(None, fastrand::Rng::with_seed(3))
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn put(queue: &mut Queue, key: &str, write: u32) {
    queue.put(key.to_owned(), write, Priority::Change);
}

fn refresh(queue: &mut Queue, key: &str, write: u32) {
    queue.put(key.to_owned(), write, Priority::Refresh);
}

fn forget(queue: &mut Queue, key: &str) {
    queue.drop_where(|known| known == key);
}

/// The write that comes next.
fn next(queue: &mut Queue, seconds: f64) -> Option<(String, u32)> {
    match queue.next(at(seconds), true) {
        Next::Write(key, write) => Some((key, write)),
        Next::Wait(_) | Next::End => None,
    }
}

fn fail(queue: &mut Queue, key: &str, failure: Failure, seconds: f64) -> bool {
    queue.finished(&key.to_owned(), Err(failure), at(seconds))
}

fn succeed(queue: &mut Queue, key: &str, seconds: f64) -> bool {
    queue.finished(&key.to_owned(), Ok(()), at(seconds))
}

/// All that can be written at this time, one after the other.
fn write_all(queue: &mut Queue, seconds: f64) -> Vec<(String, u32)> {
    let mut written = Vec::new();
    while let Some((key, write)) = next(queue, seconds) {
        succeed(queue, &key, seconds);
        written.push((key, write));
    }
    written
}

fn names(written: &[(String, u32)]) -> Vec<&str> {
    written.iter().map(|(key, _)| key.as_str()).collect()
}

#[test]
fn only_the_newest_write_of_a_key_is_made() {
    let mut queue = queue();
    put(&mut queue, "a", 1);
    put(&mut queue, "b", 1);
    put(&mut queue, "a", 2);
    let written = write_all(&mut queue, 0.0);
    assert_eq!(written, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(queue.next(at(0.0), true), Next::Wait(None));
}

#[test]
fn a_write_that_comes_during_one_of_its_key_is_made_after_it_however_that_ends() {
    for failure in [None, Some(Failure::Retry), Some(Failure::Invalid), Some(SERVER)] {
        let mut queue = queue();
        put(&mut queue, "a", 1);
        assert_eq!(next(&mut queue, 0.0), Some(("a".to_owned(), 1)));
        put(&mut queue, "a", 2);
        assert_eq!(queue.next(at(0.0), true), Next::Wait(None), "one of a key at a time");
        queue.finished(&"a".to_owned(), failure.map_or(Ok(()), Err), at(0.0));
        assert_eq!(next(&mut queue, 60.0), Some(("a".to_owned(), 2)), "{failure:?}");
    }
}

#[test]
fn writes_of_several_keys_are_in_flight_together() {
    let mut queue = queue();
    for key in ["a", "b", "c"] {
        put(&mut queue, key, 1);
    }
    let in_flight: Vec<_> = std::iter::from_fn(|| next(&mut queue, 0.0)).collect();
    assert_eq!(names(&in_flight), ["a", "b", "c"]);
    assert!(!queue.is_empty());
}

#[test]
fn a_key_that_fails_waits_alone() {
    let mut queue = queue();
    put(&mut queue, "bad", 1);
    next(&mut queue, 0.0);
    fail(&mut queue, "bad", Failure::Retry, 0.0);
    put(&mut queue, "good", 1);
    assert_eq!(names(&write_all(&mut queue, 0.0)), ["good"]);
    assert!(matches!(queue.next(at(0.0), true), Next::Wait(Some(wait)) if wait.as_millis() <= 200));
    assert_eq!(names(&write_all(&mut queue, 1.0)), ["bad"]);
    // A newer write of the key waits as long.
    put(&mut queue, "bad", 2);
    next(&mut queue, 2.0);
    put(&mut queue, "bad", 3);
    fail(&mut queue, "bad", Failure::Retry, 2.0);
    assert_eq!(next(&mut queue, 2.0), None);
    assert_eq!(next(&mut queue, 3.0), Some(("bad".to_owned(), 3)));
}

#[test]
fn a_server_that_is_down_is_tried_with_one_write_and_then_left_alone() {
    let mut queue = queue();
    for number in 0..50 {
        put(&mut queue, &format!("object-{number}"), 1);
    }
    let (mut now, mut attempts) = (0.0, 0);
    while now < 600.0 {
        match queue.next(at(now), true) {
            Next::Write(key, _) => {
                attempts += 1;
                if attempts > 1 {
                    assert_eq!(queue.next(at(now), true), Next::Wait(None), "one at a time");
                }
                now += 10.0;
                fail(&mut queue, &key, SERVER, now);
            }
            Next::Wait(Some(wait)) => now += wait.as_secs_f64().max(0.001),
            other => panic!("{other:?}"),
        }
    }
    assert!((20..60).contains(&attempts), "{attempts} attempts in ten minutes");
    // The server is back: after the first all others are written at once, and each once, however
    // long its own wait would be.
    let (key, _) = loop {
        match queue.next(at(now), true) {
            Next::Write(key, write) => break (key, write),
            Next::Wait(Some(wait)) => now += wait.as_secs_f64().max(0.001),
            other => panic!("{other:?}"),
        }
    };
    succeed(&mut queue, &key, now);
    assert_eq!(write_all(&mut queue, now).len(), 49);
    assert!(queue.is_empty());
}

#[test]
fn after_an_outage_no_write_waits_for_what_was_the_servers_failure() {
    for seed in 0..20 {
        let mut queue = Queue::new(None, fastrand::Rng::with_seed(seed));
        put(&mut queue, "a", 1);
        put(&mut queue, "b", 1);
        let (mut now, mut failures) = (0.0, 0);
        let first = loop {
            match queue.next(at(now), true) {
                Next::Write(key, _) if failures == 20 => break key,
                Next::Write(key, _) => {
                    failures += 1;
                    fail(&mut queue, &key, SERVER, now);
                }
                Next::Wait(Some(wait)) => now += wait.as_secs_f64() + 0.001,
                other => panic!("{other:?}"),
            }
        };
        succeed(&mut queue, &first, now);
        assert_eq!(write_all(&mut queue, now).len(), 1, "seed {seed}");
    }
}

#[test]
fn writes_that_fail_together_are_one_failure_of_the_server() {
    // Four failures take the limit of the next wait from 0.2 s to 3.2 s.
    let longest = (0..20).map(|seed| {
        let mut queue = Queue::new(None, fastrand::Rng::with_seed(seed));
        for key in ["a", "b", "c", "d"] {
            put(&mut queue, key, 1);
        }
        while next(&mut queue, 0.0).is_some() {}
        for key in ["a", "b", "c", "d"] {
            fail(&mut queue, key, SERVER, 10.0);
        }
        let Next::Wait(Some(wait)) = queue.next(at(10.0), true) else { panic!("no wait") };
        wait
    });
    let longest = longest.max().unwrap();
    assert!(longest <= Duration::from_millis(200), "{longest:?}");
}

#[test]
fn one_key_whose_calls_hang_costs_the_others_little() {
    let mut queue = queue();
    let (mut now, mut hung, mut written) = (0.0, 0.0, 0);
    put(&mut queue, "hangs", 1);
    while now < 600.0 {
        put(&mut queue, "good", written + 1);
        match queue.next(at(now), true) {
            Next::Write(key, _) if key == "hangs" => {
                now += 10.0;
                hung += 10.0;
                fail(&mut queue, &key, SERVER, now);
            }
            Next::Write(key, _) => {
                now += 0.1;
                written += 1;
                succeed(&mut queue, &key, now);
            }
            Next::Wait(Some(wait)) => now += wait.as_secs_f64().max(0.001),
            other => panic!("{other:?}"),
        }
    }
    assert!(hung < 400.0 && written > 1500, "hung {hung} s, {written} written");
}

#[test]
fn retry_after_closes_for_all_keys() {
    let mut queue = queue();
    put(&mut queue, "a", 1);
    next(&mut queue, 0.0);
    let asked = |seconds| Failure::Server { retry_after: Some(Duration::from_secs(seconds)) };
    fail(&mut queue, "a", asked(20), 0.0);
    put(&mut queue, "b", 1);
    assert_eq!(queue.next(at(19.9), true), Next::Wait(Some(Duration::from_millis(100))));
    let (key, _) = next(&mut queue, 20.0).unwrap();
    fail(&mut queue, &key, asked(1_000_000), 20.0);
    assert!(next(&mut queue, 141.0).is_some(), "an absurd wait is not obeyed");
}

#[test]
fn what_is_refused_for_good_is_dropped_and_what_is_forgotten_too() {
    let mut queue = queue();
    put(&mut queue, "a", 1);
    next(&mut queue, 0.0);
    fail(&mut queue, "a", Failure::Invalid, 0.0);
    assert!(queue.is_empty());
    put(&mut queue, "a", 1);
    forget(&mut queue, "b");
    assert!(!queue.is_empty());
    forget(&mut queue, "a");
    assert!(queue.is_empty());
}

#[test]
fn a_write_in_flight_whose_key_is_forgotten_is_not_tried_again() {
    for failure in [None, Some(Failure::Retry), Some(SERVER)] {
        let mut queue = queue();
        put(&mut queue, "a", 1);
        put(&mut queue, "b", 1);
        while next(&mut queue, 0.0).is_some() {}
        forget(&mut queue, "a");
        for key in ["a", "b"] {
            queue.finished(&key.to_owned(), failure.map_or(Ok(()), Err), at(0.0));
        }
        let left = write_all(&mut queue, 60.0);
        let expected: &[&str] = if failure.is_none() { &[] } else { &["b"] };
        assert_eq!(names(&left), expected, "{failure:?}");
    }
    // What is put after that is written.
    let mut queue = queue();
    put(&mut queue, "a", 1);
    next(&mut queue, 0.0);
    forget(&mut queue, "a");
    put(&mut queue, "a", 2);
    fail(&mut queue, "a", Failure::Retry, 0.0);
    assert_eq!(write_all(&mut queue, 0.0), [("a".to_owned(), 2)]);
}

#[test]
fn the_oldest_write_is_first_and_one_that_failed_last() {
    let mut queue = queue();
    for key in ["a", "c", "b"] {
        put(&mut queue, key, 1);
    }
    assert_eq!(next(&mut queue, 0.0).unwrap().0, "a");
    fail(&mut queue, "a", Failure::Retry, 0.0);
    put(&mut queue, "d", 1);
    // By now its own wait is over, and still the others come first.
    assert_eq!(names(&write_all(&mut queue, 60.0)), ["c", "b", "a", "d"]);
}

#[test]
fn changes_go_before_refreshes_and_refreshes_are_spread() {
    let mut queue = queue();
    for number in 0..100 {
        refresh(&mut queue, &format!("refresh-{number}"), 1);
    }
    assert_eq!(next(&mut queue, 0.0).unwrap().0, "refresh-0", "nothing else waits");
    put(&mut queue, "change", 1);
    assert_eq!(next(&mut queue, 0.0).unwrap().0, "change");
    assert_eq!(queue.next(at(0.0), true), Next::Wait(Some(Duration::from_millis(10))));
    // A refresh that becomes a change does not wait.
    put(&mut queue, "refresh-50", 2);
    assert_eq!(next(&mut queue, 0.0), Some(("refresh-50".to_owned(), 2)));
    // A hundred a second, and no slower.
    let (mut now, mut written) = (0.0, 3);
    loop {
        match queue.next(at(now), true) {
            Next::Write(key, _) => {
                succeed(&mut queue, &key, now);
                written += 1;
            }
            Next::Wait(Some(wait)) => now += wait.as_secs_f64(),
            _ => break,
        }
    }
    assert_eq!(written, 101);
    assert!((0.97..1.0).contains(&now), "{now}");
}

#[test]
fn a_change_stays_one_when_a_refresh_takes_its_place() {
    let mut queue = queue();
    refresh(&mut queue, "first", 1);
    put(&mut queue, "a", 1);
    refresh(&mut queue, "a", 2);
    assert_eq!(next(&mut queue, 0.0), Some(("a".to_owned(), 2)));
    // Whether the change in flight succeeds isn't known, so what follows it counts as one.
    refresh(&mut queue, "a", 3);
    assert_eq!(next(&mut queue, 1.0).unwrap().0, "first");
    succeed(&mut queue, "a", 1.0);
    assert_eq!(next(&mut queue, 1.0), Some(("a".to_owned(), 3)));
}

#[test]
fn nothing_is_written_while_this_replica_may_not_and_nothing_is_lost() {
    let mut queue = queue();
    assert_eq!(queue.next(at(0.0), false), Next::Wait(None));
    put(&mut queue, "a", 1);
    assert!(matches!(queue.next(at(0.0), false), Next::Wait(Some(_))));
    assert_eq!(names(&write_all(&mut queue, 0.0)), ["a"]);
    put(&mut queue, "a", 2);
    queue.drain();
    assert_eq!(queue.next(at(0.0), false), Next::End);
    assert!(!queue.is_empty(), "one was not written");
}

#[test]
fn an_abandoned_queue_ends() {
    for may_write in [false, true] {
        let mut queue = queue();
        put(&mut queue, "a", 1);
        queue.abandon();
        assert_eq!(queue.next(at(0.0), may_write), Next::End);
    }
}

#[test]
fn a_drain_tries_each_once_more_and_ends_at_the_first_failure_of_the_server() {
    let mut queue = queue();
    put(&mut queue, "slow", 1);
    next(&mut queue, 0.0);
    fail(&mut queue, "slow", Failure::Retry, 0.0);
    put(&mut queue, "a", 1);
    refresh(&mut queue, "b", 1);
    refresh(&mut queue, "c", 1);
    queue.drain();
    let last: Vec<_> = std::iter::from_fn(|| next(&mut queue, 0.0)).collect();
    assert_eq!(names(&last), ["slow", "a", "b", "c"], "refreshes too, and at once");
    for key in ["a", "b", "c"] {
        succeed(&mut queue, key, 0.0);
    }
    fail(&mut queue, "slow", Failure::Retry, 0.0);
    assert_eq!(queue.next(at(0.0), true), Next::End);
    assert!(!queue.is_empty(), "one was not written");

    let mut queue = self::queue();
    put(&mut queue, "a", 1);
    put(&mut queue, "b", 1);
    next(&mut queue, 0.0);
    fail(&mut queue, "a", Failure::Server { retry_after: Some(Duration::from_secs(60)) }, 0.0);
    queue.drain();
    assert_eq!(next(&mut queue, 0.0).unwrap().0, "b", "one attempt, whatever was asked for");
    fail(&mut queue, "b", SERVER, 0.0);
    assert_eq!(queue.next(at(0.0), true), Next::End);
}

#[test]
fn a_queue_of_limited_attempts_gives_up_and_at_once_where_the_right_is_missing() {
    let limited = || Queue::new(Some(5), fastrand::Rng::with_seed(3));
    for failure in [Failure::Retry, SERVER] {
        let mut queue = limited();
        put(&mut queue, "a", 1);
        let mut attempts = 0;
        while let Some((key, _)) = next(&mut queue, f64::from(attempts) * 100.0) {
            fail(&mut queue, &key, failure, f64::from(attempts) * 100.0);
            attempts += 1;
        }
        assert_eq!(attempts, 5, "{failure:?}");
        assert!(queue.is_empty() && queue.failing.is_empty(), "nothing is remembered of it");
    }
    let mut queue = limited();
    put(&mut queue, "a", 1);
    next(&mut queue, 0.0);
    fail(&mut queue, "a", Failure::Forbidden, 0.0);
    assert!(queue.is_empty());
}

#[test]
fn the_log_hears_once_that_a_key_fails_and_once_that_it_is_written_again() {
    let mut queue = queue();
    let mut said = Vec::new();
    for second in [0.0, 100.0, 200.0, 300.0] {
        put(&mut queue, "a", 1);
        next(&mut queue, second);
        // Also where nothing is tried again: the next sync brings the next refusal.
        said.push(fail(&mut queue, "a", Failure::Invalid, second));
    }
    put(&mut queue, "a", 1);
    next(&mut queue, 400.0);
    said.push(fail(&mut queue, "a", Failure::Retry, 400.0));
    next(&mut queue, 500.0);
    said.push(succeed(&mut queue, "a", 500.0));
    put(&mut queue, "a", 1);
    next(&mut queue, 600.0);
    said.push(succeed(&mut queue, "a", 600.0));
    assert_eq!(said, [true, false, false, false, false, true, false]);
    // The next object of that key is another.
    for _ in 0..2 {
        put(&mut queue, "a", 1);
        next(&mut queue, 700.0);
        assert!(fail(&mut queue, "a", Failure::Invalid, 700.0));
        forget(&mut queue, "a");
    }
}

#[test]
fn an_outage_is_logged_with_one_key_and_not_with_each() {
    for failure in [SERVER, Failure::Forbidden] {
        let mut queue = queue();
        for number in 0..20 {
            put(&mut queue, &format!("object-{number}"), 1);
        }
        let (mut now, mut said) = (0.0, Vec::new());
        for _ in 0..60 {
            match queue.next(at(now), true) {
                Next::Write(key, _) => {
                    said.extend(fail(&mut queue, &key, failure, now).then_some("failing"));
                }
                Next::Wait(Some(wait)) => now += wait.as_secs_f64(),
                other => panic!("{other:?}"),
            }
        }
        now += 60.0;
        while let Some((key, _)) = next(&mut queue, now) {
            said.extend(succeed(&mut queue, &key, now).then_some("recovered"));
        }
        assert_eq!(said, ["failing", "recovered"], "{failure:?}");
        assert!(queue.is_empty());
        // The next outage is another.
        put(&mut queue, "object-7", 2);
        next(&mut queue, now);
        assert!(fail(&mut queue, "object-7", failure, now));
    }
}

#[test]
fn a_key_whose_calls_hang_while_others_are_written_is_logged_once() {
    let mut queue = queue();
    let mut said = 0;
    for round in 0..20 {
        let now = f64::from(round) * 60.0;
        put(&mut queue, "hangs", 1);
        put(&mut queue, "good", 1);
        while let Some((key, _)) = next(&mut queue, now) {
            let is_news = match key.as_str() {
                "hangs" => fail(&mut queue, &key, SERVER, now),
                _ => succeed(&mut queue, &key, now),
            };
            said += usize::from(is_news);
        }
    }
    assert_eq!(said, 1);
}

/// A key that counts how often it is compared.
#[derive(Clone)]
struct Counted(u32, Rc<Cell<usize>>);

impl Ord for Counted {
    fn cmp(&self, other: &Counted) -> Ordering {
        self.1.set(self.1.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Counted) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Counted) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Counted {}

#[test]
fn a_thousand_writes_that_wait_make_the_next_one_little_dearer() {
    let compared = Rc::new(Cell::new(0));
    let mut queue = WriteQueue::new(None, fastrand::Rng::with_seed(3));
    for number in 0..1_000 {
        queue.put(Counted(number, Rc::clone(&compared)), number, Priority::Refresh);
    }
    compared.set(0);
    for number in 0..1_000 {
        let now = Duration::from_millis(10) * number;
        assert!(matches!(queue.next(now, true), Next::Write(_, write) if write == number));
        // The others aren't due yet.
        assert!(matches!(queue.next(now, true), Next::Wait(_)));
        queue.finished(&Counted(number, Rc::clone(&compared)), Ok(()), now);
    }
    let of_each = compared.get() / 1_000;
    assert!(of_each < 100, "{of_each} comparisons for each write");
}
