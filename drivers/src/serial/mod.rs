//! Serial ports: 16550-compatible UARTs and the ARM PL011.
//!
//! The chip drivers ([`uart16550`], [`pl011`]) know registers and nothing else; [`port`] gives any of
//! them an interrupt-driven transmit ring, a polled console and a terminal. Both are tested over
//! registers that a test fakes.

pub mod pl011;
pub mod port;
mod probe;
pub mod uart16550;

pub use probe::{Found, probe};

/// What a UART received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A byte of data.
    Byte(u8),
    /// The line was held low for a whole character.
    Break,
}

/// The registers of a UART chip. Methods take `&self`: the port's lock is held around them.
pub trait Uart: Send + Sync {
    /// Sets the line to 115200 8N1, empties the FIFOs, and lets received data interrupt.
    fn start(&self);

    /// Hands a byte to the transmitter; `false` when its FIFO is full.
    fn try_send(&self, byte: u8) -> bool;

    /// Takes what was received next.
    fn try_receive(&self) -> Option<Received>;

    /// Switches the interrupt for room in the transmitter on or off.
    fn transmit_interrupt(&self, on: bool);

    /// The name of the chip, as `/proc/tty/driver/serial` and the log show it.
    fn chip(&self) -> &'static str;
}
