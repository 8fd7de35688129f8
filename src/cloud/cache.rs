//! Answers by key: each key is asked for once at a time, and its answer is kept for a while.
//!
//! While one thread asks, others that need the same answer wait for it and take it, good or bad.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::CloudError;
use crate::clock::Clock;
use crate::secret::Entries;
use crate::threads::lock;

/// Entries that weren't used for this long are dropped.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// For how long a Secret's content is used, and that there is none.
const SECRET_LIFE: Duration = Duration::from_secs(300);
/// A Secret that couldn't be read, or can't be used, is read again after this.
pub(crate) const SECRET_FAILURE_LIFE: Duration = Duration::from_secs(10);

/// Answers by key.
pub(crate) struct Cache<K, V, E = CloudError> {
    slots: Mutex<Slots<K, V, E>>,
    /// Counts over all keys, so that a serial never comes twice.
    serials: Arc<AtomicU64>,
}

/// With the uptime of the last use.
type Slots<K, V, E> = HashMap<K, (Arc<Slot<V, E>>, Duration)>;

struct Slot<V, E> {
    /// Held during the request.
    asking: Mutex<()>,
    /// Held for no I/O.
    known: Mutex<Option<Known<V, E>>>,
}

/// An answer and how long it may be used.
#[derive(Clone)]
pub(crate) struct Known<V, E = CloudError> {
    pub(crate) result: Result<V, E>,
    /// Moves with each answer; distinguishes two equal ones.
    pub(crate) serial: u64,
    /// Uptime.
    pub(crate) fresh_until: Duration,
}

