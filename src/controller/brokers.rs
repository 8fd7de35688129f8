//! The brokers of OpenStack's clouds that are listened to, and which objects a notification concerns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Controller, Effect};
use crate::clock::Now;
use crate::cloud::contrabass::RabbitMq;
use crate::inventory::contents::Inventory;
use crate::metrics::Metrics;
use crate::node_config::Interface;
use crate::notifications::message::Change;
use crate::reconcile::{Lane, Outcome};
use crate::resources::{ObjectKey, Spec, SubnetSelector};

/// What became of the connection to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerNews {
    /// There is one.
    Connected,
    /// The notifications of this exchange come from now on. Earlier ones may have been missed.
    Bound(&'static str),
    /// Those of this exchange don't come.
    Unbound(&'static str),
    /// There is none, or none any more.
    Disconnected,
}

/// After a message: what is done once is often notified twice, by Nova in both of its formats.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(20);

/// The brokers that objects have.
#[derive(Default)]
pub(super) struct Brokers(Vec<Broker>);

struct Broker {
    rabbitmq: Arc<RabbitMq>,
    is_connected: bool,
    bound: BTreeSet<&'static str>,
}

impl Brokers {
    /// The broker of this access, and whether it is a new one.
    fn get(&mut self, rabbitmq: &RabbitMq) -> (Arc<RabbitMq>, bool) {
        if let Some(known) = self.0.iter().find(|known| *known.rabbitmq == *rabbitmq) {
            return (Arc::clone(&known.rabbitmq), false);
        }
        let rabbitmq = Arc::new(rabbitmq.clone());
        let shared = Arc::clone(&rabbitmq);
        self.0.push(Broker { rabbitmq, is_connected: false, bound: BTreeSet::new() });
        (shared, true)
    }

    fn remove(&mut self, rabbitmq: &Arc<RabbitMq>) {
        self.0.retain(|known| !Arc::ptr_eq(&known.rabbitmq, rabbitmq));
    }

    /// Takes note of news. A broker that no object has any more may still have some.
    fn take(&mut self, rabbitmq: &Arc<RabbitMq>, news: BrokerNews) {
        let known = self.0.iter_mut().find(|known| Arc::ptr_eq(&known.rabbitmq, rabbitmq));
        let Some(known) = known else { return };
        match news {
            BrokerNews::Connected => known.is_connected = true,
            BrokerNews::Bound(exchange) => drop(known.bound.insert(exchange)),
            BrokerNews::Unbound(exchange) => drop(known.bound.remove(exchange)),
            BrokerNews::Disconnected => {
                known.is_connected = false;
                known.bound.clear();
            }
        }
    }

    pub(super) fn publish_gauges(&self, metrics: &Metrics) {
        let state = |broker: &Broker| match (broker.is_connected, broker.bound.is_empty()) {
            (false, _) => "disconnected",
            (true, true) => "connected",
            (true, false) => "bound",
        };
        let count = |wanted| self.0.iter().filter(|broker| state(broker) == wanted).count() as f64;
        let states = ["bound", "connected", "disconnected"].map(|state| ([state], count(state)));
        metrics.replace("multinic_notification_connections", states);
    }
}

impl Controller {
    /// The broker of the object's cloud, if the pass found out.
    pub(super) fn note_broker(&mut self, key: &ObjectKey, outcome: &Outcome) {
        let rabbitmq = match &outcome.rabbitmq {
            Some((_, Ok(rabbitmq))) => Some(rabbitmq),
            None if outcome.nodes.is_some() => None,
            _ => return,
        };
        let Some(tracked) = self.objects.get_mut(key) else { return };
        if tracked.broker.as_deref() == rabbitmq {
            return;
        }
        let before = tracked.broker.take();
        if let Some(rabbitmq) = rabbitmq {
            let (broker, is_new) = self.brokers.get(rabbitmq);
            tracked.broker = Some(Arc::clone(&broker));
            self.effects.extend(is_new.then_some(Effect::Listen(broker)));
        }
        self.leave(before);
    }

    /// An object doesn't have this broker any more.
    pub(super) fn leave(&mut self, broker: Option<Arc<RabbitMq>>) {
        let Some(broker) = broker else { return };
        if !self.objects.values().any(|tracked| tracked.has_broker(&broker)) {
            self.brokers.remove(&broker);
            self.effects.push(Effect::StopListening(broker));
        }
    }

    pub(super) fn broker(&mut self, now: Now, rabbitmq: &Arc<RabbitMq>, news: BrokerNews) {
        self.brokers.take(rabbitmq, news);
        if matches!(news, BrokerNews::Bound(_)) {
            let having = self.objects.iter().filter(|(_, tracked)| tracked.has_broker(rabbitmq));
            for key in having.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                self.hurry(now, &key);
            }
        }
    }

    pub(super) fn notified(
        &mut self,
        now: Now,
        change: &Change,
        inventory: &Inventory,
        heard_at: Duration,
    ) {
        let specs = || {
            let specs = self.objects.iter().map(|(key, known)| (key, known.object.spec.as_ref()));
            let specs = specs.filter_map(|(key, spec)| Some((key, spec.ok()?)));
            specs.filter(|(_, spec)| is_in_reach(change, spec))
        };
        if specs().next().is_none() {
            return;
        }
        let holders = holders(change, inventory);
        let concerned = specs().filter(|(_, spec)| concerns(change, &holders, spec));
        for key in concerned.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            if self.hurry(now, &key)
                && let Some(tracked) = self.objects.get_mut(&key)
            {
                tracked.heard_at.get_or_insert(heard_at);
            }
        }
    }

    /// Makes an object due that OpenStack may have changed. One whose cloud or target has just failed
    /// waits until it would be looked at anyway; so does one that is paused.
    fn hurry(&mut self, now: Now, key: &ObjectKey) -> bool {
        let Some(tracked) = self.objects.get(key) else { return false };
        let is_due = !tracked.is_left_alone && !tracked.object.is_paused();
        if is_due {
            let member = tracked.member();
            self.queue.add(key, member, Lane::Notified, now.uptime + DEBOUNCE);
            self.show(now, key);
        }
        is_due
    }
}

