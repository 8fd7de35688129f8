//! The only place that starts threads.
//!
//! Every thread has a name and a small stack. Long-lived threads come from [`spawn`]. Work that doesn't
//! depend on each other runs [`side_by_side`], the requests of a pass on the threads of a [`Pool`].

use std::convert::Infallible;
use std::io;
use std::iter::Enumerate;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::vec::IntoIter;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// Enough for TLS, JSON of the deepest nesting serde_json allows, and unoptimised builds.
const STACK_BYTES: usize = 512 * 1024;

/// How long an idle thread of a [`Pool`] is kept: longer than from one poll to the next by default.
const KEPT: Duration = Duration::from_secs(180);

/// Starts a named thread. Its handle gives what it returns or panics with.
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
    let (done, results) = bounded(count);
    let work = || run_all(&waiting, &done);
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
    in_order(&results, count)
}

/// Tasks that no thread has taken yet, with their numbers.
type Waiting<'scope, T> = Mutex<Enumerate<IntoIter<Task<'scope, T>>>>;
/// The number of a task, and what it returned or panicked with.
type Done<T> = (usize, thread::Result<T>);

/// Runs tasks until none is left.
fn run_all<T>(waiting: &Waiting<'_, T>, done: &Sender<Done<T>>) {
    loop {
        let next = lock(waiting).next();
        let Some((index, task)) = next else { return };
        let _ = done.send((index, panic::catch_unwind(AssertUnwindSafe(task))));
    }
}

/// The results of so many tasks, once all have ended.
fn in_order<T>(results: &Receiver<Done<T>>, count: usize) -> Vec<T> {
    let mut results: Vec<Done<T>> = results.iter().take(count).collect();
    results.sort_by_key(|(index, _)| *index);
    let results = results.into_iter().map(|(_, result)| result);
    results.map(|result| result.unwrap_or_else(|panic| panic::resume_unwind(panic))).collect()
}

/// Threads that are kept for requests. To start one takes 0.2 ms of CPU, which is a tenth of a poll.
pub(crate) struct Pool {
    /// Without capacity: a job is taken only where an idle thread waits for one.
    jobs: Sender<Job>,
    idle: Receiver<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    pub(crate) fn new() -> Pool {
        let (jobs, idle) = bounded(0);
        Pool { jobs, idle }
    }

    /// As the function [`side_by_side`].
    pub(crate) fn side_by_side<T: Send + 'static>(
        &self,
        limit: usize,
        tasks: Vec<Task<'static, T>>,
    ) -> Vec<T> {
        let count = tasks.len();
        let (done, results) = bounded(count);
        let waiting = Arc::new(Mutex::new(tasks.into_iter().enumerate()));
        let work = move || run_all(&waiting, &done);
        for _ in 1..limit.min(count) {
            self.start(Box::new(work.clone()));
        }
        work();
        in_order(&results, count)
    }

    /// Runs a job on an idle thread or a new one. Where none can be started it isn't run.
    fn start(&self, job: Job) {
        let Err(refused) = self.jobs.try_send(job) else { return };
        let (job, idle) = (refused.into_inner(), self.idle.clone());
        let _ = spawn("request", move || {
            job();
            while let Ok(job) = idle.recv_timeout(KEPT) {
                job();
            }
        });
    }
}

/// What the mutex holds, also after a thread that held it has panicked. For values that are whole at
/// each instant.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|held| held.into_inner())
}

#[cfg(test)]
mod tests {
    use super::{Pool, Task, side_by_side};
    use std::collections::HashSet;
    use std::sync::{Arc, Barrier};
    use std::thread::{self, ThreadId};

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
    fn a_pool_keeps_its_threads_and_carries_panics_over() {
        let pool = Pool::new();
        let ids = |count: usize| -> HashSet<ThreadId> {
            let barrier = Arc::new(Barrier::new(count));
            let tasks = (0..count).map(|_| {
                let barrier = Arc::clone(&barrier);
                Box::new(move || {
                    barrier.wait();
                    thread::current().id()
                }) as Task<'static, ThreadId>
            });
            pool.side_by_side(count, tasks.collect()).into_iter().collect()
        };
        let first = ids(4);
        assert_eq!(first.len(), 4);
        let mut seen = first.clone();
        for _ in 0..50 {
            seen.extend(ids(4));
        }
        // A thread that hasn't come back yet is not waited for.
        assert!(seen.len() < 4 + 50, "{} threads in 51 rounds of four", seen.len());
        let tasks: Vec<Task<'static, ()>> = vec![Box::new(|| ()), Box::new(|| panic!("a task's"))];
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.side_by_side(2, tasks);
        }));
        assert!(caught.is_err());
        assert_eq!(ids(3).len(), 3);
    }

    #[test]
    fn more_tasks_than_threads_all_run() {
        let tasks: Vec<Task<'_, usize>> =
            (0..50_usize).map(|number| Box::new(move || number) as Task<'_, usize>).collect();
        assert_eq!(side_by_side(4, tasks), (0..50).collect::<Vec<_>>());
    }
}
