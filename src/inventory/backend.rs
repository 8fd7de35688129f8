//! Where a [`Store`](super::store::Store) makes durable what is committed to it.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::contents::Inventory;
use super::record::Change;
use super::store::Condition;
use crate::clock::Now;

/// A place that keeps the inventory. Its operations may wait for I/O; one of them runs at a time.
pub(crate) trait Backend: Send + Sync {
    /// The place, for messages.
    fn place(&self) -> String;

    /// Takes hold of the place and reads it.
    fn open(&self) -> Result<Opened, Trouble>;

    /// Makes the place hold the inventory.
    fn write(&self, inventory: &Inventory) -> Result<Written, Trouble>;

    /// The operation that is under way, in words that follow "trying to", and since when.
    fn under_way(&self) -> Option<(String, Now)>;

    /// Lets go of the place. Nothing is written any more.
    fn close(&self);

    /// Calls this as soon as [`Backend::has_news`].
    fn on_news(&self, _wake: Box<dyn Fn() + Send + Sync>) {}

    /// Was the place changed by others, so that it has to be looked at and written?
    fn has_news(&self) -> bool {
        false
    }

    /// Writes nothing more from now on, and cuts what is under way.
    fn abandon(&self) {}
}

/// What a place held.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) inventory: Inventory,
    /// What a person must know.
    pub(crate) findings: Vec<String>,
}

/// What came of a write that the place took as a whole.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Nodes, by provider and name, whose records the place refuses, and why.
    pub(crate) refused: BTreeMap<(String, String), String>,
    /// What others changed in the place, and memory has to take over.
    pub(crate) changes: Vec<Change>,
    /// Nodes whose records in the place can't be read, and why; none if that is as before.
    pub(crate) unreadable: Option<Unreadable>,
}

/// Names of nodes whose records can't be read, and ids of their VMs, and what is wrong with each.
pub(crate) type Unreadable = BTreeMap<String, String>;

/// Why the inventory isn't in its place.
#[derive(Debug)]
pub(crate) struct Trouble(pub(crate) Condition, pub(crate) String);
