//! What a device can do: sizes, alignments, features. `/sys/block/DISK/queue` shows them under the same names (Linux's
//! `Documentation/ABI/stable/sysfs-block`).

use abi::{Errno, Result};
use bitflags::bitflags;

use crate::bio::{Op, SECTOR_SHIFT, SECTOR_SIZE};

/// The largest block that a device may have, in bytes.
pub const MAX_BLOCK_SIZE: u32 = 4096;
/// What a request carries at most unless the device or the user says otherwise, in sectors: 1280 KiB.
const DEFAULT_MAX_SECTORS: u32 = 2560;

bitflags! {
    /// What a device is like.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Features: u32 {
        /// It may lose what it has taken but not flushed.
        const WRITE_CACHE = 1 << 0;
        /// It can write past its cache.
        const FUA = 1 << 1;
        /// Seeking costs time.
        const ROTATIONAL = 1 << 2;
        /// Data may not change while it is being written.
        const STABLE_WRITES = 1 << 3;
        /// The ends of its transfers are random.
        const ADD_RANDOM = 1 << 4;
        /// Transfers are counted.
        const IO_STAT = 1 << 5;
        /// It never sleeps on submission if told not to.
        const NOWAIT = 1 << 6;
        /// Its ends can be polled for.
        const POLL = 1 << 7;
        /// The user wants it to be taken for one without a write cache.
        const CACHE_OFF = 1 << 8;
        /// The user wants bios not to be joined with requests that wait.
        const NO_MERGES = 1 << 9;
    }
}

/// What a device can do. All sizes in bytes but where the name says sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The smallest unit that can be addressed.
    pub logical_block_size: u32,
    /// The smallest unit that is written without reading first.
    pub physical_block_size: u32,
    /// The smallest good transfer.
    pub io_min: u32,
    /// The best transfer; 0: none is better.
    pub io_opt: u32,
    /// What a request may carry, in sectors, as the device has it.
    pub max_hw_sectors: u32,
    /// What a request carries, in sectors, as the user wants it; not more than `max_hw_sectors`.
    pub max_sectors: u32,
    /// Pieces of memory of a request.
    pub max_segments: u16,
    /// The length of each.
    pub max_segment_size: u32,
    /// No piece crosses a multiple of this plus one.
    pub seg_boundary_mask: u64,
    /// Between pieces there are no gaps within multiples of this plus one; 0: any.
    pub virt_boundary_mask: u64,
    /// Memory begins at multiples of this plus one.
    pub dma_alignment: u32,
    /// No request crosses a multiple of so many sectors; 0: any may.
    pub chunk_sectors: u32,
    /// What one discard may cover, in sectors; 0: there is no discard.
    pub max_discard_sectors: u32,
    /// The smallest discard that frees anything.
    pub discard_granularity: u32,
    /// Ranges of one discard command.
    pub max_discard_segments: u16,
    /// What one secure erase may cover, in sectors; 0: there is none.
    pub max_secure_erase_sectors: u32,
    /// What one write-zeroes command may cover, in sectors; 0: there is none.
    pub max_write_zeroes_sectors: u32,
    /// See there.
    pub features: Features,
}

impl Default for Limits {
    /// Those of a plain device with blocks of 512 bytes.
    fn default() -> Self {
        Self {
            logical_block_size: 512,
            physical_block_size: 0,
            io_min: 0,
            io_opt: 0,
            max_hw_sectors: 255,
            max_sectors: 0,
            max_segments: 128,
            max_segment_size: 65536,
            seg_boundary_mask: 0xffff_ffff,
            virt_boundary_mask: 0,
            dma_alignment: 511,
            chunk_sectors: 0,
            max_discard_sectors: 0,
            discard_granularity: 0,
            max_discard_segments: 1,
            max_secure_erase_sectors: 0,
            max_write_zeroes_sectors: 0,
            features: Features::IO_STAT,
        }
    }
}

impl Limits {
    /// Fills in what a driver left open (0), and sees to it that all fits together: what the rest of this crate relies on.
    ///
    /// # Errors
    /// `EINVAL` if it does not.
    pub fn validated(mut self) -> Result<Self> {
        let block = self.logical_block_size;
        let power = |n: u32| n.is_power_of_two();
        if !power(block) || !(SECTOR_SIZE as u32..=MAX_BLOCK_SIZE).contains(&block) {
            return Err(Errno::EINVAL);
        }
        let sectors = block >> SECTOR_SHIFT;
        self.physical_block_size = self.physical_block_size.max(block);
        self.io_min = self.io_min.max(self.physical_block_size);
        if !power(self.physical_block_size) {
            return Err(Errno::EINVAL);
        }
        // Whole blocks, and a length in bytes that a u32 holds.
        self.max_hw_sectors = self.max_hw_sectors.min(u32::MAX >> SECTOR_SHIFT) / sectors * sectors;
        if self.max_hw_sectors < sectors || self.max_segments == 0 {
            return Err(Errno::EINVAL);
        }
        let wanted = if self.max_sectors == 0 { DEFAULT_MAX_SECTORS } else { self.max_sectors };
        self.max_sectors = (wanted.min(self.max_hw_sectors) / sectors * sectors).max(sectors);
        if self.virt_boundary_mask != 0 {
            // Pieces end at the boundary anyway.
            self.max_segment_size = u32::MAX;
        }
        // A block always fits into a piece.
        let whole = |mask: u64| (mask.wrapping_add(1)).is_power_of_two() || mask == u64::MAX;
        if self.max_segment_size < MAX_BLOCK_SIZE
            || self.seg_boundary_mask < u64::from(MAX_BLOCK_SIZE) - 1
            || !whole(self.seg_boundary_mask)
            || !whole(self.virt_boundary_mask)
            || !power(self.dma_alignment.wrapping_add(1))
        {
            return Err(Errno::EINVAL);
        }
        if self.chunk_sectors != 0 && !self.chunk_sectors.is_multiple_of(sectors) {
            return Err(Errno::EINVAL);
        }
        for most in [
            &mut self.max_discard_sectors,
            &mut self.max_secure_erase_sectors,
            &mut self.max_write_zeroes_sectors,
        ] {
            *most = (*most).min(u32::MAX >> SECTOR_SHIFT) / sectors * sectors;
        }
        if self.max_discard_sectors != 0 {
            self.discard_granularity = self.discard_granularity.max(block);
            self.max_discard_segments = self.max_discard_segments.max(1);
        }
        if !self.features.contains(Features::WRITE_CACHE) {
            self.features.remove(Features::FUA);
        }
        Ok(self)
    }

