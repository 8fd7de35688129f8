//! What a person can do about what failed. Pure: texts by kind of trouble.

use crate::cloud::Step;
use crate::kube::error::KubeError;

/// A required variable isn't there.
pub const MISSING_SETTING: &str =
    "set it: in the ConfigMap operator-config, or in the Secret operator-secret if it is a secret";
/// No way to Viola.
pub const VIOLA: &str =
    "check VIOLA_ENDPOINT, VIOLA_CA_FILE, and whether network policies let this pod out to it";
/// The custom resource isn't known.
pub const CRD: &str = "install it with make install, or kubectl apply -k manifests/crd";
/// The inventory's folder.
pub const FOLDER: &str = "mount a volume there that the operator's user may write to \
                          (manifests/overlays/pvc), or set INVENTORY_DB_PATH";
/// The inventory's file.
pub const INVENTORY: &str = "nothing is sent while it can't be read: repair it, run the version that wrote \
                             it, correct its owner and mode, or move it away to start anew";
/// An inventory that was edited, or doesn't hold all that was written.
pub const DAMAGED: &str =
    "what can be read is used; put a back-up in its place if that isn't meant";
/// An object without a subnet, or against the schema.
pub const OBJECT: &str = "correct the object: kubectl edit osc";

/// About a step of a sync.
pub fn of_step(step: Step) -> &'static str {
    match step {
        Step::Contrabass => {
            "check CONTRABASS_ENDPOINT, CONTRABASS_ENCRYPT_KEY, the object's openstackProviderID, \
             and whether network policies let this pod out to Contrabass"
        }
        Step::Keystone => {
            "log in by hand with the provider's admin and this project; check what Contrabass \
             holds of the provider, and whether network policies let this pod out to Keystone"
        }
        Step::NeutronEndpoint => {
            "set OPENSTACK_ENDPOINT_INTERFACE and OPENSTACK_ENDPOINT_REGION to what the catalog \
             has, or OPENSTACK_NEUTRON_ENDPOINT"
        }
        Step::SubnetNotFound => {
            "correct the object's subnet; a shared network's subnet belongs to another project and \
             is found by its id only"
        }
        Step::SubnetNotUnique => "set spec.subnetID to one of these ids",
        Step::Subnet | Step::Ports => {
            "check the endpoint above, Neutron's own health, and whether network policies let \
             this pod out to it"
        }
        Step::Nova => {
            "check Nova's endpoint (OPENSTACK_NOVA_ENDPOINT overrides the catalog's), its own \
             health, and whether network policies let this pod out to it"
        }
    }
}

/// About a call to the Kubernetes API.
pub fn of_kubernetes(error: &KubeError) -> &'static str {
    match error {
        KubeError::NoToken { .. } => {
            "run this in the operator's pod, or set KUBE_API_URL and KUBE_TOKEN_FILE"
        }
        KubeError::Transport(_) => {
            "check KUBE_API_URL and KUBE_CA_FILE, and whether network policies let this pod out \
             to the API server"
        }
        error if error.status().is_unauthorized() => {
            "the token belongs to another cluster or has expired: check KUBE_API_URL and \
             KUBE_TOKEN_FILE, or start the pod anew"
        }
        error if error.status().is_forbidden() => {
            "correct the role: manifests/rbac/role.yaml has the rules"
        }
        _ => "look at the API server; is something else listening in its place?",
    }
}
