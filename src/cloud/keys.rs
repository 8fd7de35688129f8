//! Keys for Contrabass' secrets that are in Secrets of the objects' namespaces.
//!
//! Who reads a Secret is the caller's business; here it is known when one is read again: every five
//! minutes, and after Contrabass' answer couldn't be decrypted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::cache::Cache;
use super::error::{CloudError, Step};
use crate::clock::Clock;
use crate::config::{Config, ObjectSettings, Settings, aes_key};
use crate::resources::Spec;
use crate::secret::Secret;
use crate::threads::{Task, side_by_side};

/// Names the Secret of an object.
const FIELD: &str = "spec.secrets.contrabassEncryptKeySecretRef";
/// The Secret, and its key, of a namespace that has a key of its own; objects needn't name it.
const DEFAULT: (&str, &str) = ("contrabass-encrypt-key", "CONTRABASS_ENCRYPT_KEY");
/// For how long a Secret's content is used, and that there is none.
const LIFE: Duration = Duration::from_secs(300);
/// A Secret that couldn't be read, or that an object names and can't use, is read again after this.
const FAILURE_LIFE: Duration = Duration::from_secs(10);
/// Secrets that are read at the same time.
const SIDE_BY_SIDE: usize = 8;

/// The entries of a Secret.
pub type Entries = BTreeMap<String, Secret>;
/// Reads a Secret by namespace and name; gives none if it isn't there.
pub type ReadSecret = dyn Fn(&str, &str) -> Result<Option<Entries>, String> + Send + Sync;

/// The keys of all namespaces.
pub struct Keys {
    read: Box<ReadSecret>,
    clock: Clock,
    /// By namespace and name.
    secrets: Cache<(String, String), Option<Arc<Entries>>>,
}

/// A key that is in a Secret.
struct Found {
    key: Secret,
    /// The Secret, for messages.
    source: String,
}

impl Keys {
    /// Nothing is read yet.
    pub fn new(clock: Clock, read: Box<ReadSecret>) -> Keys {
        Keys { read, clock, secrets: Cache::default() }
    }

    /// What an object of this namespace is reconciled by, and the Secret that its key is from.
    ///
    /// # Errors
    /// For a `ConfigError`. Where settings can't be used, no Secret is asked for.
    pub fn settings_of(
        &self,
        config: &Config,
        namespace: &str,
        spec: &Spec,
    ) -> Result<(Arc<Settings>, Option<String>), String> {
        let settings = config.settings_of(spec, None)?;
        Ok(match self.find(config.policy.object_settings, namespace, spec)? {
            Some(found) => (config.settings_of(spec, Some(&found.key))?, Some(found.source)),
            None => (settings, None),
        })
    }

    /// The key of an object of this namespace, if a Secret has one: the one that it names, or else
    /// the namespace's own.
    ///
    /// # Errors
    /// Why the Secret can't be used; for a `ConfigError`.
    fn find(
        &self,
        policy: ObjectSettings,
        namespace: &str,
        spec: &Spec,
    ) -> Result<Option<Found>, String> {
        let named = spec.encrypt_key_ref.as_ref();
        match (policy, named) {
            (ObjectSettings::None, None) => return Ok(None),
            (ObjectSettings::None, Some(_)) => {
                return Err(format!(
                    "{FIELD}: OBJECT_SETTINGS=none doesn't allow keys of objects; \
                     OBJECT_SETTINGS=tuning would"
                ));
            }
            _ => {}
        }
        let (name, key) = named.map_or(DEFAULT, |named| (&named.name, &named.key));
        let source = format!("Secret {namespace}/{name}");
        let problem = |what: &str| {
            let until = self.clock.now().uptime + FAILURE_LIFE;
            self.secrets.shorten(&owned(namespace, name), until);
            let field = named.map(|_| format!("{FIELD}: ")).unwrap_or_default();
            format!("{field}{source} {what}")
        };
        let entries = match (self.entries(namespace, name), named) {
            (Ok(entries), _) => entries,
            // Almost no namespace has one, so it isn't waited for.
            (Err(_), None) => None,
            (Err(error), Some(_)) => return Err(problem(&format!("can't be read: {error}"))),
        };
        let value = match (&entries, named) {
            (None, Some(_)) => return Err(problem("doesn't exist")),
            (None, None) => return Ok(None),
            (Some(entries), _) => entries.get(key),
        };
        match (value.map(|value| aes_key(value.expose().trim_end_matches(['\r', '\n']))), named) {
            (Some(Ok(key)), _) => Ok(Some(Found { key, source })),
            (Some(Err(length)), _) => Err(problem(&format!("can't be used: {key} {length}"))),
            (None, Some(_)) => Err(problem(&format!("has no key {key}"))),
            (None, None) => Ok(None),
        }
    }

    /// Reads the Secrets that aren't known yet, side by side, so that [`Keys::settings_of`] finds them. For
    /// a `fresh` pass it is asked again whether those that weren't there are there now.
    pub(crate) fn prepare<'a>(
        &self,
        objects: impl Iterator<Item = (&'a str, &'a Spec)>,
        fresh: bool,
    ) {
        let named = objects.map(|(namespace, spec)| {
            let name = spec.encrypt_key_ref.as_ref().map_or(DEFAULT.0, |named| &named.name);
            (namespace, name)
        });
        let secrets: BTreeSet<(&str, &str)> = named.collect();
        let mut tasks: Vec<Task<'_, ()>> = Vec::new();
        for (namespace, name) in secrets {
            if fresh {
                self.secrets
                    .forget_where(&owned(namespace, name), |known| !matches!(known, Ok(Some(_))));
            }
            tasks.push(Box::new(move || drop(self.entries(namespace, name))));
        }
        side_by_side(SIDE_BY_SIDE, tasks);
    }

    /// Contrabass' answer couldn't be decrypted: the Secret is read again when it is next needed.
    pub(crate) fn may_be_old(&self, namespace: &str, spec: &Spec) {
        let name = spec.encrypt_key_ref.as_ref().map_or(DEFAULT.0, |named| &named.name);
        self.secrets.shorten(&owned(namespace, name), Duration::ZERO);
    }

    fn entries(&self, namespace: &str, name: &str) -> Result<Option<Arc<Entries>>, CloudError> {
        let (key, uptime) = (owned(namespace, name), self.clock.now().uptime);
        let before = self.secrets.last(&key).and_then(|known| known.result.ok());
        let known = self.secrets.get(&key, uptime, None, || {
            let read = (self.read)(namespace, name);
            let uptime = self.clock.now().uptime;
            match (read, before) {
                (Ok(entries), _) => (Ok(entries.map(Arc::new)), uptime + LIFE),
                // An API server in trouble doesn't change keys.
                (Err(_), Some(before)) => (Ok(before), uptime + LIFE),
                (Err(error), None) => {
                    (Err(CloudError::new(Step::Contrabass, error)), uptime + FAILURE_LIFE)
                }
            }
        });
        known.result
    }
}

fn owned(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}
