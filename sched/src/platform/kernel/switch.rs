//! `schedule`: choosing the next task and switching to it.
//!
//! The run queue's lock is taken by the old task and released by the new one, on the other side of
//! the switch ([`finish_switch`]). At every switch interrupts are off and the preemption count is
//! `SWITCH_COUNT`. Until the new task has cleared `on_cpu` of the old one, wakers of the old task wait.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use arch::irq;
use arch::preempt;

use super::{machine, this_rq};
use crate::class::{Class, TaskPtr};
use crate::fork::Entry;
use crate::rcu::RcuHead;
use crate::rq::{Rq, RqGuard, RunQueue, rank, sched_of};
use crate::state::State;
use crate::task::{Task, current, on_rq};

/// How the scheduler was entered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entered {
    /// By the task itself: it goes to sleep if its state says so.
    Voluntarily,
    /// By preemption: whatever its state, it stays runnable.
    Preempted,
}

/// Gives up the CPU. Interrupts and preemption on.
pub(crate) fn schedule() {
    loop {
        preempt::disable();
        switch_once(Entered::Voluntarily);
        preempt::enable_no_resched();
        if !preempt::need_resched() {
            break;
        }
    }
}

/// The idle task's `schedule`: preemption is off (once) before and after.
pub(super) fn schedule_idle() {
    switch_once(Entered::Voluntarily);
}

/// `preempt::enable` found a reschedule due.
pub(crate) fn preempt_schedule() {
    while preempt::count() == 0 && irq::enabled() && preempt::need_resched() {
        preempt::disable();
        switch_once(Entered::Preempted);
        preempt::enable_no_resched();
    }
}

/// An interrupt returns to preemptible kernel code and a reschedule is due. Interrupts off.
pub(crate) fn preempt_schedule_irq() {
    while preempt::need_resched() {
        preempt::disable();
        irq::local_enable();
        switch_once(Entered::Preempted);
        irq::local_disable();
        preempt::enable_no_resched();
    }
}

/// `sched_yield`.
pub(crate) fn yield_now() {
    preempt::disable();
    irq::local_disable();
    let queue = this_rq();
    let mut rq = queue.lock.lock();
    rq.clock = crate::time::raw_ns();
    let class = rq.current_class();
    class.yield_current(&mut rq);
    drop(rq);
    irq::local_enable();
    switch_once(Entered::Voluntarily);
    preempt::enable_no_resched();
    crate::cond_resched();
}

/// One pass: interrupts on and preemption count 1 at entry and return.
fn switch_once(how: Entered) {
    irq::local_disable();
    super::rcu::note_switch();
    let queue = this_rq();
    let mut rq = queue.lock.lock();
    // Pairs with the waker's barrier between setting its condition and looking at our state.
    fence(Ordering::SeqCst);
    let prev = rq.curr;
    rq.clock = crate::time::raw_ns();
    // SAFETY: `curr` is the running task: this one.
    let task = unsafe { prev.as_ref() };
    let state = State::from_bits_retain(task.state.load(Ordering::Relaxed));
    if how == Entered::Voluntarily && !state.is_running() {
        if task.signal_pending_state(state) {
            task.state.store(State::RUNNING.bits(), Ordering::Relaxed);
        } else {
            rq.deactivate(prev, state);
        }
    }
    let leaves = must_leave(&rq, prev, task);
    if leaves {
        // Runnable, but not here any more: `finish_switch` finds it another CPU.
        task.on_rq.store(on_rq::MIGRATING, Ordering::Relaxed);
        sched_of(prev).class.dequeue(&mut rq, prev, crate::class::Dequeue::Save);
    }
    let next = pick(&mut rq, prev);
    preempt::clear_need_resched();
    rq.publish(&queue.hints);
    if next == prev {
        drop(rq);
        irq::local_enable();
        return;
    }
    rq.nr_switches += 1;
    let slept = how == Entered::Voluntarily && !state.is_running();
    let counter = if slept { &task.nvcsw } else { &task.nivcsw };
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    queue.curr.store(next.as_ptr(), Ordering::Relaxed);
    switch_to(rq, prev, next);
}

/// Whether the running task is runnable but may not stay on this CPU.
fn must_leave(rq: &Rq, prev: TaskPtr, task: &Task) -> bool {
    let sched = sched_of(prev);
    sched.class != Class::Idle
        && task.on_rq.load(Ordering::Relaxed) == on_rq::QUEUED
        && !sched.affinity.contains(rq.cpu)
        && !sched.affinity.and(arch::cpu::online()).is_empty()
}

