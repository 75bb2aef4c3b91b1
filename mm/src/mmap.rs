//! `mmap(2)`, `munmap(2)` and `brk(2)`: making and removing areas.
//!
//! The order in which arguments are checked is Linux's, because it decides which error a program sees.
//! Everything here holds `mmap_lock` exclusively while it changes areas; pages are given up
//! after the lock has been downgraded where that is safe.

use crate::gather::{Gather, Which};
use crate::overcommit;
use crate::ptable::TABLE_SPAN;
use crate::rmap::{self, Inherit};
use crate::seal::check_unsealed;
use crate::shmem::{AnonShared, Reserve};
use crate::space::{AddressSpace, Limits, MAX_MAP_COUNT, MMAP_MIN_ADDR, mmap_min_addr};
use crate::uffd;
use crate::vma::{Backing, MmapSetup, STACK_GUARD_GAP, SpecialMapping, VmFile, VmFlags, Vma, VmaTree};
use abi::raw::{
    MAP_ANONYMOUS, MAP_DROPPABLE, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_HUGETLB, MAP_LOCKED,
    MAP_NONBLOCK, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_TYPE,
    PROT_EXEC, PROT_READ, PROT_WRITE,
};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::layout::{LOW_MAPPINGS, TASK_SIZE};
use collections::rangemap::InsertError;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// The flags that `MAP_SHARED` mappings know of old; `MAP_SHARED_VALIDATE` refuses others.
const LEGACY_MAP_MASK: u32 = MAP_SHARED
    | MAP_PRIVATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | abi::raw::MAP_DENYWRITE
    | abi::raw::MAP_EXECUTABLE
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | abi::raw::MAP_STACK
    | MAP_HUGETLB
    | (21 << abi::raw::MAP_HUGE_SHIFT)
    | (30 << abi::raw::MAP_HUGE_SHIFT)
    | MAP_32BIT_ABOVE4G;

/// `MAP_32BIT` ([`LOW_MAPPINGS`]) and `MAP_ABOVE4G` of x86; the latter is a hint that is passed over.
const MAP_32BIT_ABOVE4G: u32 = 0x40 | 0x80;

/// Whether there are huge pages of `1 << shift` bytes; 0 stands for the default.
pub fn is_huge_page_shift(shift: u32) -> bool {
    matches!(shift, 0 | 21 | 30)
}

/// Rounds up to whole pages; `None` on overflow.
pub(crate) fn page_align(len: usize) -> Option<usize> {
    len.checked_add(PAGE_SIZE - 1).map(|l| l & !(PAGE_SIZE - 1))
}

/// Whether `addr` is the first byte of a page.
pub(crate) fn is_aligned(addr: usize) -> bool {
    addr & (PAGE_SIZE - 1) == 0
}

