//! The register that tells CPUs apart: unused on the host, where per-CPU statics are arrays.

/// Distance from the per-CPU template to this CPU's copy.
#[inline]
#[allow(dead_code)]
pub fn offset() -> usize {
    0
}

/// Nothing to move.
///
/// # Safety
/// None needed.
#[allow(dead_code)]
pub unsafe fn set_offset(_offset: usize) {}
