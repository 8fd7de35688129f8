//! Every family of metrics there is: what `/metrics` shows, what alerts and the dashboard may use,
//! and what docs/metrics.md explains.
//!
//! Labels take few values, which is kept so on purpose: no names of objects, nodes or ports. Which
//! object isn't Ready stands in its status; a series for each would make the number of series as
//! large as the number of objects, to say what `kubectl get osc -A` says.

use super::Kind::{self, Counter, Gauge, Histogram};

/// A family.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// A sentence for people.
    pub help: &'static str,
    /// Names of its labels, in their order.
    pub labels: &'static [&'static str],
    /// Label values of the series that exist before anything happened, so that a rate over a counter
    /// sees its first step, and an alert can tell "none" from "not known".
    pub from_start: &'static [&'static [&'static str]],
}

const fn family(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
    from_start: &'static [&'static [&'static str]],
) -> Family {
    Family { name, kind, help, labels, from_start }
}

/// One series without labels, from the start.
const ALONE: &[&[&str]] = &[&[]];
/// From the start, for the one controller.
const SYNCS: &[&[&str]] = &[&["openstackconfig"]];
/// From the start, for the one queue.
const QUEUE: &[&[&str]] = &[&["openstackconfig", "openstackconfig"]];

/// Every family, ordered by name.
#[rustfmt::skip] // A table: what it is for, its labels, and what is there from the start.
pub const FAMILIES: &[Family] = &[
    family(
        "controller_runtime_active_workers", Gauge,
        "Workers that run a sync now.",
        &["controller"], SYNCS,
    ),
    family(
        "controller_runtime_max_concurrent_reconciles", Gauge,
        "Size of the worker pool.",
        &["controller"], SYNCS,
    ),
    family(
        "controller_runtime_reconcile_errors_total", Counter,
        "Syncs that ended with an error.",
        &["controller"], SYNCS,
    ),
    family(
        "controller_runtime_reconcile_panics_total", Counter,
        "Syncs that ended in a panic.",
        &["controller"], SYNCS,
    ),
    family(
        "controller_runtime_reconcile_time_seconds", Histogram,
        "How long syncs take.",
        &["controller"], SYNCS,
    ),
    family(
        "controller_runtime_reconcile_total", Counter,
        "Syncs, by result; requeue: cut short, requeue_after: put off.",
        &["controller", "result"],
        &[
            &["openstackconfig", "error"], &["openstackconfig", "requeue"],
            &["openstackconfig", "requeue_after"], &["openstackconfig", "success"],
        ],
    ),
    family(
        "leader_election_master_status", Gauge,
        "1 while this replica is the leader; only where replicas elect one.",
        &["name"], &[],
    ),
    family(
        "multinic_build_info", Gauge,
        "Always 1; the version is in the label.",
        &["version"], &[],
    ),
    family(
        "multinic_down_ports", Gauge,
        "Ports with status DOWN on nodes that were sent.",
        &[], ALONE,
    ),
    family(
        "multinic_http_connections_refused_total", Counter,
        "Inbound connections refused, by server and reason.",
        &["server", "reason"], &[],
    ),
    family(
        "multinic_inventory_fsync_duration_seconds", Histogram,
        "How long the disk takes to make an append to the journal durable.",
        &[], ALONE,
    ),
    family(
        "multinic_inventory_records", Gauge,
        "Records in the inventory.",
        &[], ALONE,
    ),
    family(
        "multinic_inventory_state", Gauge,
        "1 for the state the inventory is in; there once this replica works.",
        &["state"], &[],
    ),
    family(
        "multinic_inventory_unwritten_records", Gauge,
        "Records not yet safe on disk.",
        &[], ALONE,
    ),
    family(
        "multinic_inventory_write_failures_total", Counter,
        "Failed writes of the inventory.",
        &[], ALONE,
    ),
    family(
        "multinic_inventory_writes_total", Counter,
        "Durable writes of the inventory.",
        &[], ALONE,
    ),
    family(
        "multinic_kubernetes_write_failures_total", Counter,
        "Failed writes to the Kubernetes API, by kind.",
        &["kind"],
        &[
            &["event"], &["secret"], &["status"],
        ],
    ),
    family(
        "multinic_last_success_timestamp_seconds", Gauge,
        "When a sync last ended without error; 0 before the first.",
        &[], ALONE,
    ),
    family(
        "multinic_memory_limit_bytes", Gauge,
        "Memory the container may use; absent without a limit.",
        &[], &[],
    ),
    family(
        "multinic_nodes_sent_total", Counter,
        "Nodes Viola accepted.",
        &[], ALONE,
    ),
    family(
        "multinic_not_ready_since_timestamp_seconds", Gauge,
        "Since when the longest not Ready object is not, by reason.",
        &["reason"], &[],
    ),
    family(
        "multinic_objects", Gauge,
        "OpenstackConfig objects, by status and reason of Ready.",
        &["ready", "reason"], &[],
    ),
    family(
        "multinic_upstream_request_duration_seconds", Histogram,
        "How long requests to other services take, failed ones included.",
        &["service"],
        // Not `Leader`, which only a standby asks.
        &[
            &["Contrabass"], &["Keystone"], &["Neutron"], &["Nova"], &["Viola"],
        ],
    ),
    family(
        "multinic_upstream_requests_total", Counter,
        "Requests to other services; the status is 2xx to 5xx, or failed without a whole answer.",
        &["service", "method", "status"],
        &[
            &["Contrabass", "GET", "2xx"], &["Contrabass", "GET", "5xx"],
            &["Contrabass", "GET", "failed"], &["Keystone", "POST", "2xx"],
            &["Keystone", "POST", "5xx"], &["Keystone", "POST", "failed"],
            &["Neutron", "GET", "2xx"], &["Neutron", "GET", "5xx"], &["Neutron", "GET", "failed"],
            &["Nova", "GET", "2xx"], &["Nova", "GET", "5xx"], &["Nova", "GET", "failed"],
            &["Viola", "POST", "2xx"], &["Viola", "POST", "5xx"], &["Viola", "POST", "failed"],
        ],
    ),
    family(
        "multinic_watch_restarts_total", Counter,
        "Watches that had to start anew, by reason.",
        &["reason"],
        &[
            &["cut"], &["error_event"], &["expired"], &["garbled"], &["list_failed"], &["refused"],
            &["short"], &["silent"],
        ],
    ),
    family(
        "process_cpu_seconds_total", Counter,
        "Time on processors, the user's and the system's.",
        &[], &[],
    ),
    family(
        "process_max_fds", Gauge,
        "File descriptors the process may have open.",
        &[], &[],
    ),
    family(
        "process_open_fds", Gauge,
        "File descriptors it has open.",
        &[], &[],
    ),
    family(
        "process_resident_memory_bytes", Gauge,
        "Resident memory.",
        &[], &[],
    ),
    family(
        "process_start_time_seconds", Gauge,
        "When the process started, as a Unix time.",
        &[], &[],
    ),
    family(
        "process_threads", Gauge,
        "Threads.",
        &[], &[],
    ),
    family(
        "process_virtual_memory_bytes", Gauge,
        "Address space, most of which is never touched.",
        &[], &[],
    ),
    family(
        "rest_client_request_duration_seconds", Histogram,
        "How long requests to the Kubernetes API take; of a watch, until it is open.",
        &["verb", "host"], &[],
    ),
    family(
        "rest_client_requests_total", Counter,
        "Requests to the Kubernetes API; the code is <error> without a whole answer.",
        &["code", "method", "host"], &[],
    ),
    family(
        "workqueue_adds_total", Counter,
        "How often objects became due, by an event or by time.",
        &["controller", "name"], QUEUE,
    ),
    family(
        "workqueue_depth", Gauge,
        "Objects that are due and wait for a worker.",
        &["controller", "name"], QUEUE,
    ),
    family(
        "workqueue_longest_running_processor_seconds", Gauge,
        "How long the sync that runs for the longest has been running.",
        &["controller", "name"], QUEUE,
    ),
    family(
        "workqueue_queue_duration_seconds", Histogram,
        "How long objects were due before a worker took them.",
        &["controller", "name"], QUEUE,
    ),
    family(
        "workqueue_retries_total", Counter,
        "Objects put in line again after an error.",
        &["controller", "name"], QUEUE,
    ),
    family(
        "workqueue_unfinished_work_seconds", Gauge,
        "Running times of all syncs that run now, added up.",
        &["controller", "name"], QUEUE,
    ),
    family(
        "workqueue_work_duration_seconds", Histogram,
        "How long workers were busy with an object.",
        &["controller", "name"], QUEUE,
    ),
];
