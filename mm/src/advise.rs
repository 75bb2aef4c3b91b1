//! `madvise(2)`.

use crate::gather::{Gather, Which};
use crate::mmap::{is_aligned, page_align};
use crate::seal;
use crate::space::AddressSpace;
use crate::uffd;
use crate::vma::{VmFlags, Vma, VmaTree};
use abi::raw::{
    MADV_COLD, MADV_DODUMP, MADV_DOFORK, MADV_DONTDUMP, MADV_DONTFORK, MADV_DONTNEED, MADV_DONTNEED_LOCKED,
    MADV_FREE, MADV_HUGEPAGE, MADV_KEEPONFORK, MADV_NOHUGEPAGE, MADV_NORMAL, MADV_PAGEOUT,
    MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM, MADV_REMOVE, MADV_SEQUENTIAL, MADV_WILLNEED,
    MADV_WIPEONFORK,
};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SHIFT;
use core::ops::Range;

/// Advice that only looks at pages: `mmap_lock` shared is enough.
fn is_reader(advice: u32) -> bool {
    matches!(
        advice,
        MADV_REMOVE
            | MADV_WILLNEED
            | MADV_DONTNEED
            | MADV_DONTNEED_LOCKED
            | MADV_COLD
            | MADV_PAGEOUT
            | MADV_FREE
    )
}

fn is_writer(advice: u32) -> bool {
    matches!(
        advice,
        MADV_NORMAL
            | MADV_RANDOM
            | MADV_SEQUENTIAL
            | MADV_DONTFORK
            | MADV_DOFORK
            | MADV_WIPEONFORK
            | MADV_KEEPONFORK
            | MADV_DONTDUMP
            | MADV_DODUMP
            | MADV_HUGEPAGE
            | MADV_NOHUGEPAGE
    )
}

