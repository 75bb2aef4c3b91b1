//! Kernel stacks: 16 KiB of vmalloc, so that an unmapped guard page lies below (the previous area's) and above each.
//!
//! Two freed stacks per CPU are kept: the next fork takes one that is warm and mapped. A stack freed with preemption off
//! (always: by the scheduler, after the switch away) only changes hands here.

use crate::gfp::{Gfp, Order};
use crate::local::Local;
use crate::page_alloc;
use crate::stats::{self, Item};
use crate::vmalloc;
use arch::addr::{VirtAddr, virt_to_phys};
use arch::layout::KERNEL_STACK_SIZE;
use arch::preempt::PreemptGuard;
use core::ptr::NonNull;

/// Stacks kept per CPU.
const KEPT: usize = 2;

struct Kept {
    stacks: [Option<NonNull<u8>>; KEPT],
}

arch::per_cpu! {
    static CACHE: Local<Kept> = Local::new(Kept { stacks: [None; KEPT] });
}

/// Bytes of a stack.
pub const STACK_SIZE: usize = KERNEL_STACK_SIZE;

fn order() -> Order {
    Order::for_size(STACK_SIZE).unwrap_or(Order::MAX)
}

/// A stack; its lowest address.
pub fn alloc() -> Option<NonNull<u8>> {
    let guard = PreemptGuard::new();
    // SAFETY: the copy of this CPU, and preemption is off.
    let kept =
        unsafe { CACHE.get(&guard).with(&guard, |kept| kept.stacks.iter_mut().find_map(Option::take)) };
    drop(guard);
    if let Some(Some(stack)) = kept {
        return Some(stack);
    }
    let gfp = crate::context::gfp_here();
    let stack = if vmalloc::is_up() {
        vmalloc::alloc(STACK_SIZE, gfp).ok()?
    } else {
        let frame = page_alloc::alloc_pages(gfp & !Gfp::HIGH, order()).ok()?;
        let stack = NonNull::new(frame.as_ptr());
        frame.into_raw();
        stack?
    };
    stats::add(Item::KernelStackKb, (STACK_SIZE >> 10) as isize);
    Some(stack)
}

/// Takes a stack back.
///
/// # Safety
/// `stack` came from [`alloc`] and nothing runs on it any more.
pub unsafe fn free(stack: NonNull<u8>) {
    let guard = PreemptGuard::new();
    // SAFETY: the copy of this CPU, and preemption is off.
    let kept = unsafe {
        CACHE.get(&guard).with(&guard, |kept| {
            let slot = kept.stacks.iter_mut().find(|s| s.is_none());
            slot.map(|slot| *slot = Some(stack)).is_some()
        })
    };
    drop(guard);
    if kept == Some(true) {
        return;
    }
    stats::add(Item::KernelStackKb, -((STACK_SIZE >> 10) as isize));
    if vmalloc::contains(stack.as_ptr()) {
        // SAFETY: the caller's promise.
        unsafe { vmalloc::free(stack.as_ptr()) };
    } else {
        let pfn = virt_to_phys(VirtAddr(stack.as_ptr().addr())).pfn();
        // SAFETY: `alloc` took this block from the page allocator.
        drop(unsafe { crate::folio::Frame::from_raw(pfn, order()) });
    }
}

/// What the scheduler takes its stacks from.
pub(crate) struct Stacks;

impl sched::stack::StackSource for Stacks {
    fn alloc(&self) -> Option<NonNull<u8>> {
        alloc()
    }

    unsafe fn free(&self, base: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { free(base) };
    }
}

/// Whether a faulting address lies in the guard page next to a stack that begins at `base`: for the message of the double fault.
pub fn is_guard_hit(base: VirtAddr, address: VirtAddr) -> bool {
    let below = base.0.wrapping_sub(arch::addr::PAGE_SIZE);
    (below..base.0).contains(&address.0)
}
