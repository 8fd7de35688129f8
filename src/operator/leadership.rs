//! Whether this replica leads, and which one does if not.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crossbeam_channel::{Receiver, bounded};

use super::leader::{ADDRESS_ANNOTATION, Leader};
use crate::clock::Clock;
use crate::config::LeaderElection as ElectionSettings;
use crate::kube::client::KubeClient;
use crate::kube::lease::{LeaderElection, Leadership, LeaseHold, LeaseSettings, LeaseTiming};
use crate::metrics::Metrics;
use crate::threads::lock;

/// News that may wait. What has to be known at once is set before they are sent.
const NEWS_PLACES: usize = 16;

/// Without an election, this replica leads from the start.
#[derive(Default)]
pub(super) struct LeaderStatus {
    /// The replica that leads instead of this one.
    other: Mutex<Option<Leader>>,
    /// The Lease was lost. Another replica may have been leading since, even if this one gets the
    /// Lease again before its process ends.
    lost: AtomicBool,
    hold: OnceLock<LeaseHold>,
}

impl LeaderStatus {
    /// Right at any moment: the hold goes by the clock.
    pub(super) fn is_leading(&self) -> bool {
        !self.lost.load(Ordering::SeqCst) && self.hold.get().is_none_or(LeaseHold::is_held)
    }

    /// The replica that leads instead of this one, or what is known of it.
    pub(super) fn other(&self) -> Option<Leader> {
        lock(&self.other).clone()
    }

    /// How a replica is doing that doesn't work (yet), or what is wrong, for `/readyz`.
    pub(super) fn standby(&self) -> Result<String, String> {
        match self.hold.get() {
            Some(hold) if hold.is_known() => {
                let leader = self.other().map_or_else(|| "this replica".to_owned(), |it| it.name);
                Ok(format!("standing by (leader: {leader})"))
            }
            Some(_) => Err("the Lease can't be read; see the log".to_owned()),
            None => Err("the operator is starting".to_owned()),
        }
    }

    /// Takes part in the election. The receiver gets the news; it is disconnected when the election
    /// ends by itself.
    pub(super) fn elect(
        self: &Arc<LeaderStatus>,
        kubernetes: &KubeClient,
        settings: &ElectionSettings,
        inventory: Option<SocketAddr>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<(LeaderElection, Receiver<Leadership>)> {
        *lock(&self.other) = Some(Leader::named("not known yet"));
        let address = settings.pod_ip.zip(inventory);
        let address = address.map(|(ip, at)| SocketAddr::new(ip, at.port()).to_string());
        let lease = LeaseSettings {
            namespace: settings.namespace.clone(),
            name: "multinic-operator".to_owned(),
            identity: settings.identity.clone(),
            timing: LeaseTiming::default(),
            annotations: BTreeMap::from([(ADDRESS_ANNOTATION, address)]),
        };
        let (tell, news) = bounded(NEWS_PLACES);
        let (status, own_ip) = (Arc::clone(self), settings.pod_ip);
        let sink = move |leadership: Leadership| {
            let other = match &leadership {
                Leadership::Leading => None,
                Leadership::Following { leader, annotations } => {
                    let address = annotations.get(ADDRESS_ANNOTATION).map(String::as_str);
                    let (leader, problem) = Leader::read(leader, address, own_ip);
                    if let Some(problem) = problem {
                        log::warn!("{ADDRESS_ANNOTATION} of the Lease is ignored: {problem}");
                    }
                    Some(leader)
                }
                Leadership::Lost => {
                    // Before anything else: no further request may go out.
                    status.lost.store(true, Ordering::SeqCst);
                    Some(Leader::named("not known"))
                }
            };
            *lock(&status.other) = other;
            let _ = tell.try_send(leadership);
        };
        let election = LeaderElection::spawn(kubernetes, lease, clock, metrics, sink)?;
        let _ = self.hold.set(election.hold());
        Ok((election, news))
    }
}
