//! How the store is doing, in words for /readyz, conditions, metrics and logs.

use std::fmt;

use jiff::Timestamp;

/// What the store can be relied on for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The program is stopping; nothing is written any more.
    Closed,
    /// Everything that was committed is on disk.
    Healthy,
    /// Another operator has the file; what it holds isn't known here.
    Locked,
    /// The file hasn't been read yet.
    Opening,
    /// The file is there and can't be read or used; what it holds isn't known.
    Unreadable,
    /// The file was never written by this process, and can't be: what is sent would be forgotten.
    Unwritable,
    /// Everything is known, but the disk is behind; tried again until it isn't.
    Unwritten,
}

impl Condition {
    /// All of them, by name.
    pub const ALL: [Condition; 7] = [
        Condition::Closed,
        Condition::Healthy,
        Condition::Locked,
        Condition::Opening,
        Condition::Unreadable,
        Condition::Unwritable,
        Condition::Unwritten,
    ];

    /// One word for metrics and the API.
    pub fn name(self) -> &'static str {
        match self {
            Condition::Closed => "closed",
            Condition::Healthy => "healthy",
            Condition::Locked => "locked",
            Condition::Opening => "opening",
            Condition::Unreadable => "unreadable",
            Condition::Unwritable => "unwritable",
            Condition::Unwritten => "unwritten",
        }
    }
}

/// The state of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Is it known what nodes were told before, and can it be kept? If not, no node may be sent:
    /// interface ids would be handed out again and network cards renamed.
    pub fn remembers(&self) -> bool {
        matches!(self.condition, Condition::Healthy | Condition::Unwritten)
    }

    /// What is wrong; none when healthy.
    pub fn reason(&self) -> Option<&str> {
        (!self.is_healthy()).then_some(self.reason.as_str())
    }

    /// [`Condition::name`].
    pub fn name(&self) -> &'static str {
        self.condition.name()
    }

    /// Since when it isn't healthy.
    pub fn since(&self) -> Option<Timestamp> {
        (!self.is_healthy()).then_some(self.since)
    }
}

impl fmt::Display for StoreState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = &self.reason;
        match self.condition {
            Condition::Healthy => formatter.write_str("the inventory is on disk"),
            Condition::Closed => formatter.write_str("the inventory is closed"),
            Condition::Unwritten => write!(
                formatter,
                "the inventory is kept in memory until the disk takes it: {reason}"
            ),
            _ => write!(formatter, "the inventory is not available: {reason}"),
        }
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
