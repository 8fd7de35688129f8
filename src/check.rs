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
mod clusters;
mod inventory;
pub mod kubernetes;
mod notifications;
pub mod report;

use std::sync::Arc;

use crate::check::report::{Report, Row};
use crate::clock::Clock;
use crate::cloud::Clouds;
use crate::cloud::object_secrets::ObjectSecrets;
use crate::config::{Config, Settings};
use crate::http::client::Clients;
use crate::kube::client::KubeClient;
use crate::kube::secret_reader;
use crate::metrics::Metrics;
use crate::resources::OpenstackConfig;
use crate::targets::cluster::Clusters;
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
    let clusters = Clusters::new(&Arc::new(config.clone()), &client, clock.clone(), &metrics);
    let secrets = ObjectSecrets::new(clock.clone(), secret_reader::by_name(&client));
    let tasks: Vec<Task<'_, Vec<Row>>> = vec![
        Box::new(|| {
            let (of_kubernetes, objects) = kubernetes::rows(config, &client);
            let mut rows = settings(config, objects.as_deref().unwrap_or_default());
            rows.extend(of_kubernetes);
            rows.extend(clusters::rows(config, &clusters, objects.as_deref().unwrap_or_default()));
            rows.extend(clouds::rows(config, &clouds, &secrets, &viola, &objects));
            rows
        }),
        Box::new(|| vec![viola_row(&config.settings, &viola)]),
        Box::new(|| inventory::rows(config, &client)),
    ];
    Report { rows: side_by_side(SIDE_BY_SIDE, tasks).concat() }
}

/// What can be said without asking. Settings that can't be read never come as far as this.
fn settings(config: &Config, objects: &[OpenstackConfig]) -> Vec<Row> {
    let missing = config.settings.all_missing(config.delivery.by_kubernetes);
    if missing.is_empty() {
        let seen = match config.settings.unverified().as_slice() {
            [] => "complete".to_owned(),
            services => {
                format!("complete; certificates of {} aren't verified", services.join(", "))
            }
        };
        return vec![Row::fine("Settings", "environment", seen)];
    }
    let is_of_secret = |object: &OpenstackConfig| {
        object.spec.as_ref().is_ok_and(|spec| spec.identity_ref.is_some())
    };
    let needs_contrabass = objects.is_empty() || !objects.iter().all(is_of_secret);
    let row = |variable: &&str| {
        if variable.starts_with("CONTRABASS_") && !needs_contrabass {
            let why = "is not set; each OpenstackConfig has a cloud of a Secret";
            return Row::skipped("Settings", *variable, why);
        }
        let seen = "is not set, so each OpenstackConfig that needs it says ConfigError";
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
