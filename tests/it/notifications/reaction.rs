//! From a notification to the POST, with the real program and the simulated cloud.

use std::time::{Duration, Instant};

use serde_json::Value;
use simulated_cloud::state::{CloudState, FixedIp, Port};
use simulated_cloud::{Cloud, LoggedRequest, RabbitMq, Service};

use crate::population::{Population, name};
use crate::process::{Operator, SOON};
use crate::world::World;

/// Nothing falls due by itself.
const LISTENING: [(&str, &str); 4] = [
    ("OPENSTACK_NOTIFICATIONS", "true"),
    ("POLL_FAST_INTERVAL", "1h"),
    ("POLL_SLOW_INTERVAL", "1h"),
    ("POLL_ERROR_INTERVAL", "1h"),
];
/// Two passes of a scope that messages cause are as far apart.
const SPACING: Duration = Duration::from_secs(1);

impl World {
    /// How many passes have asked for ports.
    fn port_lists(&self) -> usize {
        let is_list = |request: &LoggedRequest| request.path().ends_with("/v2.0/ports");
        self.journal().requests(Service::Neutron).iter().filter(|it| is_list(it)).count()
    }

    fn wait_for_port_lists(&self, count: usize) {
        let enough = |log: &[LoggedRequest]| {
            let is_list = |it: &&LoggedRequest| {
                it.service == Service::Neutron && it.path().ends_with("/v2.0/ports")
            };
            log.iter().filter(is_list).count() >= count
        };
        assert!(self.journal().wait_for(enough, SOON), "only {} passes", self.port_lists());
    }

    /// Starts the program, and waits for its first two passes: its own, and that of the connection.
    fn listen(&self, broker: &RabbitMq, variables: &[(&str, &str)]) -> Operator {
        let operator = Operator::start(self, variables);
        assert!(broker.wait_for_consumers(1, SOON), "{}", operator.log());
        self.wait_for_reason("NoChange");
        std::thread::sleep(SPACING);
        operator
    }

    /// Changes the cloud, as its services would, and lets them tell; gives the POST that follows and the
    /// time to it.
    fn tell(&self, broker: &RabbitMq, change: impl FnOnce(&mut CloudState)) -> (Value, Duration) {
        let before = self.viola().received().len();
        let messages = self.notified(change);
        assert!(!messages.is_empty());
        let told = Instant::now();
        for message in messages {
            assert_eq!(broker.publish(message.exchange, message.key, &message.body), 1);
        }
        self.wait_for_posts(before + 1);
        let took = told.elapsed();
        std::thread::sleep(SPACING);
        let received = self.viola().received();
        assert_eq!(received.len(), before + 1, "one change is sent once");
        (Value::Array(received[before].nodes.clone()), took)
    }
}

/// Of a VM, on a subnet that counts in each cloud of these tests.
fn a_port(state: &CloudState) -> Port {
    let counts = |port: &&Port| !port.fixed_ips[0].ip_address.starts_with("10.30.");
    state.ports.iter().find(counts).unwrap().clone()
}

