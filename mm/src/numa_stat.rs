//! Where allocations got their memory, by node: `numastat(8)`.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The numbers of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumaStat {
    /// On the node that was wanted.
    pub hit: u64,
    /// Here, though another node was wanted.
    pub miss: u64,
    /// Elsewhere, though this node was wanted.
    pub foreign: u64,
    /// Whose turn it was, and which had memory.
    pub interleave_hit: u64,
    /// For a CPU of this node.
    pub local: u64,
    /// For a CPU of another.
    pub other: u64,
}

/// [`NumaStat`] as it is counted.
#[derive(Default)]
pub(crate) struct NumaCounters {
    hit: AtomicU64,
    miss: AtomicU64,
    foreign: AtomicU64,
    interleave_hit: AtomicU64,
    local: AtomicU64,
    other: AtomicU64,
}

impl NumaCounters {
    pub(crate) const fn new() -> Self {
        Self {
            hit: AtomicU64::new(0),
            miss: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            interleave_hit: AtomicU64::new(0),
            local: AtomicU64::new(0),
            other: AtomicU64::new(0),
        }
    }

    /// An allocation that `wanted` one node got memory of node `got`, on a CPU of node `here`.
    pub(crate) fn count(all: &[Self], wanted: usize, got: usize, here: usize) {
        let Some(counters) = all.get(got) else { return };
        if wanted == got {
            counters.hit.fetch_add(1, Relaxed);
        } else {
            counters.miss.fetch_add(1, Relaxed);
            if let Some(wanted) = all.get(wanted) {
                wanted.foreign.fetch_add(1, Relaxed);
            }
        }
        if here == got { &counters.local } else { &counters.other }.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_interleaved(&self) {
        self.interleave_hit.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> NumaStat {
        NumaStat {
            hit: self.hit.load(Relaxed),
            miss: self.miss.load(Relaxed),
            foreign: self.foreign.load(Relaxed),
            interleave_hit: self.interleave_hit.load(Relaxed),
            local: self.local.load(Relaxed),
            other: self.other.load(Relaxed),
        }
    }
}
