//! Where node configurations are delivered to.

pub mod viola;
