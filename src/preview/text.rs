//! An outlook in words, for people. Pure.

use super::outlook::{Fate, Memory, Outlook};
use crate::node_config::NodeConfig;
use crate::reconcile::report::count;
use crate::table::aligned;
use crate::targets::viola::PATH;

/// The whole text.
pub fn of(outlook: &Outlook<'_>) -> String {
    let mut lines = head(outlook);
    for node in &outlook.plan.nodes {
        let NodeConfig { node_name, instance_id, .. } = &node.config;
        let (fate, reasons) = match outlook.fate(node) {
            Fate::Sent(reasons) => ("would be sent".to_owned(), reasons),
            Fate::Unchanged => ("unchanged, would not be sent".to_owned(), Vec::new()),
            Fate::Others(manager) => {
                let fate = format!("not sent: the older OpenstackConfig {manager} manages it");
                (fate, Vec::new())
            }
        };
        lines.push(String::new());
        lines.push(format!("node {node_name} (VM {instance_id}): {fate}"));
        lines.extend(reasons.iter().map(|reason| format!("  why: {reason}")));
        lines.extend(interfaces(&node.config).iter().map(|line| format!("  {line}")));
    }
    section(&mut lines, "left out:", outlook.left_out());
    section(&mut lines, "note:", notes(outlook));
    let verdict = outlook.verdict();
    let ready = if verdict.reason.is_success() { "True" } else { "False" };
    lines.push(String::new());
    lines.push(format!(
        "status, should Viola accept: Ready={ready}, {}: {}",
        verdict.reason.name(),
        verdict.message
    ));
    lines.join("\n") + "\n"
}

fn head(outlook: &Outlook<'_>) -> Vec<String> {
    let Outlook { config, object, spec, answers, inventory, due, plan, .. } = outlook;
    let subnet = answers.subnet;
    let name = subnet.name.as_deref().unwrap_or_default();
    let path = config.inventory.path.display();
    let memory = match &outlook.memory {
        Memory::Read { .. } => format!("{path}, {}", count(inventory.len(), "record")),
        Memory::Absent => format!("{path}, not there"),
        Memory::Unreadable(_) => format!("{path}, can't be read"),
    };
    let rows = [
        ("object", object.key.to_string()),
        ("subnet", format!("{} {name} {}, MTU {}", subnet.id, subnet.cidr, answers.mtu)),
        ("request", format!("POST {PATH}, x-provider-id: {}", spec.target())),
        ("inventory", memory),
        ("would send", format!("{} of {}", due.len(), count(plan.nodes.len(), "node"))),
    ];
    aligned(&rows.map(|(name, value)| vec![name.to_owned(), value]))
}

fn interfaces(config: &NodeConfig) -> Vec<String> {
    let title = ["ID", "NAME", "MAC", "ADDRESS", "CIDR", "MTU", "PORT"];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    rows.extend(config.interfaces.iter().map(|interface| {
        vec![
            interface.id.to_string(),
            interface.name.to_string(),
            interface.mac_address.clone(),
            interface.address.to_string(),
            interface.cidr.to_string(),
            interface.mtu.to_string(),
            interface.port_id.clone(),
        ]
    }));
    aligned(&rows)
}

/// What should be known beside the plan, a line each.
pub fn notes(outlook: &Outlook<'_>) -> Vec<String> {
    let mut notes = match &outlook.memory {
        Memory::Read { findings } => findings.clone(),
        Memory::Absent => vec![
            "there is no inventory here: interface ids are worked out without memory, and every \
             node counts as new; with the operator's inventory both may differ"
                .to_owned(),
        ],
        Memory::Unreadable(error) => vec![format!(
            "{error}: interface ids are worked out without memory and may differ, and every node \
             counts as new; the operator itself sends nothing in this state"
        )],
    };
    notes.extend(
        outlook
            .plan
            .by_id
            .iter()
            .map(|vm_id| format!("VM {vm_id} is unknown to Nova and goes by its id")),
    );
    notes.extend(crate::reconcile::report::remembered(&outlook.plan.remembered));
    if outlook.is_forced() {
        notes.push(
            "an operator that was started after the annotation was set doesn't count it".to_owned(),
        );
    }
    notes.extend(outlook.notes.iter().cloned());
    notes
}

fn section(lines: &mut Vec<String>, title: &str, items: Vec<String>) {
    if !items.is_empty() {
        lines.push(String::new());
        lines.push(title.to_owned());
        lines.extend(items.iter().map(|item| format!("  {item}")));
    }
}
