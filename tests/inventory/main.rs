//! The inventory from outside: the store on real and simulated disks, the gate, the API, the page.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test may fail by a panic, in its helpers too, measures real time and prints it"
)]

mod api;
mod client;
mod crash;
mod disks;
mod faulty;
mod figures;
mod gate;
mod hostile;
mod kill;
mod loading;
mod openapi;
mod page;
mod released;
#[allow(dead_code, reason = "shared with the simulated years, which use more of it")]
mod simulated_disk;
mod store;
mod support;
