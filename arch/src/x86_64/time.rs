//! Cycle counter, one-shot timer, wall clock.
//!
//! The clock source is the TSC. Its rate comes from, in this order: CPUID leaf 15H, KVM's clock, a comparison with HPET,
//! PM timer or PIT. The one-shot timer is the local APIC's: by TSC deadline where the CPU has it, else by count, whose rate
//! is measured in the same comparison.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::insn::{self, cpuid};
use super::{apic, calibrate, cmos, features, msr};
use crate::time::cycles_to_ns;

/// The cycle counter.
#[inline]
pub fn now_raw() -> u64 {
    insn::rdtsc()
}

/// Timer counts per nanosecond as `mult >> shift`; with TSC deadlines, TSC cycles.
static MULT: AtomicU32 = AtomicU32::new(0);
static SHIFT: AtomicU32 = AtomicU32::new(0);
static BOOT_EPOCH: AtomicU64 = AtomicU64::new(0);
/// The longest one-shot: a deadline beyond fires early, and whoever asked asks again.
const MAX_NS: u64 = 60_000_000_000;

/// `(mult, shift)` with `counts = ns * mult >> shift`.
fn inverse(hz: u64) -> (u32, u32) {
    let mut shift = 32;
    loop {
        let mult = (u128::from(hz) << shift) / 1_000_000_000;
        if mult <= u128::from(u32::MAX) || shift == 0 {
            return (mult as u32, shift);
        }
        shift -= 1;
    }
}

/// Programs this CPU's timer to fire at a time of [`crate::time::now_ns`]; the past fires at once; `u64::MAX`: never.
#[inline]
pub fn set_oneshot_ns(deadline_ns: u64) {
    let deadline_mode = features::has_tsc_deadline();
    if deadline_ns == u64::MAX {
        if deadline_mode {
            // SAFETY: the CPU has the MSR; 0 disarms.
            unsafe { insn::wrmsr(msr::TSC_DEADLINE, 0) };
        } else {
            apic::set_timer_count(0);
        }
        return;
    }
    let left = deadline_ns.saturating_sub(crate::time::now_ns()).min(MAX_NS);
    let counts = ((u128::from(left) * u128::from(MULT.load(Relaxed))) >> SHIFT.load(Relaxed)) as u64;
    if deadline_mode {
        // SAFETY: the CPU has the MSR, and the LVT is in deadline mode.
        unsafe { insn::wrmsr(msr::TSC_DEADLINE, insn::rdtsc() + counts.max(1)) };
    } else {
        apic::set_timer_count(counts.clamp(1, u64::from(u32::MAX)) as u32);
    }
}

/// Wall clock when [`crate::time::now_ns`] was 0, in nanoseconds since the epoch.
pub fn boot_epoch_ns() -> u64 {
    BOOT_EPOCH.load(Relaxed)
}

/// Name of the clock source, as in `/sys/devices/system/clocksource`.
pub fn clocksource_name() -> &'static str {
    "tsc"
}

/// The TSC's rate by CPUID leaf 15H: crystal × numerator / denominator.
fn tsc_hz_by_cpuid() -> Option<u64> {
    if cpuid(0, 0).eax < 0x15 {
        return None;
    }
    let leaf = cpuid(0x15, 0);
    let (denominator, numerator, crystal) = (u64::from(leaf.eax), u64::from(leaf.ebx), u64::from(leaf.ecx));
    (denominator != 0 && numerator != 0 && crystal != 0).then(|| crystal * numerator / denominator)
}

/// The local APIC timer's rate where leaf 15H gives the crystal that drives it.
fn crystal_hz() -> Option<u64> {
    (cpuid(0, 0).eax >= 0x15).then(|| u64::from(cpuid(0x15, 0).ecx)).filter(|&hz| hz != 0)
}

/// Calibrates, starts the clock at 0, reads the wall clock. Boot CPU, after the local APIC is on.
pub fn init() {
    let known = tsc_hz_by_cpuid().or_else(super::kvmclock::tsc_hz);
    let base = insn::rdtsc();
    let need_timer = !features::has_tsc_deadline();
    let (tsc_hz, timer_hz) = match known {
        Some(tsc) if !need_timer => (tsc, 0),
        Some(tsc) => (tsc, crystal_hz().map_or_else(|| calibrate::timer_by_tsc(tsc), |hz| hz / 16)),
        None => calibrate::measure(),
    };
    crate::time::set_clock(tsc_hz, base);
    let (mult, shift) = inverse(if need_timer { timer_hz } else { tsc_hz });
    MULT.store(mult, Relaxed);
    SHIFT.store(shift, Relaxed);
    apic::init_timer();
    let passed = cycles_to_ns(insn::rdtsc().wrapping_sub(base));
    BOOT_EPOCH.store(cmos::read_epoch_s().saturating_mul(1_000_000_000).saturating_sub(passed), Relaxed);
}
