//! Physical memory for tests on the host: an arena that stands for RAM.

use crate::init::{self, Config};
use arch::addr::set_direct_map_offset;
use boot::memblock::Memblock;
use boot::{Numa, PhysRange};
use std::sync::OnceLock;

/// Where the arena's RAM begins, physically: above a hole, as on arm64.
const PHYS_BASE: u64 = 0x4000_0000;
/// Bytes of RAM.
pub const ARENA_SIZE: usize = if cfg!(miri) { 16 << 20 } else { 128 << 20 };

/// Alignment of the arena: the largest block.
const ALIGN: usize = 4 << 20;

static READY: OnceLock<()> = OnceLock::new();

/// Makes sure that the page and slab allocators work, with one node of [`ARENA_SIZE`] bytes. Every test that allocates begins with it; all
/// tests of a process share the arena.
pub fn init() {
    let ram = [PhysRange::new(PHYS_BASE, ARENA_SIZE as u64)];
    init_with(&ram, &Numa::single(), 0, 0);
}

/// As [`init`], with a memory map of the test's own: for tests of zones and nodes, alone in their process. RAM begins at the first range;
/// holes cost address space only.
pub fn init_with(ram: &[PhysRange], numa: &Numa, dma_end: u64, movable_per_node: u64) {
    READY.get_or_init(|| {
        let (Some(first), Some(last)) = (ram.first(), ram.last()) else { panic!("a machine has memory") };
        let start = first.start.align_down(ALIGN as u64);
        // Aligned by hand: zeroed memory of ordinary alignment is only reserved until it is used.
        let size = (last.end - start) as usize + ALIGN;
        let layout = std::alloc::Layout::from_size_align(size, 16).expect("a valid layout");
        // SAFETY: the layout is not empty.
        let arena = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!arena.is_null(), "no memory for the arena");
        let arena = arena.wrapping_add(arena.align_offset(ALIGN));
        set_direct_map_offset(arena.expose_provenance().wrapping_sub(start.0 as usize));
        let mut memblock = Memblock::new();
        for range in ram {
            memblock.add_memory(*range).expect("the ranges fit");
        }
        let config = Config { numa, dma_end, movable_per_node, cpus: arch::cpu::MAX_CPUS };
        init::init(&mut memblock, &config).expect("the arena holds its own tables");
    });
}
