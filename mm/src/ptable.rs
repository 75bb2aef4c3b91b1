//! The page tables of a user address space: entries, tables, and the lock of a table.
//!
//! The tree is walked by [`crate::pgtable`]; this file binds that walker to the processor's entries
//! and to the page allocator, and adds what user space needs: a lock per lowest table (Linux's
//! split page-table lock), so that faults in different 2 MiB ranges do not meet.
//!
//! The lock is the `LOCKED` flag of the table's own page descriptor, taken as a spin lock with preemption
//! off. Order: mmap_lock → area lock → folio lock → table lock. Of two tables (fork, mremap) the
//! one of the parent / of the lower address range comes first; nobody takes them the other way round.

use crate::frames;
use crate::gfp::OutOfMemory;
use crate::page::{Page, PageFlags};
use crate::pgtable::{Cell, Entry, Geometry, Level, PageTable, Run, TableMemory};
use arch::addr::{PAGE_SHIFT, PhysAddr};
use arch::asid::MmContext;
use arch::paging::{LEVELS, Pte, PteCell};
use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Entries in a lowest table.
pub const PTRS_PER_TABLE: usize = 512;
/// Bytes that a lowest table spans.
pub const TABLE_SPAN: usize = PTRS_PER_TABLE << PAGE_SHIFT;

/// Bytes that an entry of the root spans.
const ROOT_ENTRY_SPAN: usize = 1 << (PAGE_SHIFT as usize + 9 * (LEVELS - 1));

/// An entry of a user table.
#[derive(Clone, Copy, PartialEq)]
pub struct UserPte(pub Pte);

impl Entry for UserPte {
    fn none() -> Self {
        Self(Pte::NONE)
    }
    #[inline]
    fn is_none(self) -> bool {
        self.0.is_none()
    }
    #[inline]
    fn table(table: PhysAddr, _level: Level) -> Self {
        Self(Pte::table(table, true))
    }
    #[inline]
    fn as_table(self, level: Level) -> Option<PhysAddr> {
        (level > 0 && !self.0.is_none() && !self.0.is_leaf(level)).then(|| self.0.pfn().addr())
    }
}

/// What an entry without a page remembers of it: Linux's PTE markers, the only software entries there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// A store goes to a userfaultfd first.
    pub(crate) uffd_wp: bool,
    /// Every access ends in `SIGBUS`: `UFFDIO_POISON`.
    pub(crate) poisoned: bool,
}

impl Marker {
    const KIND: u8 = 1;
    pub(crate) const UFFD_WP: Self = Self { uffd_wp: true, poisoned: false };
    pub(crate) const POISONED: Self = Self { uffd_wp: false, poisoned: true };

    /// The marker that an entry is.
    #[inline]
    pub(crate) fn of(pte: Pte) -> Option<Self> {
        match pte.as_software() {
            Some((Self::KIND, bits)) => Some(Self { uffd_wp: bits & 1 != 0, poisoned: bits & 2 != 0 }),
            _ => None,
        }
    }

    /// The entry; the empty one if there is nothing to remember.
    pub(crate) fn entry(self) -> Pte {
        match u64::from(self.uffd_wp) | u64::from(self.poisoned) << 1 {
            0 => Pte::NONE,
            bits => Pte::software(Self::KIND, bits),
        }
    }

    /// Without the protection unless `uffd_wp`.
    pub(crate) fn keeping(self, uffd_wp: bool) -> Self {
        Self { uffd_wp: self.uffd_wp && uffd_wp, ..self }
    }
}

/// A cell of a user table.
#[repr(transparent)]
pub struct UserCell(pub PteCell);

