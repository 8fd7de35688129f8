//! One simulation: a seed, an invented clock, the operator's real core, and everything that happens to it.
//!
//! Time goes from event to event. A sync runs on a thread of its own, so that a kill can end it
//! anywhere and time can pass while its POST is under way; only one thread runs at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use multinic_operator::clock::Now;
use multinic_operator::config::Config;
use multinic_operator::controller::{Controller, Effect, Event};
use multinic_operator::http::client::Service;
use multinic_operator::metrics::Metrics;
use multinic_operator::overview::Overview;
use multinic_operator::reconcile::{Context, Pass};
use simulated_cloud::state::Port;

use crate::cloud::{self, ENCRYPTION_KEY, NAME_KEY};
use crate::disk::Disk;
use crate::faults::{Fault, FaultSettings};
use crate::holds::Holds;
use crate::kubernetes::{Crowd, Kubernetes};
use crate::oracle::Oracle;
use crate::pace::Pace;
use crate::secrets;
use crate::trace::Trace;
use crate::transport::SimulatedTransport;
use crate::writes::Writes;

/// The inventory's file.
pub(crate) const PATH: &str = "/data/inventory.json";
/// Syncs before faults end, at most.
const SYNCS: u64 = 40;
/// Syncs of a whole life: more would be a loop.
const SYNCS_EVER: u64 = 20_000;

/// What broke, in words.
pub(crate) type Broken = String;

/// What differs from simulation to simulation, small enough to be taken away piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Kinds of things that don't happen.
    pub(crate) without: BTreeSet<String>,
    /// Things that happen, at most.
    pub(crate) events: u64,
    /// Objects of one pass, at most; none: all that are due.
    pub(crate) batch_limit: Option<usize>,
}

/// A pass that has been handed out and hasn't begun to ask.
pub(crate) struct PendingPass {
    pub(crate) pass: Pass,
    pub(crate) begins: Duration,
}

/// One life of the operator.
pub(crate) struct Process {
    pub(crate) started: Duration,
    pub(crate) context: Arc<Context>,
    pub(crate) controller: Controller,
    pub(crate) writes: Writes,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) overview: Arc<Overview>,
    pub(crate) may_act: Arc<AtomicBool>,
    pub(crate) pending_passes: Vec<PendingPass>,
    /// What workers have to say, and when it arrives. Of one pass in the order given.
    pub(crate) reports: Vec<(Duration, Event)>,
    /// Has its store read what the last process left?
    pub(crate) has_read: bool,
    /// When the store tries a failing disk again.
    pub(crate) retry_at: Option<Duration>,
    pub(crate) write_at: Option<Duration>,
}

/// The whole of it.
pub(crate) struct Simulation {
    pub(crate) plan: Plan,
    pub(crate) random: fastrand::Rng,
    pub(crate) at: Duration,
    pub(crate) begin: Timestamp,
    /// How far the operator's wall clock is off.
    pub(crate) skew: SignedDuration,
    pub(crate) config: Arc<Config>,
    pub(crate) name_key: bool,
    pub(crate) transport: Arc<SimulatedTransport>,
    pub(crate) viola: Arc<simulated_cloud::Viola>,
    /// Nodes that Viola doesn't accept.
    pub(crate) refused: BTreeSet<String>,
    pub(crate) disk: Disk,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) process: Option<Process>,
    pub(crate) restart_at: Duration,
    pub(crate) lives: u64,
    /// POSTs that are under way.
    pub(crate) posting: usize,
    pub(crate) oracle: Oracle,
    pub(crate) holds: Holds,
    pub(crate) pace: Pace,
    pub(crate) trace: Trace,
    pub(crate) passes: u64,
    /// Objects of all these passes together.
    pub(crate) objects: u64,
    pub(crate) happened: u64,
    pub(crate) next_event: Duration,
    pub(crate) is_faultless: bool,
    /// The status that each object should have, and since when.
    pub(crate) wanted: BTreeMap<String, (Duration, serde_json::Value)>,
    pub(crate) outages: BTreeMap<Service, Duration>,
    /// Ports that Neutron doesn't show for now.
    pub(crate) hidden: Vec<Port>,
    pub(crate) disk_ends: Option<Duration>,
    /// When a clock, a process or a lease last did something that excuses the operator.
    pub(crate) upset_at: Duration,
}

