//! Threads for requests side by side, kept for the next ones.
//!
//! A thread is started only when no idle one is there, and ends when it had nothing to do for a
//! while; of the idle ones the last to work is the first to work again. Nobody waits for a thread:
//! whoever brings tasks works on them as well, so tasks may bring tasks of their own.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::{lock, spawn};

/// As long as connections are kept, so that a poll a minute finds both.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// A piece of work of [`Pool::side_by_side`].
pub type Task<T> = Box<dyn FnOnce() -> T + Send>;

type Work = Box<dyn FnOnce() + Send>;

/// A bounded number of threads; clones share them.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    idle_limit: Duration,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    count: usize,
    /// The last one became idle last.
    idle: Vec<Arc<Place>>,
}

/// Where an idle thread finds what to do next.
#[derive(Default)]
struct Place {
    work: Mutex<Option<Work>>,
    given: Condvar,
}

impl Pool {
    /// At most so many threads; none is started yet.
    pub fn new(most: usize) -> Pool {
        Pool::with_idle_limit(most, IDLE_LIMIT)
    }

    fn with_idle_limit(most: usize, idle_limit: Duration) -> Pool {
        Pool { shared: Arc::new(Shared { most, idle_limit, threads: Mutex::default() }) }
    }

    /// Runs the tasks on at most `limit` threads, the caller's own among them, and gives their
    /// results in the order of the tasks. Where no further thread is to be had the caller does the
    /// work alone. A task's panic is carried over to the caller once all others have ended.
    pub fn side_by_side<T: Send + 'static>(&self, limit: usize, tasks: Vec<Task<T>>) -> Vec<T> {
        let helpers = limit.min(tasks.len()).saturating_sub(1);
        let wave = Arc::new(Wave::new(tasks));
        for _ in 0..helpers {
            let wave = Arc::clone(&wave);
            if !self.hand_over(Box::new(move || wave.work())) {
                break;
            }
        }
        wave.work();
        wave.results()
    }

    /// Gives the work to an idle thread or a new one; says whether there was one.
    fn hand_over(&self, work: Work) -> bool {
        let mut threads = lock(&self.shared.threads);
        if let Some(place) = threads.idle.pop() {
            drop(threads);
            *lock(&place.work) = Some(work);
            place.given.notify_one();
            return true;
        }
        if threads.count == self.shared.most {
            return false;
        }
        threads.count += 1;
        drop(threads);
        let shared = Arc::clone(&self.shared);
        let started = spawn("request", move || shared.work_from(work)).is_ok();
        if !started {
            lock(&self.shared.threads).count -= 1;
        }
        started
    }
}

impl Shared {
    fn work_from(&self, first: Work) {
        let place = Arc::new(Place::default());
        let mut next = Some(first);
        while let Some(work) = next {
            work();
            lock(&self.threads).idle.push(Arc::clone(&place));
            next = self.wait(&place);
        }
    }

    /// The next work; none if there was none for long, and then the thread isn't counted any more.
    fn wait(&self, place: &Arc<Place>) -> Option<Work> {
        let mut given = lock(&place.work);
        loop {
            if let Some(work) = given.take() {
                return Some(work);
            }
            let (held, waited) = place
                .given
                .wait_timeout(given, self.idle_limit)
                .unwrap_or_else(|held| held.into_inner());
            given = held;
            if given.is_none() && waited.timed_out() {
                let mut threads = lock(&self.threads);
                let index = threads.idle.iter().position(|idle| Arc::ptr_eq(idle, place));
                // One that isn't idle any more is about to be given work.
                if let Some(index) = index {
                    threads.idle.remove(index);
                    threads.count -= 1;
                    return None;
                }
            }
        }
    }
}

/// The tasks of one call, and their results.
struct Wave<T> {
    progress: Mutex<Progress<T>>,
    ended: Condvar,
}

struct Progress<T> {
    waiting: std::iter::Enumerate<std::vec::IntoIter<Task<T>>>,
    results: Vec<Option<thread::Result<T>>>,
    left: usize,
}

impl<T> Wave<T> {
    fn new(tasks: Vec<Task<T>>) -> Wave<T> {
        let left = tasks.len();
        let results = (0..left).map(|_| None).collect();
        let waiting = tasks.into_iter().enumerate();
        Wave { progress: Mutex::new(Progress { waiting, results, left }), ended: Condvar::new() }
    }

