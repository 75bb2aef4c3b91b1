//! What a tmpfs may use, and what it uses.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};

/// No limit.
const NONE: u64 = u64::MAX;

/// Limits and use of one tmpfs, in pages and inodes.
pub(crate) struct Limits {
    max_blocks: AtomicU64,
    max_inodes: AtomicU64,
    used_blocks: AtomicU64,
    used_inodes: AtomicU64,
}

fn charge(used: &AtomicU64, max: &AtomicU64, count: u64) -> Result<()> {
    let max = max.load(Ordering::Relaxed);
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        now.checked_add(count).filter(|sum| *sum <= max)
    })
    .map(drop)
    .map_err(|_| Errno::ENOSPC)
}

impl Limits {
    pub(crate) fn new(max_blocks: Option<u64>, max_inodes: Option<u64>) -> Self {
        Self {
            max_blocks: AtomicU64::new(max_blocks.unwrap_or(NONE)),
            max_inodes: AtomicU64::new(max_inodes.unwrap_or(NONE)),
            used_blocks: AtomicU64::new(0),
            used_inodes: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, max_blocks: Option<u64>, max_inodes: Option<u64>) {
        self.max_blocks.store(max_blocks.unwrap_or(NONE), Ordering::Relaxed);
        self.max_inodes.store(max_inodes.unwrap_or(NONE), Ordering::Relaxed);
    }

    pub(crate) fn max_blocks(&self) -> Option<u64> {
        Some(self.max_blocks.load(Ordering::Relaxed)).filter(|max| *max != NONE)
    }

    pub(crate) fn max_inodes(&self) -> Option<u64> {
        Some(self.max_inodes.load(Ordering::Relaxed)).filter(|max| *max != NONE)
    }

    pub(crate) fn used_blocks(&self) -> u64 {
        self.used_blocks.load(Ordering::Relaxed)
    }

    pub(crate) fn used_inodes(&self) -> u64 {
        self.used_inodes.load(Ordering::Relaxed)
    }

    pub(crate) fn charge_blocks(&self, count: u64) -> Result<()> {
        charge(&self.used_blocks, &self.max_blocks, count)
    }

    pub(crate) fn uncharge_blocks(&self, count: u64) {
        self.used_blocks.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn charge_inode(&self) -> Result<()> {
        charge(&self.used_inodes, &self.max_inodes, 1)
    }

    pub(crate) fn uncharge_inode(&self) {
        self.used_inodes.fetch_sub(1, Ordering::Relaxed);
    }
}
