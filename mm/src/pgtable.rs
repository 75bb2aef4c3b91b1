//! The page-table walker: generic over a geometry, so that it is tested with trees no hardware has.
//!
//! `arch` knows what an entry looks like ([`Entry`]) and how a cell is read and written ([`Cell`]); this file knows how a
//! tree of them is walked, grown and taken down. It serves kernel mappings ([`crate::kmap`]) and user
//! address spaces alike.
//!
//! Levels count from the bottom: an entry of level 0 maps one page, the root table has level `LEVELS - 1`.
//!
//! | operation | concurrent with |
//! |---|---|
//! | [`PageTable::lookup`], [`PageTable::cell`] | anything but freeing the tables walked |
//! | [`PageTable::cell_or_alloc`] | itself and the above: tables are installed by compare-and-exchange, the loser frees its own |
//! | [`PageTable::for_each`], [`PageTable::tables`] | the above; what the visitor does to a cell is its own affair (lock the table) |
//! | [`PageTable::free_tables`], [`PageTable::free_all`] | nothing in the same range: the caller excludes walkers (mmap lock held for writing, TLB flushed after) |

use crate::gfp::OutOfMemory;
use arch::addr::PhysAddr;
use core::marker::PhantomData;
use core::ops::{ControlFlow, Range};

/// A level; 0 maps pages.
pub type Level = u8;

/// An entry of a page table, as a value.
pub trait Entry: Copy + PartialEq {
    /// The empty entry.
    fn none() -> Self;
    /// Nothing is stored here: neither a mapping nor a swap or migration entry.
    fn is_none(self) -> bool;
    /// An entry of `level` that leads to a table of the level below.
    fn table(table: PhysAddr, level: Level) -> Self;
    /// Where the entry leads, if it leads to a table.
    fn as_table(self, level: Level) -> Option<PhysAddr>;
}

/// An entry in memory, which the hardware and other CPUs read and write.
pub trait Cell {
    /// The value it holds.
    type Entry: Entry;
    /// Reads it; what the entry leads to is visible after.
    fn load(&self) -> Self::Entry;
    /// Writes it; everything written before is visible through it.
    fn store(&self, entry: Self::Entry);
    /// Writes it and returns what was there (with the accessed and dirty bits up to that moment).
    fn swap(&self, entry: Self::Entry) -> Self::Entry;
    /// Writes it if it still holds `old`; otherwise returns what it holds.
    fn compare_exchange(&self, old: Self::Entry, new: Self::Entry) -> Result<(), Self::Entry>;
}

/// The shape of a tree.
pub trait Geometry: 'static {
    /// A cell.
    type Cell: Cell;
    /// log2 of the size of a page.
    const PAGE_SHIFT: u32;
    /// log2 of the number of entries of a table, per level, lowest first; its length is the number of levels.
    const INDEX_BITS: &'static [u32];

    /// Number of levels.
    const LEVELS: Level = Self::INDEX_BITS.len() as Level;

    /// log2 of what an entry of `level` spans.
    #[inline]
    fn shift(level: Level) -> u32 {
        let mut shift = Self::PAGE_SHIFT;
        let mut below = 0;
        while below < level {
            shift += Self::INDEX_BITS[below as usize];
            below += 1;
        }
        shift
    }

    /// Bytes that an entry of `level` spans.
    #[inline]
    fn span(level: Level) -> usize {
        1 << Self::shift(level)
    }

    /// Number of entries of a table of `level`.
    #[inline]
    fn entries(level: Level) -> usize {
        1 << Self::INDEX_BITS[level as usize]
    }

    /// Which entry of a table of `level` translates `va`.
    #[inline]
    fn index(level: Level, va: usize) -> usize {
        (va >> Self::shift(level)) & (Self::entries(level) - 1)
    }
}

/// The entry type of a geometry.
pub type EntryOf<G> = <<G as Geometry>::Cell as Cell>::Entry;

/// Where tables come from.
///
/// # Safety
/// `cells` of a table that `alloc` returned is valid for `G::entries(level)` cells until `free`; `alloc` returns tables
/// that are empty (all cells hold [`Entry::none`]).
pub unsafe trait TableMemory<G: Geometry> {
    /// A new, empty table of `level`.
    fn alloc(&self, level: Level) -> Result<PhysAddr, OutOfMemory>;
    /// Gives a table back. It is in no tree and no walker is in it.
    fn free(&self, table: PhysAddr, level: Level);
    /// The cells of a table.
    fn cells(&self, table: PhysAddr) -> *const G::Cell;
}

