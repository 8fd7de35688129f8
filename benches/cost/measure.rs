//! The measurements.

use std::time::{Duration, Instant};

use simulated_cloud::{Cloud, Fault, FaultKind, LoggedRequest, Service};

use crate::operator::{Operator, rest};
use crate::population::Population;
use crate::report::Report;
use crate::usage::Cost;

/// What each answer of the cloud takes where round trips are counted: so much that everything else
/// is small beside it.
const LATENCY: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(120);
const UPSTREAM: [Service; 5] =
    [Service::Contrabass, Service::Keystone, Service::Neutron, Service::Nova, Service::Viola];
/// Nothing is asked again by itself within a measurement.
const SLOW_POLLS: [(&str, &str); 3] =
    [("POLL_FAST_INTERVAL", "1h"), ("POLL_SLOW_INTERVAL", "1h"), ("POLL_ERROR_INTERVAL", "1h")];

/// From the start of the process to the arrival of its first POST, one object of 3 VMs.
pub(crate) fn start(report: &mut Report) {
    let cloud = Cloud::start(Population::new(1, 3, 3).scenario()).unwrap();
    let mut times: Vec<f64> = (0..15).map(|_| start_once(&cloud)).collect();
    times.sort_by(f64::total_cmp);
    report.add_with_goal("start", "ms to the first POST, median of 15", times[7], 20.0);
    report.add("start", "ms to the first POST, fastest of 15", times[0]);
    let empty = Cloud::start(Population::new(0, 0, 0).scenario()).unwrap();
    let operator = Operator::start(&empty, &SLOW_POLLS);
    rest(Duration::from_secs(3));
    let Cost { resident_mb, peak_mb, threads, sockets, cpu_seconds, .. } = operator.cost();
    report.add_with_goal("idle, no objects", "resident MB", resident_mb, 6.0);
    report.add("idle, no objects", "peak MB", peak_mb);
    report.add("idle, no objects", "threads", threads as f64);
    report.add("idle, no objects", "sockets", sockets as f64);
    report.add("idle, no objects", "CPU seconds in its first 3", cpu_seconds);
}

fn start_once(cloud: &Cloud) -> f64 {
    cloud.journal().clear();
    let started = Instant::now();
    let _operator = Operator::start(cloud, &SLOW_POLLS);
    assert!(cloud.journal().wait_for(|log| posts(log) > 0, LIMIT));
    milliseconds(started)
}

/// Cold, then with a known token, then polled: one object of so many VMs with 3 ports each.
pub(crate) fn one_object(report: &mut Report, vms: usize, keep_alive: bool) {
    let how = if keep_alive { "" } else { ", uwsgi" };
    let case = &format!("{vms} VMs{how}");
    let mut population = Population::new(2, vms, 3);
    population.settings.keep_alive = keep_alive;
    population.settings.neutron_uwsgi = !keep_alive;
    let cloud = Cloud::start(population.without_objects()).unwrap();
    let operator = Operator::start(&cloud, &SLOW_POLLS);
    rest(Duration::from_millis(500));
    set_latency(&cloud, LATENCY);
    let in_a_row = created(&cloud, &population, 0);
    let limited = vms <= 100;
    let what = "answers in a row before the POST, cold";
    report.add_with_goal(case, what, in_a_row, limited.then_some(4.3));
    let requests = upstream(&cloud);
    let what = "upstream requests of creating an object, cold";
    report.add_with_goal(case, what, requests as f64, (vms <= 30).then_some(8.0));
    for service in UPSTREAM {
        report.add(case, service.name(), cloud.journal().count(service) as f64);
    }
    report.add_with_goal(case, "logins", cloud.journal().count(Service::Keystone) as f64, 1.0);
    let longest = cloud.journal().all().iter().map(|r| r.head_bytes).max().unwrap_or(0);
    report.add_with_goal(case, "bytes of the longest head", longest as f64, 3_600.0);
    let in_a_row = created(&cloud, &population, 1);
    let what = "answers in a row before the POST, token known";
    report.add_with_goal(case, what, in_a_row, limited.then_some(1.3));
    let cost = operator.cost();
    report.add(case, "peak MB", cost.peak_mb);
    report.add(case, "threads", cost.threads as f64);
    report.add(case, "sockets", cost.sockets as f64);
    report.add(
        case,
        "most requests at once, Neutron",
        cloud.journal().in_flight_maximum(Service::Neutron) as f64,
    );
    drop(operator);
    polled(report, case, &population, limited);
}

