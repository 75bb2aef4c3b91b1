//! Where the early console writes: a PL011, polled.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::mmio::raw;
use super::native;
use crate::layout::{DEVICE_MAP, DEVICE_MAP_SIZE};

/// Virtual address of the UART; 0: none.
static UART: AtomicUsize = AtomicUsize::new(0);

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const TX_FULL: u32 = 1 << 5;

/// Chooses the device from an `earlycon=` argument (`pl011,0x9000000`); `None`: the machine's usual one.
pub fn setup(spec: Option<&str>) -> bool {
    let phys = match spec {
        None | Some("") => native::platform().uart.map(|p| p.0),
        Some(spec) => parse(spec),
    };
    match phys {
        Some(phys) if (phys as usize) < DEVICE_MAP_SIZE => {
            UART.store(DEVICE_MAP + phys as usize, Relaxed);
            true
        }
        _ => false,
    }
}

fn parse(spec: &str) -> Option<u64> {
    let mut parts = spec.split(',');
    if parts.next()? != "pl011" {
        return None;
    }
    let mut address = parts.next()?;
    if matches!(address, "mmio" | "mmio32") {
        address = parts.next()?;
    }
    u64::from_str_radix(address.trim_start_matches("0x"), 16).ok()
}

/// Writes bytes, polling.
pub fn put_bytes(bytes: &[u8]) {
    let uart = UART.load(Relaxed);
    if uart == 0 {
        return;
    }
    for &byte in bytes {
        if byte == b'\n' {
            put(uart, b'\r');
        }
        put(uart, byte);
    }
}

fn put(uart: usize, byte: u8) {
    // SAFETY: `UART` is set to a mapped PL011 only; sending a byte has no effect on memory.
    unsafe {
        while raw::read32(uart + FLAGS) & TX_FULL != 0 {
            core::hint::spin_loop();
        }
        raw::write32(uart + DATA, u32::from(byte));
    }
}