/// The VMs that had, by the records, what a change is about: a port that was detached names none.
fn holders(change: &Change, inventory: &Inventory) -> BTreeSet<String> {
    let is_about = |interface: &Interface| match change {
        Change::Ports { ports, .. } => ports.contains(&interface.port_id),
        Change::Network { id } => *id == *interface.network_id,
        Change::Subnet { id } => *id == *interface.subnet_id,
        Change::Instance { .. } => false,
    };
    let records = inventory.iter().map(|stored| &stored.record);
    let holding = records.filter(|record| record.config.interfaces.iter().any(is_about));
    holding.map(|record| record.instance_id.to_ascii_lowercase()).collect()
}

/// Can it concern objects of the project? Ports are looked for in the object's project alone; networks
/// and subnets may be another's.
fn is_in_reach(change: &Change, spec: &Spec) -> bool {
    let Change::Ports { projects, .. } = change else { return true };
    projects.is_empty() || projects.iter().any(|id| id.eq_ignore_ascii_case(&spec.project_id))
}

/// Does a change that is in reach concern the object?
fn concerns(change: &Change, holders: &BTreeSet<String>, spec: &Spec) -> bool {
    let names_it = match change {
        Change::Ports { devices, .. } => spec.vm_ids.iter().any(|vm| devices.contains(vm)),
        Change::Instance { vm } => spec.vm_ids.contains(vm),
        Change::Network { .. } => false,
        // One that is renamed may be the one that an object names, or have been.
        Change::Subnet { id } => spec.subnets.iter().any(|selector| match selector {
            SubnetSelector::Id(known) => known.eq_ignore_ascii_case(id),
            SubnetSelector::Name(_) => true,
        }),
    };
    names_it || spec.vm_ids.iter().any(|vm| holders.contains(vm))
}
