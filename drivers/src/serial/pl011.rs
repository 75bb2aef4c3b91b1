//! The ARM PrimeCell PL011 UART.
//!
//! Source: the PL011 Technical Reference Manual (ARM DDI 0183).

use arch::mmio::MmioRegion;

use super::{Received, Uart};

/// Word-wide access to the chip's registers.
pub trait Registers: Send + Sync {
    /// Reads the register at byte offset `offset`.
    fn read(&self, offset: usize) -> u32;
    /// Writes the register at byte offset `offset`.
    fn write(&self, offset: usize, value: u32);
}

impl Registers for MmioRegion {
    fn read(&self, offset: usize) -> u32 {
        self.read32(offset)
    }

    fn write(&self, offset: usize, value: u32) {
        self.write32(offset, value);
    }
}

const DR: usize = 0x00;
const FR: usize = 0x18;
const LCR_H: usize = 0x2c;
const CR: usize = 0x30;
const IFLS: usize = 0x34;
const IMSC: usize = 0x38;
const ICR: usize = 0x44;

const DR_BREAK: u32 = 1 << 10;
const FR_RECEIVE_EMPTY: u32 = 1 << 4;
const FR_TRANSMIT_FULL: u32 = 1 << 5;
const LCR_FIFO_8: u32 = 1 << 4 | 0b11 << 5;
const CR_ENABLE: u32 = 1 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11;
const INT_RECEIVE: u32 = 1 << 4;
const INT_TRANSMIT: u32 = 1 << 5;
const INT_RECEIVE_TIMEOUT: u32 = 1 << 6;
const INT_ALL: u32 = 0x7ff;

/// A PL011.
pub struct Pl011<R> {
    registers: R,
}

impl<R: Registers> Pl011<R> {
    /// The chip behind `registers`, which the device tree or ACPI says is one.
    pub const fn new(registers: R) -> Self {
        Self { registers }
    }
}

impl<R: Registers> Uart for Pl011<R> {
    fn start(&self) {
        let r = &self.registers;
        r.write(IMSC, 0);
        r.write(ICR, INT_ALL);
        // The firmware set the baud rate; changing it needs the reference clock, which may be anything.
        r.write(LCR_H, LCR_FIFO_8);
        r.write(IFLS, 0); // interrupt when the FIFOs pass one eighth
        r.write(CR, CR_ENABLE);
        r.write(IMSC, INT_RECEIVE | INT_RECEIVE_TIMEOUT);
    }

    fn try_send(&self, byte: u8) -> bool {
        if self.registers.read(FR) & FR_TRANSMIT_FULL != 0 {
            return false;
        }
        self.registers.write(DR, u32::from(byte));
        true
    }

    fn try_receive(&self) -> Option<Received> {
        if self.registers.read(FR) & FR_RECEIVE_EMPTY != 0 {
            return None;
        }
        let data = self.registers.read(DR);
        // Reading to the end clears the receive interrupts; the timeout one wants its own acknowledgement.
        self.registers.write(ICR, INT_RECEIVE | INT_RECEIVE_TIMEOUT);
        Some(if data & DR_BREAK != 0 { Received::Break } else { Received::Byte(data as u8) })
    }

    fn transmit_interrupt(&self, on: bool) {
        if !on {
            self.registers.write(ICR, INT_TRANSMIT);
        }
        let transmit = if on { INT_TRANSMIT } else { 0 };
        self.registers.write(IMSC, INT_RECEIVE | INT_RECEIVE_TIMEOUT | transmit);
    }

    fn chip(&self) -> &'static str {
        "PL011"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::vec::Vec;

    #[derive(Default)]
    struct Fake {
        input: Mutex<VecDeque<u32>>,
        sent: Mutex<Vec<u32>>,
        mask: Mutex<u32>,
    }

    impl Registers for Fake {
        fn read(&self, offset: usize) -> u32 {
            match offset {
                DR => self.input.lock().unwrap().pop_front().unwrap_or(0),
                FR => {
                    let empty = if self.input.lock().unwrap().is_empty() { FR_RECEIVE_EMPTY } else { 0 };
                    empty | if self.sent.lock().unwrap().len() >= 3 { FR_TRANSMIT_FULL } else { 0 }
                }
                _ => 0,
            }
        }

        fn write(&self, offset: usize, value: u32) {
            match offset {
                DR => self.sent.lock().unwrap().push(value),
                IMSC => *self.mask.lock().unwrap() = value,
                _ => {}
            }
        }
    }

    #[test]
    fn stops_at_a_full_fifo_and_tells_breaks_from_bytes() {
        let uart = Pl011::new(Fake::default());
        uart.start();
        assert_eq!((0..9).take_while(|&byte| uart.try_send(byte)).count(), 3);
        uart.registers.input.lock().unwrap().extend([u32::from(b'k'), DR_BREAK]);
        assert_eq!(uart.try_receive(), Some(Received::Byte(b'k')));
        assert_eq!(uart.try_receive(), Some(Received::Break));
        assert_eq!(uart.try_receive(), None);
    }

    #[test]
    fn transmit_interrupt_leaves_receiving_on() {
        let uart = Pl011::new(Fake::default());
        uart.transmit_interrupt(true);
        assert_eq!(*uart.registers.mask.lock().unwrap(), INT_RECEIVE | INT_RECEIVE_TIMEOUT | INT_TRANSMIT);
        uart.transmit_interrupt(false);
        assert_eq!(*uart.registers.mask.lock().unwrap(), INT_RECEIVE | INT_RECEIVE_TIMEOUT);
    }
}
