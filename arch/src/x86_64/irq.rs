//! The interrupt flag.

use core::arch::asm;

use super::insn;
use super::msr::FLAG_IF;

/// The state that [`local_save`] found: RFLAGS.
#[derive(Clone, Copy, Debug)]
pub struct Flags(usize);

#[inline]
fn rflags() -> usize {
    let flags: usize;
    // SAFETY: reads the flags through the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(nomem, preserves_flags)) };
    flags
}

/// Switches interrupts off and tells how they were.
#[inline]
pub fn local_save() -> Flags {
    let flags = rflags();
    insn::cli();
    Flags(flags)
}

/// Puts interrupts back as [`local_save`] found them.
#[inline]
pub fn local_restore(flags: Flags) {
    if flags.0 & FLAG_IF as usize != 0 {
        insn::sti();
    }
}

/// Interrupts off.
#[inline]
pub fn local_disable() {
    insn::cli();
}

/// Interrupts on.
#[inline]
pub fn local_enable() {
    insn::sti();
}

/// Whether interrupts are on.
#[inline]
pub fn enabled() -> bool {
    rflags() & FLAG_IF as usize != 0
}
