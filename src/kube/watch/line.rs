//! One line of a watch: its type is read before its object, whose form depends on the type.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Failure, FailureKind, Observation, RestartReason};
use crate::kube::error::ApiStatus;
use crate::kube::objects::{ObjectMeta, RawObject};

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

/// The version that the line tells, and what it says of an object. A line that is well-formed and not
/// for us, such as one of an unknown type, tells neither; `ignored` then says why.
///
/// # Errors
/// Why the watch can't go on: the server ended it, or something was lost.
pub(super) fn read(
    bytes: &[u8],
    ignored: &mut Vec<String>,
) -> Result<(String, Option<Observation>), (Failure, RestartReason)> {
    #[derive(Deserialize)]
    struct Bookmark {
        metadata: ObjectMeta,
    }
    let event: Event<'_> = serde_json::from_slice(bytes).map_err(|error| {
        let text = format!("a line of the watch can't be read: {error}");
        let failure = Failure { kind: FailureKind::Garbled, text, retry_after: None };
        (failure, RestartReason::Garbled)
    })?;
    let kind = event.kind.as_ref();
    let read = match (kind, event.object) {
        (_, None) => Err(format!("an event of type {kind:?} without an object")),
        ("ADDED" | "MODIFIED" | "DELETED", Some(object)) => match RawObject::read(object) {
            Ok(object) => {
                let version = object.metadata.resource_version.clone();
                let is_gone = kind == "DELETED";
                let seen = if is_gone { Observation::Deleted } else { Observation::Applied };
                Ok((version, Some(seen(object))))
            }
            Err(reason) => Err(format!("the object of a {kind} event: {reason}")),
        },
        ("BOOKMARK", Some(object)) => match serde_json::from_str::<Bookmark>(object.get()) {
            Ok(bookmark) => Ok((bookmark.metadata.resource_version, None)),
            Err(error) => Err(format!("a bookmark: {error}")),
        },
        ("ERROR", Some(object)) => {
            let failure = match ApiStatus::of_body(object.get().as_bytes()) {
                Some(status) => Failure::of_event(&status),
                None => Failure::other("the watch brought an error without a status"),
            };
            return Err((failure, RestartReason::ErrorEvent));
        }
        (unknown, _) => Err(format!("an event of the unknown type {unknown:?}")),
    };
    Ok(read.unwrap_or_else(|reason| {
        ignored.push(reason);
        Default::default()
    }))
}
