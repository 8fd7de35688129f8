//! Events (`events.k8s.io/v1`) without a flood: equal ones are counted in one, and each object has
//! an allowance.
//!
//! Pure: it remembers what was said, and builds what is to be sent.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::{Now, to_micro_text};
use crate::kube::objects::ObjectReference;

/// How many events one object may have at once; client-go's spam filter has the same numbers.
const BURST: f64 = 25.0;
/// One more event becomes possible each five minutes.
const REFILL: Duration = Duration::from_secs(300);
/// The API server forgets an event after an hour (its default), so a series ends with it.
const SERIES_LIMIT: Duration = Duration::from_secs(3600);
/// Above so many the ones that were silent longest are forgotten, and begin a new series.
const REMEMBERED: usize = 1000;
/// Limits of the API server's validation, in bytes.
const NOTE_LIMIT: usize = 1024;
const REASON_LIMIT: usize = 128;
/// An event's name must be a DNS subdomain, which has 253 bytes.
const NAME_LIMIT: usize = 230;

/// Does an event tell of trouble?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventKind {
    fn text(self) -> &'static str {
        match self {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        }
    }
}

/// Who reports events.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// `reportingController`.
    pub controller: &'static str,
    /// `reportingInstance`: the pod's name.
    pub instance: String,
    /// `action`: what we were doing, which the API demands.
    pub action: &'static str,
}

/// What makes two events one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    pub(super) regarding: ObjectReference,
    kind: EventKind,
    reason: String,
    note: String,
}

/// What to send.
#[derive(Clone, Debug, PartialEq)]
pub enum EventWrite {
    /// A new event.
    Create(Value),
    /// One more of a known event.
    Repeat {
        /// Its name.
        name: String,
        /// A merge patch.
        patch: Value,
    },
}

struct Series {
    name: String,
    first: Timestamp,
    last: Now,
    count: u32,
    is_created: bool,
}

struct Allowance {
    tokens: f64,
    at: Duration,
}

/// What was said of late.
pub(super) struct Events {
    reporter: Reporter,
    series: BTreeMap<EventKey, Series>,
    allowances: BTreeMap<String, Allowance>,
}

impl EventKey {
    pub(super) fn new(
        regarding: ObjectReference,
        kind: EventKind,
        reason: &str,
        note: &str,
    ) -> EventKey {
        let reason = cut(reason, REASON_LIMIT).to_owned();
        let note = match cut(note, NOTE_LIMIT) {
            whole if whole.len() == note.len() => whole.to_owned(),
            _ => format!("{}...", cut(note, NOTE_LIMIT - 3)),
        };
        EventKey { regarding, kind, reason, note }
    }
}

impl Events {
    pub(super) fn new(reporter: Reporter) -> Events {
        Events { reporter, series: BTreeMap::new(), allowances: BTreeMap::new() }
    }

    /// Counts an event; says whether it may be sent now. What may not is in the count of the next.
    pub(super) fn count(&mut self, key: &EventKey, now: Now, rng: &mut fastrand::Rng) -> bool {
        let current = self
            .series
            .get_mut(key)
            .filter(|series| now.uptime.saturating_sub(series.last.uptime) < SERIES_LIMIT);
        match current {
            Some(series) => {
                series.count = series.count.saturating_add(1);
                series.last = now;
            }
            None => {
                let name = new_name(&key.regarding.name, rng);
                let series =
                    Series { name, first: now.wall, last: now, count: 1, is_created: false };
                self.series.insert(key.clone(), series);
            }
        }
        self.forget_oldest();
        self.allow(&key.regarding.uid, now.uptime)
    }

    /// What to send for a counted event.
    pub(super) fn write(&self, key: &EventKey) -> Option<EventWrite> {
        let series = self.series.get(key)?;
        let repeated = json!({
            "count": series.count,
            "lastObservedTime": to_micro_text(series.last.wall),
        });
        if series.is_created {
            let patch = json!({ "series": repeated });
            return Some(EventWrite::Repeat { name: series.name.clone(), patch });
        }
        let ObjectReference { resource, namespace, name, uid } = &key.regarding;
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": series.name, "namespace": namespace_of(namespace) },
            "eventTime": to_micro_text(series.first),
            "reportingController": self.reporter.controller,
            "reportingInstance": cut(&self.reporter.instance, REASON_LIMIT),
            "action": self.reporter.action,
            "reason": key.reason,
            "note": key.note,
            "type": key.kind.text(),
            "regarding": {
                "apiVersion": resource.api_version(),
                "kind": resource.kind,
                "namespace": namespace,
                "name": name,
                "uid": uid,
            },
        });
        if series.count > 1 {
            event["series"] = repeated;
        }
        Some(EventWrite::Create(event))
    }

    /// The event is known to the server.
    pub(super) fn created(&mut self, key: &EventKey) {
        if let Some(series) = self.series.get_mut(key) {
            series.is_created = true;
        }
    }

    /// The server has forgotten the event, or refused it: the next one is a new one.
    pub(super) fn forgotten(&mut self, key: &EventKey) {
        self.series.remove(key);
    }

    /// Forgets all that was said of an object.
    pub(super) fn forget(&mut self, object: &ObjectReference) {
        self.series.retain(|key, _| key.regarding != *object);
        self.allowances.remove(&object.uid);
    }

    fn allow(&mut self, uid: &str, uptime: Duration) -> bool {
        if self.allowances.len() >= REMEMBERED && !self.allowances.contains_key(uid) {
            // Whoever was silent for so long has the whole allowance back anyway.
            self.allowances
                .retain(|_, known| uptime.saturating_sub(known.at) < REFILL.mul_f64(BURST));
            if self.allowances.len() >= REMEMBERED {
                return false;
            }
        }
        let known = self
            .allowances
            .entry(uid.to_owned())
            .or_insert(Allowance { tokens: BURST, at: uptime });
        let elapsed = uptime.saturating_sub(known.at);
        known.tokens = (known.tokens + elapsed.as_secs_f64() / REFILL.as_secs_f64()).min(BURST);
        known.at = uptime;
        if known.tokens < 1.0 {
            return false;
        }
        known.tokens -= 1.0;
        true
    }

    fn forget_oldest(&mut self) {
        if self.series.len() <= REMEMBERED {
            return;
        }
        let oldest = self.series.iter().min_by_key(|(_, series)| series.last.uptime);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.series.remove(&key);
        }
    }
}

