//! `multinic-operator check`: asks each service once, and says what works, what doesn't, and what to
//! do.
//!
//! ```text
//! config ─▶ kubernetes ── objects ──▶ clouds ──┐
//!        ├▶ viola ─────────────────────────────┼─▶ rows ─▶ Report (a table, an exit code)
//!        └▶ inventory ─────────────────────────┘
//! ```
//!
//! It works with the operator's own clients and limits, beside a running operator or without one.
//! Nothing is posted to Viola, nothing in Kubernetes is written, no lock is held. [`report`] and
//! [`advice`] are pure; the others ask.
//!
//! It is no dry run of a pass, as `plan` is: a pass names the first failure of an object, and here each
//! service has a row, with the address that was used.

mod advice;
mod clouds;
mod inventory;
pub mod kubernetes;
pub mod report;

use std::sync::Arc;

use crate::check::report::{Report, Row};
use crate::clock::Clock;
use crate::cloud::Clouds;
use crate::cloud::keys::Keys;
use crate::config::{Config, Settings};
use crate::http::client::Clients;
use crate::kube::client::KubeClient;
use crate::kube::secret_reader;
use crate::metrics::Metrics;
use crate::targets::viola::{PATH, Viola};
use crate::threads::{Task, side_by_side};

/// Questions that are put at the same time, at each level.
const SIDE_BY_SIDE: usize = 8;

/// Asks all services. Takes as long as the slowest chain of questions, each of which has its limit.
pub fn run(config: &Config) -> Report {
    let clock = Clock::system();
    let metrics = Arc::new(Metrics::default());
    let client = KubeClient::new(config.kubernetes.clone(), clock.clone(), Arc::clone(&metrics));
    let clients = Clients::new(&metrics);
    let clouds = Clouds::new(config, clock.clone(), &clients);
    let viola = Viola::new(config, &clients);
    let keys = Keys::new(clock.clone(), secret_reader::by_name(&client));
    let tasks: Vec<Task<'_, Vec<Row>>> = vec![
        Box::new(|| {
            let (mut rows, objects) = kubernetes::rows(config, &client);
            rows.extend(clouds::rows(config, &clouds, &keys, &viola, &objects));
            rows
        }),
        Box::new(|| vec![viola_row(&config.settings, &viola)]),
        Box::new(|| inventory::rows(config, &client)),
    ];
    let mut rows = settings(config);
    rows.extend(side_by_side(SIDE_BY_SIDE, tasks).into_iter().flatten());
    Report { rows }
}

/// What can be said without asking. Settings that can't be read never come as far as this.
fn settings(config: &Config) -> Vec<Row> {
    let missing = config.settings.all_missing();
    if missing.is_empty() {
        let seen = match config.settings.unverified().as_slice() {
            [] => "complete".to_owned(),
            services => {
                format!("complete; certificates of {} aren't verified", services.join(", "))
            }
        };
        return vec![Row::fine("Settings", "environment", seen)];
    }
    let row = |variable: &&str| {
        let seen = "is not set, so each OpenstackConfig without its own says ConfigError";
        Row::failed("Settings", *variable, seen, advice::MISSING_SETTING)
    };
    missing.iter().map(row).collect()
}

fn viola_row(settings: &Settings, viola: &Viola) -> Row {
    let place = match &settings.viola.endpoint {
        Ok(endpoint) => endpoint.clone(),
        Err(variable) => {
            return Row::skipped("Viola", "not known", format!("{variable} is not set"));
        }
    };
    match viola.reach(settings) {
        Ok(status) => {
            let seen = format!("GET {PATH}: HTTP {status} (any answer counts; nothing was posted)");
            Row::fine("Viola", place, seen)
        }
        Err(error) => Row::failed("Viola", place, error, advice::VIOLA),
    }
}
