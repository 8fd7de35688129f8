//! The queue by example, and as a model under thousands of random schedules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::Queue;

const T0: Duration = Duration::ZERO;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn of_two_times_the_earlier_wins() {
    let mut queue = Queue::new(1);
    queue.add(&"a", "cloud", at(10));
    queue.add(&"a", "cloud", at(5));
    queue.add(&"a", "cloud", at(7));
    assert_eq!(queue.next_due(), Some(at(5)));
    assert_eq!(queue.next(at(4)), None);
    assert_eq!(queue.next(at(5)), Some("a"));
}

#[test]
fn a_key_added_while_busy_comes_once_more_and_never_twice_at_once() {
    let mut queue = Queue::new(4);
    queue.add(&"a", "cloud", T0);
    assert_eq!(queue.next(T0), Some("a"));
    queue.add(&"a", "cloud", T0);
    queue.add(&"a", "cloud", T0);
    assert_eq!(queue.next(T0), None);
    queue.finish(&"a", Some(at(60)));
    assert_eq!(queue.next(T0), Some("a"));
    queue.finish(&"a", Some(at(60)));
    assert_eq!(queue.next(T0), None);
    assert_eq!(queue.next_due(), Some(at(60)));
}

#[test]
fn a_key_removed_while_busy_is_forgotten_and_a_successor_waits_for_its_end() {
    let mut queue = Queue::new(4);
    queue.add(&"a", "cloud", T0);
    assert_eq!(queue.next(T0), Some("a"));
    queue.remove(&"a");
    queue.add(&"a", "cloud", T0);
    assert_eq!(queue.next(T0), None);
    queue.finish(&"a", Some(at(60)));
    assert_eq!(queue.next(T0), Some("a"));
    queue.remove(&"a");
    queue.finish(&"a", Some(at(60)));
    assert_eq!(queue.next(at(100)), None);
    assert_eq!(queue.busy(), 0);
}

#[test]
fn a_slow_cloud_holds_half_of_the_workers_and_the_last_one_is_for_a_newcomer() {
    let mut queue = Queue::new(4);
    for key in ["s1", "s2", "s3", "s4"] {
        queue.add(&key, "slow", T0);
    }
    queue.add(&"t1", "tardy", T0);
    queue.add(&"t2", "tardy", T0);
    let taken: BTreeSet<_> = std::iter::from_fn(|| queue.next(T0)).collect();
    assert_eq!(taken, BTreeSet::from(["s1", "s2", "t1"]));
    queue.add(&"q1", "quick", T0);
    assert_eq!(queue.next(T0), Some("q1"));
}

#[test]
fn beside_another_cloud_half_of_the_workers_is_the_most_even_while_they_idle() {
    let mut queue = Queue::new(6);
    for key in 0..6 {
        queue.add(&key, "slow", T0);
    }
    queue.add(&6, "quick", at(100));
    assert_eq!(std::iter::from_fn(|| queue.next(T0)).count(), 3);
}

#[test]
fn a_key_that_changes_its_cloud_counts_there_and_no_longer_here() {
    let mut queue = Queue::new(4);
    for key in 0..4 {
        queue.add(&key, "one", T0);
    }
    queue.add(&4, "one", at(100));
    queue.add(&4, "two", at(100));
    assert_eq!(std::iter::from_fn(|| queue.next(T0)).count(), 2, "half, beside another cloud");
    queue.add(&4, "one", at(100));
    assert_eq!(std::iter::from_fn(|| queue.next(T0)).count(), 2, "the rest, alone");
    assert_eq!(queue.due_at(&4), Some(at(100)));
}

#[test]
fn of_keys_due_at_the_same_time_the_first_added_comes_first_and_keeps_its_place() {
    let mut queue = Queue::new(3);
    for key in ["c", "b", "a"] {
        queue.add(&key, "cloud", T0);
    }
    queue.add(&"c", "cloud", at(5));
    assert_eq!(std::iter::from_fn(|| queue.next(T0)).collect::<Vec<_>>(), ["c", "b", "a"]);
}

#[test]
fn what_is_measured_of_it_is_true() {
    let mut queue = Queue::new(1);
    for (key, second) in [("a", 10), ("b", 10), ("c", 20)] {
        queue.add(&key, "cloud", at(second));
    }
    assert_eq!((queue.depth(), queue.take_became_due()), (0, 0));
    assert_eq!(queue.next(at(15)), Some("a"));
    assert_eq!((queue.depth(), queue.busy()), (1, 1));
    assert_eq!((queue.take_became_due(), queue.take_became_due()), (2, 0));
    assert_eq!((queue.is_busy(&"a"), queue.is_busy(&"b")), (true, false));
    assert_eq!((queue.waited(&"a"), queue.waited(&"b")), (Some(at(5)), None));
    assert_eq!(queue.running_times(at(18)).collect::<Vec<_>>(), [at(3)]);
    queue.finish(&"a", None);
    assert_eq!((queue.is_busy(&"a"), queue.due_at(&"a")), (false, None));
    assert_eq!(queue.running_times(at(18)).count(), 0);
}

