//! The early console: the first serial port, polled.

use core::sync::atomic::{AtomicU16, Ordering::Relaxed};

use super::pio::{inb, outb};

static PORT: AtomicU16 = AtomicU16::new(0x3f8);

/// Chooses the device from an `earlycon=`/`earlyprintk=` argument: `uart8250,io,0x2f8[,…]`, `ttyS1`, `serial`, or nothing
/// for the first port. False for a device that this console does not know.
pub fn setup(spec: Option<&str>) -> bool {
    let spec = spec.unwrap_or("");
    let mut parts = spec.split(',');
    let port = match parts.next().unwrap_or("") {
        "" | "serial" | "ttyS0" => 0x3f8,
        "ttyS1" => 0x2f8,
        "uart" | "uart8250" => {
            if parts.next() != Some("io") {
                return false;
            }
            let Some(hex) = parts.next().and_then(|p| p.strip_prefix("0x")) else { return false };
            let Ok(port) = u16::from_str_radix(hex, 16) else { return false };
            port
        }
        _ => return false,
    };
    PORT.store(port, Relaxed);
    true
}

/// Writes bytes, polling; `\n` becomes `\r\n`.
pub fn put_bytes(bytes: &[u8]) {
    for &byte in bytes {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

fn put(byte: u8) {
    const TX_EMPTY: u8 = 1 << 5;
    let port = PORT.load(Relaxed);
    for _ in 0..100_000 {
        // SAFETY: the line status register of a UART; reading clears error bits only.
        if unsafe { inb(port + 5) } & TX_EMPTY != 0 {
            break;
        }
        core::hint::spin_loop();
    }
    // SAFETY: sends a byte.
    unsafe { outb(port, byte) };
}
