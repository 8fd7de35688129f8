//! (c): once nothing goes wrong any more, everything is in order: each object says what the cloud
//! as it is comes to, Viola holds what the cloud has, and the inventory holds what Viola accepted.
//!
//! What each object should come to is worked out here from the simulated cloud alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::resources::{OpenstackConfig, Spec};
use simulated_cloud::CloudState;

use crate::books::{Card, cards, cards_of, node_name, subnets};
use crate::driver::{Broken, Year};
use crate::kubernetes::Object;

/// What an object should come to.
#[derive(Debug, Default)]
struct Expected {
    /// Any of these; several where it depends on how long something is still believed.
    reasons: BTreeSet<&'static str>,
    /// Its nodes: VM and interfaces.
    nodes: BTreeMap<String, (String, BTreeSet<Card>)>,
    /// Nodes of which older objects may or may not be the managers.
    doubtful: BTreeSet<String>,
    conflicts: bool,
}

const WELL: [&str; 2] = ["Synced", "NoChange"];

fn failing(reason: &'static str) -> Expected {
    Expected { reasons: BTreeSet::from([reason]), ..Expected::default() }
}

/// What stands in the way before a node is thought of.
fn obstacle(cloud: &CloudState, spec: &Spec) -> Option<(&'static str, bool)> {
    if spec.subnet.is_none() {
        return Some(("SubnetRequired", true));
    }
    let Some(provider) = cloud.providers.iter().find(|p| p.id == spec.provider_id) else {
        return Some(("ContrabassError", true));
    };
    let user = cloud.users.iter().find(|user| user.name == provider.admin_id);
    if !cloud.projects.iter().any(|project| project.id == spec.project_id) {
        return Some(("KeystoneError", true));
    }
    // A token outlives a password.
    if user.is_none_or(|user| user.password != provider.admin_password) {
        return Some(("KeystoneError", false));
    }
    // A login remembers the catalog that came with it.
    if !cloud.catalog.iter().any(|service| service.kind == "network") {
        return Some(("NeutronEndpointError", false));
    }
    let by_name =
        matches!(spec.subnet, Some(multinic_operator::resources::SubnetSelector::Name(_)));
    match subnets(cloud, spec).len() {
        0 => Some(("SubnetNotFound", true)),
        1 => None,
        _ if by_name => Some(("SubnetNotUnique", true)),
        _ => None,
    }
}

/// What the object's VMs come to, whoever else names them; and whether two of them have one name.
fn plan(
    cloud: &CloudState,
    spec: &Spec,
    name_key: bool,
) -> (BTreeMap<String, (String, BTreeSet<Card>)>, bool) {
    let Some(subnet) = subnets(cloud, spec).first().copied() else { return Default::default() };
    let mut by_name: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for vm in &spec.vm_ids {
        by_name.entry(node_name(cloud, vm, name_key)).or_default().push(vm);
    }
    let twins = by_name.values().any(|vms| vms.len() > 1);
    let single = by_name.into_iter().filter(|(_, vms)| vms.len() == 1);
    let nodes = single.map(|(name, vms)| {
        let cards = cards(cloud, spec, subnet, vms[0], &["ACTIVE", "DOWN"]);
        (name, (vms[0].clone(), cards))
    });
    (nodes.filter(|(_, (_, cards))| !cards.is_empty()).collect(), twins)
}

fn age(object: &OpenstackConfig) -> (jiff::Timestamp, String, String) {
    (object.created, object.key.to_string(), object.uid.clone())
}

