//! HTTP: the only room that speaks to sockets.
//!
//! [`client`] is the one user of ureq, [`server`] the one user of tiny_http.

pub mod client;
pub mod proxy;
mod resolver;
pub mod server;
pub mod trust;
pub mod url;
