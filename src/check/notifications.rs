//! RabbitMQ of each cloud: can notifications come, and does one come within a few seconds?

use std::time::Duration;

use crossbeam_channel::unbounded;

use super::{SIDE_BY_SIDE, advice, report::Row};
use crate::amqp;
use crate::clock::Clock;
use crate::cloud::contrabass::RabbitMq;
use crate::config::Config;
use crate::notifications::connection::{Connection, Event};
use crate::notifications::{broker, subscription};
use crate::threads::{Task, side_by_side};

const RABBITMQ: &str = "RabbitMQ";
/// Three addresses that don't answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(16);
/// From the connection on. A cloud that is used notifies something every few seconds.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);

/// What came over a connection of our own; the operator's isn't touched.
#[derive(Default)]
struct Heard {
    address: String,
    bound: Vec<&'static str>,
    /// Exchanges that can't be heard, and why.
    unbound: Vec<String>,
    messages: usize,
    took: Duration,
}

/// The rows of these brokers.
pub(super) fn rows(config: &Config, brokers: &[RabbitMq]) -> Vec<Row> {
    if brokers.is_empty() {
        let why = "no answer of Contrabass names one, so changes are seen by polls";
        return vec![Row::skipped(RABBITMQ, "", why)];
    }
    let task = |rabbitmq| Box::new(move || row(config, rabbitmq)) as Task<'_, Row>;
    side_by_side(SIDE_BY_SIDE, brokers.iter().map(task).collect())
}

fn row(config: &Config, rabbitmq: &RabbitMq) -> Row {
    let place = format!("user {}", rabbitmq.user);
    let Heard { address, bound, unbound, messages, took } = match listen(config, rabbitmq) {
        Ok(heard) => heard,
        Err(reason) => return Row::failed(RABBITMQ, place, reason, advice::RABBITMQ),
    };
    let seconds = took.as_secs_f32().ceil();
    let missing = unbound.join("; ");
    if bound.is_empty() {
        let seen = format!("connected to {address}, but bound to no exchange: {missing}");
        return Row::failed(RABBITMQ, place, seen, advice::NO_EXCHANGE);
    }
    let heard = match messages {
        0 => format!("heard nothing in {seconds} s (docs/operations.md#notifications)"),
        _ => format!("heard a message within {seconds} s"),
    };
    let bound = bound.join(" and ");
    let not = if missing.is_empty() { String::new() } else { format!(", not to {missing}") };
    Row::fine(RABBITMQ, place, format!("connected to {address}, bound to {bound}{not}; {heard}"))
}

/// Listens until a message has come and each exchange was asked for.
fn listen(config: &Config, rabbitmq: &RabbitMq) -> Result<Heard, String> {
    let (sender, events) = unbounded();
    let clock = Clock::system();
    let sink = move |event| drop(sender.send(event));
    let connection =
        Connection::spawn(broker(rabbitmq, config), subscription(), clock.clone(), sink);
    let _connection = connection.map_err(|error| format!("no thread can be started: {error}"))?;
    let exchanges = subscription().exchanges.len();
    let (mut heard, mut begin) = (Heard::default(), clock.now().uptime);
    let mut limit = CONNECT_LIMIT;
    loop {
        heard.took = clock.now().uptime.saturating_sub(begin);
        if heard.messages > 0 && heard.bound.len() + heard.unbound.len() == exchanges {
            return Ok(heard);
        }
        match events.recv_timeout(limit.saturating_sub(heard.took)) {
            Ok(Event::Connected { address }) => {
                heard.address = address;
                (begin, limit) = (clock.now().uptime, LISTEN_LIMIT);
            }
            Ok(Event::Disconnected { reason }) => return Err(reason),
            Ok(Event::Session(amqp::Event::Bound(exchange))) => heard.bound.push(exchange),
            Ok(Event::Session(amqp::Event::Unbound(exchange, why))) => {
                heard.unbound.push(format!("{exchange} ({why})"));
            }
            Ok(Event::Session(amqp::Event::Message(_) | amqp::Event::TooLarge(_))) => {
                heard.messages += 1;
            }
            Ok(Event::Session(_)) => {}
            Err(_) if heard.address.is_empty() => {
                return Err(format!("no connection within {} s", CONNECT_LIMIT.as_secs()));
            }
            Err(_) => return Ok(Heard { took: limit, ..heard }),
        }
    }
}
