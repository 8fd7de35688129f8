//! A POST arrives at Viola: is it right, what comes of it, and what happens meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use multinic_operator::http::client::{Failure, Service};
use multinic_operator::inventory::contents::Inventory;
use multinic_operator::node_config::NodeConfig;
use multinic_operator::reconcile::{Pass, Work};
use multinic_operator::resources::Spec;
use simulated_cloud::CloudState;
use simulated_cloud::wire::Handler as _;

use crate::driver::{Broken, Simulation};
use crate::faults::{Fault, Met, Reply, spoiled};
use crate::oracle::Sight;
use crate::pass::Kills;
use crate::transport::{Post, Seen};

impl Simulation {
    /// A POST arrives at Viola: is it right, what comes of it, and what happens meanwhile?
    /// None: the process doesn't live to see the answer.
    pub(crate) fn take_post(
        &mut self,
        pass: &Pass,
        post: &Post,
        seen: &Seen,
        kills: &Kills,
    ) -> Result<Option<Result<Reply, Failure>>, Broken> {
        let arrived = self.at;
        if seen.changed.is_some() {
            let now = self.transport.now.state.lock().clone();
            self.oracle.note_cloud(self.at, &now);
        }
        if kills.killed_before {
            self.count("killed before the POST");
            self.die("killed before a POST arrived");
            return Ok(None);
        }
        let nodes: Vec<NodeConfig> = serde_json::from_slice(&post.request.body)
            .map_err(|error| format!("(a) a body that isn't one: {error}"))?;
        let nodes: Vec<Sent<'_>> =
            nodes.into_iter().map(|node| sent(pass, post, node)).collect::<Result<_, _>>()?;
        let inventory = self.process.as_ref().unwrap().context.store.snapshot();
        let resent = self.check_post(post, &nodes, seen, &inventory)?;
        let number = self.passes.to_string();
        let met = self.transport.state().faults.meets(Service::Viola, &[&number, "POST"]);
        let names: Vec<&str> = nodes.iter().map(|sent| sent.node.node_name.as_str()).collect();
        let what = met.map_or_else(String::new, |met| format!(", but {}", met.fault.name()));
        self.trace.tell(self.at, format!("  POST to {} of {names:?}{what}", post.target));
        if let Some(met) = met {
            self.count(&format!("{} {}", Service::Viola, met.fault.name()));
            if met.asks_for_long() {
                self.count("long pause");
            }
        }
        let passing = if self.random.u8(0..4) == 0 && self.posting < 2 {
            Duration::from_millis(self.random.u64(0..29_000))
        } else {
            Duration::ZERO
        };
        let before = self.random.bool();
        let life = self.lives;
        if before {
            self.meanwhile(passing)?;
        }
        if self.process.is_none() || self.lives != life {
            return Ok(None);
        }
        let reply = self.deliver(post, &nodes, met, &inventory)?;
        if !before {
            self.meanwhile(passing)?;
        }
        if self.process.is_none() || self.lives != life {
            return Ok(None);
        }
        if kills.killed_after {
            self.count("killed after the POST");
            self.die("killed before it saw Viola's answer");
            return Ok(None);
        }
        if kills.killed_on_disk {
            self.disk.kill_in(self.random.usize(0..10));
        }
        let is_whole = |reply: &Reply| {
            acknowledges(reply) && !String::from_utf8_lossy(&reply.body).contains("errors")
        };
        if self.upset_at < arrived && reply.as_ref().is_ok_and(is_whole) {
            for uid in &resent {
                self.oracle.note_resend(arrived, uid);
            }
        }
        Ok(Some(reply))
    }

