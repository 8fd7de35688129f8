//! What the simulated cloud holds: one state that all OpenStack services and Contrabass answer from.
//!
//! Ids are found in any case, as the real services' databases do.

mod entities;
mod index;

pub use entities::{
    ApplicationCredential, CatalogService, Domain, Endpoint, FixedIp, Network, Port, Project,
    Provider, RabbitMq, Server, Settings, Subnet, User,
};
pub use index::{Ports, Servers};

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::clock;
use crate::pseudo_random::random_text;

#[derive(Debug, Clone)]
pub struct Token {
    pub user_id: String,
    /// Id of the project; none: unscoped.
    pub project_id: Option<String>,
    /// Id of the application credential that logged in; none: the user itself did.
    pub application_credential_id: Option<String>,
    pub admin: bool,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Random part of its answer.
    pub audit_id: String,
}

/// Base URLs of the running services, without prefixes and slashes.
#[derive(Debug, Clone, Default)]
pub struct Urls {
    pub keystone: String,
    pub neutron: String,
    pub nova: String,
}

#[derive(Debug, Clone, Default)]
pub struct CloudState {
    pub settings: Settings,
    /// The key with which Contrabass encrypts, as text.
    pub encryption_key: String,
    pub providers: Vec<Provider>,
    pub domains: Vec<Domain>,
    pub users: Vec<User>,
    pub application_credentials: Vec<ApplicationCredential>,
    pub projects: Vec<Project>,
    pub catalog: Vec<CatalogService>,
    pub networks: Vec<Network>,
    pub subnets: Vec<Subnet>,
    pub ports: Ports,
    pub servers: Servers,
    pub urls: Urls,
    /// The time, where it isn't the system's: for clouds in invented time.
    pub time: Option<Timestamp>,
    tokens: HashMap<String, Token>,
    issued: u64,
}

impl CloudState {
    pub fn now(&self) -> Timestamp {
        let skew = SignedDuration::from_secs(self.settings.clock_skew_seconds);
        self.time.unwrap_or_else(clock::timestamp).checked_add(skew).unwrap_or(Timestamp::MAX)
    }

    /// Issues a token; gives its text.
    pub fn issue_token(&mut self, user: &User, project_id: Option<String>) -> String {
        self.issue(user, project_id, None)
    }

    /// Issues a token for an application credential of this user; gives its text.
    pub fn issue_restricted_token(
        &mut self,
        user: &User,
        credential: &ApplicationCredential,
    ) -> String {
        self.issue(user, Some(credential.project_id.clone()), Some(credential.id.clone()))
    }

    fn issue(
        &mut self,
        user: &User,
        project_id: Option<String>,
        application_credential_id: Option<String>,
    ) -> String {
        self.issued += 1;
        let issued_at = self.now();
        let lifetime = SignedDuration::from_secs(self.settings.token_lifetime_seconds);
        let text = format!("gAAAAAB{}", random_text(&format!("token {}", self.issued), 176));
        self.tokens.insert(
            text.clone(),
            Token {
                user_id: user.id.clone(),
                project_id,
                application_credential_id,
                admin: user.admin,
                issued_at,
                expires_at: issued_at.checked_add(lifetime).unwrap_or(Timestamp::MAX),
                audit_id: random_text(&text, 22),
            },
        );
        text
    }

    /// The token of that text, if it is known, expired or not.
    pub fn token(&self, text: &str) -> Option<&Token> {
        self.tokens.get(text)
    }

    /// The token of that text, if it is known and has not expired.
    pub fn valid_token(&self, text: &str) -> Option<&Token> {
        let token = self.token(text)?;
        (self.now() < token.expires_at).then_some(token)
    }

    /// Makes all tokens invalid that were issued so far.
    pub fn revoke_tokens(&mut self) {
        self.tokens.clear();
    }

    /// The network of that id, in any case.
    pub fn network(&self, id: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.id.eq_ignore_ascii_case(id))
    }

    /// The subnet of that id, in any case.
    pub fn subnet(&self, id: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.id.eq_ignore_ascii_case(id))
    }

    /// Adds a port and fills in network and project, when they are empty, from its subnet and its
    /// server.
    pub fn add_port(&mut self, mut port: Port) {
        if port.network_id.is_empty()
            && let Some(first) = port.fixed_ips.first()
            && let Some(subnet) = self.subnet(&first.subnet_id)
        {
            port.network_id = subnet.network_id.clone();
        }
        if port.project_id.is_empty() {
            let of_server =
                self.servers.get(&port.device_id).map(|(_, server)| server.project_id.clone());
            let of_network = || self.network(&port.network_id).map(|n| n.project_id.clone());
            port.project_id = of_server.or_else(of_network).unwrap_or_default();
        }
        self.ports.insert(port);
    }

    /// Adds a server as the newest; an empty project becomes the first of the cloud.
    pub fn add_server(&mut self, mut server: Server) {
        if server.project_id.is_empty()
            && let Some(project) = self.projects.first()
        {
            server.project_id = project.id.clone();
        }
        self.servers.insert(server);
    }
}

/// The state behind its lock, shared by all services.
#[derive(Default)]
pub struct SharedState(Mutex<CloudState>);

impl SharedState {
    /// Puts a state behind a lock.
    pub fn new(state: CloudState) -> SharedState {
        SharedState(Mutex::new(state))
    }

    /// The state, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, CloudState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
