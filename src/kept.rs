//! Values that are made at their first use, one for each key, such as clients by their settings.

use std::sync::{Arc, Mutex};

use crate::threads::lock;

/// Above so many, those that nobody uses are dropped, the one used longest ago first.
const MOST: usize = 500;

/// The last value is the one used last. They are few, and keys with secrets have no hash.
pub(crate) struct Kept<K, V>(Mutex<Vec<(K, Arc<V>)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Kept(Mutex::default())
    }
}

impl<K: Clone + PartialEq, V> Kept<K, V> {
    /// The value of this key. `make` runs under the lock.
    pub(crate) fn get(&self, key: &K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut values = lock(&self.0);
        let known = values.iter().position(|(known, _)| known == key);
        let entry = match known {
            Some(at) => values.remove(at),
            None => (key.clone(), Arc::new(make())),
        };
        let value = Arc::clone(&entry.1);
        values.push(entry);
        while values.len() > MOST {
            let unused = values.iter().position(|(_, value)| Arc::strong_count(value) == 1);
            let Some(at) = unused else { break };
            values.remove(at);
        }
        value
    }

    /// All that are kept.
    pub(crate) fn all(&self) -> Vec<Arc<V>> {
        lock(&self.0).iter().map(|(_, value)| Arc::clone(value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, MOST};

    #[test]
    fn a_value_is_made_once_and_dropped_only_when_others_are_used_more() {
        let kept = Kept::<usize, usize>::default();
        let held = kept.get(&0, || 0);
        for key in 1..=MOST {
            kept.get(&key, || key);
            assert_eq!(*kept.get(&2, || 2), 2);
        }
        assert_eq!(kept.all().len(), MOST);
        // One is held, two was used last; one was used longest ago.
        assert_eq!([0, 1, 2].map(|key| *kept.get(&key, || 99)), [0, 99, 2]);
        drop(held);
    }
}
