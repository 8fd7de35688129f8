//! The records as a replica that doesn't lead reads them, from a watch of its own.

use std::io;
use std::sync::{Arc, Mutex};

use super::listed::Listed;
use super::reading::{unlisted_because, watch};
use crate::clock::Clock;
use crate::inventory::backend::Trouble;
use crate::inventory::store::{Condition, Store};
use crate::kube::client::KubeClient;
use crate::kube::watch::Observation;
use crate::kube::watcher::{Heard, Watcher};
use crate::metrics::Metrics;
use crate::threads::lock;

/// A running watch. Dropping it ends it.
pub(crate) struct Standby {
    shared: Arc<Mutex<Shared>>,
    watcher: Watcher,
    clock: Clock,
}

/// What the watch showed.
#[derive(Default)]
struct Shared {
    /// None before the first list.
    listed: Option<Listed>,
    has_changed: bool,
    trouble: String,
}

impl Standby {
    /// Starts the watch.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start(
        client: &KubeClient,
        namespace: &str,
        clock: Clock,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Standby> {
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let own = Arc::clone(&shared);
        let sink = move |observation| lock(&own).observe(observation);
        let watcher = watch(client, namespace, &clock, metrics, sink)?;
        Ok(Standby { shared, watcher, clock })
    }

    /// When the API server was heard last.
    pub(crate) fn heard(&self) -> Heard {
        self.watcher.heard()
    }

    /// Brings a store that only shows up to what was observed.
    pub(crate) fn refresh(&self, store: &Store) {
        let mut shared = lock(&self.shared);
        if !std::mem::take(&mut shared.has_changed) {
            return;
        }
        store.show(match &shared.listed {
            Some(listed) => Ok(listed.held(self.clock.now().wall).opened),
            None => Err(Trouble(Condition::Unreadable, unlisted_because(&shared.trouble))),
        });
    }
}

impl Shared {
    fn observe(&mut self, observation: Observation) {
        self.has_changed = true;
        match observation {
            Observation::Replaced { objects, .. } => {
                let listed = self.listed.insert(Listed::default());
                objects.iter().for_each(|object| listed.add(object));
            }
            Observation::Applied(object) => {
                self.listed.iter_mut().for_each(|listed| listed.add(&object));
            }
            Observation::Deleted(object) => {
                let name = &object.metadata.name;
                self.listed.iter_mut().for_each(|listed| listed.remove(name));
            }
            Observation::Trouble { text, .. } => self.trouble = text,
            Observation::Recovered => {}
        }
    }
}
