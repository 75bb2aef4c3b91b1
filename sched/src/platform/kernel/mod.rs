//! Tasks on a machine's CPUs.
//!
//! - [`switch`]: `schedule`, the context switch, the first and the last steps of a task;
//! - [`wake`]: waking, and choosing a CPU;
//! - [`tick`]: the periodic tick, and doing without it when idle;
//! - [`idle`]: the idle loop and bringing CPUs up;
//! - [`rcu`]: grace periods.

pub(crate) mod idle;
pub(crate) mod rcu;
mod switch;
pub(crate) mod tick;
mod wake;

use arch::cpu::CpuId;

pub(crate) use idle::{init, run_idle, start_secondaries};
pub(crate) use rcu::irq_enter;
pub(crate) use switch::{exit, first_run, preempt_schedule, preempt_schedule_irq, schedule, yield_now};
pub(crate) use wake::{
    kick, lock_task_rq, resched, sched_fork, sched_fork_kthread, task_changed, try_to_wake_up, update_exec,
    wake_up_new,
};

pub(crate) use tick::timer_interrupt;

use crate::balance::Machine;
use crate::rq::{self, RunQueue};
use crate::task::Current;

/// A waiter may spin while the lock's owner runs on another CPU.
pub(crate) const SPIN_ON_OWNER: bool = true;

/// The running task.
#[inline(always)]
pub(crate) fn current() -> Current {
    Current::new(arch::thread::current().cast())
}

/// The running task; there is one from [`init`] on, which is before anybody asks.
#[cfg(debug_assertions)]
pub(crate) fn try_current() -> Option<Current> {
    Some(current())
}

/// The CPUs, for the load balancer.
pub(crate) fn machine() -> Machine {
    Machine { online: arch::cpu::online(), queue: rq::try_of, node: arch::cpu::node_of }
}

/// The run queue of the CPU this code runs on; preemption must be off.
#[inline]
pub(crate) fn this_rq() -> &'static RunQueue {
    match rq::try_of(arch::cpu::current()) {
        Some(rq) => rq,
        None => no_run_queue(),
    }
}

#[cold]
fn no_run_queue() -> ! {
    panic!("the scheduler is not up on this CPU")
}

/// Calls `f(arg)` on every CPU with interrupts off.
pub(crate) fn on_each_cpu(f: fn(usize), arg: usize) {
    arch::smp::call_on(arch::cpu::online(), f, arg);
}

/// Runs `f` in task context on `cpu`.
#[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
pub(crate) fn queue_on(cpu: CpuId, f: impl FnOnce() + Send + 'static) {
    crate::softirq::run_on(cpu, alloc::boxed::Box::new(f));
}

/// Starts the deadline class' timer of a CPU; the next tick or switch there looks as well.
pub(crate) fn start_dl_timer(cpu: CpuId, at: u64) {
    tick::start_dl_timer(cpu, at);
}

/// A coarse timer was started on `cpu`, which runs and so ticks: nothing to do.
pub(crate) fn timer_started(_cpu: CpuId) {}

/// Starts the tick of the boot CPU and the per-CPU threads. Task context.
pub(crate) fn start_threads() -> abi::Result<()> {
    crate::softirq::start_threads()
}

/// Starts the tick of this CPU.
pub(crate) fn start_tick() {
    let _irqs_off = arch::irq::IrqGuard::new();
    tick::start();
}
