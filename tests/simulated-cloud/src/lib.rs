//! A whole cloud on loopback ports, over real HTTP, from a folder of fixtures.
//!
//! [`Scenario`] loads a folder, [`Cloud`] starts Contrabass, Keystone, Neutron, Nova, Viola and the
//! Kubernetes API of it, each on its own port. Tests change the cloud ([`Cloud::edit`]), make it
//! fail ([`Cloud::faults`]), and read what was asked ([`Cloud::journal`]) and what Viola was told
//! ([`Cloud::viola`]).

#![allow(missing_docs, reason = "a name that says it all has no comment")]

mod agent;
pub mod clock;
mod cloud;
mod contrabass;
mod control;
pub mod faults;
pub mod journal;
pub mod kubernetes;
mod notifications;
mod openstack;
mod pseudo_random;
mod rabbitmq;
mod scenario;
pub mod state;
mod viola;
pub mod wire;

pub use agent::Agent;
pub use cloud::Cloud;
pub use contrabass::{Contrabass, encrypt};
pub use control::Control;
pub use faults::{Fault, FaultKind, Faults};
pub use journal::{Journal, LoggedRequest, Service};
pub use notifications::Notification;
pub use openstack::{Keystone, Neutron, Nova};
pub use rabbitmq::RabbitMq;
pub use scenario::{Expected, ExpectedPost, ExpectedStatus, Scenario, ScenarioError};
pub use state::CloudState;
pub use viola::{NODE_CONFIGS, Received, Viola};
