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
use super::files::{Disk, DiskError, Volume, beside, folder_of};
use super::record::Change;
use crate::clock::Clock;
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
    /// The file's bytes, if they aren't what was written; a copy is kept before they are replaced.
    pub(super) edited: Option<Vec<u8>>,
    pub(super) journals: Vec<Journal>,
}

/// A journal that was read.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) path: PathBuf,
    /// All of it was used: it may go once the file has it.
    pub(super) is_whole: bool,
}

/// Why what was sent before isn't known.
#[derive(Debug)]
pub(crate) enum LoadError {
    Disk(DiskError),
    UnknownFormat { path: PathBuf, format: String },
    Damaged { path: PathBuf, problem: String, bytes: Vec<u8>, readable: Box<Inventory> },
}

impl From<DiskError> for LoadError {
    fn from(error: DiskError) -> LoadError {
        LoadError::Disk(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Disk(error) => error.fmt(formatter),
            LoadError::UnknownFormat { path, format } => write!(
                formatter,
                "{} has format {format}, this program knows format {FORMAT}: run the version that \
                 wrote it, or move the file away",
                path.display(),
            ),
            LoadError::Damaged { path, problem, readable, .. } => write!(
                formatter,
                "{} is damaged: {problem}; {} whole records are in it; repair it, put a back-up in \
                 its place, or remove it to start without it",
                path.display(),
                readable.len(),
            ),
        }
    }
}

/// What the file at `path` holds, for a process that doesn't work with it; none if there isn't any.
pub(crate) fn read(path: &Path) -> Result<Option<Loaded>, LoadError> {
    let volume = Volume::new(Box::new(Disk), Clock::system());
    let path = volume.run("find", path, |files| files.resolve(path))?;
    load(&volume, &path)
}

/// What the file at `path`, which is no link, holds; none if there isn't any.
pub(super) fn load(volume: &Volume, path: &Path) -> Result<Option<Loaded>, LoadError> {
    let folder = folder_of(path);
    let names = volume.read(folder, |files| files.list(folder))?.unwrap_or_default();
    let bytes = volume.read(path, |files| files.read(path))?;
    let journals = journals(path, names);
    let mut loaded = Loaded::default();
    let mut is_foreign = false;
    match bytes {
        None if journals.is_empty() => return Ok(None),
        None => loaded.findings.push(format!(
            "{} is missing although its journal is there: only what the journal holds could be \
             recovered",
            path.display()
        )),
        Some(bytes) => is_foreign = loaded.take_document(path, bytes)?,
    }
    for journal in journals {
        if let Some(bytes) = volume.read(&journal, |files| files.read(&journal))? {
            loaded.take_journal(journal, &bytes, is_foreign);
        }
    }
    Ok(Some(loaded))
}

fn journals(path: &Path, names: Vec<String>) -> Vec<PathBuf> {
    let prefix = beside(path, ".journal-").file_name().unwrap_or_default().to_os_string();
    let prefix = prefix.to_string_lossy();
    let is_number = |text: &str| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut names = names;
    names.retain(|name| name.strip_prefix(&*prefix).is_some_and(is_number));
    names.sort();
    names.into_iter().map(|name| folder_of(path).join(name)).collect()
}

impl Loaded {
    /// Says whether this program didn't write the document.
    fn take_document(&mut self, path: &Path, bytes: Vec<u8>) -> Result<bool, LoadError> {
        let path = path.to_owned();
        let document = match document::decode(&bytes) {
            Ok(document) => document,
            Err(Unusable::UnknownFormat(format)) => {
                return Err(LoadError::UnknownFormat { path, format });
            }
            Err(Unusable::Damaged { problem, readable }) => {
                return Err(LoadError::Damaged { path, problem, bytes, readable });
            }
        };
        if document.is_edited {
            self.findings.push(format!(
                "{} does not match its digest: it was edited by hand or damaged; it is used as it \
                 reads, and a copy is kept",
                path.display()
            ));
            self.edited = Some(bytes);
        }
        self.inventory = document.inventory;
        self.sequence = document.sequence.unwrap_or_default();
        Ok(document.sequence.is_none())
    }

    /// Of a journal that isn't whole, the good lines count.
    fn take_journal(&mut self, path: PathBuf, bytes: &[u8], is_foreign: bool) {
        let (mut is_torn, mut is_damaged) = (false, is_foreign);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(Commit { sequence, changes }) = commit(line) else {
                is_torn = true;
                continue;
            };
            is_damaged |= is_torn;
            if sequence > self.sequence {
                is_damaged |= sequence > self.sequence + 1;
                self.sequence = sequence;
                if !is_foreign {
                    self.inventory = self.inventory.with(changes).0;
                }
            }
        }
        let shown = path.display();
        if is_foreign {
            self.findings.push(format!("{shown} belongs to another file, and is kept aside"));
        } else if is_damaged {
            self.findings.push(format!(
                "{shown} is damaged or incomplete: what could be read of it is used, and it is \
                 kept aside"
            ));
        } else if is_torn {
            log::warn!("{shown} ends with a write that was cut off, or with damage; it is kept");
        }
        self.journals.push(Journal { path, is_whole: !is_torn && !is_damaged });
    }
}

/// One commit of a journal.
#[derive(Deserialize)]
struct Commit {
    sequence: u64,
    changes: Vec<Change>,
}

fn commit(line: &[u8]) -> Option<Commit> {
    let line = line.strip_suffix(b"\n")?;
    let (stated, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let payload = rest.strip_prefix(b" ")?;
    let checksum = hexadecimal(&digest(&SHA256, payload).as_ref()[..CHECKSUM_DIGITS / 2]);
    (stated == checksum.as_bytes()).then(|| serde_json::from_slice(payload).ok())?
}
