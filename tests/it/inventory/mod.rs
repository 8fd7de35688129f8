//! The inventory from outside: the store on real and simulated disks, the gate, the API, the page.

mod api;
pub(crate) mod client;
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
mod store;
mod support;
