//! A soak: faults and convergence in turns, by one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use simulated_cloud::{Cloud, Scenario};
use tempfile::TempDir;

use crate::cloud;
use crate::soak::faults::Recovery;
use crate::soak::figures::Figures;
use crate::soak::oracle::SoakOracle;
use crate::soak::process::{Disturbance, OperatorProcess};
use crate::usage::Cost;

/// Everything is in order so long after the last fault, on a machine that is busy: one longest
/// back-off is 30 s.
const IN_ORDER: Duration = Duration::from_secs(180);
/// The process listens so long after its start.
const STARTED: Duration = Duration::from_secs(60);
/// Requests a second that a few quiet objects may cost, with pages of one row; a loop without a
/// pause makes thousands.
const REQUESTS: u64 = 800;

/// What a soak is to be like.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// No fault begins after this.
    pub(crate) length: Duration,
    /// How long faults last before each convergence.
    pub(crate) faults: Duration,
    /// How long it is watched once all is in order.
    pub(crate) steady: Duration,
    /// With clocks and disks too, and long lives.
    pub(crate) is_whole: bool,
}

/// One soak.
pub(crate) struct Soak {
    pub(crate) plan: Plan,
    pub(crate) random: fastrand::Rng,
    pub(crate) cloud: Cloud,
    pub(crate) process: OperatorProcess,
    pub(crate) oracle: SoakOracle,
    pub(crate) figures: Figures,
    /// How long a service is waited for.
    pub(crate) timeout: Duration,
    /// When the faults end, in ms.
    pub(crate) recoveries: Vec<(u64, Recovery)>,
    /// Holds the Kubernetes token.
    pub(crate) folder: TempDir,
    /// Since when, and until when the process is stopped.
    pub(crate) paused: Option<(u64, u64)>,
    /// Until when the limits hold.
    pub(crate) starved_until: Option<u64>,
    /// It may end for want of memory.
    pub(crate) may_end: bool,
    /// It said that it ends for that.
    pub(crate) said_why: bool,
    pub(crate) disk_bad_until: Option<u64>,
    /// Processes of this period start with a clock that can jump.
    pub(crate) with_clock: bool,
    /// When the process started, in ms.
    born: u64,
    pub(crate) sampled: (u64, f64),
    pub(crate) requests: BTreeMap<String, u64>,
    /// VMs whose ports were asked for, in lower case.
    pub(crate) asked_vms: BTreeSet<String>,
}

/// What was wrong.
pub(crate) type Broken = String;

impl Soak {
    /// Runs it; fails with its trace.
    pub(crate) fn run(plan: Plan) {
        println!("SOAK_SEED={}", plan.seed);
        let mut soak = Soak::new(plan);
        let result = soak.all();
        let table = soak.figures.table();
        soak.figures.note_log(&table);
        println!("{table}");
        if let Err(what) = result {
            let seed = soak.plan.seed;
            panic!("SOAK_SEED={seed}: {what}\n{}", soak.figures.trace());
        }
    }

    fn new(plan: Plan) -> Soak {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let mut state = cloud::beginning(&mut random);
        state.settings.keep_alive = random.bool();
        state.settings.neutron_uwsgi = random.bool();
        let scenario = Scenario { state, ..Scenario::default() };
        let cloud = Cloud::start(scenario).unwrap();
        let folder = TempDir::new().unwrap();
        let token_file = folder.path().join("token");
        let token = format!("{}-first", cloud::SECRET_MARK);
        cloud.kubernetes().accept_token(&token, "operator");
        std::fs::write(&token_file, &token).unwrap();
        let timeout = Duration::from_secs(random.u64(2..4));
        let limit = format!("{}s", timeout.as_secs());
        let slow = Duration::from_secs(1);
        let mut variables = vec![
            ("CONTRABASS_TIMEOUT", limit.as_str()),
            ("OPENSTACK_TIMEOUT", &limit),
            ("VIOLA_TIMEOUT", &limit),
            ("POLL_FAST_INTERVAL", "500ms"),
            ("POLL_SLOW_INTERVAL", "1s"),
            ("POLL_ERROR_INTERVAL", "500ms"),
            ("POLL_FAST_WINDOW", "3s"),
            ("RUST_LOG", "trace"),
            ("KUBE_TOKEN_FILE", token_file.to_str().unwrap()),
        ];
        let name_key = random.bool();
        if name_key {
            variables.push(("OPENSTACK_NODE_NAME_METADATA_KEY", cloud::NAME_KEY));
        }
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut oracle = SoakOracle::default();
        // Contrabass, Keystone twice, two waves at Neutron, Nova, Viola; and a slow machine.
        oracle.pass = timeout * 8 + Duration::from_secs(5);
        oracle.mtu_life = slow.mul_f64(2.5) + Duration::from_secs(1);
        oracle.name_key = name_key;
        Soak {
            process: OperatorProcess::new(variables, plan.is_whole),
            figures: Figures::new(plan.seed),
            plan,
            random,
            cloud,
            oracle,
            timeout,
            recoveries: Vec::new(),
            folder,
            paused: None,
            starved_until: None,
            may_end: false,
            said_why: false,
            disk_bad_until: None,
            with_clock: true,
            born: 0,
            sampled: (0, 0.0),
            requests: BTreeMap::new(),
            asked_vms: BTreeSet::new(),
        }
    }

