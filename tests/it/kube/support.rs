//! A running API server, and what the observations of a watcher tell.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use multinic_operator::clock::Clock;
use multinic_operator::http::trust::Trust;
use multinic_operator::kube::access::Access;
use multinic_operator::kube::client::KubeClient;
use multinic_operator::kube::resource::Resource;
use multinic_operator::kube::watch::{FailureKind, Observation, Timing};
use multinic_operator::kube::watcher::{WatchSettings, Watcher};
use multinic_operator::metrics::Metrics;
use serde_json::{Value, json};
use simulated_cloud::kubernetes::Kubernetes;
use simulated_cloud::wire::Server;
use simulated_cloud::{Faults, Journal, Service};

/// Long enough for a loaded machine; nothing waits for it when all is well.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const CONFIGS: Resource = Resource {
    group: "multinic.example.com",
    version: "v1alpha1",
    plural: "openstackconfigs",
    kind: "OpenstackConfig",
};

/// An API server on a port of its own.
pub(crate) struct Api {
    pub(crate) kubernetes: Arc<Kubernetes>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) metrics: Arc<Metrics>,
    server: Option<Server>,
    address: std::net::SocketAddr,
}

impl Api {
    pub(crate) fn start() -> Api {
        let kubernetes = Kubernetes::new();
        let (journal, faults) = (Arc::new(Journal::new()), Arc::new(Faults::new()));
        let handler = Arc::clone(&kubernetes) as Arc<dyn simulated_cloud::wire::Handler>;
        let server =
            Server::start(Service::Kubernetes, handler, Arc::clone(&journal), Arc::clone(&faults));
        let server = server.unwrap();
        let address = server.address();
        let metrics = Arc::new(Metrics::default());
        Api { kubernetes, journal, faults, metrics, server: Some(server), address }
    }

    /// Listens no more.
    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// Listens again, where it did before.
    pub(crate) fn start_again(&mut self) {
        let handler = Arc::clone(&self.kubernetes) as Arc<dyn simulated_cloud::wire::Handler>;
        let (journal, faults) = (Arc::clone(&self.journal), Arc::clone(&self.faults));
        let server = Server::start_at(self.address, Service::Kubernetes, handler, journal, faults);
        self.server = Some(server.unwrap());
    }

    pub(crate) fn client(&self) -> KubeClient {
        self.client_with(None)
    }

    pub(crate) fn client_with(&self, token_file: Option<PathBuf>) -> KubeClient {
        let api_url = format!("http://{}/", self.address);
        let access = Access {
            api_url,
            token_file,
            trust: Trust::System,
            proxies: Arc::default(),
            credentials: Default::default(),
        };
        KubeClient::new(access, Clock::system(), Arc::clone(&self.metrics))
    }

    /// Creates or changes an object; `mark` is what differs.
    pub(crate) fn put(&self, name: &str, mark: &str) -> Value {
        let object = json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": { "name": name, "namespace": "default" },
            "spec": {
                "subnetName": mark,
                "vmNames": ["5f6e7d8c-0000-4000-8000-000000000001"],
                "credentials": { "openstackProviderID": "p", "projectID": "q" },
            },
        });
        self.kubernetes.apply_object(object).unwrap()
    }

    pub(crate) fn delete(&self, name: &str) {
        self.kubernetes.delete("openstackconfigs", "default", name).unwrap();
    }

    /// What the server has, as [`Seen`] shows it.
    pub(crate) fn objects(&self) -> BTreeMap<String, String> {
        let objects = self.kubernetes.objects("openstackconfigs");
        objects.iter().map(|object| entry(object).1).collect()
    }

    pub(crate) fn requests(&self, part: &str) -> usize {
        let requests = self.journal.requests(Service::Kubernetes);
        requests.iter().filter(|request| request.target.contains(part)).count()
    }

    pub(crate) fn lists(&self) -> usize {
        let requests = self.journal.requests(Service::Kubernetes);
        let is_list = |target: &str| {
            target.contains("openstackconfigs")
                && target.contains("limit=")
                && !target.contains("watch=1")
                && !target.contains("continue=")
        };
        requests.iter().filter(|request| is_list(&request.target)).count()
    }

    pub(crate) fn restarts(&self, reason: &str) -> u64 {
        let wanted = format!("multinic_watch_restarts_total{{reason=\"{reason}\"}} ");
        let text = self.metrics.render();
        let found = text.lines().find_map(|line| line.strip_prefix(&wanted));
        found.map_or(0, |count| count.parse().unwrap())
    }
}

