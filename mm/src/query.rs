//! Looking at an address space: `mincore(2)`, `msync(2)`, and what `/proc/PID/{maps,smaps,statm}` show.

use crate::frames;
use crate::mmap::{is_aligned, page_align};
use crate::page::{PageFlags, tag};
use crate::space::AddressSpace;
use crate::vma::{Backing, VmFileId, VmFlags, Vma};
use abi::raw::{MS_ASYNC, MS_INVALIDATE, MS_SYNC};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::layout::TASK_SIZE;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// One area, as `/proc/PID/maps` shows it.
pub struct AreaInfo<'a> {
    space: &'a AddressSpace,
    vma: &'a Arc<Vma>,
}

/// What an area is for the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AreaKind {
    /// A file.
    File,
    /// What `brk(2)` moves.
    Heap,
    /// The first stack.
    Stack,
    /// Anything else.
    Other,
}

/// What the pages of an area are, in bytes: the body of `/proc/PID/smaps`.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct AreaStats {
    pub rss: usize,
    /// Times 2^12, as proportional shares are fractions.
    pub pss_scaled: u64,
    pub pss_dirty_scaled: u64,
    pub shared_clean: usize,
    pub shared_dirty: usize,
    pub private_clean: usize,
    pub private_dirty: usize,
    pub referenced: usize,
    pub anonymous: usize,
    pub lazyfree: usize,
    pub locked_pss_scaled: u64,
}

impl AreaStats {
    /// Proportional set size in bytes.
    pub fn pss(&self) -> u64 {
        self.pss_scaled >> 12
    }

    /// Adds another area's numbers (`smaps_rollup`).
    pub fn add(&mut self, other: &Self) {
        self.rss += other.rss;
        self.pss_scaled += other.pss_scaled;
        self.pss_dirty_scaled += other.pss_dirty_scaled;
        self.shared_clean += other.shared_clean;
        self.shared_dirty += other.shared_dirty;
        self.private_clean += other.private_clean;
        self.private_dirty += other.private_dirty;
        self.referenced += other.referenced;
        self.anonymous += other.anonymous;
        self.lazyfree += other.lazyfree;
        self.locked_pss_scaled += other.locked_pss_scaled;
    }
}

