//! Page faults: making a page of an area present, or refusing.
//!
//! [`AddressSpace::handle_fault`] first looks for the area in the cache under RCU and takes only that area's lock; if that
//! does not work out it takes `mmap_lock` shared, and for stack growth exclusively. What then
//! happens depends on the entry and on what the area is:
//!
//! | entry | area | access | |
//! |---|---|---|---|
//! | none | anonymous | read | the zero page, read-only |
//! | none | anonymous | write | a zeroed page |
//! | none | file | read | the cached page, and those around it that are cached |
//! | none | file, private | write | a copy |
//! | none | file, shared | write | the cached page, dirty, writable |
//! | read-only | shared | write | dirty and writable now |
//! | read-only | private | write | reused if this process has it alone, else a copy |
//! | marker | any | any | as none, write-protected; or `SIGBUS` |
//!
//! Where a `userfaultfd(2)` has a say the fault is put to it instead ([`crate::uffd`]): its locks are released, the thread sleeps, and
//! the access is tried again.
//!
//! New pages are prepared before the table lock is taken, and given back if another thread was faster.

use crate::filemap::Mapping;
use crate::folio::Folio;
use crate::folio_lock;
use crate::frames;
use crate::mempolicy;
use crate::page::{Page, PageFlags, tag};
use crate::pkey;
use crate::ptable::{LockedTable, TABLE_SPAN, Table};
use crate::readahead::{self, ReadState};
use crate::rmap;
use crate::space::{AddressSpace, Limits};
use crate::uffd;
use crate::vma::{Backing, DevicePage, VmFlags, Vma};
use abi::Errno;
use alloc::sync::Arc;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn};
use arch::layout::TASK_SIZE;
use arch::paging::{Prot, Pte};

/// Pages that a read fault on a file maps at most: those around the address that are cached.
const FAULT_AROUND: usize = 16 * PAGE_SIZE;

/// What the access was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Exec,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The process itself, by an instruction.
    User,
    /// The kernel on behalf of the process: what it may is what the process may.
    Cpu,
    /// The same, but nobody is waited for: the thread is exiting.
    Exiting,
    /// The kernel on behalf of another process (`process_vm_readv(2)`): the same, but protection keys do not count.
    Remote,
    /// The kernel on behalf of a debugger (`ptrace(2)`, `/proc/PID/mem`): may read what the process may not, and write private copies of what it may not write.
    Force,
}

/// How a fault was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// From memory (`ru_minflt`).
    Minor,
    /// By reading from the backing store (`ru_majflt`).
    Major,
}

/// Why an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// `SIGSEGV` with `SEGV_MAPERR`: nothing is mapped there.
    NotMapped,
    /// `SIGSEGV` with `SEGV_ACCERR`: what is mapped there does not allow it.
    Forbidden,
    /// `SIGSEGV` with `SEGV_PKUERR`: the area's protection key is closed to the thread.
    KeyDenied(arch::pkey::Key),
    /// `SIGBUS` with `BUS_ADRERR`: behind the end of the file, or its contents cannot be had.
    Bus,
    /// `SIGBUS` with `BUS_MCEERR_AR`: the page is lost (`UFFDIO_POISON`).
    Poisoned,
    /// A userfaultfd must be asked; only inside `mm`.
    Userfault,
    /// There is no memory.
    OutOfMemory,
}

impl From<FaultError> for Errno {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::OutOfMemory => Self::ENOMEM,
            _ => Self::EFAULT,
        }
    }
}

pub(crate) type Outcome = Result<Resolved, FaultError>;

