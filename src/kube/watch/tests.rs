//! The machine against recorded streams, and against an invented server with seeded faults.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;

use super::{
    Action, End, Failure, FailureKind, Input, Observation, RestartReason, Step, Timing,
    WatchMachine,
};
use crate::kube::error::{ApiStatus, Call, KubeError};
use crate::kube::lines::{LINE_LIMIT_BYTES, Lines};
use crate::kube::objects::{Page, RawObject};
use crate::kube::recordings::Recording;
use crate::secret::Secrets;

const SECOND: Duration = Duration::from_secs(1);

fn machine() -> WatchMachine {
    WatchMachine::new(None, Timing::default(), fastrand::Rng::with_seed(7))
}

fn page(version: &str, names: &[&str]) -> Page {
    let objects = names.iter().map(|name| object(name, "u1", version)).collect();
    Page { objects, resource_version: version.to_owned(), ..Page::default() }
}

fn object(name: &str, uid: &str, version: &str) -> RawObject {
    let json = json!({"metadata": {"name": name, "uid": uid, "resourceVersion": version}});
    RawObject::read(&RawValue::from_string(json.to_string()).unwrap()).unwrap()
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, text: format!("{kind:?}"), retry_after: None }
}

/// A machine that watches from version 10, at second 1.
fn watching() -> WatchMachine {
    let mut machine = machine();
    machine.step(Input::PageListed(page("10", &["a"])), SECOND);
    machine.step(Input::WatchOpened, SECOND);
    machine
}

/// The action that follows a wait.
fn after_wait(machine: &mut WatchMachine, step: &Step, now: Duration) -> Action {
    assert!(matches!(step.action, Action::Wait(_)), "{:?}", step.action);
    machine.step(Input::Waited, now).action
}

fn lists(action: &Action) -> bool {
    matches!(action, Action::List { continue_token: None, .. })
}

fn watches_from(action: &Action, wanted: &str) -> bool {
    matches!(action, Action::Watch { version, .. } if version == wanted)
}

/// Feeds a recorded body, cut into lines as the watcher does; gives all steps.
fn replay(machine: &mut WatchMachine, name: &str) -> Vec<Step> {
    let recording = Recording::load(name);
    assert_eq!(recording.status, 200);
    let mut lines = Lines::new(recording.body.as_slice(), LINE_LIMIT_BYTES);
    let mut steps = Vec::new();
    while let Some(line) = lines.next_line().unwrap() {
        steps.push(machine.step(Input::Line(line), 2 * SECOND));
    }
    steps
}

