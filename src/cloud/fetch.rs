//! Steps 2 to 8: everything that a pass asks before anything is decided. Nothing is sent or written.
//!
//! A pass asks in rounds. [`Fetch::missing`] says what isn't known yet, the requests of a round run
//! side by side, and their answers may show that one more round is needed (the network of a subnet
//! that was never seen before). Subnets and names are asked for once a pass, ports once a slice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::contrabass::RabbitMq;
use super::error::{CloudError, Step};
use super::neutron::{Network, Neutron, Port, PortsByVm, Subnet};
use super::nova::{ServerName, ServerNames};
use super::session::{Cloud, FoundProvider, Login};
use crate::resources::{Spec, SubnetSelector};
use crate::threads::Task;

/// Requests that one pass may have open at the same time; Nova's own are not counted.
const SIDE_BY_SIDE: usize = 8;
/// A slice is tried at most three times: once, again if Contrabass describes another provider, and
/// again if that provider's cached token is refused.
const MAX_ATTEMPTS: usize = 3;
/// A slice without a fault is complete after three rounds.
const MAX_ROUNDS: usize = 8;

/// What Neutron and Nova answered about one object, whole.
#[derive(Clone, Debug)]
pub struct Answers<'a> {
    /// The subnets, in the order of the spec.
    pub subnets: Vec<FoundSubnet>,
    /// The VMs, in the order of the spec.
    pub vms: Vec<Vm<'a>>,
}

/// A subnet that an object names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSubnet {
    /// The subnet.
    pub subnet: Subnet,
    /// MTU of its network, in bytes.
    pub mtu: u32,
}

/// What Neutron and Nova answered about one VM.
#[derive(Clone, Copy, Debug)]
pub struct Vm<'a> {
    /// Its id, in lower case.
    pub id: &'a str,
    /// Its name.
    pub name: &'a ServerName,
    /// All its ports in the project, ordered by id.
    pub ports: &'a [Port],
}

/// The requests of one pass.
pub struct Fetch<'a> {
    cloud: &'a Arc<Cloud>,
    /// The provider's id as the oldest object spells it.
    provider_id: &'a str,
    project_id: &'a str,
    provider: Option<FoundProvider>,
    /// The next login may try a refused password once more. A login that fails clears this. One that
    /// succeeds doesn't: it may have used a cached token and not tried the password.
    forced: bool,
    subnets: BTreeMap<SubnetSelector, Result<Subnet, CloudError>>,
    networks: BTreeMap<Arc<str>, Result<Network, CloudError>>,
    names: HashMap<String, ServerName>,
    ports: PortsByVm,
}

/// One unit of a round: what to ask, and after [`Question::answered_by`] the answer to it. Some take
/// several requests, such as the pages of a list.
enum Question {
    Provider(Pending<FoundProvider>),
    Subnet(SubnetSelector, Pending<Subnet>),
    Network(Arc<str>, Pending<Network>),
    Names(Vec<String>, ServerNames),
    Ports(Vec<String>, Pending<PortsByVm>),
}

/// None before it was asked.
type Pending<T> = Option<Result<T, CloudError>>;

impl Question {
    /// Was the token refused? Then it can be asked again with another one.
    fn is_refused(&self) -> bool {
        match self {
            Question::Provider(_) => false,
            Question::Subnet(_, Some(Err(error)))
            | Question::Network(_, Some(Err(error)))
            | Question::Ports(_, Some(Err(error))) => error.refused,
            Question::Names(_, names) => failures(names.values()).any(|error| error.refused),
            _ => false,
        }
    }

    fn answered_by(
        mut self,
        cloud: &Cloud,
        provider_id: &str,
        login: &Login,
        neutron: &Neutron,
    ) -> Self {
        match &mut self {
            Question::Provider(answer) => *answer = Some(cloud.ask_provider(provider_id, None)),
            Question::Subnet(selector, answer) => {
                let subnet = neutron.subnet(selector);
                if let Ok(subnet) = &subnet {
                    login.remember_subnet(selector, subnet);
                }
                *answer = Some(subnet);
            }
            Question::Network(id, answer) => *answer = Some(neutron.network(id)),
            Question::Names(vm_ids, names) => {
                *names = match login.nova() {
                    Some(nova) => nova.names(vm_ids),
                    None => vm_ids.iter().map(|id| (id.clone(), ServerName::NoEndpoint)).collect(),
                };
            }
            Question::Ports(vm_ids, answer) => *answer = Some(neutron.ports(vm_ids)),
        }
        self
    }
}

