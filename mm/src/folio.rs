//! Owned memory: [`Frame`], a block that has one owner, and [`Folio`], a counted reference to pages that are shared (page
//! cache, anonymous memory).
//!
//! A frame is free, a [`Frame`], or behind [`Folio`]s, and its type says which: [`Frame::into_folio`] goes one way; the last
//! `Folio` dropped frees the pages.
//!
//! Bytes are reached through the direct map. A `Frame` is like a `Box<[u8]>`. A folio may be mapped by a process or
//! written by a device at the same time, so its bytes are only copied in and out, never borrowed.

use crate::gfp::{Gfp, Order, OutOfMemory};
use crate::page::{Page, PageFlags, tag};
use crate::page_alloc;
use crate::vmemmap;
use arch::addr::{PAGE_SIZE, Pfn, PhysAddr};
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;

/// A block of `2^order` frames with a single owner. Dropping it frees the memory.
#[derive(Debug)]
pub struct Frame {
    pfn: u32,
    order: Order,
}

impl Frame {
    pub(crate) fn new(pfn: u32, order: Order) -> Self {
        Self { pfn, order }
    }

    /// The first frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        Pfn(u64::from(self.pfn))
    }

    /// Where it is physically.
    #[inline]
    pub fn phys(&self) -> PhysAddr {
        self.pfn().addr()
    }

    /// Its order.
    #[inline]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Its descriptor (the first one).
    #[inline]
    pub fn page(&self) -> &'static Page {
        vmemmap::page(self.pfn)
    }

    /// Its first byte, in the direct map.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        vmemmap::frame_ptr(self.pfn)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block belongs to this value; the direct map covers it.
        unsafe { core::slice::from_raw_parts(self.as_ptr(), self.order.bytes()) }
    }

    /// Its bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block belongs to this value; the direct map covers it.
        unsafe { core::slice::from_raw_parts_mut(self.as_ptr(), self.order.bytes()) }
    }

    /// Gives up ownership without freeing.
    #[inline]
    pub fn into_raw(self) -> Pfn {
        ManuallyDrop::new(self).pfn()
    }

    /// Takes ownership back.
    ///
    /// # Safety
    /// The block came from [`into_raw`](Self::into_raw) with this order, and nobody uses it.
    #[inline]
    pub unsafe fn from_raw(pfn: Pfn, order: Order) -> Self {
        Self { pfn: pfn.0 as u32, order }
    }

    /// Makes it shareable: a folio with one reference.
    pub fn into_folio(self) -> Folio {
        let this = ManuallyDrop::new(self);
        let head = this.page();
        if this.order != Order::ZERO {
            head.set(PageFlags::HEAD);
            vmemmap::page(this.pfn + 1).set_index(u64::from(this.order.get()));
            for tail in 1..this.order.pages() as u32 {
                vmemmap::page(this.pfn + tail).set_mapping((this.pfn as usize) << 2 | tag::TAIL);
            }
        }
        Folio { page: NonNull::from(head) }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        page_alloc::free_block(self.pfn, self.order.get());
    }
}

/// A counted reference to a folio: one page, or a compound of 2^n. Cloning takes a reference, dropping gives it up; the last frees
/// the pages. Dereferences to the head's [`Page`].
///
/// One pointer wide; `Option<Folio>` too.
#[derive(Debug)]
#[repr(transparent)]
pub struct Folio {
    page: NonNull<Page>,
}

// SAFETY: a folio is a counted reference to a descriptor all of whose fields are atomic.
unsafe impl Send for Folio {}
// SAFETY: as above.
unsafe impl Sync for Folio {}

impl Deref for Folio {
    type Target = Page;
    #[inline]
    fn deref(&self) -> &Page {
        // SAFETY: descriptors live for ever.
        unsafe { self.page.as_ref() }
    }
}

impl Clone for Folio {
    #[inline]
    fn clone(&self) -> Self {
        self.get();
        Self { page: self.page }
    }
}

impl Drop for Folio {
    #[inline]
    fn drop(&mut self) {
        if self.put_testzero(1) {
            page_alloc::free_folio(self);
        }
    }
}

impl PartialEq for Folio {
    fn eq(&self, other: &Self) -> bool {
        self.page == other.page
    }
}
impl Eq for Folio {}

/// A part of a folio was outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

impl Folio {
    /// A new folio with one reference.
    pub fn alloc(gfp: Gfp, order: Order) -> Result<Self, OutOfMemory> {
        page_alloc::alloc_pages(gfp, order).map(Frame::into_folio)
    }

