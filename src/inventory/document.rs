//! The inventory as one JSON file that a person can read. Pure.
//!
//! `records` is the format of SPEC 7, so the replaced program's file loads, and ours loads there.
//! The other keys are ours: `sequence` is the last commit the file includes, `checksum` covers it,
//! the records and the timelines (not their layout), so that an edit by hand or damage is noticed.

use std::{fmt, io};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::contents::{Inventory, Stored};
use super::record::{self, Record};
use super::timeline;
use crate::node_config::hexadecimal;
use crate::shared_texts::SharedTexts;

/// What this program writes; a file with another one is not touched.
pub const FORMAT: u32 = 1;

/// Commits are not numbered beyond this, so that counting on never overflows.
const MAX_SEQUENCE: u64 = 1 << 60;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Of a format that isn't known, so much is shown.
const SHOWN_FORMAT_CHARACTERS: usize = 40;

/// A file is written in pieces of about this size.
const PIECE_BYTES: usize = 65_536;

/// A node's timeline in the file and over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// The cloud, by its Contrabass id.
    pub provider_id: String,
    /// The Kubernetes node.
    pub node_name: String,
    /// What changed, oldest first.
    pub changes: Vec<timeline::Entry>,
}

impl Timeline {
    /// The timeline of a stored record.
    pub fn of(stored: &Stored) -> Timeline {
        Timeline {
            provider_id: stored.record.provider_id.clone(),
            node_name: stored.record.node_name.clone(),
            changes: stored.timeline.clone(),
        }
    }
}

/// A file that was read.
#[derive(Debug, Default)]
pub struct Document {
    /// What it holds.
    pub inventory: Inventory,
    /// The last commit it includes; none in a file that this program didn't write.
    pub sequence: Option<u64>,
    /// What it holds is what was written. True for a file without a checksum.
    pub checksum_agrees: bool,
    /// Part of it couldn't be read.
    pub damaged: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parsed {
    sequence: Option<u64>,
    // The replaced program writes an empty list as null.
    records: Option<Records>,
    timelines: Option<Vec<Timeline>>,
    checksum: Option<String>,
}

/// Records that share what they have in common as soon as they are read: done only when all are there,
/// it would leave as many holes as it saves.
struct Records(Vec<Record>);

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Records, D::Error> {
        deserializer.deserialize_seq(RecordsVisitor)
    }
}

struct RecordsVisitor;

impl<'de> Visitor<'de> for RecordsVisitor {
    type Value = Records;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Records, A::Error> {
        let (mut records, mut texts) = (Vec::new(), SharedTexts::default());
        while let Some(mut record) = list.next_element::<Record>()? {
            record.config.share(&mut texts);
            records.push(record);
        }
        Ok(Records(records))
    }
}

#[derive(Deserialize)]
struct OnlyFormat<'a> {
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

/// An item as compact JSON, for the checksum, and as a person reads it.
type Texts = (Vec<u8>, Vec<u8>);

/// Writes the file, piece by piece. Fails only as `write` fails.
pub fn encode(
    inventory: &Inventory,
    sequence: u64,
    at: Timestamp,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE_BYTES + 4096);
    let mut context = begin_checksum(sequence);
    let head = format!(
        "{{\n  \"format\": {FORMAT},\n  \"sequence\": {sequence},\n  \"writtenAt\": \"{at}\",\n"
    );
    piece.extend_from_slice(head.as_bytes());
    let mut list = |name: &str, item: fn(&Stored) -> Option<Texts>| {
        piece.extend_from_slice(format!("  \"{name}\": [").as_bytes());
        let mut separator = "\n    ";
        for (compact, pretty) in inventory.iter().filter_map(|stored| item(stored)) {
            context.update(&compact);
            context.update(b"\n");
            piece.extend_from_slice(separator.as_bytes());
            push_indented(&mut piece, &pretty);
            separator = ",\n    ";
            if piece.len() >= PIECE_BYTES {
                write(&piece)?;
                piece.clear();
            }
        }
        piece.extend_from_slice(b"\n  ],\n");
        Ok::<(), io::Error>(())
    };
    list("records", |stored| {
        let pretty = serde_json::to_vec_pretty(&stored.record).unwrap_or_default();
        Some((stored.json.to_vec(), pretty))
    })?;
    list("timelines", |stored| {
        let timeline = (!stored.timeline.is_empty()).then(|| Timeline::of(stored))?;
        Some((serde_json::to_vec(&timeline).ok()?, serde_json::to_vec_pretty(&timeline).ok()?))
    })?;
    let checksum = hexadecimal(context.finish().as_ref());
    piece.extend_from_slice(format!("  \"checksum\": \"{checksum}\"\n}}\n").as_bytes());
    write(&piece)
}

