//! An ordered map whose growth can fail.
//!
//! The interface is that of `alloc`'s `BTreeMap` as far as the kernel uses it, but for [`SortedMap::try_insert`]: `BTreeMap` has no
//! fallible insertion. A tree of two levels as in [`crate::rangemap`]: leaves of up to [`LEAF`] entries, and the vector of the leaves.
//! Lookups are two binary searches; a leaf that is full is split. With a million entries an insertion moves 16 KiB of
//! the upper level once in 32 times.

use crate::OutOfMemory;
use crate::fallible::TryVec;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;

/// The most entries a leaf holds.
const LEAF: usize = 64;

type Leaf<K, V> = Vec<(K, V)>;

/// The map. No leaf is empty.
pub struct SortedMap<K, V> {
    leaves: Vec<Leaf<K, V>>,
    len: usize,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// An empty map. Allocates nothing.
    pub const fn new() -> Self {
        Self { leaves: Vec::new(), len: 0 }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, by key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.leaves.iter().flatten().map(|(key, value)| (key, value))
    }

    /// All entries, by key; the values can be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&K, &mut V)> {
        self.leaves.iter_mut().flatten().map(|(key, value)| (&*key, value))
    }

    /// All keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, by key.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All values, by key; they can be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// All values, by key; ends the map.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.leaves.into_iter().flatten().map(|(_, value)| value)
    }

    /// The entry with the lowest key.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// The entry with the highest key.
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// Drops all entries.
    pub fn clear(&mut self) {
        self.leaves.clear();
        self.len = 0;
    }

    /// Keeps the entries that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.leaves.retain_mut(|leaf| {
            leaf.retain_mut(|(key, value)| keep(key, value));
            !leaf.is_empty()
        });
        self.len = self.leaves.iter().map(Vec::len).sum();
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// The leaf that `key` is in or would be in.
    fn leaf_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let after = self.leaves.partition_point(|leaf| leaf.first().is_some_and(|e| e.0.borrow() <= key));
        after.saturating_sub(1)
    }

    /// The leaf, and the place in it: of the entry, or where it would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let leaf = self.leaf_of(key);
        let place = self.leaves.get(leaf).map_or(Err(0), |l| l.binary_search_by(|e| e.0.borrow().cmp(key)));
        (leaf, place)
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (leaf, place) = self.find(key);
        Some(&self.leaves.get(leaf)?.get(place.ok()?)?.1)
    }

    /// The value of `key`, to change it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (leaf, place) = self.find(key);
        Some(&mut self.leaves.get_mut(leaf)?.get_mut(place.ok()?)?.1)
    }

    /// Whether there is an entry of `key`.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).1.is_ok()
    }

    /// The entries from `key` on.
    pub fn range_from<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (leaf, place) = self.find(key);
        let place = place.unwrap_or_else(|place| place);
        let mut leaves = self.leaves.get(leaf..).unwrap_or_default().iter();
        let first = leaves.next().and_then(|l| l.get(place..)).unwrap_or_default();
        first.iter().chain(leaves.flatten()).map(|(key, value)| (key, value))
    }

    /// Adds an entry, or replaces the value of one. Returns the old value.
    ///
    /// # Errors
    /// `OutOfMemory`: nothing has changed, and `key` and `value` are dropped.
    pub fn try_insert(&mut self, key: K, value: V) -> Result<Option<V>, OutOfMemory> {
        let (mut leaf, place) = self.find(&key);
        let mut place = match place {
            Ok(place) => {
                let old = self.leaves.get_mut(leaf).and_then(|l| l.get_mut(place));
                return Ok(old.map(|entry| core::mem::replace(&mut entry.1, value)));
            }
            Err(place) => place,
        };
        if self.leaves.is_empty() {
            let mut first = Vec::new();
            first.try_push((key, value))?;
            self.leaves.try_push(first)?;
            self.len = 1;
            return Ok(None);
        }
        if self.leaves.get(leaf).is_some_and(|l| l.len() >= LEAF) {
            // Keys that grow leave full leaves behind.
            let appends = leaf + 1 == self.leaves.len() && place == LEAF;
            let at = if appends { LEAF } else { LEAF / 2 };
            self.leaves.try_reserve(1)?;
            let mut upper = Vec::new();
            upper.try_reserve_exact(LEAF)?;
            if let Some(lower) = self.leaves.get_mut(leaf) {
                upper.extend(lower.drain(at..));
            }
            self.leaves.insert(leaf + 1, upper);
            if place > at || appends {
                leaf += 1;
                place -= at;
            }
        }
        if let Some(entries) = self.leaves.get_mut(leaf) {
            entries.try_insert(place, (key, value))?;
            self.len += 1;
        }
        Ok(None)
    }

    /// The value of `key`, after inserting what `default` makes if there was none.
    ///
    /// # Errors
    /// `OutOfMemory`: nothing has changed.
    pub fn try_get_or_insert_with(
        &mut self,
        key: K,
        default: impl FnOnce() -> V,
    ) -> Result<&mut V, OutOfMemory>
    where
        K: Clone,
    {
        if !self.contains_key(&key) {
            self.try_insert(key.clone(), default())?;
        }
        self.get_mut(&key).ok_or(OutOfMemory)
    }

    /// Takes an entry out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_entry(key).map(|(_, value)| value)
    }

    /// Takes an entry out, with its key.
    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let (leaf, place) = self.find(key);
        let entries = self.leaves.get_mut(leaf)?;
        let removed = entries.remove(place.ok()?);
        if entries.is_empty() {
            self.leaves.remove(leaf);
        }
        self.len -= 1;
        Some(removed)
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u16, u32),
        Remove(u16),
        Retain(u16),
        From(u16),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let key = 0u16..600;
        let one = prop_oneof![
            8 => (key.clone(), any::<u32>()).prop_map(|(k, v)| Op::Insert(k, v)),
            3 => key.clone().prop_map(Op::Remove),
            1 => (2u16..9).prop_map(Op::Retain),
            1 => key.prop_map(Op::From),
        ];
        proptest::collection::vec(one, 0..900)
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree(ops in ops()) {
            let (mut map, mut model) = (SortedMap::new(), BTreeMap::new());
            for op in ops {
                match op {
                    Op::Insert(k, v) => prop_assert_eq!(map.try_insert(k, v).unwrap(), model.insert(k, v)),
                    Op::Remove(k) => prop_assert_eq!(map.remove(&k), model.remove(&k)),
                    Op::Retain(n) if n == 2 => {
                        map.retain(|k, _| k % n != 0);
                        model.retain(|k, _| k % n != 0);
                    }
                    Op::Retain(_) => {}
                    Op::From(k) => prop_assert!(map.range_from(&k).eq(model.range(k..))),
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert!(map.leaves.iter().all(|l| !l.is_empty() && l.len() <= LEAF));
            }
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!(map.values().rev().eq(model.values().rev()));
            prop_assert_eq!(map.first_key_value(), model.first_key_value());
            prop_assert_eq!(map.last_key_value(), model.last_key_value());
        }
    }

    #[test]
    fn keys_that_grow_fill_the_leaves() {
        let mut map = SortedMap::new();
        (0..640).for_each(|n| assert_eq!(map.try_insert(n, n), Ok(None)));
        assert_eq!(map.leaves.len(), 10);
        *map.try_get_or_insert_with(3, || 0).unwrap() += 1;
        assert_eq!((map.get(&3), map.get(&640)), (Some(&4), None));
    }
}
