//! Gates: how many requests of a kind may be made for a hardware queue, so that those that nobody waits for leave some to the others.

use core::sync::atomic::{AtomicU32, Ordering};

use sched::{Wait, WaitQueue};

/// How many gates a hardware queue has.
pub(crate) const GATES: usize = 2;

/// Which gate a request goes through, and how many may be inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Below `GATES`.
    pub(crate) gate: u8,
    pub(crate) depth: u32,
}

/// Counts who is inside.
pub(crate) struct Gate {
    inside: AtomicU32,
    waiters: WaitQueue,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { inside: AtomicU32::new(0), waiters: WaitQueue::new() }
    }

    /// Goes in if fewer than `depth` are; one may always.
    pub(crate) fn try_enter(&self, depth: u32) -> bool {
        let enter = |inside| (inside < depth.max(1)).then_some(inside + 1);
        self.inside.fetch_update(Ordering::AcqRel, Ordering::Relaxed, enter).is_ok()
    }

    /// Goes in, waiting for others to leave if need be. `depth` may change meanwhile.
    pub(crate) fn enter(&self, depth: impl Fn() -> u32) {
        // Exclusive: who leaves wakes one.
        while self
            .waiters
            .wait(Wait::UNINTERRUPTIBLE.exclusive(), || self.try_enter(depth()).then_some(()))
            .is_err()
        {}
    }

    /// Any context.
    pub(crate) fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if self.waiters.has_waiters() {
            self.waiters.wake_one();
        }
    }

    /// More may be inside than before.
    pub(crate) fn look_again(&self) {
        self.waiters.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32 as Count;

    #[test]
    fn no_more_than_may() {
        let (gate, inside, most) = (Gate::new(), Count::new(0), Count::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        gate.enter(|| 3);
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        gate.leave();
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!((2..=3).contains(&most), "{most}");
        assert!(gate.try_enter(0) && !gate.try_enter(1) && gate.try_enter(2));
    }
}
