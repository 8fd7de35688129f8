//! Every POST is checked: it equals what the cloud said at that time or shortly before, and a port keeps
//! its id for as long as it stays on its node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multinic_operator::node_config::NodeConfig;
use multinic_operator::resources::Spec;
use simulated_cloud::{CloudState, LoggedRequest, Service};

use crate::oracle::{Card, cards, cards_of, check_cards, confirmed_name, node_name, subnets};
use crate::soak::answers::{Answers, Told};

/// What happened this long ago, in ms, may still be unknown to the operator, or this much sooner.
const PAD: u64 = 2_000;
/// What an object no longer asks for may be believed as long as a time of faults lasts, for each list
/// in it may fail, and the process may stand still; and then until the next list comes through.
const SPEC_LIFE: u64 = 300_000;
/// An answer that took longer may have come too late for the operator.
const PROMPT: u64 = 1_000;
/// Port statuses that count.
const STATUSES: [&str; 2] = ["ACTIVE", "DOWN"];

/// What an object asked for, from when to when.
struct DesiredSpec {
    from: u64,
    until: Option<u64>,
    key: String,
    spec: Spec,
}

/// What the oracle remembers.
#[derive(Default)]
pub(crate) struct SoakOracle {
    /// The cloud as it was, and since when.
    versions: Vec<(u64, CloudState)>,
    specs: Vec<DesiredSpec>,
    /// When services were at fault.
    faulty_times: BTreeMap<Service, Vec<(u64, u64)>>,
    /// When the process was stopped.
    pauses: Vec<(u64, u64)>,
    /// Which nodes Viola refused, and since when.
    refusals: Vec<(u64, BTreeSet<String>)>,
    /// What Viola made of it all.
    pub(crate) answers: Answers,
    /// Since when the disk isn't known to be well.
    disk_bad_since: Option<u64>,
    /// The process that runs, and since when.
    life: u32,
    life_since: u64,
    /// How long a pass may take.
    pub(crate) pass: Duration,
    /// How long an MTU may be believed.
    pub(crate) mtu_life: Duration,
    pub(crate) name_key: bool,
    /// POSTs, nodes in them, and ids that were compared with earlier ones.
    pub(crate) posts: u64,
    pub(crate) nodes: u64,
    pub(crate) ids: u64,
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

impl SoakOracle {
    /// The cloud is like this from now on.
    pub(crate) fn note_cloud(&mut self, at: u64, mut cloud: CloudState) {
        cloud.revoke_tokens();
        self.versions.push((at, cloud));
    }

    /// An object asks for this from now on; nothing more, where there is nothing.
    pub(crate) fn note_spec(&mut self, at: u64, key: &str, spec: Option<Spec>) {
        for desired in self.specs.iter_mut().filter(|desired| desired.key == key) {
            desired.until.get_or_insert(at);
        }
        let desired = |spec| DesiredSpec { from: at, until: None, key: key.to_owned(), spec };
        self.specs.extend(spec.map(desired));
    }

    /// A service is at fault at this moment.
    pub(crate) fn note_fault(&mut self, at: u64, service: Service) {
        let known = self.faulty_times.entry(service).or_default();
        match known.last_mut() {
            Some((_, until)) if *until + PAD >= at => *until = at,
            _ => known.push((at, at)),
        }
    }

    /// The process was stopped all this time.
    pub(crate) fn note_pause(&mut self, from: u64, until: u64) {
        self.pauses.push((from, until));
    }

    /// Viola refuses these nodes from now on.
    pub(crate) fn note_refusals(&mut self, at: u64, nodes: BTreeSet<String>) {
        self.refusals.push((at, nodes));
    }

    /// The disk may not take everything from now on.
    pub(crate) fn note_disk_bad(&mut self, at: u64) {
        self.disk_bad_since.get_or_insert(at);
    }

    /// The operator says that the disk has everything.
    pub(crate) fn note_disk_well(&mut self) {
        self.disk_bad_since = None;
    }

    /// A process ended: it may not have recorded the last of what was accepted.
    pub(crate) fn note_end(&mut self, at: u64) {
        self.answers.note_end(at, self.disk_bad_since);
    }

    /// Another process runs.
    pub(crate) fn note_start(&mut self, at: u64, life: u32) {
        (self.life, self.life_since) = (life, at);
    }

    /// The process that runs doesn't know what an earlier one was answered last.
    pub(crate) fn is_doubtful(&self, target: &str, node: &str) -> bool {
        self.answers.is_doubtful(target, node, self.life)
    }

