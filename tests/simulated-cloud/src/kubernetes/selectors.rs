//! Label and field selectors of lists and watches.

use super::kinds::ResourceKind;
use super::status::Failure;
use serde_json::Value;

/// What a list or watch asks for within its namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
enum Requirement {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Lacks(String),
    OneOf(String, Vec<String>),
    NoneOf(String, Vec<String>),
}

impl Selector {
    /// Reads both parameters; a field that the server doesn't index is a 400.
    pub(super) fn read(
        kind: &ResourceKind,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Selector, Failure> {
        let mut selector = Selector::default();
        for term in terms(labels.unwrap_or_default()) {
            selector.labels.push(requirement(&term)?);
        }
        for term in terms(fields.unwrap_or_default()) {
            let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) = term.split_once("==") {
                (field, true, value)
            } else if let Some((field, value)) = term.split_once('=') {
                (field, true, value)
            } else {
                return Err(Failure::bad_request(format!(
                    "unable to parse field selector: invalid selector: '{term}'; can't understand '{term}'"
                )));
            };
            // The newer Event API's name for it; selectors look at Events as they are stored.
            let field = &field.replacen("regarding.", "involvedObject.", 1);
            if !is_selectable(kind, field) {
                return Err(Failure::bad_request(format!("field label not supported: {field}")));
            }
            selector.fields.push((field.clone(), equal, value.to_owned()));
        }
        Ok(selector)
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        self.labels.iter().all(|requirement| match requirement {
            Requirement::Equals(key, value) => label(key) == Some(value),
            Requirement::Differs(key, value) => label(key) != Some(value),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Lacks(key) => label(key).is_none(),
            Requirement::OneOf(key, values) => {
                label(key).is_some_and(|label| values.iter().any(|value| value == label))
            }
            Requirement::NoneOf(key, values) => {
                !label(key).is_some_and(|label| values.iter().any(|value| value == label))
            }
        }) && self.fields.iter().all(|(field, equal, value)| {
            let found = object
                .pointer(&format!("/{}", field.replace('.', "/")))
                .and_then(Value::as_str)
                .unwrap_or_default();
            (found == value) == *equal
        })
    }
}

fn is_selectable(kind: &ResourceKind, field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace")
        || kind.kind == "Event"
            && (field.starts_with("involvedObject.")
                || matches!(field, "reason" | "type" | "reportingComponent" | "source"))
        || kind.kind == "Secret" && field == "type"
}

/// Splits at the commas outside parentheses.
fn terms(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut depth = 0_u32;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter == ',' && depth == 0 {
            found.push(String::new());
        } else if let Some(last) = found.last_mut() {
            last.push(letter);
        }
    }
    found.retain(|term| !term.trim().is_empty());
    found
}

fn requirement(term: &str) -> Result<Requirement, Failure> {
    let term = term.trim();
    let owned = |text: &str| text.trim().to_owned();
    if let Some((head, list)) = term.split_once('(') {
        let values = list.trim_end_matches(')').split(',').map(owned).collect::<Vec<_>>();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next()) {
            (Some(key), Some("in")) => Ok(Requirement::OneOf(owned(key), values)),
            (Some(key), Some("notin")) => Ok(Requirement::NoneOf(owned(key), values)),
            _ => Err(Failure::bad_request(format!("unable to parse requirement: found '{term}'"))),
        };
    }
    Ok(if let Some((key, value)) = term.split_once("!=") {
        Requirement::Differs(owned(key), owned(value))
    } else if let Some((key, value)) = term.split_once("==") {
        Requirement::Equals(owned(key), owned(value))
    } else if let Some((key, value)) = term.split_once('=') {
        Requirement::Equals(owned(key), owned(value))
    } else if let Some(key) = term.strip_prefix('!') {
        Requirement::Lacks(owned(key))
    } else {
        Requirement::Exists(owned(term))
    })
}
