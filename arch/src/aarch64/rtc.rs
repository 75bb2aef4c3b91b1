//! The real-time clock that the device tree names.

use super::native::platform;
use crate::mmio::ioremap;
use crate::rtc::Registers;

/// See [`crate::rtc::registers`].
pub fn registers() -> Option<Registers> {
    ioremap(platform().rtc?, 0x1000).map(Registers::Pl031)
}
