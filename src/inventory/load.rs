//! Reading the inventory back: the document, then the commits of the journal that follow it.
//!
//! Reads only. What must be set aside or written anew is said in the result; the store does it,
//! in an order in which a crash can lose nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::contents::Inventory;
use super::document::{self, Document};
use super::files::Files;
use super::journal::{self, Commit};
use super::record::Prepared;

/// Where the files of an inventory are: all in one folder, all beginning with its name.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of all of them.
    pub folder: PathBuf,
    /// The document.
    pub document: PathBuf,
    name: String,
}

impl Places {
    /// The places that belong to a document's path.
    pub fn of(document: &Path) -> Places {
        let name = document.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = match document.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Places { folder, document: document.to_owned(), name }
    }

    /// The next document, while it is being written.
    pub fn temporary(&self) -> PathBuf {
        self.folder.join(format!("{}.tmp", self.name))
    }

    /// The file that the one writing operator holds locked.
    pub fn lock(&self) -> PathBuf {
        self.folder.join(format!("{}.lock", self.name))
    }

    /// The journal segment that begins with a commit.
    pub fn segment(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{}.journal-{first:020}", self.name))
    }

    /// The segments among the names of the folder, by their first commit.
    pub fn segments(&self, names: &[String]) -> Vec<PathBuf> {
        let prefix = format!("{}.journal-", self.name);
        let is_segment = |name: &&String| {
            name.strip_prefix(&prefix)
                .is_some_and(|rest| rest.len() == 20 && rest.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut found: Vec<_> = names.iter().filter(is_segment).collect();
        found.sort();
        found.into_iter().map(|name| self.folder.join(name)).collect()
    }

    /// A free name for a copy of a file that can't be relied on.
    pub fn copy(&self, set_aside: &SetAside, at: Timestamp, names: &[String]) -> PathBuf {
        let name = set_aside.file.file_name().unwrap_or_default().to_string_lossy();
        let base = format!("{name}.{}-{}", set_aside.why.word(), time_in_name(at));
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|name| !names.contains(name));
        self.folder.join(free.unwrap_or(base))
    }

    /// The copies that may go: of each kind those of the newest occasions stay, and those that were
    /// made just now whatever the clock says.
    pub fn surplus_copies(&self, names: &[String], made: Timestamp) -> Vec<PathBuf> {
        let made = time_in_name(made);
        let mut kinds: BTreeMap<_, BTreeMap<_, Vec<&String>>> = BTreeMap::new();
        for name in names {
            if let Some((kind, time)) = self.kind_and_time(name) {
                kinds.entry(kind).or_default().entry((time == made, time)).or_default().push(name);
            }
        }
        let older =
            kinds.into_values().flat_map(|by_time| by_time.into_iter().rev().skip(KEPT_COPIES));
        older.flat_map(|(_, names)| names).map(|name| self.folder.join(name)).collect()
    }

    /// Of what a copy is and why, and when it was made; none if the file is no copy of ours.
    fn kind_and_time<'a>(&self, name: &'a str) -> Option<((bool, Why), &'a str)> {
        let rest = name.strip_prefix(&self.name)?;
        let (why, (original, time)) = [Why::Damaged, Why::Torn]
            .into_iter()
            .find_map(|why| Some((why, rest.rsplit_once(&format!(".{}-", why.word()))?)))?;
        let is_journal = original.starts_with(".journal-");
        // Several of one moment are numbered.
        let time = time.split('-').next().unwrap_or(time);
        let is_time = time.len() == "20261120T090000Z".len() && time.ends_with('Z');
        ((is_journal || original.is_empty()) && is_time).then_some(((is_journal, why), time))
    }
}

/// RFC 3339's without what some file systems don't like; formats of one's own choice would bring
/// 30 KB along.
fn time_in_name(at: Timestamp) -> String {
    format!("{at:.0}").replace(['-', ':'], "")
}

/// Copies of how many occasions are kept.
const KEPT_COPIES: usize = 3;

/// A file of which a copy must be kept before anything is written.
#[derive(Debug)]
pub struct SetAside {
    /// The file.
    pub file: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Why it can't be relied on.
    pub why: Why,
}

/// Why a file can't be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is damaged, or somebody else's; a person is told.
    Damaged,
    /// It ends with something that a crash may have left, or damage.
    Torn,
}

impl Why {
    /// For the copy's name.
    fn word(self) -> &'static str {
        match self {
            Why::Damaged => "corrupt",
            Why::Torn => "torn",
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The records.
    pub inventory: Inventory,
    /// The last commit among them.
    pub sequence: u64,
    /// What a person must be told.
    pub findings: Vec<String>,
    /// Files of which a copy must be kept before anything is written.
    pub set_aside: Vec<SetAside>,
    /// The document doesn't hold everything yet, or not in our format.
    pub document_due: bool,
    /// Size of the document.
    pub document_bytes: u64,
}

/// Why nothing could be read.
#[derive(Debug)]
pub enum LoadError {
    /// The operating system refused.
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
    /// A later version of this program wrote the file, or somebody else.
    UnknownFormat {
        /// The document.
        path: PathBuf,
        /// Its format, as it is written there.
        format: String,
    },
}

impl Loaded {
    fn set_aside(&mut self, file: PathBuf, bytes: Vec<u8>, why: Why) {
        self.set_aside.push(SetAside { file, bytes, why });
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Read { path, error } => {
                write!(formatter, "cannot read {}: {error}", path.display())
            }
            LoadError::UnknownFormat { path, format } => write!(
                formatter,
                "{} has format {format}, this program knows format {}: run the version that wrote \
                 it, or move the file away",
                path.display(),
                document::FORMAT
            ),
        }
    }
}

