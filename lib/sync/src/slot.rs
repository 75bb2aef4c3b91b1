//! A place for a box that one puts in and another takes out, without a lock.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Holds a box or nothing. Of several who take, one gets it: that is how two who may both end something agree on who does.
pub struct BoxSlot<T>(AtomicPtr<T>, PhantomData<Box<T>>);

// SAFETY: a box goes through the slot whole: sharing the slot is sending boxes between threads.
unsafe impl<T: Send> Sync for BoxSlot<T> {}
// SAFETY: as an `Option<Box<T>>`.
unsafe impl<T: Send> Send for BoxSlot<T> {}

impl<T> BoxSlot<T> {
    /// An empty slot.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()), PhantomData)
    }

    /// Puts `value` in, and returns what was there.
    #[inline]
    pub fn put(&self, value: Box<T>) -> Option<Box<T>> {
        self.exchange(Box::into_raw(value))
    }

    /// Takes out what is there.
    #[inline]
    pub fn take(&self) -> Option<Box<T>> {
        self.exchange(ptr::null_mut())
    }

    /// Whether there is nothing: at the moment of asking.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    fn exchange(&self, new: *mut T) -> Option<Box<T>> {
        let old = self.0.swap(new, Ordering::AcqRel);
        // SAFETY: what is in the slot came out of a box, and this exchange took it out, so nobody else does.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }
}

impl<T> Default for BoxSlot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for BoxSlot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> fmt::Debug for BoxSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoxSlot({})", if self.is_empty() { "empty" } else { "full" })
    }
}
