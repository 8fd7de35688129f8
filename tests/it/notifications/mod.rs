//! OpenStack's notifications, over a real RabbitMQ where one is installed.

mod connection;
mod reaction;
