//! multinic-operator: tells each OpenStack-hosted Kubernetes node which NIC has which address.

pub mod clock;
pub mod http;
pub mod inventory;
pub mod kube;
pub mod metrics;
pub mod node_config;
pub mod overview;
pub mod secret;
pub mod threads;
