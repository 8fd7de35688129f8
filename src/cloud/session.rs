//! What all objects of a provider share: the look-up, the login, and facts that rarely change.
//!
//! Provider answers are shared for one fast interval, tokens until shortly before they expire, and
//! failures for less than an error interval, so that a thousand objects of a cloud that is down
//! put one question to it, not a thousand.

pub mod probe;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::catalog::{self, Wanted};
use super::contrabass::{self, Provider};
use super::error::{CloudError, Step};
use super::keystone::{self, DomainSpelling};
use super::networks::Networks;
use super::neutron::{AllPorts, Neutron, Subnet};
use super::nova::{self, Nova, ServerNames};
use super::shared::{Known, Shared};
use crate::clock::Clock;
use crate::config::{Config, OpenStack, Required};
use crate::http::client::{Client, ClientOptions, Clients};
use crate::http::url::ending_in;
use crate::resources::SubnetSelector;
use crate::secret::Secret;
use crate::threads::pool::{Pool, Task};

/// Requests one sync may have open at the same time, Nova's own not counted: subnet, servers,
/// provider, and the ports of 250 VMs.
const SIDE_BY_SIDE: usize = 8;
/// Threads one sync may have at work beside its own: for those, for the network where the subnet
/// is given by name, and for Nova's.
const THREADS_OF_A_SYNC: usize = SIDE_BY_SIDE - 1 + 1 + nova::SIDE_BY_SIDE - 1;
/// A token is renewed this long before it expires, or after four fifths of a short life.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);
/// Idle connections are kept this long; a dead one is noticed and the question put again.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// The clouds, through Contrabass.
pub struct Cloud {
    contrabass_endpoint: Required<String>,
    encrypt_key: Required<Secret>,
    settings: OpenStack,
    /// How long provider answers are shared.
    provider_life: Duration,
    /// How long failures are shared; less than the error interval, so that each poll asks anew.
    failure_life: Duration,
    contrabass: Client,
    openstack: Arc<Client>,
    clock: Clock,
    providers: Shared<String, Provider, CloudError>,
    sessions: Shared<SessionKey, Session, CloudError>,
    networks: Networks,
    project_sizes: Mutex<HashMap<(String, String), usize>>,
    threads: Pool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SessionKey {
    keystone_url: String,
    user: String,
    domain: String,
    project_id: String,
}

/// A token and where it is good for.
#[derive(Debug)]
struct Session {
    token: Arc<Secret>,
    domain: DomainSpelling,
    neutron: Result<Arc<str>, CloudError>,
    nova: Option<Arc<str>>,
}

/// A provider as found, and whether that answer should be asked for again beside other work.
#[derive(Clone)]
pub struct FoundProvider {
    /// The provider.
    pub provider: Arc<Provider>,
    /// Moves with each answer of Contrabass.
    pub serial: u64,
    /// The answer is older than a fast interval.
    pub old: bool,
}

/// A login to one project, with Neutron found.
#[derive(Clone)]
pub struct LoggedIn {
    session: Arc<Session>,
    neutron: Arc<str>,
    /// Moves with each login.
    pub serial: u64,
}

/// What one object wants to know.
#[derive(Clone, Debug)]
pub struct Query {
    /// The project its VMs and ports are in.
    pub project_id: String,
    /// Its subnet.
    pub subnet: SubnetSelector,
    /// Its VMs: lower case, none blank.
    pub vm_ids: Vec<String>,
}

/// What Neutron and Nova said, whole.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The subnet.
    pub subnet: Subnet,
    /// MTU of its network.
    pub mtu: u32,
    /// Every port of the VMs.
    pub ports: AllPorts,
    /// The names of the VMs.
    pub servers: ServerNames,
}

/// What came of asking, and whether it may be believed.
#[derive(Clone)]
pub struct Asked {
    /// What Neutron and Nova said, or why that isn't whole.
    pub answers: Result<Answers, CloudError>,
    /// The provider as it is now. If it differs from the one that the login is of, answers and
    /// errors were got with outdated access, and are worth nothing.
    pub current: FoundProvider,
}

