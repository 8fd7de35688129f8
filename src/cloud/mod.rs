//! The cloud as one object sees it: what Contrabass, Keystone, Neutron and Nova say.
//!
//! One upstream per file. [`session`] shares look-ups and logins among all passes of a provider;
//! [`fetch`] asks for everything that one pass needs. Nothing here knows Kubernetes, Viola or the
//! inventory, and nothing is decided about nodes.

pub mod answer;
pub(crate) mod cache;
pub mod catalog;
pub mod cipher;
pub mod contrabass;
pub mod error;
pub mod fetch;
pub mod keystone;
mod lockout;
pub mod neutron;
pub mod nova;
pub mod object_secrets;
pub mod provider;
mod service;
pub mod session;

pub use error::{CloudError, Step};
pub use session::{Cloud, Clouds};

#[cfg(test)]
pub(crate) mod tests;
