//! Running something on every CPU.

use arch::cpu::{CpuId, CpuMask, online};

/// Runs `f` on every CPU that is up and waits. On the others it runs in interrupt context. Interrupts are on.
pub(crate) fn on_each_cpu(f: fn(CpuId)) {
    let guard = arch::preempt::PreemptGuard::new();
    let here = arch::cpu::current();
    let others = online().without(CpuMask::of(here));
    if others.is_empty() {
        f(here);
        return;
    }
    drop(guard);
    fn call(arg: usize) {
        // SAFETY: `arg` is the function pointer that was passed below.
        let f = unsafe { core::mem::transmute::<usize, fn(CpuId)>(arg) };
        f(arch::cpu::current());
    }
    arch::smp::call_on(online(), call, f as usize);
}
