//! (c): once nothing goes wrong any more, everything is in order: each object says what the cloud
//! as it is comes to, Viola holds what the cloud has, and the inventory holds what Viola accepted.
//!
//! What each object should come to says `outcome`.

use std::time::Duration;

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::reconcile::{Outcome, Work};
use multinic_operator::resources::OpenstackConfig;

use crate::driver::{Broken, Simulation};
use crate::expected::{Expected, WELL, check_held, check_status, expected};
use crate::kubernetes::Object;

impl Simulation {
    /// Checks all of it.
    pub(crate) fn check_convergence(&mut self) -> Result<(), Broken> {
        let cloud = self.transport.now.state.lock().clone();
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

    /// A sync ended that was to send everything again, and did: what the cloud had of the object.
    /// Where the cloud changed in the middle of it, nobody knows what it saw.
    pub(crate) fn note_sent_again(&mut self, job: &Work, outcome: &Outcome, is_known: bool) {
        if job.resend_accepted_until.is_none() || !outcome.resent {
            return;
        }
        let cloud = self.transport.now.state.lock().clone();
        let read: Vec<OpenstackConfig> =
            self.kubernetes.objects.values().map(Object::read).collect();
        let inventory = self.process.as_ref().unwrap().context.store.snapshot();
        let of_object =
            |given: &&mut Object| given.uid == job.object.uid && given.force == job.object.force;
        let Some(given) = self.kubernetes.objects.values_mut().find(of_object) else { return };
        let expected = expected(&cloud, &job.object, &read, self.name_key, &inventory);
        let nodes = expected.nodes.into_keys().filter(|_| is_known).collect();
        given.sent_again.get_or_insert(nodes);
    }

    fn check_object(
        &self,
        object: &OpenstackConfig,
        given: &Object,
        expected: &Expected,
        inventory: &Inventory,
    ) -> Result<(), Broken> {
        let fail = |what: String| Err(format!("(c) {} ({}): {what}", object.key, object.uid));
        let refused = |name: &String| self.refused.contains(name);
        let refuses = expected.nodes.keys().any(refused);
        if let Err(what) = check_status(object, expected, refuses) {
            return fail(what);
        }
        let reason = object.status.condition("Ready").map_or("", |ready| ready.reason.as_str());
        let is_well = WELL.contains(&reason);
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
            let told = self.oracle.told.get(&(spec.target().to_owned(), name.clone()));
            let Some(told) = told else { return fail(format!("Viola doesn't know {name}")) };
            // A process that was killed after a POST that it saw no answer to has no memory of it.
            // Its successor sends again what differs from the record, and cannot know more.
            if !told.is_known && told.at < self.upset_at {
                continue;
            }
            let cloud = self.transport.now.state.lock();
            if let Err(what) = check_held(&cloud, name, vm, cards, &told.config) {
                return fail(what);
            }
            drop(cloud);
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
        let intervals = &self.config.settings.intervals;
        let (at, slow) = (self.at, intervals.slow);
        let slack = slow.mul_f64(1.2) + Duration::from_secs(60);
        let sent_within = |limit: Duration| told_at + limit.mul_f64(1.2) + slack >= at;
        // A node that wasn't there then comes back as it was told before, and needs no telling.
        let was_there = given.sent_again.as_ref().is_none_or(|nodes| nodes.contains(name));
        if let Some(forced_at) = given.forced_at.filter(|forced| *forced > self.upset_at)
            && was_there
            && told_at < forced_at
        {
            return fail("wasn't sent again though somebody asked for it");
        }
        if let Some(resync) = intervals.resync
            && !sent_within(resync)
        {
            return fail("wasn't sent again in its interval");
        }
        let cloud = self.transport.now.state.lock();
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
        for stored in inventory.iter().filter(|stored| stored.record.was_accepted()) {
            let record = &stored.record;
            let target = record.accepted_by.clone().unwrap_or_default();
            let told = self.oracle.told.get(&(target, record.node_name.clone()));
            let held = told.map(|told| &told.config);
            if held != Some(&record.config) && told.is_none_or(|told| told.is_known) {
                return Err(format!("(c) the inventory has {record:?}, Viola has {held:?}"));
            }
        }
        Ok(())
    }
}