impl AreaInfo<'_> {
    pub(crate) fn vma(&self) -> &Vma {
        self.vma
    }

    /// Calls `f` with every entry of the area's existing tables and its address, the table locked.
    pub(crate) fn for_each_pte(&self, f: &mut dyn FnMut(usize, arch::paging::Pte)) {
        self.space.pgd().for_each_table(self.vma.range(), &mut |cells, start| {
            for (cell, addr) in cells.iter().zip((start..).step_by(PAGE_SIZE)) {
                f(addr, cell.0.load());
            }
        });
    }

    /// Its addresses.
    pub fn range(&self) -> Range<usize> {
        self.vma.range()
    }

    /// Its flags.
    pub fn flags(&self) -> VmFlags {
        self.vma.flags()
    }

    /// The four letters `rwxp`.
    pub fn perms(&self) -> [u8; 4] {
        let flags = self.vma.flags();
        let letter = |flag, yes| if flags.contains(flag) { yes } else { b'-' };
        [
            letter(VmFlags::READ, b'r'),
            letter(VmFlags::WRITE, b'w'),
            letter(VmFlags::EXEC, b'x'),
            if flags.contains(VmFlags::MAYSHARE) { b's' } else { b'p' },
        ]
    }

    /// Offset in the file in bytes; 0 for anonymous memory.
    pub fn offset(&self) -> u64 {
        match self.vma.backing() {
            Backing::File(..) => self.vma.pgoff() << PAGE_SHIFT,
            _ => 0,
        }
    }

    /// Device and inode; zeros without a file.
    pub fn file_id(&self) -> VmFileId {
        self.vma.file().map(|f| f.id()).unwrap_or_default()
    }

    /// Whether a file backs it.
    pub fn is_file(&self) -> bool {
        self.vma.file().is_some()
    }

    /// Whether it is of pages that the kernel put there: vDSO, vvar.
    pub fn is_special(&self) -> bool {
        matches!(self.vma.backing(), Backing::Special(_))
    }

    /// The file, for `/proc/PID/map_files` and `/proc/PID/exe`.
    pub fn file(&self) -> Option<Arc<dyn crate::vma::VmFile>> {
        self.vma.file().cloned()
    }

    /// Writes the name: a path, `[heap]`, `[stack]`, `[vdso]`, `[anon:…]`, or nothing.
    pub fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let vma = self.vma;
        if let Some(name) = vma.anon_name() {
            let kind = if vma.file().is_some() { "[anon_shmem:" } else { "[anon:" };
            out.write_str(kind)?;
            for byte in name.iter() {
                out.write_char(char::from(*byte))?;
            }
            return out.write_char(']');
        }
        match vma.backing() {
            Backing::File(file, _) => file.write_path(out),
            Backing::Special(special) => out.write_str(special.name),
            Backing::Anonymous => match self.kind() {
                AreaKind::Heap => out.write_str("[heap]"),
                AreaKind::Stack => out.write_str("[stack]"),
                _ => Ok(()),
            },
        }
    }

    /// What it is for the program.
    pub fn kind(&self) -> AreaKind {
        let (vma, layout) = (self.vma, &self.space.layout);
        let brk = layout.brk.load(Ordering::Relaxed);
        let start_brk = layout.start_brk.load(Ordering::Relaxed);
        match vma.backing() {
            Backing::File(..) => AreaKind::File,
            Backing::Anonymous if vma.start() <= brk && vma.end() >= start_brk && brk != start_brk => {
                AreaKind::Heap
            }
            Backing::Anonymous if vma.contains(layout.start_stack.load(Ordering::Relaxed)) => AreaKind::Stack,
            _ => AreaKind::Other,
        }
    }

    /// Looks at every page.
    pub fn stats(&self) -> AreaStats {
        let mut stats = AreaStats::default();
        let locked = self.vma.flags().contains(VmFlags::LOCKED);
        self.space.pgd().for_each_table(self.vma.range(), &mut |cells, _| {
            for cell in cells {
                let pte = cell.0.load();
                if pte.is_none() || pte.as_software().is_some() || pte.is_special() {
                    continue;
                }
                let page = frames::page_of(pte.pfn());
                let maps = page.mapcount().max(1);
                let dirty = pte.is_dirty() || page.test(PageFlags::DIRTY);
                let share = ((PAGE_SIZE as u64) << 12) / u64::from(maps);
                stats.rss += PAGE_SIZE;
                stats.pss_scaled += share;
                if dirty {
                    stats.pss_dirty_scaled += share;
                }
                if locked {
                    stats.locked_pss_scaled += share;
                }
                if pte.is_accessed() || page.test(PageFlags::REFERENCED) {
                    stats.referenced += PAGE_SIZE;
                }
                if page.mapping() & tag::MASK == tag::ANON {
                    stats.anonymous += PAGE_SIZE;
                }
                *match (maps > 1, dirty) {
                    (true, true) => &mut stats.shared_dirty,
                    (true, false) => &mut stats.shared_clean,
                    (false, true) => &mut stats.private_dirty,
                    (false, false) => &mut stats.private_clean,
                } += PAGE_SIZE;
            }
        });
        stats
    }
}

