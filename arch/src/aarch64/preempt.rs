//! The preemption word, in the running thread: the count in the low half, "no reschedule due" in the high half, so that
//! the whole is zero exactly when the thread may be preempted and should be.
//!
//! Only the running thread (and interrupt handlers above it, which leave the count as they found it) changes its word,
//! so plain loads and stores suffice. The folded flag is cleared by this CPU only, too: other CPUs set the thread's flag
//! and send an IPI.

use core::ptr;

use super::thread;

/// High half: set while no reschedule is due.
pub const NO_RESCHED: u64 = 1 << 32;

#[inline(always)]
fn word() -> *mut u64 {
    // SAFETY: the current thread is live; only the field's address is taken.
    unsafe { &raw mut (*thread::current().as_ptr()).preempt }
}

#[inline(always)]
fn half(index: usize) -> *mut u32 {
    word().cast::<u32>().wrapping_add(index)
}

/// The count.
#[inline(always)]
pub fn count() -> u32 {
    // SAFETY: the word of the current thread; volatile, because interrupt handlers use it too.
    unsafe { ptr::read_volatile(half(0)) }
}

/// Adds to the count.
#[inline(always)]
pub fn add(n: u32) {
    // SAFETY: as for `count`; an interrupt in between restores the count before it returns. Only the low half is
    // written, so a flag that the interrupt folds into the high half stays.
    unsafe { ptr::write_volatile(half(0), ptr::read_volatile(half(0)).wrapping_add(n)) };
}

/// Takes from the count; whether it is zero now and a reschedule is due.
#[inline(always)]
pub fn sub_and_test(n: u32) -> bool {
    // SAFETY: as for `add`.
    unsafe {
        ptr::write_volatile(half(0), ptr::read_volatile(half(0)).wrapping_sub(n));
        ptr::read_volatile(word()) == 0
    }
}

/// A reschedule is due.
#[inline(always)]
pub fn set_folded() {
    // SAFETY: as for `add`.
    unsafe { ptr::write_volatile(half(1), 0) };
}

/// No reschedule is due.
#[inline(always)]
pub fn clear_folded() {
    // SAFETY: as for `add`.
    unsafe { ptr::write_volatile(half(1), 1) };
}

/// Whether the current code may be preempted and should be.
#[inline(always)]
pub fn due() -> bool {
    // SAFETY: as for `count`.
    unsafe { ptr::read_volatile(word()) == 0 }
}
