//! vmalloc: memory that is contiguous in kernel addresses only; and ioremap.
//!
//! Areas are kept by address in a range map; a new one takes the lowest gap, so that few page tables serve many areas. Every area
//! is followed by an unmapped guard page.
//!
//! Freeing is lazy: pages are unmapped and freed at once, the addresses are kept back (*lazy* areas) until enough of them
//! have come together for one flush of all TLBs ([`purge`]).
//!
//! Lock: the area map's, safe in interrupts; the small allocator is called under it, nothing else. Allocating needs a context that may
//! sleep; freeing does not.

use crate::context;
use crate::folio::Frame;
use crate::gfp::{Gfp, Order, OutOfMemory};
use crate::kmap;
use crate::page_alloc;
use crate::stats::{self, Item};
use arch::addr::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use arch::paging::Prot;
use arch::sync::SpinLockIrq;
use collections::rangemap::RangeMap;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// What an area holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// Pages of its own.
    Vmalloc,
    /// Device memory at this address.
    IoRemap(PhysAddr),
    /// Pages that somebody else holds ([`map`]).
    Map,
}

/// An area; its range in the map has the guard page at the end.
struct Area {
    kind: AreaKind,
    /// 0 while in use; otherwise the flush round after which its addresses are free.
    lazy: AtomicU32,
}

static AREAS: SpinLockIrq<RangeMap<Area>> = SpinLockIrq::new(RangeMap::new());
static LAZY_PAGES: AtomicUsize = AtomicUsize::new(0);
/// The round that lazy areas are waiting for; starts at 1.
static ROUND: AtomicU32 = AtomicU32::new(1);

/// Addresses kept back before the TLBs are flushed, in pages: 32 MiB.
const LAZY_MAX: usize = 8192;

/// The part of the architecture's window that is used: whole top-level entries are made for it at boot, so it is at most 512 GiB
/// and a bit.
pub(crate) fn window() -> Range<usize> {
    let all = arch::layout::vmalloc();
    let limit = all.start.saturating_add(512 << 30);
    all.start..all.end.min(limit)
}

/// Whether there is a window (there is none on the host).
pub(crate) fn is_up() -> bool {
    !window().is_empty()
}

/// Bytes of the window.
pub fn total_bytes() -> usize {
    window().len()
}

/// Whether an address lies in the window.
#[inline]
pub fn contains(ptr: *const u8) -> bool {
    window().contains(&ptr.addr())
}

/// Takes an address range of `len` bytes (whole pages) with a guard page behind it.
fn reserve(len: usize, kind: AreaKind) -> Result<usize, OutOfMemory> {
    let with_guard = len.checked_add(PAGE_SIZE).ok_or(OutOfMemory)?;
    for last_try in [false, true] {
        let mut areas = AREAS.lock();
        if let Some(start) = areas.find_gap_bottom_up(window(), with_guard, PAGE_SIZE, |_| 0) {
            let area = Area { kind, lazy: AtomicU32::new(0) };
            return match areas.insert(start..start + with_guard, area) {
                Ok(()) => Ok(start),
                Err(_) => Err(OutOfMemory),
            };
        }
        drop(areas);
        if !last_try && context::can_sleep() {
            purge();
        }
    }
    Err(OutOfMemory)
}

/// Gives the address range back, lazily. Its mappings are gone.
fn release(start: usize, len: usize) {
    let areas = AREAS.lock();
    if let Some(area) = areas.get(start) {
        area.value.lazy.store(ROUND.load(Relaxed), Relaxed);
    }
    drop(areas);
    if LAZY_PAGES.fetch_add(len / PAGE_SIZE, Relaxed) > LAZY_MAX && context::can_sleep() {
        purge();
    }
}

/// Flushes all TLBs and frees the addresses that waited for it. Interrupts on.
pub fn purge() {
    let round = ROUND.fetch_add(1, Relaxed);
    arch::tlb::flush_kernel(window());
    let mut from = window().start;
    let mut freed = 0;
    loop {
        // One at a time: interrupts are not kept off for long.
        let mut areas = AREAS.lock();
        let done = |area: &Area| (1..=round).contains(&area.lazy.load(Relaxed));
        let Some(range) = areas.overlapping(from..window().end).find(|e| done(&e.value)).map(|e| e.range())
        else {
            break;
        };
        areas.remove(range.start);
        freed += range.len() / PAGE_SIZE;
        from = range.end;
    }
    let _ = LAZY_PAGES.fetch_update(Relaxed, Relaxed, |n| Some(n.saturating_sub(freed)));
}

/// `size` bytes in single pages. [`Gfp::ZERO`] works.
pub fn alloc(size: usize, gfp: Gfp) -> Result<NonNull<u8>, OutOfMemory> {
    let len = size.checked_next_multiple_of(PAGE_SIZE).filter(|len| *len != 0).ok_or(OutOfMemory)?;
    let start = reserve(len, AreaKind::Vmalloc)?;
    let pages = len / PAGE_SIZE;
    let mut got = 0;
    let frames = core::iter::from_fn(|| {
        if got == pages {
            return None;
        }
        let frame = page_alloc::alloc_page(gfp).ok()?;
        got += 1;
        Some(frame.into_raw())
    });
    // SAFETY: the range was just reserved; the frames are ours and become the area's.
    let mapped = unsafe { kmap::map_frames(start, frames, Prot::KERNEL_RW) };
    stats::add(Item::Vmalloc, got as isize);
    if mapped.is_err() || got != pages {
        // A frame that was taken but not mapped (no page table) is lost; the kernel is out of memory anyway.
        // SAFETY: nobody has seen the area.
        unsafe { unmap_and_free(start, len) };
        release(start, len);
        return Err(OutOfMemory);
    }
    NonNull::new(core::ptr::with_exposed_provenance_mut(start)).ok_or(OutOfMemory)
}

