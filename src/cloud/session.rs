//! What the passes of a cloud share: the provider's answer, the login, and facts that rarely change.
//!
//! An answer of Contrabass is used for one fast interval, a token until shortly before it expires,
//! and a failure for less than an error interval.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cache::{Cache, Known};
use super::catalog;
use super::contrabass;
use super::error::{CloudError, Step};
use super::keystone::{self, Keystone};
use super::lockout::Accounts;
use super::neutron::{Neutron, Subnet};
use super::nova::Nova;
use super::provider::Provider;
use super::service::TokenService;
use crate::clock::Clock;
use crate::config::{Config, OpenStack, Project, Required, Settings, User, least_pause};
use crate::http::client::{Client, ClientOptions, ClientTls, Clients, Request, Service};
use crate::http::proxy::Proxies;
use crate::http::trust::Trust;
use crate::http::url::ending_in;
use crate::kept::Kept;
use crate::resources::SubnetSelector;
use crate::secret::Secret;
use crate::threads::{Pool, lock};

/// A token is renewed this long before it expires, or after four fifths of a short life.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);
/// Idle connections are kept this long. A request over a closed one is repeated.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Longest time between two logins that only look for a changed catalog.
const LONGEST_CATALOG_WAIT: Duration = Duration::from_secs(600);

/// The clouds as objects with different settings see them. Objects with equal settings share
/// look-ups, logins and tokens.
pub struct Clouds {
    clients: Clients,
    proxies: Arc<Proxies>,
    clock: Clock,
    /// Whatever the settings, refused passwords of a user are counted together.
    accounts: Arc<Accounts>,
    requests: Arc<Pool>,
    serials: Arc<AtomicU64>,
    clouds: Kept<Arc<Settings>, Cloud>,
    stopped: AtomicBool,
}

