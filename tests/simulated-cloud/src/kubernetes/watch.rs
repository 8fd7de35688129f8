//! Watches: what one sends next, and the loop that sends it.
//!
//! `Cursor::next` is pure: state and time in, a step out. The loop around it waits on the server's
//! condition variable, so a change wakes every watch at once; apart from that it only looks from time
//! to time whether its client is still there.

use super::Shared;
use super::presenter::Presenter;
use super::selectors::Selector;
use super::status::Failure;
use super::store::{Change, ChangeKind, CollectionId, State};
use crate::wire::StreamWriter;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bookmarks begin this long before the end, and then come at this interval, whatever the usual one is.
const LAST_BOOKMARKS: Duration = Duration::from_secs(2);
const LAST_BOOKMARK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a watch outlives its CRD.
const AFTER_REMOVAL: Duration = Duration::from_secs(1);
/// How often a quiet watch looks whether its client is still there.
const PEER_CHECK: Duration = Duration::from_millis(50);

/// What a watch does next.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Ends with the last chunk.
    End,
    /// Ends without it.
    Cut,
    /// Nothing to do until then.
    Wait(Instant),
}

/// Where one watch stands.
pub(super) struct Cursor {
    pub(super) collection: CollectionId,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    pub(super) presenter: Presenter,
    pub(super) deadline: Instant,
    /// When the next bookmark is due, if any are wanted.
    pub(super) next_bookmark: Option<Instant>,
    /// Everything up to this version is told.
    pub(super) position: u64,
    /// What a watch without a version begins with.
    pub(super) initial: Vec<u8>,
    pub(super) injected: usize,
    pub(super) cuts: u64,
    pub(super) ends: u64,
    pub(super) incarnation: u64,
    pub(super) ends_at: Option<Instant>,
    pub(super) columns_told: bool,
}

impl Cursor {
    /// The next step, given the state and the time.
    pub(super) fn next(&mut self, state: &State, now: Instant) -> Step {
        let switches = &state.switches;
        if self.cuts != switches.cuts {
            return Step::Cut;
        }
        if switches.frozen {
            return Step::Wait(now + PEER_CHECK);
        }
        if !self.initial.is_empty() {
            return Step::Send(std::mem::take(&mut self.initial));
        }
        if let Some(bytes) = switches.injected.get(self.injected) {
            self.injected += 1;
            return Step::Send(bytes.to_vec());
        }
        let Some(collection) = state.collections.get(&self.collection) else {
            return Step::End;
        };
        for change in collection.since(self.position) {
            self.position = change.version;
            if let Some(line) = self.line(change) {
                return Step::Send(line);
            }
        }
        if self.ends != switches.ends || now >= self.deadline {
            return Step::End;
        }
        if !collection.served || collection.incarnation != self.incarnation {
            let ends_at = *self.ends_at.get_or_insert(now + AFTER_REMOVAL);
            return if now >= ends_at { Step::End } else { Step::Wait(ends_at) };
        }
        if let Some(due) = self.next_bookmark
            && now >= due
        {
            self.next_bookmark = Some(self.bookmark_after(now, switches.bookmark_interval));
            let object = self.presenter.bookmark(state.version.max(self.position));
            return Step::Send(line("BOOKMARK", &object));
        }
        Step::Wait(self.deadline.min(self.next_bookmark.unwrap_or(self.deadline)))
    }

    /// When the next bookmark comes after one at `now`, or after the start.
    pub(super) fn bookmark_after(&self, now: Instant, interval: Duration) -> Instant {
        let last_ones = self.deadline.checked_sub(LAST_BOOKMARKS).unwrap_or(now);
        if now < last_ones {
            last_ones.min(now + interval)
        } else {
            now + interval.min(LAST_BOOKMARK_INTERVAL)
        }
    }

    /// The line for a change, as this watch's selection sees it: entering it is ADDED, leaving it DELETED.
    fn line(&mut self, change: &Change) -> Option<Vec<u8>> {
        let here = self.namespace.as_ref().is_none_or(|namespace| *namespace == change.id.0);
        if change.silent || !here {
            return None;
        }
        let before = change.previous.as_ref().is_some_and(|object| self.selector.matches(object));
        let after = change.kind != ChangeKind::Deleted && self.selector.matches(&change.object);
        let (name, object) = match (before, after) {
            (false, true) => ("ADDED", Value::clone(&change.object)),
            (true, true) => ("MODIFIED", Value::clone(&change.object)),
            (true, false) => {
                // The last state that was selected, with the version of the change.
                let mut last = change.previous.as_deref().cloned().unwrap_or_default();
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                ("DELETED", last)
            }
            (false, false) => return None,
        };
        let first = !self.columns_told;
        self.columns_told = true;
        Some(line(name, &self.presenter.event(&object, first)))
    }
}

/// One event on one line.
pub(super) fn line(name: &str, object: &Value) -> Vec<u8> {
    let mut line = json!({"type": name, "object": object}).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The only line of a watch from a version that is too old.
pub(super) fn expired(asked: u64, oldest: u64) -> Vec<u8> {
    let failure = Failure::watch_expired(asked, oldest);
    line("ERROR", failure.status().unwrap_or(&Value::Null))
}

/// Counts a watch as open for as long as it lives.
pub(super) struct OpenWatch {
    shared: Arc<Shared>,
}

impl OpenWatch {
    /// `state` is that of `shared`, whose lock the caller holds.
    pub(super) fn new(shared: &Arc<Shared>, state: &mut State) -> OpenWatch {
        state.open_watches += 1;
        shared.changed.notify_all();
        OpenWatch { shared: Arc::clone(shared) }
    }

    /// Serves the watch until it ends.
    pub(super) fn run(self, mut cursor: Cursor, writer: &mut StreamWriter<'_>) -> io::Result<()> {
        loop {
            match self.wait_for_step(&mut cursor) {
                Step::Send(bytes) => writer.send(&bytes)?,
                Step::End => return Ok(()),
                Step::Cut => {
                    writer.cut();
                    return Ok(());
                }
                Step::Wait(_) if writer.peer_is_gone() => return Ok(()),
                Step::Wait(_) => {}
            }
        }
    }

    /// The next thing to do; a wait comes back when it is time to look after the client.
    fn wait_for_step(&self, cursor: &mut Cursor) -> Step {
        let mut state = self.shared.lock();
        let check = crate::clock::instant() + PEER_CHECK;
        loop {
            let now = crate::clock::instant();
            match cursor.next(&state, now) {
                Step::Wait(until) => {
                    if now >= check {
                        return Step::Wait(until);
                    }
                    let pause = until.min(check).saturating_duration_since(now);
                    state = self.shared.wait(state, pause);
                }
                step => return step,
            }
        }
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.shared.lock().open_watches -= 1;
        self.shared.changed.notify_all();
    }
}
