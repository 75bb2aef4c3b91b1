//! What the scheduler needs of the heap above it, and what its callers tell the heap.

use abi::{Errno, Result};
use alloc::alloc::Layout;
use alloc::sync::Arc;
use arch::thread::{ThreadFlags, current_ref};
use core::marker::PhantomData;
use core::sync::atomic::AtomicUsize;
use sync::Once;

/// The heap's promise that an allocation succeeds; the memory manager implements it.
pub trait Commit: Sync {
    /// Switches preemption off and returns true if the next allocation of this layout will succeed; false (with preemption as it was)
    /// if there is no memory for it.
    fn commit(&self, layout: Layout) -> bool;
    /// The allocation has been made: ends the promise and switches preemption on.
    fn done(&self);
}

static HEAP: Once<&'static dyn Commit> = Once::new();

/// Registers the heap. Until then nothing fails but by ending the kernel.
pub fn set_heap(heap: &'static dyn Commit) {
    HEAP.call_once(|| heap);
}

/// `Arc::new`, or `ENOMEM`. (Above the memory manager: `mm::fallible::try_arc`.)
#[expect(clippy::disallowed_methods, reason = "the allocation has been committed to")]
pub(crate) fn try_arc<T>(value: T) -> Result<Arc<T>> {
    let Some(heap) = HEAP.get() else { return Ok(Arc::new(value)) };
    let (layout, _) =
        Layout::new::<[AtomicUsize; 2]>().extend(Layout::new::<T>()).map_err(|_| Errno::ENOMEM)?;
    if !heap.commit(layout.pad_to_align()) {
        return Err(Errno::ENOMEM);
    }
    let arc = Arc::new(value);
    heap.done();
    Ok(arc)
}

/// While it lives, small allocations of the running thread wait for memory, or with preemption off use the reserves, rather than fail.
/// For changes that cannot be undone half way, when their allocations cannot be made beforehand.
#[must_use]
pub struct NoFailScope {
    /// It was this scope that set the flag.
    set: bool,
    _not_send: PhantomData<*mut ()>,
}

impl NoFailScope {
    /// Opens the scope; it ends when the value is dropped. Nests.
    pub fn enter() -> Self {
        let was_set = current_ref().flags().set(ThreadFlags::MEMALLOC_NOFAIL);
        Self { set: !was_set, _not_send: PhantomData }
    }
}

impl Drop for NoFailScope {
    fn drop(&mut self) {
        if self.set {
            current_ref().flags().clear(ThreadFlags::MEMALLOC_NOFAIL);
        }
    }
}
