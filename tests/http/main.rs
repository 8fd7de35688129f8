//! The HTTP client against real servers: whom it trusts, and which way its requests go.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, measures real time, and is nobody's library"
)]

mod certificates;
mod limits;
mod proxies;
mod proxy;
mod server;
mod trust;
