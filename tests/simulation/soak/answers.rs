//! What Viola's answers mean: what it holds, what the operator may have recorded, and what it must
//! have.

use std::collections::BTreeMap;

use multinic_operator::inventory::contents::Inventory;
use multinic_operator::node_config::NodeConfig;

/// An acceptance this short before the end of a process may not have been recorded.
const RECORDED_AFTER: u64 = 5_000;

/// What Viola was told of something.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) config: NodeConfig,
    pub(crate) at: u64,
    pub(crate) life: u32,
    /// The operator was told that it was accepted, and has had the time to record it.
    pub(crate) is_known: bool,
}

/// A provider and a VM.
type Vm = (String, String);

/// Where a node is: Biz cluster and name.
type Place = (String, String);

/// Whose record it is: provider, Biz cluster and name.
type Holder = (String, String, String);

/// All that the answers said.
#[derive(Default)]
pub(crate) struct Answers {
    /// What a place was last told.
    told: BTreeMap<Place, Told>,
    /// What Viola was last told of a VM, under whatever name.
    last: BTreeMap<Vm, Told>,
    /// All that a record was told, oldest first; it holds one of those from the last known one on.
    held: BTreeMap<Holder, Vec<Told>>,
    /// What was sent last where it came to nothing.
    rejected: BTreeMap<Holder, NodeConfig>,
}

fn holder(provider: &str, (target, node): &Place) -> Holder {
    (provider.to_owned(), target.clone(), node.clone())
}

impl Answers {
    /// Nothing came of a POST, and nobody thinks that something did.
    pub(crate) fn note_rejected(&mut self, place: &Place, provider: &str, config: &NodeConfig) {
        self.rejected.insert(holder(provider, place), config.clone());
    }

    /// A POST was accepted, or may have been, for any of these providers.
    pub(crate) fn note_told(&mut self, place: Place, providers: &[String], told: Told) {
        let vm = &told.config.instance_id;
        for provider in providers {
            // A VM whose name another one got is remembered no more.
            for ((of, other), last) in &mut self.last {
                if of == provider && other != vm {
                    last.is_known &= last.config.node_name != told.config.node_name;
                }
            }
            self.last.insert((provider.clone(), vm.clone()), told.clone());
            let holder = holder(provider, &place);
            self.rejected.remove(&holder);
            self.held.entry(holder).or_default().push(told.clone());
        }
        self.told.insert(place, told);
    }

    /// A process ended: it may not have recorded the last of what was accepted.
    pub(crate) fn note_end(&mut self, at: u64, disk_bad_since: Option<u64>) {
        let recorded = at.saturating_sub(RECORDED_AFTER);
        let recorded = disk_bad_since.map_or(recorded, |bad| bad.min(recorded));
        let held = self.held.values_mut().flatten();
        for told in self.told.values_mut().chain(self.last.values_mut()).chain(held) {
            told.is_known &= told.at < recorded;
        }
    }

    /// The operator may not know what Viola holds of this node: nobody saw its last POST accepted,
    /// or it may not have been recorded.
    pub(crate) fn is_unknown(&self, target: &str, node: &str) -> bool {
        self.unknown(target, node).is_some()
    }

    /// The same of an earlier process, whose successor sends again only what differs from the
    /// record. One that still runs knows what it can't know, and sends it again.
    pub(crate) fn is_doubtful(&self, target: &str, node: &str, life: u32) -> bool {
        self.unknown(target, node).is_some_and(|told| told.life != life)
    }

    fn unknown(&self, target: &str, node: &str) -> Option<&Told> {
        let told = self.told.get(&(target.to_owned(), node.to_owned()));
        told.filter(|told| !told.is_known)
    }

    /// What Viola was last told of a VM.
    pub(crate) fn last(&self, provider: &str, vm: &str) -> Option<&Told> {
        self.last.get(&(provider.to_owned(), vm.to_owned()))
    }

    /// Was Viola ever told of a VM under this name?
    pub(crate) fn was_told(&self, provider: &str, vm: &str, name: &str) -> bool {
        let held = self.held.iter().filter(|((of, _, node), _)| of == provider && node == name);
        held.flat_map(|(_, told)| told).any(|told| told.config.instance_id == vm)
    }

    /// What Viola didn't accept isn't in the inventory. What is sent again in doubt and refused may
    /// well be: the record has it from the time before.
    pub(crate) fn wrongly_recorded(&self, inventory: &Inventory) -> Option<String> {
        self.rejected.iter().find_map(|(holder, config)| {
            let (provider, target, node) = holder;
            let record = &inventory.get(provider, node)?.record;
            let is_recorded =
                record.config == *config && record.accepted_by.as_ref() == Some(target);
            (is_recorded && !self.may_hold(holder, config))
                .then(|| format!("{node} was recorded, which {target} never accepted"))
        })
    }