#[test]
fn a_recorded_life_is_observed_and_the_next_watch_begins_after_its_bookmark() {
    let mut machine = watching();
    let steps = replay(&mut machine, "watch-added-modified-deleted.jsonl");
    let seen: Vec<_> = steps
        .iter()
        .flat_map(|step| &step.observations)
        .map(|observation| match observation {
            Observation::Applied(object) => format!("applied {}", object.metadata.generation),
            Observation::Deleted(object) => format!("deleted {}", object.metadata.generation),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, ["applied 1", "applied 2", "applied 2", "deleted 2"]);
    let step = machine.step(Input::WatchEnded(End::InOrder), 100 * SECOND);
    assert!(watches_from(&step.action, "214"), "{:?}", step.action);
    assert!(step.restart.is_none());
}

#[test]
fn every_recorded_410_event_leads_to_a_new_list() {
    for name in [
        "watch-410-gone-as-event.jsonl",
        "watch-410-gone-after-restart-and-compaction.jsonl",
        "watch-410-gone-after-restart-though-nothing-was-missed.jsonl",
        "watch-410-gone-after-restart-without-compaction.jsonl",
    ] {
        let mut machine = watching();
        let steps = replay(&mut machine, name);
        assert!(steps[0].observations.is_empty(), "{name}: a 410 is no trouble to speak of");
        let action = after_wait(&mut machine, &steps[0], 3 * SECOND);
        assert!(lists(&action), "{name}: {action:?}");
    }
}

#[test]
fn recorded_refusals_of_a_watch_are_told_apart() {
    let cases = [
        ("watch-401-bad-token.http", FailureKind::Unauthorized, false),
        ("watch-403-forbidden.http", FailureKind::Forbidden, false),
        ("watch-404-crd-not-installed.http", FailureKind::NotServed, true),
        (
            "watch-422-sendInitialEvents-without-resourceVersionMatch.http",
            FailureKind::BadRequest,
            true,
        ),
        ("watch-429-too-many-requests.http", FailureKind::Unavailable, false),
        ("watch-500-resourceVersion-not-a-number.http", FailureKind::Unavailable, false),
        ("list-410-exact-resourceVersion-compacted.http", FailureKind::Expired, true),
        ("list-504-resourceVersion-in-the-future.http", FailureKind::VersionTooLarge, true),
    ];
    for (name, kind, relists) in cases {
        let recording = Recording::load(name);
        let status = ApiStatus::of_answer(
            recording.status,
            recording.retry_after(),
            &recording.body,
            &Secrets::default(),
        );
        let call = Call { verb: "watch", path: recording.path() };
        let failure = Failure::of_error(&KubeError::Refused { call, status: Box::new(status) });
        assert_eq!(failure.kind, kind, "{name}");
        let asked = failure.retry_after.unwrap_or_default();
        let mut machine = machine();
        machine.step(Input::PageListed(page("10", &[])), SECOND);
        let step = machine.step(Input::WatchRefused(failure), SECOND);
        assert!(matches!(step.action, Action::Wait(wait) if wait >= asked), "{name}");
        let action = after_wait(&mut machine, &step, 2 * SECOND);
        assert_eq!(lists(&action), relists, "{name}: {action:?}");
        assert_eq!(watches_from(&action, "10"), !relists, "{name}: {action:?}");
    }
}

#[test]
fn other_recorded_streams_leave_the_watch_open() {
    for (name, version) in [
        ("watch-finalizer-delete.jsonl", ""),
        ("watch-label-selector-enter-and-leave.jsonl", ""),
        ("watch-crd-deleted-while-watching.jsonl", ""),
        ("watch-sendInitialEvents.jsonl", "218"),
        ("watch-secret-modified-and-bookmark.jsonl", "247"),
    ] {
        let mut machine = watching();
        for step in replay(&mut machine, name) {
            assert_eq!((step.action, step.restart), (Action::Read, None), "{name}");
            assert!(step.ignored.is_empty(), "{name}: {:?}", step.ignored);
        }
        let step = machine.step(Input::WatchEnded(End::InOrder), 10 * SECOND);
        if !version.is_empty() {
            assert!(watches_from(&step.action, version), "{name}: {:?}", step.action);
        }
    }
}

#[test]
fn pages_are_gathered_and_the_watch_begins_at_the_version_of_the_first() {
    let mut machine = machine();
    let names = ["list-page-1-limit-1.http", "list-page-2-continue.http", "list-page-3-last.http"];
    let mut last = None;
    for name in names {
        let page = Page::read(&Recording::load(name).body).unwrap();
        last = Some((page.resource_version.clone(), machine.step(Input::PageListed(page), SECOND)));
    }
    let (version, step) = last.unwrap();
    assert!(watches_from(&step.action, &version));
    let [Observation::Replaced { objects, .. }] = step.observations.as_slice() else { panic!() };
    assert_eq!(objects.len(), 3);
}

#[test]
fn an_expired_continue_token_leads_to_one_list_without_pages() {
    let mut machine = machine();
    let mut first = page("10", &["a"]);
    first.continue_token = Some("token".to_owned());
    let step = machine.step(Input::PageListed(first), SECOND);
    assert!(matches!(step.action, Action::List { limit: Some(500), continue_token: Some(_) }));
    let step = machine.step(Input::ListFailed(failure(FailureKind::Expired)), SECOND);
    let action = after_wait(&mut machine, &step, SECOND);
    assert_eq!(action, Action::List { limit: None, continue_token: None });
    let step = machine.step(Input::PageListed(page("11", &["b"])), SECOND);
    let [.., Observation::Replaced { objects, .. }] = step.observations.as_slice() else {
        panic!()
    };
    assert_eq!(objects.len(), 1, "nothing is left of the list that was given up");
}

#[test]
fn a_page_that_is_too_large_is_asked_for_in_smaller_pages() {
    let mut machine = machine();
    let step = machine.step(Input::ListFailed(failure(FailureKind::AnswerTooLarge)), SECOND);
    let action = after_wait(&mut machine, &step, SECOND);
    assert_eq!(action, Action::List { limit: Some(50), continue_token: None });
}

#[test]
fn a_lost_connection_is_taken_up_from_the_last_version_without_a_list() {
    let mut machine = watching();
    let line = br#"{"type":"ADDED","object":{"metadata":{"name":"b","resourceVersion":"12"}}}"#;
    machine.step(Input::Line(line), 2 * SECOND);
    let step = machine.step(Input::WatchEnded(End::Cut("cut".to_owned())), 3 * SECOND);
    assert!(matches!(step.action, Action::Wait(wait) if wait <= Duration::from_millis(100)));
    assert!(step.observations.is_empty(), "one lost connection is no trouble to speak of");
    let action = after_wait(&mut machine, &step, 4 * SECOND);
    assert!(watches_from(&action, "12"), "{action:?}");
}

#[test]
fn a_watch_that_was_silent_too_long_leads_to_a_list() {
    let mut machine = watching();
    let step = machine.step(Input::WatchEnded(End::Silent), 151 * SECOND);
    assert_eq!(step.restart, Some(RestartReason::Silent));
    let action = after_wait(&mut machine, &step, 152 * SECOND);
    assert!(lists(&action), "{action:?}");
}

#[test]
fn watches_that_end_at_once_without_an_event_back_off_and_then_list() {
    let mut machine = watching();
    for round in 0..3 {
        let step = machine.step(Input::WatchEnded(End::InOrder), SECOND);
        assert_eq!(step.restart, Some(RestartReason::Short), "round {round}");
        let action = after_wait(&mut machine, &step, SECOND);
        assert_eq!(lists(&action), round == 2, "round {round}: {action:?}");
        machine.step(Input::WatchOpened, SECOND);
    }
}

#[test]
fn two_healthy_minutes_without_an_event_end_the_back_off() {
    // Eight failures take the limit of the next wait from a tenth of a second far up.
    let fail = |machine: &mut WatchMachine, now: Duration| {
        let step = machine.step(Input::WatchEnded(End::Cut("cut".to_owned())), now);
        let Action::Wait(wait) = step.action else { panic!("{:?}", step.action) };
        machine.step(Input::Waited, now);
        machine.step(Input::WatchOpened, now);
        wait
    };
    for (lasts, begins_anew) in [(119 * SECOND, false), (120 * SECOND, true)] {
        let waits: Vec<Duration> = (0..20)
            .map(|seed| {
                let rng = fastrand::Rng::with_seed(seed);
                let mut machine = WatchMachine::new(None, Timing::default(), rng);
                machine.step(Input::PageListed(page("10", &["a"])), SECOND);
                machine.step(Input::WatchOpened, SECOND);
                for second in 2..10 {
                    fail(&mut machine, second * SECOND);
                }
                fail(&mut machine, 9 * SECOND + lasts)
            })
            .collect();
        let longest = waits.iter().max().unwrap();
        assert_eq!(*longest <= Duration::from_millis(100), begins_anew, "{lasts:?}: {longest:?}");
    }
}

#[test]
fn lines_nobody_can_use_are_left_out_and_the_watch_goes_on() {
    let mut machine = watching();
    for line in [
        r#"{"type":"SURPRISE","object":{}}"#,
        r#"{"type":"ADDED","object":{"metadata":{"name":5}}}"#,
        r#"{"type":"MODIFIED","object":null}"#,
        r#"{"type":"DELETED"}"#,
        r#"{"type":"BOOKMARK","object":{}}"#,
        r#"{"type":"ADDED","object":{"metadata":{}}}"#,
    ] {
        let step = machine.step(Input::Line(line.as_bytes()), 2 * SECOND);
        assert_eq!((step.action, step.ignored.len()), (Action::Read, 1), "{line}");
        assert!(step.observations.is_empty(), "{line}");
    }
}

#[test]
fn a_torn_line_is_asked_for_again_from_the_version_before_it() {
    let mut machine = watching();
    for round in 0..3 {
        let line = br#"{"type":"ADDED","object":{"metadata":{"na"#;
        let step = machine.step(Input::Line(line), 2 * SECOND);
        let action = after_wait(&mut machine, &step, 2 * SECOND);
        // If it comes again and again, the list shows what the line held.
        assert_eq!(lists(&action), round == 2, "round {round}: {action:?}");
        machine.step(Input::WatchOpened, 2 * SECOND);
    }
}

#[test]
fn error_events_end_the_watch_and_keep_the_version_unless_it_expired() {
    for (code, reason, relists) in
        [(500, "InternalError", false), (403, "Forbidden", false), (410, "Gone", true)]
    {
        let mut machine = watching();
        let line = json!({"type": "ERROR", "object":
            {"kind": "Status", "code": code, "reason": reason, "message": "m"}});
        let step = machine.step(Input::Line(line.to_string().as_bytes()), 2 * SECOND);
        let action = after_wait(&mut machine, &step, 3 * SECOND);
        assert_eq!(lists(&action), relists, "{code}");
        let reason = if relists { RestartReason::Expired } else { RestartReason::ErrorEvent };
        assert_eq!(step.restart, Some(reason), "{code}");
    }
}

#[test]
fn a_missing_crd_is_said_once_and_its_end_too() {
    let mut machine = machine();
    let mut said = Vec::new();
    for _ in 0..20 {
        let step = machine.step(Input::ListFailed(failure(FailureKind::NotServed)), SECOND);
        said.extend(step.observations);
        machine.step(Input::Waited, SECOND);
    }
    assert!(
        matches!(said.as_slice(), [Observation::Trouble { kind: FailureKind::NotServed, .. }]),
        "{said:?}"
    );
    let step = machine.step(Input::PageListed(page("1", &[])), SECOND);
    assert!(matches!(
        step.observations.as_slice(),
        [Observation::Recovered, Observation::Replaced { .. }]
    ));
}

#[test]
fn a_watch_that_ends_in_order_after_a_long_silence_counts_as_silent() {
    let mut machine = watching();
    let step = machine.step(Input::WatchEnded(End::InOrder), 151 * SECOND);
    assert_eq!(step.restart, Some(RestartReason::Silent));
}

#[test]
fn trouble_is_said_again_when_its_kind_or_its_text_is_another() {
    let trouble = |kind, text: &str| Failure { kind, text: text.to_owned(), retry_after: None };
    let mut machine = machine();
    let said: Vec<usize> = [
        trouble(FailureKind::Unavailable, "down"),
        trouble(FailureKind::Unavailable, "down"),
        trouble(FailureKind::Unavailable, "still down"),
        trouble(FailureKind::NotServed, "still down"),
    ]
    .into_iter()
    .map(|failure| {
        let step = machine.step(Input::ListFailed(failure), SECOND);
        machine.step(Input::Waited, SECOND);
        step.observations.len()
    })
    .collect();
    assert_eq!(said, [1, 0, 1, 1]);
}

#[test]
fn reasons_to_begin_anew_are_told_apart_in_metrics() {
    let labels = [
        (RestartReason::Expired, "expired"),
        (RestartReason::Refused, "refused"),
        (RestartReason::ListFailed, "list_failed"),
        (RestartReason::ErrorEvent, "error_event"),
        (RestartReason::Garbled, "garbled"),
        (RestartReason::Cut, "cut"),
        (RestartReason::Silent, "silent"),
        (RestartReason::Short, "short"),
    ];
    for (reason, label) in labels {
        assert_eq!(reason.label(), label);
    }
}

#[test]
fn retry_after_is_obeyed_and_an_absurd_one_is_not() {
    for (asked, at_least, at_most) in [(7, 7, 7), (1_000_000, 120, 120)] {
        let mut machine = machine();
        let mut failure = failure(FailureKind::Unavailable);
        failure.retry_after = Some(Duration::from_secs(asked));
        let step = machine.step(Input::ListFailed(failure), SECOND);
        let Action::Wait(wait) = step.action else { panic!("{:?}", step.action) };
        assert!((at_least..=at_most).contains(&wait.as_secs()), "{wait:?}");
    }
}

#[test]
fn servers_that_always_refuse_are_not_asked_in_a_hot_loop() {
    // Each case answers every list, and fails every watch in its own way.
    for name in ["expired", "short", "refused", "garbled"] {
        let mut machine = machine();
        let (mut now, mut asked) = (Duration::ZERO, 0);
        let mut action = machine.first_action();
        while now < Duration::from_secs(3600) {
            let input = match &action {
                Action::Wait(wait) => {
                    now += *wait;
                    Input::Waited
                }
                Action::List { .. } => Input::PageListed(page("10", &["a"])),
                Action::Watch { .. } if name == "expired" => {
                    Input::WatchRefused(failure(FailureKind::Expired))
                }
                Action::Watch { .. } if name == "refused" => {
                    Input::WatchRefused(failure(FailureKind::Unavailable))
                }
                Action::Watch { .. } => Input::WatchOpened,
                Action::Read if name == "garbled" => Input::Line(b"{"),
                Action::Read => Input::WatchEnded(End::InOrder),
            };
            asked += usize::from(!matches!(action, Action::Wait(_) | Action::Read));
            action = machine.step(input, now).action;
        }
        // Half of 30 s on average between two, and two calls each.
        assert!(asked < 700, "{name}: {asked} calls in an hour");
    }
}

#[test]
fn after_a_restart_of_the_server_lists_come_spread_over_a_second() {
    let mut waits = Vec::new();
    for seed in 0..200 {
        let rng = fastrand::Rng::with_seed(seed);
        let mut machine = WatchMachine::new(None, Timing::default(), rng);
        machine.step(Input::PageListed(page("10", &[])), SECOND);
        let step = machine.step(Input::WatchRefused(failure(FailureKind::Expired)), SECOND);
        let Action::Wait(wait) = step.action else { panic!() };
        waits.push(wait.as_millis() / 100);
    }
    for tenth in 0..10 {
        let count = waits.iter().filter(|wait| **wait == tenth).count();
        assert!((5..=40).contains(&count), "{count} of 200 in tenth {tenth}");
    }
}

/// An API server of one kind, with all that goes wrong with one.
struct Server {
    rng: fastrand::Rng,
    version: u64,
    next_uid: u64,
    /// Name to uid and version.
    objects: BTreeMap<String, (u64, u64)>,
    /// All events, with their versions.
    events: Vec<(u64, String)>,
    /// The collection at each version, for lists at an older one and for pages.
    snapshots: BTreeMap<u64, BTreeMap<String, (u64, u64)>>,
    /// Versions before this are forgotten.
    oldest: u64,
    faulty: bool,
    /// The open watch: the version it has come to, and lines on their way.
    watch: Option<(u64, VecDeque<String>)>,
}

impl Server {
    fn new(seed: u64) -> Server {
        Server {
            rng: fastrand::Rng::with_seed(seed),
            version: 100,
            next_uid: 0,
            objects: BTreeMap::new(),
            events: Vec::new(),
            snapshots: BTreeMap::from([(100, BTreeMap::new())]),
            oldest: 100,
            faulty: true,
            watch: None,
        }
    }

    fn json(name: &str, uid: u64, version: u64) -> serde_json::Value {
        json!({"metadata": {"name": name, "uid": uid.to_string(),
                            "resourceVersion": version.to_string()}})
    }

    fn change(&mut self) {
        self.version += self.rng.u64(1..4);
        let name = format!("object-{}", self.rng.u32(0..8));
        let kind = match self.objects.get(&name).copied() {
            Some((uid, _)) if self.rng.u32(0..3) == 0 => {
                self.objects.remove(&name);
                self.events.push((
                    self.version,
                    json!({"type": "DELETED", "object": Server::json(&name, uid, self.version)})
                        .to_string(),
                ));
                None
            }
            Some((uid, _)) => Some(("MODIFIED", uid)),
            None => {
                self.next_uid += 1;
                Some(("ADDED", self.next_uid))
            }
        };
        if let Some((kind, uid)) = kind {
            self.objects.insert(name.clone(), (uid, self.version));
            let object = Server::json(&name, uid, self.version);
            self.events.push((self.version, json!({"type": kind, "object": object}).to_string()));
        }
        self.snapshots.insert(self.version, self.objects.clone());
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.faulty && self.rng.u32(0..count) == 0
    }

    fn list(&mut self, limit: Option<u32>, token: Option<&str>) -> Input<'static> {
        if self.one_in(6) {
            let kinds = [
                FailureKind::Unavailable,
                FailureKind::Unauthorized,
                FailureKind::AnswerTooLarge,
                FailureKind::NotServed,
            ];
            return Input::ListFailed(failure(kinds[self.rng.usize(0..kinds.len())]));
        }
        let (at, offset) = match token {
            Some(token) => {
                let (at, offset) = token.split_once(':').unwrap();
                (at.parse().unwrap(), offset.parse().unwrap())
            }
            // A list that an API server which lags behind answers.
            None if self.one_in(3) => {
                let known: Vec<u64> =
                    self.snapshots.range(self.oldest..).map(|(version, _)| *version).collect();
                (known[self.rng.usize(0..known.len())], 0)
            }
            None => (self.version, 0),
        };
        let (at, offset): (u64, usize) = (at, offset);
        if at < self.oldest {
            return Input::ListFailed(failure(FailureKind::Expired));
        }
        let (_, snapshot) = self.snapshots.range(..=at).next_back().unwrap();
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        let page = snapshot.iter().skip(offset).take(limit);
        let objects: Vec<_> = page
            .map(|(name, (uid, version))| object(name, &uid.to_string(), &version.to_string()))
            .collect();
        let read = offset + objects.len();
        let continue_token = (read < snapshot.len()).then(|| format!("{at}:{read}"));
        let resource_version = at.to_string();
        Input::PageListed(Page { objects, resource_version, continue_token, ..Page::default() })
    }

    fn open(&mut self, version: &str) -> Input<'static> {
        let version: u64 = version.parse().unwrap();
        if self.one_in(8) {
            let kinds = [FailureKind::Unavailable, FailureKind::Forbidden, FailureKind::BadRequest];
            return Input::WatchRefused(failure(kinds[self.rng.usize(0..kinds.len())]));
        }
        if version < self.oldest && self.rng.bool() {
            return Input::WatchRefused(failure(FailureKind::Expired));
        }
        self.watch = Some((version, VecDeque::new()));
        Input::WatchOpened
    }

    /// A line or an end; `line` holds the bytes. None when there is nothing to come for now.
    fn read<'a>(&mut self, now: &mut Duration, line: &'a mut String) -> Option<Input<'a>> {
        let (at, mut queue) = self.watch.take().unwrap();
        if at < self.oldest {
            *line = r#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#.to_owned();
            return Some(Input::Line(line.as_bytes()));
        }
        if self.one_in(12) {
            return Some(Input::WatchEnded(match self.rng.u32(0..5) {
                0 => End::InOrder,
                1 => End::LineTooLong("long".to_owned()),
                2 => {
                    *now += Timing::default().silence_limit;
                    End::Silent
                }
                _ => End::Cut("cut".to_owned()),
            }));
        }
        if self.one_in(15) {
            let odd = [
                "{\"type\":\"ADDED\",\"object\":{\"metad",
                "\u{fffd}",
                r#"{"type":"NEWS","object":{"metadata":{"name":"object-1"}}}"#,
                r#"{"type":"ERROR","object":{"kind":"Status","code":500}}"#,
                r#"{"type":"MODIFIED","object":{"metadata":{"name":"","resourceVersion":"1"}}}"#,
            ];
            *line = odd[self.rng.usize(0..odd.len())].to_owned();
            self.watch = Some((at, queue));
            return Some(Input::Line(line.as_bytes()));
        }
        if queue.is_empty() {
            let next = self.events.iter().find(|(version, _)| *version > at).cloned();
            let Some((version, event)) = next else {
                let bookmark = self.one_in(4).then(|| {
                    let metadata = json!({"resourceVersion": self.version.to_string()});
                    json!({"type": "BOOKMARK", "object": {"metadata": metadata}}).to_string()
                });
                let at = if bookmark.is_some() { self.version } else { at };
                self.watch = Some((at, queue));
                *line = bookmark?;
                return Some(Input::Line(line.as_bytes()));
            };
            queue.push_back(event.clone());
            if self.one_in(4) {
                queue.push_back(event);
            }
            self.watch = Some((version, queue));
        } else {
            self.watch = Some((at, queue));
        }
        let (_, queue) = self.watch.as_mut().unwrap();
        *line = queue.pop_front().unwrap();
        Some(Input::Line(line.as_bytes()))
    }
}

