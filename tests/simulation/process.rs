//! The operator's lives: how a process starts with what the last one left, and how it ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use multinic_operator::clock::{Clock, Now};
use multinic_operator::cloud::Clouds;
use multinic_operator::cloud::object_secrets::ObjectSecrets;
use multinic_operator::controller::Controller;
use multinic_operator::http::client::Clients;
use multinic_operator::inventory::store::Store;
use multinic_operator::kube::client::KubeClient;
use multinic_operator::metrics::Metrics;
use multinic_operator::overview::Overview;
use multinic_operator::reconcile::Context;
use multinic_operator::targets::Targets;
use multinic_operator::targets::cluster::Clusters;

use crate::driver::{Broken, PATH, Process, Simulation, text_of};
use crate::secrets;
use crate::simulated_disk::Restart;
use crate::transport::Killed;
use crate::writes::Writes;

impl Simulation {
    /// Does something to the store that may end the process.
    pub(crate) fn on_disk(&mut self, what: impl FnOnce(&Store)) {
        let Some(process) = &self.process else { return };
        let store = Arc::clone(&process.context.store);
        match catch_unwind(AssertUnwindSafe(|| what(&store))) {
            Ok(()) => self.look_at_store(),
            Err(payload) if payload.is::<Killed>() => self.die("killed at a disk operation"),
            Err(payload) => {
                self.trace.broken = Some(format!("the store panicked: {}", text_of(&*payload)));
            }
        }
    }

    pub(crate) fn look_at_store(&mut self) {
        let Some(process) = &mut self.process else { return };
        let state = process.context.store.state();
        if state.remembers() && !process.has_read {
            process.has_read = true;
            let found = self.oracle.check_found(&process.context.store.snapshot());
            self.trace.broken = self.trace.broken.take().or(found.err());
        }
        if state.is_healthy() {
            process.retry_at = None;
            self.oracle.note_durable(&process.context.store.snapshot());
        } else if process.retry_at.is_none() {
            process.retry_at = Some(self.at + Duration::from_secs(10));
        }
    }

    /// A new process, which reads what the last one left.
    pub(crate) fn start(&mut self) -> Result<(), Broken> {
        self.lives += 1;
        let now = Now { uptime: Duration::ZERO, wall: self.wall() };
        let clock = Clock::invented(now);
        let metrics = Arc::new(Metrics::default());
        let open = || {
            let files = Box::new(self.disk.clone());
            let path = Path::new(PATH);
            let store = Store::new(files, path, clock.clone(), Arc::clone(&metrics));
            store.retry();
            store
        };
        let kind = "killed while starting";
        if !self.is_faultless && self.random.u8(0..10) == 0 && !self.is_left_out(kind) {
            self.disk.kill_in(self.random.usize(0..25));
        }
        let store = match catch_unwind(AssertUnwindSafe(open)) {
            Ok(store) => Arc::new(store),
            Err(_) => {
                self.count(kind);
                self.die("killed while it reads the inventory");
                return Ok(());
            }
        };
        self.disk.spare();
        let state = store.state();
        self.trace.tell(self.at, format!("a process starts, its store is {}", state.name()));
        let clients = Clients::new(&metrics).over(Arc::clone(&self.transport) as _);
        let may_act = Arc::new(AtomicBool::new(true));
        let allowed = Arc::clone(&may_act);
        let kubernetes =
            KubeClient::new(self.config.kubernetes.clone(), clock.clone(), Arc::clone(&metrics));
        let clusters = Clusters::new(&self.config, &kubernetes, clock.clone(), &metrics);
        let targets = Targets::new(&self.config, &clients, Arc::new(clusters));
        let context = Context {
            config: Arc::clone(&self.config),
            clouds: Arc::new(Clouds::new(&self.config, clock.clone(), &clients)),
            secrets: Arc::new(ObjectSecrets::new(clock.clone(), Box::new(|_, _| Ok(None)))),
            target: Arc::new(targets),
            targets_side_by_side: 1,
            store,
            ownership: Arc::default(),
            metrics: Arc::clone(&metrics),
            clock,
            may_act: Arc::new(move || allowed.load(Ordering::SeqCst)),
        };
        let overview = Arc::new(Overview::default());
        let controller = Controller::new(
            Arc::clone(&self.config),
            self.config.workers,
            Arc::clone(&context.ownership),
            Arc::clone(&metrics),
            Arc::clone(&overview),
        );
        let controller = controller.with_batch_limit(self.plan.batch_limit.unwrap_or(usize::MAX));
        let writes = Writes::new(&mut self.random);
        self.process = Some(Process {
            started: self.at,
            context: Arc::new(context),
            controller,
            writes,
            metrics,
            overview,
            may_act,
            pending_passes: Vec::new(),
            reports: Vec::new(),
            has_read: false,
            retry_at: None,
            write_at: None,
        });
        self.pace.start(self.at);
        self.oracle.forget_unconfirmed();
        self.holds.forget_removed();
        self.wanted.clear();
        // What it is shown first is how things are, not a change.
        self.upset_at = self.at + Duration::from_secs(2);
        self.look_at_store();
        self.kubernetes.list(self.at, &mut self.random);
        Ok(())
    }

    /// The process is gone, and what it had in memory with it.
    pub(crate) fn die(&mut self, how: &str) {
        self.trace.tell(self.at, format!("the process ends: {how}"));
        let disk = &self.disk;
        let seed = self.random.u64(..);
        let restart = match self.random.u8(0..6) {
            0 if !self.is_left_out("power cut") => Restart::NothingUnsynced,
            1 if !self.is_left_out("power cut") => Restart::EverythingUnsynced,
            2 if !self.is_left_out("power cut") => Restart::Some(seed),
            _ => Restart::Killed,
        };
        if !matches!(restart, Restart::Killed) {
            self.trace.tell(self.at, format!("the power was cut: {restart:?}"));
            *self.transport.state().counts.entry("power cut".to_owned()).or_default() += 1;
        }
        self.disk = disk.after(restart);
        self.check_metrics();
        self.process = None;
        self.kubernetes.hang_up();
        self.upset_at = self.at;
        self.restart_at = self.at + Duration::from_millis(self.random.u64(100..60_000));
    }

    pub(crate) fn check_metrics(&mut self) {
        let Some(process) = &self.process else { return };
        if let Some(found) = secrets::secret_in(&process.metrics.render()) {
            self.trace.broken = Some(format!("(f) the metrics show a secret: {found}"));
        }
        let shown = format!("{:?}", process.overview.all());
        if let Some(found) = secrets::secret_in(&shown) {
            self.trace.broken = Some(format!("(f) the page shows a secret: {found}"));
        }
    }

    /// The process is killed between two syncs, or ends in good order.
    pub(crate) fn restart(&mut self) {
        if self.random.bool() {
            self.count("killed");
            return self.die("killed");
        }
        self.count("ended in good order");
        self.on_disk(Store::flush_and_close);
        if self.process.is_some() {
            self.die("in good order");
        }
    }
}
