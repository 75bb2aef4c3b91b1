//! `mprotect(2)`, and the change of flags that it shares with `mlock(2)` and `madvise(2)`.

use crate::frames;
use crate::mmap::{is_aligned, page_align};
use crate::overcommit;
use crate::page::{Page, PageFlags, tag};
use crate::space::{AddressSpace, Limits};
use crate::vma::{VmFlags, Vma, VmaTree};
use abi::raw::{PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SHIFT;
use arch::paging::{Prot, Pte};
use arch::pkey::Key;
use core::ops::Range;

/// What pages shall have.
#[derive(Clone, Copy)]
struct Wish {
    /// `PROT_*`.
    prot: u32,
    /// The protection key, if one was named.
    key: Option<Key>,
}

impl AddressSpace {
    /// `mprotect(2)`.
    pub fn mprotect(&self, addr: usize, len: usize, prot: u32, limits: &Limits) -> Result<()> {
        self.pkey_mprotect(addr, len, prot, -1, limits)
    }

    /// `pkey_mprotect(2)`.
    pub fn pkey_mprotect(&self, addr: usize, len: usize, prot: u32, key: i32, limits: &Limits) -> Result<()> {
        let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        let prot = prot & !grows;
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let len = page_align(len).ok_or(Errno::ENOMEM)?;
        let end = addr.checked_add(len).filter(|e| *e > addr).ok_or(Errno::ENOMEM)?;
        if prot & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM) != 0 {
            return Err(Errno::EINVAL);
        }
        let mut areas = self.areas().write();
        let wish = Wish { prot, key: self.keys().named(key)? };
        let mut start = addr;
        let first = areas.first_ending_after(addr).ok_or(Errno::ENOMEM)?.value.clone();
        if grows & PROT_GROWSDOWN != 0 {
            if first.start() >= end {
                return Err(Errno::ENOMEM);
            }
            start = first.start();
            if !first.flags().contains(VmFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
        } else if grows & PROT_GROWSUP != 0 {
            return Err(Errno::EINVAL);
        } else if first.start() > addr {
            return Err(Errno::ENOMEM);
        }
        let result = self.protect_range(&mut areas, start..end, wish, limits);
        self.merge_around(&mut areas, start..end);
        result
    }

    fn protect_range(
        &self,
        areas: &mut VmaTree,
        range: Range<usize>,
        wish: Wish,
        limits: &Limits,
    ) -> Result<()> {
        let access = VmFlags::from_bits_retain(u64::from(wish.prot)) & VmFlags::ACCESS;
        let mut at = range.start;
        while at < range.end {
            let vma = areas.get(at).ok_or(Errno::ENOMEM)?.value.clone();
            let old = vma.flags();
            if old.contains(VmFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            let key = wish.key.unwrap_or_else(|| self.keys().after_protect(old, wish.prot));
            let new = ((old - VmFlags::ACCESS) | access).with_key(key);
            // The MAY bits lie four above the access bits.
            let may = VmFlags::from_bits_retain(new.bits() >> 4);
            if !(may & VmFlags::ACCESS).contains(access) {
                return Err(Errno::EACCES);
            }
            if self.denies_exec(old, new) {
                return Err(Errno::EACCES);
            }
            let end = vma.end().min(range.end);
            self.protect_area(areas, vma, at..end, new, limits)?;
            at = end;
        }
        Ok(())
    }

    fn protect_area(
        &self,
        areas: &mut VmaTree,
        vma: Arc<Vma>,
        range: Range<usize>,
        mut new: VmFlags,
        limits: &Limits,
    ) -> Result<()> {
        let old = vma.flags();
        if new == old {
            return Ok(());
        }
        let pages = (range.end - range.start) >> PAGE_SHIFT;
        let mut charged = 0;
        if new.contains(VmFlags::WRITE) {
            if !self.may_expand(new, pages, limits) && self.may_expand(old, pages, limits) {
                return Err(Errno::ENOMEM);
            }
            if !old.intersects(VmFlags::ACCOUNT | VmFlags::WRITE | VmFlags::SHARED | VmFlags::NORESERVE) {
                overcommit::charge(pages, self.counters(), limits.is_admin)?;
                charged = pages;
                new |= VmFlags::ACCOUNT;
            }
        }
        let vma = match self.isolate(areas, &vma, range.clone()) {
            Ok(vma) => vma,
            Err(error) => {
                overcommit::uncharge(charged);
                return Err(error);
            }
        };
        {
            let _write = vma.write();
            vma.set_flags(new);
            self.counters().change_area(old, new, pages as isize);
            self.change_protection(range, new);
        }
        Ok(())
    }

    /// Splits so that an area covers exactly `range`, which lies inside `vma`.
    pub(crate) fn isolate(
        &self,
        areas: &mut VmaTree,
        vma: &Arc<Vma>,
        range: Range<usize>,
    ) -> Result<Arc<Vma>> {
        self.split(areas, vma, range.start)?;
        let vma = areas.get(range.start).ok_or(Errno::ENOMEM)?.value.clone();
        self.split(areas, &vma, range.end)?;
        Ok(vma)
    }

    /// Gives `range`, inside one area, other flags that do not touch the pages' protection.
    pub(crate) fn change_flags(
        &self,
        areas: &mut VmaTree,
        vma: &Arc<Vma>,
        range: Range<usize>,
        new: VmFlags,
    ) -> Result<()> {
        let old = vma.flags();
        if old == new {
            return Ok(());
        }
        let pages = (range.end - range.start) >> PAGE_SHIFT;
        let vma = self.isolate(areas, vma, range)?;
        let _write = vma.write();
        vma.set_flags(new);
        self.counters().change_area(old, new, pages as isize);
        Ok(())
    }

    /// Brings the entries of `range` in line with `flags`. The area is write-locked.
    fn change_protection(&self, range: Range<usize>, flags: VmFlags) {
        let prot = flags.prot();
        let mut changed = false;
        self.pgd().for_each_table(range.clone(), &mut |cells, _| {
            for cell in cells {
                let cell = &cell.0;
                let old = cell.load();
                if old.is_none() || old.as_software().is_some() {
                    continue;
                }
                // Out for a moment, so that no mark of the hardware is lost.
                let old = cell.swap(Pte::NONE);
                cell.store(old.with_prot(protection_of(old, prot, flags)));
                changed = true;
            }
        });
        if changed {
            arch::tlb::flush_range(self.pgd().context(), range, 0, false);
        }
    }
}

/// What an existing entry may allow under new flags: writing only where no fault is needed to prepare it.
fn protection_of(pte: Pte, prot: Prot, flags: VmFlags) -> Prot {
    if !prot.contains(Prot::WRITE) {
        return prot;
    }
    if pte.is_uffd_wp()
        || arch::paging::SOFT_DIRTY && !flags.contains(VmFlags::SOFTDIRTY) && !pte.is_soft_dirty()
    {
        return prot - Prot::WRITE;
    }
    let keep = if pte.is_special() {
        flags.intersects(VmFlags::PFNMAP | VmFlags::IO) && flags.contains(VmFlags::SHARED)
    } else {
        let page = frames::page_of(pte.pfn());
        if flags.contains(VmFlags::SHARED) { page.test(PageFlags::DIRTY) } else { is_exclusive(page) }
    };
    if keep { prot } else { prot - Prot::WRITE }
}

fn is_exclusive(page: &Page) -> bool {
    page.mapping() & tag::MASK == tag::ANON && page.test(PageFlags::ANON_EXCLUSIVE)
}
