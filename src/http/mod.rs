//! HTTP: the only module that uses sockets, but for the connection to a message broker.
//!
//! [`client`], with its resolver and its trust, is the one that makes ureq send; [`server`] is the one
//! user of tiny_http.

pub mod client;
pub mod proxy;
mod resolver;
pub mod server;
pub(crate) mod tls;
pub mod trust;
pub mod url;
