//! Page tables: x86_64's format over the arena of the test process. No processor walks them; the
//! kernel's own mappings are kept in tables too, so that tests can look.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::memory::take_page;
pub use super::pte::Pte;
use crate::addr::{PAGE_SIZE, Pfn, PhysAddr};
use crate::paging::{OutOfTables, Prot};

/// Levels of the table; the root is level `LEVELS - 1`.
pub const LEVELS: usize = 4;

/// Whether entries have a soft-dirty mark (`/proc/PID/clear_refs`), as on Linux of this architecture.
pub const SOFT_DIRTY: bool = true;

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

/// The kernel's own root table.
pub fn kernel_root() -> PhysAddr {
    static ROOT: OnceLock<PhysAddr> = OnceLock::new();
    *ROOT.get_or_init(take_page)
}

/// Fills a zeroed root table for a new user address space: nothing is shared on the host.
///
/// # Safety
/// None needed.
pub unsafe fn init_user_root(_root: PhysAddr) {}

/// Gives the source of zeroed frames for the kernel's tables: not needed on the host.
pub fn set_table_allocator(_alloc: fn() -> Option<PhysAddr>) {}

static KERNEL: Mutex<BTreeMap<usize, (Pfn, Prot)>> = Mutex::new(BTreeMap::new());

/// What a kernel address was mapped to by [`map_kernel`].
pub fn kernel_mapping(va: usize) -> Option<(Pfn, Prot)> {
    KERNEL.lock().unwrap_or_else(PoisonError::into_inner).get(&(va & !(PAGE_SIZE - 1))).copied()
}

/// Notes a mapping of kernel address space. (Nothing becomes accessible by it.)
///
/// # Safety
/// None needed.
pub unsafe fn map_kernel(va: usize, pa: PhysAddr, len: usize, prot: Prot) -> Result<(), OutOfTables> {
    let mut kernel = KERNEL.lock().unwrap_or_else(PoisonError::into_inner);
    for offset in (0..len).step_by(PAGE_SIZE) {
        kernel.insert(va + offset, ((pa + offset as u64).pfn(), prot));
    }
    Ok(())
}

/// Forgets mappings of kernel address space.
///
/// # Safety
/// None needed.
pub unsafe fn unmap_kernel(va: usize, len: usize, mut f: impl FnMut(Pfn)) {
    let mut kernel = KERNEL.lock().unwrap_or_else(PoisonError::into_inner);
    for offset in (0..len).step_by(PAGE_SIZE) {
        if let Some((pfn, _)) = kernel.remove(&(va + offset)) {
            f(pfn);
        }
    }
}
