//! Filters and paging of the lists. Pure.
//!
//! Unknown parameters are ignored, as the Go operator did; a known one in the wrong case or given
//! twice is an error, because it would silently show too much.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::server::Response;
use crate::inventory::contents::{Inventory, Stored};
use crate::inventory::record::Record;

/// Largest `limit`.
const MAX_LIMIT: usize = 10_000;

const PARAMETERS: [&str; 5] = ["providerId", "nodeName", "instanceId", "limit", "continue"];

/// What a list is asked for.
pub(super) struct ListQuery<'a> {
    given: Vec<(&'static str, &'a str)>,
    limit: usize,
    /// Provider and node name of the first record of this page.
    from: (String, String),
}

impl<'a> ListQuery<'a> {
    pub(super) fn parse(pairs: &'a [(String, String)]) -> Result<ListQuery<'a>, Response> {
        let given = known(pairs, &PARAMETERS)?;
        let value = |wanted| given.iter().find(|(name, _)| *name == wanted).map(|(_, text)| *text);
        let limit = value("limit").map_or(Ok(usize::MAX), |text| match text.parse() {
            Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
            _ => Err(bad(&format!("limit must be a number from 1 to {MAX_LIMIT}"))),
        })?;
        let from = value("continue").map_or(Some(Default::default()), read_continue);
        let not_ours = "continue is not what an earlier answer gave; start again without it";
        let from = from.ok_or_else(|| bad(not_ours))?;
        Ok(ListQuery { given, limit, from })
    }

    /// The records of this page, and the `continue` of the next one.
    pub(super) fn select<'i>(&self, inventory: &'i Inventory) -> (Vec<&'i Stored>, Option<String>) {
        let (provider_id, node_name) = &self.from;
        let shown = inventory.shown_from(provider_id, node_name);
        let mut wanted = shown.filter(|stored| self.wants(&stored.record));
        let page = wanted.by_ref().take(self.limit).map(|stored| &**stored).collect();
        let next = wanted.next().map(|stored| &stored.record);
        (page, next.map(|next| write_continue(&next.provider_id, &next.node_name)))
    }

    fn wants(&self, record: &Record) -> bool {
        self.given.iter().all(|(name, wanted)| match *name {
            "providerId" => record.provider_id.eq_ignore_ascii_case(wanted),
            "nodeName" => record.node_name == *wanted,
            "instanceId" => record.instance_id == *wanted,
            _ => true,
        })
    }

    /// The query string of the next page.
    pub(super) fn with_continue(&self, next: &str) -> String {
        let kept = self.given.iter().copied().filter(|(name, _)| *name != "continue");
        let pairs = kept.chain([("continue", next)]).map(|(name, value)| {
            format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
        });
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// The provider that a single node is asked of.
pub(super) fn provider(pairs: &[(String, String)]) -> Result<Option<&str>, Response> {
    Ok(known(pairs, &["providerId"])?.first().map(|(_, value)| *value))
}

/// The parameters of these names; an empty value means no filter.
fn known<'a>(
    pairs: &'a [(String, String)],
    names: &[&'static str],
) -> Result<Vec<(&'static str, &'a str)>, Response> {
    let mut known = Vec::new();
    for name in names {
        let same = pairs.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        for (index, (given, value)) in same.enumerate() {
            if given != name {
                return Err(bad(&format!("{given} is not known: write {name}")));
            } else if index > 0 {
                return Err(bad(&format!("{name} is given more than once")));
            } else if !value.is_empty() {
                known.push((*name, value.as_str()));
            }
        }
    }
    Ok(known)
}

fn write_continue(provider_id: &str, node_name: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{provider_id}\0{node_name}"))
}

fn read_continue(text: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (provider, node) = decoded.split_once('\0')?;
    Some((provider.to_owned(), node.to_owned()))
}

fn bad(message: &str) -> Response {
    Response::error(400, message)
}
