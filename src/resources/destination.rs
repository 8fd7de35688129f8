//! Where the nodes of an object are delivered to: `spec.delivery`, over the operator's settings
//! (docs/behaviour.md#delivery-to-kubernetes).

use serde::Deserialize;

use super::{K8S_PROVIDER, SecretKey, check_secret_name, optional};
use crate::config::DeliverySettings;

/// `spec.delivery` names it.
const KUBECONFIG: &str = "delivery.kubeconfigSecretRef";
/// The key of a Secret that Cluster API makes for each of its clusters.
const DEFAULT_KEY: &str = "value";

/// Who brings the nodes to their cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// Viola, which routes by the header `x-provider-id`.
    Viola {
        /// The cluster behind it, where it can be asked what it has.
        cluster: Option<ClusterRef>,
    },
    /// The operator itself writes into this cluster.
    Kubernetes(ClusterRef),
}

/// A cluster that can be asked what it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterRef {
    /// `<namespace>/<Secret>`, or `-` for the operator's own cluster.
    pub name: String,
    /// None for the operator's own cluster.
    pub kubeconfig: Option<KubeconfigRef>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubeconfigRef {
    /// The namespace of Secret and object.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// Its key.
    pub key: String,
}

impl Default for Destination {
    fn default() -> Destination {
        Destination::Viola { cluster: None }
    }
}

impl Destination {
    /// The cluster, where it can be asked what it has.
    pub(crate) fn cluster(&self) -> Option<&ClusterRef> {
        match self {
            Destination::Viola { cluster } => cluster.as_ref(),
            Destination::Kubernetes(cluster) => Some(cluster),
        }
    }

    /// Does the operator itself write into the cluster?
    pub(crate) fn is_kubernetes(&self) -> bool {
        matches!(self, Destination::Kubernetes(_))
    }
}

impl ClusterRef {
    /// By the Secret that Cluster API makes for the cluster; none if no Secret can be called so.
    pub(super) fn by_convention(namespace: &str, cluster: &str) -> Option<ClusterRef> {
        let secret = format!("{cluster}-kubeconfig");
        check_secret_name("", &secret).ok()?;
        Some(ClusterRef::of(namespace, secret, DEFAULT_KEY.to_owned()))
    }

    fn own() -> ClusterRef {
        ClusterRef { name: "-".to_owned(), kubeconfig: None }
    }

    fn of(namespace: &str, secret: String, key: String) -> ClusterRef {
        let name = format!("{namespace}/{secret}");
        let namespace = namespace.to_owned();
        ClusterRef { name, kubeconfig: Some(KubeconfigRef { namespace, secret, key }) }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GivenDelivery {
    #[serde(rename = "type")]
    kind: Option<String>,
    kubeconfig_secret_ref: Option<GivenKubeconfigRef>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenKubeconfigRef {
    name: String,
    key: Option<String>,
}

pub(super) fn read(
    namespace: &str,
    k8s_provider_id: Option<&str>,
    given: GivenDelivery,
    settings: &DeliverySettings,
) -> Result<Destination, String> {
    let by_kubernetes = match given.kind.as_deref().map(str::trim) {
        None | Some("") => settings.by_kubernetes,
        Some("Kubernetes") => true,
        Some("Viola") => false,
        Some(kind) => {
            return Err(format!("spec.delivery.type is {kind:?}, not Viola or Kubernetes"));
        }
    };
    let named = given.kubeconfig_secret_ref.map(|given| {
        check_secret_name(&format!("{KUBECONFIG}.name"), &given.name)?;
        let key = optional(given.key, &format!("{KUBECONFIG}.key"))?;
        Ok::<_, String>(SecretKey {
            name: given.name,
            key: key.unwrap_or_else(|| DEFAULT_KEY.to_owned()),
        })
    });
    let named: Option<SecretKey> = named.transpose()?;
    let named = named.map(|SecretKey { name, key }| ClusterRef::of(namespace, name, key));
    if !by_kubernetes {
        return Ok(Destination::Viola { cluster: named });
    }
    let cluster = match (named, k8s_provider_id) {
        (Some(cluster), _) => cluster,
        (None, Some(id)) => {
            let secret = format!("{id}-kubeconfig");
            check_secret_name(K8S_PROVIDER, &secret)
                .map_err(|problem| format!("{problem}; name one in spec.{KUBECONFIG}"))?;
            ClusterRef::of(namespace, secret, DEFAULT_KEY.to_owned())
        }
        (None, None) if settings.own_cluster => ClusterRef::own(),
        (None, None) => {
            return Err(format!(
                "set spec.{KUBECONFIG} or spec.{K8S_PROVIDER}: delivery to Kubernetes needs the \
                 Secret of a kubeconfig (the operator's own cluster takes OWN_CLUSTER=true)"
            ));
        }
    };
    Ok(Destination::Kubernetes(cluster))
}