/// Events about objects of the cluster live in the namespace `default`.
pub(super) fn namespace_of(regarding: &str) -> &str {
    if regarding.is_empty() { "default" } else { regarding }
}

fn new_name(regarding: &str, rng: &mut fastrand::Rng) -> String {
    // A cut may leave a dot or a dash at the end, which a name part can't have.
    let stem = cut(regarding, NAME_LIMIT).trim_end_matches(['.', '-']);
    format!("{stem}.{:016x}", rng.u64(..))
}

fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::{EventKey, EventKind, EventWrite, Events, Reporter};
    use crate::clock::Now;
    use crate::kube::objects::ObjectReference;
    use crate::kube::resource::Resource;
    use std::time::Duration;

    fn events() -> (Events, fastrand::Rng, Now) {
        let reporter = Reporter {
            controller: "multinic-operator",
            instance: "pod-a".to_owned(),
            action: "Sync",
        };
        let wall = "2026-01-02T03:04:05.5Z".parse().unwrap();
        let now = Now { uptime: Duration::from_secs(1), wall };
        (Events::new(reporter), fastrand::Rng::with_seed(1), now)
    }

    fn key(note: &str) -> EventKey {
        let regarding = ObjectReference {
            resource: Resource::SECRETS,
            namespace: "default".to_owned(),
            name: "a".to_owned(),
            uid: "u1".to_owned(),
        };
        EventKey::new(regarding, EventKind::Warning, "NovaError", note)
    }

    #[test]
    fn an_event_has_what_the_api_demands() {
        let (mut events, mut rng, now) = events();
        assert!(events.count(&key("no answer"), now, &mut rng));
        let Some(EventWrite::Create(event)) = events.write(&key("no answer")) else { panic!() };
        assert_eq!(event["eventTime"], "2026-01-02T03:04:05.500000Z");
        assert_eq!(event["regarding"]["uid"], "u1");
        for field in ["reportingController", "reportingInstance", "action", "reason", "type"] {
            assert!(event[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
        }
        assert!(event.get("series").is_none());
    }

    #[test]
    fn an_equal_event_is_counted_and_after_an_hour_it_is_a_new_one() {
        let (mut events, mut rng, now) = events();
        events.count(&key("x"), now, &mut rng);
        events.created(&key("x"));
        events.count(&key("x"), now.after(Duration::from_secs(3599)), &mut rng);
        let Some(EventWrite::Repeat { patch, .. }) = events.write(&key("x")) else { panic!() };
        assert_eq!(patch["series"]["count"], 2);
        assert_eq!(patch["series"]["lastObservedTime"], "2026-01-02T04:04:04.500000Z");
        events.count(&key("x"), now.after(Duration::from_secs(7199)), &mut rng);
        assert!(matches!(events.write(&key("x")), Some(EventWrite::Create(_))));
    }

    #[test]
    fn an_object_may_have_25_events_at_once_and_one_more_each_five_minutes() {
        let (mut events, mut rng, now) = events();
        let sent = (0..100).filter(|n| events.count(&key(&n.to_string()), now, &mut rng)).count();
        assert_eq!(sent, 25);
        let later = now.after(Duration::from_secs(300));
        assert!(events.count(&key("a"), later, &mut rng));
        assert!(!events.count(&key("b"), later, &mut rng));
    }

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let cut = key(&"ä".repeat(2000)).note;
        assert!(cut.len() <= 1024 && cut.ends_with("..."), "{}", cut.len());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut events, mut rng, now) = events();
        for number in 0..3000_u64 {
            let now = now.after(Duration::from_secs(number));
            events.count(&key(&number.to_string()), now, &mut rng);
        }
        assert_eq!(events.series.len(), 1000);
    }
}