/// A view of a tree: its root, and the memory of its tables. Copies nothing, owns nothing.
pub struct PageTable<'m, G: Geometry, M: TableMemory<G>> {
    root: PhysAddr,
    memory: &'m M,
    geometry: PhantomData<G>,
}

impl<G: Geometry, M: TableMemory<G>> Clone for PageTable<'_, G, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<G: Geometry, M: TableMemory<G>> Copy for PageTable<'_, G, M> {}

/// A run of neighbouring cells in one table.
pub struct Run<'m, G: Geometry> {
    /// The cells, in address order.
    pub cells: &'m [G::Cell],
    /// The address that the first cell translates.
    pub start: usize,
    /// Level of the table.
    pub level: Level,
    /// The table: its page's lock protects the cells.
    pub table: PhysAddr,
}

impl<'m, G: Geometry, M: TableMemory<G>> PageTable<'m, G, M> {
    /// The tree under `root`.
    ///
    /// # Safety
    /// `root` is a table of the top level that came from `memory`, whose entries lead to tables of `memory` only. For
    /// as long as the value (and what it returns) is used no table that a walk may pass is freed, except through it.
    pub const unsafe fn new(root: PhysAddr, memory: &'m M) -> Self {
        Self { root, memory, geometry: PhantomData }
    }

