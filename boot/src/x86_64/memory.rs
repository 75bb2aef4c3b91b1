//! Memory: the firmware's map into memblock, then the kernel's final page tables.
//!
//! Until [`switch_tables`] physical memory is reached at its own address (the direct map's offset is 0), and only below
//! 4 GiB; memblock is limited accordingly.

use arch::addr::{self, PAGE_SIZE, PhysAddr};
use arch::native::{DIRECT_MAP_BASE, IOREMAP, features, init, map_kernel_large, preallocate, trampoline};
use arch::paging::{OutOfTables, Prot};

use super::start_info::Start;
use crate::info::{MemoryKind, PhysRange};
use crate::memblock;

const FOUR_GIB: u64 = 1 << 32;
/// Room in which the direct map's base moves.
const SPREAD: u64 = 16 << 40;

/// Declares memory and what is taken of it.
pub fn init_memblock(start: &Start) {
    memblock::with(|m| {
        for region in start.memory.iter().filter(|r| r.kind == MemoryKind::Usable) {
            let _ = m.add_memory(region.range);
        }
        if let Some(limit) = super::params::memory_limit(start.cmdline) {
            let _ = m.limit_total(limit);
        }
        let image = super::image();
        // What was loaded beyond `mem=` stays reachable.
        for range in [image].into_iter().chain(start.initrd) {
            let _ = m.add_memory(PhysRange {
                start: range.start.align_down(PAGE_SIZE as u64),
                end: range.end.align_up(PAGE_SIZE as u64),
            });
        }
        let _ = m.reserve(PhysRange::new(0, PAGE_SIZE as u64));
        let _ = m.reserve(PhysRange { start: image.start, end: image.end.align_up(PAGE_SIZE as u64) });
        if let Some(initrd) = start.initrd {
            let _ = m.reserve(initrd);
        }
        m.set_limit(PhysAddr(FOUR_GIB));
        // Below 640 KiB: higher up is video memory even where the map says otherwise.
        let low = PhysRange { start: PhysAddr(PAGE_SIZE as u64), end: PhysAddr(0xa_0000) };
        if let Some(page) = m.alloc_in((trampoline::PAGES * PAGE_SIZE) as u64, PAGE_SIZE as u64, low) {
            trampoline::set_page(page);
        }
    });
}

/// A zeroed page for a table, from memblock.
fn table() -> Option<PhysAddr> {
    let page = memblock::with(|m| m.alloc(PAGE_SIZE as u64, PAGE_SIZE as u64))?;
    // SAFETY: just allocated, and mapped: identity below the limit, or by the direct map.
    unsafe { addr::phys_to_virt(page).write_bytes(0, PAGE_SIZE) };
    Some(page)
}

/// Where the direct map begins.
fn direct_map_base() -> usize {
    if arch::native::slide() == 0 {
        return DIRECT_MAP_BASE;
    }
    let random = arch::random::hw_seed().unwrap_or_else(arch::random::jitter);
    DIRECT_MAP_BASE + ((random % (SPREAD >> 30)) << 30) as usize
}

static BASE: sync::Once<usize> = sync::Once::new();

/// Builds the final tables: RAM in the direct map, the image with rights per segment, and empty tables for the rest of
/// the kernel's half.
pub fn build_tables() -> Result<(), OutOfTables> {
    unsafe extern "C" {
        static __image_start: u8;
        static __text_end: u8;
        static __rodata_start: u8;
        static __rodata_end: u8;
        static __data_start: u8;
        static __image_end: u8;
    }
    arch::paging::set_table_allocator(table);
    let base = *BASE.call_once(direct_map_base);
    let image = super::image();
    let virt = (&raw const __image_start).addr();
    let virt_end = (&raw const __image_end).addr();
    addr::set_image(virt..virt_end, image.start);

    let end = memblock::with(|m| m.end_of_memory());
    preallocate(base..base + end.0 as usize)?;
    preallocate(arch::layout::vmalloc())?;
    preallocate(arch::layout::vmemmap())?;
    preallocate(IOREMAP)?;
    preallocate(virt..virt_end)?;

    let max_level = if features::has_gbpages() { 2 } else { 1 };
    let mut next = 0;
    while let Some(range) = memblock::with(|m| m.memory().get(next).copied()) {
        next += 1;
        // SAFETY: the direct map is ours, and the kernel's data in it is reached only by its owner.
        unsafe {
            map_kernel_large(
                base + range.start.0 as usize,
                range.start,
                range.len() as usize,
                Prot::KERNEL_RW,
                max_level,
            )?
        };
    }

    let segments = [
        (&raw const __image_start, &raw const __text_end, Prot::KERNEL_RX),
        (&raw const __rodata_start, &raw const __rodata_end, Prot::KERNEL_RO),
        (&raw const __data_start, &raw const __image_end, Prot::KERNEL_RW),
    ];
    for (from, to, prot) in segments {
        let (from, to) = (from.addr() & !(PAGE_SIZE - 1), to.addr().next_multiple_of(PAGE_SIZE));
        // SAFETY: the image's own addresses, with the rights its linker script gives it.
        unsafe { map_kernel_large(from, image.start + (from - virt) as u64, to - from, prot, 1)? };
    }
    Ok(())
}

/// Goes over to them.
///
/// # Safety
/// After [`build_tables`]; pointers into the identity map are void afterwards.
pub unsafe fn switch_tables() {
    // SAFETY: the caller's promise; the running code and stack are in the image.
    unsafe { init::load_kernel_tables() };
    addr::set_direct_map_offset(BASE.get().copied().unwrap_or(0));
    memblock::with(|m| m.set_limit(PhysAddr(u64::MAX)));
}

/// Parts of the image that have served: the first page tables.
pub fn image_free() -> &'static [PhysRange] {
    unsafe extern "C" {
        static __boot_bss_start: u8;
        static __boot_bss_end: u8;
    }
    static FREE: sync::Once<[PhysRange; 1]> = sync::Once::new();
    FREE.call_once(|| {
        let at = |symbol: *const u8| addr::virt_to_phys(addr::VirtAddr(symbol.addr()));
        [PhysRange { start: at(&raw const __boot_bss_start), end: at(&raw const __boot_bss_end) }]
    })
}
