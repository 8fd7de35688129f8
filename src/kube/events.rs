//! Events (`events.k8s.io/v1`) without a flood: equal ones are counted in one, and each object has
//! an allowance.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::client::KubeClient;
use super::error::KubeError;
use super::objects::ObjectReference;
use super::resource::Resource;
use crate::clock::{Now, to_micro_text};
use crate::threads::lock;

/// How many Events one object may have at once; client-go's spam filter has the same numbers.
const BURST: f64 = 25.0;
/// The last of these are kept for warnings.
const WARNINGS: f64 = 5.0;
/// One more becomes possible each five minutes.
const REFILL: Duration = Duration::from_secs(300);
/// The API server forgets an Event after an hour (its default), and a series ends with it.
const SERIES_LIMIT: Duration = Duration::from_secs(3600);
/// Limits of the API server's validation, in bytes.
const NOTE_LIMIT: usize = 1024;
const REASON_LIMIT: usize = 128;
/// An Event's name must be a DNS subdomain, which has 253 bytes.
const NAME_LIMIT: usize = 230;
const REPORTER: &str = "multinic-operator";

/// What an Event says of its object; equal ones are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventText {
    is_warning: bool,
    reason: String,
    note: String,
}

struct Series {
    name: String,
    first: Timestamp,
    last: Now,
    count: u32,
    is_created: bool,
}

/// The Events of one object in the last hour.
struct Recent {
    allowance: f64,
    refilled_at: Duration,
    series: BTreeMap<EventText, Series>,
}

/// The Events of late.
pub struct Events {
    /// `reportingInstance`: the pod's name.
    instance: String,
    recent: BTreeMap<ObjectReference, Recent>,
    rng: fastrand::Rng,
}

impl EventText {
    /// Reason and note are cut where they are too long.
    pub fn new(is_warning: bool, reason: &str, note: &str) -> EventText {
        let reason = cut(reason, REASON_LIMIT).to_owned();
        let note = match cut(note, NOTE_LIMIT) {
            whole if whole.len() == note.len() => whole.to_owned(),
            _ => format!("{}...", cut(note, NOTE_LIMIT - 3)),
        };
        EventText { is_warning, reason, note }
    }
}

impl Events {
    /// None yet.
    pub fn new(instance: String, rng: fastrand::Rng) -> Events {
        Events { instance, recent: BTreeMap::new(), rng }
    }

    /// Counts an Event; says whether it may be written now. Where it may not, the next one of the
    /// series has the count.
    pub fn count(&mut self, object: &ObjectReference, text: &EventText, now: Now) -> bool {
        let full = || Recent { allowance: BURST, refilled_at: now.uptime, series: BTreeMap::new() };
        let recent = self.recent.entry(object.clone()).or_insert_with(full);
        let elapsed = now.uptime.saturating_sub(recent.refilled_at);
        let refilled = recent.allowance + elapsed.as_secs_f64() / REFILL.as_secs_f64();
        recent.allowance = refilled.min(BURST);
        recent.refilled_at = now.uptime;
        let kept = if text.is_warning { 0.0 } else { WARNINGS };
        let is_allowed = recent.allowance >= kept + 1.0;
        if is_allowed {
            recent.allowance -= 1.0;
        }
        recent
            .series
            .retain(|_, series| now.uptime.saturating_sub(series.last.uptime) < SERIES_LIMIT);
        if let Some(series) = recent.series.get_mut(text) {
            series.count = series.count.saturating_add(1);
            series.last = now;
        } else if is_allowed {
            let name = new_name(&object.name, &mut self.rng);
            let series = Series { name, first: now.wall, last: now, count: 1, is_created: false };
            recent.series.insert(text.clone(), series);
        }
        is_allowed
    }

