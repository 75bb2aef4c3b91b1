//! I/O ports, where the processor has them.
//!
//! A [`PortRegion`] is to ports what [`crate::mmio::MmioRegion`] is to memory-mapped registers. On
//! architectures without a port space none can be made, so drivers that know both kinds of device need no `cfg`.

use crate::imp::ioport as imp;

/// A range of I/O ports that belongs to one device.
#[derive(Debug)]
pub struct PortRegion {
    base: u16,
    len: u16,
}

macro_rules! access {
    ($read:ident, $write:ident, $ty:ty) => {
        /// Reads the port at an offset from the region's base.
        ///
        /// # Panics
        /// If the port lies outside the region: a driver bug, not data.
        #[inline]
        pub fn $read(&self, offset: u16) -> $ty {
            imp::$read(self.port(offset, size_of::<$ty>() as u16))
        }

        /// Writes the port at an offset from the region's base.
        ///
        /// # Panics
        /// As for reading.
        #[inline]
        pub fn $write(&self, offset: u16, value: $ty) {
            imp::$write(self.port(offset, size_of::<$ty>() as u16), value)
        }
    };
}

impl PortRegion {
    /// The ports `base..base + len`; `None` where the processor has no port space, or not that far.
    ///
    /// # Safety
    /// The ports belong to a device whose registers cannot break memory safety other than by DMA that its driver
    /// controls.
    pub const unsafe fn new(base: u16, len: u16) -> Option<Self> {
        if imp::PRESENT && base.checked_add(len).is_some() { Some(Self { base, len }) } else { None }
    }

    /// The lowest port, for logs.
    pub const fn base(&self) -> u16 {
        self.base
    }

    #[inline]
    #[track_caller]
    fn port(&self, offset: u16, size: u16) -> u16 {
        assert!(offset < self.len && size <= self.len - offset, "port outside its device");
        self.base + offset
    }

    access!(read8, write8, u8);
    access!(read16, write16, u16);
    access!(read32, write32, u32);
}