/// How the operator is set up this simulation.
fn config(random: &mut fastrand::Rng) -> (Config, bool) {
    let named = random.u8(0..4) == 0;
    let intervals = [
        ["20s", "2m", "30s", "3m"],
        ["20s", "1m", "40s", "90s"],
        ["1m", "1h", "20m", "10m"],
        ["5m", "12h", "4h", "1h"],
        ["5s", "20s", "10s", "15s"],
    ];
    let [fast, slow, error, window] = random.choice(intervals).unwrap();
    let retries = random.u8(0..4).to_string();
    let workers = random.u8(1..5).to_string();
    let resync = if random.u8(0..5) == 0 { random.choice(["10m", "30h"]).unwrap() } else { "" };
    let config = Config::read(|name| {
        let value = match name {
            "CONTRABASS_ENDPOINT" => "http://contrabass.test",
            "CONTRABASS_ENCRYPT_KEY" => ENCRYPTION_KEY,
            "VIOLA_ENDPOINT" => "http://viola.test",
            "KUBE_API_URL" => "http://kubernetes.test",
            "INVENTORY_DB_PATH" => PATH,
            // A power cut loses what a failing disk never took, and nothing here approves new ids.
            "MEMORY_LOST" => "renumber",
            "POLL_FAST_INTERVAL" => fast,
            "POLL_SLOW_INTERVAL" => slow,
            "POLL_ERROR_INTERVAL" => error,
            "POLL_FAST_WINDOW" => window,
            "DOWN_PORT_FAST_RETRY_MAX" => &retries,
            "SYNC_WORKERS" => &workers,
            "VIOLA_RESYNC_INTERVAL" => resync,
            "OPENSTACK_NODE_NAME_METADATA_KEY" if named => NAME_KEY,
            _ => return None,
        };
        Some(value.to_owned())
    });
    (config.unwrap(), named)
}

impl Simulation {
    pub(crate) fn new(plan: Plan) -> Simulation {
        let mut random = fastrand::Rng::with_seed(plan.seed ^ 0x5eed_0fa4_ea50);
        let (config, name_key) = config(&mut random);
        // Many small objects meet in one pass, few large ones in one VM.
        let crowds = [
            Crowd { objects: 4, most_vms: 5, one_in: 4 },
            Crowd { objects: 8, most_vms: 2, one_in: 16 },
        ];
        let crowd = random.choice(crowds).unwrap();
        let cloud = cloud::beginning(&mut random);
        // Few kinds at a time: what many faults would hide, few bring to light.
        let mut kinds: Vec<Fault> = Fault::ALL.to_vec();
        random.shuffle(&mut kinds);
        kinds.truncate(random.usize(0..kinds.len()));
        kinds.retain(|kind| !plan.without.contains(kind.name()));
        let noise = if kinds.is_empty() { 0 } else { random.choice([0, 10, 40, 150]).unwrap() };
        let outages = BTreeMap::new();
        let faults = FaultSettings { seed: plan.seed, kinds, noise, outages };
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut oracle = Oracle::default();
        oracle.note_cloud(Duration::ZERO, &cloud);
        Simulation {
            plan,
            random,
            at: Duration::ZERO,
            begin,
            skew: SignedDuration::ZERO,
            config: Arc::new(config),
            name_key,
            transport: Arc::new(SimulatedTransport::new(cloud, faults)),
            viola: simulated_cloud::Viola::new(Arc::default()),
            refused: BTreeSet::new(),
            disk: Disk::new(),
            kubernetes: Kubernetes::new(crowd),
            process: None,
            restart_at: Duration::ZERO,
            lives: 0,
            posting: 0,
            oracle,
            holds: Holds::default(),
            pace: Pace::default(),
            trace: Trace::default(),
            passes: 0,
            objects: 0,
            happened: 0,
            next_event: Duration::ZERO,
            is_faultless: false,
            wanted: BTreeMap::new(),
            outages: BTreeMap::new(),
            hidden: Vec::new(),
            disk_ends: None,
            upset_at: Duration::ZERO,
        }
    }

