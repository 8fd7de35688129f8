//! Integration tests: the real programs and the library's parts, over real HTTP and on real files.
//!
//! | module | what it tests |
//! |---|---|
//! | `http` | the HTTP client: TLS, proxies, limits |
//! | `inventory` | the store on real and simulated disks, the HTTP server, the API, the page |
//! | `kube` | Kubernetes client, watcher, writer and Lease against the simulated API server |
//! | `manifests`, `monitoring` | what is applied to a cluster; metrics, alerts, dashboard |
//! | `viola_test_api` | the stand-in for Viola as a process |
//! | the others | the operator as a process against the simulated cloud (`process`, `world`) |

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, measures real time, and is nobody's library"
)]

mod agent;
mod bad_input;
mod chain;
mod cluster_delivery;
mod commands;
mod cost;
mod delivery;
mod guide;
mod http;
mod identity;
mod inventory;
mod isolation;
mod kube;
mod kubernetes;
mod lifecycle;
mod login;
mod manifests;
mod memory;
mod metrics;
mod monitoring;
mod notifications;
#[path = "../support/population.rs"]
mod population;
#[allow(dead_code, reason = "the soak uses the rest")]
#[path = "../support/process.rs"]
mod process;
#[path = "../support/rabbitmq.rs"]
mod rabbitmq;
mod records;
mod redaction;
mod removals;
mod runbooks;
mod scenarios;
mod settings;
#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "../support/simulated_disk.rs"]
mod simulated_disk;
#[path = "../support/skip.rs"]
mod skip;
mod tls_and_proxy;
mod upgrade;
mod viola_test_api;
mod world;

use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
