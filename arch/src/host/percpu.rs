//! The register that tells CPUs apart: unused on the host, where per-CPU statics are arrays.

/// Distance from the per-CPU template to this CPU's copy.
#[inline]
pub fn offset() -> usize {
    0
}

/// Nothing to move.
///
/// # Safety
/// None needed.
pub unsafe fn set_offset(_offset: usize) {}
