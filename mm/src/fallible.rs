//! Allocation that can fail, for what a user can bring about.
//!
//! [`try_box`] and the growth of vectors are `collections::fallible`'s; this module adds `Arc`, which stable Rust can only make infallibly.
//! [`try_arc`] first sees to it that the allocation cannot fail and then makes it: with preemption off, this CPU's
//! stash of the object's cache holds one (a load and a test: [`crate::slub`]). If it holds none, a block is
//! allocated, which may sleep or fail, and *parked* for the allocation to find. An interrupt that empties the stash
//! in between makes that allocation use the reserves.
//!
//! Where failure cannot be handled because half of something is done already, [`crate::context::NoFailScope`] makes allocations wait
//! instead; `clippy.toml` refuses infallible allocation everywhere else.
#![cfg_attr(
    not(target_os = "none"),
    allow(clippy::drop_non_drop, reason = "the guard is empty on the build machine")
)]

use crate::gfp::OutOfMemory;
use alloc::alloc::Layout;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::AtomicUsize;

pub use collections::fallible::{
    TryCollect, TryDeque, TryVec, try_box, try_format, try_into_boxed_slice, try_to_vec, try_vec,
    try_with_capacity,
};
pub use collections::sorted::SortedMap;

type Result<T> = core::result::Result<T, OutOfMemory>;

/// What an `Arc` of `contents` allocates: two counts in front of it.
const fn arc_layout(contents: Layout) -> Layout {
    match Layout::new::<[AtomicUsize; 2]>().extend(contents) {
        Ok((layout, _)) => layout.pad_to_align(),
        // Too large for the address space, as `contents` nearly is: no heap has that.
        Err(_) => contents,
    }
}

/// `Arc::new`.
///
/// # Errors
/// `OutOfMemory`; `value` is dropped then.
#[inline]
#[expect(clippy::disallowed_methods, reason = "the allocation has been committed to")]
pub fn try_arc<T>(value: T) -> Result<Arc<T>> {
    let committed = commit(const { arc_layout(Layout::new::<T>()) })?;
    let arc = Arc::new(value);
    drop(committed);
    Ok(arc)
}

/// `Arc::new(make())` for a value whose drop would do too much: with no memory `make` is not called. It runs with preemption off.
///
/// # Errors
/// `OutOfMemory`.
#[inline]
#[expect(clippy::disallowed_methods, reason = "the allocation has been committed to")]
pub fn try_arc_with<T>(make: impl FnOnce() -> T) -> Result<Arc<T>> {
    let committed = commit(const { arc_layout(Layout::new::<T>()) })?;
    let arc = Arc::new(make());
    drop(committed);
    Ok(arc)
}

/// `Arc::new_cyclic`.
///
/// # Errors
/// `OutOfMemory`; `make` is not called then.
#[inline]
#[expect(clippy::disallowed_methods, reason = "the allocation has been committed to")]
pub fn try_arc_cyclic<T>(make: impl FnOnce(&Weak<T>) -> T) -> Result<Arc<T>> {
    let committed = commit(const { arc_layout(Layout::new::<T>()) })?;
    Ok(Arc::new_cyclic(|me| {
        // The block is there; `make` may do what it likes.
        drop(committed);
        make(me)
    }))
}

/// `Arc::<[T]>::from`.
///
/// # Errors
/// `OutOfMemory`.
pub fn try_arc_slice<T: Copy>(slice: &[T]) -> Result<Arc<[T]>> {
    let committed = commit(arc_layout(Layout::for_value(slice)))?;
    let arc = Arc::from(slice);
    drop(committed);
    Ok(arc)
}

pub(crate) use imp::*;

/// On the build machine the heap is not ours; it does not fail.
#[cfg(not(target_os = "none"))]
mod imp {
    use super::*;

    pub(crate) struct Committed;

    #[inline]
    pub(crate) fn commit(_: Layout) -> Result<Committed> {
        Ok(Committed)
    }

    #[inline]
    pub(crate) fn take_parked(_: Layout) -> Option<core::ptr::NonNull<u8>> {
        None
    }

    #[inline]
    pub(crate) fn is_committed() -> bool {
        false
    }
}

#[cfg(target_os = "none")]
mod imp {
    use super::*;
    use crate::slub::kmalloc::cache_for;
    use crate::{heap, inject};
    use arch::preempt::PreemptGuard;
    use core::cell::Cell;
    use core::ptr::NonNull;

    /// What this CPU has promised.
    struct Promise {
        /// An allocation is about to be made that must not fail.
        made: Cell<bool>,
        /// A block for it.
        parked: Cell<Option<(NonNull<u8>, Layout)>>,
    }

