//! The Kubernetes API: what changes there comes in, what we have to say goes out.
//!
//! In: [`watcher`] (a thread) drives [`watch`] (the pure list-and-watch machine) over [`lines`] and
//! hands observations to a closure. Out: [`writer`] (a thread) owns every write of statuses,
//! Secrets and Events. [`lease`] decides which replica leads. All of them speak through
//! [`client`]; [`access`] says where the API is and who we are there, [`review`] asks what we may do.
//!
//! This room knows no resource of ours, no sync and no inventory.

pub mod access;
pub mod backoff;
pub mod client;
pub mod error;
pub mod lease;
pub mod lines;
pub mod objects;
pub mod resource;
pub mod review;
pub mod watch;
pub mod watcher;
pub mod writer;

#[cfg(test)]
pub(crate) mod recordings;