#[test]
fn a_cloud_that_is_alone_gets_every_worker() {
    let mut queue = Queue::new(4);
    for key in 0..8 {
        queue.add(&key, "cloud", T0);
    }
    assert_eq!(std::iter::from_fn(|| queue.next(T0)).count(), 4);
}

#[test]
fn an_object_that_always_fails_cannot_starve_the_others() {
    let mut queue = Queue::new(1);
    for key in ["bad", "good", "fine"] {
        queue.add(&key, "cloud", T0);
    }
    let mut order = Vec::new();
    for turn in 0..6 {
        let key = queue.next(at(turn)).unwrap();
        order.push(key);
        let again = if key == "bad" { at(turn) } else { at(turn + 2) };
        queue.finish(&key, Some(again));
    }
    assert!(order.iter().filter(|key| **key == "good").count() >= 1, "{order:?}");
    assert!(order.iter().filter(|key| **key == "fine").count() >= 1, "{order:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Add { key: u8, group: u8, delay: u64 },
    Take,
    Finish { which: usize, again: Option<u64> },
    Remove { key: u8 },
    Wait { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12u8, 0..3u8, 0..20u64)
            .prop_map(|(key, group, delay)| Step::Add { key, group, delay }),
        4 => Just(Step::Take),
        3 => (any::<usize>(), proptest::option::of(0..30u64))
            .prop_map(|(which, again)| Step::Finish { which, again }),
        1 => (0..12u8).prop_map(|key| Step::Remove { key }),
        2 => (1..15u64).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What the queue should know, in the plainest form: when each key is wanted, and who is busy.
#[derive(Default)]
struct Model {
    wanted: BTreeMap<u8, Duration>,
    busy: BTreeMap<u8, Option<Duration>>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn under_any_schedule_no_key_runs_twice_at_once_and_no_wish_is_lost(
        workers in 1..5usize,
        steps in steps(),
    ) {
        let mut queue = Queue::new(workers);
        let mut model = Model::default();
        let mut now = T0;
        for step in steps {
            match step {
                Step::Add { key, group, delay } => {
                    let time = now + at(delay);
                    queue.add(&key, &format!("cloud-{group}"), time);
                    match model.busy.get_mut(&key) {
                        Some(again) => *again = Some(again.map_or(time, |known| known.min(time))),
                        None => {
                            let wanted = model.wanted.entry(key).or_insert(time);
                            *wanted = (*wanted).min(time);
                        }
                    }
                }
                Step::Take => match queue.next(now) {
                    Some(key) => {
                        let wanted = model.wanted.remove(&key);
                        prop_assert!(wanted.is_some_and(|time| time <= now), "{key} wasn't due");
                        prop_assert!(model.busy.insert(key, None).is_none(), "{key} ran twice");
                        prop_assert!(model.busy.len() <= workers);
                    }
                    None => {
                        // With all workers idle, nothing that is due may be held back.
                        let due = model.wanted.values().any(|time| *time <= now);
                        prop_assert!(!(due && model.busy.is_empty()), "due work was held back");
                    }
                },
                Step::Finish { which, again } => {
                    let count = model.busy.len();
                    let Some(key) = (count > 0)
                        .then(|| model.busy.keys().nth(which % count).copied())
                        .flatten()
                    else { continue };
                    let wish = again.map(|delay| now + at(delay));
                    queue.finish(&key, wish);
                    // A removed key's `again` is set aside as the far past, see Remove.
                    let added = model.busy.remove(&key).flatten();
                    let removed = model.wanted.remove(&key).is_some();
                    let time = if removed { added } else { added.into_iter().chain(wish).min() };
                    if let Some(time) = time {
                        model.wanted.insert(key, time);
                    }
                }
                Step::Remove { key } => {
                    queue.remove(&key);
                    model.wanted.remove(&key);
                    // Forgetting a busy key means: whatever its worker wishes doesn't count,
                    // unless it is added again. The mark stands in `wanted` until it finishes.
                    if let Some(again) = model.busy.get_mut(&key) {
                        *again = None;
                        model.wanted.insert(key, Duration::MAX);
                    }
                }
                Step::Wait { seconds } => now += at(seconds),
            }
            // An add after a removal revives the worker's own wish.
            for (key, again) in &model.busy {
                if again.is_some() {
                    model.wanted.remove(key);
                }
            }
            prop_assert_eq!(queue.busy(), model.busy.len());
            for (key, time) in &model.wanted {
                if !model.busy.contains_key(key) {
                    prop_assert_eq!(queue.due_at(key), Some(*time), "key {}", key);
                }
            }
        }
    }
}