impl AddressSpace {
    /// `madvise(2)`. Advice for which there is no machinery (page merging, memory failure) is `EINVAL`, as on a Linux
    /// built without it.
    pub fn madvise(&self, addr: usize, len: usize, advice: u32) -> Result<()> {
        let populate = matches!(advice, MADV_POPULATE_READ | MADV_POPULATE_WRITE);
        if !is_reader(advice) && !is_writer(advice) && !populate {
            return Err(Errno::EINVAL);
        }
        if !is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).ok_or(Errno::EINVAL)?;
        let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
        if end == addr {
            return Ok(());
        }
        if populate {
            return self.populate_strict(addr..end, advice == MADV_POPULATE_WRITE);
        }
        if is_reader(advice) {
            return self.advise_pages(addr..end, advice);
        }
        let mut areas = self.areas().write();
        let result = self.advise_flags(&mut areas, addr..end, advice);
        self.merge_around(&mut areas, addr..end);
        result
    }

    /// Advice that changes flags. Holes are passed over, and reported at the end.
    fn advise_flags(&self, areas: &mut VmaTree, range: Range<usize>, advice: u32) -> Result<()> {
        let mut hole = false;
        let mut at = range.start;
        while at < range.end {
            let Some(vma) = areas.first_ending_after(at).filter(|e| e.start() < range.end) else {
                hole = true;
                break;
            };
            let vma = vma.value.clone();
            hole |= vma.start() > at;
            let part = vma.start().max(at)..vma.end().min(range.end);
            at = part.end;
            if seal::forbids_advice(&vma, advice) {
                return Err(Errno::EPERM);
            }
            let new = new_flags(&vma, advice)?;
            // A split that fails for want of memory is EAGAIN here, as on Linux.
            self.change_flags(areas, &vma, part, new).map_err(|_| Errno::EAGAIN)?;
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Advice about pages.
    fn advise_pages(&self, range: Range<usize>, advice: u32) -> Result<()> {
        let mut hole = false;
        let mut at = range.start;
        // Up to here userfaultfds know.
        let mut told = range.start;
        while at < range.end {
            let areas = self.areas().read();
            let Some(entry) = areas.first_ending_after(at).filter(|e| e.start() < range.end) else {
                hole = true;
                break;
            };
            let vma = entry.value.clone();
            hole |= vma.start() > at;
            let part = vma.start().max(at)..vma.end().min(range.end);
            let flags = vma.flags();
            if seal::forbids_advice(&vma, advice) {
                return Err(Errno::EPERM);
            }
            if flags.intersects(VmFlags::UFFD) && part.start >= told && discards(&vma, advice) {
                told = part.end;
                if let Some(event) = uffd::note_remove(&vma, part.clone())? {
                    drop(areas);
                    event.deliver();
                    // Everything may have changed.
                    at = part.start;
                    continue;
                }
            }
            at = part.end;
            match advice {
                MADV_DONTNEED | MADV_DONTNEED_LOCKED => {
                    let mut forbidden = VmFlags::PFNMAP | VmFlags::HUGETLB;
                    if advice == MADV_DONTNEED {
                        forbidden |= VmFlags::LOCKED;
                    }
                    if flags.intersects(forbidden) {
                        return Err(Errno::EINVAL);
                    }
                    self.zap(&vma, part);
                }
                MADV_FREE => {
                    if !vma.is_anonymous() {
                        return Err(Errno::EINVAL);
                    }
                    // Freed at once: there is no swap that could be saved by waiting.
                    self.zap(&vma, part);
                }
                MADV_COLD | MADV_PAGEOUT => {
                    if flags.intersects(VmFlags::LOCKED | VmFlags::PFNMAP | VmFlags::HUGETLB) {
                        return Err(Errno::EINVAL);
                    }
                    if let Some(mapping) = vma.mapping().cloned() {
                        let pages = vma.index_of(part.start)..vma.index_of(part.end - 1) + 1;
                        drop(areas);
                        crate::reclaim::cool(&mapping, pages, advice == MADV_PAGEOUT);
                    }
                }
                MADV_WILLNEED => {
                    if let Some(mapping) = vma.mapping().cloned() {
                        let first = vma.index_of(part.start);
                        let pages = (part.end - part.start) >> PAGE_SHIFT;
                        drop(areas);
                        mapping.force_read_ahead(first, pages as u64);
                    }
                }
                MADV_REMOVE => {
                    if flags.contains(VmFlags::LOCKED) {
                        return Err(Errno::EINVAL);
                    }
                    let file = vma.file().cloned().filter(|_| vma.mapping().is_some());
                    let file = file.ok_or(Errno::EINVAL)?;
                    if !flags.contains(VmFlags::SHARED | VmFlags::WRITE) {
                        return Err(Errno::EACCES);
                    }
                    let offset = vma.index_of(part.start) << PAGE_SHIFT;
                    let bytes = (part.end - part.start) as u64;
                    drop(areas);
                    file.punch_hole(offset..offset.saturating_add(bytes))?;
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Drops the pages of a range; the areas stay. `mmap_lock` is held shared.
    fn zap(&self, vma: &Vma, range: Range<usize>) {
        let mut gather = Gather::new(self);
        gather.keep_markers_of(vma);
        gather.unmap(range, Which::All);
        gather.finish();
    }
}

/// Whether the advice, if it is accepted, takes pages of the area away.
fn discards(vma: &Vma, advice: u32) -> bool {
    let flags = vma.flags();
    match advice {
        MADV_DONTNEED => !flags.intersects(VmFlags::PFNMAP | VmFlags::HUGETLB | VmFlags::LOCKED),
        MADV_DONTNEED_LOCKED => !flags.intersects(VmFlags::PFNMAP | VmFlags::HUGETLB),
        MADV_FREE => vma.is_anonymous(),
        MADV_REMOVE => vma.mapping().is_some() && flags.contains(VmFlags::SHARED | VmFlags::WRITE),
        _ => false,
    }
}

fn new_flags(vma: &Arc<Vma>, advice: u32) -> Result<VmFlags> {
    let flags = vma.flags();
    let special = VmFlags::IO | VmFlags::DONTEXPAND | VmFlags::PFNMAP;
    Ok(match advice {
        MADV_NORMAL => flags - VmFlags::RAND_READ - VmFlags::SEQ_READ,
        MADV_SEQUENTIAL => (flags - VmFlags::RAND_READ) | VmFlags::SEQ_READ,
        MADV_RANDOM => (flags - VmFlags::SEQ_READ) | VmFlags::RAND_READ,
        MADV_DONTFORK => flags | VmFlags::DONTCOPY,
        MADV_DOFORK if flags.contains(VmFlags::IO) => return Err(Errno::EINVAL),
        MADV_DOFORK => flags - VmFlags::DONTCOPY,
        MADV_WIPEONFORK if !vma.is_anonymous() || flags.contains(VmFlags::SHARED) => {
            return Err(Errno::EINVAL);
        }
        MADV_WIPEONFORK => flags | VmFlags::WIPEONFORK,
        MADV_KEEPONFORK if flags.contains(VmFlags::DROPPABLE) => return Err(Errno::EINVAL),
        MADV_KEEPONFORK => flags - VmFlags::WIPEONFORK,
        MADV_DONTDUMP => flags | VmFlags::DONTDUMP,
        MADV_DODUMP if flags.intersects(special | VmFlags::DROPPABLE) => return Err(Errno::EINVAL),
        MADV_DODUMP => flags - VmFlags::DONTDUMP,
        MADV_HUGEPAGE => (flags - VmFlags::NOHUGEPAGE) | VmFlags::HUGEPAGE,
        MADV_NOHUGEPAGE => (flags - VmFlags::HUGEPAGE) | VmFlags::NOHUGEPAGE,
        _ => return Err(Errno::EINVAL),
    })
}
