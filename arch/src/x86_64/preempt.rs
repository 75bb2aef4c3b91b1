//! The preemption word is a per-CPU variable: the count in bits 0–23, and in bit 31 the *inverse* of "a reschedule is
//! due", so that one `sub` finds both "count is zero" and "due" in the zero flag.

use core::arch::asm;

use super::percpu::this_cpu_read;

/// Bit 31: no reschedule is due.
const NOT_DUE: u32 = 1 << 31;

crate::per_cpu! {
    /// The preemption word.
    pub(super) static PREEMPT: u32 = NOT_DUE;
}

/// The count without the folded flag.
#[inline]
pub fn count() -> u32 {
    this_cpu_read!(PREEMPT, u32) & !NOT_DUE
}

/// Whether the kernel may be preempted right now *and* should be.
#[inline]
pub(super) fn should_preempt() -> bool {
    this_cpu_read!(PREEMPT, u32) == 0
}

/// Adds.
#[inline(always)]
pub fn add(n: u32) {
    // SAFETY: one instruction on this CPU's own word; an interrupt in between leaves it as it was.
    unsafe { asm!("add dword ptr gs:[rip + {}], {:e}", sym PREEMPT, in(reg) n, options(nostack)) };
}

/// Subtracts; true if the count is now 0 and a reschedule is folded in.
#[inline(always)]
pub fn sub_and_test(n: u32) -> bool {
    // SAFETY: as for `add`; the jump target is the block below.
    unsafe {
        asm!("sub dword ptr gs:[rip + {}], {:e}", "jz {}", sym PREEMPT, in(reg) n, label { return true }, options(nostack));
    }
    false
}

/// A reschedule is due.
#[inline]
pub fn set_folded() {
    // SAFETY: as for `add`.
    unsafe { asm!("and dword ptr gs:[rip + {}], 0x7fffffff", sym PREEMPT, options(nostack)) };
}

/// None is due.
#[inline]
pub fn clear_folded() {
    // SAFETY: as for `add`.
    unsafe { asm!("or dword ptr gs:[rip + {}], 0x80000000", sym PREEMPT, options(nostack)) };
}
