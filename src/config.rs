//! The settings: what the environment says, read once before anything starts.
//!
//! All that is wrong is in one report. A required variable that is missing isn't wrong: the operator
//! runs, and every object says so in its status, where users look first.

mod clouds_yaml;
mod endpoints;
mod kubeconfig;
mod object;
mod parse;
mod read;
mod table;
#[cfg(test)]
mod tests;
mod yaml;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::go_duration;
use crate::http::proxy::Proxies;
use crate::http::trust::Trust;
use crate::kube::access::{Access, Credentials};

pub(crate) use clouds_yaml::read as read_clouds_yaml;
pub use clouds_yaml::{Domain, Project, User};
pub(crate) use kubeconfig::read as read_kubeconfig;
pub use object::{FoundCloud, FoundSecrets, Identity, ObjectSettings};
pub(crate) use parse::aes_key;
use read::{Reader, SERVICE_HOST, SERVICE_PORT};
use table::Process;
pub use table::{
    Contrabass, DeliverySettings, Intervals, Inventory, Notifications, OpenStack, Policy,
    VARIABLES, Variable, Viola,
};

/// Where a pod finds the name of its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// The Lease by which one replica leads.
pub(crate) const LEASE_NAME: &str = "multinic-operator";

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What objects are reconciled by that set nothing themselves.
    pub settings: Arc<Settings>,
    /// What objects may set.
    pub policy: Policy,
    /// Who brings nodes to their cluster, and where they are put there.
    pub delivery: DeliverySettings,
    /// What to trust where verification is on and no CA file is set.
    pub public_roots: Trust,
    /// OpenStack's notifications.
    pub notifications: Notifications,
    /// The inventory.
    pub inventory: Inventory,
    /// Where /healthz, /readyz and /metrics listen.
    pub health_address: SocketAddr,
    /// Namespaces to watch, one watch each; empty for all by one watch.
    pub watch_namespaces: Vec<String>,
    /// The operator's own namespace, where its Lease and its records are; none if it isn't known.
    pub own_namespace: Option<String>,
    /// Leader election by Lease.
    pub leader_election: Option<LeaderElection>,
    /// Size of the worker pool.
    pub workers: usize,
    /// The Kubernetes API.
    pub kubernetes: Access,
    /// The proxies that services outside are reached through.
    pub proxies: Arc<Proxies>,
    /// As env_logger reads it.
    pub log_filter: String,
    /// Text or JSON.
    pub log_format: LogFormat,
}

/// What an object is reconciled by: the environment's, or with the object's own in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Contrabass, the registry of clouds, and the key for its secrets.
    pub contrabass: Contrabass,
    /// A cloud that isn't Contrabass', from a `clouds.yaml`.
    pub identity: Option<Arc<Identity>>,
    /// Keystone, Neutron and Nova.
    pub openstack: OpenStack,
    /// The Viola API.
    pub viola: Viola,
    /// When objects are due.
    pub intervals: Intervals,
    /// Which of the object's own values are used otherwise than they are written.
    pub notes: Vec<String>,
}

/// A required setting, or the variable that isn't set.
pub type Required<T> = Result<T, &'static str>;

/// This replica in the leader election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of this replica.
    pub identity: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}

/// All that is wrong with the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigReport {
    /// `VARIABLE: what is wrong`, in the order in which they are read.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.problems.len() == 1 { "problem" } else { "problems" };
        let (count, lines) = (self.problems.len(), self.problems.join("\n  "));
        writeln!(formatter, "the configuration has {count} {noun}:\n  {lines}")
    }
}

impl std::error::Error for ConfigReport {}

impl Config {
    /// Reads the settings through `lookup` (the environment, whose values may not be text, or a
    /// test's table).
    pub fn read<T: Into<OsString>>(
        lookup: impl Fn(&str) -> Option<T>,
    ) -> Result<Config, ConfigReport> {
        let lookup = |name: &str| lookup(name).map(Into::into);
        let mut reader = Reader::new(&lookup);
        let process = Process::read(&mut reader);
        reader.public_roots = process.public_roots.clone().unwrap_or(Trust::System);
        let (proxies, problems) = Proxies::read(|name| reader.text(name));
        problems.iter().for_each(|(name, what)| reader.problem(name, what));
        let proxies = Arc::new(proxies);
        let settings = Arc::new(Settings {
            contrabass: Contrabass::read(&mut reader),
            identity: None,
            openstack: OpenStack::read(&mut reader),
            viola: Viola::read(&mut reader),
            intervals: Intervals::read(&mut reader),
            notes: Vec::new(),
        });
        let policy = Policy::read(&mut reader);
        let notifications = Notifications::read(&mut reader);
        let inventory = Inventory::read(&mut reader);
        // Without the Lease two replicas would write the same records.
        if inventory.in_kubernetes && reader.text("LEADER_ELECT").is_some() && !process.leader_elect
        {
            let what = "false contradicts INVENTORY_STORE, whose records only a leader may write";
            reader.problem("LEADER_ELECT", what);
        }
        let file = |path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let own_namespace = process.pod_namespace.clone().or_else(|| file(NAMESPACE_FILE));
        let config = Config {
            settings,
            policy,
            delivery: DeliverySettings::read(&mut reader),
            public_roots: reader.public_roots.clone(),
            notifications,
            kubernetes: kubernetes(&process, Arc::clone(&proxies), &mut reader),
            leader_election: (process.leader_elect || inventory.in_kubernetes)
                .then(|| leader_election(&process, own_namespace.clone())),
            own_namespace,
            inventory,
            health_address: process.health_address,
            watch_namespaces: process.watch_namespaces.unwrap_or_default(),
            workers: process.workers,
            proxies,
            log_filter: process.log_filter,
            log_format: process.log_format,
        };
        config.check_relations(&mut reader);
        match reader.problems.is_empty() {
            true => Ok(config),
            false => Err(ConfigReport { problems: reader.problems }),
        }
    }