/// The parts of [`Asked`] as they come in from several threads.
enum Part {
    Subnet(Result<(Subnet, u32), CloudError>),
    Ports(Result<AllPorts, CloudError>),
    Servers(ServerNames),
    Provider(Result<FoundProvider, CloudError>),
}

impl Cloud {
    /// Clients by the configuration; nothing is asked yet.
    pub fn new(config: &Config, clock: Clock, clients: &Clients) -> Cloud {
        let client = |call_limit, trust: &crate::http::trust::Trust| {
            let (trust, proxies) = (trust.clone(), Arc::clone(&config.proxies));
            clients.client(ClientOptions { call_limit, trust, idle_limit: IDLE_LIMIT, proxies })
        };
        let threads = Pool::new(config.workers * THREADS_OF_A_SYNC);
        Cloud {
            contrabass_endpoint: config.contrabass.endpoint.clone(),
            encrypt_key: config.contrabass.encrypt_key.clone(),
            settings: config.openstack.clone(),
            provider_life: config.intervals.fast,
            failure_life: config.intervals.error / 2,
            contrabass: client(config.contrabass.timeout, &config.contrabass.trust),
            openstack: Arc::new(client(config.openstack.timeout, &config.openstack.trust)),
            clock,
            providers: Shared::default(),
            sessions: Shared::default(),
            networks: Networks::new(config.intervals.slow * 5 / 2, threads.clone()),
            project_sizes: Mutex::default(),
            threads,
        }
    }

    /// The provider as Contrabass describes it (step 2). An answer that is merely old is given at
    /// once when there is a login for it, to be asked for again beside the other questions; one
    /// that `outdated` names (by serial) is asked for at once.
    pub fn provider(
        &self,
        provider_id: &str,
        project_id: &str,
        outdated: Option<u64>,
    ) -> Result<FoundProvider, CloudError> {
        let uptime = self.clock.now().uptime;
        if outdated.is_none()
            && let Some(known) = self.providers.remembered(&provider_id.to_owned())
            && let Ok(provider) = known.result
            && self.has_session(&provider, project_id, uptime)
        {
            let old = known.fresh_until <= uptime;
            return Ok(FoundProvider { provider, serial: known.serial, old });
        }
        self.ask_provider(provider_id, outdated)
    }

    fn ask_provider(
        &self,
        provider_id: &str,
        outdated: Option<u64>,
    ) -> Result<FoundProvider, CloudError> {
        let missing =
            |variable: &str| CloudError::new(Step::Contrabass, format!("{variable} is not set"));
        let endpoint = self.contrabass_endpoint.get().map_err(missing)?;
        let key = self.encrypt_key.get().map_err(missing)?;
        let known = self.providers.get(
            &provider_id.to_owned(),
            self.clock.now().uptime,
            |known| outdated.is_some_and(|serial| known.serial <= serial),
            || {
                let result = contrabass::look_up(&self.contrabass, endpoint, key, provider_id);
                self.until(result, self.provider_life)
            },
        );
        Ok(FoundProvider { provider: known.result?, serial: known.serial, old: false })
    }

    /// Forgets shared failures, because somebody asked for a fresh attempt.
    pub fn forget_failures(&self, provider_id: &str, project_id: &str) {
        self.providers.forget_failures(|id| id == provider_id);
        self.sessions.forget_failures(|key| key.project_id == project_id);
    }

    /// A token for the project (step 4) and where Neutron is (step 5). A login that `outdated`
    /// names (by serial) is made anew.
    pub fn log_in(
        &self,
        provider: &Provider,
        project_id: &str,
        outdated: Option<u64>,
    ) -> Result<LoggedIn, CloudError> {
        let known = self.known_session(provider, project_id, outdated);
        let session = known.result?;
        let neutron = session.neutron.clone()?;
        Ok(LoggedIn { session, neutron, serial: known.serial })
    }

