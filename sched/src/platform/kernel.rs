//! Tasks on a machine's CPUs.

use alloc::sync::Arc;
use arch::cpu::CpuId;

use crate::state::State;
use crate::task::{Current, Task};

pub(crate) const SPIN_ON_OWNER: bool = true;

#[inline(always)]
pub(crate) fn current() -> Current {
    Current::new(arch::thread::current().cast())
}
pub(crate) fn schedule() {
    todo!()
}
pub(crate) fn try_to_wake_up(_task: &Task, _states: State) -> bool {
    todo!()
}
pub(crate) fn yield_now() {
    todo!()
}
pub(crate) fn kick(_task: &Task) {
    todo!()
}
pub(crate) fn wake_up_new(_task: &Arc<Task>) {
    todo!()
}
pub(crate) fn on_each_cpu(f: fn(usize), arg: usize) {
    arch::smp::call_on(arch::cpu::online(), f, arg);
}
pub(crate) fn queue_on(_cpu: CpuId, _f: impl FnOnce() + Send + 'static) {
    todo!()
}
pub(crate) extern "C" fn first_run(_task: usize) -> ! {
    todo!()
}
pub(crate) fn sched_fork(_task: &Task, _parent: &Task) {
    todo!()
}
pub(crate) fn sched_fork_kthread(_task: &Task) {
    todo!()
}
pub(crate) fn update_exec(_task: &Task) {}
pub(crate) mod rcu {
    use crate::rcu::Seq;
    pub(crate) fn callbacks_queued() {}
    pub(crate) fn request() -> Seq {
        todo!()
    }
    pub(crate) fn is_over(_seq: Seq) -> bool {
        todo!()
    }
    pub(crate) fn synchronize() {
        todo!()
    }
}
