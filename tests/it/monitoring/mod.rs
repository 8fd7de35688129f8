//! Holds `manifests/monitoring/` to the metrics the program has, and what it has to what Prometheus
//! can read: the exposition, the alerts, the dashboard, the documents about them.
//!
//! Alerts and expressions are tried with `promtool` (Debian's package prometheus; `.ci/run` takes it
//! out of there without installing a server). Where it is missing, its tests say so and pass, unless
//! MONITORING_TOOLS=required. What needs kubectl or Python goes by tests/it/manifests/tools.rs.

mod dashboard;
mod documents;
pub(crate) mod exposition;
mod expression;
mod metrics;
pub(crate) mod promtool;
mod rules;
