//! Physical memory: an arena of the test process behind the direct map.

use std::alloc::{Layout, alloc_zeroed};
use std::sync::OnceLock;

use crate::addr::{PAGE_SIZE, PhysAddr, set_direct_map_offset};

/// Bytes of "RAM".
pub const ARENA_SIZE: usize = 64 << 20;
/// Where it begins physically.
pub const ARENA_BASE: PhysAddr = PhysAddr(1 << 20);

/// The arena: its physical base and length. Mapped by the direct map from the first call on.
pub fn arena() -> (PhysAddr, usize) {
    static ARENA: OnceLock<usize> = OnceLock::new();
    ARENA.get_or_init(|| {
        let layout = Layout::from_size_align(ARENA_SIZE, 2 << 20).expect("a valid layout");
        // SAFETY: the layout is not empty. Never freed.
        let base = unsafe { alloc_zeroed(layout) }.expose_provenance();
        assert_ne!(base, 0, "no memory for the arena");
        set_direct_map_offset(base.wrapping_sub(ARENA_BASE.0 as usize));
        base
    });
    (ARENA_BASE, ARENA_SIZE)
}

/// Takes pages from the end of the arena that nobody else gets: for the kernel's own tables.
pub(super) fn take_page() -> PhysAddr {
    use core::sync::atomic::{AtomicUsize, Ordering};
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let (base, len) = arena();
    base + (len - (TAKEN.fetch_add(1, Ordering::Relaxed) + 1) * PAGE_SIZE) as u64
}
