//! The cloud as one object sees it: what Contrabass, Keystone, Neutron and Nova say.
//!
//! One upstream per file; [`session`] shares look-ups and logins among all objects of a provider;
//! [`Cloud`] is what a sync asks. Nothing here knows Kubernetes, Viola or the inventory, and
//! nothing is decided about nodes.

pub mod answer;
pub mod catalog;
pub mod cipher;
pub mod contrabass;
pub mod error;
pub mod keystone;
pub mod networks;
pub mod neutron;
pub mod nova;
mod service;
pub mod session;
pub mod shared;

pub use error::{CloudError, Step};
pub use session::Cloud;

#[cfg(test)]
pub(crate) mod tests;
