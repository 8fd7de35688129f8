//! Whether this replica leads, and if not, which one does.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::Clock;
use crate::config::{LEASE_NAME, LeaderElection as ElectionSettings};
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
    other: Mutex<Option<String>>,
    /// The Lease was lost. Another replica may have been leading since, even if this one gets the
    /// Lease again before its process ends.
    lost: AtomicBool,
    hold: OnceLock<LeaseHold>,
    news: OnceLock<Sender<Leadership>>,
}

impl LeaderStatus {
    /// Right at any moment: the hold goes by the clock.
    pub(super) fn is_leading(&self) -> bool {
        !self.lost.load(Ordering::SeqCst) && self.hold.get().is_none_or(LeaseHold::is_held)
    }

    /// Ends this replica's lead, whatever the Lease says: another operator writes its records.
    pub(super) fn give_up(&self) {
        self.lost.store(true, Ordering::SeqCst);
        if let Some(news) = self.news.get() {
            let _ = news.try_send(Leadership::Lost);
        }
    }

    /// The name in the Lease of the replica that leads instead of this one, or what is known of it.
    pub(super) fn other(&self) -> Option<String> {
        lock(&self.other).clone()
    }

    /// How a replica is doing that doesn't work (yet), or what is wrong, for `/readyz`.
    pub(super) fn standby(&self) -> Result<String, String> {
        match self.hold.get() {
            Some(hold) if hold.is_known() => {
                let leader = self.other().unwrap_or_else(|| "this replica".to_owned());
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
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<(LeaderElection, Receiver<Leadership>)> {
        *lock(&self.other) = Some("not known yet".to_owned());
        let lease = LeaseSettings {
            namespace: settings.namespace.clone(),
            name: LEASE_NAME.to_owned(),
            identity: settings.identity.clone(),
            timing: LeaseTiming::default(),
        };
        let (sender, news) = bounded(NEWS_PLACES);
        let _ = self.news.set(sender.clone());
        let status = Arc::clone(self);
        let sink = move |leadership: Leadership| {
            let other = match &leadership {
                Leadership::Leading => None,
                Leadership::Following { leader } => Some(leader.clone()),
                Leadership::Lost => {
                    // Before anything else: no further request may go out.
                    status.lost.store(true, Ordering::SeqCst);
                    Some("not known".to_owned())
                }
            };
            *lock(&status.other) = other;
            let _ = sender.try_send(leadership);
        };
        let election = LeaderElection::spawn(kubernetes, lease, clock, metrics, sink)?;
        let _ = self.hold.set(election.hold());
        Ok((election, news))
    }
}

/// The leader by its name in the Lease, and how to reach its inventory. The name of a replica is its
/// pod's name, `_` and a number; what is said while no leader is known has no `_`.
pub(super) fn how_to_ask(leader: &str, namespace: &str, port: u16) -> String {
    match leader.rsplit_once('_') {
        Some((pod, _)) => {
            format!("{leader}; ask it: kubectl -n {namespace} port-forward pod/{pod} {port}")
        }
        None => leader.to_owned(),
    }
}
