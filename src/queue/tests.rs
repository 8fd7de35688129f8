//! The queue by example, and as a model under thousands of random schedules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{Member, NOTIFIED_SPACING, NextPass, PATIENCE, Queue, SPACING, When, is_poll};
use crate::reconcile::Lane::{self, Fresh, Notified, Poll, Retry};
use crate::reconcile::Scope;

const T0: Duration = Duration::ZERO;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Of one VM, created in that second, in a scope such as `cloud/project`.
fn created(second: i64, scope: &str) -> Member {
    let (provider, project) = scope.split_once('/').unwrap_or((scope, "project"));
    let (provider_id, project_id) = (provider.to_owned(), project.to_owned());
    let scope = Scope { provider_id, project_id, ..Scope::default() };
    Member { scope, created: Timestamp::from_second(second).unwrap(), vms: 1 }
}

fn of(scope: &str) -> Member {
    created(0, scope)
}

impl Queue<&'static str> {
    /// The keys of the next pass.
    fn take(&mut self, now: Duration) -> Vec<&'static str> {
        self.next(now).map(|pass| pass.keys).unwrap_or_default()
    }

    /// The keys of all passes that may start now.
    fn take_all(&mut self, now: Duration) -> Vec<Vec<&'static str>> {
        std::iter::from_fn(|| self.next(now).map(|pass| pass.keys)).collect()
    }
}

#[test]
fn of_two_times_the_earlier_wins_and_of_two_lanes_the_more_urgent() {
    let mut queue = Queue::new(1);
    queue.add(&"a", of("cloud"), Poll, at(10));
    queue.add(&"a", of("cloud"), Retry, at(5));
    queue.add(&"a", of("cloud"), Poll, at(7));
    assert_eq!(queue.next_due(), Some(at(5)));
    assert_eq!(queue.next(at(4)), None);
    let pass = queue.next(at(5)).unwrap();
    assert_eq!((pass.keys, pass.lane), (vec!["a"], Retry));
}

#[test]
fn a_pass_has_all_due_keys_of_its_scope_and_lane_the_oldest_first() {
    let mut queue = Queue::new(8);
    for (key, second, scope, lane) in [
        ("young", 9, "cloud/a", Fresh),
        ("old", 1, "cloud/a", Fresh),
        ("middle", 5, "cloud/a", Fresh),
        ("polled", 0, "cloud/a", Poll),
        ("failed", 0, "cloud/a", Retry),
        ("elsewhere", 0, "cloud/b", Poll),
    ] {
        queue.add(&key, created(second, scope), lane, T0);
    }
    queue.add(&"later", of("cloud/a"), Poll, at(1));
    let passes: BTreeSet<Vec<&str>> = queue.take_all(T0).into_iter().collect();
    let expected: [&[&str]; 4] =
        [&["old", "middle", "young"], &["polled"], &["failed"], &["elsewhere"]];
    assert_eq!(passes, expected.into_iter().map(<[&str]>::to_vec).collect());
}

#[test]
fn with_a_limit_the_rest_is_in_the_next_pass() {
    let mut queue = Queue::new(8);
    queue.set_batch_limit(2);
    for (second, key) in ["a", "b", "c"].into_iter().enumerate() {
        queue.add(&key, created(second as i64, "cloud"), Poll, T0);
    }
    let first = queue.next(T0).unwrap();
    queue.ended(first.number);
    assert_eq!((first.keys, queue.take(T0)), (vec!["a", "b"], vec!["c"]));
}

#[test]
fn a_key_added_while_in_a_pass_comes_once_more_and_never_twice_at_once() {
    let mut queue = Queue::new(4);
    queue.add(&"a", of("cloud"), Poll, T0);
    let first = queue.next(T0).unwrap();
    queue.add(&"a", of("cloud"), Fresh, T0);
    queue.add(&"a", of("cloud"), Fresh, T0);
    assert_eq!((queue.next(T0), queue.lane(&"a")), (None, Some(Poll)));
    // As soon as it is finished, while its old pass still runs.
    queue.finish(&"a", Some(When { at: at(60), lane: Poll }));
    let second = queue.next(T0).unwrap();
    assert_eq!((second.keys, second.lane), (vec!["a"], Fresh));
    assert_eq!(queue.busy_workers(), 2);
    queue.ended(first.number);
    queue.finish(&"a", Some(When { at: at(60), lane: Poll }));
    queue.ended(second.number);
    assert_eq!((queue.next(T0), queue.next_due()), (None, Some(at(60))));
    assert_eq!(queue.busy_workers(), 0);
}

