//! An ordered map of disjoint half-open ranges of `usize`, made for address spaces.
//!
//! It answers the questions that memory mappings ask: which range holds this address, which is
//! the first that ends after it (`find_vma`), which neighbours does it have, and where is the
//! highest (or lowest) gap that is large enough. The structure is a B+ tree of two levels:
//! leaves of up to [`LEAF`] entries, and one sorted directory of leaves. Lookups are two binary searches
//! over contiguous memory; a process with fewer than [`LEAF`] mappings has a single leaf.
//!
//! Every leaf carries an upper bound of the gaps that precede its entries, so that gap searches
//! skip leaves that cannot help. The bound is raised in O(1) by removals and tightened by a
//! search that found nothing in the leaf.
//!
//! All growth is fallible: [`RangeMap::insert`] is the only operation that allocates, and it changes
//! nothing when it fails. The map has no lock of its own.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most entries a leaf holds.
pub const LEAF: usize = 32;

/// Why an insertion did not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The range is empty or overlaps one that is present.
    Overlap,
    /// There is no memory for another entry.
    OutOfMemory,
}

/// One range and its value.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    start: usize,
    end: usize,
    /// What is kept for the range.
    pub value: T,
}

impl<T> Entry<T> {
    /// The first address of the range.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The first address after the range.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The range itself.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

#[derive(Debug)]
struct Leaf<T> {
    /// No entry of this leaf is preceded by a larger gap.
    gap_bound: AtomicUsize,
    entries: Vec<Entry<T>>,
}

impl<T> Leaf<T> {
    fn last_end(&self) -> usize {
        self.entries.last().map_or(0, |e| e.end)
    }
}

/// A position in the map: leaf and entry within it.
type Position = (usize, usize);

/// The map. See the module documentation.
#[derive(Debug)]
pub struct RangeMap<T> {
    leaves: Vec<Leaf<T>>,
    len: usize,
}

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> RangeMap<T> {
    /// An empty map. Allocates nothing.
    pub const fn new() -> Self {
        Self { leaves: Vec::new(), len: 0 }
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no range at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The position of the first entry that ends after `addr`; one past the end if none does.
    fn locate(&self, addr: usize) -> Position {
        let leaf = self.leaves.partition_point(|l| l.last_end() <= addr);
        match self.leaves.get(leaf) {
            Some(l) => (leaf, l.entries.partition_point(|e| e.end <= addr)),
            None => (leaf, 0),
        }
    }

    fn at(&self, (leaf, index): Position) -> Option<&Entry<T>> {
        self.leaves.get(leaf)?.entries.get(index)
    }

    fn next_position(&self, (leaf, index): Position) -> Position {
        match self.leaves.get(leaf) {
            Some(l) if index + 1 < l.entries.len() => (leaf, index + 1),
            _ => (leaf + 1, 0),
        }
    }

    fn prev_position(&self, (leaf, index): Position) -> Option<Position> {
        if index > 0 {
            return Some((leaf, index - 1));
        }
        let leaf = leaf.checked_sub(1)?;
        Some((leaf, self.leaves.get(leaf)?.entries.len().checked_sub(1)?))
    }

    /// The end of the entry before `position`, or 0.
    fn end_before(&self, position: Position) -> usize {
        self.prev_position(position).and_then(|p| self.at(p)).map_or(0, |e| e.end)
    }

    /// The range that contains `addr`.
    pub fn get(&self, addr: usize) -> Option<&Entry<T>> {
        self.at(self.locate(addr)).filter(|e| e.start <= addr)
    }

    /// The first range that ends after `addr`: it contains `addr` or lies wholly above it.
    pub fn first_ending_after(&self, addr: usize) -> Option<&Entry<T>> {
        self.at(self.locate(addr))
    }

    /// The last range that ends at or below `addr`.
    pub fn last_ending_by(&self, addr: usize) -> Option<&Entry<T>> {
        self.prev_position(self.locate(addr)).and_then(|p| self.at(p))
    }

    /// The first range that ends after `addr`, and its lower neighbour.
    pub fn first_ending_after_with_prev(&self, addr: usize) -> (Option<&Entry<T>>, Option<&Entry<T>>) {
        let position = self.locate(addr);
        (self.at(position), self.prev_position(position).and_then(|p| self.at(p)))
    }

    /// The lowest range.
    pub fn first(&self) -> Option<&Entry<T>> {
        self.at((0, 0))
    }

    /// The highest range.
    pub fn last(&self) -> Option<&Entry<T>> {
        self.leaves.last()?.entries.last()
    }

    /// Whether any range overlaps `range`.
    pub fn intersects(&self, range: Range<usize>) -> bool {
        self.first_ending_after(range.start).is_some_and(|e| e.start < range.end)
    }

    /// All ranges in ascending order.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { map: self, position: (0, 0), end: usize::MAX }
    }

    /// The ranges that overlap `range`, in ascending order.
    pub fn overlapping(&self, range: Range<usize>) -> Iter<'_, T> {
        Iter { map: self, position: self.locate(range.start), end: range.end }
    }

