//! Walks of the frame-pointer chain on kernel stacks.
//!
//! A frame record is `{fp of the caller, return address}` at the address in x29. Trap frames contain one, too, so a walk
//! passes through interrupts.

use core::arch::asm;

use super::uaccess;
use crate::layout::{self, is_kernel};

/// The caller's frame pointer.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let fp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    fp
}

/// More frames than this are a loop.
const MAX_FRAMES: usize = 128;

/// Calls `f` with return addresses, innermost first, until the chain ends, looks broken, or `f` returns false.
pub fn frames(mut fp: usize, mut f: impl FnMut(usize) -> bool) {
    let text = layout::kernel_text();
    for _ in 0..MAX_FRAMES {
        if !fp.is_multiple_of(16) || !is_kernel(fp) {
            return;
        }
        // A broken chain may lead anywhere: loads that survive a fault.
        let (Some(next), Some(ip)) = (uaccess::load_kernel(fp), uaccess::load_kernel(fp + 8)) else {
            return;
        };
        if !text.contains(&ip) || !f(ip) || next == fp {
            return;
        }
        fp = next;
    }
}

/// The word of kernel memory at `addr`; `None` where there is none.
pub fn load(addr: usize) -> Option<usize> {
    uaccess::load_kernel(addr)
}
