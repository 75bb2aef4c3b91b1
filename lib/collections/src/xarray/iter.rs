//! Walking a range in index order.

use core::ops::RangeInclusive;

use super::entry::{EntryRef, PointerLike};
use super::node::{Node, SHIFT, SLOTS, slot_of};
use super::{Mark, XArray};
use crate::bitmap::find_next_set;

impl<T: PointerLike> XArray<T> {
    /// The first entry (value or shadow) with an index in `range`.
    pub fn next_entry(&self, range: RangeInclusive<u64>) -> Option<(u64, EntryRef<'_, T>)> {
        self.find(*range.start(), *range.end(), None)
    }

    /// The first value with an index in `range`.
    pub fn next(&self, range: RangeInclusive<u64>) -> Option<(u64, &T)> {
        let (mut from, to) = range.into_inner();
        loop {
            match self.find(from, to, None)? {
                (index, EntryRef::Value(value)) => return Some((index, value)),
                (index, EntryRef::Shadow(_)) => from = index.checked_add(1)?,
            }
        }
    }

    /// The first value in `range` that has `mark`.
    pub fn next_marked(&self, range: RangeInclusive<u64>, mark: Mark) -> Option<(u64, &T)> {
        match self.find(*range.start(), *range.end(), Some(mark))? {
            (index, EntryRef::Value(value)) => Some((index, value)),
            _ => None,
        }
    }

    /// The first index at or after `from` that holds no value, looking at most at `max` indices
    /// (Linux's `page_cache_next_miss`); `None` if all of them hold one.
    pub fn next_gap(&self, from: u64, max: u64) -> Option<u64> {
        (0..max).map_while(|step| from.checked_add(step)).find(|&index| self.get(index).is_none())
    }

    /// The last index at or before `from` that holds no value, looking at most at `max` indices.
    pub fn prev_gap(&self, from: u64, max: u64) -> Option<u64> {
        (0..max).map_while(|step| from.checked_sub(step)).find(|&index| self.get(index).is_none())
    }

    /// Values of `range` in index order.
    pub fn range(&self, range: RangeInclusive<u64>) -> Iter<'_, T> {
        let (from, to) = range.into_inner();
        Iter { array: self, next: Some(from), to }
    }

    /// All values in index order.
    pub fn iter(&self) -> Iter<'_, T> {
        self.range(0..=u64::MAX)
    }

    fn find(&self, from: u64, to: u64, mark: Option<Mark>) -> Option<(u64, EntryRef<'_, T>)> {
        if from > to || from > self.max_index() {
            return None;
        }
        let found = find_below(self.root.node_ref()?, 0, from, mark)?;
        (found.0 <= to).then_some(found)
    }
}

/// The first entry at or after `from` below `node`, whose first index is `base`.
fn find_below<T: PointerLike>(
    node: &Node,
    base: u64,
    from: u64,
    mark: Option<Mark>,
) -> Option<(u64, EntryRef<'_, T>)> {
    let mut slot = if from > base { slot_of(from, node.shift) } else { 0 };
    while slot < SLOTS {
        if let Some(mark) = mark {
            slot = find_next_set(&[node.marks[mark as usize]], slot)?;
        }
        let index = base | (slot as u64) << node.shift;
        if let Some(child) = node.slots[slot].node_ref() {
            debug_assert!(child.shift + SHIFT == node.shift);
            if let Some(found) = find_below(child, index, from.max(index), mark) {
                return Some(found);
            }
        } else if let Some(entry) = node.slots[slot].entry_ref::<T>() {
            return Some((index, entry));
        }
        slot += 1;
    }
    None
}

/// Iterator over values; see [`XArray::range`].
pub struct Iter<'a, T: PointerLike> {
    array: &'a XArray<T>,
    next: Option<u64>,
    to: u64,
}

impl<'a, T: PointerLike> Iterator for Iter<'a, T> {
    type Item = (u64, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        let (index, value) = self.array.next(self.next?..=self.to)?;
        self.next = index.checked_add(1);
        Some((index, value))
    }
}
