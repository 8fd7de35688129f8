//! One line of a watch: its type is read before its object, whose form depends on the type.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;
use crate::kube::error::ApiStatus;
use crate::kube::objects::{ObjectMeta, RawObject};

/// What a line says.
#[derive(Debug)]
pub(super) enum Line {
    /// `ADDED` or `MODIFIED`; the reader knows what there was.
    Applied(RawObject),
    /// `DELETED`, with the version of the deletion.
    Deleted(RawObject),
    /// `BOOKMARK`: a version, and nothing else.
    Bookmark(String),
    /// `ERROR`.
    Failed(Failure),
    /// Well-formed, but not for us: an unknown type, an object without a name.
    Ignored(String),
    /// Not JSON, or without a type: something was lost.
    Garbled(String),
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

impl Line {
    pub(super) fn read(bytes: &[u8]) -> Line {
        let event: Event<'_> = match serde_json::from_slice(bytes) {
            Ok(event) => event,
            Err(error) => {
                return Line::Garbled(format!("a line of the watch can't be read: {error}"));
            }
        };
        let kind = event.kind.as_ref();
        let Some(object) = event.object else {
            return Line::Ignored(format!("an event of type {kind:?} without an object"));
        };
        match kind {
            "ADDED" | "MODIFIED" | "DELETED" => match RawObject::read(object) {
                Ok(object) if kind == "DELETED" => Line::Deleted(object),
                Ok(object) => Line::Applied(object),
                Err(reason) => Line::Ignored(format!("the object of a {kind} event: {reason}")),
            },
            "BOOKMARK" => bookmark(object),
            "ERROR" => match ApiStatus::of_body(object.get().as_bytes()) {
                Some(status) => Line::Failed(Failure::of_event(&status)),
                None => Line::Failed(Failure::other("the watch brought an error without a status")),
            },
            unknown => Line::Ignored(format!("an event of the unknown type {unknown:?}")),
        }
    }
}

fn bookmark(object: &RawValue) -> Line {
    #[derive(Deserialize)]
    struct Bookmark {
        metadata: ObjectMeta,
    }
    match serde_json::from_str::<Bookmark>(object.get()) {
        Ok(bookmark) => Line::Bookmark(bookmark.metadata.resource_version),
        Err(error) => Line::Ignored(format!("a bookmark: {error}")),
    }
}
