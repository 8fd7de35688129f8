//! Reads a Secret by its name. Secrets are never listed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::client::KubeClient;
use super::error::KubeError;
use super::resource::Resource;
use super::secret_writer::Existing;
use crate::secret::{Entries, ReadSecret, Secret};

/// An API server that hangs must not hold up others for long.
const LIMIT: Duration = Duration::from_secs(3);

/// Reads Secrets over connections of its own.
pub fn by_name(client: &KubeClient) -> Box<ReadSecret> {
    let client = client.with_own_connections().with_call_limit(LIMIT);
    Box::new(move |namespace, name| {
        read(&client, namespace, name).map_err(|error| error.to_string())
    })
}

/// The entries of a Secret that are text; none if there is no such Secret.
///
/// # Errors
/// If the API server doesn't answer, or refuses.
fn read(client: &KubeClient, namespace: &str, name: &str) -> Result<Option<Entries>, KubeError> {
    let existing = match client.get::<Existing>(&Resource::SECRETS.object(namespace, name)) {
        Ok(existing) => existing,
        Err(error) if error.status().is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let entries = existing.data.into_iter().filter_map(|(key, value)| {
        let mut bytes = Zeroizing::new(STANDARD.decode(value.expose()).ok()?);
        let text = String::from_utf8(std::mem::take(&mut *bytes)).ok()?;
        Some((key, Secret::new(text)))
    });
    Ok(Some(entries.collect()))
}
