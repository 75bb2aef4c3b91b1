//! Page tables of the kernel, and what user tables share of them.
//!
//! All kernel entries of the root are made at boot ([`preallocate`]), so a user root takes a copy of them once and never
//! has to be synchronised. Lock: the table allocator's lock (interrupts off) is also the lock of the kernel's tables; the
//! allocator is called under it.

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

pub use super::pte::{PAT, Pte};
use crate::addr::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr, phys_to_virt, virt_to_phys};
use crate::paging::{ENTRIES, Level, OutOfTables, Prot, index, level_size};
use crate::sync::SpinLockIrq;

/// Levels of the table; the root is level `LEVELS - 1`.
pub const LEVELS: usize = 4;

/// Whether entries have a soft-dirty mark (`/proc/PID/clear_refs`), as on Linux of this architecture.
pub const SOFT_DIRTY: bool = true;
const ROOT: Level = LEVELS as Level - 1;

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
    /// to the walker as the architecture demands.
    #[inline]
    pub fn store(&self, pte: Pte) {
        self.0.store(pte.0, Ordering::Release);
    }

    /// Takes the entry out and leaves `pte`: the hardware's last dirty and accessed marks are in what comes back.
    #[inline]
    pub fn swap(&self, pte: Pte) -> Pte {
        Pte(self.0.swap(pte.0, Ordering::AcqRel))
    }

    /// Replaces `old` by `new` if nothing (also no hardware mark) changed.
    #[inline]
    pub fn compare_exchange(&self, old: Pte, new: Pte) -> Result<Pte, Pte> {
        self.0.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire).map(Pte).map_err(Pte)
    }
}

#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; ENTRIES]>);

// SAFETY: accessed through `PteCell`s only.
unsafe impl Sync for Table {}

static KERNEL_ROOT: Table = Table(UnsafeCell::new([0; ENTRIES]));

/// The source of zeroed frames for tables.
type TableAllocator = fn() -> Option<PhysAddr>;

/// The lock of the kernel's tables, and where new ones come from.
static TABLES: SpinLockIrq<Option<TableAllocator>> = SpinLockIrq::new(None);

/// Indices of the root entries that the kernel uses, and how many.
static SHARED: [AtomicU16; 64] = [const { AtomicU16::new(0) }; 64];
static SHARED_LEN: AtomicUsize = AtomicUsize::new(0);

/// The kernel's own root table.
pub fn kernel_root() -> PhysAddr {
    virt_to_phys(VirtAddr(KERNEL_ROOT.0.get().addr()))
}

/// # Safety
/// `table` is a page table that stays one while the reference lives.
unsafe fn entries<'a>(table: PhysAddr) -> &'a [PteCell; ENTRIES] {
    // SAFETY: tables lie in the direct map (or, early, in the identity map), and entries are atomics.
    unsafe { &*phys_to_virt(table).cast() }
}

fn root() -> &'static [PteCell; ENTRIES] {
    // SAFETY: a table of its own for ever.
    unsafe { &*KERNEL_ROOT.0.get().cast() }
}

/// Fills a zeroed root table for a new user address space (x86: shares the kernel's half).
///
/// # Safety
/// `root` is a page of its own, zeroed.
pub unsafe fn init_user_root(user_root: PhysAddr) {
    // SAFETY: the caller's promise.
    let to = unsafe { entries(user_root) };
    let shared = SHARED.get(..SHARED_LEN.load(Ordering::Relaxed)).unwrap_or(&[]);
    for i in shared {
        let i = usize::from(i.load(Ordering::Relaxed)) % ENTRIES;
        to[i].store(root()[i].load());
    }
}

/// Gives the source of zeroed frames for the kernel's tables (first memblock, later the page allocator).
pub fn set_table_allocator(alloc: fn() -> Option<PhysAddr>) {
    *TABLES.lock() = Some(alloc);
}

