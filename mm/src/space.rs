//! Address spaces: Linux's `mm_struct`.
//!
//! An [`AddressSpace`] owns the areas of a process ([`crate::vma`]), its page tables ([`crate::ptable`]) and
//! its memory counters. It is shared by threads as `Arc<AddressSpace>`; when the last reference
//! goes, everything is unmapped. The tables themselves ([`Pgd`]) live on while a CPU that runs a kernel
//! thread still has them loaded: that is what the scheduler is given ([`AddressSpace::switch_handle`]).
//!
//! # Locks, in order
//!
//! 1. `mmap_lock` ([`AddressSpace::areas`]): the set of areas. Shared for looking, exclusive for changing.
//! 2. the lock of an area ([`crate::vma`]): all that a page fault normally takes.
//! 3. folio locks and what file systems take below them; reverse-map lists.
//! 4. the lock of a lowest page table ([`crate::ptable`]).
//!
//! # The area cache
//!
//! A page fault finds its area without `mmap_lock` through 64 slots, one per 64 KiB modulo 4 MiB, which are read
//! under RCU. Slots are filled by faults that had to take `mmap_lock` and cleared when an area leaves.

use crate::counters::Counters;
use crate::fallible::try_arc;
use crate::gather::{Gather, Which};
use crate::pkey::Keys;
use crate::ptable::Pgd;
use crate::rmap::{self, Inherit};
use crate::uffd::Event;
use crate::vma::{Backing, VmFlags, Vma, VmaRead, VmaTree};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::layout::TASK_SIZE;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use sched::mutex::{RwSemaphore, RwSemaphoreWriteGuard};
use sync::{RcuPtr, RcuReadSide};

/// `vm.mmap_min_addr`: below it only `CAP_SYS_RAWIO` may map.
pub static MMAP_MIN_ADDR: AtomicUsize = AtomicUsize::new(LOWEST_CHOICE);
/// The kernel puts nothing below this by itself, whatever `vm.mmap_min_addr` says (`CONFIG_LSM_MMAP_MIN_ADDR`).
const LOWEST_CHOICE: usize = 65536;

/// The lowest address that the kernel chooses for a mapping.
#[inline]
pub fn mmap_min_addr() -> usize {
    MMAP_MIN_ADDR.load(Ordering::Relaxed).max(LOWEST_CHOICE)
}

/// Most areas of one address space (`vm.max_map_count`).
pub static MAX_MAP_COUNT: AtomicUsize = AtomicUsize::new(65530);

const CACHE_SLOTS: usize = 64;
const CACHE_SHIFT: u32 = 16;

/// What the caller's resource limits and privileges allow (`getrlimit(2)`); all in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `RLIMIT_AS`.
    pub address_space: usize,
    /// `RLIMIT_DATA`.
    pub data: usize,
    /// `RLIMIT_STACK`.
    pub stack: usize,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: usize,
    /// `CAP_IPC_LOCK`: `memlock` does not count.
    pub can_lock: bool,
    /// `CAP_SYS_RAWIO`: may map below [`static@MMAP_MIN_ADDR`].
    pub can_map_low: bool,
    /// `CAP_SYS_ADMIN`: may use the last part of what overcommit allows.
    pub is_admin: bool,
}

impl Limits {
    /// No limits: the kernel's own mappings, tests.
    pub const NONE: Self = Self {
        address_space: usize::MAX,
        data: usize::MAX,
        stack: usize::MAX,
        memlock: usize::MAX,
        can_lock: true,
        can_map_low: true,
        is_admin: true,
    };
}

/// Where the parts of the program lie; `prctl(PR_SET_MM)` and `/proc/PID/stat` know these fields.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Layout {
    pub mmap_base: AtomicUsize,
    /// Where mappings begin if they are put upwards; 0 if they are put downwards from `mmap_base`.
    pub legacy_base: AtomicUsize,
    pub start_code: AtomicUsize,
    pub end_code: AtomicUsize,
    pub start_data: AtomicUsize,
    pub end_data: AtomicUsize,
    pub start_brk: AtomicUsize,
    pub brk: AtomicUsize,
    pub start_stack: AtomicUsize,
    pub arg_start: AtomicUsize,
    pub arg_end: AtomicUsize,
    pub env_start: AtomicUsize,
    pub env_end: AtomicUsize,
    pub vdso: AtomicUsize,
}

