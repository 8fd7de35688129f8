//! The Kubernetes room against the simulated API server, over real HTTP.

#![allow(clippy::unwrap_used, reason = "a test may fail by a panic, in its helpers too")]

mod campaign;
mod client;
mod frozen;
mod lease;
mod support;
mod trust;
mod watcher;
mod writer;
