//! Mappings in the kernel's half of the address space: the primitive under vmalloc, ioremap and the descriptor array.
//!
//! Top-level entries of the ranges used are made once at boot ([`prepare`]), so that address spaces that copied
//! the kernel's half stay right for ever. Tables below are installed with compare-and-exchange and never freed; two
//! callers may map different ranges at the same time without a lock. Who owns which addresses is the caller's affair
//! ([`crate::vmalloc`]).

use crate::gfp::{Gfp, Order, OutOfMemory};
use crate::pgtable::{Cell, Entry, Geometry, Level, PageTable, TableMemory};
use crate::vmemmap_grow::FrameSource;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr, phys_to_virt};
use arch::paging::{LEVELS, Prot, Pte, PteCell, kernel_root};
use core::cell::RefCell;
use core::ops::{ControlFlow, Range};

/// The machine's own tree shape.
pub struct Machine;

impl Geometry for Machine {
    type Cell = PteCell;
    const PAGE_SHIFT: u32 = PAGE_SHIFT;
    const INDEX_BITS: &'static [u32] = &[9; LEVELS];
}

impl Entry for Pte {
    #[inline]
    fn none() -> Self {
        Pte::NONE
    }
    #[inline]
    fn is_none(self) -> bool {
        Pte::is_none(self)
    }
    #[inline]
    fn table(table: PhysAddr, _: Level) -> Self {
        Pte::table(table, false)
    }
    #[inline]
    fn as_table(self, level: Level) -> Option<PhysAddr> {
        (level > 0 && self.is_present() && !self.is_leaf(level)).then(|| self.pfn().addr())
    }
}

impl Cell for PteCell {
    type Entry = Pte;
    #[inline]
    fn load(&self) -> Pte {
        PteCell::load(self)
    }
    #[inline]
    fn store(&self, entry: Pte) {
        PteCell::store(self, entry);
    }
    #[inline]
    fn swap(&self, entry: Pte) -> Pte {
        PteCell::swap(self, entry)
    }
    #[inline]
    fn compare_exchange(&self, old: Pte, new: Pte) -> Result<(), Pte> {
        PteCell::compare_exchange(self, old, new).map(drop)
    }
}

/// Tables from the page allocator.
pub struct KernelTables;

// SAFETY: whole zeroed pages, reached through the direct map, freed only by `free`.
unsafe impl TableMemory<Machine> for KernelTables {
    fn alloc(&self, _: Level) -> Result<PhysAddr, OutOfMemory> {
        let gfp = crate::heap::context_gfp() | Gfp::ZERO;
        let frame = crate::page_alloc::alloc_pages(gfp, Order::ZERO)?;
        crate::stats::add(crate::stats::Item::KernelTables, 1);
        Ok(frame.into_raw().addr())
    }
    fn free(&self, table: PhysAddr, _: Level) {
        crate::stats::add(crate::stats::Item::KernelTables, -1);
        // SAFETY: the frame came from `alloc` and is in no tree.
        drop(unsafe { crate::folio::Frame::from_raw(table.pfn(), Order::ZERO) });
    }
    fn cells(&self, table: PhysAddr) -> *const PteCell {
        phys_to_virt(table).cast()
    }
}

/// Tables from whatever gives frames before the page allocator can.
pub(crate) struct EarlyTables<'a, 'b>(pub(crate) RefCell<&'a mut FrameSource<'b>>);

// SAFETY: frames of the source belong to us and are zeroed here; never freed.
unsafe impl TableMemory<Machine> for EarlyTables<'_, '_> {
    fn alloc(&self, _: Level) -> Result<PhysAddr, OutOfMemory> {
        let frame = (self.0.borrow_mut())(1).ok_or(OutOfMemory)?;
        // SAFETY: the frame is RAM, in the direct map, and ours.
        unsafe { crate::vmemmap::frame_ptr(frame).write_bytes(0, PAGE_SIZE) };
        Ok(Pfn(u64::from(frame)).addr())
    }
    fn free(&self, _: PhysAddr, _: Level) {
        // Only when another CPU installed the same table first; at boot there is none. One page is lost otherwise.
    }
    fn cells(&self, table: PhysAddr) -> *const PteCell {
        phys_to_virt(table).cast()
    }
}

