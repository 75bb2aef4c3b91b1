//! The PC's serial ports: four places where they have always been.

use alloc::vec::Vec;

use crate::intc::{Trigger, irq_for_legacy};
use crate::ioport::PortRegion;
use crate::serial::{Registers, SerialPort};

/// Base port and ISA interrupt of COM1 to COM4.
const COM: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];

/// See [`crate::serial::ports`].
pub fn ports() -> Vec<SerialPort> {
    let port = |(index, (base, isa)): (usize, (u16, u8))| {
        // SAFETY: these ports are a UART's or nobody's; a UART cannot reach memory.
        let region = unsafe { PortRegion::new(base, 8) }?;
        Some(SerialPort {
            index: index as u32,
            registers: Registers::Ns16550(region),
            irq: irq_for_legacy(isa)?,
            trigger: Trigger::EdgeRising,
        })
    };
    COM.into_iter().enumerate().filter_map(port).collect()
}
