//! The connection to a broker, against a real RabbitMQ: every way to fail, and back.

use std::io::Write;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use multinic_operator::amqp::{Event as Heard, Login, Subscription};
use multinic_operator::clock::Clock;
use multinic_operator::http::trust::Trust;
use multinic_operator::notifications::connection::{Broker, Connection, Event, UseTls};
use multinic_operator::secret::Secret;

use crate::http::certificates::Authority;
use crate::http::server::listen;
use crate::rabbitmq::{RabbitMq, USER};

/// For what a broker does at once; its start has a limit of its own.
const SOON: Duration = Duration::from_secs(20);

struct Listener {
    connection: Connection,
    events: Receiver<Event>,
}

fn broker(urls: &[&str]) -> Broker {
    let (user, password) = USER;
    Broker {
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        login: Login {
            user: user.to_owned(),
            password: Secret::new(password.to_owned()),
            vhost: "/".to_owned(),
        },
        tls: UseTls::Auto,
        trust: Trust::System,
    }
}

impl Listener {
    fn to(broker: Broker) -> Listener {
        let subscription = Subscription {
            exchanges: vec!["neutron", "nova"],
            keys: vec!["notifications.info", "versioned_notifications.info"],
            queue_limit: 1000,
            look_every: Duration::from_millis(300),
        };
        let (sender, events) = unbounded();
        let sink = move |event| drop(sender.send(event));
        let connection = Connection::spawn(broker, subscription, Clock::system(), sink).unwrap();
        Listener { connection, events }
    }

    /// The first event that this function knows; others before it are passed over.
    fn wait<T>(&self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        let mut seen = Vec::new();
        loop {
            let event = self.events.recv_deadline(deadline);
            let event = event.unwrap_or_else(|_| panic!("no {what}, but {seen:?}"));
            if let Some(found) = wanted(&event) {
                return found;
            }
            seen.push(event);
        }
    }

    fn connected(&self) -> String {
        self.wait("connection", |event| match event {
            Event::Connected { address } => Some(address.clone()),
            _ => None,
        })
    }

    fn disconnected(&self) -> String {
        self.wait("loss", |event| match event {
            Event::Disconnected { reason } => Some(reason.clone()),
            _ => None,
        })
    }

    fn bound(&self, wanted: &str) {
        self.wait("binding", |event| match event {
            Event::Session(Heard::Bound(exchange)) if *exchange == wanted => Some(()),
            _ => None,
        });
    }

    fn unbound(&self, wanted: &str) -> String {
        self.wait("missing exchange", |event| match event {
            Event::Session(Heard::Unbound(exchange, reason)) if *exchange == wanted => {
                Some(reason.clone())
            }
            _ => None,
        })
    }

    fn message(&self) -> Vec<u8> {
        self.wait("message", |event| match event {
            Event::Session(Heard::Message(body)) => Some(body.clone()),
            _ => None,
        })
    }

