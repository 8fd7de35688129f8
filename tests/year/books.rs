//! What a year knows of its own: what Viola was told and by whom it is known, what the disk
//! acknowledged, and who may be synced when. The invariants are checked against these.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::inventory::record::Record;
use multinic_operator::node_config::NodeConfig;
use multinic_operator::resources::{Spec, SubnetSelector};
use simulated_cloud::state::{CloudState, Port, Subnet};

use crate::world::NAME_KEY;

/// What Viola holds of one node.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) provider: String,
    pub(crate) config: NodeConfig,
    /// The operator was told that it was accepted, and hasn't lost that since.
    pub(crate) is_known: bool,
    pub(crate) at: Duration,
    /// The cloud's version then.
    version: u64,
    /// What the operator remembered of the VM then.
    remembered: Option<NodeConfig>,
}

/// Provider and VM, or provider and node.
type Key = (String, String);

#[derive(Default)]
pub(crate) struct Books {
    /// By Biz cluster and node.
    pub(crate) told: BTreeMap<Key, Told>,
    /// What Viola was last told of a VM, under whatever name.
    last: BTreeMap<Key, Told>,
    /// Records of which the disk said that it has them.
    pub(crate) durable: BTreeMap<Key, Record>,
    /// Every MTU a network had, and since when.
    mtus: BTreeMap<String, Vec<(Duration, u32)>>,
    /// Accepted resends for DOWN ports, and the last of them, by object.
    resends: BTreeMap<String, (u32, Duration)>,
    /// The hash of the DOWN ports these were for.
    down: BTreeMap<String, String>,
    pub(crate) version: u64,
    /// Nodes whose last POST this process wasn't told the success of.
    doubted: BTreeSet<Key>,
}

/// What a pass was to do, and the clouds it may have seen.
pub(crate) struct Sight<'a> {
    pub(crate) spec: &'a Spec,
    /// Before and after a change in its middle; twice the same without one.
    pub(crate) clouds: [&'a CloudState; 2],
    pub(crate) nova_failed: bool,
    pub(crate) name_key: bool,
    pub(crate) statuses: &'a [&'a str],
    /// How long an MTU may be believed.
    pub(crate) mtu_life: Duration,
}

/// An interface without its id and MTU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Card {
    pub(crate) port: String,
    mac: String,
    address: IpAddr,
    cidr: String,
    network: String,
    subnet: String,
}

/// The subnets that a spec may mean.
pub(crate) fn subnets<'a>(cloud: &'a CloudState, spec: &Spec) -> Vec<&'a Subnet> {
    let project = |subnet: &Subnet| {
        cloud.network(&subnet.network_id).is_some_and(|n| n.project_id == spec.project_id)
    };
    match &spec.subnet {
        None => Vec::new(),
        Some(SubnetSelector::Id(id)) => cloud.subnet(id).into_iter().collect(),
        Some(SubnetSelector::Name(name)) => {
            cloud.subnets.iter().filter(|s| s.name == *name && project(s)).collect()
        }
    }
}

/// What a VM's ports in a subnet come to, however many they are.
pub(crate) fn cards(
    cloud: &CloudState,
    spec: &Spec,
    subnet: &Subnet,
    vm: &str,
    statuses: &[&str],
) -> BTreeSet<Card> {
    let card = |port: &Port| {
        let addresses = port.fixed_ips.iter().filter(|ip| ip.subnet_id == subnet.id);
        let address = addresses.map(|ip| ip.ip_address.parse().unwrap()).min()?;
        Some(Card {
            port: port.id.clone(),
            mac: port.mac_address.to_ascii_lowercase(),
            address,
            cidr: subnet.cidr.clone(),
            network: subnet.network_id.clone(),
            subnet: subnet.id.clone(),
        })
    };
    cloud
        .ports
        .of_device(vm)
        .filter(|port| port.project_id == spec.project_id && port.network_id == subnet.network_id)
        .filter(|port| statuses.contains(&port.status.as_str()))
        .filter_map(card)
        .collect()
}

/// A VM's node name.
pub(crate) fn node_name(cloud: &CloudState, vm: &str, name_key: bool) -> String {
    let Some((_, server)) = cloud.servers.get(vm) else { return vm.to_owned() };
    let metadata = server.metadata.get(NAME_KEY).filter(|_| name_key);
    metadata.unwrap_or(&server.name).trim().to_owned()
}

