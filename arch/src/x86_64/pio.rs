//! The I/O port space.

use core::arch::asm;

macro_rules! port {
    ($read:ident, $write:ident, $ty:ty, $reg:literal, $class:tt) => {
        /// Reads a port.
        ///
        /// # Safety
        /// Reading that port has no effect that breaks memory safety.
        #[inline]
        pub unsafe fn $read(port: u16) -> $ty {
            let value: $ty;
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("in ", $reg, ", dx"), in("dx") port, out($class) value, options(nostack, preserves_flags)) };
            value
        }

        /// Writes a port.
        ///
        /// # Safety
        /// Writing that port has no effect that breaks memory safety.
        #[inline]
        pub unsafe fn $write(port: u16, value: $ty) {
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("out dx, ", $reg), in("dx") port, in($class) value, options(nostack, preserves_flags)) };
        }
    };
}

port!(inb, outb, u8, "al", "al");
port!(inw, outw, u16, "ax", "ax");
port!(inl, outl, u32, "eax", "eax");
