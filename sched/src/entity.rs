//! What the scheduling classes keep for a task.

/// The scheduler's part of a task, protected by the lock of its run queue.
#[derive(Debug, Default)]
pub(crate) struct Sched {}
