//! The kernel's global allocator.
//!
//! Up to 8 KiB: the size caches of [`crate::slub`]. More: whole pages, contiguous if they are to be had, otherwise (where the caller may
//! sleep) a vmalloc area. Before [`crate::init::init`] a small static arena serves; what is freed there is not reused.
//!
//! The caller cannot say how hard to try, so the context says it: [`crate::context::gfp_here`]. A failed allocation returns
//! null: [`crate::fallible`] makes an error of it; others end in the allocation error handler. Small allocations may
//! use half the reserve, so that failures come late.

use crate::context;
use crate::fallible;
use crate::folio::Frame;
use crate::gfp::{Gfp, Order};
use crate::inject;
use crate::kmemleak;
use crate::page_alloc;
use crate::slub::RawCache;
use crate::slub::kmalloc::cache_for;
use crate::stats::{self, Item};
use crate::vmalloc;
use arch::addr::{PAGE_SIZE, VirtAddr, virt_to_phys};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

/// The type of `#[global_allocator]`.
pub struct KernelHeap;

/// Bytes for allocations before the page allocator is up.
const EARLY_SIZE: usize = 16 << 10;

#[repr(align(64))]
struct Early {
    bytes: UnsafeCell<[u8; EARLY_SIZE]>,
    used: AtomicUsize,
}

// SAFETY: `used` hands every byte out once.
unsafe impl Sync for Early {}

static EARLY: Early = Early { bytes: UnsafeCell::new([0; EARLY_SIZE]), used: AtomicUsize::new(0) };

impl Early {
    fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let reserved = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            let start = (base.addr() + used).next_multiple_of(layout.align()) - base.addr();
            start.checked_add(layout.size()).filter(|end| *end <= EARLY_SIZE)
        });
        match reserved {
            Ok(used) => {
                base.wrapping_add((base.addr() + used).next_multiple_of(layout.align()) - base.addr())
            }
            Err(_) => null_mut(),
        }
    }

    #[inline]
    fn contains(&self, ptr: *const u8) -> bool {
        ptr.addr().wrapping_sub(self.bytes.get().addr()) < EARLY_SIZE
    }
}

/// The flags of an allocation whose caller could not say.
#[inline]
pub(crate) fn context_gfp() -> Gfp {
    context::gfp_here()
}

