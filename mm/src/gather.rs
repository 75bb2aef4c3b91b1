//! Taking mappings away: entries first, then one TLB flush, then the pages.
//!
//! No page may be reused while a CPU can still reach it through its TLB. A [`Gather`] clears page-table
//! entries under the table locks, remembers the pages, and gives them up only behind a flush:
//! one flush for up to [`BATCH`] pages (Linux's `mmu_gather`).

use crate::frames;
use crate::page::{Page, PageFlags, tag};
use crate::ptable::{Marker, UserCell};
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma};
use arch::addr::PAGE_SIZE;
use arch::paging::Pte;
use core::ops::Range;

/// Pages per flush.
const BATCH: usize = 256;

/// No addresses: what a minimum and a maximum start from.
#[allow(clippy::reversed_empty_ranges)]
const NOTHING: Range<usize> = usize::MAX..0;

/// Pages on their way out. See the module documentation.
pub(crate) struct Gather<'a> {
    space: &'a AddressSpace,
    pages: [u32; BATCH],
    count: usize,
    /// Addresses whose entries changed since the last flush.
    dirty: Range<usize>,
    tables: bool,
    /// Protections of a userfaultfd outlive the pages: file areas whose contents go and come back.
    keep_markers: bool,
}

/// Which pages of an area to unmap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All.
    All,
    /// Only those of the page cache: a truncated file keeps its private copies (`even_cows` false).
    FileOnly,
}

impl<'a> Gather<'a> {
    /// Nothing yet, for `space`.
    pub(crate) fn new(space: &'a AddressSpace) -> Self {
        space.counters().update_hiwater();
        Self { space, pages: [0; BATCH], count: 0, dirty: NOTHING, tables: false, keep_markers: false }
    }

    /// The areas stay, and pages may come back: protections that a userfaultfd asked for are remembered if `vma` is of a file.
    pub(crate) fn keep_markers_of(&mut self, vma: &Vma) {
        self.keep_markers = vma.flags().contains(VmFlags::UFFD_WP) && !vma.is_anonymous();
    }

    /// Unmaps pages in `range`, which an area (or several) covers.
    pub(crate) fn unmap(&mut self, range: Range<usize>, which: Which) {
        let space = self.space;
        let mut next = range.start;
        // A full batch ends the walk, which goes on behind the flush.
        while next < range.end {
            let mut reached = range.end;
            space.pgd().for_each_table(next..range.end, &mut |cells, start| {
                if reached == range.end
                    && let Some(stop) = self.unmap_cells(cells, start, which)
                {
                    reached = stop;
                }
            });
            next = reached;
            if next < range.end {
                self.flush();
            }
        }
    }

    /// Clears the entries of one run; returns where it stopped if the batch is full.
    fn unmap_cells(&mut self, cells: &[UserCell], start: usize, which: Which) -> Option<usize> {
        let (mut anon, mut file, mut shmem) = (0, 0, 0);
        let (mut anon_gone, mut file_gone) = (0isize, 0isize);
        let mut stopped = None;
        let mut addr = start;
        for cell in cells {
            let cell = &cell.0;
            let pte = cell.load();
            if pte.is_none() {
                addr += PAGE_SIZE;
                continue;
            }
            if self.count == BATCH {
                stopped = Some(addr);
                break;
            }
            if pte.as_software().is_some() || pte.is_special() {
                cell.store(self.remains(pte));
                self.touch(addr);
                addr += PAGE_SIZE;
                continue;
            }
            let page = frames::page_of(pte.pfn());
            let is_anon = page.mapping() & tag::MASK == tag::ANON;
            if is_anon && which == Which::FileOnly {
                addr += PAGE_SIZE;
                continue;
            }
            let old = cell.swap(self.remains(pte));
            if is_anon {
                anon -= 1;
            } else {
                if page.test(PageFlags::SWAPBACKED) {
                    shmem -= 1;
                } else {
                    file -= 1;
                }
                if old.is_dirty() && !page.test(PageFlags::DIRTY) {
                    crate::filemap::mark_dirty_from_pte(page);
                }
                if old.is_accessed() {
                    page.set(PageFlags::REFERENCED);
                }
            }
            if page.map_dec() == 0 {
                *if is_anon { &mut anon_gone } else { &mut file_gone } -= 1;
            }
            self.touch(addr);
            self.pages[self.count] = frames::pfn_of(page).0 as u32;
            self.count += 1;
            addr += PAGE_SIZE;
        }
        self.space.counters().add_batch(anon, file, shmem);
        if anon_gone != 0 {
            frames::count_anon_mapped(anon_gone);
        }
        if file_gone != 0 {
            frames::count_file_mapped(file_gone);
        }
        stopped
    }

    /// What stays in the place of an entry.
    #[inline]
    fn remains(&self, pte: Pte) -> Pte {
        let guarded = |pte: Pte| pte.is_uffd_wp() || Marker::of(pte).is_some_and(|marker| marker.uffd_wp);
        if self.keep_markers && guarded(pte) { Marker::UFFD_WP.entry() } else { Pte::NONE }
    }

    #[inline]
    fn touch(&mut self, addr: usize) {
        self.dirty.start = self.dirty.start.min(addr);
        self.dirty.end = self.dirty.end.max(addr + PAGE_SIZE);
    }

    /// Frees the tables that lie wholly inside `range`, which no area touches. `mmap_lock` is held exclusively or the space is dying.
    pub(crate) fn free_tables(&mut self, range: Range<usize>) {
        // Tables go behind the same flush as pages; they are few, so they go at once.
        let mut tables = [0u32; 32];
        let mut count = 0;
        let space = self.space;
        space.pgd().unhook(range.clone(), |page: &'static Page| {
            self.tables = true;
            self.dirty.start = self.dirty.start.min(range.start);
            self.dirty.end = self.dirty.end.max(range.end);
            if count == tables.len() {
                self.flush();
                self.tables = true;
                self.dirty = range.clone();
                for table in &tables {
                    frames::free_table(frames::page_of_number(*table));
                }
                count = 0;
            }
            tables[count] = frames::pfn_of(page).0 as u32;
            count += 1;
        });
        if count > 0 {
            self.flush();
            for table in &tables[..count] {
                frames::free_table(frames::page_of_number(*table));
            }
        }
    }

    /// Flushes the TLBs and gives up the pages collected so far.
    pub(crate) fn flush(&mut self) {
        if self.dirty.start < self.dirty.end {
            let context = self.space.pgd().context();
            arch::tlb::flush_range(context, self.dirty.clone(), 0, self.tables);
            self.dirty = NOTHING;
            self.tables = false;
        }
        frames::put_mapped_batch(&self.pages[..self.count]);
        self.count = 0;
    }

    /// The last flush.
    pub(crate) fn finish(mut self) {
        self.flush();
    }
}

impl Drop for Gather<'_> {
    fn drop(&mut self) {
        if self.count > 0 || self.dirty.start < self.dirty.end {
            self.flush();
        }
    }
}
