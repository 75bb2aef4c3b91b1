//! How a scheduler that held something back has it asked for again.

use alloc::boxed::Box;

use sched::workqueue::{Work, WorkQueue};

/// Has hardware queues run.
pub struct Kick {
    works: Box<[Work]>,
    threads: Option<&'static WorkQueue>,
    #[cfg(test)]
    pub(crate) kicked: core::sync::atomic::AtomicU64,
}

impl Kick {
    /// One work for each hardware queue, to be done by `threads`.
    pub(crate) fn new(works: Box<[Work]>, threads: Option<&'static WorkQueue>) -> Self {
        Self {
            works,
            threads,
            #[cfg(test)]
            kicked: core::sync::atomic::AtomicU64::new(0),
        }
    }

    /// Hardware queue `hw` is to be run: its scheduler may have something for it now. Any context.
    pub fn run(&self, hw: usize) {
        #[cfg(test)]
        self.kicked.fetch_or(1 << hw, core::sync::atomic::Ordering::SeqCst);
        if let (Some(work), Some(threads)) = (self.works.get(hw), self.threads) {
            threads.queue_work(work);
        }
    }
}
