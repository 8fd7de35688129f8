//! Holds `manifests/monitoring/` to the metrics the program has, and what it has to what Prometheus
//! can read: the exposition, the alerts, the dashboard, the documents about them.
//!
//! Alerts and expressions are tried with `promtool` (Debian's package prometheus; `.ci/run` takes it
//! out of there without installing a server). Where it is missing, its tests say so and pass, unless
//! MONITORING_TOOLS=required. What needs kubectl or Python goes by tests/manifests/tools.rs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail by a panic, in its helpers too, and say what it skips"
)]

mod dashboard;
mod documents;
mod exposition;
mod expression;
mod metrics;
mod promtool;
mod rules;
#[path = "../manifests/tools.rs"]
mod tools;

use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
