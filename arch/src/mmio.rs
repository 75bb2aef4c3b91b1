//! Device registers: mapped regions with checked, volatile access.
//!
//! Drivers hold a [`MmioRegion`]; every access is checked against its length, so safe code cannot reach beyond the device.

use crate::addr::PhysAddr;

pub use crate::imp::mmio::*;

/// A mapped range of device registers. Never unmapped while it lives.
#[derive(Debug)]
pub struct MmioRegion {
    base: usize,
    len: usize,
    phys: PhysAddr,
}

macro_rules! access {
    ($read:ident, $write:ident, $ty:ty) => {
        /// Reads a register at a byte offset.
        ///
        /// # Panics
        /// If the register does not lie wholly within the region or is misaligned: a driver bug, not data.
        #[inline]
        pub fn $read(&self, offset: usize) -> $ty {
            self.check(offset, size_of::<$ty>());
            // SAFETY: within the mapping, as checked; the constructor's caller vouched for the mapping.
            unsafe { raw::$read(self.base + offset) }
        }

        /// Writes a register at a byte offset.
        ///
        /// # Panics
        /// As for reading.
        #[inline]
        pub fn $write(&self, offset: usize, value: $ty) {
            self.check(offset, size_of::<$ty>());
            // SAFETY: as for reading.
            unsafe { raw::$write(self.base + offset, value) }
        }
    };
}

impl MmioRegion {
    /// # Safety
    /// `base..base+len` is mapped as device memory for as long as the value lives, and writing to those registers
    /// cannot break memory safety except through DMA that the driver controls.
    pub const unsafe fn from_raw(base: usize, len: usize, phys: PhysAddr) -> Self {
        Self { base, len, phys }
    }

    /// Bytes in the region.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the region is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies physically.
    pub fn phys(&self) -> PhysAddr {
        self.phys
    }

    #[inline]
    #[track_caller]
    fn check(&self, offset: usize, size: usize) {
        assert!(
            offset & (size - 1) == 0 && offset < self.len && size <= self.len - offset,
            "register outside its device"
        );
    }

    access!(read8, write8, u8);
    access!(read16, write16, u16);
    access!(read32, write32, u32);
    access!(read64, write64, u64);
}