#[test]
fn each_kind_of_change_is_sent_when_it_is_notified_and_not_when_it_is_polled() {
    let world = World::of("three-nodes");
    let broker = world.broker();
    let operator = world.listen(&broker, &LISTENING);
    let port = world.edit(|state| a_port(state));
    let id = port.id.clone();
    let (nodes, _) = world.tell(&broker, |state| {
        state.ports.update(&id, |port| port.fixed_ips[0].ip_address = "10.20.0.77".to_owned());
    });
    assert!(nodes.to_string().contains("10.20.0.77"), "{nodes}");
    let second = Port {
        id: "0dd5a1f0-0000-4000-8000-00000000beef".to_owned(),
        mac_address: "fa:16:3e:ff:ff:01".to_owned(),
        fixed_ips: vec![FixedIp {
            ip_address: "10.20.0.78".to_owned(),
            ..port.fixed_ips[0].clone()
        }],
        ..port.clone()
    };
    let (nodes, _) = world.tell(&broker, |state| state.add_port(second.clone()));
    assert!(nodes.to_string().contains(&second.id), "{nodes}");
    // Whose it was, the message doesn't say.
    let (nodes, _) = world.tell(&broker, |state| {
        state.ports.update(&second.id, |port| port.device_id = String::new());
    });
    assert!(!nodes.to_string().contains(&second.id), "{nodes}");
    let network = port.network_id.clone();
    let (nodes, _) = world.tell(&broker, |state| {
        state.networks.iter_mut().find(|it| it.id == network).unwrap().mtu = 1400;
    });
    assert_eq!(nodes.as_array().unwrap().len(), 3);
    assert!(nodes.to_string().contains("\"mtu\":1400"), "{nodes}");
    let (nodes, _) = world.tell(&broker, |state| {
        state.servers.update(&port.device_id, |server| server.name = "renamed".to_owned());
    });
    assert_eq!(nodes[0]["nodeName"], "renamed");

    let metrics = operator.health("/metrics").1;
    for line in [
        "multinic_notifications_total{event=\"port\"} 3",
        "multinic_notifications_total{event=\"network\"} 1",
        // In both formats.
        "multinic_notifications_total{event=\"instance\"} 2",
        "multinic_notification_reaction_seconds_count 5",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("multinic_last_notification_timestamp_seconds 0\n"), "{metrics}");
    let (status, took) = operator.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_flood_of_messages_makes_a_pass_in_a_second_and_what_is_no_notification_none() {
    let world = World::of("three-nodes");
    let broker = world.broker();
    let operator = world.listen(&broker, &LISTENING);
    let passes = world.port_lists();
    let hidden = "gAAAAAB-a-live-token";
    let token = format!("{{\"event_type\": \"port.update.end\", \"auth_token\": \"{hidden}\"}}");
    for body in ["", "[]", "{\"event_type\": 1}", &token, "\u{fffd}", &"x".repeat(300_000)] {
        assert_eq!(broker.publish("nova", "notifications.info", body.as_bytes()), 1);
    }
    let id = world.edit(|state| a_port(state).id);
    let started = Instant::now();
    for number in 0..1000 {
        let messages = world.notified(|state| {
            state.ports.update(&id, |port| port.name = format!("{number}"));
        });
        broker.publish(messages[0].exchange, messages[0].key, &messages[0].body);
    }
    world.wait_for_port_lists(passes + 1);
    std::thread::sleep(SPACING * 2);
    let caused = world.port_lists() - passes;
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(caused <= seconds + 1, "{caused} passes in {seconds} s");
    let metrics = operator.health("/metrics").1;
    assert!(metrics.contains("multinic_notifications_total{event=\"port\"} 1000\n"), "{metrics}");
    assert!(
        metrics.contains("multinic_notifications_total{event=\"unreadable\"} 6\n"),
        "{metrics}"
    );
    assert!(!operator.log().contains(hidden), "a body was logged");
    assert_eq!(world.viola().received().len(), 1, "nothing had changed that counts");
}

#[test]
fn a_lost_connection_is_no_reason_to_be_unready_and_a_new_one_to_look_once() {
    let world = World::of("three-nodes");
    let broker = world.broker();
    // Contrabass' answer counts for a moment, and still nothing falls due by itself.
    let variables =
        [&LISTENING[..], &[("POLL_FAST_INTERVAL", "100ms"), ("POLL_FAST_WINDOW", "1ms")]].concat();
    let operator = world.listen(&broker, &variables);
    let passes = world.port_lists();
    broker.disconnect();
    operator.line_with("no connection");
    assert_eq!(operator.health("/readyz").0, 200);
    // Its message is lost with the connection.
    let id = world.edit(|state| a_port(state).id);
    world.notified(|state| {
        state.ports.update(&id, |port| port.fixed_ips[0].ip_address = "10.20.0.79".to_owned());
    });
    assert!(broker.wait_for_consumers(1, SOON), "{}", operator.log());
    world.wait_for_posts(2);
    assert!(world.port_lists() > passes);
    // The provider has no RabbitMQ any more, which the next pass finds out.
    world.edit(|state| state.providers[0].rabbitmq = None);
    std::thread::sleep(SPACING);
    world.force("1");
    assert!(broker.wait_for_consumers(0, SOON), "{}", operator.log());
}

#[test]
fn without_the_setting_nobody_connects() {
    let world = World::of("three-nodes");
    let broker = world.broker();
    let _operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    assert!(broker.wait_for_consumers(0, SOON));
}

/// Measures: `cargo nextest run --test it from_a_message --no-capture` prints the figures.
#[test]
fn from_a_message_to_the_post_it_takes_milliseconds_while_a_thousand_objects_are_polled() {
    let population = Population { projects: 4, ..Population::new(1001, 1, 1) };
    let world = World(Cloud::start(population.scenario()).unwrap());
    let broker = world.broker();
    let polling = [
        ("OPENSTACK_NOTIFICATIONS", "true"),
        ("POLL_FAST_INTERVAL", "5s"),
        ("POLL_SLOW_INTERVAL", "5s"),
        ("RUST_LOG", "info"),
    ];
    let operator = Operator::start(&world, &polling);
    assert!(broker.wait_for_consumers(1, SOON), "{}", operator.log());
    world.wait_for_reason_of("default", &name(1000), "NoChange");
    let mut times = Vec::new();
    for number in 0..20 {
        let id = world.edit(|state| a_port(state).id);
        let (_, took) = world.tell(&broker, |state| {
            state.ports.update(&id, |port| {
                port.fixed_ips[0].ip_address = format!("10.200.0.{}", number + 1);
            });
        });
        times.push(took);
    }
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("from a message to the POST's answer: median {median:?}, longest {longest:?}");
    // Of what a busy machine allows; measured alone: see docs.
    assert!(median < Duration::from_millis(500), "{times:?}");
}
