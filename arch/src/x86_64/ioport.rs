//! Port instructions.

use core::arch::asm;

/// This processor has a port space.
pub const PRESENT: bool = true;

macro_rules! port {
    ($read:ident, $write:ident, $ty:ty, $reg:tt) => {
        /// Reads a port.
        #[inline]
        pub(crate) fn $read(port: u16) -> $ty {
            let value: $ty;
            // SAFETY: the region that the port is part of was vouched for when it was made.
            unsafe {
                asm!(concat!("in ", $reg, ", dx"), out($reg) value, in("dx") port, options(nomem, nostack, preserves_flags));
            }
            value
        }

        /// Writes a port.
        #[inline]
        pub(crate) fn $write(port: u16, value: $ty) {
            // SAFETY: as for reading.
            unsafe {
                asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) value, options(nomem, nostack, preserves_flags));
            }
        }
    };
}

port!(read8, write8, u8, "al");
port!(read16, write16, u16, "ax");
port!(read32, write32, u32, "eax");