    /// The descriptor, for ever.
    #[inline]
    pub fn page(&self) -> &'static Page {
        // SAFETY: descriptors live for ever.
        unsafe { self.page.as_ref() }
    }

    /// The first frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        Pfn(u64::from(vmemmap::pfn_of(self)))
    }

    /// Where it is physically.
    #[inline]
    pub fn phys(&self) -> PhysAddr {
        self.pfn().addr()
    }

    /// Its order.
    #[inline]
    pub fn order(&self) -> u8 {
        page_alloc::order_of(self)
    }

    /// Number of pages.
    #[inline]
    pub fn nr_pages(&self) -> usize {
        1 << self.order()
    }

    /// Number of bytes.
    #[inline]
    pub fn size(&self) -> usize {
        PAGE_SIZE << self.order()
    }

    /// The node its memory is on.
    pub fn node(&self) -> usize {
        vmemmap::block(self.pfn().0 as u32).zone().node()
    }

    /// The zone it is in.
    pub fn zone(&self) -> crate::pageblock::ZoneId {
        vmemmap::block(self.pfn().0 as u32).zone()
    }

    /// Its first byte, in the direct map. For the architecture's user copies and for DMA; everything else copies with the
    /// functions below.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        arch::addr::phys_to_virt(self.phys())
    }

    #[inline]
    fn part(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfBounds> {
        let end = offset.checked_add(len).ok_or(OutOfBounds)?;
        if end > self.size() {
            return Err(OutOfBounds);
        }
        Ok(self.as_ptr().wrapping_add(offset))
    }

    /// Copies `from` into the folio at `offset`.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        let to = self.part(offset, from.len())?;
        // SAFETY: inside the folio; `from` is kernel memory that is not this folio's (folios are never borrowed). Concurrent
        // writers (user mappings, devices) can only affect the bytes' values.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    /// Copies from the folio at `offset` into `to`.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.part(offset, to.len())?;
        // SAFETY: as for `copy_in`.
        unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Fills part of the folio.
    #[inline]
    pub fn fill(&self, offset: usize, len: usize, byte: u8) -> Result<(), OutOfBounds> {
        let to = self.part(offset, len)?;
        // SAFETY: as for `copy_in`.
        unsafe { core::ptr::write_bytes(to, byte, len) };
        Ok(())
    }

    /// Copies the first `len` bytes of another folio.
    pub fn copy_from(&self, other: &Folio, len: usize) -> Result<(), OutOfBounds> {
        let (to, from) = (self.part(0, len)?, other.part(0, len)?);
        // SAFETY: both inside their folios; `copy` allows that they are the same.
        unsafe { core::ptr::copy(from, to, len) };
        Ok(())
    }

    /// Copies `len` bytes at `from_offset` of another folio to `offset`.
    pub fn copy_part(
        &self,
        offset: usize,
        other: &Folio,
        from_offset: usize,
        len: usize,
    ) -> Result<(), OutOfBounds> {
        let (to, from) = (self.part(offset, len)?, other.part(from_offset, len)?);
        // SAFETY: both inside their folios; `copy` allows that they are the same.
        unsafe { core::ptr::copy(from, to, len) };
        Ok(())
    }

    /// Gives up the reference without dropping it: for storage in trees and page tables.
    #[inline]
    pub fn into_raw(self) -> NonNull<Page> {
        ManuallyDrop::new(self).page
    }

    /// Takes over a reference that [`into_raw`](Self::into_raw) gave up.
    ///
    /// # Safety
    /// `page` is the head of a folio and the caller owns one reference to it, which passes to the result.
    #[inline]
    pub unsafe fn from_raw(page: NonNull<Page>) -> Self {
        Self { page }
    }

    /// A new reference to a folio that somebody else may be freeing at this moment.
    ///
    /// The result may be another folio than expected (freed and reused): the caller checks mapping and index, or the page-table
    /// entry, again.
    #[inline]
    pub fn try_from_page(page: &'static Page) -> Option<Self> {
        page.try_get().then(|| Self { page: NonNull::from(page) })
    }

    /// The folio that frame `pfn` belongs to, with a new reference; `None` if the frame is free or no RAM. Same caution as for
    /// [`try_from_page`](Self::try_from_page).
    pub fn from_pfn(pfn: Pfn) -> Option<Self> {
        let page = vmemmap::valid(pfn)?;
        Self::try_from_page(head_of(page))
    }
}

/// The head of the compound that `page` is in (itself, if it is none's tail).
#[inline]
pub fn head_of(page: &'static Page) -> &'static Page {
    let mapping = page.mapping();
    if mapping & tag::MASK == tag::TAIL { vmemmap::page((mapping >> 2) as u32) } else { page }
}
