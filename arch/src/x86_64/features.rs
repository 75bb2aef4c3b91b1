//! What CPUID says, gathered once on the boot CPU; the kernel uses what that one has, on all.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::insn::cpuid;

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident, $fn:ident = $bit:literal;)+) => {
        $($(#[$doc])*
        pub const $name: u64 = 1 << $bit;
        $(#[$doc])*
        #[inline]
        pub fn $fn() -> bool {
            FEATURES.load(Relaxed) & $name != 0
        })+
    };
}

static FEATURES: AtomicU64 = AtomicU64::new(0);

features! {
    /// Supervisor-mode access prevention.
    SMAP, has_smap = 0;
    /// Supervisor-mode execution prevention.
    SMEP, has_smep = 1;
    /// User-mode instruction prevention.
    UMIP, has_umip = 2;
    /// rdfsbase and its kin.
    FSGSBASE, has_fsgsbase = 3;
    /// Process-context identifiers.
    PCID, has_pcid = 4;
    /// The INVPCID instruction.
    INVPCID, has_invpcid = 5;
    /// XSAVE.
    XSAVE, has_xsave = 6;
    /// XSAVEOPT.
    XSAVEOPT, has_xsaveopt = 7;
    /// `rep movsb` is fast.
    ERMS, has_erms = 8;
    /// x2APIC mode.
    X2APIC, has_x2apic = 9;
    /// The LAPIC timer compares with the TSC.
    TSC_DEADLINE, has_tsc_deadline = 10;
    /// RDTSCP, and with it TSC_AUX.
    RDTSCP, has_rdtscp = 11;
    /// RDPID.
    RDPID, has_rdpid = 12;
    /// 1 GiB pages.
    GBPAGES, has_gbpages = 13;
    /// RDRAND.
    RDRAND, has_rdrand = 14;
    /// RDSEED.
    RDSEED, has_rdseed = 15;
    /// The TSC runs at a constant rate in all states.
    INVARIANT_TSC, has_invariant_tsc = 16;
    /// Runs under a hypervisor that says so.
    HYPERVISOR, has_hypervisor = 17;
    /// Global pages.
    PGE, has_pge = 18;
    /// Protection keys for user pages; their register is saved with XSAVE.
    PKU, has_pku = 19;
}

/// CPUID leaf 1, EDX: what `AT_HWCAP` is.
static LEAF1_EDX: AtomicU32 = AtomicU32::new(0);

/// CPUID leaf 1, EDX.
pub fn leaf1_edx() -> u32 {
    LEAF1_EDX.load(Relaxed)
}

/// Gathers.
pub(super) fn detect() {
    let max = cpuid(0, 0).eax;
    let one = cpuid(1, 0);
    let seven = if max >= 7 { cpuid(7, 0) } else { zero() };
    let xsave = if max >= 0xd { cpuid(0xd, 1) } else { zero() };
    let max_extended = cpuid(0x8000_0000, 0).eax;
    let extended = if max_extended >= 0x8000_0001 { cpuid(0x8000_0001, 0) } else { zero() };
    let power = if max_extended >= 0x8000_0007 { cpuid(0x8000_0007, 0) } else { zero() };
    let has_xsave = one.ecx >> 26 & 1;
    let table = [
        (SMAP, seven.ebx >> 20),
        (SMEP, seven.ebx >> 7),
        (UMIP, seven.ecx >> 2),
        (FSGSBASE, seven.ebx),
        (PCID, one.ecx >> 17),
        (INVPCID, seven.ebx >> 10),
        (XSAVE, has_xsave),
        (XSAVEOPT, has_xsave & xsave.eax),
        (ERMS, seven.ebx >> 9),
        (X2APIC, one.ecx >> 21),
        (TSC_DEADLINE, one.ecx >> 24),
        (RDTSCP, extended.edx >> 27),
        (RDPID, seven.ecx >> 22),
        (GBPAGES, extended.edx >> 26),
        (RDRAND, one.ecx >> 30),
        (RDSEED, seven.ebx >> 18),
        (INVARIANT_TSC, power.edx >> 8),
        (HYPERVISOR, one.ecx >> 31),
        (PGE, one.edx >> 13),
        (PKU, has_xsave & seven.ecx >> 3),
    ];
    let found = table.iter().filter(|(_, bit)| bit & 1 != 0).fold(0, |all, (flag, _)| all | flag);
    FEATURES.store(found, Relaxed);
    LEAF1_EDX.store(one.edx, Relaxed);
}

/// Whether the processor is QEMU's emulation.
pub fn is_tcg() -> bool {
    let leaf = cpuid(0x4000_0000, 0);
    has_hypervisor() && [leaf.ebx, leaf.ecx, leaf.edx] == [0x5447_4354, 0x4354_4743, 0x4743_5447]
}

/// Forgets features, as boot parameters ask (`nosmap`, `nopcid`, `nox2apic` …).
pub fn disable(features: u64) {
    FEATURES.fetch_and(!features, Relaxed);
}

pub(super) fn zero() -> core::arch::x86_64::CpuidResult {
    core::arch::x86_64::CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 }
}

/// As `detect`, for boot code that runs before the image is at its final place.
pub fn detect_early() {
    detect();
}