    /// What a request of the journal says against the operator, if it is a POST to Viola.
    pub(crate) fn check_request(&mut self, request: &LoggedRequest) -> Result<(), String> {
        if request.service != Service::Viola || request.method != "POST" {
            return Ok(());
        }
        let at = request.arrived_ms;
        let target = request.header("x-provider-id").unwrap_or_default().to_owned();
        let nodes: Vec<NodeConfig> = serde_json::from_slice(&request.body)
            .map_err(|error| format!("a POST that can't be read: {error}"))?;
        self.posts += 1;
        for node in &nodes {
            self.nodes += 1;
            let name = &node.node_name;
            let fail = |what: String| format!("POST to {target} at {at} ms, node {name}: {what}");
            let providers = self.check_truth(at, &target, node).map_err(fail)?;
            if let [provider] = providers.as_slice() {
                self.check_ids(provider, node).map_err(fail)?;
            }
            self.note_answer(request, &target, &providers, node);
        }
        Ok(())
    }

    /// Forgets what nothing can be about any more.
    pub(crate) fn forget_before(&mut self, at: u64) {
        let old = self.versions.iter().rposition(|(from, _)| *from < at).unwrap_or(0);
        self.versions.drain(..old);
        self.specs.retain(|desired| desired.until.is_none_or(|until| until >= at));
    }

    /// When what is sent now may have been read, earliest.
    fn begin_of_pass(&self, at: u64) -> u64 {
        let mut from = at.saturating_sub(milliseconds(self.pass));
        for (begin, end) in self.pauses.iter().rev() {
            if *end >= from && *begin <= at {
                from = from.min(begin.saturating_sub(milliseconds(self.pass)));
            }
        }
        from
    }

    fn clouds(&self, from: u64, until: u64) -> Vec<&CloudState> {
        let first = self.versions.iter().rposition(|(since, _)| *since <= from).unwrap_or(0);
        let versions = self.versions[first..].iter();
        versions.take_while(|(since, _)| *since <= until + 50).map(|(_, cloud)| cloud).collect()
    }

    fn troubled(&self, service: Service, from: u64, until: u64) -> bool {
        let known = self.faulty_times.get(&service).into_iter().flatten();
        known.into_iter().any(|(begin, end)| *end + PAD >= from && *begin <= until + PAD)
    }

    /// Some object asked for this node, and the cloud said so; gives the providers it may be of.
    fn check_truth(&self, at: u64, target: &str, node: &NodeConfig) -> Result<Vec<String>, String> {
        let from = self.begin_of_pass(at);
        let vm = &node.instance_id;
        let fits = |desired: &&DesiredSpec| {
            desired.from <= at + 50
                && desired.until.is_none_or(|until| until + SPEC_LIFE >= from)
                && desired.spec.target() == target
                && desired.spec.vm_ids.contains(vm)
        };
        let mut problem = format!("no object asks for VM {vm}");
        let mut providers = BTreeSet::new();
        for desired in self.specs.iter().filter(fits) {
            match self.check_against(at, from, &desired.spec, node) {
                Ok(()) => drop(providers.insert(desired.spec.provider_id.clone())),
                Err(what) => problem = what,
            }
        }
        if providers.is_empty() { Err(problem) } else { Ok(providers.into_iter().collect()) }
    }

    fn nova_may_be_silent(&self, from: u64, until: u64, clouds: &[&CloudState]) -> bool {
        let asked = [Service::Nova, Service::Keystone];
        asked.into_iter().any(|service| self.troubled(service, from, until)) || clouds_hide(clouds)
    }

    /// While Nova can't say, a VM goes by the name it was told last, be it by an object of another
    /// project, to which its name is unknown; and behind that, where that was never recorded, by what
    /// was recorded before. So any will do.
    fn ever_had_that_name(&self, spec: &Spec, node: &NodeConfig) -> bool {
        let (vm, name) = (&node.instance_id, &node.node_name);
        self.answers.was_told(&spec.provider_id, vm, name)
            || self
                .versions
                .iter()
                .any(|(_, cloud)| node_name(cloud, &spec.project_id, vm, self.name_key) == *name)
    }

