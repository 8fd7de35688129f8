//! OpenStack's notifications.

pub mod connection;
mod socket;
