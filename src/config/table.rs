//! The table of environment variables. Each line is a field of the settings, how it is read, its
//! variable, its default and its help text; nothing of them is written a second time.
//!
//! A new setting is a line here and its use. `--help` prints the table, and tests compare documents
//! and manifests with it.

#![allow(rustdoc::bare_urls, reason = "help texts are plain text")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::endpoints::AllowedEndpoints;
use super::object::ObjectSettings;
use super::parse::{
    address, aes_key, base_url, boolean, created_after, duration, interface, interval, log_filter,
    log_format, namespace, namespaces, one_of, origin, percentage, port_statuses, text, use_tls,
    vhost, whole_number,
};
use super::read::{Reader, Setting};
use super::{LogFormat, Required};
use crate::http::trust::Trust;
use crate::notifications::connection::UseTls;
use crate::secret::Secret;

/// One environment variable, for documents and `--help`.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its default; `required`, `in-cluster` and an empty text mean that it has none.
    pub default: &'static str,
    /// What it does, in a few words.
    pub help: &'static str,
}

/// Makes of each block a struct with a function `read`, and of all lines [`VARIABLES`].
macro_rules! settings {
    (read elsewhere {$($other:literal, $other_default:literal, $other_help:literal;)*}
    $(
        $(#[$attribute:meta])*
        $visibility:vis struct $group:ident {$(
            $field:ident: $type:ty = $method:ident($parse:expr $(, $more:expr)*),
            $name:literal, $default:literal, $help:literal;
        )*}
    )*) => {
        $(
            $(#[$attribute])*
            $visibility struct $group { $(#[doc = $help] $visibility $field: $type,)* }

            impl $group {
                pub(super) fn read(reader: &mut Reader<'_>) -> $group {
                    $(let setting = Setting { name: $name, default: $default, parse: $parse };
                    let $field = reader.$method(&setting $(, $more)*);)*
                    $group { $($field),* }
                }
            }
        )*

        /// Every variable that is read, in the order of `--help`.
        pub const VARIABLES: &[Variable] = &[
            $($(Variable { name: $name, default: $default, help: $help },)*)*
            $(Variable { name: $other, default: $other_default, help: $other_help },)*
        ];
    };
}

// Field: type = method of `Reader`(parser), variable, default, help.
settings! {
    // By `http::proxy`, in capitals and in lower case.
    read elsewhere {
        "HTTP_PROXY", "", "proxy for http:// services";
        "HTTPS_PROXY", "", "proxy for https:// services";
        "NO_PROXY", "", "what is reached without a proxy";
    }

    /// Contrabass, the registry of clouds.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Contrabass {
        endpoint: Required<String> = required(base_url), "CONTRABASS_ENDPOINT", "required", "base URL of Contrabass";
        encrypt_key: Required<Secret> = required(aes_key), "CONTRABASS_ENCRYPT_KEY", "required", "decrypts its secrets: 16 bytes (AES-128), 24 or 32";
        timeout: Duration = value(interval), "CONTRABASS_TIMEOUT", "30s", "limit of one whole call to Contrabass";
        insecure_tls: bool = value(boolean), "CONTRABASS_INSECURE_TLS", "true", "accept any certificate of Contrabass";
        trust: Trust = trust(text, insecure_tls), "CONTRABASS_CA_FILE", "", "PEM bundle that Contrabass' certificate must lead to";
    }

    /// Keystone, Neutron and Nova share their settings; Keystone's URL comes from Contrabass.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OpenStack {
        timeout: Duration = value(interval), "OPENSTACK_TIMEOUT", "30s", "limit of one whole call to Keystone, Neutron or Nova";
        insecure_tls: bool = value(boolean), "OPENSTACK_INSECURE_TLS", "true", "accept any certificate of Keystone, Neutron and Nova";
        trust: Trust = trust(text, insecure_tls), "OPENSTACK_CA_FILE", "", "PEM bundle that their certificates must lead to";
        neutron_endpoint: Option<String> = optional(base_url), "OPENSTACK_NEUTRON_ENDPOINT", "", "overrides the catalog's Neutron";
        nova_endpoint: Option<String> = optional(base_url), "OPENSTACK_NOVA_ENDPOINT", "", "overrides the catalog's Nova";
        interface: String = value(interface), "OPENSTACK_ENDPOINT_INTERFACE", "public", "public, internal or admin";
        region: Option<String> = optional(text), "OPENSTACK_ENDPOINT_REGION", "", "only endpoints of this region";
        node_name_metadata_key: Option<String> = optional(text), "OPENSTACK_NODE_NAME_METADATA_KEY", "", "server metadata key that holds the node name";
        ports_created_after_object: bool = value_or_blank(created_after), "PORTS_CREATED_AFTER", "", "ObjectCreation: nodes get only ports younger than their object";
        port_statuses: Option<Vec<String>> = value_or_blank(port_statuses), "OPENSTACK_PORT_ALLOWED_STATUSES", "ACTIVE,DOWN", "port statuses that count; * for all";
    }

    /// The Viola API.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Viola {
        endpoint: Required<String> = required(base_url), "VIOLA_ENDPOINT", "required", "base URL of the Viola API";
        timeout: Duration = value(interval), "VIOLA_TIMEOUT", "30s", "limit of one whole call to Viola";
        insecure_tls: bool = value(boolean), "VIOLA_INSECURE_TLS", "false", "accept any certificate of Viola";
        trust: Trust = trust(text, insecure_tls), "VIOLA_CA_FILE", "", "PEM bundle that Viola's certificate must lead to";
    }

    /// When objects are looked at and sent again.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Intervals {
        down_port_fast_retries: u32 = value(|text| whole_number(text, 0, 1_000_000)), "DOWN_PORT_FAST_RETRY_MAX", "5", "resends for DOWN ports at the fast interval";
        fast: Duration = value(interval), "POLL_FAST_INTERVAL", "20s", "poll interval after a change";
        slow: Duration = value(interval), "POLL_SLOW_INTERVAL", "2m", "poll interval in quiet times";
        error: Duration = value(interval), "POLL_ERROR_INTERVAL", "30s", "poll interval after an error";
        fast_window: Duration = value(duration), "POLL_FAST_WINDOW", "3m", "how long after a change polls stay fast";
        resync: Option<Duration> = optional(|text| interval(text).map_err(|problem| problem + "; leave it empty for never")), "VIOLA_RESYNC_INTERVAL", "", "send every node again this often; empty for never";
    }

    /// What `spec.settings` and `spec.secrets` of objects may change.
    #[derive(Clone, Debug)]
    pub struct Policy {
        object_settings: ObjectSettings = value(|text| ObjectSettings::read(text)), "OBJECT_SETTINGS", "tuning", "what objects may set: none, tuning or all";
        allowed_endpoints: AllowedEndpoints = value_or_blank(|text| AllowedEndpoints::read(text)), "ALLOWED_ENDPOINTS", "", "other endpoints for objects, as https://*.example.com:8443; * for any";
    }

    /// Delivery to Kubernetes.
    #[derive(Clone, Debug, Default)]
    pub struct DeliverySettings {
        by_kubernetes: bool = value(|text| one_of(text, &["viola", "kubernetes"]).map(|word| word == "kubernetes")), "DELIVERY", "viola", "who brings nodes to their cluster if objects don't say: viola or kubernetes";
        own_cluster: bool = value(boolean), "OWN_CLUSTER", "false", "deliver objects without a kubeconfig to the operator's own cluster";
        namespace: String = value(namespace), "TARGET_NAMESPACE", "multinic-system", "namespace of the MultiNicNodeConfigs";
    }

    /// OpenStack's notifications.
    #[derive(Clone, Debug)]
    pub struct Notifications {
        enabled: bool = value(boolean), "OPENSTACK_NOTIFICATIONS", "false", "look at once when OpenStack notifies a change over RabbitMQ";
        vhost: String = value(vhost), "RABBITMQ_VHOST", "/", "RabbitMQ's virtual host, the same for all clouds";
        tls: UseTls = value(use_tls), "RABBITMQ_TLS", "auto", "true, false, or auto: with amqps:// and on port 5671";
    }

    /// The inventory, which is kept in any case, and its API.
    #[derive(Clone, Debug)]
    pub struct Inventory {
        enabled: bool = value(boolean), "INVENTORY_ENABLED", "true", "serve the inventory's API";
        address: SocketAddr = value(address), "INVENTORY_ADDR", ":18081", "where the inventory's API listens";
        in_kubernetes: bool = value(|text| one_of(text, &["file", "kubernetes"]).map(|word| word == "kubernetes")), "INVENTORY_STORE", "file", "where the inventory is kept: file or kubernetes";
        path: PathBuf = value(text), "INVENTORY_DB_PATH", "/var/lib/multinic-operator/inventory.json", "the inventory's file";
        cors_origin: Option<String> = optional(origin), "INVENTORY_CORS_ORIGIN", "", "Access-Control-Allow-Origin of the API, as https://ui.example.com";
        token_file: Option<PathBuf> = optional(text), "INVENTORY_TOKEN_FILE", "", "file with the bearer token that clients must show";
        hold_removals_above: Option<u8> = value(percentage), "HOLD_REMOVALS_ABOVE", "50%", "hold removals from more than this share of the nodes; off: never";
        renumber_lost: bool = value(|text| one_of(text, &["hold", "renumber"]).map(|word| word == "renumber")), "MEMORY_LOST", "hold", "hold or renumber objects whose records are lost";
    }

    /// What is no setting of one service.
    pub(super) struct Process {
        health_address: SocketAddr = value(address), "HEALTH_ADDR", ":8081", "where /healthz, /readyz and /metrics listen";
        watch_namespaces: Option<Vec<String>> = optional(namespaces), "WATCH_NAMESPACES", "", "namespaces to watch, comma-separated; empty for all";
        leader_elect: bool = value(boolean), "LEADER_ELECT", "false", "let only one of several replicas work";
        pod_namespace: Option<String> = optional(namespace), "POD_NAMESPACE", "", "namespace of the Lease; default: the pod's own";
        pod_name: Option<String> = optional(text), "POD_NAME", "", "this replica's name in the Lease; default: the host name";
        workers: usize = value(|text| whole_number(text, 1, 64)), "SYNC_WORKERS", "4", "passes that run at the same time";
        api_url: Option<String> = optional(base_url), "KUBE_API_URL", "in-cluster", "the Kubernetes API, such as http://127.0.0.1:8001";
        token_file: Option<PathBuf> = optional(text), "KUBE_TOKEN_FILE", "in-cluster", "file with the bearer token for it";
        ca_file: Option<Trust> = bundle(text), "KUBE_CA_FILE", "in-cluster", "PEM bundle that its certificate must lead to";
        public_roots: Option<Trust> = bundle(text), "SSL_CERT_FILE", "", "PEM bundle of public roots in place of the system's";
        log_filter: String = value(log_filter), "RUST_LOG", "info", "log filter";
        log_format: LogFormat = value(log_format), "LOG_FORMAT", "text", "text or json";
    }
}