fn kernel_tree<M: TableMemory<Machine>>(memory: &M) -> PageTable<'_, Machine, M> {
    // SAFETY: the kernel's tree lives for ever and no table of it is ever freed.
    unsafe { PageTable::new(kernel_root(), memory) }
}

/// Makes the tables right below the root for `range`, so that the root never changes again there.
pub(crate) fn prepare<M: TableMemory<Machine>>(memory: &M, range: Range<usize>) -> Result<(), OutOfMemory> {
    let top = LEVELS as Level - 1;
    let mut va = range.start;
    while va < range.end {
        kernel_tree(memory).cell_or_alloc(va, top - 1)?;
        let next = (va | (Machine::span(top) - 1)).wrapping_add(1);
        if next < va {
            break;
        }
        va = next;
    }
    Ok(())
}

/// Maps `len` bytes of physical memory from `pfn` at `va`, with the largest leaves that fit (up to 2 MiB).
///
/// # Safety
/// The caller owns the address range, nothing is mapped in it, and the memory may be used as `prot` says.
pub unsafe fn map<M: TableMemory<Machine>>(
    memory: &M,
    va: usize,
    pfn: Pfn,
    len: usize,
    prot: Prot,
) -> Result<(), OutOfMemory> {
    let tree = kernel_tree(memory);
    let (mut at, end, mut pfn) = (va, va + len, pfn);
    while at < end {
        let huge = Machine::span(1);
        let level = u8::from(at.is_multiple_of(huge) && end - at >= huge && pfn.0.is_multiple_of(512));
        let (cell, found) = tree.cell_or_alloc(at, level)?;
        if found != level {
            return Err(OutOfMemory);
        }
        cell.store(Pte::leaf(pfn, prot, level));
        at += Machine::span(level);
        pfn = pfn + (Machine::span(level) >> PAGE_SHIFT) as u64;
    }
    Ok(())
}

/// Maps single frames, one after the other, from `va` on.
///
/// # Safety
/// As for [`map`].
pub unsafe fn map_frames(
    va: usize,
    frames: impl Iterator<Item = Pfn>,
    prot: Prot,
) -> Result<(), OutOfMemory> {
    let tree = kernel_tree(&KernelTables);
    for (at, pfn) in (va..).step_by(PAGE_SIZE).zip(frames) {
        let (cell, found) = tree.cell_or_alloc(at, 0)?;
        if found != 0 {
            return Err(OutOfMemory);
        }
        cell.store(Pte::leaf(pfn, prot, 0));
    }
    Ok(())
}

/// Takes the mappings of `range` away and hands each frame run to `each(first frame, frames)`. The TLBs still hold them until the
/// caller flushes.
///
/// # Safety
/// The caller owns the range and nobody uses it any more.
pub unsafe fn unmap(range: Range<usize>, each: &mut dyn FnMut(Pfn, usize)) {
    let _ = kernel_tree(&KernelTables).tables(range, &mut |run| {
        for cell in run.cells {
            let old = cell.swap(Pte::NONE);
            if old.is_present() {
                each(old.pfn(), Machine::span(run.level) >> PAGE_SHIFT);
            }
        }
        ControlFlow::<()>::Continue(())
    });
}

/// The frame that a kernel address outside the direct map leads to.
pub fn translate(va: usize) -> Option<PhysAddr> {
    let (cell, level) = kernel_tree(&KernelTables).lookup(va, 0);
    let entry = cell.load();
    (entry.is_present() && entry.is_leaf(level))
        .then(|| entry.pfn().addr() + (va & (Machine::span(level) - 1)) as u64)
}
