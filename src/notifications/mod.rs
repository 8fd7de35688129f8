//! OpenStack's notifications: what Neutron and Nova say over RabbitMQ when something changes.
//!
//! [`connection`] keeps a connection to a broker, [`message`] reads what comes over it. Which objects
//! that concerns is the controller's to know.

pub mod connection;
pub mod message;
mod socket;

use std::time::Duration;

use crate::amqp::{Login, Subscription};
use crate::cloud::contrabass::RabbitMq;
use crate::config::Config;
use connection::Broker;

/// Messages that the broker keeps while we don't read; beyond that the oldest go.
const QUEUE_LIMIT: u32 = 10_000;
/// How soon an exchange is found that was declared after we came.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The services' exchanges. Keys: of Neutron and of Nova's unversioned format; of its versioned one.
pub(crate) fn subscription() -> Subscription {
    Subscription {
        exchanges: vec!["neutron", "nova"],
        keys: vec!["notifications.info", "versioned_notifications.info"],
        queue_limit: QUEUE_LIMIT,
        look_every: LOOK_EVERY,
    }
}

/// The broker that Contrabass names, reached as the settings say.
pub(crate) fn broker(rabbitmq: &RabbitMq, config: &Config) -> Broker {
    Broker {
        urls: rabbitmq.urls.clone(),
        login: Login {
            user: rabbitmq.user.clone(),
            password: rabbitmq.password.clone(),
            vhost: config.notifications.vhost.clone(),
        },
        tls: config.notifications.tls,
        trust: config.settings.openstack.trust.clone(),
    }
}