impl Cell for UserCell {
    type Entry = UserPte;
    #[inline]
    fn load(&self) -> UserPte {
        UserPte(self.0.load())
    }
    #[inline]
    fn store(&self, entry: UserPte) {
        self.0.store(entry.0);
    }
    #[inline]
    fn swap(&self, entry: UserPte) -> UserPte {
        UserPte(self.0.swap(entry.0))
    }
    #[inline]
    fn compare_exchange(&self, old: UserPte, new: UserPte) -> Result<(), UserPte> {
        self.0.compare_exchange(old.0, new.0).map(|_| ()).map_err(UserPte)
    }
}

/// The processor's geometry.
pub struct UserGeometry;

impl Geometry for UserGeometry {
    type Cell = UserCell;
    const PAGE_SHIFT: u32 = PAGE_SHIFT;
    const INDEX_BITS: &'static [u32] = &[9; LEVELS];
}

/// Tables are single pages of the page allocator; their number is kept for `VmPTE` and the OOM killer.
#[derive(Default)]
pub struct TablePages {
    count: AtomicUsize,
}

// SAFETY: a table is a zeroed page of its own, reachable through the direct map until it is freed.
unsafe impl TableMemory<UserGeometry> for TablePages {
    fn alloc(&self, _level: Level) -> Result<PhysAddr, OutOfMemory> {
        let page = frames::alloc_table()?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(frames::phys_of(page))
    }
    fn free(&self, table: PhysAddr, _level: Level) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        frames::free_table(frames::page_of(table.pfn()));
    }
    #[inline]
    fn cells(&self, table: PhysAddr) -> *const UserCell {
        arch::addr::phys_to_virt(table).cast_const().cast()
    }
}

/// The page tables of one address space. Whoever may have them loaded keeps them alive: the space
/// itself and CPUs that run kernel threads on them (lazy TLB).
pub struct Pgd {
    context: MmContext,
    memory: TablePages,
}

impl Pgd {
    /// An empty user space.
    pub fn new() -> Result<Self, OutOfMemory> {
        let memory = TablePages::default();
        let root = memory.alloc(LEVELS as Level - 1)?;
        // SAFETY: the root is a zeroed page of its own.
        unsafe { arch::paging::init_user_root(root) };
        Ok(Self { context: MmContext::new(root), memory })
    }

    /// What the processor needs to run on these tables.
    #[inline]
    pub fn context(&self) -> &MmContext {
        &self.context
    }

    /// Bytes in tables.
    pub fn bytes(&self) -> usize {
        self.memory.count.load(Ordering::Relaxed) << PAGE_SHIFT
    }

    #[inline]
    fn tree(&self) -> PageTable<'_, UserGeometry, TablePages> {
        // SAFETY: the root came from `memory`. Tables are only freed by `free_range`, whose caller excludes walkers,
        // and by `drop`.
        unsafe { PageTable::new(self.context.root(), &self.memory) }
    }

    /// The lowest table for `va`, if it exists.
    #[inline]
    pub fn table(&self, va: usize) -> Option<Table<'_>> {
        let (cell, level) = self.tree().lookup(va, 1);
        if level != 1 {
            return None;
        }
        cell.load().as_table(1).map(|table| self.view(table))
    }

    /// The lowest table for `va`, made if missing.
    #[inline]
    pub fn table_or_alloc(&self, va: usize) -> Result<Table<'_>, OutOfMemory> {
        let (cell, level) = self.tree().cell_or_alloc(va, 1)?;
        if level != 1 {
            return Err(OutOfMemory);
        }
        let entry = cell.load();
        if let Some(table) = entry.as_table(1) {
            return Ok(self.view(table));
        }
        let new = self.memory.alloc(0)?;
        match cell.compare_exchange(entry, UserPte::table(new, 1)) {
            Ok(()) => Ok(self.view(new)),
            Err(now) => {
                self.memory.free(new, 0);
                now.as_table(1).map(|table| self.view(table)).ok_or(OutOfMemory)
            }
        }
    }

    #[inline]
    fn view(&self, table: PhysAddr) -> Table<'_> {
        // SAFETY: `table` is a live lowest table of this tree, hence 512 cells.
        let cells = unsafe { &*self.memory.cells(table).cast::<[UserCell; PTRS_PER_TABLE]>() };
        Table { cells, page: frames::page_of(table.pfn()) }
    }

    /// Calls `visit(cells, address of the first)` with each existing lowest table in `range`, locked.
    pub fn for_each_table(&self, range: Range<usize>, visit: &mut dyn FnMut(&[UserCell], usize)) {
        let _ = self.tree().tables(range, &mut |run: Run<'_, UserGeometry>| {
            if run.level == 0 {
                let _lock = TableLock::new(frames::page_of(run.table.pfn()));
                visit(run.cells, run.start);
            }
            ControlFlow::<()>::Continue(())
        });
    }

    /// Unhooks the tables that lie wholly inside `range` and collects them for release after the flush.
    /// Nobody else walks the range: `mmap_lock` is held exclusively, or the space is dying.
    pub fn unhook(&self, range: Range<usize>, mut release: impl FnMut(&'static Page)) {
        self.tree().free_tables(range, LEVELS as Level - 1, &mut |table, _| {
            self.memory.count.fetch_sub(1, Ordering::Relaxed);
            release(frames::page_of(table.pfn()));
        });
    }
}