/// Creates an object and gives the answers in a row until its POST arrives.
fn created(cloud: &Cloud, population: &Population, number: usize) -> f64 {
    cloud.journal().clear();
    let started = Instant::now();
    cloud.kubernetes().apply_object(population.object(number)).unwrap();
    assert!(cloud.journal().wait_for(|log| posts(log) > 0, LIMIT));
    let in_a_row = milliseconds(started) / LATENCY.as_secs_f64() / 1_000.0;
    // Done when the status says so; a large object needs several POSTs.
    let done = |log: &[LoggedRequest]| log.iter().any(|r| is_status(r) && r.answered_ms.is_some());
    assert!(cloud.journal().wait_for(done, LIMIT));
    in_a_row
}

/// Polls of an unchanged object under latency: how many answers in a row, how many requests.
fn polled(report: &mut Report, case: &str, population: &Population, limited: bool) {
    let population = Population { objects: 1, ..population.clone() };
    let cloud = Cloud::start(population.scenario()).unwrap();
    let _operator =
        Operator::start(&cloud, &[("POLL_FAST_INTERVAL", "1s"), ("POLL_SLOW_INTERVAL", "1s")]);
    let polls = |log: &[LoggedRequest]| log.iter().filter(|r| is_status(r)).count();
    assert!(cloud.journal().wait_for(|log| polls(log) >= 2, LIMIT));
    set_latency(&cloud, LATENCY);
    cloud.journal().clear();
    assert!(cloud.journal().wait_for(|log| polls(log) >= 6, LIMIT));
    // A status write ends a poll; the first may have begun before the log did.
    let log = cloud.journal().all();
    let mut whole: Vec<Vec<&LoggedRequest>> = vec![Vec::new()];
    for request in &log {
        if is_status(request) {
            whole.push(Vec::new());
        } else if UPSTREAM.contains(&request.service) {
            whole.last_mut().unwrap().push(request);
        }
    }
    let whole = &whole[1..6];
    let in_a_row = whole.iter().map(|poll| {
        let from = poll.iter().map(|request| request.arrived_ms).min().unwrap();
        let until = poll.iter().filter_map(|request| request.answered_ms).max().unwrap();
        (until - from) as f64 / LATENCY.as_secs_f64() / 1_000.0
    });
    let in_a_row: Vec<f64> = in_a_row.collect();
    let what = "answers in a row of an unchanged poll, mean";
    let mean = in_a_row.iter().sum::<f64>() / 5.0;
    report.add_with_goal(case, what, mean, limited.then_some(1.2));
    let worst = in_a_row.iter().copied().fold(0.0, f64::max);
    report.add(case, "the same, worst of 5", worst);
    let requests = whole.iter().map(|poll| poll.len() as f64).fold(0.0, f64::max);
    let what = "upstream requests of an unchanged poll, most of 5";
    let goal = match population.vms {
        0..=3 => Some(6.0),
        4..=30 => Some(4.0),
        _ => None,
    };
    report.add_with_goal(case, what, requests, goal);
}