    /// The root table.
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    #[inline]
    fn table_cells(&self, table: PhysAddr, level: Level) -> &'m [G::Cell] {
        // SAFETY: by the contracts of `new` and `TableMemory`, `table` is a live table of this level.
        unsafe { core::slice::from_raw_parts(self.memory.cells(table), G::entries(level)) }
    }

    /// The lowest cell on the path to `va`, not below `target`: either at `target`, or higher where the path ends
    /// in a leaf or an empty entry. Returns the cell with its level.
    #[inline]
    pub fn lookup(&self, va: usize, target: Level) -> (&'m G::Cell, Level) {
        let mut table = self.root;
        let mut level = G::LEVELS - 1;
        loop {
            let cell = &self.table_cells(table, level)[G::index(level, va)];
            if level <= target {
                return (cell, level);
            }
            match cell.load().as_table(level) {
                Some(next) => table = next,
                None => return (cell, level),
            }
            level -= 1;
        }
    }

    /// The cell of `level` for `va`, if the tables down to it exist.
    #[inline]
    pub fn cell(&self, va: usize, level: Level) -> Option<&'m G::Cell> {
        let (cell, at) = self.lookup(va, level);
        (at == level).then_some(cell)
    }

    /// The table of `level` that holds the cell for `va`, if it exists: its page carries the lock.
    pub fn table(&self, va: usize, level: Level) -> Option<PhysAddr> {
        let mut table = self.root;
        for at in (level + 1..G::LEVELS).rev() {
            table = self.table_cells(table, at)[G::index(at, va)].load().as_table(at)?;
        }
        Some(table)
    }

    /// The cell of `level` for `va`, with the tables above it, which are made where missing. A leaf in the way is
    /// an error of the caller's: it is returned as the cell with its level.
    pub fn cell_or_alloc(&self, va: usize, target: Level) -> Result<(&'m G::Cell, Level), OutOfMemory> {
        let mut table = self.root;
        let mut level = G::LEVELS - 1;
        loop {
            let cell = &self.table_cells(table, level)[G::index(level, va)];
            if level <= target {
                return Ok((cell, level));
            }
            let mut entry = cell.load();
            if entry.is_none() {
                let new = self.memory.alloc(level - 1)?;
                match cell.compare_exchange(entry, EntryOf::<G>::table(new, level)) {
                    Ok(()) => {
                        table = new;
                        level -= 1;
                        continue;
                    }
                    Err(now) => {
                        self.memory.free(new, level - 1);
                        entry = now;
                    }
                }
            }
            match entry.as_table(level) {
                Some(next) => table = next,
                None => return Ok((cell, level)),
            }
            level -= 1;
        }
    }

    /// Visits what is stored for `range`, in address order: `visit(va, level, cell)` for every cell that is not
    /// empty and leads to no table (leaves, swap entries). Skips what is empty without descending.
    pub fn for_each<B>(
        &self,
        range: Range<usize>,
        visit: &mut dyn FnMut(usize, Level, &'m G::Cell) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if range.is_empty() {
            return ControlFlow::Continue(());
        }
        self.walk(self.root, G::LEVELS - 1, range.start, range.end - 1, visit)
    }

    fn walk<B>(
        &self,
        table: PhysAddr,
        level: Level,
        first: usize,
        last: usize,
        visit: &mut dyn FnMut(usize, Level, &'m G::Cell) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let cells = self.table_cells(table, level);
        let mut va = first;
        loop {
            let end = (va | (G::span(level) - 1)).min(last);
            let cell = &cells[G::index(level, va)];
            let entry = cell.load();
            match entry.as_table(level) {
                Some(next) if level > 0 => self.walk(next, level - 1, va, end, visit)?,
                _ if !entry.is_none() => visit(va, level, cell)?,
                _ => {}
            }
            if end == last {
                return ControlFlow::Continue(());
            }
            va = end + 1;
        }
    }

    /// Visits the existing tables of level 0 that `range` passes, each as the run of its cells inside the range: one lock and one
    /// loop per table instead of a walk per page. Leaves of higher levels come as runs of one cell.
    pub fn tables<B>(
        &self,
        range: Range<usize>,
        visit: &mut dyn FnMut(Run<'m, G>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if range.is_empty() {
            return ControlFlow::Continue(());
        }
        self.walk_tables(self.root, G::LEVELS - 1, range.start, range.end - 1, visit)
    }

    fn walk_tables<B>(
        &self,
        table: PhysAddr,
        level: Level,
        first: usize,
        last: usize,
        visit: &mut dyn FnMut(Run<'m, G>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let cells = self.table_cells(table, level);
        if level == 0 {
            let cells = &cells[G::index(0, first)..=G::index(0, last)];
            return visit(Run { cells, start: first & !(G::span(0) - 1), level, table });
        }
        let mut va = first;
        loop {
            let end = (va | (G::span(level) - 1)).min(last);
            let index = G::index(level, va);
            let entry = cells[index].load();
            if let Some(next) = entry.as_table(level) {
                self.walk_tables(next, level - 1, va, end, visit)?;
            } else if !entry.is_none() {
                let start = va & !(G::span(level) - 1);
                visit(Run { cells: &cells[index..=index], start, level, table })?;
            }
            if end == last {
                return ControlFlow::Continue(());
            }
            va = end + 1;
        }
    }

    /// Unhooks the tables that lie wholly in `range`; `release` gets each with its level, lower ones first, and frees it
    /// when no CPU can still be walking it (after the TLB flush). What the tables still map is forgotten.
    /// `floor_level` protects the top: tables of that level and higher stay (the root always does).
    pub fn free_tables(
        &self,
        range: Range<usize>,
        floor_level: Level,
        release: &mut dyn FnMut(PhysAddr, Level),
    ) {
        if !range.is_empty() {
            self.unhook(self.root, G::LEVELS - 1, range.start, range.end - 1, floor_level, release);
        }
    }

    fn unhook(
        &self,
        table: PhysAddr,
        level: Level,
        first: usize,
        last: usize,
        floor_level: Level,
        release: &mut dyn FnMut(PhysAddr, Level),
    ) {
        if level == 0 {
            return;
        }
        let cells = self.table_cells(table, level);
        let span = G::span(level);
        let mut va = first;
        loop {
            let end = (va | (span - 1)).min(last);
            let cell = &cells[G::index(level, va)];
            if let Some(next) = cell.load().as_table(level) {
                self.unhook(next, level - 1, va, end, floor_level, release);
                if level - 1 < floor_level && va & (span - 1) == 0 && end == (va | (span - 1)) {
                    cell.store(EntryOf::<G>::none());
                    release(next, level - 1);
                }
            }
            if end == last {
                return;
            }
            va = end + 1;
        }
    }

    /// Frees every table of the tree, the root too.
    ///
    /// # Safety
    /// No CPU has the tree loaded, nobody else walks it, and the view (with its copies) is not used again.
    pub unsafe fn free_all(self) {
        let memory = self.memory;
        let top = G::LEVELS - 1;
        let last = match G::shift(top) + G::INDEX_BITS[top as usize] {
            bits if bits >= usize::BITS => usize::MAX,
            bits => (1 << bits) - 1,
        };
        self.unhook(self.root, top, 0, last, G::LEVELS, &mut |table, level| memory.free(table, level));
        memory.free(self.root, top);
    }
}

#[cfg(test)]
#[path = "pgtable/tests.rs"]
mod tests;
