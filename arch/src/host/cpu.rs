//! The running CPU and what it can do.

use core::fmt;

use super::super::cpu::CpuId;
use super::hosted;

/// The virtual CPU this thread belongs to.
#[inline]
pub fn current() -> CpuId {
    hosted::cpu()
}

/// Makes an atomic read-modify-write before it a full barrier: what follows, plain loads too, comes after it.
#[inline(always)]
pub fn barrier_after_atomic() {
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// A pause in a spin loop: another OS thread may be the one we wait for.
#[inline]
pub fn relax() {
    std::thread::yield_now();
}

/// Lets other threads run.
pub fn wait_for_interrupt_irqs_off() {
    std::thread::yield_now();
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    std::process::abort()
}

/// The entry of `/proc/cpuinfo` for a CPU.
pub fn write_cpuinfo(w: &mut dyn fmt::Write, cpu: CpuId) -> fmt::Result {
    writeln!(w, "processor\t: {cpu}")
}

/// `AT_HWCAP`.
pub fn hwcap() -> usize {
    0
}

/// `AT_HWCAP2`.
pub fn hwcap2() -> usize {
    0
}

/// `AT_MINSIGSTKSZ`.
pub fn min_sigstack_size() -> usize {
    2048
}

/// The NUMA node of a CPU.
pub fn node_of(_cpu: CpuId) -> u32 {
    0
}