/// Reads everything.
///
/// # Errors
/// If a file is there but can't be read, or isn't ours to touch. Damage is no error.
pub fn load(files: &dyn Files, places: &Places) -> Result<Loaded, LoadError> {
    let names = absent_as_none(&places.folder, files.list(&places.folder))?.unwrap_or_default();
    let bytes = absent_as_none(&places.document, files.read(&places.document))?;
    let mut segments = Vec::new();
    for path in places.segments(&names) {
        if let Some(bytes) = absent_as_none(&path, files.read(&path))? {
            segments.push((path, bytes));
        }
    }
    let mut loaded = Loaded { document_due: !segments.is_empty(), ..Loaded::default() };
    let known = read_document(places, bytes, segments.is_empty(), &mut loaded)?;
    match known {
        Known::Foreign if !segments.is_empty() => set_journal_aside(places, segments, &mut loaded),
        _ => replay(places, known, segments, &mut loaded),
    }
    Ok(loaded)
}

/// What the document says about the journal that belongs to it.
#[derive(Clone, Copy)]
enum Known {
    /// It includes the commits up to this one.
    UpTo(u64),
    /// It says so too, but not all it says is right: no commit may be skipped because of it.
    Doubtful(u64),
    /// Nothing: it is damaged or gone.
    Nothing,
    /// It wasn't written by this program: someone put it there.
    Foreign,
}

fn absent_as_none<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, LoadError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LoadError::Read { path: path.to_owned(), error }),
    }
}

fn read_document(
    places: &Places,
    bytes: Option<Vec<u8>>,
    no_journal: bool,
    loaded: &mut Loaded,
) -> Result<Known, LoadError> {
    let path = places.document.display();
    let Some(bytes) = bytes else {
        loaded.document_due = true;
        if !no_journal {
            loaded.findings.push(format!(
                "{path} is missing although its journal is there: only what the journal holds \
                 could be recovered; to start empty, remove both"
            ));
        }
        return Ok(Known::Nothing);
    };
    let document = document::decode(&bytes)
        .map_err(|format| LoadError::UnknownFormat { path: places.document.clone(), format })?;
    let Document { inventory, sequence, checksum_agrees, damaged } = document;
    loaded.document_bytes = bytes.len() as u64;
    loaded.inventory = inventory;
    loaded.document_due |= damaged || sequence.is_none() || !checksum_agrees;
    if damaged {
        loaded.findings.push(format!(
            "{path} is damaged: {} records could be read, the file was set aside",
            loaded.inventory.len()
        ));
        loaded.set_aside(places.document.clone(), bytes, Why::Damaged);
        return Ok(Known::Nothing);
    }
    if !checksum_agrees {
        loaded.findings.push(format!(
            "{path} does not match its checksum: it was edited by hand or damaged; it is used as \
             it reads, and a copy was set aside"
        ));
        loaded.set_aside(places.document.clone(), bytes, Why::Damaged);
    }
    Ok(match sequence {
        None => Known::Foreign,
        Some(sequence) if checksum_agrees => Known::UpTo(sequence),
        Some(sequence) => Known::Doubtful(sequence),
    })
}

fn set_journal_aside(places: &Places, segments: Vec<(PathBuf, Vec<u8>)>, loaded: &mut Loaded) {
    loaded.findings.push(format!(
        "{} was put in place by someone else: it is used, and the journal, which belongs to \
         another file, was set aside",
        places.document.display()
    ));
    let commits = segments.iter().flat_map(|(_, bytes)| journal::decode(bytes).commits);
    // Numbers go on behind the old ones, so that no segment's name is used twice.
    loaded.sequence = commits.map(|commit| commit.sequence).max().unwrap_or(0);
    for (path, bytes) in segments {
        loaded.set_aside(path, bytes, Why::Damaged);
    }
}

fn replay(places: &Places, known: Known, segments: Vec<(PathBuf, Vec<u8>)>, loaded: &mut Loaded) {
    let (mut last, at_least) = match known {
        Known::UpTo(sequence) => (Some(sequence), sequence),
        Known::Doubtful(sequence) => (None, sequence),
        Known::Nothing | Known::Foreign => (None, 0),
    };
    let mut lost = false;
    for (path, bytes) in segments {
        let segment = journal::decode(&bytes);
        let (torn_bytes, mut whole) = (segment.torn_bytes, !segment.is_damaged());
        for Commit { sequence, changes } in segment.commits {
            if last.is_some_and(|last| sequence <= last) {
                continue;
            }
            whole &= last.is_none_or(|last| sequence == last + 1);
            last = Some(sequence);
            let changes: Vec<_> = changes.into_iter().map(Prepared::new).collect();
            loaded.inventory.apply(&changes);
        }
        if torn_bytes > 0 {
            log::warn!(
                "{} ends with {torn_bytes} bytes that are no commit: a write that was cut off, or damage",
                path.display()
            );
        }
        lost |= !whole;
        match whole {
            false => loaded.set_aside(path, bytes, Why::Damaged),
            true if torn_bytes > 0 => loaded.set_aside(path, bytes, Why::Torn),
            true => {}
        }
    }
    if lost {
        loaded.findings.push(format!(
            "the journal of {} is damaged or incomplete: what could be read of it is used, and a \
             copy was set aside",
            places.document.display()
        ));
    }
    loaded.sequence = last.unwrap_or(0).max(at_least);
}
