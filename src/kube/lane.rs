//! Threads that make the writes of one [`WriteQueue`].

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::client::Permission;
use super::error::KubeError;
use super::events::EventText;
use super::objects::ObjectReference;
use super::write_queue::{Failure, Next, WriteQueue};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::threads::{Thread, lock};

/// The object that a write is about; of an Event also what it says.
pub(crate) type Key = (ObjectReference, Option<EventText>);
/// Makes one write.
pub(crate) type Write = Arc<dyn Fn() -> Result<(), KubeError> + Send + Sync>;

/// What all lanes have in common.
#[derive(Clone)]
pub(crate) struct LaneContext {
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) may_write: Permission,
}

/// One kind of write, with a queue, a back-off and threads of its own, so that it holds up no other.
pub(crate) struct WriteLane {
    shared: Arc<Shared>,
    pub(super) threads: Vec<Thread>,
}

struct Shared {
    /// `status`, `secret` or `event`; a label in metrics.
    kind: &'static str,
    queue: Mutex<Queue>,
    changed: Condvar,
    context: LaneContext,
}

struct Queue {
    writes: WriteQueue<Key, Write>,
    /// The uptime until which a thread waits. The others wait without a limit until one wakes them,
    /// so that time wakes one thread, not all.
    timer: Option<Duration>,
}

impl WriteLane {
    /// Starts up to `threads` threads; one is enough to go on. A write is given up after `attempts`,
    /// if there is such a limit.
    pub(crate) fn spawn(
        kind: &'static str,
        threads: usize,
        attempts: Option<u32>,
        context: &LaneContext,
    ) -> io::Result<WriteLane> {
        let writes = WriteQueue::new(attempts, fastrand::Rng::new());
        let queue = Mutex::new(Queue { writes, timer: None });
        let context = context.clone();
        let shared = Arc::new(Shared { kind, queue, changed: Condvar::new(), context });
        let mut lane = WriteLane { shared, threads: Vec::new() };
        for _ in 0..threads {
            let shared = Arc::clone(&lane.shared);
            match Thread::spawn(&format!("kube-{kind}"), move || shared.run()) {
                Ok(thread) => lane.threads.push(thread),
                Err(error) if lane.threads.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(lane)
    }

    /// Changes the queue, and wakes a thread that has nothing to do.
    pub(crate) fn change(&self, change: impl FnOnce(&mut WriteQueue<Key, Write>)) {
        change(&mut lock(&self.shared.queue).writes);
        self.shared.changed.notify_one();
    }

    /// Gives each write one more attempt, and then ends.
    pub(crate) fn drain(&self) {
        lock(&self.shared.queue).writes.drain();
        self.shared.changed.notify_all();
    }

    /// Ends without a further attempt.
    pub(crate) fn abandon(&self) {
        lock(&self.shared.queue).writes.abandon();
        self.shared.changed.notify_all();
    }

    /// Is nothing left to write?
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.shared.queue).writes.is_empty()
    }
}

impl Shared {
    fn run(&self) {
        let mut queue = lock(&self.queue);
        loop {
            let now = self.context.clock.now().uptime;
            queue = match queue.writes.next(now, (self.context.may_write)()) {
                Next::Write(key, write) => {
                    drop(queue);
                    // There may be one for another thread, or one to wait for.
                    self.changed.notify_one();
                    self.finished(&key, &write());
                    lock(&self.queue)
                }
                Next::Wait(limit) => self.wait(queue, limit, now),
                Next::End => {
                    self.changed.notify_all();
                    return;
                }
            };
        }
    }

    fn wait<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        limit: Option<Duration>,
        now: Duration,
    ) -> MutexGuard<'a, Queue> {
        let until = limit.map(|limit| now.saturating_add(limit));
        let is_sooner = |until: &Duration| queue.timer.is_none_or(|timer| *until < timer);
        let (Some(limit), Some(until)) = (limit, until.filter(is_sooner)) else {
            return self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        queue.timer = Some(until);
        let woken = self.changed.wait_timeout(queue, limit);
        let mut queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        if queue.timer == Some(until) {
            queue.timer = None;
        }
        queue
    }

    fn finished(&self, key: &Key, result: &Result<(), KubeError>) {
        let Shared { kind, context, .. } = self;
        let failure = result.as_ref().map(drop).map_err(Failure::from);
        let now = context.clock.now().uptime;
        let is_news = lock(&self.queue).writes.finished(key, failure, now);
        let object = &key.0;
        if let Err(error) = result {
            let labels = [("kind", *kind)];
            context.metrics.add("multinic_kubernetes_write_failures_total", &labels, 1.0);
            let level = if is_news { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "could not write the {kind} of {object}: {error}");
        } else if is_news {
            log::info!("the {kind} of {object} is written again");
        }
    }
}
