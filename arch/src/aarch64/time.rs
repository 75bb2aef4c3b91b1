//! Cycle counter, one-shot timer, wall clock: the generic timer's virtual counter and a PL031.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::mmio;
use super::native;
use super::sysreg::{isb, read_sysreg, write_sysreg};

/// CNTV_CTL_EL0 bits.
const ENABLE: u64 = 1;
const IMASK: u64 = 2;

/// Cycles per nanosecond, as a fraction of 2^32.
static CYCLES_PER_NS: AtomicU64 = AtomicU64::new(0);
static BOOT_EPOCH_NS: AtomicU64 = AtomicU64::new(0);

/// The cycle counter.
#[inline]
pub fn now_raw() -> u64 {
    let now: u64;
    // SAFETY: reads the counter; the ISB keeps it from being read early.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) now, options(nomem, nostack, preserves_flags)) };
    now
}

/// Programs this CPU's timer to fire at a time of [`crate::time::now_ns`]; the past fires at once; `u64::MAX`: never.
pub fn set_oneshot_ns(deadline_ns: u64) {
    if deadline_ns == u64::MAX {
        write_sysreg!("cntv_ctl_el0", IMASK);
        return;
    }
    let cycles = ((u128::from(deadline_ns) * u128::from(CYCLES_PER_NS.load(Relaxed))) >> 32) as u64;
    // One more: never before the deadline.
    write_sysreg!("cntv_cval_el0", crate::time::clock_params().0.wrapping_add(cycles).wrapping_add(1));
    write_sysreg!("cntv_ctl_el0", ENABLE);
    isb();
}

/// Wall clock when [`crate::time::now_ns`] was 0, in nanoseconds since the epoch.
pub fn boot_epoch_ns() -> u64 {
    BOOT_EPOCH_NS.load(Relaxed)
}

/// Name of the clock source, as in `/sys/devices/system/clocksource`.
pub fn clocksource_name() -> &'static str {
    "arch_sys_counter"
}

/// Starts the clock on the boot CPU.
pub(super) fn init_boot() {
    let hz = read_sysreg!("cntfrq_el0").max(1);
    CYCLES_PER_NS.store(((u128::from(hz) << 32) / 1_000_000_000) as u64, Relaxed);
    crate::time::set_clock(hz, now_raw());
    if let Some(rtc) = native::platform().rtc.and_then(|phys| mmio::ioremap(phys, 0x1000)) {
        // PL031: seconds since the epoch in the data register.
        let seconds = u64::from(rtc.read32(0));
        BOOT_EPOCH_NS.store((seconds * 1_000_000_000).saturating_sub(crate::time::now_ns()), Relaxed);
    }
    init_cpu();
}

/// Switches this CPU's timer off until somebody sets it.
pub(super) fn init_cpu() {
    write_sysreg!("cntv_ctl_el0", IMASK);
    isb();
    super::intc::enable_percpu(native::platform().timer_irq);
}

/// The timer's interrupt arrived: silence it until it is set again.
pub(super) fn acknowledge() {
    write_sysreg!("cntv_ctl_el0", ENABLE | IMASK);
    isb();
}
