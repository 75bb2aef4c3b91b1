//! `UFFDIO_MOVE`: anonymous pages change their place within an address space, without a copy.
//!
//! `mmap_lock` and both areas are held exclusively: no fault, fork or migration can meet a page that is between two places.

use super::Context;
use crate::folio_lock;
use crate::frames;
use crate::page::PageFlags;
use crate::rmap;
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use arch::paging::Pte;

/// What a place without a page in the source means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// It is passed over (`UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`).
    Allowed,
    /// The end: `ENOENT`.
    Refused,
}

impl Context {
    /// Moves `len` bytes of pages from `src` to `dst`. Returns how many were moved; nobody is woken.
    ///
    /// # Errors
    /// Of the first page. `EAGAIN`: the address space is changing. `ENOENT`: not mapped, or a hole. `EINVAL`: not inside one private
    /// anonymous writable area each, areas with different rights, or the target is not this context's. `EEXIST`: there is a page.
    /// `EBUSY`: the page is shared with somebody, or somebody works with it. `ENOMEM`, `ESRCH`.
    pub fn relocate(self: &Arc<Self>, dst: usize, src: usize, len: usize, holes: Holes) -> Result<usize> {
        let space = self.space()?;
        let areas = space.areas().write();
        if self.is_changing() {
            return Err(Errno::EAGAIN);
        }
        let from = areas.get(src).ok_or(Errno::ENOENT)?.value.clone();
        let to = areas.get(dst).ok_or(Errno::ENOENT)?.value.clone();
        let inside = src + len <= from.end() && dst + len <= to.end();
        if !inside || !self.can_move(&from, &to) {
            return Err(Errno::EINVAL);
        }
        rmap::prepare_anon(&to)?;
        let _from_lock = from.write();
        let _to_lock = (!Arc::ptr_eq(&from, &to)).then(|| to.write());
        let mut done = 0;
        while done < len {
            match move_page(&space, &to, dst + done, src + done, holes) {
                Ok(()) => done += PAGE_SIZE,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            if sched::current().has_fatal_signal() {
                break;
            }
        }
        Ok(done)
    }

    fn can_move(self: &Arc<Self>, from: &Vma, to: &Vma) -> bool {
        const SAME: VmFlags = VmFlags::ACCESS.union(VmFlags::LOCKED);
        const NEVER: VmFlags =
            VmFlags::SHARED.union(VmFlags::PFNMAP).union(VmFlags::IO).union(VmFlags::HUGETLB);
        let (old, new) = (from.flags(), to.flags());
        old & SAME == new & SAME
            && old.contains(VmFlags::WRITE)
            && !(old | new).intersects(NEVER)
            && from.is_anonymous()
            && to.is_anonymous()
            && to.uffd().is_some_and(|context| Arc::ptr_eq(&context, self))
    }
}

/// Moves one page. Both areas are write-locked and `to` has an anon_vma of its own.
fn move_page(space: &AddressSpace, to: &Arc<Vma>, dst: usize, src: usize, holes: Holes) -> Result<()> {
    let target = space.pgd().table_or_alloc(dst).map_err(|_| Errno::ENOMEM)?;
    if !target.peek(dst).is_none() {
        return Err(Errno::EEXIST);
    }
    let empty = if holes == Holes::Allowed { Ok(()) } else { Err(Errno::ENOENT) };
    let Some(source) = space.pgd().table(src) else { return empty };
    let pte = source.peek(src);
    if pte.is_none() {
        return empty;
    }
    if pte.as_software().is_some() {
        return Err(Errno::EFAULT);
    }
    let prot = to.flags().prot();
    if pte.is_special() {
        // The page of zeros belongs to nobody.
        take(space, src);
        let new = Pte::leaf(pte.pfn(), prot - arch::paging::Prot::WRITE, 0).with_special(true);
        target.lock().cell(dst).store(new);
        return Ok(());
    }
    let folio = {
        let table = source.lock();
        let page = frames::page_of(table.cell(src).load().pfn());
        frames::folio_of(page)
    };
    let guard = folio_lock::lock(folio);
    let page = guard.page();
    // The entry's reference and ours.
    let alone = page.test(PageFlags::ANON_EXCLUSIVE) && page.mapcount() == 1 && page.refcount() == 2;
    if !alone {
        return Err(Errno::EBUSY);
    }
    take(space, src);
    page.set_mapping(to.anon_word());
    page.set_index(to.index_of(dst));
    let new = Pte::leaf(frames::pfn_of(page), prot, 0).with_dirty(true);
    target.lock().cell(dst).store(new);
    Ok(())
}

/// Takes an entry away, from TLBs too.
fn take(space: &AddressSpace, addr: usize) {
    if let Some(table) = space.pgd().table(addr) {
        table.lock().cell(addr).swap(Pte::NONE);
    }
    arch::tlb::flush_range(space.pgd().context(), addr..addr + PAGE_SIZE, 0, false);
}
