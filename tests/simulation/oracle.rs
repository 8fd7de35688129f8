//! What a simulation knows of its own: what Viola was told and by whom it is known, what the disk
//! acknowledged, and who may be synced when. The invariants are checked against these.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::inventory::record::Record;
use multinic_operator::node_config::{MAX_INTERFACES, NodeConfig};
use multinic_operator::resources::{Spec, SubnetSelector};
use simulated_cloud::state::{CloudState, Port, Subnet};

use crate::cloud::NAME_KEY;

/// What Viola holds of one node.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
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

/// The id a port was told with, which is its own for as long as the cloud lists it with the VM.
#[derive(Clone, Debug)]
struct Kept {
    id: u8,
    /// Whoever asks for another project's ports isn't told of it.
    project: String,
}

/// So many states of the cloud are kept: more than there are during one pass.
const HISTORY: usize = 100;

/// By VM and port.
type Ids = BTreeMap<Key, BTreeMap<String, Kept>>;

#[derive(Default)]
pub(crate) struct Oracle {
    /// By Biz cluster and node.
    pub(crate) told: BTreeMap<Key, Sent>,
    /// What Viola was last told of a VM, under whatever name.
    last: BTreeMap<Key, Sent>,
    /// The ids that the operator has to remember, and those of which the disk said that it has them.
    ids: Ids,
    durable_ids: Ids,
    /// The VM of each port.
    places: BTreeMap<String, String>,
    /// Records of which the disk said that it has them.
    pub(crate) durable: BTreeMap<Key, Record>,
    /// Every MTU a network had, and since when.
    mtus: BTreeMap<String, Vec<(Duration, u32)>>,
    /// Accepted resends for DOWN ports, and the last of them, by object.
    resends: BTreeMap<String, (u32, Duration)>,
    /// The hash of the DOWN ports these were for.
    down: BTreeMap<String, String>,
    pub(crate) version: u64,
    /// The cloud at the latest versions.
    history: VecDeque<(u64, Arc<CloudState>)>,
    /// Nodes whose last POST this process wasn't told the success of.
    unconfirmed: BTreeSet<Key>,
}

/// What a pass was to do, and the cloud as it may have seen it.
pub(crate) struct Sight<'a> {
    pub(crate) spec: &'a Spec,
    /// All its states since the pass began; at least one.
    pub(crate) clouds: &'a [&'a CloudState],
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

/// The lists of subnets that a spec may mean: a name may mean one of several.
pub(crate) fn subnets<'a>(cloud: &'a CloudState, spec: &Spec) -> Vec<Vec<&'a Subnet>> {
    let project = |subnet: &Subnet| {
        cloud.network(&subnet.network_id).is_some_and(|n| n.project_id == spec.project_id)
    };
    if let [SubnetSelector::Name(name)] = &spec.subnets[..] {
        let named = cloud.subnets.iter().filter(|s| s.name == *name && project(s));
        return named.map(|subnet| vec![subnet]).collect();
    }
    let by_id = |selector: &SubnetSelector| match selector {
        SubnetSelector::Id(id) => cloud.subnet(id),
        SubnetSelector::Name(_) => None,
    };
    let all: Option<Vec<&Subnet>> = spec.subnets.iter().map(by_id).collect();
    all.into_iter().filter(|all| !all.is_empty()).collect()
}

