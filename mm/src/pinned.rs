//! Memory that kernel and user share for long: pages that stay where they are while a [`PinnedPages`] exists.
//!
//! Either the kernel allocated them, for a user to map (the rings of `io_uring(7)`), or they are a user's own, found once and
//! held by reference (registered buffers, rings in user memory). Both sides may write at any time, so bytes are only
//! copied in and out, never borrowed, and the words that are synchronisation are accessed as atomics.
//!
//! Offsets are from the first byte. Values read with [`PinnedPages::read`] must not cross a page; those of the formats that
//! are shared this way do not.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "not converted to mm::fallible yet")]

use crate::fault::Access;
use crate::folio::Folio;
use crate::gfp::{Gfp, Order};
use crate::space::AddressSpace;
use crate::user::access_ok;
use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// One page: its first byte, and the reference that keeps it.
struct Held {
    first: *mut u8,
    folio: Folio,
}

/// Pages at consecutive offsets. See the module text.
pub struct PinnedPages {
    pages: Vec<Held>,
    /// Offset of the first byte in the first page.
    start: usize,
    len: usize,
}

// SAFETY: the pointers lead to pages that the folios keep; all accesses are copies or atomics.
unsafe impl Send for PinnedPages {}
// SAFETY: as above.
unsafe impl Sync for PinnedPages {}

impl core::fmt::Debug for PinnedPages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PinnedPages({} bytes)", self.len)
    }
}

/// Copies `len` bytes of memory that others may write at the same time.
///
/// # Safety
/// Both ranges are valid for `len` bytes, and `to` or `from` is memory that nobody else sees.
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; races can only affect the values.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
}

