//! The pointer that readers follow without a lock.
//!
//! [`RcuPtr`] holds an optional [`Arc`]. Readers prove with a [`RcuReadSide`] guard that the
//! grace period they run in has not ended; the borrow they get lives no longer than the guard.
//! A writer swaps the pointer and receives the old value as [`Retired`], which gives up its
//! reference only after a grace period: dropping a `Retired` hands it to the reclaimer that the
//! scheduler registers with [`set_reclaimer`]. Grace periods themselves belong to `sched::rcu`.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::once::Once;

/// A guard that holds back the end of the current RCU grace period.
///
/// # Safety
/// While a value of the type exists, no grace period that began before its creation may be
/// reported as ended.
pub unsafe trait RcuReadSide {}

// SAFETY: a borrowed guard exists.
unsafe impl<G: RcuReadSide + ?Sized> RcuReadSide for &G {}

/// Takes over `(value, release)`: `release(value)` must be called once, after a grace period.
pub type Reclaimer = fn(NonNull<()>, unsafe fn(NonNull<()>));

static RECLAIMER: Once<Reclaimer> = Once::new();

/// Registers who runs what [`Retired`] leaves behind. Until then retired values are leaked:
/// there is nobody who could know when the last reader is gone.
///
/// # Safety
/// `reclaimer` must call the function it is given only after a grace period for all
/// [`RcuReadSide`] guards of the program.
pub unsafe fn set_reclaimer(reclaimer: Reclaimer) {
    RECLAIMER.call_once(|| reclaimer);
}

/// An optional shared value that is read under RCU and replaced by writers.
pub struct RcuPtr<T> {
    /// From `Arc::into_raw`, or null.
    ptr: AtomicPtr<T>,
    owns: PhantomData<Option<Arc<T>>>,
}

// SAFETY: an `RcuPtr` is an `Arc` that can be swapped.
unsafe impl<T: Send + Sync> Send for RcuPtr<T> {}
// SAFETY: as above; readers share `&T`.
unsafe impl<T: Send + Sync> Sync for RcuPtr<T> {}