#[test]
fn a_key_removed_while_in_a_pass_is_forgotten_and_a_successor_waits_for_its_end() {
    let mut queue = Queue::new(4);
    queue.add(&"a", of("cloud"), Fresh, T0);
    assert_eq!(queue.take(T0), ["a"]);
    queue.remove(&"a");
    queue.add(&"a", of("cloud"), Fresh, T0);
    assert_eq!(queue.next(T0), None);
    queue.finish(&"a", Some(When { at: at(60), lane: Poll }));
    assert_eq!(queue.take(at(1)), ["a"]);
    queue.remove(&"a");
    queue.finish(&"a", Some(When { at: at(60), lane: Poll }));
    assert_eq!(queue.next(at(100)), None);
    assert_eq!(queue.lane(&"a"), None);
}

#[test]
fn a_due_key_that_changes_its_scope_or_lane_goes_with_the_others_there() {
    let mut queue = Queue::new(4);
    queue.add(&"a", of("cloud/a"), Poll, T0);
    assert_eq!(queue.next(T0).unwrap().keys, ["a"]);
    for key in ["b", "c"] {
        queue.add(&key, of("cloud/a"), Poll, T0);
    }
    assert_eq!((queue.next(T0), queue.depth()), (None, 2), "one poll of a scope at a time");
    queue.add(&"b", of("cloud/b"), Poll, at(5));
    queue.add(&"c", of("cloud/b"), Fresh, at(5));
    assert_eq!(queue.take_became_due(), 3, "they were due already");
    let pass = queue.next(T0).unwrap();
    assert_eq!((pass.keys, pass.lane), (vec!["c"], Fresh));
    assert_eq!(queue.take(T0), ["b"]);
}

#[test]
fn who_becomes_due_during_a_poll_is_in_the_next_one() {
    let mut queue = Queue::new(4);
    queue.add(&"a", of("cloud"), Poll, T0);
    let first = queue.next(T0).unwrap();
    for key in ["b", "c"] {
        queue.add(&key, of("cloud"), Poll, at(1));
    }
    assert_eq!(queue.next(at(2)), None);
    queue.ended(first.number);
    assert_eq!(queue.take_all(at(2)), [["b", "c"]]);
}

#[test]
fn a_new_object_gets_a_worker_at_once_during_slow_polls_of_its_scope() {
    let mut queue = Queue::new(2);
    queue.add(&"polled", of("cloud/a"), Poll, T0);
    queue.add(&"failed", of("cloud/a"), Retry, T0);
    queue.add(&"other", of("cloud/b"), Poll, T0);
    assert_eq!(queue.take_all(T0).len(), 1, "one worker stays idle for it");
    queue.add(&"new", of("cloud/a"), Fresh, at(1));
    assert_eq!(queue.take(at(1)), ["new"]);
}

#[test]
fn polls_leave_one_of_their_clouds_share_to_its_new_objects() {
    let mut queue = Queue::new(4);
    for (key, scope) in [("a", "slow/a"), ("b", "slow/b"), ("c", "slow/c"), ("x", "quick")] {
        queue.add(&key, of(scope), Poll, T0);
    }
    assert_eq!(queue.take_all(T0).len(), 2);
    queue.add(&"new", of("slow/d"), Fresh, T0);
    assert_eq!(queue.take(T0), ["new"]);
}

#[test]
fn with_one_worker_new_objects_go_first() {
    let mut queue = Queue::new(1);
    queue.add(&"polled", of("cloud"), Poll, T0);
    queue.add(&"new", of("cloud"), Fresh, at(1));
    let pass = queue.next(at(1)).unwrap();
    assert_eq!(pass.keys, ["new"]);
    queue.ended(pass.number);
    assert_eq!(queue.take(at(1)), ["polled"]);
}

