//! Once nothing goes wrong any more everything is in order: each object says what the cloud as it is
//! comes to, Viola holds what the cloud has, and the inventory holds what Viola accepted.

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::inventory::document;
use multinic_operator::resources::OpenstackConfig;
use serde_json::Value;
use simulated_cloud::CloudState;

use crate::books::cards_of;
use crate::campaign::Campaign;
use crate::harm::read;
use crate::outcome::{Expected, WELL, expected};

type Checked = Result<(), String>;

impl Campaign {
    /// The inventory as its API tells it.
    pub(crate) fn inventory(&self) -> Result<Inventory, String> {
        let answer = self.life.get("inventory", "/v1/inventory/node-configs");
        let answer = answer.ok_or("the inventory doesn't answer")?;
        if answer.status != 200 {
            return Err(format!("the inventory answers {} {}", answer.status, answer.body));
        }
        let file = format!("{{\"records\": {}}}", answer.body);
        let found =
            document::decode(file.as_bytes()).map_err(|error| format!("{error:?}: {file}"))?;
        Ok(found.inventory)
    }

    /// Checks all of it.
    pub(crate) fn check_calm(&self) -> Checked {
        let ready = self.life.get("health", "/readyz").ok_or("/readyz doesn't answer")?;
        if ready.status != 200 {
            return Err(format!("it isn't ready: {}", ready.body));
        }
        if let Some(violation) = self.cloud.viola().violations().first() {
            return Err(format!("Viola's contract is broken: {violation}"));
        }
        let inventory = self.inventory()?;
        let cloud = self.cloud.edit(|state| state.clone());
        let objects: Vec<OpenstackConfig> =
            self.cloud.kubernetes().objects("OpenstackConfig").iter().map(read).collect();
        for object in &objects {
            let expected = expected(&cloud, object, &objects, self.judge.name_key, &inventory);
            self.check_status(object, &expected)
                .and_then(|()| self.check_nodes(object, &expected, &cloud, &inventory))
                .map_err(|what| format!("{}: {what}", object.key))?;
        }
        self.check_inventory(&inventory)
    }

    fn check_status(&self, object: &OpenstackConfig, expected: &Expected) -> Checked {
        let ready = object.status.condition("Ready").ok_or("it has no status")?;
        let reason = ready.reason.as_str();
        if !expected.reasons.contains(reason) {
            let reasons = &expected.reasons;
            return Err(format!("it says {reason} ({}) instead of {reasons:?}", ready.message));
        }
        if object.status.observed_generation != Some(object.generation) {
            return Err(format!("its status speaks of {:?}", object.status.observed_generation));
        }
        let is_well = WELL.contains(&reason);
        if (ready.status == "True") != is_well || is_well != object.status.last_error.is_empty() {
            return Err(format!("Ready is {} for {reason}", ready.status));
        }
        let degraded = object.status.condition("Degraded").map(|known| known.status.as_str());
        if degraded != Some(if is_well { "False" } else { "True" }) {
            return Err(format!("Degraded is {degraded:?} for {reason}: {}", ready.message));
        }
        Ok(())
    }

    fn check_nodes(
        &self,
        object: &OpenstackConfig,
        expected: &Expected,
        cloud: &CloudState,
        inventory: &Inventory,
    ) -> Checked {
        let reason = object.status.condition("Ready").map(|ready| ready.reason.as_str());
        let plans = reason.is_some_and(|reason| WELL.contains(&reason) || reason == "NodeConflict");
        let Some(spec) = object.spec.as_ref().ok().filter(|_| plans) else { return Ok(()) };
        let count = object.status.nodes.unwrap_or(0) as usize;
        if expected.doubtful.is_empty() && count != expected.nodes.len() {
            return Err(format!("it counts {count} nodes instead of {}", expected.nodes.len()));
        }
        let held = self.cloud.viola().current(spec.target());
        for (name, (vm, cards)) in &expected.nodes {
            if expected.doubtful.contains(name) || self.judge.is_doubtful(spec.target(), name) {
                continue;
            }
            let node = held.get(name).ok_or(format!("Viola doesn't know {name}"))?;
            let node: multinic_operator::node_config::NodeConfig =
                serde_json::from_value(node.clone()).map_err(|error| error.to_string())?;
            let sent = cards_of(&node);
            let fits = sent.is_subset(cards) && sent.len() == cards.len().min(10);
            if node.instance_id != *vm || !fits {
                return Err(format!("Viola holds {sent:?} of {name} instead of {cards:?}"));
            }
            for interface in &node.interfaces {
                let mtu = cloud.network(&interface.network_id).map(|network| network.mtu);
                if mtu != Some(interface.mtu) {
                    return Err(format!("Viola holds MTU {} instead of {mtu:?}", interface.mtu));
                }
            }
            let stored = inventory.get(&spec.provider_id, name);
            if stored.is_none_or(|stored| stored.record.config != node) {
                return Err(format!("the inventory doesn't hold what Viola has of {name}"));
            }
        }
        Ok(())
    }

    /// The inventory holds what Viola holds, of objects that are gone too.
    fn check_inventory(&self, inventory: &Inventory) -> Checked {
        for stored in inventory.iter() {
            let record = &stored.record;
            let target = record.accepted_by.clone().unwrap_or_default();
            let held = self.cloud.viola().current(&target).remove(&record.node_name);
            let recorded: Option<Value> = serde_json::to_value(&record.config).ok();
            if held != recorded && !self.judge.answers.is_unknown(&target, &record.node_name) {
                return Err(format!("the inventory has {record:?}, Viola has {held:?}"));
            }
        }
        Ok(())
    }
}
