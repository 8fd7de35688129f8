//! A sorted list of records that is cheap to copy and cheap to change a copy of.
//!
//! Readers hold a whole, unchanging inventory while the writer makes the next one. Chunks are
//! shared between the copies: a change copies the list of chunks and the chunks it touches, so at
//! 50,000 records an upsert moves some hundred pointers and no record at all.

use std::cmp::Ordering;
use std::sync::Arc;

use super::contents::Stored;

/// A full chunk is split in two; small enough to copy, large enough to keep the list short.
const CHUNK_LIMIT: usize = 256;

/// The parts a list is sorted by, most significant first.
pub type Key<'a> = [&'a str; 3];

/// Records sorted by a key, each key once.
#[derive(Clone, Debug)]
pub struct Sorted {
    key: fn(&Stored) -> Key<'_>,
    /// None is empty; all in order.
    chunks: Vec<Arc<Vec<Arc<Stored>>>>,
    len: usize,
}

impl Sorted {
    /// An empty list, sorted by `key`.
    pub fn by(key: fn(&Stored) -> Key<'_>) -> Sorted {
        Sorted { key, chunks: Vec::new(), len: 0 }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The record with this key.
    pub fn get(&self, key: Key<'_>) -> Option<&Arc<Stored>> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let place = self.place_in(chunk, key).ok()?;
        chunk.get(place)
    }

    /// All records with a key of at least `from`, in order.
    pub fn starting_at<'a>(
        &'a self,
        from: Key<'_>,
    ) -> impl Iterator<Item = &'a Arc<Stored>> + use<'a> {
        let first = self.chunk_of(from);
        let skip = self
            .chunks
            .get(first)
            .map_or(0, |chunk| self.place_in(chunk, from).unwrap_or_else(|place| place));
        self.chunks.iter().skip(first).flat_map(|chunk| chunk.iter()).skip(skip)
    }

    /// All records, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Puts a record in, in place of the one with the same key.
    pub fn insert(&mut self, stored: Arc<Stored>) {
        let key = (self.key)(&stored);
        let index = self.chunk_of(key);
        let Some(chunk) = self.chunks.get(index) else {
            self.chunks.push(Arc::new(vec![stored]));
            self.len += 1;
            return;
        };
        let place = self.place_in(chunk, key);
        let chunk = Arc::make_mut(&mut self.chunks[index]);
        match place {
            Ok(place) => chunk[place] = stored,
            Err(place) => {
                chunk.insert(place, stored);
                self.len += 1;
            }
        }
        if chunk.len() > CHUNK_LIMIT {
            let upper = chunk.split_off(CHUNK_LIMIT / 2);
            self.chunks.insert(index + 1, Arc::new(upper));
        }
    }

    /// Takes the record with this key out.
    pub fn remove(&mut self, key: Key<'_>) -> Option<Arc<Stored>> {
        let index = self.chunk_of(key);
        let place = self.place_in(self.chunks.get(index)?, key).ok()?;
        let chunk = Arc::make_mut(&mut self.chunks[index]);
        let removed = chunk.remove(place);
        if chunk.is_empty() {
            self.chunks.remove(index);
        }
        self.len -= 1;
        Some(removed)
    }

    /// The chunk that holds the key, or would hold it: the last that begins at or before it.
    fn chunk_of(&self, key: Key<'_>) -> usize {
        let begins_at_or_before = |chunk: &Arc<Vec<Arc<Stored>>>| {
            chunk.first().is_some_and(|first| (self.key)(first) <= key)
        };
        self.chunks.partition_point(begins_at_or_before).saturating_sub(1)
    }

    fn place_in(&self, chunk: &[Arc<Stored>], key: Key<'_>) -> Result<usize, usize> {
        chunk.binary_search_by(|stored| -> Ordering { (self.key)(stored).cmp(&key) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{CHUNK_LIMIT, Key, Sorted};
    use crate::inventory::contents::Stored;
    use crate::inventory::record::tests::record;

    fn key(stored: &Stored) -> Key<'_> {
        [&stored.record.node_name, "", ""]
    }

    fn stored(number: usize) -> Arc<Stored> {
        let json = number.to_string().into_bytes().into();
        Arc::new(Stored { record: record(number), json, timeline: Vec::new(), version: 0 })
    }

    #[test]
    fn a_chunk_is_split_when_it_would_be_more_than_full() {
        let mut sorted = Sorted::by(key);
        (0..CHUNK_LIMIT).for_each(|number| sorted.insert(stored(number)));
        assert_eq!(sorted.chunks.len(), 1);
        sorted.insert(stored(CHUNK_LIMIT));
        let sizes: Vec<usize> = sorted.chunks.iter().map(|chunk| chunk.len()).collect();
        assert_eq!(sizes, [CHUNK_LIMIT / 2, CHUNK_LIMIT / 2 + 1]);
    }

    #[test]
    fn it_holds_what_a_plain_sorted_map_holds() {
        let mut rng = fastrand::Rng::with_seed(5);
        let (mut sorted, mut map) = (Sorted::by(key), BTreeMap::new());
        // Fills up to about a thousand, and empties again.
        for step in 0..6000 {
            let number = rng.usize(..1500);
            let name = record(number).node_name;
            if rng.usize(..6000) > step {
                sorted.insert(stored(number));
                map.insert(name.clone(), number);
            } else {
                let removed = sorted.remove([&name, "", ""]).map(|gone| gone.record.clone());
                assert_eq!(removed, map.remove(&name).map(record));
            }
            assert_eq!(sorted.get([&name, "", ""]).is_some(), map.contains_key(&name));
            assert_eq!((sorted.len(), sorted.is_empty()), (map.len(), map.is_empty()));
            if step % 50 == 0 {
                let names = |found: &Arc<Stored>| found.record.node_name.clone();
                assert!(sorted.iter().map(names).eq(map.keys().cloned()));
                let from_here = sorted.starting_at([&name, "", ""]).map(names);
                assert!(from_here.eq(map.range(name..).map(|(name, _)| name.clone())));
            }
        }
        for name in map.into_keys() {
            sorted.remove([&name, "", ""]).unwrap();
        }
        assert!(sorted.is_empty() && sorted.chunks.is_empty());
    }
}