#[test]
fn of_new_objects_the_oldest_goes_first_and_of_polls_the_scope_with_the_fewest_vms() {
    let mut queue = Queue::new(8);
    let large = Member { vms: 10, ..created(1, "cloud/large") };
    queue.add(&"few", Member { vms: 4, ..created(2, "cloud/few") }, Poll, T0);
    queue.add(&"large", large, Poll, T0);
    for key in ["s1", "s2", "s3"] {
        queue.add(&key, created(3, "cloud/small"), Poll, T0);
    }
    queue.add(&"young", created(9, "cloud/large"), Fresh, T0);
    queue.add(&"old", created(8, "cloud/small"), Fresh, T0);
    let expected: [&[&str]; 5] = [&["old"], &["young"], &["s1", "s2", "s3"], &["few"], &["large"]];
    assert_eq!(queue.take_all(T0), expected);
}

#[test]
fn a_slow_cloud_holds_half_of_the_workers() {
    let mut queue = Queue::new(4);
    for (key, scope) in [("s1", "slow/1"), ("s2", "slow/2"), ("s3", "slow/3")] {
        queue.add(&key, of(scope), Fresh, T0);
    }
    queue.add(&"q1", of("quick"), Poll, at(100));
    assert_eq!(queue.take_all(T0), [["s1"], ["s2"]]);
    queue.add(&"q2", of("quick/2"), Fresh, T0);
    assert_eq!(queue.take_all(T0), [["q2"]]);
    queue.remove(&"q1");
    queue.remove(&"q2");
    queue.finish(&"q2", None);
    assert_eq!(queue.take_all(T0), [["s3"]], "alone, it has all of them");
}

#[test]
fn an_object_without_a_cloud_takes_no_worker_from_the_only_one() {
    let mut queue = Queue::new(4);
    queue.add(&"unreadable", of("/"), Poll, at(100));
    for (key, scope) in [("a", "cloud/1"), ("b", "cloud/2"), ("c", "cloud/3"), ("d", "cloud/4")] {
        queue.add(&key, of(scope), Fresh, T0);
    }
    assert_eq!(queue.take_all(T0).len(), 4);
}

#[test]
fn a_scope_whose_passes_hang_leaves_the_last_worker_to_the_others() {
    let mut queue = Queue::new(3);
    queue.add(&"other", of("cloud/b"), Poll, at(100));
    let hanging = ["h1", "h2", "h3", "h4"];
    let mut taken = Vec::new();
    for (second, key) in hanging.into_iter().enumerate() {
        queue.add(&key, of("cloud/a"), Fresh, at(second as u64));
        taken.extend(queue.take_all(at(second as u64)));
    }
    assert_eq!(taken, [["h1"], ["h2"]]);
    queue.add(&"new", of("cloud/b"), Fresh, at(5));
    assert_eq!(queue.take(at(5)), ["new"]);
}

#[test]
fn where_there_is_one_scope_its_new_objects_may_have_every_worker() {
    let mut queue = Queue::new(3);
    for (second, key) in ["a", "b", "c"].into_iter().enumerate() {
        queue.add(&key, of("cloud"), Fresh, at(second as u64));
        assert_eq!(queue.take(at(second as u64)), [key]);
    }
}

#[test]
fn objects_that_are_created_together_and_hang_take_two_workers() {
    let mut queue = Queue::new(4);
    let mut taken = Vec::new();
    for (number, key) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let now = Duration::from_millis(number as u64 * 40);
        queue.add(&key, of("cloud"), Fresh, now);
        taken.extend(queue.take_all(now));
    }
    assert_eq!(taken, [["a"]]);
    assert_eq!(queue.next_due(), Some(SPACING));
    assert_eq!(queue.take_all(SPACING), [["b", "c", "d", "e"]]);
    assert_eq!(queue.next_due(), None);
    queue.add(&"new", of("cloud"), Fresh, at(5));
    assert_eq!(queue.take(at(5)), ["new"]);
}