// SAFETY: blocks come from slabs, whole pages or vmalloc, with the size and alignment asked for, and belong to the caller until freed.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if inject::slab_fails(context_gfp, layout.size()) {
            return null_mut();
        }
        alloc_block(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller; `alloc` gave no null pointer.
        unsafe { free_block(NonNull::new_unchecked(ptr), layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if cache_for(layout.size(), layout.align()).is_none() {
            if inject::slab_fails(context_gfp, layout.size()) {
                return null_mut();
            }
            return alloc_large(layout, Gfp::ZERO);
        }
        // SAFETY: the same layout.
        let ptr = unsafe { self.alloc(layout) };
        if !ptr.is_null() {
            // SAFETY: `layout.size()` bytes, ours.
            unsafe { ptr.write_bytes(0, layout.size()) };
        }
        ptr
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (old, new) = (cache_for(layout.size(), layout.align()), cache_for(new_size, layout.align()));
        let stays = match (old, new) {
            (Some(old), Some(new)) => core::ptr::eq(old, new),
            (None, None) => layout.size().div_ceil(PAGE_SIZE) == new_size.div_ceil(PAGE_SIZE),
            _ => false,
        };
        if stays && !EARLY.contains(ptr) {
            return ptr;
        }
        // SAFETY: the caller guarantees that the new size is a valid one for the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: a fresh block, and the old one, which it cannot overlap; the old one is given up.
        unsafe {
            let target = self.alloc(new_layout);
            if !target.is_null() {
                core::ptr::copy_nonoverlapping(ptr, target, layout.size().min(new_size));
                self.dealloc(ptr, layout);
            }
            target
        }
    }
}

/// A block, or null.
#[inline]
pub(crate) fn alloc_block(layout: Layout) -> *mut u8 {
    match cache_for(layout.size(), layout.align()) {
        Some(cache) => {
            let object = cache.alloc_or(move |cache| alloc_unstocked(cache, layout));
            object.map_or(null_mut(), NonNull::as_ptr)
        }
        None => alloc_large(layout, Gfp::empty()),
    }
}

/// Takes back what [`alloc_block`] gave.
///
/// # Safety
/// `block` came from it with this layout, and nobody uses it any more.
#[inline]
pub(crate) unsafe fn free_block(block: NonNull<u8>, layout: Layout) {
    if EARLY.contains(block.as_ptr()) {
        return;
    }
    match cache_for(layout.size(), layout.align()) {
        // SAFETY: the layout leads to the cache that it came from, and the caller gives it up.
        Some(cache) => unsafe { cache.free(block) },
        // SAFETY: as above.
        None => unsafe { free_large(block, layout) },
    }
}

/// This CPU's stash of the cache is empty.
fn alloc_unstocked(cache: &'static RawCache, layout: Layout) -> Option<NonNull<u8>> {
    if let Some(block) = fallible::take_parked(layout) {
        return Some(block);
    }
    // An interrupt took what was promised.
    let reserves = if fallible::is_committed() { Gfp::MEMALLOC } else { Gfp::empty() };
    cache.alloc_slow(context_gfp() | reserves).or_else(|| NonNull::new(alloc_early(layout)))
}

/// No memory from the caches: is it only that they are not up yet?
#[cold]
fn alloc_early(layout: Layout) -> *mut u8 {
    if crate::node::nodes().next().is_none() { EARLY.alloc(layout) } else { null_mut() }
}

#[cold]
#[inline(never)]
fn alloc_large(layout: Layout, extra: Gfp) -> *mut u8 {
    let block = alloc_pages(layout, extra);
    kmemleak::allocated(NonNull::new(block), layout.size());
    block
}

fn alloc_pages(layout: Layout, extra: Gfp) -> *mut u8 {
    if crate::node::nodes().next().is_none() {
        return EARLY.alloc(layout);
    }
    if let Some(block) = fallible::take_parked(layout) {
        return block.as_ptr();
    }
    let gfp = context_gfp() | extra;
    let pages = layout.size().div_ceil(PAGE_SIZE);
    let may_map = context::can_sleep() && layout.align() <= PAGE_SIZE && vmalloc::is_up();
    let contiguous = Order::for_size(layout.size().max(layout.align()));
    if let Some(order) = contiguous {
        // Do not push others out for contiguity that is not needed.
        let effort = if may_map && order > Order::ZERO { gfp | Gfp::NORETRY | Gfp::NOWARN } else { gfp };
        if let Some(pfn) = page_alloc::alloc_block(effort, order.get()) {
            page_alloc::split_and_trim(pfn, order.get(), pages as u32);
            stats::add(Item::SlabUnreclaimable, pages as isize);
            return crate::vmemmap::frame_ptr(pfn);
        }
    }
    if may_map { vmalloc::alloc(layout.size(), gfp).map_or(null_mut(), NonNull::as_ptr) } else { null_mut() }
}

/// # Safety
/// `ptr` came from `alloc_large` with this layout and nobody uses it any more.
#[cold]
#[inline(never)]
unsafe fn free_large(ptr: NonNull<u8>, layout: Layout) {
    kmemleak::freed(ptr);
    let ptr = ptr.as_ptr();
    if vmalloc::contains(ptr) {
        // SAFETY: the caller's promise.
        unsafe { vmalloc::free(ptr) };
        return;
    }
    let first = virt_to_phys(VirtAddr(ptr.addr())).pfn();
    let pages = layout.size().div_ceil(PAGE_SIZE);
    stats::add(Item::SlabUnreclaimable, -(pages as isize));
    for page in 0..pages as u64 {
        // SAFETY: `alloc_large` made single frames of the block.
        drop(unsafe { Frame::from_raw(first + page, Order::ZERO) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn sizes_alignments_and_growth() {
        testing::init();
        let heap = KernelHeap;
        for (size, align) in
            [(1, 1), (24, 16), (100, 64), (5000, 8), (8193, 8), (100_000, 4096), (300_000, 8)]
        {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the layouts are valid; each block is freed once, with the layout it has then.
            unsafe {
                let ptr = heap.alloc_zeroed(layout);
                assert!(!ptr.is_null());
                assert_eq!(ptr.addr() % align, 0);
                assert!((0..size).all(|i| *ptr.add(i) == 0));
                ptr.write_bytes(7, size);
                let grown = heap.realloc(ptr, layout, size * 2);
                assert!((0..size).all(|i| *grown.add(i) == 7));
                heap.dealloc(grown, Layout::from_size_align(size * 2, align).unwrap());
            }
        }
    }

    #[test]
    fn the_early_arena_is_aligned_and_finite() {
        let early = Early { bytes: UnsafeCell::new([0; EARLY_SIZE]), used: AtomicUsize::new(0) };
        let first = early.alloc(Layout::from_size_align(3, 1).unwrap());
        let second = early.alloc(Layout::from_size_align(64, 64).unwrap());
        assert!(
            early.contains(first) && second.addr().is_multiple_of(64) && second.addr() >= first.addr() + 3
        );
        assert!(early.alloc(Layout::from_size_align(EARLY_SIZE, 1).unwrap()).is_null());
    }
}
