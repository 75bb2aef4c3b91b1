//! Page tables (four levels): live entries, and the kernel's own tables.
//!
//! Entries are described in `pte.rs`. Two things are done here when an entry goes live: the barriers that kernel
//! mappings need, and, before user mode can execute a page, the synchronisation of its instruction cache.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub use super::pte::Pte;
use crate::addr::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr, phys_to_virt, virt_to_phys};
use crate::paging::{ENTRIES, Level, OutOfTables, Prot, index, level_size};
use crate::sync::SpinLock;

/// Levels of the table; the root is level `LEVELS - 1`.
pub const LEVELS: usize = 4;

/// Whether entries have a soft-dirty mark (`/proc/PID/clear_refs`), as on Linux of this architecture.
pub const SOFT_DIRTY: bool = false;

/// An entry in a live table.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct PteCell(AtomicU64);

impl PteCell {
    /// Reads.
    #[inline]
    pub fn load(&self) -> Pte {
        Pte(self.0.load(Ordering::Acquire))
    }

    /// Writes an entry that was none, or under the table's lock one that no CPU can change meanwhile. Makes it visible
    /// to the walker as the architecture demands: for user entries the order of stores suffices (a CPU that does not
    /// see it yet faults once more); kernel entries are used without a fault handler, so [`map_kernel`] adds barriers.
    #[inline]
    pub fn store(&self, pte: Pte) {
        prepare(pte);
        self.0.store(pte.0, Ordering::Release);
    }

    /// Takes the entry out and leaves `pte`: the hardware's last dirty and accessed marks are in what comes back.
    #[inline]
    pub fn swap(&self, pte: Pte) -> Pte {
        prepare(pte);
        Pte(self.0.swap(pte.0, Ordering::AcqRel))
    }

    /// Replaces `old` by `new` if nothing (also no hardware mark) changed.
    #[inline]
    pub fn compare_exchange(&self, old: Pte, new: Pte) -> Result<Pte, Pte> {
        prepare(new);
        self.0.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire).map(Pte).map_err(Pte)
    }
}

unsafe extern "C" {
    static arch_kernel_root: [PteCell; ENTRIES];
    static arch_reserved_root: [PteCell; ENTRIES];
}

/// The kernel's own root table (TTBR1).
pub fn kernel_root() -> PhysAddr {
    virt_to_phys(VirtAddr((&raw const arch_kernel_root).addr()))
}

/// An empty user half, for CPUs without an address space.
pub(super) fn reserved_root() -> PhysAddr {
    virt_to_phys(VirtAddr((&raw const arch_reserved_root).addr()))
}

/// Fills a zeroed root table for a new user address space: nothing to do, the kernel's half hangs at TTBR1.
///
/// # Safety
/// `root` is a page of its own, zeroed.
pub unsafe fn init_user_root(_root: PhysAddr) {}

static TABLE_ALLOCATOR: AtomicUsize = AtomicUsize::new(0);
/// A frame that lost the race to become a table; 0: none.
static SPARE: AtomicU64 = AtomicU64::new(0);
/// Orders changes of the kernel's tables.
static KERNEL_TABLES: SpinLock<()> = SpinLock::new(());

/// Gives the source of zeroed frames for the kernel's tables (first memblock, later the page allocator).
pub fn set_table_allocator(alloc: fn() -> Option<PhysAddr>) {
    TABLE_ALLOCATOR.store(alloc as usize, Ordering::Release);
}

fn allocate_table() -> Option<PhysAddr> {
    let spare = SPARE.swap(0, Ordering::Acquire);
    if spare != 0 {
        return Some(PhysAddr(spare));
    }
    let alloc = TABLE_ALLOCATOR.load(Ordering::Acquire);
    if alloc == 0 {
        return None;
    }
    // SAFETY: only `set_table_allocator` stores here, a function of this type.
    let alloc = unsafe { core::mem::transmute::<usize, fn() -> Option<PhysAddr>>(alloc) };
    alloc()
}

fn keep_spare(table: PhysAddr) {
    // A frame that finds the place taken is lost: it took two lost races at once.
    let _ = SPARE.compare_exchange(0, table.0, Ordering::Release, Ordering::Relaxed);
}

/// Maps `len` bytes of kernel address space, in blocks where alignment allows.
///
/// # Safety
/// Nothing else lives in that range, and the memory may be accessed as `prot` says.
pub unsafe fn map_kernel(va: usize, pa: PhysAddr, len: usize, prot: Prot) -> Result<(), OutOfTables> {
    let mut done = 0;
    let mut spare = None;
    while done < len {
        let guard = KERNEL_TABLES.lock();
        let mut access = |pa: PhysAddr| phys_to_virt(pa).cast::<PteCell>().cast_const();
        // SAFETY: the kernel's root; its tables are reachable through the direct map (or the image) and, under the
        // lock, change only here. The caller vouches for the range.
        let result = unsafe {
            map_step(&raw const arch_kernel_root, va, pa, len, done, prot, &mut || spare.take(), &mut access)
        };
        drop(guard);
        match result {
            Ok(step) => done += step,
            // Allocate with the lock open, and try again.
            Err(OutOfTables) => spare = Some(allocate_table().ok_or(OutOfTables)?),
        }
    }
    if let Some(table) = spare {
        keep_spare(table);
    }
    super::sysreg::dsb_ishst();
    super::sysreg::isb();
    Ok(())
}

