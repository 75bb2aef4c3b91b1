//! Kernel stacks, as the scheduler needs them: a range with an owner who takes it back.

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;

use arch::addr::VirtAddr;
use sync::Once;

/// Bytes of a kernel stack.
pub const STACK_SIZE: usize = 16 * 1024;

/// Where kernel stacks come from: the memory manager implements it with guard pages and a cache of
/// recently freed stacks.
pub trait StackSource: Sync {
    /// A stack of [`STACK_SIZE`] bytes; its lowest address.
    fn alloc(&self) -> Option<NonNull<u8>>;
    /// Takes a stack back. Called with preemption off.
    ///
    /// # Safety
    /// `base` came from [`Self::alloc`] and nothing runs on it any more.
    unsafe fn free(&self, base: NonNull<u8>);
}

static SOURCE: Once<&'static dyn StackSource> = Once::new();

/// Registers where stacks come from. Stacks made before it come from the heap.
pub fn set_stack_source(source: &'static dyn StackSource) {
    SOURCE.call_once(|| source);
}

/// An owned kernel stack.
#[derive(Debug)]
pub struct Stack {
    base: NonNull<u8>,
    from_heap: bool,
}

// SAFETY: a stack is a range of memory with one owner.
unsafe impl Send for Stack {}

const HEAP_LAYOUT: Layout = match Layout::from_size_align(STACK_SIZE, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("a stack's layout is valid"),
};

impl Stack {
    /// A fresh stack; `None` without memory.
    pub fn new() -> Option<Self> {
        if let Some(source) = SOURCE.get() {
            return source.alloc().map(|base| Self { base, from_heap: false });
        }
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc(HEAP_LAYOUT) })?;
        Some(Self { base, from_heap: true })
    }

    /// The end of the stack: where it begins to grow down from.
    pub fn top(&self) -> VirtAddr {
        VirtAddr(self.base.as_ptr().expose_provenance() + STACK_SIZE)
    }

    /// The lowest address.
    pub fn base(&self) -> VirtAddr {
        VirtAddr(self.base.as_ptr().expose_provenance())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.from_heap {
            // SAFETY: allocated in `new` with the same layout.
            unsafe { dealloc(self.base.as_ptr(), HEAP_LAYOUT) };
        } else if let Some(source) = SOURCE.get() {
            // SAFETY: it came from this source, and the owner of a `Stack` drops it only when
            // nothing runs on it (after the switch away from its task).
            unsafe { source.free(self.base) };
        }
    }
}