impl AddressSpace {
    /// Resolves a fault at `addr`. `limits` is asked only when a stack must grow. Sleeps.
    pub fn handle_fault(
        &self,
        addr: usize,
        access: Access,
        asker: Asker,
        limits: &dyn Fn() -> Limits,
    ) -> Outcome {
        if addr >= TASK_SIZE {
            return Err(FaultError::NotMapped);
        }
        let page = addr & !(PAGE_SIZE - 1);
        let outcome = 'outcome: {
            let rcu = sched::rcu::read_lock();
            crate::stats::count_fault(&rcu);
            if let Some(vma) = self.cached_area(page, &rcu) {
                drop(rcu);
                break 'outcome self.fault_in(&vma.arc(), page, access, asker);
            }
            drop(rcu);
            self.handle_fault_slow(page, access, asker, limits)
        };
        match outcome {
            Err(FaultError::Userfault) => self.userfault(addr, access, asker).map(|()| Resolved::Major),
            outcome => outcome,
        }
    }

    #[cold]
    fn handle_fault_slow(
        &self,
        addr: usize,
        access: Access,
        asker: Asker,
        limits: &dyn Fn() -> Limits,
    ) -> Outcome {
        {
            let areas = self.areas().read();
            match areas.first_ending_after(addr) {
                Some(entry) if entry.start() <= addr => {
                    self.remember_area(addr, &entry.value);
                    return self.fault_in(&entry.value, addr, access, asker);
                }
                Some(entry) if entry.value.flags().contains(VmFlags::GROWSDOWN) => {}
                _ => return Err(FaultError::NotMapped),
            }
        }
        self.expand_stack(addr, &limits()).map_err(|_| FaultError::NotMapped)?;
        let areas = self.areas().read();
        let entry = areas.get(addr).ok_or(FaultError::NotMapped)?;
        self.fault_in(&entry.value, addr, access, asker)
    }

    /// Makes the page at `addr` (aligned) of `vma` present for `access`. `mmap_lock` is held shared, or the area's lock.
    pub(crate) fn fault_in(&self, vma: &Arc<Vma>, addr: usize, access: Access, asker: Asker) -> Outcome {
        let flags = vma.flags();
        if !allowed(flags, access, asker) {
            return Err(FaultError::Forbidden);
        }
        if pkey::denied(flags, access, asker) {
            return Err(FaultError::KeyDenied(flags.key()));
        }
        if self.is_oom_reaped() {
            return Err(FaultError::Bus);
        }
        let fault = Fault { space: self, vma, flags, addr, write: access == Access::Write, empty: Pte::NONE };
        let table = self.pgd().table_or_alloc(addr).map_err(|_| FaultError::OutOfMemory)?;
        let pte = table.peek(addr);
        if pte.is_none() {
            if flags.intersects(VmFlags::UFFD) && uffd::reason(vma, addr, pte, fault.write).is_some() {
                return Err(FaultError::Userfault);
            }
            return fault.missing(table);
        }
        if pte.as_software().is_some() {
            return fault.marked(table, pte);
        }
        if fault.write && !pte.is_writable() {
            if flags.contains(VmFlags::UFFD_WP) && pte.is_uffd_wp() {
                return fault.guarded(table, pte);
            }
            return fault.write_protected(table, pte);
        }
        fault.spurious(table, pte)
    }
}

/// Whether the area allows the access.
fn allowed(flags: VmFlags, access: Access, asker: Asker) -> bool {
    let plain = match access {
        Access::Read => flags.intersects(VmFlags::ACCESS),
        Access::Write => flags.contains(VmFlags::WRITE),
        Access::Exec => flags.contains(VmFlags::EXEC),
    };
    if plain || asker != Asker::Force {
        return plain;
    }
    match access {
        // A debugger writes into a copy, never into a shared object that the process may not write.
        Access::Write => flags.is_cow() && flags.contains(VmFlags::MAYWRITE),
        _ => flags.contains(VmFlags::MAYREAD),
    }
}

/// One fault, its area found.
pub(crate) struct Fault<'a> {
    pub(crate) space: &'a AddressSpace,
    pub(crate) vma: &'a Arc<Vma>,
    pub(crate) flags: VmFlags,
    pub(crate) addr: usize,
    pub(crate) write: bool,
    /// What the entry holds until a page comes: nothing, or the marker of a protection, which passes to the page.
    pub(crate) empty: Pte,
}