#[test]
fn a_new_object_does_not_wait_for_the_time_between_passes_once_none_runs() {
    let mut queue = Queue::new(4);
    queue.add(&"a", of("cloud"), Fresh, T0);
    let first = queue.next(T0).unwrap();
    queue.add(&"b", of("cloud"), Fresh, T0);
    assert_eq!(queue.next(T0), None);
    queue.ended(first.number);
    assert_eq!(queue.take(T0), ["b"]);
}

/// Every second, each of many scopes has a new object; each pass takes a second.
#[test]
fn a_stream_of_new_objects_starves_no_poll_and_small_polls_no_large_one() {
    for workers in 1..4 {
        let mut queue = Queue::new(workers);
        let scopes: Vec<String> = (0..8).map(|number| format!("cloud/{number}")).collect();
        let key = |kind: &str, scope: usize| format!("{kind} {scope}");
        let large = Member { vms: 1_000, ..of("cloud/large") };
        queue.add(&"large".to_owned(), large.clone(), Poll, T0);
        let mut running: Vec<NextPass<String>> = Vec::new();
        let mut polled_at = None;
        for second in 0..300 {
            for pass in running.drain(..) {
                for key in &pass.keys {
                    if key == "large" {
                        polled_at = polled_at.or(Some(second));
                    }
                    queue.finish(key, None);
                }
                queue.ended(pass.number);
            }
            for (number, scope) in scopes.iter().enumerate() {
                queue.add(&key("new", number), of(scope), Fresh, at(second));
                queue.add(&key("small", number), of(scope), Poll, at(second));
            }
            running.extend(std::iter::from_fn(|| queue.next(at(second))));
            assert!(!running.is_empty());
        }
        let latest = PATIENCE.as_secs() + 10;
        assert!(polled_at.is_some_and(|second| second <= latest), "{workers}: {polled_at:?}");
    }
}

#[test]
fn an_object_that_always_fails_cannot_starve_the_others() {
    let mut queue = Queue::new(1);
    queue.set_batch_limit(1);
    for key in ["bad", "fine", "good"] {
        queue.add(&key, of("cloud"), Retry, T0);
    }
    let mut order = Vec::new();
    for second in (0..600).step_by(10) {
        let pass = queue.next(at(second)).unwrap();
        let key = pass.keys[0];
        order.push(key);
        let lane = if key == "bad" { Retry } else { Poll };
        queue.finish(&key, Some(When { at: at(second), lane }));
        queue.ended(pass.number);
    }
    for key in ["fine", "good"] {
        assert!(order.iter().filter(|it| **it == key).count() > 1, "{order:?}");
    }
}

#[test]
fn what_is_measured_of_it_is_true() {
    let mut queue = Queue::new(1);
    for (key, scope, second) in [("a", "cloud/1", 10), ("b", "cloud/2", 10), ("c", "cloud/3", 20)] {
        queue.add(&key, of(scope), Fresh, at(second));
    }
    assert_eq!((queue.depth(), queue.take_became_due()), (0, 0));
    let pass = queue.next(at(15)).unwrap();
    assert_eq!(pass.keys, ["a"]);
    assert_eq!((queue.depth(), queue.busy_workers()), (1, 1));
    assert_eq!((queue.take_became_due(), queue.take_became_due()), (2, 0));
    assert_eq!((queue.waited(&"a"), queue.waited(&"b")), (Some(at(5)), None));
    assert_eq!(queue.running_times(at(18)).collect::<Vec<_>>(), [at(3)]);
    queue.finish(&"a", None);
    assert_eq!((queue.due_at(&"a"), queue.busy_workers()), (None, 1));
    assert_eq!(queue.running_times(at(18)).count(), 0);
    queue.ended(pass.number);
    assert_eq!(queue.busy_workers(), 0);
}

#[test]
fn one_notified_pass_of_a_scope_starts_in_a_second_and_none_while_another_runs() {
    let mut queue = Queue::new(4);
    for (key, scope) in [("a", "cloud/a"), ("b", "cloud/b")] {
        queue.add(&key, of(scope), Notified, T0);
    }
    let first = queue.next(T0).unwrap();
    assert_eq!((first.keys, queue.take(T0)), (vec!["a"], vec!["b"]));
    queue.finish(&"a", None);
    queue.ended(first.number);
    queue.add(&"a", of("cloud/a"), Notified, T0);
    queue.add(&"c", of("cloud/a"), Notified, T0);
    assert_eq!((queue.next(T0), queue.next_due()), (None, Some(NOTIFIED_SPACING)));
    let second = queue.next(NOTIFIED_SPACING).unwrap();
    assert_eq!(second.keys, ["a", "c"]);
    queue.finish(&"a", Some(When { at: at(2), lane: Notified }));
    assert_eq!(queue.next(at(5)), None, "the second one still runs");
    queue.ended(second.number);
    assert_eq!(queue.take(at(5)), ["a"]);
}

