//! What would be sent and what would not, gathered for whoever shows it. Pure.

use jiff::Timestamp;

use crate::cloud::fetch::Answers;
use crate::cloud::neutron::Port;
use crate::config::Config;
use crate::inventory::contents::Inventory;
use crate::inventory::record::Record;
use crate::node_config::MAX_INTERFACES;
use crate::reconcile::changes::SendReason;
use crate::reconcile::differences;
use crate::reconcile::plan::{Plan, PlannedNode, Unconfirmed, Unusable, usable};
use crate::reconcile::report::{Conflict, Summary, Verdict, verdict};
use crate::resources::{OpenstackConfig, Spec};
use crate::targets::viola::Delivery;

/// What is remembered of earlier sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The inventory was read; what was found wrong with it.
    Read {
        /// For people.
        findings: Vec<String>,
    },
    /// There is no inventory.
    Absent,
    /// It is there and can't be read.
    Unreadable(String),
}

/// Everything a sync would know before it posts.
pub struct Outlook<'a> {
    /// Settings.
    pub config: &'a Config,
    /// The object.
    pub object: &'a OpenstackConfig,
    /// What it asks for.
    pub spec: &'a Spec,
    /// How the inventory was come by.
    pub memory: Memory,
    /// What nodes were told before.
    pub inventory: &'a Inventory,
    /// What the cloud said.
    pub answers: &'a Answers<'a>,
    /// What each node should be told.
    pub plan: &'a Plan,
    /// How many of the nodes the object manages.
    pub own: usize,
    /// Nodes that older objects manage.
    pub conflicts: &'a [Conflict],
    /// Nodes that would be sent.
    pub due: &'a [(&'a PlannedNode, SendReason)],
    /// When the force annotation was set.
    pub forced_at: Option<Timestamp>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// What would become of a planned node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It would be sent, for these reasons.
    Sent(Vec<String>),
    /// Viola has accepted just this.
    Unchanged,
    /// An older object manages it.
    Others(String),
}

