//! The accept loop, the threads of the connections, and which connection is closed for another.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::{Shared, connection};
use crate::threads::{self, lock};

/// How long a new connection waits for the thread of one that was closed, before more are closed.
const PLACE_WAIT: Duration = Duration::from_millis(50);

/// How long an accept that failed for want of something (descriptors, memory) waits for a connection
/// to end: long enough not to spin, short enough that no client notices.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// How long a thread waits for its next connection.
const IDLE_THREAD: Duration = Duration::from_secs(1);

/// One part in so many of the connections is closed at once: a crowd that only connects then passes
/// faster than the kernel's queue fills up.
const CLOSED_SHARE: usize = 8;

/// A connection that doesn't wait for its client.
const BUSY: u64 = u64::MAX;

/// All connections of a server that have a thread.
#[derive(Default)]
pub(super) struct Connections {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<Open>>,
    threads: usize,
    /// How many have ever ended.
    ended: u64,
    stopping: bool,
}

/// A connection as the accept loop sees it.
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
        let any = |state: &mut State| !state.open.is_empty();
        let waited = self.changed.wait_timeout_while(lock(&self.state), limit, any);
        let (state, timeout) = waited.unwrap_or_else(|held| held.into_inner());
        if timeout.timed_out() {
            state.open.iter().for_each(|open| open.close());
            let _ = self.changed.wait_timeout_while(state, PLACE_WAIT, any);
        }
    }

    /// Closes the connections that have waited longest for their clients; says how many.
    fn close_longest_waiting(&self, count: usize) -> usize {
        let state = lock(&self.state);
        let since = |open: &Open| open.waiting_since.load(Ordering::Relaxed);
        let mut waiting: Vec<_> = state.open.iter().map(|open| (since(open), open)).collect();
        waiting.retain(|(since, _)| *since != BUSY);
        waiting.sort_unstable_by_key(|(since, _)| *since);
        waiting.truncate(count);
        waiting.iter().for_each(|(_, open)| open.close());
        waiting.len()
    }

    /// Waits for a connection to end.
    fn wait_for_an_end(&self, limit: Duration) {
        let state = lock(&self.state);
        let before = state.ended;
        let _ = self.changed.wait_timeout_while(state, limit, |state| state.ended == before);
    }

    fn add(&self, stream: TcpStream, uptime: Duration) -> Arc<Open> {
        let open = Arc::new(Open { stream, waiting_since: AtomicU64::new(BUSY) });
        open.waits(uptime);
        let mut state = lock(&self.state);
        if state.stopping {
            let _ = open.stream.shutdown(Shutdown::Read);
        }
        state.open.push(open.clone());
        open
    }

    fn remove(&self, open: &Arc<Open>) {
        let mut state = lock(&self.state);
        state.open.retain(|other| !Arc::ptr_eq(other, open));
        state.ended += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Counts one more thread, if there may be one.
    fn add_thread(&self, limit: usize) -> bool {
        let mut state = lock(&self.state);
        let may = state.threads < limit;
        state.threads += usize::from(may);
        may
    }
}

/// The accept loop: it survives every error and ends with the stop.
pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    // Without room of its own: what isn't taken by a thread stays with the sender.
    let (hand_over, next) = crossbeam_channel::bounded(0);
    loop {
        let accepted = listener.accept();
        if shared.connections.is_stopping() {
            return;
        }
        match accepted {
            Ok((stream, _)) => place(shared, stream, &hand_over, &next),
            Err(error) => survive(shared, &error),
        }
    }
}

/// Gives a connection to an idle thread, or to a new one, or to that of a connection that is closed
/// for it. While every connection waits for an answer, the others wait in the kernel's queue.
fn place(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    hand_over: &Sender<TcpStream>,
    next: &Receiver<TcpStream>,
) {
    let limit = shared.limits.connections;
    while !shared.connections.is_stopping() {
        let Err(refused) = hand_over.try_send(stream) else { return };
        stream = refused.into_inner();
        if shared.connections.add_thread(limit) {
            return start_thread(shared, stream, next.clone());
        }
        close_longest_waiting(shared, limit.div_ceil(CLOSED_SHARE));
        let Err(refused) = hand_over.send_timeout(stream, PLACE_WAIT) else { return };
        stream = refused.into_inner();
    }
}

fn start_thread(shared: &Arc<Shared>, first: TcpStream, next: Receiver<TcpStream>) {
    let server = shared.clone();
    let counted = CountedThread(shared.clone());
    let started = threads::spawn(shared.name, move || {
        let _counted = counted;
        serve(&server, first, &next);
    });
    if let Err(error) = started {
        log::warn!("{}: no thread for a connection: {error}", shared.name);
        shared.refused("no-thread");
    }
}

/// One connection after the other.
fn serve(shared: &Arc<Shared>, first: TcpStream, next: &Receiver<TcpStream>) {
    let mut buffer = vec![0; shared.limits.head_bytes].into_boxed_slice();
    let mut taken = Some(first);
    while let Some(stream) = taken {
        let open = Registered { shared, open: shared.connections.add(stream, shared.uptime()) };
        connection::serve(shared, &open.open, &mut buffer);
        drop(open);
        taken = next.recv_timeout(IDLE_THREAD).ok();
    }
}

fn close_longest_waiting(shared: &Shared, count: usize) {
    let closed = shared.connections.close_longest_waiting(count);
    (0..closed).for_each(|_| shared.refused("made-room"));
}

/// After an accept that failed: a client that left before it was accepted is nothing; a shortage is
/// answered by closing a connection.
fn survive(shared: &Shared, error: &io::Error) {
    let passing = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::Interrupted,
    ];
    if passing.contains(&error.kind()) {
        return;
    }
    log::debug!("{}: accept: {error}", shared.name);
    shared.refused("accept-failed");
    close_longest_waiting(shared, 1);
    // Also where there was none to close, so that a lasting shortage costs nothing.
    shared.connections.wait_for_an_end(SHORTAGE_PAUSE);
}

/// Ends the counting of a thread, however it ends.
struct CountedThread(Arc<Shared>);

impl Drop for CountedThread {
    fn drop(&mut self) {
        lock(&self.0.connections.state).threads -= 1;
    }
}

/// Ends the listing of a connection, however it ends.
struct Registered<'a> {
    shared: &'a Shared,
    open: Arc<Open>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.shared.connections.remove(&self.open);
    }
}
