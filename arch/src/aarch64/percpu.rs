//! The register that tells CPUs apart. (Unused on the host.)

/// Distance from the per-CPU template to this CPU's copy.
#[inline]
pub fn offset() -> usize {
    todo!()
}

/// Moves this CPU onto a copy.
///
/// # Safety
/// `offset` leads to a valid copy that belongs to this CPU.
pub unsafe fn set_offset(_offset: usize) {
    todo!()
}
