//! `PAGEMAP_SCAN`: ranges of pages by what they are, and protecting them in the same breath.
//!
//! A scan goes from area to area and table to table; a page is looked at, reported and protected under one hold of its table's lock, so no
//! store is lost between. It stops when the buffer of regions is full; the caller copies them out and goes on.

use crate::fallible::TryVec;
use crate::frames;
use crate::page::tag;
use crate::ptable::{PTRS_PER_TABLE, TABLE_SPAN};
use crate::space::AddressSpace;
use crate::uffd::guard::{Unpopulated, guard_cell};
use crate::vma::{VmFlags, Vma};
use abi::raw::UFFD_FEATURE_WP_UNPOPULATED;
use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::paging::Pte;
use bitflags::bitflags;
use core::ops::Range;

bitflags! {
    /// What a page is (`PAGE_IS_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Category: u64 {
        /// In an area whose stores are recorded without waiting.
        const WPALLOWED = 1;
        /// Not protected by a userfaultfd.
        const WRITTEN = 1 << 1;
        /// Of a file or of shared memory.
        const FILE = 1 << 2;
        /// In memory.
        const PRESENT = 1 << 3;
        /// Not in memory, and remembered.
        const SWAPPED = 1 << 4;
        /// The page of zeros.
        const PFNZERO = 1 << 5;
        /// Of a huge page; there are none.
        const HUGE = 1 << 6;
        /// Written since soft-dirty marks were cleared.
        const SOFT_DIRTY = 1 << 7;
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Categories that are taken for their opposite.
    pub inverted: Category,
    /// All of these.
    pub all: Category,
    /// One of these, unless empty.
    pub any: Category,
    /// Those that are reported.
    pub report: Category,
    /// `PM_SCAN_WP_MATCHING`: what is found is protected.
    pub protect: bool,
    /// `PM_SCAN_CHECK_WPASYNC`: fail where stores cannot be recorded.
    pub insist: bool,
    /// Most pages to report.
    pub max_pages: u64,
}

/// Neighbouring pages of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The addresses.
    pub start: usize,
    /// The first address after.
    pub end: usize,
    /// What they are, as far as that is to be reported.
    pub categories: Category,
}

/// What was found so far.
pub struct Found {
    /// Regions not yet copied out.
    pub regions: Vec<Region>,
    /// How many fit; `None`: nothing is reported.
    room: Option<usize>,
    /// Pages reported.
    pub pages: u64,
}

impl Found {
    /// Nothing yet, room for `room` regions at a time; none: the scan is for its protection only.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(room: Option<usize>) -> Result<Self> {
        let mut regions = Vec::new();
        regions.try_reserve_exact(room.unwrap_or(0)).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { regions, room, pages: 0 })
    }

    /// Makes room for `room` regions after those so far were copied out.
    pub fn clear(&mut self, room: usize) {
        self.regions.clear();
        self.room = Some(room.min(self.regions.capacity()));
    }

    /// Adds pages; how many bytes of them fit.
    fn push(&mut self, request: &Request, range: &Range<usize>, categories: Category) -> usize {
        let Some(room) = self.room else { return range.len() };
        let left = request.max_pages.saturating_sub(self.pages);
        let bytes = range.len().min(usize::try_from(left).unwrap_or(usize::MAX).saturating_mul(PAGE_SIZE));
        if bytes == 0 {
            return 0;
        }
        let (end, categories) = (range.start + bytes, categories & request.report);
        let full = self.regions.len() >= room;
        match self.regions.last_mut() {
            Some(last) if last.end == range.start && last.categories == categories => last.end = end,
            _ if full => return 0,
            _ => self.regions.push_reserved(Region { start: range.start, end, categories }),
        }
        self.pages += (bytes >> PAGE_SHIFT) as u64;
        bytes
    }
}

impl Request {
    fn matches(&self, categories: Category) -> bool {
        let seen = categories ^ self.inverted;
        seen.contains(self.all) && (self.any.is_empty() || seen.intersects(self.any))
    }