impl Outlook<'_> {
    /// What would become of the node, and why.
    pub fn fate(&self, node: &PlannedNode) -> Fate {
        let name = &node.config.node_name;
        if let Some(conflict) = self.conflicts.iter().find(|c| c.node_name == *name) {
            return Fate::Others(conflict.manager.to_string());
        }
        let due = self.due.iter().find(|(due, _)| due.config.node_name == *name);
        match due {
            None => Fate::Unchanged,
            Some((_, why)) => Fate::Sent(self.reasons(node, *why)),
        }
    }

    fn reasons(&self, node: &PlannedNode, why: SendReason) -> Vec<String> {
        let name = &node.config.node_name;
        let record = self.inventory.get(&self.spec.provider_id, name).map(|stored| &stored.record);
        match (why, record) {
            (SendReason::Changed, Some(record)) => {
                differences::between(record, node, self.spec.target())
            }
            (SendReason::Changed, None) => {
                let known =
                    self.inventory.by_instance(&self.spec.provider_id, &node.config.instance_id);
                match known.first() {
                    Some(old) => {
                        let old = &old.record.node_name;
                        vec![format!("its VM was known as node {old}, whose record it replaces")]
                    }
                    None => vec!["new: nothing says that Viola ever accepted it".to_owned()],
                }
            }
            (SendReason::Resync, record) => {
                vec![match self.forced_at.filter(|forced| accepted_by(record, *forced)) {
                    Some(forced) => format!(
                        "the force-reconcile annotation was set at {forced}, after it was \
                         accepted; unchanged otherwise"
                    ),
                    None => "VIOLA_RESYNC_INTERVAL has passed since it was accepted; unchanged \
                             otherwise"
                        .to_owned(),
                }]
            }
            (SendReason::DownPorts, _) => {
                vec![format!("DOWN ports are due again: {}", node.down_ports.join(", "))]
            }
        }
    }

    /// Would any node be sent because of the force annotation alone?
    pub fn is_forced(&self) -> bool {
        self.forced_at.is_some_and(|forced| {
            self.due.iter().filter(|(_, why)| *why == SendReason::Resync).any(|(node, _)| {
                let name = &node.config.node_name;
                let stored = self.inventory.get(&self.spec.provider_id, name);
                accepted_by(stored.map(|stored| &stored.record), forced)
            })
        })
    }

    /// Ports and VMs that become no interface and no node, a line each.
    pub fn left_out(&self) -> Vec<String> {
        let Plan { without_ports, absent, unresolved, superseded, duplicate_names, .. } = self.plan;
        let mut lines = Vec::new();
        for vm_id in &self.spec.vm_ids {
            lines.extend(self.left_out_ports(vm_id));
        }
        let unknown = "unknown to Nova, and no usable port";
        lines.extend(absent.iter().map(|vm_id| format!("VM {vm_id}: {unknown}")));
        lines.extend(without_ports.iter().map(|vm_id| format!("VM {vm_id}: no usable port")));
        for Unconfirmed { node_name, vm_id, why } in superseded {
            lines.push(format!(
                "VM {vm_id}: another VM has its last known name {node_name:?} ({why})"
            ));
        }
        for (vm_id, error) in unresolved {
            lines.push(format!("VM {vm_id}: its name isn't known: {error}"));
        }
        for (name, vm_ids) in duplicate_names {
            let vm_ids = vm_ids.join(", ");
            lines.push(format!("VMs {vm_ids}: they share the node name {name:?}"));
        }
        lines
    }

    fn left_out_ports(&self, vm_id: &str) -> Vec<String> {
        let statuses = self.config.openstack.port_statuses.as_deref();
        let node = self.plan.nodes.iter().find(|node| node.config.instance_id == vm_id);
        let of = node.map_or_else(|| format!("VM {vm_id}"), |node| node.config.node_name.clone());
        let ports = self.answers.vms.iter().filter(|vm| vm.id == vm_id).flat_map(|vm| vm.ports);
        let why = |port: &Port| match usable(port, self.answers.subnet, statuses) {
            Err(Unusable::OtherNetwork) => Some("on another network".to_owned()),
            Err(Unusable::NoAddress) => Some("no fixed ip".to_owned()),
            Err(Unusable::OtherSubnet) => Some("its fixed ips are in other subnets".to_owned()),
            Err(Unusable::Status) => {
                let counted = statuses.unwrap_or_default().join(", ");
                Some(format!("status {} (only {counted} count)", port.status))
            }
            Ok(_) => {
                let interfaces = &node?.config.interfaces;
                let sent = interfaces.iter().any(|interface| interface.port_id == port.id);
                (!sent).then(|| format!("over the limit of {MAX_INTERFACES}"))
            }
        };
        let line = |port: &Port| {
            let kept = node.and_then(|node| node.reserved.iter().find(|k| k.port_id == port.id));
            let kept = kept.map(|kept| format!("; multinic{} stays its own", kept.id));
            let (id, why) = (&port.id, why(port)?);
            Some(format!("port {id} of {of}: {why}{}", kept.unwrap_or_default()))
        };
        ports.filter_map(line).collect()
    }

    /// The status as it would be if Viola accepted everything.
    pub fn verdict(&self) -> Verdict {
        let accepted = self.due.iter().map(|(node, _)| node.config.node_name.clone()).collect();
        let delivery = Delivery { accepted, ..Delivery::default() };
        verdict(&Summary {
            plan: self.plan,
            conflicts: self.conflicts,
            nodes: self.own,
            delivery: &delivery,
            again: self.due.iter().filter(|(_, why)| *why != SendReason::Changed).count(),
        })
    }
}

fn accepted_by(record: Option<&Record>, moment: Timestamp) -> bool {
    record.is_some_and(|record| record.updated_at <= moment)
}
