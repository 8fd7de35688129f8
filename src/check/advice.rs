//! What a person can do about what failed. Pure: texts by kind of trouble.

use std::fmt::Display;

use crate::cloud::{CloudError, Step};
use crate::kube::error::KubeError;

pub(super) const MISSING_SETTING: &str =
    "set it: in the ConfigMap operator-config, or in the Secret operator-secret if it is a secret";
pub(super) const VIOLA: &str = "check VIOLA_ENDPOINT, VIOLA_CA_FILE, and network policies";
pub(super) const CLUSTER: &str =
    "correct the kubeconfig's Secret, the rights of its user, or the agent's CRD in that cluster";
pub(super) const CRD: &str = "install it with make install, or kubectl apply -k manifests/crd";
pub(super) const OLDER_CRD: &str =
    "apply the CRDs of this version: make install, or kubectl apply -k manifests/crd";
pub(super) const FOLDER: &str = "mount a volume that the operator may write to (manifests/overlays/pvc), or set INVENTORY_DB_PATH";
/// Of a file that can't be read.
pub(super) const INVENTORY: &str =
    "nothing is sent until it is repaired or moved away, or the version that wrote it runs again";
/// Of one that was edited, or doesn't hold all that was written.
pub(super) const DAMAGED: &str =
    "what can be read is used; put a back-up in its place if that isn't meant";
/// Of records in Kubernetes.
pub(super) const RECORDS: &str = "nothing is sent until they can be read: install the CRD with make install, bind the role in \
     manifests/rbac/records_role.yaml, set POD_NAMESPACE";
pub(super) const RECORD: &str = "these nodes aren't sent: correct the record (kubectl edit nif) or restore it from a back-up; to \
     number the node as on first sight, delete it";
pub(super) const OBJECT: &str = "correct the object: kubectl edit osc";
pub(super) const RABBITMQ: &str =
    "check RABBITMQ_VHOST, RABBITMQ_TLS, what Contrabass holds of RabbitMQ, and network policies";
pub(super) const NO_EXCHANGE: &str = "404: the cloud doesn't notify, or RABBITMQ_VHOST is another; 403: grant the user's rights \
     (docs/operations.md#notifications)";

/// A failure about which a person can do something.
pub(super) trait Advice: Display {
    fn advice(&self) -> &'static str;
}

impl Advice for CloudError {
    fn advice(&self) -> &'static str {
        match self.step {
            Step::Identity => {
                "correct the Secret's clouds.yaml, or the object's identityRef and projectID"
            }
            Step::Contrabass => {
                "check CONTRABASS_ENDPOINT, CONTRABASS_ENCRYPT_KEY, the object's openstackProviderID, \
             and network policies"
            }
            Step::Keystone => {
                "log in by hand as the same user to this project; check what Contrabass holds of the \
             provider or what the Secret says, and network policies"
            }
            Step::NeutronEndpoint => {
                "set OPENSTACK_ENDPOINT_INTERFACE and OPENSTACK_ENDPOINT_REGION to what the catalog \
             has, or OPENSTACK_NEUTRON_ENDPOINT"
            }
            Step::SubnetNotFound => {
                "correct the object's subnet; one of another project is found by its id only"
            }
            Step::SubnetNotUnique => "set spec.subnetID to one of these ids",
            Step::Subnet | Step::Ports => {
                "check the endpoint above, Neutron's own health, and network policies"
            }
            Step::Nova => "check OPENSTACK_NOVA_ENDPOINT, Nova's own health, and network policies",
        }
    }
}

impl Advice for KubeError {
    fn advice(&self) -> &'static str {
        match self {
            KubeError::NoToken { .. } => {
                "run this in the operator's pod, or set KUBE_API_URL and KUBE_TOKEN_FILE"
            }
            KubeError::Transport(_) => "check KUBE_API_URL, KUBE_CA_FILE, and network policies",
            error if error.status().is_not_served() => CRD,
            error if error.status().is_unauthorized() => {
                "the token is of another cluster or has expired: check KUBE_API_URL and KUBE_TOKEN_FILE"
            }
            error if error.status().is_forbidden() => {
                "correct the role: manifests/rbac/role.yaml has the rules"
            }
            _ => "look at the API server; is something else listening in its place?",
        }
    }
}