/// CPU of unchanged polls, status writes included, without latency.
pub(crate) fn polls(report: &mut Report, vms: usize, count: usize) {
    let case = &format!("polls of {vms} VMs");
    let cloud = Cloud::start(Population::new(1, vms, 3).scenario()).unwrap();
    // A second, so that each poll has a new time to write into the status.
    let interval = "1s";
    let variables = [("POLL_FAST_INTERVAL", interval), ("POLL_SLOW_INTERVAL", interval)];
    let operator = Operator::start(&cloud, &variables);
    let polls = |log: &[LoggedRequest]| {
        log.iter().filter(|r| r.target.contains("/subnets")).count()
            + log.iter().filter(|r| r.target.contains("/networks")).count()
    };
    assert!(cloud.journal().wait_for(|log| polls(log) >= 4, LIMIT));
    rest(Duration::from_millis(150));
    cloud.journal().clear();
    let before = operator.cost();
    let asked = |log: &[LoggedRequest]| log.iter().filter(|r| r.service == Service::Nova).count();
    assert!(cloud.journal().wait_for(|log| asked(log) >= count * nova_requests(vms), LIMIT * 3));
    rest(Duration::from_millis(150));
    let after = operator.cost();
    let cpu = (after.cpu_seconds - before.cpu_seconds) / count as f64;
    let goal = (vms == 30).then_some(0.1);
    report.add_with_goal(case, "CPU seconds of 100 polls", cpu * 100.0, goal);
    report.add(case, "CPU seconds of 1,000 polls", cpu * 1_000.0);
    let writes = cloud.journal().all().iter().filter(|r| is_status(r)).count();
    report.add(case, "status writes a poll", writes as f64 / count as f64);
    report.add(case, "upstream requests a poll", upstream(&cloud) as f64 / count as f64);
    report.add_with_goal(
        case,
        "sockets more than before",
        after.sockets as f64 - before.sockets as f64,
        0.0,
    );
    report.add(case, "resident MB", after.resident_mb);
    report.add(case, "peak MB", after.peak_mb);
}

/// A page has a thousand servers, and an exactly full one is followed by an empty one.
fn nova_requests(vms: usize) -> usize {
    vms / 1_000 + 1
}

/// Many objects, without latency: the first round after a start, and what a round of polls costs.
pub(crate) fn crowd(report: &mut Report, population: &Population) {
    let Population { objects, vms, ports, projects, .. } = *population;
    let in_projects = if projects > 1 { format!(", {projects} projects") } else { String::new() };
    let case = &format!("{objects} x {vms} VMs x {ports} ports{in_projects}");
    let goals = goals(population);
    let cloud = Cloud::start(population.scenario()).unwrap();
    let variables = [("POLL_FAST_INTERVAL", "20s"), ("POLL_SLOW_INTERVAL", "20s")];
    let started = Instant::now();
    let operator = Operator::start(&cloud, &variables);
    let nodes = objects * vms;
    assert!(cloud.journal().wait_for(|_| held(&cloud) >= nodes, LIMIT));
    let all_posted = milliseconds(started) / 1_000.0;
    report.add_with_goal(case, "seconds until all nodes are posted", all_posted, goals.seconds);
    report.add(case, "CPU seconds until then", operator.cost().cpu_seconds);
    let first = posts(&cloud.journal().all());
    report.add_with_goal(case, "POSTs of the first round", first as f64, goals.posts);
    let logins = cloud.journal().count(Service::Keystone);
    report.add_with_goal(case, "logins", logins as f64, projects as f64);
    // Objects whose first passes ended at different times come to be due together.
    rest(ROUND * 3);
    cloud.journal().clear();
    let before = operator.cost();
    rest(ROUND * ROUNDS);
    let after = operator.cost();
    let rounds = f64::from(ROUNDS);
    let requests = upstream(&cloud) as f64 / rounds;
    report.add_with_goal(
        case,
        "requests to the cloud of a round of polls",
        requests,
        goals.requests,
    );
    let log = cloud.journal().all();
    let writes = log.iter().filter(|request| is_status(request)).count() as f64 / rounds;
    report.add(case, "status writes of a round", writes);
    let cpu = (after.cpu_seconds - before.cpu_seconds) / rounds;
    report.add_with_goal(case, "CPU seconds of a round, status writes included", cpu, goals.cpu);
    report.add_with_goal(case, "peak MB", after.peak_mb, goals.peak_mb);
    report.add(case, "resident MB", after.resident_mb);
    report.add(case, "threads", after.threads as f64);
    report.add(case, "sockets", after.sockets as f64);
    for service in [Service::Neutron, Service::Nova] {
        let case = &format!("{case}, {service}");
        let count = cloud.journal().count(service) as f64 / rounds;
        report.add(case, "requests of a round", count);
        let most = cloud.journal().in_flight_maximum(service);
        report.add(case, "most requests at once", most as f64);
    }
}

