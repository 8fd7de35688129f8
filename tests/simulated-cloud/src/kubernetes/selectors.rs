//! Field selectors of lists and watches: as many as kubectl needs. Labels aren't simulated.

use super::kinds::ResourceKind;
use super::status::Failure;
use serde_json::Value;

/// Fields, as JSON pointers, and the values they must have.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector(Vec<(String, String)>);

impl Selector {
    /// Reads `fieldSelector`; a field that the server doesn't index is a 400.
    pub(super) fn read(kind: &ResourceKind, text: Option<&str>) -> Result<Selector, Failure> {
        let mut fields = Vec::new();
        for term in text.unwrap_or_default().split(',').filter(|term| !term.is_empty()) {
            let (field, value) = term.split_once('=').unwrap_or((term, ""));
            let is_selectable = matches!(field, "metadata.name" | "metadata.namespace")
                || (kind.kind == "Event" && field.starts_with("involvedObject."));
            if !is_selectable {
                return Err(Failure::bad_request(format!("field label not supported: {field}")));
            }
            fields.push((format!("/{}", field.replace('.', "/")), value.to_owned()));
        }
        Ok(Selector(fields))
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let has = |(field, value): &(String, String)| {
            object.pointer(field).and_then(Value::as_str).unwrap_or_default() == value
        };
        self.0.iter().all(has)
    }
}