    arch::per_cpu! {
        static PROMISE: Promise = Promise { made: Cell::new(false), parked: Cell::new(None) };
    }

    /// While it lives, one allocation of the layout on this CPU does not fail. Preemption is off.
    pub(crate) struct Committed {
        guard: PreemptGuard,
        slow: bool,
    }

    /// Makes sure of a block with this layout.
    #[inline]
    pub(crate) fn commit(layout: Layout) -> Result<Committed> {
        if inject::slab_fails(heap::context_gfp, layout.size()) {
            return Err(OutOfMemory);
        }
        if let Some(cache) = cache_for(layout.size(), layout.align()) {
            let guard = PreemptGuard::new();
            if cache.is_stocked(&guard) {
                PROMISE.get(&guard).made.set(true);
                return Ok(Committed { guard, slow: false });
            }
        }
        commit_slow(layout)
    }

    /// For the scheduler, which is below.
    pub(crate) struct Heap;

    impl sched::heap::Commit for Heap {
        fn commit(&self, layout: Layout) -> bool {
            commit(layout).map(core::mem::forget).is_ok()
        }

        fn done(&self) {
            let guard = PreemptGuard::new();
            let promise = PROMISE.get(&guard);
            promise.made.set(false);
            unpark(promise);
            drop(guard);
            // `commit` has forgotten a guard.
            arch::preempt::enable();
        }
    }

    #[cold]
    #[inline(never)]
    fn commit_slow(layout: Layout) -> Result<Committed> {
        let block = NonNull::new(heap::alloc_block(layout)).ok_or(OutOfMemory)?;
        let guard = PreemptGuard::new();
        let promise = PROMISE.get(&guard);
        promise.made.set(true);
        promise.parked.set(Some((block, layout)));
        Ok(Committed { guard, slow: true })
    }

    impl Drop for Committed {
        #[inline]
        fn drop(&mut self) {
            let promise = PROMISE.get(&self.guard);
            promise.made.set(false);
            if self.slow {
                unpark(promise);
            }
        }
    }

    /// Frees the block that was not needed, if it was not.
    fn unpark(promise: &Promise) {
        if let Some((block, layout)) = promise.parked.take() {
            // SAFETY: `commit_slow` took it, and the allocation did not.
            unsafe { heap::free_block(block, layout) };
        }
    }

    /// The heap has nothing: is there a block parked for this allocation?
    pub(crate) fn take_parked(layout: Layout) -> Option<NonNull<u8>> {
        if !is_committed() {
            return None;
        }
        let guard = PreemptGuard::new();
        let parked = &PROMISE.get(&guard).parked;
        match parked.get() {
            Some((block, of)) if of == layout => {
                parked.set(None);
                Some(block)
            }
            _ => None,
        }
    }

    /// Whether the running code was promised that its allocation does not fail. Interrupts were not.
    pub(crate) fn is_committed() -> bool {
        // With preemption on there is no promise, and no CPU to ask.
        arch::preempt::count() != 0
            && !arch::irq::in_interrupt()
            && PROMISE.get(&PreemptGuard::new()).made.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use std::alloc::{GlobalAlloc, System};

    std::thread_local! {
        static LAST: Cell<Option<Layout>> = const { Cell::new(None) };
    }

    struct Watching;

    // SAFETY: the system's allocator.
    unsafe impl GlobalAlloc for Watching {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            LAST.set(Some(layout));
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(ptr, layout) }
        }
    }

    #[global_allocator]
    static HEAP: Watching = Watching;

    /// The promise is only kept if the standard library allocates what is expected.
    fn check<T>(value: T) {
        LAST.set(None);
        let arc = try_arc(value).unwrap();
        assert_eq!(LAST.take(), Some(arc_layout(Layout::new::<T>())));
        drop(arc);
    }

    #[repr(align(64))]
    struct Aligned(#[allow(dead_code)] [u8; 70]);

    #[test]
    fn an_arc_allocates_what_was_promised() {
        check(1u8);
        check(());
        check([0u64; 33]);
        check(Aligned([0; 70]));
        check(u128::MAX);
        LAST.set(None);
        let slice = try_arc_slice(b"seventeen bytes !").unwrap();
        assert_eq!(LAST.take(), Some(arc_layout(Layout::for_value(&*slice))));
        LAST.set(None);
        let mut seen = None;
        let cyclic = try_arc_cyclic(|me: &Weak<u32>| {
            seen = LAST.take();
            assert!(me.upgrade().is_none());
            5
        });
        assert_eq!((*cyclic.unwrap(), seen), (5, Some(arc_layout(Layout::new::<u32>()))));
        assert!(LAST.take().is_none());
    }
}
