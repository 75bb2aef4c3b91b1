//! Where the preemption word lives.

/// The count without the folded flag.
#[inline]
pub fn count() -> u32 {
    todo!()
}

/// Adds.
#[inline]
pub fn add(_n: u32) {
    todo!()
}

/// Subtracts; true if the count is now 0 and a reschedule is folded in.
#[inline]
pub fn sub_and_test(_n: u32) -> bool {
    todo!()
}

/// A reschedule is due.
#[inline]
pub fn set_folded() {
    todo!()
}

/// None is due.
#[inline]
pub fn clear_folded() {
    todo!()
}
