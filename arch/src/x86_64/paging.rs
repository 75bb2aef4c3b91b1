//! Page table entries.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::{Pfn, PhysAddr};
use crate::paging::{Level, OutOfTables, Prot};

/// Levels of the table; the root is level `LEVELS - 1`.
pub const LEVELS: usize = 4;

/// A page table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    /// The empty entry.
    pub const NONE: Self = Self(0);

    /// An entry that maps memory. Leaves are created accessed; writable user leaves are created dirty only by `with_dirty`.
    pub const fn leaf(_pfn: Pfn, _prot: Prot, _level: Level) -> Self {
        todo!()
    }

    /// An entry that points to the next table (of user space if `user`).
    pub const fn table(_table: PhysAddr, _user: bool) -> Self {
        todo!()
    }

    /// No translation and no swap or migration entry.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Translates (or, with `PROT_NONE`, holds a frame that no access reaches: see [`Self::is_prot_none`]).
    #[inline]
    pub const fn is_present(self) -> bool {
        todo!()
    }

    /// Holds a frame but allows no access (mprotect PROT_NONE, NUMA hinting).
    pub const fn is_prot_none(self) -> bool {
        todo!()
    }

    /// Maps memory, as seen in a table of `level`.
    #[inline]
    pub const fn is_leaf(self, _level: Level) -> bool {
        todo!()
    }

    /// The frame mapped, or of the next table.
    #[inline]
    pub const fn pfn(self) -> Pfn {
        todo!()
    }

    /// What the mapping allows.
    pub const fn prot(self) -> Prot {
        todo!()
    }

    /// May be written.
    #[inline]
    pub const fn is_writable(self) -> bool {
        todo!()
    }

    /// Was written through this mapping.
    #[inline]
    pub const fn is_dirty(self) -> bool {
        todo!()
    }

    /// Was accessed.
    #[inline]
    pub const fn is_accessed(self) -> bool {
        todo!()
    }

    /// Is accessible from user mode.
    pub const fn is_user(self) -> bool {
        todo!()
    }

    /// May be executed.
    pub const fn is_exec(self) -> bool {
        todo!()
    }

    /// A software mark: maps a page that is not ours to count (zero page, device memory).
    pub const fn is_special(self) -> bool {
        todo!()
    }

    /// With write permission (and, where hardware needs it, the dirty bookkeeping).
    pub const fn with_writable(self, _on: bool) -> Self {
        todo!()
    }

    /// With the dirty mark.
    pub const fn with_dirty(self, _on: bool) -> Self {
        todo!()
    }

    /// With the accessed mark.
    pub const fn with_accessed(self, _on: bool) -> Self {
        todo!()
    }

    /// With the special mark.
    pub const fn with_special(self, _on: bool) -> Self {
        todo!()
    }

    /// With other permissions; frame, dirty, accessed and special marks stay.
    pub const fn with_prot(self, _prot: Prot) -> Self {
        todo!()
    }

    /// A non-present entry for `mm`: swap, migration, poison. `kind` below 32, `payload` below 2^50.
    pub const fn software(_kind: u8, _payload: u64) -> Self {
        todo!()
    }

    /// Takes a [`Self::software`] entry apart.
    pub const fn as_software(self) -> Option<(u8, u64)> {
        todo!()
    }
}

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
    todo!()
}

/// Fills a zeroed root table for a new user address space (x86: shares the kernel's half).
///
/// # Safety
/// `root` is a page of its own, zeroed.
pub unsafe fn init_user_root(_root: PhysAddr) {
    todo!()
}

/// Gives the source of zeroed frames for the kernel's tables (first memblock, later the page allocator).
pub fn set_table_allocator(_alloc: fn() -> Option<PhysAddr>) {
    todo!()
}

/// Maps `len` bytes of kernel address space.
///
/// # Safety
/// Nothing else lives in that range, and the memory may be accessed as `prot` says.
pub unsafe fn map_kernel(_va: usize, _pa: PhysAddr, _len: usize, _prot: Prot) -> Result<(), OutOfTables> {
    todo!()
}

/// Unmaps kernel address space (4 KiB mappings); the caller flushes with [`crate::tlb::flush_kernel`].
///
/// # Safety
/// Nobody uses the range any more.
pub unsafe fn unmap_kernel(_va: usize, _len: usize, _f: impl FnMut(Pfn)) {
    todo!()
}
