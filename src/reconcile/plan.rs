//! From what the cloud said to what each node should be told (SPEC 5, steps 8 to 10). Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::interfaces::{Attached, assign};
use crate::cloud::neutron::{Port, Subnet, same};
use crate::cloud::nova::ServerName;
use crate::cloud::session::Answers;
use crate::inventory::contents::{Inventory, Stored};
use crate::inventory::record::{Record, ReservedId};
use crate::node_config::NodeConfig;

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The cloud.
    pub provider_id: &'a str,
    /// The VMs, in lower case, each once.
    pub vm_ids: &'a [String],
    /// What the cloud said, whole.
    pub answers: &'a Answers,
    /// Port statuses that count, in upper case; none for all.
    pub statuses: Option<&'a [String]>,
    /// What nodes were told before: keeps ids and names stable.
    pub inventory: &'a Inventory,
}

/// What each node should be told, and who was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Nodes with at least one interface, ordered by name.
    pub nodes: Vec<PlannedNode<'a>>,
    /// VMs without a usable port in the subnet.
    pub without_ports: Vec<String>,
    /// VMs that Nova doesn't know, with ports; they go by their id.
    pub unknown: Vec<String>,
    /// VMs that Nova doesn't know, without a usable port: deleted, or never there.
    pub absent: Vec<String>,
    /// Ports left out for their status: node, status, how many.
    pub by_status: BTreeMap<(String, String), usize>,
    /// VMs whose name Nova couldn't tell and nobody remembers, and why.
    pub nameless: Vec<(String, String)>,
    /// Names that several VMs share, and those VMs; none of them is sent.
    pub twins: BTreeMap<String, Vec<String>>,
}

impl Plan<'_> {
    /// Its nodes by name, and the VM of each.
    pub fn vms(&self) -> BTreeMap<&str, &str> {
        let configs = self.nodes.iter().map(|node| &node.config);
        configs.map(|config| (config.node_name.as_str(), config.instance_id.as_str())).collect()
    }

    /// The same, borrowing nothing.
    pub fn into_owned(self) -> Plan<'static> {
        let owned = |node: PlannedNode<'_>| {
            let PlannedNode { config, down_ports, over_limit, reserved } = node;
            let config = Cow::Owned(config.into_owned());
            PlannedNode { config, down_ports, over_limit, reserved }
        };
        let Plan { nodes, without_ports, unknown, absent, by_status, nameless, twins } = self;
        let nodes = nodes.into_iter().map(owned).collect();
        Plan { nodes, without_ports, unknown, absent, by_status, nameless, twins }
    }
}

/// One node to be told about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedNode<'a> {
    /// What it should be told; borrowed from the inventory if that is what it was told before.
    pub config: Cow<'a, NodeConfig>,
    /// Ids of its interfaces' ports with status DOWN, sorted.
    pub down_ports: Vec<String>,
    /// Ports over the limit of interfaces.
    pub over_limit: usize,
    /// Ids of ports that are on its VM and can't be used now. They are no reason to send it.
    pub reserved: Vec<ReservedId>,
}

/// Makes the plan. The same answers and the same inventory give the same plan.
pub fn plan<'a>(sources: &Sources<'a>) -> Plan<'a> {
    let mut plan = Plan::default();
    let ports = ports_by_vm(sources.answers);
    let mut nodes: BTreeMap<String, Vec<(&String, Option<PlannedNode<'_>>)>> = BTreeMap::new();
    for vm_id in sources.vm_ids {
        let Some(name) = node_name(sources, vm_id, &mut plan) else { continue };
        let vm_ports = ports.get(vm_id.as_str()).map(Vec::as_slice).unwrap_or_default();
        let node = node(sources, vm_id, &name, vm_ports, &mut plan);
        nodes.entry(name).or_default().push((vm_id, node));
    }
    for (name, mut vms) in nodes {
        if vms.len() > 1 {
            plan.twins.insert(name, vms.into_iter().map(|(vm_id, _)| vm_id.clone()).collect());
        } else if let Some((vm_id, node)) = vms.pop() {
            let names = &sources.answers.servers.names;
            let is_unknown = names.get(vm_id) == Some(&ServerName::Unknown);
            match (&node, is_unknown) {
                (Some(_), false) => {}
                (Some(_), true) => plan.unknown.push(vm_id.clone()),
                (None, false) => plan.without_ports.push(vm_id.clone()),
                (None, true) => plan.absent.push(vm_id.clone()),
            }
            plan.nodes.extend(node);
        }
    }
    plan
}

fn ports_by_vm(answers: &Answers) -> BTreeMap<&str, Vec<&Port>> {
    let mut by_vm: BTreeMap<&str, Vec<&Port>> = BTreeMap::new();
    for port in answers.ports.iter() {
        by_vm.entry(&port.device_id).or_default().push(port);
    }
    by_vm
}

