//! The I/O port space.

use core::arch::asm;

macro_rules! port {
    ($read:ident, $write:ident, $ty:ty, $reg:literal) => {
        /// Reads a port.
        ///
        /// # Safety
        /// Reading that port has no effect that breaks memory safety.
        #[inline]
        pub unsafe fn $read(port: u16) -> $ty {
            let value: $ty;
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("in ", $reg, ", dx"), in("dx") port, out($reg) value, options(nostack, preserves_flags)) };
            value
        }

        /// Writes a port.
        ///
        /// # Safety
        /// Writing that port has no effect that breaks memory safety.
        #[inline]
        pub unsafe fn $write(port: u16, value: $ty) {
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) value, options(nostack, preserves_flags)) };
        }
    };
}

port!(inb, outb, u8, "al");
port!(inw, outw, u16, "ax");
port!(inl, outl, u32, "eax");

/// The ports of one device: the safe view that drivers get. Accesses beyond the range are refused.
#[derive(Debug)]
pub struct PortRange {
    base: u16,
    len: u16,
}

macro_rules! checked {
    ($read:ident, $write:ident, $in:ident, $out:ident, $ty:ty) => {
        /// Reads the register at an offset.
        ///
        /// # Panics
        /// Outside the device: a driver bug.
        #[inline]
        pub fn $read(&self, offset: u16) -> $ty {
            self.check(offset, size_of::<$ty>());
            // SAFETY: within the device's own ports, which the constructor's caller vouched for.
            unsafe { $in(self.base + offset) }
        }

        /// Writes the register at an offset.
        ///
        /// # Panics
        /// Outside the device: a driver bug.
        #[inline]
        pub fn $write(&self, offset: u16, value: $ty) {
            self.check(offset, size_of::<$ty>());
            // SAFETY: as for reading.
            unsafe { $out(self.base + offset, value) }
        }
    };
}

impl PortRange {
    /// # Safety
    /// The ports belong to one device, which no access to them makes break memory safety except by DMA that its driver
    /// controls.
    pub const unsafe fn new(base: u16, len: u16) -> Self {
        Self { base, len }
    }

    /// The first port.
    pub fn base(&self) -> u16 {
        self.base
    }

    #[inline]
    #[track_caller]
    fn check(&self, offset: u16, size: usize) {
        assert!(usize::from(offset) + size <= usize::from(self.len), "port outside its device");
    }

    checked!(read8, write8, inb, outb, u8);
    checked!(read16, write16, inw, outw, u16);
    checked!(read32, write32, inl, outl, u32);
}

/// The register ranges of legacy serial ports, for the 16550 driver: `(ports, ISA interrupt)`.
pub fn legacy_uart(index: usize) -> Option<(PortRange, u8)> {
    let (base, irq) = *[(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)].get(index)?;
    // SAFETY: these ports are a UART or nothing on every PC; UARTs have no DMA.
    Some((unsafe { PortRange::new(base, 8) }, irq))
}

/// The keyboard controller's ports.
pub fn keyboard_controller() -> PortRange {
    // SAFETY: 0x60..0x65 is the keyboard controller or nothing; its one dangerous command resets the machine.
    unsafe { PortRange::new(0x60, 5) }
}