    fn check_against(
        &self,
        at: u64,
        from: u64,
        spec: &Spec,
        node: &NodeConfig,
    ) -> Result<(), String> {
        let vm = &node.instance_id;
        let clouds = self.clouds(from, at);
        let knows = |cloud: &&CloudState| cloud.providers.iter().any(|p| p.id == spec.provider_id);
        if !clouds.iter().any(knows) {
            return Err(format!("Contrabass didn't know {}", spec.provider_id));
        }
        let names: BTreeSet<String> = clouds
            .iter()
            .map(|cloud| node_name(cloud, &spec.project_id, vm, self.name_key))
            .collect();
        let is_unknown = |cloud: &&CloudState| {
            confirmed_name(cloud, &spec.project_id, vm, self.name_key).is_none()
        };
        let goes_by = |name: &String| {
            let may_be_remembered =
                self.nova_may_be_silent(from, at, &clouds) || clouds.iter().any(is_unknown);
            names.contains(name) || (may_be_remembered && self.ever_had_that_name(spec, node))
        };
        if !goes_by(&node.node_name) {
            return Err(format!("VM {vm} is named {names:?}"));
        }
        let subnet = node.interfaces.first().map(|interface| &*interface.subnet_id);
        let seen: Vec<BTreeSet<Card>> = clouds
            .iter()
            .map(|cloud| {
                let mut known = subnets(cloud, spec).into_iter();
                let known = known.find(|all| all.iter().any(|one| Some(&*one.id) == subnet));
                known.map(|known| cards(cloud, spec, &known, vm, &STATUSES)).unwrap_or_default()
            })
            .collect();
        // A port that is BUILD now stays as its node has it.
        let building: BTreeSet<&str> = clouds
            .iter()
            .flat_map(|cloud| cloud.ports.of_device(vm))
            .filter(|port| port.status == "BUILD")
            .map(|port| port.id.as_str())
            .collect();
        let last = self.answers.last(&spec.provider_id, vm).map(|last| cards_of(&last.config));
        let kept: BTreeSet<Card> = last
            .into_iter()
            .flatten()
            .filter(|card| building.contains(card.port.as_str()))
            .collect();
        check_cards(node, &seen, &kept)?;
        let earlier = self.clouds(from.saturating_sub(milliseconds(self.mtu_life)), at);
        for interface in &node.interfaces {
            let said = |cloud: &&CloudState| {
                cloud.network(&interface.network_id).is_some_and(|n| n.mtu == interface.mtu)
            };
            if !earlier.iter().any(said) && !building.contains(interface.port_id.as_str()) {
                return Err(format!("MTU {} was never said", interface.mtu));
            }
        }
        Ok(())
    }

    fn check_ids(&mut self, provider: &str, node: &NodeConfig) -> Result<(), String> {
        let last = self.answers.last(provider, &node.instance_id);
        let Some(last) = last.filter(|last| last.is_known) else { return Ok(()) };
        for interface in &node.interfaces {
            let before = last.config.interfaces.iter().find(|i| i.port_id == interface.port_id);
            let Some(before) = before else { continue };
            self.ids += 1;
            if before.id != interface.id {
                return Err(format!(
                    "port {} of VM {} was multinic{} and is sent as multinic{}",
                    interface.port_id, node.instance_id, before.id, interface.id
                ));
            }
        }
        Ok(())
    }

    fn note_answer(
        &mut self,
        request: &LoggedRequest,
        target: &str,
        providers: &[String],
        node: &NodeConfig,
    ) {
        let at = request.arrived_ms;
        let answered = request.answered_ms.unwrap_or(at);
        let was_paused = |(begin, end): &(u64, u64)| *end + PAD >= at && *begin <= answered + PAD;
        let is_plain = !self.troubled(Service::Viola, at, answered)
            && answered - at <= PROMPT
            && !self.pauses.iter().any(was_paused);
        let refused = self.refused(at, answered, &node.node_name);
        let is_success = request.status.is_some_and(|status| status < 300);
        let place = (target.to_owned(), node.node_name.clone());
        if is_plain && (!is_success || refused == Some(true)) {
            for provider in providers {
                self.answers.note_rejected(&place, provider, node);
            }
            return;
        }
        // Of a process that is no more, and whose POST ended only now.
        let is_late = at < self.life_since;
        let is_of_one = providers.len() == 1;
        let is_known = is_plain && refused == Some(false) && !is_late && is_of_one;
        let (config, life) = (node.clone(), self.life - u32::from(is_late));
        self.answers.note_told(place, providers, Told { config, at, life, is_known });
    }

    /// Whether Viola refused a node; none if it changed its mind about then.
    fn refused(&self, from: u64, until: u64, node: &str) -> Option<bool> {
        let first = self.refusals.iter().rposition(|(since, _)| *since + 50 <= from).unwrap_or(0);
        let known = self.refusals[first..].iter().take_while(|(since, _)| *since <= until + 50);
        let said: BTreeSet<bool> = known.map(|(_, nodes)| nodes.contains(node)).collect();
        if said.len() > 1 { None } else { Some(said.first().copied().unwrap_or(false)) }
    }
}

/// In one of these clouds Nova can't be asked.
fn clouds_hide(clouds: &[&CloudState]) -> bool {
    let has_nova = |cloud: &CloudState| cloud.catalog.iter().any(|known| known.kind == "compute");
    clouds.iter().any(|cloud| cloud.settings.keystone_unreachable || !has_nova(cloud))
}
