//! Translation look-aside buffers: broadcast invalidation, no interrupts to other CPUs.
//!
//! `dsb ishst` orders the change of the entry before the invalidation; `dsb ish` waits until every CPU in the inner
//! shareable domain has done it.

use core::arch::asm;
use core::ops::Range;

use super::sysreg::{dsb_ish, dsb_ishst, isb};
use crate::asid::MmContext;
use crate::paging::{Level, level_size};

/// From this many entries on, forgetting everything is cheaper.
const MAX_ENTRIES: usize = 512;

/// The operand of TLBI by address: ASID and page number.
#[inline]
fn operand(asid: u64, va: usize) -> u64 {
    asid << 48 | (va as u64 >> 12) & 0xfff_ffff_ffff
}

macro_rules! tlbi {
    ($op:literal, $operand:expr) => {{
        let operand: u64 = $operand;
        // SAFETY: forgetting translations loses nothing; they are read again from the tables.
        unsafe { asm!(concat!("tlbi ", $op, ", {}"), in(reg) operand, options(nostack, preserves_flags)) };
    }};
}

/// Forgets, on every CPU that may hold them, translations of `range` in `mm`. `level`: the level of the leaves that
/// changed. `tables_freed`: tables were unlinked too, so that lazy CPUs must hear of it before they are freed.
pub fn flush_range(mm: &MmContext, range: Range<usize>, level: Level, tables_freed: bool) {
    let stride = level_size(level);
    if range.len().div_ceil(stride) > MAX_ENTRIES {
        return flush_mm(mm);
    }
    let Some(asid) = mm.asid() else {
        return;
    };
    dsb_ishst();
    for va in range.step_by(stride) {
        if tables_freed {
            tlbi!("vae1is", operand(asid, va));
        } else {
            tlbi!("vale1is", operand(asid, va));
        }
    }
    dsb_ish();
}

/// Forgets one page, on every CPU.
pub fn flush_page(mm: &MmContext, va: usize) {
    let Some(asid) = mm.asid() else {
        return;
    };
    dsb_ishst();
    tlbi!("vale1is", operand(asid, va));
    dsb_ish();
}

/// Forgets one page on this CPU only: for a spurious fault.
pub fn flush_page_local(va: usize) {
    // SAFETY: barriers.
    unsafe { asm!("dsb nshst", options(nostack, preserves_flags)) };
    tlbi!("vaale1", operand(0, va));
    // SAFETY: barriers.
    unsafe { asm!("dsb nsh", options(nostack, preserves_flags)) };
}

/// Forgets all of an address space, on every CPU.
pub fn flush_mm(mm: &MmContext) {
    let Some(asid) = mm.asid() else {
        return;
    };
    dsb_ishst();
    tlbi!("aside1is", asid << 48);
    dsb_ish();
}

/// Forgets translations of kernel addresses, on every CPU. Interrupts on.
pub fn flush_kernel(range: Range<usize>) {
    dsb_ishst();
    if range.len() / level_size(0) > MAX_ENTRIES {
        // SAFETY: as in `tlbi!`.
        unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
    } else {
        for va in range.step_by(level_size(0)) {
            tlbi!("vaae1is", operand(0, va));
        }
    }
    dsb_ish();
    isb();
}

/// Forgets everything on this CPU.
pub(super) fn flush_all_local() {
    // SAFETY: as in `tlbi!`.
    unsafe { asm!("dsb nshst", "tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}