/// The VM's node name, or none if it must be left out of this pass.
fn node_name(sources: &Sources<'_>, vm_id: &str, plan: &mut Plan<'_>) -> Option<String> {
    match sources.answers.servers.names.get(vm_id) {
        Some(ServerName::Known(Some(name))) => Some(name.clone()),
        // Without a compute service nobody was asked.
        Some(ServerName::Known(None) | ServerName::Unknown) | None => Some(vm_id.to_owned()),
        Some(ServerName::Failed(error)) => {
            // "Nova can't say" is not "no name": posting the id would make up a node.
            // The replaced program did post it, and left a newer record of that name behind.
            let known = sources.inventory.by_instance(sources.provider_id, vm_id);
            let last = known.into_iter().max_by_key(|stored| {
                let Record { node_name, updated_at, .. } = &stored.record;
                (!node_name.eq_ignore_ascii_case(vm_id), *updated_at)
            });
            if last.is_none() {
                plan.nameless.push((vm_id.to_owned(), error.to_string()));
            }
            last.map(|stored| stored.record.node_name.clone())
        }
    }
}

fn node<'a>(
    sources: &Sources<'a>,
    vm_id: &str,
    name: &str,
    ports: &[&Port],
    plan: &mut Plan<'a>,
) -> Option<PlannedNode<'a>> {
    let Sources { provider_id, inventory, answers, .. } = *sources;
    let (subnet, mtu) = (&answers.subnet, answers.mtu);
    let (mut attached, mut left_out) = (Vec::new(), Vec::new());
    for port in ports {
        match usable(port, subnet, sources.statuses) {
            Ok(address) => attached.push(Attached { port, address }),
            Err(why) => {
                left_out.push(*port);
                if why == Unusable::Status {
                    let key = (name.to_owned(), port.status.to_string());
                    *plan.by_status.entry(key).or_default() += 1;
                }
            }
        }
    }
    if attached.is_empty() {
        return None;
    }
    let told = inventory.get(provider_id, name);
    let mut records = inventory.by_instance(provider_id, vm_id);
    records.extend(told);
    let assigned = assign(&attached, &left_out, &remembered_ids(vm_id, records));
    let down = assigned.ports.iter().filter(|(_, attached)| *attached.port.status == *"DOWN");
    let mut down_ports: Vec<String> = down.map(|(_, down)| down.port.id.clone()).collect();
    down_ports.sort_unstable();
    let told = told.map(|stored| &stored.record.config);
    let unchanged = told.filter(|told| {
        told.node_name == name
            && told.instance_id == vm_id
            && assigned.are(&told.interfaces, subnet, mtu)
    });
    let config = match unchanged {
        Some(told) => Cow::Borrowed(told),
        None => Cow::Owned(NodeConfig {
            node_name: name.to_owned(),
            instance_id: vm_id.to_owned(),
            interfaces: assigned.interfaces(subnet, mtu),
        }),
    };
    let reserved = assigned.reserved.iter();
    let reserved =
        reserved.map(|(port_id, id)| ReservedId { port_id: (*port_id).to_owned(), id: *id });
    let reserved = reserved.collect();
    Some(PlannedNode { config, down_ports, over_limit: assigned.over_limit, reserved })
}

/// Why a port of a VM becomes no interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unusable {
    /// It is on another network than the subnet's.
    OtherNetwork,
    /// It has no address at all.
    NoAddress,
    /// It has addresses in other subnets of the network only.
    OtherSubnet,
    /// Its status doesn't count.
    Status,
}

/// The port's lowest address in the subnet, or why it can't be used.
pub fn usable(
    port: &Port,
    subnet: &Subnet,
    statuses: Option<&[String]>,
) -> Result<std::net::IpAddr, Unusable> {
    if !same(&port.network_id, &subnet.network_id) {
        return Err(Unusable::OtherNetwork);
    }
    let in_subnet = |(subnet_id, _): &&(Arc<str>, _)| same(subnet_id, &subnet.id);
    match port.fixed_ips.iter().filter(in_subnet).map(|(_, address)| *address).min() {
        None if port.fixed_ips.is_empty() => Err(Unusable::NoAddress),
        None => Err(Unusable::OtherSubnet),
        Some(_) if !is_allowed(&port.status, statuses) => Err(Unusable::Status),
        Some(address) => Ok(address),
    }
}

fn is_allowed(status: &str, allowed: Option<&[String]>) -> bool {
    allowed.is_none_or(|allowed| allowed.iter().any(|wanted| wanted == status))
}

/// The ids the VM's ports were given by these records, those under its node name and, should it
/// have been renamed, under its former one; what counts most is at the end: what the VM's own
/// records say, and of these what was told last. Another VM's record speaks for the ports that
/// came from there with the name, not for those that were here before.
fn remembered_ids<'a>(vm_id: &str, mut records: Vec<&'a Arc<Stored>>) -> Vec<(&'a str, u8)> {
    records.sort_by_key(|stored| (stored.record.instance_id == vm_id, stored.record.updated_at));
    records.dedup_by(|later, earlier| Arc::ptr_eq(later, earlier));
    let ours = records.into_iter().map(|stored| &stored.record);
    let ours = ours.filter(|record| record.config.ids_are_ours());
    ours.flat_map(remembered_by).collect()
}

/// Reservations first: the node was told of these ports before it was told of its interfaces.
fn remembered_by(record: &Record) -> impl Iterator<Item = (&str, u8)> {
    let reserved = record.reserved_ids.iter().map(|kept| (kept.port_id.as_str(), kept.id));
    let told = record.config.interfaces.iter().map(|one| (one.port_id.as_str(), one.id));
    reserved.chain(told)
}