    /// How many bytes one request of this kind that begins at `sector` may cover; 0: the device has no such operation.
    #[must_use]
    pub fn max_bytes(&self, op: Op, sector: u64) -> u64 {
        let sectors = u64::from(match op {
            Op::Read | Op::Write => self.max_sectors,
            Op::Flush => return 0,
            Op::Discard => self.max_discard_sectors,
            Op::SecureErase => self.max_secure_erase_sectors,
            Op::WriteZeroes => self.max_write_zeroes_sectors,
        });
        let chunk = u64::from(self.chunk_sectors);
        let to_boundary = if chunk == 0 || !op.has_data() { u64::MAX } else { chunk - sector % chunk };
        sectors.min(to_boundary) << SECTOR_SHIFT
    }

    /// How many bytes may follow at `phys` in a piece that has `len` bytes so far.
    pub(crate) fn segment_room(&self, phys: u64, len: u32) -> u32 {
        let to_boundary = (self.seg_boundary_mask - (phys & self.seg_boundary_mask)).saturating_add(1);
        // The boundary itself begins a new piece.
        if len > 0 && phys & self.seg_boundary_mask == 0 {
            return 0;
        }
        (self.max_segment_size - len.min(self.max_segment_size))
            .min(u32::try_from(to_boundary).unwrap_or(u32::MAX))
    }

    /// Whether a device that cannot have gaps would see one between a piece that ends at `end` and one that begins at `next`.
    #[inline]
    pub(crate) fn is_gap(&self, end: u64, next: u64) -> bool {
        (end | next) & self.virt_boundary_mask != 0
    }

    /// Whether the device may lose what it has not flushed.
    #[inline]
    #[must_use]
    pub fn has_write_cache(&self) -> bool {
        self.features & (Features::WRITE_CACHE | Features::CACHE_OFF) == Features::WRITE_CACHE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_filled_in() {
        let limits = Limits { logical_block_size: 4096, max_hw_sectors: 1001, ..Limits::default() }
            .validated()
            .unwrap();
        assert_eq!((limits.physical_block_size, limits.io_min), (4096, 4096));
        assert_eq!((limits.max_hw_sectors, limits.max_sectors), (1000, 1000));
        let large = Limits { max_hw_sectors: u32::MAX, ..Limits::default() }.validated().unwrap();
        assert_eq!((large.max_hw_sectors, large.max_sectors), (u32::MAX >> 9, 2560));
        // A user who wants less than a block gets a block.
        let small =
            Limits { max_sectors: 1, logical_block_size: 2048, ..Limits::default() }.validated().unwrap();
        assert_eq!(small.max_sectors, 4);
    }

    #[test]
    fn nonsense_is_refused() {
        let plain = Limits::default;
        for wrong in [
            Limits { logical_block_size: 256, ..plain() },
            Limits { logical_block_size: 8192, ..plain() },
            Limits { logical_block_size: 1536, ..plain() },
            Limits { physical_block_size: 5000, ..plain() },
            Limits { max_hw_sectors: 0, ..plain() },
            Limits { max_hw_sectors: 7, logical_block_size: 4096, ..plain() },
            Limits { max_segments: 0, ..plain() },
            Limits { max_segment_size: 512, ..plain() },
            Limits { seg_boundary_mask: 511, ..plain() },
            Limits { seg_boundary_mask: 0x1_0000, ..plain() },
            Limits { virt_boundary_mask: 4096, ..plain() },
            Limits { dma_alignment: 512, ..plain() },
            Limits { chunk_sectors: 9, logical_block_size: 4096, ..plain() },
        ] {
            assert_eq!(wrong.validated().unwrap_err(), Errno::EINVAL, "{wrong:?}");
        }
    }

    #[test]
    fn chunks_bound_transfers_of_data() {
        let limits =
            Limits { chunk_sectors: 64, max_sectors: 100, max_discard_sectors: 1000, ..Limits::default() }
                .validated()
                .unwrap();
        assert_eq!(limits.max_bytes(Op::Write, 0), 64 * 512);
        assert_eq!(limits.max_bytes(Op::Read, 60), 4 * 512);
        assert_eq!(limits.max_bytes(Op::Discard, 60), 1000 * 512);
        assert_eq!(limits.max_bytes(Op::WriteZeroes, 0), 0);
    }
}
