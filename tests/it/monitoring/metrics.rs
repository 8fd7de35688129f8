//! Every family there is, as Prometheus reads it.

use std::time::Duration;

use multinic_operator::metrics::{FAMILIES, Kind, Metrics};

use crate::monitoring::exposition::Exposition;
use crate::monitoring::promtool::promtool;

/// Each family with one series more than it has from the start.
fn full() -> String {
    let metrics = Metrics::default();
    for family in FAMILIES {
        let labels: Vec<(&str, &str)> =
            family.labels.iter().map(|name| (*name, "a \"b\" \\ c\nd")).collect();
        match family.kind {
            Kind::Counter => metrics.add(family.name, &labels, 2.0),
            Kind::Gauge => metrics.set(family.name, &labels, 0.5),
            Kind::Histogram => metrics.observe(family.name, &labels, Duration::from_millis(7)),
        }
    }
    metrics.render()
}

#[test]
fn every_family_is_shown_as_what_it_is_and_told_apart_by_its_labels() {
    let read = Exposition::of(&full());
    assert_eq!(read.types.len(), FAMILIES.len());
    for family in FAMILIES {
        assert_eq!(read.types[family.name], family.kind.name());
        let labels: Vec<(&str, &str)> =
            family.labels.iter().map(|name| (*name, "a \"b\" \\ c\nd")).collect();
        let (name, expected) = match family.kind {
            Kind::Counter => (family.name.to_owned(), 2.0),
            Kind::Gauge => (family.name.to_owned(), 0.5),
            Kind::Histogram => (format!("{}_count", family.name), 1.0),
        };
        assert_eq!(read.value(&name, &labels), Some(expected), "{name}");
    }
}

#[test]
fn names_and_helps_are_as_prometheus_wants_them() {
    let Some((content, said)) = promtool(&["check", "metrics"], &full()) else { return };
    assert!(content && said.is_empty(), "{said}");
}

#[test]
fn a_broken_exposition_is_noticed() {
    let broken = full().replacen("workqueue_depth{", "workqueue_depth {{", 1);
    let Some((content, _)) = promtool(&["check", "metrics"], &broken) else { return };
    assert!(!content);
    assert!(std::panic::catch_unwind(|| Exposition::of(&broken)).is_err());
}
