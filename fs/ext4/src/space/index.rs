//! Which groups may have a run of free blocks of some length: a bitmap of groups for each power of two.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Result;
use mm::TryCollect;

/// Runs are up to 2^15 blocks (blocks of 4 KiB), so orders go from 0 to 15.
pub const ORDERS: u32 = 16;

/// See the module's text.
pub struct Index {
    /// `ORDERS` bitmaps, one behind the other.
    words: Box<[AtomicU64]>,
    groups: u32,
    per_order: usize,
}

impl Index {
    /// An index of `groups` groups that have nothing.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(groups: u32) -> Result<Self> {
        let per_order = groups.div_ceil(64) as usize;
        let words = (0..per_order * ORDERS as usize).map(|_| AtomicU64::new(0)).try_collect_vec()?;
        Ok(Self { words: words.into_boxed_slice(), groups, per_order })
    }

    fn word(&self, order: u32, group: u32) -> Option<&AtomicU64> {
        self.words.get(order as usize * self.per_order + group as usize / 64)
    }

    /// The longest run of a group is `longest` blocks. Under the group's lock.
    pub fn set(&self, group: u32, longest: u32) {
        let bit = 1 << (group % 64);
        for order in 0..ORDERS {
            let Some(word) = self.word(order, group) else { return };
            let has = longest >> order != 0;
            // Most calls change nothing: no write to a line that others read.
            if (word.load(Ordering::Relaxed) & bit != 0) != has {
                if has {
                    word.fetch_or(bit, Ordering::Relaxed);
                } else {
                    word.fetch_and(!bit, Ordering::Relaxed);
                }
            }
        }
    }

    /// The order from which on all runs are at least `len` long; for a `len` that is too long the last.
    pub fn order_for(len: u32) -> u32 {
        len.max(1).next_power_of_two().trailing_zeros().min(ORDERS - 1)
    }

    /// The first group of `from..to` that may have a run of 2^`order` blocks.
    pub fn next(&self, order: u32, from: u32, to: u32) -> Option<u32> {
        let mut group = from;
        let end = to.min(self.groups);
        while group < end {
            let word = self.word(order, group)?.load(Ordering::Relaxed) >> (group % 64);
            if word != 0 {
                let found = group + word.trailing_zeros();
                return (found < end).then_some(found);
            }
            group = (group / 64 + 1) * 64;
        }
        None
    }
}
