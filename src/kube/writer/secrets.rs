//! What to do about one Secret: decided from how it is and how it should be.
//!
//! Pure. A Secret is ours when our object owns it. Both writes are guarded, the one by the name
//! being free and the other by the version that was read, so that no race can make us overwrite
//! somebody else's Secret.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::kube::objects::{ObjectMeta, ObjectReference, OwnerReference};
use crate::secret::Secret;

/// How a Secret should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretManifest {
    /// Its namespace, which is also its owner's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its entries, in clear text.
    pub data: BTreeMap<String, Secret>,
    /// Whose end is also its end.
    pub owner: ObjectReference,
}

/// How a Secret is.
#[derive(Deserialize)]
pub(super) struct Existing {
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "wiped")]
    data: BTreeMap<String, Secret>,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum SecretPlan {
    /// Create this object.
    Create(Value),
    /// Send this merge patch.
    Merge(Value),
    /// It is as it should be.
    Nothing,
    /// It belongs to somebody else.
    Foreign,
}

/// Decides what to do. Entries that we don't name are left as they are.
pub(super) fn plan(existing: Option<&Existing>, wanted: &SecretManifest) -> SecretPlan {
    let SecretManifest { namespace, name, owner, .. } = wanted;
    let Some(existing) = existing else {
        return SecretPlan::Create(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "ownerReferences": [owner.as_owner()],
            },
            "type": "Opaque",
            "data": encoded(wanted),
        }));
    };
    let us = owner.as_owner();
    let owners = &existing.metadata.owner_references;
    let is_owned = owners.iter().any(|known| known.uid == us.uid);
    // An object of our owner's name that was deleted and made again: the Secret is a left-over that
    // the garbage collector hasn't met yet.
    let is_left_over = |known: &OwnerReference| {
        known.kind == us.kind
            && known.name == us.name
            && known.uid != us.uid
            && group(&known.api_version) == group(&us.api_version)
    };
    if !is_owned && !owners.iter().any(is_left_over) {
        return SecretPlan::Foreign;
    }
    let data = encoded(wanted);
    let is_same = data.iter().all(|(key, value)| {
        existing.data.get(key).is_some_and(|known| Some(known.expose()) == value.as_str())
    });
    if is_owned && is_same {
        return SecretPlan::Nothing;
    }
    let mut patch = json!({
        "metadata": { "resourceVersion": existing.metadata.resource_version },
        "data": data,
    });
    if !is_owned {
        let kept = owners.iter().filter(|known| !is_left_over(known));
        let owners: Vec<_> = kept.cloned().chain([owner.as_owner()]).collect();
        patch["metadata"]["ownerReferences"] = json!(owners);
    }
    SecretPlan::Merge(patch)
}

fn encoded(wanted: &SecretManifest) -> Map<String, Value> {
    let encode = |value: &Secret| Value::String(STANDARD.encode(value.expose()));
    wanted.data.iter().map(|(key, value)| (key.clone(), encode(value))).collect()
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
    use super::{Existing, SecretManifest, SecretPlan, plan};
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
        SecretManifest {
            namespace: "default".to_owned(),
            name: "rabbitmq-tenant".to_owned(),
            data: data.into(),
            owner,
        }
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
        let SecretPlan::Create(object) = plan(None, &wanted()) else { panic!("not created") };
        assert_eq!(object["data"]["PASSWORD"], "aHVudGVyMg==");
        assert_eq!(object["metadata"]["ownerReferences"], json!([owner("u1")]));
    }

    #[test]
    fn an_equal_secret_is_left_alone_and_a_different_one_is_patched_at_its_version() {
        let same = existing(&json!([owner("u1")]), &json!({"PASSWORD": "aHVudGVyMg==", "x": ""}));
        assert_eq!(plan(Some(&same), &wanted()), SecretPlan::Nothing);
        let other = existing(&json!([owner("u1")]), &json!(null));
        let patch =
            json!({"metadata": {"resourceVersion": "9"}, "data": {"PASSWORD": "aHVudGVyMg=="}});
        assert_eq!(plan(Some(&other), &wanted()), SecretPlan::Merge(patch));
    }

    #[test]
    fn a_secret_of_somebody_else_is_foreign_whatever_it_holds() {
        let mut stranger = owner("u2");
        stranger["name"] = json!("someone");
        for owners in [json!(null), json!([]), json!([stranger])] {
            let found = existing(&owners, &json!({"PASSWORD": "aHVudGVyMg=="}));
            assert_eq!(plan(Some(&found), &wanted()), SecretPlan::Foreign, "{owners}");
        }
    }

    #[test]
    fn the_secret_of_the_objects_former_self_is_taken_over() {
        let left_over = existing(&json!([owner("u0")]), &json!({"PASSWORD": "aHVudGVyMg=="}));
        let SecretPlan::Merge(patch) = plan(Some(&left_over), &wanted()) else {
            panic!("not ours")
        };
        assert_eq!(patch["metadata"]["ownerReferences"], json!([owner("u1")]));
    }

    #[test]
    fn no_debug_text_shows_the_content() {
        assert!(!format!("{:?}", wanted()).contains("hunter2"));
    }
}
