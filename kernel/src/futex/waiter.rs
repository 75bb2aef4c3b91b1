//! The part of a thread that buckets and wakers see while it waits.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// `Waiter::state`: not in any bucket.
const IDLE: u32 = 0;
/// In a bucket.
const QUEUED: u32 = 1;
/// Taken out by a waker.
const WOKEN: u32 = 2;
/// Moved to the bucket of a priority-inheriting lock by `FUTEX_CMP_REQUEUE_PI`.
const REQUEUED: u32 = 3;

/// Where a thread stands with futexes. Changed under the lock of the bucket it is in.
#[derive(Default)]
pub struct Waiter {
    state: AtomicU32,
    /// Which element of `futex_waitv` was woken.
    index: AtomicU32,
    /// The bucket it is in: requeue changes it.
    bucket: AtomicUsize,
}

impl Waiter {
    /// Begins to wait in `bucket`.
    pub fn start(&self, bucket: usize) {
        self.bucket.store(bucket, Ordering::Relaxed);
        self.state.store(QUEUED, Ordering::Relaxed);
    }

    /// A waker took the entry with number `index` out.
    pub fn wake(&self, index: u32) {
        self.index.store(index, Ordering::Relaxed);
        // Release pairs with the Acquire in `is_woken`.
        self.state.store(WOKEN, Ordering::Release);
    }

    /// Whether a waker took it out.
    pub fn is_woken(&self) -> bool {
        self.state.load(Ordering::Acquire) == WOKEN
    }

    /// Which entry was woken.
    pub fn woken_index(&self) -> u32 {
        self.index.load(Ordering::Relaxed)
    }

    /// Is in `bucket` from now on.
    pub fn moved_to(&self, bucket: usize) {
        self.bucket.store(bucket, Ordering::Relaxed);
    }

    /// Waits for a lock in `bucket` from now on, and not for a wake-up.
    pub fn requeued_to(&self, bucket: usize) {
        self.bucket.store(bucket, Ordering::Relaxed);
        // Release pairs with the Acquire in `is_requeued`.
        self.state.store(REQUEUED, Ordering::Release);
    }

    /// Whether it was moved to a lock.
    pub fn is_requeued(&self) -> bool {
        self.state.load(Ordering::Acquire) == REQUEUED
    }

    /// The bucket it was in when last looked at.
    pub fn bucket(&self) -> usize {
        self.bucket.load(Ordering::Relaxed)
    }

    /// Waits no more.
    pub fn finish(&self) {
        self.state.store(IDLE, Ordering::Relaxed);
    }
}
