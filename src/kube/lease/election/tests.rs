//! Elections under invented time, each replica with a clock of its own.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Election, Input, Leadership, LeaseSettings, LeaseTiming, Task};
use crate::clock::Now;
use crate::kube::recordings::Recording;

fn election(identity: &str, seed: u64) -> Election {
    let settings = LeaseSettings {
        namespace: "default".to_owned(),
        name: "multinic-operator".to_owned(),
        identity: identity.to_owned(),
        timing: LeaseTiming::default(),
    };
    Election::new(settings, fastrand::Rng::with_seed(seed))
}

fn following(leader: &str) -> Leadership {
    Leadership::Following { leader: leader.to_owned() }
}

fn at(seconds: f64) -> Now {
    let start = Now { uptime: Duration::ZERO, wall: "2026-01-02T03:04:05Z".parse().unwrap() };
    start.after(Duration::from_secs_f64(seconds))
}

fn lease(holder: &str, renewed: &str) -> Value {
    json!({"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": holder,
        "leaseDurationSeconds": 12, "renewTime": renewed, "leaseTransitions": 4}})
}

#[test]
fn a_missing_lease_is_created_with_times_of_six_digits() {
    let mut election = election("a", 1);
    let (task, _) = election.step(Input::Read(None), at(0.0));
    let Task::Create { object, .. } = task else { panic!("{task:?}") };
    assert_eq!(object["spec"]["renewTime"], "2026-01-02T03:04:05.000000Z");
    assert_eq!(object["spec"]["holderIdentity"], "a");
    let created = Recording::load("lease-201-created.http");
    let created: Value = serde_json::from_slice(&created.body).unwrap();
    let (_, news) = election.step(Input::Written(created), at(0.1));
    assert_eq!(news, [Leadership::Leading]);
}

#[test]
fn a_lease_is_taken_when_our_own_clock_says_that_it_did_not_change_for_its_duration() {
    let mut election = election("b", 1);
    // The time in it is years in the past, and says nothing.
    let held = lease("a", "1999-01-01T00:00:00.000000Z");
    let (task, news) = election.step(Input::Read(Some(held.clone())), at(0.0));
    assert!(matches!(task, Task::Wait(wait) if wait.as_secs_f64() <= 2.0));
    assert_eq!(news, [following("a")]);
    let (task, news) = election.step(Input::Read(Some(held.clone())), at(11.5));
    let Task::Wait(wait) = task else { panic!("{task:?}") };
    assert!(wait <= Duration::from_millis(500), "not later than it runs out: {wait:?}");
    assert!(news.is_empty(), "said once");
    let (task, _) = election.step(Input::Read(Some(held)), at(12.0));
    let Task::Replace { object, .. } = task else { panic!("{task:?}") };
    assert_eq!(object["spec"]["leaseTransitions"], 5);
    assert_eq!(object["metadata"]["resourceVersion"], "1");
}

#[test]
fn a_renewal_seen_starts_the_wait_anew() {
    let mut election = election("b", 1);
    election.step(Input::Read(Some(lease("a", "1"))), at(0.0));
    election.step(Input::Read(Some(lease("a", "2"))), at(11.0));
    let (task, _) = election.step(Input::Read(Some(lease("a", "2"))), at(22.0));
    assert!(matches!(task, Task::Wait(_)), "{task:?}");
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut election = election("b", 1);
    let (task, _) = election.step(Input::Read(Some(lease("", "1"))), at(0.0));
    assert!(matches!(task, Task::Replace { .. }), "{task:?}");
}

#[test]
fn a_lost_race_leads_to_another_look() {
    let mut election = election("b", 1);
    election.step(Input::Read(Some(lease("", "1"))), at(0.0));
    let (task, news) = election.step(Input::RaceLost, at(0.1));
    assert!(matches!(task, Task::Wait(_)) && news.is_empty());
    let (task, _) = election.step(Input::Waited, at(0.3));
    assert!(matches!(task, Task::Read { .. }), "{task:?}");
}

#[test]
fn a_leader_that_lost_a_race_looks_before_it_writes_again() {
    let mut election = leader();
    let (task, _) = election.step(Input::Waited, at(2.0));
    assert!(matches!(task, Task::Replace { .. }), "{task:?}");
    election.step(Input::RaceLost, at(2.1));
    let (task, _) = election.step(Input::Waited, at(2.3));
    assert!(matches!(task, Task::Read { .. }), "{task:?}");
}

/// How long the call may last that this input leads to.
fn limit(election: &mut Election, seconds: f64) -> Duration {
    match election.step(Input::Waited, at(seconds)).0 {
        Task::Read { limit } | Task::Replace { limit, .. } | Task::Create { limit, .. } => limit,
        task => panic!("{task:?}"),
    }
}

