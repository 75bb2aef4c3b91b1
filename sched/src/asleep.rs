//! Looking at a task that sleeps: where it waits in the kernel, and what it asked for. `/proc/PID/{wchan,stack,syscall}`.
//!
//! Whoever wakes a task takes its `pi_lock`, so a task that is seen asleep under that lock stays asleep, and its stack
//! stays as it is, until the lock is released.

use core::sync::atomic::Ordering;

use arch::thread::Thread;
use arch::trap::TrapFrame;

use crate::state::State;
use crate::task::{Task, on_rq};

/// Return addresses that are kept of a sleeping task at most.
pub const DEPTH: usize = 48;

/// A task that sleeps as long as this lives.
pub struct Asleep<'a> {
    task: &'a Task,
    thread: &'a Thread,
}

impl Asleep<'_> {
    /// Return addresses on its kernel stack, innermost first; how many there are.
    pub fn backtrace(&self, addresses: &mut [usize; DEPTH]) -> usize {
        let mut count = 0;
        arch::backtrace::frames(self.thread.saved_frame_pointer(), |ip| {
            if let Some(slot) = addresses.get_mut(count) {
                *slot = ip;
                count += 1;
            }
            count < DEPTH
        });
        count
    }

    /// The registers with which it left user mode; none for a kernel thread.
    pub fn user_frame(&self) -> Option<&TrapFrame> {
        if self.task.is_kthread() {
            return None;
        }
        // SAFETY: the frame lies at the top of the stack of a thread that has one and does not run; only the thread itself
        // changes it, or its tracer under the same lock.
        unsafe { self.thread.user_frame().as_ref() }
    }
}

impl Task {
    /// Runs `f` on the task while it sleeps; `None` if it does not. `f` runs with a spin lock held and interrupts off.
    pub fn while_asleep<R>(&self, f: impl FnOnce(&Asleep<'_>) -> R) -> Option<R> {
        let _wakers_out = self.pi_lock.lock();
        let gone = State::DEAD | State::NEW | State::WAKING;
        let state = self.state();
        if state.is_running() || state.intersects(gone) || self.on_rq.load(Ordering::Acquire) != on_rq::NO {
            return None;
        }
        while self.is_on_cpu() {
            arch::cpu::relax();
        }
        // SAFETY: it does not run and cannot be woken while `pi_lock` is held.
        let thread = unsafe { &*self.thread_ptr() };
        Some(f(&Asleep { task: self, thread }))
    }
}