/// What a VM's ports in the subnets come to, however many they are.
pub(crate) fn cards(
    cloud: &CloudState,
    spec: &Spec,
    subnets: &[&Subnet],
    vm: &str,
    statuses: &[&str],
) -> BTreeSet<Card> {
    let card = |port: &Port| {
        let addresses = |subnet: &&Subnet| {
            let addresses = port.fixed_ips.iter().filter(|ip| ip.subnet_id == subnet.id);
            addresses.map(|ip| ip.ip_address.parse().unwrap()).min()
        };
        let of_network = subnets.iter().filter(|subnet| subnet.network_id == port.network_id);
        let (subnet, address) =
            of_network.copied().find_map(|subnet| Some((subnet, addresses(&subnet)?)))?;
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
        .filter(|port| port.project_id == spec.project_id)
        .filter(|port| statuses.contains(&port.status.as_str()))
        .filter_map(card)
        .collect()
}

/// The node name that Nova confirms of a VM. A server of another project is as good as none.
pub(crate) fn confirmed_name(
    cloud: &CloudState,
    project: &str,
    vm: &str,
    name_key: bool,
) -> Option<String> {
    let server = cloud.servers.get(vm).map(|(_, server)| server);
    let server = server.filter(|server| server.project_id == project)?;
    let metadata = server.metadata.get(NAME_KEY).filter(|_| name_key);
    Some(metadata.unwrap_or(&server.name).trim().to_owned())
}

/// The same, or the VM's id.
pub(crate) fn node_name(cloud: &CloudState, project: &str, vm: &str, name_key: bool) -> String {
    confirmed_name(cloud, project, vm, name_key).unwrap_or_else(|| vm.to_owned())
}

/// The last known name of a VM, which counts while Nova doesn't confirm one.
pub(crate) fn last_known_name(inventory: &Inventory, vm: &str) -> Option<String> {
    let records = inventory.by_vm(vm).into_iter().map(|stored| &stored.record);
    let named = records.filter(|record| !record.node_name.eq_ignore_ascii_case(vm));
    named.max_by_key(|record| record.updated_at).map(|record| record.node_name.clone())
}

/// Interfaces that the VM's node has for ports that are BUILD now, whatever it was called when they
/// were sent: they stay as the target last accepted them.
pub(crate) fn kept_interfaces<'a>(
    cloud: &CloudState,
    spec: &Spec,
    vm: &str,
    inventory: &'a Inventory,
) -> Vec<&'a multinic_operator::node_config::Interface> {
    let Some(subnets) = subnets(cloud, spec).into_iter().next() else { return Vec::new() };
    let accepted = |record: &&Record| match &record.accepted_by {
        Some(target) => target == spec.target(),
        None => [spec.target(), &spec.provider_id].contains(&record.provider_id.as_str()),
    };
    let records = inventory.by_vm(vm).into_iter().map(|stored| &stored.record).filter(accepted);
    let records: Vec<&Record> = records.collect();
    let kept = |card: &Card| {
        let sent = records.iter().flat_map(|record| {
            record.config.interfaces.iter().map(|interface| (record.updated_at, interface))
        });
        let sent = sent.filter(|(_, interface)| interface.port_id == card.port);
        sent.max_by_key(|(at, _)| *at).map(|(_, interface)| interface)
    };
    cards(cloud, spec, &subnets, vm, &["BUILD"]).iter().filter_map(kept).collect()
}

fn card_of(interface: &multinic_operator::node_config::Interface) -> Card {
    Card {
        port: interface.port_id.clone(),
        mac: interface.mac_address.clone(),
        address: interface.address,
        cidr: interface.cidr.to_string(),
        network: interface.network_id.to_string(),
        subnet: interface.subnet_id.to_string(),
    }
}

pub(crate) fn cards_of(config: &NodeConfig) -> BTreeSet<Card> {
    config.interfaces.iter().map(card_of).collect()
}

/// What is wrong with the cards that a node was sent, where its VM had these at one time after the
/// other, and may have kept those: none is invented, and none is left out that was there all the time.
pub(crate) fn check_cards(
    node: &NodeConfig,
    seen: &[BTreeSet<Card>],
    kept: &BTreeSet<Card>,
) -> Result<(), String> {
    let sent = cards_of(node);
    if sent.is_empty() || sent.len() != node.interfaces.len() || sent.len() > 10 {
        return Err(format!("{} interfaces", node.interfaces.len()));
    }
    let known: BTreeSet<&Card> = seen.iter().flatten().chain(kept).collect();
    if let Some(invented) = sent.iter().find(|card| !known.contains(card)) {
        return Err(format!("the cloud never had {invented:?}; it had {known:?}"));
    }
    let ports = |cards: &BTreeSet<Card>| -> BTreeSet<String> {
        cards.iter().map(|card| card.port.clone()).collect()
    };
    let lasting = seen.iter().map(ports).reduce(|a, b| &a & &b).unwrap_or_default();
    if sent.len() < 10 && !lasting.is_subset(&ports(&sent)) {
        return Err(format!("ports are left out: {lasting:?} were there, sent were {sent:?}"));
    }
    Ok(())
}

/// What a node should have: its VM's ports in the subnets, and those that stay as they are.
pub(crate) fn wanted_cards(
    cloud: &CloudState,
    spec: &Spec,
    subnets: &[&Subnet],
    vm: &str,
    inventory: &Inventory,
) -> BTreeSet<Card> {
    let mut wanted = cards(cloud, spec, subnets, vm, &["ACTIVE", "DOWN"]);
    let kept = kept_interfaces(cloud, spec, vm, inventory);
    wanted.extend(kept.into_iter().map(card_of));
    wanted
}

