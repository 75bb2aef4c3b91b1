//! Write protection: `UFFDIO_WRITEPROTECT`.
//!
//! A protected page has a mark in its entry, which has no write permission then. Where there is no page a marker is put, so that the page
//! is protected when it comes: always for files, for anonymous memory only if that was asked for (`UFFD_FEATURE_WP_UNPOPULATED`).

use super::Context;
use crate::ptable::{Marker, PTRS_PER_TABLE, TABLE_SPAN};
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma};
use abi::raw::UFFD_FEATURE_WP_UNPOPULATED;
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::paging::PteCell;
use core::ops::Range;

/// What becomes of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// They are put to the context.
    On,
    /// They are not.
    Off,
}

impl Context {
    /// Protects the pages of `range`, or ends that.
    ///
    /// # Errors
    /// `EAGAIN`: the address space is changing. `ENOENT`: a part is not registered for it, or nothing is mapped. `ESRCH`, `ENOMEM`.
    pub fn protect(&self, range: Range<usize>, protection: Protection) -> Result<()> {
        let space = self.space()?;
        let areas = space.areas().read();
        if self.is_changing() {
            return Err(Errno::EAGAIN);
        }
        let mut found = false;
        for entry in areas.overlapping(range.clone()) {
            let vma = &entry.value;
            let part = vma.start().max(range.start)..vma.end().min(range.end);
            let Some(context) = vma.uffd().filter(|_| vma.flags().contains(VmFlags::UFFD_WP)) else {
                return Err(Errno::ENOENT);
            };
            found = true;
            match protection {
                Protection::On => space.guard(vma, part, markers_for(vma, &context))?,
                Protection::Off => clear_protection(&space, part),
            }
        }
        if found { Ok(()) } else { Err(Errno::ENOENT) }
    }
}

/// Whether places without a page are protected too.
fn markers_for(vma: &Vma, context: &Context) -> Unpopulated {
    let too = !vma.is_anonymous() || context.has(UFFD_FEATURE_WP_UNPOPULATED);
    if too { Unpopulated::Mark } else { Unpopulated::Skip }
}

/// What is done where there is no page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpopulated {
    Mark,
    Skip,
}

impl AddressSpace {
    /// Protects the pages of `range`, which lies in `vma`. `mmap_lock` is held.
    pub(crate) fn guard(&self, vma: &Vma, range: Range<usize>, unpopulated: Unpopulated) -> Result<()> {
        debug_assert!(vma.start() <= range.start && range.end <= vma.end());
        let mut at = range.start;
        while at < range.end {
            let end = (at | (TABLE_SPAN - 1)).saturating_add(1).min(range.end);
            let table = match unpopulated {
                Unpopulated::Mark => Some(self.pgd().table_or_alloc(at).map_err(|_| Errno::ENOMEM)?),
                Unpopulated::Skip => self.pgd().table(at),
            };
            if let Some(table) = table {
                let mut changed = false;
                let table = table.lock();
                for addr in (at..end).step_by(PAGE_SIZE).take(PTRS_PER_TABLE) {
                    changed |= guard_cell(table.cell(addr), unpopulated);
                }
                if changed {
                    // Before the lock goes: a fault that finds the mark may count on nobody writing any more.
                    arch::tlb::flush_range(self.pgd().context(), at..end, 0, false);
                }
            }
            at = end;
        }
        Ok(())
    }
}

/// Protects one entry; whether a translation changed.
pub(crate) fn guard_cell(cell: &PteCell, unpopulated: Unpopulated) -> bool {
    let mut pte = cell.load();
    if pte.is_none() || pte.as_software().is_some() {
        if pte.is_none() && unpopulated == Unpopulated::Mark {
            cell.store(Marker::UFFD_WP.entry());
        }
        return false;
    }
    // The hardware may set marks meanwhile.
    loop {
        let new = pte.with_uffd_wp(true);
        if new == pte {
            return false;
        }
        match cell.compare_exchange(pte, new) {
            Ok(_) => return true,
            Err(now) => pte = now,
        }
    }
}

/// Ends the protection of the pages of `range`. They get their write permission back with the next store.
pub(crate) fn clear_protection(space: &AddressSpace, range: Range<usize>) {
    space.pgd().for_each_table(range, &mut |cells, _| {
        for cell in cells {
            open_cell(&cell.0);
        }
    });
}

fn open_cell(cell: &PteCell) {
    let mut pte = cell.load();
    if let Some(marker) = Marker::of(pte) {
        if marker.uffd_wp {
            cell.store(marker.keeping(false).entry());
        }
        return;
    }
    while pte.is_uffd_wp() {
        match cell.compare_exchange(pte, pte.with_uffd_wp(false)) {
            Ok(_) => return,
            Err(now) => pte = now,
        }
    }
}
