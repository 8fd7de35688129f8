//! Reads each variable, remembers what is wrong with it, and checks values against each other.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{
    Config, ConfigReport, Intervals, Inventory, LeaderElection, LogFormat, OpenStack, Required,
    Upstream,
};
use crate::go_duration;
use crate::http::proxy::Proxies;
use crate::http::trust::Trust;
use crate::http::url::has_bad_port;
use crate::kube::access::Access;
use crate::secret::Secret;

/// Where a pod finds the name of its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// More workers than this would only queue up at the services.
const MAX_WORKERS: usize = 64;

/// No interval and no limit of a call is shorter; less can only be a slip of the pen.
const SHORTEST: Duration = Duration::from_millis(1);

/// One environment variable, for the documentation and `--help`.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its default as the documentation writes it.
    pub default: &'static str,
    /// What it does, in a few words.
    pub help: &'static str,
}

macro_rules! variables {
    ($($name:literal, $default:literal, $help:literal;)*) => {
        /// Every variable that is read, in the order of the documentation.
        pub const VARIABLES: &[Variable] =
            &[$(Variable { name: $name, default: $default, help: $help }),*];
    };
}

variables! {
    "CONTRABASS_ENDPOINT", "required", "base URL of Contrabass";
    "CONTRABASS_ENCRYPT_KEY", "required", "decrypts its secrets: 16 bytes (AES-128), 24 or 32";
    "CONTRABASS_TIMEOUT", "30s", "limit of one whole call to Contrabass";
    "CONTRABASS_INSECURE_TLS", "true", "accept any certificate of Contrabass";
    "CONTRABASS_CA_FILE", "", "PEM bundle that Contrabass' certificate must lead to";
    "OPENSTACK_TIMEOUT", "30s", "limit of one whole call to Keystone, Neutron or Nova";
    "OPENSTACK_INSECURE_TLS", "true", "accept any certificate of Keystone, Neutron and Nova";
    "OPENSTACK_CA_FILE", "", "PEM bundle that their certificates must lead to";
    "OPENSTACK_NEUTRON_ENDPOINT", "", "overrides the catalog's Neutron";
    "OPENSTACK_NOVA_ENDPOINT", "", "overrides the catalog's Nova";
    "OPENSTACK_ENDPOINT_INTERFACE", "public", "public, internal or admin";
    "OPENSTACK_ENDPOINT_REGION", "", "only endpoints of this region";
    "OPENSTACK_NODE_NAME_METADATA_KEY", "", "server metadata key that holds the node name";
    "OPENSTACK_PORT_ALLOWED_STATUSES", "ACTIVE,DOWN", "port statuses that count; * for all";
    "DOWN_PORT_FAST_RETRY_MAX", "5", "resends for DOWN ports at the fast interval";
    "POLL_FAST_INTERVAL", "20s", "poll interval after a change";
    "POLL_SLOW_INTERVAL", "2m", "poll interval in quiet times";
    "POLL_ERROR_INTERVAL", "30s", "poll interval after an error";
    "POLL_FAST_WINDOW", "3m", "how long after a change polls stay fast";
    "VIOLA_ENDPOINT", "required", "base URL of the Viola API";
    "VIOLA_TIMEOUT", "30s", "limit of one whole call to Viola";
    "VIOLA_INSECURE_TLS", "false", "accept any certificate of Viola";
    "VIOLA_CA_FILE", "", "PEM bundle that Viola's certificate must lead to";
    "VIOLA_RESYNC_INTERVAL", "", "send every node again this often; empty for never";
    "INVENTORY_ENABLED", "true", "serve the inventory's API";
    "INVENTORY_ADDR", ":18081", "where the inventory's API listens";
    "INVENTORY_DB_PATH", "/var/lib/multinic-operator/inventory.json", "the inventory's file";
    "INVENTORY_CORS_ORIGIN", "", "Access-Control-Allow-Origin of the API, such as https://ui.example.com";
    "INVENTORY_TOKEN_FILE", "", "file with the bearer token that clients must show";
    "HEALTH_ADDR", ":8081", "where /healthz, /readyz and /metrics listen";
    "WATCH_NAMESPACES", "", "namespaces to watch, comma-separated; empty for all";
    "LEADER_ELECT", "false", "let only one of several replicas work";
    "POD_NAMESPACE", "", "namespace of the Lease; default: the pod's own";
    "POD_NAME", "", "this replica's name in the Lease; default: the host name";
    "POD_IP", "", "where another replica asks this one for the inventory; empty for nowhere";
    "SYNC_WORKERS", "4", "objects that are synced at the same time";
    "KUBE_API_URL", "in-cluster", "the Kubernetes API, such as http://127.0.0.1:8001";
    "KUBE_TOKEN_FILE", "in-cluster", "file with the bearer token for it";
    "KUBE_CA_FILE", "in-cluster", "PEM bundle that its certificate must lead to";
    "SSL_CERT_FILE", "", "PEM bundle of public roots in place of the system's";
    "HTTP_PROXY", "", "proxy for http:// services";
    "HTTPS_PROXY", "", "proxy for https:// services";
    "NO_PROXY", "", "what is reached without a proxy";
    "RUST_LOG", "info", "log filter";
    "LOG_FORMAT", "text", "text or json";
}