impl<T> RcuPtr<T> {
    /// An empty pointer.
    pub const fn empty() -> Self {
        Self { ptr: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// A pointer to `value`.
    pub fn new(value: Option<Arc<T>>) -> Self {
        Self { ptr: AtomicPtr::new(into_raw(value)), owns: PhantomData }
    }

    /// The value as it is now, for as long as the guard lives.
    #[inline(always)]
    pub fn load<'g>(&'g self, guard: &'g impl RcuReadSide) -> Option<&'g T> {
        let _ = guard;
        // Acquire pairs with the Release in `swap`: the value is seen initialised.
        // SAFETY: null or from an `Arc` whose count is given up only after a grace period,
        // which the guard holds back.
        unsafe { self.ptr.load(Ordering::Acquire).as_ref() }
    }

    /// A counted reference to the value as it is now.
    #[inline]
    pub fn load_arc(&self, guard: &impl RcuReadSide) -> Option<Arc<T>> {
        let _ = guard;
        let ptr = self.ptr.load(Ordering::Acquire);
        if ptr.is_null() {
            return None;
        }
        // SAFETY: as in `load`, the pointer's own count is still there, so the count is at
        // least one and may be raised.
        unsafe {
            Arc::increment_strong_count(ptr);
            Some(Arc::from_raw(ptr))
        }
    }

    /// Whether there is no value.
    pub fn is_none(&self) -> bool {
        self.ptr.load(Ordering::Relaxed).is_null()
    }

    /// The address of the value, for comparisons only.
    pub fn as_ptr(&self) -> *const T {
        self.ptr.load(Ordering::Relaxed)
    }

    /// The value, without synchronisation: the borrow proves that there are no readers.
    pub fn get_mut(&mut self) -> Option<&T> {
        // SAFETY: null or owned by this pointer.
        unsafe { self.ptr.get_mut().as_ref() }
    }

    /// Takes the value out of a pointer that nobody else can read.
    pub fn into_inner(mut self) -> Option<Arc<T>> {
        let ptr = core::mem::replace(self.ptr.get_mut(), ptr::null_mut());
        // SAFETY: null or from `Arc::into_raw`; ownership leaves the pointer.
        (!ptr.is_null()).then(|| unsafe { Arc::from_raw(ptr) })
    }
}

impl<T: Send + Sync + 'static> RcuPtr<T> {
    /// Publishes `value`. The old one is released after a grace period, when the returned
    /// [`Retired`] is dropped or reclaimed.
    pub fn replace(&self, value: Option<Arc<T>>) -> Retired<T> {
        let old = self.ptr.swap(into_raw(value), Ordering::AcqRel);
        Retired { ptr: NonNull::new(old), owns: PhantomData }
    }

    /// Publishes `value` if the pointer still shows `expected` (by address); otherwise gives
    /// `value` back.
    pub fn compare_replace(
        &self,
        expected: *const T,
        value: Option<Arc<T>>,
    ) -> Result<Retired<T>, Option<Arc<T>>> {
        let new = into_raw(value);
        match self.ptr.compare_exchange(expected.cast_mut(), new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(old) => Ok(Retired { ptr: NonNull::new(old), owns: PhantomData }),
            // SAFETY: `new` came from `into_raw` just above and was not published.
            Err(_) => Err((!new.is_null()).then(|| unsafe { Arc::from_raw(new) })),
        }
    }
}

fn into_raw<T>(value: Option<Arc<T>>) -> *mut T {
    value.map_or(ptr::null_mut(), |arc| Arc::into_raw(arc).cast_mut())
}

impl<T> Default for RcuPtr<T> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T> Drop for RcuPtr<T> {
    fn drop(&mut self) {
        let ptr = *self.ptr.get_mut();
        if !ptr.is_null() {
            // SAFETY: from `Arc::into_raw`; borrows from `load` do not outlive `self`, so
            // there are no readers left.
            drop(unsafe { Arc::from_raw(ptr) });
        }
    }
}

impl<T> fmt::Debug for RcuPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RcuPtr").field(&self.as_ptr()).finish()
    }
}

/// A value taken out of an [`RcuPtr`] that readers may still look at.
///
/// Dropping it is always right: the reference is released after a grace period.
#[must_use = "drop it explicitly where the grace period should begin"]
pub struct Retired<T: Send + Sync + 'static> {
    ptr: Option<NonNull<T>>,
    owns: PhantomData<Option<Arc<T>>>,
}

// SAFETY: it is an `Arc` in transit.
unsafe impl<T: Send + Sync + 'static> Send for Retired<T> {}

impl<T: Send + Sync + 'static> Retired<T> {
    /// Whether there was a value.
    pub fn is_some(&self) -> bool {
        self.ptr.is_some()
    }

    /// A counted reference to the retired value: it stays readable.
    pub fn arc(&self) -> Option<Arc<T>> {
        let ptr = self.ptr?.as_ptr();
        // SAFETY: this object owns one count of the `Arc`.
        unsafe {
            Arc::increment_strong_count(ptr);
            Some(Arc::from_raw(ptr))
        }
    }

    /// Gives the value back at once.
    ///
    /// # Safety
    /// A grace period must have passed since the value was replaced.
    pub unsafe fn reclaim(mut self) -> Option<Arc<T>> {
        // SAFETY: this object owns one count, which it gives away here.
        self.ptr.take().map(|ptr| unsafe { Arc::from_raw(ptr.as_ptr()) })
    }
}

impl<T: Send + Sync + 'static> Drop for Retired<T> {
    fn drop(&mut self) {
        /// # Safety
        /// `ptr` must own one count of an `Arc<T>`.
        unsafe fn release<T>(ptr: NonNull<()>) {
            // SAFETY: the caller's promise.
            drop(unsafe { Arc::from_raw(ptr.cast::<T>().as_ptr()) });
        }
        if let (Some(ptr), Some(reclaimer)) = (self.ptr, RECLAIMER.get()) {
            reclaimer(ptr.cast(), release::<T>);
        }
    }
}
