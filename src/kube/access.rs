//! Where the Kubernetes API is, who we are there, and whom we trust to be it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::http::client::ClientTls;
use crate::http::proxy::Proxies;
use crate::http::trust::Trust;
use crate::secret::Secret;

/// Where the kubelet puts the service account's token and the cluster's CA.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Base URL, with or without a slash at its end.
    pub api_url: String,
    /// File with the bearer token; none where something in between logs in (`kubectl proxy`).
    pub token_file: Option<PathBuf>,
    /// Whom an https URL's server must be certified by.
    pub trust: Trust,
    /// The proxies of the environment; `KUBERNETES_SERVICE_HOST` is an address like any other to
    /// them, as it is to Go's clients.
    pub proxies: Arc<Proxies>,
    /// What a kubeconfig gives us to log in with.
    pub credentials: Credentials,
}

/// Who we are by a kubeconfig.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A bearer token.
    pub token: Option<Secret>,
    /// A certificate of our own, and the server's name in its certificate.
    pub tls: ClientTls,
}

impl Access {
    /// Access of a pod: `host` and `port` are `KUBERNETES_SERVICE_HOST` and `_PORT`. The address is
    /// used as it is, without DNS; the API server's certificate names it.
    pub(crate) fn in_cluster(host: &str, port: u16) -> Access {
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let folder = Path::new(SERVICE_ACCOUNT);
        Access {
            api_url: format!("https://{host}:{port}"),
            token_file: Some(folder.join("token")),
            trust: Trust::Bundle { variable: "the service account", path: folder.join("ca.crt") },
            proxies: Arc::default(),
            credentials: Credentials::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Access;

    #[test]
    fn an_ipv6_address_is_put_in_brackets() {
        assert_eq!(Access::in_cluster("fd00::1", 443).api_url, "https://[fd00::1]:443");
        assert_eq!(Access::in_cluster("10.96.0.1", 443).api_url, "https://10.96.0.1:443");
    }
}
