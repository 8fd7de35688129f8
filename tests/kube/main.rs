//! The Kubernetes room against the simulated API server, over real HTTP.

mod campaign;
mod client;
mod lease;
mod support;
mod watcher;
mod writer;
