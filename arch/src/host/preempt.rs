//! The preemption word: one per OS thread; while it is not 0, the thread occupies its virtual CPU.

use super::hosted;

/// The count without the folded flag.
#[inline]
pub fn count() -> u32 {
    hosted::count()
}

/// Adds.
#[inline]
pub fn add(n: u32) {
    hosted::count_add(n);
}

/// Subtracts; true if the count is now 0 and a reschedule is folded in.
#[inline]
pub fn sub_and_test(n: u32) -> bool {
    hosted::count_sub(n)
}

/// A reschedule is due.
#[inline]
pub fn set_folded() {
    hosted::set_folded(true);
}

/// None is due.
#[inline]
pub fn clear_folded() {
    hosted::set_folded(false);
}
