//! The idle loop, and bringing the scheduler up on each CPU.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use arch::cpu::CpuId;
use arch::{irq, preempt};

use super::{machine, rcu, switch, tick};
use crate::class::TaskPtr;
use crate::cputime::CPU_TIMES;
use crate::entity::Sched;
use crate::rq::{self, RunQueue};
use crate::stack::Stack;
use crate::state::State;
use crate::task::{Task, TaskFlags, current};

#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "only while the system comes up")]
fn idle_task(cpu: CpuId) -> Arc<Task> {
    let name = alloc::format!("swapper/{cpu}");
    let task = Arc::new(Task::build(
        name.as_bytes(),
        TaskFlags::IDLE | TaskFlags::KTHREAD,
        Sched::idle(),
        State::RUNNING,
    ));
    task.cpu.store(cpu.0, Ordering::Relaxed);
    task.on_cpu.store(true, Ordering::Relaxed);
    task
}

/// Brings the scheduler up: makes the code that boots a task, which becomes the boot CPU's idle task.
/// Once, when the heap works; interrupts off.
pub(crate) fn init() {
    let cpu = arch::cpu::current();
    let task = idle_task(cpu);
    // Never freed.
    let ptr = TaskPtr::from(Arc::leak_ref(task));
    rq::install(RunQueue::new(cpu, ptr));
    let count = preempt::count();
    // SAFETY: the boot code becomes this task, for ever.
    unsafe { arch::thread::set_current(ptr.cast()) };
    // On some architectures the count belongs to the thread.
    let now = preempt::count();
    preempt::add(count.saturating_sub(now));
    preempt::sub(now.saturating_sub(count));
    crate::class::fair::scale_tunables(arch::cpu::count());
    crate::lockcheck::init();
    crate::rcu::init();
    crate::time::init();
}

trait LeakRef<T> {
    fn leak_ref(this: Self) -> &'static T;
}

impl<T> LeakRef<T> for Arc<T> {
    fn leak_ref(this: Self) -> &'static T {
        // SAFETY: the count of the raw pointer is never given up.
        unsafe { &*Arc::into_raw(this) }
    }
}

/// Starts the other CPUs; returns how many are up.
///
/// # Errors
/// `ENOMEM` for their idle tasks.
pub(crate) fn start_secondaries(most: usize) -> Result<usize> {
    let mut up = 1;
    for cpu in arch::cpu::possible().without(arch::cpu::online()).iter().take(most.saturating_sub(1)) {
        let stack = Stack::new().ok_or(Errno::ENOMEM)?;
        let task = idle_task(cpu);
        // SAFETY: not shared yet; the stack lives as long as the task, for ever.
        unsafe {
            (*task.thread.get()).init(stack.top(), secondary, cpu.0 as usize);
            *task.stack.get() = Some(stack);
        }
        let ptr = TaskPtr::from(Arc::leak_ref(task));
        rq::install(RunQueue::new(cpu, ptr));
        // SAFETY: an initialised thread that runs the idle loop and is never freed.
        if unsafe { arch::smp::start_secondary(cpu, ptr.as_ptr().cast()) } {
            up += 1;
        } else {
            log::warn!("CPU {cpu} did not come up");
        }
    }
    crate::class::fair::scale_tunables(up);
    Ok(up)
}

/// Where a secondary CPU arrives, as its idle task.
extern "C" fn secondary(cpu: usize) -> ! {
    let cpu = CpuId(cpu as u32);
    rcu::cpu_starts(cpu);
    tick::start();
    arch::cpu::mark_online(cpu);
    irq::local_enable();
    idle_loop()
}

/// The boot code becomes the idle task of its CPU. Preemption and interrupts on.
pub(crate) fn run_idle() -> ! {
    preempt::disable();
    idle_loop()
}

/// What a CPU does when it has nothing to do. Preemption off (once), interrupts on.
fn idle_loop() -> ! {
    let task = current();
    let cpu = arch::cpu::current();
    loop {
        irq::local_disable();
        if !preempt::need_resched() {
            tick::stop();
            CPU_TIMES[cpu.index()].idle_begins(crate::time::raw_ns());
            while !preempt::need_resched() {
                if crate::softirq::wake_if_needed(cpu) {
                    break;
                }
                rcu::idle_enter(cpu);
                if crate::idle_polls() {
                    arch::cpu::relax();
                } else {
                    arch::cpu::wait_for_interrupt_irqs_off();
                }
                rcu::idle_exit(cpu);
                // Interrupts that are pending run here. They may not come before the instruction behind the enabling one.
                irq::local_enable();
                arch::cpu::relax();
                irq::local_disable();
            }
            CPU_TIMES[cpu.index()].idle_ends(crate::time::raw_ns());
            tick::resume();
        }
        irq::local_enable();
        switch::schedule_idle();
        debug_assert!(core::ptr::eq(&raw const *task, &raw const *current()));
    }
}

/// Whether a CPU runs its idle task.
pub(crate) fn is_idle(cpu: CpuId) -> bool {
    machine().online.contains(cpu)
        && rq::try_of(cpu).is_some_and(|queue| queue.hints.nr_running.load(Ordering::Relaxed) == 0)
}