/// JSON texts hold no raw line feed, so each one begins a line of layout.
fn push_indented(piece: &mut Vec<u8>, pretty: &[u8]) {
    for line in pretty.split_inclusive(|byte| *byte == b'\n') {
        piece.extend_from_slice(line);
        if line.ends_with(b"\n") {
            piece.extend_from_slice(b"    ");
        }
    }
}

/// Reads a file. Of a damaged one, every whole record counts.
///
/// # Errors
/// A format that this program doesn't know, as it is written, whose file must not be touched.
pub fn decode(bytes: &[u8]) -> Result<Document, String> {
    // Some editors put it there.
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if let Ok(OnlyFormat { format: Some(format) }) = serde_json::from_slice(bytes)
        && format.get() != FORMAT.to_string()
    {
        return Err(format.get().chars().take(SHOWN_FORMAT_CHARACTERS).collect());
    }
    let Ok(parsed) = serde_json::from_slice::<Parsed>(bytes) else {
        return Ok(salvage(bytes));
    };
    let mut inventory = Inventory::default();
    for record in parsed.records.into_iter().flat_map(|records| records.0) {
        restore(&mut inventory, record, Vec::new());
    }
    for timeline in parsed.timelines.into_iter().flatten() {
        if let Some(stored) = inventory.get(&timeline.provider_id, &timeline.node_name) {
            let record = stored.record.clone();
            restore(&mut inventory, record, timeline.changes);
        }
    }
    let checksum_agrees = parsed
        .checksum
        .is_none_or(|stated| stated == checksum(&inventory, parsed.sequence.unwrap_or(0)));
    // A number that nobody can have counted up to is as good as none.
    let sequence = parsed.sequence.filter(|sequence| *sequence < MAX_SEQUENCE);
    Ok(Document { inventory, sequence, checksum_agrees, damaged: false })
}

fn restore(inventory: &mut Inventory, record: Record, timeline: Vec<timeline::Entry>) {
    let json = record::to_json(&record);
    inventory.restore(Stored { record, json, timeline, version: 0 });
}

fn begin_checksum(sequence: u64) -> Context {
    let mut context = Context::new(&SHA256);
    context.update(format!("{sequence}\n").as_bytes());
    context
}

fn checksum(inventory: &Inventory, sequence: u64) -> String {
    let mut context = begin_checksum(sequence);
    for stored in inventory.iter() {
        context.update(&stored.json);
        context.update(b"\n");
    }
    for stored in inventory.iter().filter(|stored| !stored.timeline.is_empty()) {
        context.update(&serde_json::to_vec(&Timeline::of(stored)).unwrap_or_default());
        context.update(b"\n");
    }
    hexadecimal(context.finish().as_ref())
}

/// Finds the whole records in bytes that are no whole document.
fn salvage(bytes: &[u8]) -> Document {
    let mut inventory = Inventory::default();
    let mut rest = bytes;
    while let Some(start) = rest.iter().position(|byte| *byte == b'{') {
        rest = &rest[start..];
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<Record>();
        match stream.next() {
            Some(Ok(record)) => {
                rest = &rest[stream.byte_offset()..];
                restore(&mut inventory, record, Vec::new());
            }
            _ => rest = &rest[1..],
        }
    }
    Document { inventory, sequence: None, checksum_agrees: false, damaged: true }
}