    /// Does what nobody has begun yet.
    fn work(&self) {
        loop {
            let next = lock(&self.progress).waiting.next();
            let Some((index, task)) = next else { return };
            let result = panic::catch_unwind(AssertUnwindSafe(task));
            let mut progress = lock(&self.progress);
            progress.results[index] = Some(result);
            progress.left -= 1;
            if progress.left == 0 {
                self.ended.notify_one();
            }
        }
    }

    /// Waits for what others have begun.
    fn results(&self) -> Vec<T> {
        let mut progress = lock(&self.progress);
        while progress.left > 0 {
            progress = self.ended.wait(progress).unwrap_or_else(|held| held.into_inner());
        }
        let results = std::mem::take(&mut progress.results);
        drop(progress);
        results
            .into_iter()
            .flatten()
            .map(|result| result.unwrap_or_else(|panic| panic::resume_unwind(panic)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Pool, Task, lock};
    use std::collections::HashSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    fn tasks<T>(count: usize, task: impl Fn(usize) -> T + Clone + Send + 'static) -> Vec<Task<T>> {
        (0..count)
            .map(|number| {
                let task = task.clone();
                Box::new(move || task(number)) as Task<T>
            })
            .collect()
    }

    /// Tasks that end only when so many run at the same time, and say who ran them.
    fn meeting(count: usize) -> Vec<Task<ThreadId>> {
        let barrier = Arc::new(Barrier::new(count));
        tasks(count, move |_| {
            barrier.wait();
            thread::current().id()
        })
    }

    fn wait_until_idle(pool: &Pool) {
        let is_busy = || {
            let threads = lock(&pool.shared.threads);
            threads.idle.len() < threads.count
        };
        while is_busy() {
            thread::yield_now();
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_tasks_and_tasks_run_at_the_same_time() {
        let barrier = Arc::new(Barrier::new(3));
        let waiting = tasks(3, move |number| {
            barrier.wait();
            number
        });
        assert_eq!(Pool::new(2).side_by_side(3, waiting), [0, 1, 2]);
    }

    #[test]
    fn threads_are_used_again() {
        let pool = Pool::new(9);
        let mut ran_by = Vec::new();
        for _ in 0..50 {
            ran_by.extend(pool.side_by_side(3, meeting(3)));
            wait_until_idle(&pool);
        }
        let ran_by: HashSet<ThreadId> = ran_by.into_iter().collect();
        assert_eq!(ran_by.len(), 3);
    }

    #[test]
    fn without_threads_the_caller_does_all_and_there_are_never_more_than_the_most() {
        for most in [0, 1, 4] {
            let pool = Pool::new(most);
            let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let seen = Arc::clone(&peak);
            let counting = tasks(50, move |number| {
                seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                number
            });
            assert_eq!(pool.side_by_side(9, counting), (0..50).collect::<Vec<_>>());
            assert!(peak.load(Ordering::SeqCst) <= most + 1);
        }
    }

    #[test]
    fn tasks_may_bring_tasks_of_their_own_although_every_thread_is_taken() {
        let pool = Pool::new(2);
        let inner = pool.clone();
        let outer = tasks(8, move |number| {
            inner.side_by_side(4, tasks(4, move |index| number * index)).iter().sum::<usize>()
        });
        let sums: Vec<usize> = (0..8).map(|number| number * 6).collect();
        assert_eq!(pool.side_by_side(8, outer), sums);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_thread_lives_on() {
        let pool = Pool::new(1);
        let barrier = Arc::new(Barrier::new(2));
        let failing = tasks(2, move |_| {
            barrier.wait();
            panic!("a bug");
        });
        assert!(catch_unwind(AssertUnwindSafe(|| pool.side_by_side::<()>(2, failing))).is_err());
        wait_until_idle(&pool);
        assert_eq!(pool.side_by_side(2, meeting(2)).len(), 2);
    }

    #[test]
    fn an_idle_thread_ends_and_a_new_one_takes_its_place() {
        let pool = Pool::with_idle_limit(1, Duration::from_millis(1));
        for _ in 0..5 {
            assert_eq!(pool.side_by_side(2, meeting(2)).len(), 2);
            while lock(&pool.shared.threads).count > 0 {
                thread::yield_now();
            }
        }
    }
}
