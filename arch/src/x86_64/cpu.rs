//! The running CPU and what it can do.

use core::arch::asm;

use super::percpu::{CPU_NUMBER, this_cpu_read};
use super::{features, fpu, insn};
use crate::cpu::{CpuId, MAX_CPUS};

pub use super::cpuinfo::write_cpuinfo;

/// The CPU this code runs on (at this moment, unless preemption is off).
#[inline]
pub fn current() -> CpuId {
    CpuId(this_cpu_read!(CPU_NUMBER, u32))
}

/// Makes an atomic read-modify-write before it a full barrier: what follows, plain loads too, comes after it.
#[inline(always)]
pub fn barrier_after_atomic() {
    // A locked instruction is one already.
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

/// A pause in a spin loop.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
}

/// Sleeps until an interrupt is pending. Called with interrupts off, returns with interrupts off; a pending interrupt
/// is taken inside or as soon as they are enabled.
pub fn wait_for_interrupt_irqs_off() {
    // SAFETY: `sti` takes effect after `hlt` has begun, so no interrupt is lost in between.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    loop {
        insn::cli();
        // SAFETY: with interrupts off only an NMI wakes it, and the loop sends it back.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

/// `AT_HWCAP`: CPUID leaf 1, EDX.
pub fn hwcap() -> usize {
    features::leaf1_edx() as usize
}

/// `AT_HWCAP2`: bit 1, FSGSBASE is usable.
pub fn hwcap2() -> usize {
    if features::has_fsgsbase() { 2 } else { 0 }
}

/// `AT_MINSIGSTKSZ`: the largest signal frame.
pub fn min_sigstack_size() -> usize {
    // Frame, alignment of the FPU area, its end mark, and the red zone.
    super::signal::FRAME_SIZE + 64 + fpu::size() + 4 + 128
}

static NODES: [core::sync::atomic::AtomicU32; MAX_CPUS] =
    [const { core::sync::atomic::AtomicU32::new(0) }; MAX_CPUS];

/// The NUMA node of a CPU.
pub fn node_of(cpu: CpuId) -> u32 {
    NODES[cpu.index()].load(core::sync::atomic::Ordering::Relaxed)
}

/// Tells the node of a CPU; boot code.
pub fn set_node(cpu: CpuId, node: u32) {
    NODES[cpu.index()].store(node, core::sync::atomic::Ordering::Relaxed);
}
