//! The Kubernetes client, watcher, writer and Lease against the simulated API server, over real HTTP.

#![allow(clippy::unwrap_used, reason = "a test may fail by a panic, in its helpers too")]

mod client;
mod frozen;
mod lease;
mod random_faults;
mod support;
mod trust;
mod watcher;
mod writer;