/// From one tick of the polls to the next: 1.05 intervals of 20 seconds.
const ROUND: Duration = Duration::from_secs(21);
/// How many of them are measured.
const ROUNDS: u32 = 2;

/// What a crowd may cost.
#[derive(Default)]
struct Goals {
    requests: Option<f64>,
    posts: Option<f64>,
    seconds: Option<f64>,
    cpu: Option<f64>,
    peak_mb: Option<f64>,
}

fn goals(population: &Population) -> Goals {
    let requests = match (population.objects, population.vms, population.projects) {
        (200, 10, 1) => 60.0,
        (1_000, 3, 1) => 80.0,
        (1_000, 3, 100) => 310.0,
        (1_000, 10, 1) => 260.0,
        _ => return Goals::default(),
    };
    let (posts, seconds, cpu, peak_mb) = match requests as u32 {
        60 => (Some(5.0), Some(2.0), None, Some(23.0)),
        80 => (None, None, Some(0.5), Some(34.0)),
        260 => (None, Some(6.0), None, Some(64.0)),
        _ => (None, None, Some(0.5), None),
    };
    Goals { requests: Some(requests), posts, seconds, cpu, peak_mb }
}

/// Seconds from the creation of an object to the arrival of its POST, alone and beside objects that
/// are slow to ask, hang, or hang at their target.
pub(crate) fn beside(report: &mut Report) {
    let population = Population::new(501, 3, 3);
    let answer = Duration::from_millis(200);
    let alone = {
        let cloud = Cloud::start(population.without_objects()).unwrap();
        let operator = Operator::start(&cloud, &SLOW_POLLS);
        set_latency(&cloud, answer);
        rest(Duration::from_millis(500));
        cloud.kubernetes().apply_object(population.object(499)).unwrap();
        posted(&cloud, &population, 499);
        let seconds = new_object(&cloud, &population);
        drop(operator);
        seconds
    };
    report.add_with_goal("a new object", "seconds to its POST, alone, token known", alone, 0.45);
    let limit = alone + 0.5;
    let slow = {
        let cloud = Cloud::start(population.without_objects()).unwrap();
        cloud.kubernetes().load((0..500).map(|number| population.object(number)).collect());
        let variables = [("POLL_FAST_INTERVAL", "5s"), ("POLL_SLOW_INTERVAL", "5s")];
        let _operator = Operator::start(&cloud, &variables);
        assert!(cloud.journal().wait_for(|_| held(&cloud) >= 1_500, LIMIT));
        set_latency(&cloud, answer);
        rest(Duration::from_secs(6));
        polling(&cloud);
        new_object(&cloud, &population)
    };
    report.add_with_goal("a new object", "beside 500 x 3 VMs polled slowly", slow, limit);
    for what in ["beside 10 objects whose subnet hangs", "beside 10 objects whose target hangs"] {
        let cloud = Cloud::start(population.without_objects()).unwrap();
        let _operator = Operator::start(&cloud, &SLOW_POLLS);
        set_latency(&cloud, answer);
        rest(Duration::from_millis(500));
        cloud.kubernetes().apply_object(population.object(499)).unwrap();
        posted(&cloud, &population, 499);
        let hang = FaultKind::Delay(Duration::from_secs(25));
        let (service, fault) = if what.contains("subnet") {
            (Service::Neutron, Fault::always(Service::Neutron, hang).path_contains(HANGING_SUBNET))
        } else {
            let fault = Fault::always(Service::Viola, hang);
            (Service::Viola, fault.header("x-provider-id", HANGING_TARGET))
        };
        cloud.faults().add(fault);
        cloud.journal().clear();
        for number in 0..10 {
            let mut object = population.object(number);
            object["spec"]["credentials"]["k8sProviderID"] = HANGING_TARGET.into();
            if service == Service::Neutron {
                object["spec"]["subnetID"] = HANGING_SUBNET.into();
            }
            cloud.kubernetes().apply_object(object).unwrap();
        }
        let hangs = |log: &[LoggedRequest]| {
            log.iter().any(|r| r.service == service && r.answered_ms.is_none())
        };
        assert!(cloud.journal().wait_for(hangs, LIMIT));
        // Each of the ten is being asked for, or waits.
        rest(Duration::from_secs(1));
        report.add_with_goal("a new object", what, new_object(&cloud, &population), limit);
    }
}

