//! Data of one CPU that its interrupt handlers use too, without switching interrupts off.
//!
//! The owner runs with preemption off and raises a flag while it is inside; an interrupt that finds the flag raised
//! keeps out and takes its slow path. Two plain stores instead of masking interrupts.

use arch::preempt::PreemptOff;
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{Ordering, compiler_fence};

/// A value of one CPU.
pub(crate) struct Local<T> {
    busy: Cell<bool>,
    value: UnsafeCell<T>,
}

impl<T> Local<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { busy: Cell::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `f` on the value; `None` if the code that was interrupted is inside already.
    ///
    /// # Safety
    /// `self` belongs to the current CPU (`_here` shows that it stays so), and no other CPU touches it.
    #[inline(always)]
    pub(crate) unsafe fn with<G: PreemptOff, R>(&self, _here: &G, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.busy.get() {
            return None;
        }
        self.busy.set(true);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: only this CPU touches the value (caller), and the flag keeps the interrupts of this CPU out.
        let result = f(unsafe { &mut *self.value.get() });
        compiler_fence(Ordering::SeqCst);
        self.busy.set(false);
        Some(result)
    }
}

// SAFETY: other CPUs hold references but do not touch the contents (contract of `with`).
unsafe impl<T> Sync for Local<T> {}
