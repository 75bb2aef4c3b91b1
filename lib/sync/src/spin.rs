//! The spin lock.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use crate::context::Context;
use crate::lockdep::{self, Class, Mode};
use crate::raw::RawSpin;

/// Mutual exclusion by spinning; `C` says what is switched off meanwhile.
pub struct SpinLock<T: ?Sized, C: Context> {
    raw: RawSpin,
    class: Class,
    context: PhantomData<fn() -> C>,
    data: UnsafeCell<T>,
}

// SAFETY: the lock hands out `&mut T` to one holder at a time, on whatever CPU it runs.
unsafe impl<T: ?Sized + Send, C: Context> Send for SpinLock<T, C> {}
// SAFETY: as above; a shared lock moves `T` between CPUs but never shares it.
unsafe impl<T: ?Sized + Send, C: Context> Sync for SpinLock<T, C> {}

impl<T, C: Context> SpinLock<T, C> {
    /// A free lock. The caller's source position is its class for the validator.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self { raw: RawSpin::new(), class: Class::here(), context: PhantomData, data: UnsafeCell::new(value) }
    }

    /// The value of a lock that nobody else can hold any more.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized, C: Context> SpinLock<T, C> {
    /// Takes the lock, spinning until it is free.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> SpinLockGuard<'_, T, C> {
        let saved = C::enter();
        lockdep::acquire(&self.class, self.address(), Mode::Write, C::IRQS_OFF);
        self.raw.lock();
        SpinLockGuard { lock: self, saved: ManuallyDrop::new(saved), not_send: PhantomData }
    }

    /// Takes the lock like [`Self::lock`], telling the validator that a lock of the same class
    /// may already be held (a child under its parent, two run queues in address order).
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self) -> SpinLockGuard<'_, T, C> {
        let saved = C::enter();
        lockdep::acquire(&self.class, self.address(), Mode::Nested, C::IRQS_OFF);
        self.raw.lock();
        SpinLockGuard { lock: self, saved: ManuallyDrop::new(saved), not_send: PhantomData }
    }

    /// Takes the lock if it is free now.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T, C>> {
        let saved = C::enter();
        if self.raw.try_lock() {
            lockdep::acquire(&self.class, self.address(), Mode::Try, C::IRQS_OFF);
            Some(SpinLockGuard { lock: self, saved: ManuallyDrop::new(saved), not_send: PhantomData })
        } else {
            C::leave(saved);
            None
        }
    }

    /// The value, without locking: the borrow proves that nobody else can see it.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Whether somebody holds the lock at this moment.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Whether a waiter has run out of patience: a long holder should let go for a moment.
    pub fn is_contended(&self) -> bool {
        self.raw.is_contended()
    }

    /// The value's address, for owners that know by other means that the lock is held.
    pub fn data_ptr(&self) -> *mut T {
        self.data.get()
    }

    /// Releases a lock whose guard was forgotten, without restoring its context.
    ///
    /// # Safety
    /// The lock must be held through a guard that was given to [`SpinLockGuard::hand_over`] (possibly
    /// by another task of the same CPU, as across a context switch), and the caller must
    /// restore what the context switched off.
    pub unsafe fn force_unlock(&self) {
        self.raw.unlock();
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(&self.raw).addr()
    }
}

impl<T: Default, C: Context> Default for SpinLock<T, C> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug, C: Context> fmt::Debug for SpinLock<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_tuple("SpinLock").field(&&*guard).finish(),
            None => f.write_str("SpinLock(<locked>)"),
        }
    }
}

/// A held [`SpinLock`]. Cannot be sent to another task: the context belongs to this CPU.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct SpinLockGuard<'a, T: ?Sized, C: Context> {
    lock: &'a SpinLock<T, C>,
    saved: ManuallyDrop<C::Saved>,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives only `&T`.
unsafe impl<T: ?Sized + Sync, C: Context> Sync for SpinLockGuard<'_, T, C> {}

impl<T: ?Sized, C: Context> Deref for SpinLockGuard<'_, T, C> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists, so this CPU holds the lock.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized, C: Context> DerefMut for SpinLockGuard<'_, T, C> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists and is borrowed mutably, so the access is exclusive.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized, C: Context> Drop for SpinLockGuard<'_, T, C> {
    #[inline(always)]
    fn drop(&mut self) {
        lockdep::release(&self.lock.class, self.lock.address());
        self.lock.raw.unlock();
        // SAFETY: `saved` is taken once, here; the guard is not used afterwards.
        C::leave(unsafe { ManuallyDrop::take(&mut self.saved) });
    }
}

impl<T: ?Sized, C: Context> SpinLockGuard<'_, T, C> {
    /// Leaves the lock held and the context entered, for somebody else to release with
    /// [`SpinLock::force_unlock`] (the task on the other side of a context switch).
    pub fn hand_over(self) {
        lockdep::release(&self.lock.class, self.lock.address());
        core::mem::forget(self);
    }
}

impl<T: ?Sized + fmt::Debug, C: Context> fmt::Debug for SpinLockGuard<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Takes two locks of one level in address order, whatever order they are given in.
/// The guards come back in the order of the arguments.
///
/// # Panics
/// In debug builds, if both are the same lock.
pub fn lock_pair<'a, T: ?Sized, C: Context>(
    a: &'a SpinLock<T, C>,
    b: &'a SpinLock<T, C>,
) -> (SpinLockGuard<'a, T, C>, SpinLockGuard<'a, T, C>) {
    debug_assert_ne!(a.address(), b.address(), "lock_pair of a lock with itself");
    if a.address() < b.address() {
        let first = a.lock();
        let second = b.lock_nested();
        (first, second)
    } else {
        let first = b.lock();
        let second = a.lock_nested();
        (second, first)
    }
}