    /// Viola does what it does; what it took is written down.
    pub(crate) fn deliver(
        &mut self,
        post: &Post,
        nodes: &[Sent<'_>],
        met: Option<Met>,
        inventory: &Inventory,
    ) -> Result<Result<Reply, Failure>, Broken> {
        // A strange answer that says nothing of errors counts as success, so it must be one.
        let says_yes =
            |fault| matches!(fault, Fault::WrongJson | Fault::CutBody | Fault::SomeRefused);
        let has_effect = met.is_none_or(|met| met.has_effect || says_yes(met.fault));
        let mut refused = self.refused.clone();
        if met.is_some_and(|met| met.fault == Fault::WrongJson) {
            refused.clear();
        }
        if let Some(Met { fault: Fault::SomeRefused, dice, .. }) = met {
            let index = usize::try_from(dice).unwrap_or(0) % nodes.len();
            refused.insert(nodes[index].node.node_name.clone());
        }
        for name in &refused {
            self.viola.refuse_node(name, "the node isn't ready");
        }
        let mut reply = Reply { status: 200, headers: Vec::new(), body: b"{}".to_vec() };
        if has_effect {
            reply = self.viola.handle(&post.request).into();
        }
        self.viola.accept_all_nodes();
        if let Some(violation) = self.viola.violations().first() {
            return Err(format!("(a) Viola's contract is broken: {violation}"));
        }
        let reply = match met {
            None => Ok(reply),
            Some(met) => spoiled(met, reply, ""),
        };
        for sent @ Sent { node, .. } in nodes {
            let accepted = reply.as_ref().is_ok_and(acknowledges);
            let accepted = accepted && !refused.contains(&node.node_name);
            if accepted {
                self.holds.note_accepted(self.at, sent, inventory);
            }
            self.oracle.note_answer(&post.target, &node.node_name, accepted);
        }
        if has_effect {
            let taken = nodes.iter().filter(|sent| !refused.contains(&sent.node.node_name));
            for sent @ Sent { node, .. } in taken {
                let spec = sent.spec();
                let known = reply.as_ref().is_ok_and(acknowledges);
                let vm = inventory.by_instance(&spec.provider_id, &node.instance_id);
                let remembered = vm.first().map(|stored| stored.record.config.clone());
                self.oracle.tell(self.at, spec, node, known, remembered);
            }
        }
        Ok(reply)
    }

    /// Everything there is to say against a POST. Gives the objects, by uid, of which nodes are sent
    /// again for their DOWN ports.
    pub(crate) fn check_post(
        &mut self,
        post: &Post,
        nodes: &[Sent<'_>],
        seen: &Seen,
        inventory: &Inventory,
    ) -> Result<BTreeSet<String>, Broken> {
        let process = self.process.as_ref().unwrap();
        if !process.may_act.load(Ordering::SeqCst) {
            return Err("(a) a POST of a process that may no longer act".to_owned());
        }
        let contrabass_lied =
            seen.faults.iter().any(|(service, _)| *service == Service::Contrabass);
        if seen.named.is_some() && seen.named != seen.used && !contrabass_lied {
            let (named, used) = (&seen.named, &seen.used);
            return Err(format!("(a) Contrabass names {named:?}, read was with {used:?}"));
        }
        self.holds.check_post(self.at, nodes, inventory)?;
        let mut resent = BTreeSet::new();
        for Sent { node, of } in nodes {
            // Where several objects name the VM, it is right for one of them.
            let mut results = of.iter().map(|work| {
                let resends = self.check_node(work, post, node, seen, inventory)?;
                Ok((work, resends))
            });
            let first: Result<(&&Work, bool), Broken> = results.next().unwrap();
            let (work, resends) =
                results.find(Result::is_ok).filter(|_| first.is_err()).unwrap_or(first)?;
            if resends {
                resent.insert(work.object.uid.clone());
            }
        }
        let intervals = self.config.settings.intervals;
        let limits = (intervals.down_port_fast_retries, intervals.fast, intervals.slow);
        for uid in &resent {
            self.oracle.check_resend(self.at, uid, limits)?;
        }
        Ok(resent)
    }

    /// Whether a node is sent again for its DOWN ports, or what is wrong with its being sent.
    fn check_node(
        &self,
        work: &Work,
        post: &Post,
        node: &NodeConfig,
        seen: &Seen,
        inventory: &Inventory,
    ) -> Result<bool, Broken> {
        let spec = spec_of(work);
        let wall = self.process.as_ref().unwrap().context.clock.now().wall;
        let intervals = self.config.settings.intervals;
        let clouds = self.oracle.clouds_since(seen.version);
        let clouds: Vec<&CloudState> = clouds.iter().map(|cloud| &**cloud).collect();
        let sight = Sight {
            spec,
            clouds: &clouds,
            nova_failed: seen.nova_failed,
            name_key: self.name_key,
            statuses: &["ACTIVE", "DOWN"],
            mtu_life: intervals.slow.mul_f64(2.5) + Duration::from_secs(1),
        };
        self.oracle.check_truth(self.at, node, &sight, inventory)?;
        let vm = inventory.by_instance(&spec.provider_id, &node.instance_id);
        let remembered = vm.first().map(|stored| &stored.record.config);
        self.oracle.check_ids(spec, node, remembered)?;
        let Some(stored) = inventory.get(&spec.provider_id, &node.node_name) else {
            return Ok(false);
        };
        let record = &stored.record;
        if record.config != *node
            || record.accepted_by.as_deref() != Some(&post.target)
            || self.oracle.is_unconfirmed(&post.target, &node.node_name)
        {
            return Ok(false);
        }
        let old = |until: Timestamp| record.updated_at <= until || record.updated_at > wall;
        let interval = intervals.resync.and_then(|interval| wall.checked_sub(interval).ok());
        if work.resend_accepted_until.is_some_and(old) || interval.is_some_and(old) {
            return Ok(false);
        }
        let is_down = |port: &str| {
            let is_down = |cloud: &&CloudState| {
                cloud.ports.get(port).is_some_and(|port| port.status == "DOWN")
            };
            clouds.iter().any(is_down)
        };
        if !node.interfaces.iter().any(|interface| is_down(&interface.port_id)) {
            return Err(format!("(e) the unchanged node {} is sent again", node.node_name));
        }
        Ok(true)
    }

    /// Time passes while a POST is under way.
    pub(crate) fn meanwhile(&mut self, passing: Duration) -> Result<(), Broken> {
        if passing.is_zero() {
            return Ok(());
        }
        let (until, life) = (self.at + passing, self.lives);
        self.posting += 1;
        while self.next_time() <= until && self.lives == life && self.process.is_some() {
            self.step(Some(until))?;
        }
        self.posting -= 1;
        if self.lives == life && self.process.is_some() {
            self.set_time(until);
        }
        Ok(())
    }
}

/// A node of a POST, and the objects of the pass that name its VM.
pub(crate) struct Sent<'a> {
    pub(crate) node: NodeConfig,
    pub(crate) of: Vec<&'a Work>,
}

impl Sent<'_> {
    fn spec(&self) -> &Spec {
        spec_of(self.of[0])
    }
}

