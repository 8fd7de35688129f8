//! The settings of the stand-in. What it shares with the operator is read by the operator's reader,
//! so that both programs understand it alike.

use std::ffi::OsString;
use std::net::SocketAddr;

use crate::config::{Config, ConfigReport, LogFormat};
use crate::kube::access::Access;

/// What `--help` says.
pub const HELP: &str = "\
viola-test-api stands in for Viola: it applies posted node configurations as MultiNicNodeConfig
objects. For test clusters.

It takes no arguments and is set up by its environment:

  LISTEN_ADDR [:8080]
      where it listens
  TARGET_NAMESPACE [multinic-system]
      namespace of the objects
  KUBE_API_URL [in-cluster]
      the Kubernetes API, such as http://127.0.0.1:8001
  KUBE_TOKEN_FILE [in-cluster]
      file with the bearer token for it
  KUBE_CA_FILE [in-cluster]
      PEM bundle that its certificate must lead to
  SSL_CERT_FILE
      PEM bundle of public roots in place of the system's
  RUST_LOG [info]
      log filter
  LOG_FORMAT [text]
      text or json
";

/// Variables that mean the same to both programs.
const SHARED: [&str; 8] = [
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "KUBE_API_URL",
    "KUBE_TOKEN_FILE",
    "KUBE_CA_FILE",
    "SSL_CERT_FILE",
    "RUST_LOG",
    "LOG_FORMAT",
];
/// Ours, the operator's for the like, and what stands for it if it isn't set.
const OWN: [(&str, &str, &str); 2] = [
    ("LISTEN_ADDR", "HEALTH_ADDR", ":8080"),
    ("TARGET_NAMESPACE", "WATCH_NAMESPACES", "multinic-system"),
];

/// All settings of the stand-in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Namespace of the objects.
    pub(crate) namespace: String,
    /// The Kubernetes API.
    pub(crate) kubernetes: Access,
    /// As env_logger reads it.
    pub log_filter: String,
    /// Text or JSON.
    pub log_format: LogFormat,
}

impl Settings {
    /// Reads the settings through `lookup` (the environment, or a test's table).
    ///
    /// # Errors
    /// All that is wrong, in one report.
    pub fn read<T: Into<OsString>>(
        lookup: impl Fn(&str) -> Option<T>,
    ) -> Result<Settings, ConfigReport> {
        let lookup = |name: &str| lookup(name).map(Into::<OsString>::into);
        let is_blank = |value: &OsString| value.to_str().is_some_and(|text| text.trim().is_empty());
        let own = |name: &str, default: &str| {
            Some(lookup(name).filter(|value| !is_blank(value)).unwrap_or_else(|| default.into()))
        };
        let shared = Config::read(|name| match OWN.iter().find(|(_, like, _)| *like == name) {
            Some((name, _, default)) => own(name, default),
            None if SHARED.contains(&name) => lookup(name),
            // Its address isn't taken.
            None => (name == "INVENTORY_ENABLED").then(|| "false".into()),
        });
        let shared = shared.map_err(|report| {
            let renamed = |problem: String| {
                OWN.iter().fold(problem, |text, (name, like, _)| text.replacen(like, name, 1))
            };
            ConfigReport { problems: report.problems.into_iter().map(renamed).collect() }
        })?;
        let [namespace] = shared.watch_namespaces.as_slice() else {
            let problem = "TARGET_NAMESPACE: names more than one namespace".to_owned();
            return Err(ConfigReport { problems: vec![problem] });
        };
        Ok(Settings {
            listen: shared.health_address,
            namespace: namespace.clone(),
            kubernetes: shared.kubernetes,
            log_filter: shared.log_filter,
            log_format: shared.log_format,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use crate::config::ConfigReport;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, ConfigReport> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Settings::read(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_pod_needs_no_settings() {
        let in_pod = [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
        let settings = read(&in_pod).unwrap();
        assert_eq!(settings.listen.to_string(), "[::]:8080");
        assert_eq!(settings.namespace, "multinic-system");
        assert_eq!(settings.kubernetes.api_url, "https://10.96.0.1:443");
    }

    #[test]
    fn any_port_may_be_its_own_and_there_is_one_namespace() {
        let api = ("KUBE_API_URL", "http://127.0.0.1:8001");
        let settings = read(&[api, ("LISTEN_ADDR", ":18081"), ("TARGET_NAMESPACE", " a ")]);
        let settings = settings.unwrap();
        assert_eq!((settings.listen.port(), settings.namespace.as_str()), (18081, "a"));
        let two = read(&[api, ("TARGET_NAMESPACE", "a,b")]).unwrap_err().problems;
        assert_eq!(two, ["TARGET_NAMESPACE: names more than one namespace"]);
    }

    #[test]
    fn all_that_is_wrong_is_in_one_report_and_the_operators_settings_are_no_matter() {
        let report = read(&[
            ("LISTEN_ADDR", "8080"),
            ("TARGET_NAMESPACE", "Multi_Nic"),
            ("LOG_FORMAT", "xml"),
            ("HEALTH_ADDR", "nonsense"),
            ("POLL_FAST_INTERVAL", "nonsense"),
        ]);
        let problems = report.unwrap_err().problems;
        let mut names: Vec<&str> =
            problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["KUBE_API_URL", "LISTEN_ADDR", "LOG_FORMAT", "TARGET_NAMESPACE"]);
    }
}
