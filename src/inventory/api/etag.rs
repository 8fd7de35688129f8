//! Entity tags: has the client seen this answer already? Pure.

use ring::digest::{SHA256, digest};

use crate::node_config::hexadecimal;

/// A tag that follows from the content.
pub(super) fn of_content(content: &[u8]) -> String {
    format!("\"{}\"", hexadecimal(&digest(&SHA256, content).as_ref()[..16]))
}

/// Does an `If-None-Match` value name this tag? Compared weakly, as RFC 9110 section 13.1.2 asks.
pub(super) fn matches(if_none_match: &str, tag: &str) -> bool {
    let strong = |candidate: &str| candidate.trim().trim_start_matches("W/").to_owned();
    if_none_match.split(',').map(strong).any(|candidate| candidate == tag || candidate == "*")
}