    fn stop(self) {
        let started = Instant::now();
        assert!(self.connection.stop_within(Duration::from_secs(1)), "it didn't end");
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn messages_come_from_each_exchange_as_soon_as_it_is_there() {
    let Some(rabbitmq) = RabbitMq::start() else { return };
    let listener = Listener::to(broker(&[&rabbitmq.address()]));
    assert_eq!(listener.connected(), rabbitmq.address());
    let missing = "404 NOT_FOUND - no exchange 'neutron' in vhost '/'";
    assert_eq!(listener.unbound("neutron"), missing);
    // Either kind, for a cloud may have durable ones.
    let mut publisher = rabbitmq.publisher();
    publisher.declare("neutron", false);
    publisher.declare("nova", true);
    listener.bound("neutron");
    listener.bound("nova");
    publisher.publish("neutron", "notifications.info", b"{}");
    assert_eq!(listener.message(), b"{}");
    publisher.publish("nova", "notifications.error", b"an error");
    publisher.publish("nova", "versioned_notifications.info", b"versioned");
    assert_eq!(listener.message(), b"versioned");
    // What isn't JSON at all, nothing, and what takes several frames.
    let garbage: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    publisher.publish("neutron", "notifications.info", &garbage);
    publisher.publish("neutron", "notifications.info", b"");
    publisher.publish("neutron", "notifications.info", &vec![b' '; 3 << 20]);
    publisher.publish("neutron", "notifications.info", b"after it");
    assert_eq!(listener.message(), garbage);
    assert_eq!(listener.message(), b"");
    listener.wait("word of a large message", |event| match event {
        Event::Session(Heard::TooLarge(bytes)) => (*bytes == 3 << 20).then_some(()),
        _ => None,
    });
    assert_eq!(listener.message(), b"after it");
    // Deleted and declared anew, which takes the binding away.
    publisher.delete("neutron");
    assert_eq!(listener.unbound("neutron"), missing);
    publisher.declare("neutron", true);
    listener.bound("neutron");
    publisher.publish("neutron", "notifications.info", b"again");
    assert_eq!(listener.message(), b"again");
    listener.stop();
    rabbitmq.log_line_with(&["closing AMQP connection", "user: 'operator'"]);
}

#[test]
fn a_refusal_is_told_in_the_brokers_words() {
    let Some(rabbitmq) = RabbitMq::start() else { return };
    let address = rabbitmq.address();
    rabbitmq.publisher().declare("neutron", false);
    rabbitmq.publisher().declare("nova", false);
    let refused = |change: fn(&mut Broker), words: &str| {
        let mut broker = broker(&[&address]);
        change(&mut broker);
        let listener = Listener::to(broker);
        let reason = listener.disconnected();
        assert_eq!(reason, format!("{address}: {words}"));
        // It goes on trying, and ends while it waits.
        assert_eq!(listener.disconnected(), reason);
        listener.stop();
    };
    refused(
        |broker| broker.login.password = Secret::new("wrong".to_owned()),
        "the broker says 403 ACCESS_REFUSED - Login was refused using authentication mechanism \
         PLAIN. For details see the broker logfile.",
    );
    refused(
        |broker| broker.login.vhost = "nowhere".to_owned(),
        "the broker says 530 NOT_ALLOWED - vhost nowhere not found",
    );
    refused(
        |broker| broker.login.vhost = "nova".to_owned(),
        "the broker says 530 NOT_ALLOWED - access to vhost 'nova' refused for user 'operator'",
    );
    refused(
        |broker| broker.login.user = "no-queue".to_owned(),
        "the broker says 403 ACCESS_REFUSED - access to queue 'amq.gen-*' in vhost '/' refused \
         for user 'no-queue'",
    );
    refused(|broker| broker.tls = UseTls::Always, "TLS: the broker doesn't speak it at this port");
    // What it may read it hears, and the rest is named.
    let mut broker = broker(&[&address]);
    broker.login.user = "neutron-only".to_owned();
    let listener = Listener::to(broker);
    listener.bound("neutron");
    let reason = listener.unbound("nova");
    assert!(reason.starts_with("403 ACCESS_REFUSED - access to exchange 'nova'"), "{reason}");
    rabbitmq.publisher().publish("neutron", "notifications.info", b"heard");
    assert_eq!(listener.message(), b"heard");
    // An administrator ends all connections.
    rabbitmq.control(&["close_all_connections", "maintenance"]);
    let reason = listener.disconnected();
    assert!(reason.contains("320 CONNECTION_FORCED - maintenance"), "{reason}");
    listener.bound("neutron");
    listener.stop();
}

#[test]
fn a_broker_that_was_killed_is_found_again_and_its_exchanges_when_they_are_declared() {
    let Some(mut rabbitmq) = RabbitMq::start() else { return };
    let listener = Listener::to(broker(&[&rabbitmq.address()]));
    rabbitmq.publisher().declare("neutron", false);
    rabbitmq.publisher().declare("nova", true);
    listener.bound("neutron");
    rabbitmq.kill();
    let lost = format!("{}: the connection was lost", rabbitmq.address());
    assert_eq!(listener.disconnected(), lost);
    let refused = format!("{}: connection refused", rabbitmq.address());
    assert_eq!(listener.disconnected(), refused);
    rabbitmq.start_again();
    listener.connected();
    // Only one of them was durable, so the other one waits for Neutron.
    listener.unbound("neutron");
    listener.bound("nova");
    rabbitmq.publisher().declare("neutron", false);
    listener.bound("neutron");
    rabbitmq.publisher().publish("neutron", "notifications.info", b"after it");
    assert_eq!(listener.message(), b"after it");
    listener.stop();
}

#[test]
fn the_next_url_is_tried_when_a_node_dies_and_one_that_is_none_stops_nobody() {
    let (Some(mut first), Some(second)) = (RabbitMq::start(), RabbitMq::start()) else { return };
    let urls = [&*first.address(), "amqp://", &format!("amqp://u:p@{}/vhost", second.address())];
    let listener = Listener::to(broker(&urls));
    assert_eq!(listener.connected(), first.address());
    first.kill();
    listener.disconnected();
    assert_eq!(listener.connected(), second.address());
    second.signal("STOP");
    // Nobody is left to answer the close.
    listener.stop();
    drop(first);
    let listener = Listener::to(broker(&["amqp://", "127.0.0.1:1", "h.invalid"]));
    let reason = listener.disconnected();
    let all = "a URL without host or port; 127.0.0.1:1: connection refused; \
               h.invalid:5672: the host name could not be resolved";
    assert_eq!(reason, all);
    listener.stop();
}

#[test]
fn a_broker_that_stops_answering_is_given_up_after_two_heartbeats() {
    let Some(rabbitmq) = RabbitMq::start_with("heartbeat = 3", None) else { return };
    let listener = Listener::to(broker(&[&rabbitmq.address()]));
    rabbitmq.publisher().declare("neutron", false);
    listener.bound("neutron");
    // Heartbeats keep an idle connection.
    assert!(listener.events.recv_timeout(Duration::from_secs(7)).is_err());
    rabbitmq.signal("STOP");
    let stopped = Instant::now();
    let silent = format!("{}: the broker didn't answer for 6 s", rabbitmq.address());
    assert_eq!(listener.disconnected(), silent);
    let took = stopped.elapsed();
    assert!((4..9).contains(&took.as_secs()), "{took:?}");
    rabbitmq.signal("CONT");
    listener.bound("neutron");
    rabbitmq.publisher().publish("neutron", "notifications.info", b"after it");
    assert_eq!(listener.message(), b"after it");
    listener.stop();
}

#[test]
fn tls_goes_by_the_settings_and_trusts_whom_it_is_told_to() {
    let authority = Authority::new("theirs");
    let (certificate, key) = authority.server_pem(&["127.0.0.1"]);
    let Some(rabbitmq) = RabbitMq::start_with("", Some((&certificate, &key))) else { return };
    rabbitmq.publisher().declare("neutron", false);
    let folder = tempfile::tempdir().unwrap();
    let bundle = |name: &str, authority: &Authority| {
        let path = folder.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        Trust::Bundle { variable: "RABBITMQ_CA_FILE", path }
    };
    let address = rabbitmq.tls_address();
    let url = format!("amqps://{address}");
    let right = bundle("right.pem", &authority);
    for trust in [right.clone(), Trust::Anyone] {
        let listener = Listener::to(Broker { trust, ..broker(&[&url]) });
        assert_eq!(listener.connected(), address);
        listener.bound("neutron");
        let body = vec![b'x'; 300_000];
        rabbitmq.publisher().publish("neutron", "notifications.info", &body);
        assert_eq!(listener.message(), body);
        listener.stop();
    }
    let wrong = bundle("wrong.pem", &Authority::new("others"));
    let untrusted = "signed by an authority that isn't trusted here";
    let missing = Trust::Bundle { variable: "RABBITMQ_CA_FILE", path: "/nowhere".into() };
    for (trust, tls, words) in [
        (wrong, UseTls::Auto, untrusted),
        (missing, UseTls::Auto, "RABBITMQ_CA_FILE names /nowhere, which can't be read"),
        (right, UseTls::Never, "an alert of TLS: it wants TLS at this port"),
    ] {
        let listener = Listener::to(Broker { trust, tls, ..broker(&[&url]) });
        let reason = listener.disconnected();
        assert!(reason.contains(words), "{reason}");
        listener.stop();
    }
}

#[test]
fn whoever_listens_there_instead_of_a_broker_does_no_harm() {
    // One that speaks HTTP, one that says nothing, and one that ends every connection.
    let http = listen(|mut socket| socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap());
    let ends = listen(drop);
    let (http, ends) = (http.to_string(), ends.to_string());
    let listener = Listener::to(broker(&[&http, &ends]));
    let first = format!("{http}: it answers no AMQP 0-9-1 but \"HTTP/1.1 400 Bad\"");
    let second = format!("{ends}: the connection was lost");
    assert_eq!(listener.disconnected(), format!("{first}; {second}"));
    listener.stop();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for tls in [UseTls::Never, UseTls::Always] {
        let listener = Listener::to(Broker { tls, ..broker(&[&silent]) });
        assert!(listener.events.recv_timeout(Duration::from_millis(300)).is_err());
        listener.stop();
    }
}
