//! Starts the parts, connects them, and stops them in order.
//!
//! ```text
//!  watchers ──▶ events ──▶ controller ──▶ passes ──▶ workers ──▶ OpenStack, Viola, inventory
//!  writer   ──▶   ▲            │                        │
//!                 │            └──▶ writer ──▶ Kubernetes
//!                 └───────── outcomes ◀─────────────────┘
//! ```
//!
//! The main thread runs [`main_loop`]: it takes events and hands out what the controller wants done.
//! The events' channel has many senders and this one receiver. The passes' channel has one place for
//! each worker, and a pass is only made for an idle one. So the main thread never waits in a send, and
//! the two channels can't block each other.

mod clusters;
mod effects;
mod leadership;
mod listeners;
mod main_loop;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use crate::clock::Clock;
use crate::cloud::Clouds;
use crate::cloud::object_secrets::ObjectSecrets;
use crate::config::{Config, LeaderElection as ElectionSettings};
use crate::controller::{Controller, Event};
use crate::health::{Health, Probes};
use crate::http::client::Clients;
use crate::http::server::{Handler, Limits, Request, Server};
use crate::inventory::api::{self, Api, ApiSettings};
use crate::inventory::record::Owner;
use crate::inventory::store::Store;
use crate::kube::client::KubeClient;
use crate::kube::lease::Leadership;
use crate::kube::secret_reader;
use crate::kube::secret_writer::SecretManifest;
use crate::kube::watch::Timing;
use crate::kube::watcher::{WatchSettings, Watcher};
use crate::kube::writer::Writer;
use crate::metrics::{CONTROLLER, Metrics};
use crate::overview::Overview;
use crate::reconcile::Context;
use crate::reconcile::ownership::Ownership;
use crate::records::standby::Standby;
use crate::records::{News, Records};
use crate::resources::OPENSTACK_CONFIGS;
use crate::targets::Targets;
use crate::targets::cluster::Clusters;
use crate::{signals, worker};
use clusters::ClusterReader;
use leadership::LeaderStatus;
use listeners::Listeners;
use main_loop::{CHECKS_EVERY, MainLoop};

/// A target that doesn't answer holds up no other.
const TARGETS_SIDE_BY_SIDE: usize = 4;
/// So long a start waits for the inventory's disk. After that no node is sent until it answers, and
/// probes, statuses and the log say so.
const STORE_GRACE: Duration = Duration::from_secs(6);
/// How often a standby shows what it has read of the records since.
const SHOWN_EVERY: Duration = Duration::from_secs(1);
/// Events that may wait; their senders wait when it is full.
const EVENT_PLACES: usize = 1024;
/// Of the ten seconds that a stop may take, for the Lease and for the servers.
const LAST_GRACE: Duration = Duration::from_millis(500);

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

fn thread_ended(name: &str) -> String {
    format!("the thread {name} ended unexpectedly; see the lines above")
}

fn no_thread(error: io::Error) -> String {
    format!("a thread can't be started: {error}")
}

fn announce(config: &Config) {
    log::info!("multinic-operator {} starts", env!("CARGO_PKG_VERSION"));
    for service in config.settings.unverified() {
        log::warn!("certificates of {service} are not verified (set its _CA_FILE to change that)");
    }
    for (scheme, server) in config.proxies.all() {
        let (host, port) = (server.proxy.host(), server.proxy.port());
        log::info!("{scheme} services are reached through the proxy {host}:{port}");
    }
    for variable in config.settings.all_missing(config.delivery.by_kubernetes) {
        log::error!("{variable} is not set; each OpenstackConfig that needs it says ConfigError");
    }
}

