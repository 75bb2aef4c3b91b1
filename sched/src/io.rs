//! What the block layer knows a task by: its I/O context and its I/O priority.
//!
//! They lie in the task, so that whoever submits I/O reads two words of the running task and asks nobody. Layers above set them:
//! `ioprio_set(2)`, and `clone(2)` with `CLONE_IO`.

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use crate::class::Policy;
use crate::task::Task;

/// Where the class is in an I/O priority (`IOPRIO_CLASS_SHIFT`); the level is below.
const CLASS_SHIFT: u16 = 13;

/// The next context that is given out. Numbers come again after four billion tasks that did I/O: two tasks of one number would
/// share a queue of a scheduler, which is not fair but not wrong.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A task's part in I/O.
#[derive(Debug, Default)]
pub struct TaskIo {
    /// 0: has none yet.
    context: AtomicU32,
    /// Of ioprio_set(2).
    own: AtomicU16,
    /// What follows from its scheduling policy and its nice value.
    default: AtomicU16,
}

impl TaskIo {
    /// The number of its I/O context, never 0: which I/O schedulers keep a queue for. Tasks that share one are one to them.
    #[inline]
    pub fn context(&self) -> u32 {
        match self.context.load(Ordering::Relaxed) {
            0 => self.begin_context(),
            context => context,
        }
    }

    #[cold]
    fn begin_context(&self) -> u32 {
        let new = match NEXT.fetch_add(1, Ordering::Relaxed) {
            0 => NEXT.fetch_add(1, Ordering::Relaxed),
            new => new,
        };
        match self.context.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => new,
            Err(other) => other,
        }
    }

    /// The priority of ioprio_set(2), 0 if it was not set.
    #[inline]
    pub fn own_priority(&self) -> u16 {
        self.own.load(Ordering::Relaxed)
    }

    /// The priority that counts: without one of its own, a task has that of its scheduling policy and nice value.
    #[inline]
    pub fn priority(&self) -> u16 {
        let own = self.own.load(Ordering::Relaxed);
        if own >> CLASS_SHIFT != 0 { own } else { self.default.load(Ordering::Relaxed) }
    }

    /// For ioprio_set(2).
    #[inline]
    pub fn set_priority(&self, ioprio: u16) {
        self.own.store(ioprio, Ordering::Relaxed);
    }

    /// A new task has the priority of its parent.
    pub fn inherit_priority(&self, parent: &Self) {
        self.own.store(parent.own.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// And, with `CLONE_IO`, also its context.
    pub fn share_context(&self, parent: &Self) {
        self.context.store(parent.context(), Ordering::Relaxed);
    }

    pub(crate) fn publish_default(&self, policy: Policy, nice: i8) {
        let class = match policy {
            Policy::Fifo | Policy::RoundRobin | Policy::Deadline => 1,
            Policy::Idle => 3,
            _ => 2,
        };
        let level = (i16::from(nice) + 20).clamp(0, 39) as u16 / 5;
        self.default.store(class << CLASS_SHIFT | level, Ordering::Relaxed);
    }
}

impl Task {
    /// Its part in I/O.
    #[inline]
    pub fn io(&self) -> &TaskIo {
        &self.io
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_numbered_when_asked_for() {
        let (a, b, c) = (TaskIo::default(), TaskIo::default(), TaskIo::default());
        let first = a.context();
        assert!(first != 0 && first == a.context() && first != b.context());
        c.share_context(&a);
        assert_eq!(c.context(), first);
    }

    #[test]
    fn a_priority_of_its_own_goes_before_that_of_the_policy() {
        let io = TaskIo::default();
        io.publish_default(Policy::Normal, 0);
        assert_eq!(io.priority(), 2 << 13 | 4);
        io.publish_default(Policy::Fifo, 0);
        assert_eq!(io.priority(), 1 << 13 | 4);
        io.publish_default(Policy::Normal, -20);
        assert_eq!(io.priority(), 2 << 13);
        io.publish_default(Policy::Idle, 19);
        assert_eq!(io.priority(), 3 << 13 | 7);
        io.set_priority(1 << 13 | 2);
        let child = TaskIo::default();
        child.inherit_priority(&io);
        assert_eq!((child.priority(), child.own_priority()), (1 << 13 | 2, 1 << 13 | 2));
    }
}