/// What the observations alone tell of the objects.
#[derive(Default)]
struct View(BTreeMap<String, (u64, u64)>);

impl View {
    fn entry(object: &RawObject) -> (String, (u64, u64)) {
        let metadata = &object.metadata;
        let uid = metadata.uid.parse().unwrap();
        (metadata.name.clone(), (uid, metadata.resource_version.parse().unwrap()))
    }

    fn take(&mut self, observation: &Observation) {
        match observation {
            Observation::Replaced { objects, .. } => {
                self.0 = objects.iter().map(View::entry).collect();
            }
            Observation::Applied(object) => self.0.extend([View::entry(object)]),
            Observation::Deleted(object) => {
                let (name, (uid, _)) = View::entry(object);
                if self.0.get(&name).is_some_and(|(known, _)| *known == uid) {
                    self.0.remove(&name);
                }
            }
            Observation::Trouble { .. } | Observation::Recovered => {}
        }
    }
}

fn random_faults(seed: u64) {
    let mut server = Server::new(seed);
    let timing = Timing { page_size: 3, ..Timing::default() };
    let rng = fastrand::Rng::with_seed(seed ^ 1);
    let mut machine = WatchMachine::new(None, timing, rng);
    let mut view = View::default();
    let mut now = Duration::ZERO;
    let mut action = machine.first_action();
    let mut quiet_since = None;
    for step in 0..20_000 {
        if step < 3_000 {
            if server.rng.u32(0..3) == 0 {
                server.change();
            }
            if server.rng.u32(0..200) == 0 {
                // Compaction, or a restart: whatever was before is forgotten.
                server.oldest = server.version;
            }
        } else if server.faulty {
            server.faulty = false;
            quiet_since = Some(now);
        }
        let mut line = String::new();
        let input = match &action {
            Action::Wait(wait) => {
                server.watch = None;
                now += *wait;
                Input::Waited
            }
            Action::List { limit, continue_token } => {
                server.list(*limit, continue_token.as_deref())
            }
            Action::Watch { version, .. } => server.open(version),
            Action::Read => {
                now += Duration::from_millis(10);
                match server.read(&mut now, &mut line) {
                    Some(input) => input,
                    None if !server.faulty => {
                        assert_eq!(view.0, server.objects, "seed {seed}: the view is wrong");
                        let took = now - quiet_since.unwrap();
                        let most = Timing::default().backoff_most + 2 * SECOND;
                        assert!(took < most, "seed {seed}: took {took:?} to come to rest");
                        return;
                    }
                    None => continue,
                }
            }
        };
        let result = machine.step(input, now);
        for observation in &result.observations {
            view.take(observation);
        }
        action = result.action;
    }
    panic!("seed {seed}: never came to rest");
}