impl Oracle {
    /// The cloud may have changed.
    pub(crate) fn note_cloud(&mut self, at: Duration, cloud: &CloudState) {
        self.version += 1;
        self.history.push_back((self.version, Arc::new(cloud.clone())));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.places =
            cloud.ports.iter().map(|port| (port.id.clone(), port.device_id.clone())).collect();
        for ((_, vm), ports) in self.ids.iter_mut().chain(&mut self.durable_ids) {
            ports.retain(|port, _| self.places.get(port) == Some(vm));
        }
        for network in &cloud.networks {
            let known = self.mtus.entry(network.id.clone()).or_default();
            if known.last().is_none_or(|(_, mtu)| *mtu != network.mtu) {
                known.push((at, network.mtu));
            }
        }
    }

    /// The states of the cloud from that version on.
    pub(crate) fn clouds_since(&self, version: u64) -> Vec<Arc<CloudState>> {
        let since = self.history.iter().filter(|(known, _)| *known >= version);
        since.map(|(_, cloud)| Arc::clone(cloud)).collect()
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
            clouds.iter().map(|cloud| node_name(cloud, &spec.project_id, vm, name_key)).collect();
        let confirmed =
            |cloud: &&CloudState| confirmed_name(cloud, &spec.project_id, vm, name_key).is_some();
        if sight.nova_failed || !clouds.iter().all(confirmed) {
            let known = inventory.by_vm(vm);
            names.extend(known.iter().map(|stored| stored.record.node_name.clone()));
            if !clouds.iter().any(confirmed) && last_known_name(inventory, vm).is_some() {
                names.remove(vm);
            }
        }
        if !names.contains(&node.node_name) {
            return fail(format!("VM {vm} is named {names:?}"));
        }
        let mut found = Err("the cloud has no such subnet".to_owned());
        for subnets in clouds.iter().flat_map(|cloud| subnets(cloud, spec)) {
            let seen = clouds.iter().map(|cloud| {
                let kept = kept_interfaces(cloud, spec, vm, inventory);
                let cards = cards(cloud, spec, &subnets, vm, statuses);
                cards.into_iter().chain(kept.into_iter().map(card_of)).collect::<BTreeSet<Card>>()
            });
            found = check_cards(node, &seen.collect::<Vec<_>>(), &BTreeSet::new());
            if found.is_ok() {
                break;
            }
        }
        if let Err(what) = found {
            return fail(what);
        }
        let since = at.saturating_sub(sight.mtu_life);
        let kept = clouds.iter().flat_map(|cloud| kept_interfaces(cloud, spec, vm, inventory));
        let kept: BTreeSet<_> = kept.map(|one| (one.port_id.as_str(), one.mtu)).collect();
        for interface in &node.interfaces {
            if kept.contains(&(interface.port_id.as_str(), interface.mtu)) {
                continue;
            }
            let history = self.mtus.get(&*interface.network_id).cloned().unwrap_or_default();
            let current = history.iter().rposition(|(from, _)| *from <= since).unwrap_or(0);
            if !history[current..].iter().any(|(_, mtu)| *mtu == interface.mtu) {
                return fail(format!("MTU {} isn't one of {history:?}", interface.mtu));
            }
        }
        Ok(())
    }