/// The variables under which an in-cluster pod finds the API server.
const KUBERNETES_HOST: &str = "KUBERNETES_SERVICE_HOST";
const KUBERNETES_PORT: &str = "KUBERNETES_SERVICE_PORT";

struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
    problems: Vec<String>,
    /// Variables whose values are no text: there is nothing more to say of them.
    unreadable: Vec<&'static str>,
    /// Whom to trust where verification is on and no bundle is named.
    public_roots: Trust,
}

pub(super) fn read(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Config, ConfigReport> {
    let mut reader = Reader {
        lookup,
        problems: Vec::new(),
        unreadable: Vec::new(),
        public_roots: Trust::System,
    };
    reader.find_unreadable();
    if let Some(named) = reader.bundle("SSL_CERT_FILE") {
        reader.public_roots = named;
    }
    let config = reader.config();
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigReport { problems: reader.problems })
    }
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let contrabass = self.upstream(
            "CONTRABASS_ENDPOINT",
            "CONTRABASS_TIMEOUT",
            ("CONTRABASS_INSECURE_TLS", true, "CONTRABASS_CA_FILE"),
        );
        let encrypt_key = self.encrypt_key();
        let openstack = self.openstack();
        let intervals = self.intervals();
        let viola = self.upstream(
            "VIOLA_ENDPOINT",
            "VIOLA_TIMEOUT",
            ("VIOLA_INSECURE_TLS", false, "VIOLA_CA_FILE"),
        );
        let inventory = Inventory {
            enabled: self.boolean("INVENTORY_ENABLED", true),
            address: self.address("INVENTORY_ADDR", ":18081"),
            path: self
                .text("INVENTORY_DB_PATH")
                .unwrap_or_else(|| "/var/lib/multinic-operator/inventory.json".to_owned())
                .into(),
            cors_origin: self.origin("INVENTORY_CORS_ORIGIN"),
            token_file: self.text("INVENTORY_TOKEN_FILE").map(PathBuf::from),
        };
        let log_format = match self.text("LOG_FORMAT").as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                self.problem("LOG_FORMAT", &format!("{other:?} is neither text nor json"));
                LogFormat::Text
            }
        };
        let health_address = self.address("HEALTH_ADDR", ":8081");
        if inventory.enabled && overlap(health_address, inventory.address) {
            let what =
                format!("{health_address} is taken by INVENTORY_ADDR, {}", inventory.address);
            self.problem("HEALTH_ADDR", &what);
        }
        let proxies = self.proxies();
        Config {
            contrabass,
            encrypt_key,
            openstack,
            viola,
            intervals,
            inventory,
            health_address,
            watch_namespaces: self.namespaces(),
            leader_election: self.leader_election(),
            workers: self.count("SYNC_WORKERS", 4, 1..=MAX_WORKERS),
            kubernetes: self.kubernetes(&proxies),
            proxies,
            log_filter: self.log_filter(),
            log_format,
        }
    }

    fn find_unreadable(&mut self) {
        let listed = VARIABLES.iter().map(|variable| variable.name);
        for name in
            listed.chain(Proxies::LOWER_CASE_NAMES).chain([KUBERNETES_HOST, KUBERNETES_PORT])
        {
            if (self.lookup)(name).is_some_and(|value| value.to_str().is_none()) {
                self.problem(name, "is not UTF-8 text");
                self.unreadable.push(name);
            }
        }
    }

    /// A variable's value as it is.
    fn given(&self, name: &str) -> Option<String> {
        (self.lookup)(name)?.into_string().ok()
    }

    /// A variable's trimmed value; blank counts as not set, as in a ConfigMap's empty entry.
    fn text(&self, name: &str) -> Option<String> {
        let value = self.given(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn problem(&mut self, name: &str, what: &str) {
        if !self.unreadable.contains(&name) {
            self.problems.push(format!("{name}: {what}"));
        }
    }

    fn upstream(
        &mut self,
        endpoint: &'static str,
        timeout: &'static str,
        (insecure, insecure_default, ca_file): (&'static str, bool, &'static str),
    ) -> Upstream {
        let endpoint = match self.url(endpoint) {
            Some(url) => Required::Given(url),
            None => Required::Missing(endpoint),
        };
        let timeout = self.interval(timeout, Duration::from_secs(30));
        Upstream { endpoint, timeout, trust: self.trust(insecure, insecure_default, ca_file) }
    }

    fn openstack(&mut self) -> OpenStack {
        let interface =
            self.text("OPENSTACK_ENDPOINT_INTERFACE").unwrap_or_else(|| "public".to_owned());
        if !["public", "internal", "admin"].contains(&interface.as_str()) {
            let what = format!("{interface:?} is none of public, internal, admin");
            self.problem("OPENSTACK_ENDPOINT_INTERFACE", &what);
        }
        OpenStack {
            timeout: self.interval("OPENSTACK_TIMEOUT", Duration::from_secs(30)),
            trust: self.trust("OPENSTACK_INSECURE_TLS", true, "OPENSTACK_CA_FILE"),
            neutron_endpoint: self.url("OPENSTACK_NEUTRON_ENDPOINT"),
            nova_endpoint: self.url("OPENSTACK_NOVA_ENDPOINT"),
            interface,
            region: self.text("OPENSTACK_ENDPOINT_REGION"),
            node_name_metadata_key: self.text("OPENSTACK_NODE_NAME_METADATA_KEY"),
            port_statuses: self.port_statuses(),
        }
    }

    /// Not set at all means the default; set but empty, or `*`, means all.
    fn port_statuses(&self) -> Option<Vec<String>> {
        let given = self
            .given("OPENSTACK_PORT_ALLOWED_STATUSES")
            .unwrap_or_else(|| "ACTIVE,DOWN".to_owned());
        let statuses: Vec<String> = given
            .split(',')
            .map(|status| status.trim().to_ascii_uppercase())
            .filter(|status| !status.is_empty())
            .collect();
        let all = statuses.is_empty() || statuses.iter().any(|status| status == "*");
        (!all).then_some(statuses)
    }

    fn intervals(&mut self) -> Intervals {
        let fast = self.interval("POLL_FAST_INTERVAL", Duration::from_secs(20));
        let slow = self.interval("POLL_SLOW_INTERVAL", Duration::from_secs(120));
        let error = self.interval("POLL_ERROR_INTERVAL", Duration::from_secs(30));
        let fast_window = self.duration("POLL_FAST_WINDOW").unwrap_or(Duration::from_secs(180));
        if slow < fast {
            let (slow, fast) = (go_duration::show(slow), go_duration::show(fast));
            let what = format!("{slow} is shorter than POLL_FAST_INTERVAL, {fast}");
            self.problem("POLL_SLOW_INTERVAL", &what);
        }
        let resync = self.duration("VIOLA_RESYNC_INTERVAL");
        if let Some(resync) = resync.filter(|resync| *resync < SHORTEST) {
            let what = format!("{}; leave it empty for never", too_short(resync));
            self.problem("VIOLA_RESYNC_INTERVAL", &what);
        }
        let down_port_fast_retries = self.count("DOWN_PORT_FAST_RETRY_MAX", 5, 0..=1_000_000);
        Intervals {
            fast,
            slow,
            error,
            fast_window,
            down_port_fast_retries: u32::try_from(down_port_fast_retries).unwrap_or(u32::MAX),
            resync,
        }
    }

    fn trust(
        &mut self,
        insecure: &'static str,
        insecure_default: bool,
        ca_file: &'static str,
    ) -> Trust {
        let insecure_given = self.text(insecure).is_some();
        let insecure_value = self.boolean(insecure, insecure_default);
        match self.bundle(ca_file) {
            Some(trust) => {
                if insecure_given && insecure_value {
                    let what = format!("true contradicts {ca_file}, which turns verification on");
                    self.problem(insecure, &what);
                }
                trust
            }
            None if insecure_value => Trust::Anyone,
            None => self.public_roots.clone(),
        }
    }

    fn bundle(&mut self, variable: &'static str) -> Option<Trust> {
        let trust = Trust::Bundle { variable, path: self.text(variable)?.into() };
        if let Err(error) = trust.load() {
            self.problem(variable, &error.to_string());
        }
        Some(trust)
    }

    fn encrypt_key(&mut self) -> Required<Secret> {
        const NAME: &str = "CONTRABASS_ENCRYPT_KEY";
        // Not trimmed: a space may be part of a key. A file's last line end is not.
        let value = Zeroizing::new(self.given(NAME).unwrap_or_default());
        let value = value.trim_end_matches(['\r', '\n']);
        if value.trim().is_empty() {
            return Required::Missing(NAME);
        }
        if ![16, 24, 32].contains(&value.len()) {
            let what = format!("has {} bytes; AES needs 16, 24 or 32", value.len());
            self.problem(NAME, &what);
        }
        Required::Given(Secret::new(value.to_owned()))
    }

    fn proxies(&mut self) -> Arc<Proxies> {
        let (proxies, problems) = Proxies::read(|name| self.text(name));
        for (name, what) in problems {
            self.problem(name, &what);
        }
        Arc::new(proxies)
    }

    fn kubernetes(&mut self, proxies: &Arc<Proxies>) -> Access {
        let in_cluster = self.text(KUBERNETES_HOST);
        let token_file = self.text("KUBE_TOKEN_FILE").map(PathBuf::from);
        let public_roots = self.public_roots.clone();
        let elsewhere = |api_url| {
            let proxies = Arc::clone(proxies);
            Access { api_url, token_file: None, trust: public_roots, proxies }
        };
        let mut access = match (self.url("KUBE_API_URL"), in_cluster) {
            (Some(api_url), _) => elsewhere(api_url),
            (None, Some(host)) => {
                let access = Access::in_cluster(&host, self.in_cluster_port());
                Access { proxies: Arc::clone(proxies), ..access }
            }
            (None, None) => {
                let what = "is not set, and neither is KUBERNETES_SERVICE_HOST, \
                            which a pod would have";
                self.problem("KUBE_API_URL", what);
                elsewhere(String::new())
            }
        };
        if let Some(path) = token_file {
            access.token_file = Some(path);
        }
        if let Some(trust) = self.bundle("KUBE_CA_FILE") {
            access.trust = trust;
        }
        access
    }

    fn in_cluster_port(&mut self) -> u16 {
        let Some(text) = self.text(KUBERNETES_PORT) else { return 443 };
        let port = text.parse().ok();
        port.unwrap_or_else(|| {
            self.problem(KUBERNETES_PORT, &format!("{text:?} is no port"));
            443
        })
    }

    fn namespaces(&mut self) -> Vec<String> {
        let Some(given) = self.text("WATCH_NAMESPACES") else { return Vec::new() };
        let mut namespaces: Vec<String> = given
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        if namespaces.is_empty() {
            // To watch all of them is more than whoever wrote this asked for.
            let what = format!("{given:?} names no namespace; leave it empty for all");
            self.problem("WATCH_NAMESPACES", &what);
        }
        for name in namespaces.iter().filter(|name| !is_label(name)) {
            self.problem("WATCH_NAMESPACES", &format!("{name:?} is no namespace's name"));
        }
        namespaces
    }

    fn leader_election(&mut self) -> Option<LeaderElection> {
        if !self.boolean("LEADER_ELECT", false) {
            return None;
        }
        let from_file = || std::fs::read_to_string(Path::new(NAMESPACE_FILE)).ok();
        let namespace = self
            .text("POD_NAMESPACE")
            .or_else(from_file)
            .map(|namespace| namespace.trim().to_owned())
            .unwrap_or_else(|| "default".to_owned());
        if !is_label(&namespace) {
            self.problem("POD_NAMESPACE", &format!("{namespace:?} is no namespace's name"));
        }
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = self
            .text("POD_NAME")
            .or_else(host)
            .map(|name| name.trim().to_owned())
            .unwrap_or_else(|| "multinic-operator".to_owned());
        // A pod that restarts keeps its name, so a number tells its lives apart.
        let identity = format!("{name}_{:08x}", fastrand::u32(..));
        Some(LeaderElection { namespace, identity, pod_ip: self.pod_ip() })
    }

    fn pod_ip(&mut self) -> Option<IpAddr> {
        let text = self.text("POD_IP")?;
        let ip = text.parse().ok();
        if ip.is_none() {
            self.problem("POD_IP", &format!("{text:?} is no IP address"));
        }
        ip
    }

    fn url(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name)?;
        let url = text.trim_end_matches('/').to_owned();
        let uri = url.parse::<ureq::http::Uri>().ok();
        let usable = uri.as_ref().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
                && !has_bad_port(uri)
                && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        });
        // A fragment is nothing to a `Uri`: it is left out without a word.
        if !usable || url.contains('#') {
            // The value isn't shown: it may hold a password.
            let what = "is no http or https base URL without user, query and fragment, and with \
                        a port up to 65535 if any";
            self.problem(name, what);
        }
        Some(url)
    }

    /// A web origin exactly as browsers send it, or it would never be found equal to theirs.
    fn origin(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name)?;
        if !["*", "null"].contains(&text.as_str()) && !is_origin(&text) {
            let what = "is neither * nor an origin such as https://ui.example.com: scheme and host in \
                        lower case, a port only if it isn't the usual one, no path, no slash at the end";
            self.problem(name, what);
        }
        Some(text)
    }

    fn log_filter(&mut self) -> String {
        let filter = self.text("RUST_LOG").unwrap_or_else(|| "info".to_owned());
        if let Some(part) = unreadable_part(&filter) {
            let what = format!("{part:?} is no filter such as info,multinic_operator=debug");
            self.problem("RUST_LOG", &what);
        }
        filter
    }

    fn duration(&mut self, name: &'static str) -> Option<Duration> {
        let text = self.text(name)?;
        let parsed = go_duration::parse(&text);
        if parsed.is_none() {
            self.problem(name, &format!("{text:?} is no duration such as 90s, 1h30m or 500ms"));
        }
        parsed
    }

    fn interval(&mut self, name: &'static str, default: Duration) -> Duration {
        let value = self.duration(name).unwrap_or(default);
        if value < SHORTEST {
            self.problem(name, &too_short(value));
        }
        value
    }

    /// Go's `strconv.ParseBool`.
    fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        let Some(text) = self.text(name) else { return default };
        match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
            "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
            _ => {
                self.problem(name, &format!("{text:?} is neither true nor false"));
                default
            }
        }
    }

    fn count(
        &mut self,
        name: &'static str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> usize {
        let Some(text) = self.text(name) else { return default };
        match text.parse() {
            Ok(value) if range.contains(&value) => value,
            _ => {
                let (low, high) = range.into_inner();
                let what = format!("{text:?} is no whole number from {low} to {high}");
                self.problem(name, &what);
                default
            }
        }
    }

    /// `:18081` means all addresses, by IPv6's wildcard; the server sees to it that it takes IPv4 as
    /// well.
    fn address(&mut self, name: &'static str, default: &str) -> SocketAddr {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        let parsed = match text.strip_prefix(':') {
            Some(port) => port
                .parse()
                .ok()
                .map(|port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)),
            None => text.replace("localhost:", "127.0.0.1:").parse().ok(),
        };
        parsed.unwrap_or_else(|| {
            self.problem(
                name,
                &format!("{text:?} is no address such as :18081 or 127.0.0.1:18081"),
            );
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)
        })
    }
}

/// Scheme, host and port as browsers write them, and nothing else.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<ureq::http::Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let usual_port = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let whole = format!("{scheme}://{authority}");
    whole == text
        && whole == whole.to_lowercase()
        && !whole.contains('@')
        && authority.port().is_none_or(|port| Some(port.as_u16()) != usual_port)
}

fn too_short(value: Duration) -> String {
    format!("{} is shorter than {}", go_duration::show(value), go_duration::show(SHORTEST))
}

/// A label by RFC 1123, which the names of namespaces are.
fn is_label(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
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

/// The part of a log filter that env_logger couldn't read; it would leave that out, with nothing but
/// a line of its own. A lone word it doesn't know is the name of a module.
fn unreadable_part(filter: &str) -> Option<&str> {
    let (directives, text) = filter.split_once('/').unwrap_or((filter, ""));
    if text.contains('/') {
        return Some(filter);
    }
    directives.split(',').map(str::trim).find(|directive| {
        let level = directive.split_once('=').map_or("", |(_, level)| level.trim());
        !level.is_empty() && level.parse::<log::LevelFilter>().is_err()
    })
}
