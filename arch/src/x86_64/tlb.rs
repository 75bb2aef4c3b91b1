//! Translation look-aside buffers.
//!
//! A flush advances the generation of the address space (see [`super::asid`]), flushes here, and interrupts those CPUs
//! that have the space loaded and really use it. They answer by flushing the range, or everything if they had missed a
//! generation.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::{asid, features, insn, smp};
use crate::addr::PAGE_SIZE;
use crate::asid::MmContext;
use crate::cpu::{self, CpuMask};
use crate::irq::IrqGuard;
use crate::paging::{Level, level_shift};
use crate::preempt::PreemptGuard;

/// Up to so many pages are flushed one by one.
const FEW: usize = 33;

/// What to flush: lives on the sender's stack until all have answered.
struct Request<'a> {
    mm: &'a MmContext,
    generation: u64,
    range: Range<usize>,
    level: Level,
}

/// Forgets, on every CPU that may hold them, translations of `range` in `mm`. `level`: the level of the leaves that
/// changed. `tables_freed`: tables were unlinked too, so that lazy CPUs must hear of it before they are freed.
pub fn flush_range(mm: &MmContext, range: Range<usize>, level: Level, tables_freed: bool) {
    let preempt = PreemptGuard::new();
    let generation = mm.generation.fetch_add(1, Ordering::SeqCst) + 1;
    let request = Request { mm, generation, range, level };
    flush_here(&request);
    let mut others = mm.cpumask();
    others.clear(cpu::current());
    if !others.is_empty() {
        if !tables_freed {
            let lazy =
                others.iter().filter(|&c| asid::is_lazy(c)).fold(CpuMask::EMPTY, |m, c| m.or(CpuMask::of(c)));
            others = others.without(lazy);
        }
        smp::call_on(others, remote, (&raw const request).expose_provenance());
    }
    drop(preempt);
}

fn remote(request: usize) {
    crate::irqstat::count(crate::irqstat::Kind::Tlb);
    // SAFETY: the sender waits for us with the request on its stack.
    flush_here(unsafe { &*core::ptr::with_exposed_provenance::<Request<'_>>(request) });
}

/// Flushes on this CPU, if the space is loaded; a space that is not has its generation compared when it comes back.
fn flush_here(request: &Request<'_>) {
    let guard = IrqGuard::new();
    // SAFETY: interrupts are off.
    let loaded = unsafe { asid::loaded(&guard) };
    if !core::ptr::eq(loaded.mm, request.mm) {
        return;
    }
    let slot = &mut loaded.slots[loaded.slot];
    if slot.generation >= request.generation {
        return;
    }
    let pages = (request.range.end.saturating_sub(request.range.start)) >> level_shift(request.level);
    if slot.generation + 1 == request.generation && pages <= FEW {
        for va in request.range.clone().step_by(1 << level_shift(request.level)) {
            insn::invlpg(va);
        }
        slot.generation = request.generation;
    } else {
        slot.generation = request.mm.generation.load(Ordering::SeqCst);
        flush_user_local();
    }
}

/// Forgets all entries of the loaded space on this CPU, but global ones.
fn flush_user_local() {
    // SAFETY: the same tables again; without CR3_KEEP their entries go.
    unsafe { insn::write_cr3(insn::read_cr3()) };
}

/// Forgets one page, on every CPU.
#[inline]
pub fn flush_page(mm: &MmContext, va: usize) {
    flush_range(mm, va..va + PAGE_SIZE, 0, false);
}

/// Forgets one page on this CPU only: for a spurious fault.
#[inline]
pub fn flush_page_local(va: usize) {
    insn::invlpg(va);
}

/// Forgets all of an address space, on every CPU.
pub fn flush_mm(mm: &MmContext) {
    flush_range(mm, 0..usize::MAX, 0, true);
}

/// Forgets translations of kernel addresses, on every CPU. Interrupts on.
pub fn flush_kernel(range: Range<usize>) {
    if cpu::online().count() == 1 {
        return flush_kernel_here((&raw const range).expose_provenance());
    }
    smp::call_on(cpu::online(), flush_kernel_here, (&raw const range).expose_provenance());
}

fn flush_kernel_here(range: usize) {
    // SAFETY: the sender waits for us with the range on its stack.
    let range = unsafe { &*core::ptr::with_exposed_provenance::<Range<usize>>(range) };
    if (range.end - range.start) / PAGE_SIZE <= FEW {
        range.clone().step_by(PAGE_SIZE).for_each(insn::invlpg);
    } else {
        flush_global_local();
    }
}

/// Forgets everything on this CPU, global entries and all PCIDs included.
pub fn flush_global_local() {
    let _guard = IrqGuard::new();
    if features::has_invpcid() {
        // SAFETY: the instruction exists.
        unsafe { insn::invpcid(2, 0, 0) };
    } else {
        let cr4 = insn::read_cr4();
        // SAFETY: toggling PGE flushes; the second write puts it back.
        unsafe {
            insn::write_cr4(cr4 ^ super::msr::CR4_PGE);
            insn::write_cr4(cr4);
        }
    }
}