    fn known_session(
        &self,
        provider: &Provider,
        project_id: &str,
        outdated: Option<u64>,
    ) -> Known<Session, CloudError> {
        let key = session_key(provider, project_id);
        let spelling = match self.sessions.remembered(&key) {
            Some(known) => known.result.ok().map(|session| session.domain),
            None => None,
        };
        self.sessions.get(
            &key,
            self.clock.now().uptime,
            |known| outdated.is_some_and(|serial| known.serial <= serial),
            || {
                let wall = self.clock.now().wall;
                match keystone::log_in(&self.openstack, provider, project_id, spelling, wall) {
                    Ok(login) => {
                        let life = login.lifetime - TOKEN_MARGIN.min(login.lifetime / 5);
                        let session = self.session(login);
                        // A catalog without Neutron is a failure, though its token is good.
                        let usable = session.neutron.is_ok();
                        let life = if usable { life } else { life.min(self.failure_life) };
                        self.until(Ok(session), life)
                    }
                    Err(error) => self.until(Err(error), Duration::ZERO),
                }
            },
        )
    }

    fn session(&self, login: keystone::Login) -> Session {
        let OpenStack { interface, region, neutron_endpoint, nova_endpoint, .. } = &self.settings;
        let find = |kinds| {
            let region = region.as_deref();
            catalog::select(&login.catalog, &Wanted { kinds, interface, region })
        };
        let neutron = match neutron_endpoint {
            Some(endpoint) => Ok(endpoint.clone()),
            None => find(&catalog::NETWORK).map_err(|error| {
                let text = login.secrets.redacted(&error.to_string());
                CloudError::new(Step::NeutronEndpoint, text)
            }),
        };
        let nova = nova_endpoint.clone().or_else(|| find(&catalog::COMPUTE).ok());
        Session {
            neutron: neutron.map(|url| ending_in(&url, "v2.0").into()),
            nova: nova.map(|url| nova_base(&url).into()),
            token: Arc::new(login.token),
            domain: login.domain,
        }
    }

    /// The endpoints of a login failed: perhaps the catalog has changed, so it is read again soon,
    /// but no more often than failures are.
    pub fn doubt(&self, provider: &Provider, project_id: &str) {
        let until = self.clock.now().uptime + self.failure_life;
        self.sessions.shorten(&session_key(provider, project_id), until);
    }

    /// Everything a sync needs to know, asked for side by side (steps 6, 7 and 8), together with
    /// the provider if `found` is old. An error if it is, and Contrabass can't say.
    pub fn ask(
        self: &Arc<Cloud>,
        found: &FoundProvider,
        login: &LoggedIn,
        query: Query,
    ) -> Result<Asked, CloudError> {
        let neutron = Neutron {
            client: Arc::clone(&self.openstack),
            endpoint: Arc::clone(&login.neutron),
            token: Arc::clone(&login.session.token),
        };
        let query = Arc::new(query);
        let mut tasks: Vec<Task<Part>> = Vec::new();
        let uptime = self.clock.now().uptime;
        let (cloud, about, ask) = (Arc::clone(self), Arc::clone(&query), neutron.clone());
        tasks.push(Box::new(move || {
            Part::Subnet(cloud.networks.subnet(&ask, &about.project_id, &about.subnet, uptime))
        }));
        for group in neutron.groups(&query.project_id, &query.vm_ids) {
            let (about, ask, group) = (Arc::clone(&query), neutron.clone(), group.to_vec());
            tasks.push(Box::new(move || Part::Ports(ask.ports(&about.project_id, &group))));
        }
        let (cloud, about, login) = (Arc::clone(self), Arc::clone(&query), login.clone());
        tasks.push(Box::new(move || Part::Servers(cloud.servers(&login, &about))));
        if found.old {
            let (cloud, id) = (Arc::clone(self), found.provider.id.clone());
            tasks.push(Box::new(move || Part::Provider(cloud.ask_provider(&id, None))));
        }
        let mut current = found.clone();
        let (mut subnet, mut ports, mut servers) = (None, Vec::new(), ServerNames::default());
        for part in self.threads.side_by_side(SIDE_BY_SIDE, tasks) {
            match part {
                Part::Subnet(part) => subnet = Some(part),
                Part::Ports(part) => ports.push(part),
                Part::Servers(part) => servers = part,
                Part::Provider(part) => current = part?,
            }
        }
        let unasked = || Err(CloudError::new(Step::Subnet, "the subnet wasn't asked for"));
        let answers = subnet.unwrap_or_else(unasked).and_then(|(subnet, mtu)| {
            let ports = AllPorts::all(ports)?;
            Ok(Answers { subnet, mtu, ports, servers })
        });
        Ok(Asked { answers, current })
    }

