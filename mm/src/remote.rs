//! Bringing pages in and reaching them from the kernel: populate, debugger access, futex keys.

use crate::fault::{Access, Asker, FaultError};
use crate::folio::Folio;
use crate::frames;
use crate::page::{Page, PageFlags, tag};
use crate::pinned::Pin;
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE, phys_to_virt};
use arch::layout::TASK_SIZE;
use core::ops::Range;

/// What a remote access does.
pub enum RemoteBuf<'a> {
    /// Reads the other address space.
    Read(&'a mut [u8]),
    /// Writes it.
    Write(&'a [u8]),
}

/// How far the access may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteMode {
    /// As the running thread, whose address space it is.
    Own,
    /// As the process itself: `process_vm_readv(2)`.
    Plain,
    /// As a debugger: may read execute-only pages and write read-only private ones (in a copy).
    Force,
}

/// What identifies a futex word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FutexKey {
    /// Of one address space: its id and the address.
    Private(u64, usize),
    /// Of a shared object: the mapping's id, the page index, and the offset in the page.
    Shared(u64, u64, u32),
}

impl AddressSpace {
    /// Brings in the pages of `range` as `MAP_POPULATE` and `mlock(2)` do: private writable areas for writing. Stops at
    /// the first page that cannot be had.
    pub(crate) fn populate(&self, range: Range<usize>) -> Result<()> {
        self.populate_where(range, &|_| true)
    }

