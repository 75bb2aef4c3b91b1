//! Putting pages where faults wait for them: `UFFDIO_COPY`, `UFFDIO_ZEROPAGE`, `UFFDIO_CONTINUE`, `UFFDIO_POISON`.
//!
//! Pages are filled one by one, each under `mmap_lock` (shared) and its table's lock, and no page that is there is replaced. Contents are
//! fetched from the caller's memory before any lock is taken.

use super::Context;
use crate::fault::Fault;
use crate::folio::Folio;
use crate::folio_lock::{self, FolioGuard};
use crate::frames;
use crate::page::PageFlags;
use crate::ptable::{LockedTable, Marker};
use crate::rmap;
use crate::space::AddressSpace;
use crate::user::copy_from_user;
use crate::vma::{VmFlags, Vma};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use arch::paging::Pte;
use core::ops::Range;

/// What a missing page is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// A copy of the caller's memory from this address on.
    Copy(usize),
    /// Zeros.
    Zero,
    /// What is in the cache.
    Continue,
    /// Lost: whoever accesses it gets `SIGBUS`.
    Poison,
}

/// Whether a page that is filled is protected at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// It is.
    Yes,
    /// Stores are allowed.
    No,
}

/// One page to be filled, its area found.
struct Target<'a> {
    space: &'a AddressSpace,
    vma: &'a Arc<Vma>,
    addr: usize,
    guarded: Guarded,
}

