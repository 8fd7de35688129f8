//! Once nothing goes wrong any more everything is in order: each object says what the cloud as it is
//! comes to, Viola holds what the cloud has, and the inventory holds what Viola accepted.

use std::collections::BTreeSet;

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::inventory::document;
use multinic_operator::node_config::NodeConfig;
use multinic_operator::resources::OpenstackConfig;
use serde_json::Value;
use simulated_cloud::CloudState;

use crate::expected::{Expected, WELL, check_held, check_status, expected};
use crate::soak::faults::read;
use crate::soak::run::Soak;

type Checked = Result<(), String>;

impl Soak {
    /// The inventory as its API tells it.
    pub(crate) fn inventory(&self) -> Result<Inventory, String> {
        let answer = self.process.get("inventory", "/v1/inventory/node-configs");
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
    pub(crate) fn check_convergence(&self) -> Checked {
        let ready = self.process.get("health", "/readyz").ok_or("/readyz doesn't answer")?;
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
            let expected = expected(&cloud, object, &objects, self.oracle.name_key, &inventory);
            check_status(object, &expected, false)
                .and_then(|()| self.check_nodes(object, &expected, &cloud, &inventory))
                .map_err(|what| format!("{}: {what}", object.key))?;
        }
        self.check_inventory(&inventory)
    }

    /// Polls go on, and not for objects that are gone.
    pub(crate) fn check_polls(&self) -> Checked {
        let objects = self.cloud.kubernetes().objects("OpenstackConfig");
        let named = |object: &Value| object["spec"]["vmNames"].as_array().cloned();
        let vms = objects.iter().filter_map(named).flatten();
        let vms: BTreeSet<String> =
            vms.filter_map(|vm| Some(vm.as_str()?.to_ascii_lowercase())).collect();
        let is_well = |object: &Value| {
            let ready = read(object).status.condition("Ready").map(|ready| ready.status.clone());
            ready.as_deref() == Some("True")
        };
        if let Some(gone) = self.asked_vms.difference(&vms).next() {
            return Err(format!("VM {gone} is polled, which no object names"));
        }
        if self.asked_vms.is_empty() && objects.iter().any(is_well) {
            return Err("no VM is polled any more".to_owned());
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
            if expected.doubtful.contains(name) || self.oracle.is_doubtful(spec.target(), name) {
                continue;
            }
            let node = held.get(name).ok_or(format!("Viola doesn't know {name}"))?;
            let node: NodeConfig =
                serde_json::from_value(node.clone()).map_err(|error| error.to_string())?;
            check_held(cloud, name, vm, cards, &node)?;
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
            if held != recorded && !self.oracle.answers.is_unknown(&target, &record.node_name) {
                return Err(format!("the inventory has {record:?}, Viola has {held:?}"));
            }
        }
        Ok(())
    }
}
