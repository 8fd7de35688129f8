//! Metrics: every module may report, none reads back, `/metrics` shows them to Prometheus.
//!
//! What controller-runtime and client-go have keeps its name and labels; ours begin with `multinic_`.
//! The table [`FAMILIES`] lists all there are. A report costs a search, and an allocation only for a
//! new series.

mod families;

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

pub use families::{FAMILIES, Family};

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

impl Kind {
    /// The word in `# TYPE`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// The label of everything about syncs, as controller-runtime names controllers.
pub(crate) const CONTROLLER: (&str, &str) = ("controller", "openstackconfig");
/// The labels of everything about the queue.
pub(crate) const QUEUE: &[(&str, &str)] = &[CONTROLLER, ("name", "openstackconfig")];

/// Upper bounds of the histograms' buckets: from an fsync to a sync of many slow requests.
const BUCKETS_SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

#[derive(Debug)]
struct Series {
    /// In the order of the family's labels.
    label_values: Box<[Box<str>]>,
    /// For a histogram the sum.
    value: f64,
    /// A histogram's, not cumulative; above the last bound nothing is counted here.
    buckets: [u64; BUCKETS_SECONDS.len()],
    count: u64,
}

/// The registry; shared by reference.
#[derive(Debug)]
pub struct Metrics {
    /// For each of [`FAMILIES`], ordered by label values.
    families: Mutex<Vec<Vec<Series>>>,
}

impl Default for Metrics {
    /// With each series that exists from the start, at 0.
    fn default() -> Metrics {
        let from_start = |family: &Family| {
            let mut known = Vec::new();
            for values in family.from_start {
                find(&mut known, values.iter().copied());
            }
            known
        };
        Metrics { families: Mutex::new(FAMILIES.iter().map(from_start).collect()) }
    }
}

impl Metrics {
    /// Adds to a counter.
    pub fn add(&self, name: &'static str, labels: &[(&str, &str)], amount: f64) {
        self.change(name, labels, |series| series.value += amount);
    }

    /// Sets a gauge, or a counter that is counted elsewhere.
    pub fn set(&self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        self.change(name, labels, |series| series.value = value);
    }

    /// Replaces every series of a gauge whose label values come and go. The values are in the order of
    /// the family's labels.
    pub(crate) fn replace<'a, const LABELS: usize>(
        &self,
        name: &'static str,
        series: impl IntoIterator<Item = ([&'a str; LABELS], f64)>,
    ) {
        self.change_family(name, |family, known| {
            debug_assert_eq!(family.labels.len(), LABELS, "{name}");
            known.clear();
            for (values, value) in series {
                find(known, values.iter().copied()).value = value;
            }
        });
    }

    /// Adds a duration to a histogram.
    pub fn observe(&self, name: &'static str, labels: &[(&str, &str)], duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS_SECONDS.partition_point(|limit| *limit < seconds);
        self.change(name, labels, |series| {
            series.value += seconds;
            series.count += 1;
            if let Some(bucket) = series.buckets.get_mut(bucket) {
                *bucket += 1;
            }
        });
    }

    fn change(
        &self,
        name: &'static str,
        labels: &[(&str, &str)],
        change: impl FnOnce(&mut Series),
    ) {
        self.change_family(name, |family, known| {
            let names = labels.iter().map(|(name, _)| name);
            debug_assert!(family.labels.iter().eq(names), "{name} has other labels: {labels:?}");
            change(find(known, labels.iter().map(|(_, value)| *value)));
        });
    }

    fn change_family(&self, name: &str, change: impl FnOnce(&Family, &mut Vec<Series>)) {
        let place = FAMILIES.binary_search_by(|family| family.name.cmp(name));
        debug_assert!(place.is_ok(), "{name} is not listed");
        if let Ok(place) = place
            && let Some(known) = self.families().get_mut(place)
        {
            change(&FAMILIES[place], known);
        }
    }

    fn families(&self) -> MutexGuard<'_, Vec<Vec<Series>>> {
        self.families.lock().unwrap_or_else(|held| held.into_inner())
    }

    /// The text exposition format 0.0.4. Families without a series are left out.
    pub fn render(&self) -> String {
        let families = self.families();
        let mut text = String::with_capacity(32 * 1024);
        for (family, series) in FAMILIES.iter().zip(families.iter()) {
            if series.is_empty() {
                continue;
            }
            let Family { name, kind, help, .. } = family;
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
            for each in series {
                if *kind == Kind::Histogram {
                    let mut below = 0;
                    for (limit, count) in BUCKETS_SECONDS.iter().zip(each.buckets) {
                        below += count;
                        let limit = limit.to_string();
                        render_line(&mut text, family, "_bucket", each, Some(&limit), below as f64);
                    }
                    let count = each.count as f64;
                    render_line(&mut text, family, "_bucket", each, Some("+Inf"), count);
                    render_line(&mut text, family, "_sum", each, None, each.value);
                    render_line(&mut text, family, "_count", each, None, count);
                } else {
                    render_line(&mut text, family, "", each, None, each.value);
                }
            }
        }
        text
    }
}

impl Series {
    fn new<'a>(label_values: impl Iterator<Item = &'a str>) -> Series {
        let label_values = label_values.map(Box::from).collect();
        Series { label_values, value: 0.0, buckets: [0; BUCKETS_SECONDS.len()], count: 0 }
    }

