//! An object's subnet and the MTU of its network (SPEC 5, step 6), in one question where possible.
//!
//! A subnet never moves to another network and never changes its range, and a network lists its
//! subnets. So a poll asks one of two questions: the subnet, while the network's MTU is believed,
//! else the network, whose answer also says that the subnet is still there. Only a subnet that was
//! never seen takes two questions in a row.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::error::{CloudError, Step};
use super::neutron::{Network, Neutron, Subnet};
use crate::resources::SubnetSelector;
use crate::threads::pool::{Pool, Task};

/// Subnets nobody asked for during this time are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// What is remembered of subnets and their networks.
pub struct Networks {
    /// How long an MTU is believed.
    life: Duration,
    threads: Pool,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// By endpoint, project and what they are asked for by; with the uptime of the last use.
    subnets: HashMap<(Arc<str>, String, String), (Subnet, Duration)>,
    /// By endpoint and network; with the uptime until which they are believed.
    mtus: HashMap<(Arc<str>, Arc<str>), (u32, Duration)>,
}

/// The answers that come side by side.
enum Part {
    Subnet(Result<Subnet, CloudError>),
    Network(Result<Option<Network>, CloudError>),
}

impl Networks {
    /// Remembers nothing yet; MTUs will be believed for `life`.
    pub fn new(life: Duration, threads: Pool) -> Networks {
        Networks { life, threads, memory: Mutex::default() }
    }

    /// The subnet that is meant, and its network's MTU.
    pub fn subnet(
        &self,
        neutron: &Neutron,
        project_id: &str,
        selector: &SubnetSelector,
        uptime: Duration,
    ) -> Result<(Subnet, u32), CloudError> {
        let key = (Arc::clone(&neutron.endpoint), project_id.to_owned(), text(selector));
        let known = self.lock().subnets.get(&key).map(|(subnet, _)| subnet.clone());
        // The network is only asked for where its subnet is known and its MTU isn't any more.
        let doubtful = known.filter(|subnet| self.mtu(&neutron.endpoint, subnet, uptime).is_none());
        let subnet = match (&doubtful, selector) {
            (Some(known), SubnetSelector::Id(_)) => {
                let network = neutron.network(&known.network_id)?;
                let vouched = network.as_ref().is_some_and(|network| network.lists(&known.id));
                self.believe(neutron, &known.network_id, network.as_ref(), uptime);
                if vouched { known.clone() } else { subnet(neutron, project_id, selector)? }
            }
            (Some(known), SubnetSelector::Name(name)) => {
                self.by_name_and_network(neutron, project_id, name, &known.network_id, uptime)?
            }
            (None, _) => subnet(neutron, project_id, selector)?,
        };
        let mtu = match self.mtu(&neutron.endpoint, &subnet, uptime) {
            Some(mtu) => mtu,
            None => {
                let network_id = &subnet.network_id;
                let network = neutron.network(network_id)?;
                self.believe(neutron, network_id, network.as_ref(), uptime);
                neutron.mtu_in(network_id, network.as_ref())?
            }
        };
        let mut memory = self.lock();
        memory.subnets.retain(|_, (_, used_at)| *used_at + FORGET_AFTER > uptime);
        memory.subnets.insert(key, (subnet.clone(), uptime));
        Ok((subnet, mtu))
    }

    /// A name may mean another subnet by now, so both are asked for, side by side.
    fn by_name_and_network(
        &self,
        neutron: &Neutron,
        project_id: &str,
        name: &str,
        network_id: &Arc<str>,
        uptime: Duration,
    ) -> Result<Subnet, CloudError> {
        let (ask, project_id, name) = (neutron.clone(), project_id.to_owned(), name.to_owned());
        let (ask_network, id) = (neutron.clone(), Arc::clone(network_id));
        let tasks: Vec<Task<Part>> = vec![
            Box::new(move || Part::Subnet(ask.subnet_by_name(&project_id, &name))),
            Box::new(move || Part::Network(ask_network.network(&id))),
        ];
        let mut found = Err(CloudError::new(Step::Subnet, "the subnet wasn't asked for"));
        for part in self.threads.side_by_side(2, tasks) {
            match part {
                Part::Subnet(subnet) => found = Ok(subnet?),
                Part::Network(network) => {
                    self.believe(neutron, network_id, network?.as_ref(), uptime);
                }
            }
        }
        found
    }

    fn mtu(&self, endpoint: &Arc<str>, subnet: &Subnet, uptime: Duration) -> Option<u32> {
        let key = (Arc::clone(endpoint), Arc::clone(&subnet.network_id));
        let (mtu, fresh_until) = self.lock().mtus.get(&key).copied()?;
        (fresh_until > uptime).then_some(mtu)
    }

    fn believe(
        &self,
        neutron: &Neutron,
        network_id: &Arc<str>,
        network: Option<&Network>,
        uptime: Duration,
    ) {
        let Some(mtu) = network.and_then(Network::mtu) else { return };
        let key = (Arc::clone(&neutron.endpoint), Arc::clone(network_id));
        let mut memory = self.lock();
        memory.mtus.retain(|_, (_, fresh_until)| *fresh_until > uptime);
        memory.mtus.insert(key, (mtu, uptime + self.life));
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(|held| held.into_inner())
    }
}

fn subnet(
    neutron: &Neutron,
    project_id: &str,
    selector: &SubnetSelector,
) -> Result<Subnet, CloudError> {
    match selector {
        SubnetSelector::Id(id) => neutron.subnet_by_id(id),
        SubnetSelector::Name(name) => neutron.subnet_by_name(project_id, name),
    }
}

fn text(selector: &SubnetSelector) -> String {
    match selector {
        SubnetSelector::Id(id) => format!("id {id}"),
        SubnetSelector::Name(name) => format!("name {name}"),
    }
}
