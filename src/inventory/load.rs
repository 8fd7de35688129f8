//! Reading the inventory's file. Changes nothing.
//!
//! Version 0.1.0 kept what it committed in a journal beside the file, in numbered files of lines
//!
//! ```text
//! 9f2c…e1 {"sequence":7,"changes":[{"upsert":{…}},{"remove":{…}}]}
//! ```
//!
//! with a checksum before each commit. If it was killed, they are there; they are read once, the
//! store writes what they hold into the file and removes them.

use std::fmt;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::contents::Inventory;
use super::document::{self, Document};
use super::files::{DiskError, Volume, beside, bounded_in_time, folder_of};
use super::record::Change;
use crate::node_config::hexadecimal;

/// Digits of the checksum before a commit.
const CHECKSUM_DIGITS: usize = 32;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) inventory: Inventory,
    /// The number of the last write or commit.
    pub(super) sequence: u64,
    /// What a person must know.
    pub(crate) findings: Vec<String>,
    /// Journals that were read, and whether all of them was used.
    pub(super) journals: Vec<(PathBuf, bool)>,
}

/// Why what was sent before isn't known.
#[derive(Debug)]
pub(crate) struct LoadError {
    /// What was tried and came back, or what is wrong.
    pub(super) problem: String,
    /// Another name for a damaged file, under which it is to be kept.
    pub(super) aside: Option<PathBuf>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.problem)
    }
}

impl From<String> for LoadError {
    fn from(problem: String) -> LoadError {
        LoadError { problem, aside: None }
    }
}

impl From<DiskError> for LoadError {
    fn from(error: DiskError) -> LoadError {
        error.to_string().into()
    }
}

/// What the file at `path` holds, read beside an operator that works with it; none if there isn't
/// any.
pub(crate) fn read(path: &Path) -> Result<Option<Loaded>, LoadError> {
    let path = path.to_owned();
    let read = bounded_in_time(move |volume| load(volume, &volume.resolve(&path)?));
    read.unwrap_or_else(|problem| Err(problem.into()))
}

/// What the file at `path`, which is no link, holds; none if there isn't any.
pub(super) fn load(volume: &Volume, path: &Path) -> Result<Option<Loaded>, LoadError> {
    let (folder, shown) = (folder_of(path), path.display());
    let mut names = volume.read(folder, |files| files.list(folder))?.unwrap_or_default();
    names.sort();
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let rest_of = |name: &String, ending: &str| {
        name.strip_prefix(&*own)?.strip_prefix(ending).map(str::to_owned)
    };
    let is_journal = |name: &&String| {
        let number = rest_of(name, ".journal-").unwrap_or_default();
        number.len() == 20 && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    let journals: Vec<_> = names.iter().filter(is_journal).map(|name| folder.join(name)).collect();
    let mut loaded = Loaded::default();
    // Did another program write the file?
    let mut is_foreign = false;
    if let Some(bytes) = volume.read(path, |files| files.read(path))? {
        let document = decode(path, &bytes)?;
        if document.is_edited {
            loaded.findings.push(format!(
                "{shown} does not match its digest: it was edited by hand or damaged; it is used \
                 as it reads"
            ));
        }
        is_foreign = document.sequence.is_none();
        loaded.inventory = document.inventory;
        loaded.sequence = document.sequence.unwrap_or_default();
    } else if let Some(aside) = names.iter().find(|name| rest_of(name, ".corrupt-").is_some()) {
        return Err(LoadError::from(format!(
            "{shown} was damaged and is set aside as {aside}: put it in its place, repaired, or a \
             back-up; to start without, move {aside} to another folder"
        )));
    } else if journals.is_empty() {
        return Ok(None);
    } else {
        loaded.findings.push(format!(
            "{shown} is missing although its journal is there: only what the journal holds could \
             be recovered"
        ));
    }
    for journal in journals {
        if let Some(bytes) = volume.read(&journal, |files| files.read(&journal))? {
            loaded.take_journal(journal, &bytes, is_foreign);
        }
    }
    Ok(Some(loaded))
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Document, LoadError> {
    document::decode(bytes).map_err(|unusable| {
        let tag = hexadecimal(&digest(&SHA256, bytes).as_ref()[..6]);
        let aside = unusable.is_damaged.then(|| beside(path, &format!(".corrupt-{tag}")));
        LoadError { problem: format!("{} {}", path.display(), unusable.problem), aside }
    })
}

impl Loaded {
    /// Of a journal that isn't whole, the good lines count.
    fn take_journal(&mut self, path: PathBuf, bytes: &[u8], is_foreign: bool) {
        let mut is_whole = true;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(Commit { sequence, changes }) = commit(line) else {
                is_whole = false;
                continue;
            };
            is_whole &= sequence <= self.sequence + 1;
            if sequence > self.sequence && !is_foreign {
                self.sequence = sequence;
                self.inventory = self.inventory.with(changes).0;
            }
        }
        let problem = match (is_foreign, is_whole) {
            (true, _) => "belongs to another file, and is set aside",
            (false, false) => {
                "is damaged, or its last write was cut off: what could be read is used, and it is \
                 set aside"
            }
            (false, true) => return self.journals.push((path, true)),
        };
        self.findings.push(format!("{} {problem}", path.display()));
        self.journals.push((path, false));
    }
}

/// One commit of a journal.
#[derive(Deserialize)]
struct Commit {
    sequence: u64,
    changes: Vec<Change>,
}

fn commit(line: &[u8]) -> Option<Commit> {
    let (stated, payload) = line.strip_suffix(b"\n")?.split_at_checked(CHECKSUM_DIGITS + 1)?;
    let checksum = hexadecimal(&digest(&SHA256, payload).as_ref()[..CHECKSUM_DIGITS / 2]);
    (stated == format!("{checksum} ").as_bytes()).then(|| serde_json::from_slice(payload).ok())?
}
