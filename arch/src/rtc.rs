//! The real-time clock that the machine is known to have, for its driver.
//!
//! The architecture says where it is; it reads it once itself, at boot ([`crate::time::boot_epoch_ns`]).

use crate::ioport::PortRegion;
use crate::mmio::MmioRegion;

/// The registers of a clock.
#[derive(Debug)]
pub enum Registers {
    /// A Motorola MC146818 or compatible: index and data port.
    Mc146818(PortRegion),
    /// An ARM PL031.
    Pl031(MmioRegion),
}

/// The clock, if there is one.
pub fn registers() -> Option<Registers> {
    crate::imp::rtc::registers()
}