impl PinnedPages {
    /// `len` zero bytes of the kernel's.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn alloc(len: usize) -> Result<Self> {
        let count = len.div_ceil(PAGE_SIZE);
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..count {
            let folio = Folio::alloc(Gfp::KERNEL | Gfp::ZERO, Order::ZERO).map_err(|_| Errno::ENOMEM)?;
            pages.push(Held { first: folio.as_ptr(), folio });
        }
        Ok(Self { pages, start: 0, len })
    }

    /// The pages that `len` bytes at `addr` of `space` lie in, made present and writable.
    ///
    /// # Errors
    /// `EFAULT` where nothing (or nothing writable) is mapped, `ENOMEM`.
    pub fn pin_user(space: &AddressSpace, addr: usize, len: usize) -> Result<Self> {
        if !access_ok(addr, len) || len == 0 {
            return Err(Errno::EFAULT);
        }
        let start = addr & (PAGE_SIZE - 1);
        let count = (start + len).div_ceil(PAGE_SIZE);
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        for index in 0..count {
            let (first, folio) = space.pin_page(addr - start + (index << PAGE_SHIFT), Access::Write)?;
            pages.push(Held { first, folio });
        }
        Ok(Self { pages, start, len })
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pages are held.
    pub fn nr_pages(&self) -> usize {
        self.pages.len()
    }

    /// The frame of page `index`, for mapping kernel pages into user memory. The mapping must hold what holds `self`.
    pub fn frame(&self, index: usize) -> Option<Pfn> {
        let held = self.pages.get(index)?;
        let inside = held.first.addr() - held.folio.as_ptr().addr();
        Some(held.folio.pfn() + (inside >> PAGE_SHIFT) as u64)
    }

    /// Identities of the pages, for accounting them once.
    pub fn frames(&self) -> impl Iterator<Item = Pfn> + '_ {
        (0..self.pages.len()).filter_map(|index| self.frame(index))
    }

    /// Where the byte at `offset` is, if `len` bytes from there lie in one page.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        let at = self.start + offset;
        let inside = at & (PAGE_SIZE - 1);
        if inside + len > PAGE_SIZE {
            return None;
        }
        Some(self.pages.get(at >> PAGE_SHIFT)?.first.wrapping_add(inside))
    }

    #[inline]
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.at(offset, 4).filter(|at| at.addr().is_multiple_of(4))?;
        // SAFETY: aligned, inside a page that `self` keeps; the kernel accesses such words as atomics only, or copies them.
        Some(unsafe { AtomicU32::from_ptr(at.cast()) })
    }

    /// The word at `offset`, with `Acquire`; 0 outside.
    #[inline]
    pub fn load(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Stores the word at `offset` with `Release`.
    #[inline]
    pub fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// Sets bits of the word at `offset` (`SeqCst`).
    pub fn set_bits(&self, offset: usize, bits: u32) {
        if let Some(word) = self.word(offset) {
            word.fetch_or(bits, Ordering::SeqCst);
        }
    }

    /// Clears bits of the word at `offset` (`SeqCst`).
    pub fn clear_bits(&self, offset: usize, bits: u32) {
        if let Some(word) = self.word(offset) {
            word.fetch_and(!bits, Ordering::SeqCst);
        }
    }

    /// Copies a value out. `None` if it does not lie inside one page.
    #[inline]
    pub fn read<T: FromBytes>(&self, offset: usize) -> Option<T> {
        let from = self.at(offset, size_of::<T>())?;
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the source is inside the page, the target is our own.
        unsafe { copy(from, value.as_mut_ptr().cast(), size_of::<T>()) };
        // SAFETY: every byte was written, and any bytes are a `T`.
        Some(unsafe { value.assume_init() })
    }

    /// Copies a value in; nothing happens outside.
    #[inline]
    pub fn write<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        if let Some(to) = self.at(offset, size_of::<T>()) {
            // SAFETY: the target is inside the page; references to values never lie in shared pages.
            unsafe { copy(value.as_bytes().as_ptr(), to, size_of::<T>()) };
        }
    }

    /// Calls `f` with (pointer, done, length) for the pieces that `offset..offset + len` consists of.
    fn pieces(&self, offset: usize, len: usize, mut f: impl FnMut(*mut u8, usize, usize)) -> usize {
        let len = len.min(self.len.saturating_sub(offset));
        let mut done = 0;
        while done < len {
            let inside = (self.start + offset + done) & (PAGE_SIZE - 1);
            let piece = (PAGE_SIZE - inside).min(len - done);
            let Some(at) = self.at(offset + done, piece) else { break };
            f(at, done, piece);
            done += piece;
        }
        done
    }

    /// Copies bytes out; returns how many.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> usize {
        let target = to.as_mut_ptr();
        // SAFETY: the pieces lie in pages of `self` and sum up to at most `to`, which nobody else sees.
        self.pieces(offset, to.len(), |at, done, len| unsafe { copy(at, target.wrapping_add(done), len) })
    }

    /// Copies bytes in; returns how many.
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> usize {
        let source = from.as_ptr();
        // SAFETY: as for `copy_out`.
        self.pieces(offset, from.len(), |at, done, len| unsafe { copy(source.wrapping_add(done), at, len) })
    }

    /// Sets bytes to zero; returns how many.
    pub fn zero(&self, offset: usize, len: usize) -> usize {
        // SAFETY: the pieces lie in pages of `self`.
        self.pieces(offset, len, |at, _, len| unsafe { core::ptr::write_bytes(at, 0, len) })
    }

    /// Copies `len` bytes at `folio_offset` of a folio in; returns how many.
    pub(crate) fn copy_from_folio(
        &self,
        offset: usize,
        folio: &Folio,
        folio_offset: usize,
        len: usize,
    ) -> usize {
        let from = folio.as_ptr().wrapping_add(folio_offset);
        let len = len.min(folio.size().saturating_sub(folio_offset));
        // SAFETY: both inside pages that are held. They may be the same page (a mapped page-cache page that is a registered buffer),
        // so the copy allows overlap.
        self.pieces(offset, len, |at, done, len| unsafe { core::ptr::copy(from.wrapping_add(done), at, len) })
    }

    /// Copies bytes out to `folio_offset` of a folio; returns how many.
    pub(crate) fn copy_to_folio(
        &self,
        offset: usize,
        folio: &Folio,
        folio_offset: usize,
        len: usize,
    ) -> usize {
        let to = folio.as_ptr().wrapping_add(folio_offset);
        let len = len.min(folio.size().saturating_sub(folio_offset));
        // SAFETY: as for `copy_from_folio`.
        self.pieces(offset, len, |at, done, len| unsafe { core::ptr::copy(at, to.wrapping_add(done), len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_bytes_cross_pages_as_documented() {
        crate::testing::init();
        let pages = PinnedPages::alloc(3 * PAGE_SIZE).unwrap();
        let bytes: Vec<u8> = (0..2 * PAGE_SIZE).map(|i| i as u8).collect();
        assert_eq!(pages.copy_in(100, &bytes), bytes.len());
        let mut back = alloc::vec![0; bytes.len()];
        assert_eq!(pages.copy_out(100, &mut back), bytes.len());
        assert_eq!(back, bytes);
        assert_eq!(pages.read::<u8>(100), Some(0));
        assert_eq!(pages.read::<u64>(PAGE_SIZE - 4), None);
        assert_eq!(pages.read::<u64>(3 * PAGE_SIZE - 7), None);
        pages.store(PAGE_SIZE, 7);
        pages.set_bits(PAGE_SIZE, 8);
        assert_eq!(pages.load(PAGE_SIZE), 15);
        assert_eq!(pages.copy_in(3 * PAGE_SIZE - 2, &[1, 2, 3]), 2);
    }
}
