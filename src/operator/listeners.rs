//! The connections over which OpenStack's notifications come, one for each broker and user.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::amqp;
use crate::clock::Clock;
use crate::cloud::contrabass::RabbitMq;
use crate::config::Config;
use crate::controller::{BrokerNews, Event};
use crate::inventory::store::Store;
use crate::metrics::Metrics;
use crate::notifications::connection::{self, Connection};
use crate::notifications::message::{self, Message};
use crate::notifications::{broker, subscription};

pub(super) struct Listeners {
    pub(super) config: Arc<Config>,
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: Sender<Event>,
    pub(super) running: Vec<(Arc<RabbitMq>, Connection)>,
}

impl Listeners {
    pub(super) fn listen(&mut self, rabbitmq: &Arc<RabbitMq>) {
        let (broker, clock) = (broker(rabbitmq, &self.config), self.clock.clone());
        match Connection::spawn(broker, subscription(), clock, self.sink(Arc::clone(rabbitmq))) {
            Ok(connection) => self.running.push((Arc::clone(rabbitmq), connection)),
            Err(error) => {
                log::error!(
                    "no thread for notifications can be started, only polls go on: {error}"
                );
            }
        }
    }

    /// The connection ends by itself, and nobody waits for that.
    pub(super) fn stop_listening(&mut self, rabbitmq: &Arc<RabbitMq>) {
        self.running.retain(|(known, _)| !Arc::ptr_eq(known, rabbitmq));
    }

    pub(super) fn have_lost_a_thread(&self) -> bool {
        self.running.iter().any(|(_, connection)| connection.has_ended())
    }

    /// Makes events of what a connection observes. Runs on its thread, and waits only while the main
    /// thread is far behind.
    fn sink(&self, rabbitmq: Arc<RabbitMq>) -> impl FnMut(connection::Event) + Send + use<> {
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        let (metrics, events) = (Arc::clone(&self.metrics), self.events.clone());
        move |observed| {
            let news = match observed {
                connection::Event::Connected { .. } => BrokerNews::Connected,
                connection::Event::Disconnected { .. } => BrokerNews::Disconnected,
                connection::Event::Session(amqp::Event::Bound(exchange)) => {
                    BrokerNews::Bound(exchange)
                }
                connection::Event::Session(amqp::Event::Unbound(exchange, _)) => {
                    BrokerNews::Unbound(exchange)
                }
                connection::Event::Session(amqp::Event::Message(body)) => {
                    if let Message::Change(change) = counted(message::read(&body), &clock, &metrics)
                    {
                        let (inventory, heard_at) = (store.snapshot(), clock.now().uptime);
                        // Without a receiver the process is ending.
                        let _ = events.send(Event::Notified { change, inventory, heard_at });
                    }
                    return;
                }
                connection::Event::Session(amqp::Event::TooLarge(_)) => {
                    counted(Message::Unreadable, &clock, &metrics);
                    return;
                }
                connection::Event::Session(_) => return,
            };
            let _ = events.send(Event::Broker(Arc::clone(&rabbitmq), news));
        }
    }
}

fn counted(message: Message, clock: &Clock, metrics: &Metrics) -> Message {
    metrics.add("multinic_notifications_total", &[("event", message.name())], 1.0);
    let seconds = clock.now().wall.as_second() as f64;
    metrics.set("multinic_last_notification_timestamp_seconds", &[], seconds);
    message
}