pub(crate) fn cards_of(config: &NodeConfig) -> BTreeSet<Card> {
    let card = |interface: &multinic_operator::node_config::Interface| Card {
        port: interface.port_id.clone(),
        mac: interface.mac_address.clone(),
        address: interface.address,
        cidr: interface.cidr.to_string(),
        network: interface.network_id.to_string(),
        subnet: interface.subnet_id.to_string(),
    };
    config.interfaces.iter().map(card).collect()
}

impl Books {
    /// The cloud may have changed.
    pub(crate) fn note_cloud(&mut self, at: Duration, cloud: &CloudState) {
        self.version += 1;
        for network in &cloud.networks {
            let known = self.mtus.entry(network.id.clone()).or_default();
            if known.last().is_none_or(|(_, mtu)| *mtu != network.mtu) {
                known.push((at, network.mtu));
            }
        }
    }

    /// (a): what is sent is what the cloud said.
    pub(crate) fn check_truth(
        &self,
        at: Duration,
        node: &NodeConfig,
        sight: &Sight<'_>,
        inventory: &Inventory,
    ) -> Result<(), String> {
        let Sight { spec, clouds, name_key, statuses, .. } = *sight;
        let vm = &node.instance_id;
        let fail = |what: String| Err(format!("(a) node {}: {what}", node.node_name));
        if !spec.vm_ids.contains(vm) {
            return fail(format!("VM {vm} isn't one of the object's"));
        }
        let mut names: BTreeSet<String> =
            clouds.iter().map(|cloud| node_name(cloud, vm, name_key)).collect();
        if sight.nova_failed {
            let known = inventory.by_instance(&spec.provider_id, vm);
            names.extend(known.iter().map(|stored| stored.record.node_name.clone()));
        }
        if !names.contains(&node.node_name) {
            return fail(format!("VM {vm} is named {names:?}"));
        }
        let sent = cards_of(node);
        if sent.is_empty() || sent.len() != node.interfaces.len() || sent.len() > 10 {
            return fail(format!("{} interfaces", node.interfaces.len()));
        }
        let mut true_of_one = false;
        let mut last = String::new();
        for subnet in clouds.iter().flat_map(|cloud| subnets(cloud, spec)) {
            let [before, after] = clouds.map(|cloud| cards(cloud, spec, subnet, vm, statuses));
            let known: BTreeSet<Card> = before.union(&after).cloned().collect();
            let ports = |cards: &BTreeSet<Card>| -> BTreeSet<String> {
                cards.iter().map(|card| card.port.clone()).collect()
            };
            let lasting: BTreeSet<String> =
                ports(&before).intersection(&ports(&after)).cloned().collect();
            let whole = sent.len() == 10 || lasting.is_subset(&ports(&sent));
            if sent.is_subset(&known) && whole {
                true_of_one = true;
            } else {
                last = format!("the cloud has {known:?}, sent were {sent:?}");
            }
        }
        if !true_of_one {
            return fail(last);
        }
        let since = at.saturating_sub(sight.mtu_life);
        for interface in &node.interfaces {
            let history = self.mtus.get(&*interface.network_id).cloned().unwrap_or_default();
            let current = history.iter().rposition(|(from, _)| *from <= since).unwrap_or(0);
            if !history[current..].iter().any(|(_, mtu)| *mtu == interface.mtu) {
                return fail(format!("MTU {} isn't one of {history:?}", interface.mtu));
            }
        }
        Ok(())
    }

    /// (b): a port keeps its id for as long as it stays on the node; (d): what was accepted and not
    /// recorded is sent again the same.
    pub(crate) fn check_ids(
        &self,
        provider: &str,
        target: &str,
        node: &NodeConfig,
        remembered: Option<&NodeConfig>,
    ) -> Result<(), String> {
        let vm = (provider.to_owned(), node.instance_id.clone());
        if let Some(last) = self.last.get(&vm) {
            for interface in &node.interfaces {
                let before = last.config.interfaces.iter().find(|i| i.port_id == interface.port_id);
                if let Some(before) = before.filter(|before| before.id != interface.id)
                    && last.is_known
                {
                    return Err(format!(
                        "(b) port {} of VM {} was multinic{} and is sent as multinic{}",
                        interface.port_id, node.instance_id, before.id, interface.id
                    ));
                }
            }
        }
        let told = self.told.get(&(target.to_owned(), node.node_name.clone()));
        if let Some(told) = told.filter(|told| {
            !told.is_known
                && told.version == self.version
                && told.config.instance_id == node.instance_id
                && told.remembered.as_ref() == remembered
                && told.provider == provider
        }) && cards_of(&told.config) == cards_of(node)
            && told.config.interfaces.iter().zip(&node.interfaces).any(|(a, b)| a.id != b.id)
        {
            let name = &node.node_name;
            return Err(format!("(d) node {name} was accepted and isn't sent again the same"));
        }
        Ok(())
    }

