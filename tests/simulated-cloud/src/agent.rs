//! The MultiNIC agent's controller, simulated: it writes the statuses of `MultiNicNodeConfig` objects as
//! the recordings in `fixtures/recordings/agent` have them. There are no Jobs: an interface fails
//! where a test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock;
use crate::kubernetes::Kubernetes;

const KIND: &str = "MultiNicNodeConfig";
/// How often it looks.
const TURN: Duration = Duration::from_millis(10);

/// A running agent. It ends when it is dropped.
pub struct Agent {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Orders {
    has_ended: AtomicBool,
    is_silent: AtomicBool,
    /// What it says of interfaces on which it fails, by MAC address.
    failing: Mutex<BTreeMap<String, String>>,
}

impl Orders {
    fn failing(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agent {
    /// Follows the objects of this server. What it does on a node takes so long.
    pub fn start(kubernetes: &Arc<Kubernetes>, job: Duration) -> Agent {
        let orders = Arc::new(Orders::default());
        let (kubernetes, shared) = (Arc::clone(kubernetes), Arc::clone(&orders));
        let mut jobs = Jobs { kubernetes, orders: shared, job, running: BTreeMap::new() };
        let thread = thread::Builder::new().name("agent".to_owned()).spawn(move || jobs.run());
        Agent { orders, thread: thread.ok() }
    }

    /// From the next change of its node on, it fails on the interface with this MAC address.
    pub fn fail(&self, mac_address: &str, message: &str) {
        self.orders.failing().insert(mac_address.to_owned(), message.to_owned());
    }

    /// It fails on none any more.
    pub fn mend(&self) {
        self.orders.failing().clear();
    }

    /// Whether it does nothing, as if it didn't run.
    pub fn silence(&self, is_silent: bool) {
        self.orders.is_silent.store(is_silent, Ordering::SeqCst);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.orders.has_ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Jobs {
    kubernetes: Arc<Kubernetes>,
    orders: Arc<Orders>,
    job: Duration,
    /// Namespace, name and generation of what is being done, and until when.
    running: BTreeMap<(String, String, i64), Instant>,
}

impl Jobs {
    fn run(&mut self) {
        while !self.orders.has_ended.load(Ordering::SeqCst) {
            if !self.orders.is_silent.load(Ordering::SeqCst) {
                self.turn();
            }
            thread::park_timeout(TURN);
        }
    }

    fn turn(&mut self) {
        let now = clock::instant();
        for object in self.kubernetes.objects(KIND) {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
            let key = (text("namespace").to_owned(), text("name").to_owned(), generation);
            let status = &object["status"];
            let is_new = status["observedGeneration"] != generation;
            let is_over = self.running.get(&key).is_none_or(|until| *until <= now);
            if is_new {
                self.running.insert(key.clone(), now + self.job);
                self.write(&key, in_progress(&object, generation));
            } else if status["state"] == "InProgress" && is_over {
                self.running.remove(&key);
                let failing = self.orders.failing().clone();
                self.write(&key, finished(&object, generation, &failing));
            }
        }
    }

    fn write(&self, (namespace, name, _): &(String, String, i64), status: Value) {
        // An object that is gone by now has no status to write.
        let _ = self.kubernetes.patch_status(KIND, namespace, name, &json!({"status": status}));
    }
}

fn in_progress(object: &Value, generation: i64) -> Value {
    let interfaces = interfaces(object).map(|(interface, place)| {
        let mut status = whole(interface, "InProgress", "JobScheduled");
        // By its place, whatever its id: the real one does so until it has succeeded.
        status["name"] = json!(format!("multinic{place}"));
        status
    });
    status(object, generation, "InProgress", ("InProgress", "True", "JobScheduled"), interfaces)
}

fn finished(object: &Value, generation: i64, failing: &BTreeMap<String, String>) -> Value {
    let message_of = |interface: &Value| failing.get(interface["macAddress"].as_str()?);
    if interfaces(object).all(|(interface, _)| message_of(interface).is_none()) {
        let interfaces =
            interfaces(object).map(|(interface, _)| whole(interface, "Configured", "JobSucceeded"));
        return status(
            object,
            generation,
            "Configured",
            ("Ready", "True", "JobSucceeded"),
            interfaces,
        );
    }
    let interfaces = interfaces(object).map(|(interface, place)| {
        let mut status = json!({
            "id": interface["id"], "macAddress": interface["macAddress"],
            "name": format!("multinic{place}"),
            "status": "Configured", "reason": "JobPartialSuccess",
        });
        if let Some(message) = message_of(interface) {
            status["status"] = json!("Failed");
            status["reason"] = json!("JobFailed");
            status["message"] = json!(message);
        }
        status
    });
    status(object, generation, "Failed", ("Ready", "False", "JobFailedPartial"), interfaces)
}

fn interfaces(object: &Value) -> impl Iterator<Item = (&Value, usize)> {
    object["spec"]["interfaces"].as_array().into_iter().flatten().zip(0..)
}

/// What is said of an interface where nothing failed.
fn whole(interface: &Value, state: &str, reason: &str) -> Value {
    let mut status = json!({"status": state, "reason": reason});
    for field in ["id", "name", "macAddress", "address", "cidr", "mtu"] {
        status[field] = interface[field].clone();
    }
    status
}

fn status(
    object: &Value,
    generation: i64,
    state: &str,
    (kind, holds, reason): (&str, &str, &str),
    interfaces: impl Iterator<Item = Value>,
) -> Value {
    let time = clock::timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let interfaces: Vec<Value> = interfaces
        .zip(0..)
        .map(|(mut status, place)| {
            status["interfaceIndex"] = json!(place);
            status["lastUpdated"] = json!(time);
            status
        })
        .collect();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "conditions": [{"type": kind, "status": holds, "reason": reason}],
        "interfaceStatuses": interfaces,
        "lastInterfaceCheck": time,
        "lastJobName": format!("multinic-agent-{name}-g{generation}"),
        "lastUpdated": time,
        "nodeReady": false,
        "observedGeneration": generation,
        "observedSpecHash": format!("{:064x}", generation),
        "state": state,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use serde_json::Value;

    use super::{finished, in_progress};

    fn recorded(name: &str) -> Value {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/recordings/agent");
        let text = fs::read_to_string(format!("{folder}/multinicnodeconfig-{name}.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The status without what differs from run to run.
    fn lasting(mut status: Value) -> Value {
        let strip = |value: &mut Value, fields: &[&str]| {
            let object = value.as_object_mut().unwrap();
            fields.iter().for_each(|field| assert!(object.remove(*field).is_some(), "{field}"));
        };
        strip(&mut status, &["lastInterfaceCheck", "lastUpdated", "observedSpecHash"]);
        for interface in status["interfaceStatuses"].as_array_mut().unwrap() {
            strip(interface, &["lastUpdated"]);
        }
        status
    }

    #[test]
    fn its_statuses_are_the_recorded_ones() {
        let failing = BTreeMap::from([(
            "fa:16:3e:2b:44:c1".to_owned(),
            "interface with MAC not found".to_owned(),
        )]);
        let object = recorded("in-progress-after-change");
        assert_eq!(lasting(in_progress(&object, 3)), lasting(object["status"].clone()));
        let object = recorded("failed");
        assert_eq!(lasting(finished(&object, 3, &failing)), lasting(object["status"].clone()));
        let object = recorded("configured");
        assert_eq!(lasting(finished(&object, 2, &failing)), lasting(object["status"].clone()));
    }
}
