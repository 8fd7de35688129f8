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
use super::document::{self, FORMAT, Unusable};
use super::files::{DiskError, Volume, beside, folder_of};
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
pub(crate) enum LoadError {
    /// What was tried and came back.
    Unreadable(String),
    /// What is wrong, and another name under which the file is kept.
    Damaged(String, PathBuf),
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (LoadError::Unreadable(problem) | LoadError::Damaged(problem, _)) = self;
        formatter.write_str(problem)
    }
}

impl From<DiskError> for LoadError {
    fn from(error: DiskError) -> LoadError {
        LoadError::Unreadable(error.to_string())
    }
}

/// What the file at `path`, which is no link, holds; none if there isn't any.
pub(super) fn load(volume: &Volume, path: &Path) -> Result<Option<Loaded>, LoadError> {
    let (folder, shown) = (folder_of(path), path.display());
    let mut names = volume.read(folder, |files| files.list(folder))?.unwrap_or_default();
    names.sort();
    let rest_of = |name: &String, ending: &str| {
        let start = beside(path, ending).file_name()?.to_str()?.to_owned();
        name.strip_prefix(&start).map(str::to_owned)
    };
    let is_journal = |name: &&String| {
        let number = rest_of(name, ".journal-").unwrap_or_default();
        number.len() == 20 && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    let journals: Vec<_> = names.iter().filter(is_journal).map(|name| folder.join(name)).collect();
    let mut loaded = Loaded::default();
    let mut is_foreign = false;
    if let Some(bytes) = volume.read(path, |files| files.read(path))? {
        is_foreign = loaded.take_document(path, &bytes)?;
    } else if let Some(aside) = names.iter().find(|name| rest_of(name, ".corrupt-").is_some()) {
        return Err(LoadError::Unreadable(format!(
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

impl Loaded {
    /// Says whether another program wrote the document.
    fn take_document(&mut self, path: &Path, bytes: &[u8]) -> Result<bool, LoadError> {
        let shown = path.display();
        let document = document::decode(bytes).map_err(|unusable| match unusable {
            Unusable::UnknownFormat(format) => LoadError::Unreadable(format!(
                "{shown} has format {format}, this program knows format {FORMAT}: run the version \
                 that wrote it, or move the file away"
            )),
            Unusable::Damaged(problem) => {
                let tag = hexadecimal(&digest(&SHA256, bytes).as_ref()[..6]);
                let aside = beside(path, &format!(".corrupt-{tag}"));
                LoadError::Damaged(format!("{shown} is damaged: {problem}"), aside)
            }
        })?;
        if document.is_edited {
            self.findings.push(format!(
                "{shown} does not match its digest: it was edited by hand or damaged; it is used \
                 as it reads"
            ));
        }
        self.inventory = document.inventory;
        self.sequence = document.sequence.unwrap_or_default();
        Ok(document.sequence.is_none())
    }

    /// Of a journal that isn't whole, the good lines count.
    fn take_journal(&mut self, path: PathBuf, bytes: &[u8], is_foreign: bool) {
        let (mut is_torn, mut is_damaged) = (false, false);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(Commit { sequence, changes }) = commit(line) else {
                is_torn = true;
                continue;
            };
            is_damaged |= is_torn || sequence > self.sequence + 1;
            if sequence > self.sequence && !is_foreign {
                self.sequence = sequence;
                self.inventory = self.inventory.with(changes).0;
            }
        }
        let problem = match (is_foreign, is_damaged, is_torn) {
            (true, ..) => Some("belongs to another file, and is set aside"),
            (_, true, _) => Some("is damaged: what could be read is used, and it is set aside"),
            (_, _, true) => Some("ends with no commit: its write was cut off, or it is damaged"),
            _ => None,
        };
        if let Some(problem) = problem {
            self.findings.push(format!("{} {problem}", path.display()));
        }
        self.journals.push((path, problem.is_none()));
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
