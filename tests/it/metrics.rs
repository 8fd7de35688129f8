//! What `/metrics` of the running program shows: whole, readable, and true.

use std::time::{Duration, Instant};

use multinic_operator::metrics::{FAMILIES, Kind};
use simulated_cloud::{Fault, FaultKind, Service};

use crate::monitoring::exposition::Exposition;
use crate::monitoring::promtool::promtool;
use crate::process::{Operator, SOON};
use crate::world::World;

/// Reads the metrics until they are as they should become.
fn wait_for(operator: &Operator, what: &str, seen: impl Fn(&Exposition) -> bool) -> String {
    let until = Instant::now() + SOON;
    loop {
        let (status, text) = operator.health("/metrics");
        assert_eq!(status, 200);
        if seen(&Exposition::of(&text)) {
            return text;
        }
        assert!(Instant::now() < until, "{what} never came:\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All series of a name that have this label among theirs, added up.
fn sum(metrics: &Exposition, wanted: &str, label: &str, value: &str) -> f64 {
    let samples = metrics.samples.iter();
    let of = samples.filter(|((name, labels), _)| {
        name == wanted && labels.get(label).is_some_and(|known| known == value)
    });
    of.map(|(_, value)| value).sum()
}

#[test]
fn the_metrics_of_a_sync_are_complete_and_agree_with_each_other() {
    let world = World::of("three-nodes");
    let operator =
        Operator::start(&world, &[("LEADER_ELECT", "true"), ("POD_NAMESPACE", "default")]);
    world.wait_for_reason("Synced");
    let text = wait_for(&operator, "the objects' gauge", |metrics| {
        let labels = [("ready", "True"), ("reason", "Synced")];
        metrics.value("multinic_objects", &labels) == Some(1.0)
    });
    if let Some((content, said)) = promtool(&["check", "metrics"], &text) {
        assert!(content && said.is_empty(), "{said}");
    }
    let metrics = Exposition::of(&text);
    // Nothing was refused or failed; the machine that tests may have no limit of memory.
    let absent = [
        "multinic_http_connections_refused_total",
        "multinic_memory_limit_bytes",
        "multinic_not_ready_since_timestamp_seconds",
    ];
    for family in FAMILIES.iter().filter(|family| !absent.contains(&family.name)) {
        let name = match family.kind {
            Kind::Histogram => format!("{}_count", family.name),
            _ => family.name.to_owned(),
        };
        assert!(metrics.samples.keys().any(|(known, _)| *known == name), "{name}: {text}");
    }
    let one = |name: &str, labels: &[(&str, &str)]| {
        metrics.value(name, labels).unwrap_or_else(|| panic!("{name} {labels:?}: {text}"))
    };
    let controller = ("controller", "openstackconfig");
    let queue = [controller, ("name", "openstackconfig")];
    assert_eq!(one("leader_election_master_status", &[("name", "multinic-operator")]), 1.0);
    assert_eq!(one("controller_runtime_max_concurrent_reconciles", &[controller]), 4.0);
    assert_eq!(one("controller_runtime_reconcile_time_seconds_count", &[controller]), 1.0);
    for name in ["adds_total", "queue_duration_seconds_count", "work_duration_seconds_count"] {
        assert_eq!(one(&format!("workqueue_{name}"), &queue), 1.0, "{name}");
    }
    assert_eq!(one("multinic_inventory_records", &[]), 3.0);
    assert_eq!(one("multinic_inventory_state", &[("state", "healthy")]), 1.0);
    assert!(one("multinic_inventory_fsync_duration_seconds_count", &[]) >= 1.0);
    for service in ["Contrabass", "Keystone", "Neutron", "Nova", "Viola"] {
        let requests = sum(&metrics, "multinic_upstream_requests_total", "service", service);
        let timed =
            one("multinic_upstream_request_duration_seconds_count", &[("service", service)]);
        assert!(requests >= 1.0, "{service}");
        assert_eq!(requests, timed, "{service}");
    }
    assert!(sum(&metrics, "rest_client_requests_total", "code", "200") >= 3.0, "{text}");
    assert_eq!(sum(&metrics, "multinic_upstream_requests_total", "service", "Kubernetes"), 0.0);
    let memory = one("process_resident_memory_bytes", &[]);
    assert!((1e6..1e9).contains(&memory), "{memory}");
    assert!(one("process_threads", &[]) > 5.0);
    assert!(one("process_open_fds", &[]) > 5.0);
    let success = one("multinic_last_success_timestamp_seconds", &[]);
    let started = one("process_start_time_seconds", &[]);
    assert!((-1.5..60.0).contains(&(success - started)), "{started} {success}");
}

#[test]
fn an_upstream_that_fails_shows_by_service_and_class_and_in_the_age_of_the_trouble() {
    let world = World::of("three-nodes");
    world.faults().add(Fault::always(Service::Nova, FaultKind::Reset));
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("NovaError");
    let text = wait_for(&operator, "the age of the trouble", |metrics| {
        metrics
            .value("multinic_not_ready_since_timestamp_seconds", &[("reason", "NovaError")])
            .is_some()
    });
    let metrics = Exposition::of(&text);
    let requests = |service: &str, method: &str, status: &str| {
        let labels = [("service", service), ("method", method), ("status", status)];
        metrics.value("multinic_upstream_requests_total", &labels).unwrap()
    };
    assert!(requests("Nova", "GET", "failed") >= 1.0, "{text}");
    assert_eq!(requests("Nova", "GET", "2xx"), 0.0);
    assert!(requests("Neutron", "GET", "2xx") >= 1.0);
    let errors = metrics
        .value("controller_runtime_reconcile_errors_total", &[("controller", "openstackconfig")]);
    assert!(errors.unwrap() >= 1.0);
    assert_eq!(metrics.value("multinic_last_success_timestamp_seconds", &[]), Some(0.0));
}
