//! The only place that starts threads.
//!
//! Every thread has a name and a small stack. Long-lived threads come from [`spawn`]. Requests of a
//! pass that don't depend on each other run [`side_by_side`].

use std::convert::Infallible;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

/// Enough for TLS, JSON of the deepest nesting serde_json allows, and unoptimised builds.
const STACK_BYTES: usize = 512 * 1024;

/// Starts a named thread. What it returns or panics with is told to whoever joins the handle.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body)
}

/// A thread whose end can be waited for.
pub(crate) struct Thread {
    /// Disconnected once the thread has ended, by a panic too.
    ended: Receiver<Infallible>,
}

impl Thread {
    pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
        let (alive, ended) = bounded::<Infallible>(0);
        spawn(name, move || {
            body();
            drop(alive);
        })?;
        Ok(Thread { ended })
    }

    /// Waits for the end; says whether it came.
    pub(crate) fn has_ended_within(&self, limit: Duration) -> bool {
        matches!(self.ended.recv_timeout(limit), Err(RecvTimeoutError::Disconnected))
    }
}

/// A piece of work of [`side_by_side`].
pub type Task<'scope, T> = Box<dyn FnOnce() -> T + Send + 'scope>;

/// Runs the tasks on at most `limit` threads, the caller's own among them, and gives their results
/// in the order of the tasks. Where no further thread can be started the caller does the work
/// alone. A task's panic is carried over to the caller once all others have ended.
pub fn side_by_side<'scope, T: Send>(limit: usize, tasks: Vec<Task<'scope, T>>) -> Vec<T> {
    let count = tasks.len();
    let waiting = Mutex::new(tasks.into_iter().enumerate());
    let results: Mutex<Vec<Option<thread::Result<T>>>> =
        Mutex::new((0..count).map(|_| None).collect());
    let work = || {
        loop {
            let next = lock(&waiting).next();
            let Some((index, task)) = next else { return };
            let result = panic::catch_unwind(AssertUnwindSafe(task));
            lock(&results)[index] = Some(result);
        }
    };
    thread::scope(|scope| {
        for _ in 1..limit.min(count) {
            let started = thread::Builder::new()
                .name("request".to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, work);
            if started.is_err() {
                break;
            }
        }
        work();
    });
    let results = results.into_inner().unwrap_or_else(|held| held.into_inner());
    results
        .into_iter()
        .flatten()
        .map(|result| result.unwrap_or_else(|panic| panic::resume_unwind(panic)))
        .collect()
}

/// What the mutex holds, also after a panic of somebody who held it. For values that are whole at
/// each instant.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|held| held.into_inner())
}

#[cfg(test)]
mod tests {
    use super::{Task, side_by_side};
    use std::sync::Barrier;

    #[test]
    fn results_come_in_the_order_of_the_tasks_and_tasks_run_at_the_same_time() {
        let barrier = Barrier::new(3);
        let tasks: Vec<Task<'_, usize>> = (0..3_usize)
            .map(|number| {
                let barrier = &barrier;
                Box::new(move || {
                    barrier.wait();
                    number
                }) as Task<'_, usize>
            })
            .collect();
        assert_eq!(side_by_side(3, tasks), vec![0, 1, 2]);
    }

    #[test]
    fn more_tasks_than_threads_all_run() {
        let tasks: Vec<Task<'_, usize>> =
            (0..50_usize).map(|number| Box::new(move || number) as Task<'_, usize>).collect();
        assert_eq!(side_by_side(4, tasks), (0..50).collect::<Vec<_>>());
    }
}
