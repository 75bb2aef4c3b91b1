//! Memory that kmemleak needs for itself: not the heap's, so that it is neither noted nor searched.

use crate::context;
use crate::gfp::Gfp;
use crate::vmalloc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many such areas there may be at once: the table, and the two of a scan.
const MOST: usize = 4;
static STARTS: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];

/// An array of plain numbers, all zero at first.
pub(super) struct Area<T: Plain> {
    start: NonNull<T>,
    len: usize,
}

/// # Safety
/// All bytes zero are a value, and values may be forgotten.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: a number.
unsafe impl Plain for u32 {}

// SAFETY: owns its memory.
unsafe impl<T: Plain> Send for Area<T> {}

impl<T: Plain> Area<T> {
    /// `None` without memory.
    pub(super) fn new(len: usize) -> Option<Self> {
        let slot = STARTS.iter().find(|start| start.load(Relaxed) == 0)?;
        let start =
            vmalloc::alloc(len.checked_mul(size_of::<T>())?.max(1), context::gfp_here() | Gfp::ZERO).ok()?;
        slot.store(start.as_ptr().addr(), Relaxed);
        Some(Self { start: start.cast(), len })
    }

    pub(super) fn slice(&mut self) -> &mut [T] {
        // SAFETY: `len` values, all zero at first, which this area owns; pages are aligned enough.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> Drop for Area<T> {
    fn drop(&mut self) {
        let start = self.start.as_ptr().addr();
        for slot in STARTS.iter().filter(|slot| slot.load(Relaxed) == start) {
            slot.store(0, Relaxed);
        }
        // SAFETY: it is ours, and given up.
        unsafe { vmalloc::free(self.start.as_ptr().cast()) };
    }
}

/// Whether an area of kmemleak's begins there.
pub(super) fn is_own(start: usize) -> bool {
    STARTS.iter().any(|own| own.load(Relaxed) == start)
}