    /// Runs it: faults, then none, and then everything must be as it should.
    pub(crate) fn run(&mut self) -> Result<(), Broken> {
        self.set_time(Duration::ZERO);
        for _ in 0..self.random.usize(1..=self.kubernetes.crowd.objects) {
            let (at, begin) = (self.at, self.begin);
            let (_, text) = self.kubernetes.change(at, begin, &mut self.random);
            self.trace.tell(at, text);
        }
        self.holds.note_objects(self.kubernetes.objects.values());
        for round in 1..=2 {
            let most = SYNCS * round;
            while self.passes < most && self.happened < self.plan.events * round {
                self.step(None)?;
            }
            self.end_faults()?;
            let until = self.at + self.convergence_limit();
            while self.next_time() <= until {
                self.step(None)?;
            }
            self.set_time(until);
            self.pump();
            self.check_convergence()?;
            self.is_faultless = false;
            self.kubernetes.approves = 2;
            self.next_event = self.at;
            if self.random.u8(0..3) > 0 {
                break;
            }
        }
        self.end_of_life()
    }

    pub(crate) fn passes(&self) -> u64 {
        self.passes
    }

    /// How long everything may take to be in order once nothing is in its way.
    pub(crate) fn convergence_limit(&self) -> Duration {
        let intervals = &self.config.settings.intervals;
        // The longest Retry-After, an error after it, and the life of an MTU, which is
        // noticed at the poll after it.
        let asked = self.transport.state().counts.contains_key("long pause");
        let pause = Duration::from_secs(if asked { 700 } else { 160 });
        let retries = pause + intervals.error.mul_f64(2.2);
        // What is held is seen by a pass, approved, and sent by the next.
        let held = intervals.slow.mul_f64(2.2) + Duration::from_secs(30);
        retries + intervals.slow.mul_f64(2.5 + 2.2) + held + Duration::from_secs(60)
    }

    pub(crate) fn count(&mut self, kind: &str) {
        *self.transport.state().counts.entry(kind.to_owned()).or_default() += 1;
    }

    pub(crate) fn is_left_out(&self, kind: &str) -> bool {
        self.plan.without.contains(kind)
    }

    pub(crate) fn wall(&self) -> Timestamp {
        (self.begin + self.at).checked_add(self.skew).unwrap()
    }

    pub(crate) fn set_time(&mut self, at: Duration) {
        let step = at.saturating_sub(self.at);
        self.at = self.at.max(at);
        if let Some(process) = &self.process {
            process.context.clock.advance(step);
        }
        self.transport.now.state.lock().time = Some(self.begin + self.at);
        self.transport.before.state.lock().time = Some(self.begin + self.at);
    }

    pub(crate) fn next_time(&self) -> Duration {
        let never = Duration::MAX;
        let own = match &self.process {
            None => self.restart_at,
            Some(process) => {
                let due = process.controller.next_due().map(|due| due + process.started);
                let pending_passes = self.next_pass().map(|(_, begins)| begins);
                let reports = process.reports.iter().map(|(at, _)| *at).min();
                [
                    due,
                    pending_passes,
                    reports,
                    process.retry_at,
                    process.write_at,
                    self.kubernetes.due(),
                ]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(never)
            }
        };
        let event = if self.is_faultless { never } else { self.next_event };
        own.min(event).max(self.at)
    }

    /// The pending that begins next.
    pub(crate) fn next_pass(&self) -> Option<(usize, Duration)> {
        let process = self.process.as_ref()?;
        let pending_passes = process.pending_passes.iter().enumerate();
        pending_passes
            .map(|(index, pending)| (index, pending.begins))
            .min_by_key(|(_, begins)| *begins)
    }