#[cfg(test)]
mod tests {
    use super::{PIECE_BYTES, decode, encode};
    use crate::inventory::contents::Inventory;
    use crate::inventory::record::tests::{connected, record, share_a_network};
    use crate::inventory::record::{Change, Prepared, Record};

    fn inventory(nodes: usize) -> Inventory {
        inventory_of((0..nodes).map(record))
    }

    fn inventory_of(records: impl Iterator<Item = Record>) -> Inventory {
        let changes: Vec<Prepared> =
            records.map(|record| Prepared::new(Change::Upsert(record))).collect();
        let mut inventory = Inventory::default();
        inventory.apply(&changes);
        inventory
    }

    fn pieces(inventory: &Inventory, sequence: u64) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let at = "2026-01-02T03:04:06Z".parse().unwrap();
        encode(inventory, sequence, at, |piece| {
            pieces.push(piece.to_vec());
            Ok(())
        })
        .unwrap();
        pieces
    }

    #[test]
    fn a_large_file_is_written_in_pieces_and_read_as_one() {
        let inventory = inventory(1000);
        let pieces = pieces(&inventory, 7);
        let (last, whole) = pieces.split_last().unwrap();
        assert!(whole.len() > 3 && last.len() < PIECE_BYTES + 4096, "{}", pieces.len());
        for piece in whole {
            assert!((PIECE_BYTES..PIECE_BYTES + 4096).contains(&piece.len()), "{}", piece.len());
        }
        let read = decode(&pieces.concat()).unwrap();
        assert!(read.checksum_agrees && !read.damaged);
        assert_eq!((read.sequence, read.inventory.len()), (Some(7), 1000));
    }

    #[test]
    fn records_share_what_they_have_in_common() {
        let written = pieces(&inventory_of((0..2).map(connected)), 1).concat();
        let found = decode(&written).unwrap().inventory;
        let records: Vec<&Record> = found.iter().map(|stored| &stored.record).collect();
        let [one, other] = records.as_slice() else { panic!("{records:?}") };
        assert!(share_a_network(one, other));
    }

    #[test]
    fn a_number_nobody_can_have_counted_up_to_is_none() {
        for (written, read) in [((1 << 60) - 1, Some((1 << 60) - 1)), (1 << 60, None)] {
            let document = decode(&pieces(&inventory(1), written).concat()).unwrap();
            assert_eq!((document.sequence, document.checksum_agrees), (read, true));
        }
    }

    #[test]
    fn of_a_file_that_ends_early_whole_records_count_also_without_layout() {
        let inventory = inventory(2);
        let records: Vec<_> = inventory.iter().map(|stored| stored.json.to_vec()).collect();
        let torn = [b"{\"records\":[", &*records.join(&b',')].concat();
        for (cut, whole) in [(0, 2), (1, 1)] {
            let document = decode(&torn[..torn.len() - cut]).unwrap();
            assert_eq!((document.inventory.len(), document.damaged), (whole, true), "{cut}");
        }
    }

    #[test]
    fn a_person_can_read_the_file() {
        let text = String::from_utf8(pieces(&inventory(1), 7).concat()).unwrap();
        let head = "{
  \"format\": 1,
  \"sequence\": 7,
  \"writtenAt\": \"2026-01-02T03:04:06Z\",
  \"records\": [
    {
      \"providerId\": \"cloud\",
      \"nodeName\": \"node-0000\",
      \"instanceId\": \"vm-0000\",
      \"config\": {
        \"nodeName\": \"node-0000\",
";
        assert!(text.starts_with(head), "{text}");
        assert!(text.ends_with("\n}\n") && text.lines().all(|line| line.len() < 120), "{text}");
    }
}
