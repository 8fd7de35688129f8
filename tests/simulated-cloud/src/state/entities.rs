//! The entities of a cloud, in the form in which a `cloud.json` writes them.
//!
//! They hold what a fixture says and nothing more; what a real answer has beyond that is filled in
//! where the answer is made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The domain that Keystone has from the beginning: id `default`, name `Default`.
const BOOTSTRAP_DOMAIN: &str = "default";

/// How the services behave; operators choose these, so clouds differ in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds until a new token expires.
    pub token_lifetime_seconds: i64,
    /// How far the clocks of Keystone and Neutron are ahead of ours, in seconds.
    pub clock_skew_seconds: i64,
    /// Keystone and Nova answer with a `Content-Length` and keep connections, as behind a proxy.
    /// Off, they end the connection after every answer, as uwsgi does.
    pub keep_alive: bool,
    /// Neutron is served by uwsgi instead of its own server: no length, no date, other header cases.
    pub neutron_uwsgi: bool,
    /// Neutron's longest page; none: no limit.
    pub pagination_max_limit: Option<usize>,
    pub nova_max_limit: usize,
    /// Longest request line that Neutron's own server takes, with CRLF; 414 beyond.
    pub neutron_request_line_limit: usize,
    /// Longest head that a uwsgi in front takes; beyond, the connection ends without an answer.
    /// 3660 is what uwsgi's default buffer holds.
    pub uwsgi_head_limit: usize,
    /// Keystone is away: Neutron and Nova can't check tokens.
    pub keystone_unreachable: bool,
    /// Status with which Contrabass says that it doesn't know a provider.
    pub unknown_provider_status: u16,
    /// Path in front of Contrabass's paths, such as `/registry`.
    pub contrabass_prefix: String,
    /// Path in front of Keystone's paths, such as `/identity`.
    pub keystone_prefix: String,
    /// Path in front of Neutron's paths, such as `/networking`.
    pub neutron_prefix: String,
    /// Path in front of Nova's paths, such as `/compute`.
    pub nova_prefix: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            token_lifetime_seconds: 3600,
            clock_skew_seconds: 0,
            keep_alive: false,
            neutron_uwsgi: false,
            pagination_max_limit: None,
            nova_max_limit: 1000,
            neutron_request_line_limit: 8191,
            uwsgi_head_limit: 65_100,
            keystone_unreachable: false,
            unknown_provider_status: 200,
            contrabass_prefix: String::new(),
            keystone_prefix: String::new(),
            neutron_prefix: String::new(),
            nova_prefix: String::new(),
        }
    }
}

/// A cloud as Contrabass knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub id: String,
    /// Keystone's URL; `{keystone}` stands for the simulated one.
    #[serde(default = "keystone_placeholder")]
    pub url: String,
    #[serde(default = "admin")]
    pub admin_id: String,
    /// The admin's password in the clear; Contrabass answers with it encrypted.
    #[serde(default)]
    pub admin_password: String,
    /// Ready ciphertext, instead of the encrypted `admin_password`.
    #[serde(default)]
    pub admin_password_ciphertext: Option<String>,
    /// Name or id of the user's domain.
    #[serde(default = "default_domain_name")]
    pub domain: String,
    /// The message queue; none: the attributes are absent.
    #[serde(default)]
    pub rabbitmq: Option<RabbitMq>,
}

/// The message queue of a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RabbitMq {
    pub user: String,
    /// The password in the clear.
    pub password: String,
    /// `host:port` of each node.
    pub urls: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub id: String,
    pub name: String,
    pub password: String,
    #[serde(default = "default_domain_id")]
    pub domain_id: String,
    /// Whether the role is admin; otherwise it is member.
    #[serde(default)]
    pub admin: bool,
    /// Ids of the projects with a role; none: all of them.
    #[serde(default)]
    pub projects: Option<Vec<String>>,
}

/// Logs in as its user, to its project alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationCredential {
    pub id: String,
    pub name: String,
    pub secret: String,
    pub user_id: String,
    pub project_id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    pub id: String,
    pub name: String,
    #[serde(default = "default_domain_id")]
    pub domain_id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogService {
    /// `network`, `compute`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `neutron`, `nova`, ...
    pub name: String,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// The field `region`; absent from the answer when absent here.
    #[serde(default)]
    pub region: Option<String>,
    /// The field `region_id`; absent from the answer when absent here.
    #[serde(default)]
    pub region_id: Option<String>,
    /// The URL, in which `{keystone}`, `{neutron}`, `{nova}` stand for the simulated services and
    /// `{project_id}` for the token's project.
    pub url: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub id: String,
    pub name: String,
    /// Id of the project that owns it.
    pub project_id: String,
    #[serde(default = "usual_mtu")]
    pub mtu: u32,
    #[serde(default)]
    pub shared: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    pub id: String,
    pub name: String,
    pub network_id: String,
    /// Id of the project; none: the network's.
    #[serde(default)]
    pub project_id: Option<String>,
    pub cidr: String,
    #[serde(default)]
    pub gateway_ip: Option<String>,
    #[serde(default)]
    pub dns_nameservers: Vec<String>,
    #[serde(default)]
    pub host_routes: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedIp {
    pub subnet_id: String,
    pub ip_address: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    pub id: String,
    /// The name; ports made by Nova have none.
    #[serde(default)]
    pub name: String,
    /// Id of its network; empty: that of its first address's subnet.
    #[serde(default)]
    pub network_id: String,
    /// Id of the project; empty: the server's, else the network's.
    #[serde(default)]
    pub project_id: String,
    /// The MAC address, as stored.
    pub mac_address: String,
    /// ACTIVE, DOWN, BUILD or ERROR.
    #[serde(default = "active")]
    pub status: String,
    /// Id of its server; empty: not attached.
    #[serde(default)]
    pub device_id: String,
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
    /// As Neutron writes it; absent: some time in 2026.
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub id: String,
    pub name: String,
    /// Id of the project; empty: the first project of the cloud.
    #[serde(default)]
    pub project_id: String,
    /// ACTIVE, SHUTOFF, ...
    #[serde(default = "active")]
    pub status: String,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

fn keystone_placeholder() -> String {
    "{keystone}".to_owned()
}

fn admin() -> String {
    "admin".to_owned()
}

fn default_domain_id() -> String {
    BOOTSTRAP_DOMAIN.to_owned()
}

fn default_domain_name() -> String {
    "Default".to_owned()
}

fn usual_mtu() -> u32 {
    1450
}

fn active() -> String {
    "ACTIVE".to_owned()
}
