//! When the force annotation was last set, as the API server's records of writers tell. Pure.

use jiff::Timestamp;
use serde_json::Value;

use crate::resources::FORCE_ANNOTATION;

/// The last write of the writer that owns the annotation, by `metadata.managedFields`; none if it
/// was never set or nobody is said to own it. The operator goes by the moment at which it sees the
/// value change, which is later by no more than the watch takes.
pub(super) fn at(object: &str) -> Option<Timestamp> {
    let object: Value = serde_json::from_str(object).ok()?;
    let metadata = object.get("metadata")?;
    metadata.get("annotations")?.get(FORCE_ANNOTATION)?;
    let field = format!("f:{FORCE_ANNOTATION}");
    let owns = |entry: &&Value| {
        entry
            .get("fieldsV1")
            .and_then(|fields| fields.get("f:metadata")?.get("f:annotations")?.get(&field))
            .is_some()
    };
    let times = metadata.get("managedFields")?.as_array()?.iter().filter(owns);
    times.filter_map(|entry| entry.get("time")?.as_str()?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::at;
    use crate::resources::FORCE_ANNOTATION;
    use serde_json::{Value, json};

    fn object() -> Value {
        let entry = |time: &str, field: &str| {
            json!({"manager": "kubectl-annotate", "operation": "Update", "time": time,
                   "fieldsV1": {"f:metadata": {"f:annotations": {field: {}}}}})
        };
        json!({"metadata": {
            "annotations": {FORCE_ANNOTATION: "1", "other": "2"},
            "managedFields": [
                entry("2026-11-22T10:00:00Z", &format!("f:{FORCE_ANNOTATION}")),
                entry("2026-11-22T11:00:00Z", "f:other"),
            ],
        }})
    }

    #[test]
    fn the_time_is_that_of_whoever_owns_the_annotation() {
        let mut object = object();
        let time = at(&object.to_string()).unwrap();
        assert_eq!(time.to_string(), "2026-11-22T10:00:00Z");
        object["metadata"]["annotations"][FORCE_ANNOTATION].take();
        object["metadata"]["annotations"].as_object_mut().unwrap().remove(FORCE_ANNOTATION);
        assert_eq!(at(&object.to_string()), None);
        assert_eq!(at("{}"), None);
    }
}
