//! No serial ports.

use alloc::vec::Vec;

use crate::serial::SerialPort;

/// See [`crate::serial::ports`].
pub fn ports() -> Vec<SerialPort> {
    Vec::new()
}