#[test]
fn a_notified_object_waits_for_no_poll_and_no_poll_has_the_last_worker() {
    let mut queue = Queue::new(3);
    for (key, scope) in [("a", "cloud/a"), ("b", "cloud/b"), ("c", "cloud/c")] {
        queue.add(&key, of(scope), Poll, T0);
    }
    assert_eq!(queue.take_all(T0), [["a"], ["b"]]);
    queue.add(&"d", of("cloud/a"), Notified, T0);
    queue.add(&"e", of("cloud/a"), Fresh, T0);
    assert_eq!(queue.take_all(T0), [["e"]], "new and changed objects come first");
    queue.ended(3);
    assert_eq!(queue.take_all(T0), [["d"]]);
}

#[derive(Clone, Debug)]
enum Step {
    Add { key: u8, scope: u8, lane: Lane, delay: u64 },
    Take,
    Finish { which: usize, again: Option<(u64, Lane)> },
    End { which: usize },
    Remove { key: u8 },
    Wait { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = || prop_oneof![Just(Fresh), Just(Notified), Just(Retry), Just(Poll)];
    let step = prop_oneof![
        4 => (0..12u8, 0..4u8, lane(), 0..20u64)
            .prop_map(|(key, scope, lane, delay)| Step::Add { key, scope, lane, delay }),
        4 => Just(Step::Take),
        4 => (any::<usize>(), proptest::option::of((0..30u64, lane())))
            .prop_map(|(which, again)| Step::Finish { which, again }),
        2 => any::<usize>().prop_map(|which| Step::End { which }),
        1 => (0..12u8).prop_map(|key| Step::Remove { key }),
        2 => (1..15u64).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 1..120)
}

type Plan = (Duration, Lane);

/// What the queue should know, in the plainest form: when each key is due, and what is in a pass.
#[derive(Default)]
struct Model {
    scopes: BTreeMap<u8, Scope>,
    planned: BTreeMap<u8, Plan>,
    /// Added meanwhile, and whether it was removed and not added since.
    busy: BTreeMap<u8, (Option<Plan>, bool)>,
    passes: BTreeMap<u64, (Scope, Lane)>,
    /// When the last Notified pass of each scope started.
    notified: BTreeMap<Scope, Duration>,
}

impl Model {
    fn add(&mut self, key: u8, scope: Scope, plan: Plan) {
        self.scopes.insert(key, scope);
        let earlier =
            |known: Option<&Plan>| known.map_or(plan, |it| (it.0.min(plan.0), it.1.min(plan.1)));
        if let Some((again, removed)) = self.busy.get_mut(&key) {
            (*again, *removed) = (Some(earlier(again.as_ref())), false);
        } else {
            let plan = earlier(self.planned.get(&key));
            self.planned.insert(key, plan);
        }
    }

    fn finish(&mut self, key: u8, again: Option<Plan>) {
        let (added, removed) = self.busy.remove(&key).unwrap();
        if removed {
            self.scopes.remove(&key);
        } else {
            for plan in added.into_iter().chain(again) {
                let scope = self.scopes[&key].clone();
                self.add(key, scope, plan);
            }
        }
    }

    /// The keys that a pass of this scope and lane should have.
    fn due(&self, now: Duration, scope: &Scope, lane: Lane) -> Vec<u8> {
        let due = self.planned.iter().filter(|(_, plan)| plan.0 <= now && plan.1 == lane);
        due.map(|(key, _)| *key).filter(|key| self.scopes[key] == *scope).collect()
    }

    fn is_spaced(&self, now: Duration, scope: &Scope) -> bool {
        self.notified.get(scope).is_none_or(|since| now >= *since + NOTIFIED_SPACING)
    }

