//! The reader-writer spin lock.
//!
//! A waiting writer keeps new readers out, so writers do not starve; consequently a reader must
//! not take the same lock for reading again while it holds it.

use core::cell::UnsafeCell;
use core::fmt;
use core::hint::spin_loop;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::context::Context;
use crate::lockdep::{self, Class, Mode};

const WRITER: u32 = 1 << 31;
/// Writers that wait, counted in bits 20..31.
const WAITING: u32 = 1 << 20;
const WAITING_MASK: u32 = WRITER - WAITING;

/// Many readers or one writer, by spinning.
pub struct RwSpinLock<T: ?Sized, C: Context> {
    /// Bit 31: a writer holds it; bits 20..31: writers waiting; bits 0..20: readers inside.
    state: AtomicU32,
    class: Class,
    context: PhantomData<fn() -> C>,
    data: UnsafeCell<T>,
}

// SAFETY: access to `T` is either shared between readers or exclusive to one writer.
unsafe impl<T: ?Sized + Send, C: Context> Send for RwSpinLock<T, C> {}
// SAFETY: readers on several CPUs share `&T`, therefore `T: Sync` as well.
unsafe impl<T: ?Sized + Send + Sync, C: Context> Sync for RwSpinLock<T, C> {}

impl<T, C: Context> RwSpinLock<T, C> {
    /// A free lock. The caller's source position is its class for the validator.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self {
            state: AtomicU32::new(0),
            class: Class::here(),
            context: PhantomData,
            data: UnsafeCell::new(value),
        }
    }

    /// The value of a lock that nobody else can hold any more.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized, C: Context> RwSpinLock<T, C> {
    /// Takes the lock for reading.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwReadGuard<'_, T, C> {
        let saved = C::enter();
        lockdep::acquire(&self.class, self.address(), Mode::Read, C::IRQS_OFF);
        while !self.try_read_raw() {
            spin_loop();
        }
        RwReadGuard { lock: self, saved: ManuallyDrop::new(saved), not_send: PhantomData }
    }

    /// Takes the lock for reading if no writer holds or waits for it.
    pub fn try_read(&self) -> Option<RwReadGuard<'_, T, C>> {
        let saved = C::enter();
        if self.try_read_raw() {
            lockdep::acquire(&self.class, self.address(), Mode::Try, C::IRQS_OFF);
            Some(RwReadGuard { lock: self, saved: ManuallyDrop::new(saved), not_send: PhantomData })
        } else {
            C::leave(saved);
            None
        }
    }

    /// Takes the lock for writing.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwWriteGuard<'_, T, C> {
        let saved = C::enter();
        lockdep::acquire(&self.class, self.address(), Mode::Write, C::IRQS_OFF);
        if self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.write_slow();
        }
        RwWriteGuard { lock: self, saved: ManuallyDrop::new(saved), not_send: PhantomData }
    }

    /// Takes the lock for writing if it is free.
    pub fn try_write(&self) -> Option<RwWriteGuard<'_, T, C>> {
        let saved = C::enter();
        if self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            lockdep::acquire(&self.class, self.address(), Mode::Try, C::IRQS_OFF);
            Some(RwWriteGuard { lock: self, saved: ManuallyDrop::new(saved), not_send: PhantomData })
        } else {
            C::leave(saved);
            None
        }
    }

    /// The value, without locking: the borrow proves that nobody else can see it.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    #[inline(always)]
    fn try_read_raw(&self) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        seen & (WRITER | WAITING_MASK) == 0
            && self.state.compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn write_slow(&self) {
        self.state.fetch_add(WAITING, Ordering::Relaxed);
        loop {
            let seen = self.state.load(Ordering::Relaxed);
            let free = seen & !WAITING_MASK == 0;
            if free
                && self
                    .state
                    .compare_exchange_weak(
                        seen,
                        seen - WAITING + WRITER,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok()
            {
                return;
            }
            spin_loop();
        }
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(&self.state).addr()
    }
}

impl<T: Default, C: Context> Default for RwSpinLock<T, C> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug, C: Context> fmt::Debug for RwSpinLock<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(guard) => f.debug_tuple("RwSpinLock").field(&&*guard).finish(),
            None => f.write_str("RwSpinLock(<locked>)"),
        }
    }
}

/// An [`RwSpinLock`] held for reading.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RwReadGuard<'a, T: ?Sized, C: Context> {
    lock: &'a RwSpinLock<T, C>,
    saved: ManuallyDrop<C::Saved>,
    not_send: PhantomData<*mut ()>,
}

impl<T: ?Sized, C: Context> Deref for RwReadGuard<'_, T, C> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: while a reader is inside, no writer is.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized, C: Context> Drop for RwReadGuard<'_, T, C> {
    #[inline(always)]
    fn drop(&mut self) {
        lockdep::release(&self.lock.class, self.lock.address());
        self.lock.state.fetch_sub(1, Ordering::Release);
        // SAFETY: `saved` is taken once, here.
        C::leave(unsafe { ManuallyDrop::take(&mut self.saved) });
    }
}

/// An [`RwSpinLock`] held for writing.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RwWriteGuard<'a, T: ?Sized, C: Context> {
    lock: &'a RwSpinLock<T, C>,
    saved: ManuallyDrop<C::Saved>,
    not_send: PhantomData<*mut ()>,
}

impl<T: ?Sized, C: Context> Deref for RwWriteGuard<'_, T, C> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the writer is alone inside.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized, C: Context> DerefMut for RwWriteGuard<'_, T, C> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the writer is alone inside and the guard is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized, C: Context> Drop for RwWriteGuard<'_, T, C> {
    #[inline(always)]
    fn drop(&mut self) {
        lockdep::release(&self.lock.class, self.lock.address());
        self.lock.state.fetch_and(!WRITER, Ordering::Release);
        // SAFETY: `saved` is taken once, here.
        C::leave(unsafe { ManuallyDrop::take(&mut self.saved) });
    }
}