#[test]
fn after_any_faults_the_view_equals_the_servers() {
    let seeds = std::env::var("WATCH_SEED").ok().map_or(0..100, |seed| {
        let seed = seed.parse().unwrap();
        seed..seed + 1
    });
    for seed in seeds {
        random_faults(seed);
    }
}

#[test]
fn version_0_is_nothing_to_watch_from() {
    for version in ["", "0"] {
        let mut machine = machine();
        let step = machine.step(Input::PageListed(page(version, &["a"])), SECOND);
        assert!(step.observations.iter().all(|seen| matches!(seen, Observation::Trouble { .. })));
        let action = after_wait(&mut machine, &step, 2 * SECOND);
        assert!(lists(&action), "{version:?}: {action:?}");

        let mut machine = watching();
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "OpenstackConfig",
            "metadata": {"resourceVersion": version}}});
        machine.step(Input::Line(bookmark.to_string().as_bytes()), 2 * SECOND);
        let step = machine.step(Input::WatchEnded(End::InOrder), 100 * SECOND);
        assert!(watches_from(&step.action, "10"), "{version:?}: {:?}", step.action);
    }
}

/// Seconds from one list to the next while a watch brings a bookmark each minute and, if the server
/// ends it at all, ends in order after five.
fn seconds_to_the_next_list(seed: u64, ends: bool) -> u64 {
    let rng = fastrand::Rng::with_seed(seed);
    let mut machine = WatchMachine::new(None, Timing::default(), rng);
    let mut action = machine.step(Input::PageListed(page("10", &["a"])), SECOND).action;
    for second in 1..7200 {
        let now = u32::try_from(second).unwrap() * SECOND;
        let bookmark = json!({"type": "BOOKMARK",
            "object": {"metadata": {"resourceVersion": (10 + second).to_string()}}})
        .to_string();
        let input = match action {
            Action::Watch { .. } => Input::WatchOpened,
            Action::Read if ends && second % 300 == 0 => Input::WatchEnded(End::InOrder),
            Action::Read if second % 60 == 0 => Input::Line(bookmark.as_bytes()),
            Action::Read => continue,
            Action::List { continue_token: None, .. } => return second,
            other => panic!("{other:?}"),
        };
        let step = machine.step(input, now);
        assert_eq!((step.restart, step.observations.len()), (None, 0), "it is no trouble");
        action = step.action;
    }
    panic!("no list in two hours")
}