    fn check(
        &self,
        now: Duration,
        workers: usize,
        pass: &NextPass<u8>,
    ) -> Result<(), TestCaseError> {
        let polls =
            |it: &&(Scope, Lane)| is_poll(it.1) && it.0.provider_id == pass.scope.provider_id;
        let of_cloud = self.passes.values().filter(|it| it.0.provider_id == pass.scope.provider_id);
        let clouds: BTreeSet<&String> =
            self.scopes.values().map(|scope| &scope.provider_id).collect();
        let share = if clouds.len() > 1 { workers.div_ceil(2) } else { workers };
        prop_assert!(self.passes.len() < workers && of_cloud.count() < share);
        if pass.lane != Fresh {
            let alike = (pass.scope.clone(), pass.lane);
            prop_assert!(self.passes.values().all(|it| *it != alike), "two passes of a scope");
        }
        if pass.lane == Notified {
            prop_assert!(self.is_spaced(now, &pass.scope), "two Notified passes within a second");
        }
        if is_poll(pass.lane) {
            let polls = self.passes.values().filter(polls).count();
            prop_assert!(polls == 0 || polls + 1 < share);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn under_any_schedule_no_key_is_in_two_passes_and_none_is_lost(
        workers in 1..5usize,
        steps in steps(),
    ) {
        let mut queue = Queue::new(workers);
        let mut model = Model::default();
        let mut now = T0;
        for step in steps {
            match step {
                Step::Add { key, scope, lane, delay } => {
                    let member = of(["one/a", "one/b", "two/a", "two/b"][usize::from(scope)]);
                    model.add(key, member.scope.clone(), (now + at(delay), lane));
                    queue.add(&key, member, lane, now + at(delay));
                }
                Step::Take => match queue.next(now) {
                    Some(pass) => {
                        prop_assert_eq!(&pass.keys, &model.due(now, &pass.scope, pass.lane));
                        model.check(now, workers, &pass)?;
                        if pass.lane == Notified {
                            model.notified.insert(pass.scope.clone(), now);
                        }
                        for key in &pass.keys {
                            model.planned.remove(key);
                            prop_assert!(model.busy.insert(*key, (None, false)).is_none());
                        }
                        model.passes.insert(pass.number, (pass.scope, pass.lane));
                    }
                    None => {
                        // With all workers idle, nothing that is due may be held back.
                        let may_start = |key: &u8, plan: &Plan| {
                            plan.0 <= now
                                && (plan.1 != Notified || model.is_spaced(now, &model.scopes[key]))
                        };
                        let due = model.planned.iter().any(|(key, plan)| may_start(key, plan));
                        prop_assert!(!(due && model.passes.is_empty()), "due work was held back");
                    }
                },
                Step::Finish { which, again } => {
                    let count = model.busy.len().max(1);
                    let Some(key) = model.busy.keys().nth(which % count).copied() else { continue };
                    let again = again.map(|(delay, lane)| (now + at(delay), lane));
                    queue.finish(&key, again.map(|(at, lane)| When { at, lane }));
                    model.finish(key, again);
                }
                Step::End { which } => {
                    let count = model.passes.len().max(1);
                    let Some(number) = model.passes.keys().nth(which % count).copied() else {
                        continue;
                    };
                    model.passes.remove(&number);
                    queue.ended(number);
                }
                Step::Remove { key } => {
                    queue.remove(&key);
                    model.planned.remove(&key);
                    match model.busy.get_mut(&key) {
                        Some(busy) => *busy = (None, true),
                        None => drop(model.scopes.remove(&key)),
                    }
                }
                Step::Wait { seconds } => now += at(seconds),
            }
            prop_assert_eq!(queue.busy_workers(), model.passes.len());
            prop_assert_eq!(queue.running_times(now).count(), model.busy.len());
            for key in model.scopes.keys() {
                let plan = model.planned.get(key).copied();
                let again = model.busy.get(key).and_then(|(again, _)| *again);
                let due = plan.or(again).map(|(at, _)| at);
                prop_assert_eq!(queue.due_at(key), due, "key {}", key);
            }
        }
    }
}