    /// Reports values that are possible, but not together.
    fn check_relations(&self, reader: &mut Reader<'_>) {
        let Intervals { slow, fast, .. } = self.settings.intervals;
        if slow < fast {
            let [slow, fast] = [slow, fast].map(go_duration::show);
            let what = format!("{slow} is shorter than POLL_FAST_INTERVAL, {fast}");
            reader.problem("POLL_SLOW_INTERVAL", &what);
        }
        let (health, inventory) = (self.health_address, self.inventory.address);
        if self.inventory.enabled && overlap(health, inventory) {
            let what = format!("{health} is taken by INVENTORY_ADDR, {inventory}");
            reader.problem("HEALTH_ADDR", &what);
        }
    }

    /// What is watched, each by itself: namespaces, or none for all of them at once.
    pub(crate) fn watch_scopes(&self) -> Vec<Option<&str>> {
        match self.watch_namespaces.as_slice() {
            [] => vec![None],
            namespaces => namespaces.iter().map(|namespace| Some(namespace.as_str())).collect(),
        }
    }
}

impl Settings {
    /// The required variables that are missing, those of Viola only if it delivers.
    pub(crate) fn all_missing(&self, by_kubernetes: bool) -> Vec<&'static str> {
        let (contrabass, viola) = (&self.contrabass, &self.viola);
        let of_contrabass =
            [contrabass.endpoint.as_ref().err(), contrabass.encrypt_key.as_ref().err()];
        let of_contrabass = of_contrabass.into_iter().filter(|_| self.identity.is_none());
        let viola = viola.endpoint.as_ref().err().filter(|_| !by_kubernetes);
        of_contrabass.chain([viola]).flatten().copied().collect()
    }

    /// Services whose certificates aren't verified.
    pub(crate) fn unverified(&self) -> Vec<&'static str> {
        let services = [
            ("Contrabass", &self.contrabass.trust),
            ("OpenStack", &self.openstack.trust),
            ("Viola", &self.viola.trust),
        ];
        let unverified = services.into_iter().filter(|(_, trust)| **trust == Trust::Anyone);
        unverified.map(|(name, _)| name).collect()
    }
}

fn kubernetes(process: &Process, proxies: Arc<Proxies>, reader: &mut Reader<'_>) -> Access {
    let access = match (reader.text("KUBE_API_URL"), reader.text(SERVICE_HOST)) {
        (None, Some(host)) => Access::in_cluster(&host, reader.value(&SERVICE_PORT)),
        (given, _) => {
            if given.is_none() {
                let what = "is not set, and neither is KUBERNETES_SERVICE_HOST, which a pod has";
                reader.problem("KUBE_API_URL", what);
            }
            let api_url = process.api_url.clone().unwrap_or_default();
            let (trust, proxies) = (reader.public_roots.clone(), Arc::default());
            let credentials = Credentials::default();
            Access { api_url, token_file: None, trust, proxies, credentials }
        }
    };
    let token_file = process.token_file.clone().or(access.token_file);
    let trust = process.ca_file.clone().unwrap_or(access.trust);
    Access { api_url: access.api_url, token_file, trust, proxies, credentials: access.credentials }
}

fn leader_election(process: &Process, namespace: Option<String>) -> LeaderElection {
    let file = |path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let name = process.pod_name.clone().or_else(|| file(HOST_NAME_FILE));
    let name = name.unwrap_or_else(|| "multinic-operator".to_owned());
    LeaderElection {
        namespace: namespace.unwrap_or_else(|| "default".to_owned()),
        // A pod that restarts keeps its name; the number makes each process another holder.
        identity: format!("{name}_{:08x}", fastrand::u32(..)),
    }
}

/// The least time from the end of a poll to the next one, where a poll begins each `interval`.
pub(crate) fn least_pause(interval: Duration) -> Duration {
    interval * 3 / 4
}

/// Would one keep the other from listening? Port 0 is any that is free.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // IPv6's wildcard takes IPv4 as well.
    let takes = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    let (first, second) = (one.ip(), other.ip());
    one.port() != 0
        && one.port() == other.port()
        && (first == second || takes(first, second) || takes(second, first))
}