/// Creates the last object and gives the seconds until its POST arrives.
fn new_object(cloud: &Cloud, population: &Population) -> f64 {
    let started = Instant::now();
    cloud.kubernetes().apply_object(population.object(500)).unwrap();
    posted(cloud, population, 500);
    milliseconds(started) / 1_000.0
}

/// A POST with the object's first node has arrived.
fn posted(cloud: &Cloud, population: &Population, number: usize) {
    let node = format!("worker-{:05}", number * population.vms);
    let arrived = |log: &[LoggedRequest]| {
        log.iter().any(|r| {
            r.service == Service::Viola && String::from_utf8_lossy(&r.body).contains(&node)
        })
    };
    assert!(cloud.journal().wait_for(arrived, LIMIT));
}

/// A round of polls has begun: Neutron is being asked for ports.
fn polling(cloud: &Cloud) {
    cloud.journal().clear();
    let asked = |log: &[LoggedRequest]| log.iter().any(|r| r.target.contains("/ports?"));
    assert!(cloud.journal().wait_for(asked, LIMIT));
}

const HANGING_SUBNET: &str = "7a7a7a7a-0000-4000-8000-7a7a7a7a7a7a";
const HANGING_TARGET: &str = "hanging-cluster";
/// A thousand objects for ten minutes: memory, sockets and threads must not grow.
pub(crate) fn soak(report: &mut Report) {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let minutes = seconds.unwrap_or(600_u64).div_ceil(60);
    let cloud = Cloud::start(Population::new(1_000, 3, 3).scenario()).unwrap();
    let operator =
        Operator::start(&cloud, &[("POLL_FAST_INTERVAL", "10s"), ("POLL_SLOW_INTERVAL", "10s")]);
    assert!(cloud.journal().wait_for(|_| held(&cloud) >= 3_000, LIMIT));
    let mut passes = 0;
    for minute in 1..=minutes {
        cloud.journal().clear();
        rest(Duration::from_secs(60));
        let log = cloud.journal().all();
        passes += log.iter().filter(|r| r.target.contains("/ports")).count();
        let cost = operator.cost();
        let case = &format!("soak, minute {minute}");
        report.add(case, "resident MB", cost.resident_mb);
        report.add(case, "peak MB", cost.peak_mb);
        report.add(case, "sockets", cost.sockets as f64);
        report.add(case, "threads", cost.threads as f64);
        report.add(case, "CPU seconds so far", cost.cpu_seconds);
        report.add(case, "passes so far", passes as f64);
    }
}

fn set_latency(cloud: &Cloud, latency: Duration) {
    for service in UPSTREAM {
        cloud.faults().set_latency(service, latency);
    }
}

fn upstream(cloud: &Cloud) -> usize {
    UPSTREAM.iter().map(|service| cloud.journal().count(*service)).sum()
}

/// How many nodes Viola holds.
fn held(cloud: &Cloud) -> usize {
    cloud.viola().providers().iter().map(|target| cloud.viola().current(target).len()).sum()
}

fn posts(log: &[LoggedRequest]) -> usize {
    log.iter().filter(|request| request.service == Service::Viola).count()
}

fn is_status(request: &LoggedRequest) -> bool {
    request.service == Service::Kubernetes && request.path().ends_with("/status")
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}
