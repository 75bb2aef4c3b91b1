//! The counting semaphore.

use arch::sync::SpinLockIrq;

use crate::hrtimer::{Deadline, SleepTimer};
use crate::state::{Interrupted, State, WaitError};
use crate::task::current;
use crate::waiter::{Waiter, WaiterList};

/// A number of permits; takers without one sleep in the order they came.
pub struct Semaphore {
    inner: SpinLockIrq<Inner>,
}

struct Inner {
    permits: usize,
    waiters: WaiterList<()>,
}

impl Semaphore {
    /// With `permits` free permits.
    #[track_caller]
    pub const fn new(permits: usize) -> Self {
        Self { inner: SpinLockIrq::new(Inner { permits, waiters: WaiterList::new() }) }
    }

    /// Takes a permit.
    pub fn down(&self) {
        let _ = self.down_until(State::UNINTERRUPTIBLE, None);
    }

    /// Takes a permit unless a signal comes first.
    pub fn down_interruptible(&self) -> Result<(), Interrupted> {
        self.down_until(State::INTERRUPTIBLE, None).map_err(|_| Interrupted)
    }

    /// Takes a permit unless a fatal signal comes first.
    pub fn down_killable(&self) -> Result<(), Interrupted> {
        self.down_until(State::KILLABLE, None).map_err(|_| Interrupted)
    }

    /// Takes a permit if one is free.
    pub fn try_down(&self) -> bool {
        let mut inner = self.inner.lock();
        if inner.permits > 0 {
            inner.permits -= 1;
            return true;
        }
        false
    }

    /// Takes a permit, sleeping in `state` until `deadline` at most.
    pub fn down_until(&self, state: State, deadline: Option<Deadline>) -> Result<(), WaitError> {
        crate::might_sleep();
        let task = current();
        let waiter = Waiter::new(&task, ());
        {
            let mut inner = self.inner.lock();
            if inner.permits > 0 {
                inner.permits -= 1;
                return Ok(());
            }
            // SAFETY: granted (and removed) or removed below before this function returns.
            unsafe { inner.waiters.push(&waiter) };
        }
        let timer = core::pin::pin!(SleepTimer::new(&task));
        let timer = timer.into_ref();
        if let Some(deadline) = deadline {
            timer.start(deadline);
        }
        let result = loop {
            task.set_state(state);
            if waiter.is_granted() {
                break Ok(());
            }
            let error = if task.signal_pending_state(state) {
                WaitError::Interrupted
            } else if timer.has_fired() {
                WaitError::TimedOut
            } else {
                crate::schedule();
                continue;
            };
            let mut inner = self.inner.lock();
            if waiter.is_granted() {
                break Ok(());
            }
            // SAFETY: not granted, so still linked.
            unsafe { inner.waiters.remove(&waiter) };
            break Err(error);
        };
        task.set_running();
        result
    }

    /// Gives a permit back, to the first sleeper if there is one. Callable from interrupt handlers.
    pub fn up(&self) {
        let mut inner = self.inner.lock();
        if inner.waiters.is_empty() {
            inner.permits += 1;
        } else {
            inner.waiters.grant_first();
        }
    }
}

impl core::fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Semaphore({} permits)", self.inner.lock().permits)
    }
}
