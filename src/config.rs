//! Settings: the environment as given, turned into settings as meant.
//!
//! All variables are read before anything starts, and everything that is wrong is told in one
//! report. A required variable that is missing is not wrong: the operator runs, and every object
//! says so in its status, where users look first (SPEC section 4).

mod read;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::http::proxy::Proxies;
use crate::http::trust::Trust;
use crate::kube::access::Access;
use crate::secret::Secret;

pub use read::{VARIABLES, Variable};

/// Everything the operator can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Contrabass, the registry of clouds.
    pub contrabass: Upstream,
    /// Decrypts Contrabass' secrets; 16, 24 or 32 bytes.
    pub encrypt_key: Required<Secret>,
    /// Keystone, Neutron and Nova.
    pub openstack: OpenStack,
    /// The Viola API.
    pub viola: Upstream,
    /// When objects are due.
    pub intervals: Intervals,
    /// The inventory.
    pub inventory: Inventory,
    /// Where /healthz, /readyz and /metrics listen.
    pub health_address: SocketAddr,
    /// Namespaces to watch, one watch each; empty for all by one watch.
    pub watch_namespaces: Vec<String>,
    /// Leader election by Lease.
    pub leader_election: Option<LeaderElection>,
    /// Size of the worker pool.
    pub workers: usize,
    /// The Kubernetes API.
    pub kubernetes: Access,
    /// The proxies that services outside are reached through.
    pub proxies: Arc<Proxies>,
    /// `info`, `multinic_operator=debug`, ... as env_logger reads it.
    pub log_filter: String,
    /// One line of text or one JSON object per event.
    pub log_format: LogFormat,
}

/// A required setting that may be missing: the operator runs and says so on each object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Required<T> {
    /// The value.
    Given(T),
    /// The variable that isn't set.
    Missing(&'static str),
}

impl<T> Required<T> {
    /// The value, or the name of the missing variable.
    pub fn get(&self) -> Result<&T, &'static str> {
        match self {
            Required::Given(value) => Ok(value),
            Required::Missing(variable) => Err(variable),
        }
    }
}

/// One service with an endpoint of its own.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Base URL without a trailing slash.
    pub endpoint: Required<String>,
    /// Limit of one whole call.
    pub timeout: Duration,
    /// Whom its TLS connections trust.
    pub trust: Trust,
}

/// Keystone, Neutron and Nova share their settings; Keystone's URL comes from Contrabass.
#[derive(Clone, Debug)]
pub struct OpenStack {
    /// Limit of one whole call.
    pub timeout: Duration,
    /// Whom TLS connections trust.
    pub trust: Trust,
    /// Overrides the catalog's Neutron.
    pub neutron_endpoint: Option<String>,
    /// Overrides the catalog's Nova.
    pub nova_endpoint: Option<String>,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// Only endpoints of this region; none for any.
    pub region: Option<String>,
    /// Metadata key of a server that holds its node name.
    pub node_name_metadata_key: Option<String>,
    /// Upper-case port statuses that count; none for all.
    pub port_statuses: Option<Vec<String>>,
}

/// When objects are looked at and sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Within `fast_window` of a change.
    pub fast: Duration,
    /// In quiet times.
    pub slow: Duration,
    /// After an error.
    pub error: Duration,
    /// How long after a change polls stay fast.
    pub fast_window: Duration,
    /// Resends of nodes with DOWN ports at the fast interval, before the slow one.
    pub down_port_fast_retries: u32,
    /// Every node is sent again this often; none for never.
    pub resync: Option<Duration>,
}

/// The inventory's file and its API.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Is the API served? The file is kept in any case: ids and what was sent live in it.
    pub enabled: bool,
    /// Where the API listens.
    pub address: SocketAddr,
    /// The file.
    pub path: PathBuf,
    /// `Access-Control-Allow-Origin` of the API, as browsers write origins; none for no header.
    pub cors_origin: Option<String>,
    /// File with the bearer token clients must show; none for no check.
    pub token_file: Option<PathBuf>,
}

/// Who takes part in the election, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of this replica.
    pub identity: String,
    /// Where other replicas reach this one; none where they needn't.
    pub pod_ip: Option<IpAddr>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}

/// All that is wrong with the environment, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigReport {
    /// `VARIABLE: what is wrong`, in the order in which they are read.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        writeln!(formatter, "the configuration has {count} {noun}:")?;
        for problem in &self.problems {
            writeln!(formatter, "  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigReport {}

impl Config {
    /// Reads the settings through `lookup` (the environment, which may hold what is no text, or a
    /// test's table).
    pub fn read<T: Into<OsString>>(
        lookup: impl Fn(&str) -> Option<T>,
    ) -> Result<Config, ConfigReport> {
        read::read(&|name| lookup(name).map(Into::into))
    }

    /// What is watched, each by itself: namespaces, or none for all of them at once.
    pub fn watch_scopes(&self) -> Vec<Option<&str>> {
        match self.watch_namespaces.as_slice() {
            [] => vec![None],
            namespaces => namespaces.iter().map(|namespace| Some(namespace.as_str())).collect(),
        }
    }

    /// The required variables that are missing.
    pub fn all_missing(&self) -> Vec<&'static str> {
        let found = [
            self.contrabass.endpoint.get().err(),
            self.encrypt_key.get().err(),
            self.viola.endpoint.get().err(),
        ];
        found.into_iter().flatten().collect()
    }

    /// Services whose certificates aren't checked, for the log at start.
    pub fn unverified(&self) -> Vec<&'static str> {
        let services = [
            ("Contrabass", &self.contrabass.trust),
            ("OpenStack", &self.openstack.trust),
            ("Viola", &self.viola.trust),
        ];
        services
            .into_iter()
            .filter(|(_, trust)| **trust == Trust::Anyone)
            .map(|(name, _)| name)
            .collect()
    }
}