    fn label_values(&self) -> impl Iterator<Item = &str> {
        self.label_values.iter().map(|value| &**value)
    }
}

/// The series with these label values, at 0 if it is new.
fn find<'known, 'value>(
    known: &'known mut Vec<Series>,
    values: impl Iterator<Item = &'value str> + Clone,
) -> &'known mut Series {
    let place = known.partition_point(|series| series.label_values().lt(values.clone()));
    if !known.get(place).is_some_and(|series| series.label_values().eq(values.clone())) {
        known.insert(place, Series::new(values));
    }
    &mut known[place]
}

/// One line; the labels are in braces, unless there are none.
fn render_line(
    text: &mut String,
    family: &Family,
    part: &str,
    series: &Series,
    limit: Option<&str>,
    value: f64,
) {
    let _ = write!(text, "{}{part}", family.name);
    let labels = family.labels.iter().copied().zip(series.label_values());
    let mut separator = '{';
    for (name, value) in labels.chain(limit.map(|limit| ("le", limit))) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{separator}{name}=\"{value}\"");
        separator = ',';
    }
    let end = if separator == ',' { "}" } else { "" };
    let _ = writeln!(text, "{end} {value}");
}

#[cfg(test)]
mod tests {
    use super::{FAMILIES, Metrics, QUEUE};
    use std::time::Duration;

    const FSYNC: &str = "multinic_inventory_fsync_duration_seconds";

    #[test]
    fn families_are_ordered_by_name_and_their_first_series_have_all_labels() {
        assert!(FAMILIES.windows(2).all(|pair| pair[0].name < pair[1].name));
        for family in FAMILIES {
            assert!(family.from_start.iter().all(|values| values.len() == family.labels.len()));
        }
    }

    #[test]
    fn the_text_has_help_and_type_once_and_escapes_labels() {
        let metrics = Metrics::default();
        metrics.add("workqueue_adds_total", QUEUE, 2.0);
        metrics.set("multinic_build_info", &[("version", "a\"b\\c\nd")], 1.0);
        let text = metrics.render();
        assert!(text.contains("multinic_build_info{version=\"a\\\"b\\\\c\\nd\"} 1\n"), "{text}");
        let adds =
            "workqueue_adds_total{controller=\"openstackconfig\",name=\"openstackconfig\"} 2\n";
        assert!(text.contains(adds), "{text}");
        assert_eq!(text.matches("# TYPE workqueue_adds_total counter").count(), 1);
    }

    #[test]
    fn histogram_buckets_are_cumulative() {
        let metrics = Metrics::default();
        metrics.observe(FSYNC, &[], Duration::from_millis(20));
        metrics.observe(FSYNC, &[], Duration::from_millis(25));
        metrics.observe(FSYNC, &[], Duration::from_secs(600));
        let text = metrics.render();
        for line in [
            "_bucket{le=\"0.01\"} 0",
            "_bucket{le=\"0.025\"} 2",
            "_bucket{le=\"120\"} 2",
            "_bucket{le=\"+Inf\"} 3",
            "_sum 600.045",
            "_count 3",
        ] {
            assert!(text.contains(&format!("\n{FSYNC}{line}\n")), "{line}: {text}");
        }
    }

    #[test]
    fn what_alerts_count_is_there_at_zero_before_it_first_happens() {
        let text = Metrics::default().render();
        for line in [
            "controller_runtime_reconcile_total{controller=\"openstackconfig\",result=\"error\"} 0",
            "controller_runtime_reconcile_panics_total{controller=\"openstackconfig\"} 0",
            "multinic_inventory_write_failures_total 0",
            "multinic_upstream_requests_total{service=\"Viola\",method=\"POST\",status=\"failed\"} 0",
            "multinic_watch_restarts_total{reason=\"silent\"} 0",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
        }
        assert!(!text.contains("leader_election_master_status"), "without an election: {text}");
    }

    #[test]
    fn replaced_series_are_gone() {
        let metrics = Metrics::default();
        let name = "multinic_objects";
        metrics.replace(name, [(["False", "NovaError"], 1.0), (["False", "Another"], 2.0)]);
        metrics.replace(name, [(["False", "NovaError"], 3.0)]);
        let text = metrics.render();
        assert!(
            text.contains("multinic_objects{ready=\"False\",reason=\"NovaError\"} 3\n"),
            "{text}"
        );
        assert_eq!(text.matches("\nmultinic_objects{").count(), 1, "{text}");
    }
}
