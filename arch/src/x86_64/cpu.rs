//! The running CPU and what it can do.

use core::fmt;

use super::super::cpu::CpuId;

/// The CPU this code runs on (at this moment, unless preemption is off).
#[inline]
pub fn current() -> CpuId {
    todo!()
}

/// A pause in a spin loop.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
}

/// Sleeps until an interrupt is pending. Called with interrupts off, returns with interrupts off; a pending interrupt
/// is taken inside or as soon as they are enabled.
pub fn wait_for_interrupt_irqs_off() {
    todo!()
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    todo!()
}

/// The entry of `/proc/cpuinfo` for a CPU, in the format of Linux.
pub fn write_cpuinfo(_w: &mut dyn fmt::Write, _cpu: CpuId) -> fmt::Result {
    todo!()
}

/// `AT_HWCAP`.
pub fn hwcap() -> usize {
    todo!()
}

/// `AT_HWCAP2`.
pub fn hwcap2() -> usize {
    todo!()
}

/// `AT_MINSIGSTKSZ`.
pub fn min_sigstack_size() -> usize {
    todo!()
}

/// The NUMA node of a CPU.
pub fn node_of(_cpu: CpuId) -> u32 {
    0
}