impl Layout {
    fn copy_from(&self, other: &Self) {
        let pairs = [
            (&self.mmap_base, &other.mmap_base),
            (&self.legacy_base, &other.legacy_base),
            (&self.start_code, &other.start_code),
            (&self.end_code, &other.end_code),
            (&self.start_data, &other.start_data),
            (&self.end_data, &other.end_data),
            (&self.start_brk, &other.start_brk),
            (&self.brk, &other.brk),
            (&self.start_stack, &other.start_stack),
            (&self.arg_start, &other.arg_start),
            (&self.arg_end, &other.arg_end),
            (&self.env_start, &other.env_start),
            (&self.env_end, &other.env_end),
            (&self.vdso, &other.vdso),
        ];
        for (to, from) in pairs {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Flags of an address space.
pub mod mm_flags {
    /// Nothing that can be written may be executed, and nothing becomes executable (`PR_MDWE_REFUSE_EXEC_GAIN`).
    pub const DENY_WRITE_EXEC: u32 = 1;
    /// Children and the next program do not have it (`PR_MDWE_NO_INHERIT`).
    pub const DENY_NOT_INHERITED: u32 = 2;
}

/// Words of an auxiliary vector, with the two zeros at its end.
pub const AUXV_WORDS: usize = arch::layout::AUXV_WORDS;

/// An auxiliary vector, filled up with zeros.
pub type Auxv = [usize; AUXV_WORDS];

/// One address space. See the module documentation.
pub struct AddressSpace {
    id: u64,
    pgd: Arc<Pgd>,
    areas: RwSemaphore<VmaTree>,
    cache: [RcuPtr<Vma>; CACHE_SLOTS],
    counters: Counters,
    /// Where the program's parts lie.
    pub layout: Layout,
    /// Flags that new areas get in addition: `mlockall(MCL_FUTURE)`.
    def_flags: AtomicU64,
    /// Flags of [`mm_flags`].
    flags: AtomicU32,
    /// The auxiliary vector as exec made it, or `prctl(PR_SET_MM_AUXV)`.
    auxv: SpinLock<Option<Arc<Auxv>>>,
    /// Commands that were registered with `membarrier(2)`; a child has them too.
    pub membarrier: AtomicU32,
    /// Being torn apart by the OOM reaper: faults must not repopulate it.
    oom: AtomicU32,
    /// Its protection keys.
    keys: Keys,
    /// Pages of it were pinned at some time ([`crate::pinned`]).
    has_pins: AtomicBool,
    /// Threads that run in it; see [`AddressSpace::put_user`].
    users: AtomicU32,
    /// What the vDSO finds of the time namespace; `None` in the first one.
    pub(crate) time_page: SpinLock<Option<Arc<crate::vdso::TimePage>>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl AddressSpace {
    /// An empty address space.
    pub fn new() -> Result<Arc<Self>> {
        let pgd = Pgd::new().map_err(|_| Errno::ENOMEM)?;
        let space = try_arc(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            pgd: try_arc(pgd)?,
            areas: RwSemaphore::new(VmaTree::default()),
            cache: [const { RcuPtr::empty() }; CACHE_SLOTS],
            counters: Counters::default(),
            layout: Layout::default(),
            def_flags: AtomicU64::new(0),
            flags: AtomicU32::new(0),
            auxv: SpinLock::new(None),
            membarrier: AtomicU32::new(0),
            oom: AtomicU32::new(0),
            keys: Keys::new(),
            has_pins: AtomicBool::new(false),
            users: AtomicU32::new(0),
            time_page: SpinLock::new(None),
        })?;
        space.layout.mmap_base.store(TASK_SIZE, Ordering::Relaxed);
        Ok(space)
    }

    /// Notes that a page is about to be pinned.
    pub(crate) fn set_has_pins(&self) {
        // Whoever pins holds the lock of the page's table afterwards, under which fork looks.
        self.has_pins.store(true, Ordering::Relaxed);
    }

    /// Whether a page was ever pinned.
    pub(crate) fn has_pins(&self) -> bool {
        self.has_pins.load(Ordering::Relaxed)
    }

    /// A number that no other address space of this boot has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The page tables.
    #[inline]
    pub(crate) fn pgd(&self) -> &Pgd {
        &self.pgd
    }

    /// What the processor knows of it.
    pub fn arch_context(&self) -> &arch::asid::MmContext {
        self.pgd.context()
    }

    /// One more thread runs in this address space.
    pub fn get_user(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// How many threads run in it.
    pub fn users(&self) -> u32 {
        self.users.load(Ordering::Acquire)
    }

    /// One thread less. The last one unmaps everything at once: other references (a look through
    /// `/proc`, RCU) keep the object but not the memory.
    pub fn put_user(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Unmapping all of it cannot fail: no area is split.
            let _ = self.munmap(0, TASK_SIZE);
        }
    }

    /// What the scheduler switches to. Holding it keeps the tables, not the memory.
    pub fn switch_handle(&self) -> sched::mm::Mm {
        self.pgd.clone()
    }

    /// The areas, under `mmap_lock`.
    #[inline]
    pub(crate) fn areas(&self) -> &RwSemaphore<VmaTree> {
        &self.areas
    }

    /// Lets go of `mmap_lock` and tells userfaultfds what was done under it; waits until they know.
    pub(crate) fn unlock_areas(&self, mut areas: RwSemaphoreWriteGuard<'_, VmaTree>) {
        let events = core::mem::take(&mut areas.events);
        drop(areas);
        for event in events {
            event.deliver();
        }
    }

    /// Its protection keys.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Memory counters.
    #[inline]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Flags of [`mm_flags`].
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Sets `flags` in addition.
    pub fn add_flags(&self, flags: u32) {
        self.flags.fetch_or(flags, Ordering::Relaxed);
    }

    /// Takes the flags over from `from`: in a child, and in the next program.
    pub fn inherit_flags(&self, from: &Self) {
        let flags = from.flags();
        let kept = if flags & mm_flags::DENY_NOT_INHERITED != 0 { 0 } else { flags };
        self.flags.store(kept, Ordering::Relaxed);
    }

    /// Whether an area with flags `old` must not get `new`.
    #[inline]
    pub(crate) fn denies_exec(&self, old: VmFlags, new: VmFlags) -> bool {
        self.flags() & mm_flags::DENY_WRITE_EXEC != 0
            && new.contains(VmFlags::EXEC)
            && (new.contains(VmFlags::WRITE) || !old.contains(VmFlags::EXEC))
    }

    /// The auxiliary vector.
    pub fn auxv(&self) -> Option<Arc<Auxv>> {
        self.auxv.lock().clone()
    }

    /// Sets the auxiliary vector that others are shown.
    pub fn set_auxv(&self, auxv: Arc<Auxv>) {
        let old = self.auxv.lock().replace(auxv);
        drop(old);
    }

    /// Bytes in page tables (`VmPTE`).
    pub fn pgtables_bytes(&self) -> usize {
        self.pgd.bytes()
    }

    /// Flags that every new area gets.
    pub(crate) fn def_flags(&self) -> VmFlags {
        VmFlags::from_bits_retain(self.def_flags.load(Ordering::Relaxed))
    }

    pub(crate) fn set_def_flags(&self, flags: VmFlags) {
        self.def_flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// Whether the OOM reaper is taking the memory away.
    pub fn is_oom_reaped(&self) -> bool {
        self.oom.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn mark_oom_reaped(&self) {
        self.oom.store(1, Ordering::Relaxed);
    }

    /// Sets the place where mappings begin to be put, growing downwards: below the stack with its limit, its
    /// guard gap and its random offset, less `random` pages (exec; `personality(ADDR_NO_RANDOMIZE)`
    /// passes zeros).
    pub fn set_mmap_base(&self, stack_limit: usize, stack_random: usize, random_pages: usize) {
        const MIN_GAP: usize = 128 << 20;
        let pad = stack_random.saturating_add(crate::vma::STACK_GUARD_GAP);
        let gap = stack_limit.saturating_add(pad).clamp(MIN_GAP, TASK_SIZE / 6 * 5);
        let random = random_pages.saturating_mul(PAGE_SIZE);
        let base = (TASK_SIZE - gap).saturating_sub(random) & !(PAGE_SIZE - 1);
        self.layout.mmap_base.store(base.max(mmap_min_addr()), Ordering::Relaxed);
    }

    /// Lets mappings grow upwards from a third (arm64: a quarter) of the address space, as Linux 2.4 did
    /// (`vm.legacy_va_layout`, `personality(ADDR_COMPAT_LAYOUT)`), plus `random` pages.
    pub fn set_legacy_layout(&self, random_pages: usize) {
        let base = arch::layout::UNMAPPED_BASE.saturating_add(random_pages.saturating_mul(PAGE_SIZE));
        self.layout.legacy_base.store(base.min(TASK_SIZE), Ordering::Relaxed);
    }

    // ---- the area cache --------------------------------------------------------------------

    #[inline]
    fn slot_of(addr: usize) -> usize {
        (addr >> CACHE_SHIFT) & (CACHE_SLOTS - 1)
    }

    /// The area of `addr`, read-locked, if the cache knows it and it is not being changed.
    #[inline]
    pub(crate) fn cached_area(&self, addr: usize, rcu: &impl RcuReadSide) -> Option<VmaRead> {
        let vma = self.cache[Self::slot_of(addr)].load(rcu)?;
        if !vma.contains(addr) {
            return None;
        }
        let vma = vma.try_read()?;
        // Only now are the limits stable.
        vma.contains(addr).then_some(vma)
    }

    /// Remembers that `addr` lies in `vma`. `mmap_lock` is held (shared), so the area cannot leave meanwhile.
    pub(crate) fn remember_area(&self, addr: usize, vma: &Arc<Vma>) {
        let slot = Self::slot_of(addr);
        if core::ptr::eq(self.cache[slot].as_ptr(), Arc::as_ptr(vma)) {
            return;
        }
        vma.cached.fetch_or(1 << slot, Ordering::Relaxed);
        drop(self.cache[slot].replace(Some(vma.clone())));
    }

    /// Takes an area out of the reader's sight for ever: `mmap_lock` is held exclusively and the area has left the tree, or
    /// is about to. Its pages must have been unmapped, or be unmapped next.
    pub(crate) fn forget_area(&self, vma: &Arc<Vma>) {
        vma.detach();
        let mut cached = vma.cached.load(Ordering::Relaxed);
        while cached != 0 {
            let slot = cached.trailing_zeros() as usize;
            cached &= cached - 1;
            if core::ptr::eq(self.cache[slot].as_ptr(), Arc::as_ptr(vma)) {
                drop(self.cache[slot].replace(None));
            }
        }
    }

    // ---- linking areas ---------------------------------------------------------------------

    /// Enters `vma` into the reverse map of its file.
    pub(crate) fn link_file(&self, vma: &Arc<Vma>) -> Result<()> {
        match vma.mapping() {
            Some(mapping) => mapping.link_vma(vma),
            None => Ok(()),
        }
    }

    /// Takes `vma` out of all reverse maps and lets go of its file. Its pages are unmapped.
    pub(crate) fn release_area(&self, vma: &Arc<Vma>) {
        rmap::unlink_anon(vma);
        if let Some(mapping) = vma.mapping() {
            mapping.unlink_vma(vma);
        }
        // SAFETY: the area is detached and on no list: nobody else looks at what backs it.
        unsafe { vma.release_backing() };
    }

    // ---- fork ------------------------------------------------------------------------------

    /// The copy for a child process. Private pages are shared read-only until one side writes
    /// (copy on write); of file mappings without private pages nothing is copied, they fault in again.
    pub fn fork(&self) -> Result<Arc<Self>> {
        let child = Self::new()?;
        child.layout.copy_from(&self.layout);
        child.inherit_flags(self);
        let auxv = self.auxv.lock().clone();
        *child.auxv.lock() = auxv;
        let time_page = self.time_page.lock().clone();
        *child.time_page.lock() = time_page;
        child.membarrier.store(self.membarrier.load(Ordering::Relaxed), Ordering::Relaxed);
        arch::ldt::copy(self.arch_context(), child.arch_context())?;
        let areas = self.areas.write();
        child.keys.copy_from(&self.keys);
        let mut flush = false;
        let mut result = Ok(());
        let mut forks = Vec::new();
        {
            let mut copies = child.areas.write();
            for entry in areas.iter() {
                result = self.fork_area(&child, &mut copies, &entry.value, &mut flush, &mut forks);
                if result.is_err() {
                    break;
                }
            }
        }
        if flush {
            arch::tlb::flush_mm(self.pgd.context());
        }
        drop(areas);
        result?;
        for event in forks {
            event.deliver();
        }
        Ok(child)
    }

    fn fork_area(
        &self,
        child: &Arc<Self>,
        copies: &mut VmaTree,
        vma: &Arc<Vma>,
        flush: &mut bool,
        forks: &mut Vec<Event>,
    ) -> Result<()> {
        let flags = vma.flags();
        if flags.contains(VmFlags::DONTCOPY) {
            return Ok(());
        }
        let uffd = match vma.uffd() {
            Some(context) => context.fork_to(child, forks)?,
            None => None,
        };
        let pages = vma.pages();
        let accounted = flags.contains(VmFlags::ACCOUNT);
        if accounted {
            crate::overcommit::charge(pages, &self.counters, false)?;
        }
        // Locks are not inherited, mlock(2).
        let mut new_flags = flags & !(VmFlags::LOCKED | VmFlags::LOCKONFAULT);
        if uffd.is_none() {
            new_flags -= VmFlags::UFFD;
        }
        let copy = match Vma::new(child, vma.range(), new_flags, vma.pgoff(), vma.backing().clone()) {
            Ok(copy) => copy,
            Err(error) => {
                if accounted {
                    crate::overcommit::uncharge(pages);
                }
                return Err(error);
            }
        };
        copy.inherit(vma);
        if flags.intersects(VmFlags::UFFD) {
            copy.set_uffd(uffd);
        }
        if copies.insert(vma.range(), copy.clone()).is_err() {
            if accounted {
                crate::overcommit::uncharge(pages);
            }
            return Err(Errno::ENOMEM);
        }
        // From here on the child's teardown undoes what was done.
        child.counters.add_area(new_flags, pages as isize);
        child.link_file(&copy)?;
        if flags.contains(VmFlags::WIPEONFORK) {
            return Ok(());
        }
        rmap::clone_anon(vma, &copy, Inherit::Fork)?;
        let special = matches!(vma.backing(), Backing::Special(_)) || flags.contains(VmFlags::PFNMAP);
        // A protection that a userfaultfd asked for is in the entries and nowhere else.
        if special || vma.has_anon() || new_flags.contains(VmFlags::UFFD_WP) {
            let _no_faults = vma.write();
            *flush |= crate::copy::copy_area_tables(self, child, vma, &copy)?;
        }
        Ok(())
    }

    // ---- teardown --------------------------------------------------------------------------

    /// Unmaps everything: nobody else has a reference.
    fn exit(&mut self) {
        let areas = core::mem::take(self.areas.get_mut());
        for slot in &mut self.cache {
            *slot = RcuPtr::empty();
        }
        let mut gather = Gather::new(self);
        for entry in areas.iter() {
            gather.unmap(entry.range(), Which::All);
        }
        let mut committed = 0;
        for entry in areas.iter() {
            let vma = &entry.value;
            if vma.flags().contains(VmFlags::ACCOUNT) {
                committed += vma.pages();
            }
            self.release_area(vma);
        }
        gather.free_tables(0..TASK_SIZE);
        gather.finish();
        crate::overcommit::uncharge(committed);
    }

    /// Takes the memory of a dying process away without waiting for it to exit: anonymous and private pages are
    /// dropped, later accesses fail. For the OOM reaper. Returns false if `mmap_lock` is taken.
    pub fn oom_reap(&self) -> bool {
        let Some(areas) = self.areas.try_read() else { return false };
        self.reap_locked(&areas);
        true
    }

    /// The same, waiting for `mmap_lock`: `process_mrelease(2)`.
    pub fn reap(&self) {
        let areas = self.areas.read();
        if !self.is_oom_reaped() {
            self.reap_locked(&areas);
        }
    }

    fn reap_locked(&self, areas: &VmaTree) {
        self.mark_oom_reaped();
        let mut gather = Gather::new(self);
        for entry in areas.iter() {
            let flags = entry.value.flags();
            if flags.intersects(VmFlags::PFNMAP | VmFlags::HUGETLB) {
                continue;
            }
            if entry.value.is_anonymous() || !flags.contains(VmFlags::SHARED) {
                gather.unmap(entry.range(), Which::All);
            }
        }
        gather.finish();
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        self.exit();
        debug_assert_eq!(self.counters.rss(), 0, "pages left behind: {:?}", self.counters);
    }
}

impl sched::mm::AddressSpaceSwitch for Pgd {
    #[inline]
    fn activate(&self) {
        // SAFETY: the tables map the kernel (`init_user_root`), and `Pgd::drop` calls `forget` first.
        unsafe { arch::asid::switch_mm(self.context()) };
    }
}

impl core::fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "mm {} (rss {} pages)", self.id, self.counters.rss())
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<AddressSpace>();
};