impl<K, V, E> Default for Cache<K, V, E> {
    fn default() -> Self {
        Cache { slots: Mutex::default(), serials: Arc::default() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone, E: Clone> Cache<K, V, E> {
    /// A cache whose serials aren't those of another one that counts with it.
    pub(crate) fn counting_with(serials: &Arc<AtomicU64>) -> Cache<K, V, E> {
        Cache { serials: Arc::clone(serials), ..Cache::default() }
    }

    /// The cached answer if it is fresh at `uptime` and newer than the serial `outdated`; otherwise
    /// what `ask` returns: the result and the uptime until which it is fresh.
    pub(crate) fn get(
        &self,
        key: &K,
        uptime: Duration,
        outdated: Option<u64>,
        ask: impl FnOnce() -> (Result<V, E>, Duration),
    ) -> Known<V, E> {
        let slot = self.slot(key, uptime);
        let is_newer = |known: &Known<V, E>| outdated.is_none_or(|serial| known.serial > serial);
        let before = lock(&slot.known).clone();
        let serial_before = before.as_ref().map_or(0, |known| known.serial);
        let is_fresh = |known: &Known<V, E>| known.fresh_until > uptime && is_newer(known);
        if let Some(known) = before.filter(is_fresh) {
            return known;
        }
        let _asking = lock(&slot.asking);
        // A thread that waited takes the answer it waited for, however short its life.
        let waited_for = |known: &Known<V, E>| known.serial > serial_before && is_newer(known);
        if let Some(known) = lock(&slot.known).clone().filter(waited_for) {
            return known;
        }
        let (result, fresh_until) = ask();
        let serial = self.serials.fetch_add(1, Ordering::Relaxed) + 1;
        let known = Known { result, serial, fresh_until };
        *lock(&slot.known) = Some(known.clone());
        known
    }

    /// What `make` makes of a Secret that `read` reads. While the Secret can't be read, what was made of
    /// it stays: an API server in trouble doesn't change credentials. `make` is given that, too.
    pub(crate) fn of_secret(
        &self,
        key: &K,
        clock: &Clock,
        read: impl FnOnce() -> Result<Option<Entries>, String>,
        make: impl FnOnce(Result<Option<Entries>, String>, Option<V>) -> Result<V, E>,
    ) -> Result<V, E> {
        let before = self.last(key).and_then(|known| known.result.ok());
        let known = self.get(key, clock.now().uptime, None, || {
            let result = match (read(), before) {
                (Err(_), Some(before)) => Ok(before),
                (read, before) => make(read, before),
            };
            let life = if result.is_ok() { SECRET_LIFE } else { SECRET_FAILURE_LIFE };
            (result, clock.now().uptime + life)
        });
        known.result
    }

    /// The last answer, fresh or not.
    pub(crate) fn last(&self, key: &K) -> Option<Known<V, E>> {
        let slot = self.existing(key)?;
        lock(&slot.known).clone()
    }

    /// Makes an answer fresh until `until` at the latest.
    pub(crate) fn shorten(&self, key: &K, until: Duration) {
        if let Some(slot) = self.existing(key)
            && let Some(known) = &mut *lock(&slot.known)
        {
            known.fresh_until = known.fresh_until.min(until);
        }
    }

    /// Drops cached failures, so that the next question is asked.
    pub(crate) fn forget_failures(&self, of: impl Fn(&K) -> bool) {
        for (_, (slot, _)) in lock(&self.slots).iter().filter(|(key, _)| of(key)) {
            lock(&slot.known).take_if(|known| known.result.is_err());
        }
    }

    /// Drops the answer of a key if it is of this kind.
    pub(crate) fn forget_where(&self, key: &K, of: impl Fn(&Result<V, E>) -> bool) {
        if let Some(slot) = self.existing(key) {
            lock(&slot.known).take_if(|known| of(&known.result));
        }
    }

    /// The last good answers of all keys.
    pub(crate) fn all(&self) -> Vec<V> {
        let slots = lock(&self.slots);
        let good =
            slots.values().filter_map(|(slot, _)| lock(&slot.known).as_ref()?.result.clone().ok());
        good.collect()
    }

    fn existing(&self, key: &K) -> Option<Arc<Slot<V, E>>> {
        lock(&self.slots).get(key).map(|(slot, _)| Arc::clone(slot))
    }

    fn slot(&self, key: &K, uptime: Duration) -> Arc<Slot<V, E>> {
        let mut slots = lock(&self.slots);
        if !slots.contains_key(key) {
            slots.retain(|_, (slot, used_at)| {
                Arc::strong_count(slot) > 1 || *used_at + FORGET_AFTER > uptime
            });
        }
        let (slot, used_at) = slots.entry(key.clone()).or_insert_with(|| {
            let (asking, known) = Default::default();
            (Arc::new(Slot { asking, known }), uptime)
        });
        *used_at = uptime;
        Arc::clone(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;
    use crate::cloud::{CloudError, Step};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    type Numbers = Cache<&'static str, u32>;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_is_kept_as_long_as_its_asker_says() {
        let cache = Numbers::default();
        let first = cache.get(&"k", at(0), None, || (Ok(1), at(10)));
        let second = cache.get(&"k", at(9), None, || (Ok(2), at(99)));
        let third = cache.get(&"k", at(10), None, || (Ok(3), at(99)));
        assert_eq!((first.result.unwrap(), second.result.unwrap()), (1, 1));
        assert_eq!((third.result.unwrap(), third.serial), (3, 2));
    }

    #[test]
    fn an_outdated_answer_is_asked_for_again_although_it_is_fresh() {
        let cache = Numbers::default();
        let old = cache.get(&"k", at(0), None, || (Ok(1), at(10)));
        let new = cache.get(&"k", at(1), Some(old.serial), || (Ok(2), at(10)));
        assert_eq!(new.result.unwrap(), 2);
    }

    #[test]
    fn threads_that_ask_at_once_cause_one_request_and_share_its_failure() {
        let (cache, asked, started) = (Numbers::default(), AtomicUsize::new(0), Barrier::new(8));
        let down = || CloudError::new(Step::Keystone, "down");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    started.wait();
                    let answer = cache.get(&"k", at(0), None, || {
                        asked.fetch_add(1, Ordering::SeqCst);
                        (Err(down()), at(5))
                    });
                    assert_eq!(answer.result, Err(down()));
                });
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_last_answer_can_be_read_while_another_thread_asks_anew() {
        let cache = Numbers::default();
        cache.get(&"k", at(0), None, || (Ok(1), at(1)));
        cache.get(&"k", at(2), None, || {
            assert_eq!(cache.last(&"k").unwrap().result.unwrap(), 1);
            (Ok(2), at(9))
        });
    }

    #[test]
    fn a_panic_of_the_asker_lets_the_others_go_on() {
        let cache = Numbers::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cache.get(&"k", at(0), None, || panic!("a bug"));
        }));
        assert!(panicked.is_err());
        assert_eq!(cache.get(&"k", at(0), None, || (Ok(1), at(1))).result.unwrap(), 1);
    }
}
