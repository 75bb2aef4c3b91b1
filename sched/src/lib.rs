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
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
// The host has no run queues of its own: the classes are used by simulations only.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

extern crate alloc;

pub mod asleep;
mod balance;
pub mod class;
pub mod completion;
pub mod cputime;
pub(crate) mod entity;
pub mod fork;
pub mod group;
pub mod heap;
pub mod hrtimer;
pub mod io;
pub mod kthread;
pub mod loadavg;
mod lockcheck;
pub mod lockup;
pub mod mm;
pub mod mutex;
pub mod ntp;
pub mod pi;
pub(crate) mod platform;
pub mod policy;
pub mod rcu;
pub(crate) mod rq;
mod rwsem;
mod semaphore;
pub mod softirq;
pub mod stack;
pub mod state;
pub mod task;
pub mod time;
pub mod timer;
pub mod wait;
mod waiter;
pub mod workqueue;

use alloc::sync::Arc;

pub use class::deadline::DlParams;
pub use class::{Class, Policy};
pub use fork::{NewTask, StartProgram, wake_up_new};
pub use group::{GroupRef, TaskGroup};
pub use hrtimer::Deadline;
pub use mm::{AddressSpaceSwitch, Mm};
pub use policy::Attr;
pub use state::{Interrupted, State, WaitError};
#[cfg(debug_assertions)]
pub use task::Faults;
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

/// Brings the scheduler up on the boot CPU: the code that boots becomes a task. Once, when the heap and the
/// clock work; interrupts off.
pub fn init() {
    platform::init();
}

/// Starts the tick of the boot CPU, when its interrupts work.
pub fn start_tick() {
    platform::start_tick();
}

/// Starts the other CPUs until `most` are up, the boot CPU among them; returns how many are. Interrupts on.
///
/// # Errors
/// `ENOMEM`.
pub fn start_secondaries(most: usize) -> abi::Result<usize> {
    platform::start_secondaries(most)
}

/// Starts the scheduler's own kernel threads on all CPUs that are up.
///
/// # Errors
/// `ENOMEM`.
pub fn start_threads() -> abi::Result<()> {
    CAN_SLEEP.store(true, core::sync::atomic::Ordering::Relaxed);
    platform::start_threads()
}

static IDLE_POLLS: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

/// Whether idle CPUs look for work again and again instead of sleeping until an interrupt.
#[inline]
pub fn idle_polls() -> bool {
    IDLE_POLLS.load(core::sync::atomic::Ordering::Relaxed)
}

/// Says whether idle CPUs poll; those that sleep are woken to do so.
pub fn set_idle_polls(on: bool) {
    if IDLE_POLLS.swap(on, core::sync::atomic::Ordering::Relaxed) != on && on {
        platform::on_each_cpu(|_| (), 0);
    }
}

/// The boot code has nothing left to do: it becomes the idle task of its CPU.
pub fn run_idle() -> ! {
    platform::run_idle()
}

/// Ends the running task: it never runs again, and is freed when the last reference is gone. The address
/// space must have been given up ([`Current::replace_mm`]) before.
pub fn exit_current() -> ! {
    platform::exit()
}

/// For `TrapHandler::irq`, `timer` and `ipi`, first thing: the handler may use RCU, also when it
/// interrupted the idle loop. ([`timer_interrupt`] and [`reschedule_ipi`] do it themselves.)
#[inline]
pub fn irq_enter() {
    platform::irq_enter();
}

/// For `TrapHandler::timer`: this CPU's timer fired. Interrupts off. If the CPU has not been able to switch tasks for too long, and
/// that is to be reported: for how many nanoseconds.
pub fn timer_interrupt(from_user: bool) -> Option<u64> {
    platform::irq_enter();
    platform::timer_interrupt(from_user);
    lockup::to_report(arch::cpu::current())
}

/// For `TrapHandler::ipi` with `Ipi::Reschedule`.
pub fn reschedule_ipi() {
    platform::irq_enter();
    arch::preempt::fold_need_resched();
}

/// For `TrapHandler::preempt`. Interrupts on.
pub fn preempt_schedule() {
    platform::preempt_schedule();
}

/// For `TrapHandler::preempt_irq`. Interrupts off at call and return.
pub fn preempt_schedule_irq() {
    platform::preempt_schedule_irq();
}

/// Whether the boot has come so far that sleeping is possible, and worth checking.
static CAN_SLEEP: core::sync::atomic::AtomicBool =
    core::sync::atomic::AtomicBool::new(cfg!(not(target_os = "none")));

/// Asserts, in debug builds, that sleeping is allowed here.
#[inline]
#[track_caller]
pub fn might_sleep() {
    if cfg!(debug_assertions) && CAN_SLEEP.load(core::sync::atomic::Ordering::Relaxed) {
        assert!(arch::preempt::count() == 0, "sleeping with preemption off");
        assert!(arch::irq::enabled(), "sleeping with interrupts off");
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod sim;
