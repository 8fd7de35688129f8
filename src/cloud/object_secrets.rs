//! What is in Secrets of the objects' namespaces: keys for Contrabass' secrets, and clouds that aren't
//! Contrabass'.
//!
//! Who reads a Secret is the caller's business; here it is known when one is read again: every five
//! minutes, after Contrabass' answer couldn't be decrypted, and after a login failed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::cache::{Cache, SECRET_FAILURE_LIFE};
use super::error::{CloudError, Step};
use crate::clock::Clock;
use crate::config::{
    Config, FoundCloud, FoundSecrets, ObjectSettings, Settings, aes_key, read_clouds_yaml,
};
use crate::http::trust::Trust;
use crate::resources::{IdentityRef, Spec};
use crate::secret::{Entries, ReadSecret, Secret};
use crate::threads::{Task, side_by_side};

/// Keys of a Secret with a cloud: where it is, and root certificates in PEM.
const CLOUDS_YAML: &str = "clouds.yaml";
const CACERT: &str = "cacert";
/// Names the Secret of an object.
const FIELD: &str = "spec.secrets.contrabassEncryptKeySecretRef";
/// The Secret, and its key, of a namespace that has a key of its own; objects needn't name it.
const DEFAULT: (&str, &str) = ("contrabass-encrypt-key", "CONTRABASS_ENCRYPT_KEY");
/// Secrets that are read at the same time.
const SIDE_BY_SIDE: usize = 8;

/// What is in the Secrets of all namespaces.
pub struct ObjectSecrets {
    read: Box<ReadSecret>,
    clock: Clock,
    /// By namespace and name.
    secrets: Cache<(String, String), Option<Arc<Entries>>>,
    /// By namespace, Secret and the cloud's name.
    clouds: Cache<(String, String, String), Arc<FoundCloud>>,
}

/// A key that is in a Secret.
struct Found {
    key: Secret,
    /// The Secret, for messages.
    source: String,
}

impl ObjectSecrets {
    /// Nothing is read yet.
    pub fn new(clock: Clock, read: Box<ReadSecret>) -> ObjectSecrets {
        ObjectSecrets { read, clock, secrets: Cache::default(), clouds: Cache::default() }
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
        let settings = config.settings_of(spec, &FoundSecrets::default())?;
        if let Some(named) = &spec.identity_ref {
            let cloud = self.cloud(config, namespace, named).map_err(|error| error.message)?;
            let found = FoundSecrets { cloud: Some(cloud), ..FoundSecrets::default() };
            let settings = config.settings_of(spec, &found).inspect_err(|_| {
                let until = self.clock.now().uptime + SECRET_FAILURE_LIFE;
                self.clouds.shorten(&cloud_key(namespace, named), until);
            })?;
            return Ok((settings, None));
        }
        Ok(match self.find(config.policy.object_settings, namespace, spec)? {
            Some(Found { key, source }) => {
                let found = FoundSecrets { key: Some(key), ..FoundSecrets::default() };
                (config.settings_of(spec, &found)?, Some(source))
            }
            None => (settings, None),
        })
    }

    /// The cloud that an object of this namespace names.
    fn cloud(
        &self,
        config: &Config,
        namespace: &str,
        named: &IdentityRef,
    ) -> Result<Arc<FoundCloud>, CloudError> {
        let secret = format!("Secret {namespace}/{}", named.secret);
        let read = || (self.read)(namespace, &named.secret);
        self.clouds.of_secret(&cloud_key(namespace, named), &self.clock, read, |read, _| {
            let cloud = match read {
                Ok(Some(entries)) => found_cloud(config, &secret, &entries, &named.cloud),
                Ok(None) => Err(format!("{secret} doesn't exist")),
                Err(error) => Err(format!("{secret} can't be read: {error}")),
            };
            cloud.map(Arc::new).map_err(|what| CloudError::new(Step::Identity, what))
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
            let until = self.clock.now().uptime + SECRET_FAILURE_LIFE;
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

    /// Reads the Secrets that aren't known yet, side by side, so that [`ObjectSecrets::settings_of`] finds them. For
    /// a `fresh` pass it is asked again whether those that weren't there are there now.
    pub(crate) fn prepare<'a>(
        &self,
        config: &Config,
        objects: impl Iterator<Item = (&'a str, &'a Spec)>,
        fresh: bool,
    ) {
        let (mut secrets, mut clouds) = (BTreeSet::new(), BTreeSet::new());
        for (namespace, spec) in objects {
            match (&spec.identity_ref, &spec.encrypt_key_ref) {
                (Some(named), _) => drop(clouds.insert((namespace, named))),
                (None, Some(named)) => drop(secrets.insert((namespace, named.name.as_str()))),
                (None, None) => drop(secrets.insert((namespace, DEFAULT.0))),
            }
        }
        let mut tasks: Vec<Task<'_, ()>> = Vec::new();
        for (namespace, named) in clouds {
            if fresh {
                self.clouds.forget_where(&cloud_key(namespace, named), Result::is_err);
            }
            tasks.push(Box::new(move || drop(self.cloud(config, namespace, named))));
        }
        for (namespace, name) in secrets {
            if fresh {
                self.secrets
                    .forget_where(&owned(namespace, name), |known| !matches!(known, Ok(Some(_))));
            }
            tasks.push(Box::new(move || drop(self.entries(namespace, name))));
        }
        side_by_side(SIDE_BY_SIDE, tasks);
    }

    /// Contrabass' answer couldn't be decrypted, or a login failed: the Secret is read again when it
    /// is next needed.
    pub(crate) fn may_be_old(&self, namespace: &str, spec: &Spec) {
        if let Some(named) = &spec.identity_ref {
            self.clouds.shorten(&cloud_key(namespace, named), Duration::ZERO);
            return;
        }
        let name = spec.encrypt_key_ref.as_ref().map_or(DEFAULT.0, |named| &named.name);
        self.secrets.shorten(&owned(namespace, name), Duration::ZERO);
    }

    fn entries(&self, namespace: &str, name: &str) -> Result<Option<Arc<Entries>>, CloudError> {
        let read = || (self.read)(namespace, name);
        self.secrets.of_secret(&owned(namespace, name), &self.clock, read, |read, _| {
            let entries = read.map_err(|error| CloudError::new(Step::Contrabass, error))?;
            Ok(entries.map(Arc::new))
        })
    }
}

fn owned(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

fn cloud_key(namespace: &str, named: &IdentityRef) -> (String, String, String) {
    (namespace.to_owned(), named.secret.clone(), named.cloud.clone())
}

/// The cloud in the entries of a Secret, or why it can't be used.
fn found_cloud(
    config: &Config,
    secret: &str,
    entries: &Entries,
    cloud: &str,
) -> Result<FoundCloud, String> {
    let text = entries.get(CLOUDS_YAML).ok_or_else(|| format!("{secret} has no {CLOUDS_YAML}"))?;
    let cacert = entries.get(CACERT).filter(|pem| !pem.expose().trim().is_empty());
    let entry = read_clouds_yaml(text.expose(), cloud, cacert.is_some())
        .map_err(|what| format!("{secret}, {CLOUDS_YAML}: {what}"))?;
    let trust = match cacert {
        Some(pem) => {
            let place = format!("{secret} has {CACERT}");
            let trust = Trust::Pem { place, pem: pem.expose().to_owned() };
            trust.load()?;
            trust
        }
        None => config.public_roots.clone(),
    };
    Ok(FoundCloud { place: format!("cloud {cloud:?} of {secret}"), entry, trust })
}
