//! OpenStack's notifications.

pub mod connection;
pub mod message;
mod socket;