/// The arguments of `mmap(2)`, the descriptor looked up.
pub struct MmapRequest<'a> {
    /// Hint or demand.
    pub addr: usize,
    /// Bytes.
    pub len: usize,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_*`.
    pub flags: u32,
    /// The file, unless `MAP_ANONYMOUS`. The caller has turned a bad descriptor into `EBADF`.
    pub file: Option<Arc<dyn VmFile>>,
    /// Offset in the file in bytes; not a multiple of the page size is `EINVAL`.
    pub offset: u64,
    /// Resource limits of the caller.
    pub limits: &'a Limits,
}

fn prot_flags(prot: u32) -> VmFlags {
    VmFlags::from_bits_retain(u64::from(prot & (PROT_READ | PROT_WRITE | PROT_EXEC)))
}

impl AddressSpace {
    /// `mmap(2)`. Returns the address.
    pub fn mmap(&self, request: &MmapRequest<'_>) -> Result<usize> {
        let (addr, populate) = self.mmap_locked(request)?;
        if populate {
            // As with Linux, a failure to populate is not a failure of mmap.
            let _ = self.populate(addr..addr + page_align(request.len).unwrap_or(0));
        }
        Ok(addr)
    }

    fn mmap_locked(&self, request: &MmapRequest<'_>) -> Result<(usize, bool)> {
        let mut flags = request.flags;
        if !request.offset.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Errno::EINVAL);
        }
        if flags & MAP_HUGETLB != 0 {
            // There is no pool of huge pages: as Linux with none reserved.
            if request.file.is_some() {
                return Err(Errno::EINVAL);
            }
            let shift = flags >> abi::raw::MAP_HUGE_SHIFT & 0x3f;
            return Err(if is_huge_page_shift(shift) { Errno::ENOMEM } else { Errno::EINVAL });
        }
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        if flags & MAP_FIXED_NOREPLACE != 0 {
            flags |= MAP_FIXED;
        }
        let mut hint = request.addr;
        if flags & MAP_FIXED == 0 {
            hint &= !(PAGE_SIZE - 1);
            if hint != 0 {
                hint = hint.max(mmap_min_addr());
            }
        }
        let len = page_align(request.len).filter(|l| *l != 0).ok_or(Errno::ENOMEM)?;
        let pgoff = request.offset >> PAGE_SHIFT;
        if pgoff.checked_add((len >> PAGE_SHIFT) as u64).is_none_or(|end| end > u64::MAX >> PAGE_SHIFT) {
            return Err(Errno::EOVERFLOW);
        }
        let mut areas = self.areas().write();
        if areas.len() > MAX_MAP_COUNT.load(Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        let fixed = flags & MAP_FIXED != 0;
        let addr = match LOW_MAPPINGS {
            Some((flag, range)) if flags & flag != 0 && !fixed => Self::low_area(&areas, hint, len, range)?,
            _ => self.get_unmapped_area(&areas, hint, len, fixed, request.limits)?,
        };
        if flags & MAP_FIXED_NOREPLACE != 0 && areas.intersects(addr..addr + len) {
            return Err(Errno::EEXIST);
        }
        let mut vm_flags = prot_flags(request.prot)
            | map_flags(flags)
            | self.keys().of_new_area(request.prot)
            | self.def_flags()
            | VmFlags::MAYREAD
            | VmFlags::MAYWRITE
            | VmFlags::MAYEXEC;
        if flags & MAP_LOCKED != 0 && !request.limits.can_lock && request.limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        self.check_lock_limit(vm_flags, len, request.limits, Errno::EAGAIN)?;
        let (backing, pgoff) = self.prepare_backing(request, flags, &mut vm_flags, addr, len, pgoff)?;
        if self.denies_exec(vm_flags, vm_flags) {
            return Err(Errno::EACCES);
        }
        let populate = vm_flags & (VmFlags::LOCKED | VmFlags::LOCKONFAULT) == VmFlags::LOCKED
            || flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
        if flags & MAP_NORESERVE != 0 && overcommit::MODE.load(Ordering::Relaxed) != 2 {
            vm_flags |= VmFlags::NORESERVE;
        }
        let mapped = self.map_region(&mut areas, addr..addr + len, vm_flags, pgoff, backing, request.limits);
        self.unlock_areas(areas);
        mapped?;
        Ok((addr, populate && !vm_flags.intersects(VmFlags::IO | VmFlags::PFNMAP)))
    }

    /// Checks file and sharing, and completes the flags.
    fn prepare_backing(
        &self,
        request: &MmapRequest<'_>,
        flags: u32,
        vm_flags: &mut VmFlags,
        addr: usize,
        len: usize,
        pgoff: u64,
    ) -> Result<(Backing, u64)> {
        let Some(file) = &request.file else {
            return match flags & MAP_TYPE {
                MAP_SHARED => {
                    if vm_flags.intersects(VmFlags::GROWSDOWN) {
                        return Err(Errno::EINVAL);
                    }
                    *vm_flags |= VmFlags::SHARED | VmFlags::MAYSHARE;
                    let file = AnonShared::create(len, reserve_of(flags))?;
                    let mapping = file.mapping();
                    Ok((Backing::File(file, mapping), 0))
                }
                MAP_PRIVATE => Ok((Backing::Anonymous, (addr >> PAGE_SHIFT) as u64)),
                MAP_DROPPABLE => {
                    if vm_flags.intersects(VmFlags::GROWSDOWN | VmFlags::LOCKED) {
                        return Err(Errno::EINVAL);
                    }
                    *vm_flags |=
                        VmFlags::DROPPABLE | VmFlags::NORESERVE | VmFlags::WIPEONFORK | VmFlags::DONTDUMP;
                    Ok((Backing::Anonymous, (addr >> PAGE_SHIFT) as u64))
                }
                _ => Err(Errno::EINVAL),
            };
        };
        match flags & MAP_TYPE {
            kind @ (MAP_SHARED | MAP_SHARED_VALIDATE) => {
                // MAP_SYNC wants DAX, which no file has: it is one of the flags that are refused.
                if kind == MAP_SHARED_VALIDATE && request.flags & !LEGACY_MAP_MASK != 0 {
                    return Err(Errno::EOPNOTSUPP);
                }
                if request.prot & PROT_WRITE != 0 && !file.writable() {
                    return Err(Errno::EACCES);
                }
                *vm_flags |= VmFlags::SHARED | VmFlags::MAYSHARE;
                if !file.writable() {
                    *vm_flags -= VmFlags::MAYWRITE | VmFlags::SHARED;
                }
            }
            MAP_PRIVATE => {}
            _ => return Err(Errno::EINVAL),
        }
        if !file.readable() {
            return Err(Errno::EACCES);
        }
        if file.noexec() {
            if vm_flags.contains(VmFlags::EXEC) {
                return Err(Errno::EPERM);
            }
            *vm_flags -= VmFlags::MAYEXEC;
        }
        if vm_flags.contains(VmFlags::GROWSDOWN) {
            return Err(Errno::EINVAL);
        }
        let mapping = file.mapping();
        if vm_flags.contains(VmFlags::SHARED | VmFlags::MAYWRITE)
            && mapping.as_ref().is_some_and(|m| m.denies_writable())
        {
            if vm_flags.contains(VmFlags::WRITE) {
                return Err(Errno::EPERM);
            }
            *vm_flags -= VmFlags::MAYWRITE;
        }
        let mut setup = MmapSetup { flags: *vm_flags, len, pgoff, anonymous: false };
        file.mmap(&mut setup)?;
        *vm_flags = setup.flags;
        if setup.anonymous {
            if vm_flags.contains(VmFlags::MAYSHARE) {
                let file = AnonShared::create(len, reserve_of(flags))?;
                let mapping = file.mapping();
                return Ok((Backing::File(file, mapping), 0));
            }
            return Ok((Backing::Anonymous, (addr >> PAGE_SHIFT) as u64));
        }
        Ok((Backing::File(file.clone(), mapping), pgoff))
    }

    /// Chooses a place in `range`.
    fn low_area(areas: &VmaTree, hint: usize, len: usize, range: core::ops::Range<usize>) -> Result<usize> {
        let guard = |vma: &Arc<Vma>| vma.guard_gap();
        if hint >= mmap_min_addr()
            && let Some(end) = hint.checked_add(len).filter(|end| *end <= range.end)
        {
            let (next, _) = areas.first_ending_after_with_prev(hint);
            if next.is_none_or(|n| end <= n.start().saturating_sub(guard(&n.value))) {
                return Ok(hint);
            }
        }
        areas.find_gap_bottom_up(range, len, PAGE_SIZE, guard).ok_or(Errno::ENOMEM)
    }

    /// Chooses where a mapping goes.
    pub(crate) fn get_unmapped_area(
        &self,
        areas: &VmaTree,
        hint: usize,
        len: usize,
        fixed: bool,
        limits: &Limits,
    ) -> Result<usize> {
        if len > TASK_SIZE {
            return Err(Errno::ENOMEM);
        }
        if fixed {
            if hint > TASK_SIZE - len {
                return Err(Errno::ENOMEM);
            }
            if !is_aligned(hint) {
                return Err(Errno::EINVAL);
            }
            if hint < MMAP_MIN_ADDR.load(Ordering::Relaxed) && !limits.can_map_low {
                return Err(Errno::EPERM);
            }
            return Ok(hint);
        }
        let guard = |vma: &Arc<Vma>| vma.guard_gap();
        if hint != 0
            && let Some(end) = hint.checked_add(len).filter(|end| *end <= TASK_SIZE)
            && hint >= mmap_min_addr()
        {
            let (next, _) = areas.first_ending_after_with_prev(hint);
            if next.is_none_or(|n| end <= n.start().saturating_sub(guard(&n.value))) {
                return Ok(hint);
            }
        }
        let legacy = self.layout.legacy_base.load(Ordering::Relaxed);
        if legacy != 0 {
            return areas.find_gap_bottom_up(legacy..TASK_SIZE, len, PAGE_SIZE, guard).ok_or(Errno::ENOMEM);
        }
        let base = self.layout.mmap_base.load(Ordering::Relaxed);
        areas
            .find_gap_top_down(mmap_min_addr()..base, len, PAGE_SIZE, guard)
            .or_else(|| areas.find_gap_bottom_up(base..TASK_SIZE, len, PAGE_SIZE, guard))
            .or_else(|| areas.find_gap_bottom_up(TASK_SIZE / 3..TASK_SIZE, len, PAGE_SIZE, guard))
            .ok_or(Errno::ENOMEM)
    }

    /// `RLIMIT_MEMLOCK` for `len` bytes more.
    pub(crate) fn check_lock_limit(
        &self,
        flags: VmFlags,
        len: usize,
        limits: &Limits,
        error: Errno,
    ) -> Result<()> {
        if !flags.contains(VmFlags::LOCKED) || limits.can_lock {
            return Ok(());
        }
        let locked = (self.counters().locked_vm() << PAGE_SHIFT).saturating_add(len);
        if locked > limits.memlock { Err(error) } else { Ok(()) }
    }

    /// `RLIMIT_AS` and `RLIMIT_DATA` for `pages` pages more.
    pub(crate) fn may_expand(&self, flags: VmFlags, pages: usize, limits: &Limits) -> bool {
        let counters = self.counters();
        let bytes = |pages: usize| pages.saturating_mul(PAGE_SIZE);
        if bytes(counters.total_vm().saturating_add(pages)) > limits.address_space {
            return false;
        }
        !flags.is_data() || bytes(counters.data_vm().saturating_add(pages)) <= limits.data
    }

    /// Replaces whatever lies in `range` by one new area, or enlarges a neighbour (`mmap_region`).
    pub(crate) fn map_region(
        &self,
        areas: &mut VmaTree,
        range: Range<usize>,
        mut flags: VmFlags,
        pgoff: u64,
        backing: Backing,
        limits: &Limits,
    ) -> Result<()> {
        let pages = (range.end - range.start) >> PAGE_SHIFT;
        let overlap = areas
            .overlapping(range.clone())
            .map(|e| (e.end().min(range.end) - e.start().max(range.start)) >> PAGE_SHIFT)
            .sum::<usize>();
        if !self.may_expand(flags, pages - overlap, limits) {
            return Err(Errno::ENOMEM);
        }
        if flags.accountable() {
            flags |= VmFlags::ACCOUNT;
        }
        // Charged before anything is unmapped, so that a refusal changes nothing.
        if flags.contains(VmFlags::ACCOUNT) {
            overcommit::charge(pages, self.counters(), limits.is_admin)?;
        }
        let done = if overlap > 0 { self.unmap_range(areas, range.clone()) } else { Ok(()) };
        let done = done.and_then(|()| self.insert_region(areas, range, flags, pgoff, backing));
        if done.is_err() && flags.contains(VmFlags::ACCOUNT) {
            overcommit::uncharge(pages);
        }
        done
    }

    /// Enters an area where nothing is, merged with its neighbours if possible.
    fn insert_region(
        &self,
        areas: &mut VmaTree,
        range: Range<usize>,
        mut flags: VmFlags,
        pgoff: u64,
        backing: Backing,
    ) -> Result<()> {
        if arch::paging::SOFT_DIRTY {
            // What is new differs from what was there before.
            flags |= VmFlags::SOFTDIRTY;
        }
        let pages = (range.end - range.start) >> PAGE_SHIFT;
        let (next, prev) = areas.first_ending_after_with_prev(range.start);
        let prev = prev
            .filter(|p| p.end() == range.start && p.value.can_append(flags, pgoff, &backing))
            .map(|p| p.value.clone());
        let next = next
            .filter(|n| n.start() == range.end && n.value.can_prepend(flags, pgoff, pages, &backing))
            .map(|n| n.value.clone());
        match (prev, next) {
            (Some(prev), Some(next)) if same_anon(&prev, &next) => {
                self.absorb(areas, &prev, &next);
                make_soft_dirty(&prev, flags);
            }
            (Some(prev), _) => {
                self.set_area_range(areas, &prev, prev.start()..range.end, prev.pgoff());
                make_soft_dirty(&prev, flags);
            }
            (None, Some(next)) => {
                self.set_area_range(areas, &next, range.start..next.end(), pgoff);
                make_soft_dirty(&next, flags);
            }
            (None, None) => {
                let vma = Vma::new(self, range.clone(), flags, pgoff, backing)?;
                self.link_file(&vma)?;
                if let Err(error) = areas.insert(range, vma.clone()) {
                    self.release_area(&vma);
                    return Err(map_error(error));
                }
            }
        }
        self.counters().add_area(flags, pages as isize);
        Ok(())
    }

    /// Gives an area other limits.
    pub(crate) fn set_area_range(
        &self,
        areas: &mut VmaTree,
        vma: &Arc<Vma>,
        range: Range<usize>,
        pgoff: u64,
    ) {
        let _write = vma.write();
        let fits = areas.set_range(vma.start(), range.clone());
        debug_assert!(fits);
        vma.set_range(range, pgoff);
    }

    /// Enlarges `prev` over everything up to the end of `next`, which ceases to exist.
    fn absorb(&self, areas: &mut VmaTree, prev: &Arc<Vma>, next: &Arc<Vma>) {
        let _write = prev.write();
        self.forget_area(next);
        areas.remove(next.start());
        let start = prev.start();
        let anon = if prev.has_anon() { Ok(()) } else { rmap::clone_anon(next, prev, Inherit::SameProcess) };
        debug_assert!(anon.is_ok());
        areas.set_range(start, start..next.end());
        prev.set_range(start..next.end(), prev.pgoff());
        prev.set_flags(prev.flags() | next.flags() & VmFlags::SOFTDIRTY);
        self.release_area(next);
    }

    /// Splits the area that contains `at` (unless it begins there); the part above `at` is a new area.
    pub(crate) fn split(&self, areas: &mut VmaTree, vma: &Arc<Vma>, at: usize) -> Result<()> {
        if at <= vma.start() || at >= vma.end() {
            return Ok(());
        }
        if areas.len() >= MAX_MAP_COUNT.load(Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        let upper = Vma::new(self, at..vma.end(), vma.flags(), vma.index_of(at), vma.backing().clone())?;
        upper.inherit(vma);
        let _write = vma.write();
        let old = vma.range();
        rmap::clone_anon(vma, &upper, Inherit::SameProcess)?;
        let linked = self.link_file(&upper);
        let inserted = linked.and_then(|()| {
            areas.set_range(old.start, old.start..at);
            areas.insert(at..old.end, upper.clone()).map_err(map_error)
        });
        if let Err(error) = inserted {
            areas.set_range(old.start, old.clone());
            self.release_area(&upper);
            return Err(error);
        }
        vma.set_range(old.start..at, vma.pgoff());
        Ok(())
    }

    /// Joins areas in and around `range` that have become alike.
    pub(crate) fn merge_around(&self, areas: &mut VmaTree, range: Range<usize>) {
        let mut at = range.start;
        while at <= range.end {
            let (next, prev) = areas.first_ending_after_with_prev(at);
            let Some(next) = next.map(|n| n.value.clone()) else { return };
            if let Some(prev) = prev.map(|p| p.value.clone())
                && prev.end() == next.start()
                && prev.can_append(next.flags(), next.pgoff(), next.backing())
                && prev.same_extra(&next)
                && same_anon(&prev, &next)
            {
                let end = next.end();
                self.absorb(areas, &prev, &next);
                at = end;
                continue;
            }
            at = next.end();
        }
    }

    // ---- munmap ----------------------------------------------------------------------------

    /// `munmap(2)`.
    pub fn munmap(&self, addr: usize, len: usize) -> Result<()> {
        if !is_aligned(addr) || addr > TASK_SIZE || len > TASK_SIZE - addr {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).filter(|l| *l != 0).ok_or(Errno::EINVAL)?;
        let mut areas = self.areas().write();
        let unmapped = self.unmap_range(&mut areas, addr..addr + len);
        self.unlock_areas(areas);
        unmapped
    }

    /// `shmdt(2)`: removes the areas that are left of an object mapped at `addr`. `size` tells how large an object is, in bytes,
    /// if it is one of those that may go. The first such area, whose page is where it was mapped, says which object it is.
    ///
    /// # Errors
    /// `EINVAL`: there is no such area.
    pub fn unmap_object(&self, addr: usize, size: &dyn Fn(&Arc<dyn VmFile>) -> Option<usize>) -> Result<()> {
        let in_place = |vma: &Vma| {
            vma.start().checked_sub(addr).is_some_and(|offset| (offset >> PAGE_SHIFT) as u64 == vma.pgoff())
        };
        let mut areas = self.areas().write();
        let mut found: Option<(Arc<dyn VmFile>, usize)> = None;
        let mut at = addr;
        while let Some(vma) = areas.first_ending_after(at).map(|entry| entry.value.clone()) {
            at = vma.end();
            if found.as_ref().is_some_and(|(_, end)| at > *end) {
                break;
            }
            let Some(file) = vma.file().filter(|_| in_place(&vma)) else { continue };
            match &found {
                Some((object, _)) if Arc::ptr_eq(object, file) => {}
                Some(_) => continue,
                None => {
                    let Some(size) = size(file) else { continue };
                    let end = addr.saturating_add(page_align(size).unwrap_or(usize::MAX));
                    found = Some((file.clone(), end));
                }
            }
            // Whole areas: nothing is split, so only a seal can keep it, and then it stays.
            let _ = self.unmap_range(&mut areas, vma.range());
        }
        self.unlock_areas(areas);
        found.map(drop).ok_or(Errno::EINVAL)
    }

    /// Removes what lies in `range`; areas at its ends are split.
    pub(crate) fn unmap_range(&self, areas: &mut VmaTree, range: Range<usize>) -> Result<()> {
        let Some(first) = areas.first_ending_after(range.start).filter(|e| e.start() < range.end) else {
            return Ok(());
        };
        let first = first.value.clone();
        if check_unsealed(areas, range.clone())?.intersects(VmFlags::UFFD) {
            uffd::note_unmap(self, areas, range.clone())?;
        }
        self.split(areas, &first, range.start)?;
        if let Some(last) = areas.get(range.end - 1).filter(|e| e.end() > range.end) {
            let last = last.value.clone();
            self.split(areas, &last, range.end)?;
        }
        // From here on nothing can fail.
        let mut gather = Gather::new(self);
        let mut committed = 0;
        // Lowest tables may go where no neighbour uses them; higher ones stay until exit.
        let after = areas.first_ending_after(range.end).map_or(TASK_SIZE, |e| e.start());
        let before = areas.last_ending_by(range.start).map_or(0, |e| e.end());
        let low = before.max(range.start & !(TABLE_SPAN - 1));
        let high = after.min((range.end | (TABLE_SPAN - 1)).saturating_add(1));
        while let Some(entry) = areas.first_ending_after(range.start).filter(|e| e.start() < range.end) {
            let vma = entry.value.clone();
            areas.remove(vma.start());
            self.forget_area(&vma);
            gather.unmap(vma.range(), Which::All);
            let flags = vma.flags();
            self.counters().add_area(flags, -(vma.pages() as isize));
            if flags.contains(VmFlags::ACCOUNT) {
                committed += vma.pages();
            }
            self.release_area(&vma);
        }
        gather.free_tables(low..high);
        gather.finish();
        overcommit::uncharge(committed);
        Ok(())
    }

    // ---- brk -------------------------------------------------------------------------------

    /// `brk(2)`: returns the new end of the heap, or the old one if it cannot be moved.
    pub fn brk(&self, brk: usize, limits: &Limits) -> usize {
        let mut areas = self.areas().write();
        let old = self.layout.brk.load(Ordering::Relaxed);
        match self.brk_locked(&mut areas, old, brk, limits) {
            Ok(populate) => {
                self.layout.brk.store(brk, Ordering::Relaxed);
                self.unlock_areas(areas);
                if let Some(range) = populate {
                    let _ = self.populate(range);
                }
                brk
            }
            Err(_) => old,
        }
    }

    fn brk_locked(
        &self,
        areas: &mut VmaTree,
        old: usize,
        brk: usize,
        limits: &Limits,
    ) -> Result<Option<Range<usize>>> {
        let start = self.layout.start_brk.load(Ordering::Relaxed);
        if brk < start {
            return Err(Errno::EINVAL);
        }
        let end_data = self.layout.end_data.load(Ordering::Relaxed);
        let data = end_data.saturating_sub(self.layout.start_data.load(Ordering::Relaxed));
        if (brk - start).saturating_add(data) > limits.data {
            return Err(Errno::ENOMEM);
        }
        let new_end = page_align(brk).filter(|e| *e <= TASK_SIZE).ok_or(Errno::ENOMEM)?;
        let old_end = page_align(old).ok_or(Errno::ENOMEM)?;
        if new_end <= old_end {
            if new_end < old_end {
                self.unmap_range(areas, new_end..old_end)?;
            }
            return Ok(None);
        }
        // The guard gap of a stack above counts.
        let next = areas.first_ending_after(old_end);
        if next.is_some_and(|n| new_end + PAGE_SIZE > n.start().saturating_sub(n.value.guard_gap())) {
            return Err(Errno::ENOMEM);
        }
        let flags = self.anonymous_flags();
        self.check_lock_limit(flags, new_end - old_end, limits, Errno::EAGAIN)?;
        if areas.len() > MAX_MAP_COUNT.load(Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        let pgoff = (old_end >> PAGE_SHIFT) as u64;
        self.map_region(areas, old_end..new_end, flags, pgoff, Backing::Anonymous, limits)?;
        Ok(flags.contains(VmFlags::LOCKED).then_some(old_end..new_end))
    }

    /// Flags of private read-write memory: heap, `.bss`.
    fn anonymous_flags(&self) -> VmFlags {
        VmFlags::READ
            | VmFlags::WRITE
            | VmFlags::MAYREAD
            | VmFlags::MAYWRITE
            | VmFlags::MAYEXEC
            | VmFlags::ACCOUNT
            | self.def_flags()
    }

    // ---- the kernel's own mappings: exec ----------------------------------------------------

    /// Maps anonymous memory at exactly `range` for exec (`.bss` tails; the first stack with `grows_down`).
    pub fn map_anonymous(
        &self,
        range: Range<usize>,
        prot: u32,
        stack: StackKind,
        limits: &Limits,
    ) -> Result<()> {
        if !is_aligned(range.start) || !is_aligned(range.end) || range.end > TASK_SIZE || range.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut flags =
            prot_flags(prot) | VmFlags::MAYREAD | VmFlags::MAYWRITE | VmFlags::MAYEXEC | self.def_flags();
        if stack == StackKind::GrowsDown {
            flags |= VmFlags::GROWSDOWN;
        }
        let pgoff = (range.start >> PAGE_SHIFT) as u64;
        let mut areas = self.areas().write();
        self.map_region(&mut areas, range, flags, pgoff, Backing::Anonymous, limits)
    }

    /// Maps pages of the kernel somewhere (at `hint` if that is free). `prot` is `PROT_*`.
    pub fn install_special(
        &self,
        mapping: Arc<SpecialMapping>,
        prot: u32,
        hint: usize,
        limits: &Limits,
    ) -> Result<usize> {
        self.install_specials(&[(mapping, prot)], hint, limits)
    }

    /// Maps several such mappings one directly above the other; returns the address of the first.
    pub fn install_specials(
        &self,
        parts: &[(Arc<SpecialMapping>, u32)],
        hint: usize,
        limits: &Limits,
    ) -> Result<usize> {
        let pages: usize = parts.iter().map(|(mapping, _)| mapping.pages.len()).sum();
        let len = pages.checked_mul(PAGE_SIZE).filter(|l| *l > 0).ok_or(Errno::EINVAL)?;
        let mut areas = self.areas().write();
        let hint = hint & !(PAGE_SIZE - 1);
        let addr = self.get_unmapped_area(&areas, hint, len, false, limits)?;
        let mut at = addr;
        for (mapping, prot) in parts {
            let mut flags = prot_flags(*prot)
                | VmFlags::MAYREAD
                | VmFlags::MAYEXEC
                | VmFlags::DONTEXPAND
                | VmFlags::SPECIAL;
            // Code may get a debugger's breakpoints, in copies; data is the kernel's alone.
            flags.set(VmFlags::MAYWRITE, prot & PROT_EXEC != 0);
            let end = at + mapping.pages.len() * PAGE_SIZE;
            self.map_region(&mut areas, at..end, flags, 0, Backing::Special(mapping.clone()), limits)?;
            at = end;
        }
        Ok(addr)
    }

    // ---- stack growth ----------------------------------------------------------------------

    /// Grows the stack above `addr` down to it (`expand_downwards`).
    pub(crate) fn expand_stack(&self, addr: usize, limits: &Limits) -> Result<()> {
        let addr = addr & !(PAGE_SIZE - 1);
        let mut areas = self.areas().write();
        let (next, prev) = areas.first_ending_after_with_prev(addr);
        let vma = next.ok_or(Errno::EFAULT)?.value.clone();
        if vma.start() <= addr {
            return Ok(());
        }
        if !vma.flags().contains(VmFlags::GROWSDOWN) {
            return Err(Errno::EFAULT);
        }
        if addr < mmap_min_addr() {
            return Err(Errno::EPERM);
        }
        if let Some(prev) = prev {
            let flags = prev.value.flags();
            if !flags.contains(VmFlags::GROWSDOWN)
                && !flags.no_access()
                && addr - prev.end() < STACK_GUARD_GAP
            {
                return Err(Errno::ENOMEM);
            }
        }
        let size = vma.end() - addr;
        let grow = (vma.start() - addr) >> PAGE_SHIFT;
        if !self.may_expand(vma.flags(), grow, limits) || size > limits.stack {
            return Err(Errno::ENOMEM);
        }
        self.check_lock_limit(vma.flags(), grow << PAGE_SHIFT, limits, Errno::ENOMEM)?;
        let accounted = vma.flags().contains(VmFlags::ACCOUNT);
        if accounted {
            overcommit::charge(grow, self.counters(), limits.is_admin)?;
        }
        let pgoff = vma.pgoff().wrapping_sub(grow as u64);
        self.set_area_range(&mut areas, &vma, addr..vma.end(), pgoff);
        self.counters().add_area(vma.flags(), grow as isize);
        Ok(())
    }
}

/// Whether an area is a stack that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackKind {
    /// Of fixed size.
    Fixed,
    /// Grows down when the page below is touched.
    GrowsDown,
}

fn reserve_of(flags: u32) -> Reserve {
    let never = overcommit::MODE.load(Ordering::Relaxed) == 2;
    if flags & MAP_NORESERVE != 0 && !never { Reserve::No } else { Reserve::Yes }
}

fn map_flags(flags: u32) -> VmFlags {
    let mut vm_flags = VmFlags::empty();
    if flags & MAP_GROWSDOWN != 0 {
        vm_flags |= VmFlags::GROWSDOWN;
    }
    if flags & MAP_LOCKED != 0 {
        vm_flags |= VmFlags::LOCKED;
    }
    vm_flags
}

/// An area grew by a part with `flags`: if that is soft-dirty, all of it is.
fn make_soft_dirty(vma: &Arc<Vma>, flags: VmFlags) {
    let old = vma.flags();
    let new = old | flags & VmFlags::SOFTDIRTY;
    if new != old {
        let _write = vma.write();
        vma.set_flags(new);
    }
}

/// Whether two areas may become one as far as their anonymous pages go.
fn same_anon(a: &Vma, b: &Vma) -> bool {
    match (a.anon(), b.anon()) {
        (Some(a), Some(b)) => Arc::ptr_eq(&a, &b),
        _ => true,
    }
}

pub(crate) fn map_error(error: InsertError) -> Errno {
    match error {
        InsertError::Overlap => Errno::EINVAL,
        InsertError::OutOfMemory => Errno::ENOMEM,
    }
}