    /// Whether a page of an area with `categories` can match at all.
    fn matches_area(&self, categories: Category) -> bool {
        let required = self.all & Category::WPALLOWED;
        (categories ^ self.inverted).contains(required)
    }
}

impl AddressSpace {
    /// Looks at `range`. Returns where it stopped for want of room, or nothing at the end.
    ///
    /// # Errors
    /// `EPERM`: `insist`, and stores cannot be recorded there. `ENOMEM`.
    pub fn scan_pages(
        &self,
        range: Range<usize>,
        request: &Request,
        found: &mut Found,
    ) -> Result<Option<usize>> {
        let areas = self.areas().read();
        for entry in areas.overlapping(range.clone()) {
            let vma = &entry.value;
            let recorded = vma.flags().contains(VmFlags::UFFD_WP)
                && vma.uffd().is_some_and(|context| {
                    context.is_wp_async()
                        && (!vma.is_anonymous()
                            || context.features() & u64::from(UFFD_FEATURE_WP_UNPOPULATED) != 0)
                });
            if !recorded {
                if request.insist {
                    return Err(Errno::EPERM);
                }
                if request.protect {
                    continue;
                }
            }
            if vma.flags().contains(VmFlags::PFNMAP) {
                continue;
            }
            let mut of_area = Category::empty();
            of_area.set(Category::WPALLOWED, recorded);
            of_area.set(Category::SOFT_DIRTY, vma.flags().contains(VmFlags::SOFTDIRTY));
            if !request.matches_area(of_area) {
                continue;
            }
            let part = vma.start().max(range.start)..vma.end().min(range.end);
            if let Some(stop) = self.scan_area(vma, part, of_area, request, found)? {
                return Ok(Some(stop));
            }
        }
        Ok(None)
    }

    fn scan_area(
        &self,
        vma: &Vma,
        range: Range<usize>,
        of_area: Category,
        request: &Request,
        found: &mut Found,
    ) -> Result<Option<usize>> {
        let mut at = range.start;
        while at < range.end {
            let end = (at | (TABLE_SPAN - 1)).saturating_add(1).min(range.end);
            let Some(table) = self.pgd().table(at) else {
                if request.matches(of_area) {
                    let fits = found.push(request, &(at..end), of_area);
                    if request.protect && fits > 0 {
                        self.guard(vma, at..at + fits, Unpopulated::Mark)?;
                    }
                    if at + fits < end {
                        return Ok(Some(at + fits));
                    }
                }
                at = end;
                continue;
            };
            let table = table.lock();
            let mut changed = false;
            let mut stop = None;
            for addr in (at..end).step_by(PAGE_SIZE).take(PTRS_PER_TABLE) {
                let cell = table.cell(addr);
                let categories = of_area | categories(cell.load());
                if !request.matches(categories) {
                    continue;
                }
                if found.push(request, &(addr..addr + PAGE_SIZE), categories) == 0 {
                    stop = Some(addr);
                    break;
                }
                if request.protect {
                    changed |= guard_cell(cell, Unpopulated::Mark);
                }
            }
            if changed {
                arch::tlb::flush_range(self.pgd().context(), at..end, 0, false);
            }
            if stop.is_some() {
                return Ok(stop);
            }
            at = end;
        }
        Ok(None)
    }
}

fn categories(pte: Pte) -> Category {
    if pte.is_none() {
        return Category::empty();
    }
    if pte.as_software().is_some() {
        let guarded = crate::ptable::Marker::of(pte).is_some_and(|marker| marker.uffd_wp);
        return if guarded { Category::SWAPPED } else { Category::SWAPPED | Category::WRITTEN };
    }
    let mut seen = Category::PRESENT;
    seen.set(Category::WRITTEN, !pte.is_uffd_wp());
    seen.set(Category::SOFT_DIRTY, pte.is_soft_dirty());
    seen.set(Category::PFNZERO, pte.pfn() == frames::zero_page());
    if !pte.is_special() {
        seen.set(Category::FILE, frames::page_of(pte.pfn()).mapping() & tag::MASK != tag::ANON);
    }
    seen
}
