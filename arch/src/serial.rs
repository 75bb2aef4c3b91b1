//! Serial ports that the machine is known to have, for the serial drivers to probe.
//!
//! The architecture says where they are; it does not touch them.

use alloc::vec::Vec;

use crate::intc::{IrqNumber, Trigger};
use crate::ioport::PortRegion;
use crate::mmio::MmioRegion;

/// The registers of a serial port.
#[derive(Debug)]
pub enum Registers {
    /// A 16550 or compatible behind I/O ports.
    Ns16550(PortRegion),
    /// An ARM PL011.
    Pl011(MmioRegion),
}

/// A serial port that may be there.
#[derive(Debug)]
pub struct SerialPort {
    /// Its number among ports of its kind: 0 is `ttyS0` or `ttyAMA0`.
    pub index: u32,
    /// Its registers.
    pub registers: Registers,
    /// Its interrupt.
    pub irq: IrqNumber,
    /// How the interrupt triggers.
    pub trigger: Trigger,
}

/// All ports, in the order of their numbers.
pub fn ports() -> Vec<SerialPort> {
    crate::imp::serial::ports()
}
