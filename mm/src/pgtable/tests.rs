//! The walker on small trees of odd shapes, against a map.

use super::*;
use core::sync::atomic::{AtomicU64, Ordering};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Bit 0: present, bit 1: leads to a table, the rest: address or payload.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Toy(u64);

impl Entry for Toy {
    fn none() -> Self {
        Toy(0)
    }
    fn is_none(self) -> bool {
        self.0 == 0
    }
    fn table(table: PhysAddr, _: Level) -> Self {
        Toy(table.0 << 2 | 3)
    }
    fn as_table(self, _: Level) -> Option<PhysAddr> {
        (self.0 & 3 == 3).then_some(PhysAddr(self.0 >> 2))
    }
}

struct ToyCell(AtomicU64);

impl Cell for ToyCell {
    type Entry = Toy;
    fn load(&self) -> Toy {
        Toy(self.0.load(Ordering::Acquire))
    }
    fn store(&self, entry: Toy) {
        self.0.store(entry.0, Ordering::Release);
    }
    fn swap(&self, entry: Toy) -> Toy {
        Toy(self.0.swap(entry.0, Ordering::AcqRel))
    }
    fn compare_exchange(&self, old: Toy, new: Toy) -> Result<(), Toy> {
        self.0.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire).map(|_| ()).map_err(Toy)
    }
}

/// Five levels of different widths over 16-byte pages.
struct Odd;
impl Geometry for Odd {
    type Cell = ToyCell;
    const PAGE_SHIFT: u32 = 4;
    const INDEX_BITS: &'static [u32] = &[3, 1, 4, 2, 3];
}

/// Two levels.
struct Flat;
impl Geometry for Flat {
    type Cell = ToyCell;
    const PAGE_SHIFT: u32 = 12;
    const INDEX_BITS: &'static [u32] = &[6, 7];
}

#[derive(Default)]
struct Heap {
    tables: RefCell<BTreeMap<u64, *mut [ToyCell]>>,
    limit: usize,
}

// SAFETY: boxed slices stay where they are until they are removed; they start out zero.
unsafe impl<G: Geometry<Cell = ToyCell>> TableMemory<G> for Heap {
    fn alloc(&self, level: Level) -> Result<PhysAddr, OutOfMemory> {
        let mut tables = self.tables.borrow_mut();
        if tables.len() >= self.limit {
            return Err(OutOfMemory);
        }
        let key = tables.last_key_value().map_or(1, |(k, _)| k + 1);
        let cells: Box<[ToyCell]> = (0..G::entries(level)).map(|_| ToyCell(AtomicU64::new(0))).collect();
        tables.insert(key, Box::into_raw(cells));
        Ok(PhysAddr(key))
    }
    fn free(&self, table: PhysAddr, _: Level) {
        let cells = self.tables.borrow_mut().remove(&table.0).expect("a table of this heap");
        // SAFETY: from `into_raw`, and out of the map: once.
        drop(unsafe { Box::from_raw(cells) });
    }
    fn cells(&self, table: PhysAddr) -> *const ToyCell {
        self.tables.borrow()[&table.0].cast()
    }
}

fn leaf(value: u64) -> Toy {
    Toy(value << 2 | 1)
}

fn tree<G: Geometry<Cell = ToyCell>>(heap: &Heap) -> PageTable<'_, G, Heap> {
    let root = TableMemory::<G>::alloc(heap, G::LEVELS - 1).unwrap();
    // SAFETY: the root is a fresh table of the heap.
    unsafe { PageTable::new(root, heap) }
}

