//! Writes the status of one object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::client::KubeClient;
use super::error::KubeError;
use super::objects::{ObjectMeta, ObjectReference};
use crate::threads::lock;

#[derive(Deserialize)]
struct Answer {
    metadata: ObjectMeta,
    status: Option<BTreeMap<String, IgnoredAny>>,
}

/// The fields of statuses that the API server doesn't know, for its CRD is older than this program.
#[derive(Debug, Default)]
pub(crate) struct UnknownFields(Mutex<BTreeSet<String>>);

impl UnknownFields {
    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.0).iter().cloned().collect()
    }

    /// A status with these fields was written, all but the unknown ones.
    fn wrote(&self, status: &Value, unknown: &BTreeSet<String>) {
        let mut known = lock(&self.0);
        let before = known.clone();
        known.retain(|field| status.get(field).is_none());
        known.extend(unknown.iter().cloned());
        if *known == before {
            return;
        }
        let list = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match known.is_empty() {
            true => log::info!("the API server knows all fields of the status now"),
            false => log::warn!(
                "the CustomResourceDefinition is older than this program, statuses are written \
                 without {list}: apply the CRDs of this version"
            ),
        }
    }
}

/// Makes `status` the whole status of the object, by server-side apply. There is nothing to do if
/// the object, or the one of this uid, no longer exists.
///
/// An apply removes only fields that no other manager has written. Those that another one, such as
/// the Go operator, wrote too are removed by a patch. Fields that the CRD doesn't declare fail the
/// whole apply; it is repeated without them.
pub(crate) fn write(
    client: &KubeClient,
    object: &ObjectReference,
    status: &Value,
    unknown: &UnknownFields,
) -> Result<(), KubeError> {
    let (mut sent, mut refused) = (status.clone(), BTreeSet::new());
    let result = loop {
        let result = write_once(client, object, &sent);
        let Err(error) = &result else { break result };
        let field = error.status().undeclared_field("status").map(str::to_owned);
        let fields = sent.as_object_mut();
        match field.filter(|field| fields.is_some_and(|fields| fields.remove(field).is_some())) {
            Some(field) => refused.insert(field),
            None => break result,
        };
    };
    if result.is_ok() {
        unknown.wrote(status, &refused);
    }
    result
}

fn write_once(
    client: &KubeClient,
    object: &ObjectReference,
    status: &Value,
) -> Result<(), KubeError> {
    let ObjectReference { resource, namespace, name, uid } = object;
    let path = format!("{}/status", resource.object(namespace, name));
    let body = json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        // The server refuses the uid of another object of the same name.
        "metadata": { "name": name, "namespace": namespace, "uid": uid },
        "status": status,
    });
    let Answer { metadata, status: found } = match client.apply::<Answer>(&path, &body) {
        Ok((_, answer)) => answer,
        Err(error) if error.status().is_not_found() || error.status().is_other_uid() => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if metadata.uid != *uid {
        log::info!("{object} was deleted and created again; the status belongs to its predecessor");
        return Ok(());
    }
    let others = found.unwrap_or_default().into_keys();
    let others: BTreeMap<String, Value> = others
        .filter(|field| status.get(field).is_none())
        .map(|field| (field, Value::Null))
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let version = metadata.resource_version;
    let patch = json!({ "metadata": { "resourceVersion": version }, "status": others });
    client.merge::<IgnoredAny>(&path, &patch).map(drop)
}
