//! What the page allocator asks of the layer above when memory runs short.
//!
//! The allocator knows when memory is short; what can be given up (page cache, caches, processes) is known above. The
//! implementation is set once at boot. It must not wait for locks that a caller of the allocator may hold: allocations come from
//! everywhere, so reclaim uses `try_lock` on whatever can be held across an allocation.

use crate::gfp::{Gfp, ZoneKind};
use sync::Once;

/// A request to free memory.
#[derive(Clone, Copy, Debug)]
pub struct ReclaimRequest {
    /// Node whose memory is wanted.
    pub node: usize,
    /// The highest zone kind that helps.
    pub zone: ZoneKind,
    /// Order of the block that was wanted.
    pub order: u8,
    /// What the caller allows (I/O, file systems).
    pub gfp: Gfp,
    /// How many pages to free.
    pub pages: usize,
}

/// Implemented by the reclaim code, called by the allocator.
pub trait Reclaimer: Sync {
    /// Frees pages; returns how many. In task context, preemption on.
    fn shrink(&self, request: &ReclaimRequest) -> usize;
    /// Memory is exhausted: kills a process. True if memory will come free (also: a victim is already dying).
    fn out_of_memory(&self, gfp: Gfp, order: u8) -> bool;
    /// A node is below its low mark: wake its background reclaimer. Any context; must not allocate.
    fn wake_kswapd(&self, node: usize, order: u8);
}

static RECLAIMER: Once<&'static dyn Reclaimer> = Once::new();

/// Sets the reclaimer. The first call wins.
pub fn set_reclaimer(reclaimer: &'static dyn Reclaimer) {
    RECLAIMER.call_once(|| reclaimer);
}

pub(crate) fn reclaimer() -> Option<&'static dyn Reclaimer> {
    RECLAIMER.get().copied()
}
