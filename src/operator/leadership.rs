//! Whether this replica leads, and if not, which one does and where its inventory API listens.
//!
//! The leader writes its address into an annotation of the Lease it holds. What may write the Lease
//! could write anything there, and a request that is forwarded may carry a client's token. So only an
//! address that a pod can have is used: no name, no URL, and no address that means another host on
//! each host.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crossbeam_channel::{Receiver, bounded};

use crate::clock::Clock;
use crate::config::LeaderElection as ElectionSettings;
use crate::kube::client::KubeClient;
use crate::kube::lease::{LeaderElection, Leadership, LeaseHold, LeaseSettings, LeaseTiming};
use crate::metrics::Metrics;
use crate::threads::lock;

/// The annotation: `<pod ip>:<port>`, an IPv6 address in brackets.
const ADDRESS_ANNOTATION: &str = "multinic.example.com/inventory-address";
/// Characters of a wrong value that are shown.
const SHOWN_CHARACTERS: usize = 60;
/// News that may wait. What has to be known at once is set before they are sent.
const NEWS_PLACES: usize = 16;

/// The replica that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    /// Its name in the Lease, or what is known instead.
    pub(super) name: String,
    /// Where its inventory API listens, if the Lease says so.
    pub(super) inventory: Option<SocketAddr>,
}

impl Leader {
    /// One of which only the name is known.
    pub(super) fn named(name: &str) -> Leader {
        Leader { name: name.to_owned(), inventory: None }
    }
}

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
        let (sender, news) = bounded(NEWS_PLACES);
        let (status, own_ip) = (Arc::clone(self), settings.pod_ip);
        let sink = move |leadership: Leadership| {
            let other = match &leadership {
                Leadership::Leading => None,
                Leadership::Following { leader, annotations } => {
                    let address = annotations.get(ADDRESS_ANNOTATION);
                    let address = address.map(|text| read_address(text, own_ip));
                    if let Some(Err(problem)) = &address {
                        log::warn!("{ADDRESS_ANNOTATION} of the Lease is ignored: {problem}");
                    }
                    let inventory = address.and_then(Result::ok);
                    Some(Leader { inventory, ..Leader::named(leader) })
                }
                Leadership::Lost => {
                    // Before anything else: no further request may go out.
                    status.lost.store(true, Ordering::SeqCst);
                    Some(Leader::named("not known"))
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

/// The address in the annotation, or why it isn't used. `own` is this replica's address.
fn read_address(text: &str, own: Option<IpAddr>) -> Result<SocketAddr, String> {
    let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    let address: SocketAddr =
        text.parse().map_err(|_| format!("{shown:?} is no IP address with a port"))?;
    // An IPv4 address mapped into IPv6 means what it means by itself.
    let ip = address.ip().to_canonical();
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    // Replicas that share a host may meet there; to a pod it would be a port of its own.
    let is_ours_alone = ip.is_loopback() && !own.is_some_and(|own| own.is_loopback());
    let is_nowhere = address.port() == 0 || ip.is_unspecified() || ip.is_multicast();
    match is_nowhere || is_link_local || is_ours_alone {
        true => Err(format!("{shown:?} is no address of another pod")),
        false => Ok(SocketAddr::new(ip, address.port())),
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESS_ANNOTATION, read_address};
    use std::net::IpAddr;

    #[test]
    fn addresses_that_a_pod_can_have_are_used() {
        for text in ["10.244.1.7:18081", "[fd00:10::7]:18081", "203.0.113.9:1"] {
            assert_eq!(read_address(text, None).unwrap().to_string(), text);
        }
        let mapped = read_address("[::ffff:10.244.1.7]:18081", None).unwrap();
        assert_eq!(mapped.to_string(), "10.244.1.7:18081");
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(read_address("127.0.0.1:18081", Some(loopback)).is_ok());
    }

    #[test]
    fn anything_else_is_not() {
        let own: IpAddr = "10.244.1.8".parse().unwrap();
        for text in [
            "",
            "10.244.1.7",
            "10.244.1.7:",
            "10.244.1.7:0",
            "10.244.1.7:65536",
            " 10.244.1.7:18081",
            "10.244.1.7:18081/v1",
            "http://10.244.1.7:18081",
            "user@10.244.1.7:18081",
            "inventory.example.com:18081",
            "localhost:18081",
            "0.0.0.0:18081",
            "[::]:18081",
            "127.0.0.1:18081",
            "[::1]:18081",
            "[::ffff:127.0.0.1]:18081",
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:18081",
            "224.0.0.1:18081",
            "255.255.255.255:18081",
            "0x7f000001:80",
            "2130706433:80",
        ] {
            assert!(read_address(text, Some(own)).is_err(), "{text:?}");
            assert!(read_address(text, None).is_err(), "{text:?}");
        }
        let long = "x".repeat(10_000);
        assert!(read_address(&long, None).unwrap_err().len() < 200);
    }

    #[test]
    fn the_annotation_is_one_of_our_group() {
        assert!(
            ADDRESS_ANNOTATION
                .starts_with(&format!("{}/", crate::resources::OPENSTACK_CONFIGS.group))
        );
    }
}
