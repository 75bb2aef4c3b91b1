//! The early console: polled output from the first instruction in Rust until a real console driver takes over.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub use crate::imp::earlycon::{put_bytes, setup};

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Switches the early console on or off.
pub fn enable(on: bool) {
    ENABLED.store(on, Relaxed);
}

/// Whether the early console prints.
pub fn enabled() -> bool {
    ENABLED.load(Relaxed)
}

/// A [`Write`] onto the early console; writes nothing while it is off. No lock: lines of several CPUs may mix.
#[derive(Debug, Clone, Copy)]
pub struct EarlyCon;

impl Write for EarlyCon {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if enabled() {
            put_bytes(s.as_bytes());
        }
        Ok(())
    }
}

/// Prints to the early console.
pub fn print(args: fmt::Arguments<'_>) {
    let _ = EarlyCon.write_fmt(args);
}
