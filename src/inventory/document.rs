//! The inventory as one JSON file, a record a line. Pure.
//!
//! `records` is the format of the Go operator, so its file loads, and ours loads there. The other
//! keys are ours: `sequence` counts the writes, `digest` covers records and timelines (not their
//! layout), so that an edit by hand or damage is noticed.

use std::collections::HashMap;
use std::io::{self, Write as _};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::contents::{Inventory, Stored};
use super::record::Record;
use super::timeline::Timeline;
use crate::node_config::{SharedTexts, hexadecimal};

/// What this program writes; a file with another one is not touched.
pub(super) const FORMAT: u32 = 1;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Of a format that isn't known, so much is shown.
const SHOWN_FORMAT_CHARACTERS: usize = 40;

/// A file is written in pieces of about this size.
const PIECE_BYTES: usize = 65_536;

/// A file that was read.
#[derive(Debug, Default)]
pub struct Document {
    /// What it holds.
    pub inventory: Inventory,
    /// The number of the write; none in a file that this program didn't write.
    pub sequence: Option<u64>,
    /// It doesn't hold what was written: it was edited, or it is damaged.
    pub is_edited: bool,
}

/// Why a file can't be used.
#[derive(Debug)]
pub struct Unusable {
    /// It is no inventory, or not a whole one. Otherwise its format isn't known.
    pub(super) is_damaged: bool,
    /// In words that follow the file's name.
    pub(crate) problem: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parsed {
    sequence: Option<u64>,
    // The Go operator writes an empty list as null.
    records: Option<Vec<Record>>,
    timelines: Option<Vec<Timeline>>,
    digest: Option<String>,
}

#[derive(Deserialize)]
struct OnlyFormat<'a> {
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

/// Writes the file, piece by piece. Fails only as `write` fails.
pub(crate) fn encode(
    inventory: &Inventory,
    sequence: u64,
    at: Timestamp,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE_BYTES + 4096);
    write!(piece, "{{\n\"format\": {FORMAT},\n\"sequence\": {sequence},\n\"writtenAt\": \"{at}\"")?;
    let records: fn(&Stored) -> &[u8] = |stored| &stored.json;
    let timelines: fn(&Stored) -> &[u8] = |stored| &stored.timeline;
    for (name, item) in [("records", records), ("timelines", timelines)] {
        write!(piece, ",\n\"{name}\": [")?;
        let mut separator: &[u8] = b"\n";
        for stored in inventory.iter() {
            piece.extend_from_slice(separator);
            piece.extend_from_slice(item(stored));
            separator = b",\n";
            if piece.len() >= PIECE_BYTES {
                write(&piece)?;
                piece.clear();
            }
        }
        piece.extend_from_slice(b"\n]");
    }
    write!(piece, ",\n\"digest\": \"{}\"\n}}\n", digest(inventory))?;
    write(&piece)
}

fn digest(inventory: &Inventory) -> String {
    let mut context = Context::new(&SHA256);
    inventory.iter().for_each(|stored| context.update(&stored.digest));
    hexadecimal(context.finish().as_ref())
}

/// Reads a file.
///
/// # Errors
/// If it can't be used. Such a file must not be overwritten.
pub fn decode(bytes: &[u8]) -> Result<Document, Unusable> {
    // Some editors put it there.
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if let Ok(OnlyFormat { format: Some(format) }) = serde_json::from_slice(bytes)
        && format.get() != FORMAT.to_string()
    {
        let format: String = format.get().chars().take(SHOWN_FORMAT_CHARACTERS).collect();
        let problem = format!(
            "has format {format}, this program knows format {FORMAT}: run the version that wrote \
             it, or move the file away"
        );
        return Err(Unusable { is_damaged: false, problem });
    }
    let damaged = |error| Unusable { is_damaged: true, problem: format!("is damaged: {error}") };
    let parsed: Parsed = serde_json::from_slice(bytes).map_err(damaged)?;
    let timelines = parsed.timelines.unwrap_or_default();
    let key_of = |one: &Timeline| (one.provider_id.clone(), one.node_name.clone());
    let timelines: HashMap<_, _> = timelines.iter().map(|one| (key_of(one), one)).collect();
    let mut texts = SharedTexts::default();
    let records = parsed.records.unwrap_or_default().into_iter().map(|mut record| {
        record.config.share(&mut texts);
        let empty = Timeline::of(&record);
        let timeline = timelines.get(&key_of(&empty)).copied().unwrap_or(&empty).to_json();
        Stored::new(record, timeline, 0)
    });
    let inventory = Inventory::read(records.collect());
    let is_edited = parsed.digest.is_some_and(|stated| stated != digest(&inventory));
    Ok(Document { inventory, sequence: parsed.sequence, is_edited })
}

#[cfg(test)]
mod tests {
    use super::{PIECE_BYTES, decode, encode};
    use crate::inventory::contents::Inventory;
    use crate::inventory::record::tests::{connected, record, share_a_network};
    use crate::inventory::record::{Change, Record};

    fn inventory(records: impl Iterator<Item = Record>) -> Inventory {
        Inventory::default().with(records.map(Change::Upsert).collect()).0
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
        let inventory = inventory((0..1000).map(record));
        let pieces = pieces(&inventory, 7);
        let (last, whole) = pieces.split_last().unwrap();
        assert!(whole.len() > 3 && last.len() < PIECE_BYTES + 4096, "{}", pieces.len());
        for piece in whole {
            assert!((PIECE_BYTES..PIECE_BYTES + 4096).contains(&piece.len()), "{}", piece.len());
        }
        let read = decode(&pieces.concat()).unwrap();
        assert!(!read.is_edited);
        assert_eq!((read.sequence, read.inventory.len()), (Some(7), 1000));
    }

    #[test]
    fn records_share_what_they_have_in_common() {
        let written = pieces(&inventory((0..2).map(connected)), 1).concat();
        let found = decode(&written).unwrap().inventory;
        let records: Vec<&Record> = found.iter().map(|stored| &stored.record).collect();
        let [one, other] = records.as_slice() else { panic!("{records:?}") };
        assert!(share_a_network(one, other));
    }

    #[test]
    fn a_record_is_a_line() {
        let text = String::from_utf8(pieces(&inventory((0..2).map(record)), 7).concat()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "{",
                "\"format\": 1,",
                "\"sequence\": 7,",
                "\"writtenAt\": \"2026-01-02T03:04:06Z\",",
                "\"records\": ["
            ]
        );
        assert!(lines[5].starts_with("{\"providerId\":\"cloud\",\"nodeName\":\"node-0000\""));
        assert!(lines[6].starts_with("{\"providerId\":\"cloud\",\"nodeName\":\"node-0001\""));
        assert_eq!(lines[7], "],");
    }
}