impl Drop for Pgd {
    fn drop(&mut self) {
        // Lazy CPUs may still have the root loaded.
        arch::asid::forget(&self.context);
        // User space may end a page before the last of its tables does.
        let end = arch::layout::TASK_SIZE.next_multiple_of(ROOT_ENTRY_SPAN);
        self.unhook(0..end, frames::free_table);
        self.memory.free(self.context.root(), LEVELS as Level - 1);
    }
}

/// A lowest table.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    cells: &'a [UserCell; PTRS_PER_TABLE],
    page: &'static Page,
}

impl<'a> Table<'a> {
    /// The cell for `va`, without the lock: for a look that is verified later.
    #[inline]
    pub fn peek(&self, va: usize) -> Pte {
        self.cells[index(va)].0.load()
    }

    /// Takes the table's lock.
    #[inline]
    pub fn lock(self) -> LockedTable<'a> {
        LockedTable { cells: self.cells, _lock: TableLock::new(self.page) }
    }

    /// Takes the table's lock if it is free.
    pub fn try_lock(self) -> Option<LockedTable<'a>> {
        TableLock::try_new(self.page).map(|lock| LockedTable { cells: self.cells, _lock: lock })
    }

    /// Whether both are the same table.
    pub fn same(&self, other: &Table<'_>) -> bool {
        core::ptr::eq(self.page, other.page)
    }
}

/// A lowest table whose lock is held.
pub struct LockedTable<'a> {
    cells: &'a [UserCell; PTRS_PER_TABLE],
    _lock: TableLock,
}

impl<'a> LockedTable<'a> {
    /// The cell for `va`.
    #[inline]
    pub fn cell(&self, va: usize) -> &'a PteCell {
        &self.cells[index(va)].0
    }
}

#[inline]
fn index(va: usize) -> usize {
    (va >> PAGE_SHIFT) & (PTRS_PER_TABLE - 1)
}

/// The lock bit of a table, held; preemption is off.
struct TableLock(&'static Page);

impl TableLock {
    #[inline]
    fn new(page: &'static Page) -> Self {
        arch::preempt::disable();
        while !page.test_and_set(PageFlags::LOCKED).is_empty() {
            while page.test(PageFlags::LOCKED) {
                core::hint::spin_loop();
            }
        }
        Self(page)
    }

    fn try_new(page: &'static Page) -> Option<Self> {
        arch::preempt::disable();
        if page.test_and_set(PageFlags::LOCKED).is_empty() {
            return Some(Self(page));
        }
        arch::preempt::enable();
        None
    }
}

impl Drop for TableLock {
    #[inline]
    fn drop(&mut self) {
        self.0.clear(PageFlags::LOCKED);
        arch::preempt::enable();
    }
}
