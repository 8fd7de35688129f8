//! The Kubernetes client, watcher, writer and Lease against the simulated API server, over real HTTP.

mod client;
mod frozen;
mod lease;
mod random_faults;
mod support;
mod trust;
mod watcher;
mod writer;
