//! Filters and paging of the lists. Pure.
//!
//! Unknown parameters are ignored, as the Go operator did; a known one in the wrong case or given
//! twice is an error, because it would silently show too much.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::server::Response;
use crate::inventory::contents::{Inventory, Stored};
use crate::inventory::record::Record;

/// Largest `limit`.
const MAX_LIMIT: usize = 10_000;

/// What a list is asked for.
#[derive(Debug, Default)]
pub(super) struct ListQuery {
    provider_id: Option<String>,
    node_name: Option<String>,
    instance_id: Option<String>,
    limit: Option<usize>,
    /// Provider and node name of the first record of this page.
    from: Option<(String, String)>,
}

impl ListQuery {
    pub(super) fn parse(pairs: &[(String, String)]) -> Result<ListQuery, Response> {
        check(pairs, &["providerId", "nodeName", "instanceId", "limit", "continue"])?;
        let limit = value(pairs, "limit").map(|text| match text.parse() {
            Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
            _ => Err(bad(&format!("limit must be a number from 1 to {MAX_LIMIT}"))),
        });
        let from = value(pairs, "continue").map(|text| {
            read_continue(&text).ok_or_else(|| {
                bad("continue is not what an earlier answer gave; start again without it")
            })
        });
        Ok(ListQuery {
            provider_id: value(pairs, "providerId"),
            node_name: value(pairs, "nodeName"),
            instance_id: value(pairs, "instanceId"),
            limit: limit.transpose()?,
            from: from.transpose()?,
        })
    }

    /// Is nothing left out?
    pub(super) fn is_everything(&self) -> bool {
        let filtered =
            self.provider_id.is_some() || self.node_name.is_some() || self.instance_id.is_some();
        !filtered && self.limit.is_none() && self.from.is_none()
    }

    /// The records of this page, and the `continue` of the next one.
    pub(super) fn select(&self, inventory: &Inventory) -> (Vec<Arc<Stored>>, Option<String>) {
        let (provider_id, node_name) = match &self.from {
            Some((provider_id, node_name)) => (provider_id.as_str(), node_name.as_str()),
            None => ("", ""),
        };
        let mut wanted = inventory
            .shown_from(provider_id, node_name)
            .filter(|stored| self.wants(&stored.record));
        let page = wanted.by_ref().take(self.limit.unwrap_or(usize::MAX)).cloned().collect();
        let next = wanted.next().map(|stored| &stored.record);
        (page, next.map(|next| write_continue(&next.provider_id, &next.node_name)))
    }

    fn wants(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == value)
        };
        is(&self.node_name, &record.node_name)
            && is(&self.instance_id, &record.instance_id)
            && self
                .provider_id
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(&record.provider_id))
    }

    /// The query string of the next page.
    pub(super) fn link(&self, next: &str) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let next = Some(next.to_owned());
        let pairs = [
            ("providerId", &self.provider_id),
            ("nodeName", &self.node_name),
            ("instanceId", &self.instance_id),
            ("limit", &limit),
            ("continue", &next),
        ];
        let encoded = pairs.into_iter().filter_map(|(name, value)| {
            let value = utf8_percent_encode(value.as_ref()?, NON_ALPHANUMERIC);
            Some(format!("{name}={value}"))
        });
        encoded.collect::<Vec<_>>().join("&")
    }
}

/// The provider that a single node is asked of.
pub(super) fn single(pairs: &[(String, String)]) -> Result<Option<String>, Response> {
    check(pairs, &["providerId"])?;
    Ok(value(pairs, "providerId"))
}

fn check(pairs: &[(String, String)], known: &[&str]) -> Result<(), Response> {
    for name in known {
        if pairs.iter().filter(|(given, _)| given == name).count() > 1 {
            return Err(bad(&format!("{name} is given more than once")));
        }
        let misspelt = |given: &str| given != *name && given.eq_ignore_ascii_case(name);
        if let Some((given, _)) = pairs.iter().find(|(given, _)| misspelt(given)) {
            return Err(bad(&format!("{given} is not known: write {name}")));
        }
    }
    Ok(())
}

/// An empty value means no filter.
fn value(pairs: &[(String, String)], name: &str) -> Option<String> {
    let found = pairs.iter().find(|(given, value)| given == name && !value.is_empty());
    found.map(|(_, value)| value.clone())
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
