//! How the store is doing, in words for /readyz, conditions and logs.

use std::fmt;

use jiff::Timestamp;

/// The state of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// Everything that was committed is on disk.
    Healthy,
    /// Everything is known, but the disk is behind; tried again until it isn't.
    Unwritten {
        /// Since when.
        since: Timestamp,
        /// What was tried on what and what came back.
        reason: String,
    },
    /// Another operator has the file; what it holds isn't known here.
    Locked {
        /// Since when.
        since: Timestamp,
        /// Which file, and what to do.
        reason: String,
    },
    /// The file is there and can't be read; what it holds isn't known.
    Unreadable {
        /// Since when.
        since: Timestamp,
        /// What was tried on what and what came back.
        reason: String,
    },
    /// The program is stopping; nothing is written any more.
    Closed,
}

impl StoreState {
    /// Is everything on disk?
    pub fn is_healthy(&self) -> bool {
        *self == StoreState::Healthy
    }

    /// Is it known what nodes were told before? If not, no node may be sent: interface ids would
    /// be handed out anew and network cards renamed.
    pub fn remembers(&self) -> bool {
        matches!(self, StoreState::Healthy | StoreState::Unwritten { .. })
    }

    /// What is wrong; none when healthy. Stable: without times.
    pub fn reason(&self) -> Option<&str> {
        match self {
            StoreState::Healthy => None,
            StoreState::Closed => Some("the store is closed"),
            StoreState::Unwritten { reason, .. }
            | StoreState::Locked { reason, .. }
            | StoreState::Unreadable { reason, .. } => Some(reason),
        }
    }

    /// Every [`StoreState::name`] there is.
    pub const NAMES: [&'static str; 5] = ["closed", "healthy", "locked", "unreadable", "unwritten"];

    /// One word for metrics and the API.
    pub fn name(&self) -> &'static str {
        match self {
            StoreState::Healthy => "healthy",
            StoreState::Unwritten { .. } => "unwritten",
            StoreState::Locked { .. } => "locked",
            StoreState::Unreadable { .. } => "unreadable",
            StoreState::Closed => "closed",
        }
    }

    /// Since when it isn't healthy.
    pub fn since(&self) -> Option<Timestamp> {
        match self {
            StoreState::Healthy | StoreState::Closed => None,
            StoreState::Unwritten { since, .. }
            | StoreState::Locked { since, .. }
            | StoreState::Unreadable { since, .. } => Some(*since),
        }
    }
}

impl fmt::Display for StoreState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreState::Healthy => formatter.write_str("the inventory is on disk"),
            StoreState::Closed => formatter.write_str("the inventory is closed"),
            StoreState::Unwritten { reason, .. } => write!(
                formatter,
                "the inventory is kept in memory until the disk takes it: {reason}"
            ),
            StoreState::Locked { reason, .. } | StoreState::Unreadable { reason, .. } => {
                write!(formatter, "the inventory is not available: {reason}")
            }
        }
    }
}

/// A commit that is not on disk. What it changed is kept in memory and written later; after
/// [`StoreState::Closed`] it is not.
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