fn expected(
    cloud: &CloudState,
    object: &OpenstackConfig,
    all: &[OpenstackConfig],
    name_key: bool,
    inventory: &Inventory,
) -> Expected {
    let Ok(spec) = &object.spec else { return failing("ConfigError") };
    let obstacle_here = obstacle(cloud, spec);
    if let Some((reason, true)) = obstacle_here {
        return failing(reason);
    }
    let (nodes, twins) = plan(cloud, spec, name_key);
    let mut expected = Expected { conflicts: twins, ..Expected::default() };
    let older: Vec<(&OpenstackConfig, &Spec)> = all
        .iter()
        .filter(|other| age(other) < age(object))
        .filter_map(|other| Some((other, other.spec.as_ref().ok()?)))
        .filter(|(_, other)| other.provider_id == spec.provider_id)
        .collect();
    for (name, node) in nodes {
        let mut is_taken = false;
        for (other, theirs) in &older {
            match obstacle(cloud, theirs) {
                // What it claimed in its last whole reading it claims still, if there was one.
                Some(_) => drop(expected.doubtful.insert(name.clone())),
                None => is_taken |= plan(cloud, theirs, name_key).0.contains_key(&name),
            }
            let stored = inventory.get(&spec.provider_id, &name);
            is_taken |= stored.is_some_and(|stored| {
                stored.record.owner.as_ref().is_some_and(|owner| owner.uid == other.uid)
                    && theirs.vm_ids.contains(&stored.record.instance_id)
            });
        }
        if is_taken {
            expected.conflicts = true;
        } else {
            expected.nodes.insert(name, node);
        }
    }
    if expected.conflicts {
        expected.reasons.insert("NodeConflict");
    } else {
        expected.reasons.extend(WELL);
    }
    if !expected.doubtful.is_empty() {
        expected.reasons.extend(WELL);
        expected.reasons.insert("NodeConflict");
    }
    if let Some((reason, false)) = obstacle_here {
        expected.reasons.insert(reason);
        expected.doubtful.extend(expected.nodes.keys().cloned());
    }
    expected
}

impl Year {
    /// Checks all of it.
    pub(crate) fn check_calm(&mut self) -> Result<(), Broken> {
        let cloud = self.sky.now.state.lock().clone();
        let objects: Vec<Object> = self.kubernetes.objects.values().cloned().collect();
        let read: Vec<OpenstackConfig> = objects.iter().map(Object::read).collect();
        let Some(process) = &self.process else {
            return Err("(c) there is no process".to_owned());
        };
        let store = &process.context.store;
        if !store.state().is_healthy() {
            return Err(format!("(c) the store isn't well: {}", store.state()));
        }
        let inventory = store.snapshot();
        for (object, given) in read.iter().zip(&objects) {
            let expected = expected(&cloud, object, &read, self.name_key, &inventory);
            self.check_object(object, given, &expected, &inventory)?;
        }
        self.check_inventory(&inventory)
    }

