//! Walks of the frame-pointer chain on kernel stacks.

/// The caller's frame pointer.
#[inline(always)]
pub fn frame_pointer() -> usize {
    0
}

/// Calls `f` with return addresses, innermost first, until the chain ends, looks broken, or `f` returns false.
pub fn frames(_fp: usize, _f: impl FnMut(usize) -> bool) {}

/// The word of kernel memory at `addr`: there is none.
pub fn load(_addr: usize) -> Option<usize> {
    None
}
