//! The accept loop, and which connection is closed for another.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use super::{Shared, connection};
use crate::threads::{self, lock};

/// How long a new connection waits for the end of one that was closed, before more are closed: on a
/// busy machine their threads may need a while to notice.
const PLACE_WAIT: Duration = Duration::from_millis(250);

/// How long an accept that failed for want of something (descriptors, memory) waits for a connection
/// to end: long enough not to spin, short enough that no client notices.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// One part in so many of the connections is closed at once: a crowd that only connects then passes
/// faster than the kernel's queue fills up.
const CLOSED_SHARE: usize = 8;

/// A connection that doesn't wait for its client.
const BUSY: u64 = u64::MAX;

/// All connections of a server.
#[derive(Default)]
pub(super) struct Connections {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<Open>>,
    stopping: bool,
}

/// A connection as other threads see it.
pub(super) struct Open {
    pub(super) stream: TcpStream,
    /// Since when we wait for the client, in microseconds of uptime; or [`BUSY`].
    waiting_since: AtomicU64,
}

impl Open {
    /// From `uptime` on we wait for the client.
    pub(super) fn waits(&self, uptime: Duration) {
        self.waiting_since.store(uptime.as_micros() as u64, Ordering::Relaxed);
    }

    /// The client waits for us.
    pub(super) fn works(&self) {
        self.waiting_since.store(BUSY, Ordering::Relaxed);
    }

    fn close(&self) {
        self.works();
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Connections {
    pub(super) fn is_stopping(&self) -> bool {
        lock(&self.state).stopping
    }

    /// No further connections and requests.
    pub(super) fn begin_stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        for open in &state.open {
            // One that waits for a request ends; an answer under way goes out.
            let _ = open.stream.shutdown(Shutdown::Read);
        }
    }

    /// Waits for all to end, then closes those that are left.
    pub(super) fn wait_until_closed(&self, limit: Duration) {
        if !self.wait(limit, |state| state.open.is_empty()) {
            lock(&self.state).open.iter().for_each(|open| open.close());
            self.wait(PLACE_WAIT, |state| state.open.is_empty());
        }
    }

    /// Waits until something is so; says whether it came about within the limit.
    fn wait(&self, limit: Duration, until: impl Fn(&State) -> bool) -> bool {
        let waited =
            self.changed.wait_timeout_while(lock(&self.state), limit, |state| !until(state));
        !waited.unwrap_or_else(|held| held.into_inner()).1.timed_out()
    }
}

/// The accept loop: it survives every error and ends with the stop.
pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        if shared.connections.is_stopping() {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                wait_for_place(shared);
                start(shared, stream);
            }
            Err(error) => survive(shared, &error),
        }
    }
}

/// Waits until there may be one more connection, and closes others for it. While every connection
/// waits for an answer of ours, new ones wait in the kernel's queue.
fn wait_for_place(shared: &Shared) {
    let limit = shared.limits.connections;
    let has_place = |state: &State| state.open.len() < limit || state.stopping;
    while !shared.connections.wait(Duration::ZERO, has_place) {
        close_longest_waiting(shared, limit.div_ceil(CLOSED_SHARE));
        shared.connections.wait(PLACE_WAIT, has_place);
    }
}

/// Starts the thread of a connection.
fn start(shared: &Arc<Shared>, stream: TcpStream) {
    // Until its thread runs it is not the client we wait for: its request may have arrived.
    let open = Arc::new(Open { stream, waiting_since: AtomicU64::new(BUSY) });
    let mut state = lock(&shared.connections.state);
    if state.stopping {
        return;
    }
    state.open.push(open.clone());
    drop(state);
    let listed = Listed { shared: shared.clone(), open: Arc::downgrade(&open) };
    let started = threads::spawn(shared.name, move || {
        let listed = listed;
        // Closed before its place is given back.
        let open = open;
        // The client has gone: there is no one to tell.
        let _ = connection::serve(&listed.shared, &open);
    });
    if let Err(error) = started {
        log::warn!("{}: no thread for a connection: {error}", shared.name);
        shared.refusals.count("no-thread");
    }
}

/// Closes the connections that have waited longest for their clients.
fn close_longest_waiting(shared: &Shared, count: usize) {
    let state = lock(&shared.connections.state);
    let since = |open: &Open| open.waiting_since.load(Ordering::Relaxed);
    let mut waiting: Vec<_> = state.open.iter().map(|open| (since(open), open)).collect();
    waiting.retain(|(since, _)| *since != BUSY);
    waiting.sort_unstable_by_key(|(since, _)| *since);
    for (_, open) in waiting.into_iter().take(count) {
        open.close();
        shared.refusals.count("made-room");
    }
}

/// After an accept that failed: a client that left before it was accepted is nothing; a shortage is
/// answered by closing a connection.
fn survive(shared: &Shared, error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    log::debug!("{}: accept: {error}", shared.name);
    shared.refusals.count("accept-failed");
    let before = lock(&shared.connections.state).open.len();
    close_longest_waiting(shared, 1);
    // Also where there was none to close, so that a lasting shortage costs nothing.
    shared.connections.wait(SHORTAGE_PAUSE, |state| state.open.len() < before);
}

/// A connection's place in the list, given back when its thread ends, however it ends.
struct Listed {
    shared: Arc<Shared>,
    open: Weak<Open>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let connections = &self.shared.connections;
        let mut state = lock(&connections.state);
        state.open.retain(|other| Arc::as_ptr(other) != self.open.as_ptr());
        drop(state);
        connections.changed.notify_all();
    }
}
