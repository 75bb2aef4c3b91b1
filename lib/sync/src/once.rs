//! Values that are written once and read for ever after.

use core::cell::UnsafeCell;
use core::fmt;
use core::hint::spin_loop;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::sync::atomic::{AtomicU8, Ordering};

const EMPTY: u8 = 0;
const RUNNING: u8 = 1;
const READY: u8 = 2;

/// A cell that is filled at most once. Reading a filled one is a load and a compare.
pub struct Once<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value moves in from one CPU and may be dropped on another.
unsafe impl<T: Send> Send for Once<T> {}
// SAFETY: after `READY` the value is only shared; before, only one CPU touches it.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        Self { state: AtomicU8::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The value, if there is one already.
    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        // Acquire pairs with the Release in `try_init`.
        if self.state.load(Ordering::Acquire) == READY {
            // SAFETY: READY is set after the value was written and never taken back.
            Some(unsafe { (*self.value.get()).assume_init_ref() })
        } else {
            None
        }
    }

    /// Whether the cell is filled.
    pub fn is_completed(&self) -> bool {
        self.state.load(Ordering::Acquire) == READY
    }

    /// Fills the cell with `f()` unless it is filled; callers that lose the race spin until the
    /// winner is done. `f` must not come back to the same cell.
    pub fn call_once(&self, f: impl FnOnce() -> T) -> &T {
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            if self.state.compare_exchange(EMPTY, RUNNING, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                let undo = Undo(&self.state);
                let value = f();
                core::mem::forget(undo);
                // SAFETY: RUNNING makes this CPU the only one that touches the value.
                let value = unsafe { (*self.value.get()).write(value) };
                self.state.store(READY, Ordering::Release);
                return value;
            }
            spin_loop();
        }
    }

    /// Fills the cell, or gives the value back if it was filled before.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.call_once(|| value.take().expect("called once"));
        match value {
            None => Ok(()),
            Some(value) => Err(value),
        }
    }

    /// The value, without synchronisation: the borrow proves that nobody else can see it.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if *self.state.get_mut() == READY {
            // SAFETY: READY says that the value is there.
            Some(unsafe { self.value.get_mut().assume_init_mut() })
        } else {
            None
        }
    }
}

/// Reopens the cell when the initialiser unwinds (only possible in tests).
struct Undo<'a>(&'a AtomicU8);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.0.store(EMPTY, Ordering::Release);
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == READY {
            // SAFETY: READY says that the value is there; it is dropped once, here.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.get()).finish()
    }
}

/// A value that is made at its first use.
pub struct Lazy<T, F = fn() -> T> {
    cell: Once<T>,
    init: F,
}

impl<T, F: Fn() -> T> Lazy<T, F> {
    /// A value that `init` makes when it is first needed.
    pub const fn new(init: F) -> Self {
        Self { cell: Once::new(), init }
    }
}

impl<T, F: Fn() -> T> Deref for Lazy<T, F> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        match self.cell.get() {
            Some(value) => value,
            None => self.cell.call_once(&self.init),
        }
    }
}

impl<T: fmt::Debug, F> fmt::Debug for Lazy<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(f)
    }
}
