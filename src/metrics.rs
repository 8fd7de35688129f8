//! Metrics: anyone may report, nobody reads back, `/metrics` shows them to Prometheus.
//!
//! Names that operators know from controller-runtime keep their names; ours begin with
//! `multinic_`. The table [`FAMILIES`] is the one list of what exists.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, in buckets.
    Histogram,
}

/// Every family: name, kind, help.
pub const FAMILIES: &[(&str, Kind, &str)] = &[
    ("controller_runtime_active_workers", Kind::Gauge, "Workers that run a sync now."),
    ("controller_runtime_max_concurrent_reconciles", Kind::Gauge, "Size of the worker pool."),
    ("controller_runtime_reconcile_errors_total", Kind::Counter, "Syncs that ended with an error."),
    ("controller_runtime_reconcile_panics_total", Kind::Counter, "Syncs that ended in a panic."),
    ("controller_runtime_reconcile_time_seconds", Kind::Histogram, "How long syncs take."),
    ("controller_runtime_reconcile_total", Kind::Counter, "Syncs, by result."),
    ("leader_election_master_status", Kind::Gauge, "1 while this replica is the leader."),
    ("multinic_build_info", Kind::Gauge, "Always 1; the version is in the label."),
    ("multinic_down_ports", Kind::Gauge, "Ports with status DOWN on nodes that were sent."),
    (
        "multinic_http_connections_refused_total",
        Kind::Counter,
        "Inbound connections refused, by reason.",
    ),
    ("multinic_inventory_records", Kind::Gauge, "Records in the inventory."),
    ("multinic_inventory_unwritten_records", Kind::Gauge, "Records not yet safe on disk."),
    ("multinic_inventory_write_failures_total", Kind::Counter, "Failed writes of the inventory."),
    ("multinic_inventory_writes_total", Kind::Counter, "Durable writes of the inventory."),
    (
        "multinic_kubernetes_write_failures_total",
        Kind::Counter,
        "Failed writes to the Kubernetes API, by kind.",
    ),
    (
        "multinic_last_success_timestamp_seconds",
        Kind::Gauge,
        "When a sync last ended without error.",
    ),
    ("multinic_nodes_sent_total", Kind::Counter, "Nodes Viola accepted."),
    ("multinic_objects", Kind::Gauge, "OpenstackConfig objects, by reason of Ready."),
    ("multinic_upstream_requests_total", Kind::Counter, "Requests to other services, by status."),
    ("multinic_watch_restarts_total", Kind::Counter, "Watches that had to start anew, by reason."),
    ("workqueue_adds_total", Kind::Counter, "Objects that were made due."),
    ("workqueue_depth", Kind::Gauge, "Objects that are due and wait for a worker."),
];

const BUCKETS_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0];

#[derive(Clone, Debug, Default)]
struct Series {
    value: f64,
    buckets: [u64; BUCKETS_SECONDS.len()],
    count: u64,
}

/// The registry; shared by reference.
#[derive(Debug, Default)]
pub struct Metrics {
    series: Mutex<BTreeMap<(&'static str, String), Series>>,
}

impl Metrics {
    /// Adds to a counter.
    pub fn add(&self, name: &'static str, labels: &[(&str, &str)], amount: f64) {
        self.change(name, labels, |series| series.value += amount);
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        self.change(name, labels, |series| series.value = value);
    }

    /// Forgets every series of a family; for gauges whose label values come and go.
    pub fn clear(&self, name: &'static str) {
        let mut series = self.series.lock().unwrap_or_else(|held| held.into_inner());
        series.retain(|(family, _), _| *family != name);
    }

    /// Adds a duration to a histogram.
    pub fn observe(&self, name: &'static str, labels: &[(&str, &str)], duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.change(name, labels, |series| {
            series.value += seconds;
            series.count += 1;
            for (bucket, limit) in series.buckets.iter_mut().zip(BUCKETS_SECONDS) {
                if seconds <= limit {
                    *bucket += 1;
                }
            }
        });
    }

    fn change(
        &self,
        name: &'static str,
        labels: &[(&str, &str)],
        change: impl FnOnce(&mut Series),
    ) {
        debug_assert!(FAMILIES.iter().any(|(known, _, _)| *known == name), "{name} is not listed");
        let mut series = self.series.lock().unwrap_or_else(|held| held.into_inner());
        change(series.entry((name, label_text(labels))).or_default());
    }

    /// The text exposition format 0.0.4.
    pub fn render(&self) -> String {
        let series = self.series.lock().unwrap_or_else(|held| held.into_inner());
        let mut text = String::new();
        for (name, kind, help) in FAMILIES {
            let kind_name = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind_name}");
            let from = (*name, String::new());
            for ((family, labels), series) in series.range(from..) {
                if family != name {
                    break;
                }
                match kind {
                    Kind::Histogram => render_histogram(&mut text, name, labels, series),
                    _ if labels.is_empty() => {
                        let _ = writeln!(text, "{name} {}", series.value);
                    }
                    _ => {
                        let _ = writeln!(text, "{name}{{{labels}}} {}", series.value);
                    }
                }
            }
        }
        text
    }
}

fn render_histogram(text: &mut String, name: &str, labels: &str, series: &Series) {
    let comma = if labels.is_empty() { "" } else { "," };
    for (limit, count) in BUCKETS_SECONDS.iter().zip(series.buckets) {
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{limit}\"}} {count}");
    }
    let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", series.count);
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", series.value);
    let _ = writeln!(text, "{name}_count{{{labels}}} {}", series.count);
}

fn label_text(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        let separator = if text.is_empty() { "" } else { "," };
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{separator}{name}=\"{escaped}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use std::time::Duration;

    #[test]
    fn the_text_has_help_and_type_once_and_escapes_labels() {
        let metrics = Metrics::default();
        metrics.add("workqueue_adds_total", &[("name", "a\"b\\c\nd")], 2.0);
        let text = metrics.render();
        assert!(text.contains("workqueue_adds_total{name=\"a\\\"b\\\\c\\nd\"} 2\n"), "{text}");
        assert_eq!(text.matches("# TYPE workqueue_adds_total counter").count(), 1);
    }

    #[test]
    fn histogram_buckets_are_cumulative() {
        let metrics = Metrics::default();
        let name = "controller_runtime_reconcile_time_seconds";
        metrics.observe(name, &[], Duration::from_millis(20));
        metrics.observe(name, &[], Duration::from_secs(600));
        let text = metrics.render();
        assert!(text.contains(&format!("{name}_bucket{{le=\"0.01\"}} 0\n")), "{text}");
        assert!(text.contains(&format!("{name}_bucket{{le=\"0.025\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("{name}_bucket{{le=\"+Inf\"}} 2\n")), "{text}");
        assert!(text.contains(&format!("{name}_count{{}} 2\n")), "{text}");
    }
}
