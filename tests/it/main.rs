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
#[allow(dead_code, reason = "tests/http uses the rest")]
#[path = "../http/certificates.rs"]
mod certificates;
mod chain;
mod commands;
mod cost;
mod delivery;
mod echoes;
#[path = "../monitoring/exposition.rs"]
mod exposition;
mod kubernetes;
mod lifecycle;
mod login;
mod metrics;
mod population;
#[allow(dead_code, reason = "tests/campaign uses the rest")]
mod process;
#[path = "../monitoring/promtool.rs"]
mod promtool;
#[allow(dead_code, reason = "tests/http uses the rest")]
#[path = "../http/proxy.rs"]
mod proxy;
mod scenarios;
#[allow(dead_code, reason = "tests/http uses the rest")]
#[path = "../http/server.rs"]
mod server;
mod way;
mod world;
