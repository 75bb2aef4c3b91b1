//! Tags: small numbers, each of which one request has at a time.
//!
//! A bitmap whose words lie in cache lines of their own. Each CPU begins to look where it found or freed a tag last, so that CPUs stay apart
//! while there are many tags, and reuse what is in their caches. Who finds none may wait.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::cpu::{self, MAX_CPUS};
use mm::fallible::{try_into_boxed_slice, try_with_capacity};
use sched::{Wait, WaitQueue};
use sync::CachePadded;

/// The numbers below some depth.
pub(crate) struct Tags {
    words: Box<[CachePadded<AtomicU64>]>,
    /// Tags in a word, a power of two.
    per_word: u32,
    depth: u32,
    /// Where each CPU looks first: a tag.
    hints: Box<[CachePadded<AtomicU32>]>,
    waiters: WaitQueue,
}

/// Some tags out of one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagSet {
    first: u32,
    bits: u64,
}

impl TagSet {
    /// Takes one out.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let bit = self.bits.trailing_zeros();
        if bit == 64 {
            return None;
        }
        self.bits &= self.bits - 1;
        Some(self.first + bit)
    }

    pub(crate) fn len(self) -> usize {
        self.bits.count_ones() as usize
    }
}

impl Tags {
    /// Tags `0..depth`.
    pub(crate) fn new(depth: u32) -> Result<Self> {
        if depth == 0 || depth > 1 << 16 {
            return Err(Errno::EINVAL);
        }
        // At least four words, so that CPUs can keep apart, but not less than eight tags in each.
        let per_word = (depth / 4).next_power_of_two().clamp(8, 64);
        let mut words = try_with_capacity(depth.div_ceil(per_word) as usize)?;
        let missing = |word: u32| {
            let tags = (depth - word * per_word).min(per_word);
            if tags == 64 { 0 } else { u64::MAX << tags }
        };
        // What lies beyond the depth is taken for good.
        words.extend(
            (0..depth.div_ceil(per_word)).map(|word| CachePadded::new(AtomicU64::new(missing(word)))),
        );
        let mut hints = try_with_capacity(MAX_CPUS)?;
        hints
            .extend((0..MAX_CPUS as u32).map(|cpu| CachePadded::new(AtomicU32::new(cpu * per_word % depth))));
        let (words, hints) = (try_into_boxed_slice(words)?, try_into_boxed_slice(hints)?);
        Ok(Self { words, per_word, depth, hints, waiters: WaitQueue::new() })
    }

    /// Takes up to `most` tags out of one word; none if all are taken.
    pub(crate) fn get(&self, most: usize) -> TagSet {
        let hint = &self.hints[cpu::current().index()].0;
        let start = hint.load(Ordering::Relaxed).min(self.depth - 1);
        let (mut index, mut from) = (start / self.per_word, start % self.per_word);
        // The first word is looked at twice: from the hint on, and at the end as a whole.
        for _ in 0..=self.words.len() {
            if let Some(bits) = self.words.get(index as usize).and_then(|word| take(&word.0, from, most)) {
                let set = TagSet { first: index * self.per_word, bits };
                hint.store(set.first + (64 - bits.leading_zeros()) % self.per_word, Ordering::Relaxed);
                return set;
            }
            index = if index as usize + 1 < self.words.len() { index + 1 } else { 0 };
            from = 0;
        }
        TagSet::default()
    }

    /// Takes one, waiting for it if need be.
    pub(crate) fn get_waiting(&self) -> u32 {
        loop {
            // Exclusive: each tag that is freed wakes one.
            let tag = self.waiters.wait(Wait::UNINTERRUPTIBLE.exclusive(), || self.get(1).pop());
            if let Ok(tag) = tag {
                return tag;
            }
        }
    }

    /// Gives one back, of tags that nobody waits for.
    #[inline]
    pub(crate) fn put_quietly(&self, tag: u32) {
        self.clear(TagSet { first: tag / self.per_word * self.per_word, bits: 1 << (tag % self.per_word) });
        self.hints[cpu::current().index()].0.store(tag, Ordering::Relaxed);
    }

    /// Gives one back.
    #[inline]
    pub(crate) fn put(&self, tag: u32) {
        self.put_set(TagSet { first: tag / self.per_word * self.per_word, bits: 1 << (tag % self.per_word) });
        self.hints[cpu::current().index()].0.store(tag, Ordering::Relaxed);
    }

    /// Gives several back.
    pub(crate) fn put_set(&self, set: TagSet) {
        self.clear(set);
        if set.bits != 0 && self.waiters.has_waiters() {
            self.waiters.wake(sched::State::NORMAL, set.len(), sched::PollEvents::empty());
        }
    }

    fn clear(&self, set: TagSet) {
        let Some(word) = self.words.get((set.first / self.per_word) as usize) else { return };
        let old = word.0.fetch_and(!set.bits, Ordering::AcqRel);
        debug_assert_eq!(old & set.bits, set.bits, "a tag was given back twice");
    }

    /// How many are taken: at the moment of asking.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> u32 {
        let taken: u32 = self.words.iter().map(|word| word.0.load(Ordering::Relaxed).count_ones()).sum();
        taken - (self.words.len() as u32 * 64 - self.depth)
    }
}

/// Takes up to `most` free bits of a word at or behind bit `from`.
fn take(word: &AtomicU64, from: u32, most: usize) -> Option<u64> {
    let mut old = word.load(Ordering::Relaxed);
    loop {
        let mut free = !old & (u64::MAX << from);
        if free == 0 {
            return None;
        }
        let mut bits = 0;
        for _ in 0..most.max(1) {
            bits |= free & free.wrapping_neg();
            free &= free.wrapping_sub(1);
        }
        match word.compare_exchange_weak(old, old | bits, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(bits),
            Err(new) => old = new,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn as_a_set(depth in 1u32..300, steps in proptest::collection::vec((any::<bool>(), 1usize..70), 0..100)) {
            let tags = Tags::new(depth).unwrap();
            let mut model = BTreeSet::new();
            for (get, n) in steps {
                if get {
                    let mut set = tags.get(n);
                    prop_assert!(set.len() <= n);
                    prop_assert_eq!(set.len() == 0, model.len() == depth as usize);
                    while let Some(tag) = set.pop() {
                        prop_assert!(tag < depth && model.insert(tag));
                    }
                } else if let Some(&tag) = model.iter().nth(n % model.len().max(1)) {
                    model.remove(&tag);
                    tags.put(tag);
                }
                prop_assert_eq!(tags.in_use() as usize, model.len());
            }
        }
    }

    #[test]
    fn whoever_waits_gets_one() {
        let tags = Arc::new(Tags::new(3).unwrap());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let tags = tags.clone();
                std::thread::spawn(move || {
                    for _ in 0..2000 {
                        let tag = tags.get_waiting();
                        std::hint::black_box(tag);
                        tags.put(tag);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(tags.in_use(), 0);
    }

    #[test]
    fn no_depth_is_refused() {
        assert_eq!(Tags::new(0).err(), Some(Errno::EINVAL));
        assert_eq!(Tags::new(70_000).err(), Some(Errno::EINVAL));
    }
}
