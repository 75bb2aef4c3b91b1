//! Single steps of user mode.
//!
//! PSTATE.SS in a thread's frame asks for one step ([`crate::trap::TrapFrame::set_single_step`]); it acts only while
//! MDSCR_EL1.SS of the CPU is set, and then traps at once wherever PSTATE.SS is clear. So MDSCR_EL1.SS belongs to the
//! thread: set on its way out to user mode, cleared by the step exception and whenever the thread is switched out.

use super::sysreg::{isb, read_sysreg, write_sysreg};

const SS: u64 = 1;

/// Switches software step on this CPU on or off. Interrupts off.
pub(super) fn set_stepping(on: bool) {
    let mdscr = read_sysreg!("mdscr_el1");
    write_sysreg!("mdscr_el1", if on { mdscr | SS } else { mdscr & !SS });
    isb();
}
