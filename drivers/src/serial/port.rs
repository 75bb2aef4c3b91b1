//! A serial port: a UART chip with a transmit ring, an interrupt, a terminal and a console.
//!
//! One interrupt-safe lock guards chip and ring. Writers fill the ring and kick the transmitter;
//! its interrupt keeps it going and wakes writers once the ring is half empty. The console polls:
//! it sends what the ring holds first, so that the log and a program's output keep their order.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;

use abi::{Errno, Result};
use arch::sync::SpinLockIrq;
use sync::Once;

use super::{Received, Uart};
use crate::console::Console;
use crate::tty::core::{Tty, TtyDriver};

/// Bytes that may wait for the transmitter.
const RING: usize = 4096;

struct State {
    uart: Box<dyn Uart>,
    ring: VecDeque<u8>,
    held: bool,
}

impl State {
    /// Feeds the transmitter; its interrupt is on exactly while the ring has more to send.
    fn push(&mut self) {
        if !self.held {
            while let Some(&byte) = self.ring.front() {
                if !self.uart.try_send(byte) {
                    break;
                }
                self.ring.pop_front();
            }
        }
        let more = !self.ring.is_empty() && !self.held;
        self.uart.transmit_interrupt(more);
    }
}

/// A serial port.
pub struct SerialPort {
    name: String,
    state: SpinLockIrq<State>,
    tty: Once<Arc<Tty>>,
}

impl SerialPort {
    /// A port over `uart`, named for example `ttyS0`; the chip is started.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    pub fn new(name: String, uart: Box<dyn Uart>) -> Result<Arc<Self>> {
        let mut ring = VecDeque::new();
        ring.try_reserve_exact(RING).map_err(|_| Errno::ENOMEM)?;
        uart.start();
        Ok(Arc::new(Self {
            name,
            state: SpinLockIrq::new(State { uart, ring, held: false }),
            tty: Once::new(),
        }))
    }

    /// Joins the port to its terminal: from now on what it receives goes there.
    pub fn attach(&self, tty: Arc<Tty>) {
        self.tty.call_once(|| tty);
    }

    /// The name of the chip.
    pub fn chip(&self) -> &'static str {
        self.state.lock().uart.chip()
    }

    /// Handles the port's interrupt.
    pub fn interrupt(&self) {
        let mut received = [0; 64];
        loop {
            let (mut count, mut breaks) = (0, 0);
            let mut state = self.state.lock();
            while count < received.len() {
                match state.uart.try_receive() {
                    Some(Received::Byte(byte)) => {
                        received[count] = byte;
                        count += 1;
                    }
                    Some(Received::Break) => breaks += 1,
                    None => break,
                }
            }
            let waiting = state.ring.len();
            state.push();
            let room_came = waiting > RING / 2 && state.ring.len() <= RING / 2;
            let emptied = waiting > 0 && state.ring.is_empty();
            drop(state);
            let Some(tty) = self.tty.get() else { return };
            if count > 0 || breaks > 0 {
                tty.deliver(&received[..count], breaks);
            }
            if room_came || emptied {
                tty.wake_writers();
            }
            if count < received.len() {
                return;
            }
        }
    }
}

impl TtyDriver for SerialPort {
    fn room(&self) -> usize {
        RING - self.state.lock().ring.len()
    }

    fn write(&self, bytes: &[u8]) -> usize {
        let mut state = self.state.lock();
        let room = RING - state.ring.len();
        let bytes = bytes.get(..room).unwrap_or(bytes);
        state.ring.extend(bytes);
        state.push();
        bytes.len()
    }

    fn unsent(&self) -> usize {
        self.state.lock().ring.len()
    }

    fn flush(&self) {
        self.state.lock().ring.clear();
    }

    fn hold(&self, hold: bool) {
        let mut state = self.state.lock();
        state.held = hold;
        state.push();
    }
}

impl Console for SerialPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn write(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        while let Some(byte) = state.ring.pop_front() {
            send_polling(&*state.uart, byte);
        }
        for &byte in bytes {
            if byte == b'\n' {
                send_polling(&*state.uart, b'\r');
            }
            send_polling(&*state.uart, byte);
        }
    }
}

/// Sends a byte, or gives it up if the transmitter makes no progress for very long.
fn send_polling(uart: &dyn Uart, byte: u8) {
    for _ in 0..1_000_000 {
        if uart.try_send(byte) {
            return;
        }
        arch::cpu::relax();
    }
}