    /// Goes to the next thing that happens, and lets it happen.
    pub(crate) fn step(&mut self, until: Option<Duration>) -> Result<(), Broken> {
        let at = self.next_time();
        if until.is_some_and(|until| at > until) {
            return Ok(());
        }
        if at == Duration::MAX {
            return Err("(c) nothing will ever happen again".to_owned());
        }
        self.set_time(at);
        if !self.is_faultless && self.next_event <= at {
            self.something_happens();
        }
        if self.process.is_none() {
            if self.restart_at <= at {
                self.start()?;
            }
        } else {
            self.turn(at)?;
        }
        self.pump();
        if let Some(line) = secrets::leaked() {
            return Err(format!("(f) a log line shows a secret: {line}"));
        }
        if self.passes > SYNCS_EVER {
            return Err("(e) far too many syncs".to_owned());
        }
        self.trace.broken.take().map_or(Ok(()), Err)
    }

    /// What is due for the operator at this moment, one thing of each kind.
    pub(crate) fn turn(&mut self, at: Duration) -> Result<(), Broken> {
        let process = self.process.as_mut().unwrap();
        if process.retry_at.is_some_and(|due| due <= at) {
            process.retry_at = None;
            self.on_disk(|store| store.retry());
        }
        if let Some((_, begins)) = self.next_pass()
            && begins <= at
        {
            let (index, _) = self.next_pass().unwrap();
            let pending = self.process.as_mut().unwrap().pending_passes.remove(index);
            self.run_pass(pending)?;
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        if let Some(index) = process.reports.iter().position(|(due, _)| *due <= at) {
            let (_, event) = process.reports.remove(index);
            let wall = process.context.clock.now().wall;
            if let Event::Finished { work, outcome, took } = &event {
                self.pace.finished(at, wall, work, outcome, &self.config.settings.intervals, *took);
            }
            self.handle(event);
        }
        while self.kubernetes.due().is_some_and(|due| due <= at)
            && self.process.is_some()
            && let Some(event) = self.kubernetes.tell()
        {
            self.handle(event);
        }
        Ok(())
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.pace.woken(&event);
        if let Some(process) = &mut self.process {
            process.controller.handle(process.context.clock.now(), event);
        }
    }

    /// Hands out jobs and does what the controller wants done.
    pub(crate) fn pump(&mut self) {
        loop {
            let Some(process) = &mut self.process else { return };
            let now = process.context.clock.now();
            let effects = process.controller.dispatch(now);
            let none = effects.is_empty();
            for effect in effects {
                match effect {
                    Effect::Start(pass) => {
                        for work in &pass.work {
                            if let Err(what) = self.pace.check(self.at, work) {
                                self.trace.broken = Some(what);
                            }
                        }
                        let begins = self.at + Duration::from_millis(self.random.u64(0..300));
                        self.process
                            .as_mut()
                            .unwrap()
                            .pending_passes
                            .push(PendingPass { pass, begins });
                    }
                    effect => self.perform(effect),
                }
            }
            let reported = self.write();
            if none && !reported {
                return;
            }
        }
    }

    pub(crate) fn end_of_life(&mut self) -> Result<(), Broken> {
        self.check_metrics();
        if let Some(found) = secrets::secret_in(&self.disk.text()) {
            return Err(format!("(f) a file holds a secret: {found}"));
        }
        self.trace.broken.take().map_or(Ok(()), Err)
    }

    /// What the writer writes, and whether it had anything to report.
    pub(crate) fn write(&mut self) -> bool {
        crate::writes::write(self)
    }

    pub(crate) fn perform(&mut self, effect: Effect) {
        crate::writes::perform(self, effect);
    }

    pub(crate) fn now(&self) -> Now {
        self.process.as_ref().unwrap().context.clock.now()
    }
}

/// What somebody panicked with.
pub(crate) fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "no text".to_owned())
}
