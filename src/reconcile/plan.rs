//! What each node should have, from the answers of the cloud and the inventory (steps 8 to 10). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::adoption;
use super::hints;
use super::interfaces::{Assigned, Attached, assign};
use super::memory::Memory;
use jiff::Timestamp;

use crate::cloud::fetch::{Answers, FoundSubnet, Vm};
use crate::cloud::neutron::{Port, same};
use crate::cloud::nova::ServerName;
use crate::inventory::contents::Inventory;
use crate::inventory::record::{Record, ReservedId};
use crate::node_config::{Interface, NodeConfig, is_kubernetes_name};
use crate::resources::Spec;
use crate::targets::ClusterIds;

/// A port that is BUILD for so long is named in the status.
const STUCK_AFTER: Duration = Duration::from_secs(3600);

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// What the object asks for.
    pub spec: &'a Spec,
    /// The object's uid.
    pub uid: &'a str,
    /// What Neutron and Nova answered, whole.
    pub answers: &'a Answers<'a>,
    /// Port statuses that count, in upper case; none for all.
    pub statuses: Option<&'a [String]>,
    /// A port that is older is not added to a node.
    pub ports_created_after: Option<Timestamp>,
    /// A port that is older is not added without being asked to a node of the Go operator; none where
    /// `spec.ports` or `PORTS_CREATED_AFTER` decides.
    pub held_before: Option<Timestamp>,
    /// What was accepted before: keeps ids and names stable.
    pub inventory: &'a Inventory,
    /// What the cluster has of nodes without a record; empty where it can't be asked.
    pub cluster_ids: &'a ClusterIds,
    /// [`Work::building_since`](super::Work::building_since).
    pub building_since: &'a BTreeMap<String, Duration>,
    /// The time of the pass.
    pub uptime: Duration,
}

/// What each node of an object should have, and what is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes with at least one interface, ordered by name.
    pub nodes: Vec<PlannedNode>,
    /// VMs without a usable port in the subnets.
    pub without_ports: Vec<String>,
    /// Nodes whose name is the last known one, because Nova doesn't confirm it.
    pub remembered: Vec<Unconfirmed>,
    /// VMs with ports that go by their id: Nova doesn't know them, and no name was ever known.
    pub by_id: Vec<String>,
    /// VMs with ports whose name nobody knows, and that the cluster can't have under their id.
    pub nameless: Vec<String>,
    /// Names that no Kubernetes object can have; such nodes can't be in the cluster.
    pub impossible_names: Vec<String>,
    /// VMs that Nova doesn't know, without a usable port: deleted, or never there.
    pub absent: Vec<String>,
    /// Ports of VMs with a name that become no interface.
    pub left_out: Vec<LeftOut>,
    /// VMs that are left out because Nova couldn't tell their name, and its answer.
    pub unresolved: Vec<(String, String)>,
    /// VMs that are left out because another VM has their last known name.
    pub superseded: Vec<Unconfirmed>,
    /// Nodes that are left out because their records can't be read, and what is wrong with each.
    pub unreadable: BTreeMap<String, String>,
    /// Names that several VMs share, and those VMs; none of them is sent.
    pub duplicate_names: BTreeMap<String, Vec<String>>,
    /// [`Work::building_since`](super::Work::building_since) after this pass.
    pub building_since: BTreeMap<String, Duration>,
    /// Ports that are BUILD for an hour: node and port id.
    pub stuck: Vec<(String, String)>,
    /// Nodes that the object had sent and whose VMs it no longer names.
    pub former: Vec<String>,
    /// Nodes whose VM was sent under another name only: what the VM was called and is called now.
    pub renamed: Vec<(String, String)>,
    /// What is likely a mistake, though nothing failed.
    pub hints: Vec<String>,
    /// What the inventory knows of the object, from [`memory::of`](super::memory::of).
    pub memory: Memory,
}

/// A port that becomes no interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The node's name.
    pub node_name: String,
    /// The port.
    pub port_id: String,
    /// The port's status.
    pub status: Arc<str>,
    /// Why.
    pub why: Unusable,
}

/// A VM whose last known name is used in place of Nova's answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unconfirmed {
    /// The name.
    pub node_name: String,
    /// The VM.
    pub vm_id: String,
    /// Why Nova doesn't confirm it.
    pub why: String,
}