fn pick(rq: &mut RqGuard<'_>, prev: TaskPtr) -> TaskPtr {
    if rq.nr_running == 0 {
        // Nothing here: look elsewhere before going idle.
        let machine = machine();
        if machine.online.count() > 1 && !machine.pull_urgent(rq, 103) {
            machine.pull_idle(rq);
        }
    }
    let next = rq.pick_next(prev);
    if rq.dl.nr_running + rq.rt.nr_running == 0
        && matches!(sched_of(prev).class, Class::Deadline | Class::Realtime)
    {
        // The last urgent task here stopped: another CPU may have one waiting.
        let machine = machine();
        if machine.online.count() > 1 && machine.pull_urgent(rq, rank(sched_of(next))) {
            let better = rq.pick_next(next);
            return better;
        }
    }
    next
}

fn switch_to(rq: RqGuard<'_>, prev: TaskPtr, next: TaskPtr) {
    // SAFETY: both are alive: `prev` runs, `next` is runnable. The locks and flags of the protocol in
    // the module documentation hold.
    unsafe {
        let (old, new) = (prev.as_ref(), next.as_ref());
        new.on_cpu.store(true, Ordering::Relaxed);
        let (old_mm, new_mm) = (&*old.mm.get(), &*new.mm.get());
        match (old_mm, new_mm) {
            (Some(a), Some(b)) if alloc::sync::Arc::ptr_eq(a, b) => {}
            (_, Some(mm)) => mm.activate(),
            (Some(_), None) => arch::asid::enter_lazy(),
            (None, None) => {}
        }
        this_rq().prev.store(prev.as_ptr(), Ordering::Relaxed);
        // Released on the other side.
        rq.hand_over();
        arch::thread::switch(old.thread_ptr(), new.thread_ptr());
        // Another CPU perhaps: whoever ran there last.
        finish_switch(this_rq().take_prev());
    }
}

/// The first thing a task does after it was switched to; `prev` ran on this CPU before.
///
/// # Safety
/// Called once after each switch, on the CPU that switched, with its run queue locked.
unsafe fn finish_switch(prev: TaskPtr) {
    let queue: &RunQueue = this_rq();
    // SAFETY: `prev` cannot go away before its `on_cpu` is cleared (and, if it is dead, before the code
    // below releases its own reference).
    let task = unsafe { prev.as_ref() };
    let dead = State::from_bits_retain(task.state.load(Ordering::Relaxed)).intersects(State::DEAD);
    let leaving = task.on_rq.load(Ordering::Relaxed) == on_rq::MIGRATING;
    // Release: whoever sees it may run the task on another CPU.
    task.on_cpu.store(false, Ordering::Release);
    // SAFETY: the guard was handed over in `switch_to` on this CPU; interrupts are still off.
    unsafe { queue.lock.force_unlock() };
    if leaving {
        super::wake::place_elsewhere(prev);
    }
    irq::local_enable();
    if dead {
        // SAFETY: dead tasks are never picked again; nothing runs on its stack.
        unsafe { release(prev) };
    }
}

/// Takes back the stack of a dead task, and its reference to itself after a grace period.
///
/// # Safety
/// The task is dead and was switched away from.
unsafe fn release(task: TaskPtr) {
    /// # Safety
    /// `head` is in a dead task that owns a reference to itself.
    unsafe fn put(head: NonNull<RcuHead>) {
        let task = head.as_ptr().wrapping_byte_sub(core::mem::offset_of!(Task, rcu)).cast::<Task>();
        // SAFETY: the reference that `wake_up_new` leaked.
        drop(unsafe { alloc::sync::Arc::from_raw(task.cast_const()) });
    }
    // SAFETY: the caller's promise; the head is part of the task, which the reference keeps.
    unsafe {
        drop((*task.as_ref().stack.get()).take());
        crate::rcu::call_head(&task.as_ref().rcu, put);
    }
}

/// Ends the running task.
pub(crate) fn exit() -> ! {
    preempt::disable();
    let task = current();
    task.set_special_state(State::DEAD);
    switch_once(Entered::Voluntarily);
    panic!("a dead task ran again")
}

/// The first code of a new task.
pub(crate) extern "C" fn first_run(_task: usize) -> ! {
    let queue = this_rq();
    // SAFETY: a new task was switched to, by `switch_to`, which noted what it left.
    unsafe { finish_switch(queue.take_prev()) };
    preempt::enable();
    let task = current();
    // SAFETY: nobody but the task itself touches its entry after it was made.
    match unsafe { (*task.entry.get()).take() } {
        Some(Entry::Kernel(f)) => {
            f();
            // A kernel thread may have become a user program; it does not come back then.
            exit()
        }
        Some(Entry::Program(start)) => {
            // SAFETY: `Task::new_program` put a frame there, and only this task reaches it.
            let instead = start(unsafe { &mut *task.with_thread(|thread| thread.user_frame()) });
            if let Some(end) = instead {
                end()
            }
            // SAFETY: `start` filled in the frame and gave the task an address space.
            unsafe { arch::trap::return_to_user() }
        }
        Some(Entry::User) | None => {
            // SAFETY: `Task::new_user` filled in the frame, and the switch loaded the address space.
            unsafe { arch::trap::return_to_user() }
        }
    }
}