/// Uid, and name with uid, version and mark.
fn entry(object: &Value) -> (String, (String, String)) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let uid = text(&metadata["uid"]);
    let state = format!("{uid} {} {}", metadata["resourceVersion"], object["spec"]["subnetName"]);
    (uid, (text(&metadata["name"]), state))
}

/// What a watcher has reported.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<String, String>,
    pub(crate) replaced: usize,
    pub(crate) troubles: Vec<(FailureKind, String)>,
    pub(crate) recovered: usize,
}

impl Seen {
    fn take(&self, observation: Observation) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        match observation {
            Observation::Replaced { objects, .. } => {
                let objects = objects.iter().map(|object| entry(&object.parse().unwrap()).1);
                state.objects = objects.collect();
                state.replaced += 1;
            }
            Observation::Applied(object) => {
                state.objects.extend([entry(&object.parse().unwrap()).1]);
            }
            Observation::Deleted(object) => {
                let (uid, (name, _)) = entry(&object.parse().unwrap());
                if state.objects.get(&name).is_some_and(|known| known.starts_with(&uid)) {
                    state.objects.remove(&name);
                }
            }
            Observation::Trouble { kind, text } => state.troubles.push((kind, text)),
            Observation::Recovered => state.recovered += 1,
        }
        changed.notify_all();
    }

    /// Waits for a state; says how long it took.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&State) -> bool) -> Duration {
        let (state, changed) = &*self.0;
        let begin = now();
        let state = state.lock().unwrap();
        let (state, timeout) =
            changed.wait_timeout_while(state, LIMIT, |state| !condition(state)).unwrap();
        assert!(
            !timeout.timed_out(),
            "waited in vain for {what}; seen: {:?}, troubles: {:?}",
            state.objects,
            state.troubles
        );
        begin.elapsed()
    }

    /// Waits until what is seen is what the server has; says how long it took.
    pub(crate) fn wait_for_equal(&self, api: &Api) -> Duration {
        self.wait_for("what the server has", |state| state.objects == api.objects())
    }

    pub(crate) fn state<T>(&self, look: impl Fn(&State) -> T) -> T {
        look(&self.0.0.lock().unwrap())
    }
}

#[expect(clippy::disallowed_methods, reason = "how long something took in real time is asked here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits that suit tests: everything a hundred times sooner than in production.
pub(crate) fn fast() -> Timing {
    Timing {
        backoff_first: Duration::from_millis(5),
        backoff_most: Duration::from_millis(100),
        relist_spread: Duration::from_millis(20),
        short_watch: Duration::from_millis(20),
        list_limit: Duration::from_secs(2),
        silence_limit: Duration::from_secs(5),
        ..Timing::default()
    }
}

/// Starts a watcher of all OpenstackConfigs of `default`.
pub(crate) fn watch(api: &Api, client: &KubeClient, timing: Timing) -> (Watcher, Seen) {
    let seen = Seen::default();
    let settings =
        WatchSettings { resource: CONFIGS, namespace: Some("default".to_owned()), timing, seed: 1 };
    let sink = {
        let seen = seen.clone();
        move |observation| seen.take(observation)
    };
    let clock = Clock::system();
    let metrics = Arc::clone(&api.metrics);
    let watcher = Watcher::spawn("watch", client, settings, clock, metrics, sink).unwrap();
    (watcher, seen)
}