    /// A POST of a node ended, and the operator was told that it was accepted, or wasn't.
    pub(crate) fn note_answer(&mut self, target: &str, node: &str, is_accepted: bool) {
        let key = (target.to_owned(), node.to_owned());
        if is_accepted {
            self.doubted.remove(&key);
        } else {
            self.doubted.insert(key);
        }
    }

    /// Is there reason to send a node again though it is as it was recorded?
    pub(crate) fn is_doubted(&self, target: &str, node: &str) -> bool {
        self.doubted.contains(&(target.to_owned(), node.to_owned()))
    }

    /// A process starts and has no doubts.
    pub(crate) fn forget_doubts(&mut self) {
        self.doubted.clear();
    }

    /// Viola took a node.
    pub(crate) fn tell(
        &mut self,
        at: Duration,
        provider: &str,
        target: &str,
        node: &NodeConfig,
        is_known: bool,
        remembered: Option<NodeConfig>,
    ) {
        let told = Told {
            provider: provider.to_owned(),
            config: node.clone(),
            is_known,
            at,
            version: self.version,
            remembered,
        };
        // The inventory's key is the node: a VM whose name another one got is remembered no more.
        for ((of, vm), last) in &mut self.last {
            if *of == provider && *vm != node.instance_id {
                last.is_known &= last.config.node_name != node.node_name;
            }
        }
        self.last.insert((provider.to_owned(), node.instance_id.clone()), told.clone());
        self.told.insert((target.to_owned(), node.node_name.clone()), told);
    }

    /// The disk has everything that memory has.
    pub(crate) fn note_durable(&mut self, inventory: &Inventory) {
        let record = |record: &Record| {
            ((record.provider_id.clone(), record.node_name.clone()), record.clone())
        };
        self.durable = inventory.iter().map(|stored| record(&stored.record)).collect();
    }

    /// (d): after a start, everything acknowledged is there, and nothing that Viola never accepted.
    /// What the operator has lost with its memory is known to it no more.
    pub(crate) fn check_found(&mut self, found: &Inventory) -> Result<(), String> {
        for ((provider, node), record) in &self.durable {
            let newer = |known: &Record| {
                let told = |told: &&Told| told.config == known.config;
                *known == *record || self.told.values().find(told).is_some()
            };
            let vm = found.by_instance(provider, &record.instance_id);
            let is_there = match found.get(provider, node) {
                Some(stored) => newer(&stored.record),
                None => vm.iter().any(|stored| newer(&stored.record)),
            };
            if !is_there {
                return Err(format!(
                    "(d) the accepted node {node} isn't in the inventory after a start"
                ));
            }
        }
        for told in self.told.values_mut().chain(self.last.values_mut()) {
            let stored = found.get(&told.provider, &told.config.node_name);
            told.is_known &= stored.is_some_and(|stored| stored.record.config == told.config);
        }
        self.resends.clear();
        self.note_durable(found);
        Ok(())
    }

    /// (e): a node is sent for its DOWN ports a few times soon, then rarely.
    pub(crate) fn check_resend(
        &self,
        at: Duration,
        uid: &str,
        (most, fast, slow): (u32, Duration, Duration),
    ) -> Result<(), String> {
        let Some((count, last)) = self.resends.get(uid) else { return Ok(()) };
        let least = if *count >= most { slow } else { fast };
        if at < *last + least {
            let waited = at.saturating_sub(*last);
            return Err(format!(
                "(e) resend {} for DOWN ports of {uid} after {waited:?}",
                count + 1
            ));
        }
        Ok(())
    }

    /// A resend for DOWN ports was accepted.
    pub(crate) fn note_resend(&mut self, at: Duration, uid: &str) {
        let known = self.resends.entry(uid.to_owned()).or_insert((0, at));
        *known = (known.0 + 1, at);
    }

    /// The set of DOWN ports that a pass counts for: another one begins a new count.
    pub(crate) fn note_down(&mut self, uid: &str, hash: Option<&str>) {
        if self.down.get(uid).map(String::as_str) != hash {
            self.resends.remove(uid);
            self.down.remove(uid);
            self.down.extend(hash.map(|hash| (uid.to_owned(), hash.to_owned())));
        }
    }

    /// Clocks jumped: intervals by the wall clock mean nothing for once.
    pub(crate) fn forget_resends(&mut self) {
        self.resends.clear();
    }
}