impl Plan {
    /// Leaves out nodes whose records can't be read: the ids of their ports aren't known.
    pub(super) fn without_unreadable(mut self, inventory: &Inventory) -> Plan {
        self.nodes.retain(|node| {
            let NodeConfig { node_name, instance_id, .. } = &node.config;
            let why = inventory.unreadable(node_name).or_else(|| inventory.unreadable(instance_id));
            if let Some(why) = why {
                self.unreadable.insert(node_name.clone(), why.to_owned());
            }
            why.is_none()
        });
        self
    }

    fn leave_out(&mut self, node_name: &str, port: &Port, why: Unusable) {
        let (node_name, port_id) = (node_name.to_owned(), port.id.clone());
        let status = Arc::clone(&port.status);
        self.left_out.push(LeftOut { node_name, port_id, status, why });
    }
}

/// One node to be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedNode {
    /// What it should have.
    pub config: NodeConfig,
    /// Ids of its interfaces' ports with status DOWN, sorted.
    pub down_ports: Vec<String>,
    /// Ports over the limit of interfaces.
    pub over_limit: usize,
    /// New ports that are older than the object, if the Go operator had configured the node.
    pub older_ports: Vec<String>,
    /// Ids of ports that are on its VM and can't be used now. They are no reason to send it.
    pub reserved: Vec<ReservedId>,
}

/// Where a node's name comes from.
enum Name {
    Confirmed(String),
    Remembered(String, String),
    VmId(String),
}

