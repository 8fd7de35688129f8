//! All families of metrics: what `/metrics` shows, what alerts and the dashboard may use, and what
//! docs/metrics.md explains.
//!
//! Labels take few values on purpose: no names of objects, nodes or ports. Which object isn't Ready
//! is in its status; a series for each object would only repeat what `kubectl get osc -A` shows.

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
    labels: &'static [&'static str],
    from_start: &'static [&'static [&'static str]],
    help: &'static str,
) -> Family {
    Family { name, kind, help, labels, from_start }
}

/// One series without labels, from the start.
const ALONE: &[&[&str]] = &[&[]];
/// From the start, for the one controller.
const SYNCS: &[&[&str]] = &[&["openstackconfig"]];
/// From the start, for the one queue.
const QUEUE: &[&[&str]] = &[&["openstackconfig", "openstackconfig"]];

/// All families, ordered by name.
#[rustfmt::skip] // A table: name, kind, labels, series from the start, help.
pub const FAMILIES: &[Family] = &[
    family("controller_runtime_active_workers", Gauge, &["controller"], SYNCS,
        "Workers that run a sync now."),
    family("controller_runtime_max_concurrent_reconciles", Gauge, &["controller"], SYNCS,
        "Size of the worker pool."),
    family("controller_runtime_reconcile_errors_total", Counter, &["controller"], SYNCS,
        "Syncs that ended with an error."),
    family("controller_runtime_reconcile_panics_total", Counter, &["controller"], SYNCS,
        "Syncs that ended in a panic."),
    family("controller_runtime_reconcile_time_seconds", Histogram, &["controller"], SYNCS,
        "How long syncs take."),
    family("controller_runtime_reconcile_total", Counter, &["controller", "result"], &[
        &["openstackconfig", "error"], &["openstackconfig", "requeue"],
        &["openstackconfig", "requeue_after"], &["openstackconfig", "success"],
    ], "Syncs, by result; requeue: aborted, requeue_after: postponed."),
    family("leader_election_master_status", Gauge, &["name"], &[],
        "1 while this replica is the leader; only where replicas elect one."),
    family("multinic_agent_nodes", Gauge, &["state"], &[
        &["configured"], &["failed"], &["not_reported"], &["waiting"],
    ], "Nodes of clusters that are read, by what the agent says; not_reported: for ten minutes."),
    family("multinic_build_info", Gauge, &["version"], &[],
        "Always 1; the version is in the label."),
    family("multinic_down_ports", Gauge, &[], ALONE,
        "Ports with status DOWN on nodes that were sent."),
    family("multinic_drift_resends_total", Counter, &[], ALONE,
        "Nodes sent again because their cluster lost them or others changed them."),
    family("multinic_emptied_nodes", Gauge, &[], ALONE,
        "Nodes of objects all of whose nodes have lost their ports; nothing is sent to them."),
    family("multinic_held_nodes", Gauge, &[], ALONE,
        "Nodes that are not sent because many would lose ports, until a person approves it."),
    family("multinic_http_connections_refused_total", Counter, &["server", "reason"], &[],
        "Inbound connections refused, by server and reason."),
    family("multinic_inventory_fsync_duration_seconds", Histogram, &[], ALONE,
        "How long the disk takes to make a written file durable."),
    family("multinic_inventory_pending_seconds", Gauge, &[], ALONE,
        "How long the storage has not answered the operation that is under way; 0 if there is none."),
    family("multinic_inventory_records", Gauge, &[], ALONE,
        "Records in the inventory."),
    family("multinic_inventory_state", Gauge, &["state"], &[],
        "1 for the state the inventory is in; there once this replica works."),
    family("multinic_inventory_unwritten_records", Gauge, &[], ALONE,
        "Records not yet safe on disk."),
    family("multinic_inventory_write_failures_total", Counter, &[], ALONE,
        "Failed writes of the inventory."),
    family("multinic_inventory_writes_total", Counter, &[], ALONE,
        "Durable writes of the inventory."),
    family("multinic_kubernetes_write_failures_total", Counter, &["kind"], &[
        &["event"], &["secret"], &["status"],
    ], "Failed writes to the Kubernetes API, by kind."),
    family("multinic_last_notification_timestamp_seconds", Gauge, &[], ALONE,
        "When OpenStack last notified something, whatever it was; 0 before the first."),
    family("multinic_last_success_timestamp_seconds", Gauge, &[], ALONE,
        "When a sync last ended without error; 0 before the first."),
    family("multinic_memory_limit_bytes", Gauge, &[], &[],
        "Memory the container may use; absent without a limit."),
    family("multinic_nodes_sent_total", Counter, &[], ALONE,
        "Nodes Viola accepted."),
    family("multinic_not_ready_since_timestamp_seconds", Gauge, &["reason"], &[],
        "Since when the longest not Ready object is not, by reason."),
    family("multinic_notification_connections", Gauge, &["state"], &[
        &["bound"], &["connected"], &["disconnected"],
    ], "Connections to RabbitMQ; bound: notifications come, connected: no exchange is there yet."),
    family("multinic_notification_reaction_seconds", Histogram, &[], ALONE,
        "From a notification until what it changed was accepted."),
    family("multinic_notifications_total", Counter, &["event"], &[
        &["instance"], &["network"], &["other"], &["port"], &["subnet"], &["unreadable"],
    ], "Messages of Neutron and Nova, by what they are about; other: nothing that counts."),
    family("multinic_objects", Gauge, &["ready", "reason"], &[],
        "OpenstackConfig objects, by status and reason of Ready."),
    family("multinic_unreadable_clusters", Gauge, &[], ALONE,
        "Clusters whose agents cannot be heard now, though there is a kubeconfig."),
    family("multinic_upstream_request_duration_seconds", Histogram, &["service"], &[
        &["Contrabass"], &["Keystone"], &["Neutron"], &["Nova"], &["Viola"],
    ], "How long requests to other services take, failed ones included."),
    family("multinic_upstream_requests_total", Counter, &["service", "method", "status"], &[
        &["Contrabass", "GET", "2xx"], &["Contrabass", "GET", "5xx"],
        &["Contrabass", "GET", "failed"], &["Keystone", "POST", "2xx"],
        &["Keystone", "POST", "5xx"], &["Keystone", "POST", "failed"],
        &["Neutron", "GET", "2xx"], &["Neutron", "GET", "5xx"], &["Neutron", "GET", "failed"],
        &["Nova", "GET", "2xx"], &["Nova", "GET", "5xx"], &["Nova", "GET", "failed"],
        &["Viola", "POST", "2xx"], &["Viola", "POST", "5xx"], &["Viola", "POST", "failed"],
    ], "Requests to other services; the status is 2xx to 5xx, or failed without a whole answer."),
    family("multinic_watch_restarts_total", Counter, &["reason"], &[
        &["cut"], &["error_event"], &["expired"], &["garbled"], &["list_failed"], &["refused"],
        &["short"], &["silent"],
    ], "Watches that were restarted, by reason."),
    family("process_cpu_seconds_total", Counter, &[], &[],
        "Time on processors, the user's and the system's."),
    family("process_max_fds", Gauge, &[], &[],
        "File descriptors the process may have open."),
    family("process_open_fds", Gauge, &[], &[],
        "File descriptors it has open."),
    family("process_resident_memory_bytes", Gauge, &[], &[],
        "Resident memory."),
    family("process_start_time_seconds", Gauge, &[], &[],
        "When the process started, as a Unix time."),
    family("process_threads", Gauge, &[], &[],
        "Threads."),
    family("process_virtual_memory_bytes", Gauge, &[], &[],
        "Address space, most of which is never touched."),
    family("rest_client_request_duration_seconds", Histogram, &["verb", "host"], &[],
        "How long requests to the Kubernetes API take; of a watch, until it is open."),
    family("rest_client_requests_total", Counter, &["code", "method", "host"], &[],
        "Requests to the Kubernetes API; the code is <error> without a whole answer."),
    family("workqueue_adds_total", Counter, &["controller", "name"], QUEUE,
        "How often objects became due, by an event or by time."),
    family("workqueue_depth", Gauge, &["controller", "name"], QUEUE,
        "Objects that are due and wait for a worker."),
    family("workqueue_longest_running_processor_seconds", Gauge, &["controller", "name"], QUEUE,
        "How long the sync that runs for the longest has been running."),
    family("workqueue_queue_duration_seconds", Histogram, &["controller", "name"], QUEUE,
        "How long objects were due before a worker took them."),
    family("workqueue_retries_total", Counter, &["controller", "name"], QUEUE,
        "Objects put in line again after an error."),
    family("workqueue_unfinished_work_seconds", Gauge, &["controller", "name"], QUEUE,
        "Running times of all syncs that run now, added up."),
    family("workqueue_work_duration_seconds", Histogram, &["controller", "name"], QUEUE,
        "How long workers were busy with an object."),
];
