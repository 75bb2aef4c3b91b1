//! Walks of the frame-pointer chain on kernel stacks.
//!
//! A frame record is `{fp of the caller, return address}` at the address in x29. Trap frames contain one, too, so a walk
//! passes through interrupts.

use core::arch::asm;

use crate::layout::{self, is_kernel};

/// The caller's frame pointer.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let fp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    fp
}

/// Calls `f` with return addresses, innermost first, until the chain ends, looks broken, or `f` returns false.
pub fn frames(mut fp: usize, mut f: impl FnMut(usize) -> bool) {
    // A stack is at most this long; records move strictly upwards.
    let limit = fp.saturating_add(2 * layout::KERNEL_STACK_SIZE);
    while fp != 0 && fp.is_multiple_of(16) && is_kernel(fp) && fp < limit {
        // SAFETY: an aligned address on a kernel stack, reached through the chain that the compiler maintains; a record
        // never crosses a page.
        let [next, lr] = unsafe { core::ptr::with_exposed_provenance::<[usize; 2]>(fp).read_volatile() };
        if lr == 0 || !layout::kernel_text().contains(&lr) || !f(lr) || next <= fp {
            return;
        }
        fp = next;
    }
}