#[test]
fn each_half_hour_or_so_everything_is_listed_again() {
    for ends in [true, false] {
        let seconds: Vec<u64> = (0..50).map(|seed| seconds_to_the_next_list(seed, ends)).collect();
        let (soonest, latest) = (seconds.iter().min().unwrap(), seconds.iter().max().unwrap());
        // 27 to 33 minutes, and up to a minute until something comes on the watch.
        assert!(*soonest >= 27 * 60 && *latest <= 34 * 60 + 1, "{soonest} to {latest}");
        assert!(latest - soonest > 180, "many replicas and namespaces don't list together");
    }
}

#[test]
fn what_a_restored_etcd_has_and_the_watch_never_tells_comes_with_the_next_list() {
    let mut machine = watching();
    // The watch goes on from a version that the restored server knows nothing of.
    for minute in 1..27 {
        let version = (100 + minute).to_string();
        let bookmark =
            json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}});
        let step = machine.step(Input::Line(bookmark.to_string().as_bytes()), minute * 60 * SECOND);
        assert_eq!(step.action, Action::Read, "minute {minute}");
    }
    let line = br#"{"type":"ADDED","object":{"metadata":{"name":"b","resourceVersion":"200"}}}"#;
    let step = machine.step(Input::Line(line), 2000 * SECOND);
    assert!(matches!(step.observations[..], [Observation::Applied(_)]), "the line isn't lost");
    assert!(lists(&step.action), "{:?}", step.action);
    // A list that fails is tried again, and only then the watch goes on.
    let step = machine.step(Input::ListFailed(failure(FailureKind::Unavailable)), 2001 * SECOND);
    let action = after_wait(&mut machine, &step, 2002 * SECOND);
    assert!(lists(&action), "{action:?}");
    let step = machine.step(Input::PageListed(page("50", &["a", "b", "restored"])), 2003 * SECOND);
    let [.., Observation::Replaced { objects, .. }] = step.observations.as_slice() else {
        panic!("{:?}", step.observations)
    };
    assert_eq!(objects.len(), 3);
    assert!(watches_from(&step.action, "50"), "{:?}", step.action);
}
