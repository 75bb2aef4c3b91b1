//! Walks of the frame-pointer chain on kernel stacks.

use core::arch::asm;

use crate::addr;

/// The caller's frame pointer.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let fp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    fp
}

/// Calls `f` with return addresses, innermost first, until the chain ends, looks broken, or `f` returns false.
///
/// A frame is believed if it is aligned, in the kernel half, above the one before and within a stack's length of it; reads
/// go through the exception table, so a broken chain costs no second fault.
pub fn frames(fp: usize, mut f: impl FnMut(usize) -> bool) {
    let mut fp = fp;
    for _ in 0..64 {
        if fp < super::layout::DIRECT_MAP_BASE || !fp.is_multiple_of(8) || fp > usize::MAX - 16 {
            return;
        }
        let (Some(next), Some(ip)) = (super::uaccess::probe_kernel(fp), super::uaccess::probe_kernel(fp + 8))
        else {
            return;
        };
        let text = super::layout::kernel_text();
        if !text.contains(&ip) && !addr::image().contains(&ip) {
            return;
        }
        if !f(ip) || next <= fp || next - fp > super::layout::KERNEL_STACK_SIZE {
            return;
        }
        fp = next;
    }
}

/// The word of kernel memory at `addr`; `None` where there is none.
pub fn load(addr: usize) -> Option<usize> {
    super::uaccess::probe_kernel(addr)
}
