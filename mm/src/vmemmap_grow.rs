//! Backing the descriptor array: at boot from early memory, later from the memory it describes.
//!
//! Unit is 4 MiB of memory (the largest buddy block: merging looks at descriptors of the whole block). A whole section gets
//! one 2 MiB mapping where it can.

use crate::gfp::OutOfMemory;
use crate::kmap;
use crate::page::Page;
use crate::vmemmap::{self, PAGES_PER_TABLE_PAGE, SECTION_PAGES};
use arch::addr::{PAGE_SIZE, Pfn};
use arch::paging::Prot;
use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Frames whose descriptors are made at once.
const UNIT: u32 = 1 << crate::gfp::MAX_PAGE_ORDER;

/// The array is one flat piece of memory: nothing to map.
static FLAT: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_flat() {
    FLAT.store(true, Relaxed);
}

/// Where the frames for descriptors and page tables come from: a run of 1 or 512 frames, naturally aligned.
pub(crate) type FrameSource<'a> = dyn FnMut(u32) -> Option<u32> + 'a;

/// Makes the descriptors of `start..end`, rounded out to whole units, all zero. Those that exist stay.
pub(crate) fn populate(start: u32, end: u32, source: &mut FrameSource<'_>) -> Result<(), OutOfMemory> {
    let mut at = start & !(UNIT - 1);
    let end = end.next_multiple_of(UNIT).min(vmemmap::end());
    while at < end {
        let next = at + UNIT;
        if vmemmap::block(at).is_populated() {
            at = next;
            continue;
        }
        let section = at & !(SECTION_PAGES - 1);
        let section_end = section.saturating_add(SECTION_PAGES);
        // A hole or two does not matter: seven eighths are worth the one large mapping.
        let whole = section_end.min(end) - at >= SECTION_PAGES / 8 * 7;
        if FLAT.load(Relaxed) {
            zero(at, next);
            mark(at, next);
            at = next;
        } else if whole
            && is_untouched(section, section_end)
            && let Some(frame) = source(512)
        {
            map(section, frame, 512, source)?;
            zero(section, section_end);
            mark(section, section_end);
            at = section_end;
        } else {
            for piece in (at..next).step_by(PAGES_PER_TABLE_PAGE as usize) {
                let frame = source(1).ok_or(OutOfMemory)?;
                map(piece, frame, 1, source)?;
            }
            zero(at, next);
            mark(at, next);
            at = next;
        }
    }
    Ok(())
}

/// As [`populate`], with frames taken from the back of `start..end` itself, which is all free: so the first half of each section has
/// nothing in it that would have to stay ([`crate::hotplug`]). Returns what is left: two ranges, one of them often empty.
pub(crate) fn populate_from_itself(start: u32, end: u32) -> Result<[(u32, u32); 2], OutOfMemory> {
    let mut top = end;
    let mut gap = (end, end);
    populate(start, end, &mut |frames| {
        let at = top.checked_sub(frames)? / frames * frames;
        if at < start || (at + frames != top && gap.0 != gap.1) {
            return None;
        }
        if at + frames != top {
            gap = (at + frames, top);
        }
        top = at;
        Some(at)
    })?;
    Ok([(start, top), gap])
}

/// How many frames [`populate_from_itself`] will use, about (without page tables).
pub(crate) fn cost(start: u32, end: u32) -> usize {
    if FLAT.load(Relaxed) { 0 } else { (end / PAGES_PER_TABLE_PAGE - start / PAGES_PER_TABLE_PAGE) as usize }
}

fn is_untouched(start: u32, end: u32) -> bool {
    (start..end.min(vmemmap::end())).step_by(UNIT as usize).all(|unit| !vmemmap::block(unit).is_populated())
}

fn map(pfn: u32, frame: u32, frames: u32, source: &mut FrameSource<'_>) -> Result<(), OutOfMemory> {
    let va = vmemmap::page_address(pfn).addr();
    let tables = kmap::EarlyTables(RefCell::new(source));
    // SAFETY: the range of the descriptor array belongs to this file; the frames were just taken from the source.
    unsafe { kmap::map(&tables, va, Pfn(u64::from(frame)), frames as usize * PAGE_SIZE, Prot::KERNEL_RW) }
}

fn zero(start: u32, end: u32) {
    let first = vmemmap::page_address(start).cast_mut();
    // SAFETY: the descriptors were just mapped (or lie in the flat array) and nobody has seen them.
    unsafe { core::ptr::write_bytes(first.cast::<u8>(), 0, (end - start) as usize * size_of::<Page>()) };
}

fn mark(start: u32, end: u32) {
    for pfn in (start..end.min(vmemmap::end())).step_by(1 << crate::pageblock::PAGEBLOCK_ORDER) {
        vmemmap::block(pfn).set_populated();
    }
}