impl Context {
    /// Fills the pages of `range`, as far as nothing is there. Returns how many bytes were filled: fewer than asked if a page could not be.
    /// Nobody is woken.
    ///
    /// # Errors
    /// Of the first page. `EAGAIN`: the address space is changing. `ENOENT`: the range is not registered, or not in one area. `EINVAL`:
    /// this kind of area cannot be filled so, or is not registered for protection. `EEXIST`: there is a page. `EFAULT`: the source
    /// cannot be read, or there is nothing to continue with. `ENOMEM`, `ESRCH`.
    pub fn fill(&self, range: Range<usize>, fill: Fill, guarded: Guarded) -> Result<usize> {
        let space = self.space()?;
        let mut done = 0;
        while range.start + done < range.end {
            match self.fill_page(&space, &range, done, fill, guarded) {
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

    fn fill_page(
        &self,
        space: &AddressSpace,
        range: &Range<usize>,
        done: usize,
        fill: Fill,
        guarded: Guarded,
    ) -> Result<()> {
        // Refused without a copy if it can be.
        self.find(space, range, fill, guarded, done, &mut |target| match fill {
            Fill::Poison => target.poison(),
            Fill::Continue => target.continue_with_cache(),
            Fill::Zero => target.zero(),
            Fill::Copy(_) => target.check_free(),
        })?;
        let Fill::Copy(source) = fill else { return Ok(()) };
        let folio = frames::alloc_user_page(false).map_err(|_| Errno::ENOMEM)?;
        fetch(&folio, source + done)?;
        self.find(space, range, fill, guarded, done, &mut |target| target.copy(&folio))
    }

    /// Calls `f` with the page at `done` of `range`, under `mmap_lock`.
    fn find(
        &self,
        space: &AddressSpace,
        range: &Range<usize>,
        fill: Fill,
        guarded: Guarded,
        done: usize,
        f: &mut dyn FnMut(&Target<'_>) -> Result<()>,
    ) -> Result<()> {
        let areas = space.areas().read();
        let vma = &areas.get(range.start).ok_or(Errno::ENOENT)?.value;
        if range.end > vma.end() || vma.uffd().is_none() {
            return Err(Errno::ENOENT);
        }
        if self.is_changing() {
            return Err(Errno::EAGAIN);
        }
        let memory = vma.mapping().is_some_and(|mapping| mapping.is_memory());
        if guarded == Guarded::Yes && !vma.flags().contains(VmFlags::UFFD_WP)
            || !vma.is_anonymous() && !memory
            || fill == Fill::Continue && !memory
        {
            return Err(Errno::EINVAL);
        }
        f(&Target { space, vma, addr: range.start + done, guarded })
    }
}

/// Fills `folio`, which nobody else knows, from the running process's memory.
fn fetch(folio: &Folio, source: usize) -> Result<()> {
    let mut chunk = [0u8; 512];
    for offset in (0..PAGE_SIZE).step_by(chunk.len()) {
        copy_from_user(&mut chunk, source + offset)?;
        folio.copy_in(offset, &chunk).map_err(|_| Errno::EFAULT)?;
    }
    Ok(())
}

impl Target<'_> {
    /// A fault whose page is put at once; `empty` is what the entry holds now.
    fn fault(&self, empty: Pte) -> Fault<'_> {
        // A marker passes its protection to the page; here the caller says whether there is to be any.
        let empty = if self.guarded == Guarded::Yes { Marker::UFFD_WP.entry() } else { empty };
        Fault {
            space: self.space,
            vma: self.vma,
            flags: self.vma.flags(),
            addr: self.addr,
            write: true,
            empty,
        }
    }

    fn is_shared(&self) -> bool {
        self.vma.flags().contains(VmFlags::SHARED)
    }

    /// Locks the table and makes sure that the entry holds no page. A marker may be overwritten.
    fn lock(&self) -> Result<LockedTable<'_>> {
        let table = self.space.pgd().table_or_alloc(self.addr).map_err(|_| Errno::ENOMEM)?.lock();
        let pte = table.cell(self.addr).load();
        if pte.is_none() || Marker::of(pte).is_some() { Ok(table) } else { Err(Errno::EEXIST) }
    }

    /// Puts an entry that stands for no page of its own where there is nothing at all, as Linux does.
    fn put(&self, pte: Pte) -> Result<()> {
        let table = self.space.pgd().table_or_alloc(self.addr).map_err(|_| Errno::ENOMEM)?.lock();
        let cell = table.cell(self.addr);
        if !cell.load().is_none() {
            return Err(Errno::EEXIST);
        }
        cell.store(pte);
        Ok(())
    }

    fn check_free(&self) -> Result<()> {
        self.lock().map(drop)
    }

    fn poison(&self) -> Result<()> {
        self.check_size()?;
        self.put(Marker::POISONED.entry())
    }

    /// Nothing is put behind the end of a file.
    fn check_size(&self) -> Result<()> {
        let Some(mapping) = self.vma.mapping() else { return Ok(()) };
        let inside = self.vma.index_of(self.addr) < mapping.size().div_ceil(PAGE_SIZE as u64);
        if inside { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn zero(&self) -> Result<()> {
        if self.is_shared() {
            return self.add_to_cache(None);
        }
        self.check_size()?;
        let fault = self.fault(Pte::NONE);
        let pte = Pte::leaf(frames::zero_page(), fault.prot_readonly(), 0).with_special(true);
        self.put(pte)
    }

    fn copy(&self, folio: &Folio) -> Result<()> {
        if self.is_shared() {
            return self.add_to_cache(Some(folio));
        }
        self.check_size()?;
        rmap::prepare_anon(self.vma)?;
        let table = self.lock()?;
        self.fault(Pte::NONE).install_anon(&table, folio.clone());
        Ok(())
    }

    /// A new page of a shared object.
    fn add_to_cache(&self, from: Option<&Folio>) -> Result<()> {
        self.check_size()?;
        let mapping = self.vma.mapping().ok_or(Errno::EINVAL)?;
        let guard = mapping.add_filled(self.vma.index_of(self.addr), from)?;
        self.map(&guard)
    }

    fn continue_with_cache(&self) -> Result<()> {
        self.check_size()?;
        let mapping = self.vma.mapping().ok_or(Errno::EINVAL)?;
        let index = self.vma.index_of(self.addr);
        let folio =
            mapping.get(index).filter(|folio| folio.test(PageFlags::UPTODATE)).ok_or(Errno::EFAULT)?;
        let guard = folio_lock::lock(folio);
        if guard.page().mapping() != mapping.word() {
            return Err(Errno::EFAULT);
        }
        self.map(&guard)
    }

    /// Maps a locked page of the cache; for writing if the area may.
    fn map(&self, guard: &FolioGuard) -> Result<()> {
        let write = self.is_shared() && self.vma.flags().contains(VmFlags::WRITE);
        if let (true, Some(mapping)) = (write, self.vma.mapping()) {
            mapping.set_dirty(guard.page());
        }
        let table = self.lock()?;
        self.fault(Pte::NONE).install_file(&table, self.addr, guard.folio(), write);
        Ok(())
    }
}