impl Clouds {
    /// Nothing is asked yet.
    pub fn new(config: &Config, clock: Clock, clients: &Clients) -> Clouds {
        Clouds {
            clients: clients.clone(),
            proxies: Arc::clone(&config.proxies),
            clock,
            accounts: Arc::default(),
            requests: Arc::new(Pool::new()),
            serials: Arc::default(),
            clouds: Kept::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// The clouds by these settings.
    pub fn with(&self, settings: &Arc<Settings>) -> Arc<Cloud> {
        let cloud = self.clouds.get(settings, || Cloud::new(settings, self));
        if self.stopped.load(Ordering::SeqCst) {
            cloud.shutdown();
        }
        cloud
    }

    /// Ends every request; the operator is stopping.
    pub fn shutdown(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.clouds.all().iter().for_each(|cloud| cloud.shutdown());
    }
}

/// The clouds of one Contrabass, or one cloud of a Secret.
pub struct Cloud {
    /// The cloud of a Secret; Contrabass isn't asked then.
    of_secret: Option<Arc<Provider>>,
    contrabass_endpoint: Required<String>,
    encrypt_key: Required<Secret>,
    settings: OpenStack,
    provider_life: Duration,
    failure_life: Duration,
    contrabass: Client,
    openstack: Arc<Client>,
    clock: Clock,
    providers: Cache<String, Arc<Provider>>,
    sessions: Cache<SessionKey, Arc<Session>>,
    accounts: Arc<Accounts>,
    /// Threads that the requests of all passes run on.
    pub(super) requests: Arc<Pool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SessionKey {
    keystone_url: String,
    user: User,
    /// None for that of an application credential.
    project: Option<Project>,
}

impl SessionKey {
    fn of(provider: &Provider, project_id: &str) -> SessionKey {
        SessionKey {
            keystone_url: provider.keystone_url.clone(),
            user: provider.user.clone(),
            project: provider.scope(project_id),
        }
    }
}

/// A token and the services it is good for.
struct Session {
    project_id: Arc<str>,
    /// Uptime at which the token expires.
    expires_at: Duration,
    neutron: Result<Neutron, CloudError>,
    nova: Option<Nova>,
    /// As earlier passes found them. A subnet never changes its range or its network.
    subnets: Arc<Mutex<HashMap<SubnetSelector, Subnet>>>,
    /// Wait before a failure of the endpoints causes the next login.
    catalog_wait: Duration,
    /// The endpoints of this login failed, so the next login is made to read the catalog.
    is_catalog_doubtful: AtomicBool,
}

/// A provider, and whether Contrabass should be asked again beside other requests.
#[derive(Clone)]
pub(crate) struct FoundProvider {
    pub(crate) provider: Arc<Provider>,
    /// Moves with each answer of Contrabass.
    pub(crate) serial: u64,
    /// The answer is older than a fast interval.
    pub(crate) old: bool,
}

/// A login to one project.
#[derive(Clone)]
pub(crate) struct Login {
    key: SessionKey,
    session: Arc<Session>,
    /// Moves with each login.
    pub(crate) serial: u64,
}

impl Login {
    /// Neutron, or why the catalog has no endpoint.
    pub(crate) fn neutron(&self) -> Result<Neutron, CloudError> {
        self.session.neutron.clone()
    }

    /// Nova; none if the catalog has no compute endpoint.
    pub(crate) fn nova(&self) -> Option<&Nova> {
        self.session.nova.as_ref()
    }

    /// The subnet as an earlier pass found it.
    pub(crate) fn known_subnet(&self, selector: &SubnetSelector) -> Option<Subnet> {
        lock(&self.session.subnets).get(selector).cloned()
    }

    /// Remembers a subnet for later passes.
    pub(crate) fn remember_subnet(&self, selector: &SubnetSelector, subnet: &Subnet) {
        lock(&self.session.subnets).insert(selector.clone(), subnet.clone());
    }
}

impl Cloud {
    fn new(settings: &Settings, clouds: &Clouds) -> Cloud {
        let client = |call_limit, trust: &Trust| {
            let (trust, proxies) = (trust.clone(), Arc::clone(&clouds.proxies));
            let idle_limit = IDLE_LIMIT;
            clouds.clients.client(ClientOptions {
                call_limit,
                trust,
                idle_limit,
                proxies,
                tls: ClientTls::default(),
            })
        };
        let Settings { contrabass, openstack, intervals, .. } = settings;
        Cloud {
            of_secret: settings.identity.as_deref().map(|identity| Arc::new(identity.into())),
            contrabass_endpoint: contrabass.endpoint.clone(),
            encrypt_key: contrabass.encrypt_key.clone(),
            settings: openstack.clone(),
            // Each poll asks anew.
            provider_life: least_pause(intervals.fast),
            failure_life: intervals.error / 2,
            contrabass: client(contrabass.timeout, &contrabass.trust),
            openstack: Arc::new(client(openstack.timeout, &openstack.trust)),
            clock: clouds.clock.clone(),
            providers: Cache::counting_with(&clouds.serials),
            sessions: Cache::default(),
            accounts: Arc::clone(&clouds.accounts),
            requests: Arc::clone(&clouds.requests),
        }
    }

    /// The provider as Contrabass describes it. An answer that is merely old is returned at once if
    /// there is a login for it; one with the serial `outdated` is asked for again.
    pub(crate) fn provider(
        &self,
        provider_id: &str,
        project_id: &str,
        outdated: Option<u64>,
    ) -> Result<FoundProvider, CloudError> {
        let uptime = self.clock.now().uptime;
        if let Some(provider) = self.of_secret() {
            return Ok(provider);
        }
        if outdated.is_none()
            && let Some(known) = self.providers.last(&provider_id.to_ascii_lowercase())
            && let Ok(provider) = known.result
            && self.has_session(&provider, project_id, uptime)
        {
            let old = known.fresh_until <= uptime;
            return Ok(FoundProvider { provider, serial: known.serial, old });
        }
        self.ask_provider(provider_id, outdated)
    }

    /// The cloud of a Secret, which is another [`Cloud`] once the Secret says something else.
    fn of_secret(&self) -> Option<FoundProvider> {
        let provider = Arc::clone(self.of_secret.as_ref()?);
        Some(FoundProvider { provider, serial: 0, old: false })
    }

    /// The same, but an answer that is older than a fast interval is never used.
    pub(crate) fn ask_provider(
        &self,
        provider_id: &str,
        outdated: Option<u64>,
    ) -> Result<FoundProvider, CloudError> {
        let endpoint = self.contrabass_endpoint.as_ref().map_err(not_set)?;
        let key = self.encrypt_key.as_ref().map_err(not_set)?;
        let (id, uptime) = (provider_id.to_ascii_lowercase(), self.clock.now().uptime);
        let known = self.providers.get(&id, uptime, outdated, || {
            let result = contrabass::look_up(&self.contrabass, endpoint, key, provider_id);
            self.until(result.map(Arc::new), self.provider_life)
        });
        Ok(FoundProvider { provider: known.result?, serial: known.serial, old: false })
    }

    /// The HTTP status of any answer from Contrabass' base URL.
    pub(crate) fn reach_contrabass(&self) -> Result<u16, CloudError> {
        let endpoint = self.contrabass_endpoint.as_ref().map_err(not_set)?;
        let answer = self.contrabass.call(&Request::get(Service::Contrabass, endpoint));
        let answer = answer.map_err(|error| CloudError::transport(Step::Contrabass, &error))?;
        Ok(answer.status)
    }

    /// Drops cached failures, so that the next pass asks.
    pub(crate) fn forget_failures(&self, provider_id: &str, project_id: &str) {
        let provider_id = provider_id.to_ascii_lowercase();
        self.providers.forget_failures(|id| *id == provider_id);
        let of_objects = Some(Project::Id(project_id.to_owned()));
        let is_of_secret = self.of_secret.is_some();
        self.sessions.forget_failures(|key| is_of_secret || key.project == of_objects);
    }

    /// A token for the project, with the endpoints of its catalog. A login with the serial
    /// `outdated` is made again. A `forced` login tries a refused password once more.
    ///
    /// The token of a Secret's cloud may be for another project, which is an error where objects name
    /// one.
    pub(crate) fn log_in(
        &self,
        provider: &Provider,
        project_id: &str,
        outdated: Option<u64>,
        forced: bool,
    ) -> Result<Login, CloudError> {
        let key = SessionKey::of(provider, project_id);
        if key.project.is_none() && !provider.has_application_credential() {
            return Err(no_project(provider));
        }
        let before = self.sessions.last(&key);
        let before = before.and_then(|known| Some((known.serial, known.result.ok()?)));
        let uptime = self.clock.now().uptime;
        let known = self.sessions.get(&key, uptime, outdated, || {
            let keystone = Keystone { client: &self.openstack, clock: &self.clock, provider };
            let login = self.accounts.log_in(&keystone, key.project.as_ref(), forced);
            let now = self.clock.now().uptime;
            match (login, before) {
                (Ok(login), before) => {
                    let life = login.lifetime - TOKEN_MARGIN.min(login.lifetime / 5);
                    let before = before.as_ref().map(|(_, before)| &**before);
                    let session = self.session(login, before);
                    // A catalog without Neutron is a failure, though its token is good.
                    let usable = session.neutron.is_ok();
                    let life = if usable { life } else { life.min(self.failure_life) };
                    self.until(Ok(Arc::new(session)), life)
                }
                // A token that was to be renewed early goes on being used.
                (Err(_), Some((serial, held)))
                    if outdated.is_none_or(|outdated| serial > outdated)
                        && held.neutron.is_ok()
                        && held.expires_at > now =>
                {
                    let life = self.failure_life.min(held.expires_at - now);
                    self.until(Ok(held), life)
                }
                (Err(error), _) => self.until(Err(error), Duration::ZERO),
            }
        });
        let Known { result, serial, .. } = known;
        let session = result?;
        if !project_id.is_empty() && !session.project_id.eq_ignore_ascii_case(project_id) {
            return Err(other_project(provider, project_id, &session.project_id));
        }
        Ok(Login { session, key, serial })
    }

    fn session(&self, login: keystone::Login, before: Option<&Session>) -> Session {
        let OpenStack { interface, region, neutron_endpoint, nova_endpoint, .. } = &self.settings;
        let find = |kinds| catalog::select(&login.catalog, kinds, interface, region.as_deref());
        let (token, project_id) = (Arc::new(login.token), Arc::<str>::from(login.project_id));
        let service = |service, endpoint: String| TokenService {
            service,
            client: Arc::clone(&self.openstack),
            endpoint: endpoint.into(),
            token: Arc::clone(&token),
            project_id: Arc::clone(&project_id),
        };
        let neutron = match neutron_endpoint {
            Some(endpoint) => Ok(endpoint.clone()),
            None => find(&catalog::NETWORK).map_err(|text| {
                CloudError::new(Step::NeutronEndpoint, login.secrets.redacted(&text))
            }),
        };
        let nova = nova_endpoint.clone().or_else(|| find(&catalog::COMPUTE).ok());
        let neutron =
            neutron.map(|url| Neutron(service(Service::Neutron, ending_in(&url, "v2.0"))));
        let nova = nova.map(|url| service(Service::Nova, nova_base(&url)));
        let same = before.filter(|before| {
            let nova_before = before.nova.as_ref().map(|nova| &nova.api.endpoint);
            before.neutron.as_ref().map(Neutron::endpoint)
                == neutron.as_ref().map(Neutron::endpoint)
                && nova_before == nova.as_ref().map(|nova| &nova.endpoint)
        });
        let doubtful = same.filter(|before| before.is_catalog_doubtful.load(Ordering::Relaxed));
        let wait = doubtful.map_or(self.failure_life, |before| before.catalog_wait * 2);
        let size = same.and_then(|before| Some(Arc::clone(&before.nova.as_ref()?.project_size)));
        Session {
            project_id,
            expires_at: self.clock.now().uptime + login.lifetime,
            neutron,
            nova: nova.map(|api| Nova {
                api,
                metadata_key: self.settings.node_name_metadata_key.as_deref().map(Arc::from),
                project_size: size.unwrap_or_default(),
            }),
            subnets: same.map(|before| Arc::clone(&before.subnets)).unwrap_or_default(),
            catalog_wait: wait.min(LONGEST_CATALOG_WAIT),
            is_catalog_doubtful: AtomicBool::new(false),
        }
    }

    /// The endpoints of a login failed, or it has none for compute. The catalog may have changed, so
    /// a new login reads it again after a while. The wait doubles each time the catalog is the same,
    /// and is the first one again after a login whose endpoints didn't fail.
    pub(crate) fn catalog_may_be_old(&self, login: &Login) {
        login.session.is_catalog_doubtful.store(true, Ordering::Relaxed);
        let until = self.clock.now().uptime + login.session.catalog_wait;
        self.sessions.shorten(&login.key, until);
    }

    fn has_session(&self, provider: &Provider, project_id: &str, uptime: Duration) -> bool {
        let known = self.sessions.last(&SessionKey::of(provider, project_id));
        known.is_some_and(|known| known.result.is_ok() && known.fresh_until > uptime)
    }

    /// The result, with the uptime until which it is fresh: after its life, or a failure's.
    fn until<V>(
        &self,
        result: Result<V, CloudError>,
        life: Duration,
    ) -> (Result<V, CloudError>, Duration) {
        let life = if result.is_ok() { life } else { self.failure_life };
        let fresh_until = self.clock.now().uptime + life;
        (result, fresh_until)
    }

    fn shutdown(&self) {
        self.contrabass.shutdown();
        self.openstack.shutdown();
    }
}

fn no_project(provider: &Provider) -> CloudError {
    let message = format!(
        "{} names no project_id or project_name, and spec.credentials.projectID is empty",
        provider.id
    );
    CloudError::new(Step::Identity, message)
}

fn other_project(provider: &Provider, wanted: &str, is: &str) -> CloudError {
    let message = format!(
        "spec.credentials.projectID is {wanted}, but the token of {} is for project {is}",
        provider.id
    );
    CloudError::new(Step::Identity, message)
}

fn not_set(variable: &&str) -> CloudError {
    CloudError::new(Step::Contrabass, format!("{variable} is not set"))
}

/// Compute URLs end in `/v2.1`, or in `/v2.1/` and the project. One without any version leads to a
/// choice of versions.
fn nova_base(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    let versioned = url.split('/').skip(3).any(|segment| {
        segment.strip_prefix('v').is_some_and(|version| {
            version.starts_with('2') && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        })
    });
    if versioned { url.to_owned() } else { format!("{url}/v2.1") }
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
