//! The journal: every commit as one line, appended before the commit is acknowledged. Pure.
//!
//! A line is 32 hexadecimal digits of SHA-256 over the rest, a space, the commit as JSON, and a
//! line feed:
//!
//! ```text
//! 9f2c…e1 {"sequence":7,"changes":[{"upsert":{…}},{"remove":{…}}]}
//! ```
//!
//! Commits are numbered without gaps. That tells a torn tail from damage: bytes that are no line
//! at the end of a segment are a write that was cut off before it was acknowledged, unless the
//! next number to be found is missing too, or a good line follows them.

use std::io::Write as _;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::record::{Change, Prepared};
use crate::node_config::hexadecimal;
use crate::shared_texts::SharedTexts;

const CHECKSUM_DIGITS: usize = 32;

/// One commit as found in a journal.
#[derive(Clone, Debug, Deserialize)]
pub struct Commit {
    /// Its number; the first commit ever has 1.
    pub sequence: u64,
    /// Its changes, in order.
    pub changes: Vec<Change>,
}

/// What a journal segment holds.
#[derive(Debug, Default)]
pub struct Segment {
    /// The good lines, in order.
    pub commits: Vec<Commit>,
    /// Bytes at the end that are no good line.
    pub torn_bytes: usize,
    /// Bytes before a good line that are none.
    pub damaged_bytes: usize,
}

/// The line of a commit.
pub fn encode(sequence: u64, changes: &[Prepared]) -> Vec<u8> {
    let size: usize = changes.iter().map(|prepared| prepared.json.len() + 128).sum();
    let mut line = Vec::with_capacity(size + 128);
    line.resize(CHECKSUM_DIGITS + 1, b' ');
    // Writing to a Vec can't fail.
    let _ = write!(line, "{{\"sequence\":{sequence},\"changes\":[");
    for (index, Prepared { change, json }) in changes.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        match change {
            Change::Upsert(_) => {
                line.extend_from_slice(b"{\"upsert\":");
                line.extend_from_slice(json);
                line.push(b'}');
            }
            Change::Remove { .. } => {
                let _ = serde_json::to_writer(&mut line, change);
            }
        }
    }
    line.extend_from_slice(b"]}");
    let checksum = checksum(&line[CHECKSUM_DIGITS + 1..]);
    line[..CHECKSUM_DIGITS].copy_from_slice(checksum.as_bytes());
    line.push(b'\n');
    line
}

/// Reads a segment; never fails, because what can be read of it counts.
pub fn decode(bytes: &[u8]) -> Segment {
    let (mut segment, mut texts) = (Segment::default(), SharedTexts::default());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match decode_line(line) {
            Some(mut commit) => {
                share(&mut commit, &mut texts);
                segment.damaged_bytes += std::mem::take(&mut segment.torn_bytes);
                segment.commits.push(commit);
            }
            None => segment.torn_bytes += line.len(),
        }
    }
    segment
}

fn share(commit: &mut Commit, texts: &mut SharedTexts) {
    for change in &mut commit.changes {
        if let Change::Upsert(record) = change {
            record.config.share(texts);
        }
    }
}

fn decode_line(line: &[u8]) -> Option<Commit> {
    let line = line.strip_suffix(b"\n")?;
    let (stated, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let payload = rest.strip_prefix(b" ")?;
    if stated != checksum(payload).as_bytes() {
        return None;
    }
    serde_json::from_slice(payload).ok()
}

fn checksum(payload: &[u8]) -> String {
    hexadecimal(&digest(&SHA256, payload).as_ref()[..CHECKSUM_DIGITS / 2])
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::inventory::record::tests::{connected, record, share_a_network};
    use crate::inventory::record::{Change, Prepared};

    #[test]
    fn the_records_of_a_segment_share_what_they_have_in_common() {
        let line = |number| {
            let change = Change::Upsert(connected(number));
            encode(number as u64, &[Prepared::new(change)])
        };
        let segment = decode(&[line(1), line(2)].concat());
        let changes: Vec<&Change> =
            segment.commits.iter().flat_map(|commit| &commit.changes).collect();
        let [Change::Upsert(one), Change::Upsert(other)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert!(share_a_network(one, other));
    }

    #[test]
    fn bytes_before_a_good_line_are_damage_and_bytes_after_the_last_are_torn() {
        let changes = |number| {
            let gone = record(number).node_name;
            vec![
                Change::Upsert(record(number)),
                Change::Remove { provider_id: "cloud".to_owned(), node_name: gone },
            ]
        };
        let line = |number: u64, changes: Vec<Change>| {
            encode(number, &changes.into_iter().map(Prepared::new).collect::<Vec<_>>())
        };
        let (first, second) = (line(1, changes(1)), line(2, changes(2)));
        let mut hit = first.clone();
        hit[40] ^= 1;
        for (bytes, commits, damaged, torn) in [
            ([&first[..], &second].concat(), vec![1, 2], 0, 0),
            ([b"xx\nyyy\n", &first[..], b"z\n", &second].concat(), vec![1, 2], 9, 0),
            ([&hit[..], &second].concat(), vec![2], hit.len(), 0),
            (
                [&first[..], b"xx\n", &second[..second.len() - 1]].concat(),
                vec![1],
                0,
                2 + second.len(),
            ),
        ] {
            let segment = decode(&bytes);
            let found: Vec<u64> = segment.commits.iter().map(|commit| commit.sequence).collect();
            assert_eq!(
                (found, segment.damaged_bytes, segment.torn_bytes),
                (commits, damaged, torn)
            );
            for commit in segment.commits {
                assert_eq!(commit.changes, changes(commit.sequence as usize));
            }
        }
    }
}