#[test]
fn three_calls_fit_before_the_deadline_and_no_call_of_a_leader_lasts_beyond_it() {
    let third = Duration::from_secs(8) / 3;
    assert_eq!(limit(&mut election("b", 1), 0.0), third);
    assert_eq!(limit(&mut leader(), 1.0), third);
    assert_eq!(limit(&mut leader(), 7.0), Duration::from_secs(1));
    // Too late for any server; but a limit of nothing would be none at all to some clients.
    assert_eq!(limit(&mut leader(), 7.999), Duration::from_millis(10));
}

#[test]
fn replicas_do_not_look_in_step() {
    let waits: Vec<Duration> = (0..100)
        .map(|seed| match election("b", seed).step(Input::Failed, at(0.0)).0 {
            Task::Wait(wait) => wait,
            task => panic!("{task:?}"),
        })
        .collect();
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(1600) && *most <= Duration::from_secs(2));
    assert!(*most - *least > Duration::from_millis(300), "{least:?} to {most:?}");
}

/// A replica that leads since second 0.
fn leader() -> Election {
    let mut election = election("a", 1);
    election.step(Input::Read(Some(lease("", "1"))), at(0.0));
    let (_, news) = election.step(Input::Written(lease("a", "2")), at(0.1));
    assert_eq!(news, [Leadership::Leading]);
    election
}

#[test]
fn a_leader_that_cannot_renew_has_lost_at_its_deadline_and_before_the_lease_runs_out() {
    let mut election = leader();
    let mut now = 0.1;
    let mut task = Task::Wait(Duration::from_secs(2));
    let lost_at = loop {
        let input = match task {
            Task::Wait(wait) => {
                now += wait.as_secs_f64();
                Input::Waited
            }
            Task::Read { limit } | Task::Replace { limit, .. } | Task::Create { limit, .. } => {
                now += limit.as_secs_f64();
                Input::Failed
            }
        };
        let (next, news) = election.step(input, at(now));
        task = next;
        if news == [Leadership::Lost] {
            break now;
        }
        assert!(news.is_empty());
    };
    assert!((8.0..8.2).contains(&lost_at), "lost at {lost_at}");
}

#[test]
fn a_renewal_begun_in_time_and_answered_after_the_old_deadline_is_one() {
    let mut election = leader();
    assert_eq!(election.leads_until(), Some(Duration::from_secs(8)));
    election.step(Input::Waited, at(7.0));
    let (_, news) = election.step(Input::Written(lease("a", "3")), at(8.5));
    assert_eq!(news, []);
    assert_eq!(election.leads_until(), Some(Duration::from_secs(15)));
}

#[test]
fn who_does_not_lead_leads_until_no_time() {
    let mut election = election("a", 1);
    assert_eq!(election.leads_until(), None);
    election.step(Input::Read(Some(lease("b", "1"))), at(0.0));
    assert_eq!(election.leads_until(), None);
}

#[test]
fn a_leader_that_finds_another_in_the_lease_has_lost_at_once() {
    let mut election = leader();
    let (task, _) = election.step(Input::Waited, at(2.0));
    assert!(matches!(task, Task::Replace { .. }));
    election.step(Input::RaceLost, at(2.1));
    election.step(Input::Waited, at(2.3));
    let (_, news) = election.step(Input::Read(Some(lease("b", "3"))), at(2.4));
    assert_eq!(news, [Leadership::Lost, following("b")]);
}

#[test]
fn a_renewal_that_failed_but_reached_the_server_is_no_loss() {
    let mut election = leader();
    election.step(Input::Waited, at(2.0));
    election.step(Input::Failed, at(4.0));
    election.step(Input::Waited, at(4.5));
    election.step(Input::RaceLost, at(4.6));
    election.step(Input::Waited, at(4.8));
    let (task, news) = election.step(Input::Read(Some(lease("a", "3"))), at(4.9));
    assert!(matches!(task, Task::Replace { .. }) && news.is_empty());
}

#[test]
fn release_empties_the_lease_and_only_the_leader_can() {
    let (object, _) = leader().release(at(5.0)).unwrap();
    assert_eq!(object["spec"]["holderIdentity"], "");
    assert_eq!(object["spec"]["leaseDurationSeconds"], 1);
    assert!(election("b", 1).release(at(5.0)).is_none());
}

/// The Lease at the server.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
}

