//! The serial port that the device tree names.

use alloc::vec::Vec;

use super::native::platform;
use crate::intc::{IrqNumber, Trigger};
use crate::mmio::ioremap;
use crate::serial::{Registers, SerialPort};

/// See [`crate::serial::ports`].
pub fn ports() -> Vec<SerialPort> {
    let platform = platform();
    let port = || {
        let registers = Registers::Pl011(ioremap(platform.uart?, 0x1000)?);
        let irq = IrqNumber(platform.uart_irq?);
        Some(SerialPort { index: 0, registers, irq, trigger: Trigger::LevelHigh })
    };
    port().into_iter().collect()
}