    /// The body of an Event that was counted, and its name if the API server has it already; none if
    /// it was forgotten.
    pub fn body(
        &self,
        object: &ObjectReference,
        text: &EventText,
    ) -> Option<(Option<String>, Value)> {
        let series = self.recent.get(object)?.series.get(text)?;
        let repeated = json!({
            "count": series.count,
            "lastObservedTime": to_micro_text(series.last.wall),
        });
        if series.is_created {
            return Some((Some(series.name.clone()), json!({ "series": repeated })));
        }
        let ObjectReference { resource, namespace, name, uid } = object;
        Some((
            None,
            json!({
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": { "name": series.name, "namespace": namespace },
                "eventTime": to_micro_text(series.first),
                "reportingController": REPORTER,
                "reportingInstance": cut(&self.instance, REASON_LIMIT),
                "action": "Sync",
                "reason": text.reason,
                "note": text.note,
                "type": if text.is_warning { "Warning" } else { "Normal" },
                "regarding": {
                    "apiVersion": resource.api_version(),
                    "kind": resource.kind,
                    "namespace": namespace,
                    "name": name,
                    "uid": uid,
                },
                "series": Some(repeated).filter(|_| series.count > 1),
            }),
        ))
    }

    /// The API server has the Event, or has forgotten it, so that the next one is a new one.
    pub fn written(&mut self, object: &ObjectReference, text: &EventText, is_there: bool) {
        let Some(recent) = self.recent.get_mut(object) else { return };
        match recent.series.get_mut(text) {
            Some(series) if is_there => series.is_created = true,
            _ => drop(recent.series.remove(text)),
        }
    }

    /// Forgets the Events of an object.
    pub fn forget(&mut self, object: &ObjectReference) {
        self.recent.remove(object);
    }
}

/// Writes an Event that was counted.
pub(crate) fn write(
    client: &KubeClient,
    events: &Mutex<Events>,
    object: &ObjectReference,
    text: &EventText,
) -> Result<(), KubeError> {
    let Some((name, body)) = lock(events).body(object, text) else { return Ok(()) };
    let namespace = &object.namespace;
    let written = match name {
        None => client.create::<IgnoredAny>(&Resource::EVENTS.collection(Some(namespace)), &body),
        Some(name) => client.merge::<IgnoredAny>(&Resource::EVENTS.object(namespace, &name), &body),
    };
    let is_there = match written {
        Ok(_) => true,
        // It reached the server before its answer was lost.
        Err(error) if error.status().is_already_exists() => true,
        Err(error) if error.status().is_not_found() => false,
        Err(error) => return Err(error),
    };
    lock(events).written(object, text, is_there);
    Ok(())
}

fn new_name(regarding: &str, rng: &mut fastrand::Rng) -> String {
    // A part of a name can't end with a dot or a dash, which a cut may leave.
    let stem = cut(regarding, NAME_LIMIT).trim_end_matches(['.', '-']);
    format!("{stem}.{:016x}", rng.u64(..))
}

fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::{EventText, Events};
    use crate::clock::Now;
    use crate::kube::objects::ObjectReference;
    use crate::kube::resource::Resource;
    use std::time::Duration;

    fn events() -> (Events, Now) {
        let wall = "2026-01-02T03:04:05.5Z".parse().unwrap();
        let now = Now { uptime: Duration::from_secs(1), wall };
        (Events::new("pod-a".to_owned(), fastrand::Rng::with_seed(1)), now)
    }

    fn object() -> ObjectReference {
        ObjectReference {
            resource: Resource::SECRETS,
            namespace: "default".to_owned(),
            name: "a".to_owned(),
            uid: "u1".to_owned(),
        }
    }

    fn text(note: &str) -> EventText {
        EventText::new(true, "NovaError", note)
    }

    #[test]
    fn an_event_has_what_the_api_demands() {
        let (mut events, now) = events();
        assert!(events.count(&object(), &text("no answer"), now));
        let Some((None, event)) = events.body(&object(), &text("no answer")) else { panic!() };
        assert_eq!(event["eventTime"], "2026-01-02T03:04:05.500000Z");
        assert_eq!(event["regarding"]["uid"], "u1");
        for field in ["reportingController", "reportingInstance", "action", "reason", "type"] {
            assert!(event[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
        }
        assert!(event["series"].is_null());
    }

    #[test]
    fn an_equal_event_is_counted_and_after_an_hour_it_is_a_new_one() {
        let (mut events, now) = events();
        events.count(&object(), &text("x"), now);
        events.written(&object(), &text("x"), true);
        events.count(&object(), &text("x"), now.after(Duration::from_secs(3599)));
        let Some((Some(_), patch)) = events.body(&object(), &text("x")) else { panic!() };
        assert_eq!(patch["series"]["count"], 2);
        assert_eq!(patch["series"]["lastObservedTime"], "2026-01-02T04:04:04.500000Z");
        events.count(&object(), &text("x"), now.after(Duration::from_secs(7199)));
        assert!(matches!(events.body(&object(), &text("x")), Some((None, _))));
    }

    #[test]
    fn an_event_that_the_server_has_forgotten_begins_a_new_series() {
        let (mut events, now) = events();
        events.count(&object(), &text("x"), now);
        events.count(&object(), &text("x"), now);
        let Some((None, event)) = events.body(&object(), &text("x")) else { panic!() };
        assert_eq!(event["series"]["count"], 2);
        events.written(&object(), &text("x"), true);
        events.count(&object(), &text("x"), now);
        events.written(&object(), &text("x"), false);
        assert_eq!(events.body(&object(), &text("x")), None);
        events.count(&object(), &text("x"), now);
        let Some((None, event)) = events.body(&object(), &text("x")) else { panic!() };
        assert!(event["series"].is_null(), "{event}");
    }

    #[test]
    fn an_object_may_have_25_events_at_once_and_one_more_each_five_minutes() {
        let (mut events, now) = events();
        let sent = (0..100).filter(|n| events.count(&object(), &text(&n.to_string()), now)).count();
        assert_eq!(sent, 25);
        let later = now.after(Duration::from_secs(300));
        assert!(events.count(&object(), &text("a"), later));
        assert!(!events.count(&object(), &text("b"), later));
        assert_eq!(events.body(&object(), &text("b")), None, "what isn't allowed isn't kept");
    }

    #[test]
    fn an_event_above_the_allowance_is_in_the_count_of_the_next() {
        let (mut events, now) = events();
        let allowed = (0..30).filter(|_| events.count(&object(), &text("x"), now)).count();
        assert_eq!(allowed, 25);
        let Some((None, event)) = events.body(&object(), &text("x")) else { panic!() };
        assert_eq!(event["series"]["count"], 30);
    }

    #[test]
    fn events_that_are_no_warning_leave_some_for_warnings() {
        let (mut events, now) = events();
        let normal = EventText::new(false, "NodesSent", "1 node");
        let allowed = (0..50).filter(|_| events.count(&object(), &normal, now)).count();
        assert_eq!(allowed, 20);
        let warned = (0..50).filter(|_| events.count(&object(), &text("x"), now)).count();
        assert_eq!(warned, 5);
        let Some((None, event)) = events.body(&object(), &normal) else { panic!() };
        assert_eq!(event["series"]["count"], 50);
    }

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let cut = text(&"ä".repeat(2000)).note;
        assert!(cut.len() <= 1024 && cut.ends_with("..."), "{}", cut.len());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_goes_with_the_object() {
        let (mut events, now) = events();
        for number in 0..30_000_u64 {
            let now = now.after(Duration::from_secs(number));
            events.count(&object(), &text(&number.to_string()), now);
        }
        let kept = events.recent[&object()].series.len();
        assert!((10..40).contains(&kept), "{kept}");
        events.forget(&object());
        assert!(events.recent.is_empty());
    }
}
