//! What is written next, under invented time.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Job, Next, Outcome, Pending, StatusText};
use crate::clock::Now;
use crate::kube::objects::ObjectReference;
use crate::kube::resource::Resource;
use crate::kube::writer::events::{EventKind, EventWrite, Reporter};
use crate::kube::writer::secrets::SecretManifest;

const TROUBLE: Outcome = Outcome::ServerTrouble { retry_after: None };

fn pending() -> Pending {
    let reporter =
        Reporter { controller: "multinic-operator", instance: "pod-a".to_owned(), action: "Sync" };
    Pending::new(reporter, fastrand::Rng::with_seed(3))
}

fn at(seconds: f64) -> Now {
    let uptime = Duration::from_secs_f64(seconds);
    let start = Now { uptime: Duration::ZERO, wall: "2026-01-02T03:04:05Z".parse().unwrap() };
    start.after(uptime)
}

fn object(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        resource: Resource::LEASES,
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

fn text(value: u32) -> StatusText {
    StatusText(serde_json::value::to_raw_value(&value).unwrap().into())
}

fn status(pending: &mut Pending, name: &str, value: u32) {
    pending.put_status(object(name, "u1"), text(value));
}

/// Name and value of the status that comes next.
fn next_status(pending: &mut Pending, now: Now) -> Option<(Job, String, Value)> {
    match pending.next(now) {
        Next::Write(job) => {
            let Job::Status { object, status } = Job::clone(&job) else { panic!("{job:?}") };
            Some((*job, object.name, serde_json::from_str(status.0.get()).unwrap()))
        }
        _ => None,
    }
}

fn finish_next(pending: &mut Pending, now: Now, outcome: Outcome) -> Option<(String, Value)> {
    let (job, name, value) = next_status(pending, now)?;
    pending.finished(job, outcome, now);
    Some((name, value))
}

#[test]
fn only_the_newest_status_of_an_object_is_written() {
    let mut pending = pending();
    status(&mut pending, "a", 1);
    status(&mut pending, "b", 1);
    status(&mut pending, "a", 2);
    let written: Vec<_> =
        std::iter::from_fn(|| finish_next(&mut pending, at(0.0), Outcome::Done)).collect();
    assert_eq!(written, [("a".to_owned(), json!(2)), ("b".to_owned(), json!(1))]);
    assert_eq!(pending.next(at(0.0)), Next::Wait(None));
}

#[test]
fn what_is_written_already_is_not_written_again_until_the_object_is_another() {
    let mut pending = pending();
    status(&mut pending, "a", 1);
    assert!(finish_next(&mut pending, at(0.0), Outcome::Done).is_some());
    status(&mut pending, "a", 1);
    assert_eq!(pending.next(at(0.0)), Next::Wait(None));
    pending.put_status(object("a", "u2"), text(1));
    assert!(finish_next(&mut pending, at(0.0), Outcome::Done).is_some());
}

#[test]
fn a_wish_that_is_taken_back_is_not_written() {
    let mut pending = pending();
    status(&mut pending, "a", 1);
    finish_next(&mut pending, at(0.0), Outcome::Done);
    status(&mut pending, "a", 2);
    status(&mut pending, "a", 1);
    assert_eq!(pending.next(at(0.0)), Next::Wait(None));
}

#[test]
fn a_status_that_comes_during_a_write_is_written_after_it_if_it_differs() {
    for (outcome, newer, expected) in [
        (Outcome::Done, 2, Some(2)),
        (Outcome::Done, 1, None),
        (Outcome::Retry, 2, Some(2)),
        (Outcome::Gone, 2, Some(2)),
    ] {
        let mut pending = pending();
        status(&mut pending, "a", 1);
        let (job, _, _) = next_status(&mut pending, at(0.0)).unwrap();
        status(&mut pending, "a", newer);
        pending.finished(job, outcome, at(0.0));
        let next = finish_next(&mut pending, at(60.0), Outcome::Done);
        let value = next.map(|(_, value)| value);
        assert_eq!(value, expected.map(|number: u32| json!(number)), "{outcome:?} {newer}");
    }
}

#[test]
fn going_back_to_what_was_written_before_the_write_under_way_is_not_lost() {
    let mut pending = pending();
    status(&mut pending, "a", 1);
    finish_next(&mut pending, at(0.0), Outcome::Done);
    status(&mut pending, "a", 2);
    let (job, _, _) = next_status(&mut pending, at(0.0)).unwrap();
    status(&mut pending, "a", 1);
    pending.finished(job, Outcome::Done, at(0.0));
    assert_eq!(finish_next(&mut pending, at(0.0), Outcome::Done).unwrap().1, json!(1));
}

#[test]
fn an_object_that_fails_waits_alone() {
    let mut pending = pending();
    status(&mut pending, "bad", 1);
    finish_next(&mut pending, at(0.0), Outcome::Retry);
    status(&mut pending, "good", 1);
    assert_eq!(finish_next(&mut pending, at(0.0), Outcome::Done).unwrap().0, "good");
    assert!(matches!(pending.next(at(0.0)), Next::Wait(Some(wait)) if wait.as_millis() <= 200));
    assert_eq!(finish_next(&mut pending, at(1.0), Outcome::Done).unwrap().0, "bad");
}

#[test]
fn a_server_that_is_down_is_probed_with_one_write_and_then_left_alone() {
    let mut pending = pending();
    for number in 0..50 {
        status(&mut pending, &format!("object-{number}"), 1);
    }
    let (mut now, mut attempts) = (0.0, 0);
    while now < 600.0 {
        match pending.next(at(now)) {
            Next::Write(job) => {
                attempts += 1;
                now += 10.0;
                pending.finished(*job, TROUBLE, at(now));
            }
            Next::Wait(Some(wait)) => now += wait.as_secs_f64().max(0.001),
            other => panic!("{other:?}"),
        }
    }
    assert!((20..60).contains(&attempts), "{attempts} attempts in ten minutes");
    now += 15.0;
    // The API is back: all are written within one back-off, and each once.
    let mut written = 0;
    while let Some((job, _, _)) = next_status(&mut pending, at(now)) {
        pending.finished(job, Outcome::Done, at(now));
        written += 1;
    }
    assert_eq!((written, pending.is_empty()), (50, true));
}

#[test]
fn one_object_whose_calls_hang_costs_the_others_little() {
    let mut pending = pending();
    let (mut now, mut hung, mut written) = (0.0, 0.0, 0);
    status(&mut pending, "hangs", 1);
    while now < 600.0 {
        status(&mut pending, "good", written + 1);
        match pending.next(at(now)) {
            Next::Write(job) => {
                let Job::Status { object, .. } = job.as_ref() else { panic!() };
                let hangs = object.name == "hangs";
                now += if hangs { 10.0 } else { 0.1 };
                hung += if hangs { 10.0 } else { 0.0 };
                written += u32::from(!hangs);
                pending.finished(*job, if hangs { TROUBLE } else { Outcome::Done }, at(now));
            }
            Next::Wait(Some(wait)) => now += wait.as_secs_f64().max(0.001),
            other => panic!("{other:?}"),
        }
    }
    assert!(hung < 400.0 && written > 1500, "hung {hung} s, {written} written");
}

#[test]
fn retry_after_closes_for_everybody() {
    let mut pending = pending();
    status(&mut pending, "a", 1);
    let asked = Outcome::ServerTrouble { retry_after: Some(Duration::from_secs(20)) };
    finish_next(&mut pending, at(0.0), asked);
    status(&mut pending, "b", 1);
    assert_eq!(pending.next(at(19.9)), Next::Wait(Some(Duration::from_millis(100))));
    assert!(next_status(&mut pending, at(20.0)).is_some());
}

#[test]
fn what_is_refused_or_gone_is_dropped_and_a_forgotten_object_too() {
    for outcome in [Outcome::Refused, Outcome::Gone] {
        let mut pending = pending();
        status(&mut pending, "a", 1);
        finish_next(&mut pending, at(0.0), outcome);
        assert!(pending.is_empty());
    }
    let mut pending = pending();
    status(&mut pending, "a", 1);
    pending.forget(&object("a", "u0"));
    assert!(!pending.is_empty(), "another object of that name");
    pending.forget(&object("a", "u1"));
    assert!(pending.is_empty());
}

#[test]
fn a_forgotten_object_takes_its_secrets_along_and_nobody_elses() {
    let mut pending = pending();
    pending.put_secret(secret("s", "a"));
    pending.put_secret(secret("t", "b"));
    pending.forget(&object("a", "u1"));
    let Next::Write(job) = pending.next(at(0.0)) else { panic!() };
    assert_eq!(*job, Job::Secret(secret("t", "b")));
    // While it is under way: that of another object is tried again, that of this one isn't.
    for (gone, is_repeated) in [("a", true), ("b", false)] {
        let mut pending = self::pending();
        pending.put_secret(secret("t", "b"));
        let Next::Write(job) = pending.next(at(0.0)) else { panic!() };
        pending.forget(&object(gone, "u1"));
        pending.finished(*job, Outcome::Retry, at(0.0));
        assert_eq!(!pending.is_empty(), is_repeated, "{gone}");
    }
}

#[test]
fn what_was_written_is_forgotten_with_its_object_and_not_with_a_predecessor() {
    for (uid, is_written_again) in [("u0", false), ("u1", true)] {
        let mut pending = pending();
        status(&mut pending, "a", 1);
        finish_next(&mut pending, at(0.0), Outcome::Done);
        pending.forget(&object("a", uid));
        status(&mut pending, "a", 1);
        let next = finish_next(&mut pending, at(0.0), Outcome::Done);
        assert_eq!(next.is_some(), is_written_again, "{uid}");
    }
}

#[test]
fn whoever_waits_longest_is_first_and_whoever_failed_is_last() {
    let mut pending = pending();
    for name in ["a", "c", "b"] {
        status(&mut pending, name, 1);
    }
    let first = finish_next(&mut pending, at(0.0), Outcome::Retry);
    assert_eq!(first.unwrap().0, "a");
    status(&mut pending, "d", 1);
    // By now its own wait is over, and still the others come first: they waited longer.
    let rest = std::iter::from_fn(|| finish_next(&mut pending, at(60.0), Outcome::Done));
    let names: Vec<String> = rest.map(|(name, _)| name).collect();
    assert_eq!(names, ["c", "b", "a", "d"]);
}

#[test]
fn an_abandoned_writer_writes_no_more() {
    let mut pending = pending();
    status(&mut pending, "a", 1);
    pending.abandon();
    assert_eq!(pending.next(at(0.0)), Next::End);
}

#[test]
fn events_above_an_objects_allowance_or_above_what_may_wait_are_not_told() {
    let waiting = |pending: &mut Pending| {
        let mut told = 0;
        while let Next::Write(job) = pending.next(at(0.0)) {
            pending.finished(*job, Outcome::Done, at(0.0));
            told += 1;
        }
        told
    };
    let mut of_one = pending();
    for number in 0..30 {
        event(&mut of_one, &format!("note {number}"), at(0.0));
    }
    assert_eq!(waiting(&mut of_one), 25);
    let mut of_many = pending();
    for number in 0..510 {
        let regarding = object("a", &format!("u{number}"));
        of_many.put_event(regarding, EventKind::Warning, "NovaError", "x", at(0.0));
    }
    assert_eq!(waiting(&mut of_many), 500);
}

fn event(pending: &mut Pending, note: &str, now: Now) {
    pending.put_event(object("a", "u1"), EventKind::Warning, "NovaError", note, now);
}

fn next_event(pending: &mut Pending, now: Now) -> (Job, EventWrite) {
    let Next::Write(job) = pending.next(now) else { panic!("no event") };
    let Job::Event { write, .. } = Job::clone(&job) else { panic!("{job:?}") };
    (*job, write)
}

#[test]
fn equal_events_are_one_with_a_count_and_statuses_go_first() {
    let mut pending = pending();
    for _ in 0..3 {
        event(&mut pending, "x", at(0.0));
    }
    status(&mut pending, "a", 1);
    assert!(finish_next(&mut pending, at(0.0), Outcome::Done).is_some());
    let (job, write) = next_event(&mut pending, at(0.0));
    let EventWrite::Create(body) = write else { panic!() };
    assert_eq!(body["series"]["count"], 3);
    pending.finished(job, Outcome::Done, at(0.0));
    event(&mut pending, "x", at(60.0));
    let (job, write) = next_event(&mut pending, at(60.0));
    assert!(matches!(&write, EventWrite::Repeat { patch, .. } if patch["series"]["count"] == 4));
    // The server has forgotten it: the next is a new one.
    pending.finished(job, Outcome::Gone, at(60.0));
    event(&mut pending, "x", at(70.0));
    assert!(matches!(next_event(&mut pending, at(70.0)).1, EventWrite::Create(_)));
}

#[test]
fn an_event_that_keeps_failing_is_given_up_and_a_refused_one_at_once() {
    let mut pending = pending();
    event(&mut pending, "x", at(0.0));
    let mut attempts = 0;
    while let Next::Write(job) = pending.next(at(f64::from(attempts) * 100.0)) {
        pending.finished(*job, Outcome::Retry, at(f64::from(attempts) * 100.0));
        attempts += 1;
    }
    assert_eq!(attempts, 5);
    event(&mut pending, "y", at(1000.0));
    let (job, _) = next_event(&mut pending, at(1000.0));
    pending.finished(job, Outcome::Refused, at(1000.0));
    assert!(pending.is_empty());
}

#[test]
fn an_event_under_way_is_tried_again_unless_its_own_object_goes() {
    for (gone, is_repeated) in [("b", true), ("a", false)] {
        let mut pending = pending();
        event(&mut pending, "x", at(0.0));
        let (job, _) = next_event(&mut pending, at(0.0));
        pending.forget(&object(gone, "u1"));
        pending.finished(job, Outcome::Retry, at(0.0));
        assert_eq!(!pending.is_empty(), is_repeated, "{gone}");
    }
}

#[test]
fn a_drain_tries_each_once_more_and_ends_at_the_first_trouble_of_the_server() {
    let mut pending = pending();
    status(&mut pending, "slow", 1);
    finish_next(&mut pending, at(0.0), Outcome::Retry);
    status(&mut pending, "a", 1);
    pending.drain();
    assert!(finish_next(&mut pending, at(0.0), Outcome::Retry).is_some());
    assert!(finish_next(&mut pending, at(0.0), Outcome::Done).is_some());
    assert_eq!(pending.next(at(0.0)), Next::End);
    assert!(!pending.is_empty(), "one was not written, and that is said");
    let mut pending = self::pending();
    status(&mut pending, "a", 1);
    status(&mut pending, "b", 1);
    pending.drain();
    finish_next(&mut pending, at(0.0), TROUBLE);
    assert_eq!(pending.next(at(0.0)), Next::End);
}

fn secret(name: &str, owner: &str) -> SecretManifest {
    SecretManifest {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        data: std::collections::BTreeMap::new(),
        owner: object(owner, "u1"),
    }
}

#[test]
fn a_secret_is_looked_at_each_time_it_is_wanted() {
    let mut pending = pending();
    for _ in 0..2 {
        pending.put_secret(secret("s", "a"));
        let Next::Write(job) = pending.next(at(0.0)) else { panic!() };
        pending.finished(*job, Outcome::Done, at(0.0));
    }
}

#[test]
fn a_write_that_is_under_way_when_its_object_goes_is_neither_repeated_nor_remembered() {
    for outcome in [Outcome::Done, Outcome::Retry, TROUBLE] {
        let mut pending = pending();
        status(&mut pending, "a", 1);
        let (job, ..) = next_status(&mut pending, at(0.0)).unwrap();
        pending.forget(&object("a", "u1"));
        pending.finished(job, outcome, at(0.0));
        assert!(pending.is_empty(), "{outcome:?}");
        assert!(pending.written.is_empty(), "{outcome:?}");
    }
}

#[test]
fn a_secret_that_is_left_is_not_written_and_the_owners_status_is() {
    let manifest = |name: &str| SecretManifest {
        namespace: "default".to_owned(),
        name: format!("rabbitmq-{name}"),
        data: std::collections::BTreeMap::new(),
        owner: object(name, "u1"),
    };
    let mut pending = pending();
    pending.put_secret(manifest("a"));
    let Next::Write(under_way) = pending.next(at(0.0)) else { panic!("nothing to write") };
    pending.put_secret(manifest("a"));
    pending.put_secret(manifest("b"));
    status(&mut pending, "a", 1);
    pending.forget_secret(&object("a", "u1"));
    pending.finished(*under_way, Outcome::Retry, at(0.0));
    let Next::Write(job) = pending.next(at(60.0)) else { panic!("nothing to write") };
    assert_eq!(*job, Job::Secret(manifest("b")));
    pending.finished(*job, Outcome::Done, at(60.0));
    assert_eq!(
        finish_next(&mut pending, at(60.0), Outcome::Done),
        Some(("a".to_owned(), json!(1)))
    );
    assert_eq!(pending.next(at(60.0)), Next::Wait(None));
}

#[test]
fn what_is_held_back_is_kept_and_keeps_no_end_waiting() {
    let mut pending = pending();
    status(&mut pending, "a", 1);
    assert!(matches!(pending.held_back(), Next::Wait(Some(_))));
    assert!(finish_next(&mut pending, at(0.0), Outcome::Done).is_some());
    status(&mut pending, "a", 2);
    pending.drain();
    assert_eq!(pending.held_back(), Next::End);
    assert!(!pending.is_empty());
    pending.abandon();
    assert_eq!(pending.held_back(), Next::End);
}
