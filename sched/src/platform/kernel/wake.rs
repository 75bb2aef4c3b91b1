//! Waking tasks: from any context, on any CPU.
//!
//! `pi_lock` of the task serialises its wakers. A task that is still on a run queue only gets its state
//! back. One that is off the queue but still being switched away from (`on_cpu`) is waited for: a few
//! hundred instructions on another CPU. Then it gets a CPU, is queued there, and that CPU is told if
//! the task should run at once.

use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{Ordering, fence};

use arch::cpu::CpuId;
use arch::irq::IrqGuard;
use arch::smp::Ipi;
use arch::thread::ThreadFlags;

use super::{machine, this_rq};
use crate::balance::Why;
use crate::class::{Class, Enqueue, Policy, TaskPtr};
use crate::rq::{self, RqGuard, RunQueue, sched_mut, sched_of};
use crate::state::State;
use crate::task::{Task, TaskFlags, on_rq};

/// Wakes `task` if its state is among `states`.
pub(crate) fn try_to_wake_up(task: &Task, states: State) -> bool {
    if core::ptr::eq(task, &raw const *super::current()) {
        // Woken by an interrupt (or by itself) before it went to sleep.
        let hit = task.state().intersects(states);
        if hit {
            task.state.store(State::RUNNING.bits(), Ordering::Release);
        }
        return hit;
    }
    let _pi = task.pi_lock.lock();
    // Pairs with the barrier in `set_state`: the sleeper sees our condition or we see its state.
    fence(Ordering::SeqCst);
    let state = task.state();
    if !state.intersects(states) {
        return false;
    }
    if task.on_rq.load(Ordering::Acquire) != on_rq::NO && wake_queued(task) {
        return true;
    }
    task.state.store(State::WAKING.bits(), Ordering::Relaxed);
    while task.on_cpu.load(Ordering::Acquire) {
        arch::cpu::relax();
    }
    let ptr = TaskPtr::from(task);
    let prev = task.cpu();
    let cpu = if arch::cpu::online().count() == 1 {
        prev
    } else {
        machine().select(ptr, prev, arch::cpu::current(), Why::Wake)
    };
    let Some(queue) = rq::try_of(cpu) else { return false };
    let mut rq = queue.lock.lock();
    if state.contributes_to_load() {
        rq.nr_uninterruptible -= 1;
    }
    queue_task(queue, &mut rq, ptr, Enqueue::Wakeup);
    true
}

/// The task has not left its run queue yet: makes it stay. False if it has.
fn wake_queued(task: &Task) -> bool {
    let (_queue, mut rq) = lock_task_rq(task);
    if task.on_rq.load(Ordering::Relaxed) == on_rq::NO {
        return false;
    }
    task.state.store(State::RUNNING.bits(), Ordering::Release);
    let ptr = TaskPtr::from(task);
    if rq.curr != ptr {
        rq.clock = crate::time::raw_ns();
        if rq.preempted_by(ptr) {
            rq.resched_current();
        }
    }
    true
}

/// Puts a task that is on no queue onto `rq`, and lets it preempt.
fn queue_task(queue: &RunQueue, rq: &mut RqGuard<'_>, task: TaskPtr, why: Enqueue) {
    rq.clock = crate::time::raw_ns();
    rq.adopt(task);
    rq.activate(task, why);
    // SAFETY: the caller's task is alive.
    unsafe { task.as_ref() }.state.store(State::RUNNING.bits(), Ordering::Release);
    rq.publish(&queue.hints);
    if rq.preempted_by(task) {
        rq.resched_current();
    }
}

/// Locks the run queue that `task` belongs to. Interrupts are off.
pub(crate) fn lock_task_rq(task: &Task) -> (&'static RunQueue, RqGuard<'static>) {
    loop {
        if let Some(queue) = rq::try_of(task.cpu()) {
            let guard = queue.lock.lock();
            if task.cpu() == queue.cpu && task.on_rq.load(Ordering::Relaxed) != on_rq::MIGRATING {
                return (queue, guard);
            }
        }
        arch::cpu::relax();
    }
}

/// A runnable task that may not stay where it ran: queues it elsewhere. Interrupts off.
pub(super) fn place_elsewhere(task: TaskPtr) {
    // SAFETY: MIGRATING keeps everybody else away from it.
    let prev = unsafe { task.as_ref() }.cpu();
    let cpu = machine().select(task, prev, arch::cpu::current(), Why::Fork);
    if let Some(queue) = rq::try_of(cpu) {
        let mut rq = queue.lock.lock();
        queue_task(queue, &mut rq, task, Enqueue::Restore);
    }
}

/// The task that runs on `cpu` shall call the scheduler. Its run queue is locked.
pub(crate) fn resched(cpu: CpuId, task: &Task) {
    if cpu == arch::cpu::current() {
        arch::preempt::set_need_resched();
    } else if !task.thread_flags().set(ThreadFlags::NEED_RESCHED) {
        arch::smp::send_ipi(cpu, Ipi::Reschedule);
    }
}

