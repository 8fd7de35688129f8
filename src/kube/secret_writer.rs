//! Sees to one Secret: decided from how it is and how it should be.
//!
//! A Secret is ours if our object owns it. Both writes are guarded, the one by the name being free
//! and the other by the version that was read, so that no race makes us overwrite another's Secret.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::client::KubeClient;
use super::error::KubeError;
use super::objects::{ObjectMeta, ObjectReference, OwnerReference};
use super::resource::Resource;
use crate::secret::Secret;

/// The name of a Secret is a DNS subdomain.
const MAX_NAME_BYTES: usize = 253;

/// How a Secret should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretManifest {
    /// Its name. Its namespace is its owner's.
    pub name: String,
    /// Its entries, in clear text.
    pub data: BTreeMap<String, Secret>,
    /// The object that it is deleted with.
    pub owner: ObjectReference,
}

/// How a Secret is after an attempt to see to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// As it should be.
    Written,
    /// It couldn't be read or written: what was tried and what came back.
    Failed(String),
    /// A Secret of that name has another owner, or none, and was left alone.
    NotOurs,
}

/// How a Secret is.
#[derive(Deserialize)]
pub(super) struct Existing {
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "wiped")]
    pub(super) data: BTreeMap<String, Secret>,
}

/// What to do.
#[derive(Debug, PartialEq)]
enum Plan {
    /// Create this object.
    Create(Value),
    /// Send this merge patch.
    Merge(Value),
    /// It is as it should be.
    Nothing,
    /// It is not ours.
    NotOurs,
}

/// Creates or corrects the Secret, if that is needed and it is ours.
pub(crate) fn write(
    client: &KubeClient,
    wanted: &SecretManifest,
) -> Result<SecretState, KubeError> {
    let length = wanted.name.len();
    if length > MAX_NAME_BYTES {
        return Ok(SecretState::Failed(format!(
            "its name, made of the object's, has {length} characters; {MAX_NAME_BYTES} are allowed"
        )));
    }
    let namespace = &wanted.owner.namespace;
    let path = Resource::SECRETS.object(namespace, &wanted.name);
    let mut client = client.clone();
    client.withheld = wanted.data.values().cloned().collect();
    let existing = match client.get::<Existing>(&path) {
        Ok(existing) => Some(existing),
        Err(error) if error.status().is_not_found() => None,
        Err(error) => return Err(error),
    };
    match plan(existing.as_ref(), wanted) {
        Plan::Create(object) => {
            let collection = Resource::SECRETS.collection(Some(namespace));
            client.create::<IgnoredAny>(&collection, &object)?;
        }
        Plan::Merge(patch) => drop(client.merge::<IgnoredAny>(&path, &patch)?),
        Plan::Nothing => {}
        Plan::NotOurs => return Ok(SecretState::NotOurs),
    }
    Ok(SecretState::Written)
}

/// Entries that we don't name are left as they are.
fn plan(existing: Option<&Existing>, wanted: &SecretManifest) -> Plan {
    let us = wanted.owner.as_owner();
    let encode = |value: &Secret| Value::String(STANDARD.encode(value.expose()));
    let data: Map<String, Value> =
        wanted.data.iter().map(|(key, value)| (key.clone(), encode(value))).collect();
    let Some(existing) = existing else {
        return Plan::Create(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": wanted.name,
                "namespace": wanted.owner.namespace,
                "ownerReferences": [us],
            },
            "type": "Opaque",
            "data": data,
        }));
    };
    let owners = &existing.metadata.owner_references;
    let is_owned = owners.iter().any(|known| known.uid == us.uid);
    // Our object was deleted and created again, and the garbage collector hasn't come by yet.
    let is_predecessor = |known: &OwnerReference| {
        known.kind == us.kind
            && known.name == us.name
            && known.uid != us.uid
            && group(&known.api_version) == group(&us.api_version)
    };
    if !is_owned && !owners.iter().any(is_predecessor) {
        return Plan::NotOurs;
    }
    let is_same = data.iter().all(|(key, value)| {
        existing.data.get(key).is_some_and(|known| Some(known.expose()) == value.as_str())
    });
    if is_owned && is_same {
        return Plan::Nothing;
    }
    let mut patch = json!({
        "metadata": { "resourceVersion": existing.metadata.resource_version },
        "data": data,
    });
    if !is_owned {
        let kept = owners.iter().filter(|known| !is_predecessor(known));
        let owners: Vec<_> = kept.cloned().chain([us.clone()]).collect();
        patch["metadata"]["ownerReferences"] = json!(owners);
    }
    Plan::Merge(patch)
}

fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

fn wiped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Secret>, D::Error> {
    let data = Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?;
    let data = data.unwrap_or_default().into_iter();
    Ok(data.map(|(key, value)| (key, Secret::new(value.unwrap_or_default()))).collect())
}

#[cfg(test)]
mod tests {
    use super::{Existing, Plan, SecretManifest, plan};
    use crate::kube::objects::ObjectReference;
    use crate::kube::resource::Resource;
    use crate::secret::Secret;
    use serde_json::{Value, json};

    const TENANT: Resource = Resource {
        group: "multinic.example.com",
        version: "v1alpha1",
        plural: "openstackconfigs",
        kind: "OpenstackConfig",
    };

    fn wanted() -> SecretManifest {
        let owner = ObjectReference {
            resource: TENANT,
            namespace: "default".to_owned(),
            name: "tenant".to_owned(),
            uid: "u1".to_owned(),
        };
        let data = [("PASSWORD".to_owned(), Secret::new("hunter2".to_owned()))];
        SecretManifest { name: "rabbitmq-tenant".to_owned(), data: data.into(), owner }
    }

    fn existing(owners: &Value, data: &Value) -> Existing {
        let object = json!({
            "metadata": { "name": "rabbitmq-tenant", "resourceVersion": "9", "ownerReferences": owners },
            "data": data,
        });
        serde_json::from_value(object).unwrap()
    }

    fn owner(uid: &str) -> Value {
        json!({ "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig",
                "name": "tenant", "uid": uid, "controller": true })
    }

    #[test]
    fn a_missing_secret_is_created_with_its_owner() {
        let Plan::Create(object) = plan(None, &wanted()) else { panic!("not created") };
        assert_eq!(object["data"]["PASSWORD"], "aHVudGVyMg==");
        assert_eq!(object["metadata"]["ownerReferences"], json!([owner("u1")]));
    }

    #[test]
    fn an_equal_secret_is_left_alone_and_a_different_one_is_patched_at_its_version() {
        let same = existing(&json!([owner("u1")]), &json!({"PASSWORD": "aHVudGVyMg==", "x": ""}));
        assert_eq!(plan(Some(&same), &wanted()), Plan::Nothing);
        let other = existing(&json!([owner("u1")]), &json!(null));
        let patch =
            json!({"metadata": {"resourceVersion": "9"}, "data": {"PASSWORD": "aHVudGVyMg=="}});
        assert_eq!(plan(Some(&other), &wanted()), Plan::Merge(patch));
    }

    #[test]
    fn a_secret_without_us_as_owner_is_not_ours_whatever_it_holds() {
        let mut other = owner("u2");
        other["name"] = json!("someone");
        for owners in [json!(null), json!([]), json!([other])] {
            let found = existing(&owners, &json!({"PASSWORD": "aHVudGVyMg=="}));
            assert_eq!(plan(Some(&found), &wanted()), Plan::NotOurs, "{owners}");
        }
    }

    #[test]
    fn the_secret_of_the_objects_predecessor_gets_the_new_owner() {
        let of_predecessor = existing(&json!([owner("u0")]), &json!({"PASSWORD": "aHVudGVyMg=="}));
        let Plan::Merge(patch) = plan(Some(&of_predecessor), &wanted()) else { panic!("not ours") };
        assert_eq!(patch["metadata"]["ownerReferences"], json!([owner("u1")]));
    }

    #[test]
    fn no_debug_text_shows_the_content() {
        assert!(!format!("{:?}", wanted()).contains("hunter2"));
    }
}