impl Server {
    fn write(&mut self, mut object: Value) -> Input {
        let known = self.lease.as_ref().map(|lease| &lease["metadata"]["resourceVersion"]);
        if known.is_some_and(|version| *version != object["metadata"]["resourceVersion"]) {
            return Input::RaceLost;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(object.clone());
        Input::Written(object)
    }
}

struct Replica {
    election: Election,
    task: Task,
    busy_until: f64,
    leads: bool,
    /// How fast its clock runs, and what it shows at second 0.
    speed: f64,
    offset: f64,
    reachable: bool,
}

#[test]
fn there_are_never_two_leaders_whatever_clocks_and_networks_do() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut server = Server::default();
        let mut replicas: Vec<Replica> = (0..3)
            .map(|number| {
                let election = election(&format!("pod-{number}"), seed * 3 + number);
                let task = election.first_task();
                let (speed, offset) = (0.95 + 0.1 * rng.f64(), rng.f64() * 1e6);
                Replica {
                    election,
                    task,
                    busy_until: 0.0,
                    leads: false,
                    speed,
                    offset,
                    reachable: true,
                }
            })
            .collect();
        let (mut now, mut led) = (0.0, 0.0);
        while now < 600.0 {
            now += 0.05;
            for replica in &mut replicas {
                let chance = if replica.reachable { 400 } else { 300 };
                if rng.u32(0..chance) == 0 {
                    replica.reachable = !replica.reachable;
                }
                if now < replica.busy_until {
                    continue;
                }
                // What the task brings is known now; the next one begins.
                let input = match replica.task.clone() {
                    Task::Wait(_) => Input::Waited,
                    _ if !replica.reachable => Input::Failed,
                    Task::Read { .. } => Input::Read(server.lease.clone()),
                    Task::Create { object, .. } | Task::Replace { object, .. } => {
                        let input = server.write(object);
                        // Its answer may be lost on the way.
                        if rng.u32(0..20) == 0 { Input::Failed } else { input }
                    }
                };
                let clock = at(replica.offset + now * replica.speed);
                let (task, news) = replica.election.step(input, clock);
                let lasts = match &task {
                    Task::Wait(wait) => wait.as_secs_f64() / replica.speed,
                    Task::Read { limit }
                    | Task::Create { limit, .. }
                    | Task::Replace { limit, .. } => {
                        if replica.reachable {
                            0.02
                        } else {
                            limit.as_secs_f64() / replica.speed
                        }
                    }
                };
                replica.task = task;
                replica.busy_until = now + lasts;
                for leadership in news {
                    replica.leads = leadership == Leadership::Leading;
                }
            }
            let leaders = replicas.iter().filter(|replica| replica.leads).count();
            assert!(leaders <= 1, "seed {seed}: {leaders} leaders at {now:.2} s");
            led += if leaders == 1 { 0.05 } else { 0.0 };
        }
        assert!(led > 200.0, "seed {seed}: somebody led for {led:.0} s of 600 only");
    }
}

#[test]
fn a_lease_deleted_under_its_leader_is_created_by_that_again_and_by_no_follower() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut server = Server::default();
        let mut elections = [election("a", seed), election("b", seed + 1000)];
        let mut due = [0.0, 0.5];
        let mut tasks = [elections[0].first_task(), elections[1].first_task()];
        let mut heard = Vec::new();
        let deleted_at = 20.0 + rng.f64() * 4.0;
        for tenth in 0..1200 {
            let now = f64::from(tenth) / 20.0;
            if (now - deleted_at).abs() < 0.025 {
                server.lease = None;
            }
            for number in 0..2 {
                if now < due[number] {
                    continue;
                }
                let input = match tasks[number].clone() {
                    Task::Wait(_) => Input::Waited,
                    Task::Read { .. } => Input::Read(server.lease.clone()),
                    Task::Replace { .. } if server.lease.is_none() => Input::RaceLost,
                    Task::Create { object, .. } | Task::Replace { object, .. } => {
                        server.write(object)
                    }
                };
                let (task, news) = elections[number].step(input, at(now));
                due[number] = match &task {
                    Task::Wait(wait) => now + wait.as_secs_f64(),
                    _ => now + 0.05,
                };
                tasks[number] = task;
                heard.extend(news.into_iter().map(|news| (number, news)));
            }
        }
        assert_eq!(heard, [(0, Leadership::Leading), (1, following("a"))], "seed {seed}");
        assert_eq!(server.lease.unwrap()["spec"]["holderIdentity"], "a", "seed {seed}");
    }
}

#[test]
fn a_killed_leader_is_replaced_within_15_seconds() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut server = Server::default();
        let mut follower = election("b", seed);
        server.write(lease("a", "0"));
        let killed = 20.0 + rng.f64() * 2.0;
        let (mut now, mut renewed) = (rng.f64(), 0.0);
        let mut task = follower.first_task();
        let taken = loop {
            while renewed + 2.0 <= f64::min(now, killed) {
                renewed += 2.0;
                let version = server.version.to_string();
                let mut renewal = lease("a", &renewed.to_string());
                renewal["metadata"]["resourceVersion"] = json!(version);
                server.write(renewal);
            }
            let input = match task {
                Task::Wait(wait) => {
                    now += wait.as_secs_f64();
                    Input::Waited
                }
                Task::Replace { object, .. } | Task::Create { object, .. } => server.write(object),
                Task::Read { .. } => Input::Read(server.lease.clone()),
            };
            let (next, news) = follower.step(input, at(now));
            task = next;
            if news.contains(&Leadership::Leading) {
                break now;
            }
        };
        assert!(taken > killed && taken - killed < 15.0, "seed {seed}: {}", taken - killed);
    }
}