    /// Adds a range that must not overlap any other.
    pub fn insert(&mut self, range: Range<usize>, value: T) -> Result<(), InsertError> {
        if range.start >= range.end {
            return Err(InsertError::Overlap);
        }
        let position = self.locate(range.start);
        if self.at(position).is_some_and(|e| e.start < range.end) {
            return Err(InsertError::Overlap);
        }
        let gap = range.start - self.end_before(position);
        let (leaf, index) = self.make_room(position)?;
        let entry = Entry { start: range.start, end: range.end, value };
        let Some(l) = self.leaves.get_mut(leaf) else { return Err(InsertError::OutOfMemory) };
        l.gap_bound.store(l.gap_bound.load(Relaxed).max(gap), Relaxed);
        l.entries.insert(index, entry);
        self.len += 1;
        // The gap before the successor only became smaller; when it lies in the next leaf its
        // bound stays an upper bound as well.
        Ok(())
    }

    /// Makes sure that the leaf at `position` has room for one more entry.
    fn make_room(&mut self, (leaf, index): Position) -> Result<Position, InsertError> {
        if leaf == self.leaves.len() {
            // Above everything: append to the last leaf, or begin a new one.
            if let Some(last) = self.leaves.last()
                && last.entries.len() < LEAF
            {
                return Ok((leaf - 1, last.entries.len()));
            }
            self.add_leaf(leaf)?;
            return Ok((leaf, 0));
        }
        if self.leaves[leaf].entries.len() < LEAF {
            return Ok((leaf, index));
        }
        self.add_leaf(leaf + 1)?;
        let bound = self.leaves[leaf].gap_bound.load(Relaxed);
        let (low, high) = self.leaves.split_at_mut(leaf + 1);
        let (low, high) = (&mut low[leaf], &mut high[0]);
        high.gap_bound.store(bound, Relaxed);
        // The capacity of a leaf is LEAF from the start: this cannot allocate.
        high.entries.extend(low.entries.drain(LEAF / 2..));
        Ok(if index <= LEAF / 2 { (leaf, index) } else { (leaf + 1, index - LEAF / 2) })
    }

    fn add_leaf(&mut self, at: usize) -> Result<(), InsertError> {
        self.leaves.try_reserve(1).map_err(|_| InsertError::OutOfMemory)?;
        let mut entries = Vec::new();
        entries.try_reserve_exact(LEAF).map_err(|_| InsertError::OutOfMemory)?;
        self.leaves.insert(at, Leaf { gap_bound: AtomicUsize::new(0), entries });
        Ok(())
    }

    /// Takes out the range that starts at exactly `start`.
    pub fn remove(&mut self, start: usize) -> Option<Entry<T>> {
        let position = self.locate(start);
        self.at(position).filter(|e| e.start == start)?;
        let prev_end = self.end_before(position);
        let (leaf, index) = position;
        let entry = self.leaves.get_mut(leaf)?.entries.remove(index);
        self.len -= 1;
        if self.leaves[leaf].entries.is_empty() {
            self.leaves.remove(leaf);
        }
        // The successor (wherever it is now) has a larger gap before it.
        self.raise_bound_after(entry.start, prev_end);
        Some(entry)
    }

