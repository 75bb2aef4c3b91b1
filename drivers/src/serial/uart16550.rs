//! The 16550A UART and its many descendants.
//!
//! Source: the PC16550D data sheet.

use arch::ioport::PortRegion;

use super::{Received, Uart};

/// Byte-wide access to the chip's eight registers.
pub trait Registers: Send + Sync {
    /// Reads register `index`.
    fn read(&self, index: u16) -> u8;
    /// Writes register `index`.
    fn write(&self, index: u16, value: u8);
}

impl Registers for PortRegion {
    fn read(&self, index: u16) -> u8 {
        self.read8(index)
    }

    fn write(&self, index: u16, value: u8) {
        self.write8(index, value);
    }
}

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMIT_EMPTY: u8 = 1 << 1;
const IER_LINE_STATUS: u8 = 1 << 2;
const FCR_ENABLE_CLEAR: u8 = 0b111;
const LCR_8N1: u8 = 0b11;
const LCR_DIVISOR: u8 = 1 << 7;
const MCR_DTR_RTS_OUT2: u8 = 0b1011;
const LSR_DATA: u8 = 1 << 0;
const LSR_BREAK: u8 = 1 << 4;
const LSR_TRANSMIT_EMPTY: u8 = 1 << 5;

/// Bytes the transmit FIFO takes once it is empty.
const FIFO: u8 = 16;

/// A 16550A.
pub struct Uart16550<R> {
    registers: R,
    /// Room left in the transmit FIFO since it was last seen empty. Guarded by the port's lock.
    room: core::sync::atomic::AtomicU8,
}

impl<R: Registers> Uart16550<R> {
    /// Looks for a chip behind `registers`: the scratch register must hold what is written to it.
    pub fn probe(registers: R) -> Option<Self> {
        for pattern in [0x55, 0xaa] {
            registers.write(SCRATCH, pattern);
            if registers.read(SCRATCH) != pattern {
                return None;
            }
        }
        Some(Self { registers, room: core::sync::atomic::AtomicU8::new(0) })
    }
}

impl<R: Registers> Uart for Uart16550<R> {
    fn start(&self) {
        let r = &self.registers;
        r.write(INTERRUPT_ENABLE, 0);
        r.write(LINE_CONTROL, LCR_DIVISOR | LCR_8N1);
        r.write(DATA, 1); // divisor 1: 115200 baud
        r.write(INTERRUPT_ENABLE, 0);
        r.write(LINE_CONTROL, LCR_8N1);
        r.write(FIFO_CONTROL, FCR_ENABLE_CLEAR);
        r.write(MODEM_CONTROL, MCR_DTR_RTS_OUT2);
        r.write(INTERRUPT_ENABLE, IER_RECEIVED | IER_LINE_STATUS);
    }

    fn try_send(&self, byte: u8) -> bool {
        use core::sync::atomic::Ordering::Relaxed;
        let mut room = self.room.load(Relaxed);
        if room == 0 {
            if self.registers.read(LINE_STATUS) & LSR_TRANSMIT_EMPTY == 0 {
                return false;
            }
            room = FIFO;
        }
        self.registers.write(DATA, byte);
        self.room.store(room - 1, Relaxed);
        true
    }

    fn try_receive(&self) -> Option<Received> {
        let status = self.registers.read(LINE_STATUS);
        if status & LSR_DATA == 0 {
            return None;
        }
        let byte = self.registers.read(DATA);
        Some(if status & LSR_BREAK != 0 { Received::Break } else { Received::Byte(byte) })
    }

    fn transmit_interrupt(&self, on: bool) {
        let transmit = if on { IER_TRANSMIT_EMPTY } else { 0 };
        self.registers.write(INTERRUPT_ENABLE, IER_RECEIVED | IER_LINE_STATUS | transmit);
    }

    fn chip(&self) -> &'static str {
        "16550A"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::vec::Vec;

    #[derive(Default)]
    struct Chip {
        regs: [u8; 8],
        input: VecDeque<(u8, u8)>,
        sent: Vec<u8>,
        busy: bool,
    }

    struct Fake(Mutex<Chip>);

    impl Registers for Fake {
        fn read(&self, index: u16) -> u8 {
            let mut chip = self.0.lock().unwrap();
            match index {
                DATA => chip.input.pop_front().map_or(0, |(byte, _)| byte),
                LINE_STATUS => {
                    let received = chip.input.front().map_or(0, |&(_, status)| LSR_DATA | status);
                    received | if chip.busy { 0 } else { LSR_TRANSMIT_EMPTY }
                }
                _ => chip.regs[index as usize],
            }
        }

        fn write(&self, index: u16, value: u8) {
            let mut chip = self.0.lock().unwrap();
            if index == DATA && chip.regs[LINE_CONTROL as usize] & LCR_DIVISOR == 0 {
                chip.sent.push(value);
                chip.busy = true;
            }
            chip.regs[index as usize] = value;
        }
    }

    #[test]
    fn sends_a_fifo_full_and_then_waits() {
        let uart = Uart16550::probe(Fake(Mutex::default())).unwrap();
        uart.start();
        let sent = (0..40).take_while(|&byte| uart.try_send(byte)).count();
        assert_eq!(sent, 16);
        uart.registers.0.lock().unwrap().busy = false;
        assert!(uart.try_send(16));
        assert_eq!(uart.registers.0.lock().unwrap().sent, (0..17).collect::<Vec<u8>>());
    }

    #[test]
    fn tells_breaks_from_bytes() {
        let uart = Uart16550::probe(Fake(Mutex::default())).unwrap();
        uart.registers.0.lock().unwrap().input.extend([(b'a', 0), (0, LSR_BREAK)]);
        assert_eq!(uart.try_receive(), Some(Received::Byte(b'a')));
        assert_eq!(uart.try_receive(), Some(Received::Break));
        assert_eq!(uart.try_receive(), None);
    }
}
