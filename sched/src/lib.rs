//! Scheduling: who runs, who sleeps, who is woken, and when.
//!
//! Owns tasks, run queues and scheduling classes, the context switch, wait queues and sleeping
//! locks, timers and clocks, RCU grace periods, kernel threads and work queues. Does not own
//! processes, signals and pids (`kernel`), address spaces (`mm`, see [`mm::AddressSpaceSwitch`])
//! or registers (`arch`).
//!
//! | to do what | use |
//! |---|---|
//! | wait for an event | [`wait::WaitQueue`], [`completion::Completion`] |
//! | exclude others while sleeping is allowed | [`mutex::Mutex`], [`mutex::RwSemaphore`], [`mutex::Semaphore`] |
//! | do something later | [`hrtimer::HrTimer`] (precise), [`timer::Timer`] (coarse), [`workqueue`] |
//! | read without locks | [`rcu`], `sync::RcuPtr` |
//! | know the time | [`time`] |
//! | run a thread in the kernel | [`kthread`] |
//!
//! # Lock order, outermost first
//!
//! sleeping locks → wait queue → `pi_lock` of a task → run queue (two: by CPU number) → timer base.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod completion;
pub mod cputime;
pub(crate) mod entity;
pub mod fork;
pub mod hrtimer;
pub mod kthread;
mod lockcheck;
pub mod mm;
pub mod mutex;
pub(crate) mod pi;
pub(crate) mod platform;
pub mod rcu;
mod rwsem;
mod semaphore;
pub mod stack;
pub mod state;
pub mod task;
pub mod time;
pub mod wait;
mod waiter;

use alloc::sync::Arc;

pub use fork::{NewTask, wake_up_new};
pub use hrtimer::Deadline;
pub use mm::{AddressSpaceSwitch, Mm};
pub use state::{Interrupted, State, WaitError};
pub use task::{COMM_LEN, Comm, Current, Task, TaskFlags, current, set_current_state};
pub use time::Clock;
pub use wait::{PollEvents, Wait, WaitQueue};

/// Gives up the CPU: sleeps if the task's state says so, else lets others run first. Returns when the
/// task runs again.
#[inline]
pub fn schedule() {
    platform::schedule();
}

/// `sched_yield(2)`: goes behind others of the same priority.
pub fn yield_now() {
    platform::yield_now();
}

/// Lets others run if somebody should, in long loops of preemptible or voluntary kernels.
#[inline]
pub fn cond_resched() {
    if arch::preempt::need_resched() && arch::preempt::count() == 0 && arch::irq::enabled() {
        platform::schedule();
    }
}

/// Wakes a task from any ordinary sleep; whether it was asleep. Callable from interrupt handlers.
#[inline]
pub fn wake_up(task: &Task) -> bool {
    platform::try_to_wake_up(task, State::NORMAL)
}

/// Wakes a task if its state is among `states`; whether it was.
#[inline]
pub fn wake_up_state(task: &Task, states: State) -> bool {
    platform::try_to_wake_up(task, states)
}

/// Makes a task that runs in user mode on another CPU enter the kernel and look at its flags.
pub fn kick(task: &Task) {
    platform::kick(task);
}

/// Sleeps in `state` until `deadline`, a wake-up or a signal that the state admits; returns how many
/// nanoseconds were left.
pub fn sleep_until(deadline: Deadline, state: State) -> u64 {
    might_sleep();
    let task = current();
    let timer = core::pin::pin!(hrtimer::SleepTimer::new(&task));
    let timer = timer.into_ref();
    timer.start(deadline);
    task.set_state(state);
    if !timer.has_fired() && !task.signal_pending_state(state) {
        schedule();
    }
    task.set_running();
    if timer.has_fired() { 0 } else { deadline.remaining_ns() }
}

/// Sleeps for `ns` nanoseconds, whatever happens (`msleep`, `usleep_range`).
pub fn sleep_ns(ns: u64) {
    let deadline = Deadline::after_ns(ns);
    while sleep_until(deadline, State::UNINTERRUPTIBLE) > 0 {}
}

/// Starts a kernel thread; see [`kthread::spawn`].
pub fn spawn_kthread(name: &str, f: alloc::boxed::Box<dyn FnOnce() + Send>) -> abi::Result<Arc<Task>> {
    kthread::spawn(name, f)
}

/// Asserts, in debug builds, that sleeping is allowed here.
#[inline]
#[track_caller]
pub fn might_sleep() {
    debug_assert!(arch::preempt::count() == 0, "sleeping with preemption off");
    debug_assert!(arch::irq::enabled(), "sleeping with interrupts off");
}

#[cfg(test)]
mod tests;