/// Makes `count` frames contiguous in kernel addresses. They stay the caller's, who keeps them until [`unmap`].
///
/// # Errors
/// `OutOfMemory`, also if there are fewer frames.
pub fn map(frames: impl Iterator<Item = Pfn>, count: usize) -> Result<NonNull<u8>, OutOfMemory> {
    let len = count.checked_mul(PAGE_SIZE).filter(|len| *len != 0).ok_or(OutOfMemory)?;
    let start = reserve(len, AreaKind::Map)?;
    let mut got = 0;
    let counted = frames.take(count).inspect(|_| got += 1);
    // SAFETY: the range was just reserved; the caller keeps the frames.
    let mapped = unsafe { kmap::map_frames(start, counted, Prot::KERNEL_RW) };
    let ptr = NonNull::new(core::ptr::with_exposed_provenance_mut(start));
    match ptr.filter(|_| mapped.is_ok() && got == count) {
        Some(ptr) => Ok(ptr),
        None => {
            // SAFETY: nobody has seen the area.
            unsafe { unmap(core::ptr::with_exposed_provenance_mut(start)) };
            Err(OutOfMemory)
        }
    }
}

/// Undoes [`map`].
///
/// # Safety
/// `ptr` came from [`map`] and nobody uses the addresses any more.
pub unsafe fn unmap(ptr: *mut u8) {
    let start = ptr.addr();
    let Some(len) = area_len(start) else { return };
    // SAFETY: the caller's promise; the frames belong to somebody else.
    unsafe { kmap::unmap(start..start + len, &mut |_, _| {}) };
    release(start, len);
}

/// # Safety
/// The pages of the range belong to the area and nobody uses them.
unsafe fn unmap_and_free(start: usize, len: usize) {
    let mut freed = 0;
    // SAFETY: the caller's promise.
    unsafe {
        kmap::unmap(start..start + len, &mut |pfn, pages| {
            freed += pages;
            for page in 0..pages as u64 {
                drop(Frame::from_raw(pfn + page, Order::ZERO));
            }
        });
    }
    stats::add(Item::Vmalloc, -(freed as isize));
}

/// Frees what [`alloc`] gave.
///
/// # Safety
/// `ptr` came from [`alloc`] and nobody uses the memory any more.
pub unsafe fn free(ptr: *mut u8) {
    let Some(len) = area_len(ptr.addr()) else { return };
    // SAFETY: the caller's promise.
    unsafe { unmap_and_free(ptr.addr(), len) };
    release(ptr.addr(), len);
}

/// Usable bytes of the area that starts at `start`.
fn area_len(start: usize) -> Option<usize> {
    let areas = AREAS.lock();
    areas.get(start).filter(|e| e.start() == start).map(|e| e.range().len() - PAGE_SIZE)
}

/// Maps device memory. `prot` says how (see [`Prot::KERNEL_DEVICE`]). The address of the first byte, which need not be aligned.
pub fn ioremap(pa: PhysAddr, len: usize, prot: Prot) -> Result<VirtAddr, OutOfMemory> {
    let offset = (pa.0 as usize) & (PAGE_SIZE - 1);
    let len =
        len.checked_add(offset).and_then(|l| l.checked_next_multiple_of(PAGE_SIZE)).ok_or(OutOfMemory)?;
    let start = reserve(len, AreaKind::IoRemap(pa))?;
    // SAFETY: the range was just reserved; it is the caller's business that there is a device.
    let mapped = unsafe { kmap::map(&kmap::KernelTables, start, pa.pfn(), len, prot) };
    if mapped.is_err() {
        iounmap(VirtAddr(start));
        return Err(OutOfMemory);
    }
    Ok(VirtAddr(start + offset))
}

/// Undoes [`ioremap`].
pub fn iounmap(va: VirtAddr) {
    let start = va.align_down(PAGE_SIZE).0;
    if let Some(len) = area_len(start) {
        // SAFETY: device mappings: no frames of ours; the caller of `ioremap` gives it up.
        unsafe { kmap::unmap(start..start + len, &mut |_, _| {}) };
        release(start, len);
    }
}

/// Calls `f(start, end, kind)` for every area in use (`/proc/vmallocinfo`).
pub fn for_each_area(f: &mut dyn FnMut(VirtAddr, VirtAddr, AreaKind)) {
    let mut from = window().start;
    loop {
        let areas = AREAS.lock();
        let next = areas
            .overlapping(from..window().end)
            .find(|e| e.value.lazy.load(Relaxed) == 0)
            .map(|e| (e.range(), e.value.kind));
        drop(areas);
        let Some((range, kind)) = next else { return };
        f(VirtAddr(range.start), VirtAddr(range.end), kind);
        from = range.end;
    }
}