impl Fault<'_> {
    /// There is no page.
    pub(crate) fn missing(&self, table: Table<'_>) -> Outcome {
        match self.vma.backing() {
            Backing::Anonymous => self.anonymous(table),
            _ => self.backed(table),
        }
    }

    /// The entry of a page to come, with the protection that a marker remembers.
    fn marked_entry(&self, pte: Pte) -> Pte {
        if self.empty.is_none() { pte } else { pte.with_uffd_wp(true) }
    }

    /// The protection of a page that this process may write if the area may.
    fn prot(&self) -> Prot {
        self.flags.prot()
    }

    /// The protection of a page that is shared with others and not to be written.
    pub(crate) fn prot_readonly(&self) -> Prot {
        self.flags.prot() - Prot::WRITE
    }

    fn anonymous(&self, table: Table<'_>) -> Outcome {
        if !self.write {
            let pte = Pte::leaf(frames::zero_page(), self.prot_readonly(), 0).with_special(true);
            let table = table.lock();
            let cell = table.cell(self.addr);
            if cell.load() == self.empty {
                cell.store(self.marked_entry(pte));
            }
            return Ok(Resolved::Minor);
        }
        let folio = self.new_page(true)?;
        let table = table.lock();
        if table.cell(self.addr).load() == self.empty {
            self.install_anon(&table, folio);
        }
        Ok(Resolved::Minor)
    }

    /// A page for this process alone, with zeros if asked for.
    pub(crate) fn new_page(&self, zeroed: bool) -> Result<Folio, FaultError> {
        rmap::prepare_anon(self.vma).map_err(|_| FaultError::OutOfMemory)?;
        let page = if self.flags.contains(VmFlags::POLICY) || mempolicy::current_has_policy() {
            frames::alloc_user_page_by_policy(zeroed, self.vma.policy(), self.vma.index_of(self.addr))
        } else {
            frames::alloc_user_page(zeroed)
        };
        page.map_err(|_| FaultError::OutOfMemory)
    }

    /// Maps a new page; its reference goes to the entry, which held nothing. The table is locked.
    #[inline]
    pub(crate) fn install_anon(&self, table: &LockedTable<'_>, folio: Folio) {
        let page = folio.page();
        page.init_index_flags(
            self.vma.index_of(self.addr),
            PageFlags::UPTODATE
                .union(PageFlags::SWAPBACKED)
                .union(PageFlags::DIRTY)
                .union(PageFlags::ANON_EXCLUSIVE),
        );
        page.set_mapping(self.vma.anon_word());
        page.map_inc();
        let mut pte = Pte::leaf(folio.pfn(), self.prot(), 0);
        if self.flags.contains(VmFlags::WRITE) {
            pte = pte.with_dirty(true);
        }
        let _ = folio.into_raw();
        table.cell(self.addr).store(self.marked_entry(pte));
        self.space.counters().add_anon(1);
        frames::count_anon_mapped(1);
    }

    // ---- files -----------------------------------------------------------------------------

    fn backed(&self, table: Table<'_>) -> Outcome {
        let Some(mapping) = self.vma.mapping() else { return self.device(table) };
        let index = self.vma.index_of(self.addr);
        let around = !self.flags.intersects(VmFlags::UFFD_WP | VmFlags::UFFD_MINOR);
        if !self.write && around && self.map_around(&table) {
            return Ok(Resolved::Minor);
        }
        let mut outcome = Resolved::Minor;
        let size_pages = mapping.size().div_ceil(PAGE_SIZE as u64);
        if index >= size_pages {
            return Err(FaultError::Bus);
        }
        if mapping.get(index).is_none() && !mapping.is_memory() {
            outcome = Resolved::Major;
            crate::stats::count(crate::stats::Event::MajorFault, 1);
        }
        let private = !self.flags.contains(VmFlags::SHARED);
        // A copy is prepared before the folio lock.
        let copy = if self.write && private { Some(self.new_page(false)?) } else { None };
        if !mapping.is_memory() {
            self.read_around(mapping, index);
        }
        let bus = |error| match error {
            Errno::ENOMEM => FaultError::OutOfMemory,
            _ => FaultError::Bus,
        };
        let folio = mapping.read_page(index).map_err(bus)?;
        if self.write && copy.is_none() {
            mapping.prepare_page(index).map_err(bus)?;
        }
        let guard = folio_lock::lock(folio);
        if guard.page().mapping() != mapping.word() || index >= mapping.size().div_ceil(PAGE_SIZE as u64) {
            // Truncated meanwhile: look again, or SIGBUS.
            drop(guard);
            return if index < mapping.size().div_ceil(PAGE_SIZE as u64) {
                Ok(outcome)
            } else {
                Err(FaultError::Bus)
            };
        }
        if let Some(copy) = copy {
            frames::copy_page(copy.page(), guard.page());
            let table = table.lock();
            if table.cell(self.addr).load() == self.empty {
                self.install_anon(&table, copy);
            }
            return Ok(outcome);
        }
        if self.write {
            mapping.wait_stable(guard.page());
            mapping.set_dirty(guard.page());
        }
        {
            let table = table.lock();
            if table.cell(self.addr).load() == self.empty {
                self.install_file(&table, self.addr, guard.folio(), self.write);
            }
        }
        if self.write && !mapping.is_memory() {
            drop(guard);
            crate::writeback::balance_after_fault(mapping);
        }
        Ok(outcome)
    }

    /// Has pages read before this fault asks for its own: those behind it in a stream, those around it otherwise.
    fn read_around(&self, mapping: &Mapping, index: u64) {
        if self.flags.contains(VmFlags::RAND_READ) {
            return;
        }
        let place = self.vma.file().and_then(|file| file.read_state());
        let mut state = place.map_or_else(ReadState::new, |place| *place.lock());
        match mapping.get(index) {
            Some(folio) => {
                if !folio.test(PageFlags::READAHEAD) {
                    if state.mmap_miss > 0
                        && let Some(place) = place
                    {
                        place.lock().mmap_miss = state.mmap_miss - 1;
                    }
                    return;
                }
                mapping.read_ahead_marked(&mut state, &folio, 1);
            }
            None if self.flags.contains(VmFlags::SEQ_READ) => {
                mapping.read_ahead_missing(&mut state, index, 1);
            }
            None => {
                let max = state.max_pages(mapping.read_ahead_pages());
                if let Some(window) = readahead::decide_around(&mut state, index, max) {
                    mapping.read_window(window);
                }
            }
        }
        if let Some(place) = place {
            *place.lock() = state;
        }
    }

    /// Maps a locked page-cache page. The table is locked and the entry empty.
    pub(crate) fn install_file(&self, table: &LockedTable<'_>, addr: usize, folio: &Folio, write: bool) {
        let mut pte = if write {
            Pte::leaf(folio.pfn(), self.prot(), 0).with_dirty(true)
        } else {
            Pte::leaf(folio.pfn(), self.prot_readonly(), 0)
        };
        if !write && addr != self.addr {
            pte = pte.with_accessed(true);
        }
        if folio.map_inc() == 0 {
            frames::count_file_mapped(1);
        }
        self.space.counters().add_page(folio.page());
        let _ = folio.clone().into_raw();
        table.cell(addr).store(self.marked_entry(pte));
    }

    /// Maps what is cached around the address; whether the page itself was among it.
    fn map_around(&self, table: &Table<'_>) -> bool {
        let Some(mapping) = self.vma.mapping() else { return false };
        // Not over the limits of the area, of the window or of the table.
        let window = self.addr & !(FAULT_AROUND - 1);
        let low = window.max(self.vma.start()).max(self.addr & !(TABLE_SPAN - 1));
        let high = (window + FAULT_AROUND).min(self.vma.end()).min((self.addr | (TABLE_SPAN - 1)) + 1);
        let first = self.vma.index_of(low);
        let end =
            (first + ((high - low) >> PAGE_SHIFT) as u64).min(mapping.size().div_ceil(PAGE_SIZE as u64));
        let mut found: [Option<Folio>; FAULT_AROUND / PAGE_SIZE] = [const { None }; FAULT_AROUND / PAGE_SIZE];
        let wanted = PageFlags::UPTODATE;
        mapping.for_each_cached(first..end, &mut |index, folio| {
            if folio.flags() & (wanted | PageFlags::LOCKED | PageFlags::HWPOISON) == wanted
                && let Some(slot) = found.get_mut((index - first) as usize)
            {
                *slot = Some(folio.clone());
            }
        });
        let mut hit = false;
        let mut mapped = [const { None }; FAULT_AROUND / PAGE_SIZE];
        for (guard, slot) in mapped.iter_mut().zip(&mut found) {
            // The lock keeps truncation from passing between our look and the entry.
            *guard = slot.take().and_then(folio_lock::try_lock);
        }
        {
            let table = table.lock();
            for (number, guard) in mapped.iter().enumerate() {
                let Some(guard) = guard else { continue };
                let addr = low + (number << PAGE_SHIFT);
                let index = first + number as u64;
                if guard.page().mapping() != mapping.word() || guard.index() != index {
                    continue;
                }
                if table.cell(addr).load().is_none() {
                    self.install_file(&table, addr, guard.folio(), false);
                }
                hit |= addr == self.addr;
            }
        }
        hit
    }

    /// Pages that are not of a page cache.
    fn device(&self, table: Table<'_>) -> Outcome {
        let index = self.vma.index_of(self.addr);
        let (pfn, prot) = match self.vma.backing() {
            Backing::Special(special) => {
                let index = usize::try_from(index).map_err(|_| FaultError::Bus)?;
                let own = if special.time_page == Some(index) { self.space.time_frame() } else { None };
                let pfn = own.or_else(|| special.pages.get(index).copied());
                (pfn.ok_or(FaultError::Bus)?, self.prot())
            }
            Backing::File(file, _) => match file.fault(index) {
                Ok(DevicePage::Frame(pfn, prot)) => (pfn, self.prot() | prot),
                Ok(DevicePage::Folio(folio)) => return self.device_folio(table, folio),
                Err(Errno::ENOMEM) => return Err(FaultError::OutOfMemory),
                Err(_) => return Err(FaultError::Bus),
            },
            Backing::Anonymous => return Err(FaultError::Bus),
        };
        let kernels = matches!(self.vma.backing(), Backing::Special(_));
        if kernels && self.write {
            let copy = self.new_page(false)?;
            frames::copy_frame(copy.page(), pfn);
            let table = table.lock();
            if table.cell(self.addr).load() == self.empty {
                self.install_anon(&table, copy);
            }
            return Ok(Resolved::Minor);
        }
        let prot = if kernels { prot - Prot::WRITE } else { prot };
        let table = table.lock();
        let cell = table.cell(self.addr);
        if cell.load() == self.empty {
            let mut pte = Pte::leaf(pfn, prot, 0).with_special(true);
            if self.flags.contains(VmFlags::WRITE) {
                pte = pte.with_dirty(true);
            }
            cell.store(self.marked_entry(pte));
        }
        Ok(Resolved::Minor)
    }

    fn device_folio(&self, table: Table<'_>, folio: Folio) -> Outcome {
        if self.write && !self.flags.contains(VmFlags::SHARED) {
            let copy = self.new_page(false)?;
            frames::copy_page(copy.page(), folio.page());
            let table = table.lock();
            if table.cell(self.addr).load() == self.empty {
                self.install_anon(&table, copy);
            }
            return Ok(Resolved::Minor);
        }
        let table = table.lock();
        if table.cell(self.addr).load() == self.empty {
            self.install_file(&table, self.addr, &folio, self.write);
        }
        Ok(Resolved::Minor)
    }

    // ---- write protection ------------------------------------------------------------------

    pub(crate) fn write_protected(&self, table: Table<'_>, pte: Pte) -> Outcome {
        if self.flags.contains(VmFlags::SHARED) {
            return self.write_shared(table, pte);
        }
        if pte.is_special() {
            return self.copy_on_write(table, pte, None);
        }
        // Only the table lock keeps the page mapped, and so ours to look at.
        let old = {
            let locked = table.lock();
            let cell = locked.cell(self.addr);
            if cell.load() != pte {
                return Ok(Resolved::Minor);
            }
            let page = frames::page_of(pte.pfn());
            if is_ours_alone(page) {
                page.set(PageFlags::ANON_EXCLUSIVE);
                if !self.flags.contains(VmFlags::WRITE) {
                    // A debugger's write: it goes through the kernel's own mapping.
                    return Ok(Resolved::Minor);
                }
                cell.store(pte.with_writable(true).with_dirty(true).with_accessed(true));
                drop(locked);
                arch::tlb::flush_page_local(self.addr);
                return Ok(Resolved::Minor);
            }
            frames::folio_of(page)
        };
        self.copy_on_write(table, pte, Some(old))
    }

    /// Replaces what `pte` maps by a copy: of `old`, of a page of the kernel's, or of zeros.
    fn copy_on_write(&self, table: Table<'_>, pte: Pte, old: Option<Folio>) -> Outcome {
        let kernels = matches!(self.vma.backing(), Backing::Special(_));
        let new = self.new_page(old.is_none() && !kernels)?;
        if let Some(old) = &old {
            frames::copy_page(new.page(), old.page());
        } else if kernels {
            frames::copy_frame(new.page(), pte.pfn());
        }
        {
            let table = table.lock();
            let cell = table.cell(self.addr);
            if cell.load().with_accessed(true) != pte.with_accessed(true) {
                return Ok(Resolved::Minor);
            }
            // No CPU may use the old translation once the new one can be seen (break before make).
            cell.swap(Pte::NONE);
            arch::tlb::flush_page(self.space.pgd().context(), self.addr);
            self.install_anon(&table, new);
            if let Some(old) = &old {
                if old.map_dec() == 0 {
                    frames::count_unmapped(old);
                }
                self.space.counters().sub_page(old);
            }
        }
        if let Some(old) = old {
            // The entry's reference, and ours by drop.
            frames::put(old.page());
        }
        Ok(Resolved::Minor)
    }

    /// The first store to a page of a shared mapping since it was clean (`page_mkwrite`).
    fn write_shared(&self, table: Table<'_>, pte: Pte) -> Outcome {
        let mapping = self.vma.mapping();
        if let Some(mapping) = mapping
            && !pte.is_special()
        {
            let folio = {
                let locked = table.lock();
                if locked.cell(self.addr).load() != pte {
                    return Ok(Resolved::Minor);
                }
                frames::folio_of(frames::page_of(pte.pfn()))
            };
            mapping.prepare_page(self.vma.index_of(self.addr)).map_err(|error| match error {
                Errno::ENOMEM => FaultError::OutOfMemory,
                _ => FaultError::Bus,
            })?;
            let guard = folio_lock::lock(folio);
            if guard.page().mapping() != mapping.word() {
                return Ok(Resolved::Minor);
            }
            if !mapping.is_memory() {
                mapping.wait_stable(guard.page());
            }
            mapping.set_dirty(guard.page());
            self.make_writable(table, pte);
            if !mapping.is_memory() {
                drop(guard);
                crate::writeback::balance_after_fault(mapping);
            }
            return Ok(Resolved::Minor);
        }
        self.make_writable(table, pte);
        Ok(Resolved::Minor)
    }

    fn make_writable(&self, table: Table<'_>, pte: Pte) {
        {
            let table = table.lock();
            let cell = table.cell(self.addr);
            if cell.load().with_accessed(true) == pte.with_accessed(true) {
                cell.store(pte.with_writable(true).with_dirty(true).with_accessed(true));
            }
        }
        arch::tlb::flush_page_local(self.addr);
    }

    /// The entry allows the access: another CPU was faster, the TLB was stale, or the marks are kept by software.
    fn spurious(&self, table: Table<'_>, pte: Pte) -> Outcome {
        {
            let table = table.lock();
            let cell = table.cell(self.addr);
            if cell.load() == pte {
                let mut new = pte.with_accessed(true);
                if self.write {
                    new = new.with_dirty(true);
                }
                if new != pte {
                    let _ = cell.compare_exchange(pte, new);
                }
            }
        }
        arch::tlb::flush_page_local(self.addr);
        Ok(Resolved::Minor)
    }
}

/// Whether an anonymous page that a locked entry maps belongs to that entry alone.
fn is_ours_alone(page: &Page) -> bool {
    page.mapping() & tag::MASK == tag::ANON
        && (page.test(PageFlags::ANON_EXCLUSIVE) || (page.refcount() == 1 && page.mapcount() == 1))
}

/// The frame that holds zeros.
pub fn zero_page() -> Pfn {
    frames::zero_page()
}
