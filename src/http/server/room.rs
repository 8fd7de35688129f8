//! The memory that long answers hold until their readers have taken them.
//!
//! What is prepared once for many answers costs nothing more however many read it. What is made for
//! one request is there until its reader has it, and a crowd that asks and doesn't read would hold so
//! much that the process ends for want of memory. So a server counts it, against a budget
//! ([`Limits::held_bytes`](super::Limits)). Whoever makes a long answer asks for its memory while it
//! grows; of one that comes without, the connection sees to that. When the budget is spent, whoever
//! has taken nothing of theirs for seconds has to go; if nobody has, the newcomer is told to try
//! again.

use std::fmt;
use std::sync::Arc;

use super::house::{Guest, House};

/// Where a request's long answer gets its memory. One that belongs to no connection gives what it
/// is asked for.
#[derive(Clone, Default)]
pub struct Room(Option<(Arc<House>, Arc<Guest>)>);

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    room: Room,
    bytes: usize,
}

impl Room {
    pub(super) fn of(house: &Arc<House>, guest: &Arc<Guest>) -> Room {
        Room(Some((house.clone(), guest.clone())))
    }

    /// Memory for an answer; none if the budget is spent.
    pub fn take(&self, bytes: usize) -> Option<Share> {
        let mut share = Share { room: self.clone(), bytes: 0 };
        share.grow(bytes).then_some(share)
    }
}

impl Share {
    /// Takes more; says whether it was to be had.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let had = match &self.room.0 {
            Some((house, guest)) => house.hold(guest, bytes),
            None => true,
        };
        if had {
            self.bytes += bytes;
        }
        had
    }

    /// Keeps no more than this.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        if let Some((house, guest)) = &self.room.0 {
            house.hold_no_longer(guest, surplus);
        }
        self.bytes -= surplus;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.0.as_ref().map(|(house, _)| house.name);
        formatter.debug_tuple("Room").field(&server).finish()
    }
}
