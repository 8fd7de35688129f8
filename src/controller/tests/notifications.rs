//! Objects that are looked at because OpenStack notified a change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{
    World, down, in_project, object, seconds, synced, unchanged, with_rabbitmq, with_vms, world,
    world_with,
};
use crate::clock::Clock;
use crate::cloud::contrabass::RabbitMq;
use crate::controller::Event;
use crate::controller::brokers::{BrokerNews, DEBOUNCE};
use crate::inventory::contents::Inventory;
use crate::inventory::record::{Change as Commit, Record};
use crate::inventory::store::Store;
use crate::metrics::Metrics;
use crate::node_config::{Interface, NodeConfig};
use crate::notifications::message::Change;
use crate::reconcile::report::Reason;
use crate::reconcile::{Lane, Outcome, Work};
use crate::resources::{OpenstackConfig, SubnetSelector};
use crate::secret::Secret;

/// A cloud with a broker, where these objects have been synced.
fn listening(objects: &[OpenstackConfig]) -> World {
    let mut world = world_with(4, "true");
    world.list(objects);
    for object in objects {
        world.finish(&object.key.name, |work| with_rabbitmq(1, unchanged(work)));
    }
    world.started.clear();
    world
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn instance(vm: &str) -> Change {
    Change::Instance { vm: vm.to_owned() }
}

fn port(project: &str, port: &str, device: &str) -> Change {
    let devices = if device.is_empty() { &[][..] } else { &[device] };
    Change::Ports { projects: set(&[project]), ports: set(&[port]), devices: set(devices) }
}

/// Of these VMs, each with a port `port of <VM>` in this network and subnet.
fn records(vms: &[&str], network: &str, subnet: &str) -> Arc<Inventory> {
    let clock = Clock::system();
    let store = Store::in_memory(Inventory::default(), clock, Arc::new(Metrics::default()));
    let record = |vm: &&str| {
        let interface = Interface {
            id: 0,
            name: Interface::name_of(0),
            port_id: format!("port of {vm}"),
            mac_address: "fa:16:3e:00:00:01".to_owned(),
            address: [10, 0, 0, 7].into(),
            cidr: "10.0.0.0/24".into(),
            mtu: 1450,
            network_id: network.into(),
            subnet_id: subnet.into(),
        };
        let (node_name, instance_id) = (format!("node of {vm}"), vm.to_ascii_uppercase());
        let config = NodeConfig { node_name, instance_id, interfaces: vec![interface] };
        Commit::Upsert(Record::of("provider-1", config))
    };
    store.commit(vms.iter().map(record).collect());
    store.snapshot()
}

impl World {
    fn hear_with(&mut self, change: Change, inventory: &Arc<Inventory>) {
        let (inventory, heard_at) = (Arc::clone(inventory), self.now.uptime);
        self.event(Event::Notified { change, inventory, heard_at });
    }

    fn hear(&mut self, change: Change) {
        self.hear_with(change, &Arc::default());
    }

    fn pause_for(&mut self, pause: Duration) {
        self.now = self.now.after(pause);
        self.turn();
    }

    /// The objects of the passes that started since the last call, after the debounce.
    fn looked_at(&mut self) -> Vec<String> {
        self.pause_for(DEBOUNCE);
        let mut names: Vec<String> = std::mem::take(&mut self.started).concat();
        names.sort_unstable();
        names
    }
}

#[test]
fn messages_about_one_act_make_one_pass_and_a_flood_one_in_a_second() {
    let mut world = listening(&[object("a"), object("b"), in_project("project-2", object("c"))]);
    for _ in 0..6 {
        world.hear(instance("vm of a"));
    }
    assert!(world.syncing().is_empty(), "others of the same act may follow");
    assert_eq!((world.looked_at(), world.lanes["a"]), (vec!["a".to_owned()], Lane::Notified));
    world.finish("a", unchanged);
    let (mut passes, begin) = (Vec::new(), world.now.uptime);
    while world.now.uptime < begin + seconds(10) {
        world.hear(instance("vm of a"));
        world.hear(instance("vm of b"));
        world.hear(instance("vm of c"));
        world.pause_for(Duration::from_millis(10));
        passes.append(&mut world.started);
        world.settle();
    }
    let of = |name: &str| passes.iter().filter(|pass| pass.contains(&name.to_owned())).count();
    assert_eq!((of("a"), of("b"), of("c")), (10, 10, 10), "{passes:?}");
    assert_eq!(passes.len(), 20, "a and b share their passes");
}

#[test]
fn a_message_during_a_pass_makes_another_one_after_it() {
    let mut world = listening(&[object("a")]);
    world.hear(instance("vm of a"));
    assert_eq!(world.looked_at(), ["a"]);
    world.hear(instance("vm of a"));
    world.pause_for(seconds(2));
    assert!(world.started.is_empty(), "one pass at a time");
    world.finish("a", unchanged);
    assert_eq!(world.looked_at(), ["a"]);
}

#[test]
fn objects_are_found_by_vm_port_network_and_subnet() {
    let named = |name: &str, mut object: OpenstackConfig| {
        object.spec.as_mut().unwrap().subnets = vec![SubnetSelector::Name(name.to_owned())];
        object
    };
    let of_subnet = |id: &str, mut object: OpenstackConfig| {
        object.spec.as_mut().unwrap().subnets = vec![SubnetSelector::Id(id.to_owned())];
        object
    };
    let objects = [
        of_subnet("SUBNET-A", with_vms(&["vm-1", "vm-2"], object("a"))),
        of_subnet("subnet-b", in_project("project-2", with_vms(&["vm-3"], object("b")))),
        named("front", in_project("project-3", with_vms(&["vm-4"], object("c")))),
    ];
    let records = records(&["vm-2", "vm-3"], "network", "subnet-b");
    let id = |id: &str| id.to_owned();
    for (change, expected) in [
        (instance("vm-1"), &["a"][..]),
        (instance("vm-9"), &[]),
        (port("project-1", "new", "vm-2"), &["a"]),
        // It was detached, and only the records know from where.
        (port("project-1", "port of vm-2", ""), &["a"]),
        (port("project-1", "port of vm-2", "vm-9"), &["a"]),
        (port("project-1", "new", ""), &[]),
        (port("project-9", "new", "vm-1"), &[]),
        (port("PROJECT-2", "port of vm-3", "vm-3"), &["b"]),
        (Change::Network { id: id("network") }, &["a", "b"]),
        (Change::Network { id: id("another") }, &[]),
        (Change::Subnet { id: id("subnet-a") }, &["a", "c"]),
        (Change::Subnet { id: id("subnet-b") }, &["a", "b", "c"]),
    ] {
        let mut world = listening(&objects);
        world.hear_with(change.clone(), &records);
        assert_eq!(world.looked_at(), expected, "{change:?}");
    }
    let unknown_project =
        Change::Ports { projects: set(&[]), ports: set(&["port of vm-3"]), devices: set(&[]) };
    let mut world = listening(&objects);
    world.hear_with(unknown_project, &records);
    assert_eq!(world.looked_at(), ["b"]);
}

#[test]
fn a_new_connection_makes_all_objects_of_its_cloud_due_once() {
    let mut world = world_with(4, "true");
    world.list(&[object("a"), object("b"), object("c")]);
    world.finish("a", |work| with_rabbitmq(1, unchanged(work)));
    world.finish("b", |work| with_rabbitmq(2, unchanged(work)));
    world.finish("c", unchanged);
    let [broker] = &world.brokers[..] else { panic!("{:?}", world.brokers) };
    let broker = Arc::clone(broker);
    world.started.clear();
    let connections = |world: &World, state: &str| {
        world.controller.publish_gauges(world.now);
        let text = world.controller.metrics.render();
        let line = format!("multinic_notification_connections{{state=\"{state}\"}} 1\n");
        text.contains(&line)
    };
    assert!(connections(&world, "disconnected"));
    world.event(Event::Broker(Arc::clone(&broker), BrokerNews::Connected));
    assert!(world.looked_at().is_empty() && connections(&world, "connected"));
    for exchange in ["neutron", "nova"] {
        world.event(Event::Broker(Arc::clone(&broker), BrokerNews::Bound(exchange)));
    }
    assert_eq!(world.looked_at(), ["a", "b"]);
    assert!(connections(&world, "bound"));
    world.event(Event::Broker(Arc::clone(&broker), BrokerNews::Unbound("nova")));
    assert!(connections(&world, "bound"));
    world.event(Event::Broker(broker, BrokerNews::Disconnected));
    assert!(connections(&world, "disconnected"));
}

#[test]
fn a_connection_is_kept_while_an_object_has_its_broker() {
    let changed = |work: &Work| {
        let rabbitmq = RabbitMq {
            urls: vec!["10.0.0.5:5672".to_owned()],
            user: "openstack".to_owned(),
            password: Secret::new("another".to_owned()),
        };
        Outcome { rabbitmq: Some((2, Ok(rabbitmq))), ..unchanged(work) }
    };
    let mut world = listening(&[object("a"), object("b"), in_project("project-2", object("c"))]);
    let before = world.brokers.clone();
    world.delete(&object("b"));
    world.hear(instance("vm of a"));
    world.hear(instance("vm of c"));
    assert_eq!(world.looked_at(), ["a", "c"]);
    world.finish("a", changed);
    assert_eq!(world.brokers.len(), 2, "the password was changed, and c doesn't know yet");
    world.finish("c", changed);
    assert_eq!(world.brokers.len(), 1);
    assert_ne!(world.brokers, before);
    // A cloud that can't be asked now may still have it; one without RabbitMQ hasn't.
    world.pause_for(seconds(200));
    world.finish("a", down);
    world.finish("c", unchanged);
    assert_eq!(world.brokers.len(), 1);
    world.delete(&object("a"));
    assert!(world.brokers.is_empty());

    let mut world = self::world();
    world.apply(object("a"));
    world.finish("a", |work| with_rabbitmq(1, unchanged(work)));
    assert!(world.brokers.is_empty(), "it isn't wanted");
}

#[test]
fn messages_do_not_hurry_what_has_just_failed_or_is_paused() {
    let refused = |work: &Work| {
        let failed = Outcome::failed(work, Reason::ViolaPostError, "Viola is down");
        Outcome { nodes: Some(1), ..failed }
    };
    let busy = |work: &Work| Outcome { retry_after: Some(seconds(9)), ..unchanged(work) };
    let unnamed = |work: &Work| {
        let failed = Outcome::failed(work, Reason::NovaError, "one VM has no name");
        Outcome { nodes: Some(1), ..failed }
    };
    for (outcome, is_hurried) in [
        (&down as &dyn Fn(&Work) -> Outcome, false),
        (&refused, false),
        (&busy, false),
        (&unnamed, true),
        (&synced, true),
    ] {
        let mut world = listening(&[object("a")]);
        world.hear(instance("vm of a"));
        world.looked_at();
        world.finish("a", outcome);
        world.pause_for(seconds(2));
        world.hear(instance("vm of a"));
        assert_eq!(!world.looked_at().is_empty(), is_hurried);
    }
    let mut paused = object("a");
    paused.generation = 2;
    paused.spec.as_mut().unwrap().paused = true;
    let mut world = listening(&[object("a")]);
    world.apply(paused);
    world.hear(instance("vm of a"));
    assert!(world.looked_at().is_empty());
}

#[test]
fn the_time_from_a_message_to_what_was_sent_is_measured() {
    let mut world = listening(&[object("a")]);
    world.hear(instance("vm of a"));
    world.looked_at();
    world.finish("a", |work| Outcome { later: true, ..unchanged(work) });
    world.pause_for(seconds(1));
    world.finish("a", synced);
    world.hear(instance("vm of a"));
    world.pause_for(seconds(1));
    world.finish("a", unchanged);
    let text = world.controller.metrics.render();
    assert!(text.contains("multinic_notification_reaction_seconds_count 1\n"), "{text}");
    assert!(text.contains("multinic_notification_reaction_seconds_sum 1.02\n"), "{text}");
}