    /// Milliseconds since the cloud's beginning.
    pub(crate) fn now(&self) -> u64 {
        self.cloud.journal().now_ms()
    }

    /// Something of this kind happened.
    pub(crate) fn tell(&mut self, kind: &str, text: &str) {
        self.figures.count(kind);
        let now = self.now();
        self.figures.tell(now, text);
    }

    fn all(&mut self) -> Result<(), Broken> {
        self.begin();
        self.start(true)?;
        let until = self.plan.length.as_millis() as u64;
        let mut period = 0;
        while period == 0 || self.now() < until {
            self.run_faults(period)?;
            self.converge()?;
            period += 1;
        }
        if let Some(growth) = self.figures.growth() {
            return Err(growth);
        }
        self.terminate()?;
        self.figures.add("POSTs checked", self.oracle.posts);
        self.figures.add("nodes in POSTs checked", self.oracle.nodes);
        self.figures.add("ids compared with earlier ones", self.oracle.ids);
        for (kind, count) in std::mem::take(&mut self.requests) {
            self.figures.add(&kind, count);
        }
        if self.oracle.posts == 0 {
            return Err("nothing was ever sent".to_owned());
        }
        Ok(())
    }

    fn run_faults(&mut self, period: u32) -> Result<(), Broken> {
        self.with_clock = self.has_clock_now(period);
        let schedule = self.schedule(period);
        self.tell("periods of faults", &format!("faults {} begin: {schedule:?}", period + 1));
        let until = self.now() + self.plan.faults.as_millis() as u64;
        let mut schedule = schedule.into_iter().peekable();
        while self.now() < until {
            while let Some((_, disturbance)) = schedule.next_if(|(at, _)| *at <= self.now()) {
                self.disturb(disturbance)?;
            }
            self.recover_services(false);
            self.something_happens();
            self.note_troubles();
            self.recover(false);
            self.watch_over()?;
            let pause = if self.plan.is_whole { 30..400 } else { 20..200 };
            std::thread::sleep(Duration::from_millis(self.random.u64(pause)));
        }
        Ok(())
    }