/// Makes the plan. The same sources give the same plan.
pub fn plan(sources: &Sources<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut by_name: BTreeMap<String, Vec<(&Vm<'_>, Name)>> = BTreeMap::new();
    for vm in &sources.answers.vms {
        match name_of(sources, vm) {
            Ok(name) => {
                let (Name::Confirmed(text) | Name::Remembered(text, _) | Name::VmId(text)) = &name;
                by_name.entry(text.clone()).or_default().push((vm, name));
            }
            Err(error) => plan.unresolved.push((vm.id.to_owned(), error)),
        }
    }
    for (name, mut vms) in by_name {
        // A remembered name never stands against a confirmed one.
        if vms.len() > 1 && vms.iter().any(|(_, name)| matches!(name, Name::Confirmed(_))) {
            vms.retain(|(vm, of)| match of {
                Name::Remembered(_, why) => {
                    plan.superseded.push(unconfirmed(&name, vm, why));
                    false
                }
                Name::Confirmed(_) | Name::VmId(_) => true,
            });
        }
        if vms.len() > 1 {
            let vm_ids = vms.iter().map(|(vm, _)| vm.id.to_owned()).collect();
            plan.duplicate_names.insert(name, vm_ids);
        } else if let Some((vm, of)) = vms.pop() {
            let node = node(sources, vm, &name, &mut plan);
            // The agent's controller stumbles over nodes that don't exist.
            if node.is_some() && sources.spec.destination.is_kubernetes() {
                let left_out = match &of {
                    Name::VmId(_) => Some((&mut plan.nameless, vm.id)),
                    _ if !is_kubernetes_name(&name) => Some((&mut plan.impossible_names, &*name)),
                    _ => None,
                };
                if let Some((list, what)) = left_out {
                    list.push(what.to_owned());
                    plan.left_out.retain(|port| port.node_name != name);
                    continue;
                }
            }
            let is_unknown = *vm.name == ServerName::Unknown;
            match (node.is_some(), of) {
                (true, Name::Confirmed(_)) => {}
                (true, Name::Remembered(_, why)) => {
                    plan.remembered.push(unconfirmed(&name, vm, &why));
                }
                (true, Name::VmId(_)) if is_unknown => plan.by_id.push(vm.id.to_owned()),
                (true, Name::VmId(_)) => {}
                (false, _) if is_unknown => plan.absent.push(vm.id.to_owned()),
                (false, _) => plan.without_ports.push(vm.id.to_owned()),
            }
            plan.nodes.extend(node);
        }
    }
    plan.former = former(sources, &plan);
    plan.renamed = plan.nodes.iter().filter_map(|node| renamed(sources, &node.config)).collect();
    plan.hints = hints::hints(sources, &plan);
    plan
}

/// What was sent of a VM stays when the object no longer names it.
fn former(sources: &Sources<'_>, plan: &Plan) -> Vec<String> {
    let records = sources.inventory.by_owner(sources.uid).into_iter().map(|stored| &stored.record);
    let named: BTreeSet<&str> = sources.spec.vm_ids.iter().map(String::as_str).collect();
    let is_former = |record: &&Record| {
        record.was_accepted()
            && !named.contains(&*record.instance_id.to_ascii_lowercase())
            && plan.nodes.iter().all(|node| node.config.node_name != record.node_name)
    };
    records.filter(is_former).map(|record| record.node_name.clone()).collect()
}

/// The name that the VM's node had before, if nothing was accepted under the present one.
fn renamed(sources: &Sources<'_>, node: &NodeConfig) -> Option<(String, String)> {
    let mut records = sources.inventory.by_vm(&node.instance_id);
    records.retain(|stored| {
        stored.record.was_accepted() && stored.record.is_accepted_by(sources.spec.target())
    });
    if records.iter().any(|stored| stored.record.node_name == node.node_name) {
        return None;
    }
    let last = records.iter().max_by_key(|stored| stored.record.updated_at)?;
    Some((last.record.node_name.clone(), node.node_name.clone()))
}

fn unconfirmed(name: &str, vm: &Vm<'_>, why: &str) -> Unconfirmed {
    Unconfirmed { node_name: name.to_owned(), vm_id: vm.id.to_owned(), why: why.to_owned() }
}

/// The VM's node name. An error is Nova's, about a VM of which no name was ever known: its id would
/// be an invented node.
fn name_of(sources: &Sources<'_>, vm: &Vm<'_>) -> Result<Name, String> {
    let (why, may_use_id) = match vm.name {
        ServerName::Known(Some(name)) => return Ok(Name::Confirmed(name.clone())),
        ServerName::Known(None) => return Ok(Name::VmId(vm.id.to_owned())),
        ServerName::Unknown => ("Nova doesn't know its VM".to_owned(), true),
        ServerName::NoEndpoint => ("the catalog has no compute endpoint".to_owned(), true),
        ServerName::Failed(error) => (error.to_string(), false),
    };
    let records = sources.inventory.by_vm(vm.id).into_iter().map(|stored| &stored.record);
    let last = records
        .max_by_key(|record| (!record.node_name.eq_ignore_ascii_case(vm.id), record.updated_at));
    match last {
        Some(last) if !last.node_name.eq_ignore_ascii_case(vm.id) => {
            Ok(Name::Remembered(last.node_name.clone(), why))
        }
        Some(_) => Ok(Name::VmId(vm.id.to_owned())),
        None if may_use_id => Ok(Name::VmId(vm.id.to_owned())),
        None => Err(why),
    }
}

fn node(sources: &Sources<'_>, vm: &Vm<'_>, name: &str, plan: &mut Plan) -> Option<PlannedNode> {
    let Sources { answers, spec, inventory, .. } = *sources;
    let record = inventory.get(&spec.provider_id, name).map(|stored| &stored.record);
    let record = record.or_else(|| {
        let mut records = inventory.by_vm(vm.id).into_iter().map(|stored| &stored.record);
        records.find(|record| record.node_name == name && is_ours(sources, record))
    });
    let (mut all_attached, mut left_out) = (Vec::new(), Vec::new());
    // Neutron sets ACTIVE ports to BUILD for seconds when an agent restarts, so a port that the node
    // has stays as it is.
    let mut kept: Vec<&Interface> = Vec::new();
    for port in vm.ports {
        let found = attached(port, &answers.subnets);
        // A port that was never sent reserves no id.
        if found.is_ok()
            && let Some(why) = filtered_by(sources, port)
            && !was_sent(sources, vm, record, &port.id)
        {
            plan.leave_out(name, port, why);
            continue;
        }
        let usable = found.and_then(|attached| {
            if !is_allowed(&port.status, sources.statuses) {
                kept.push(sent_interface(sources, vm.id, port).ok_or(Unusable::Status)?);
                note_building(sources, name, port, plan);
            }
            Ok(attached)
        });
        match usable {
            Ok(attached) => all_attached.push(attached),
            Err(why) => {
                left_out.push(port);
                plan.leave_out(name, port, why);
            }
        }
    }
    if all_attached.is_empty() {
        return None;
    }
    let assigned = assign(
        &all_attached,
        &left_out,
        &remembered_ids(sources, vm, record, sources.cluster_ids.get(name)),
    );
    let mut interfaces = assigned.interfaces();
    for interface in &mut interfaces {
        if let Some(kept) = kept.iter().find(|kept| kept.port_id == interface.port_id) {
            *interface =
                Interface { id: interface.id, name: interface.name.clone(), ..(*kept).clone() };
        }
    }
    let Assigned { ports, reserved, over_limit } = assigned;
    if over_limit > 0 {
        let is_left = |attached: &&Attached<'_>| ports.iter().all(|(_, one)| one != *attached);
        for attached in all_attached.iter().filter(is_left) {
            plan.leave_out(name, attached.port, Unusable::OverLimit);
        }
    }
    let down = ports.iter().filter(|(_, attached)| *attached.port.status == *"DOWN");
    let mut down_ports: Vec<String> = down.map(|(_, down)| down.port.id.clone()).collect();
    down_ports.sort_unstable();
    let reserved =
        reserved.iter().map(|(port_id, id)| ReservedId { port_id: (*port_id).to_owned(), id: *id });
    let reserved = reserved.collect();
    let older_ports = older_ports(sources, vm, record, &ports);
    let (node_name, instance_id) = (name.to_owned(), vm.id.to_owned());
    let config = NodeConfig { node_name, instance_id, interfaces };
    Some(PlannedNode { config, down_ports, over_limit, older_ports, reserved })
}

/// The interface that the node has for a port that is BUILD, whatever the node was called when it
/// was sent. A record of the Go operator has no `acceptedBy`; it is filed under its target.
fn sent_interface<'a>(sources: &Sources<'a>, vm_id: &str, port: &Port) -> Option<&'a Interface> {
    if *port.status != *"BUILD" {
        return None;
    }
    let (target, provider_id) = (sources.spec.target(), &sources.spec.provider_id);
    let mut records = sources.inventory.by_vm(vm_id);
    records.retain(|stored| stored.record.is_of(target, provider_id));
    records.sort_by_key(|stored| std::cmp::Reverse(stored.record.updated_at));
    let mut interfaces = records.iter().flat_map(|stored| &stored.record.config.interfaces);
    interfaces.find(|interface| same(&interface.port_id, &port.id))
}

