//! The Kubernetes API: what changes there comes in, what we have to say goes out.
//!
//! In: [`watcher`] (a thread) drives [`watch`] (the pure list-and-watch machine) over [`lines`] and
//! hands observations to a closure. Out: [`writer`] has a [`lane`] (a [`write_queue`] and its threads)
//! for each kind of write: statuses ([`status_writer`]), Secrets ([`secret_writer`]) and [`events`].
//! [`secret_reader`] reads a Secret by its name.
//! [`lease`] decides which replica leads. All of them use [`client`]; [`access`] says where the API
//! is and who we are there, [`review`] asks what we may do.
//!
//! This module knows no resource of ours, no sync and no inventory.

pub mod access;
pub mod client;
pub mod error;
pub mod events;
mod lane;
pub mod lease;
pub mod lines;
pub mod objects;
pub mod resource;
pub mod review;
pub mod secret_reader;
pub mod secret_writer;
mod status_writer;
pub mod watch;
pub mod watcher;
pub mod write_queue;
pub mod writer;

#[cfg(test)]
#[path = "tests/recordings.rs"]
mod recordings;
