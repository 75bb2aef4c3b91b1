//! Where things are in the memory that a ring shares with its user.
//!
//! One area holds both rings: words that one side writes and the other reads, each head and tail in a cache line of its own, then
//! the completions, then (unless `IORING_SETUP_NO_SQARRAY`) the array of indices of the submission ring. The second area holds the
//! submissions. The user learns the offsets from `io_uring_setup(2)`; programs in the wild also know them by heart, so they are
//! Linux's.

use abi::io_uring::{Params, RingOffsets, raw};

/// Consumed by the kernel up to here.
pub const SQ_HEAD: usize = 0;
/// Filled by the user up to here.
pub const SQ_TAIL: usize = 64;
/// Consumed by the user up to here.
pub const CQ_HEAD: usize = 128;
/// Filled by the kernel up to here.
pub const CQ_TAIL: usize = 192;
const SQ_MASK: usize = 256;
const CQ_MASK: usize = 260;
const SQ_ENTRIES: usize = 264;
const CQ_ENTRIES: usize = 268;
/// Invalid indices seen.
pub const SQ_DROPPED: usize = 272;
/// `IORING_SQ_*`, written by the kernel.
pub const SQ_FLAGS: usize = 276;
/// `IORING_CQ_*`, written by the user.
pub const CQ_FLAGS: usize = 280;
/// Completions that were lost for want of memory.
pub const CQ_OVERFLOW: usize = 284;
const CQES: usize = 320;

/// Most submissions of a ring.
pub const MAX_ENTRIES: u32 = 32768;
/// Most completions.
pub const MAX_CQ_ENTRIES: u32 = 2 * MAX_ENTRIES;

/// Sizes of one ring.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Slots for submissions; a power of two.
    pub sq_entries: u32,
    /// Slots for completions; a power of two.
    pub cq_entries: u32,
    /// Logarithm of the bytes of a completion.
    cqe_shift: u32,
    /// Logarithm of the bytes of a submission.
    sqe_shift: u32,
    /// Offset of the array of indices.
    array: Option<usize>,
    /// Bytes of the area of both rings.
    pub rings_len: usize,
}

impl Layout {
    /// The layout for these sizes and `IORING_SETUP_*` flags.
    pub fn new(sq_entries: u32, cq_entries: u32, flags: u32) -> Self {
        let cqe_shift = if flags & raw::IORING_SETUP_CQE32 != 0 { 5 } else { 4 };
        let sqe_shift = if flags & raw::IORING_SETUP_SQE128 != 0 { 7 } else { 6 };
        let end = CQES + ((cq_entries as usize) << cqe_shift);
        let array = (flags & raw::IORING_SETUP_NO_SQARRAY == 0).then_some(end);
        let rings_len = end + array.map_or(0, |_| 4 * sq_entries as usize);
        Self { sq_entries, cq_entries, cqe_shift, sqe_shift, array, rings_len }
    }

    /// Bytes of the submissions.
    pub fn sqes_len(&self) -> usize {
        (self.sq_entries as usize) << self.sqe_shift
    }

    /// Offset of the index in slot `head` of the submission ring, if there is an array.
    #[inline]
    pub fn index(&self, head: u32) -> Option<usize> {
        self.array.map(|array| array + 4 * (head & (self.sq_entries - 1)) as usize)
    }

    /// Offset of submission `index` in their area.
    #[inline]
    pub fn sqe(&self, index: u32) -> usize {
        (index as usize) << self.sqe_shift
    }

    /// Offset of the completion in slot `tail`.
    #[inline]
    pub fn cqe(&self, tail: u32) -> usize {
        CQES + (((tail & (self.cq_entries - 1)) as usize) << self.cqe_shift)
    }

    /// Completions from slot `tail` to the end of the ring.
    #[inline]
    pub fn cqes_to_end(&self, tail: u32) -> usize {
        (self.cq_entries - (tail & (self.cq_entries - 1))) as usize
    }

    /// Whether completions have 16 bytes more.
    #[inline]
    pub fn has_big_cqes(&self) -> bool {
        self.cqe_shift == 5
    }

    /// Writes what never changes.
    pub fn write_constants(&self, rings: &mm::SharedRing) {
        rings.store(SQ_MASK, self.sq_entries - 1);
        rings.store(CQ_MASK, self.cq_entries - 1);
        rings.store(SQ_ENTRIES, self.sq_entries);
        rings.store(CQ_ENTRIES, self.cq_entries);
    }

    /// Tells the user.
    pub fn describe(&self, params: &mut Params) {
        params.sq_entries = self.sq_entries;
        params.cq_entries = self.cq_entries;
        // The address of user memory stays as it was given.
        let (sq_addr, cq_addr) = (params.sq_off.user_addr, params.cq_off.user_addr);
        params.sq_off = RingOffsets {
            head: SQ_HEAD as u32,
            tail: SQ_TAIL as u32,
            ring_mask: SQ_MASK as u32,
            ring_entries: SQ_ENTRIES as u32,
            fifth: SQ_FLAGS as u32,
            sixth: SQ_DROPPED as u32,
            seventh: self.array.unwrap_or(0) as u32,
            resv1: 0,
            user_addr: sq_addr,
        };
        params.cq_off = RingOffsets {
            head: CQ_HEAD as u32,
            tail: CQ_TAIL as u32,
            ring_mask: CQ_MASK as u32,
            ring_entries: CQ_ENTRIES as u32,
            fifth: CQ_OVERFLOW as u32,
            sixth: CQES as u32,
            seventh: CQ_FLAGS as u32,
            resv1: 0,
            user_addr: cq_addr,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_follow_each_other() {
        let plain = Layout::new(8, 16, 0);
        assert_eq!(plain.cqe(0), 320);
        assert_eq!(plain.cqe(17), 336);
        assert_eq!(plain.index(0), Some(320 + 256));
        assert_eq!(plain.index(9), Some(320 + 256 + 4));
        assert_eq!(plain.rings_len, 320 + 256 + 32);
        let big = Layout::new(
            8,
            16,
            raw::IORING_SETUP_CQE32 | raw::IORING_SETUP_SQE128 | raw::IORING_SETUP_NO_SQARRAY,
        );
        assert_eq!(big.cqe(1), 352);
        assert_eq!(big.sqe(1), 128);
        assert_eq!(big.index(0), None);
        assert_eq!(big.rings_len, 320 + 512);
    }
}
