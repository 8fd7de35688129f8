//! What an answer with the status of a success says of each node that was sent. Pure.
//!
//! The rules are those of docs/behaviour.md#answers-of-viola. Both mistakes hurt: a node that counts
//! as accepted by mistake never gets its configuration, one that counts as refused is sent for ever.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::cloud::answer::shortened;

/// Characters of a node's own error text that go into a message.
const TEXT_LIMIT: usize = 240;
/// Some proxies put it before what they send.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Which of the nodes are accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acceptance<'a> {
    /// Nodes that are refused by name, and why.
    pub(super) refused: BTreeMap<&'a str, String>,
    /// Nodes that are accepted by name unless they are refused, whatever is said of the others.
    pub(super) accepted: BTreeSet<&'a str>,
    /// Are all others accepted?
    pub(super) others: Result<(), Objection>,
}

/// Why no node that isn't named is accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// What of the answer says so.
    Answer(&'static str),
    /// A name that wasn't sent is refused, and why: it may stand for any of the nodes, such as one
    /// that is written otherwise.
    Stranger(String),
}

/// Reads the body of an answer to a request with these nodes.
pub(super) fn acceptance<'a>(body: &[u8], sent: &BTreeSet<&'a str>) -> Acceptance<'a> {
    let (mut refused, mut accepted) = (BTreeMap::new(), BTreeSet::new());
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii_start();
    if body.first() == Some(&b'<') {
        let others = Err(Objection::Answer("the answer is a page, not Viola's"));
        return Acceptance { refused, accepted, others };
    }
    let answer = match serde_json::from_slice(body) {
        Ok(Value::Object(answer)) => answer,
        Err(error) if error.is_eof() && body.starts_with(b"{") => {
            // What is missing may have named nodes.
            let others = Err(Objection::Answer("the answer can't be read: it ends early"));
            return Acceptance { refused, accepted, others };
        }
        _ => return Acceptance { refused, accepted, others: Ok(()) },
    };
    let mut stranger = None;
    let errors = entries(answer.get("errors")).map(|entry| (entry, true));
    let results = entries(answer.get("results")).map(|entry| (entry, has_failed(entry)));
    for (entry, is_refusal) in errors.chain(results) {
        let name = entry.get("nodeName").and_then(Value::as_str);
        match (name.and_then(|name| sent.get(name)), is_refusal) {
            (Some(node), true) => {
                refused.entry(*node).or_insert_with(|| text_of(entry));
            }
            (Some(node), false) => {
                accepted.insert(*node);
            }
            (None, true) => {
                let name = name.map(|name| format!("{:?}: ", shortened(name, TEXT_LIMIT)));
                stranger.get_or_insert(name.unwrap_or_default() + &text_of(entry));
            }
            (None, false) => {}
        }
    }
    let others = match stranger {
        Some(text) => {
            accepted.clear();
            Err(Objection::Stranger(text))
        }
        None if !refused.is_empty() || accepted.len() == sent.len() => Ok(()),
        None => objection(&answer, sent).map_or(Ok(()), |what| Err(Objection::Answer(what))),
    };
    Acceptance { refused, accepted, others }
}

/// What says that the request as a whole came to nothing.
fn objection(answer: &Map<String, Value>, sent: &BTreeSet<&str>) -> Option<&'static str> {
    let said = |key: &str| answer.get(key).unwrap_or(&Value::Null);
    if *said("success") == Value::Bool(false) {
        return Some("the answer says that it was no success");
    }
    let is_error = match said("error") {
        Value::String(text) => !text.trim().is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    };
    if is_error {
        return Some("the answer has an error");
    }
    let code = match said("returnCode") {
        Value::Number(number) => number.as_f64(),
        // What has other characters, or none, is no number.
        Value::String(text) if text.trim().bytes().all(|byte| byte.is_ascii_digit()) => {
            text.trim().parse().ok()
        }
        _ => None,
    };
    if code.is_some_and(|code| code != 0.0 && !(200.0..300.0).contains(&code)) {
        return Some("the answer has the returnCode of a failure");
    }
    let applied = said("applied").as_f64();
    if applied.is_some_and(|applied| applied < sent.len() as f64) {
        let output = match said("output") {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !sent.iter().all(|node| has_name(&output, node)) {
            return Some("not all nodes were applied");
        }
    }
    None
}

fn entries(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    let (items, fields) = match list {
        Some(Value::Array(items)) => (Some(items), None),
        Some(Value::Object(fields)) => (None, Some(fields)),
        _ => (None, None),
    };
    items.into_iter().flatten().chain(fields.into_iter().flat_map(Map::values))
}

fn has_failed(entry: &Value) -> bool {
    let status = entry.get("status").and_then(Value::as_str).unwrap_or_default().trim();
    ["failed", "error"].iter().any(|word| status.eq_ignore_ascii_case(word))
}

/// What an entry says of its node.
fn text_of(entry: &Value) -> String {
    let keys = ["error", "message", "reason"];
    let said = keys.iter().filter_map(|key| entry.get(key)).find(|value| !value.is_null());
    let text = match (said, entry) {
        (Some(Value::String(text)), _) | (None, Value::String(text)) => text.clone(),
        (Some(value), _) => value.to_string(),
        (None, _) => String::new(),
    };
    shortened(&text, TEXT_LIMIT)
}

/// Is the name in the text, and not as a part of a longer one?
fn has_name(text: &str, name: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.match_indices(name).any(|(at, _)| {
        let behind = &text[at + name.len()..];
        // A full stop ends a sentence, or goes on with a domain.
        let behind = behind.strip_prefix('.').unwrap_or(behind);
        !text[..at].ends_with(in_name) && !behind.starts_with(in_name)
    })
}