fn failures<'a>(
    names: impl Iterator<Item = &'a ServerName>,
) -> impl Iterator<Item = &'a CloudError> {
    names.filter_map(|name| match name {
        ServerName::Failed(error) => Some(error),
        _ => None,
    })
}

impl<'a> Fetch<'a> {
    /// Nothing is asked yet. For a `fresh` pass cached failures don't count.
    pub fn new(
        cloud: &'a Arc<Cloud>,
        provider_id: &'a str,
        project_id: &'a str,
        fresh: bool,
    ) -> Fetch<'a> {
        if fresh {
            cloud.forget_failures(provider_id, project_id);
        }
        Fetch {
            cloud,
            provider_id,
            project_id,
            provider: None,
            forced: false,
            subnets: BTreeMap::new(),
            networks: BTreeMap::new(),
            names: HashMap::new(),
            ports: HashMap::new(),
        }
    }

    /// The pass was forced: a password that Keystone refused is tried once more.
    pub(crate) fn force_login(&mut self) {
        self.forced = true;
    }

    /// Asks for everything that the objects of a slice need. The first slice asks for the subnets
    /// and names of all objects of the pass as well.
    ///
    /// # Errors
    /// If there is no access to the cloud. What concerns single objects is in [`Fetch::answers`].
    pub fn slice(&mut self, pass: &[&Spec], slice: &[&Spec]) -> Result<(), CloudError> {
        let (mut outdated, mut password_refused) = (None, false);
        self.ports.clear();
        for _ in 0..MAX_ATTEMPTS {
            let found = self.cloud.provider(self.provider_id, self.project_id, None)?;
            self.provider = Some(found.clone());
            let login = match self.log_in(&found, outdated) {
                Err(error) if error.refused && !password_refused => {
                    // The password may have been changed: Contrabass is asked again, once.
                    password_refused = true;
                    let (id, project_id) = (self.provider_id, self.project_id);
                    let again = self.cloud.provider(id, project_id, Some(found.serial))?;
                    if again.provider == found.provider {
                        return Err(error);
                    }
                    self.cloud.forget_failures(id, project_id);
                    continue;
                }
                login => login?,
            };
            match self.ask(pass, slice, &found, login, &mut outdated)? {
                Asked::Complete => return Ok(()),
                Asked::StartOver => {
                    self.subnets.clear();
                    self.networks.clear();
                    self.names.clear();
                    self.ports.clear();
                }
            }
        }
        let message = "Contrabass describes the provider differently each time it is asked";
        Err(CloudError::new(Step::Contrabass, message))
    }

    fn log_in(
        &mut self,
        found: &FoundProvider,
        outdated: Option<u64>,
    ) -> Result<Login, CloudError> {
        let login = self.cloud.log_in(&found.provider, self.project_id, outdated, self.forced);
        self.forced &= login.is_ok();
        login
    }

    /// Rounds of requests until nothing is missing. `outdated` is the serial of a login whose token
    /// was refused and replaced; one is replaced in a slice, and only what it was refused is asked
    /// again.
    fn ask(
        &mut self,
        pass: &[&Spec],
        slice: &[&Spec],
        found: &FoundProvider,
        mut login: Login,
        outdated: &mut Option<u64>,
    ) -> Result<Asked, CloudError> {
        let mut neutron = login.neutron()?;
        let mut refused = Vec::new();
        let mut is_asked = !found.old;
        for _ in 0..MAX_ROUNDS {
            let mut questions = std::mem::take(&mut refused);
            if questions.is_empty() {
                questions = self.missing(pass, slice, &login, &neutron);
            }
            if !std::mem::replace(&mut is_asked, true) {
                questions.push(Question::Provider(None));
            }
            if questions.is_empty() {
                break;
            }
            for answered in self.round(questions, &login, &neutron) {
                if outdated.is_none() && answered.is_refused() {
                    refused.push(answered);
                } else if let Question::Provider(Some(current)) = answered {
                    let current = current?;
                    if current.provider != found.provider {
                        // Answers and errors came from an access that Contrabass has replaced.
                        return Ok(Asked::StartOver);
                    }
                    self.provider = Some(current);
                } else {
                    self.take(answered);
                }
            }
            if !refused.is_empty() {
                *outdated = Some(login.serial);
                match self.log_in(found, *outdated) {
                    // A refused password is handled where a slice begins.
                    Err(error) if error.refused => return Ok(Asked::StartOver),
                    renewed => login = renewed?,
                }
                neutron = login.neutron()?;
            }
        }
        if self.has_failed(slice) {
            self.cloud.catalog_may_be_old(&login);
        }
        Ok(Asked::Complete)
    }

    /// What isn't known yet: the subnets of the pass and their networks, the names of its VMs, and
    /// the ports of the slice's.
    fn missing(
        &mut self,
        pass: &[&Spec],
        slice: &[&Spec],
        login: &Login,
        neutron: &Neutron,
    ) -> Vec<Question> {
        let (subnets, networks) = self.missing_subnets(pass, login);
        let of = |specs: &[&'_ Spec], is_known: &dyn Fn(&String) -> bool| -> BTreeSet<String> {
            let vm_ids = specs.iter().flat_map(|spec| &spec.vm_ids);
            vm_ids.filter(|id| !is_known(id)).cloned().collect()
        };
        let names: Vec<String> = of(pass, &|id| self.names.contains_key(id)).into_iter().collect();
        let ports = of(slice, &|id| self.ports.contains_key(id));
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let subnets = subnets.into_iter().map(|selector| Question::Subnet(selector, None));
        let networks = networks.into_iter().map(|id| Question::Network(id, None));
        let names = Some(names).filter(|names| !names.is_empty());
        let names = names.map(|names| Question::Names(names, ServerNames::new()));
        let ports = neutron.groups(&ports).into_iter().map(|ids| Question::Ports(ids, None));
        subnets.chain(networks).chain(names).chain(ports).collect()
    }

    /// Subnets, and networks. A network lists its subnets, so that one answer has the MTU and says
    /// that a subnet of an earlier pass is still there. A name may mean another subnet by now.
    fn missing_subnets(
        &mut self,
        pass: &[&Spec],
        login: &Login,
    ) -> (BTreeSet<SubnetSelector>, BTreeSet<Arc<str>>) {
        let (mut subnets, mut networks) = (BTreeSet::new(), BTreeSet::new());
        for selector in pass.iter().flat_map(|spec| &spec.subnets) {
            if let Some(answer) = self.subnets.get(selector) {
                networks.extend(answer.as_ref().ok().map(|subnet| Arc::clone(&subnet.network_id)));
                continue;
            }
            let known = login.known_subnet(selector);
            networks.extend(known.as_ref().map(|known| Arc::clone(&known.network_id)));
            let known = known.filter(|_| matches!(selector, SubnetSelector::Id(_)));
            let network = known.as_ref().map(|known| self.networks.get(&known.network_id));
            match (known, network) {
                // Its network isn't known yet; the answer says whether the subnet is still there.
                (_, Some(None)) => {}
                // Its network still lists it: what is known of the subnet is true.
                (Some(known), Some(Some(Ok(network)))) if network.lists(&known.id) => {
                    self.subnets.insert(selector.clone(), Ok(known));
                }
                // Without its network a subnet is of no use.
                (_, Some(Some(Err(error)))) => {
                    self.subnets.insert(selector.clone(), Err(error.clone()));
                }
                // Never seen, given by name, or no longer listed by its network.
                _ => drop(subnets.insert(selector.clone())),
            }
        }
        networks.retain(|id| !self.networks.contains_key(id));
        (subnets, networks)
    }

    fn round(&self, questions: Vec<Question>, login: &Login, neutron: &Neutron) -> Vec<Question> {
        let task = |question: Question| {
            let (cloud, provider_id) = (Arc::clone(self.cloud), self.provider_id.to_owned());
            let (login, neutron) = (login.clone(), neutron.clone());
            Box::new(move || question.answered_by(&cloud, &provider_id, &login, &neutron))
                as Task<'static, Question>
        };
        self.cloud.requests.side_by_side(SIDE_BY_SIDE, questions.into_iter().map(task).collect())
    }

    fn take(&mut self, answered: Question) {
        match answered {
            Question::Subnet(selector, Some(subnet)) => drop(self.subnets.insert(selector, subnet)),
            Question::Network(id, Some(network)) => drop(self.networks.insert(id, network)),
            Question::Names(_, names) => self.names.extend(names),
            Question::Ports(_, Some(Ok(ports))) => self.ports.extend(ports),
            Question::Ports(vm_ids, Some(Err(error))) => {
                self.ports.extend(vm_ids.into_iter().map(|id| (id, Err(error.clone()))));
            }
            _ => {}
        }
    }

    /// Did an endpoint fail? So does one that the catalog doesn't have.
    fn has_failed(&self, slice: &[&Spec]) -> bool {
        let failed = |id: &String| {
            let name = self.names.get(id);
            matches!(self.ports.get(id), Some(Err(_)))
                || matches!(name, Some(ServerName::Failed(_) | ServerName::NoEndpoint))
        };
        self.subnets.values().any(Result::is_err)
            || self.networks.values().any(Result::is_err)
            || slice.iter().flat_map(|spec| &spec.vm_ids).any(failed)
    }

    /// The answers about one object of the slice, or the first failure among them: an object is
    /// never planned from a part of its answers. That Nova couldn't name a VM is no failure here.
    pub fn answers<'b>(&'b self, spec: &'b Spec) -> Result<Answers<'b>, CloudError> {
        let subnet = |selector| -> Result<FoundSubnet, CloudError> {
            let subnet = answer(self.subnets.get(selector), Step::Subnet)?;
            let network = answer(self.networks.get(&subnet.network_id), Step::Subnet)?;
            Ok(FoundSubnet { subnet: subnet.clone(), mtu: network.mtu.clone()? })
        };
        let subnets = spec.subnets.iter().map(subnet).collect::<Result<_, _>>()?;
        let vm = |id: &'b String| -> Result<Vm<'b>, CloudError> {
            let name = self.names.get(id).ok_or_else(|| unasked(Step::Nova))?;
            Ok(Vm { id, name, ports: answer(self.ports.get(id), Step::Ports)? })
        };
        let vms = spec.vm_ids.iter().map(vm).collect::<Result<_, _>>()?;
        Ok(Answers { subnets, vms })
    }

    /// How long Nova asked to be left alone, though the object may do with known names.
    pub fn retry_after(&self, spec: &Spec) -> Option<Duration> {
        let names = spec.vm_ids.iter().filter_map(|id| self.names.get(id));
        failures(names).filter_map(|error| error.retry_after).max()
    }

    /// RabbitMQ's access, or why it can't be used, with the serial of Contrabass' answer (step 3).
    pub fn rabbitmq(&self) -> Option<(u64, Result<RabbitMq, String>)> {
        let found = self.provider.as_ref()?;
        Some((found.serial, found.provider.rabbitmq.clone().transpose()?))
    }
}

fn answer<T>(known: Option<&Result<T, CloudError>>, step: Step) -> Result<&T, CloudError> {
    known.ok_or_else(|| unasked(step))?.as_ref().map_err(Clone::clone)
}

fn unasked(step: Step) -> CloudError {
    CloudError::new(step, "there is no answer after all requests")
}

/// How the rounds of a slice ended.
enum Asked {
    /// To the end, and all answers came from the provider that Contrabass describes now.
    Complete,
    /// Early: the provider is another one now, or Keystone refused the password.
    StartOver,
}
