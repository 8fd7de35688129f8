//! Builds the parts, joins them, and stops them in order: the only file that knows everybody.
//!
//! ```text
//!  watchers ──▶ events ──▶ Controller ──▶ passes ─▶ workers
//!  writer   ──▶   ▲            │                      │
//!  election ──▶   │            └──▶ writer            │
//!                 └───────────── Finished ◀───────────┘
//! ```
//!
//! The events' channel has many senders and one receiver, this thread; the passes' channel has one
//! place for each worker, and a pass is only made for an idle one. So this thread never waits in a
//! send, and the two channels can't hold each other up.

mod effects;
mod forward;
mod gate;
mod leader;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select};

use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::config::{Config, LeaderElection as ElectionSettings};
use crate::controller::{Controller, Event};
use crate::health::{Health, Probes};
use crate::http::client::Clients;
use crate::http::server::{Handler, Limits, Server};
use crate::inventory::api::{Api, ApiSettings};
use crate::inventory::store::Store;
use crate::kube::client::KubeClient;
use crate::kube::lease::{LeaderElection, Leadership, LeaseHold, LeaseSettings, LeaseTiming};
use crate::kube::watch::Timing;
use crate::kube::watcher::{WatchSettings, Watcher};
use crate::kube::writer::Writer;
use crate::metrics::{CONTROLLER, Metrics};
use crate::overview::Overview;
use crate::reconcile::claims::Claims;
use crate::reconcile::{Context, Pass};
use crate::resources::OPENSTACK_CONFIGS;
use crate::targets::viola::Viola;
use crate::threads::lock;
use crate::{signals, worker};
use forward::Forwarder;
use gate::InventoryGate;
use leader::{ADDRESS_ANNOTATION, Leader};

/// Events that may wait; watchers wait when it is full.
const EVENT_PLACES: usize = 1024;
/// Events taken in one turn before work is handed out again.
const EVENTS_PER_TURN: usize = 256;
/// The loop turns at least this often, so that a stuck one is noticed; and as often, gauges over all
/// objects are worked out and the threads looked after.
const CHECKS_EVERY: Duration = Duration::from_secs(5);

/// So long a start waits for the inventory's disk. After that no node is sent until it answers, and
/// probes, statuses and the log say so.
const STORE_GRACE: Duration = Duration::from_secs(6);

/// Of the ten seconds a stop may take: for running syncs to finish,
const SYNC_GRACE: Duration = Duration::from_secs(4);
/// for those cut short to notice,
const CUT_GRACE: Duration = Duration::from_millis(1500);
/// for the last statuses,
const WRITER_GRACE: Duration = Duration::from_millis(1500);
/// and for the Lease and the servers.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Signal,
    LeadershipLost,
    /// The thread of this name ended though nobody asked it to.
    ThreadEnded(&'static str),
}