/// Writes the entry that maps `va + done` as large as possible, making tables from `alloc` on the way; returns the bytes
/// mapped. Generic, so that it makes no calls through pointers: boot code runs it before relocation is effective.
///
/// # Safety
/// `root` is a root table, `access` gives addresses at which tables can be read and written, `alloc` gives zeroed
/// frames, and nobody else changes the tables meanwhile.
#[allow(clippy::too_many_arguments, reason = "the walk of boot code and kernel in one place")]
pub unsafe fn map_step(
    root: *const [PteCell; ENTRIES],
    va: usize,
    pa: PhysAddr,
    len: usize,
    done: usize,
    prot: Prot,
    alloc: &mut impl FnMut() -> Option<PhysAddr>,
    access: &mut impl FnMut(PhysAddr) -> *const PteCell,
) -> Result<usize, OutOfTables> {
    let (va, pa, left) = (va + done, pa + done as u64, len - done);
    let mut table = root.cast::<PteCell>();
    let mut level = LEVELS as Level - 1;
    loop {
        // SAFETY: the index is below `ENTRIES`; `table` is a table as promised.
        let cell = unsafe { &*table.add(index(level, va)) };
        let entry = cell.load();
        let size = level_size(level);
        let fits =
            level < 3 && left >= size && va.is_multiple_of(size) && (pa.0 as usize).is_multiple_of(size);
        let is_table = entry.is_present() && !entry.is_leaf(level);
        if level == 0 || (fits && !is_table) {
            cell.store(Pte::leaf(pa.pfn(), prot, level));
            return Ok(size);
        }
        let next = if entry.is_present() {
            debug_assert!(!entry.is_leaf(level));
            entry.pfn().addr()
        } else {
            let new = alloc().ok_or(OutOfTables)?;
            cell.store(Pte::table(new, false));
            new
        };
        table = access(next);
        level -= 1;
    }
}

/// Unmaps kernel address space (4 KiB mappings); the caller flushes with [`crate::tlb::flush_kernel`].
///
/// # Safety
/// Nobody uses the range any more.
pub unsafe fn unmap_kernel(va: usize, len: usize, mut f: impl FnMut(Pfn)) {
    for va in (va..va + len).step_by(level_size(0)) {
        let guard = KERNEL_TABLES.lock();
        let entry = walk_kernel(va).map_or(Pte::NONE, |cell| cell.swap(Pte::NONE));
        drop(guard);
        if entry.is_present() {
            f(entry.pfn());
        }
    }
}

/// The level-0 entry of a kernel address, if there are tables down to it.
fn walk_kernel(va: usize) -> Option<&'static PteCell> {
    let mut table = (&raw const arch_kernel_root).cast::<PteCell>();
    for level in (1..LEVELS as Level).rev() {
        // SAFETY: the index is below `ENTRIES`; kernel tables are never freed.
        let entry = unsafe { &*table.add(index(level, va)) }.load();
        if !entry.is_present() || entry.is_leaf(level) {
            return None;
        }
        table = phys_to_virt(entry.pfn().addr()).cast::<PteCell>();
    }
    // SAFETY: as above.
    Some(unsafe { &*table.add(index(0, va)) })
}

/// Whether instruction fetches do not see what was stored, as CTR_EL0 of the boot CPU says: see [`init`].
static SYNC_NEEDED: AtomicBool = AtomicBool::new(false);

/// Before `pte` goes live: if user mode can execute the page then, its instructions must be where fetches find them.
#[inline]
fn prepare(pte: Pte) {
    if pte.is_user_code() && SYNC_NEEDED.load(Ordering::Relaxed) {
        sync_instructions(phys_to_virt(pte.pfn().addr()).addr(), PAGE_SIZE);
    }
}

/// CTR_EL0: data cache clean to unification, instruction cache invalidation not needed.
const CTR_IDC: u64 = 1 << 28;
const CTR_DIC: u64 = 1 << 29;

/// Reads what the caches need.
pub(super) fn init() {
    let ctr = super::sysreg::read_sysreg!("ctr_el0");
    SYNC_NEEDED.store(ctr & (CTR_IDC | CTR_DIC) != CTR_IDC | CTR_DIC, Ordering::Relaxed);
}

/// Makes instructions written to RAM visible to instruction fetches of all CPUs. `va` is the kernel's address of the
/// memory.
#[cold]
pub fn sync_instructions(va: usize, len: usize) {
    let ctr = super::sysreg::read_sysreg!("ctr_el0");
    if ctr & CTR_IDC == 0 {
        let line = 4usize << (ctr >> 16 & 0xf);
        for at in (va & !(line - 1)..va + len).step_by(line) {
            // SAFETY: cleans a line of mapped memory to the point of unification; contents do not change.
            unsafe { core::arch::asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags)) };
        }
    }
    super::sysreg::dsb_ish();
    if ctr & CTR_DIC == 0 {
        // SAFETY: invalidating instruction caches loses nothing.
        unsafe { core::arch::asm!("ic ialluis", "dsb ish", options(nostack, preserves_flags)) };
    }
    super::sysreg::isb();
}