/// Makes a task that runs in user mode on another CPU look at its flags.
pub(crate) fn kick(task: &Task) {
    let _stay = arch::preempt::PreemptGuard::new();
    let cpu = task.cpu();
    if cpu != arch::cpu::current() && task.is_on_cpu() {
        arch::smp::send_ipi(cpu, Ipi::Reschedule);
    }
}

/// Gives a new task the scheduling parameters of its parent.
///
/// # Errors
/// `EAGAIN`: the parent has a reservation, which its children would share unless they start as ordinary tasks.
pub(crate) fn sched_fork(task: &Task, parent: &Task) -> Result<()> {
    let _irqs_off = IrqGuard::new();
    let ptr = TaskPtr::from(task);
    let sched = sched_mut(ptr);
    let (_queue, mut rq) = lock_task_rq(parent);
    rq.clock = crate::time::raw_ns();
    if rq.curr == TaskPtr::from(parent) {
        let class = rq.current_class();
        class.update_current(&mut rq);
    }
    let from = sched_of(TaskPtr::from(parent));
    if from.policy == Policy::Deadline && !from.reset_on_fork {
        return Err(Errno::EAGAIN);
    }
    sched.affinity = from.affinity;
    sched.group = from.group.clone();
    if !from.reset_on_fork {
        sched.policy = from.policy;
        sched.nice = from.nice;
        sched.rt_priority = from.rt_priority;
        sched.rt.priority.set(from.rt_priority);
    } else if from.policy == Policy::Idle || from.policy == Policy::Batch {
        sched.policy = from.policy;
        sched.nice = from.nice.max(0);
    } else {
        sched.nice = if from.policy.is_realtime() { 0 } else { from.nice.max(0) };
    }
    sched.class = sched.policy.class();
    crate::pi::publish_rank(task, sched);
    crate::class::fair::update_weight(ptr, rq.clock);
    if from.class == Class::Fair {
        crate::class::fair::fork(ptr, TaskPtr::from(parent));
    }
    task.cpu.store(rq.cpu.0, Ordering::Relaxed);
    Ok(())
}

/// Kernel threads start as ordinary tasks of the root group, anywhere.
pub(crate) fn sched_fork_kthread(task: &Task) {
    task.cpu.store(arch::cpu::current().0, Ordering::Relaxed);
}

/// Lets a new task run.
pub(crate) fn wake_up_new(task: &Arc<Task>) {
    // The task's reference to itself; released after its last switch.
    let raw = Arc::into_raw(task.clone());
    // SAFETY: just made.
    let task = unsafe { &*raw };
    let _pi = task.pi_lock.lock();
    let ptr = TaskPtr::from(task);
    let cpu = machine().select(ptr, task.cpu(), arch::cpu::current(), Why::Fork);
    if let Some(queue) = rq::try_of(cpu) {
        let mut rq = queue.lock.lock();
        queue_task(queue, &mut rq, ptr, Enqueue::New);
    }
}

/// Brings the run time of a task up to date if it runs on this CPU.
pub(crate) fn update_exec(task: &Task) {
    if !task.is_on_cpu() || task.flags().contains(TaskFlags::IDLE) {
        return;
    }
    let _irqs_off = IrqGuard::new();
    let (_queue, mut rq) = lock_task_rq(task);
    if rq.curr == TaskPtr::from(task) {
        rq.clock = crate::time::raw_ns();
        let class = rq.current_class();
        class.update_current(&mut rq);
    }
}

/// The affinity of `task` changed: it moves if it may not stay. `pi_lock` is held by the caller.
pub(crate) fn task_changed(task: &Task) {
    let (queue, mut rq) = lock_task_rq(task);
    let ptr = TaskPtr::from(task);
    if task.on_rq.load(Ordering::Relaxed) != on_rq::QUEUED || sched_of(ptr).affinity.contains(rq.cpu) {
        return;
    }
    rq.clock = crate::time::raw_ns();
    if rq.curr == ptr || task.is_on_cpu() {
        // It moves when it is switched away from.
        rq.resched_current();
        return;
    }
    task.on_rq.store(on_rq::MIGRATING, Ordering::Relaxed);
    sched_of(ptr).class.dequeue(&mut rq, ptr, crate::class::Dequeue::Save);
    rq.publish(&queue.hints);
    drop(rq);
    place_elsewhere(ptr);
}

/// The run queue of this CPU, for the tick.
pub(super) fn with_this_rq<R>(f: impl FnOnce(&RunQueue, &mut RqGuard<'_>) -> R) -> R {
    let queue = this_rq();
    let mut rq = queue.lock.lock();
    rq.clock = crate::time::raw_ns();
    f(queue, &mut rq)
}