    fn disturb(&mut self, disturbance: Disturbance) -> Result<(), Broken> {
        let is_of_disk =
            matches!(disturbance, Disturbance::DiskFull(_) | Disturbance::DiskReadOnly(_));
        if is_of_disk && self.disk_bad_until.is_some() {
            return Ok(());
        }
        let now = self.now();
        let until = |length: Duration| now + length.as_millis() as u64;
        self.tell(disturbance.kind(), &format!("{disturbance:?}"));
        match disturbance {
            Disturbance::Kill => self.kill()?,
            Disturbance::Terminate => {
                self.terminate()?;
                let with_clock = self.with_clock;
                self.start(with_clock)?;
            }
            Disturbance::Pause(length) => {
                if self.paused.is_none() {
                    self.paused = Some((now, until(length)));
                    self.process.signal("STOP");
                }
            }
            Disturbance::FewDescriptors(count, length) => {
                self.starved_until = Some(until(length));
                // A journal can't be opened anew without a descriptor.
                self.oracle.note_disk_bad(now);
                self.process.limit_descriptors(Some(count));
            }
            Disturbance::LittleMemory(more, length) => {
                self.starved_until = Some(until(length));
                self.oracle.note_disk_bad(now);
                self.may_end = true;
                self.process.limit_memory(Some(more));
            }
            Disturbance::DiskFull(length) => {
                self.disk_bad_until = Some(until(length));
                self.oracle.note_disk_bad(now);
                self.process.disk.fill();
            }
            Disturbance::DiskReadOnly(length) => {
                self.terminate()?;
                if self.process.disk.set_read_only(true) {
                    self.disk_bad_until = Some(until(length));
                    self.oracle.note_disk_bad(self.now());
                }
                let with_clock = self.with_clock;
                self.start(with_clock)?;
            }
            Disturbance::ClockJump(seconds) => self.process.jump(seconds),
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Broken> {
        let at = self.now();
        let lines = self.process.kill();
        self.ended(at, &lines)?;
        let with_clock = self.with_clock;
        self.start(with_clock)
    }

    fn terminate(&mut self) -> Result<(), Broken> {
        self.resume();
        self.process.limit_memory(None);
        let at = self.now();
        let (lines, end) = self.process.terminate();
        self.ended(at, &lines)?;
        let took = end?;
        let now = self.now();
        self.figures.tell(now, &format!("it stopped within {took:?}"));
        Ok(())
    }

    fn resume(&mut self) {
        if let Some((from, _)) = self.paused.take() {
            self.process.signal("CONT");
            let now = self.now();
            self.oracle.note_pause(from, now);
            self.figures.tell(now, "it goes on");
        }
    }

    /// A process is no more.
    pub(crate) fn ended(&mut self, at: u64, lines: &[String]) -> Result<(), Broken> {
        if let Some((from, _)) = self.paused.take() {
            self.oracle.note_pause(from, at);
        }
        self.read_log(lines)?;
        (self.may_end, self.said_why) = (false, false);
        self.starved_until = None;
        self.check_requests()?;
        self.oracle.note_end(at);
        Ok(())
    }

    pub(crate) fn start(&mut self, with_clock: bool) -> Result<(), Broken> {
        self.process.start(&self.cloud, with_clock);
        let now = self.now();
        self.oracle.note_start(now, self.process.number);
        self.born = now;
        self.sampled = (self.now(), 0.0);
        self.figures.count("lives");
        let begun = self.now();
        let inventory = loop {
            match self.inventory() {
                Ok(inventory) => break inventory,
                Err(what) if self.now() > begun + STARTED.as_millis() as u64 => return Err(what),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
            let lines = self.process.take_lines();
            self.read_log(&lines)?;
        };
        self.figures
            .add("accepted nodes looked for after a start", self.oracle.answers.known() as u64);
        self.oracle.answers.missing(&inventory).map_or(Ok(()), Err)
    }

    /// Ends the pauses and wants that are due, or all of them.
    fn recover(&mut self, all: bool) {
        let now = self.now();
        let is_due = |until: u64| all || until <= now;
        if self.paused.is_some_and(|(_, until)| is_due(until)) {
            self.resume();
        }
        if self.starved_until.is_some_and(is_due) {
            self.starved_until = None;
            self.process.limit_descriptors(None);
            self.process.limit_memory(None);
            self.figures.tell(now, "it may have what it wants again");
        }
        if self.disk_bad_until.is_some_and(is_due) {
            self.disk_bad_until = None;
            self.process.disk.set_read_only(false);
            self.process.disk.empty();
            self.figures.tell(now, "the disk is well again");
        }
    }

    /// Nothing goes wrong any more; before long everything is in order, and stays so.
    fn converge(&mut self) -> Result<(), Broken> {
        self.recover_services(true);
        self.cloud.faults().clear();
        self.cloud.kubernetes().drop_next_events(0);
        self.cloud.viola().accept_all_nodes();
        let now = self.now();
        self.oracle.note_refusals(now, BTreeSet::new());
        self.heal();
        self.recover(true);
        self.cloud.kubernetes().restart();
        self.figures.tell(now, "from here on nothing goes wrong any more");
        let reached_after = self.wait_for_order()?;
        let begun = self.now();
        self.check_requests()?;
        self.asked_vms.clear();
        let mut asked = 0;
        while self.now() < begun + self.plan.steady.as_millis() as u64 {
            std::thread::sleep(Duration::from_millis(200));
            let lines = self.process.take_lines();
            self.read_log(&lines)?;
            asked += self.check_requests()?;
        }
        self.check_convergence().map_err(|what| format!("all was in order, and then: {what}"))?;
        self.check_polls()?;
        let most = REQUESTS * self.plan.steady.as_secs();
        if asked > most {
            return Err(format!("{asked} requests in {:?} without faults", self.plan.steady));
        }
        self.oracle.note_disk_well();
        self.search_for_secrets()?;
        if let Some(cost) = self.process.id().and_then(Cost::of) {
            let now = self.now();
            let is_grown = now >= self.born + self.plan.faults.as_millis() as u64;
            self.figures.sample((self.process.number, is_grown), now, cost, reached_after);
        }
        self.figures.count("convergences");
        Ok(())
    }

    fn wait_for_order(&mut self) -> Result<f64, Broken> {
        let begun = self.now();
        loop {
            std::thread::sleep(Duration::from_millis(250));
            self.watch_over()?;
            let passed = self.now() - begun;
            match self.check_convergence() {
                Ok(()) => return Ok(passed as f64 / 1000.0),
                Err(what) if passed > IN_ORDER.as_millis() as u64 => {
                    return Err(format!("not in order after {passed} ms without faults: {what}"));
                }
                Err(_) => {}
            }
        }
    }
}
