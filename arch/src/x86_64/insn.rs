//! Instructions that Rust has no word for.

use core::arch::asm;

/// Reads a model-specific register.
///
/// # Safety
/// The register exists on this CPU.
#[inline]
pub unsafe fn rdmsr(msr: u32) -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: the caller's promise; reading has no effect on memory.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") lo, out("edx") hi, options(nomem, nostack, preserves_flags))
    };
    u64::from(hi) << 32 | u64::from(lo)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists, and the new value keeps the kernel's assumptions about the CPU.
#[inline]
pub unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

macro_rules! control_register {
    ($read:ident, $write:ident, $reg:literal) => {
        #[doc = concat!("Reads ", $reg, ".")]
        #[inline]
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: reading a control register changes nothing.
            unsafe { asm!(concat!("mov {}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }

        #[doc = concat!("Writes ", $reg, ".")]
        ///
        /// # Safety
        /// The new value keeps the running code mapped and the kernel's assumptions true.
        #[inline]
        pub unsafe fn $write(value: u64) {
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("mov ", $reg, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}

control_register!(read_cr0, write_cr0, "cr0");
control_register!(read_cr2, write_cr2, "cr2");
control_register!(read_cr3, write_cr3, "cr3");
control_register!(read_cr4, write_cr4, "cr4");
control_register!(read_dr0, write_dr0, "dr0");
control_register!(read_dr1, write_dr1, "dr1");
control_register!(read_dr2, write_dr2, "dr2");
control_register!(read_dr3, write_dr3, "dr3");
control_register!(read_dr6, write_dr6, "dr6");
control_register!(read_dr7, write_dr7, "dr7");

/// The time stamp counter, not ordered with anything.
#[inline]
pub fn rdtsc() -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("eax") lo, out("edx") hi, options(nomem, nostack, preserves_flags)) };
    u64::from(hi) << 32 | u64::from(lo)
}

/// Forgets the translation of one page, in the current address space.
#[inline]
pub fn invlpg(va: usize) {
    // SAFETY: at worst a translation is walked again.
    unsafe { asm!("invlpg [{}]", in(reg) va, options(nostack, preserves_flags)) };
}

/// INVPCID. Types: 0 one address, 1 one PCID, 2 all with globals, 3 all but globals.
///
/// # Safety
/// The CPU has the instruction, and `pcid` is below 4096.
#[inline]
pub unsafe fn invpcid(kind: u64, pcid: u64, va: usize) {
    let descriptor = [pcid, va as u64];
    // SAFETY: the caller's promise; the descriptor is read only.
    unsafe {
        asm!("invpcid {}, [{}]", in(reg) kind, in(reg) &descriptor, options(nostack, preserves_flags, readonly))
    };
}

/// XGETBV of XCR0.
///
/// # Safety
/// CR4.OSXSAVE is set.
#[inline]
pub unsafe fn xgetbv0() -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: the caller's promise.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") lo, out("edx") hi, options(nomem, nostack, preserves_flags))
    };
    u64::from(hi) << 32 | u64::from(lo)
}

/// XSETBV of XCR0.
///
/// # Safety
/// CR4.OSXSAVE is set and `value` is a valid combination that CPUID offers.
#[inline]
pub unsafe fn xsetbv0(value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

/// Interrupts off.
#[inline]
pub fn cli() {
    // SAFETY: switching interrupts off is always sound. Memory may not move across.
    unsafe { asm!("cli", options(nostack, preserves_flags)) };
}

/// Interrupts on.
#[inline]
pub fn sti() {
    // SAFETY: handlers preserve everything; whoever relies on interrupts being off holds a guard.
    unsafe { asm!("sti", options(nostack, preserves_flags)) };
}

/// CPUID.
#[inline]
pub fn cpuid(leaf: u32, subleaf: u32) -> core::arch::x86_64::CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, subleaf)
}

/// RDFSBASE.
///
/// # Safety
/// CR4.FSGSBASE is set.
#[inline]
pub unsafe fn rdfsbase() -> u64 {
    let value: u64;
    // SAFETY: the caller's promise.
    unsafe { asm!("rdfsbase {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// WRFSBASE.
///
/// # Safety
/// CR4.FSGSBASE is set and `value` is canonical.
#[inline]
pub unsafe fn wrfsbase(value: u64) {
    // SAFETY: the caller's promise; the kernel does not use fs.
    unsafe { asm!("wrfsbase {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// The gs base that `swapgs` would bring: in the kernel, the user's.
///
/// # Safety
/// CR4.FSGSBASE is set, interrupts are off (the paranoid entries cope with either base).
#[inline]
pub unsafe fn read_inactive_gs() -> u64 {
    let value: u64;
    // SAFETY: gs is the kernel's again after the third instruction.
    unsafe {
        asm!("swapgs", "rdgsbase {}", "swapgs", out(reg) value, options(nomem, nostack, preserves_flags))
    };
    value
}
