//! Sleepers that an operation wakes, once it has released the object's lock.

use alloc::sync::Arc;
use sched::Task;
use smallvec::SmallVec;

/// Sleepers woken at once without allocating.
const INLINE: usize = 8;

/// The record of somebody who sleeps.
pub trait Sleeper {
    /// Who it is.
    fn task(&self) -> &Task;
}

/// Collects sleepers under a lock and wakes them, oldest first, when it is dropped: declare it before the guard of the lock.
/// It also lets go of their records there, not under the lock.
pub struct Batch<S: Sleeper>(SmallVec<[Arc<S>; INLINE]>);

impl<S: Sleeper> Default for Batch<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Sleeper> Batch<S> {
    /// Nobody yet.
    pub fn new() -> Self {
        Self(SmallVec::new())
    }

    /// Will wake `sleeper`, whose result has been stored.
    pub fn add(&mut self, sleeper: Arc<S>) {
        if self.0.try_reserve(1).is_err() {
            // No memory: too early is better than never.
            sched::wake_up(sleeper.task());
            return;
        }
        self.0.push(sleeper);
    }
}

impl<S: Sleeper> Drop for Batch<S> {
    fn drop(&mut self) {
        for sleeper in self.0.drain(..) {
            sched::wake_up(sleeper.task());
        }
    }
}
