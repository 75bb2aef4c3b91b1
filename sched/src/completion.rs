//! Completions: "it is done", said once or many times.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::hrtimer::Deadline;
use crate::state::{State, WaitError};
use crate::wait::{PollEvents, Wait, WaitQueue};

const FOR_ALL: u32 = u32::MAX;

/// Counts events that happened; each lets one waiter through, or all of them for good.
#[derive(Debug)]
pub struct Completion {
    done: AtomicU32,
    queue: WaitQueue,
}

impl Completion {
    /// Nothing done yet.
    #[track_caller]
    pub const fn new() -> Self {
        Self { done: AtomicU32::new(0), queue: WaitQueue::new() }
    }

    /// Lets one waiter through. Callable from interrupt handlers.
    pub fn complete(&self) {
        let _ = self.done.fetch_update(Ordering::Release, Ordering::Relaxed, |done| {
            (done < FOR_ALL - 1).then_some(done + 1)
        });
        self.queue.wake(State::NORMAL, 1, PollEvents::empty());
    }

    /// Lets everybody through from now on.
    pub fn complete_all(&self) {
        self.done.store(FOR_ALL, Ordering::Release);
        self.queue.wake(State::NORMAL, usize::MAX, PollEvents::empty());
    }

    /// Back to "nothing done".
    pub fn reinit(&self) {
        self.done.store(0, Ordering::Relaxed);
    }

    /// Passes if something is done.
    pub fn try_wait(&self) -> bool {
        self.done
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |done| match done {
                0 => None,
                FOR_ALL => Some(FOR_ALL),
                n => Some(n - 1),
            })
            .is_ok()
    }

    /// Whether somebody would pass now.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) != 0
    }

    /// Waits as `how` says.
    pub fn wait_with(&self, how: Wait) -> Result<(), WaitError> {
        self.queue.wait(how.exclusive(), || self.try_wait().then_some(()))
    }

    /// Waits, whatever signals come.
    pub fn wait(&self) {
        let _ = self.wait_with(Wait::UNINTERRUPTIBLE);
    }

    /// Waits until done or a signal.
    pub fn wait_interruptible(&self) -> Result<(), WaitError> {
        self.wait_with(Wait::INTERRUPTIBLE)
    }

    /// Waits until done or a fatal signal.
    pub fn wait_killable(&self) -> Result<(), WaitError> {
        self.wait_with(Wait::KILLABLE)
    }

    /// Waits until done or the deadline; whether it was done.
    pub fn wait_timeout(&self, deadline: Deadline) -> bool {
        self.wait_with(Wait::UNINTERRUPTIBLE.until(Some(deadline))).is_ok()
    }
}

impl Default for Completion {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}
