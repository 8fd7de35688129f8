//! How the store is doing, in words for /readyz, conditions, metrics and logs.

use std::fmt;

use jiff::Timestamp;

/// What the store can be relied on for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// The program is stopping; nothing is written any more.
    Closed,
    /// Everything that was committed is on disk.
    Healthy,
    /// Another operator has the file; what it holds isn't known here.
    Locked,
    /// The file hasn't been read yet.
    #[default]
    Opening,
    /// The file can't be read or used; what it holds isn't known.
    Unreadable,
    /// The file was never written by this process, and can't be: what is sent would be forgotten.
    Unwritable,
    /// Everything is known, but the disk is behind; tried again until it isn't.
    Unwritten,
}

/// All conditions, and a word for each for metrics and the API.
pub(super) const CONDITIONS: [(Condition, &str); 7] = [
    (Condition::Closed, "closed"),
    (Condition::Healthy, "healthy"),
    (Condition::Locked, "locked"),
    (Condition::Opening, "opening"),
    (Condition::Unreadable, "unreadable"),
    (Condition::Unwritable, "unwritable"),
    (Condition::Unwritten, "unwritten"),
];

/// The state of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// In a word.
    pub condition: Condition,
    /// Since when.
    pub since: Timestamp,
    /// What was tried on what, and what came back. Stable: without times.
    pub reason: String,
}

impl StoreState {
    /// Is everything on disk?
    pub fn is_healthy(&self) -> bool {
        self.condition == Condition::Healthy
    }

    /// Is it known what nodes were sent before, and can it be kept? If not, no node may be sent:
    /// interface ids would be given out again and network cards renamed.
    pub fn remembers(&self) -> bool {
        matches!(self.condition, Condition::Healthy | Condition::Unwritten)
    }

    /// What is wrong; none when healthy.
    pub fn reason(&self) -> Option<&str> {
        (!self.is_healthy()).then_some(self.reason.as_str())
    }

    /// Since when it isn't healthy.
    pub fn since(&self) -> Option<Timestamp> {
        (!self.is_healthy()).then_some(self.since)
    }

    /// One word for metrics and the API.
    pub fn name(&self) -> &'static str {
        let named = CONDITIONS.iter().find(|(condition, _)| *condition == self.condition);
        named.map_or("", |(_, name)| name)
    }
}

impl fmt::Display for StoreState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.condition {
            Condition::Healthy => return formatter.write_str("the inventory is on disk"),
            Condition::Unwritten => "kept in memory until the disk takes it",
            _ => "not available",
        };
        write!(formatter, "the inventory is {what}: {}", self.reason)
    }
}

/// A change that is not on disk. It is kept in memory and written later; after
/// [`Condition::Closed`] it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// Why.
    pub state: StoreState,
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(formatter)
    }
}

impl std::error::Error for StoreError {}
