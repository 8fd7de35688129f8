//! The records by the target that accepted them, as later versions of the Go operator serve them.
//! Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::node_config::NodeConfig;

/// A record; `provider_id` is its target.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivered<'a> {
    provider_id: &'a str,
    node_name: &'a str,
    instance_id: &'a str,
    config: &'a NodeConfig,
    last_config_hash: &'a str,
    updated_at: Timestamp,
}

/// A target and its nodes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Provider<'a> {
    provider_id: &'a str,
    node_count: usize,
    updated_at: Timestamp,
    nodes: Vec<Node<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    provider_id: &'a str,
    node_name: &'a str,
    instance_id: &'a str,
    interface_count: usize,
    updated_at: Timestamp,
}

/// All targets.
#[derive(Serialize)]
pub(super) struct Providers<'a> {
    providers: Vec<Provider<'a>>,
}

/// The records that APIs show, of this target and this VM, ordered by target and node name.
pub(super) fn delivered<'a>(
    inventory: &'a Inventory,
    target: Option<&str>,
    instance_id: Option<&str>,
) -> Vec<Delivered<'a>> {
    let records = inventory.shown_from("", "").map(|stored| &stored.record);
    let mut found: Vec<_> = records
        .filter(|record| target.is_none_or(|wanted| target_of(record).eq_ignore_ascii_case(wanted)))
        .filter(|record| instance_id.is_none_or(|wanted| record.instance_id == wanted))
        .map(|record| Delivered {
            provider_id: target_of(record),
            node_name: &record.node_name,
            instance_id: &record.instance_id,
            config: &record.config,
            last_config_hash: &record.last_config_hash,
            updated_at: record.updated_at,
        })
        .collect();
    found.sort_by_key(|one| (one.provider_id.to_ascii_lowercase(), one.node_name));
    found
}

/// All targets with their nodes, in the order of [`delivered`].
pub(super) fn providers(inventory: &Inventory) -> Providers<'_> {
    let mut providers: BTreeMap<String, Provider<'_>> = BTreeMap::new();
    for one in delivered(inventory, None, None) {
        let Delivered { provider_id, node_name, instance_id, config, updated_at, .. } = one;
        let key = provider_id.to_ascii_lowercase();
        let provider = providers.entry(key).or_insert(Provider {
            provider_id,
            node_count: 0,
            updated_at,
            nodes: Vec::new(),
        });
        provider.node_count += 1;
        provider.updated_at = provider.updated_at.max(updated_at);
        let interface_count = config.interfaces.len();
        let node = Node { provider_id, node_name, instance_id, interface_count, updated_at };
        provider.nodes.push(node);
    }
    Providers { providers: providers.into_values().collect() }
}

/// Records of the Go operator don't say who accepted them: later versions of it file them under the
/// target, earlier ones under the cloud.
fn target_of(record: &Record) -> &str {
    record.accepted_by.as_deref().unwrap_or(&record.provider_id)
}
