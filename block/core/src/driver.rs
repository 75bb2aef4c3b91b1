//! What a device's driver does for the block layer.

use collections::fifo::{Chained, Fifo};

use crate::queue::Queue;
use crate::request::Request;

/// Requests that are handed to a driver in one call, in the order in which they should go.
///
/// A driver takes what it has room for and leaves the rest, which comes again when it has finished something. It tells its device of all
/// that it took at once, at the end.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) list: Fifo<Request>,
}

impl Batch {
    /// The next request, to look at.
    #[inline]
    pub fn peek(&self) -> Option<&Request> {
        self.list.front()
    }

    /// Takes the next request. It goes on with [`Queue::start`], [`Queue::end`] or [`put_back`](Self::put_back).
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a batch can take a request back, an iterator cannot")]
    pub fn next(&mut self) -> Option<Chained<Request>> {
        self.list.pop_front()
    }

    /// There is no room for it after all: it is the next again.
    #[inline]
    pub fn put_back(&mut self, request: Chained<Request>) {
        self.list.push_front(request);
    }

    /// How many are left.
    #[inline]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether none is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// A driver, as the block layer sees it. All calls may come from several CPUs at once, for different hardware queues.
pub trait Driver: Send + Sync {
    /// Gives requests to hardware queue `hw`. Of each queue one call at a time; in task context, may not sleep. If it leaves some, it is asked
    /// again after the next completion, after [`Queue::kick`], and after some milliseconds at the latest.
    fn queue_rqs(&self, queue: &Queue, hw: usize, batch: &mut Batch);

    /// The request with this tag did not end in time. If it still has not after as much time again, this is called again. A driver that ends it ([`Queue::complete_expired`] with the same `sequence`) has first seen
    /// to it that the device knows nothing of it any more: its tag is another's at once. Task context, may sleep.
    fn timed_out(&self, _queue: &Queue, _hw: usize, _tag: u32, _sequence: u64) {}

    /// Looks whether requests have ended without waiting for an interrupt; how many have.
    fn poll(&self, _queue: &Queue, _hw: usize) -> usize {
        0
    }
}

/// What a device's queue is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many hardware queues it has.
    pub queues: usize,
    /// How many requests each can have at a time.
    pub depth: u32,
    /// After how many milliseconds without an answer [`Driver::timed_out`] is asked.
    pub timeout_ms: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { queues: 1, depth: 128, timeout_ms: 30_000 }
    }
}
