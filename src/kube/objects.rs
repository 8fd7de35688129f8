//! The few fields of an object's metadata that controllers read, and lists of objects.
//!
//! Reading is lenient: what is absent or null is empty, unknown fields are ignored, and an item
//! that can't be read costs that item alone. What else an object holds stays raw until a reader
//! that knows its type asks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::resource::Resource;

/// `metadata` of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Empty for objects of the cluster.
    #[serde(deserialize_with = "or_default")]
    pub namespace: String,
    /// Unique within namespace and kind at one time.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Another one for each object of the same name.
    #[serde(deserialize_with = "or_default")]
    pub uid: String,
    /// Opaque: compare for equality only.
    #[serde(deserialize_with = "or_default")]
    pub resource_version: String,
    /// Moves when the spec changes.
    #[serde(deserialize_with = "or_default")]
    pub generation: i64,
    /// When the object was made; none if it can't be read.
    #[serde(deserialize_with = "time")]
    pub creation_timestamp: Option<Timestamp>,
    /// When its deletion was asked for; it lives on until its finalizers are gone.
    #[serde(deserialize_with = "time")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Free text of users and tools.
    #[serde(deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    /// Whose end is also this object's end.
    #[serde(deserialize_with = "or_default")]
    pub owner_references: Vec<OwnerReference>,
}

/// One owner of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Uid of the owner: the garbage collector goes by it.
    pub uid: String,
    /// Is this the one owner that manages the object?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Must the object go before its owner can?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// An object as it came: metadata read, the rest raw.
#[derive(Clone, Debug)]
pub struct RawObject {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The whole object, metadata included, as JSON.
    pub body: Box<RawValue>,
}

impl RawObject {
    /// Reads the metadata. An object without a name can't be spoken of, so it is an error.
    pub fn read(body: &RawValue) -> Result<RawObject, String> {
        #[derive(Deserialize)]
        struct Object {
            metadata: ObjectMeta,
        }
        let object: Object = serde_json::from_str(body.get()).map_err(|error| error.to_string())?;
        if object.metadata.name.is_empty() {
            return Err("metadata.name is empty".to_owned());
        }
        Ok(RawObject { metadata: object.metadata, body: body.to_owned() })
    }

    /// Reads the whole object as a type of the caller's.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.body.get())
    }
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The objects that could be read.
    pub objects: Vec<RawObject>,
    /// What was wrong with those that couldn't.
    pub unreadable: Vec<String>,
    /// The version the list shows; the same on all pages of one list.
    pub resource_version: String,
    /// Asks for the next page; none on the last.
    pub continue_token: Option<String>,
}

impl Page {
    /// Reads a list of any kind.
    pub fn read(body: &[u8]) -> Result<Page, serde_json::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct ListMeta {
            #[serde(deserialize_with = "or_default")]
            resource_version: String,
            #[serde(deserialize_with = "or_default")]
            r#continue: String,
        }
        #[derive(Deserialize)]
        struct List<'a> {
            metadata: ListMeta,
            #[serde(borrow, default)]
            items: Option<Vec<&'a RawValue>>,
        }
        let list: List<'_> = serde_json::from_slice(body)?;
        let mut page = Page {
            resource_version: list.metadata.resource_version,
            continue_token: Some(list.metadata.r#continue).filter(|token| !token.is_empty()),
            ..Page::default()
        };
        for item in list.items.unwrap_or_default() {
            match RawObject::read(item) {
                Ok(object) => page.objects.push(object),
                Err(reason) => page.unreadable.push(reason),
            }
        }
        Ok(page)
    }
}

/// An object that others refer to: in statuses, events and as an owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectReference {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: another one when the object is made again.
    pub uid: String,
}

impl ObjectReference {
    /// The same object as the owner of another. It blocks nothing: that would need a further right.
    pub(crate) fn as_owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.resource.api_version(),
            kind: self.resource.kind.to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }
}

impl std::fmt::Display for ObjectReference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}/{}", self.resource.kind, self.namespace, self.name)
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::{Page, RawObject};
    use crate::kube::recordings::Recording;
    use serde_json::value::RawValue;

    fn object(json: &str) -> Result<RawObject, String> {
        RawObject::read(&RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn null_and_unknown_fields_are_no_trouble() {
        let json = r#"{"metadata":{"name":"a","namespace":null,"labels":null,"generation":null,
            "creationTimestamp":"yesterday","ownerReferences":null,"new":{"x":[1]}},"spec":null}"#;
        let metadata = object(json).unwrap().metadata;
        assert_eq!((metadata.name.as_str(), metadata.creation_timestamp), ("a", None));
    }

    #[test]
    fn an_unreadable_item_costs_that_item_only() {
        let body = br#"{"metadata":{"resourceVersion":"7"},"items":[
            {"metadata":{"name":"a"}}, {"metadata":{"name":7}}, 5, {"metadata":{}}, {},
            {"metadata":{"name":"b"}}]}"#;
        let page = Page::read(body).unwrap();
        let names: Vec<_> = page.objects.iter().map(|o| o.metadata.name.as_str()).collect();
        assert_eq!((names, page.unreadable.len()), (vec!["a", "b"], 4));
    }

    #[test]
    fn recorded_pages_chain_and_the_last_has_no_continue_token() {
        let read = |name| Page::read(&Recording::load(name).body).unwrap();
        let first = read("list-page-1-limit-1.http");
        let last = read("list-page-3-last.http");
        assert!(first.continue_token.is_some() && last.continue_token.is_none());
        assert_eq!(first.resource_version, last.resource_version);
        assert_eq!(first.objects.len(), 1);
    }

    #[test]
    fn a_recorded_list_of_a_built_in_kind_is_read_though_its_items_have_no_kind() {
        let page =
            Page::read(&Recording::load("list-secrets-items-without-kind.http").body).unwrap();
        assert_eq!(page.objects[0].metadata.name, "node-plan");
        assert_eq!(page.resource_version, "246");
    }
}
