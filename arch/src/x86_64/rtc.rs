//! The PC's real-time clock, where it has always been.

use crate::ioport::PortRegion;
use crate::rtc::Registers;

/// See [`crate::rtc::registers`].
pub fn registers() -> Option<Registers> {
    // SAFETY: these ports are the CMOS memory's, which cannot reach other memory.
    unsafe { PortRegion::new(0x70, 2) }.map(Registers::Mc146818)
}
