//! One question for everybody who needs its answer at the same time.
//!
//! However many objects fall due together, each key is asked for once; the others wait for that
//! answer, good or bad. How long an answer is remembered is the asker's decision.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Entries nobody used for this long are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// Answers by key.
#[derive(Debug)]
pub struct Shared<K, V, E> {
    entries: Mutex<HashMap<K, Entry<V, E>>>,
    changed: Condvar,
    /// Counts over all keys and outlives what is forgotten: a serial never comes twice.
    serials: AtomicU64,
}

#[derive(Debug)]
struct Entry<V, E> {
    asking: bool,
    known: Option<Known<V, E>>,
    used_at: Duration,
}

/// An answer and how long it may be used.
#[derive(Debug)]
pub struct Known<V, E> {
    /// The answer, good or bad.
    pub result: Result<Arc<V>, E>,
    /// Moves with each answer; tells two equal ones apart.
    pub serial: u64,
    /// Uptime until which it counts as fresh.
    pub fresh_until: Duration,
}

impl<V, E: Clone> Clone for Known<V, E> {
    fn clone(&self) -> Self {
        let Known { result, serial, fresh_until } = self;
        Known { result: result.clone(), serial: *serial, fresh_until: *fresh_until }
    }
}

impl<K, V, E> Default for Shared<K, V, E> {
    fn default() -> Self {
        Shared {
            entries: Mutex::new(HashMap::new()),
            changed: Condvar::new(),
            serials: AtomicU64::new(0),
        }
    }
}

impl<K: Clone + Eq + Hash, V, E: Clone> Shared<K, V, E> {
    /// The remembered answer if it is fresh at `uptime` and not one that `outdated` knows to be no
    /// good, else what `ask` says: the result and until when it is fresh. While one asks, others
    /// wait for that answer and take it.
    pub fn get(
        &self,
        key: &K,
        uptime: Duration,
        outdated: impl Fn(&Known<V, E>) -> bool,
        ask: impl FnOnce() -> (Result<V, E>, Duration),
    ) -> Known<V, E> {
        let mut entries = self.lock();
        let mut waited = false;
        loop {
            let entry = entries.entry(key.clone()).or_insert_with(|| Entry {
                asking: false,
                known: None,
                used_at: uptime,
            });
            entry.used_at = entry.used_at.max(uptime);
            if !entry.asking {
                match &entry.known {
                    // Whoever waited gets the answer it waited for, however short its life.
                    Some(known) if !outdated(known) && (waited || known.fresh_until > uptime) => {
                        return known.clone();
                    }
                    _ => break entry.asking = true,
                }
            }
            waited = true;
            entries = self.changed.wait(entries).unwrap_or_else(|held| held.into_inner());
        }
        drop(entries);
        let asking = Asking { shared: self, key };
        let (result, fresh_until) = ask();
        let mut entries = self.lock();
        let serial = self.serials.fetch_add(1, Ordering::Relaxed) + 1;
        let known = Known { result: result.map(Arc::new), serial, fresh_until };
        if let Some(entry) = entries.get_mut(key) {
            entry.known = Some(known.clone());
        }
        entries.retain(|_, entry| entry.asking || entry.used_at + FORGET_AFTER > uptime);
        drop(entries);
        drop(asking);
        known
    }

    /// The last answer, fresh or not.
    pub fn remembered(&self, key: &K) -> Option<Known<V, E>> {
        self.lock().get(key)?.known.clone()
    }

    /// An answer is fresh until `until` at the latest.
    pub fn shorten(&self, key: &K, until: Duration) {
        let mut entries = self.lock();
        if let Some(known) = entries.get_mut(key).and_then(|entry| entry.known.as_mut()) {
            known.fresh_until = known.fresh_until.min(until);
        }
    }

    /// Forgets remembered failures, so that the next question is really put.
    pub fn forget_failures(&self, of: impl Fn(&K) -> bool) {
        for (key, entry) in self.lock().iter_mut() {
            if of(key) && entry.known.as_ref().is_some_and(|known| known.result.is_err()) {
                entry.known = None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Entry<V, E>>> {
        self.entries.lock().unwrap_or_else(|held| held.into_inner())
    }
}

/// Whatever becomes of the asker, a panic included, the waiting ones are let go.
struct Asking<'a, K: Clone + Eq + Hash, V, E: Clone> {
    shared: &'a Shared<K, V, E>,
    key: &'a K,
}

impl<K: Clone + Eq + Hash, V, E: Clone> Drop for Asking<'_, K, V, E> {
    fn drop(&mut self) {
        if let Some(entry) = self.shared.lock().get_mut(self.key) {
            entry.asking = false;
        }
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, Shared};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    type Answers = Shared<&'static str, u32, &'static str>;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn never(_: &Known<u32, &'static str>) -> bool {
        false
    }

    #[test]
    fn an_answer_is_remembered_as_long_as_its_asker_says() {
        let shared = Answers::default();
        let first = shared.get(&"k", at(0), never, || (Ok(1), at(10)));
        let second = shared.get(&"k", at(9), never, || (Ok(2), at(99)));
        let third = shared.get(&"k", at(10), never, || (Ok(3), at(99)));
        assert_eq!(*first.result.unwrap(), 1);
        assert_eq!(*second.result.unwrap(), 1);
        assert_eq!((*third.result.unwrap(), third.serial), (3, 2));
    }

    #[test]
    fn an_outdated_answer_is_asked_for_anew_although_it_is_fresh() {
        let shared = Answers::default();
        let old = shared.get(&"k", at(0), never, || (Ok(1), at(10)));
        let new = shared.get(&"k", at(1), |known| known.serial <= old.serial, || (Ok(2), at(10)));
        assert_eq!(*new.result.unwrap(), 2);
    }

    #[test]
    fn however_many_ask_at_once_the_question_is_put_once_and_a_failure_is_shared() {
        let shared = Answers::default();
        let asked = AtomicUsize::new(0);
        let started = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    started.wait();
                    let answer = shared.get(&"k", at(0), never, || {
                        asked.fetch_add(1, Ordering::SeqCst);
                        (Err("down"), at(5))
                    });
                    assert_eq!(answer.result, Err("down"));
                });
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_panic_of_the_asker_lets_the_others_go() {
        let shared = Answers::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            shared.get(&"k", at(0), never, || panic!("a bug"));
        }));
        assert!(panicked.is_err());
        assert_eq!(*shared.get(&"k", at(0), never, || (Ok(1), at(1))).result.unwrap(), 1);
    }
}
