//! Where the page descriptors are: one virtual array indexed by frame number, populated by sections.
//!
//! `page(pfn)` is one load and one shift away. The array spans the whole physical address space, but only sections
//! (256 MiB of memory, 2 MiB of descriptors) that hold memory are backed, and a section is only backed and zeroed when
//! its memory is first needed ([`crate::zone`], *deferred* memory). So a large machine boots as fast as a small one.
//!
//! On the host, and wherever the architecture gives no range for it, the array is flat: one allocation.

use crate::buddy::Frames;
use crate::page::Page;
use crate::pageblock::{PAGEBLOCK_ORDER, PageBlock};
use arch::addr::{Pfn, PhysAddr, phys_to_virt};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// log2 of the frames in a section.
pub const SECTION_SHIFT: u32 = 16;
/// Frames in a section.
pub const SECTION_PAGES: u32 = 1 << SECTION_SHIFT;
/// Frames whose descriptors share a page.
pub const PAGES_PER_TABLE_PAGE: u32 = (arch::addr::PAGE_SIZE / size_of::<Page>()) as u32;

/// Descriptor of frame 0 (which need not exist).
static BASE: AtomicPtr<Page> = AtomicPtr::new(core::ptr::null_mut());
/// One word per 2 MiB, from frame 0 to the last.
static BLOCKS: AtomicPtr<PageBlock> = AtomicPtr::new(core::ptr::null_mut());
/// Frames the block table covers.
static END: AtomicU32 = AtomicU32::new(0);

/// Sets the two tables.
///
/// # Safety
/// `base` is the address that descriptor 0 has or would have; `blocks` holds zeroed entries for frames up to `end`. Once, at
/// boot.
pub(crate) unsafe fn set_tables(base: *mut Page, blocks: *mut PageBlock, end: u32) {
    BLOCKS.store(blocks, Ordering::Release);
    BASE.store(base, Ordering::Release);
    END.store(end, Ordering::Release);
}

/// One past the highest frame that has an entry in the block table.
#[inline]
pub fn end() -> u32 {
    END.load(Ordering::Relaxed)
}

/// The descriptor of a frame of RAM. The caller got the number from the allocator, or from [`valid`].
#[inline]
pub(crate) fn page(pfn: u32) -> &'static Page {
    let base = BASE.load(Ordering::Relaxed);
    // SAFETY: frame numbers inside the crate are those of present frames, whose descriptors were populated before the
    // number was first handed out, and stay for ever.
    unsafe { &*base.wrapping_add(pfn as usize) }
}

/// Where the descriptor of a frame is or will be.
pub(crate) fn page_address(pfn: u32) -> *const Page {
    BASE.load(Ordering::Relaxed).wrapping_add(pfn as usize)
}

/// The page block of a frame below [`end`].
#[inline]
pub(crate) fn block(pfn: u32) -> &'static PageBlock {
    debug_assert!(pfn < end());
    // SAFETY: the table covers every frame below `end`, and all frames inside the crate are below it.
    unsafe { &*BLOCKS.load(Ordering::Relaxed).add((pfn >> PAGEBLOCK_ORDER) as usize) }
}

/// The frame number of a descriptor.
#[inline]
pub(crate) fn pfn_of(page: &Page) -> u32 {
    let offset = core::ptr::from_ref(page).addr().wrapping_sub(BASE.load(Ordering::Relaxed).addr());
    (offset / size_of::<Page>()) as u32
}

/// The descriptor of any frame number, if the frame is RAM that has one already.
pub fn valid(pfn: Pfn) -> Option<&'static Page> {
    let number = u32::try_from(pfn.0).ok().filter(|n| *n < end())?;
    (block(number).is_present() && block(number).is_populated()).then(|| page(number))
}

/// The descriptor behind an address of the direct map, likewise.
pub fn page_of_phys(pa: PhysAddr) -> Option<&'static Page> {
    valid(pa.pfn())
}

/// The first byte of a frame, through the direct map.
#[inline]
pub(crate) fn frame_ptr(pfn: u32) -> *mut u8 {
    phys_to_virt(Pfn(u64::from(pfn)).addr())
}

/// All of memory, for the buddy allocator.
#[derive(Clone, Copy)]
pub(crate) struct Memory;

impl Frames for Memory {
    #[inline]
    fn page(&self, pfn: u32) -> &Page {
        page(pfn)
    }

    #[inline]
    fn block(&self, pfn: u32) -> &PageBlock {
        block(pfn)
    }
}

/// The zone of a frame; `None` if there is no RAM.
pub fn zone_of(pfn: Pfn) -> Option<crate::pageblock::ZoneId> {
    let number = u32::try_from(pfn.0).ok().filter(|n| *n < end())?;
    block(number).is_present().then(|| block(number).zone())
}
