//! Small-integer allocator: descriptors, pids, minor numbers, mount ids.
//!
//! A bitmap with one summary bit per full word, so that finding the lowest free id looks at
//! `ids / 4096` words at most. Grows on demand up to a fixed limit. The owner brings the lock.

use crate::OutOfMemory;
use crate::bitmap::{BITS_PER_WORD, Bitmap};

/// Why no id was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdError {
    /// Every id in the allowed range is taken.
    NoSpace,
    /// The bitmap could not grow.
    OutOfMemory,
}

impl From<OutOfMemory> for IdError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Allocates ids in `min..max`.
#[derive(Debug)]
pub struct IdAlloc {
    used: Bitmap,
    /// Bit `w` set: word `w` of `used` is all ones.
    full: Bitmap,
    min: u32,
    max: u32,
    next: u32,
    count: u32,
}

impl IdAlloc {
    /// Ids in `min..max` (`max` excluded), none taken.
    pub const fn new(min: u32, max: u32) -> Self {
        Self { used: Bitmap::new(), full: Bitmap::new(), min, max, next: min, count: 0 }
    }

    /// Takes the lowest free id.
    pub fn alloc(&mut self) -> Result<u32, IdError> {
        self.alloc_range(self.min, self.max)
    }

    /// Takes the lowest free id in `from..to`, clipped to the allocator's own range.
    pub fn alloc_range(&mut self, from: u32, to: u32) -> Result<u32, IdError> {
        let id = self.find_free(from.max(self.min));
        if id >= to.min(self.max) as usize {
            return Err(IdError::NoSpace);
        }
        self.take(id)?;
        Ok(id as u32)
    }

    /// Takes the next free id after the last one handed out, wrapping at the end (pids).
    pub fn alloc_cyclic(&mut self) -> Result<u32, IdError> {
        let id = match self.alloc_range(self.next, self.max) {
            Err(IdError::NoSpace) => self.alloc_range(self.min, self.next),
            other => other,
        }?;
        self.next = id.saturating_add(1);
        Ok(id)
    }

    /// Where [`IdAlloc::alloc_cyclic`] continues (`/proc/sys/kernel/ns_last_pid` plus one).
    pub fn set_next(&mut self, next: u32) {
        self.next = next.max(self.min);
    }

    /// The id [`IdAlloc::alloc_cyclic`] would try first.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Changes the upper limit; ids already beyond it stay valid.
    pub fn set_max(&mut self, max: u32) {
        self.max = max;
    }

    /// Takes exactly `id`; `NoSpace` when it is taken or out of range.
    pub fn reserve(&mut self, id: u32) -> Result<(), IdError> {
        if id < self.min || id >= self.max || self.used.test(id as usize) {
            return Err(IdError::NoSpace);
        }
        self.take(id as usize)
    }

    /// Gives `id` back; returns whether it was taken.
    pub fn free(&mut self, id: u32) -> bool {
        let bit = id as usize;
        let was = self.used.clear(bit);
        if was {
            self.full.clear(bit / BITS_PER_WORD);
            self.count -= 1;
        }
        was
    }

    /// Whether `id` is taken.
    pub fn is_used(&self, id: u32) -> bool {
        self.used.test(id as usize)
    }

    /// How many ids are taken.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The lowest taken id at or after `from`.
    pub fn next_used(&self, from: u32) -> Option<u32> {
        self.used.next_set(from as usize).map(|id| id as u32)
    }

    fn find_free(&self, from: u32) -> usize {
        let from = from as usize;
        let word = from / BITS_PER_WORD;
        if word * BITS_PER_WORD < self.used.capacity() && !self.full.test(word) {
            let id = self.used.next_zero(from);
            if id < (word + 1) * BITS_PER_WORD {
                return id;
            }
        }
        let word = self.full.next_zero(if self.full.test(word) { word } else { word + 1 });
        if self.used.capacity() <= from {
            return from;
        }
        self.used.next_zero((word * BITS_PER_WORD).max(from))
    }

    fn take(&mut self, id: usize) -> Result<(), IdError> {
        let word = id / BITS_PER_WORD;
        self.full.try_grow(word + 1)?;
        self.used.set(id)?;
        self.count += 1;
        if self.used.words().get(word) == Some(&!0) {
            self.full.set(word)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn lowest_free_matches_a_set() {
        let mut ids = IdAlloc::new(3, 700);
        let mut model = BTreeSet::new();
        let mut seed = 7u64;
        for _ in 0..if cfg!(miri) { 300 } else { 20_000 } {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let pick = (seed >> 33) as u32;
            if pick % 5 < 3 {
                let want = (3..700).find(|id| !model.contains(id)).ok_or(IdError::NoSpace);
                assert_eq!(ids.alloc(), want);
                if let Ok(id) = want {
                    model.insert(id);
                }
            } else {
                let id = pick / 5 % 720;
                assert_eq!(ids.free(id), model.remove(&id));
            }
            assert_eq!(ids.count() as usize, model.len());
        }
    }

    #[test]
    fn cyclic_wraps() {
        let mut ids = IdAlloc::new(1, 5);
        assert_eq!([ids.alloc_cyclic(), ids.alloc_cyclic()], [Ok(1), Ok(2)]);
        assert!(ids.free(1));
        assert_eq!([ids.alloc_cyclic(), ids.alloc_cyclic()], [Ok(3), Ok(4)]);
        assert_eq!(ids.alloc_cyclic(), Ok(1));
        assert_eq!(ids.alloc_cyclic(), Err(IdError::NoSpace));
    }

    #[test]
    fn range_skips_full_words() {
        let mut ids = IdAlloc::new(0, 100_000);
        for want in 0..300 {
            assert_eq!(ids.alloc(), Ok(want));
        }
        assert_eq!(ids.alloc_range(10, 1000), Ok(300));
        assert_eq!(ids.alloc_range(5000, 6000), Ok(5000));
        assert!(ids.free(64));
        assert_eq!(ids.alloc_range(10, 1000), Ok(64));
        assert_eq!(ids.alloc_range(0, 100), Err(IdError::NoSpace));
        assert_eq!(ids.reserve(5000), Err(IdError::NoSpace));
        assert_eq!(ids.next_used(301), Some(5000));
    }
}