    fn may_hold(&self, holder: &Holder, config: &NodeConfig) -> bool {
        let held = self.held.get(holder).map(Vec::as_slice).unwrap_or_default();
        let first = held.iter().rposition(|told| told.is_known).unwrap_or(0);
        held[first..].iter().any(|told| told.config == *config)
    }

    /// After a start: every node that was accepted and recorded is in the inventory.
    pub(crate) fn missing(&self, found: &Inventory) -> Option<String> {
        let known = self.last.iter().filter(|(_, told)| told.is_known);
        known.into_iter().find_map(|((provider, vm), told)| {
            let node = &told.config.node_name;
            let is_there =
                found.get(provider, node).is_some() || !found.by_instance(provider, vm).is_empty();
            (!is_there).then(|| format!("the accepted node {node} of VM {vm} is gone: {told:?}"))
        })
    }

    /// How many accepted nodes a start must find.
    pub(crate) fn known(&self) -> usize {
        self.last.values().filter(|told| told.is_known).count()
    }
}

mod tests {
    use multinic_operator::inventory::document;
    use serde_json::json;

    use super::{Answers, Inventory, NodeConfig, Told};

    const PROVIDER: &str = "cloud";
    const TARGET: &str = "biz";
    const NODE: &str = "node-0";

    /// One node, told from another by its only port.
    fn config(port: &str) -> NodeConfig {
        let interface = json!({
            "id": 0, "portId": port, "networkId": "lan", "subnetId": "lan-4",
            "name": "multinic0", "macAddress": "fa:16:3e:00:00:01", "address": "10.0.0.5",
            "cidr": "10.0.0.0/24", "mtu": 1450,
        });
        serde_json::from_value(json!({
            "nodeName": NODE, "instanceId": "vm", "interfaces": [interface],
        }))
        .unwrap()
    }

    fn inventory_of(config: &NodeConfig) -> Inventory {
        let record = json!({
            "providerId": PROVIDER, "nodeName": NODE, "instanceId": "vm", "config": config,
            "lastConfigHash": config.hash(), "updatedAt": "2026-01-02T03:04:05Z",
            "acceptedBy": TARGET,
        });
        let file = json!({"records": [record]}).to_string();
        document::decode(file.as_bytes()).unwrap().inventory
    }

    /// What came of each POST, in this order, a second apart.
    fn answers(posts: &[(&str, Option<bool>)]) -> Answers {
        let mut answers = Answers::default();
        let place = (TARGET.to_owned(), NODE.to_owned());
        for (at, (port, is_known)) in (1..).zip(posts) {
            let (config, at) = (config(port), at * 1000);
            match *is_known {
                None => answers.note_rejected(&place, PROVIDER, &config),
                Some(is_known) => {
                    let told = Told { config, at, life: 1, is_known };
                    answers.note_told(place.clone(), &[PROVIDER.to_owned()], told);
                }
            }
        }
        answers
    }

    const REFUSED: Option<bool> = None;
    const ACCEPTED: Option<bool> = Some(true);
    const UNSEEN: Option<bool> = Some(false);

    fn is_wrong(posts: &[(&str, Option<bool>)], recorded: &str) -> bool {
        let inventory = inventory_of(&config(recorded));
        assert_eq!(inventory.len(), 1, "a record that can be read");
        answers(posts).wrongly_recorded(&inventory).is_some()
    }

    #[test]
    fn a_record_of_what_was_refused_is_wrong() {
        assert!(is_wrong(&[("a", REFUSED)], "a"));
        assert!(!is_wrong(&[("b", REFUSED)], "a"));
        assert!(is_wrong(&[("a", ACCEPTED), ("b", REFUSED)], "b"));
        // The record has moved on since "a", and didn't move back.
        assert!(is_wrong(&[("a", ACCEPTED), ("b", ACCEPTED), ("a", REFUSED)], "a"));
    }

    #[test]
    fn a_record_from_the_time_before_the_refusal_is_right() {
        assert!(!is_wrong(&[("a", ACCEPTED), ("a", REFUSED)], "a"));
        // Nobody knows whether "b" was accepted: "a" is recorded still, and sent again.
        assert!(!is_wrong(&[("a", ACCEPTED), ("b", UNSEEN), ("a", REFUSED)], "a"));
        assert!(!is_wrong(&[("a", UNSEEN), ("a", REFUSED)], "a"));
    }

    #[test]
    fn what_a_process_may_not_have_recorded_leaves_the_record_where_it_was() {
        let inventory = inventory_of(&config("a"));
        let posts = [("a", ACCEPTED), ("b", ACCEPTED), ("a", REFUSED)];
        let ends = |at, disk_bad_since| {
            let mut answers = answers(&posts);
            answers.note_end(at, disk_bad_since);
            answers.wrongly_recorded(&inventory).is_some()
        };
        assert!(ends(60_000, None));
        assert!(!ends(6_500, None));
        assert!(!ends(60_000, Some(1_500)));
    }
}