/// What exists from start to stop, on a standby too.
struct Operator {
    config: Arc<Config>,
    clock: Clock,
    metrics: Arc<Metrics>,
    overview: Arc<Overview>,
    health: Arc<Health>,
    leader: Arc<LeaderStatus>,
    /// May passes still act on the outside world? Not once a stop no longer waits for them.
    may_act: Arc<AtomicBool>,
    /// Set once this replica leads.
    store: Arc<OnceLock<Arc<Store>>>,
    api: Arc<OnceLock<Api>>,
    /// Set while another replica leads whose records can be read.
    standby_api: Arc<OnceLock<Api>>,
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
            leader: Arc::default(),
            may_act: Arc::new(AtomicBool::new(true)),
            store: Arc::default(),
            api: Arc::default(),
            standby_api: Arc::default(),
            kubernetes,
            servers: Vec::new(),
            stop,
        };
        operator.serve()?;
        Ok(operator)
    }

    /// Health and inventory answer from the first moment.
    fn serve(&mut self) -> Result<(), String> {
        let leader = Arc::clone(&self.leader);
        let probes = Probes {
            health: Arc::clone(&self.health),
            store: Arc::clone(&self.store),
            standby: Box::new(move || leader.standby()),
            metrics: Arc::clone(&self.metrics),
            clock: self.clock.clone(),
        };
        let health_address = self.config.health_address;
        self.listen("health", "HEALTH_ADDR", health_address, Arc::new(probes))?;
        if self.config.inventory.enabled {
            let (api, standby) = (Arc::clone(&self.api), Arc::clone(&self.standby_api));
            let leadership = self.leadership();
            let handler = move |request: &Request| match api.get().or_else(|| standby.get()) {
                Some(api) => api.answer(request),
                None => api::answer_without_records(request, leadership()),
            };
            let address = self.config.inventory.address;
            self.listen("inventory", "INVENTORY_ADDR", address, Arc::new(handler))?;
        }
        Ok(())
    }

    fn listen(
        &mut self,
        name: &'static str,
        variable: &str,
        address: SocketAddr,
        handler: Arc<dyn Handler>,
    ) -> Result<(), String> {
        let start = |address| {
            let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
            Server::start(name, address, Limits::default(), Arc::clone(&handler), clock, metrics)
        };
        // Hosts without IPv6 have no wildcard address for both families.
        let any = (address.ip() == Ipv6Addr::UNSPECIFIED)
            .then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())));
        let server = start(address).or_else(|error| match any {
            Some(any) if error.kind() != io::ErrorKind::AddrInUse => start(any),
            _ => Err(error),
        });
        let server =
            server.map_err(|error| format!("{variable}: can't listen on {address}: {error}"))?;
        log::info!("{name} listens on {}", server.address());
        self.servers.push(server);
        Ok(())
    }

    fn run(self) -> ExitCode {
        let result = match &self.config.leader_election {
            None => self.work(&never()),
            Some(settings) => self.work_as_leader(settings),
        };
        for server in &self.servers {
            server.stop(LAST_GRACE);
        }
        match result {
            Ok(()) => {
                log::info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        }
    }

    /// Waits for the Lease, works while holding it, and releases it.
    fn work_as_leader(&self, settings: &ElectionSettings) -> Result<(), String> {
        let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
        let election = self.leader.elect(&self.kubernetes, settings, clock, metrics);
        let (election, news) = election.map_err(no_thread)?;
        let is_leading = self.stand_by(&news);
        let result = is_leading.and_then(|is_leading| match is_leading {
            true => self.work(&news),
            false => Ok(()),
        });
        election.release(LAST_GRACE);
        result
    }

    /// Waits until this replica leads, and gives true; false if a stop is asked for before.
    fn stand_by(&self, news: &Receiver<Leadership>) -> Result<bool, String> {
        let mut shown: Option<(Standby, Arc<Store>)> = None;
        loop {
            let every = if shown.is_some() { SHOWN_EVERY } else { CHECKS_EVERY };
            select! {
                recv(self.stop) -> asked => {
                    return asked.map(|()| false).map_err(|_| thread_ended("signals"));
                }
                recv(news) -> leadership => match leadership {
                    Ok(Leadership::Leading) => return Ok(true),
                    Ok(Leadership::Following { .. }) if shown.is_none() => {
                        shown = self.show_records()?;
                    }
                    Ok(_) => {}
                    Err(_) => return Err(thread_ended("leader-election")),
                },
                default(every) => {
                    self.health.turned(self.clock.now().uptime);
                    if let Some((records, store)) = &shown {
                        records.refresh(store);
                    }
                    if let Some(server) = self.lost_server() {
                        return Err(thread_ended(server));
                    }
                }
            }
        }
    }

    /// Has the inventory's API show the records that the leader writes, if they are in Kubernetes.
    fn show_records(&self) -> Result<Option<(Standby, Arc<Store>)>, String> {
        let (clock, inventory) = (self.clock.clone(), &self.config.inventory);
        let namespace = self.config.own_namespace.as_deref().filter(|_| inventory.in_kubernetes);
        let Some(namespace) = namespace.filter(|_| inventory.enabled) else { return Ok(None) };
        let records = Standby::start(&self.kubernetes, namespace, clock.clone(), &self.metrics);
        let records = records.map_err(no_thread)?;
        let store = Arc::new(Store::to_show(clock, Arc::clone(&self.metrics)));
        let heard = records.heard();
        let api = self.api(&store).of_standby(Box::new(move || heard.age()));
        let _ = self.standby_api.set(api);
        Ok(Some((records, store)))
    }

    /// The name of a server that takes no connections any more, if there is one.
    fn lost_server(&self) -> Option<&'static str> {
        self.servers.iter().find(|server| server.has_lost_its_thread()).map(Server::name)
    }

    /// Works until a signal, or until the news say that the Lease is lost.
    fn work(&self, news: &Receiver<Leadership>) -> Result<(), String> {
        let (events, received) = bounded(EVENT_PLACES);
        let store = self.open_store(&events);
        let _ = self.store.set(Arc::clone(&store));
        let _ = self.api.set(self.api(&store));
        store.wait_until_opened(STORE_GRACE);
        let (clock, metrics) = (self.clock.clone(), &self.metrics);
        let clusters = Arc::new(Clusters::new(&self.config, &self.kubernetes, clock, metrics));
        let context = Arc::new(self.context(&store, Arc::clone(&clusters)));
        let (passes, taken) = bounded(self.config.workers);
        let mut workers = Vec::new();
        for number in 1..=self.config.workers {
            let context = Arc::clone(&context);
            let worker = worker::spawn(number, context, taken.clone(), events.clone());
            workers.push(worker.map_err(no_thread)?);
        }
        let writer = self.writer(&events).map_err(no_thread)?;
        let watchers = self.watchers(&events).map_err(no_thread)?;
        let clusters = self.read_clusters(clusters, &events).map_err(no_thread)?;
        let records = Arc::clone(&store);
        let controller = Controller::new(
            Arc::clone(&self.config),
            self.config.workers,
            Arc::clone(&context.ownership),
            Arc::clone(&self.metrics),
            Arc::clone(&self.overview),
        )
        .expecting(watchers.len(), self.clock.now())
        .with_records(Box::new(move || records.state().remembers().then(|| records.snapshot())));
        let listeners = self.listeners(&store, events);
        let main_loop = MainLoop {
            operator: self,
            controller,
            context,
            events: received,
            passes,
            workers,
            writer,
            watchers,
            clusters,
            listeners,
        };
        let result = main_loop.run(news);
        store.flush_and_close();
        result
    }

    /// The inventory, in its file or in Kubernetes.
    fn open_store(&self, events: &Sender<Event>) -> Arc<Store> {
        let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
        if !self.config.inventory.in_kubernetes {
            return Store::open(&self.config.inventory.path, clock, metrics);
        }
        let (leader, other, events) =
            (Arc::clone(&self.leader), Arc::clone(&self.leader), events.clone());
        let records = Records::new(
            &self.kubernetes,
            &self.config,
            clock.clone(),
            Arc::clone(&metrics),
            move || leader.is_leading(),
            move |news| match news {
                News::AnotherWriter(_) => other.give_up(),
                News::Restored { owner, reason, note } => {
                    log::warn!("{reason}: {note}");
                    let event = |owner: Owner| effects::event_of_records(owner, reason, note);
                    let _ = owner.map(event).map(|event| events.send(event));
                }
            },
        );
        Store::of(Box::new(records), clock, metrics).start()
    }

    fn api(&self, store: &Arc<Store>) -> Api {
        let settings = ApiSettings {
            cors_origin: self.config.inventory.cors_origin.clone(),
            token_file: self.config.inventory.token_file.clone(),
        };
        Api::new(Arc::clone(store), Arc::clone(&self.overview), settings, self.leadership())
    }

    /// Says which replica leads and how to ask it, if it isn't this one.
    fn leadership(&self) -> api::Leadership {
        let (leader, config) = (Arc::clone(&self.leader), Arc::clone(&self.config));
        Arc::new(move || {
            let name = leader.other()?;
            let namespace = &config.leader_election.as_ref()?.namespace;
            Some(leadership::how_to_ask(&name, namespace, config.inventory.address.port()))
        })
    }

    fn read_clusters(
        &self,
        clusters: Arc<Clusters>,
        events: &Sender<Event>,
    ) -> io::Result<ClusterReader> {
        ClusterReader::spawn(clusters::Settings {
            clusters,
            namespace: self.config.delivery.namespace.clone(),
            timing: Timing::default(),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            events: events.clone(),
        })
    }

    fn context(&self, store: &Arc<Store>, clusters: Arc<Clusters>) -> Context {
        let (may_act, leader) = (Arc::clone(&self.may_act), Arc::clone(&self.leader));
        let clients = Clients::new(&self.metrics);
        let namespaces = self.config.watch_scopes().into_iter().flatten();
        Context {
            config: Arc::clone(&self.config),
            clouds: Arc::new(Clouds::new(&self.config, self.clock.clone(), &clients)),
            secrets: Arc::new(ObjectSecrets::new(
                self.clock.clone(),
                secret_reader::by_name(&self.kubernetes),
            )),
            target: Arc::new(Targets::new(&self.config, &clients, clusters)),
            targets_side_by_side: TARGETS_SIDE_BY_SIDE,
            store: Arc::clone(store),
            ownership: Arc::new(Ownership::expecting(namespaces.map(str::to_owned))),
            metrics: Arc::clone(&self.metrics),
            clock: self.clock.clone(),
            may_act: Arc::new(move || may_act.load(Ordering::SeqCst) && leader.is_leading()),
        }
    }

    fn listeners(&self, store: &Arc<Store>, events: Sender<Event>) -> Listeners {
        Listeners {
            config: Arc::clone(&self.config),
            store: Arc::clone(store),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            events,
            running: Vec::new(),
        }
    }

    fn writer(&self, events: &Sender<Event>) -> io::Result<Writer> {
        let instance = match &self.config.leader_election {
            Some(settings) => settings.identity.clone(),
            None => "multinic-operator".to_owned(),
        };
        let (clock, metrics, events) =
            (self.clock.clone(), Arc::clone(&self.metrics), events.clone());
        // Not `may_act`: the last statuses are written when passes may no longer act.
        let leader = Arc::clone(&self.leader);
        let may_write = move || leader.is_leading();
        let report = move |secret: &SecretManifest, state| {
            let _ = events.send(effects::event_of(secret, state));
        };
        Writer::spawn(&self.kubernetes, instance, clock, metrics, may_write, report)
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
            let config = Arc::clone(&self.config);
            Watcher::spawn(&name, &self.kubernetes, settings, clock, metrics, move |observation| {
                if let Some(event) = effects::event_of_observation(observation, &config.delivery) {
                    let _ = events.send(event);
                }
            })
        };
        self.config.watch_scopes().into_iter().map(watcher).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::bounded;

    use super::{Operator, thread_ended};
    use crate::config::Config;

    #[test]
    fn a_standby_whose_server_has_lost_its_thread_ends() {
        let config = Config::read(|name| {
            let value = match name {
                "HEALTH_ADDR" | "INVENTORY_ADDR" => "127.0.0.1:0",
                "LEADER_ELECT" => "true",
                "POD_NAMESPACE" => "default",
                // Nothing listens there, so another replica might lead for all it knows.
                "KUBE_API_URL" => "http://127.0.0.1:1",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let (_stop, asked) = bounded(1);
        let operator = Operator::start(config.unwrap(), asked).unwrap();
        operator.servers[1].stop(Duration::from_secs(5));
        let settings = operator.config.leader_election.clone().unwrap();
        assert_eq!(operator.work_as_leader(&settings), Err(thread_ended("inventory")));
    }
}