    /// (b): a port keeps its id for as long as the cloud lists it with the VM, whether or not it can be
    /// used meanwhile; (d): what was accepted and not recorded is sent again the same.
    pub(crate) fn check_ids(
        &self,
        spec: &Spec,
        node: &NodeConfig,
        remembered: Option<&NodeConfig>,
    ) -> Result<(), String> {
        let (provider, target) = (&spec.provider_id, spec.target());
        let vm = (provider.clone(), node.instance_id.clone());
        for (port, kept) in self.ids.get(&vm).into_iter().flatten() {
            if kept.project != spec.project_id {
                continue;
            }
            let fail = |what: String| {
                let id = kept.id;
                Err(format!("(b) port {port} of VM {} was multinic{id} and {what}", vm.1))
            };
            if let Some(sent) = node.interfaces.iter().find(|one| one.port_id == *port) {
                if sent.id != kept.id {
                    return fail(format!("is sent as multinic{}", sent.id));
                }
            } else if let Some(other) = node.interfaces.iter().find(|one| one.id == kept.id)
                && node.interfaces.len() < MAX_INTERFACES
            {
                return fail(format!("is still there; port {} is sent as that", other.port_id));
            }
        }
        let told = self.told.get(&(target.to_owned(), node.node_name.clone()));
        if let Some(told) = told.filter(|told| {
            !told.is_known
                && told.version == self.version
                && told.config.instance_id == node.instance_id
                && told.remembered.as_ref() == remembered
                && told.provider == *provider
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
            self.unconfirmed.remove(&key);
        } else {
            self.unconfirmed.insert(key);
        }
    }

    /// Is there reason to send a node again though it is as it was recorded?
    pub(crate) fn is_unconfirmed(&self, target: &str, node: &str) -> bool {
        self.unconfirmed.contains(&(target.to_owned(), node.to_owned()))
    }

    /// A process starts and has no doubts.
    pub(crate) fn forget_unconfirmed(&mut self) {
        self.unconfirmed.clear();
    }

    /// Viola took a node.
    pub(crate) fn tell(
        &mut self,
        at: Duration,
        spec: &Spec,
        node: &NodeConfig,
        is_known: bool,
        remembered: Option<NodeConfig>,
    ) {
        let provider = &spec.provider_id;
        let told = Sent {
            provider: provider.clone(),
            config: node.clone(),
            is_known,
            at,
            version: self.version,
            remembered,
        };
        // The inventory's key is the node: a VM whose name another one got is remembered no more.
        for ((of, vm), last) in &mut self.last {
            if of == provider && *vm != node.instance_id && last.config.node_name == node.node_name
            {
                last.is_known = false;
                self.ids.remove(&(of.clone(), vm.clone()));
            }
        }
        if is_known {
            self.note_ids(spec, node);
        }
        self.last.insert((provider.clone(), node.instance_id.clone()), told.clone());
        self.told.insert((spec.target().to_owned(), node.node_name.clone()), told);
    }

    fn note_ids(&mut self, spec: &Spec, node: &NodeConfig) {
        let vm = &node.instance_id;
        let kept = self.ids.entry((spec.provider_id.clone(), vm.clone())).or_default();
        // Where all ten ids are needed, ports that can't be used give way.
        let is_used = |id: u8| node.interfaces.iter().any(|one| one.id == id);
        kept.retain(|_, kept| kept.project == spec.project_id && !is_used(kept.id));
        let still_there =
            node.interfaces.iter().filter(|one| self.places.get(&one.port_id) == Some(vm));
        kept.extend(still_there.map(|one| {
            (one.port_id.clone(), Kept { id: one.id, project: spec.project_id.clone() })
        }));
    }

    /// The disk has everything that memory has.
    pub(crate) fn note_durable(&mut self, inventory: &Inventory) {
        for (vm, ids) in &self.ids {
            // A POST that is still under way isn't recorded.
            let last = self.last.get(vm).filter(|last| last.is_known);
            let is_recorded = last.is_some_and(|last| {
                let stored = inventory.get(&vm.0, &last.config.node_name);
                stored.is_some_and(|stored| stored.record.config == last.config)
            });
            if is_recorded {
                self.durable_ids.insert(vm.clone(), ids.clone());
            } else if !self.is_durable(vm, inventory) {
                self.durable_ids.remove(vm);
            }
        }
        let record = |record: &Record| {
            ((record.provider_id.clone(), record.node_name.clone()), record.clone())
        };
        self.durable = inventory.iter().map(|stored| record(&stored.record)).collect();
    }

    /// Are these the VM's records of which the disk said that it has them?
    fn is_durable(&self, (provider, vm): &Key, inventory: &Inventory) -> bool {
        let durable = self
            .durable
            .values()
            .filter(|record| record.provider_id == *provider && record.instance_id == *vm);
        durable.eq(inventory.by_instance(provider, vm).iter().map(|stored| &stored.record))
    }

    /// After a start the operator knows the ids of what the disk said that it has; of what it has
    /// besides, those that are written there.
    fn find_ids(&mut self, found: &Inventory) {
        let mut ids = std::mem::take(&mut self.ids);
        for (vm, ids) in &mut ids {
            if self.is_durable(vm, found) {
                *ids = self.durable_ids.get(vm).cloned().unwrap_or_default();
                continue;
            }
            let records = found.by_instance(&vm.0, &vm.1);
            ids.retain(|port, kept| {
                records.iter().any(|stored| {
                    let Record { config, reserved_ids, .. } = &stored.record;
                    let told = config.interfaces.iter().map(|one| (&one.port_id, one.id));
                    let reserved = reserved_ids.iter().map(|one| (&one.port_id, one.id));
                    told.chain(reserved).any(|known| known == (port, kept.id))
                })
            });
        }
        self.ids = ids;
    }

    /// (d): after a start, everything acknowledged is there, and nothing that Viola never accepted.
    /// What the operator has lost with its memory is known to it no more.
    pub(crate) fn check_found(&mut self, found: &Inventory) -> Result<(), String> {
        let accepted = |(_, record): &(&Key, &Record)| record.was_accepted();
        for ((provider, node), record) in self.durable.iter().filter(accepted) {
            let newer = |known: &Record| {
                let told = |told: &&Sent| told.config == known.config;
                // When the same was accepted again, that is written with the next change.
                let known_at = Record { updated_at: record.updated_at, ..known.clone() };
                known_at == *record || self.told.values().find(told).is_some()
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
        self.find_ids(found);
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
