//! The settings of the stand-in. What it shares with the operator is read by the operator's reader,
//! so that both programs understand it alike.

use std::ffi::OsString;
use std::net::SocketAddr;

use crate::config::{Config, ConfigReport, LogFormat};
use crate::kube::access::Access;

use super::payload::is_dns_label;

/// What `--help` says.
pub const HELP: &str = "\
viola-test-api stands in for Viola: it turns posted node configurations into MultiNicNodeConfig
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
/// The operator's name for an address like ours.
const OPERATORS_ADDRESS: &str = "HEALTH_ADDR";

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
        let given = |name: &str| lookup(name).filter(|value| !is_blank(value));
        let shared = Config::read(|name| match name {
            OPERATORS_ADDRESS => Some(given("LISTEN_ADDR").unwrap_or_else(|| ":8080".into())),
            name if SHARED.contains(&name) => lookup(name),
            _ => None,
        });
        let namespace = given("TARGET_NAMESPACE").unwrap_or_else(|| "multinic-system".into());
        // What is no text is no label either.
        let namespace = namespace.to_string_lossy().trim().to_owned();
        let problem = (!is_dns_label(&namespace))
            .then(|| format!("TARGET_NAMESPACE: {namespace:?} is no namespace's name"));
        match (shared, problem) {
            (Ok(shared), None) => Ok(Settings {
                listen: shared.health_address,
                namespace,
                kubernetes: shared.kubernetes,
                log_filter: shared.log_filter,
                log_format: shared.log_format,
            }),
            (shared, problem) => {
                let problems = shared.err().map(|report| report.problems).unwrap_or_default();
                let ours = |text: String| text.replacen(OPERATORS_ADDRESS, "LISTEN_ADDR", 1);
                let problems = problems.into_iter().map(ours).chain(problem).collect();
                Err(ConfigReport { problems })
            }
        }
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
    fn all_that_is_wrong_is_in_one_report_and_the_operators_settings_are_no_matter() {
        let report = read(&[
            ("LISTEN_ADDR", "8080"),
            ("TARGET_NAMESPACE", "Multi_Nic"),
            ("LOG_FORMAT", "xml"),
            ("HEALTH_ADDR", "nonsense"),
            ("POLL_FAST_INTERVAL", "nonsense"),
        ]);
        let problems = report.unwrap_err().problems;
        let names: Vec<&str> =
            problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(names, ["LISTEN_ADDR", "LOG_FORMAT", "KUBE_API_URL", "TARGET_NAMESPACE"]);
    }
}