    /// Raises the gap bound of the leaf that holds the first entry above `addr`.
    fn raise_bound_after(&mut self, addr: usize, prev_end: usize) {
        let position = self.locate(addr);
        if let Some(next_start) = self.at(position).map(|e| e.start) {
            let bound = &self.leaves[position.0].gap_bound;
            bound.store(bound.load(Relaxed).max(next_start.saturating_sub(prev_end)), Relaxed);
        }
    }

    /// Gives the range that starts at `start` new limits, which must not reach its neighbours.
    /// Returns whether that was possible.
    pub fn set_range(&mut self, start: usize, new: Range<usize>) -> bool {
        let position = self.locate(start);
        let prev_end = self.end_before(position);
        let next_start = self.at(self.next_position(position)).map_or(usize::MAX, |e| e.start);
        if new.start >= new.end || new.start < prev_end || new.end > next_start {
            return false;
        }
        let (leaf, index) = position;
        let Some(l) = self.leaves.get_mut(leaf) else { return false };
        let Some(entry) = l.entries.get_mut(index).filter(|e| e.start == start) else {
            return false;
        };
        (entry.start, entry.end) = (new.start, new.end);
        l.gap_bound.store(l.gap_bound.load(Relaxed).max(new.start - prev_end), Relaxed);
        self.raise_bound_after(new.end, new.end);
        true
    }

    /// The highest address at which `len` bytes fit inside `limits` without touching a range.
    /// `guard` tells how many bytes below a range must stay free as well.
    pub fn find_gap_top_down(
        &self,
        limits: Range<usize>,
        len: usize,
        align: usize,
        guard: impl Fn(&T) -> usize,
    ) -> Option<usize> {
        let fit = |low: usize, high: usize| {
            let low = low.max(limits.start);
            let start = high.min(limits.end).checked_sub(len)? & !(align - 1);
            (start >= low).then_some(start)
        };
        let mut high = usize::MAX;
        for (number, leaf) in self.leaves.iter().enumerate().rev() {
            // The gap above the leaf's last entry belongs to the next leaf, but begins here.
            if let Some(start) = fit(leaf.last_end(), high) {
                return Some(start);
            }
            let first = leaf.entries.first()?;
            if leaf.gap_bound.load(Relaxed) >= len {
                let mut widest = 0;
                for pair in leaf.entries.windows(2).rev() {
                    let [lower, upper] = pair else { continue };
                    let top = upper.start.saturating_sub(guard(&upper.value));
                    widest = widest.max(upper.start - lower.end);
                    if let Some(start) = fit(lower.end, top) {
                        return Some(start);
                    }
                }
                let before = self.end_before((number, 0));
                leaf.gap_bound.store(widest.max(first.start - before), Relaxed);
            }
            high = first.start.saturating_sub(guard(&first.value));
            if high <= limits.start {
                return None;
            }
        }
        fit(0, high)
    }

    /// The lowest address at which `len` bytes fit inside `limits`; see [`Self::find_gap_top_down`].
    pub fn find_gap_bottom_up(
        &self,
        limits: Range<usize>,
        len: usize,
        align: usize,
        guard: impl Fn(&T) -> usize,
    ) -> Option<usize> {
        let fit = |low: usize, high: usize| {
            let start = low.max(limits.start).checked_add(align - 1)? & !(align - 1);
            (start.checked_add(len)? <= high.min(limits.end)).then_some(start)
        };
        let mut low = 0;
        for leaf in &self.leaves {
            if leaf.last_end() <= limits.start || leaf.gap_bound.load(Relaxed) < len {
                low = leaf.last_end();
                continue;
            }
            for entry in &leaf.entries {
                if let Some(start) = fit(low, entry.start.saturating_sub(guard(&entry.value))) {
                    return Some(start);
                }
                low = entry.end;
            }
            if low >= limits.end {
                return None;
            }
        }
        fit(low, usize::MAX)
    }

    /// Takes out every range, in ascending order.
    pub fn drain(&mut self) -> impl Iterator<Item = Entry<T>> + use<T> {
        self.len = 0;
        core::mem::take(&mut self.leaves).into_iter().flat_map(|leaf| leaf.entries)
    }
}

/// Iterator over ranges in ascending order.
#[derive(Debug)]
pub struct Iter<'a, T> {
    map: &'a RangeMap<T>,
    position: Position,
    end: usize,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a Entry<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.map.at(self.position).filter(|e| e.start < self.end)?;
        self.position = self.map.next_position(self.position);
        Some(entry)
    }
}