impl AddressSpace {
    /// Calls `f` with the areas that end after `from`, in order, until it returns false. `mmap_lock` is held shared meanwhile: `f`
    /// writes to memory of the kernel only.
    pub fn for_each_area(&self, from: usize, f: &mut dyn FnMut(&AreaInfo<'_>) -> bool) {
        let areas = self.areas().read();
        for entry in areas.overlapping(from..usize::MAX) {
            if !f(&AreaInfo { space: self, vma: &entry.value }) {
                break;
            }
        }
    }

    /// How many areas there are.
    pub fn map_count(&self) -> usize {
        self.areas().read().len()
    }

    /// `mincore(2)`: hands `out` runs of residency bytes, in order.
    pub fn mincore(&self, addr: usize, len: usize, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if !is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if addr > TASK_SIZE || len > TASK_SIZE - addr {
            return Err(Errno::ENOMEM);
        }
        let end = addr + page_align(len).ok_or(Errno::ENOMEM)?;
        let mut at = addr;
        let mut chunk = [0u8; 64];
        while at < end {
            let mut count = 0;
            {
                let areas = self.areas().read();
                let vma = &areas.get(at).ok_or(Errno::ENOMEM)?.value;
                let stop = vma.end().min(end);
                for slot in &mut chunk {
                    if at >= stop {
                        break;
                    }
                    *slot = u8::from(self.is_resident(vma, at));
                    at += PAGE_SIZE;
                    count += 1;
                }
            }
            out(chunk.get(..count).unwrap_or_default())?;
        }
        Ok(())
    }

    fn is_resident(&self, vma: &Vma, addr: usize) -> bool {
        let pte = self.pgd().table(addr).map(|t| t.peek(addr));
        match pte {
            Some(pte) if !pte.is_none() => pte.as_software().is_none(),
            _ => vma
                .mapping()
                .is_some_and(|m| m.get(vma.index_of(addr)).is_some_and(|f| f.test(PageFlags::UPTODATE))),
        }
    }

    /// `msync(2)`.
    pub fn msync(&self, addr: usize, len: usize, flags: u32) -> Result<()> {
        if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0
            || !is_aligned(addr)
            || flags & MS_ASYNC != 0 && flags & MS_SYNC != 0
        {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).ok_or(Errno::ENOMEM)?;
        let end = addr.checked_add(len).ok_or(Errno::ENOMEM)?;
        let mut at = addr;
        let mut hole = false;
        while at < end {
            let areas = self.areas().read();
            let Some(vma) = areas.first_ending_after(at).map(|e| e.value.clone()) else {
                return Err(Errno::ENOMEM);
            };
            if vma.start() > at {
                // With MS_ASYNC alone nothing is left to do but to report the hole.
                if vma.start() >= end || flags == MS_ASYNC {
                    return Err(Errno::ENOMEM);
                }
                hole = true;
                at = vma.start();
            }
            if flags & MS_INVALIDATE != 0 && vma.flags().contains(VmFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            let stop = vma.end().min(end);
            if flags & MS_SYNC != 0
                && vma.flags().contains(VmFlags::SHARED)
                && let Some(file) = vma.file().cloned()
            {
                let offset = vma.index_of(at) << PAGE_SHIFT;
                let bytes = (stop - at) as u64;
                drop(areas);
                file.sync_range(offset..offset.saturating_add(bytes))?;
            }
            at = stop;
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)`: names the anonymous memory in a range, or takes the name away.
    pub fn set_anon_name(&self, addr: usize, len: usize, name: Option<Arc<[u8]>>) -> Result<()> {
        if !is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).ok_or(Errno::EINVAL)?;
        let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
        let mut areas = self.areas().write();
        let mut at = addr;
        let mut hole = false;
        while at < end {
            let Some(vma) = areas.first_ending_after(at).filter(|e| e.start() < end) else {
                hole = true;
                break;
            };
            let vma = vma.value.clone();
            hole |= vma.start() > at;
            let part = vma.start().max(at)..vma.end().min(end);
            at = part.end;
            if !vma.is_anonymous() {
                return Err(Errno::EBADF);
            }
            let vma = self.isolate(&mut areas, &vma, part)?;
            vma.set_anon_name(name.clone());
        }
        self.merge_around(&mut areas, addr..end);
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}
