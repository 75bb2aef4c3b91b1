//! Per-CPU data hangs off `gs`: the base is the distance from the per-CPU template to this CPU's copy, so the variable
//! `V` is at `gs:[rip + V]`.

use core::arch::asm;

use super::{insn, msr};

crate::per_cpu! {
    /// This CPU's distance from the template: what the `gs` base holds.
    pub(super) static THIS_CPU_OFFSET: usize = 0;
    /// This CPU's number.
    pub(super) static CPU_NUMBER: u32 = 0;
}

/// Reads a per-CPU variable of 4 or 8 bytes with one instruction.
macro_rules! this_cpu_read {
    ($var:path, u64) => { $crate::imp::percpu::this_cpu_read!(@ $var, usize, "mov {}, qword ptr gs:[rip + {}]", reg) as u64 };
    ($var:path, usize) => { $crate::imp::percpu::this_cpu_read!(@ $var, usize, "mov {}, qword ptr gs:[rip + {}]", reg) };
    ($var:path, u32) => { $crate::imp::percpu::this_cpu_read!(@ $var, u32, "mov {:e}, dword ptr gs:[rip + {}]", reg) };
    (@ $var:path, $ty:ty, $insn:literal, $class:ident) => {{
        let value: $ty;
        // SAFETY: a load of a per-CPU variable of that size; `gs` always points to a valid copy in the kernel.
        unsafe {
            core::arch::asm!($insn, out($class) value, sym $var, options(nostack, preserves_flags, readonly));
        }
        value
    }};
}

/// Writes a per-CPU variable of 8 bytes with one instruction.
macro_rules! this_cpu_write {
    ($var:path, $value:expr) => {{
        let value: usize = $value;
        core::arch::asm!("mov qword ptr gs:[rip + {}], {}", sym $var, in(reg) value, options(nostack, preserves_flags));
    }};
}

pub(crate) use {this_cpu_read, this_cpu_write};

/// Distance from the per-CPU template to this CPU's copy.
#[inline]
pub fn offset() -> usize {
    this_cpu_read!(THIS_CPU_OFFSET, usize)
}

/// Moves this CPU onto a copy.
///
/// # Safety
/// `offset` leads to a valid copy that belongs to this CPU.
pub unsafe fn set_offset(offset: usize) {
    // SAFETY: the MSR exists on every x86_64 CPU; the caller vouches for the value.
    unsafe {
        insn::wrmsr(msr::GS_BASE, offset as u64);
        this_cpu_write!(THIS_CPU_OFFSET, offset);
    }
}

/// Tells this CPU its number.
///
/// # Safety
/// Each CPU has a number of its own.
pub(super) unsafe fn set_number(cpu: u32) {
    // SAFETY: stores four bytes into a variable of four bytes.
    unsafe {
        asm!("mov dword ptr gs:[rip + {}], {:e}", sym CPU_NUMBER, in(reg) cpu, options(nostack, preserves_flags))
    };
}
