//! `mremap(2)` and `remap_file_pages(2)`.

use crate::copy::move_tables;
use crate::fallible::TryVec;
use crate::mmap::{MmapRequest, is_aligned, map_error, page_align};
use crate::overcommit;
use crate::rmap::{self, Inherit};
use crate::space::{AddressSpace, Limits, MAX_MAP_COUNT};
use crate::uffd;
use crate::vma::{VmFlags, Vma, VmaTree};
use abi::raw::{
    MAP_FIXED, MAP_NONBLOCK, MAP_POPULATE, MAP_SHARED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE,
};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SHIFT;
use arch::layout::TASK_SIZE;
use core::ops::Range;
use core::sync::atomic::Ordering;

impl AddressSpace {
    /// `mremap(2)`. Returns the new address.
    pub fn mremap(
        &self,
        addr: usize,
        old_len: usize,
        new_len: usize,
        flags: u32,
        new_addr: usize,
        limits: &Limits,
    ) -> Result<usize> {
        if flags & !(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP) != 0
            || flags & MREMAP_FIXED != 0 && flags & MREMAP_MAYMOVE == 0
            || flags & MREMAP_DONTUNMAP != 0 && (flags & MREMAP_MAYMOVE == 0 || old_len != new_len)
            || !is_aligned(addr)
        {
            return Err(Errno::EINVAL);
        }
        let old_len = page_align(old_len).unwrap_or(0);
        let new_len = page_align(new_len).filter(|l| *l != 0).ok_or(Errno::EINVAL)?;
        let mut areas = self.areas().write();
        let vma = areas.get(addr).ok_or(Errno::EFAULT)?.value.clone();
        let locked = vma.flags() & (VmFlags::LOCKED | VmFlags::LOCKONFAULT) == VmFlags::LOCKED;
        let request = Move { addr, old_len, new_len, new_addr, flags, limits };
        let moved = self.mremap_locked(&mut areas, &vma, request);
        self.unlock_areas(areas);
        let (result, grown) = moved?;
        if locked && grown {
            let _ = self.populate(result + old_len..result + new_len);
        }
        Ok(result)
    }