impl<'a, T> IntoIterator for &'a RangeMap<T> {
    type Item = &'a Entry<T>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    /// A small generator; the sequences must be the same on every run.
    struct Rng(u64);
    impl Rng {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % n
        }
    }

    fn model_gap_down(
        model: &BTreeMap<usize, (usize, usize)>,
        limits: &Range<usize>,
        len: usize,
    ) -> Option<usize> {
        (limits.start..=limits.end.checked_sub(len)?).rev().find(|&s| {
            let below = model.range(..=s).next_back().is_none_or(|(_, &(end, _))| end <= s);
            // Only the guard of the next range counts, as in an address space.
            let above = model.range(s..).next();
            below && above.is_none_or(|(&start, &(_, guard))| s + len <= start.saturating_sub(guard))
        })
    }

    #[test]
    fn behaves_like_the_model() {
        let mut rng = Rng(7);
        for round in 0..if cfg!(miri) { 1 } else { 20 } {
            let mut map = RangeMap::new();
            let mut model: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
            for step in 0..600 {
                let start = rng.below(2000);
                let len = 1 + rng.below(6);
                match rng.below(6) {
                    0..=2 => {
                        let free = model.iter().all(|(&s, &(e, _))| start + len <= s || e <= start);
                        let guard = if rng.below(8) == 0 { 3 } else { 0 };
                        let done = map.insert(start..start + len, guard).is_ok();
                        assert_eq!(done, free, "round {round} step {step}");
                        if free {
                            model.insert(start, (start + len, guard));
                        }
                    }
                    3 => {
                        let gone = map.remove(start).map(|e| e.end());
                        assert_eq!(gone, model.remove(&start).map(|(e, _)| e));
                    }
                    4 => {
                        if let Some((&s, &(_, guard))) = model.range(start..).next() {
                            let new = start..start + len;
                            let free =
                                model.iter().all(|(&a, &(e, _))| a == s || new.end <= a || e <= new.start);
                            // Only moves that keep the order are possible.
                            let prev = model.range(..s).next_back().map_or(0, |(_, &(e, _))| e);
                            let ok = free && new.start >= prev && {
                                let next = model.range(s + 1..).next().map_or(usize::MAX, |(&a, _)| a);
                                new.end <= next
                            };
                            assert_eq!(map.set_range(s, new.clone()), ok);
                            if ok {
                                model.remove(&s);
                                model.insert(new.start, (new.end, guard));
                            }
                        }
                    }
                    _ => {
                        let limits = start / 2..start + 50;
                        let found = map.find_gap_top_down(limits.clone(), len, 1, |g| *g);
                        assert_eq!(found, model_gap_down(&model, &limits, len));
                        let up = map.find_gap_bottom_up(limits.clone(), len, 1, |g| *g);
                        assert_eq!(up.is_some(), found.is_some());
                        if let (Some(up), Some(down)) = (up, found) {
                            assert!(up <= down);
                        }
                    }
                }
                assert_eq!(map.len(), model.len());
                let found = map.first_ending_after(start).map(|e| e.start());
                let expect = model.iter().find(|(_, (e, _))| *e > start).map(|(s, _)| *s);
                assert_eq!(found, expect);
                let prev = map.last_ending_by(start).map(|e| e.start());
                let expect = model.iter().rfind(|(_, (e, _))| *e <= start).map(|(s, _)| *s);
                assert_eq!(prev, expect);
            }
            assert!(map.iter().map(|e| e.start()).eq(model.keys().copied()));
        }
    }

    #[test]
    fn many_ascending_ranges_fill_leaves() {
        let mut map = RangeMap::new();
        for n in 0..1000 {
            map.insert(n * 2..n * 2 + 1, n).unwrap();
        }
        assert_eq!(map.leaves.len(), 1000usize.div_ceil(LEAF));
        assert_eq!(map.overlapping(100..111).map(|e| e.value).collect::<Vec<_>>(), [50, 51, 52, 53, 54, 55]);
        assert_eq!(map.drain().count(), 1000);
        assert!(map.is_empty());
    }
}
