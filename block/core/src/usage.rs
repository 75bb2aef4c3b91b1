//! Who is inside: a count that costs its users a few instructions of their own CPU, and that can be closed and waited to be empty.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use abi::Result;
use arch::cpu::{self, MAX_CPUS};
use mm::fallible::{try_into_boxed_slice, try_with_capacity};
use sched::{WaitQueue, rcu};
use sync::CachePadded;

/// The count. A user may leave on another CPU than it entered on: only the sum means something.
pub(crate) struct Usage {
    /// How often it is closed.
    closed: AtomicU32,
    counts: Box<[CachePadded<AtomicI64>]>,
    /// Waits for the last to go.
    left: WaitQueue,
    /// Wait for it to be open.
    opened: WaitQueue,
}

impl Usage {
    pub(crate) fn new() -> Result<Self> {
        let mut counts = try_with_capacity(MAX_CPUS)?;
        counts.extend((0..MAX_CPUS).map(|_| CachePadded::new(AtomicI64::new(0))));
        Ok(Self {
            closed: AtomicU32::new(0),
            counts: try_into_boxed_slice(counts)?,
            left: WaitQueue::new(),
            opened: WaitQueue::new(),
        })
    }

    /// Goes in, unless it is closed; whether it did. Whoever did must [`leave`](Self::leave).
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        let _rcu = rcu::read_lock();
        if self.closed.load(Ordering::Acquire) != 0 {
            return false;
        }
        self.count().fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Goes in once more: for somebody who is in already.
    #[inline]
    pub(crate) fn enter_again(&self) {
        self.count().fetch_add(1, Ordering::Relaxed);
    }

    /// Goes out.
    #[inline]
    pub(crate) fn leave(&self) {
        let _rcu = rcu::read_lock();
        self.count().fetch_sub(1, Ordering::Release);
        // Who closes it waits for those who read this as open, and then for the sum.
        if self.closed.load(Ordering::SeqCst) != 0 {
            self.left.wake_all();
        }
    }

    fn count(&self) -> &AtomicI64 {
        &self.counts[cpu::current().index()].0
    }

    /// Nobody goes in any more.
    pub(crate) fn close(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
        // Who saw it open has counted itself after this, or leaves seeing it closed. Also if somebody else has closed it just now and is
        // not through with this.
        rcu::synchronize();
    }

    /// Waits until nobody is in. Only while it is closed.
    pub(crate) fn wait_empty(&self) {
        self.left.wait_event(|| self.sum() == 0);
    }

    /// Once for each [`close`](Self::close).
    pub(crate) fn open(&self) {
        if self.closed.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.opened.wake_all();
        }
    }

    /// Waits until it is open or `or` says so.
    pub(crate) fn wait_open(&self, mut or: impl FnMut() -> bool) {
        self.opened.wait_event(|| self.closed.load(Ordering::SeqCst) == 0 || or());
    }

    /// Wakes who waits, to look again.
    pub(crate) fn look_again(&self) {
        self.opened.wake_all();
    }

    /// While it is closed users only leave: the sum of counts read one after the other is never too small.
    fn sum(&self) -> i64 {
        self.counts.iter().map(|count| count.0.load(Ordering::Acquire)).sum()
    }
}
