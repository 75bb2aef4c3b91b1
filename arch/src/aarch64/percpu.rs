//! The per-CPU base: TPIDR_EL1 holds the distance from the template to this CPU's copy.

use core::arch::asm;

/// Distance from the template of per-CPU variables to this CPU's copy.
#[inline(always)]
pub fn offset() -> usize {
    let offset: usize;
    // SAFETY: reads a register that only the kernel writes. Not `pure`: the thread may have moved since the last time.
    unsafe { asm!("mrs {}, tpidr_el1", out(reg) offset, options(nomem, nostack, preserves_flags)) };
    offset
}

/// Moves this CPU onto a copy.
///
/// # Safety
/// `offset` leads to an initialised copy that belongs to this CPU alone.
pub unsafe fn set_offset(offset: usize) {
    // SAFETY: the caller vouches for the value.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) offset, options(nostack, preserves_flags)) };
}
