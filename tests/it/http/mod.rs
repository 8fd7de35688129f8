//! The HTTP client against real servers: whom it trusts, and which way its requests go.

pub(crate) mod certificates;
mod limits;
mod proxies;
pub(crate) mod proxy;
pub(crate) mod server;
mod trust;