    /// Returns the new address, and whether the area grew.
    fn mremap_locked(&self, areas: &mut VmaTree, vma: &Arc<Vma>, request: Move<'_>) -> Result<(usize, bool)> {
        let Move { addr, old_len, new_len, flags, limits, .. } = request;
        if vma.flags().contains(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 {
            return Ok((self.mremap_to(areas, request)?, new_len > old_len));
        }
        if old_len >= new_len {
            if old_len > new_len {
                let end = addr.checked_add(old_len).filter(|e| *e <= TASK_SIZE).ok_or(Errno::EINVAL)?;
                self.unmap_range(areas, addr + new_len..end)?;
            }
            return Ok((addr, false));
        }
        self.check_resize(vma, addr, old_len, new_len, flags, limits)?;
        if let Some(addr) = self.grow_in_place(areas, vma, addr, old_len, new_len, limits)? {
            return Ok((addr, true));
        }
        if flags & MREMAP_MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        let to = self.get_unmapped_area(areas, 0, new_len, false, limits)?;
        Ok((self.move_area(areas, vma, Move { new_addr: to, ..request })?, true))
    }

    fn mremap_to(&self, areas: &mut VmaTree, mut request: Move<'_>) -> Result<usize> {
        let Move { addr, old_len, new_len, new_addr, flags, limits } = request;
        if !is_aligned(new_addr) || new_len > TASK_SIZE || new_addr > TASK_SIZE - new_len {
            return Err(Errno::EINVAL);
        }
        if addr.saturating_add(old_len) > new_addr && new_addr + new_len > addr {
            return Err(Errno::EINVAL);
        }
        if areas.len() + 2 >= MAX_MAP_COUNT.load(Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        if flags & MREMAP_FIXED != 0 {
            self.get_unmapped_area(areas, new_addr, new_len, true, limits)?;
            self.unmap_range(areas, new_addr..new_addr + new_len)?;
        }
        if old_len > new_len {
            let end = addr.checked_add(old_len).filter(|e| *e <= TASK_SIZE).ok_or(Errno::EINVAL)?;
            self.unmap_range(areas, addr + new_len..end)?;
            request.old_len = new_len;
        }
        let vma = areas.get(addr).ok_or(Errno::EFAULT)?.value.clone();
        self.check_resize(&vma, addr, request.old_len, new_len, flags, limits)?;
        let pages = request.old_len >> PAGE_SHIFT;
        if flags & MREMAP_DONTUNMAP != 0 && !self.may_expand(vma.flags(), pages, limits) {
            return Err(Errno::ENOMEM);
        }
        let fixed = flags & MREMAP_FIXED != 0;
        request.new_addr = self.get_unmapped_area(areas, new_addr, new_len, fixed, limits)?;
        self.move_area(areas, &vma, request)
    }

    /// Whether the area may change its size so (`vma_to_resize`).
    fn check_resize(
        &self,
        vma: &Vma,
        addr: usize,
        old_len: usize,
        new_len: usize,
        flags: u32,
        limits: &Limits,
    ) -> Result<()> {
        let vm_flags = vma.flags();
        if old_len == 0 && !vm_flags.intersects(VmFlags::SHARED | VmFlags::MAYSHARE) {
            return Err(Errno::EINVAL);
        }
        let fixed_size = vm_flags.intersects(VmFlags::DONTEXPAND | VmFlags::PFNMAP);
        if flags & MREMAP_DONTUNMAP != 0 && fixed_size {
            return Err(Errno::EINVAL);
        }
        if old_len > vma.end() - addr {
            return Err(Errno::EFAULT);
        }
        if new_len == old_len {
            return Ok(());
        }
        vma.index_of(addr).checked_add((new_len >> PAGE_SHIFT) as u64).ok_or(Errno::EINVAL)?;
        if fixed_size {
            return Err(Errno::EFAULT);
        }
        let grow = new_len.saturating_sub(old_len);
        self.check_lock_limit(vm_flags, grow, limits, Errno::EAGAIN)?;
        if !self.may_expand(vm_flags, grow >> PAGE_SHIFT, limits) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    fn grow_in_place(
        &self,
        areas: &mut VmaTree,
        vma: &Arc<Vma>,
        addr: usize,
        old_len: usize,
        new_len: usize,
        limits: &Limits,
    ) -> Result<Option<usize>> {
        if old_len != vma.end() - addr {
            return Ok(None);
        }
        let end = addr.checked_add(new_len).filter(|e| *e <= TASK_SIZE);
        let Some(end) = end.filter(|e| !areas.intersects(vma.end()..*e)) else { return Ok(None) };
        let pages = (new_len - old_len) >> PAGE_SHIFT;
        if vma.flags().contains(VmFlags::ACCOUNT) {
            overcommit::charge(pages, self.counters(), limits.is_admin)?;
        }
        self.set_area_range(areas, vma, vma.start()..end, vma.pgoff());
        self.counters().add_area(vma.flags(), pages as isize);
        self.merge_around(areas, vma.range());
        Ok(Some(addr))
    }

    fn move_area(&self, areas: &mut VmaTree, vma: &Arc<Vma>, request: Move<'_>) -> Result<usize> {
        let Move { addr, old_len, new_len, new_addr, flags, limits } = request;
        if areas.len() >= MAX_MAP_COUNT.load(Ordering::Relaxed).saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        let vm_flags = vma.flags();
        let new_pages = new_len >> PAGE_SHIFT;
        let accounted = vm_flags.contains(VmFlags::ACCOUNT);
        if accounted {
            overcommit::charge(new_pages, self.counters(), limits.is_admin)?;
        }
        let range = new_addr..new_addr + new_len;
        let copied = uffd::note_remap(areas, vma, addr, new_addr, old_len)
            .and_then(|event| Ok((event, self.copy_area(areas, vma, addr, range.clone())?)));
        let (event, copy) = match copied {
            Ok(copied) => copied,
            Err(error) => {
                if accounted {
                    overcommit::uncharge(new_pages);
                }
                return Err(error);
            }
        };
        let moved = {
            let _old = vma.write();
            let _new = copy.write();
            let moved = move_tables(self, addr, new_addr, old_len, copy.flags());
            if moved < old_len {
                move_tables(self, new_addr, addr, moved, vm_flags);
            }
            moved
        };
        self.counters().add_area(vm_flags, new_pages as isize);
        if moved < old_len {
            let _ = self.unmap_range(areas, range);
            return Err(Errno::ENOMEM);
        }
        if let Some(event) = event {
            areas.events.push_reserved(event);
        }
        if flags & MREMAP_DONTUNMAP != 0 {
            let new_flags = vm_flags - (VmFlags::LOCKED | VmFlags::LOCKONFAULT);
            self.change_flags(areas, vma, addr..addr + old_len, new_flags)?;
        } else if old_len > 0 {
            self.unmap_range(areas, addr..addr + old_len)?;
        }
        self.merge_around(areas, range);
        Ok(new_addr)
    }

    /// An area like `vma` at `range`, where nothing is; the page that was at `addr` will be its first.
    fn copy_area(
        &self,
        areas: &mut VmaTree,
        vma: &Arc<Vma>,
        addr: usize,
        range: Range<usize>,
    ) -> Result<Arc<Vma>> {
        let followed = vma.uffd().is_some_and(|context| context.follows_moves());
        let flags = if followed { vma.flags() } else { vma.flags() - VmFlags::UFFD };
        let copy = Vma::new(self, range.clone(), flags, vma.index_of(addr), vma.backing().clone())?;
        copy.inherit(vma);
        if !followed {
            copy.set_uffd(None);
        }
        let linked = rmap::clone_anon(vma, &copy, Inherit::SameProcess)
            .and_then(|()| self.link_file(&copy))
            .and_then(|()| areas.insert(range, copy.clone()).map_err(map_error));
        if let Err(error) = linked {
            self.release_area(&copy);
            return Err(error);
        }
        Ok(copy)
    }

    /// `remap_file_pages(2)`, emulated by an ordinary mapping as Linux does.
    pub fn remap_file_pages(
        &self,
        start: usize,
        size: usize,
        prot: usize,
        pgoff: u64,
        flags: u32,
        limits: &Limits,
    ) -> Result<()> {
        const PAGE: usize = arch::addr::PAGE_SIZE;
        if prot != 0 {
            return Err(Errno::EINVAL);
        }
        let start = start & !(PAGE - 1);
        let size = size & !(PAGE - 1);
        let end = start.checked_add(size).filter(|e| *e > start).ok_or(Errno::EINVAL)?;
        pgoff.checked_add((size >> PAGE_SHIFT) as u64).ok_or(Errno::EINVAL)?;
        let (file, access, locked) = {
            let areas = self.areas().read();
            let vma = &areas.get(start).ok_or(Errno::EINVAL)?.value;
            if !vma.flags().contains(VmFlags::SHARED) {
                return Err(Errno::EINVAL);
            }
            let mut at = vma.end();
            let file = vma.file().cloned().ok_or(Errno::EINVAL)?;
            // A range over several areas must be one run of the same file and flags.
            while at < end {
                let next = &areas.get(at).ok_or(Errno::EINVAL)?.value;
                let same = next.file().is_some_and(|f| Arc::ptr_eq(f, &file));
                if !same || next.flags() | VmFlags::SOFTDIRTY != vma.flags() | VmFlags::SOFTDIRTY {
                    return Err(Errno::EINVAL);
                }
                at = next.end();
            }
            (file, vma.flags() & VmFlags::ACCESS, vma.flags().contains(VmFlags::LOCKED))
        };
        let mut map = flags & MAP_NONBLOCK | MAP_SHARED | MAP_FIXED | MAP_POPULATE;
        if locked {
            map |= abi::raw::MAP_LOCKED;
        }
        self.mmap(&MmapRequest {
            addr: start,
            len: size,
            prot: access.bits() as u32,
            flags: map,
            file: Some(file),
            offset: pgoff.checked_mul(PAGE as u64).ok_or(Errno::EOVERFLOW)?,
            limits,
        })
        .map(|_| ())
    }
}

/// The arguments of a move.
#[derive(Clone, Copy)]
struct Move<'a> {
    addr: usize,
    old_len: usize,
    new_len: usize,
    new_addr: usize,
    flags: u32,
    limits: &'a Limits,
}
