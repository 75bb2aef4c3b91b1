//! How much is free: numbers that every CPU counts in a part of its own.
//!
//! A sum is as exact as its parts hold still. Far from the end of the space that is enough: a claim looks at the sum and counts
//! itself. Near to the end claims are made one after the other under a lock, and are exact.

use core::sync::atomic::{AtomicI64, Ordering};

use abi::{Errno, Result};
use arch::percpu::PerCpuBox;
use sched::mutex::Mutex;

/// A number in parts, one for each CPU.
pub struct Counter(PerCpuBox<AtomicI64>);

impl Counter {
    /// A counter that begins with `value`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(value: i64) -> Result<Self> {
        let parts = PerCpuBox::new(|_| AtomicI64::new(0)).ok_or(Errno::ENOMEM)?;
        parts.get_any().store(value, Ordering::Relaxed);
        Ok(Self(parts))
    }

    /// Adds a number, that may be negative.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.get_any().fetch_add(n, Ordering::Relaxed);
    }

    /// The sum of all parts, at least 0.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|part| part.load(Ordering::Relaxed)).sum::<i64>().max(0) as u64
    }
}

/// Who may have the last of the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Everybody: not the reserved blocks.
    Leave,
    /// The administrator, or whom the super block names (`CAP_SYS_RESOURCE`, `s_def_resuid`, `s_def_resgid`).
    Root,
    /// What was promised already: also the blocks that are kept for metadata of data that is being written back.
    Promised,
}

/// Free space in clusters, and what of it is promised.
pub struct Space {
    free: Counter,
    /// Promised to data that was not written yet.
    promised: Counter,
    /// `r_blocks_count`.
    reserved: u64,
    /// Kept for metadata (`reserved_clusters`).
    kept: u64,
    near_end: Mutex<()>,
}

/// Below this sum claims are exact.
const EXACT: u64 = 1 << 13;

impl Space {
    /// As the group descriptors say.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(free: u64, total: u64, reserved: u64, has_extents: bool) -> Result<Self> {
        Ok(Self {
            free: Counter::new(free as i64)?,
            promised: Counter::new(0)?,
            reserved,
            // As Linux has it: two percent, not more than 4096 clusters.
            kept: if has_extents { (total / 50).min(4096) } else { 0 },
            near_end: Mutex::new(()),
        })
    }

    /// Free clusters.
    pub fn free(&self) -> u64 {
        self.free.sum()
    }

    /// Promised clusters.
    pub fn promised(&self) -> u64 {
        self.promised.sum()
    }

    /// What `statfs` says: free, and free for everybody.
    pub fn statfs(&self) -> (u64, u64) {
        let free = self.free().saturating_sub(self.promised());
        (free, free.saturating_sub(self.reserved + self.kept))
    }

    /// Promises `n` clusters.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn promise(&self, n: u64, who: Reserve) -> Result<()> {
        let left_alone = match who {
            Reserve::Leave => self.reserved + self.kept,
            Reserve::Root => self.kept,
            Reserve::Promised => 0,
        };
        let enough = |more: u64| self.free() >= self.promised() + left_alone + n + more;
        if enough(EXACT.max(n)) {
            self.promised.add(n as i64);
            return Ok(());
        }
        let _guard = self.near_end.lock();
        if !enough(0) {
            return Err(Errno::ENOSPC);
        }
        self.promised.add(n as i64);
        Ok(())
    }

    /// Takes a promise back.
    pub fn unpromise(&self, n: u64) {
        self.promised.add(-(n as i64));
    }

    /// `n` clusters are in use now.
    pub fn used(&self, n: u64) {
        self.free.add(-(n as i64));
    }

    /// `n` clusters are not in use any more.
    pub fn freed(&self, n: u64) {
        self.free.add(n as i64);
    }
}
