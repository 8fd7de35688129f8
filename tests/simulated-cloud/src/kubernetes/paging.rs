//! Lists: which version of the collection a request means, and its pages.

use super::status::{Cause, Failure};
use super::store::{Collection, ObjectId, State};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// As lenient as Go's decoder about the last bits, so that it fails where Go's does.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// The parameters of a list, as they came.
#[derive(Debug, Default)]
pub(super) struct ListOptions<'a> {
    pub(super) resource_version: Option<&'a str>,
    pub(super) version_match: Option<&'a str>,
    pub(super) limit: Option<usize>,
    pub(super) continue_token: Option<&'a str>,
}

/// Which state is asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Wanted {
    Newest { limit: Option<usize> },
    NotOlderThan(u64),
    Exact { version: u64, limit: Option<usize> },
    After { token: Token, limit: Option<usize> },
}

/// What a continue token holds: the version of the first page and where to go on. The real server's form.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Token {
    v: String,
    rv: i64,
    start: String,
}

#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Arc<Value>>,
    pub(super) version: u64,
    /// Empty on the last page.
    pub(super) continue_token: String,
    pub(super) remaining: Option<usize>,
}

impl Token {
    fn new(version: i64, start: String) -> Token {
        Token { v: "meta.k8s.io/v1".to_owned(), rv: version, start }
    }

    fn encode(&self) -> String {
        BASE64.encode(serde_json::to_string(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Token, Failure> {
        let refuse = |why: String| {
            Failure::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let bytes = BASE64
            .decode(text)
            .map_err(|_| refuse("illegal base64 data at input byte 0".to_owned()))?;
        serde_json::from_slice(&bytes).map_err(|_| {
            let first = char::from(bytes.first().copied().unwrap_or_default());
            let shown = if first.is_control() {
                format!("\\u{:04x}", u32::from(first))
            } else {
                first.to_string()
            };
            refuse(format!("invalid character '{shown}' looking for beginning of value"))
        })
    }
}

impl ListOptions<'_> {
    /// Reads the parameters together: some combinations make no sense, others change each other.
    pub(super) fn wanted(&self) -> Result<Wanted, Failure> {
        let version = self.resource_version.filter(|version| !version.is_empty());
        let limit = self.limit.filter(|limit| *limit > 0);
        if let Some(token) = self.continue_token.filter(|token| !token.is_empty()) {
            if version.is_some_and(|version| version != "0") {
                return Err(Failure::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            return Ok(Wanted::After { token: Token::decode(token)?, limit });
        }
        let Some(version) = version else {
            if self.version_match.is_some() {
                let message = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
                let cause = Cause::new("FieldValueForbidden", message, "resourceVersionMatch");
                return Err(Failure::invalid_options("ListOptions", cause));
            }
            return Ok(Wanted::Newest { limit });
        };
        let Ok(number) = version.parse::<u64>() else {
            return Err(Failure::bad_request(format!(
                "invalid resource version: {}",
                not_a_number(version)
            )));
        };
        Ok(match (number, self.version_match) {
            // From the cache, which doesn't cut into pages.
            (0, _) => Wanted::NotOlderThan(0),
            (_, Some("Exact")) => Wanted::Exact { version: number, limit },
            (_, None) if limit.is_some() => Wanted::Exact { version: number, limit },
            _ => Wanted::NotOlderThan(number),
        })
    }
}

/// How the server words a resourceVersion that it can't read.
pub(super) fn not_a_number(version: &str) -> String {
    format!(
        "resourceVersion: Invalid value: \"{version}\": strconv.ParseUint: parsing \"{version}\": invalid syntax"
    )
}

impl Wanted {
    /// The version that the server must have reached before it can answer.
    pub(super) fn needs(&self) -> u64 {
        match self {
            Wanted::NotOlderThan(version) | Wanted::Exact { version, .. } => *version,
            Wanted::Newest { .. } | Wanted::After { .. } => 0,
        }
    }
}

impl State {
    /// One page of a collection, or of one namespace of it.
    pub(super) fn list(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
        wanted: Wanted,
        stale: bool,
        selects: impl Fn(&Value) -> bool,
    ) -> Result<Page, Failure> {
        if wanted.needs() > self.version {
            return Err(Failure::version_too_large(wanted.needs(), self.version));
        }
        let (version, limit, start) = match wanted {
            Wanted::Newest { limit } => (self.version, limit, None),
            Wanted::NotOlderThan(_) => (self.version, None, None),
            Wanted::Exact { version, limit } => (version, limit, None),
            Wanted::After { token, limit } => {
                let version = u64::try_from(token.rv).unwrap_or(self.version);
                if version < collection.oldest.max(self.switches.oldest_continue) {
                    let start = token.start.trim_start_matches('/').to_owned();
                    return Err(Failure::continue_expired(&Token::new(-1, start).encode()));
                }
                (version, limit, Some(token.start.trim_matches(['/', '\0']).to_owned()))
            }
        };
        let version =
            if stale { before_last_change(collection).unwrap_or(version) } else { version };
        let objects: BTreeMap<ObjectId, Arc<Value>> =
            collection.at(version).ok_or_else(Failure::list_expired)?;
        let mut selected = objects
            .into_iter()
            .filter(|(id, object)| {
                namespace.is_none_or(|namespace| namespace == id.0) && selects(object)
            })
            .filter(|(id, _)| start.as_ref().is_none_or(|start| key(id, namespace) > *start));
        let limit = limit.unwrap_or(usize::MAX);
        let page: Vec<(ObjectId, Arc<Value>)> = selected.by_ref().take(limit).collect();
        let remaining = selected.count();
        let continue_token = match page.last() {
            Some((last, _)) if remaining > 0 => {
                let version = i64::try_from(version).unwrap_or_default();
                Token::new(version, format!("/{}\0", key(last, namespace))).encode()
            }
            _ => String::new(),
        };
        Ok(Page {
            items: page.into_iter().map(|(_, object)| object).collect(),
            version,
            continue_token,
            remaining: (remaining > 0).then_some(remaining),
        })
    }
}

/// The state one change back, which an API server that lags behind would show.
fn before_last_change(collection: &Collection) -> Option<u64> {
    let last = collection.history.last()?;
    (last.version > collection.oldest).then(|| last.version - 1)
}

/// Where an object stands in the order of pages.
fn key((own_namespace, name): &ObjectId, namespace: Option<&str>) -> String {
    match namespace {
        Some(_) => name.clone(),
        None => format!("{own_namespace}/{name}"),
    }
}