fn against_model<G: Geometry<Cell = ToyCell>>(pages: &[(usize, u64)], cuts: &[(usize, usize)]) {
    let heap = Heap { limit: 1 << 20, ..Heap::default() };
    let table = tree::<G>(&heap);
    let bits = G::shift(G::LEVELS - 1) + G::INDEX_BITS[G::LEVELS as usize - 1] - G::PAGE_SHIFT;
    let mut model = BTreeMap::new();
    for &(page, value) in pages {
        let va = (page & ((1 << bits) - 1)) << G::PAGE_SHIFT;
        let (cell, level) = table.cell_or_alloc(va, 0).unwrap();
        assert_eq!(level, 0);
        cell.store(leaf(value));
        model.insert(va, value);
    }
    for &(a, b) in cuts {
        let a = (a & ((1 << bits) - 1)) << G::PAGE_SHIFT;
        let b = (b & ((1 << bits) - 1)) << G::PAGE_SHIFT;
        let range = a.min(b)..a.max(b);
        let mut seen = Vec::new();
        let _ = table.for_each(range.clone(), &mut |va, level, cell| {
            assert_eq!(level, 0);
            seen.push((va, cell.load().0 >> 2));
            ControlFlow::<()>::Continue(())
        });
        let expected: Vec<_> = model.range(range.clone()).map(|(k, v)| (*k, *v)).collect();
        assert_eq!(seen, expected);

        let mut by_table = Vec::new();
        let _ = table.tables(range, &mut |run| {
            for (i, cell) in run.cells.iter().enumerate() {
                if !cell.load().is_none() {
                    by_table.push((run.start + i * G::span(0), cell.load().0 >> 2));
                }
            }
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(by_table, expected);
    }
    // SAFETY: nobody else uses the tree.
    unsafe { table.free_all() };
    assert!(heap.tables.borrow().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]

    #[test]
    fn odd_geometry(pages in prop::collection::vec((any::<usize>(), 0u64..1000), 0..40),
                    cuts in prop::collection::vec((any::<usize>(), any::<usize>()), 0..8)) {
        against_model::<Odd>(&pages, &cuts);
    }

    #[test]
    fn flat_geometry(pages in prop::collection::vec((any::<usize>(), 0u64..1000), 0..40),
                     cuts in prop::collection::vec((any::<usize>(), any::<usize>()), 0..8)) {
        against_model::<Flat>(&pages, &cuts);
    }
}

#[test]
fn a_leaf_in_the_way_is_reported() {
    let heap = Heap { limit: 100, ..Heap::default() };
    let table = tree::<Odd>(&heap);
    let (cell, level) = table.cell_or_alloc(0x400, 2).unwrap();
    assert_eq!(level, 2);
    cell.store(leaf(9));
    assert_eq!(table.cell_or_alloc(0x410, 0).unwrap().1, 2);
    assert_eq!(table.lookup(0x410, 0).1, 2);
    assert!(table.cell(0x410, 0).is_none());
    let mut seen = BTreeSet::new();
    let _ = table.tables(0..0x2000, &mut |run| {
        seen.insert((run.start, run.level, run.cells.len()));
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(0x400, 2, 1)]);
}

#[test]
fn out_of_tables_leaves_the_tree_usable() {
    let heap = Heap { limit: 3, ..Heap::default() };
    let table = tree::<Odd>(&heap);
    assert!(table.cell_or_alloc(0, 0).is_err());
    assert_eq!(table.cell_or_alloc(0, 2).unwrap().1, 2);
}

#[test]
fn free_tables_spares_partial_and_top() {
    let heap = Heap { limit: 100, ..Heap::default() };
    let table = tree::<Odd>(&heap);
    // Spans: 16, 128, 256, 4096, 16384 bytes per entry.
    for va in [0usize, 0x80, 0x100] {
        table.cell_or_alloc(va, 0).unwrap().0.store(leaf(1));
    }
    let before = heap.tables.borrow().len();
    let mut freed = Vec::new();
    table.free_tables(0..0x100, Odd::LEVELS, &mut |t, level| freed.push((t, level)));
    // Two tables of level 0 and the one of level 1 above them; level 2 still serves 0x100.
    assert_eq!(freed.iter().map(|f| f.1).collect::<Vec<_>>(), [0, 0, 1]);
    for (t, level) in freed {
        TableMemory::<Odd>::free(&heap, t, level);
    }
    assert_eq!(heap.tables.borrow().len(), before - 3);
    assert!(table.cell(0, 0).is_none() && table.cell(0x100, 0).is_some());
}
