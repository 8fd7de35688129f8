//! The real program against the simulated cloud, over real HTTP.
//!
//! `process` starts and stops the program; each other file holds promises as tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, measures real time, and is nobody's library"
)]

mod bad_input;
mod chain;
mod commands;
mod cost;
mod delivery;
#[path = "../monitoring/exposition.rs"]
mod exposition;
mod kubernetes;
mod lifecycle;
mod login;
mod metrics;
mod population;
mod process;
#[path = "../monitoring/promtool.rs"]
mod promtool;
mod scenarios;
mod world;
