//! What address spaces need of the page allocator, in their own terms.
//!
//! User pages are order-0 folios. The reference that a page-table entry holds is a raw one: [`put`] gives it up.

use crate::folio::{Folio, Frame};
use crate::gfp::{Gfp, Order, OutOfMemory};
use crate::mempolicy::Policy;
use crate::page::Page;
use crate::page_alloc::set_page_table;
use crate::stats::{self, Item};
use crate::vmemmap;
use alloc::sync::Arc;
use arch::addr::{PAGE_SIZE, Pfn, PhysAddr};
use core::sync::atomic::{AtomicUsize, Ordering};
use sync::Once;

/// The descriptor of a frame that a page-table entry maps.
#[inline]
pub(crate) fn page_of(pfn: Pfn) -> &'static Page {
    vmemmap::page(pfn.0 as u32)
}

/// The same, by number.
#[inline]
pub(crate) fn page_of_number(pfn: u32) -> &'static Page {
    vmemmap::page(pfn)
}

/// The frame number of a descriptor.
#[inline]
pub(crate) fn pfn_of(page: &Page) -> Pfn {
    Pfn(u64::from(vmemmap::pfn_of(page)))
}

/// The physical address of a frame.
#[inline]
pub(crate) fn phys_of(page: &Page) -> PhysAddr {
    pfn_of(page).addr()
}

/// A new reference to a page that is mapped (under the table's lock) and so has one.
#[inline]
pub(crate) fn folio_of(page: &'static Page) -> Folio {
    page.get();
    // SAFETY: user pages are folios of one page; the reference was just taken.
    unsafe { Folio::from_raw(core::ptr::NonNull::from(page)) }
}

/// Gives up the reference of a page-table entry.
#[inline]
pub(crate) fn put(page: &'static Page) {
    // SAFETY: the entry that held the reference is gone; the caller passes it on.
    drop(unsafe { Folio::from_raw(core::ptr::NonNull::from(page)) });
}

/// Gives up the references of page-table entries that are gone from all TLBs.
pub(crate) fn put_mapped_batch(pages: &[u32]) {
    for pfn in pages {
        put(vmemmap::page(*pfn));
    }
}

/// A page for a user, zeroed if asked for.
#[inline]
pub(crate) fn alloc_user_page(zeroed: bool) -> Result<Folio, OutOfMemory> {
    let gfp = if zeroed { Gfp::HIGHUSER_MOVABLE | Gfp::ZERO } else { Gfp::HIGHUSER_MOVABLE };
    Folio::alloc(gfp, Order::ZERO)
}

/// The same for the page with number `index` of an area, where policies say on which node it is to be.
#[cold]
pub(crate) fn alloc_user_page_by_policy(
    zeroed: bool,
    policy: Option<Arc<Policy>>,
    index: u64,
) -> Result<Folio, OutOfMemory> {
    let gfp = if zeroed { Gfp::HIGHUSER_MOVABLE | Gfp::ZERO } else { Gfp::HIGHUSER_MOVABLE };
    let frame = match policy {
        Some(policy) => policy.alloc_indexed(gfp, index),
        None => crate::mempolicy::alloc_by_task(gfp, index),
    };
    frame.map(Frame::into_folio)
}

/// Copies the contents of one page to another.
#[inline]
pub(crate) fn copy_page(to: &Page, from: &Page) {
    let to = arch::addr::phys_to_virt(phys_of(to));
    let from = arch::addr::phys_to_virt(phys_of(from));
    // SAFETY: two different frames of RAM, the first of them the caller's alone; concurrent writers of the second only affect values.
    unsafe { core::ptr::copy_nonoverlapping(from, to, PAGE_SIZE) };
}

/// Copies the contents of a frame of the kernel's own, which is RAM for as long as the system runs.
pub(crate) fn copy_frame(to: &Page, from: Pfn) {
    let to = arch::addr::phys_to_virt(phys_of(to));
    let from = arch::addr::phys_to_virt(from.addr());
    // SAFETY: as in `copy_page`; what a special mapping names is never given back.
    unsafe { core::ptr::copy_nonoverlapping(from, to, PAGE_SIZE) };
}

/// A zeroed page for a page table.
pub(crate) fn alloc_table() -> Result<&'static Page, OutOfMemory> {
    let frame = crate::page_alloc::alloc_page(Gfp::KERNEL_ACCOUNT | Gfp::ZERO)?;
    stats::add(Item::PageTables, 1);
    set_page_table(&frame, true);
    let page = frame.page();
    let _ = frame.into_raw();
    Ok(page)
}

/// Frees a page table that no CPU walks any more.
pub(crate) fn free_table(page: &'static Page) {
    stats::add(Item::PageTables, -1);
    // SAFETY: from `alloc_table`, and unlinked.
    let frame = unsafe { Frame::from_raw(pfn_of(page), Order::ZERO) };
    set_page_table(&frame, false);
}

static ZERO_PAGE: Once<Pfn> = Once::new();

/// The frame that holds nothing but zeros. It exists from [`init`] on.
#[inline]
pub(crate) fn zero_page() -> Pfn {
    match ZERO_PAGE.get() {
        Some(pfn) => *pfn,
        None => make_zero_page(),
    }
}

#[cold]
fn make_zero_page() -> Pfn {
    *ZERO_PAGE.call_once(|| {
        match crate::page_alloc::alloc_page(Gfp::KERNEL | Gfp::ZERO | Gfp::NOFAIL) {
            Ok(frame) => frame.into_raw(),
            // With NOFAIL the allocator does not come back empty-handed.
            Err(OutOfMemory) => Pfn(0),
        }
    })
}

/// Makes the zero page. Once at boot.
pub(crate) fn init() {
    zero_page();
}

static TOTAL_SWAP: AtomicUsize = AtomicUsize::new(0);

/// Pages of memory.
pub(crate) fn total_pages() -> usize {
    stats::meminfo().total
}

/// Pages of swap.
pub(crate) fn total_swap_pages() -> usize {
    TOTAL_SWAP.load(Ordering::Relaxed)
}

/// Pages came to (or left) page caches.
pub(crate) fn count_cached(pages: isize, memory: bool) {
    stats::add(Item::FilePages, pages);
    if memory {
        stats::add(Item::Shmem, pages);
    }
}

/// Anonymous pages became mapped (or are mapped no longer).
#[inline]
pub(crate) fn count_anon_mapped(pages: isize) {
    stats::add(Item::AnonPages, pages);
}

/// Page-cache pages became mapped (or are mapped no longer).
#[inline]
pub(crate) fn count_file_mapped(pages: isize) {
    stats::add(Item::FileMapped, pages);
}

/// The last mapping of a page went away.
#[inline]
pub(crate) fn count_unmapped(page: &Page) {
    let anon = page.mapping() & crate::page::tag::MASK == crate::page::tag::ANON;
    stats::add(if anon { Item::AnonPages } else { Item::FileMapped }, -1);
}

/// Page-cache pages became dirty (or clean).
pub(crate) fn count_dirty(pages: isize) {
    stats::add(Item::FileDirty, pages);
}