/// Runs until a signal, and gives the exit code: 0 after an orderly stop, 1 after trouble.
pub fn run(config: Config) -> ExitCode {
    let stop = match signals::stop_requests() {
        Ok(stop) => stop,
        Err(error) => return failed(&format!("signals can't be handled: {error}")),
    };
    announce(&config);
    match Operator::start(config, stop) {
        Ok(operator) => operator.run(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    log::error!("{error}");
    ExitCode::FAILURE
}

fn announce(config: &Config) {
    log::info!("multinic-operator {} starts", env!("CARGO_PKG_VERSION"));
    for service in config.unverified() {
        log::warn!("certificates of {service} are not verified (set its _CA_FILE to change that)");
    }
    for (scheme, proxy) in config.proxies.all() {
        let (host, port) = (&proxy.host, proxy.port);
        log::info!("{scheme} services are reached through the proxy {host}:{port}");
    }
    for variable in config.all_missing() {
        log::error!("{variable} is not set; until it is, every OpenstackConfig says ConfigError");
    }
}

/// What exists from start to stop, whether or not this replica leads.
struct Operator {
    config: Arc<Config>,
    clock: Clock,
    metrics: Arc<Metrics>,
    overview: Arc<Overview>,
    health: Arc<Health>,
    /// Set once this replica works.
    store: Arc<OnceLock<Arc<Store>>>,
    api: Arc<OnceLock<Api>>,
    /// Who leads instead of us.
    leader: Arc<Mutex<Option<Leader>>>,
    /// Where the inventory's API listens, if it does.
    inventory: Option<SocketAddr>,
    /// May syncs still act on the outside world? Not once the stop has come to cutting them short.
    may_act: Arc<AtomicBool>,
    /// Has another replica, perhaps, been leading since?
    lost: Arc<AtomicBool>,
    /// What the clock says to that, where replicas elect a leader.
    hold: OnceLock<LeaseHold>,
    kubernetes: KubeClient,
    servers: Vec<Server>,
    stop: Receiver<()>,
}

impl Operator {
    fn start(config: Config, stop: Receiver<()>) -> Result<Operator, String> {
        let clock = Clock::system();
        let metrics = Arc::new(Metrics::default());
        metrics.set("multinic_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let workers = config.workers as f64;
        metrics.set("controller_runtime_max_concurrent_reconciles", &[CONTROLLER], workers);
        let kubernetes =
            KubeClient::new(config.kubernetes.clone(), clock.clone(), Arc::clone(&metrics));
        let mut operator = Operator {
            config: Arc::new(config),
            clock,
            metrics,
            overview: Arc::default(),
            health: Arc::default(),
            store: Arc::default(),
            api: Arc::default(),
            leader: Arc::default(),
            inventory: None,
            may_act: Arc::new(AtomicBool::new(true)),
            lost: Arc::default(),
            hold: OnceLock::new(),
            kubernetes,
            servers: Vec::new(),
            stop,
        };
        operator.serve()?;
        Ok(operator)
    }

    /// Health and inventory answer from the first moment.
    fn serve(&mut self) -> Result<(), String> {
        let probes = Probes {
            health: Arc::clone(&self.health),
            store: Arc::clone(&self.store),
            metrics: Arc::clone(&self.metrics),
            clock: self.clock.clone(),
        };
        let health_address = self.config.health_address;
        self.listen("health", "HEALTH_ADDR", health_address, Arc::new(probes))?;
        if self.config.inventory.enabled {
            let (api, leader) = (Arc::clone(&self.api), Arc::clone(&self.leader));
            let forwarder = Forwarder::new(Arc::clone(&self.metrics));
            let gate = InventoryGate { api, leader, forwarder };
            let address = self.config.inventory.address;
            let address = self.listen("inventory", "INVENTORY_ADDR", address, Arc::new(gate))?;
            self.inventory = Some(address);
        }
        Ok(())
    }

    fn listen(
        &mut self,
        name: &'static str,
        variable: &str,
        address: SocketAddr,
        handler: Arc<dyn Handler>,
    ) -> Result<SocketAddr, String> {
        let start = |address| {
            let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
            Server::start(name, address, Limits::default(), Arc::clone(&handler), clock, metrics)
        };
        let started = start(address).or_else(|error| {
            // Nodes without IPv6 have no wildcard that takes both.
            let any = address.ip().is_unspecified() && address.is_ipv6();
            match any && error.kind() != io::ErrorKind::AddrInUse {
                true => start(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))),
                false => Err(error),
            }
        });
        let server =
            started.map_err(|error| format!("{variable}: can't listen on {address}: {error}"))?;
        log::info!("{name} listens on {}", server.address());
        let address = server.address();
        self.servers.push(server);
        Ok(address)
    }

    fn run(self) -> ExitCode {
        let (events, received) = bounded(EVENT_PLACES);
        let end = match &self.config.leader_election {
            None => self.work(&events, &received, never()),
            Some(settings) => self.work_when_leading(settings, &events, &received),
        };
        for server in &self.servers {
            server.stop(LAST_GRACE);
        }
        match end {
            Ok(End::Signal) => {
                log::info!("stopped");
                ExitCode::SUCCESS
            }
            Ok(End::LeadershipLost) => failed("leadership was lost; starting anew is the way back"),
            Ok(End::ThreadEnded(name)) => {
                failed(&format!("the thread {name} ended unexpectedly; see the lines above"))
            }
            Err(error) => failed(&format!("a thread can't be started: {error}")),
        }
    }

    /// Waits for the Lease, works while holding it, and gives it back.
    fn work_when_leading(
        &self,
        settings: &ElectionSettings,
        events: &Sender<Event>,
        received: &Receiver<Event>,
    ) -> io::Result<End> {
        let (news, heard) = bounded::<Leadership>(16);
        let (leader, has_lost) = (Arc::clone(&self.leader), Arc::clone(&self.lost));
        *lock(&self.leader) = Some(Leader::named("not known yet"));
        let own_ip = settings.pod_ip;
        let sink = move |leadership: Leadership| {
            if leadership == Leadership::Lost {
                // Before anything else: not one more request may go out.
                has_lost.store(true, Ordering::SeqCst);
            }
            let (in_our_place, problem) = match &leadership {
                Leadership::Leading => (None, None),
                Leadership::Following { leader, annotations } => {
                    let said = annotations.get(ADDRESS_ANNOTATION);
                    let (leader, problem) = Leader::read(leader, said.map(String::as_str), own_ip);
                    (Some(leader), problem)
                }
                Leadership::Lost => (Some(Leader::named("not known")), None),
            };
            *lock(&leader) = in_our_place;
            if let Some(problem) = problem {
                log::warn!("{ADDRESS_ANNOTATION} of the Lease is ignored: {problem}");
            }
            let _ = news.try_send(leadership);
        };
        let address = settings.pod_ip.zip(self.inventory);
        let address = address.map(|(ip, at)| SocketAddr::new(ip, at.port()).to_string());
        let lease = LeaseSettings {
            namespace: settings.namespace.clone(),
            name: "multinic-operator".to_owned(),
            identity: settings.identity.clone(),
            timing: LeaseTiming::default(),
            annotations: BTreeMap::from([(ADDRESS_ANNOTATION, address)]),
        };
        let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
        let election = LeaderElection::spawn(&self.kubernetes, lease, clock, metrics, sink)?;
        let _ = self.hold.set(election.hold());
        let end = self.wait_for_the_lease(events, received, &heard)?;
        election.release(LAST_GRACE);
        Ok(end)
    }

    fn wait_for_the_lease(
        &self,
        events: &Sender<Event>,
        received: &Receiver<Event>,
        heard: &Receiver<Leadership>,
    ) -> io::Result<End> {
        loop {
            select! {
                recv(self.stop) -> asked => return Ok(end_of_signals(asked.is_ok())),
                recv(heard) -> leadership => match leadership {
                    Ok(Leadership::Leading) => {
                        return self.work(events, received, lost(heard.clone())?);
                    }
                    Ok(_) => {}
                    Err(_) => return Ok(End::ThreadEnded("leader-election")),
                },
                default(CHECKS_EVERY) => {
                    self.health.turned(self.clock.now().uptime);
                    if let Some(name) = self.ended_server() {
                        return Ok(End::ThreadEnded(name));
                    }
                }
            }
        }
    }

    /// A standby answers too, so its servers are looked after as well.
    fn ended_server(&self) -> Option<&'static str> {
        self.servers.iter().any(Server::has_lost_its_thread).then_some("http")
    }

    /// The work itself, until a signal, or until `lost` says that the Lease is gone.
    fn work(
        &self,
        events: &Sender<Event>,
        received: &Receiver<Event>,
        lost: Receiver<()>,
    ) -> io::Result<End> {
        let path = &self.config.inventory.path;
        let store = Store::open(path, self.clock.clone(), Arc::clone(&self.metrics));
        let _ = self.store.set(Arc::clone(&store));
        let _ = self.api.set(self.api(&store));
        store.wait_until_opened(STORE_GRACE);
        let context = Arc::new(self.context(&store));
        let (passes, taken) = bounded::<Pass>(self.config.workers);
        let mut workers = Vec::new();
        for number in 1..=self.config.workers {
            let (context, metrics) = (Arc::clone(&context), Arc::clone(&self.metrics));
            workers.push(worker::spawn(number, context, taken.clone(), events.clone(), metrics)?);
        }
        let writer = self.writer(events)?;
        let watchers = self.watchers(events)?;
        let controller = Controller::new(
            self.config.intervals,
            self.config.workers,
            Arc::clone(&context.claims),
            Arc::clone(&self.metrics),
            Arc::clone(&self.overview),
        )
        .expecting(watchers.len(), self.clock.now());
        let mut work =
            Work { operator: self, controller, context, passes, workers, writer, watchers };
        let end = work.turn_until_stopped(received, &lost);
        work.stop(received, end);
        store.flush_and_close();
        Ok(end)
    }

    fn api(&self, store: &Arc<Store>) -> Api {
        let settings = ApiSettings {
            cors_origin: self.config.inventory.cors_origin.clone(),
            token_file: self.config.inventory.token_file.clone(),
        };
        let leader = Arc::clone(&self.leader);
        let leadership = Arc::new(move || lock(&leader).as_ref().map(|leader| leader.name.clone()));
        Api::new(Arc::clone(store), Arc::clone(&self.overview), settings, leadership)
    }

    fn context(&self, store: &Arc<Store>) -> Context {
        let (may_act, leads) = (Arc::clone(&self.may_act), self.leads());
        let clients = Clients::new(&self.metrics);
        let namespaces = self.config.watch_scopes().into_iter().flatten();
        Context {
            config: Arc::clone(&self.config),
            cloud: Arc::new(Cloud::new(&self.config, self.clock.clone(), &clients)),
            viola: Arc::new(Viola::new(&self.config, &clients)),
            store: Arc::clone(store),
            claims: Arc::new(Claims::expecting(namespaces.map(str::to_owned))),
            clock: self.clock.clone(),
            may_act: Arc::new(move || may_act.load(Ordering::SeqCst) && leads()),
        }
    }

    /// Says at any time whether nobody else leads. The hold alone doesn't: an election that has lost
    /// the Lease may win it again before this process has ended.
    fn leads(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let (lost, hold) = (Arc::clone(&self.lost), self.hold.get().cloned());
        move || !lost.load(Ordering::SeqCst) && hold.as_ref().is_none_or(LeaseHold::is_held)
    }

    fn writer(&self, events: &Sender<Event>) -> io::Result<Writer> {
        let instance = match &self.config.leader_election {
            Some(settings) => settings.identity.clone(),
            None => "multinic-operator".to_owned(),
        };
        let (clock, metrics, events) =
            (self.clock.clone(), Arc::clone(&self.metrics), events.clone());
        // Not `may_act`: the last statuses are written when syncs may no longer act.
        let may_write = self.leads();
        Writer::spawn(
            &self.kubernetes,
            instance,
            clock,
            metrics,
            may_write,
            move |secret, state| {
                let _ = events.send(effects::event_of(secret, state));
            },
        )
    }

    fn watchers(&self, events: &Sender<Event>) -> io::Result<Vec<Watcher>> {
        let watcher = |namespace: Option<&str>| {
            let name = namespace
                .map_or_else(|| "watch".to_owned(), |namespace| format!("watch-{namespace}"));
            let settings = WatchSettings {
                resource: OPENSTACK_CONFIGS,
                namespace: namespace.map(str::to_owned),
                timing: Timing::default(),
                seed: fastrand::u64(..),
            };
            let (clock, metrics, events) =
                (self.clock.clone(), Arc::clone(&self.metrics), events.clone());
            Watcher::spawn(&name, &self.kubernetes, settings, clock, metrics, move |observation| {
                if let Some(event) = effects::event_of_observation(observation) {
                    let _ = events.send(event);
                }
            })
        };
        self.config.watch_scopes().into_iter().map(watcher).collect()
    }
}

