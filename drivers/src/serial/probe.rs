//! Finding serial ports and making them terminals.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Result;
use abi::fs::DevId;
use arch::serial::Registers;

use super::Uart;
use super::pl011::Pl011;
use super::port::SerialPort;
use super::uart16550::Uart16550;
use crate::irq;
use crate::resource;
use crate::tty::core::Tty;
use crate::tty::devices::{self, AMBA_MAJOR, SERIAL_FIRST, TTY_MAJOR};
use crate::tty::termios::CONSOLE;

/// A serial port that is there.
pub struct Found {
    /// `ttyS0`, `ttyAMA0`, …
    pub name: alloc::string::String,
    /// The port, which is a console too.
    pub port: Arc<SerialPort>,
    /// Its terminal.
    pub tty: Arc<Tty>,
}

/// A claim that fails says that two drivers want one device, which is worth a line.
fn claimed(claim: Result<()>) {
    if let Err(error) = claim {
        log::warn!("serial: registers are in use: {error}");
    }
}

/// Probes the ports that the architecture knows of, and makes a terminal of each that answers.
///
/// # Errors
/// `ENOMEM`.
#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "only while the system comes up")]
pub fn probe() -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for candidate in arch::serial::ports() {
        let (base, major, uart): (_, _, Box<dyn Uart>) = match candidate.registers {
            Registers::Ns16550(region) => {
                let base = u64::from(region.base());
                let Some(uart) = Uart16550::probe(region) else { continue };
                claimed(resource::PORTS.claim(base, base + 7, "serial"));
                ("ttyS", TTY_MAJOR, Box::new(uart))
            }
            Registers::Pl011(region) => {
                let (base, len) = (region.phys().0, region.len() as u64);
                claimed(resource::MEMORY.claim(base, base + (len - 1), format!("{base:x}.pl011")));
                ("ttyAMA", AMBA_MAJOR, Box::new(Pl011::new(region)))
            }
        };
        let name = format!("{base}{}", candidate.index);
        let port = SerialPort::new(name.clone(), uart)?;
        let dev = DevId::new(major, SERIAL_FIRST + candidate.index);
        let tty = Tty::new(base, candidate.index, dev, CONSOLE, port.clone())?;
        port.attach(tty.clone());
        devices::add(tty.clone())?;
        let handler = port.clone();
        let requested =
            irq::request(candidate.irq, candidate.trigger, base, Box::new(move || handler.interrupt()));
        if let Err(error) = requested {
            log::warn!("{name}: no interrupt {}: {error}; output only", candidate.irq.0);
        }
        log::info!("{name} (irq = {}) is a {}", candidate.irq.0, port.chip());
        found.push(Found { name, port, tty });
    }
    Ok(found)
}