/// Why `spec.ports` and `PORTS_CREATED_AFTER` keep the port from being added to its node. One whose age
/// isn't known may be the card that the VM was booted from.
fn filtered_by(sources: &Sources<'_>, port: &Port) -> Option<Unusable> {
    if let Some(created) = sources.ports_created_after {
        match port.created_at {
            None => return Some(Unusable::UnknownAge),
            Some(at) if at < created => return Some(Unusable::TooOld),
            Some(_) => {}
        }
    }
    let missing = sources.spec.ports.tags.iter().find(|tag| !port.tags.contains(tag));
    missing.map(|tag| Unusable::WithoutTag(Arc::clone(tag)))
}

/// Ports that the Go operator hadn't sent to the node, as it left out what is older than the object: they
/// may be cards that the VM was booted from. Its records have no owner; they are compared by MAC, too.
fn older_ports(
    sources: &Sources<'_>,
    vm: &Vm<'_>,
    of_node: Option<&Record>,
    ports: &[(u8, Attached<'_>)],
) -> Vec<String> {
    let Some(held_before) = sources.held_before else { return Vec::new() };
    let (target, provider_id) = (sources.spec.target(), &sources.spec.provider_id);
    let of_vm = sources.inventory.by_vm(vm.id).into_iter().map(|stored| &stored.record);
    let of_vm = of_vm.filter(|record| record.is_of(target, provider_id));
    let of_node = of_node.filter(|record| record.is_of(target, provider_id));
    let newest = of_vm.max_by_key(|record| record.updated_at).or(of_node);
    let Some(record) = newest.filter(|record| record.owner.is_none()) else { return Vec::new() };
    let is_held = |port: &&Port| {
        let mut sent = record.config.interfaces.iter();
        port.created_at.is_none_or(|at| at < held_before)
            && !sent.any(|one| {
                same(&one.port_id, &port.id) || same(&one.mac_address, &port.mac_address)
            })
    };
    let ports = ports.iter().map(|(_, attached)| attached.port).filter(is_held);
    ports.map(|port| port.id.to_ascii_lowercase()).collect()
}

/// Was the port sent to the node, by the records of the VM and of the node's name? One that was sent and
/// not accepted is reserved, and its record may say of no target.
fn was_sent(sources: &Sources<'_>, vm: &Vm<'_>, of_node: Option<&Record>, port_id: &str) -> bool {
    let of_vm = sources.inventory.by_vm(vm.id).into_iter().map(|stored| &stored.record);
    let is_ours = |record: &&Record| {
        record.is_of(sources.spec.target(), &sources.spec.provider_id)
            || (!record.was_accepted() && same(&record.provider_id, &sources.spec.provider_id))
    };
    let mut ids = of_vm.chain(of_node).filter(is_ours).flat_map(remembered_by);
    ids.any(|(sent, _)| same(sent, port_id))
}

fn note_building(sources: &Sources<'_>, node_name: &str, port: &Port, plan: &mut Plan) {
    let since = sources.building_since.get(&port.id).copied().unwrap_or(sources.uptime);
    plan.building_since.insert(port.id.clone(), since);
    if sources.uptime.saturating_sub(since) >= STUCK_AFTER {
        plan.stuck.push((node_name.to_owned(), port.id.clone()));
    }
}

/// Why a port of a VM becomes no interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unusable {
    /// It is on another network than those of the subnets.
    OtherNetwork,
    /// It has no address at all.
    NoAddress,
    /// It has addresses in other subnets of these networks only.
    OtherSubnet,
    /// It is older than the object.
    TooOld,
    /// Neutron doesn't say when it was created.
    UnknownAge,
    /// It lacks this tag.
    WithoutTag(Arc<str>),
    /// Its status doesn't count.
    Status,
    /// The node has as many interfaces as it may have.
    OverLimit,
}

/// The port with its lowest address in the first subnet that it is in, or why it is in none.
pub fn attached<'a>(port: &'a Port, subnets: &'a [FoundSubnet]) -> Result<Attached<'a>, Unusable> {
    let mut why = Unusable::OtherNetwork;
    for found in subnets {
        let FoundSubnet { subnet, .. } = found;
        if !same(&port.network_id, &subnet.network_id) {
            continue;
        }
        let in_subnet = |(subnet_id, _): &&(Arc<str>, _)| same(subnet_id, &subnet.id);
        match port.fixed_ips.iter().filter(in_subnet).map(|(_, address)| *address).min() {
            Some(address) => return Ok(Attached { port, subnet: found, address }),
            None if port.fixed_ips.is_empty() => why = Unusable::NoAddress,
            None => why = Unusable::OtherSubnet,
        }
    }
    Err(why)
}

fn is_allowed(status: &str, allowed: Option<&[String]>) -> bool {
    allowed.is_none_or(|allowed| allowed.iter().any(|wanted| wanted == status))
}

/// Does the record speak of the cluster or the cloud that the object names, or was it the object
/// that had it sent? The cloud may have been registered under another id since.
fn is_ours(sources: &Sources<'_>, record: &Record) -> bool {
    record.provider_id.eq_ignore_ascii_case(&sources.spec.provider_id)
        || record.owner.as_ref().is_some_and(|owner| owner.uid == sources.uid)
        || (record.accepted_by.is_some() && record.is_accepted_by(sources.spec.target()))
}

/// The ids that the VM's ports have by the inventory. Later entries count more: those of the VM's
/// own records, and of these what was accepted last. The record of another VM with the node's name
/// speaks for the ports that came from there with the name. Records of another cluster speak for
/// ports that are in the subnets only: they reserve nothing here.
fn remembered_ids<'a>(
    sources: &Sources<'a>,
    vm: &Vm<'a>,
    of_node: Option<&'a Record>,
    cluster_ids: Option<&BTreeMap<String, u8>>,
) -> Vec<(&'a str, u8)> {
    let mut records: Vec<&Record> =
        sources.inventory.by_vm(vm.id).into_iter().map(|stored| &stored.record).collect();
    if records.is_empty() && of_node.is_none() {
        return cluster_ids.map(|cluster_ids| adoption::ids(cluster_ids, vm)).unwrap_or_default();
    }
    records.extend(of_node.filter(|record| !record.instance_id.eq_ignore_ascii_case(vm.id)));
    records.retain(|record| record.config.ids_are_ours());
    let rank = |record: &&Record| {
        let is_own = record.instance_id.eq_ignore_ascii_case(vm.id);
        (is_ours(sources, record), is_own, record.updated_at)
    };
    records.sort_by_key(rank);
    let is_in_subnet = |port_id: &str| {
        let mut ports = vm.ports.iter();
        let subnets = &sources.answers.subnets;
        ports.any(|port| port.id == port_id && attached(port, subnets).is_ok())
    };
    let ids = |record: &'a Record| {
        let is_ours = is_ours(sources, record);
        remembered_by(record).filter(move |(port_id, _)| is_ours || is_in_subnet(port_id))
    };
    records.into_iter().flat_map(ids).collect()
}

/// Reservations first: the node had these ports before it had its interfaces.
fn remembered_by(record: &Record) -> impl Iterator<Item = (&str, u8)> {
    let reserved = record.reserved_ids.iter().map(|kept| (kept.port_id.as_str(), kept.id));
    let sent = record.config.interfaces.iter().map(|one| (one.port_id.as_str(), one.id));
    reserved.chain(sent)
}
