//! Memory that kernel and user share for long: pages that stay where they are while a [`PinnedPages`] exists.
//!
//! Either the kernel allocated them, for a user to map, or they are a user's own, found once and *pinned* (registered buffers of
//! `io_uring(7)`). Both sides may write at any time, so bytes are only copied in and out, never borrowed. What both sides look
//! at as words is a [`crate::shared::SharedRing`].
//!
//! # Pins and copy on write
//!
//! A user's page that the kernel goes on writing to must stay the user's: if fork made it shared, the user's next write would go to a
//! copy and the two would see different pages. So a pin adds [`PIN`] to the page's reference count, and fork copies a page with
//! that many references for the child at once ([`crate::copy`]). A page that has as many for other reasons is copied
//! needlessly, which is all that happens. Address spaces that never had a pin do not even look.

use crate::fallible::{TryVec, try_with_capacity};
use crate::folio::Folio;
use crate::gfp::{Gfp, Order};
use crate::page::{Page, PageFlags};
use crate::space::AddressSpace;
use crate::user::access_ok;
use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn};

/// What a pin adds to a page's reference count.
pub(crate) const PIN: u32 = 1024;
/// Beyond this no pin is added: the count is not to overflow.
const MOST: u32 = 1 << 30;

/// A pin of a user's page; see the module text.
pub(crate) struct Pin(Folio);

impl Pin {
    /// Pins a page that is about to be written to by other ways than its mappings; `None` if it is pinned too often. The table that
    /// maps it is locked.
    pub(crate) fn new(folio: Folio) -> Option<Self> {
        if folio.page().refcount() >= MOST {
            return None;
        }
        folio.page().get_many(PIN - 1);
        folio.set(PageFlags::DIRTY);
        Some(Self(folio))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let last = self.0.page().put_testzero(PIN - 1);
        debug_assert!(!last, "the folio is a reference too");
    }
}

/// Whether a page may be pinned.
pub(crate) fn is_pinned(page: &Page) -> bool {
    page.refcount() >= PIN
}

/// What keeps a page.
enum Keep {
    Own(Folio),
    Pinned(Pin),
}

/// One page: its first byte, and what keeps it.
struct Held {
    first: *mut u8,
    keep: Keep,
}

impl Held {
    fn folio(&self) -> &Folio {
        match &self.keep {
            Keep::Own(folio) | Keep::Pinned(Pin(folio)) => folio,
        }
    }
}

/// Pages at consecutive offsets. See the module text.
pub struct PinnedPages {
    pages: Vec<Held>,
    /// Offset of the first byte in the first page.
    start: usize,
    len: usize,
}

// SAFETY: the pointers lead to pages that the folios keep; all accesses are copies.
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
        let mut pages = try_with_capacity(count)?;
        for _ in 0..count {
            let folio = Folio::alloc(Gfp::KERNEL | Gfp::ZERO, Order::ZERO)?;
            pages.push_reserved(Held { first: folio.as_ptr(), keep: Keep::Own(folio) });
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
        let mut pages = try_with_capacity(count)?;
        for index in 0..count {
            let (first, pin) = space.pin_page(addr - start + (index << PAGE_SHIFT))?;
            pages.push_reserved(Held { first, keep: Keep::Pinned(pin) });
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
        let folio = held.folio();
        let inside = held.first.addr() - folio.as_ptr().addr();
        Some(folio.pfn() + (inside >> PAGE_SHIFT) as u64)
    }

    /// The first byte of the page, if there is one only.
    pub(crate) fn single(&self) -> Option<*mut u8> {
        match &*self.pages {
            [only] => Some(only.first),
            _ => None,
        }
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
        assert_eq!(pages.copy_in(3 * PAGE_SIZE - 2, &[1, 2, 3]), 2);
    }
}
