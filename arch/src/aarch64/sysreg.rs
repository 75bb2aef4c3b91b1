//! Access to system registers by name.
//!
//! Registers newer than the assembler's base architecture are named by encoding (`S3_0_C0_C6_0`).

/// Reads a system register: `read_sysreg!("midr_el1")`.
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading this register has no side effect on memory or control flow; that it exists
        // on this CPU is established by the caller (base architecture, or after an ID register check).
        unsafe {
            core::arch::asm!(
                concat!("mrs {}, ", $name),
                out(reg) value,
                options(nomem, nostack, preserves_flags)
            )
        };
        value
    }};
}

/// Writes a system register: `write_sysreg!("cntv_cval_el0", value)`. Not for registers whose write
/// changes address translation or where memory order matters: those have functions of their own.
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the register only configures a device or trap of this CPU (timer, GIC CPU interface,
        // debug, thread pointers); it exists as established by the caller.
        unsafe {
            core::arch::asm!(
                concat!("msr ", $name, ", {}"),
                in(reg) value,
                options(nostack, preserves_flags)
            )
        };
    }};
}

pub(crate) use {read_sysreg, write_sysreg};

/// Instruction synchronisation barrier: later instructions see earlier system register writes.
#[inline(always)]
pub fn isb() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
}

/// `dsb ish`: all earlier accesses and TLB/cache maintenance complete in the inner shareable domain.
#[inline(always)]
pub fn dsb_ish() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb ish", options(nostack, preserves_flags)) };
}

/// `dsb ishst`: earlier stores (page-table entries) are visible to walkers of all CPUs.
#[inline(always)]
pub fn dsb_ishst() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb ishst", options(nostack, preserves_flags)) };
}

/// `dsb sy`: full system barrier, devices included.
#[inline(always)]
pub fn dsb_sy() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}
