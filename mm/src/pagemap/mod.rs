//! What page tables say about pages, for users: `/proc/PID/pagemap` and `/proc/PID/clear_refs`.
//!
//! `PAGEMAP_SCAN` is in [`scan`]; both look at entries with their table locked and `mmap_lock` held shared, and nothing is copied to users
//! under either.

pub mod scan;

use crate::frames;
use crate::page::{PageFlags, tag};
use crate::ptable::Marker;
use crate::space::AddressSpace;
use crate::vma::VmFlags;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::layout::TASK_SIZE;
use arch::paging::Pte;
use core::ops::Range;

/// Bits of a word of `/proc/PID/pagemap`; the lower 55 are the frame.
mod bit {
    /// Written since soft-dirty marks were cleared.
    pub const SOFT_DIRTY: u64 = 1 << 55;
    /// Mapped here and nowhere else.
    pub const EXCLUSIVE: u64 = 1 << 56;
    /// Stores go to a userfaultfd first.
    pub const UFFD_WP: u64 = 1 << 57;
    /// Of a file or of shared memory.
    pub const FILE: u64 = 1 << 61;
    /// Not in memory: swap, or a marker.
    pub const SWAP: u64 = 1 << 62;
    /// In memory.
    pub const PRESENT: u64 = 1 << 63;
}

/// Whether frame numbers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// They are.
    Shown,
    /// Zeros stand in their place.
    Hidden,
}

/// Which marks [`AddressSpace::clear_refs`] clears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refs {
    /// The accessed marks of all pages.
    All,
    /// Those of areas without a file.
    Anonymous,
    /// Those of areas with a file.
    Mapped,
    /// The soft-dirty marks.
    SoftDirty,
}

impl AddressSpace {
    /// Fills `out` with a word per page from `addr` on. Returns how many words there were before the end of user space.
    pub fn pagemap(&self, addr: usize, frames: Frames, out: &mut [u64]) -> usize {
        let len = out.len().min(TASK_SIZE.saturating_sub(addr) >> PAGE_SHIFT);
        let Some(out) = out.get_mut(..len) else { return 0 };
        out.fill(0);
        let range = addr..addr + (len << PAGE_SHIFT);
        let areas = self.areas().read();
        for entry in areas.overlapping(range.clone()) {
            let vma = &entry.value;
            let part = vma.start().max(range.start)..vma.end().min(range.end);
            let soft = if vma.flags().contains(VmFlags::SOFTDIRTY) { bit::SOFT_DIRTY } else { 0 };
            let slots = ((part.start - addr) >> PAGE_SHIFT)..((part.end - addr) >> PAGE_SHIFT);
            if let Some(slots) = out.get_mut(slots) {
                slots.fill(soft);
            }
            self.pgd().for_each_table(part, &mut |cells, start| {
                for (cell, at) in cells.iter().zip((start..).step_by(PAGE_SIZE)) {
                    if let Some(slot) = out.get_mut((at - addr) >> PAGE_SHIFT) {
                        *slot |= word(cell.0.load(), frames);
                    }
                }
            });
        }
        len
    }

    /// Clears marks of all pages: `/proc/PID/clear_refs`.
    pub fn clear_refs(&self, refs: Refs) {
        if refs == Refs::SoftDirty {
            self.clear_soft_dirty();
            return;
        }
        let areas = self.areas().read();
        for entry in areas.iter() {
            let vma = &entry.value;
            let has_file = vma.file().is_some();
            let chosen = match refs {
                Refs::Anonymous => !has_file,
                Refs::Mapped => has_file,
                _ => true,
            };
            if chosen && !vma.flags().contains(VmFlags::PFNMAP) {
                self.clear_accessed(vma.range());
            }
        }
    }

    fn clear_accessed(&self, range: Range<usize>) {
        self.pgd().for_each_table(range, &mut |cells, _| {
            for cell in cells {
                let pte = cell.0.load();
                if pte.is_none() || pte.as_software().is_some() || pte.is_special() {
                    continue;
                }
                let page = frames::page_of(pte.pfn());
                if page.test(PageFlags::REFERENCED) {
                    page.clear(PageFlags::REFERENCED);
                }
                if pte.is_accessed() {
                    // Lost if the hardware changes the entry at the same time: then it was accessed again.
                    let _ = cell.0.compare_exchange(pte, pte.with_accessed(false));
                }
            }
        });
    }

    /// Every page becomes clean in this sense and read-only, so that the next store is noticed.
    fn clear_soft_dirty(&self) {
        if !arch::paging::SOFT_DIRTY {
            return;
        }
        let areas = self.areas().write();
        for entry in areas.iter() {
            let vma = &entry.value;
            let _write = vma.write();
            vma.set_flags(vma.flags() - VmFlags::SOFTDIRTY);
            if vma.flags().contains(VmFlags::PFNMAP) {
                continue;
            }
            self.pgd().for_each_table(vma.range(), &mut |cells, _| {
                for cell in cells {
                    let mut pte = cell.0.load();
                    // The hardware may set marks meanwhile.
                    while pte.is_present() {
                        match cell.0.compare_exchange(pte, pte.with_writable(false).with_soft_dirty(false)) {
                            Ok(_) => break,
                            Err(now) => pte = now,
                        }
                    }
                }
            });
        }
        arch::tlb::flush_mm(self.pgd().context());
    }
}

/// What an entry shows of itself.
fn word(pte: Pte, frames: Frames) -> u64 {
    if pte.is_none() {
        return 0;
    }
    if pte.as_software().is_some() {
        let guarded = Marker::of(pte).is_some_and(|marker| marker.uffd_wp);
        return bit::SWAP | if guarded { bit::UFFD_WP } else { 0 };
    }
    let mut word = bit::PRESENT;
    if frames == Frames::Shown {
        word |= pte.pfn().0;
    }
    if pte.is_soft_dirty() {
        word |= bit::SOFT_DIRTY;
    }
    if pte.is_uffd_wp() {
        word |= bit::UFFD_WP;
    }
    if !pte.is_special() {
        let page = frames::page_of(pte.pfn());
        if page.mapping() & tag::MASK != tag::ANON {
            word |= bit::FILE;
        }
        if page.mapcount() == 1 {
            word |= bit::EXCLUSIVE;
        }
    }
    word
}
