//! The lock word: a spinning lock with bounded bypass.
//!
//! Taking a free lock is one compare-and-swap and releasing it one store. A waiter first spins
//! and may be overtaken: on a virtual machine the first in line is often not running at all,
//! and a strict queue would make everybody wait for its next time slice. A waiter that was
//! overtaken for too long *claims* the lock; while there is a claim nobody else takes the lock,
//! so no waiter starves.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU8, AtomicU16, Ordering};

/// Failed looks at the lock after which a waiter claims it.
const PATIENCE: u32 = 256;

/// The bare lock word.
#[derive(Debug, Default)]
pub(crate) struct RawSpin {
    locked: AtomicU8,
    /// Waiters that ran out of patience.
    claims: AtomicU16,
}

impl RawSpin {
    pub(crate) const fn new() -> Self {
        Self { locked: AtomicU8::new(0), claims: AtomicU16::new(0) }
    }

    #[inline(always)]
    pub(crate) fn try_lock(&self) -> bool {
        self.claims.load(Ordering::Relaxed) == 0 && self.grab()
    }

    #[inline(always)]
    fn grab(&self) -> bool {
        // Acquire pairs with the Release in `unlock`.
        self.locked.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    pub(crate) fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn lock_slow(&self) {
        for _ in 0..PATIENCE {
            if self.locked.load(Ordering::Relaxed) == 0 && self.try_lock() {
                return;
            }
            spin_loop();
        }
        // Newcomers see the claim and stay away; only the other claimants compete.
        self.claims.fetch_add(1, Ordering::Relaxed);
        while self.locked.load(Ordering::Relaxed) != 0 || !self.grab() {
            spin_loop();
        }
        self.claims.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn unlock(&self) {
        self.locked.store(0, Ordering::Release);
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_contended(&self) -> bool {
        self.claims.load(Ordering::Relaxed) != 0
    }
}
