//! KVM's paravirtual clock, of which only one thing is wanted: the exact rate of the TSC.
//! (Not run in CI: the emulator that tests run on is not KVM.)

use core::sync::atomic::{AtomicU32, Ordering};

use super::insn::{self, cpuid};
use super::msr;
use crate::addr::{VirtAddr, virt_to_phys};

const FEATURE_CLOCKSOURCE2: u32 = 1 << 3;

/// `struct pvclock_vcpu_time_info`, as words: version, pad, tsc timestamp (2), system time (2), multiplier, shift and flags.
#[repr(C, align(64))]
struct Info([AtomicU32; 8]);

static INFO: Info = Info([const { AtomicU32::new(0) }; 8]);

/// The TSC's rate, if KVM is there to say.
pub fn tsc_hz() -> Option<u64> {
    if !super::features::has_hypervisor() {
        return None;
    }
    let signature = cpuid(0x4000_0000, 0);
    if (signature.ebx, signature.ecx, signature.edx) != (0x4b4d_564b, 0x564b_4d56, 0x4d) {
        return None;
    }
    if cpuid(0x4000_0001, 0).eax & FEATURE_CLOCKSOURCE2 == 0 {
        return None;
    }
    let at = virt_to_phys(VirtAddr((&raw const INFO).addr())).0;
    // SAFETY: KVM announced the MSR; the structure is static and KVM's to write while it is enabled.
    unsafe { insn::wrmsr(msr::KVM_SYSTEM_TIME, at | 1) };
    let (mult, shift) = (INFO.0[6].load(Ordering::Acquire), INFO.0[7].load(Ordering::Acquire) as i8);
    // SAFETY: as above; switches it off again.
    unsafe { insn::wrmsr(msr::KVM_SYSTEM_TIME, 0) };
    hz_of(mult, shift)
}

/// The rate by which `ns = (cycles << shift) * mult >> 32`.
fn hz_of(mult: u32, shift: i8) -> Option<u64> {
    if mult == 0 || !(-31..=31).contains(&shift) {
        return None;
    }
    let hz = (1_000_000_000u128 << 32) / u128::from(mult);
    let hz = if shift >= 0 { hz >> shift } else { hz << -shift };
    u64::try_from(hz).ok()
}
