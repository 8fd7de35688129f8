//! What must occur in the simulations of one run, so that nobody thinks a run strong that isn't.

use std::collections::BTreeMap;

use crate::faults::{Fault, SERVICES};

/// Reasons of the Ready condition.
const REASONS: [&str; 15] = [
    "Synced",
    "NoChange",
    "ConfigError",
    "ContrabassError",
    "KeystoneError",
    "NeutronEndpointError",
    "NeutronPortError",
    "SubnetRequired",
    "NeutronSubnetError",
    "SubnetNotFound",
    "SubnetNotUnique",
    "NovaError",
    "NodeConflict",
    "ViolaPostError",
    "ChangeHeld",
];

/// Everything else that happens.
const HAPPENINGS: [&str; 53] = [
    "long pause",
    "pass of several objects",
    "another pass in the way",
    "port status",
    "port created",
    "port deleted",
    "port moved",
    "port re-addressed",
    "VM created",
    "VM renamed",
    "VM deleted",
    "MTU changed",
    "subnet renamed",
    "subnet created",
    "subnet deleted",
    "tokens revoked",
    "password rotated",
    "provider changed",
    "provider removed",
    "settings changed",
    "catalog changed",
    "changed in the middle",
    "object created",
    "object changed",
    "object made again",
    "object deleted",
    "force-reconcile",
    "all objects forced",
    "status edited",
    "foreign Secret",
    "outage",
    "disk full",
    "disk read-only",
    "updates written",
    "clock jump",
    "stale watch",
    "relist",
    "Kubernetes down",
    "node refused",
    "ports hidden",
    "ports shown again",
    "approved",
    "approval taken off",
    "killed",
    "ended in good order",
    "killed while reading",
    "killed before the POST",
    "killed after the POST",
    "killed at a disk operation",
    "killed before the end is known",
    "killed while starting",
    "leadership lost",
    "power cut",
];

/// Kinds that a simulation can do without, to shorten its trace.
pub(crate) const AVOIDABLE: [&str; 26] = [
    "outage",
    "disk full",
    "disk read-only",
    "clock jump",
    "killed",
    "killed while reading",
    "killed before the POST",
    "killed after the POST",
    "killed at a disk operation",
    "killed before the end is known",
    "killed while starting",
    "leadership lost",
    "power cut",
    "changed in the middle",
    "too late",
    "cut",
    "body cut",
    "wrong JSON",
    "HTML",
    "401",
    "404",
    "5xx",
    "429",
    "503",
    "rows reversed",
    "some nodes refused",
];

/// What a run has to have seen.
pub(crate) fn wanted() -> Vec<String> {
    let reasons = REASONS.iter().map(|reason| format!("Ready {reason}"));
    let faults = SERVICES.iter().flat_map(|service| {
        Fault::ALL
            .into_iter()
            .filter(|fault| fault.fits(*service))
            .map(move |fault| format!("{service} {}", fault.name()))
    });
    reasons.chain(faults).chain(HAPPENINGS.iter().map(|kind| (*kind).to_owned())).collect()
}

/// What of that a run has not seen.
pub(crate) fn missing(counts: &BTreeMap<String, u64>) -> Vec<String> {
    wanted().into_iter().filter(|kind| !counts.contains_key(kind)).collect()
}
