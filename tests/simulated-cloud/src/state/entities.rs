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
    /// Nova's longest page.
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
    /// The provider id.
    pub id: String,
    /// Keystone's URL; `{keystone}` stands for the simulated one.
    #[serde(default = "keystone_placeholder")]
    pub url: String,
    /// Name of the admin user.
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
    /// User name.
    pub user: String,
    /// The password in the clear.
    pub password: String,
    /// `host:port` of each node.
    pub urls: Vec<String>,
}

/// A Keystone domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
}

/// A Keystone user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// Id of the domain.
    #[serde(default = "default_domain_id")]
    pub domain_id: String,
    /// Whether the role is admin; otherwise it is member.
    #[serde(default)]
    pub admin: bool,
    /// Ids of the projects with a role; none: all of them.
    #[serde(default)]
    pub projects: Option<Vec<String>>,
}

/// A Keystone project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// Id of the domain.
    #[serde(default = "default_domain_id")]
    pub domain_id: String,
}

/// A service of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogService {
    /// `network`, `compute`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `neutron`, `nova`, ...
    pub name: String,
    /// Where it is served.
    pub endpoints: Vec<Endpoint>,
}

/// One address of a service.
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

/// A Neutron network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// Id of the project that owns it.
    pub project_id: String,
    /// The MTU.
    #[serde(default = "usual_mtu")]
    pub mtu: u32,
    /// Whether all projects see it.
    #[serde(default)]
    pub shared: bool,
}

/// A Neutron subnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// Id of its network.
    pub network_id: String,
    /// Id of the project; none: the network's.
    #[serde(default)]
    pub project_id: Option<String>,
    /// The address range.
    pub cidr: String,
    /// The gateway.
    #[serde(default)]
    pub gateway_ip: Option<String>,
    /// DNS servers.
    #[serde(default)]
    pub dns_nameservers: Vec<String>,
    /// Routes.
    #[serde(default)]
    pub host_routes: Vec<serde_json::Value>,
}

/// An address of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedIp {
    /// The subnet.
    pub subnet_id: String,
    /// The address.
    pub ip_address: String,
}

/// A Neutron port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The id.
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
    /// Its addresses.
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
}

/// A Nova server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// Id of the project; empty: the first project of the cloud.
    #[serde(default)]
    pub project_id: String,
    /// ACTIVE, SHUTOFF, ...
    #[serde(default = "active")]
    pub status: String,
    /// Its metadata.
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
