//! Gauges over all objects: how many are in which state, and since when the oldest trouble of each
//! reason lasts.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::agent::condition::{Configured, Known};
use crate::metrics::Metrics;
use crate::reconcile::memory;
use crate::resources::Status;

/// Of an object of which no pass has ended yet.
const PENDING: (&str, &str) = ("Unknown", "Pending");

/// Reports the objects, each with its status, its ports that are DOWN, its nodes if all of them have
/// lost their ports, and what its agents say. States and reasons that no object has any more are
/// removed.
pub(super) fn report<'a>(
    metrics: &Metrics,
    objects: impl Iterator<Item = (&'a Status, usize, usize, &'a Known)>,
) {
    let mut counts: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    let mut troubles: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let (mut ports, mut held, mut emptied) = (0, 0, 0);
    let mut agents = [("configured", 0), ("failed", 0), ("not_reported", 0), ("waiting", 0)];
    for (status, down_ports, all_emptied, known) in objects {
        if let Known::This(known) = known {
            let Configured { nodes, configured, failed, overdue, .. } = known;
            let waiting = nodes.saturating_sub(configured + failed + overdue);
            let counts = [*configured, *failed, *overdue, waiting];
            agents.iter_mut().zip(counts).for_each(|((_, sum), count)| *sum += count);
        }
        let hold = status.hold.as_ref();
        let hold = hold.filter(|hold| !hold.approved && hold.hash != memory::APPROVAL);
        held += hold.map_or(0, |hold| hold.nodes);
        emptied += all_emptied;
        let ready = status.condition("Ready");
        let state = ready.map_or(PENDING, |ready| (&ready.status, &ready.reason));
        *counts.entry(state).or_default() += 1.0;
        ports += down_ports;
        let Some(ready) = ready.filter(|ready| ready.status == "False") else { continue };
        if let Ok(since) = ready.last_transition_time.parse::<Timestamp>() {
            let oldest = troubles.entry(&ready.reason).or_insert(since);
            *oldest = since.min(*oldest);
        }
    }
    let counts = counts.into_iter().map(|((ready, reason), count)| ([ready, reason], count));
    metrics.replace("multinic_objects", counts);
    let troubles = troubles.into_iter().map(|(reason, since)| ([reason], since.as_second() as f64));
    metrics.replace("multinic_not_ready_since_timestamp_seconds", troubles);
    for (state, count) in agents {
        metrics.set("multinic_agent_nodes", &[("state", state)], count as f64);
    }
    metrics.set("multinic_down_ports", &[], ports as f64);
    metrics.set("multinic_held_nodes", &[], f64::from(held));
    metrics.set("multinic_emptied_nodes", &[], emptied as f64);
}
