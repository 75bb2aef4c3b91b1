//! What waits until a process or thread has used a certain amount of CPU time.
//!
//! A queue has an entry per timer that was made on the clock, set or not, so that setting one needs no memory. There are
//! few; the earliest of each kind is kept beside them, and only when it is due does the tick walk the entries.
//!
//! Locks: the list's is a leaf. Entries expire outside of it.

use super::Kind;
use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLockIrq;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::fallible::TryVec;

/// Something that waits for CPU time.
pub(crate) trait Waiter: Send + Sync {
    /// Which part of CPU time.
    fn kind(&self) -> Kind;
    /// The amount; `u64::MAX`: not now.
    fn due_ns(&self) -> u64;
    /// It was reached: `now`. Must be due later than that from now on.
    fn expire(&self, now: u64);
}

/// The waiters of one process or thread.
pub(crate) struct Queue {
    /// The earliest of each kind; `u64::MAX`: none.
    next: [AtomicU64; 3],
    waiters: SpinLockIrq<Vec<Arc<dyn Waiter>>>,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { next: [const { AtomicU64::new(u64::MAX) }; 3], waiters: SpinLockIrq::new(Vec::new()) }
    }

    /// Adds a waiter.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn add(&self, waiter: Arc<dyn Waiter>) -> Result<()> {
        let mut waiters = self.waiters.lock();
        Ok(waiters.try_push(waiter)?)
    }

    /// Takes a waiter out.
    pub(crate) fn remove(&self, waiter: &Arc<dyn Waiter>) {
        let mut waiters = self.waiters.lock();
        let at = waiters.iter().position(|w| Arc::ptr_eq(w, waiter));
        let old = at.map(|at| waiters.swap_remove(at));
        drop(waiters);
        drop(old);
    }

    /// A waiter is due at `ns` from now on.
    pub(crate) fn arm(&self, kind: Kind, ns: u64) {
        let _waiters = self.waiters.lock();
        if let Some(next) = self.next.get(kind as usize) {
            next.fetch_min(ns, Ordering::Relaxed);
        }
    }

    /// Whether anybody waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.next.iter().any(|next| next.load(Ordering::Relaxed) != u64::MAX)
    }

    /// Expires who is due; `time` is the CPU time of a kind.
    pub(crate) fn check(&self, time: impl Fn(Kind) -> u64) {
        for kind in Kind::ALL {
            let next = self.next.get(kind as usize).map_or(u64::MAX, |next| next.load(Ordering::Relaxed));
            if next == u64::MAX {
                continue;
            }
            let now = time(kind);
            if now >= next {
                self.expire(kind, now);
            }
        }
    }

    fn expire(&self, kind: Kind, now: u64) {
        let mut at = 0;
        loop {
            let waiter = {
                let waiters = self.waiters.lock();
                let due = |w: &Arc<dyn Waiter>| w.kind() == kind && w.due_ns() <= now;
                let found = waiters.iter().skip(at).position(due);
                let Some(found) = found else {
                    let earliest = waiters.iter().filter(|w| w.kind() == kind).map(|w| w.due_ns()).min();
                    if let Some(next) = self.next.get(kind as usize) {
                        next.store(earliest.unwrap_or(u64::MAX), Ordering::Relaxed);
                    }
                    return;
                };
                at += found;
                waiters.get(at).cloned()
            };
            if let Some(waiter) = waiter {
                waiter.expire(now);
            }
            at += 1;
        }
    }
}
