//! Interrupt masking: PSTATE.I and PSTATE.F together.

use core::arch::asm;

/// What [`local_save`] found: DAIF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(u64);

/// PSTATE.I in DAIF.
const I: u64 = 1 << 7;

/// Switches interrupts off and tells how they were.
#[inline(always)]
pub fn local_save() -> Flags {
    let daif: u64;
    // SAFETY: masking interrupts is always sound; the asm is a compiler barrier, so critical sections stay inside.
    unsafe { asm!("mrs {}, daif", "msr daifset, #3", out(reg) daif, options(nostack, preserves_flags)) };
    Flags(daif)
}

/// Puts back what [`local_save`] found.
#[inline(always)]
pub fn local_restore(flags: Flags) {
    // SAFETY: `flags` came from DAIF, so this only puts back an earlier state of this CPU.
    unsafe { asm!("msr daif, {}", in(reg) flags.0, options(nostack, preserves_flags)) };
}

/// Switches interrupts off.
#[inline(always)]
pub fn local_disable() {
    // SAFETY: as for `local_save`.
    unsafe { asm!("msr daifset, #3", options(nostack, preserves_flags)) };
}

/// Switches interrupts on.
#[inline(always)]
pub fn local_enable() {
    // SAFETY: handlers are installed before the first call, and shared state is behind locks that mask interrupts.
    unsafe { asm!("msr daifclr, #3", options(nostack, preserves_flags)) };
}

/// Whether interrupts are on.
#[inline(always)]
pub fn enabled() -> bool {
    let daif: u64;
    // SAFETY: reads PSTATE.
    unsafe { asm!("mrs {}, daif", out(reg) daif, options(nomem, nostack, preserves_flags)) };
    daif & I == 0
}