fn sent<'a>(pass: &'a Pass, post: &Post, node: NodeConfig) -> Result<Sent<'a>, Broken> {
    let names_it = |work: &&Work| {
        let spec = work.object.spec.as_ref().ok();
        spec.is_some_and(|s| s.target() == post.target && s.vm_ids.contains(&node.instance_id))
    };
    let of: Vec<&Work> = pass.work.iter().filter(names_it).collect();
    if of.is_empty() {
        let (vm, target) = (&node.instance_id, &post.target);
        return Err(format!("(a) no object of the pass names VM {vm} for {target}"));
    }
    Ok(Sent { node, of })
}

fn spec_of(work: &Work) -> &Spec {
    work.object.spec.as_ref().unwrap()
}

/// Does this answer say that everything was accepted? 200 with a body that doesn't speak of errors.
fn acknowledges(reply: &Reply) -> bool {
    let body = reply.body.trim_ascii_start();
    let is_json = matches!(body.first(), Some(b'{' | b'['));
    let value: Result<serde_json::Value, _> = serde_json::from_slice(body);
    let errors = value.as_ref().ok().and_then(|value| value.get("errors"));
    let complains = match errors {
        None | Some(serde_json::Value::Null) => false,
        // Who isn't named in a list of errors was accepted; who is, isn't asked about here.
        Some(serde_json::Value::Array(_)) => false,
        Some(_) => true,
    };
    matches!(reply.status, 200 | 201 | 202 | 204) && (!is_json || (value.is_ok() && !complains))
}
