//! Secondary CPUs and inter-processor interrupts.

use crate::cpu::{CpuId, CpuMask};
use crate::smp::Ipi;

/// Starts a CPU on the given idle thread and waits until it has called [`crate::cpu::mark_online`]; false if it does
/// not come up.
///
/// # Safety
/// `idle` is an initialised thread of its own, whose entry runs as the CPU's idle loop; it lives for ever.
pub unsafe fn start_secondary(_cpu: CpuId, _idle: *mut crate::thread::Thread) -> bool {
    todo!()
}

/// Interrupts another CPU (or this one).
pub fn send_ipi(_cpu: CpuId, _ipi: Ipi) {
    todo!()
}

/// Interrupts a set of CPUs.
pub fn send_ipi_mask(_mask: CpuMask, _ipi: Ipi) {
    todo!()
}

/// Runs `f(arg)` on each CPU of the mask (also this one), in interrupt context with interrupts off, and waits for all.
/// Call with interrupts on.
pub fn call_on(_mask: CpuMask, _f: fn(usize), _arg: usize) {
    todo!()
}

/// Stops all other CPUs for good (panic, power-off).
pub fn stop_others() {
    todo!()
}

/// An NMI: somebody wants a backtrace.
pub(super) fn nmi(_frame: &mut super::trap::TrapFrame) {}
