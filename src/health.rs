//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Liveness says that the main loop runs, never how an upstream is: an outage of OpenStack must not
//! restart the pod. Readiness says that the inventory is known and the objects have been listed,
//! or that half a minute was waited for them in vain.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::Clock;
use crate::http::server::{Body, Handler, Method, Request, Response};
use crate::inventory::store::Store;
use crate::metrics::Metrics;
use crate::process;
use crate::threads::lock;

/// A loop that hasn't run for so long is stuck for good.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// So long a start may wait for the first list before it counts as ready without it.
const LIST_WAIT: Duration = Duration::from_secs(30);

/// How the operator is doing; the loop writes it, the probes read it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    last_turn_milliseconds: AtomicU64,
    listed: AtomicBool,
    stopping: AtomicBool,
    unknown_fields: Mutex<Vec<String>>,
}

impl Health {
    /// The loop has run once more.
    pub(crate) fn turned(&self, uptime: Duration) {
        let milliseconds = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        self.last_turn_milliseconds.store(milliseconds, Ordering::Relaxed);
    }

    /// Every scope has been listed once.
    pub(crate) fn listed(&self) {
        self.listed.store(true, Ordering::Relaxed);
    }

    /// A stop has begun.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// These fields of statuses can't be written.
    pub(crate) fn lacking(&self, fields: Vec<String>) {
        *lock(&self.unknown_fields) = fields;
    }

    fn is_alive(&self, uptime: Duration) -> bool {
        let last = Duration::from_millis(self.last_turn_milliseconds.load(Ordering::Relaxed));
        uptime.saturating_sub(last) < STUCK_AFTER
    }
}

/// Answers the probes.
pub(crate) struct Probes {
    /// What the loop said last.
    pub(crate) health: Arc<Health>,
    /// The inventory, once this replica leads.
    pub(crate) store: Arc<std::sync::OnceLock<Arc<Store>>>,
    /// How a replica is doing that doesn't lead (yet), or what is wrong.
    pub(crate) standby: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
    /// What /metrics shows.
    pub(crate) metrics: Arc<Metrics>,
    /// The time.
    pub(crate) clock: Clock,
}

impl Probes {
    fn ready(&self) -> (bool, Vec<String>) {
        let mut lines = Vec::new();
        let mut check = |name: &str, problem: Option<String>| {
            lines.push(match &problem {
                None => format!("[+] {name} ok"),
                Some(problem) => format!("[-] {name}: {problem}"),
            });
            problem.is_none()
        };
        let stopping = self.health.stopping.load(Ordering::Relaxed);
        let mut ready = check("running", stopping.then(|| "the operator is stopping".to_owned()));
        let Some(store) = self.store.get() else {
            let standby = (self.standby)();
            let sign = if standby.is_ok() { '+' } else { '-' };
            lines.push(format!("[{sign}] {}", standby.as_ref().unwrap_or_else(|wrong| wrong)));
            return (ready && standby.is_ok(), lines);
        };
        let state = store.state();
        let reason = state.reason().zip(state.since());
        let reason = reason.map(|(reason, since)| format!("{reason} (since {since:.0})"));
        if state.remembers() {
            // Known but not yet on disk: worth a line, no reason to take readers away.
            check("inventory", None);
            if let Some(reason) = reason {
                lines.push(format!("[!] inventory is {}: {reason}", state.name()));
            }
        } else {
            ready &= check("inventory", reason.or_else(|| Some(state.name().to_owned())));
        }
        let listed = self.health.listed.load(Ordering::Relaxed);
        let waited = self.clock.now().uptime >= LIST_WAIT;
        let line = match waited {
            _ if listed => "[+] objects ok",
            true => "[!] objects: not listed yet; see the log",
            false => "[-] objects: the first list hasn't come yet",
        };
        lines.push(line.to_owned());
        let unknown = lock(&self.health.unknown_fields).join(", ");
        if !unknown.is_empty() {
            lines.push(format!(
                "[!] statuses are written without {unknown}, the CRD is older: apply the CRDs of \
                 this version"
            ));
        }
        (ready && (listed || waited), lines)
    }
}

impl Handler for Probes {
    fn answer(&self, request: &Request) -> Response {
        if request.method == Method::Options {
            return Response::new(204, Body::Empty).with("Allow", "GET, HEAD, OPTIONS");
        }
        let plain = |status, text: String| {
            Response::new(status, Body::Owned(text.into_bytes()))
                .with("Content-Type", "text/plain; charset=utf-8")
        };
        match request.path.as_str() {
            "/healthz" if self.health.is_alive(self.clock.now().uptime) => {
                plain(200, "ok\n".to_owned())
            }
            "/healthz" => plain(503, "the main loop is stuck\n".to_owned()),
            "/readyz" => {
                let (ready, lines) = self.ready();
                plain(if ready { 200 } else { 503 }, lines.join("\n") + "\n")
            }
            "/metrics" => {
                process::report(&self.metrics);
                if let Some(store) = self.store.get() {
                    store.report();
                }
                Response::new(200, Body::Owned(self.metrics.render().into_bytes()))
                    .with("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            }
            _ => Response::error(404, "no such page; there are /healthz, /readyz and /metrics"),
        }
    }
}