/// The signals' thread speaks, or has come to an end that nobody asked for.
fn end_of_signals(asked: bool) -> End {
    if asked { End::Signal } else { End::ThreadEnded("signals") }
}

/// A channel that says once that the Lease is lost.
fn lost(heard: Receiver<Leadership>) -> io::Result<Receiver<()>> {
    let (tell, told) = bounded(1);
    crate::threads::spawn("leadership", move || {
        for leadership in heard {
            if leadership == Leadership::Lost {
                let _ = tell.try_send(());
            }
        }
    })?;
    Ok(told)
}

/// The loop and what it turns.
struct Work<'a> {
    operator: &'a Operator,
    controller: Controller,
    context: Arc<Context>,
    passes: Sender<Pass>,
    workers: Vec<JoinHandle<()>>,
    writer: Writer,
    watchers: Vec<Watcher>,
}

impl Work<'_> {
    fn turn_until_stopped(&mut self, received: &Receiver<Event>, lost: &Receiver<()>) -> End {
        let clock = self.operator.clock.clone();
        let mut checks_due = Duration::ZERO;
        loop {
            let now = clock.now();
            self.operator.health.turned(now.uptime);
            if now.uptime >= checks_due {
                checks_due = now.uptime + CHECKS_EVERY;
                self.controller.publish_gauges(now);
                if let Some(name) = self.ended_thread() {
                    return End::ThreadEnded(name);
                }
            }
            let due = self.controller.next_due().map_or(checks_due, |due| due.min(checks_due));
            let wait = due.saturating_sub(now.uptime);
            select! {
                recv(self.operator.stop) -> asked => return end_of_signals(asked.is_ok()),
                recv(lost) -> told => {
                    if told.is_err() {
                        // Nobody renews the Lease then, so it is as good as lost.
                        log::error!("the thread leader-election ended unexpectedly");
                    }
                    return End::LeadershipLost;
                }
                recv(received) -> event => self.take(received, event.ok()),
                default(wait) => {}
            }
            self.dispatch();
        }
    }

    /// A thread without which nothing, or not everything, is done any more.
    fn ended_thread(&self) -> Option<&'static str> {
        if let Some(name) = self.operator.ended_server() {
            return Some(name);
        }
        if self.watchers.iter().any(|watcher| watcher.join(Duration::ZERO)) {
            return Some("watch");
        }
        if self.workers.iter().any(JoinHandle::is_finished) {
            return Some("sync");
        }
        if self.context.store.has_lost_its_thread() {
            return Some("inventory");
        }
        self.writer.has_lost_a_thread().then_some("kubernetes-writer")
    }

    fn take(&mut self, received: &Receiver<Event>, first: Option<Event>) {
        let now = self.operator.clock.now();
        let waiting = received.try_iter().take(EVENTS_PER_TURN);
        for event in first.into_iter().chain(waiting) {
            self.controller.handle(now, event);
        }
        if self.controller.scopes_listed() >= self.watchers.len() {
            self.operator.health.listed();
        }
    }

    fn dispatch(&mut self) {
        let now = self.operator.clock.now();
        for effect in self.controller.dispatch(now) {
            effects::perform(effect, &self.passes, &self.writer);
        }
    }

    /// In order: no new work, what runs may finish or is cut at a safe point, the last statuses
    /// are written. A POST that is cut counts as not accepted, so its nodes are sent again.
    fn stop(mut self, received: &Receiver<Event>, end: End) {
        log::info!("stopping");
        self.operator.health.stopping();
        self.controller.stop();
        if end == End::LeadershipLost {
            // Another replica may be writing by now, so nothing is finished.
            self.writer.abandon();
            self.cut();
        }
        for watcher in &mut self.watchers {
            watcher.stop();
        }
        if end != End::LeadershipLost {
            self.wait_for_workers(received, SYNC_GRACE);
        }
        self.cut();
        self.wait_for_workers(received, CUT_GRACE);
        if end == End::LeadershipLost {
            return;
        }
        // Nobody takes events any more: the writer must find room for what it still reports.
        while received.try_recv().is_ok() {}
        if !self.writer.stop(WRITER_GRACE) {
            log::warn!("the last statuses could not be written");
        }
    }

    /// Ends what syncs are doing, at a safe point.
    fn cut(&self) {
        self.operator.may_act.store(false, Ordering::SeqCst);
        self.context.cloud.shutdown();
        self.context.viola.shutdown();
    }

    fn wait_for_workers(&mut self, received: &Receiver<Event>, limit: Duration) {
        let clock = self.operator.clock.clone();
        let until = clock.now().uptime + limit;
        while self.controller.is_busy() {
            let left = until.saturating_sub(clock.now().uptime);
            match received.recv_timeout(left) {
                Ok(event @ (Event::Finished { .. } | Event::PassEnded { .. })) => {
                    self.controller.handle(clock.now(), event);
                    self.dispatch();
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::bounded;

    use super::{End, Operator};
    use crate::config::Config;

    #[test]
    fn a_standby_whose_server_has_lost_its_thread_ends() {
        let config = Config::read(|name| {
            let value = match name {
                "HEALTH_ADDR" | "INVENTORY_ADDR" => "127.0.0.1:0",
                "LEADER_ELECT" => "true",
                "POD_NAMESPACE" => "default",
                // Nobody listens there, so somebody else might lead for all it knows.
                "KUBE_API_URL" => "http://127.0.0.1:1",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let (_stop, asked) = bounded(1);
        let operator = Operator::start(config.unwrap(), asked).unwrap();
        operator.servers[1].stop(Duration::from_secs(5));
        let (events, received) = bounded(1);
        let settings = operator.config.leader_election.clone().unwrap();
        let end = operator.work_when_leading(&settings, &events, &received);
        assert_eq!(end.unwrap(), End::ThreadEnded("http"));
    }
}