    fn check_object(
        &self,
        object: &OpenstackConfig,
        given: &Object,
        expected: &Expected,
        inventory: &Inventory,
    ) -> Result<(), Broken> {
        let fail = |what: String| Err(format!("(c) {} ({}): {what}", object.key, object.uid));
        let Some(ready) = object.status.condition("Ready") else {
            return fail("it has no status".to_owned());
        };
        let refused = |name: &String| self.refused.contains(name);
        let refuses = expected.nodes.keys().any(refused);
        let reason = ready.reason.as_str();
        let is_expected = expected.reasons.contains(reason);
        if !(is_expected || refuses && reason == "ViolaPostError") {
            let reasons = &expected.reasons;
            return fail(format!("it says {reason} ({}) instead of {reasons:?}", ready.message));
        }
        if object.status.observed_generation != Some(object.generation) {
            return fail(format!("its status speaks of {:?}", object.status.observed_generation));
        }
        let is_well = WELL.contains(&reason);
        if (ready.status == "True") != is_well || is_well != object.status.last_error.is_empty() {
            return fail(format!("Ready is {} for {reason}", ready.status));
        }
        let degraded = object.status.condition("Degraded").map(|known| known.status.as_str());
        let noted = ready.message.contains("note: Secret");
        if degraded != Some(if is_well && !noted { "False" } else { "True" }) {
            return fail(format!("Degraded is {degraded:?} for {reason}: {}", ready.message));
        }
        let Ok(spec) = &object.spec else { return Ok(()) };
        if !is_well && reason != "NodeConflict" && reason != "ViolaPostError" {
            return Ok(());
        }
        let doubtful = |name: &String| expected.doubtful.contains(name);
        let count = object.status.nodes.unwrap_or(0) as usize;
        if expected.doubtful.is_empty() && count != expected.nodes.len() {
            return fail(format!("it counts {count} nodes instead of {}", expected.nodes.len()));
        }
        for (name, (vm, cards)) in &expected.nodes {
            if doubtful(name) || refused(name) {
                continue;
            }
            let told = self.books.told.get(&(spec.target().to_owned(), name.clone()));
            let Some(told) = told else { return fail(format!("Viola doesn't know {name}")) };
            // A process that was killed after a POST that it saw no answer to has no memory of it.
            // Its successor sends again what differs from the record, and cannot know more.
            if !told.is_known && told.at < self.upset_at {
                continue;
            }
            let sent = cards_of(&told.config);
            let fits = sent.is_subset(cards) && sent.len() == cards.len().min(10);
            if told.config.instance_id != *vm || !fits {
                return fail(format!("Viola holds {sent:?} of {name} instead of {cards:?}"));
            }
            for interface in &told.config.interfaces {
                let cloud = self.sky.now.state.lock();
                let mtu = cloud.network(&interface.network_id).map(|network| network.mtu);
                if mtu != Some(interface.mtu) {
                    return fail(format!("Viola holds MTU {} instead of {mtu:?}", interface.mtu));
                }
            }
            let stored = inventory.get(&spec.provider_id, name);
            if stored.is_none_or(|stored| stored.record.config != told.config) {
                return fail(format!("the inventory doesn't hold what Viola has of {name}"));
            }
            self.check_freshness(object, given, name, told.at, &told.config)?;
        }
        Ok(())
    }

    /// What must be sent again from time to time, or because somebody asked, was.
    fn check_freshness(
        &self,
        object: &OpenstackConfig,
        given: &Object,
        name: &str,
        told_at: Duration,
        config: &multinic_operator::node_config::NodeConfig,
    ) -> Result<(), Broken> {
        let fail = |what: &str| Err(format!("(c) {}: {name} {what}", object.key));
        let intervals = &self.config.intervals;
        let (at, slow) = (self.at, intervals.slow);
        let slack = slow.mul_f64(1.2) + Duration::from_secs(60);
        let sent_within = |limit: Duration| told_at + limit.mul_f64(1.2) + slack >= at;
        if let Some(forced_at) = given.forced_at.filter(|forced| *forced > self.upset_at)
            && told_at < forced_at
        {
            return fail("wasn't sent again though somebody asked for it");
        }
        if let Some(resync) = intervals.resync
            && !sent_within(resync)
        {
            return fail("wasn't sent again in its interval");
        }
        let cloud = self.sky.now.state.lock();
        let is_down = |port: &str| cloud.ports.get(port).is_some_and(|port| port.status == "DOWN");
        if config.interfaces.iter().any(|interface| is_down(&interface.port_id))
            && !sent_within(slow)
        {
            return fail("has DOWN ports and wasn't sent again");
        }
        Ok(())
    }

    /// The inventory holds what Viola holds.
    fn check_inventory(&self, inventory: &Inventory) -> Result<(), Broken> {
        for stored in inventory.iter() {
            let record = &stored.record;
            let target = record.accepted_by.clone().unwrap_or_default();
            let told = self.books.told.get(&(target, record.node_name.clone()));
            let held = told.map(|told| &told.config);
            if held != Some(&record.config) && told.is_none_or(|told| told.is_known) {
                return Err(format!("(c) the inventory has {record:?}, Viola has {held:?}"));
            }
        }
        Ok(())
    }
}
