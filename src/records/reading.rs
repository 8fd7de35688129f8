//! The calls that read records: a list, a watch.

use std::io;
use std::sync::Arc;

use super::listed::Listed;
use super::node_interfaces::NODE_INTERFACES;
use crate::clock::Clock;
use crate::inventory::backend::Opened;
use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::watch::{Observation, Timing};
use crate::kube::watcher::{WatchSettings, Watcher};
use crate::listing;
use crate::metrics::Metrics;

/// Objects in a page of a list.
const PAGE: u32 = 500;

pub(super) const NO_NAMESPACE: &str = "the records can't be read: the operator's own namespace isn't known; set \
                            POD_NAMESPACE";

pub(super) fn unlisted(error: &KubeError) -> String {
    unlisted_because(&error.to_string())
}

pub(super) fn unlisted_because(reason: &str) -> String {
    format!("the records can't be read: {reason}")
}

/// The records of a namespace as they are now, for commands that look once and end.
///
/// # Errors
/// Why they can't be read.
pub(crate) fn read(
    client: &KubeClient,
    namespace: Option<&str>,
    clock: &Clock,
) -> Result<Opened, String> {
    let namespace = namespace.ok_or(NO_NAMESPACE)?;
    let listed = list(client, namespace).map_err(|error| unlisted(&error))?;
    Ok(listed.held(clock.now().wall).opened)
}

/// Watches all objects of a namespace.
pub(super) fn watch(
    client: &KubeClient,
    namespace: &str,
    clock: &Clock,
    metrics: &Arc<Metrics>,
    sink: impl FnMut(Observation) + Send + 'static,
) -> io::Result<Watcher> {
    let settings = WatchSettings {
        resource: NODE_INTERFACES,
        namespace: Some(namespace.to_owned()),
        timing: Timing::default(),
        seed: fastrand::u64(..),
    };
    Watcher::spawn("watch-records", client, settings, clock.clone(), Arc::clone(metrics), sink)
}

/// All objects of a namespace, in pages.
pub(super) fn list(client: &KubeClient, namespace: &str) -> Result<Listed, KubeError> {
    let scope = Some(namespace);
    listing::pages(client, &NODE_INTERFACES, scope, Some(PAGE), |listed: &mut Listed, page| {
        page.objects.iter().for_each(|object| listed.add(object));
        listed.unnamed.extend(page.unreadable);
    })
}