/// Makes the tables below the root for a range, so that roots made from now on share whatever is mapped there.
pub fn preallocate(range: Range<usize>) -> Result<(), OutOfTables> {
    let alloc = TABLES.lock();
    for i in index(ROOT, range.start)..=index(ROOT, range.end - 1) {
        if root()[i].load().is_none() {
            let table = alloc.and_then(|f| f()).ok_or(OutOfTables)?;
            root()[i].store(Pte::table(table, false));
        }
        let n = SHARED_LEN.load(Ordering::Relaxed);
        if SHARED[..n].iter().all(|s| usize::from(s.load(Ordering::Relaxed)) != i) {
            SHARED.get(n).ok_or(OutOfTables)?.store(i as u16, Ordering::Relaxed);
            SHARED_LEN.store(n + 1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Maps `len` bytes of kernel address space with pages of at most `max_level`, as large as alignment allows.
///
/// # Safety
/// Nothing else lives in that range, and the memory may be accessed as `prot` says.
pub unsafe fn map_kernel_large(
    va: usize,
    pa: PhysAddr,
    len: usize,
    prot: Prot,
    max_level: Level,
) -> Result<(), OutOfTables> {
    let alloc = TABLES.lock();
    let mut done = 0;
    while done < len {
        let (va, pa, left) = (va + done, pa + done as u64, len - done);
        let fits = |level: Level| {
            let size = level_size(level);
            va & (size - 1) == 0 && pa.0 & (size as u64 - 1) == 0 && left >= size
        };
        let target = (0..=max_level).rev().find(|&l| fits(l)).unwrap_or(0);
        let mut table = root();
        for level in (target + 1..=ROOT).rev() {
            let cell = &table[index(level, va)];
            if cell.load().is_none() {
                let new = alloc.and_then(|f| f()).ok_or(OutOfTables)?;
                cell.store(Pte::table(new, false));
            }
            // SAFETY: kernel tables are never freed.
            table = unsafe { entries(cell.load().pfn().addr()) };
        }
        table[index(target, va)].store(Pte::leaf(pa.pfn(), prot, target));
        done += level_size(target);
    }
    Ok(())
}

/// Maps `len` bytes of kernel address space.
///
/// # Safety
/// Nothing else lives in that range, and the memory may be accessed as `prot` says.
pub unsafe fn map_kernel(va: usize, pa: PhysAddr, len: usize, prot: Prot) -> Result<(), OutOfTables> {
    // SAFETY: the caller's promise.
    unsafe { map_kernel_large(va, pa, len, prot, 0) }
}

/// Unmaps kernel address space (4 KiB mappings); the caller flushes with [`crate::tlb::flush_kernel`].
///
/// # Safety
/// Nobody uses the range any more.
pub unsafe fn unmap_kernel(va: usize, len: usize, mut f: impl FnMut(Pfn)) {
    for va in (va..va + len).step_by(PAGE_SIZE) {
        if let Some(cell) = walk(va) {
            let old = cell.swap(Pte::NONE);
            if old.is_present() {
                f(old.pfn());
            }
        }
    }
}

/// The 4 KiB entry of a kernel address, if there are tables down to it.
fn walk(va: usize) -> Option<&'static PteCell> {
    let mut table = root();
    for level in (1..=ROOT).rev() {
        let pte = table[index(level, va)].load();
        if !pte.is_present() || pte.is_leaf(level) {
            return None;
        }
        // SAFETY: kernel tables are never freed.
        table = unsafe { entries(pte.pfn().addr()) };
    }
    Some(&table[index(0, va)])
}

/// The physical address that a kernel address translates to, by the tables.
pub fn translate_kernel(va: usize) -> Option<PhysAddr> {
    let mut table = root();
    for level in (0..=ROOT).rev() {
        let pte = table[index(level, va)].load();
        if !pte.is_present() {
            return None;
        }
        if pte.is_leaf(level) {
            return Some(pte.pfn().addr() + (va & (level_size(level) - 1)) as u64);
        }
        // SAFETY: kernel tables are never freed.
        table = unsafe { entries(pte.pfn().addr()) };
    }
    None
}
