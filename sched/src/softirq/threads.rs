//! The threads that do the work.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arch::cpu::{CpuId, CpuMask, MAX_CPUS};
use arch::sync::SpinLockIrq;
use sync::Once;

use super::{Kind, count};
use crate::state::State;
use crate::task::{Task, TaskFlags, current};

type Function = Box<dyn FnOnce() + Send>;

struct PerCpu {
    functions: SpinLockIrq<Vec<Function>>,
    /// Somebody asked for a run.
    asked: AtomicBool,
    thread: Once<Arc<Task>>,
}

static CPUS: [PerCpu; MAX_CPUS] = [const {
    PerCpu { functions: SpinLockIrq::new(Vec::new()), asked: AtomicBool::new(false), thread: Once::new() }
}; MAX_CPUS];

/// Makes the threads of the CPUs that are up. Task context.
#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "only while the system comes up")]
pub(crate) fn start_threads() -> abi::Result<()> {
    for cpu in arch::cpu::online().iter() {
        if CPUS[cpu.index()].thread.is_completed() {
            continue;
        }
        let name = alloc::format!("ksoftirqd/{cpu}");
        let task = crate::kthread::create(&name, Box::new(move || run(cpu)))?;
        task.set_flags(TaskFlags::NO_SETAFFINITY);
        crate::policy::bind(&task, CpuMask::of(cpu));
        let _ = CPUS[cpu.index()].thread.set(task.clone());
        crate::wake_up_new(&task);
    }
    Ok(())
}

/// Makes the thread of `cpu` run soon.
pub(crate) fn wake(cpu: CpuId) {
    let this = &CPUS[cpu.index()];
    this.asked.store(true, Ordering::SeqCst);
    if let Some(task) = this.thread.get() {
        crate::wake_up(task);
    }
}

/// Wakes the thread of `cpu` if there is something to do; whether there was.
pub(crate) fn wake_if_needed(cpu: CpuId) -> bool {
    let due = crate::timer::has_expired(cpu) || crate::rcu::has_work(cpu);
    if due && CPUS[cpu.index()].thread.is_completed() {
        wake(cpu);
        return true;
    }
    false
}

/// Runs `f` in the thread of `cpu`.
#[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
pub(crate) fn run_on(cpu: CpuId, f: Function) {
    CPUS[cpu.index()].functions.lock().push(f);
    wake(cpu);
}

fn run(cpu: CpuId) {
    let this = &CPUS[cpu.index()];
    let task = current();
    loop {
        this.asked.store(false, Ordering::SeqCst);
        let functions = core::mem::take(&mut *this.functions.lock());
        if !functions.is_empty() {
            count(cpu, Kind::Tasklet);
        }
        for f in functions {
            f();
        }
        if crate::timer::has_expired(cpu) {
            count(cpu, Kind::Timer);
            crate::timer::run_expired(cpu);
        }
        if crate::rcu::has_work(cpu) {
            count(cpu, Kind::Rcu);
        }
        crate::rcu::run_callbacks(cpu);
        task.set_state(State::INTERRUPTIBLE);
        if this.asked.load(Ordering::SeqCst) {
            task.set_running();
            crate::cond_resched();
        } else {
            crate::schedule();
        }
    }
}
