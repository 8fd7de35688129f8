//! Holds the simulated cloud to the recorded answers of real servers, and to its own promises.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that can't go on has failed"
)]

mod client;
mod demo;
mod kubernetes_client;
mod kubernetes_recordings;
mod kubernetes_semantics;
mod recordings;
mod scenarios;
mod services;
mod wire;