    fn servers(&self, login: &LoggedIn, query: &Query) -> ServerNames {
        // No compute service: every VM goes by its id.
        let Some(endpoint) = &login.session.nova else { return ServerNames::default() };
        let nova = Nova {
            client: Arc::clone(&self.openstack),
            endpoint: Arc::clone(endpoint),
            project_id: query.project_id.as_str().into(),
            token: Arc::clone(&login.session.token),
            metadata_key: self.settings.node_name_metadata_key.as_deref().map(Arc::from),
            threads: self.threads.clone(),
        };
        let key = (endpoint.to_string(), query.project_id.clone());
        let project_size = lock(&self.project_sizes).get(&key).copied();
        let servers = nova.names(&query.vm_ids, project_size);
        if let Some(size) = servers.project_size {
            lock(&self.project_sizes).insert(key, size);
        }
        servers
    }

    fn has_session(&self, provider: &Provider, project_id: &str, uptime: Duration) -> bool {
        let known = self.sessions.remembered(&session_key(provider, project_id));
        known.is_some_and(|known| known.result.is_ok() && known.fresh_until > uptime)
    }

    /// When an answer stops being fresh: after its life, or after a failure's shorter one.
    fn until<V>(
        &self,
        result: Result<V, CloudError>,
        life: Duration,
    ) -> (Result<V, CloudError>, Duration) {
        let life = if result.is_ok() { life } else { self.failure_life };
        let fresh_until = self.clock.now().uptime + life;
        (result, fresh_until)
    }

    /// Cuts every call short; the operator is stopping.
    pub fn shutdown(&self) {
        self.contrabass.shutdown();
        self.openstack.shutdown();
    }
}

fn session_key(provider: &Provider, project_id: &str) -> SessionKey {
    SessionKey {
        keystone_url: provider.keystone_url.clone(),
        user: provider.user.clone(),
        domain: provider.domain.clone(),
        project_id: project_id.to_owned(),
    }
}

/// Compute URLs end in `/v2.1`, or in `/v2.1/` and the project; one without any version leads to
/// a choice of versions.
fn nova_base(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    let versioned = url.split('/').skip(3).any(|segment| {
        segment.strip_prefix('v').is_some_and(|version| {
            version.starts_with('2') && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        })
    });
    if versioned { url.to_owned() } else { format!("{url}/v2.1") }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|held| held.into_inner())
}

#[cfg(test)]
mod tests {
    use super::nova_base;

    #[test]
    fn a_compute_url_keeps_its_version_and_project_or_gets_a_version() {
        let cases = [
            ("http://h:8774/v2.1", "http://h:8774/v2.1"),
            ("http://h:8774/v2.1/", "http://h:8774/v2.1"),
            ("http://h:8774/v2/abc", "http://h:8774/v2/abc"),
            ("http://h:8774/", "http://h:8774/v2.1"),
            ("https://v2.example/compute", "https://v2.example/compute/v2.1"),
        ];
        for (given, base) in cases {
            assert_eq!(nova_base(given), base);
        }
    }
}