    /// As [`Self::populate`], but only locked areas, and failures do not stop it.
    pub(crate) fn populate_locked(&self, range: Range<usize>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let next = {
                let areas = self.areas().read();
                areas.first_ending_after(at).map(|e| (e.range(), e.value.flags()))
            };
            let Some((area, flags)) = next else { break };
            if flags & (VmFlags::LOCKED | VmFlags::LOCKONFAULT) == VmFlags::LOCKED {
                let _ = self.populate_where(area.clone(), &|f| f.contains(VmFlags::LOCKED));
            }
            at = area.end;
        }
        Ok(())
    }

    fn populate_where(&self, range: Range<usize>, wanted: &dyn Fn(VmFlags) -> bool) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let areas = self.areas().read();
            let entry = areas.get(at).ok_or(Errno::ENOMEM)?;
            let flags = entry.value.flags();
            let end = entry.end().min(range.end);
            if !wanted(flags) || flags.intersects(VmFlags::IO | VmFlags::PFNMAP) {
                at = end;
                continue;
            }
            if entry.value.is_secret() {
                return Err(Errno::EFAULT);
            }
            let write = flags & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE;
            let access = if write { Access::Write } else { Access::Read };
            // A bounded stretch per hold of the lock.
            let stop = end.min(at + (64 << PAGE_SHIFT));
            let mut ask = false;
            while at < stop && !ask {
                match self.fault_in(&entry.value, at, access, Asker::Cpu) {
                    Err(FaultError::Userfault) => ask = true,
                    outcome => {
                        outcome?;
                        at += PAGE_SIZE;
                    }
                }
            }
            if ask {
                drop(areas);
                self.userfault(at, access, Asker::Cpu)?;
            }
        }
        Ok(())
    }

    /// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`.
    pub(crate) fn populate_strict(&self, range: Range<usize>, write: bool) -> Result<()> {
        let access = if write { Access::Write } else { Access::Read };
        let mut at = range.start;
        while at < range.end {
            let areas = self.areas().read();
            let entry = areas.get(at).ok_or(Errno::ENOMEM)?;
            let secret = entry.value.is_secret();
            if secret || entry.value.flags().intersects(VmFlags::IO | VmFlags::PFNMAP) {
                return Err(Errno::EINVAL);
            }
            let stop = entry.end().min(range.end).min(at + (64 << PAGE_SHIFT));
            let mut ask = false;
            while at < stop && !ask {
                match self.fault_in(&entry.value, at, access, Asker::Cpu) {
                    Ok(_) => at += PAGE_SIZE,
                    Err(FaultError::Userfault) => ask = true,
                    Err(FaultError::Forbidden | FaultError::KeyDenied(_)) => return Err(Errno::EINVAL),
                    Err(FaultError::Poisoned) => return Err(Errno::EHWPOISON),
                    Err(other) => return Err(other.into()),
                }
            }
            if ask {
                drop(areas);
                self.userfault(at, access, Asker::Cpu)?;
            }
        }
        Ok(())
    }

    /// Copies between a kernel buffer and the memory of this address space, which need not be the current one. Returns how many
    /// bytes were copied: fewer than asked if a page could not be had.
    pub fn access_remote(&self, addr: usize, mut buf: RemoteBuf<'_>, mode: RemoteMode) -> usize {
        let len = match &buf {
            RemoteBuf::Read(b) => b.len(),
            RemoteBuf::Write(b) => b.len(),
        };
        let mut done = 0;
        while done < len {
            let Some(at) = addr.checked_add(done).filter(|a| *a < TASK_SIZE) else { break };
            let offset = at & (PAGE_SIZE - 1);
            let step = (PAGE_SIZE - offset).min(len - done);
            let copied = match &mut buf {
                RemoteBuf::Read(b) => {
                    let Some(part) = b.get_mut(done..done + step) else { break };
                    self.with_page(at - offset, Access::Read, mode, |ptr, _| {
                        // SAFETY: `with_page` gives a mapped page; concurrent writers only affect values.
                        unsafe {
                            core::ptr::copy_nonoverlapping(ptr.add(offset), part.as_mut_ptr(), step);
                        }
                    })
                }
                RemoteBuf::Write(b) => {
                    let Some(part) = b.get(done..done + step) else { break };
                    self.with_page(at - offset, Access::Write, mode, |ptr, folio| {
                        // SAFETY: as above.
                        unsafe { core::ptr::copy_nonoverlapping(part.as_ptr(), ptr.add(offset), step) };
                        if let Some(folio) = folio {
                            folio.set(PageFlags::DIRTY);
                        }
                    })
                }
            };
            if copied.is_err() {
                break;
            }
            done += step;
        }
        done
    }

    /// Gives `f` the first byte of the page at `addr` (aligned), made present for `access`.
    fn with_page(
        &self,
        addr: usize,
        access: Access,
        mode: RemoteMode,
        f: impl FnOnce(*mut u8, Option<&Folio>),
    ) -> Result<()> {
        self.with_held_page(
            addr,
            access,
            mode,
            |ptr, page| (ptr, page.map(frames::folio_of)),
            |(ptr, folio)| {
                f(ptr, folio.as_ref());
            },
        )
    }

    /// The same in two steps: `hold` takes what keeps the page (`None`: one of the kernel's, which need not be kept) while the
    /// table is locked, so that fork does not come between; `f` is called with nothing locked.
    fn with_held_page<H>(
        &self,
        addr: usize,
        access: Access,
        mode: RemoteMode,
        hold: impl FnOnce(*mut u8, Option<&'static Page>) -> H,
        f: impl FnOnce(H),
    ) -> Result<()> {
        let asker = match mode {
            RemoteMode::Own => Asker::Cpu,
            RemoteMode::Plain => Asker::Remote,
            RemoteMode::Force => Asker::Force,
        };
        for _ in 0..100 {
            let areas = self.areas().read();
            let vma = &areas.get(addr).ok_or(Errno::EFAULT)?.value;
            if vma.flags().intersects(VmFlags::IO | VmFlags::PFNMAP) || vma.is_secret() {
                return Err(Errno::EFAULT);
            }
            match self.fault_in(vma, addr, access, asker) {
                Err(FaultError::Userfault) => {
                    drop(areas);
                    self.userfault(addr, access, asker)?;
                    continue;
                }
                outcome => outcome?,
            };
            let Some(table) = self.pgd().table(addr) else { continue };
            let table = table.lock();
            let pte = table.cell(addr).load();
            if pte.is_none() || pte.as_software().is_some() {
                continue;
            }
            if access == Access::Write && !pte.is_writable() && !is_private_copy(vma, pte) {
                continue;
            }
            let ptr = phys_to_virt(pte.pfn().addr());
            // Special pages are the kernel's and do not go away; the lock is not needed for the copy.
            let held = hold(ptr, (!pte.is_special()).then(|| frames::page_of(pte.pfn())));
            drop(table);
            drop(areas);
            f(held);
            return Ok(());
        }
        Err(Errno::EFAULT)
    }

    /// The page at `addr` made present for reading (or writing) and pinned by a reference: Linux's `get_user_pages`.
    pub fn get_user_page(&self, addr: usize, access: Access) -> Result<Folio> {
        let mut result = Err(Errno::EFAULT);
        self.with_page(addr & !(PAGE_SIZE - 1), access, RemoteMode::Plain, |_, folio| {
            if let Some(folio) = folio {
                result = Ok(folio.clone());
            }
        })?;
        result
    }

    /// The page at `addr` (aligned) made present and writable: its first byte, and what pins it.
    ///
    /// # Errors
    /// `EFAULT`, also for pages that are the kernel's own; `ENOMEM` for one that is pinned too often.
    pub(crate) fn pin_page(&self, addr: usize) -> Result<(*mut u8, Pin)> {
        self.set_has_pins();
        let mut result = Err(Errno::EFAULT);
        let hold =
            |first, page: Option<&'static Page>| (first, page.map(|page| Pin::new(frames::folio_of(page))));
        self.with_held_page(addr, Access::Write, RemoteMode::Own, hold, |(first, pin)| {
            if let Some(pin) = pin {
                result = pin.ok_or(Errno::ENOMEM).map(|pin| (first, pin));
            }
        })?;
        result
    }

    /// What identifies the futex word at `addr` (`EINVAL` unless aligned). `shared`: the call did not say
    /// `FUTEX_PRIVATE_FLAG`, so that the word may lie in memory shared with other processes.
    pub fn futex_key(&self, addr: usize, shared: bool) -> Result<FutexKey> {
        if !addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if addr >= TASK_SIZE {
            return Err(Errno::EFAULT);
        }
        if !shared {
            return Ok(FutexKey::Private(self.id(), addr));
        }
        let page = addr & !(PAGE_SIZE - 1);
        let areas = self.areas().read();
        let vma = &areas.get(page).ok_or(Errno::EFAULT)?.value;
        let flags = vma.flags();
        if flags.no_access() {
            return Err(Errno::EFAULT);
        }
        match vma.mapping() {
            Some(mapping) if flags.contains(VmFlags::MAYSHARE) => {
                let offset = (addr - page) as u32;
                Ok(FutexKey::Shared(mapping.id(), vma.index_of(page), offset))
            }
            _ => Ok(FutexKey::Private(self.id(), addr)),
        }
    }
}

/// Whether a read-only entry maps a private copy that a debugger may write.
fn is_private_copy(vma: &Arc<Vma>, pte: arch::paging::Pte) -> bool {
    if pte.is_special() || !vma.flags().is_cow() {
        return false;
    }
    let page = frames::page_of(pte.pfn());
    page.mapping() & tag::MASK == tag::ANON && page.test(PageFlags::ANON_EXCLUSIVE)
}
