//! Virtual CPUs do not start or interrupt each other, except to run a function.

use super::hosted;
use crate::cpu::{CpuId, CpuMask};
use crate::smp::Ipi;

/// There are no secondaries to start.
///
/// # Safety
/// None needed.
pub unsafe fn start_secondary(_cpu: CpuId, _idle: *mut crate::thread::Thread) -> bool {
    false
}

/// OS threads notice what they must by being unparked, so this does nothing.
pub fn send_ipi(_cpu: CpuId, _ipi: Ipi) {}

/// As [`send_ipi`].
pub fn send_ipi_mask(_mask: CpuMask, _ipi: Ipi) {}

/// Runs `f(arg)` on each CPU of the mask as an interrupt would. Call with interrupts on.
pub fn call_on(mask: CpuMask, f: fn(usize), arg: usize) {
    for cpu in mask.iter() {
        hosted::interrupt(cpu, || f(arg));
    }
}

/// Nothing to stop.
pub fn stop_others() {}
