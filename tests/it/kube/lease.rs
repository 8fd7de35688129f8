//! Leader election over real connections.

use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use multinic_operator::clock::Clock;
use multinic_operator::kube::lease::{LeaderElection, Leadership, LeaseSettings, LeaseTiming};
use serde_json::json;
use simulated_cloud::kubernetes::View;
use simulated_cloud::{Fault, FaultKind, Service};

use crate::kube::support::{Api, LIMIT, now};

fn candidate(api: &Api, identity: &str) -> (LeaderElection, Receiver<Leadership>) {
    let (sender, news) = unbounded();
    let settings = LeaseSettings {
        namespace: "default".to_owned(),
        name: "multinic-operator".to_owned(),
        identity: identity.to_owned(),
        timing: LeaseTiming {
            duration: Duration::from_secs(2),
            renew_deadline: Duration::from_millis(1000),
            retry: Duration::from_millis(150),
        },
    };
    let metrics = std::sync::Arc::clone(&api.metrics);
    let election = LeaderElection::spawn(
        &api.client(),
        settings,
        Clock::system(),
        metrics,
        move |leadership| {
            let _ = sender.send(leadership);
        },
    );
    (election.unwrap(), news)
}

fn following(leader: &str) -> Leadership {
    Leadership::Following { leader: leader.to_owned() }
}

fn next(news: &Receiver<Leadership>) -> Leadership {
    news.recv_timeout(LIMIT).unwrap()
}

#[test]
fn one_leads_the_other_follows_and_takes_over_at_once_when_the_lease_is_released() {
    let api = Api::start();
    let (first, first_news) = candidate(&api, "pod-a");
    assert_eq!(next(&first_news), Leadership::Leading);
    let (_second, second_news) = candidate(&api, "pod-b");
    assert_eq!(next(&second_news), following("pod-a"));
    let begin = now();
    assert!(first.release(LIMIT));
    assert_eq!(next(&second_news), Leadership::Leading);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    let lease = api.kubernetes.get("leases", "default", "multinic-operator").unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "pod-b");
    assert_eq!(lease["spec"]["leaseTransitions"], json!(1));
}

#[test]
fn a_lease_deleted_under_its_leader_is_there_again_and_nothing_was_lost() {
    let api = Api::start();
    let (election, news) = candidate(&api, "pod-a");
    assert_eq!(next(&news), Leadership::Leading);
    api.kubernetes.delete("leases", "default", "multinic-operator").unwrap();
    let is_held = |view: &View<'_>| {
        view.objects("leases").iter().any(|lease| lease["spec"]["holderIdentity"] == "pod-a")
    };
    assert!(api.kubernetes.wait_until(is_held, LIMIT));
    assert!(election.hold().is_held());
    assert!(news.try_recv().is_err(), "it led all the time");
}

#[test]
fn of_many_that_begin_together_exactly_one_leads() {
    let api = Api::start();
    let candidates: Vec<_> =
        (0..5).map(|number| candidate(&api, &format!("pod-{number}"))).collect();
    let first: Vec<_> = candidates.iter().map(|(_, news)| next(news)).collect();
    let leading = first.iter().filter(|news| **news == Leadership::Leading).count();
    assert_eq!(leading, 1, "{first:?}");
}

#[test]
fn the_lease_is_held_from_winning_it_to_giving_it_back_and_not_beyond_what_was_renewed() {
    let api = Api::start();
    let (election, news) = candidate(&api, "pod-a");
    let hold = election.hold();
    assert_eq!(next(&news), Leadership::Leading);
    assert!(hold.is_held());
    // A renewal that doesn't come back: the hold ends by the clock, before the thread notices.
    api.faults.add(Fault::always(Service::Kubernetes, FaultKind::Hang));
    let cut_off = now();
    while hold.is_held() {
        assert!(cut_off.elapsed() < LIMIT);
        std::thread::yield_now();
    }
    assert!(cut_off.elapsed() < Duration::from_millis(1200), "{:?}", cut_off.elapsed());
    assert_eq!(next(&news), Leadership::Lost);
    api.faults.clear();
    assert_eq!(next(&news), Leadership::Leading);
    assert!(hold.is_held());
    assert!(election.release(LIMIT));
    assert!(!hold.is_held());
}
