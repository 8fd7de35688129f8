//! multinic-operator: tells each OpenStack-hosted Kubernetes node which NIC has which address.

pub mod clock;
pub mod cloud;
pub mod config;
pub mod coordinator;
pub mod go_duration;
pub mod health;
pub mod http;
pub mod inventory;
pub mod kube;
pub mod logging;
pub mod metrics;
pub mod node_config;
pub mod operator;
pub mod overview;
pub mod process;
pub mod queue;
pub mod resources;
pub mod secret;
pub mod signals;
pub mod sync;
pub mod threads;
pub mod token_file;
pub mod viola;
pub mod viola_test_api;
pub mod worker;
