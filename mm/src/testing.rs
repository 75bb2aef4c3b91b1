//! Physical memory for tests on the host: an arena that stands for RAM.

use crate::init::{self, Config};
use arch::addr::{PhysAddr, set_direct_map_offset};
use boot::memblock::Memblock;
use boot::{Numa, PhysRange};
use std::sync::OnceLock;

/// Where the arena's RAM begins, physically: above a hole, as on arm64.
const PHYS_BASE: usize = 0x4000_0000;
/// Bytes of RAM.
pub const ARENA_SIZE: usize = if cfg!(miri) { 16 << 20 } else { 128 << 20 };

static READY: OnceLock<()> = OnceLock::new();

/// Makes sure that the page and slab allocators work. Every test that allocates begins with it; all share one arena.
pub fn init() {
    READY.get_or_init(|| {
        let layout = std::alloc::Layout::from_size_align(ARENA_SIZE, 4 << 20).expect("a valid layout");
        // SAFETY: the layout is not empty. Zeroed memory is only reserved until it is used.
        let arena = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!arena.is_null(), "no memory for the arena");
        set_direct_map_offset(arena.expose_provenance().wrapping_sub(PHYS_BASE));
        let mut memblock = Memblock::new();
        let ram =
            PhysRange { start: PhysAddr(PHYS_BASE as u64), end: PhysAddr((PHYS_BASE + ARENA_SIZE) as u64) };
        memblock.add_memory(ram).expect("one range fits");
        let config =
            Config { numa: &Numa::single(), dma_zone: false, movable_per_node: 0, cpus: arch::cpu::MAX_CPUS };
        init::init(&mut memblock, &config).expect("the arena holds its own tables");
    });
}
