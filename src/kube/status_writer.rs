//! Writes the status of one object.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::client::KubeClient;
use super::error::KubeError;
use super::objects::{ObjectMeta, ObjectReference};

#[derive(Deserialize)]
struct Answer {
    metadata: ObjectMeta,
    status: Option<BTreeMap<String, IgnoredAny>>,
}

/// Makes `status` the whole status of the object, by server-side apply. There is nothing to do if
/// the object, or the one of this uid, no longer exists.
///
/// An apply removes only fields that no other manager has written. Those that another one, such as
/// the Go operator, wrote too are removed by a patch.
pub(crate) fn write(
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
