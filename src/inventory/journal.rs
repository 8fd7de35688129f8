//! The journal: every commit as one line, appended before the commit is acknowledged. Pure.
//!
//! A line is 32 hexadecimal digits of SHA-256 over the rest, a space, the commit as JSON, and a
//! line feed:
//!
//! ```text
//! 9f2c…e1 {"sequence":7,"changes":[{"upsert":{…}},{"remove":{…}}]}
//! ```
//!
//! Commits are numbered without gaps, and what is appended at a time is synced before the next is. So
//! bytes that are no line are damage if a number is missing or a good line follows them. At the end
//! of a segment they may be the last write, cut off before it was acknowledged, or damage to commits
//! that were: nobody can tell. They are damage for certain if they hold more than that write can
//! have left, which is what [`Segment::is_damaged`] says.
//!
//! The first line of a segment is a commit without changes, synced before any other is appended. A
//! crash while it is written leaves no more than a part of it.

use std::io::Write as _;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::record::{Change, Prepared};
use crate::node_config::hexadecimal;
use crate::shared_texts::SharedTexts;

const CHECKSUM_DIGITS: usize = 32;

/// No first line is longer: checksum, the longest number, and what is around them.
const FIRST_LINE_BYTES: usize = 80;

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
    /// Line feeds among them.
    pub torn_lines: usize,
    /// Bytes before a good line that are none.
    pub damaged_bytes: usize,
}

impl Segment {
    /// Does it hold what no crash leaves? One write that was cut off ends one line at most; only
    /// where several commits shared it, and the disk wrote it out of order, may it end more.
    pub fn is_damaged(&self) -> bool {
        let without_first_line = self.commits.is_empty() && self.torn_bytes > FIRST_LINE_BYTES;
        self.damaged_bytes > 0 || self.torn_lines > 1 || without_first_line
    }
}

/// The line that a segment begins with.
pub fn first_line(first: u64) -> Vec<u8> {
    encode(first.saturating_sub(1), &[])
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
                segment.torn_lines = 0;
                segment.commits.push(commit);
            }
            None => {
                segment.torn_bytes += line.len();
                segment.torn_lines += usize::from(line.ends_with(b"\n"));
            }
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
    use super::{FIRST_LINE_BYTES, decode, encode, first_line};
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
    fn an_end_that_one_write_can_have_left_is_no_damage() {
        let first = first_line(u64::MAX);
        assert!(
            (FIRST_LINE_BYTES - 10..=FIRST_LINE_BYTES).contains(&first.len()),
            "{}",
            first.len()
        );
        let commit = encode(u64::MAX, &[Prepared::new(Change::Upsert(record(1)))]);
        let cut = &commit[..commit.len() - 1];
        let zeros = vec![0; 5000];
        for (bytes, damaged) in [
            (vec![], false),
            (first[..20].to_vec(), false),
            (zeros[..first.len()].to_vec(), false),
            ([&first[..], cut].concat(), false),
            ([&first[..], &zeros].concat(), false),
            ([&first[..], &zeros, b"\n"].concat(), false),
            ([&first[..], b"x\n", cut].concat(), false),
            ([&first[..], b"x\nx\n"].concat(), true),
            (zeros, true),
            (cut.to_vec(), true),
        ] {
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(decode(&bytes).is_damaged(), damaged, "{text}");
        }
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
